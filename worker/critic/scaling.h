// The units in which a critic is trained: elements of states without mean and in units of their
// spread, costs and rewards likewise. Folded into a network, it reads and gives what is outside.
#ifndef WORKER_CRITIC_SCALING_H
#define WORKER_CRITIC_SCALING_H

#include "worker/critic/net.h"
#include "worker/critic/samples.h"

struct critic_scaling {
    float *state_means;   // [hidden_dim], owned
    float *state_spreads; // [hidden_dim], owned, above 0
    double cost_means[CRITIC_CHANNELS_MAX];
    double cost_spreads[CRITIC_CHANNELS_MAX]; // above 0
    double reward_mean;
    double reward_spread; // above 0
};

// Standard deviations and means over samples indexes[n]. STATUS_INVALID_ARGUMENT: a number that is
// none, costs or rewards that are all the same; the error names them. STATUS_NO_MEMORY. Release
// with critic_scaling_finish, on failure too.
MUST_CHECK enum status critic_scaling_make(const struct critic_terms *terms,
                                           const struct critic_samples *samples,
                                           const size_t *indexes, size_t n,
                                           struct critic_scaling *out, struct error *err);
void critic_scaling_finish(struct critic_scaling *scaling);

// out[hidden_dim]: a bf16 state in these units.
void critic_scaling_state(const struct critic_scaling *scaling, const uint16_t *state,
                          int32_t hidden_dim, float *out);

// Rewrites the network's arrays [in `parameters`, critic_net_view] from these units to outer ones,
// with the terms' parts; sigma_min is in these units and is set in `net`.
void critic_scaling_fold(const struct critic_scaling *scaling, const struct critic_terms *terms,
                         float sigma_min, float *parameters, struct critic_net *net);

#endif
