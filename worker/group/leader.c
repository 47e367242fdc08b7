#include "worker/group/leader.h"

#include <poll.h>
#include <stdlib.h>

#include "common/deadline.h"
#include "common/log.h"
#include "proto/channel.h"
#include "proto/limits.h"
#include "worker/group/dispatch.h"

enum {
    IDLE_ORDER_MS = 1000,      // followers' sign of life
    HELLO_WAIT_MS = 1000,      // for an answer to hello, doubled up to
    HELLO_WAIT_MAX_MS = 16000, // this while there is none
    DEAD_AFTER_FACTOR = 10,    // heartbeats, where the welcome does not say
    HEARTBEAT_MAX_MS = 60000,
    DEAD_AFTER_MAX_MS = 3600000,
    STALL_BEATS = 3,         // a rank that gives no sign of life for so long is said to be stalled,
    STALL_MIN_MS = 200,      // for so long at least,
    STALL_LEARNED_BEATS = 20 // or for twice as long as it once took and then went on, up to here
};

enum session {
    SESSION_CLOSED,   // until_ms: when to connect
    SESSION_GREETED,  // hello was sent; until_ms: when to connect anew
    SESSION_WELCOMED, // until_ms: when the coordinator counts as gone
};

struct leader {
    const struct leader_options *options;
    struct comm *comm;
    struct rank *rank;
    struct dispatch *dispatch;
    struct channel_context *context;
    struct channel *channel; // NULL while closed
    Surefoot__GroupHello hello;
    enum session session;
    int64_t until_ms;
    int hello_wait_ms;
    int heartbeat_ms;
    int dead_after_ms;
    int64_t beat_at_ms;
    int64_t idle_at_ms;
    int idle_ms;
    uint64_t progress;
    int stalled_rank;    // -1 none
    int64_t stalled_ms;  // so far
    int64_t longest_ms;  // that a stalled rank took before it went on
    int64_t received_ns; // the message being handled
    int64_t n_orders;
    int64_t first_order_ns;
    int64_t last_order_ns; // its end
    int64_t busy_ns;       // with orders, answers included
    uint32_t slots_busy;
    bool ended;
    enum group_end end;
    struct error *err;
};

static void finish(struct leader *leader, enum group_end end) {
    leader->ended = true;
    leader->end = end;
}

// Drops the message when the queue is full: the coordinator has not read for a long time and will
// see this group as gone.
static enum status send_message(struct leader *leader, Surefoot__GroupMessage *message) {
    message->has_schema_major = message->has_schema_minor = true;
    message->schema_major = WIRE_SCHEMA_MAJOR;
    message->schema_minor = WIRE_SCHEMA_MINOR;
    uint8_t *bytes = NULL;
    size_t size = 0;
    enum status status = wire_pack(WIRE_GROUP_MESSAGE, message, &bytes, &size);
    if (status == STATUS_OK && leader->channel != NULL) {
        status = channel_send(leader->channel, NULL, bytes, size);
    }
    free(bytes);
    return status;
}

static int64_t larger(int64_t a, int64_t b) {
    return a > b ? a : b;
}

// A step may take long, a rank that steps must not: signs of life come after every layer. One that
// was taken for a hang teaches how long steps take here. A rank that stays away longer than ranks
// wait for each other is not waited for until the order's time is up.
static void watch_ranks(struct leader *leader) {
    int64_t silent_ms = 0;
    int rank = comm_most_silent(leader->comm, &silent_ms);
    int64_t learned_ms = 2 * leader->longest_ms;
    int64_t limit_ms =
        larger(larger(STALL_BEATS * (int64_t)leader->heartbeat_ms, STALL_MIN_MS), learned_ms);
    if (rank >= 0 && silent_ms >= limit_ms) {
        if (leader->stalled_rank != rank) {
            log_warn("rank %d gives no sign of life for %lld ms", rank, (long long)silent_ms);
        }
        leader->stalled_rank = rank;
        leader->stalled_ms = silent_ms;
        if (silent_ms >= larger(leader->options->timeouts.collective_ms, limit_ms)) {
            log_error("rank %d is given up after %lld ms", rank, (long long)silent_ms);
            comm_give_up(leader->comm);
        }
    } else if (leader->stalled_rank >= 0) {
        log_info("rank %d goes on after %lld ms", leader->stalled_rank,
                 (long long)leader->stalled_ms);
        leader->stalled_rank = -1;
        int64_t most_ms = STALL_LEARNED_BEATS * (int64_t)leader->heartbeat_ms;
        leader->longest_ms =
            larger(leader->longest_ms, leader->stalled_ms < most_ms ? leader->stalled_ms : most_ms);
    }
}

static void beat_if_due(struct leader *leader) {
    if (leader->session != SESSION_WELCOMED || !deadline_passed(leader->beat_at_ms)) {
        return;
    }
    leader->beat_at_ms = deadline_after_ms(leader->heartbeat_ms);
    watch_ranks(leader);
    Surefoot__Heartbeat heartbeat = SUREFOOT__HEARTBEAT__INIT;
    heartbeat.has_progress = heartbeat.has_slots_busy = true;
    heartbeat.progress = leader->progress;
    heartbeat.slots_busy = leader->slots_busy;
    heartbeat.has_stalled_rank = heartbeat.has_stalled_ms = leader->stalled_rank >= 0;
    heartbeat.stalled_rank = leader->stalled_rank >= 0 ? (uint32_t)leader->stalled_rank : 0;
    heartbeat.stalled_ms = (uint64_t)leader->stalled_ms;
    Surefoot__GroupMessage message = SUREFOOT__GROUP_MESSAGE__INIT;
    message.heartbeat = &heartbeat;
    if (send_message(leader, &message) != STATUS_OK) {
        log_debug("a heartbeat was dropped");
    }
}

// Called by rank 0 while it works.
static void on_progress(void *context, uint64_t progress) {
    (void)progress;
    struct leader *leader = context;
    leader->progress++;
    beat_if_due(leader);
}

// Called while rank 0 waits for the others.
static void on_wait(void *context) {
    beat_if_due(context);
}

static void close_session(struct leader *leader, int wait_ms) {
    channel_close(leader->channel);
    leader->channel = NULL;
    leader->session = SESSION_CLOSED;
    leader->until_ms = deadline_after_ms(wait_ms);
}

static void say_hello(struct leader *leader) {
    Surefoot__GroupMessage message = SUREFOOT__GROUP_MESSAGE__INIT;
    message.hello = &leader->hello;
    enum status status = send_message(leader, &message);
    if (status != STATUS_OK) {
        log_warn("cannot say hello: %s", status_text(status));
    }
    leader->session = SESSION_GREETED;
    leader->until_ms = deadline_after_ms(leader->hello_wait_ms);
    leader->hello_wait_ms *= leader->hello_wait_ms < HELLO_WAIT_MAX_MS ? 2 : 1;
}

static void open_session(struct leader *leader) {
    struct channel_options options = {.message_bytes_max = LIMIT_GROUP_MESSAGE_BYTES};
    enum status status = channel_connect(leader->context, leader->options->endpoint, &options,
                                         &leader->channel, leader->err);
    if (status != STATUS_OK) {
        finish(leader, GROUP_END_REJECTED);
        return;
    }
    say_hello(leader);
}

// The session's time is up.
static void session_due(struct leader *leader) {
    switch (leader->session) {
    case SESSION_CLOSED:
        break;
    case SESSION_GREETED:
        log_info("no answer from %s, connecting anew", leader->options->endpoint);
        break;
    case SESSION_WELCOMED:
        log_warn("coordinator %s is silent for %d ms, waiting for it", leader->options->endpoint,
                 leader->dead_after_ms);
        break;
    }
    close_session(leader, 0);
    open_session(leader);
}

static void handle_welcome(struct leader *leader, const Surefoot__GroupCommand *command) {
    const Surefoot__GroupWelcome *welcome = command->welcome;
    if (wire_check_version(command->schema_major, command->schema_minor, leader->err) !=
        STATUS_OK) {
        finish(leader, GROUP_END_REJECTED);
        return;
    }
    uint32_t heartbeat_ms =
        welcome->has_heartbeat_ms ? welcome->heartbeat_ms : (uint32_t)leader->options->heartbeat_ms;
    uint32_t dead_after_ms =
        welcome->has_dead_after_ms ? welcome->dead_after_ms : DEAD_AFTER_FACTOR * heartbeat_ms;
    if (heartbeat_ms < 1 || heartbeat_ms > HEARTBEAT_MAX_MS || dead_after_ms < heartbeat_ms ||
        dead_after_ms > DEAD_AFTER_MAX_MS) {
        error_set(leader->err, STATUS_INVALID_ARGUMENT, "welcome",
                  "heartbeat_ms %u and dead_after_ms %u; the limits are %d and %d", heartbeat_ms,
                  dead_after_ms, HEARTBEAT_MAX_MS, DEAD_AFTER_MAX_MS);
        finish(leader, GROUP_END_REJECTED);
        return;
    }
    leader->heartbeat_ms = (int)heartbeat_ms;
    leader->dead_after_ms = (int)dead_after_ms;
    leader->hello_wait_ms = HELLO_WAIT_MS;
    leader->beat_at_ms = clock_monotonic_ms();
    leader->session = SESSION_WELCOMED;
    log_info("group %s joined %s: ranks %u, slots %u", leader->options->name,
             leader->options->endpoint, leader->hello.n_ranks, leader->hello.slots);
}

// What a later try may change is tried again; a wrong group or version stays wrong.
static void handle_reject(struct leader *leader, const Surefoot__ErrorInfo *info) {
    struct error error = {.status = STATUS_OK};
    wire_error_read(info, &error);
    if (error.status == STATUS_UNAVAILABLE || error.status == STATUS_ALREADY_EXISTS) {
        log_warn("not admitted yet: %s %s", error.field, error.message);
        close_session(leader, leader->hello_wait_ms);
        return;
    }
    *leader->err = error;
    finish(leader, GROUP_END_REJECTED);
}

static enum status send_answer(struct leader *leader, struct answer *answer) {
    Surefoot__GroupMessage message = SUREFOOT__GROUP_MESSAGE__INIT;
    message.gathered = &answer->gathered;
    return send_message(leader, &message);
}

static void answer_order(struct leader *leader, struct answer *answer) {
    enum status status = send_answer(leader, answer);
    if (status == STATUS_LIMIT) {
        struct error error;
        error_set(&error, STATUS_LIMIT, "rows", "the rows of the order exceed %d bytes",
                  LIMIT_GROUP_MESSAGE_BYTES);
        answer_fail(answer, &error);
        status = send_answer(leader, answer);
    }
    if (status != STATUS_OK) {
        log_warn("the answer to order %llu was dropped: %s",
                 (unsigned long long)answer->gathered.order_id, status_text(status));
    }
}

static void lose(struct leader *leader, enum status status) {
    error_set(leader->err, status, NULL, "the ranks did not meet: %s", status_text(status));
    finish(leader, GROUP_END_LOST);
}

static void handle_order(struct leader *leader, Surefoot__Order *order) {
    struct answer answer;
    answer_init(&answer, order->order_id);
    leader->slots_busy = (uint32_t)order->n_items;
    int64_t start_ns = clock_monotonic_ns();
    leader->first_order_ns = leader->n_orders++ == 0 ? start_ns : leader->first_order_ns;
    enum status status = dispatch_order(leader->dispatch, order, &answer);
    leader->slots_busy = 0;
    leader->progress++;
    leader->idle_at_ms = deadline_after_ms(leader->idle_ms);
    if (status != STATUS_OK) {
        lose(leader, status);
    } else {
        answer.gathered.has_order_ms = true;
        answer.gathered.order_ms = (double)(clock_monotonic_ns() - leader->received_ns) * 1e-6;
        answer_order(leader, &answer);
    }
    if (status == STATUS_OK && answer.fatal) {
        *leader->err = answer.error;
        finish(leader, GROUP_END_FAULT);
    }
    answer_finish(&answer);
    leader->last_order_ns = clock_monotonic_ns();
    leader->busy_ns += leader->last_order_ns - start_ns;
}

// Bytes that are no command: said to the coordinator, without an order's number, and forgotten.
static void handle_junk(struct leader *leader, const struct error *error) {
    log_warn("a command was refused: %s %s", error->field, error->message);
    struct answer answer;
    answer_init(&answer, 0);
    answer.gathered.has_order_id = false;
    answer_fail(&answer, error);
    answer_order(leader, &answer);
    answer_finish(&answer);
}

static void handle_command(struct leader *leader, const uint8_t *bytes, size_t size) {
    void *message = NULL;
    struct error error = {.status = STATUS_OK};
    if (wire_unpack(WIRE_GROUP_COMMAND, bytes, size, &message, &error) != STATUS_OK) {
        handle_junk(leader, &error);
        return;
    }
    Surefoot__GroupCommand *command = message;
    if (command->welcome != NULL) {
        handle_welcome(leader, command);
    } else if (command->reject != NULL) {
        handle_reject(leader, command->reject);
    } else if (command->order != NULL) {
        handle_order(leader, command->order);
    } else if (command->say_hello) {
        say_hello(leader);
    } else if (command->stop) {
        finish(leader, GROUP_END_STOPPED);
    }
    wire_free(WIRE_GROUP_COMMAND, message);
    // Counted from the end of an order: while it ran, nothing was read.
    if (leader->session == SESSION_WELCOMED) {
        leader->until_ms = deadline_after_ms(leader->dead_after_ms);
    }
}

static bool stop_requested(const struct leader *leader) {
    struct pollfd item = {.fd = leader->options->stop_fd, .events = POLLIN};
    return item.fd >= 0 && poll(&item, 1, 0) > 0;
}

static int64_t earlier(int64_t a, int64_t b) {
    return a < b ? a : b;
}

// Waits for a message, for the stop descriptor, or for the next thing to do by the clock.
static bool wait_message(struct leader *leader) {
    int64_t next_ms = earlier(leader->idle_at_ms, leader->until_ms);
    if (leader->session == SESSION_WELCOMED) {
        next_ms = earlier(next_ms, leader->beat_at_ms);
    }
    bool ready = false;
    enum status status = channel_poll(&leader->channel, leader->channel != NULL ? 1 : 0,
                                      leader->options->stop_fd, deadline_left_ms(next_ms), &ready);
    return status == STATUS_OK && ready;
}

static void turn(struct leader *leader) {
    if (stop_requested(leader)) {
        finish(leader, GROUP_END_STOPPED);
        return;
    }
    if (deadline_passed(leader->idle_at_ms)) {
        leader->idle_at_ms = deadline_after_ms(leader->idle_ms);
        enum status status = dispatch_idle(leader->dispatch);
        if (status != STATUS_OK) {
            lose(leader, status);
            return;
        }
    }
    leader->progress++;
    beat_if_due(leader);
    uint8_t *bytes = NULL;
    size_t size = 0;
    if (wait_message(leader) &&
        channel_receive(leader->channel, NULL, &bytes, &size) == STATUS_OK) {
        leader->received_ns = clock_monotonic_ns();
        handle_command(leader, bytes, size);
        free(bytes);
    } else if (deadline_passed(leader->until_ms)) {
        session_due(leader);
    }
}

static enum status prepare(struct leader *leader) {
    const struct leader_options *options = leader->options;
    surefoot__group_hello__init(&leader->hello);
    rank_describe(leader->rank, &leader->hello);
    leader->hello.name = (char *)options->name;
    leader->hello.has_n_ranks = leader->hello.has_slots = true;
    leader->hello.n_ranks = (uint32_t)leader->comm->world_size;
    leader->hello.slots = leader->hello.n_ranks * (uint32_t)options->slots_per_rank;
    if (leader->hello.slots > LIMIT_GROUP_SLOTS) {
        return error_set(leader->err, STATUS_LIMIT, "slots", "%u in the group, the limit is %d",
                         leader->hello.slots, LIMIT_GROUP_SLOTS);
    }
    struct order_limits limits = {
        .slots = leader->hello.slots,
        .vocab_size = leader->hello.policy->vocab_size,
        .block_tokens_max = leader->hello.order_tokens_max,
    };
    enum status status =
        dispatch_create(leader->comm, leader->rank, &limits, &options->timeouts, &leader->dispatch);
    if (status == STATUS_OK) {
        status = channel_context_create(&leader->context);
    }
    return status == STATUS_OK ? STATUS_OK
                               : error_set(leader->err, status, NULL, "cannot start the leader");
}

static void log_use(const struct leader *leader) {
    double span_s = (double)(leader->last_order_ns - leader->first_order_ns) * 1e-9;
    double busy_s = (double)leader->busy_ns * 1e-9;
    log_info("%lld orders: busy %.3f s of the %.3f s from the first to the last",
             (long long)leader->n_orders, busy_s, span_s);
}

static void say_goodbye(struct leader *leader) {
    Surefoot__GroupGoodbye goodbye = SUREFOOT__GROUP_GOODBYE__INIT;
    goodbye.reason = leader->end == GROUP_END_STOPPED ? "stopped" : leader->err->message;
    Surefoot__GroupMessage message = SUREFOOT__GROUP_MESSAGE__INIT;
    message.goodbye = &goodbye;
    if (send_message(leader, &message) != STATUS_OK) {
        log_debug("the goodbye was dropped");
    }
}

enum group_end leader_run(const struct leader_options *options, struct comm *comm,
                          struct rank *rank, struct error *err) {
    struct leader leader = {
        .options = options,
        .comm = comm,
        .rank = rank,
        .session = SESSION_CLOSED,
        .stalled_rank = -1,
        .hello_wait_ms = HELLO_WAIT_MS,
        .heartbeat_ms = options->heartbeat_ms,
        .idle_ms = options->timeouts.collective_ms / 3 < IDLE_ORDER_MS
                       ? options->timeouts.collective_ms / 3
                       : IDLE_ORDER_MS,
        .err = err,
    };
    if (prepare(&leader) != STATUS_OK) {
        finish(&leader, GROUP_END_LOST);
    }
    rank_set_progress(rank, on_progress, &leader);
    comm_set_idle(comm, on_wait, &leader);
    while (!leader.ended) {
        turn(&leader);
    }
    rank_set_progress(rank, NULL, NULL);
    comm_set_idle(comm, NULL, NULL);
    log_use(&leader);
    say_goodbye(&leader);
    if (leader.end != GROUP_END_LOST && dispatch_shutdown(leader.dispatch) != STATUS_OK) {
        leader.end = GROUP_END_LOST;
        error_set(err, STATUS_PEER_LOST, NULL, "a follower did not hear the shutdown");
    }
    channel_close(leader.channel);
    channel_context_destroy(leader.context); // waits for the goodbye, up to the channel's linger
    dispatch_destroy(leader.dispatch);
    return leader.end;
}
