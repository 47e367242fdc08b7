// What leader and followers have in common: how long they wait for each other and how they end.
#ifndef WORKER_GROUP_GROUP_H
#define WORKER_GROUP_GROUP_H

struct group_timeouts {
    int collective_ms; // ranks that are all at a collective, or about to be, > 0
    int order_ms;      // the slowest rank's work on one order, > 0
};

enum group_end {
    GROUP_END_STOPPED,  // asked to, by the coordinator or a signal
    GROUP_END_REJECTED, // the coordinator refused the group, or its address cannot be used
    GROUP_END_FAULT, // this rank, or for the leader any rank, lost its device or ran out of memory
    GROUP_END_LOST,  // a rank missed a collective: the communicator is unusable, comm_abort it
};

#endif
