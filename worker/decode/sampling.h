// How one next token is drawn from a row of logits, or taken by its rank. Pure: the same row,
// parameters and key give the same token, with Philox numbers keyed by (seed, lineage, position)
// and no generator state. Order of operations: logit bias, fallback penalty, repetition penalty,
// frequency penalty, forbidden end tokens, temperature, top-k, top-p, draw. Top-k keeps exactly k
// tokens and top-p the fewest whose renormalised probability reaches p; both take equal logits by
// ascending id (Holtzman et al. 2020, section 3.1, for top-p). Ids outside the vocabulary are
// ignored. Weights are f32, within 2e-7 of exact ones, and their sums have a fixed order
// (sampling_kernels.h): the token is what exact arithmetic draws unless the uniform number or top-p
// lies within about 1e-6 of a border between two tokens.
#ifndef WORKER_DECODE_SAMPLING_H
#define WORKER_DECODE_SAMPLING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/status.h"
#include "worker/backend/backend.h"
#include "worker/decode/sampling_kernels.h"

struct token_values {         // sparse additions to logits
    const int32_t *token_ids; // [n]
    const float *values;      // [n], logits
    int32_t n;
};

struct sampling_params {
    float temperature;        // >= 0; 0 takes the largest logit, ties to the smallest id
    int32_t top_k;            // 0 is off
    float top_p;              // (0, 1]
    float repetition_penalty; // > 0, 1 is off: seen tokens' logits divided (positive) or multiplied
                              // (Keskar et al. 2019, section 4.1)
    float frequency_penalty;  // logits per earlier occurrence in the response, 0 is off
    struct token_values bias; // added
};

struct sampling_row {
    const struct sampling_params *params; // borrowed
    struct token_values penalty;          // fallback penalty, subtracted
    const int32_t *prompt_ids;            // [n_prompt], for the repetition penalty
    int32_t n_prompt;
    const int32_t *response_ids; // [n_response], for both penalties
    int32_t n_response;
    const int32_t *forbidden_ids; // [n_forbidden], e.g. end tokens before min_tokens
    int32_t n_forbidden;
    uint64_t seed;
    uint64_t lineage;
    uint32_t position; // index of the drawn token in the response
    // 0 draws; else the token of this place in the order (logit descending, id ascending) is taken,
    // after the edits.
    int32_t rank;
    int32_t given; // 0 as above; else the token of the id below it is taken, whatever the edits say
    bool wants_entropy;
    int32_t token_id; // out; -1 when nothing can be drawn
    bool not_finite;  // out: a logit is NaN or +inf; nothing is drawn then
    float logprob;    // out: nats, of token_id under the unmodified logits at temperature 1
    float entropy;    // out, where wanted: nats, of the same distribution
};

// Draws one row; `logits` [vocab] are overwritten. `scratch` is caller's memory of
// sampling_scratch_bytes(vocab) bytes, 64-byte aligned. Host memory. When no token is left (all
// -inf, or all forbidden, or fewer than the rank) or a logit is NaN or +inf, token_id is -1.
void sampling_draw(const struct sampling_kernels *kernels, float *logits, int32_t vocab,
                   struct sampling_row *row, void *scratch);
size_t sampling_scratch_bytes(int32_t vocab);

#endif
