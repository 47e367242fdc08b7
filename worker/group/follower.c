#include "worker/group/follower.h"

#include <stdlib.h>

#include "common/deadline.h"
#include "proto/limits.h"
#include "worker/group/slice.h"

static enum status receive_order(struct comm *comm, const struct group_timeouts *timeouts,
                                 Surefoot__Order **out, struct error *err) {
    uint8_t *bytes = NULL;
    size_t size = 0;
    enum status status = comm_broadcast_message(comm, &bytes, &size, LIMIT_GROUP_MESSAGE_BYTES, 0,
                                                deadline_after_ms(timeouts->collective_ms));
    if (status != STATUS_OK) {
        return error_set(err, status, NULL, "rank %d: no word from the leader: %s", comm->rank,
                         status_text(status));
    }
    void *order = NULL;
    status = wire_unpack(WIRE_ORDER, bytes, size, &order, err);
    free(bytes);
    *out = order;
    return status;
}

static enum status run_slice(struct comm *comm, struct rank *rank, const Surefoot__Order *order,
                             const struct group_timeouts *timeouts, struct error *fault,
                             struct error *err) {
    uint8_t *bytes = NULL;
    size_t size = 0;
    uint8_t *gathered = NULL;
    size_t *offsets = calloc((size_t)comm->world_size + 1, sizeof *offsets);
    enum status status = offsets == NULL
                             ? STATUS_NO_MEMORY
                             : slice_execute(rank, order, comm->rank, &bytes, &size, fault);
    if (status == STATUS_OK) {
        status = comm_all_gather_messages(comm, bytes, size, LIMIT_GROUP_MESSAGE_BYTES, &gathered,
                                          offsets, deadline_after_ms(timeouts->order_ms));
    }
    free(gathered);
    free(bytes);
    free(offsets);
    return status == STATUS_OK ? STATUS_OK
                               : error_set(err, status, NULL, "rank %d: cannot gather: %s",
                                           comm->rank, status_text(status));
}

static enum status answer_idle(struct comm *comm, const struct group_timeouts *timeouts,
                               struct error *err) {
    enum status status = comm_barrier(comm, deadline_after_ms(timeouts->collective_ms));
    return status == STATUS_OK
               ? STATUS_OK
               : error_set(err, status, NULL, "rank %d: not all ranks are there: %s", comm->rank,
                           status_text(status));
}

// Called while the rank works.
static void on_progress(void *context, uint64_t progress) {
    (void)progress;
    comm_report(context);
}

static enum group_end follow(struct comm *comm, struct rank *rank,
                             const struct group_timeouts *timeouts, struct error *err) {
    struct error worst = {.status = STATUS_OK};
    for (;;) {
        Surefoot__Order *order = NULL;
        if (receive_order(comm, timeouts, &order, err) != STATUS_OK) {
            return GROUP_END_LOST;
        }
        enum status status = STATUS_OK;
        struct error fault = {.status = STATUS_OK};
        bool shutdown = order->shutdown;
        if (!shutdown && order->has_order_id) {
            status = run_slice(comm, rank, order, timeouts, &fault, err);
        } else if (!shutdown) { // without a number it is only a sign of life
            status = answer_idle(comm, timeouts, err);
        }
        wire_free(WIRE_ORDER, order);
        if (status != STATUS_OK) {
            return GROUP_END_LOST;
        }
        if (slice_fault_is_fatal(fault.status)) {
            worst = fault;
        }
        if (shutdown && worst.status == STATUS_OK) {
            return GROUP_END_STOPPED;
        }
        if (shutdown) {
            *err = worst;
            return GROUP_END_FAULT;
        }
    }
}

enum group_end follower_run(struct comm *comm, struct rank *rank,
                            const struct group_timeouts *timeouts, struct error *err) {
    rank_set_progress(rank, on_progress, comm);
    enum group_end end = follow(comm, rank, timeouts, err);
    rank_set_progress(rank, NULL, NULL);
    return end;
}
