// The table of worker groups: who said hello, from where, when last heard of. Pure: time is passed
// in, messages are the caller's. Group numbers 0..LIMIT_GROUPS-1 are the scheduler's too. A group
// that was lost stays in the table, dead, until it says hello again or its place is needed.
#ifndef COORDINATOR_GROUPS_H
#define COORDINATOR_GROUPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/status.h"
#include "coordinator/model_set.h"
#include "proto/channel.h"
#include "proto/limits.h"

enum {
    GROUP_FAULTS_MAX = 3,     // then a group is set aside
    GROUP_GOOD_ROWS = 1 << 10 // in a row, after which earlier faults are forgotten
};

struct group {
    bool used;
    bool alive;
    bool set_aside; // its answers were bad: no orders until another process takes its place
    bool stalled;   // one of its ranks gives no sign of life
    bool is_out;    // of the schedule, set aside or stalled beside others
    char why[ERROR_MESSAGE_BYTES]; // it is set aside or stalled, or was lost
    uint64_t bad_rows;             // of all that it answered
    uint32_t faults;               // of these its own, not their jobs'; forgotten after GOOD_ROWS
    uint32_t good_rows;            // since the last of its faults
    char name[LIMIT_NAME_BYTES + 1];
    struct channel_peer peer;
    uint32_t n_ranks;
    uint32_t slots; // candidates in one order
    uint64_t orders_done;
    uint64_t tokens;      // sampled, over all its orders
    uint64_t rebuilt;     // response tokens that it read again, likewise
    double decode_ms;     // over all its orders, as is what follows: mean of the ranks
    double score_ms;      // likewise
    double collective_ms; // what that work leaves
    double order_ms;      // from an order's arrival to its answer, at the group
    int64_t joined_ms;    // CLOCK_MONOTONIC
    int64_t last_seen_ms; // CLOCK_MONOTONIC
};

struct groups;

MUST_CHECK enum status groups_create(struct groups **out);
void groups_destroy(struct groups *groups); // NULL allowed

// Registers a group, in the place of an older one of the same name or peer; *replaced is that one's
// number when it was alive (it must be taken out of service first), else -1. A leader that
// reconnects has a new peer identity and looks like a second group of its name, so that a name is
// free once its holder was silent for silence_ms; until then STATUS_ALREADY_EXISTS, and leaders try
// again. The first group's models become the service's; later ones must have the same, until no
// group is alive and `idle` (no job is being searched) allows new ones. INVALID_ARGUMENT and LIMIT
// name the field of the hello.
struct groups_hello {
    const struct channel_peer *peer;
    const Surefoot__GroupHello *hello;
    bool idle;
    int64_t now_ms;
    int64_t silence_ms;
};
MUST_CHECK enum status groups_add(struct groups *groups, const struct groups_hello *args,
                                  int *group, int *replaced, struct error *err);

// The living group at `peer`, or -1.
int groups_find(const struct groups *groups, const struct channel_peer *peer);

// Any message counts as a sign of life.
void groups_seen(struct groups *groups, int group, int64_t now_ms);

// Counts an order that the group has answered, and where its time went. What is not a time is left
// out.
void groups_count_order(struct groups *groups, int group, const Surefoot__Gathered *gathered);

// A living group silent for dead_after_ms, or -1.
int groups_overdue(const struct groups *groups, int64_t now_ms, int64_t dead_after_ms);

void groups_lose(struct groups *groups, int group, const char *why);
void groups_set_aside(struct groups *groups, int group, const char *why);

// NULL for a place never used. The caller may update the counters.
struct group *groups_get(struct groups *groups, int group);

// NULL until a first group said hello.
const struct model_set *groups_models(const struct groups *groups);

// Counts a fault of the group's; a row of its that nobody could use, as its own fault or not; or
// one that was good.
void groups_blame(struct groups *groups, int group);
void groups_count_bad_row(struct groups *groups, int group, bool is_fault);
void groups_count_good_row(struct groups *groups, int group);
// A serving group with so many faults that it is to be set aside, or -1.
int groups_faulty(const struct groups *groups);

void groups_stall(struct groups *groups, int group, const char *why);

// Living groups, and those of them that are neither set aside nor stalled.
size_t groups_serving(const struct groups *groups);
size_t groups_alive(const struct groups *groups);

#endif
