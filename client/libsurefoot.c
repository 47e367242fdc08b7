// Requests and answers of the client. What a followed job's news is kept in stands in streams.c.
#include "client/surefoot.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "client/streams.h"
#include "common/deadline.h"
#include "proto/channel.h"
#include "proto/wire.h"

enum {
    RESEND_DEFAULT_MS = 2000,
    RESEND_MAX_MS = 60000,
    RESEND_LONGEST_MS = 10000, // the interval doubles up to here
    ASK_DEFAULT_MS = 5000,
    ASK_MAX_MS = 600000,
    FETCH_SLICE_MS = 5000, // one question of a long wait, so that a lost connection costs no more
};

struct surefoot_client {
    struct channel_context *context;
    struct channel *channel;
    struct streams streams;
    uint64_t last_request_id;
    int32_t resend_ms;
    int32_t ask_ms;
    int wake_fd;
};

static enum status read_interval(int32_t value, int32_t fallback, int32_t max, const char *field,
                                 int32_t *out, struct error *err) {
    if (value != 0 && (value < 10 || value > max)) {
        return error_set(err, STATUS_INVALID_ARGUMENT, field, "%d is outside [10, %d]", value, max);
    }
    *out = value == 0 ? fallback : value;
    return STATUS_OK;
}

enum status surefoot_client_open(const char *endpoint, const struct surefoot_options *options,
                                 struct surefoot_client **out, struct error *err) {
    struct surefoot_options given =
        options != NULL ? *options : (struct surefoot_options){.wake_fd = -1};
    struct surefoot_client *client = calloc(1, sizeof *client);
    if (client == NULL) {
        return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for a client");
    }
    client->wake_fd = given.wake_fd;
    enum status status = read_interval(given.resend_ms, RESEND_DEFAULT_MS, RESEND_MAX_MS,
                                       "resend_ms", &client->resend_ms, err);
    if (status == STATUS_OK) {
        status =
            read_interval(given.ask_ms, ASK_DEFAULT_MS, ASK_MAX_MS, "ask_ms", &client->ask_ms, err);
    }
    if (status == STATUS_OK) {
        status = channel_context_create(&client->context);
        if (status != STATUS_OK) {
            error_set(err, status, NULL, "cannot start the message layer");
        }
    }
    if (status == STATUS_OK) {
        const struct channel_options channel_options = {
            .message_bytes_max = LIMIT_CLIENT_MESSAGE_BYTES,
            .queue_depth_max = 2 * SUREFOOT_STREAMS_MAX,
        };
        status =
            channel_connect(client->context, endpoint, &channel_options, &client->channel, err);
    }
    if (status != STATUS_OK) {
        surefoot_client_close(client);
        return status;
    }
    *out = client;
    return STATUS_OK;
}

void surefoot_client_close(struct surefoot_client *client) {
    if (client == NULL) {
        return;
    }
    channel_close(client->channel);
    channel_context_destroy(client->context);
    streams_finish(&client->streams);
    free(client);
}

void surefoot_make_key(char job_key[SUREFOOT_KEY_BYTES]) {
    uint8_t bits[16];
    // Up to 256 bytes are given whole once the kernel's generator is ready.
    ASSERT(getrandom(bits, sizeof bits, 0) == (ssize_t)sizeof bits);
    for (size_t i = 0; i < sizeof bits; i++) {
        snprintf(job_key + 2 * i, 3, "%02x", bits[i]);
    }
}

// Packs a request under a fresh request_id, and checks the text that came from the caller.
static enum status pack_request(struct surefoot_client *client, Surefoot__ClientRequest *request,
                                uint8_t **bytes, size_t *size, struct error *err) {
    request->has_schema_major = true;
    request->schema_major = WIRE_SCHEMA_MAJOR;
    request->has_schema_minor = true;
    request->schema_minor = WIRE_SCHEMA_MINOR;
    request->has_request_id = true;
    request->request_id = ++client->last_request_id;
    enum status status = wire_pack(WIRE_CLIENT_REQUEST, request, bytes, size);
    if (status == STATUS_LIMIT) {
        return error_set(err, status, "message", "the request is above the limit of %d bytes",
                         LIMIT_CLIENT_MESSAGE_BYTES);
    }
    if (status != STATUS_OK) {
        return error_set(err, status, NULL, "no memory for the request");
    }
    status = wire_check(WIRE_CLIENT_REQUEST, *bytes, *size, err);
    if (status != STATUS_OK) {
        free(*bytes);
        *bytes = NULL;
    }
    return status;
}

// Waits for one message, at most timeout_ms. STATUS_DEADLINE: none, or one that is no reply.
static enum status next_reply(struct surefoot_client *client, int timeout_ms,
                              Surefoot__ClientReply **reply, struct error *err) {
    bool ready = false;
    enum status status = channel_poll(&client->channel, 1, client->wake_fd, timeout_ms, &ready);
    if (status == STATUS_OK && !ready) {
        return error_set(err, STATUS_CANCELLED, NULL, "interrupted");
    }
    if (status != STATUS_OK) {
        return status;
    }
    uint8_t *bytes = NULL;
    size_t size = 0;
    status = channel_receive(client->channel, NULL, &bytes, &size);
    if (status != STATUS_OK) {
        return status == STATUS_NOT_FOUND ? STATUS_DEADLINE : status;
    }
    void *message = NULL;
    struct error ignored;
    status = wire_unpack(WIRE_CLIENT_REPLY, bytes, size, &message, &ignored);
    free(bytes);
    if (status != STATUS_OK) {
        return STATUS_DEADLINE;
    }
    Surefoot__ClientReply *unpacked = message;
    status = wire_check_version(unpacked->schema_major, unpacked->schema_minor, err);
    if (status != STATUS_OK) {
        wire_free(WIRE_CLIENT_REPLY, message);
        return status;
    }
    *reply = unpacked;
    return STATUS_OK;
}

// News of followed jobs: pushes, and answers to questions after silent ones. Frees the reply.
static void take_news(struct surefoot_client *client, Surefoot__ClientReply *reply) {
    struct stream *asked =
        reply->request_id == 0 ? NULL : streams_find_ask(&client->streams, reply->request_id);
    if (asked != NULL) {
        asked->ask_id = 0;
        asked->lost = reply->error != NULL && reply->error->status == STATUS_NOT_FOUND;
    }
    streams_put(&client->streams, reply);
    wire_free(WIRE_CLIENT_REPLY, reply);
}

// One request until its answer: sends it, and again after first_resend_ms and then ever more
// rarely. Returns the owned reply, or the error that it holds.
static enum status call(struct surefoot_client *client, Surefoot__ClientRequest *request,
                        int64_t timeout_ms, int64_t first_resend_ms, Surefoot__ClientReply **out,
                        struct error *err) {
    uint8_t *bytes = NULL;
    size_t size = 0;
    enum status status = pack_request(client, request, &bytes, &size, err);
    if (status != STATUS_OK) {
        return status;
    }
    int64_t deadline = deadline_after_ms(timeout_ms);
    int64_t interval = first_resend_ms;
    int64_t resend = clock_monotonic_ms();
    Surefoot__ClientReply *reply = NULL;
    status = STATUS_DEADLINE;
    while (status == STATUS_DEADLINE && !deadline_passed(deadline)) {
        if (deadline_passed(resend)) {
            // A full queue means that nothing has left for long; the next turn tries again.
            enum status sent = channel_send(client->channel, NULL, bytes, size);
            if (sent != STATUS_OK && sent != STATUS_UNAVAILABLE) {
                status = error_set(err, sent, NULL, "cannot send: %s", status_text(sent));
                break;
            }
            resend = deadline_after_ms(interval);
            interval = 2 * interval < RESEND_LONGEST_MS ? 2 * interval : RESEND_LONGEST_MS;
        }
        status = next_reply(client, deadline_left_ms(deadline < resend ? deadline : resend), &reply,
                            err);
        bool ours = status == STATUS_OK && (reply->request_id == request->request_id ||
                                            (reply->request_id == 0 && reply->error != NULL));
        if (status == STATUS_OK && !ours) {
            take_news(client, reply);
            status = STATUS_DEADLINE;
        }
    }
    free(bytes);
    if (status == STATUS_DEADLINE) {
        return error_set(err, status, NULL, "no answer from %s within %lld ms",
                         channel_endpoint(client->channel), (long long)timeout_ms);
    }
    if (status == STATUS_OK && reply->error != NULL) {
        struct error told;
        wire_error_read(reply->error, &told);
        status = told.status == STATUS_OK ? STATUS_INTERNAL : told.status;
        error_set(err, status, told.field, "%s", told.message);
        wire_free(WIRE_CLIENT_REPLY, reply);
    } else if (status == STATUS_OK) {
        *out = reply;
    }
    return status;
}

static enum status check_key(const char *job_key, struct error *err) {
    size_t length = strlen(job_key);
    if (length == 0 || length > LIMIT_JOB_KEY_BYTES) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "job_key", "%zu bytes, not 1 to %d", length,
                         LIMIT_JOB_KEY_BYTES);
    }
    return STATUS_OK;
}

static enum status refuse_kind(struct error *err) {
    return error_set(err, STATUS_MALFORMED, NULL, "the service's answer is of another kind");
}

// As call(), and takes the answer out of the reply: the member at the offset `place` in
// Surefoot__ClientReply. Returns it owned. STATUS_MALFORMED: the reply has another member.
static enum status ask(struct surefoot_client *client, Surefoot__ClientRequest *request,
                       int32_t timeout_ms, size_t place, void *out, struct error *err) {
    // A purge is sent once: the answer to a repetition would count what the repetition dropped.
    int32_t first_resend_ms = request->purge != NULL ? timeout_ms : client->resend_ms;
    Surefoot__ClientReply *reply = NULL;
    enum status status = call(client, request, timeout_ms, first_resend_ms, &reply, err);
    if (status != STATUS_OK) {
        return status;
    }
    void *answer = NULL;
    memcpy(&answer, (char *)reply + place, sizeof answer);
    memset((char *)reply + place, 0, sizeof answer);
    wire_free(WIRE_CLIENT_REPLY, reply);
    if (answer == NULL) {
        return refuse_kind(err);
    }
    memcpy(out, &answer, sizeof answer);
    return STATUS_OK;
}

enum status surefoot_submit(struct surefoot_client *client, const struct surefoot_submit *args,
                            char job_key_out[SUREFOOT_KEY_BYTES], bool *duplicate,
                            struct error *err) {
    if (args->job_key == NULL) {
        surefoot_make_key(job_key_out);
    } else {
        enum status status = check_key(args->job_key, err);
        if (status != STATUS_OK) {
            return status;
        }
        memcpy(job_key_out, args->job_key, strlen(args->job_key) + 1);
    }
    // Followed from before it is sent: its first news may overtake the acknowledgement.
    bool followed = streams_find(&client->streams, job_key_out) != NULL;
    if (args->follow) {
        enum status status = streams_add(&client->streams, job_key_out, err);
        if (status != STATUS_OK) {
            return status;
        }
    }
    Surefoot__SubmitJob submit = SUREFOOT__SUBMIT_JOB__INIT;
    submit.job_key = job_key_out;
    submit.spec = (Surefoot__JobSpec *)args->spec; // packing only reads
    submit.has_stream = true;
    submit.stream = args->follow;
    Surefoot__ClientRequest request = SUREFOOT__CLIENT_REQUEST__INIT;
    request.submit = &submit;
    Surefoot__JobAccepted *accepted = NULL;
    enum status status = ask(client, &request, args->timeout_ms,
                             offsetof(Surefoot__ClientReply, accepted), &accepted, err);
    if (status == STATUS_OK) {
        if (duplicate != NULL) {
            *duplicate = accepted->duplicate;
        }
        if (args->follow && accepted->duplicate) {
            // It may have ended long ago, with nothing left to be pushed: ask at once.
            streams_find(&client->streams, job_key_out)->heard_ms = 0;
        }
        surefoot__job_accepted__free_unpacked(accepted, NULL);
    }
    if (status != STATUS_OK && args->follow && !followed) {
        streams_remove(&client->streams, job_key_out);
    }
    return status;
}

enum status surefoot_fetch(struct surefoot_client *client, const char *job_key, int64_t wait_ms,
                           int32_t timeout_ms, Surefoot__JobResult **result, struct error *err) {
    ASSERT(wait_ms >= 0);
    enum status status = check_key(job_key, err);
    int64_t deadline = deadline_after_ms(wait_ms);
    Surefoot__JobResult *found = NULL;
    bool waited = false;
    while (status == STATUS_OK && found == NULL && !(waited && deadline_passed(deadline))) {
        int left = deadline_left_ms(deadline);
        Surefoot__FetchJob fetch = SUREFOOT__FETCH_JOB__INIT;
        fetch.job_key = (char *)job_key;
        fetch.has_wait_ms = true;
        fetch.wait_ms = (uint32_t)(left < FETCH_SLICE_MS ? left : FETCH_SLICE_MS);
        Surefoot__ClientRequest request = SUREFOOT__CLIENT_REQUEST__INIT;
        request.fetch = &fetch;
        Surefoot__ClientReply *reply = NULL;
        // The answer may rightly take wait_ms; only after that is the question lost.
        status = call(client, &request, (int64_t)fetch.wait_ms + timeout_ms,
                      (int64_t)fetch.wait_ms + client->resend_ms, &reply, err);
        if (status == STATUS_OK) {
            status = reply->result == NULL && reply->progress == NULL ? refuse_kind(err) : status;
            found = reply->result;
            reply->result = NULL;
            wire_free(WIRE_CLIENT_REPLY, reply);
        }
        waited = true;
    }
    if (status == STATUS_OK) {
        *result = found;
    }
    return status;
}

// ask() where the answer says no more than that it is done.
static enum status settle(struct surefoot_client *client, Surefoot__ClientRequest *request,
                          int32_t timeout_ms, size_t place, struct error *err) {
    Surefoot__JobAccepted *done = NULL;
    enum status status = ask(client, request, timeout_ms, place, &done, err);
    if (status == STATUS_OK) {
        surefoot__job_accepted__free_unpacked(done, NULL);
    }
    return status;
}

enum status surefoot_cancel(struct surefoot_client *client, const char *job_key, int32_t timeout_ms,
                            struct error *err) {
    enum status status = check_key(job_key, err);
    if (status != STATUS_OK) {
        return status;
    }
    Surefoot__CancelJob cancel = SUREFOOT__CANCEL_JOB__INIT;
    cancel.job_key = (char *)job_key;
    Surefoot__ClientRequest request = SUREFOOT__CLIENT_REQUEST__INIT;
    request.cancel = &cancel;
    return settle(client, &request, timeout_ms, offsetof(Surefoot__ClientReply, cancelled), err);
}

enum status surefoot_close_job(struct surefoot_client *client, const char *job_key,
                               int32_t timeout_ms, struct error *err) {
    enum status status = check_key(job_key, err);
    if (status != STATUS_OK) {
        return status;
    }
    Surefoot__CloseJob close_job = SUREFOOT__CLOSE_JOB__INIT;
    close_job.job_key = (char *)job_key;
    Surefoot__ClientRequest request = SUREFOOT__CLIENT_REQUEST__INIT;
    request.close = &close_job;
    return settle(client, &request, timeout_ms, offsetof(Surefoot__ClientReply, closed), err);
}

enum status surefoot_status(struct surefoot_client *client, int32_t timeout_ms,
                            Surefoot__ServiceStatus **out, struct error *err) {
    Surefoot__GetStatus get = SUREFOOT__GET_STATUS__INIT;
    Surefoot__ClientRequest request = SUREFOOT__CLIENT_REQUEST__INIT;
    request.status = &get;
    return ask(client, &request, timeout_ms, offsetof(Surefoot__ClientReply, status), out, err);
}

enum status surefoot_list(struct surefoot_client *client, uint64_t after, uint32_t limit,
                          int32_t timeout_ms, Surefoot__JobList **out, struct error *err) {
    Surefoot__ListJobs list = SUREFOOT__LIST_JOBS__INIT;
    list.has_after = list.has_limit = true;
    list.after = after;
    list.limit = limit;
    Surefoot__ClientRequest request = SUREFOOT__CLIENT_REQUEST__INIT;
    request.list = &list;
    return ask(client, &request, timeout_ms, offsetof(Surefoot__ClientReply, listed), out, err);
}

enum status surefoot_purge(struct surefoot_client *client, uint64_t older_than_ms,
                           int32_t timeout_ms, uint32_t *purged, bool *more, struct error *err) {
    Surefoot__PurgeJobs purge = SUREFOOT__PURGE_JOBS__INIT;
    purge.has_older_than_ms = true;
    purge.older_than_ms = older_than_ms;
    Surefoot__ClientRequest request = SUREFOOT__CLIENT_REQUEST__INIT;
    request.purge = &purge;
    Surefoot__JobsPurged *answer = NULL;
    enum status status =
        ask(client, &request, timeout_ms, offsetof(Surefoot__ClientReply, purged), &answer, err);
    if (status == STATUS_OK) {
        *purged = answer->purged;
        *more = answer->more;
        surefoot__jobs_purged__free_unpacked(answer, NULL);
    }
    return status;
}

// Asks after a silent job without waiting; what comes back is news like any other. A service that
// was started anew does not know who followed what: asking is also following again.
static enum status ask_after(struct surefoot_client *client, struct stream *row,
                             struct error *err) {
    Surefoot__FetchJob fetch = SUREFOOT__FETCH_JOB__INIT;
    fetch.job_key = row->job_key;
    fetch.has_stream = true;
    fetch.stream = true;
    Surefoot__ClientRequest request = SUREFOOT__CLIENT_REQUEST__INIT;
    request.fetch = &fetch;
    uint8_t *bytes = NULL;
    size_t size = 0;
    enum status status = pack_request(client, &request, &bytes, &size, err);
    if (status != STATUS_OK) {
        return status;
    }
    row->ask_id = request.request_id;
    row->heard_ms = clock_monotonic_ms();
    status = channel_send(client->channel, NULL, bytes, size);
    free(bytes);
    if (status != STATUS_OK && status != STATUS_UNAVAILABLE) {
        return error_set(err, status, NULL, "cannot send: %s", status_text(status));
    }
    return STATUS_OK;
}

enum status surefoot_next_event(struct surefoot_client *client, int32_t timeout_ms,
                                struct surefoot_event *event, struct error *err) {
    int64_t deadline = deadline_after_ms(timeout_ms);
    enum status status = STATUS_DEADLINE;
    do {
        if (streams_take(&client->streams, event)) {
            return STATUS_OK;
        }
        struct stream *silent = streams_most_silent(&client->streams);
        if (silent == NULL) {
            return error_set(err, STATUS_NOT_FOUND, NULL, "no job is followed");
        }
        int64_t ask = silent->heard_ms + client->ask_ms;
        if (deadline_passed(ask)) {
            status = ask_after(client, silent, err);
            if (status != STATUS_OK) {
                return status;
            }
            ask = silent->heard_ms + client->ask_ms;
        }
        Surefoot__ClientReply *reply = NULL;
        status = next_reply(client, deadline_left_ms(deadline < ask ? deadline : ask), &reply, err);
        if (status == STATUS_OK) {
            take_news(client, reply);
        }
    } while (status == STATUS_OK || (status == STATUS_DEADLINE && !deadline_passed(deadline)));
    if (status == STATUS_DEADLINE) {
        return error_set(err, status, NULL, "no news within %d ms", timeout_ms);
    }
    return status;
}

int surefoot_followed_count(const struct surefoot_client *client) {
    return client->streams.count;
}

void surefoot_result_free(Surefoot__JobResult *result) {
    wire_free(WIRE_JOB_RESULT, result);
}

void surefoot_status_free(Surefoot__ServiceStatus *status) {
    if (status != NULL) {
        surefoot__service_status__free_unpacked(status, NULL);
    }
}

void surefoot_list_free(Surefoot__JobList *list) {
    if (list != NULL) {
        surefoot__job_list__free_unpacked(list, NULL);
    }
}

const char *surefoot_outcome_name(Surefoot__Outcome outcome) {
    const ProtobufCEnumValue *value =
        protobuf_c_enum_descriptor_get_value(&surefoot__outcome__descriptor, (int)outcome);
    return value == NULL ? "UNKNOWN" : value->name + strlen("OUTCOME_");
}
