// The safety state of a candidate (Ji et al. 2025, arXiv 2502.01208): z_0 = b,
// z_{t+1} = (z_t - c_t) / gamma. Kept as S_t = sum_{k<t} gamma^k c_k in float64, tokens in order,
// from which z_t = gamma^-t (b - S_t): the recursion is the same number with more rounding. The
// paper writes d for the budget and for the block length; here they are budget and block_tokens.
// This file holds the only comparison of a cost with a budget.
#ifndef COORDINATOR_SEARCH_SAFETY_H
#define COORDINATOR_SEARCH_SAFETY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "coordinator/search/search.h"

struct safety_state {
    double cost;       // S_t; for end_sign the newest e_j
    double z;          // gamma^-t (b - S_t); for end_sign b - e_j; see below
    bool admissible;   // terminal: z >= 0 now; prefix: z >= 0 now and at every earlier cost
    bool certain_loss; // no continuation within max_tokens can be admissible
};

// Evaluates the state of a candidate that may still grow to spec->max_tokens. z >= 0 says
// admissible, whatever the rule: under prefix, z of a text that was over budget earlier is the
// smallest that it had if it ended above 0; with violations it is at most minus their number. A job
// without cost scorers is always admissible, with cost 0 and z = b.
void safety_evaluate(const struct search_spec *spec, const struct search_scores *scores,
                     struct safety_state *out);

// The budget comparison: admissible is z >= 0, that is cost <= budget; exactly met is admissible.
// NaN is not.
bool safety_within_budget(double cost, double budget);

#endif
