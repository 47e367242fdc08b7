#include "coordinator/coordinator.h"

#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "common/deadline.h"
#include "common/log.h"
#include "coordinator/coordinator_internal.h"

enum {
    TICK_MS = 50,             // longest sleep of the loop: the resolution of deadlines
    MESSAGES_PER_TURN = 512,  // of one socket, so that neither starves the other nor the commit
    BYTES_PER_TURN = 4 << 20, // likewise; they are in memory twice until the commit
    STORE_RESERVE_BYTES = 16 << 20,
    RESERVE_TRY_MS = 1000,
    CLIENT_MESSAGES_WAITING = 32, // of one client; more wait on its side
};

void coordinator_stop_job(struct coordinator *coordinator, struct job *job,
                          Surefoot__Outcome outcome, const struct error *why) {
    if (job->state == SUREFOOT__JOB_STATE__JOB_STATE_RUNNING) {
        scheduler_remove_job(coordinator->scheduler, job->id);
        coordinator->n_running--;
    }
    job_table_unqueue(coordinator->jobs, job);
    job_stop(job, outcome, why, groups_models(coordinator->groups));
    struct write *write = writes_add_result(coordinator, job);
    (void)write; // without memory: added again later
}

void coordinator_finish_job(struct coordinator *coordinator, struct job *job) {
    scheduler_remove_job(coordinator->scheduler, job->id);
    coordinator->n_running--;
    job_finish(job, groups_models(coordinator->groups));
    struct write *write = writes_add_result(coordinator, job);
    (void)write;
    log_debug("job %" PRIu64 " ended with outcome %d", job->id, (int)job->outcome);
}

void coordinator_abandon_job(struct coordinator *coordinator, struct job *job) {
    if (job->state == SUREFOOT__JOB_STATE__JOB_STATE_RUNNING) {
        scheduler_remove_job(coordinator->scheduler, job->id);
        coordinator->n_running--;
    }
    coordinator_drop_job(coordinator, job);
}

void coordinator_drop_job(struct coordinator *coordinator, struct job *job) {
    coordinator->loaded_bytes -= job->spec != NULL ? job->spec_bytes : 0;
    job_table_remove(coordinator->jobs, job);
}

enum status coordinator_add_job(struct coordinator *coordinator, uint64_t job_id,
                                struct job_spec *spec, size_t spec_bytes,
                                int64_t accepted_realtime_ms, const struct channel_peer *peer,
                                struct job **out) {
    int64_t age_ms = clock_realtime_ms() - accepted_realtime_ms;
    int64_t accepted_ms = clock_monotonic_ms() - (age_ms > 0 ? age_ms : 0);
    struct job *job = NULL;
    enum status status =
        job_create(job_id, spec, spec_bytes, accepted_ms, accepted_realtime_ms, &job);
    if (status != STATUS_OK) {
        job_spec_destroy(spec);
        return status;
    }
    status = job_table_add(coordinator->jobs, job, peer);
    if (status != STATUS_OK) {
        job_destroy(job);
        return status;
    }
    if (coordinator->loaded_bytes + spec_bytes > coordinator->options.loaded_bytes_max) {
        job_unload(job);
    } else {
        coordinator->loaded_bytes += spec_bytes;
    }
    if (job->deadline_ms < coordinator->next_deadline_ms) {
        coordinator->next_deadline_ms = job->deadline_ms;
    }
    coordinator->more = true; // it can start at once, not only when a socket wakes the loop
    *out = job;
    return STATUS_OK;
}

static void check_deadline(void *context, struct job *job) {
    struct coordinator *coordinator = context;
    if (job->state == SUREFOOT__JOB_STATE__JOB_STATE_DONE) {
        return;
    }
    if (deadline_passed(job->deadline_ms)) {
        coordinator_stop_job(coordinator, job, SUREFOOT__OUTCOME__OUTCOME_DEADLINE_EXCEEDED, NULL);
    } else if (job->deadline_ms < coordinator->next_deadline_ms) {
        coordinator->next_deadline_ms = job->deadline_ms;
    }
}

static void check_deadlines(struct coordinator *coordinator, int64_t now_ms) {
    if (now_ms >= coordinator->next_deadline_ms) {
        coordinator->next_deadline_ms = INT64_MAX;
        job_table_visit(coordinator->jobs, check_deadline, coordinator);
    }
}

// A specification as it was stored: it was checked then, but perhaps by another version.
static enum status read_spec(const uint8_t *bytes, size_t size, struct job_spec **spec,
                             struct error *err) {
    void *submit = NULL;
    enum status status = wire_unpack(WIRE_SUBMIT_JOB, bytes, size, &submit, err);
    if (status == STATUS_OK) {
        status = job_spec_create(submit, spec, err);
        if (status != STATUS_OK) {
            wire_free(WIRE_SUBMIT_JOB, submit);
        }
    }
    return status;
}

static enum status load_spec(struct coordinator *coordinator, struct job *job, struct error *err) {
    if (job->spec != NULL) {
        return STATUS_OK;
    }
    uint8_t *bytes = NULL;
    size_t size = 0;
    struct job_spec *spec = NULL;
    enum status status = store_get_spec(coordinator->store, job->id, &bytes, &size, err);
    if (status == STATUS_OK) {
        status = read_spec(bytes, size, &spec, err);
    }
    free(bytes);
    if (status == STATUS_OK) {
        job_load(job, spec);
        coordinator->loaded_bytes += job->spec_bytes;
    }
    return status;
}

static void start_job(struct coordinator *coordinator, struct job *job) {
    struct error err = {0};
    enum status status = load_spec(coordinator, job, &err);
    if (status != STATUS_OK) {
        coordinator_stop_job(coordinator, job, SUREFOOT__OUTCOME__OUTCOME_FAILED, &err);
        return;
    }
    status = job_start(job, groups_models(coordinator->groups), &coordinator->tilts, &err);
    if (status == STATUS_OK) {
        status = scheduler_add_job(coordinator->scheduler, job->id, job->spec_bytes,
                                   job->spec->n_scorers, job_next, job);
        if (status == STATUS_OK) {
            faults_on_start(coordinator, job);
        } else {
            error_set(&err, status, NULL, "the search cannot be started: %s", status_text(status));
        }
        coordinator->n_running++;
    }
    if (status != STATUS_OK) {
        Surefoot__Outcome outcome = status == STATUS_NO_MEMORY
                                        ? SUREFOOT__OUTCOME__OUTCOME_FAILED
                                        : SUREFOOT__OUTCOME__OUTCOME_REJECTED;
        coordinator_stop_job(coordinator, job, outcome, &err);
    }
}

// Searches start while there is room, somebody to work, and a store that takes results: those that
// it does not take stay in memory.
static void start_jobs(struct coordinator *coordinator) {
    if (groups_serving(coordinator->groups) == 0 || coordinator->retry_delay_ms > 0) {
        return;
    }
    while (coordinator->n_running < coordinator->options.running_max) {
        struct job *job = job_table_pop(coordinator->jobs);
        if (job == NULL) {
            return;
        }
        start_job(coordinator, job);
    }
}

// Takes what waits at a socket, at most one turn's share.
static void drain(struct coordinator *coordinator, struct channel *channel,
                  void (*handle)(struct coordinator *coordinator, const struct channel_peer *peer,
                                 const uint8_t *bytes, size_t size)) {
    size_t taken = 0;
    for (int i = 0; i < MESSAGES_PER_TURN && taken < BYTES_PER_TURN; i++) {
        struct channel_peer peer;
        uint8_t *bytes = NULL;
        size_t size = 0;
        if (channel_receive(channel, &peer, &bytes, &size) != STATUS_OK) {
            return;
        }
        handle(coordinator, &peer, bytes, size);
        free(bytes);
        taken += size;
    }
    coordinator->more = true;
}

static void turn(struct coordinator *coordinator) {
    coordinator->more = false;
    drain(coordinator, coordinator->group_channel, leaders_on_message);
    bool groups_drained = !coordinator->more;
    drain(coordinator, coordinator->client_channel, server_on_message);
    int64_t now_ms = clock_monotonic_ms();
    if (groups_drained) {
        // Only silence after everything was read is silence.
        leaders_tick(coordinator, now_ms);
    }
    check_deadlines(coordinator, now_ms);
    writes_retry(coordinator, now_ms);
    writes_expire(coordinator, now_ms);
    start_jobs(coordinator);
    // Orders leave before the commit, so that groups work while the disk does.
    leaders_dispatch(coordinator);
    server_tick(coordinator, now_ms);
    if (now_ms >= coordinator->next_reserve_ms) {
        coordinator->next_reserve_ms = now_ms + RESERVE_TRY_MS;
        store_restore_reserve(coordinator->store);
    }
    log_limit_tick(&coordinator->groups_log);
    log_limit_tick(&coordinator->rows_log);
    log_limit_tick(&coordinator->jobs_log);
    log_limit_tick(&coordinator->clients_log);
    writes_flush(coordinator);
}

static bool is_readable(int fd) {
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    return poll(&poll_fd, 1, 0) > 0;
}

enum status coordinator_run(struct coordinator *coordinator, int stop_fd) {
    struct channel *channels[] = {coordinator->group_channel, coordinator->client_channel};
    bool ready[2];
    while (!is_readable(stop_fd)) {
        enum status status =
            channel_poll(channels, 2, stop_fd, coordinator->more ? 0 : TICK_MS, ready);
        if (status != STATUS_OK && status != STATUS_DEADLINE) {
            log_error("the sockets failed: %s", status_text(status));
            return status;
        }
        int64_t begin_ns = clock_monotonic_ns();
        turn(coordinator);
        coordinator->busy_ns += clock_monotonic_ns() - begin_ns;
    }
    server_stop(coordinator);
    return STATUS_OK;
}

// A job of an earlier process: a store that a newer version wrote may hold what this one does not
// accept, which must not keep the others from running.
static enum status load_job(void *context, const struct store_job *stored) {
    struct coordinator *coordinator = context;
    struct error err = {0};
    struct job_spec *spec = NULL;
    enum status status = read_spec(stored->spec, stored->spec_size, &spec, &err);
    if (status == STATUS_NO_MEMORY) {
        return status;
    }
    if (status != STATUS_OK) {
        log_limited(&coordinator->jobs_log, LOG_LEVEL_ERROR,
                    "stored job %" PRIu64 " is left alone: %s %s", stored->job_id, err.field,
                    err.message);
        return STATUS_OK;
    }
    struct job *job = NULL;
    status = coordinator_add_job(coordinator, stored->job_id, spec, stored->spec_size,
                                 stored->accepted_ms, NULL, &job);
    if (status == STATUS_OK) {
        faults_remember(job, &stored->losses);
    }
    return status;
}

static enum status open_store(struct coordinator *coordinator, struct error *err) {
    const struct store_options options = {.path = coordinator->options.store_path,
                                          .pages_max = coordinator->options.store_pages_max,
                                          .reserve_bytes = STORE_RESERVE_BYTES};
    struct store_counts counts = {0};
    enum status status = store_open(&options, &coordinator->store, err);
    if (status == STATUS_OK) {
        status = store_get_counts(coordinator->store, &counts, err);
    }
    if (status == STATUS_OK) {
        status = store_load_unfinished(coordinator->store, load_job, coordinator, err);
    }
    if (status == STATUS_OK) {
        coordinator->n_stored = counts.jobs;
        coordinator->n_results = counts.results;
        coordinator->stored_bytes = counts.bytes;
        log_info("store %s: %" PRIu64 " jobs, %" PRIu64 " of them finished", options.path,
                 counts.jobs, counts.results);
    }
    return status;
}

static enum status bind_channels(struct coordinator *coordinator, struct error *err) {
    // Twice the limit reaches us, so that a message somewhat too large gets an answer that says so;
    // the socket closes on anything larger.
    const struct channel_options client = {.message_bytes_max = 2 * LIMIT_CLIENT_MESSAGE_BYTES,
                                           .receive_depth_max = CLIENT_MESSAGES_WAITING,
                                           .unsent_bytes_max = LIMIT_CLIENT_UNSENT_BYTES,
                                           .unsent_total_max = LIMIT_CLIENTS_UNSENT_BYTES};
    // What comes before it is read is anybody's.
    const struct channel_options group = {.message_bytes_max = LIMIT_GROUP_MESSAGE_BYTES,
                                          .receive_depth_max = LIMIT_GROUP_MESSAGES_WAITING};
    enum status status = channel_bind(coordinator->context, coordinator->options.client_endpoint,
                                      &client, &coordinator->client_channel, err);
    if (status != STATUS_OK) {
        error_prefix_field(err, "client");
        return status;
    }
    coordinator->clients_are_trusted =
        strncmp(coordinator->options.client_endpoint, "ipc://", 6) == 0;
    status = channel_bind(coordinator->context, coordinator->options.group_endpoint, &group,
                          &coordinator->group_channel, err);
    if (status != STATUS_OK) {
        error_prefix_field(err, "group");
    }
    return status;
}

static enum status take_options(struct coordinator *coordinator,
                                const struct coordinator_options *given, struct error *err) {
    struct coordinator_options *options = &coordinator->options;
    *options = *given;
    if (options->heartbeat_ms == 0) {
        options->heartbeat_ms = COORDINATOR_HEARTBEAT_MS;
    }
    if (options->heartbeat_ms < 10 || options->heartbeat_ms > 60000) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "heartbeat-ms", "%d is outside 10..60000",
                         options->heartbeat_ms);
    }
    if (options->dead_after_ms == 0) {
        options->dead_after_ms = COORDINATOR_BEATS_MISSED * options->heartbeat_ms;
    }
    if (options->dead_after_ms < options->heartbeat_ms || options->dead_after_ms > 3600000) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "dead-after-ms",
                         "%d is outside heartbeat-ms %d..3600000", options->dead_after_ms,
                         options->heartbeat_ms);
    }
    if (options->jobs_max == 0) {
        options->jobs_max = LIMIT_JOBS_STORED;
    }
    if (options->jobs_max > LIMIT_JOBS_STORED) {
        return error_set(err, STATUS_LIMIT, "jobs-max", "%" PRIu64 " is above %d",
                         options->jobs_max, LIMIT_JOBS_STORED);
    }
    if (options->loaded_bytes_max == 0) {
        options->loaded_bytes_max = COORDINATOR_LOADED_MAX;
    }
    if (options->bytes_max == 0) {
        options->bytes_max = COORDINATOR_BYTES_MAX;
    }
    if (options->retain_ms == 0) {
        options->retain_ms = COORDINATOR_RETAIN_MS;
    }
    if (options->running_max == 0) {
        options->running_max = COORDINATOR_RUNNING_MAX;
    }
    if (options->running_max > 4096) {
        return error_set(err, STATUS_LIMIT, "running-max", "%u is outside 1..4096",
                         options->running_max);
    }
    return STATUS_OK;
}

enum status coordinator_open(const struct coordinator_options *options, struct coordinator **out,
                             struct error *err) {
    struct coordinator *coordinator = calloc(1, sizeof *coordinator);
    if (coordinator == NULL) {
        return error_set(err, STATUS_NO_MEMORY, NULL, "no memory");
    }
    coordinator->next_deadline_ms = INT64_MAX;
    coordinator->retry_ms = INT64_MAX;
    coordinator->groups_log.kind = "groups";
    coordinator->rows_log.kind = "rows";
    coordinator->jobs_log.kind = "jobs";
    coordinator->clients_log.kind = "clients";
    coordinator->started_ms = clock_monotonic_ms();
    enum status status = take_options(coordinator, options, err);
    if (status != STATUS_OK) {
        goto out;
    }
    if (groups_create(&coordinator->groups) != STATUS_OK ||
        scheduler_create(&coordinator->scheduler) != STATUS_OK ||
        job_table_create(&coordinator->jobs) != STATUS_OK ||
        watchers_create(&coordinator->watchers) != STATUS_OK ||
        channel_context_create(&coordinator->context) != STATUS_OK) {
        status = error_set(err, STATUS_NO_MEMORY, NULL, "no memory");
        goto out;
    }
    status = bind_channels(coordinator, err); // first: a bad address leaves no store behind
    if (status == STATUS_OK) {
        status = open_store(coordinator, err);
    }
out:
    if (status != STATUS_OK) {
        coordinator_close(coordinator);
        return status;
    }
    *out = coordinator;
    return STATUS_OK;
}

void coordinator_close(struct coordinator *coordinator) {
    if (coordinator == NULL) {
        return;
    }
    for (size_t i = 0; i < coordinator->n_writes; i++) {
        job_spec_destroy(coordinator->writes[i].spec);
        free(coordinator->writes[i].bytes);
    }
    free(coordinator->writes);
    channel_close(coordinator->client_channel);
    channel_close(coordinator->group_channel);
    channel_context_destroy(coordinator->context);
    watchers_destroy(coordinator->watchers);
    tilt_cache_finish(&coordinator->tilts);
    scheduler_destroy(coordinator->scheduler);
    job_table_destroy(coordinator->jobs);
    groups_destroy(coordinator->groups);
    store_close(coordinator->store);
    free(coordinator);
}

const char *coordinator_client_endpoint(const struct coordinator *coordinator) {
    return channel_endpoint(coordinator->client_channel);
}

const char *coordinator_group_endpoint(const struct coordinator *coordinator) {
    return channel_endpoint(coordinator->group_channel);
}
