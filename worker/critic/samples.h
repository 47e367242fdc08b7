// What a critic is trained on: states o_t of ended texts with what these had still to pay there,
// and the reward of their text so far. Plain data; the reader of records (worker/critic/records.h)
// makes it, or a test.
#ifndef WORKER_CRITIC_SAMPLES_H
#define WORKER_CRITIC_SAMPLES_H

#include <stddef.h>
#include <stdint.h>

#include "worker/critic/terms.h"

struct critic_samples {
    size_t n; // states, a trajectory's one behind the other
    uint32_t n_prompts;
    const uint16_t *states; // [n, hidden_dim] bf16
    float *costs;           // [n, n_channels] R_t, or M_t under prefix; not of a value
    float *rewards;    // [n] of the text so far, of a value R - lambda C; NULL: none is predicted
    float *spent;      // [n, n_channels] S_t: z_t = (b - S_t) / weights
    float *weights;    // [n, n_channels] gamma^t, as far as discounts went
    float *places;     // [n] t / T, (0, 1)
    uint32_t *prompts; // [n] 0..n_prompts - 1, of its trajectory
    uint32_t *trajectories; // [n]
};

#endif
