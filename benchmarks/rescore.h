// A judge that knows nothing of the search: scores whole texts from scratch with a cost or reward
// model of its own, one text at a time. It takes the text alone, as a client has it, and tokenizes
// it; costs are summed in float64. Used to check what a service returned.
#ifndef BENCHMARKS_RESCORE_H
#define BENCHMARKS_RESCORE_H

#include <stddef.h>
#include <stdint.h>

#include "common/status.h"

struct rescorer;

// Opens a model directory with a profile that names a chat template: a reward model whose profile
// says append_eos, or a cost model with cost_mode token_sum_pos and discount.
MUST_CHECK enum status rescorer_open(const char *directory, int threads, struct rescorer **out,
                                     struct error *err);
void rescorer_close(struct rescorer *rescorer); // NULL allowed

double rescorer_budget(const struct rescorer *rescorer); // the profile's

// *cost = sum over the tokens of `text` of discount^t max(0, s_t). An end token costs nothing.
MUST_CHECK enum status rescorer_cost(struct rescorer *rescorer, const char *prompt,
                                     const char *text, double *cost, struct error *err);

// *reward = score after `text` and the end token.
MUST_CHECK enum status rescorer_reward(struct rescorer *rescorer, const char *prompt,
                                       const char *text, double *reward, struct error *err);

#endif
