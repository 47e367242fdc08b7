// Group commit: what a turn of the loop changed goes to the store in one transaction, and only then
// is anybody told. When the transaction meets a full disk, each change is tried by itself, so that
// one large job does not take small ones down with it. A result that cannot be stored is kept in
// memory and tried again; it is not sent before.
#include <stdlib.h>
#include <string.h>

#include "common/deadline.h"
#include "common/log.h"
#include "coordinator/coordinator_internal.h"
#include "proto/same_job.h"

enum { RETRY_FIRST_MS = 100, RETRY_LAST_MS = 5000, EXPIRY_MS = 1000 };

struct write *writes_add(struct coordinator *coordinator, enum write_kind kind, const char *key) {
    if (coordinator->n_writes == coordinator->write_capacity) {
        size_t capacity = coordinator->write_capacity == 0 ? 64 : 2 * coordinator->write_capacity;
        struct write *grown = realloc(coordinator->writes, capacity * sizeof *grown);
        if (grown == NULL) {
            return NULL;
        }
        coordinator->writes = grown;
        coordinator->write_capacity = capacity;
    }
    struct write *write = &coordinator->writes[coordinator->n_writes++];
    memset(write, 0, sizeof *write);
    write->kind = kind;
    size_t length = strlen(key);
    ASSERT(length <= LIMIT_JOB_KEY_BYTES);
    memcpy(write->key, key, length + 1);
    return write;
}

static void note_failure(struct coordinator *coordinator) {
    int64_t delay = coordinator->retry_delay_ms;
    if (delay == 0) {
        log_error("results cannot be stored; they are kept and no search starts until they can");
    }
    delay = delay == 0 ? RETRY_FIRST_MS : delay < RETRY_LAST_MS / 2 ? 2 * delay : RETRY_LAST_MS;
    coordinator->retry_delay_ms = delay;
    coordinator->retry_ms = deadline_after_ms(delay);
}

struct write *writes_add_result(struct coordinator *coordinator, struct job *job) {
    ASSERT(job->state == SUREFOOT__JOB_STATE__JOB_STATE_DONE);
    struct write *write = writes_add(coordinator, WRITE_RESULT, job->key);
    if (write == NULL) {
        note_failure(coordinator);
        return NULL;
    }
    write->job_id = job->id;
    job->is_saving = true;
    return write;
}

void writes_add_losses(struct coordinator *coordinator, const struct job *job) {
    struct write *write = writes_add(coordinator, WRITE_LOSSES, job->key);
    if (write != NULL) {
        write->job_id = job->id;
        write->losses = (struct store_losses){job->losses.count, job->losses.key};
    }
}

void writes_expire(struct coordinator *coordinator, int64_t now_ms) {
    if (coordinator->options.retain_ms < 0 || now_ms < coordinator->next_expiry_ms) {
        return;
    }
    coordinator->next_expiry_ms = now_ms + EXPIRY_MS;
    struct write *write = writes_add(coordinator, WRITE_PURGE, "");
    if (write != NULL) {
        write->done_before_ms = clock_realtime_ms() - coordinator->options.retain_ms;
    }
}

static enum status apply_result(struct coordinator *coordinator, struct write *write) {
    struct job *job = job_table_find_id(coordinator->jobs, write->job_id);
    if (job == NULL) {
        return error_set(&write->err, STATUS_NOT_FOUND, "job_key", "the job was closed");
    }
    if (job->result == NULL) {
        const struct error why = {.status = STATUS_NO_MEMORY,
                                  .message = "no memory for the result"};
        job_stop(job, SUREFOOT__OUTCOME__OUTCOME_FAILED, &why, groups_models(coordinator->groups));
    }
    if (job->result == NULL) {
        return error_set(&write->err, STATUS_NO_MEMORY, NULL, "no memory for the result");
    }
    write->size = job->result_size;
    const struct store_result result = {.bytes = job->result,
                                        .size = job->result_size,
                                        .outcome = (int)job->outcome,
                                        .done_ms = clock_realtime_ms()};
    return store_put_result(coordinator->store, job->id, &result, &write->is_new, &write->err);
}

// The store compares bytes: the same job may be spelled in others.
static enum status apply_job(struct coordinator *coordinator, struct write *write) {
    enum status status =
        store_put_job(coordinator->store, write->key, write->bytes, write->size, write->accepted_ms,
                      &write->job_id, &write->is_new, &write->err);
    if (status != STATUS_ALREADY_EXISTS) {
        return status;
    }
    struct store_job stored;
    struct error err;
    bool same = false;
    if (store_get_job(coordinator->store, write->key, &stored, &err) != STATUS_OK) {
        return status;
    }
    if (same_job(stored.spec, stored.spec_size, write->bytes, write->size, &same) == STATUS_OK &&
        same) {
        write->job_id = stored.job_id;
        status = STATUS_OK;
    }
    store_job_release(&stored);
    return status;
}

static enum status apply(struct coordinator *coordinator, struct write *write) {
    switch (write->kind) {
    case WRITE_JOB:
        return apply_job(coordinator, write);
    case WRITE_RESULT:
        return apply_result(coordinator, write);
    case WRITE_LOSSES:
        return store_put_losses(coordinator->store, write->job_id, &write->losses, &write->err);
    case WRITE_PURGE:
        return store_purge(coordinator->store, write->done_before_ms, LIMIT_JOBS_PURGED,
                           &write->removed, &write->err);
    case WRITE_CLOSE:
        break;
    }
    return store_close_job(coordinator->store, write->key, &write->removed, &write->err);
}

// Faults of the store, as opposed to answers of it: the transaction is lost.
static bool is_fault(enum status status) {
    return status != STATUS_OK && status != STATUS_ALREADY_EXISTS && status != STATUS_NOT_FOUND;
}

static bool apply_together(struct coordinator *coordinator) {
    struct error err;
    if (store_begin(coordinator->store, &err) != STATUS_OK) {
        store_rollback(coordinator->store);
        return false;
    }
    for (size_t i = 0; i < coordinator->n_writes; i++) {
        struct write *write = &coordinator->writes[i];
        write->status = apply(coordinator, write);
        if (is_fault(write->status)) {
            store_rollback(coordinator->store);
            return false;
        }
    }
    if (store_commit(coordinator->store, &err) != STATUS_OK) {
        store_rollback(coordinator->store);
        return false;
    }
    return true;
}

static void count(struct coordinator *coordinator, const struct write *write) {
    if (write->status != STATUS_OK) {
        return;
    }
    switch (write->kind) {
    case WRITE_JOB:
        coordinator->n_stored += write->is_new ? 1 : 0;
        coordinator->stored_bytes += write->is_new ? write->size : 0;
        break;
    case WRITE_RESULT:
        coordinator->n_results += write->is_new ? 1 : 0;
        coordinator->stored_bytes += write->is_new ? write->size : 0;
        break;
    case WRITE_LOSSES:
        break;
    case WRITE_CLOSE:
    case WRITE_PURGE:
        coordinator->n_stored -= write->removed.jobs;
        coordinator->n_results -= write->removed.results;
        coordinator->stored_bytes -= write->removed.bytes;
        break;
    }
}

void writes_flush(struct coordinator *coordinator) {
    if (coordinator->n_writes == 0) {
        return;
    }
    bool together = apply_together(coordinator);
    bool tried = false; // to store results
    bool failed = false;
    for (size_t i = 0; i < coordinator->n_writes; i++) {
        struct write *write = &coordinator->writes[i];
        if (!together) {
            write->status = apply(coordinator, write);
        }
        if (write->kind == WRITE_RESULT) {
            failed = failed || is_fault(write->status);
            tried = true;
        } else if (write->removed.jobs > 0 && coordinator->retry_delay_ms > 0) {
            coordinator->retry_ms = 0; // there may be room now
        }
        count(coordinator, write);
    }
    if (failed) {
        note_failure(coordinator);
    } else if (tried && coordinator->retry_delay_ms > 0) {
        coordinator->retry_ms = 0; // the others now
    }
    // Answering may add writes of the next turn.
    struct write *writes = coordinator->writes;
    size_t n = coordinator->n_writes;
    coordinator->writes = NULL;
    coordinator->n_writes = 0;
    coordinator->write_bytes = 0;
    coordinator->write_capacity = 0;
    for (size_t i = 0; i < n; i++) {
        server_on_written(coordinator, &writes[i]);
        job_spec_destroy(writes[i].spec);
        free(writes[i].bytes);
    }
    free(writes);
}

static void retry_result(void *context, struct job *job) {
    if (job->state == SUREFOOT__JOB_STATE__JOB_STATE_DONE && !job->is_saving) {
        struct write *write = writes_add_result(context, job);
        (void)write; // without memory: tried again later
    }
}

void writes_retry(struct coordinator *coordinator, int64_t now_ms) {
    if (now_ms < coordinator->retry_ms) {
        return;
    }
    coordinator->retry_ms = INT64_MAX;
    size_t before = coordinator->n_writes;
    job_table_visit(coordinator->jobs, retry_result, coordinator);
    if (coordinator->n_writes == before) {
        log_info("all results are stored again");
        coordinator->retry_delay_ms = 0;
    }
}
