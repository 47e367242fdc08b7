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
    int stalled_rank;                 // -1 none
    int64_t stalled_ms;               // so far
    int64_t longest_ms;               // that a stalled rank took before it went on
    Surefoot__GroupCommand *deferred; // came while rank 0 worked, for afterwards; NULL none
    bool stopping;                    // takes no more orders, ends with the last of those it has
    enum status comm_status;          // of the collectives, while rank 0 works
    int64_t received_ns;              // the message being handled
    int64_t wait_ns;                  // since when rank 0 waits for the others
    int64_t n_orders;
    int64_t first_order_ns;
    int64_t last_order_ns; // its end
    int64_t busy_ns;       // with orders, answers included
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
            comm_abandon(leader->comm);
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
    heartbeat.slots_busy = dispatch_load(leader->dispatch);
    heartbeat.has_stalled_rank = heartbeat.has_stalled_ms = leader->stalled_rank >= 0;
    heartbeat.stalled_rank = leader->stalled_rank >= 0 ? (uint32_t)leader->stalled_rank : 0;
    heartbeat.stalled_ms = (uint64_t)leader->stalled_ms;
    Surefoot__GroupMessage message = SUREFOOT__GROUP_MESSAGE__INIT;
    message.heartbeat = &heartbeat;
    if (send_message(leader, &message) != STATUS_OK) {
        log_debug("a heartbeat was dropped");
    }
}

static void serve(struct leader *leader);

// Called by rank 0 while it works.
static void on_progress(void *context, uint64_t progress) {
    (void)progress;
    struct leader *leader = context;
    leader->progress++;
    beat_if_due(leader);
    serve(leader);
}

// Called while rank 0 waits for the others in a collective.
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
    comm_abandon(leader->comm);
    error_set(leader->err, status, NULL, "the ranks did not meet: %s", status_text(status));
    finish(leader, GROUP_END_LOST);
}

// Refuses an order that no rank has seen: the group goes on, whatever the reason.
static void refuse(struct leader *leader, uint64_t order_id, const struct error *refusal) {
    struct answer answer;
    answer_init(&answer, order_id);
    answer_fail(&answer, refusal);
    answer_order(leader, &answer);
    answer_finish(&answer);
}

static enum status begin_order(struct leader *leader, Surefoot__Order *order) {
    uint64_t order_id = order->order_id;
    leader->first_order_ns = leader->n_orders++ == 0 ? leader->received_ns : leader->first_order_ns;
    struct error refusal;
    enum status status = dispatch_begin(leader->dispatch, order, leader->received_ns, &refusal);
    if (status == STATUS_OK && refusal.status != STATUS_OK) {
        refuse(leader, order_id, &refusal);
    }
    return status;
}

// Moves the collectives on and sends the answers that are complete.
static enum status move_on(struct leader *leader) {
    enum status status = dispatch_step(leader->dispatch);
    struct answer *answer;
    while (status == STATUS_OK && !leader->ended &&
           (answer = dispatch_answer(leader->dispatch)) != NULL) {
        answer_order(leader, answer);
        if (answer->fatal) {
            *leader->err = answer->error;
            finish(leader, GROUP_END_FAULT);
        }
        leader->progress++;
        leader->last_order_ns = clock_monotonic_ns();
        leader->busy_ns += (int64_t)(answer->gathered.order_ms * 1e6);
        leader->idle_at_ms = deadline_after_ms(leader->idle_ms);
        dispatch_end(leader->dispatch);
        status = dispatch_step(leader->dispatch);
    }
    return status;
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

// NULL, and the coordinator is told, when the bytes are no command.
static Surefoot__GroupCommand *unpack_command(struct leader *leader, const uint8_t *bytes,
                                              size_t size) {
    void *message = NULL;
    struct error error = {.status = STATUS_OK};
    if (wire_unpack(WIRE_GROUP_COMMAND, bytes, size, &message, &error) != STATUS_OK) {
        handle_junk(leader, &error);
        return NULL;
    }
    return message;
}

static void handle_command(struct leader *leader, Surefoot__GroupCommand *command) {
    if (command->welcome != NULL) {
        handle_welcome(leader, command);
    } else if (command->reject != NULL) {
        handle_reject(leader, command->reject);
    } else if (command->order != NULL) {
        Surefoot__Order *order = command->order;
        command->order = NULL;
        enum status status = begin_order(leader, order);
        if (status != STATUS_OK) {
            lose(leader, status);
        }
    } else if (command->say_hello) {
        say_hello(leader);
    } else if (command->stop) {
        leader->stopping = true;
    }
    wire_free(WIRE_GROUP_COMMAND, command);
    // Counted from the end of an order: while rank 0 works, little is read.
    if (leader->session == SESSION_WELCOMED) {
        leader->until_ms = deadline_after_ms(leader->dead_after_ms);
    }
}

static bool takes_messages(const struct leader *leader) {
    return leader->channel != NULL && leader->deferred == NULL && !leader->stopping &&
           !leader->ended && dispatch_has_room(leader->dispatch);
}

static Surefoot__GroupCommand *receive_command(struct leader *leader) {
    uint8_t *bytes = NULL;
    size_t size = 0;
    Surefoot__GroupCommand *command = NULL;
    if (channel_receive(leader->channel, NULL, &bytes, &size) == STATUS_OK) {
        leader->received_ns = clock_monotonic_ns();
        command = unpack_command(leader, bytes, size);
        free(bytes);
    }
    return command;
}

// While rank 0 works: answers leave and the next order comes in. What else comes waits.
static void serve(struct leader *leader) {
    if (leader->comm_status == STATUS_OK) {
        leader->comm_status = move_on(leader);
    }
    if (leader->comm_status != STATUS_OK || !takes_messages(leader)) {
        return;
    }
    Surefoot__GroupCommand *command = receive_command(leader);
    if (command != NULL && command->order != NULL) {
        Surefoot__Order *order = command->order;
        command->order = NULL;
        leader->comm_status = begin_order(leader, order);
    } else if (command != NULL && command->heartbeat == NULL) {
        leader->deferred = command;
        return;
    }
    wire_free(WIRE_GROUP_COMMAND, command);
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

// Rank 0's share of an order, during which the others' are served.
static void work(struct leader *leader) {
    enum status status = dispatch_work(leader->dispatch, NULL);
    status = leader->comm_status != STATUS_OK ? leader->comm_status : status;
    leader->progress++;
    leader->wait_ns = clock_monotonic_ns();
    leader->until_ms = leader->session == SESSION_WELCOMED
                           ? deadline_after_ms(leader->dead_after_ms)
                           : leader->until_ms;
    if (status != STATUS_OK) {
        lose(leader, status);
    }
}

// Takes a command if there is one. With nothing under way it waits for it.
static void take_command(struct leader *leader) {
    Surefoot__GroupCommand *command = leader->deferred;
    leader->deferred = NULL;
    bool is_busy = dispatch_is_busy(leader->dispatch);
    if (command == NULL && takes_messages(leader) && (is_busy || wait_message(leader))) {
        command = receive_command(leader);
    } else if (command == NULL && !is_busy && leader->channel == NULL) {
        (void)wait_message(leader);
    }
    if (command != NULL) {
        handle_command(leader, command);
    } else if (!is_busy && deadline_passed(leader->until_ms)) {
        session_due(leader);
    }
}

static void turn(struct leader *leader) {
    leader->stopping = leader->stopping || stop_requested(leader);
    bool is_busy = dispatch_is_busy(leader->dispatch);
    if (leader->stopping && !is_busy) {
        finish(leader, GROUP_END_STOPPED);
        return;
    }
    enum status status = STATUS_OK;
    if (is_busy) {
        status = move_on(leader);
    } else if (deadline_passed(leader->idle_at_ms)) {
        leader->idle_at_ms = deadline_after_ms(leader->idle_ms);
        status = dispatch_idle(leader->dispatch);
    }
    if (status != STATUS_OK) {
        lose(leader, status);
    }
    beat_if_due(leader);
    if (leader->ended) {
        return;
    }
    take_command(leader);
    if (!leader->ended && dispatch_has_work(leader->dispatch)) {
        work(leader);
    } else if (dispatch_is_busy(leader->dispatch)) {
        comm_pause(clock_monotonic_ns() - leader->wait_ns);
    } else {
        leader->progress++;
    }
}

// The group ends while orders are under way: what is not done yet fails, and the ranks meet once
// more for each, so that none is left waiting.
static enum status drain(struct leader *leader) {
    const struct error fault = {.status = STATUS_UNAVAILABLE, .message = "the group ends"};
    enum status status = STATUS_OK;
    leader->wait_ns = clock_monotonic_ns();
    while (status == STATUS_OK && dispatch_is_busy(leader->dispatch)) {
        if (dispatch_has_work(leader->dispatch)) {
            status = dispatch_work(leader->dispatch, &fault);
        } else if (dispatch_answer(leader->dispatch) != NULL) {
            dispatch_end(leader->dispatch);
        } else {
            beat_if_due(leader);
            comm_pause(clock_monotonic_ns() - leader->wait_ns);
        }
        status = status == STATUS_OK ? dispatch_step(leader->dispatch) : status;
    }
    return status;
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
    if (leader.end != GROUP_END_LOST &&
        (drain(&leader) != STATUS_OK || dispatch_shutdown(leader.dispatch) != STATUS_OK)) {
        comm_abandon(comm);
        leader.end = GROUP_END_LOST;
        error_set(err, STATUS_PEER_LOST, NULL, "a follower did not hear the shutdown");
    }
    wire_free(WIRE_GROUP_COMMAND, leader.deferred);
    channel_close(leader.channel);
    channel_context_destroy(leader.context); // waits for the goodbye, up to the channel's linger
    dispatch_destroy(leader.dispatch);
    return leader.end;
}
