// The groups' side: registration, heartbeats, orders out, gathered rows in.
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/deadline.h"
#include "common/log.h"
#include "coordinator/coordinator_internal.h"
#include "coordinator/order.h"

// How often living groups may leave one candidate's block undone (short of memory, whole orders
// refused).
enum {
    ATTEMPTS_MAX = 8,
    RELEASE_CHUNK = 256,
    SILENT_BEATS = 2,
    STALL_BEATS = 3,
    STALL_MIN_MS = 1000
};

static enum status send_bytes(struct coordinator *coordinator, const struct channel_peer *peer,
                              uint8_t *bytes, size_t size) {
    enum status status = channel_send(coordinator->group_channel, peer, bytes, size);
    free(bytes);
    return status;
}

static enum status send_command(struct coordinator *coordinator, const struct channel_peer *peer,
                                Surefoot__GroupCommand *command) {
    command->has_schema_major = true;
    command->schema_major = WIRE_SCHEMA_MAJOR;
    command->has_schema_minor = true;
    command->schema_minor = WIRE_SCHEMA_MINOR;
    uint8_t *bytes = NULL;
    size_t size = 0;
    enum status status = wire_pack(WIRE_GROUP_COMMAND, command, &bytes, &size);
    return status == STATUS_OK ? send_bytes(coordinator, peer, bytes, size) : status;
}

// Commands that need no answer: a leader that does not get one speaks again, or is lost soon.
static void tell(struct coordinator *coordinator, const struct channel_peer *peer,
                 Surefoot__GroupCommand *command) {
    enum status status = send_command(coordinator, peer, command);
    if (status != STATUS_OK) {
        log_debug("a command to a group is dropped: %s", status_text(status));
    }
}

static void reject(struct coordinator *coordinator, const struct channel_peer *peer,
                   const struct error *err) {
    Surefoot__ErrorInfo info;
    Surefoot__GroupCommand command = SUREFOOT__GROUP_COMMAND__INIT;
    wire_error_fill(&info, err);
    command.reject = &info;
    tell(coordinator, peer, &command);
}

// The end for a candidate that keeps coming back: its job fails.
static void give_up(struct coordinator *coordinator, const struct scheduler_item *item,
                    const struct error *cause) {
    struct job *job = job_table_find_id(coordinator->jobs, item->job_id);
    if (job != NULL && job->state == SUREFOOT__JOB_STATE__JOB_STATE_RUNNING) {
        struct error err;
        error_set(&err, cause->status, cause->field, "given up after %d attempts: %s", ATTEMPTS_MAX,
                  cause->message);
        coordinator_stop_job(coordinator, job, SUREFOOT__OUTCOME__OUTCOME_FAILED, &err);
    }
}

// Takes a group out of the schedule; its candidates go to others. `cause`: why it answers no more,
// when that may be its work's doing; NULL when it is not.
static void take_out(struct coordinator *coordinator, int group, const struct error *cause) {
    const struct scheduler_order *orders[SCHEDULER_ORDERS_MAX];
    size_t n = scheduler_get_orders(coordinator->scheduler, group, orders);
    if (cause != NULL) {
        faults_on_lost_orders(coordinator, orders, n, cause);
    }
    scheduler_remove_group(coordinator->scheduler, group);
}

static void lose(struct coordinator *coordinator, int group, bool at_work, const char *why) {
    struct error cause = {.status = STATUS_PEER_LOST};
    snprintf(cause.message, sizeof cause.message, "%s", why);
    log_limited(&coordinator->groups_log, LOG_LEVEL_WARN, "group %s is lost: %s",
                groups_get(coordinator->groups, group)->name, why);
    groups_lose(coordinator->groups, group, why);
    take_out(coordinator, group, at_work ? &cause : NULL);
}

static void welcome(struct coordinator *coordinator, const struct channel_peer *peer) {
    Surefoot__GroupWelcome message = SUREFOOT__GROUP_WELCOME__INIT;
    Surefoot__GroupCommand command = SUREFOOT__GROUP_COMMAND__INIT;
    message.has_heartbeat_ms = true;
    message.heartbeat_ms = (uint32_t)coordinator->options.heartbeat_ms;
    message.has_dead_after_ms = true;
    message.dead_after_ms = (uint32_t)coordinator->options.dead_after_ms;
    command.welcome = &message;
    tell(coordinator, peer, &command);
}

static void on_hello(struct coordinator *coordinator, const struct channel_peer *peer,
                     const Surefoot__GroupHello *hello) {
    const struct groups_hello args = {
        .peer = peer,
        .hello = hello,
        .idle = coordinator->n_running == 0,
        .now_ms = clock_monotonic_ms(),
        .silence_ms = SILENT_BEATS * (int64_t)coordinator->options.heartbeat_ms,
    };
    int known = groups_find(coordinator->groups, peer);
    int group = -1;
    int replaced = -1;
    struct error err = {0};
    if (known >= 0 && hello->name != NULL &&
        strcmp(groups_get(coordinator->groups, known)->name, hello->name) == 0 &&
        groups_get(coordinator->groups, known)->slots == hello->slots) {
        // Asked twice, it answers twice: the same process over the same connection.
        groups_seen(coordinator->groups, known, args.now_ms);
        welcome(coordinator, peer);
        return;
    }
    if (groups_add(coordinator->groups, &args, &group, &replaced, &err) != STATUS_OK) {
        log_limited(&coordinator->groups_log, LOG_LEVEL_WARN, "group %s is refused: %s %s",
                    hello->name != NULL ? hello->name : "?", err.field, err.message);
        reject(coordinator, peer, &err);
        if (known >= 0) {
            lose(coordinator, known, false, "its new hello was refused");
        }
        return;
    }
    if (replaced >= 0) {
        const struct error cause = {.status = STATUS_PEER_LOST,
                                    .message = "another process took its place"};
        take_out(coordinator, replaced, &cause);
    }
    if (known >= 0 && known != group) {
        lose(coordinator, known, false, "its leader took another name");
    }
    scheduler_add_group(coordinator->scheduler, group, hello->slots);
    welcome(coordinator, peer);
    log_limited(&coordinator->groups_log, LOG_LEVEL_INFO,
                "group %s joined: ranks %u, slots %u, policy %s", hello->name, hello->n_ranks,
                hello->slots, groups_models(coordinator->groups)->policy.name);
}

static bool is_refusal(enum status status) {
    return status == STATUS_LIMIT || status == STATUS_INVALID_ARGUMENT ||
           status == STATUS_UNSUPPORTED || status == STATUS_NOT_FOUND;
}

static void release_candidates(struct coordinator *coordinator, struct job *job) {
    uint64_t ids[RELEASE_CHUNK];
    size_t n;
    while ((n = job_take_released(job, ids, RELEASE_CHUNK)) > 0) {
        scheduler_release(coordinator->scheduler, job->id, ids, n);
    }
}

// Queues an item again, or ends its job when that has happened too often.
static void retry(struct coordinator *coordinator, struct scheduler_order *order, size_t index,
                  const struct error *cause) {
    struct scheduler_item *item = order->items[index];
    if (++item->attempts >= ATTEMPTS_MAX) {
        give_up(coordinator, item, cause);
        return;
    }
    scheduler_retry(coordinator->scheduler, order, index);
}

// A group names the members of its job; what a client set too is named as the client knows it.
static void name_for_client(struct error *err) {
    char member[ERROR_FIELD_BYTES];
    size_t length = strcspn(err->field, ".[");
    snprintf(member, sizeof member, "%.*s", (int)length, err->field);
    if (protobuf_c_message_descriptor_get_field_by_name(&surefoot__job_spec__descriptor, member) !=
        NULL) {
        error_prefix_field(err, "spec");
    }
}

// A row that says why its candidate was not grown. False when the group was short of memory.
static bool on_error_row(struct coordinator *coordinator, struct scheduler_order *order,
                         size_t index, struct job *job, const Surefoot__Row *row) {
    struct error err = {0};
    wire_error_read(row->error, &err);
    name_for_client(&err);
    if (err.status == STATUS_UNAVAILABLE) {
        retry(coordinator, order, index, &err);
        return false;
    }
    if (is_refusal(err.status)) {
        coordinator_stop_job(coordinator, job, SUREFOOT__OUTCOME__OUTCOME_REJECTED, &err);
    } else {
        faults_on_bad_row(coordinator, order, index, false, &err);
    }
    return true;
}

// Takes item `index`'s row. False when the group was short of memory.
static bool on_row(struct coordinator *coordinator, struct scheduler_order *order, size_t index,
                   const Surefoot__Row *row) {
    struct scheduler_item *item = order->items[index];
    struct job *job = job_table_find_id(coordinator->jobs, item->job_id);
    if (job == NULL || job->state != SUREFOOT__JOB_STATE__JOB_STATE_RUNNING) {
        return true; // ended while the order was out
    }
    if (row->error != NULL) {
        return on_error_row(coordinator, order, index, job, row);
    }
    struct error err = {0};
    enum status status = job_on_row(job, row, &err);
    if (status == STATUS_MALFORMED) {
        faults_on_bad_row(coordinator, order, index, true, &err);
        return true;
    }
    if (status != STATUS_OK) {
        log_limited(&coordinator->jobs_log, LOG_LEVEL_ERROR,
                    "job %" PRIu64 ": a row cannot be taken: %s", job->id, err.message);
        coordinator_stop_job(coordinator, job, SUREFOOT__OUTCOME__OUTCOME_FAILED, &err);
        return true;
    }
    groups_get(coordinator->groups, order->group)->tokens += row->n_token_ids;
    faults_on_good_row(coordinator, job, item, order->group);
    scheduler_place(coordinator->scheduler, item, order->group);
    release_candidates(coordinator, job);
    if (search_is_done(job->search)) {
        coordinator_finish_job(coordinator, job);
    }
    return true;
}

// The row of item `index`: rows come in item order, but nothing depends on it.
static const Surefoot__Row *find_row(const Surefoot__Gathered *gathered,
                                     const struct scheduler_item *item, size_t index) {
    for (size_t i = 0; i < gathered->n_rows; i++) {
        const Surefoot__Row *row = gathered->rows[(index + i) % gathered->n_rows];
        if (row->job_id == item->job_id && row->candidate_id == item->candidate_id) {
            return row;
        }
    }
    return NULL;
}

// A list of jobs with a number of tokens each, of a Gathered.
struct job_tokens {
    const char *name;
    const uint64_t *jobs, *tokens;
    size_t n_jobs, n_tokens;
    size_t count; // offset in struct job of what they are added to
};

static void count_tokens(struct coordinator *coordinator, const struct job_tokens *list) {
    if (list->n_jobs != list->n_tokens) {
        log_limited(&coordinator->groups_log, LOG_LEVEL_WARN,
                    "gathered.%s: %zu jobs with %zu numbers of tokens; none is counted", list->name,
                    list->n_jobs, list->n_tokens);
        return;
    }
    for (size_t i = 0; i < list->n_jobs; i++) {
        struct job *job = job_table_find_id(coordinator->jobs, list->jobs[i]);
        if (job != NULL && job->state == SUREFOOT__JOB_STATE__JOB_STATE_RUNNING) {
            *(uint64_t *)(void *)((char *)job + list->count) += list->tokens[i];
        }
    }
}

// Before the rows, of which one may end a job.
static void count_all(struct coordinator *coordinator, const Surefoot__Gathered *gathered) {
    const struct job_tokens lists[] = {
        {.name = "rebuilt_jobs",
         .jobs = gathered->rebuilt_jobs,
         .tokens = gathered->rebuilt_job_tokens,
         .n_jobs = gathered->n_rebuilt_jobs,
         .n_tokens = gathered->n_rebuilt_job_tokens,
         .count = offsetof(struct job, rebuilt_tokens)},
        {.name = "scored_jobs",
         .jobs = gathered->scored_jobs,
         .tokens = gathered->scored_job_tokens,
         .n_jobs = gathered->n_scored_jobs,
         .n_tokens = gathered->n_scored_job_tokens,
         .count = offsetof(struct job, scored_tokens)},
    };
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        count_tokens(coordinator, &lists[i]);
    }
}

static void on_gathered(struct coordinator *coordinator, int group,
                        const Surefoot__Gathered *gathered) {
    struct scheduler_order *order =
        scheduler_finish_order(coordinator->scheduler, group, gathered->order_id);
    if (order == NULL) {
        log_debug("order %" PRIu64 " comes back late", gathered->order_id);
        return;
    }
    groups_count_order(coordinator->groups, group, gathered);
    count_all(coordinator, gathered);
    struct error cause = {.status = STATUS_UNAVAILABLE, .message = "the group gave no row for it"};
    if (gathered->error != NULL) {
        wire_error_read(gathered->error, &cause);
        log_limited(&coordinator->groups_log, LOG_LEVEL_WARN, "group %s failed an order: %s",
                    groups_get(coordinator->groups, group)->name, cause.message);
    }
    bool is_lost =
        gathered->error != NULL && !is_refusal(cause.status); // the group is about to leave
    if (is_lost) {
        const struct scheduler_order *orders[1 + SCHEDULER_ORDERS_MAX] = {order};
        size_t n = scheduler_get_orders(coordinator->scheduler, group, orders + 1);
        faults_on_lost_orders(coordinator, orders, 1 + n, &cause);
    }
    for (size_t i = 0; i < gathered->n_unknown_jobs; i++) {
        scheduler_forget_job(coordinator->scheduler, group, gathered->unknown_jobs[i]);
    }
    uint32_t grown = 0;
    // Backwards, so that what is queued again keeps its order.
    for (size_t i = order->n_items; i > 0; i--) {
        const Surefoot__Row *row = find_row(gathered, order->items[i - 1], i - 1);
        if (is_lost) {
            scheduler_retry(coordinator->scheduler, order, i - 1);
        } else if (row == NULL || scheduler_must_tell(coordinator->scheduler, group, row->job_id)) {
            retry(coordinator, order, i - 1, &cause);
        } else if (on_row(coordinator, order, i - 1, row)) {
            grown++;
        }
    }
    if (grown < order->n_items && gathered->n_unknown_jobs == 0) {
        scheduler_limit_group(coordinator->scheduler, group,
                              grown > 0 ? grown : (uint32_t)order->n_items / 2);
    }
    scheduler_order_destroy(order);
    faults_judge(coordinator);
}

// The group, or one of its ranks, gives no sign of life: others do its order, if there are any;
// otherwise it is waited for.
static void stall(struct coordinator *coordinator, int group, const struct error *cause) {
    struct group *member = groups_get(coordinator->groups, group);
    if (!member->stalled) {
        log_limited(&coordinator->groups_log, LOG_LEVEL_WARN, "group %s is stalled: %s",
                    member->name, cause->message);
    }
    if (member->set_aside) {
        return;
    }
    groups_stall(coordinator->groups, group, cause->message);
    if (!member->is_out && groups_serving(coordinator->groups) > 0) {
        take_out(coordinator, group, cause);
        member->is_out = true;
    }
}

static void check_silence(struct coordinator *coordinator, int group, int64_t now_ms) {
    const struct group *member = groups_get(coordinator->groups, group);
    int64_t beats_ms = STALL_BEATS * (int64_t)coordinator->options.heartbeat_ms;
    int64_t silent_ms = now_ms - member->last_seen_ms;
    if (silent_ms >= (beats_ms > STALL_MIN_MS ? beats_ms : STALL_MIN_MS)) {
        struct error cause;
        error_set(&cause, STATUS_PEER_LOST, NULL, "it gives no sign of life for %" PRId64 " ms",
                  silent_ms);
        stall(coordinator, group, &cause);
    }
}

static void on_heartbeat(struct coordinator *coordinator, int group,
                         const Surefoot__Heartbeat *heartbeat) {
    struct group *member = groups_get(coordinator->groups, group);
    if (heartbeat->has_stalled_rank) {
        struct error cause;
        error_set(&cause, STATUS_PEER_LOST, NULL,
                  "rank %u gives no sign of life for %" PRIu64 " ms", heartbeat->stalled_rank,
                  heartbeat->stalled_ms);
        stall(coordinator, group, &cause);
    } else if (member->stalled) {
        log_limited(&coordinator->groups_log, LOG_LEVEL_INFO, "group %s goes on", member->name);
        member->stalled = false;
        if (member->is_out && !member->set_aside) {
            member->is_out = false;
            scheduler_add_group(coordinator->scheduler, group, member->slots);
        }
    }
}

static void on_known(struct coordinator *coordinator, int group,
                     const Surefoot__GroupMessage *message) {
    groups_seen(coordinator->groups, group, clock_monotonic_ms());
    if (message->heartbeat != NULL) {
        on_heartbeat(coordinator, group, message->heartbeat);
    }
    if (message->gathered != NULL) {
        on_gathered(coordinator, group, message->gathered);
    }
    if (message->goodbye != NULL) {
        const char *reason = message->goodbye->reason;
        bool stopped = reason != NULL && strcmp(reason, "stopped") == 0;
        lose(coordinator, group, !stopped, reason != NULL ? reason : "it said goodbye");
    }
}

static void on_stranger(struct coordinator *coordinator, const struct channel_peer *peer,
                        const Surefoot__GroupMessage *message) {
    if (message->goodbye != NULL) {
        return;
    }
    Surefoot__GroupCommand command = SUREFOOT__GROUP_COMMAND__INIT;
    command.has_say_hello = true;
    command.say_hello = true;
    tell(coordinator, peer, &command);
}

void leaders_on_message(struct coordinator *coordinator, const struct channel_peer *peer,
                        const uint8_t *bytes, size_t size) {
    int group = groups_find(coordinator->groups, peer);
    struct error err = {0};
    void *unpacked = NULL;
    enum status status = STATUS_OK;
    if (group < 0 && size > LIMIT_GROUP_HELLO_BYTES) {
        status = error_set(&err, STATUS_LIMIT, "message",
                           "%zu bytes of one that is no group yet, the limit is %d", size,
                           LIMIT_GROUP_HELLO_BYTES);
        log_limited(&coordinator->groups_log, LOG_LEVEL_WARN, "a stranger is refused: %s",
                    err.message);
    } else {
        status = wire_unpack(WIRE_GROUP_MESSAGE, bytes, size, &unpacked, &err);
    }
    Surefoot__GroupMessage *message = unpacked;
    if (status == STATUS_OK) {
        status = wire_check_version(message->schema_major, message->schema_minor, &err);
    }
    if (status == STATUS_OK && message->hello != NULL &&
        message->schema_minor < WIRE_SCHEMA_MINOR) {
        status = error_set(&err, STATUS_VERSION, "schema_minor",
                           "the group speaks schema %u.%u and would not do all that orders say: "
                           "%d.%d or newer is needed",
                           message->schema_major, message->schema_minor, WIRE_SCHEMA_MAJOR,
                           WIRE_SCHEMA_MINOR);
    }
    if (status != STATUS_OK) {
        // Its order may have been in there: better to do it again elsewhere than to wait for it.
        reject(coordinator, peer, &err);
        if (group >= 0) {
            lose(coordinator, group, true, err.message);
        }
    } else if (message->hello != NULL) {
        on_hello(coordinator, peer, message->hello);
    } else if (group >= 0) {
        on_known(coordinator, group, message);
    } else {
        on_stranger(coordinator, peer, message);
    }
    wire_free(WIRE_GROUP_MESSAGE, message);
}

void leaders_tick(struct coordinator *coordinator, int64_t now_ms) {
    int group;
    while ((group = groups_overdue(coordinator->groups, now_ms,
                                   coordinator->options.dead_after_ms)) >= 0) {
        lose(coordinator, group, true, "no sign of life");
    }
    if (now_ms < coordinator->next_beat_ms) {
        return;
    }
    coordinator->next_beat_ms = now_ms + coordinator->options.heartbeat_ms;
    for (int g = 0; g < LIMIT_GROUPS; g++) {
        const struct group *member = groups_get(coordinator->groups, g);
        if (member != NULL && member->alive) {
            check_silence(coordinator, g, now_ms);
            Surefoot__Heartbeat heartbeat = SUREFOOT__HEARTBEAT__INIT;
            Surefoot__GroupCommand command = SUREFOOT__GROUP_COMMAND__INIT;
            command.heartbeat = &heartbeat;
            tell(coordinator, &member->peer, &command);
        }
    }
}

void leaders_dispatch(struct coordinator *coordinator) {
    if (scheduler_dispatch(coordinator->scheduler) != STATUS_OK) {
        log_limited(&coordinator->groups_log, LOG_LEVEL_ERROR,
                    "no memory for an order; tried again");
    }
    for (int g = 0; g < LIMIT_GROUPS; g++) {
        const struct scheduler_order *order = scheduler_take_order(coordinator->scheduler, g);
        if (order == NULL) {
            continue;
        }
        const struct group *group = groups_get(coordinator->groups, g);
        uint8_t *bytes = NULL;
        size_t size = 0;
        enum status status =
            order_pack(coordinator->scheduler, order, coordinator->jobs, &bytes, &size);
        if (status == STATUS_OK) {
            status = send_bytes(coordinator, &group->peer, bytes, size);
        }
        if (status != STATUS_OK) {
            lose(coordinator, g, false, status_text(status));
        }
    }
}
