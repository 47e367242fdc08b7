// One job inside the scheduler: the queue of its ready candidates and which group holds which of
// them. Used by scheduler.c alone.
#ifndef COORDINATOR_SCHEDULER_JOB_H
#define COORDINATOR_SCHEDULER_JOB_H

#include "coordinator/scheduler.h"
#include "proto/limits.h"

enum {
    SCHEDULER_WORD_BITS = 64,
    SCHEDULER_WORDS = (LIMIT_GROUPS + SCHEDULER_WORD_BITS - 1) / SCHEDULER_WORD_BITS,
};

struct scheduler_job {
    uint64_t job_id;
    size_t job_bytes;
    size_t n_scorers;
    scheduler_next_fn next;
    void *context;
    bool admitted;                 // takes turns; the others wait for room
    uint32_t apart;                // not 0: one order at a time, of so many items at most, shared
                                   // with no other job
    struct scheduler_item **queue; // [n_queue], what goes on itself, then the others, each oldest
                                   // first; NULL where a dispatch took one out
    size_t n_queue;
    size_t queue_capacity; // >= n_queue + n_out, so that putting back needs no memory
    size_t n_out;          // items in orders, at most
    size_t n_new;          // items in queue and orders whose candidate nobody holds
    size_t n_held;         // candidates with a holder
    size_t cursor;    // of the dispatch in progress: what stands before it cannot be placed now
    uint16_t *holder; // [n_holder] by candidate id: group + 1, 0 nobody
    size_t n_holder;
    uint64_t told[SCHEDULER_WORDS];        // groups that have the job's description
    uint64_t counted[SCHEDULER_WORDS];     // groups for whose order its bytes were counted
    uint64_t touched[SCHEDULER_WORDS];     // groups that may hold something of it
    struct scheduler_penalties *penalties; // of the newest item, for sharing
};

void scheduler_job_destroy(struct scheduler_job *job);
void scheduler_item_destroy(struct scheduler_item *item); // NULL allowed

// Fills the queue up to `wanted`; memory is asked for before the search gives a candidate away.
MUST_CHECK enum status scheduler_job_pull(struct scheduler_job *job, size_t wanted);

// Puts an item of an order back in front of the queue.
void scheduler_job_requeue(struct scheduler_job *job, struct scheduler_item *item);

// Closes the gaps of a dispatch.
void scheduler_job_compact(struct scheduler_job *job);

// The group that holds what the item grows from, or -1.
int scheduler_job_home(const struct scheduler_job *job, const struct scheduler_item *item);

// `group` holds what became of the item, or nobody the candidate any more; or nothing of the job.
void scheduler_job_set_holder(struct scheduler_job *job, const struct scheduler_item *item,
                              int group);
// Returns the group that held it, -1 none.
int scheduler_job_clear_holder(struct scheduler_job *job, uint64_t candidate_id);
void scheduler_job_forget_group(struct scheduler_job *job, int group);

// Makes room for one more element; false leaves the array as it was.
bool scheduler_reserve(void *array_pointer, size_t count, size_t *capacity, size_t element_bytes);

#endif
