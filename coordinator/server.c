// The clients' side: requests in, replies out, and the pushes of streamed jobs. A request that
// changes something is answered after the turn's commit; everything else at once. A reply that
// cannot be sent is dropped: clients ask again.
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/deadline.h"
#include "common/log.h"
#include "coordinator/coordinator_internal.h"

enum { PROGRESS_MS = 200, WAIT_MS_MAX = 3600 * 1000, LIST_DEFAULT = 100 };

// False when the peer is gone for good: what waits for it can be forgotten.
static bool send_reply(struct coordinator *coordinator, const struct channel_peer *peer,
                       uint64_t request_id, Surefoot__ClientReply *reply) {
    reply->has_schema_major = true;
    reply->schema_major = WIRE_SCHEMA_MAJOR;
    reply->has_schema_minor = true;
    reply->schema_minor = WIRE_SCHEMA_MINOR;
    reply->has_request_id = true;
    reply->request_id = request_id;
    uint8_t *bytes = NULL;
    size_t size = 0;
    enum status status = wire_pack(WIRE_CLIENT_REPLY, reply, &bytes, &size);
    if (status == STATUS_OK) {
        status = channel_send(coordinator->client_channel, peer, bytes, size);
        free(bytes);
    }
    if (status != STATUS_OK) {
        log_debug("a reply is dropped: %s", status_text(status));
    }
    return status != STATUS_PEER_LOST;
}

static void send_error(struct coordinator *coordinator, const struct channel_peer *peer,
                       uint64_t request_id, const struct error *err) {
    Surefoot__ErrorInfo info;
    Surefoot__ClientReply reply = SUREFOOT__CLIENT_REPLY__INIT;
    wire_error_fill(&info, err);
    reply.error = &info;
    send_reply(coordinator, peer, request_id, &reply);
}

// Answers submit, close and cancel, which say no more than the key.
static void send_accepted(struct coordinator *coordinator, const struct write *write,
                          bool duplicate) {
    Surefoot__JobAccepted accepted = SUREFOOT__JOB_ACCEPTED__INIT;
    Surefoot__ClientReply reply = SUREFOOT__CLIENT_REPLY__INIT;
    accepted.job_key = (char *)write->key;
    accepted.has_duplicate = true;
    accepted.duplicate = duplicate;
    if (write->kind == WRITE_JOB) {
        reply.accepted = &accepted;
    } else if (write->kind == WRITE_CLOSE) {
        reply.closed = &accepted;
    } else {
        reply.cancelled = &accepted;
    }
    send_reply(coordinator, &write->peer, write->request_id, &reply);
}

static bool send_progress(struct coordinator *coordinator, const struct watcher *watcher,
                          const struct job *job) {
    Surefoot__JobProgress progress;
    Surefoot__ClientReply reply = SUREFOOT__CLIENT_REPLY__INIT;
    job_fill_progress(job, &progress);
    reply.progress = &progress;
    return send_reply(coordinator, &watcher->peer, watcher->request_id, &reply);
}

static void send_result(struct coordinator *coordinator, const struct channel_peer *peer,
                        uint64_t request_id, const uint8_t *bytes, size_t size) {
    void *result = NULL;
    struct error err = {0};
    if (wire_unpack(WIRE_JOB_RESULT, bytes, size, &result, &err) != STATUS_OK) {
        log_limited(&coordinator->clients_log, LOG_LEVEL_ERROR,
                    "a stored result cannot be read: %s", err.message);
        error_set(&err, STATUS_MALFORMED, "store", "the stored result cannot be read");
        send_error(coordinator, peer, request_id, &err);
        return;
    }
    Surefoot__ClientReply reply = SUREFOOT__CLIENT_REPLY__INIT;
    reply.result = result;
    send_reply(coordinator, peer, request_id, &reply);
    wire_free(WIRE_JOB_RESULT, result);
}

// A request as the handlers see it.
struct request {
    struct coordinator *coordinator;
    const struct channel_peer *peer;
    uint64_t id;
};

static void refuse(const struct request *request, const struct error *err) {
    send_error(request->coordinator, request->peer, request->id, err);
}

// A write that answers this request; without memory the request is refused.
static struct write *add_write(const struct request *request, enum write_kind kind,
                               const char *key) {
    struct write *write = writes_add(request->coordinator, kind, key);
    if (write == NULL) {
        struct error err;
        error_set(&err, STATUS_NO_MEMORY, NULL, "no memory for the request");
        refuse(request, &err);
        return NULL;
    }
    write->has_peer = true;
    write->peer = *request->peer;
    write->request_id = request->id;
    return write;
}

static bool is_known(struct coordinator *coordinator, const char *key) {
    struct error err;
    return job_table_find_key(coordinator->jobs, key) != NULL ||
           store_find_job(coordinator->store, key, &err) == STATUS_OK;
}

// Checks of a new job beyond its message: fields without effect, room, and what the groups can do
// as far as that is known.
static enum status admit(struct coordinator *coordinator, struct job_spec *spec, size_t size,
                         struct error *err) {
    enum status status = job_spec_check_unread(spec, err);
    if (status != STATUS_OK) {
        return status;
    }
    uint64_t jobs = coordinator->n_stored + coordinator->n_writes;
    if (jobs >= coordinator->options.jobs_max) {
        return error_set(err, STATUS_RESOURCE_EXHAUSTED, "jobs",
                         "%" PRIu64 " jobs are stored, the limit is %" PRIu64
                         "; close finished ones",
                         coordinator->n_stored, coordinator->options.jobs_max);
    }
    uint64_t bytes = coordinator->stored_bytes + coordinator->write_bytes;
    if (bytes + size > coordinator->options.bytes_max) {
        return error_set(err, STATUS_RESOURCE_EXHAUSTED, "bytes",
                         "%" PRIu64 " bytes of jobs and results are stored, %zu more are above the "
                         "limit %" PRIu64 "; close finished ones",
                         coordinator->stored_bytes, size, coordinator->options.bytes_max);
    }
    const struct model_set *models = groups_models(coordinator->groups);
    return models != NULL ? job_spec_resolve(spec, models, err) : STATUS_OK;
}

static void on_submit(const struct request *request, Surefoot__ClientRequest *message) {
    struct coordinator *coordinator = request->coordinator;
    bool stream = message->submit->has_stream && message->submit->stream;
    struct job_spec *spec = NULL;
    uint8_t *bytes = NULL;
    size_t size = 0;
    struct error err = {0};
    enum status status = job_spec_create(message->submit, &spec, &err);
    if (status == STATUS_OK) {
        message->submit = NULL; // the spec's now
        status = job_spec_pack(spec, &bytes, &size);
        if (status != STATUS_OK) {
            error_set(&err, status, "spec", "cannot be packed: %s", status_text(status));
        }
    }
    if (status == STATUS_OK && !is_known(coordinator, job_spec_key(spec))) {
        status = admit(coordinator, spec, size, &err);
    }
    struct write *write = NULL;
    if (status != STATUS_OK) {
        refuse(request, &err);
    } else {
        write = add_write(request, WRITE_JOB, job_spec_key(spec));
    }
    if (write == NULL) {
        free(bytes);
        job_spec_destroy(spec);
        return;
    }
    write->stream = stream;
    write->spec = spec;
    write->bytes = bytes;
    write->size = size;
    coordinator->write_bytes += size;
    write->accepted_ms = clock_realtime_ms();
}

// A client that finds no room here still has fetch.
static void follow(struct coordinator *coordinator, const struct channel_peer *peer,
                   uint64_t job_id) {
    const struct watcher watcher = {
        .peer = *peer,
        .job_id = job_id,
        .stream = true,
        .deadline_ms = INT64_MAX,
    };
    if (watchers_add(coordinator->watchers, &watcher) != STATUS_OK) {
        log_limited(&coordinator->clients_log, LOG_LEVEL_WARN,
                    "a stream is refused: %d requests wait already", WATCHERS_MAX);
    }
}

static enum status watch(const struct request *request, const struct job *job, int64_t wait_ms,
                         struct error *err) {
    const struct watcher watcher = {
        .peer = *request->peer,
        .request_id = request->id,
        .job_id = job->id,
        .deadline_ms = deadline_after_ms(wait_ms),
    };
    enum status status = watchers_add(request->coordinator->watchers, &watcher);
    return status == STATUS_OK
               ? status
               : error_set(err, status, "wait_ms", "%d requests wait already", WATCHERS_MAX);
}

static void on_fetch(const struct request *request, const Surefoot__FetchJob *fetch) {
    struct coordinator *coordinator = request->coordinator;
    struct error err = {0};
    struct job *job = job_table_find_key(coordinator->jobs, fetch->job_key);
    int64_t wait_ms = fetch->has_wait_ms ? fetch->wait_ms : 0;
    if (wait_ms > WAIT_MS_MAX) {
        wait_ms = WAIT_MS_MAX;
    }
    if (job != NULL && fetch->stream) {
        follow(coordinator, request->peer, job->id);
    }
    if (job != NULL && wait_ms > 0) {
        if (watch(request, job, wait_ms, &err) != STATUS_OK) {
            refuse(request, &err);
        }
        return;
    }
    if (job != NULL) {
        const struct watcher now = {.peer = *request->peer, .request_id = request->id};
        send_progress(coordinator, &now, job);
        return;
    }
    struct store_job stored;
    enum status status = store_get_job(coordinator->store, fetch->job_key, &stored, &err);
    if (status != STATUS_OK) {
        refuse(request, &err);
        return;
    }
    if (stored.result != NULL) {
        send_result(coordinator, request->peer, request->id, stored.result, stored.result_size);
    } else {
        error_set(&err, STATUS_UNAVAILABLE, "job_key", "the job is not loaded");
        refuse(request, &err);
    }
    store_job_release(&stored);
}

static void on_cancel(const struct request *request, const Surefoot__CancelJob *cancel) {
    struct coordinator *coordinator = request->coordinator;
    struct error err = {0};
    struct job *job = job_table_find_key(coordinator->jobs, cancel->job_key);
    if (job == NULL) {
        // Done and stored: there is nothing to cancel, and saying so twice is fine.
        enum status status = store_find_job(coordinator->store, cancel->job_key, &err);
        if (status != STATUS_OK) {
            refuse(request, &err);
            return;
        }
        struct write answered = {
            .kind = WRITE_RESULT, .peer = *request->peer, .request_id = request->id};
        snprintf(answered.key, sizeof answered.key, "%s", cancel->job_key);
        send_accepted(coordinator, &answered, true);
        return;
    }
    if (job->state != SUREFOOT__JOB_STATE__JOB_STATE_DONE) {
        coordinator_stop_job(coordinator, job, SUREFOOT__OUTCOME__OUTCOME_CANCELLED, NULL);
    }
    // One more write of the same result, answered after the commit: the store keeps the first.
    struct write *write = add_write(request, WRITE_RESULT, job->key);
    if (write != NULL) {
        write->job_id = job->id;
    }
}

static void on_close(const struct request *request, const Surefoot__CloseJob *close) {
    struct write *write = add_write(request, WRITE_CLOSE, close->job_key);
    (void)write; // refused already when there is none
}

// Where anybody may connect, a job's key is all that keeps others from it.
static bool may_administer(const struct request *request) {
    if (request->coordinator->clients_are_trusted) {
        return true;
    }
    struct error err;
    error_set(&err, STATUS_PERMISSION, "request",
              "list and purge are served at an ipc:// address only");
    refuse(request, &err);
    return false;
}

struct list_parts {
    struct coordinator *coordinator;
    Surefoot__ListedJob jobs[LIMIT_JOBS_LISTED];
    Surefoot__ListedJob *job_list[LIMIT_JOBS_LISTED];
    char keys[LIMIT_JOBS_LISTED][LIMIT_JOB_KEY_BYTES + 1];
    size_t n_jobs;
    uint64_t last_id;
};

static void fill_listed(void *context, const struct store_listed *stored) {
    struct list_parts *parts = context;
    const struct job *job = job_table_find_id(parts->coordinator->jobs, stored->job_id);
    Surefoot__ListedJob *listed = &parts->jobs[parts->n_jobs];
    char *key = parts->keys[parts->n_jobs];
    surefoot__listed_job__init(listed);
    snprintf(key, sizeof parts->keys[0], "%s", stored->job_key);
    listed->job_key = key;
    listed->has_state = listed->has_accepted_ms = listed->has_bytes = true;
    listed->state = stored->is_done ? SUREFOOT__JOB_STATE__JOB_STATE_DONE
                    : job != NULL   ? (uint32_t)job->state
                                    : SUREFOOT__JOB_STATE__JOB_STATE_QUEUED;
    listed->accepted_ms = stored->accepted_ms;
    listed->bytes = stored->bytes;
    listed->has_outcome = stored->outcome != 0;
    listed->outcome = (Surefoot__Outcome)stored->outcome;
    listed->has_done_ms = stored->is_done;
    listed->done_ms = stored->done_ms;
    parts->job_list[parts->n_jobs++] = listed;
    parts->last_id = stored->job_id;
}

static void on_list(const struct request *request, const Surefoot__ListJobs *list) {
    struct coordinator *coordinator = request->coordinator;
    struct error err = {0};
    uint32_t limit = list->has_limit ? list->limit : LIST_DEFAULT;
    if (limit < 1 || limit > LIMIT_JOBS_LISTED) {
        error_set(&err, STATUS_INVALID_ARGUMENT, "limit", "%u is outside 1..%d", limit,
                  LIMIT_JOBS_LISTED);
        refuse(request, &err);
        return;
    }
    if (list->after > INT64_MAX) {
        error_set(&err, STATUS_INVALID_ARGUMENT, "after", "is not the next of an answer");
        refuse(request, &err);
        return;
    }
    struct list_parts *parts = calloc(1, sizeof *parts);
    if (parts == NULL) {
        error_set(&err, STATUS_NO_MEMORY, NULL, "no memory for the request");
        refuse(request, &err);
        return;
    }
    parts->coordinator = coordinator;
    writes_flush(coordinator);
    enum status status =
        store_list(coordinator->store, list->after, limit, fill_listed, parts, &err);
    if (status != STATUS_OK) {
        refuse(request, &err);
    } else {
        Surefoot__JobList jobs = SUREFOOT__JOB_LIST__INIT;
        Surefoot__ClientReply reply = SUREFOOT__CLIENT_REPLY__INIT;
        jobs.jobs = parts->job_list;
        jobs.n_jobs = parts->n_jobs;
        jobs.has_next = parts->n_jobs == limit;
        jobs.next = parts->last_id;
        reply.listed = &jobs;
        send_reply(coordinator, request->peer, request->id, &reply);
    }
    free(parts);
}

static void on_purge(const struct request *request, const Surefoot__PurgeJobs *purge) {
    if (!purge->has_older_than_ms || purge->older_than_ms > INT64_MAX / 2) {
        struct error err;
        error_set(&err, STATUS_INVALID_ARGUMENT, "older_than_ms", "must be given, 0..%" PRId64,
                  INT64_MAX / 2);
        refuse(request, &err);
        return;
    }
    struct write *write = add_write(request, WRITE_PURGE, "");
    if (write != NULL) {
        write->done_before_ms = clock_realtime_ms() - (int64_t)purge->older_than_ms;
    }
}

struct status_parts {
    Surefoot__GroupStatus groups[LIMIT_GROUPS];
    Surefoot__GroupStatus *group_list[LIMIT_GROUPS];
    Surefoot__ModelInfo models[LIMIT_SCORERS + 3];
    Surefoot__ModelInfo *model_list[LIMIT_SCORERS + 3];
    size_t n_models;
};

static void add_critic(const char *name, const struct critic_description *critic,
                       struct status_parts *parts) {
    if (critic->hash[0] != '\0') {
        Surefoot__ModelInfo *info = &parts->models[parts->n_models++];
        surefoot__model_info__init(info);
        info->name = info->role = (char *)name;
        info->hash = (char *)critic->hash;
    }
}

static void fill_models(const struct coordinator *coordinator, struct status_parts *parts) {
    const struct model_set *models = groups_models(coordinator->groups);
    if (models == NULL) {
        return;
    }
    model_description_fill(&models->policy, &parts->models[parts->n_models++]);
    for (size_t i = 0; i < models->n_scorers; i++) {
        model_description_fill(&models->scorers[i], &parts->models[parts->n_models++]);
    }
    add_critic("critic", &models->critic, parts);
    add_critic("value", &models->value, parts);
    for (size_t i = 0; i < parts->n_models; i++) {
        parts->model_list[i] = &parts->models[i];
    }
}

static void fill_group(const struct coordinator *coordinator, int number, const struct group *group,
                       struct status_parts *parts, Surefoot__GroupStatus *status) {
    surefoot__group_status__init(status);
    status->name = (char *)group->name;
    status->has_n_ranks = true;
    status->n_ranks = group->n_ranks;
    status->has_slots = true;
    status->slots = group->slots;
    status->has_slots_busy = true;
    status->slots_busy = (uint32_t)scheduler_group_load(coordinator->scheduler, number);
    status->has_alive = true;
    status->alive = group->alive;
    status->has_orders_done = true;
    status->orders_done = group->orders_done;
    status->has_tokens = true;
    status->tokens = group->tokens;
    status->has_rebuilt_tokens = true;
    status->rebuilt_tokens = group->rebuilt;
    status->has_heartbeat_age_ms = true;
    status->heartbeat_age_ms = (double)(clock_monotonic_ms() - group->last_seen_ms);
    status->has_decode_ms = status->has_score_ms = status->has_collective_ms = true;
    status->decode_ms = group->decode_ms;
    status->score_ms = group->score_ms;
    status->collective_ms = group->collective_ms;
    status->has_order_ms = status->has_joined_ms = true;
    status->order_ms = group->order_ms;
    status->joined_ms = (double)(clock_monotonic_ms() - group->joined_ms);
    status->condition = !group->alive      ? "lost"
                        : group->set_aside ? "set-aside"
                        : group->stalled   ? "stalled"
                                           : "serving";
    bool serves = group->alive && !group->set_aside && !group->stalled;
    status->why = serves ? NULL : (char *)group->why;
    status->has_bad_rows = true;
    status->bad_rows = group->bad_rows;
    status->models = parts->model_list;
    status->n_models = parts->n_models;
}

static void on_status(const struct request *request) {
    struct coordinator *coordinator = request->coordinator;
    struct status_parts *parts = calloc(1, sizeof *parts);
    if (parts == NULL) {
        struct error err;
        error_set(&err, STATUS_NO_MEMORY, NULL, "no memory for the request");
        refuse(request, &err);
        return;
    }
    Surefoot__ServiceStatus status = SUREFOOT__SERVICE_STATUS__INIT;
    fill_models(coordinator, parts);
    for (int g = 0; g < LIMIT_GROUPS; g++) {
        const struct group *group = groups_get(coordinator->groups, g);
        if (group != NULL) {
            parts->group_list[status.n_groups] = &parts->groups[status.n_groups];
            fill_group(coordinator, g, group, parts, &parts->groups[status.n_groups++]);
        }
    }
    status.version = SUREFOOT_VERSION;
    status.groups = parts->group_list;
    status.has_jobs_queued = true;
    status.jobs_queued = (uint32_t)job_table_queued(coordinator->jobs);
    status.has_jobs_running = true;
    status.jobs_running = coordinator->n_running;
    status.has_jobs_done = true;
    status.jobs_done = coordinator->n_results;
    status.has_stored_bytes = status.has_stored_bytes_max = true;
    status.stored_bytes = coordinator->stored_bytes;
    status.stored_bytes_max = coordinator->options.bytes_max;
    status.has_uptime_ms = true;
    status.uptime_ms = (double)(clock_monotonic_ms() - coordinator->started_ms);
    status.has_busy_ms = true;
    status.busy_ms = (double)coordinator->busy_ns * 1e-6;
    Surefoot__ClientReply reply = SUREFOOT__CLIENT_REPLY__INIT;
    reply.status = &status;
    send_reply(coordinator, request->peer, request->id, &reply);
    free(parts);
}

// The request_id of a message that cannot be unpacked as a whole, 0 when it is not found: its
// top-level fields are walked up to the first that is broken.
static uint64_t peek_request_id(const uint8_t *bytes, size_t size) {
    enum { REQUEST_ID_TAG = 3 << 3, WIRE_VARINT = 0, WIRE_BYTES = 2 };
    size_t at = 0;
    while (at < size) {
        uint64_t tag = 0;
        uint64_t value = 0;
        for (uint64_t *out = &tag; out != NULL; out = out == &tag ? &value : NULL) {
            for (int shift = 0;; shift += 7) {
                if (at == size || shift > 63) {
                    return 0;
                }
                *out |= (uint64_t)(bytes[at] & 0x7f) << shift;
                if ((bytes[at++] & 0x80) == 0) {
                    break;
                }
            }
        }
        if (tag == REQUEST_ID_TAG) {
            return value;
        }
        if ((tag & 7) == WIRE_BYTES && value <= size - at) {
            at += value;
        } else if ((tag & 7) != WIRE_VARINT) {
            return 0;
        }
    }
    return 0;
}

static enum status check_envelope(const Surefoot__ClientRequest *message, struct error *err) {
    enum status status = wire_check_version(message->schema_major, message->schema_minor, err);
    if (status != STATUS_OK) {
        return status;
    }
    int members = (message->submit != NULL) + (message->fetch != NULL) + (message->cancel != NULL) +
                  (message->close != NULL) + (message->status != NULL) + (message->list != NULL) +
                  (message->purge != NULL);
    if (members != 1) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "request",
                         "%d members are set; one of submit, fetch, cancel, close, status, list, "
                         "purge",
                         members);
    }
    const char *key = message->fetch != NULL    ? message->fetch->job_key
                      : message->cancel != NULL ? message->cancel->job_key
                      : message->close != NULL  ? message->close->job_key
                                                : "not needed";
    return message->submit != NULL ? STATUS_OK : job_key_check(key, err);
}

// A client that does not wait for answers must still find what it submitted or closed a moment ago.
static void settle(struct coordinator *coordinator, const char *key) {
    for (size_t i = 0; i < coordinator->n_writes; i++) {
        if (strcmp(coordinator->writes[i].key, key) == 0) {
            writes_flush(coordinator);
            return;
        }
    }
}

// Paths of fields begin below the request's member, wherever the error was found.
static void strip_member(struct error *err) {
    static const char *const members[] = {"submit.", "fetch.", "cancel.",
                                          "close.",  "list.",  "purge."};
    for (size_t i = 0; i < sizeof members / sizeof members[0]; i++) {
        size_t length = strlen(members[i]);
        if (strncmp(err->field, members[i], length) == 0) {
            memmove(err->field, err->field + length, strlen(err->field + length) + 1);
            return;
        }
    }
}

void server_on_message(struct coordinator *coordinator, const struct channel_peer *peer,
                       const uint8_t *bytes, size_t size) {
    struct request request = {.coordinator = coordinator, .peer = peer};
    struct error err = {0};
    void *unpacked = NULL;
    if (wire_unpack(WIRE_CLIENT_REQUEST, bytes, size, &unpacked, &err) != STATUS_OK) {
        request.id = peek_request_id(bytes, size);
        strip_member(&err);
        refuse(&request, &err);
        return;
    }
    Surefoot__ClientRequest *message = unpacked;
    request.id = message->request_id;
    if (check_envelope(message, &err) != STATUS_OK) {
        refuse(&request, &err);
    } else if (message->submit != NULL) {
        on_submit(&request, message);
    } else if (message->fetch != NULL) {
        settle(coordinator, message->fetch->job_key);
        on_fetch(&request, message->fetch);
    } else if (message->cancel != NULL) {
        settle(coordinator, message->cancel->job_key);
        on_cancel(&request, message->cancel);
    } else if (message->close != NULL) {
        on_close(&request, message->close);
    } else if (message->status != NULL) {
        on_status(&request);
    } else if (may_administer(&request)) {
        if (message->list != NULL) {
            on_list(&request, message->list);
        } else {
            on_purge(&request, message->purge);
        }
    }
    wire_free(WIRE_CLIENT_REQUEST, message);
}

// A number that changes whenever the progress of a job does.
static uint64_t progress_mark(const struct job *job) {
    if (job->search == NULL) {
        return (uint64_t)job->state;
    }
    struct search_progress now;
    search_get_progress(job->search, &now);
    return now.tokens + now.step + now.pruned + (uint64_t)job->state;
}

void server_stop(struct coordinator *coordinator) {
    for (size_t i = 0; i < watchers_count(coordinator->watchers); i++) {
        const struct watcher *watcher = watchers_get(coordinator->watchers, i);
        const struct job *job = job_table_find_id(coordinator->jobs, watcher->job_id);
        if (!watcher->stream && job != NULL) {
            send_progress(coordinator, watcher, job);
        }
    }
}

void server_tick(struct coordinator *coordinator, int64_t now_ms) {
    bool push = now_ms >= coordinator->next_progress_ms;
    if (push) {
        coordinator->next_progress_ms = now_ms + PROGRESS_MS;
    }
    for (size_t i = 0; i < watchers_count(coordinator->watchers);) {
        struct watcher *watcher = watchers_get(coordinator->watchers, i);
        const struct job *job = job_table_find_id(coordinator->jobs, watcher->job_id);
        ASSERT(job != NULL);
        bool ends = !watcher->stream && now_ms >= watcher->deadline_ms;
        if (ends || (watcher->stream && push && progress_mark(job) != watcher->shown)) {
            watcher->shown = progress_mark(job);
            ends = !send_progress(coordinator, watcher, job) || ends;
        }
        if (ends) {
            watchers_remove(coordinator->watchers, i);
        } else {
            i++;
        }
    }
}

// Answers all who wait for a job: with its result, or with `err` when it was closed.
static void release_watchers(struct coordinator *coordinator, const struct job *job,
                             const struct error *err) {
    for (size_t i = 0; i < watchers_count(coordinator->watchers);) {
        const struct watcher *watcher = watchers_get(coordinator->watchers, i);
        if (watcher->job_id != job->id) {
            i++;
            continue;
        }
        if (err != NULL) {
            send_error(coordinator, &watcher->peer, watcher->request_id, err);
        } else {
            send_result(coordinator, &watcher->peer, watcher->request_id, job->result,
                        job->result_size);
        }
        watchers_remove(coordinator->watchers, i);
    }
}

static void follow_written(struct coordinator *coordinator, const struct write *write) {
    if (job_table_find_id(coordinator->jobs, write->job_id) != NULL) {
        follow(coordinator, &write->peer, write->job_id);
        return;
    }
    struct store_job stored;
    struct error err;
    if (store_get_job(coordinator->store, write->key, &stored, &err) == STATUS_OK) {
        if (stored.result != NULL) {
            send_result(coordinator, &write->peer, 0, stored.result, stored.result_size);
        }
        store_job_release(&stored);
    }
}

static void on_job_written(struct coordinator *coordinator, struct write *write) {
    if (write->is_new) {
        struct job *job = NULL;
        struct job_spec *spec = write->spec;
        write->spec = NULL;
        if (coordinator_add_job(coordinator, write->job_id, spec, write->size, write->accepted_ms,
                                &write->peer, &job) != STATUS_OK) {
            // It is stored and will be found at the next start, but must not be promised now.
            error_set(&write->err, STATUS_NO_MEMORY, NULL, "no memory for the job");
            send_error(coordinator, &write->peer, write->request_id, &write->err);
            return;
        }
    }
    send_accepted(coordinator, write, !write->is_new);
    if (write->stream) {
        follow_written(coordinator, write);
    }
}

static void on_result_written(struct coordinator *coordinator, struct write *write) {
    struct job *job = job_table_find_id(coordinator->jobs, write->job_id);
    if (job != NULL && write->status == STATUS_OK) {
        release_watchers(coordinator, job, NULL);
        coordinator_drop_job(coordinator, job);
    } else if (job != NULL) {
        job->is_saving = false;
    }
    if (write->has_peer && write->status == STATUS_OK) {
        send_accepted(coordinator, write, false);
    }
}

static void on_close_written(struct coordinator *coordinator, struct write *write) {
    struct job *job = job_table_find_key(coordinator->jobs, write->key);
    if (job != NULL) {
        struct error err;
        error_set(&err, STATUS_NOT_FOUND, "job_key", "the job was closed");
        release_watchers(coordinator, job, &err);
        coordinator_abandon_job(coordinator, job);
    }
    send_accepted(coordinator, write, write->removed.jobs == 0);
}

static void on_purge_written(struct coordinator *coordinator, const struct write *write) {
    if (write->removed.jobs > 0) {
        log_limited(&coordinator->jobs_log, LOG_LEVEL_INFO, "results dropped, %s: %" PRIu64,
                    write->has_peer ? "as a client asked" : "for their age", write->removed.jobs);
    }
    if (!write->has_peer) {
        coordinator->next_expiry_ms = write->removed.more ? 0 : coordinator->next_expiry_ms;
        coordinator->more = coordinator->more || write->removed.more;
        return;
    }
    Surefoot__JobsPurged purged = SUREFOOT__JOBS_PURGED__INIT;
    Surefoot__ClientReply reply = SUREFOOT__CLIENT_REPLY__INIT;
    purged.has_purged = purged.has_more = true;
    purged.purged = (uint32_t)write->removed.jobs;
    purged.more = write->removed.more;
    reply.purged = &purged;
    send_reply(coordinator, &write->peer, write->request_id, &reply);
}

void server_on_written(struct coordinator *coordinator, struct write *write) {
    if (write->kind == WRITE_RESULT) {
        on_result_written(coordinator, write);
    } else if (write->status == STATUS_OK && write->kind == WRITE_JOB) {
        on_job_written(coordinator, write);
    } else if (write->status == STATUS_OK && write->kind == WRITE_CLOSE) {
        on_close_written(coordinator, write);
    } else if (write->status == STATUS_OK && write->kind == WRITE_PURGE) {
        on_purge_written(coordinator, write);
    }
    if (write->has_peer && write->status != STATUS_OK) {
        send_error(coordinator, &write->peer, write->request_id, &write->err);
    }
}
