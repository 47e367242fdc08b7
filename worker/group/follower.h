// The loop of a rank other than 0: takes the leader's orders, carries out its share, takes part in
// the gather. One thread.
#ifndef WORKER_GROUP_FOLLOWER_H
#define WORKER_GROUP_FOLLOWER_H

#include "cluster/comm/comm.h"
#include "worker/group/group.h"
#include "worker/group/rank.h"

// Blocks until the leader shuts the group down. After a fault of its own rank it still waits for
// that, so that no rank hangs. The leader is heard about once a second: a silence of
// timeouts->collective_ms is GROUP_END_LOST. err is filled unless stopped.
MUST_CHECK enum group_end follower_run(struct comm *comm, struct rank *rank,
                                       const struct group_timeouts *timeouts, struct error *err);

#endif
