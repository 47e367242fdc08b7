#include "client/cli/batch.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "common/deadline.h"
#include "proto/wire.h"

enum { EVENT_WAIT_MS = 200, HOLD_MS = 500, LOST_MAX = 3 };

struct flight {
    size_t index;
    int lost; // times that the service forgot it
    char key[SUREFOOT_KEY_BYTES];
};

struct run {
    const struct batch *batch;
    struct flight *flights; // [in_flight]
    int n_flights;
    struct flight *again; // [in_flight], jobs that the service forgot, to be submitted first
    int n_again;
    int64_t hold_ms; // no submission before
};

// True when the refusal is about this job's text and not about what all jobs share.
static bool is_about_prompt(const char *field) {
    static const char *const fields[] = {"spec.prompt", "spec.messages", "prompt", "messages",
                                         "message"};
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        size_t length = strlen(fields[i]);
        if (strncmp(field, fields[i], length) == 0 &&
            (field[length] == '\0' || field[length] == '.' || field[length] == '[')) {
            return true;
        }
    }
    // The client's own check of the request names the path from the request on.
    return strncmp(field, "submit.", 7) == 0 && is_about_prompt(field + 7);
}

static bool is_refusal(enum status status) {
    return status == STATUS_INVALID_ARGUMENT || status == STATUS_LIMIT ||
           status == STATUS_MALFORMED || status == STATUS_UNSUPPORTED;
}

static enum status report_rejected(struct run *run, size_t index, const char *key,
                                   const struct error *why, struct error *err) {
    Surefoot__ErrorInfo info;
    wire_error_fill(&info, why);
    Surefoot__JobResult result = SUREFOOT__JOB_RESULT__INIT;
    result.job_key = (char *)key;
    result.has_outcome = 1;
    result.outcome = SUREFOOT__OUTCOME__OUTCOME_REJECTED;
    result.error = &info;
    return run->batch->ops->done(run->batch->user, index, &result, err);
}

// Submits one job. *taken tells whether it needs no further attempt.
static enum status submit(struct run *run, size_t index, int lost, bool *taken, struct error *err) {
    const Surefoot__JobSpec *spec = NULL;
    const char *key = NULL;
    run->batch->ops->describe(run->batch->user, index, &spec, &key);
    const struct surefoot_submit args = {.spec = spec,
                                         .job_key = key,
                                         .follow = true,
                                         .timeout_ms = watch_timeout(run->batch->watch)};
    struct flight *flight = &run->flights[run->n_flights];
    *flight = (struct flight){.index = index, .lost = lost};
    enum status status = surefoot_submit(run->batch->client, &args, flight->key, NULL, err);
    *taken = true;
    if (status == STATUS_OK) {
        run->n_flights++;
        return STATUS_OK;
    }
    if (is_refusal(status) && is_about_prompt(err->field)) {
        struct error why = *err;
        return report_rejected(run, index, key, &why, err);
    }
    *taken = false;
    if (status != STATUS_UNAVAILABLE && status != STATUS_RESOURCE_EXHAUSTED &&
        status != STATUS_DEADLINE) { // no room, or away
        return status;
    }
    run->hold_ms = deadline_after_ms(HOLD_MS);
    return STATUS_OK;
}

static struct flight *find_flight(struct run *run, const char *key) {
    for (int i = 0; i < run->n_flights; i++) {
        if (strcmp(run->flights[i].key, key) == 0) {
            return &run->flights[i];
        }
    }
    return NULL;
}

static enum status handle(struct run *run, const struct surefoot_event *event, struct error *err) {
    struct flight *at = find_flight(run, event->job_key);
    if (at == NULL || event->kind == SUREFOOT_EVENT_PROGRESS) {
        return STATUS_OK;
    }
    struct flight flight = *at;
    *at = run->flights[--run->n_flights];
    if (event->kind == SUREFOOT_EVENT_RESULT) {
        watch_note_work(run->batch->watch);
        const Surefoot__JobResult *result = event->result;
        const Surefoot__ErrorInfo *why = result->error;
        if (result->outcome == SUREFOOT__OUTCOME__OUTCOME_REJECTED && why != NULL &&
            why->field != NULL && strncmp(why->field, "spec.", 5) == 0 &&
            strcmp(why->field, "spec.max_tokens") != 0 && !is_about_prompt(why->field)) {
            struct error told;
            wire_error_read(why, &told);
            return error_set(err, told.status, told.field, "%s", told.message);
        }
        return run->batch->ops->done(run->batch->user, flight.index, result, err);
    }
    if (flight.lost == LOST_MAX) {
        return error_set(err, STATUS_UNAVAILABLE, NULL, "the service forgot job %.40s %d times",
                         flight.key, LOST_MAX + 1);
    }
    flight.lost++;
    run->again[run->n_again++] = flight;
    return STATUS_OK;
}

// Waits for news, or for a moment when nothing is in flight.
static enum status wait_news(struct run *run, struct error *err) {
    const struct batch *batch = run->batch;
    if (run->n_flights == 0) {
        struct pollfd wake = {.fd = batch->wake_fd, .events = POLLIN};
        return poll(&wake, 1, EVENT_WAIT_MS) > 0
                   ? error_set(err, STATUS_CANCELLED, NULL, "interrupted")
                   : STATUS_OK;
    }
    struct surefoot_event event;
    enum status status = surefoot_next_event(batch->client, EVENT_WAIT_MS, &event, err);
    if (status == STATUS_DEADLINE) {
        return STATUS_OK;
    }
    if (status == STATUS_OK) {
        status = handle(run, &event, err);
        surefoot_event_free(&event);
    }
    return status;
}

// Submits what there is room for: first what the service forgot, then the items from *next on.
static enum status submit_some(struct run *run, const size_t *indexes, size_t count, size_t *next,
                               struct error *err) {
    enum status status = STATUS_OK;
    bool taken = true;
    while (status == STATUS_OK && taken && (run->n_again > 0 || *next < count) &&
           run->n_flights < run->batch->in_flight && deadline_passed(run->hold_ms)) {
        bool again = run->n_again > 0;
        struct flight flight =
            again ? run->again[run->n_again - 1] : (struct flight){.index = indexes[*next]};
        status = submit(run, flight.index, flight.lost, &taken, err);
        if (status == STATUS_OK && taken && again) {
            run->n_again--;
        } else if (status == STATUS_OK && taken) {
            ++*next;
        }
    }
    return status;
}

enum status batch_run(const struct batch *batch, const size_t *indexes, size_t count,
                      struct error *err) {
    struct run run = {.batch = batch};
    run.flights = calloc((size_t)batch->in_flight, sizeof *run.flights);
    run.again = calloc((size_t)batch->in_flight, sizeof *run.again);
    enum status status = STATUS_OK;
    if (run.flights == NULL || run.again == NULL) {
        status = error_set(err, STATUS_NO_MEMORY, NULL, "no memory for the batch");
    }
    size_t next = 0;
    while (status == STATUS_OK && (next < count || run.n_flights + run.n_again > 0)) {
        status = submit_some(&run, indexes, count, &next, err);
        if (status == STATUS_OK && (next < count || run.n_flights + run.n_again > 0)) {
            status = wait_news(&run, err);
        }
        if (status == STATUS_OK) {
            status = batch->ops->tick(batch->user, err);
        }
        if (status == STATUS_OK && (next < count || run.n_flights + run.n_again > 0)) {
            status = watch_look(batch->watch, err);
        }
    }
    free(run.flights);
    free(run.again);
    return status;
}
