// Finished texts that a model scorer keeps, the newest of each job: candidates that share a stem
// end at different times, and each is read anew from its first token that the tokenizer would write
// otherwise (worker/decode/response.h). What a kept reading shares with a new one is forked instead
// of read again.
#ifndef WORKER_SCORE_READINGS_H
#define WORKER_SCORE_READINGS_H

#include <stdint.h>

#include "common/status.h"
#include "worker/model/context.h"

enum { READINGS_PER_OWNER = 8 };

struct reading {
    const void *owner;         // whose prompt it follows; NULL: free
    struct sequence *sequence; // prompt and ids
    int32_t *ids;              // [n]
    float *scores;             // [n], after each id
    int32_t n;
    int32_t capacity;
    uint64_t used;
};

struct readings;

// `capacity` readings of sequences of `context`, which is borrowed.
MUST_CHECK enum status readings_create(struct model_context *context, int32_t capacity,
                                       struct readings **out);
void readings_destroy(struct readings *readings); // NULL allowed

// The owner's reading that shares the longest beginning with ids[0..n), and its length; NULL: none
// shares anything. Valid until the next call that is not this.
const struct reading *readings_find(struct readings *readings, const void *owner,
                                    const int32_t *ids, int32_t n, int32_t *length);

// Keeps a copy of what was read, in the place of the owner's oldest reading or the oldest of all.
// Does nothing where there is no memory or no free sequence: it only costs time.
void readings_keep(struct readings *readings, const void *owner, const struct sequence *sequence,
                   const int32_t *ids, const float *scores, int32_t n);

// Drops the owner's readings; those of all owners.
void readings_forget(struct readings *readings, const void *owner);
void readings_forget_all(struct readings *readings);

int32_t readings_common(const int32_t *a, int32_t n_a, const int32_t *b, int32_t n_b);

#endif
