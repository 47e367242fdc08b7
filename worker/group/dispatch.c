#include "worker/group/dispatch.h"

#include <stdlib.h>

#include "common/deadline.h"
#include "proto/limits.h"
#include "worker/group/placement.h"
#include "worker/group/slice.h"

struct dispatch {
    struct comm *comm;
    struct rank *rank;
    struct order_limits limits;
    struct group_timeouts timeouts;
    struct placement *placement;
    uint32_t *ranks; // [limits.slots], of the order under way
    size_t *offsets; // [world_size + 1]
};

enum status dispatch_create(struct comm *comm, struct rank *rank, const struct order_limits *limits,
                            const struct group_timeouts *timeouts, struct dispatch **out) {
    struct dispatch *dispatch = calloc(1, sizeof *dispatch);
    if (dispatch == NULL) {
        return STATUS_NO_MEMORY;
    }
    dispatch->comm = comm;
    dispatch->rank = rank;
    dispatch->limits = *limits;
    dispatch->timeouts = *timeouts;
    dispatch->ranks = calloc(limits->slots, sizeof *dispatch->ranks);
    dispatch->offsets = calloc((size_t)comm->world_size + 1, sizeof *dispatch->offsets);
    if (placement_create(comm->world_size, &dispatch->placement) != STATUS_OK ||
        dispatch->ranks == NULL || dispatch->offsets == NULL) {
        dispatch_destroy(dispatch);
        return STATUS_NO_MEMORY;
    }
    *out = dispatch;
    return STATUS_OK;
}

void dispatch_destroy(struct dispatch *dispatch) {
    if (dispatch == NULL) {
        return;
    }
    placement_destroy(dispatch->placement);
    free(dispatch->offsets);
    free(dispatch->ranks);
    free(dispatch);
}

static enum status broadcast(struct dispatch *dispatch, uint8_t *bytes, size_t size) {
    return comm_broadcast_message(dispatch->comm, &bytes, &size, LIMIT_GROUP_MESSAGE_BYTES, 0,
                                  deadline_after_ms(dispatch->timeouts.collective_ms));
}

// From the broadcast on, all ranks are in step, or the group is lost.
static enum status run(struct dispatch *dispatch, const Surefoot__Order *order, uint8_t *packed,
                       size_t packed_size, struct answer *answer) {
    int64_t start_ns = clock_monotonic_ns();
    uint8_t *bytes = NULL;
    size_t size = 0;
    uint8_t *gathered = NULL;
    struct error fault;
    enum status status = broadcast(dispatch, packed, packed_size);
    if (status == STATUS_OK) {
        status = slice_execute(dispatch->rank, order, dispatch->comm->rank, &bytes, &size, &fault);
    }
    if (status == STATUS_OK) {
        status = comm_all_gather_messages(dispatch->comm, bytes, size, LIMIT_GROUP_MESSAGE_BYTES,
                                          &gathered, dispatch->offsets,
                                          deadline_after_ms(dispatch->timeouts.order_ms));
    }
    if (status == STATUS_OK) {
        status =
            answer_merge(answer, order, gathered, dispatch->offsets, dispatch->comm->world_size);
    }
    free(gathered);
    free(bytes);
    if (status != STATUS_OK) {
        return status;
    }
    double spent_ms = (double)(clock_monotonic_ns() - start_ns) * 1e-6 - answer->work_ms;
    answer->gathered.has_collective_ms = true;
    answer->gathered.collective_ms = spent_ms > 0 ? spent_ms : 0;
    return STATUS_OK;
}

// The whole order failed before any rank saw it: the group goes on, whatever the reason.
static void refuse(struct answer *answer, const struct error *error) {
    answer_fail(answer, error);
    answer->fatal = false;
}

enum status dispatch_order(struct dispatch *dispatch, Surefoot__Order *order,
                           struct answer *answer) {
    struct error error = {.status = STATUS_OK};
    if (order_check(order, &dispatch->limits, &error) != STATUS_OK) {
        refuse(answer, &error);
        return STATUS_OK;
    }
    if (placement_assign(dispatch->placement, order, dispatch->ranks) != STATUS_OK) {
        return STATUS_NO_MEMORY;
    }
    order->ranks = dispatch->ranks;
    order->n_ranks = order->n_items;
    uint8_t *packed = NULL;
    size_t size = 0;
    enum status status = wire_pack(WIRE_ORDER, order, &packed, &size);
    if (status == STATUS_OK) {
        status = run(dispatch, order, packed, size, answer);
    } else {
        error_set(&error, status, "order", "cannot pack it for the ranks: %s", status_text(status));
        refuse(answer, &error);
        status = STATUS_OK;
    }
    free(packed);
    order->ranks = NULL;
    order->n_ranks = 0;
    return status;
}

static enum status broadcast_order(struct dispatch *dispatch, const Surefoot__Order *order) {
    uint8_t *packed = NULL;
    size_t size = 0;
    enum status status = wire_pack(WIRE_ORDER, order, &packed, &size);
    if (status == STATUS_OK) {
        status = broadcast(dispatch, packed, size);
    }
    free(packed);
    return status;
}

enum status dispatch_idle(struct dispatch *dispatch) {
    Surefoot__Order order = SUREFOOT__ORDER__INIT;
    enum status status = broadcast_order(dispatch, &order);
    // A small broadcast is over for the root before anybody has read it; the barrier is not.
    return status == STATUS_OK
               ? comm_barrier(dispatch->comm, deadline_after_ms(dispatch->timeouts.collective_ms))
               : status;
}

enum status dispatch_shutdown(struct dispatch *dispatch) {
    Surefoot__Order order = SUREFOOT__ORDER__INIT;
    order.has_shutdown = true;
    order.shutdown = true;
    return broadcast_order(dispatch, &order);
}
