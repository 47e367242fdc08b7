// What the scorers of a job say together: weighted sums of their raw scores, of rewards and of the
// costs of a channel. The one place where scores of several scorers meet; sums run in the order of
// the scorers, in float64.
#ifndef COORDINATOR_SEARCH_COMBINE_H
#define COORDINATOR_SEARCH_COMBINE_H

#include "coordinator/search/search.h"

// R of end scores [n_scorers]; 0 without a reward scorer.
double combine_reward(const struct search_spec *spec, const float *end_scores);

// e of end scores [n_scorers], of a channel.
double combine_end_cost(const struct search_spec *spec, uint32_t channel, const float *end_scores);

// s at a place below scores->n_places, of a channel. Under token_sum_pos each scorer is clamped by
// itself: what one finds good pays for nothing that another finds bad.
double combine_token_cost(const struct search_spec *spec, uint32_t channel,
                          const struct search_scores *scores, uint32_t place);

#endif
