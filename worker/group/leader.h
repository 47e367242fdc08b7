// Rank 0 of a group: the only one that talks to the coordinator. Says hello, beats, passes orders
// on to the ranks and their rows back. A coordinator that falls silent is waited for, with
// everything the ranks hold kept, and greeted again. One thread.
#ifndef WORKER_GROUP_LEADER_H
#define WORKER_GROUP_LEADER_H

#include "cluster/comm/comm.h"
#include "worker/group/group.h"
#include "worker/group/rank.h"

struct leader_options {
    const char *endpoint; // of the coordinator's side for groups
    const char *name;     // of the group, 1..LIMIT_NAME_BYTES bytes
    int slots_per_rank;   // items of one order for each rank; world_size times so many make the
                          // group's
    int heartbeat_ms;     // where the coordinator's welcome names none, > 0
    int stop_fd;          // readable once the group is to end; -1 none. Borrowed, not read.
    struct group_timeouts timeouts;
};

// Blocks until the group ends. Tells the coordinator goodbye where it still can, and the followers
// to stop unless the group is lost. err is filled unless stopped.
MUST_CHECK enum group_end leader_run(const struct leader_options *options, struct comm *comm,
                                     struct rank *rank, struct error *err);

#endif
