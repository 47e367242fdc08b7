#include "worker/group/follower.h"

#include <stdlib.h>

#include "common/deadline.h"
#include "proto/limits.h"
#include "worker/group/slice.h"

enum receive { RECEIVE_NONE, RECEIVE_BEGUN, RECEIVE_DONE };

struct follower {
    struct comm *comm;
    struct rank *rank;
    const struct group_timeouts *timeouts;
    struct error *err;
    struct comm_broadcast broadcast; // of the next order, which may come while this rank works
    enum receive receive;
    enum status receive_status;
    struct comm_gather gather; // of the rows of the order before
    bool gathering;
    enum status gather_status;
    int64_t gather_until_ms;
    uint8_t *rows;   // of that order, packed
    size_t *offsets; // [world_size + 1]
};

static enum status step_gather(void *context, bool *done) {
    struct follower *follower = context;
    *done = true;
    if (!follower->gathering || follower->gather_status != STATUS_OK) {
        return follower->gather_status;
    }
    follower->gather_status = comm_gather_step(&follower->gather, done);
    if (follower->gather_status == STATUS_OK && *done) {
        follower->gathering = false;
        comm_gather_finish(&follower->gather);
        free(follower->rows);
        follower->rows = NULL;
    }
    return follower->gather_status;
}

static enum status wait_gather(struct follower *follower) {
    enum status status =
        comm_wait(follower->comm, step_gather, follower, follower->gather_until_ms);
    return status == STATUS_OK
               ? STATUS_OK
               : error_set(follower->err, status, NULL, "rank %d: cannot gather: %s",
                           follower->comm->rank, status_text(status));
}

static void begin_receive(struct follower *follower) {
    if (follower->receive == RECEIVE_NONE) {
        comm_broadcast_begin(&follower->broadcast, follower->comm, NULL, 0,
                             LIMIT_GROUP_MESSAGE_BYTES, 0);
        follower->receive = RECEIVE_BEGUN;
    }
}

static enum status step_receive(void *context, bool *done) {
    struct follower *follower = context;
    *done = follower->receive == RECEIVE_DONE;
    if (!*done && follower->receive_status == STATUS_OK) {
        follower->receive_status = comm_broadcast_step(&follower->broadcast, done);
        follower->receive = *done ? RECEIVE_DONE : RECEIVE_BEGUN;
    }
    return follower->receive_status;
}

// Until there is an order, or the rows are gathered, from when on the leader is not silent for
// long.
static enum status step_either(void *context, bool *done) {
    struct follower *follower = context;
    bool gathered = false;
    enum status status = step_gather(follower, &gathered);
    if (status == STATUS_OK) {
        status = step_receive(follower, done);
    }
    *done = *done || gathered;
    return status;
}

static enum status wait_broadcast(struct follower *follower) {
    enum status status = STATUS_OK;
    if (follower->gathering) {
        status = comm_wait(follower->comm, step_either, follower, follower->gather_until_ms);
    }
    return status == STATUS_OK ? comm_wait(follower->comm, step_receive, follower,
                                           deadline_after_ms(follower->timeouts->collective_ms))
                               : status;
}

static enum status receive_order(struct follower *follower, Surefoot__Order **out) {
    enum status status = wait_broadcast(follower);
    if (status != STATUS_OK) {
        return error_set(follower->err, status, NULL, "rank %d: no word from the leader: %s",
                         follower->comm->rank, status_text(status));
    }
    void *order = NULL;
    status = wire_unpack(WIRE_ORDER, follower->broadcast.bytes, follower->broadcast.length, &order,
                         follower->err);
    free(follower->broadcast.bytes);
    follower->broadcast.bytes = NULL;
    follower->receive = RECEIVE_NONE;
    *out = order;
    return status;
}

// One order's rows at a time: those of the one before are waited for.
static enum status run_slice(struct follower *follower, const Surefoot__Order *order,
                             struct error *fault) {
    struct comm *comm = follower->comm;
    uint8_t *rows = NULL;
    size_t size = 0;
    begin_receive(follower);
    enum status status = slice_execute(follower->rank, order, comm->rank, &rows, &size, fault);
    if (status != STATUS_OK) {
        return error_set(follower->err, status, NULL, "rank %d: no memory for its rows",
                         comm->rank);
    }
    status = wait_gather(follower);
    if (status != STATUS_OK) {
        free(rows);
        return status;
    }
    follower->rows = rows;
    follower->gathering = true;
    follower->gather_until_ms = deadline_after_ms(follower->timeouts->order_ms);
    status = comm_gather_begin(&follower->gather, comm, rows, size, LIMIT_GROUP_MESSAGE_BYTES,
                               follower->offsets);
    return status == STATUS_OK
               ? STATUS_OK
               : error_set(follower->err, status, NULL, "rank %d: cannot gather: %s", comm->rank,
                           status_text(status));
}

static enum status answer_idle(struct follower *follower) {
    struct comm *comm = follower->comm;
    enum status status = comm_barrier(comm, deadline_after_ms(follower->timeouts->collective_ms));
    return status == STATUS_OK
               ? STATUS_OK
               : error_set(follower->err, status, NULL, "rank %d: not all ranks are there: %s",
                           comm->rank, status_text(status));
}

// Called while the rank works.
static void on_progress(void *context, uint64_t progress) {
    (void)progress;
    struct follower *follower = context;
    comm_report(follower->comm);
    bool done = false;
    enum status status = step_either(follower, &done);
    (void)status; // kept for the next wait
}

static enum group_end follow(struct follower *follower) {
    struct error worst = {.status = STATUS_OK};
    for (;;) {
        Surefoot__Order *order = NULL;
        begin_receive(follower);
        enum status status = receive_order(follower, &order);
        if (status != STATUS_OK) {
            return GROUP_END_LOST;
        }
        struct error fault = {.status = STATUS_OK};
        bool shutdown = order->shutdown;
        if (!shutdown && order->has_order_id) {
            status = run_slice(follower, order, &fault);
        } else if (!shutdown) { // without a number it is only a sign of life
            status = answer_idle(follower);
        }
        wire_free(WIRE_ORDER, order);
        if (status != STATUS_OK || (shutdown && wait_gather(follower) != STATUS_OK)) {
            return GROUP_END_LOST;
        }
        if (slice_fault_is_fatal(fault.status)) {
            worst = fault;
        }
        if (shutdown && worst.status == STATUS_OK) {
            return GROUP_END_STOPPED;
        }
        if (shutdown) {
            *follower->err = worst;
            return GROUP_END_FAULT;
        }
    }
}

enum group_end follower_run(struct comm *comm, struct rank *rank,
                            const struct group_timeouts *timeouts, struct error *err) {
    struct follower follower = {.comm = comm, .rank = rank, .timeouts = timeouts, .err = err};
    follower.offsets = calloc((size_t)comm->world_size + 1, sizeof *follower.offsets);
    enum group_end end = GROUP_END_LOST;
    if (follower.offsets == NULL) {
        error_set(err, STATUS_NO_MEMORY, NULL, "rank %d: no memory", comm->rank);
    } else {
        rank_set_progress(rank, on_progress, &follower);
        end = follow(&follower);
        rank_set_progress(rank, NULL, NULL);
    }
    if (end == GROUP_END_LOST) {
        comm_abandon(comm); // before the buffers go
    }
    comm_gather_finish(&follower.gather);
    free(follower.broadcast.bytes);
    free(follower.rows);
    free(follower.offsets);
    return end;
}
