// Which samples are trained on, stopped by and reported on. All samples of a prompt are in one
// part: texts of one prompt are alike. Pure; any thread.
#ifndef WORKER_CRITIC_SPLIT_H
#define WORKER_CRITIC_SPLIT_H

#include "worker/critic/train.h"

enum { CRITIC_PARTS = 3 };

struct critic_split {
    size_t *indexes[CRITIC_PARTS]; // [counts], owned, ascending
    size_t counts[CRITIC_PARTS];
};

// One prompt in ten, drawn by seed, to stop by, one to report on. STATUS_NO_MEMORY.
MUST_CHECK enum status critic_split_make(const struct critic_samples *samples, uint64_t seed,
                                         struct critic_split *out);
void critic_split_finish(struct critic_split *split);

#endif
