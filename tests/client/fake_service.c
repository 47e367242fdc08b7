#include "tests/client/fake_service.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/date.h"
#include "proto/channel.h"
#include "proto/limits.h"
#include "proto/wire.h"
#include "tests/support/testkit.h"

enum { JOBS_MAX = 4096, TEXT_BYTES = 256, PAGE_JOBS = 2 };

struct job {
    char key[LIMIT_JOB_KEY_BYTES + 1];
    char prompt[TEXT_BYTES];
    struct channel_peer peer; // of the last submission that asked for a stream
    bool stream;
    bool pushed;
    bool done;
    bool closed;
    bool refusing; // its method refuses
    uint64_t seed;
    char date[DATE_TEXT_BYTES]; // "" when none was given
};

struct fake_service {
    pthread_t thread;
    pthread_mutex_t mutex; // guards what follows the channel
    struct channel_context *context;
    struct channel *channel;
    struct fake_script script;
    bool stopping;
    bool released;
    int requests;
    int created;
    int results;
    struct job jobs[JOBS_MAX];
    int n_jobs;
};

static struct job *find_job(struct fake_service *service, const char *key) {
    for (int i = 0; key != NULL && i < service->n_jobs; i++) {
        if (!service->jobs[i].closed && strcmp(service->jobs[i].key, key) == 0) {
            return &service->jobs[i];
        }
    }
    return NULL;
}

static void send_reply(struct fake_service *service, const struct channel_peer *peer,
                       Surefoot__ClientReply *reply, uint64_t request_id) {
    if (request_id != 0 && service->script.drop_replies > 0) {
        service->script.drop_replies--;
        return;
    }
    reply->has_schema_major = 1;
    reply->schema_major = WIRE_SCHEMA_MAJOR + (service->script.wrong_version ? 1 : 0);
    reply->has_request_id = 1;
    reply->request_id = request_id;
    uint8_t *bytes = NULL;
    size_t size = 0;
    if (wire_pack(WIRE_CLIENT_REPLY, reply, &bytes, &size) != STATUS_OK) {
        abort();
    }
    // A client that has left misses its answer, as it would for real.
    enum status status = channel_send(service->channel, peer, bytes, size);
    if (status != STATUS_OK && status != STATUS_PEER_LOST) {
        abort();
    }
    free(bytes);
}

static void send_error(struct fake_service *service, const struct channel_peer *peer,
                       uint64_t request_id, enum status status, const char *field) {
    struct error err;
    error_set(&err, status, field, "scripted");
    Surefoot__ErrorInfo info;
    wire_error_fill(&info, &err);
    Surefoot__ClientReply reply = SUREFOOT__CLIENT_REPLY__INIT;
    reply.error = &info;
    send_reply(service, peer, &reply, request_id);
}

static bool has_word(const char *text, const char *word) {
    return word != NULL && strstr(text, word) != NULL;
}

static void send_result(struct fake_service *service, const struct channel_peer *peer,
                        struct job *job, uint64_t request_id) {
    Surefoot__JobResult result = SUREFOOT__JOB_RESULT__INIT;
    char text[TEXT_BYTES + 16];
    snprintf(text, sizeof text, "answer to %s", job->prompt);
    result.job_key = job->key;
    result.has_outcome = 1;
    result.outcome = SUREFOOT__OUTCOME__OUTCOME_COMPLETED;
    if (has_word(job->prompt, service->script.fail_word)) {
        result.outcome = SUREFOOT__OUTCOME__OUTCOME_FAILED;
    } else if (has_word(job->prompt, service->script.refuse_word) && job->refusing) {
        result.outcome = SUREFOOT__OUTCOME__OUTCOME_NO_SAFE_CANDIDATE;
    } else {
        result.text = text;
    }
    result.has_reward = 1;
    result.reward = 0.5;
    result.has_cost = 1;
    result.cost = has_word(job->prompt, service->script.refuse_word) ? 100 : 1.25;
    result.has_over_budget = 1;
    result.over_budget = service->script.over_budget;
    result.has_seed = 1;
    result.seed = job->seed;
    result.date = job->date[0] != '\0' ? job->date : NULL;
    Surefoot__ClientReply reply = SUREFOOT__CLIENT_REPLY__INIT;
    reply.result = &result;
    send_reply(service, peer, &reply, request_id);
}

static void submit(struct fake_service *service, const struct channel_peer *peer,
                   const Surefoot__SubmitJob *submit_job, uint64_t request_id) {
    if (service->script.refuse_submits > 0) {
        service->script.refuse_submits--;
        send_error(service, peer, request_id, STATUS_UNAVAILABLE, "");
        return;
    }
    const Surefoot__JobSpec *spec = submit_job->spec;
    char prompt[TEXT_BYTES] = "";
    for (size_t i = 0; i < spec->n_messages; i++) {
        size_t used = strlen(prompt);
        snprintf(prompt + used, sizeof prompt - used, "%s%s: %s", i == 0 ? "" : ", ",
                 spec->messages[i]->role, spec->messages[i]->content);
    }
    if (spec->n_messages == 0) {
        snprintf(prompt, sizeof prompt, "%s", spec->prompt);
    }
    if (has_word(prompt, service->script.reject_word)) {
        send_error(service, peer, request_id, STATUS_LIMIT, "spec.prompt");
        return;
    }
    if (submit_job->spec->method != NULL && strcmp(submit_job->spec->method, "unknown") == 0) {
        send_error(service, peer, request_id, STATUS_INVALID_ARGUMENT, "spec.method");
        return;
    }
    struct job *job = find_job(service, submit_job->job_key);
    bool duplicate = job != NULL;
    if (job == NULL) {
        if (service->n_jobs == JOBS_MAX) {
            abort();
        }
        job = &service->jobs[service->n_jobs++];
        service->created++;
        snprintf(job->key, sizeof job->key, "%s", submit_job->job_key);
        snprintf(job->prompt, sizeof job->prompt, "%s", prompt);
        job->seed = spec->seed;
        snprintf(job->date, sizeof job->date, "%s", spec->date != NULL ? spec->date : "");
        job->refusing =
            service->script.refuse_method == NULL ||
            (spec->method != NULL && strcmp(spec->method, service->script.refuse_method) == 0);
    }
    job->stream = submit_job->stream && !service->script.forgets_streams;
    job->peer = *peer;
    Surefoot__JobAccepted accepted = SUREFOOT__JOB_ACCEPTED__INIT;
    accepted.job_key = job->key;
    accepted.has_duplicate = 1;
    accepted.duplicate = duplicate;
    Surefoot__ClientReply reply = SUREFOOT__CLIENT_REPLY__INIT;
    reply.accepted = &accepted;
    send_reply(service, peer, &reply, request_id);
}

static void fetch(struct fake_service *service, const struct channel_peer *peer,
                  const Surefoot__FetchJob *fetch_job, uint64_t request_id) {
    struct job *job = find_job(service, fetch_job->job_key);
    if (job != NULL && service->script.forget_asks > 0) {
        service->script.forget_asks--;
        job->closed = true;
        job = NULL;
    }
    if (job == NULL) {
        send_error(service, peer, request_id, STATUS_NOT_FOUND, "job_key");
    } else if (job->done && !service->script.forgets_streams) {
        send_result(service, peer, job, request_id);
    } else {
        job->stream = job->stream || fetch_job->stream;
        job->peer = *peer;
        Surefoot__JobProgress progress = SUREFOOT__JOB_PROGRESS__INIT;
        progress.job_key = job->key;
        progress.has_state = 1;
        progress.state = SUREFOOT__JOB_STATE__JOB_STATE_QUEUED;
        Surefoot__ClientReply reply = SUREFOOT__CLIENT_REPLY__INIT;
        reply.progress = &progress;
        send_reply(service, peer, &reply, request_id);
    }
}

static void send_status(struct fake_service *service, const struct channel_peer *peer,
                        uint64_t request_id) {
    Surefoot__ModelInfo policy = SUREFOOT__MODEL_INFO__INIT;
    policy.name = "policy";
    policy.role = "policy";
    policy.hash = "0123456789abcdef";
    Surefoot__ModelInfo *models[] = {&policy};
    Surefoot__GroupStatus group = SUREFOOT__GROUP_STATUS__INIT;
    group.name = "group-1";
    group.has_alive = 1;
    group.alive = service->script.alive_asks != 1;
    service->script.alive_asks -= service->script.alive_asks > 1;
    group.n_models = 1;
    group.models = models;
    Surefoot__GroupStatus *groups[] = {&group};
    Surefoot__ServiceStatus state = SUREFOOT__SERVICE_STATUS__INIT;
    state.version = "fake";
    state.n_groups = service->script.no_groups ? 0 : 1;
    state.groups = groups;
    Surefoot__ClientReply reply = SUREFOOT__CLIENT_REPLY__INIT;
    reply.status = &state;
    send_reply(service, peer, &reply, request_id);
}

// Cancel and close know the job or not.
static void acknowledge(struct fake_service *service, const struct channel_peer *peer, char *key,
                        bool close_it, uint64_t request_id) {
    struct job *job = find_job(service, key);
    if (job == NULL && !close_it) {
        send_error(service, peer, request_id, STATUS_NOT_FOUND, "job_key");
        return;
    }
    Surefoot__JobAccepted accepted = SUREFOOT__JOB_ACCEPTED__INIT;
    accepted.job_key = key;
    Surefoot__ClientReply reply = SUREFOOT__CLIENT_REPLY__INIT;
    if (close_it && job != NULL) {
        job->closed = true;
    }
    if (close_it != service->script.wrong_kind) {
        reply.closed = &accepted;
    } else {
        reply.cancelled = &accepted;
    }
    send_reply(service, peer, &reply, request_id);
}

static void list(struct fake_service *service, const struct channel_peer *peer, uint64_t after,
                 uint64_t request_id) {
    Surefoot__ListedJob jobs[PAGE_JOBS];
    Surefoot__ListedJob *list[PAGE_JOBS];
    Surefoot__JobList listed = SUREFOOT__JOB_LIST__INIT;
    int at = (int)after;
    for (; at < service->n_jobs && listed.n_jobs < PAGE_JOBS; at++) {
        const struct job *job = &service->jobs[at];
        if (job->closed) {
            continue;
        }
        Surefoot__ListedJob *row = list[listed.n_jobs] = &jobs[listed.n_jobs];
        surefoot__listed_job__init(row);
        row->job_key = (char *)job->key;
        row->has_state = row->has_accepted_ms = row->has_bytes = 1;
        row->state =
            job->done ? SUREFOOT__JOB_STATE__JOB_STATE_DONE : SUREFOOT__JOB_STATE__JOB_STATE_QUEUED;
        row->accepted_ms = 86400000;
        row->bytes = 77;
        row->has_done_ms = row->has_outcome = job->done;
        row->done_ms = 86401000;
        row->outcome = SUREFOOT__OUTCOME__OUTCOME_COMPLETED;
        listed.n_jobs++;
    }
    listed.jobs = list;
    listed.has_next = at < service->n_jobs;
    listed.next = (uint64_t)at;
    Surefoot__ClientReply reply = SUREFOOT__CLIENT_REPLY__INIT;
    reply.listed = &listed;
    send_reply(service, peer, &reply, request_id);
}

static void purge(struct fake_service *service, const struct channel_peer *peer,
                  uint64_t request_id) {
    Surefoot__JobsPurged purged = SUREFOOT__JOBS_PURGED__INIT;
    purged.has_purged = purged.has_more = 1;
    for (int i = 0; i < service->n_jobs && purged.purged < PAGE_JOBS; i++) {
        struct job *job = &service->jobs[i];
        purged.purged += job->done && !job->closed;
        job->closed = job->closed || job->done;
    }
    purged.more = purged.purged == PAGE_JOBS;
    Surefoot__ClientReply reply = SUREFOOT__CLIENT_REPLY__INIT;
    reply.purged = &purged;
    send_reply(service, peer, &reply, request_id);
}

static void handle(struct fake_service *service, const struct channel_peer *peer,
                   const Surefoot__ClientRequest *request) {
    uint64_t id = request->request_id;
    service->requests++;
    if (request->submit != NULL) {
        submit(service, peer, request->submit, id);
    } else if (request->fetch != NULL) {
        fetch(service, peer, request->fetch, id);
    } else if (request->cancel != NULL) {
        acknowledge(service, peer, request->cancel->job_key, false, id);
    } else if (request->close != NULL) {
        acknowledge(service, peer, request->close->job_key, true, id);
    } else if (request->status != NULL) {
        send_status(service, peer, id);
    } else if (service->script.refuses_admin) {
        send_error(service, peer, id, STATUS_PERMISSION, "request");
    } else if (request->list != NULL) {
        list(service, peer, request->list->after, id);
    } else {
        purge(service, peer, id);
    }
}

// Ends the jobs that may end, and pushes their results.
static void finish_jobs(struct fake_service *service) {
    for (int i = 0; i < service->n_jobs; i++) {
        struct job *job = &service->jobs[i];
        bool held = service->script.hold_results && !service->released;
        bool full =
            service->script.results_max > 0 && service->results >= service->script.results_max;
        if (!job->closed && !job->done && !held && !full) {
            job->done = true;
            service->results++;
        }
        if (job->done && !job->closed && job->stream && !job->pushed &&
            !service->script.silent_streams) {
            job->pushed = true;
            send_result(service, &job->peer, job, 0);
        }
    }
}

static void take_messages(struct fake_service *service) {
    struct channel_peer peer;
    uint8_t *bytes = NULL;
    size_t size = 0;
    while (channel_receive(service->channel, &peer, &bytes, &size) == STATUS_OK) {
        void *message = NULL;
        if (wire_unpack(WIRE_CLIENT_REQUEST, bytes, size, &message, NULL) != STATUS_OK) {
            abort();
        }
        free(bytes);
        handle(service, &peer, message);
        wire_free(WIRE_CLIENT_REQUEST, message);
    }
}

static void *serve(void *argument) {
    struct fake_service *service = argument;
    bool stopping = false;
    while (!stopping) {
        bool ready = false;
        enum status status = channel_poll(&service->channel, 1, -1, 5, &ready);
        if (status != STATUS_OK && status != STATUS_DEADLINE) {
            abort();
        }
        pthread_mutex_lock(&service->mutex);
        take_messages(service);
        finish_jobs(service);
        stopping = service->stopping;
        pthread_mutex_unlock(&service->mutex);
    }
    channel_close(service->channel);
    return NULL;
}

struct fake_service *fake_service_start(const char *endpoint, const struct fake_script *script) {
    struct fake_service *service = calloc(1, sizeof *service);
    assert_non_null(service);
    service->script = *script;
    pthread_mutex_init(&service->mutex, NULL);
    assert_ok(channel_context_create(&service->context), NULL);
    const struct channel_options options = {.message_bytes_max = LIMIT_CLIENT_MESSAGE_BYTES,
                                            .queue_depth_max = 100000};
    struct error err;
    assert_ok(channel_bind(service->context, endpoint, &options, &service->channel, &err), &err);
    assert_int_equal(pthread_create(&service->thread, NULL, serve, service), 0);
    return service;
}

void fake_service_stop(struct fake_service *service) {
    pthread_mutex_lock(&service->mutex);
    service->stopping = true;
    pthread_mutex_unlock(&service->mutex);
    pthread_join(service->thread, NULL);
    channel_context_destroy(service->context);
    pthread_mutex_destroy(&service->mutex);
    free(service);
}

const char *fake_service_endpoint(const struct fake_service *service) {
    return channel_endpoint(service->channel);
}

void fake_service_release(struct fake_service *service) {
    pthread_mutex_lock(&service->mutex);
    service->released = true;
    pthread_mutex_unlock(&service->mutex);
}

int fake_service_requests(struct fake_service *service) {
    pthread_mutex_lock(&service->mutex);
    int count = service->requests;
    pthread_mutex_unlock(&service->mutex);
    return count;
}

int fake_service_jobs(struct fake_service *service) {
    pthread_mutex_lock(&service->mutex);
    int count = service->created;
    pthread_mutex_unlock(&service->mutex);
    return count;
}

int fake_service_open(struct fake_service *service) {
    pthread_mutex_lock(&service->mutex);
    int count = 0;
    for (int i = 0; i < service->n_jobs; i++) {
        count += !service->jobs[i].closed;
    }
    pthread_mutex_unlock(&service->mutex);
    return count;
}
