// The safety state of a candidate (Ji et al. 2025, arXiv 2502.01208): z_0 = b,
// z_{t+1} = (z_t - c_t) / gamma, in every channel of costs. Kept as S_t = sum_{k<t} gamma^k c_k in
// float64, tokens in order, from which z_t = gamma^-t (b - S_t): the recursion is the same number
// with more rounding. The paper writes d for the budget and for the block length; here they are
// budget and block_tokens. This file holds the only comparison of a cost with a budget.
#ifndef COORDINATOR_SEARCH_SAFETY_H
#define COORDINATOR_SEARCH_SAFETY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "coordinator/search/search.h"

struct safety_state {
    struct channel_state channels[LIMIT_CHANNELS]; // [n_channels]
    bool admissible;                               // in every channel
    bool certain_loss;                             // of some channel
    double z;        // of channel 0, or, where a channel is over its budget, the smallest
    double nearness; // among equals larger is better; see below
};

// Evaluates the state of a candidate that may still grow to spec->max_tokens. z >= 0 says
// admissible, of a channel and of all, whatever the rule: under prefix, z of a text that was over
// budget earlier is the smallest that it had if it ended above 0. Nearness is z of channel 0 for a
// candidate that is admissible, else the smallest z_c / max(1, |b_c|), so that channels of other
// sizes compare; with one channel z itself. A job without channels is always admissible, with z 0.
void safety_evaluate(const struct search_spec *spec, const struct search_scores *scores,
                     struct safety_state *out);

// Of an evaluated state. STATUS_INVALID_ARGUMENT: a cost is below the cost_min of its channel, so
// that certain losses were none.
MUST_CHECK enum status safety_check_costs(const struct search_spec *spec,
                                          const struct safety_state *state, struct error *err);

// Tokens of the shortest block that is not a text's last: block_tokens, fewer where entropy ends
// blocks.
uint32_t safety_shortest_block(const struct search_spec *spec);

// Whether a candidate's state inside a block says as much of a certain loss as at its end: costs
// and discounts go by tokens in every channel.
bool safety_shows_inside_blocks(const struct search_spec *spec);

// The budget comparison: admissible is z >= 0, that is cost <= budget; exactly met is admissible.
// NaN is not.
bool safety_within_budget(double cost, double budget);

#endif
