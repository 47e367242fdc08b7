// Which of two candidates is better: the score table E and the total order over it (Ji et al. 2025,
// arXiv 2502.01208, section 4; docs/methods/inference-guard.md). n, the penalty of an inadmissible
// candidate, is infinite: it is an order, not a number, so no reward can outweigh it.
#ifndef COORDINATOR_SEARCH_PREFERENCE_H
#define COORDINATOR_SEARCH_PREFERENCE_H

#include "coordinator/search/candidate.h"

// E(candidate), larger is better. plain: reward. lagrangian: reward - lambda C. cost: -C.
// augmented, methods that discount: gamma^T reward of a finished candidate (discount_reward),
// reward of the partial text of an unfinished one, f2 where scorers have not read it; other
// methods: reward. Admissibility is not in it: see preference_compare.
double preference_score(const struct search_spec *spec, const struct candidate *candidate);

// C of the Lagrangian and of cost, summed over the channels: the cost end score; under
// token_sum_pos, where the end score alone says nothing of the text, S_T. `state` is that of the
// scores.
double preference_lagrangian_cost(const struct search_spec *spec,
                                  const struct search_scores *scores,
                                  const struct safety_state *state);

// What augmented selection puts first: a candidate within its budgets, or, unfinished and with a
// critic, one that is not lost and likelier to end within them than not (f1 > 0.5).
bool preference_is_viable(const struct search_spec *spec, const struct candidate *candidate);

// Negative when a is better than b, positive when worse, never 0 for different candidates.
// augmented: viable first, then larger E, or f1 where neither is, larger nearness, smaller id;
// otherwise larger E, smaller id. Where a method takes the first, E and nearness of what is
// admissible do not count.
int preference_compare(const struct search_spec *spec, const struct candidate *a,
                       const struct candidate *b);

// The same score of the prompt alone, from its scorers' scores [n_scorers]; without a discount.
double preference_prompt_score(const struct search_spec *spec, const float *prompt_scores);

// What becomes of a candidate that its method gives up for a better one.
enum candidate_fate preference_fate_of_unselected(const struct search_spec *spec,
                                                  const struct candidate *candidate);

// Sorts best first.
void preference_sort(const struct search_spec *spec, struct candidate **candidates, size_t count);

#endif
