// The leader's side of the collectives: places an order's items on the ranks, broadcasts it,
// carries out rank 0's share, gathers. Every failure here is one of the communicator or of memory,
// after which the ranks are no longer in step. Leader's thread only.
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

// Runs an order of the coordinator's and fills an initialised answer, with the order's error when
// it is refused. order->ranks is in use during the call and empty again afterwards. Blocks for as
// long as the work takes.
MUST_CHECK enum status dispatch_order(struct dispatch *dispatch, Surefoot__Order *order,
                                      struct answer *answer);

// A sign of life for waiting followers, which they return: finds a rank that hangs while there is
// no work.
MUST_CHECK enum status dispatch_idle(struct dispatch *dispatch);

// Ends the followers' loops.
MUST_CHECK enum status dispatch_shutdown(struct dispatch *dispatch);

#endif
