// The leader's side of the collectives: places the items of orders on the ranks, broadcasts them,
// carries out rank 0's share, gathers. Two orders may be under way: the next one is with the ranks
// before the rows of the last are gathered, so that a rank that is done early has work. Every
// failure here is one of the communicator or of memory, after which the ranks are no longer in
// step. Leader's thread only.
#ifndef WORKER_GROUP_DISPATCH_H
#define WORKER_GROUP_DISPATCH_H

#include "cluster/comm/comm.h"
#include "worker/group/answer.h"
#include "worker/group/group.h"
#include "worker/group/order_check.h"
#include "worker/group/rank.h"

struct dispatch;

// Borrows comm and rank until destroyed.
MUST_CHECK enum status dispatch_create(struct comm *comm, struct rank *rank,
                                       const struct order_limits *limits,
                                       const struct group_timeouts *timeouts,
                                       struct dispatch **out);
void dispatch_destroy(struct dispatch *dispatch); // NULL allowed

// Whether another order can be begun, and whether any is under way, from its beginning until its
// answer was taken.
bool dispatch_has_room(const struct dispatch *dispatch);
bool dispatch_is_busy(const struct dispatch *dispatch);

// Begins a checked order of the coordinator's, which arrived at arrived_ns (CLOCK_MONOTONIC); room
// is the caller's to see to. Takes the order over, also when it fails. `refusal` is filled, and no
// rank learns of the order, when it cannot be carried out; STATUS_OK then too.
MUST_CHECK enum status dispatch_begin(struct dispatch *dispatch, Surefoot__Order *order,
                                      int64_t arrived_ns, struct error *refusal);

// Moves on what is under way, without waiting.
MUST_CHECK enum status dispatch_step(struct dispatch *dispatch);

// Whether rank 0 has not done its share of an order yet; does it, for as long as that takes. Steps
// are for the rank's progress callback then. `fault`, not NULL: nothing is computed, the share is
// this error.
bool dispatch_has_work(const struct dispatch *dispatch);
MUST_CHECK enum status dispatch_work(struct dispatch *dispatch, const struct error *fault);

// The answer to the oldest order, valid until dispatch_end; NULL while it is not complete.
struct answer *dispatch_answer(struct dispatch *dispatch);
void dispatch_end(struct dispatch *dispatch);

// Items of the orders under way.
uint32_t dispatch_load(const struct dispatch *dispatch);

// A sign of life for waiting followers, which they return: finds a rank that hangs while there is
// no work. Nothing may be under way, here and below.
MUST_CHECK enum status dispatch_idle(struct dispatch *dispatch);

// Ends the followers' loops.
MUST_CHECK enum status dispatch_shutdown(struct dispatch *dispatch);

#endif
