#include "cluster/comm/comm.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/deadline.h"

enum {
    SPIN_STEPS = 64, // before the first pause: a collective among ready ranks is over by then
    // Then a pause is a 64th of the wait so far, so that waiting ranks leave the cores to those
    // that compute and no wait gets longer by more than that; an idle rank polls a thousand times a
    // second.
    PAUSE_SHARE = 64,
    PAUSE_MIN_NS = 5 * 1000,
    PAUSE_MAX_NS = 1000 * 1000,
};

void comm_set_idle(struct comm *comm, comm_idle_fn idle, void *context) {
    comm->idle = idle;
    comm->idle_context = context;
}

void comm_report(struct comm *comm) {
    if (comm->rank != 0 && deadline_passed(comm->report_at_ms)) {
        comm->report_at_ms = deadline_after_ms(COMM_REPORT_MS);
        comm->ops->report(comm);
    }
}

int comm_most_silent(struct comm *comm, int64_t *silent_ms) {
    ASSERT(comm->rank == 0);
    int silent = -1;
    int64_t oldest_ms = INT64_MAX;
    for (int rank = 1; rank < comm->world_size; rank++) {
        int64_t heard_ms = comm->ops->heard_ms(comm, rank);
        if (heard_ms < oldest_ms) {
            oldest_ms = heard_ms;
            silent = rank;
        }
    }
    oldest_ms = oldest_ms > comm->met_ms ? oldest_ms : comm->met_ms;
    *silent_ms = silent >= 0 ? clock_monotonic_ms() - oldest_ms : 0;
    return silent;
}

void comm_abandon(struct comm *comm) {
    comm->ops->abandon(comm);
}

void comm_pause(int64_t waited_ns) {
    int64_t pause_ns = waited_ns / PAUSE_SHARE;
    pause_ns = pause_ns < PAUSE_MIN_NS ? PAUSE_MIN_NS : pause_ns;
    pause_ns = pause_ns > PAUSE_MAX_NS ? PAUSE_MAX_NS : pause_ns;
    struct timespec duration = {.tv_nsec = (long)pause_ns};
    nanosleep(&duration, NULL);
}

static enum status begin(struct comm *comm, const struct comm_call *call) {
    comm->kinds[call->lane] = call->kind;
    return comm->ops->begin(comm, call);
}

static enum status test(struct comm *comm, enum comm_lane lane, bool *done) {
    *done = false;
    enum status status = comm->ops->test(comm, lane, done);
    if (status == STATUS_OK && *done && comm->kinds[lane] != COMM_BROADCAST) {
        comm->met_ms = clock_monotonic_ms();
    }
    return status;
}

enum status comm_wait(struct comm *comm, comm_step_fn step, void *context, int64_t deadline_ms) {
    int64_t start_ns = clock_monotonic_ns();
    int64_t idle_at_ms = deadline_after_ms(COMM_IDLE_MS);
    for (int n_steps = 0;; n_steps += n_steps < SPIN_STEPS) {
        bool done = false;
        enum status status = step(context, &done);
        if (status != STATUS_OK || done) {
            return status;
        }
        if (deadline_passed(deadline_ms)) {
            comm_abandon(comm);
            return STATUS_DEADLINE;
        }
        if (deadline_passed(idle_at_ms)) {
            comm_report(comm);
            if (comm->idle != NULL) {
                comm->idle(comm->idle_context);
            }
            idle_at_ms = deadline_after_ms(COMM_IDLE_MS);
        }
        if (n_steps == SPIN_STEPS) {
            comm_pause(clock_monotonic_ns() - start_ns);
        }
    }
}

static enum status test_orders(void *comm, bool *done) {
    return test(comm, COMM_LANE_ORDERS, done);
}

// In the lane of orders.
static enum status run(struct comm *comm, const struct comm_call *call, int64_t deadline_ms) {
    enum status status = begin(comm, call);
    return status == STATUS_OK ? comm_wait(comm, test_orders, comm, deadline_ms) : status;
}

enum status comm_broadcast(struct comm *comm, void *bytes, size_t size, int root,
                           int64_t deadline_ms) {
    ASSERT(root >= 0 && root < comm->world_size);
    ASSERT(bytes != NULL || size == 0);
    const struct comm_call call = {
        .kind = COMM_BROADCAST, .root = root, .size = size, .send = bytes};
    return size <= INT_MAX ? run(comm, &call, deadline_ms) : STATUS_LIMIT;
}

enum status comm_all_gather(struct comm *comm, const void *send, size_t size, void *receive,
                            int64_t deadline_ms) {
    ASSERT((send != NULL && receive != NULL) || size == 0);
    const struct comm_call call = {
        .kind = COMM_ALL_GATHER, .size = size, .send = (void *)(uintptr_t)send, .receive = receive};
    return size <= INT_MAX ? run(comm, &call, deadline_ms) : STATUS_LIMIT;
}

enum status comm_all_reduce_max(struct comm *comm, double *values, int count, int64_t deadline_ms) {
    ASSERT(count >= 0 && (values != NULL || count == 0));
    if ((size_t)count > INT_MAX / sizeof *values) {
        return STATUS_LIMIT;
    }
    const struct comm_call call = {
        .kind = COMM_ALL_REDUCE_MAX, .size = (size_t)count * sizeof *values, .send = values};
    return run(comm, &call, deadline_ms);
}

enum status comm_barrier(struct comm *comm, int64_t deadline_ms) {
    const struct comm_call call = {.kind = COMM_BARRIER};
    return run(comm, &call, deadline_ms);
}

void comm_broadcast_begin(struct comm_broadcast *broadcast, struct comm *comm, uint8_t *bytes,
                          size_t size, size_t size_max, int root) {
    bool is_root = comm->rank == root;
    *broadcast = (struct comm_broadcast){.comm = comm,
                                         .root = root,
                                         .size_max = size_max,
                                         .length = is_root ? size : 0,
                                         .bytes = is_root ? bytes : NULL};
}

static enum status begin_bytes(struct comm_broadcast *broadcast) {
    if (broadcast->length > broadcast->size_max || broadcast->length > INT_MAX) {
        return STATUS_LIMIT;
    }
    if (broadcast->comm->rank != broadcast->root) {
        broadcast->bytes = malloc(broadcast->length > 0 ? broadcast->length : 1);
        if (broadcast->bytes == NULL) {
            return STATUS_NO_MEMORY;
        }
    }
    const struct comm_call call = {.kind = COMM_BROADCAST,
                                   .root = broadcast->root,
                                   .size = broadcast->length,
                                   .send = broadcast->bytes};
    return begin(broadcast->comm, &call);
}

enum status comm_broadcast_step(void *context, bool *done) {
    struct comm_broadcast *broadcast = context;
    *done = false;
    if (broadcast->stage == COMM_STAGE_NEW) {
        const struct comm_call call = {.kind = COMM_BROADCAST,
                                       .root = broadcast->root,
                                       .size = sizeof broadcast->length,
                                       .send = &broadcast->length};
        broadcast->stage = COMM_STAGE_LENGTH;
        return begin(broadcast->comm, &call);
    }
    bool over = false;
    enum status status = test(broadcast->comm, COMM_LANE_ORDERS, &over);
    if (status != STATUS_OK || !over) {
        return status;
    }
    *done = broadcast->stage == COMM_STAGE_BYTES;
    if (*done) {
        return STATUS_OK;
    }
    broadcast->stage = COMM_STAGE_BYTES;
    return begin_bytes(broadcast);
}

enum status comm_broadcast_message(struct comm *comm, uint8_t **bytes, size_t *size,
                                   size_t size_max, int root, int64_t deadline_ms) {
    struct comm_broadcast broadcast;
    bool is_root = comm->rank == root;
    comm_broadcast_begin(&broadcast, comm, is_root ? *bytes : NULL, is_root ? *size : 0, size_max,
                         root);
    enum status status = comm_wait(comm, comm_broadcast_step, &broadcast, deadline_ms);
    if (status == STATUS_OK) {
        *bytes = broadcast.bytes;
        *size = broadcast.length;
    } else if (!is_root) {
        free(broadcast.bytes);
    }
    return status;
}

// Moves messages of lengths[i], gathered at a stride of `stride` bytes, together.
static void compact(uint8_t *bytes, size_t stride, const uint64_t *lengths, int count,
                    size_t *offsets) {
    offsets[0] = 0;
    for (int i = 0; i < count; i++) {
        memmove(bytes + offsets[i], bytes + (size_t)i * stride, lengths[i]);
        offsets[i + 1] = offsets[i] + lengths[i];
    }
}

enum status comm_gather_begin(struct comm_gather *gather, struct comm *comm, const uint8_t *bytes,
                              size_t size, size_t size_max, size_t *offsets) {
    size_t world_size = (size_t)comm->world_size;
    *gather = (struct comm_gather){
        .comm = comm, .bytes = bytes, .size_max = size_max, .offsets = offsets};
    gather->lengths = calloc(world_size + 1, sizeof *gather->lengths);
    if (gather->lengths == NULL) {
        return STATUS_NO_MEMORY;
    }
    gather->lengths[world_size] = size;
    const struct comm_call call = {.kind = COMM_ALL_GATHER,
                                   .lane = COMM_LANE_ROWS,
                                   .size = sizeof *gather->lengths,
                                   .send = &gather->lengths[world_size],
                                   .receive = gather->lengths};
    return begin(comm, &call);
}

static enum status begin_rows(struct comm_gather *gather) {
    size_t world_size = (size_t)gather->comm->world_size;
    uint64_t longest = 1;
    for (size_t i = 0; i < world_size; i++) {
        longest = gather->lengths[i] > longest ? gather->lengths[i] : longest;
    }
    if (longest > gather->size_max || longest > INT_MAX || longest > SIZE_MAX / world_size) {
        return STATUS_LIMIT;
    }
    gather->padded = calloc(1, longest);
    gather->receive = malloc(longest * world_size);
    if (gather->padded == NULL || gather->receive == NULL) {
        return STATUS_NO_MEMORY;
    }
    gather->longest = longest;
    if (gather->lengths[world_size] > 0) {
        memcpy(gather->padded, gather->bytes, gather->lengths[world_size]);
    }
    const struct comm_call call = {.kind = COMM_ALL_GATHER,
                                   .lane = COMM_LANE_ROWS,
                                   .size = longest,
                                   .send = gather->padded,
                                   .receive = gather->receive};
    return begin(gather->comm, &call);
}

enum status comm_gather_step(void *context, bool *done) {
    struct comm_gather *gather = context;
    bool over = false;
    *done = false;
    enum status status = test(gather->comm, COMM_LANE_ROWS, &over);
    if (status != STATUS_OK || !over) {
        return status;
    }
    if (gather->longest == 0) {
        return begin_rows(gather);
    }
    compact(gather->receive, gather->longest, gather->lengths, gather->comm->world_size,
            gather->offsets);
    *done = true;
    return STATUS_OK;
}

void comm_gather_finish(struct comm_gather *gather) {
    free(gather->lengths);
    free(gather->padded);
    free(gather->receive);
    *gather = (struct comm_gather){0};
}

enum status comm_all_gather_messages(struct comm *comm, const uint8_t *bytes, size_t size,
                                     size_t size_max, uint8_t **receive, size_t *offsets,
                                     int64_t deadline_ms) {
    struct comm_gather gather = {0};
    enum status status = comm_gather_begin(&gather, comm, bytes, size, size_max, offsets);
    if (status == STATUS_OK) {
        status = comm_wait(comm, comm_gather_step, &gather, deadline_ms);
    }
    if (status == STATUS_OK) {
        *receive = gather.receive;
        gather.receive = NULL;
    }
    comm_gather_finish(&gather);
    return status;
}

void comm_abort(struct comm *comm, int exit_code) {
    comm->ops->abort(comm, exit_code);
}

void comm_close(struct comm *comm) {
    if (comm != NULL) {
        comm->ops->close(comm);
    }
}
