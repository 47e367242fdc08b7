// A group of threads over comm local with fake ranks, and the coordinator's end of its wire in the
// hands of the test.
#ifndef TESTS_WORKER_GROUP_FIXTURE_H
#define TESTS_WORKER_GROUP_FIXTURE_H

#include <stdatomic.h>

#include "proto/channel.h"
#include "tests/support/testkit.h"
#include "tests/worker/fake_rank.h"
#include "worker/group/follower.h"
#include "worker/group/leader.h"

enum { GROUP_RANKS_MAX = 4, GROUP_SLOTS = 8, GROUP_WAIT_MS = 180000 };

struct group_member {
    struct group_fixture *group;
    pthread_t thread;
    struct comm *comm;
    struct rank *rank;
    enum group_end end;
    struct error err;
};

struct group_fixture {
    struct fake_control control;
    struct channel_context *context;
    struct channel *channel; // the coordinator's
    char endpoint[128];
    struct channel_peer peer; // of the last message
    int n_ranks;
    int stop_pipe[2];
    struct leader_options options;
    struct group_member members[GROUP_RANKS_MAX];
};

// Binds the coordinator's end and prepares the ranks; options may be changed before the start.
void group_open(struct group_fixture *group, int n_ranks);
void group_start(struct group_fixture *group);
// Waits for all ranks to end; members[i].end then holds how. Frees everything.
void group_join(struct group_fixture *group);
void group_close(struct group_fixture *group);

// Next message of the leader, heartbeats left out; wire_free(WIRE_GROUP_MESSAGE). Fails the test
// after GROUP_WAIT_MS.
Surefoot__GroupMessage *group_receive(struct group_fixture *group);
Surefoot__GroupMessage *group_receive_any(struct group_fixture *group);

void group_send(struct group_fixture *group, Surefoot__GroupCommand *command);
void group_send_bytes(struct group_fixture *group, const void *bytes, size_t size);
// Takes hello and welcomes the leader.
void group_admit(struct group_fixture *group, uint32_t heartbeat_ms, uint32_t dead_after_ms);
// Stops the coordinator; bound again at the same address by group_rebind.
void group_unbind(struct group_fixture *group);
void group_rebind(struct group_fixture *group);

#endif
