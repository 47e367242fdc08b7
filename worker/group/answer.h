// The one Gathered that a leader sends for an order, put together from what the ranks gathered.
#ifndef WORKER_GROUP_ANSWER_H
#define WORKER_GROUP_ANSWER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/status.h"
#include "proto/wire.h"

// Must not be copied: `gathered` points into it.
struct answer {
    Surefoot__Gathered gathered; // ready to be packed; rows borrowed from the parts
    bool fatal;                  // a rank cannot go on
    double work_ms;              // decode and score, the mean of the ranks
    Surefoot__Gathered **parts;  // [n_parts], by rank
    int n_parts;
    struct error error;
    Surefoot__ErrorInfo error_info;
};

// An empty answer to `order_id`.
void answer_init(struct answer *answer, uint64_t order_id);
void answer_finish(struct answer *answer);

// Makes it an error of the whole order; drops rows that it has. Copies `error`.
void answer_fail(struct answer *answer, const struct error *error);

// Rank r's packed Gathered is bytes[offsets[r]..offsets[r + 1]). Puts the rows into the order's
// item order (order->ranks tells who has each one), takes the mean of the ranks' times and the
// union of unknown_jobs. A rank's error becomes the answer's; so does, as STATUS_INTERNAL, a row
// that is missing though the rank knows its job. Fails with STATUS_NO_MEMORY.
MUST_CHECK enum status answer_merge(struct answer *answer, const Surefoot__Order *order,
                                    const uint8_t *bytes, const size_t *offsets, int world_size);

#endif
