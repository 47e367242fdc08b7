#include "worker/group/dispatch.h"

#include <stdlib.h>
#include <string.h>

#include "common/deadline.h"
#include "proto/limits.h"
#include "worker/group/placement.h"
#include "worker/group/slice.h"

enum { FLIGHTS_MAX = 2 };

// An order under way.
struct flight {
    Surefoot__Order *order; // order->ranks is set
    uint8_t *packed;
    size_t packed_size;
    uint8_t *rows; // rank 0's, packed
    size_t rows_size;
    int64_t arrived_ns;
    int64_t begun_ns; // placed and packed
    bool is_worked;   // rank 0's share is done
    bool is_complete;
    struct answer answer;
};

struct dispatch {
    struct comm *comm;
    struct rank *rank;
    struct order_limits limits;
    struct group_timeouts timeouts;
    struct placement *placement;
    struct flight *flights[FLIGHTS_MAX]; // [n_flights], oldest first
    size_t n_flights;
    size_t n_sent;  // the first of them: their broadcasts are begun
    bool sending;   // the last of those is not over
    bool gathering; // the first one's rows
    int64_t gather_until_ms;
    int64_t ended_ns; // the order before
    struct comm_broadcast broadcast;
    struct comm_gather gather;
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
    dispatch->offsets = calloc((size_t)comm->world_size + 1, sizeof *dispatch->offsets);
    if (placement_create(comm->world_size, &dispatch->placement) != STATUS_OK ||
        dispatch->offsets == NULL) {
        dispatch_destroy(dispatch);
        return STATUS_NO_MEMORY;
    }
    *out = dispatch;
    return STATUS_OK;
}

static void flight_destroy(struct flight *flight) {
    answer_finish(&flight->answer);
    wire_free(WIRE_ORDER, flight->order);
    free(flight->packed);
    free(flight->rows);
    free(flight);
}

void dispatch_destroy(struct dispatch *dispatch) {
    if (dispatch == NULL) {
        return;
    }
    for (size_t i = 0; i < dispatch->n_flights; i++) {
        flight_destroy(dispatch->flights[i]);
    }
    comm_gather_finish(&dispatch->gather);
    placement_destroy(dispatch->placement);
    free(dispatch->offsets);
    free(dispatch);
}

bool dispatch_has_room(const struct dispatch *dispatch) {
    return dispatch->n_flights < FLIGHTS_MAX;
}

bool dispatch_is_busy(const struct dispatch *dispatch) {
    return dispatch->n_flights > 0;
}

static enum status make_flight(struct dispatch *dispatch, Surefoot__Order *order,
                               int64_t arrived_ns, struct flight **out) {
    size_t n = order->n_items > 0 ? order->n_items : 1;
    order->ranks = malloc(n * sizeof *order->ranks);
    struct flight *flight = calloc(1, sizeof *flight);
    if (flight == NULL || order->ranks == NULL ||
        placement_assign(dispatch->placement, order, order->ranks) != STATUS_OK) {
        free(flight);
        wire_free(WIRE_ORDER, order);
        return STATUS_NO_MEMORY;
    }
    order->n_ranks = order->n_items;
    flight->order = order;
    flight->arrived_ns = arrived_ns;
    answer_init(&flight->answer, order->order_id);
    *out = flight;
    return STATUS_OK;
}

enum status dispatch_begin(struct dispatch *dispatch, Surefoot__Order *order, int64_t arrived_ns,
                           struct error *refusal) {
    ASSERT(dispatch_has_room(dispatch));
    *refusal = (struct error){.status = STATUS_OK};
    if (order_check(order, &dispatch->limits, refusal) != STATUS_OK) {
        wire_free(WIRE_ORDER, order);
        return STATUS_OK;
    }
    struct flight *flight = NULL;
    enum status status = make_flight(dispatch, order, arrived_ns, &flight);
    if (status != STATUS_OK) {
        return status;
    }
    status = wire_pack(WIRE_ORDER, order, &flight->packed, &flight->packed_size);
    if (status != STATUS_OK) {
        error_set(refusal, status, "order", "cannot pack it for the ranks: %s",
                  status_text(status));
        flight_destroy(flight);
        return STATUS_OK;
    }
    flight->begun_ns = clock_monotonic_ns();
    dispatch->flights[dispatch->n_flights++] = flight;
    return dispatch_step(dispatch);
}

static enum status step_broadcast(struct dispatch *dispatch) {
    if (!dispatch->sending && dispatch->n_sent < dispatch->n_flights) {
        const struct flight *flight = dispatch->flights[dispatch->n_sent++];
        comm_broadcast_begin(&dispatch->broadcast, dispatch->comm, flight->packed,
                             flight->packed_size, LIMIT_GROUP_MESSAGE_BYTES, 0);
        dispatch->sending = true;
    }
    if (!dispatch->sending) {
        return STATUS_OK;
    }
    bool done = false;
    enum status status = comm_broadcast_step(&dispatch->broadcast, &done);
    dispatch->sending = !done;
    return status;
}

// Milliseconds from `ns`, or from the end of the order before: the times of orders do not overlap,
// an order that waits for another one has not begun.
static double since_ms(const struct dispatch *dispatch, int64_t ns) {
    int64_t start_ns = ns > dispatch->ended_ns ? ns : dispatch->ended_ns;
    return (double)(clock_monotonic_ns() - start_ns) * 1e-6;
}

// The rows are there.
static enum status complete(struct dispatch *dispatch, struct flight *flight) {
    struct answer *answer = &flight->answer;
    double spent_ms = since_ms(dispatch, flight->begun_ns);
    enum status status = answer_merge(answer, flight->order, dispatch->gather.receive,
                                      dispatch->offsets, dispatch->comm->world_size);
    comm_gather_finish(&dispatch->gather);
    spent_ms -= answer->work_ms;
    answer->gathered.has_order_ms = answer->gathered.has_collective_ms = true;
    answer->gathered.collective_ms = spent_ms > 0 ? spent_ms : 0;
    answer->gathered.order_ms = since_ms(dispatch, flight->arrived_ns);
    dispatch->ended_ns = clock_monotonic_ns();
    flight->is_complete = true;
    return status;
}

static enum status step_gather(struct dispatch *dispatch) {
    struct flight *flight = dispatch->n_flights > 0 ? dispatch->flights[0] : NULL;
    bool is_sent = !dispatch->sending || dispatch->n_sent > 1;
    if (flight == NULL || !is_sent || !flight->is_worked || flight->is_complete) {
        return STATUS_OK;
    }
    if (!dispatch->gathering) {
        dispatch->gathering = true;
        dispatch->gather_until_ms = deadline_after_ms(dispatch->timeouts.order_ms);
        return comm_gather_begin(&dispatch->gather, dispatch->comm, flight->rows, flight->rows_size,
                                 LIMIT_GROUP_MESSAGE_BYTES, dispatch->offsets);
    }
    bool done = false;
    enum status status = comm_gather_step(&dispatch->gather, &done);
    if (status == STATUS_OK && !done && deadline_passed(dispatch->gather_until_ms)) {
        comm_abandon(dispatch->comm);
        return STATUS_DEADLINE;
    }
    if (status == STATUS_OK && done) {
        dispatch->gathering = false;
        status = complete(dispatch, flight);
    }
    return status;
}

enum status dispatch_step(struct dispatch *dispatch) {
    enum status status = step_broadcast(dispatch);
    return status == STATUS_OK ? step_gather(dispatch) : status;
}

static struct flight *next_work(const struct dispatch *dispatch) {
    for (size_t i = 0; i < dispatch->n_flights; i++) {
        if (!dispatch->flights[i]->is_worked) {
            return dispatch->flights[i];
        }
    }
    return NULL;
}

bool dispatch_has_work(const struct dispatch *dispatch) {
    return next_work(dispatch) != NULL;
}

enum status dispatch_work(struct dispatch *dispatch, const struct error *fault) {
    struct flight *flight = next_work(dispatch);
    struct error own;
    enum status status = fault != NULL
                             ? slice_fail(flight->order, fault, &flight->rows, &flight->rows_size)
                             : slice_execute(dispatch->rank, flight->order, dispatch->comm->rank,
                                             &flight->rows, &flight->rows_size, &own);
    flight->is_worked = status == STATUS_OK;
    return status == STATUS_OK ? dispatch_step(dispatch) : status;
}

struct answer *dispatch_answer(struct dispatch *dispatch) {
    bool complete = dispatch->n_flights > 0 && dispatch->flights[0]->is_complete;
    return complete ? &dispatch->flights[0]->answer : NULL;
}

void dispatch_end(struct dispatch *dispatch) {
    ASSERT(dispatch_answer(dispatch) != NULL);
    flight_destroy(dispatch->flights[0]);
    dispatch->n_flights--;
    dispatch->n_sent--;
    memmove(dispatch->flights, dispatch->flights + 1,
            dispatch->n_flights * sizeof(struct flight *));
}

uint32_t dispatch_load(const struct dispatch *dispatch) {
    size_t n_items = 0;
    for (size_t i = 0; i < dispatch->n_flights; i++) {
        n_items += dispatch->flights[i]->order->n_items;
    }
    return (uint32_t)n_items;
}

static enum status broadcast_order(struct dispatch *dispatch, const Surefoot__Order *order) {
    uint8_t *packed = NULL;
    size_t size = 0;
    enum status status = wire_pack(WIRE_ORDER, order, &packed, &size);
    if (status == STATUS_OK) {
        status = comm_broadcast_message(dispatch->comm, &packed, &size, LIMIT_GROUP_MESSAGE_BYTES,
                                        0, deadline_after_ms(dispatch->timeouts.collective_ms));
    }
    free(packed);
    return status;
}

enum status dispatch_idle(struct dispatch *dispatch) {
    ASSERT(!dispatch_is_busy(dispatch));
    Surefoot__Order order = SUREFOOT__ORDER__INIT;
    enum status status = broadcast_order(dispatch, &order);
    // A small broadcast is over for the root before anybody has read it; the barrier is not.
    return status == STATUS_OK
               ? comm_barrier(dispatch->comm, deadline_after_ms(dispatch->timeouts.collective_ms))
               : status;
}

enum status dispatch_shutdown(struct dispatch *dispatch) {
    ASSERT(!dispatch_is_busy(dispatch));
    Surefoot__Order order = SUREFOOT__ORDER__INIT;
    order.has_shutdown = true;
    order.shutdown = true;
    return broadcast_order(dispatch, &order);
}
