// A rank without models, linked in place of worker/group/rank.c: rows are known in advance, and the
// test decides when a rank works, blocks or fails.
#ifndef TESTS_WORKER_FAKE_RANK_H
#define TESTS_WORKER_FAKE_RANK_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/status.h"
#include "worker/group/rank.h"

enum { FAKE_VOCAB = 1000, FAKE_BLOCK_TOKENS = 64 };

// Shared by the ranks of one group; change it through the functions.
struct fake_control {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    int blocked_rank; // its executions do not end; -1 none
    bool is_frozen;   // nor does it give signs of life
    int faulty_rank;  // its executions fail; -1 none
    enum status fault;
    bool forgetful;   // jobs must come with every order
    int n_executions; // begun, over all ranks
};

void fake_control_init(struct fake_control *control);
void fake_control_finish(struct fake_control *control);
void fake_block(struct fake_control *control, int rank_index);  // -1 lets all go on
void fake_freeze(struct fake_control *control, int rank_index); // ended by fake_block(control, -1)
void fake_break(struct fake_control *control, int rank_index, enum status fault);
void fake_forget(struct fake_control *control);
// Returns once so many were begun.
void fake_await_executions(struct fake_control *control, int count);

// Row of an item: token_ids {candidate id, rank}.
struct rank *fake_rank_create(struct fake_control *control);

#endif
