// What changes single logits of a row before a draw: bias, penalties and forbidden tokens. Touches
// the tokens concerned and no others, and remembers what they were.
#ifndef WORKER_DECODE_SAMPLING_EDIT_H
#define WORKER_DECODE_SAMPLING_EDIT_H

#include <stdbool.h>
#include <stdint.h>

#include "worker/decode/sampling.h"

struct sampling_edit {
    float *logits;    // [vocab], edited in place
    int32_t vocab;    // ids outside are ignored
    int32_t *marks;   // [vocab], any contents
    int32_t *ids;     // [vocab], out: the n edited ids, each once
    float *originals; // [vocab], out: their logits before
    int32_t n;        // out
};

bool sampling_edit_needed(const struct sampling_row *row);

// Edits in the order that sampling.h gives. No logit becomes NaN or +inf.
void sampling_edit_apply(struct sampling_edit *edit, const struct sampling_row *row);

// The logit that `id` came with.
float sampling_edit_original(const struct sampling_edit *edit, int32_t id);

#endif
