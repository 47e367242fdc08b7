// Cuts the ready candidates of all running jobs into orders for the groups. Pure: no socket, clock
// or store; the caller tells what happened and takes the orders. It decides where and when work is
// done, never what: results do not depend on it.
//
// Each idle group gets an order of at most its slots, and a second one, which it turns to when its
// ranks are done with the first, each in its time, while there is enough to fill that too. As many
// jobs, oldest first, are admitted as
// the groups can hold the candidates of, more where these leave slots free, and one more whenever
// none was for a number of tokens. Admitted jobs take turns of up to 32 candidates, the turn
// carried over from order to order, so that no job starves and equal jobs get equal shares. Within
// a job, what goes on comes before what begins. A candidate whose parent some group holds goes
// there, unless that group would get half as much again as its share; while that group is busy the
// candidate waits for it, except that a group with nothing else to do takes half of what is
// waiting. Candidates that nobody holds go to the least loaded group. A job that is set apart has
// one order at a time, shared with no other job, and goes before the others; no group has a second
// order then.
#ifndef COORDINATOR_SCHEDULER_H
#define COORDINATOR_SCHEDULER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/status.h"
#include "coordinator/search/search.h"

struct scheduler;

enum { SCHEDULER_ORDERS_MAX = 2 }; // of a group at a time

// Sparse logit penalties, shared by the items of one try.
struct scheduler_penalties {
    uint32_t references;
    uint32_t n;
    uint32_t *token_ids; // [n]
    float *values;       // [n]
};

// One candidate to grow, a copy of what the search gave out.
struct scheduler_item {
    uint64_t job_id;
    uint64_t candidate_id;
    uint64_t parent_id;
    uint32_t grow_tokens;
    uint32_t unread_by; // as in OrderItem, with the three below
    uint32_t token_rank;
    float entropy_stop;                    // nats
    uint32_t entropy_after;                // tokens
    uint32_t prefix_index;                 // likewise
    float temperature;                     // likewise, 0: the job's
    uint32_t attempts;                     // the caller's: times a living group gave no row
    int avoid;                             // group that was lost with it or did it badly, -1 none
    bool was_bad;                          // the latter
    bool was_lost;                         // the caller's: in an order that was lost, not back yet
    struct scheduler_penalties *penalties; // NULL none
    uint32_t n_tokens;
    uint32_t tokens[]; // [n_tokens]
};

struct scheduler_order {
    uint64_t order_id;
    int group;
    uint64_t apart_job_id; // the job set apart whose order this is, 0 none
    size_t bytes;          // estimate of order and answer together
    size_t n_items;
    struct scheduler_item **items; // [n_items]
};

struct scheduler_release {
    uint64_t job_id;
    uint64_t candidate_id; // 0: the whole job
};

// Gives out a job's next candidate as search_next does; false when there is none now.
typedef bool (*scheduler_next_fn)(void *context, struct search_grow *out);

MUST_CHECK enum status scheduler_create(struct scheduler **out);
void scheduler_destroy(struct scheduler *scheduler); // NULL allowed

// `group` is the caller's number, 0..LIMIT_GROUPS-1. Adding clears what an earlier group of that
// number held. Removing puts the candidates of its orders back in front of their jobs' queues;
// returns how many.
void scheduler_add_group(struct scheduler *scheduler, int group, uint32_t slots);
size_t scheduler_remove_group(struct scheduler *scheduler, int group);

// After an order that a group could not hold in memory: the next has at most so many items; each
// finished order doubles the limit again, up to the slots.
void scheduler_limit_group(struct scheduler *scheduler, int group, uint32_t items);

// `job_bytes` estimates the job's description on the wire, `n_scorers` sizes the rows. `next` is
// called with `context` until the job is removed.
MUST_CHECK enum status scheduler_add_job(struct scheduler *scheduler, uint64_t job_id,
                                         size_t job_bytes, size_t n_scorers, scheduler_next_fn next,
                                         void *context);
// Drops the job's queue and has every group that saw it release it. Items still out stay with their
// orders; their rows are for the caller to ignore.
void scheduler_remove_job(struct scheduler *scheduler, uint64_t job_id);

// Sets a job apart from the others, with at most `items_max` candidates in its order, or with 0
// puts it back among them. Unknown jobs are fine.
void scheduler_set_apart(struct scheduler *scheduler, uint64_t job_id, uint32_t items_max);

// The number of the newest order.
uint64_t scheduler_last_order_id(const struct scheduler *scheduler);

// Fills orders. Then scheduler_take_order returns each group's new order once, NULL when it has
// none; the order stays the scheduler's until finished.
MUST_CHECK enum status scheduler_dispatch(struct scheduler *scheduler);
const struct scheduler_order *scheduler_take_order(struct scheduler *scheduler, int group);

// The order came back: hands it over. NULL when `order_id` is none of the group's orders (a late
// answer). Each item is then placed or retried, and the order destroyed.
struct scheduler_order *scheduler_finish_order(struct scheduler *scheduler, int group,
                                               uint64_t order_id);
// The candidate came back as a row: the group now holds it at its new length. Each item of a
// finished order is placed or retried at most once.
void scheduler_place(struct scheduler *scheduler, const struct scheduler_item *item, int group);
// Takes item `index` out of a finished order and queues it again in front. False when its job is
// gone.
bool scheduler_retry(struct scheduler *scheduler, struct scheduler_order *order, size_t index);
// Whether there is a group beside `group`. An item that avoids a group goes there all the same when
// there is no other any more.
bool scheduler_has_other_group(const struct scheduler *scheduler, int group);
void scheduler_order_destroy(struct scheduler_order *order); // NULL allowed

// Candidates that the search needs no more.
void scheduler_release(struct scheduler *scheduler, uint64_t job_id, const uint64_t *candidate_ids,
                       size_t n);
// Takes what the next order to `group` has to release; [*n] in an array of the scheduler's, valid
// until the next call on it.
const struct scheduler_release *scheduler_take_releases(struct scheduler *scheduler, int group,
                                                        size_t *n);

// True when `group` has yet to be told about the job; it counts as told from then on.
bool scheduler_tell_job(struct scheduler *scheduler, int group, uint64_t job_id);
bool scheduler_must_tell(const struct scheduler *scheduler, int group,
                         uint64_t job_id); // only asks
// The group said that it does not know the job.
void scheduler_forget_job(struct scheduler *scheduler, int group, uint64_t job_id);

// The orders that `group` has, oldest first, in out[SCHEDULER_ORDERS_MAX]; returns how many. And
// how many items they have.
size_t scheduler_get_orders(const struct scheduler *scheduler, int group,
                            const struct scheduler_order **out);
size_t scheduler_group_load(const struct scheduler *scheduler, int group);

#endif
