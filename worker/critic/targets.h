// What a critic is trained on, from the scores of an ended text: the cost of each place, and the
// discounted cost to go before it (docs/methods/critic.md). Pure; any thread.
#ifndef WORKER_CRITIC_TARGETS_H
#define WORKER_CRITIC_TARGETS_H

#include "worker/critic/terms.h"

// costs[n] and discounts[n] of a text of n > 0 tokens: c_t, paid by token t, and what the safety
// state is divided by after it, gamma or 1. scores[n]: of the channel's scorer after each token;
// end_score: at the text's end. Under end_delta and end_sign c_t of the first block is e_1, as if
// e_0, which no text has a part in, were 0.
void critic_costs(const struct critic_channel *channel, const float *scores, float end_score,
                  int32_t n, double *costs, double *discounts);

// to_go[n] by one backward scan: R_t = c_t + gamma R_{t+1}, or under prefix
// M_t = c_t + max(0, gamma M_{t+1}); of the last token its cost.
void critic_cost_to_go(enum admit_rule rule, const double *costs, const double *discounts,
                       int32_t n, double *to_go);

#endif
