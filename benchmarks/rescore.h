// A judge that knows nothing of the search: scores whole texts from scratch with a cost model of
// its own, one text at a time, and sums the costs in float64. Used to check what a service
// returned.
#ifndef BENCHMARKS_RESCORE_H
#define BENCHMARKS_RESCORE_H

#include <stddef.h>
#include <stdint.h>

#include "common/status.h"

struct rescorer;

// Opens a cost model directory whose profile names cost_mode token_sum_pos, discount and chat
// template.
MUST_CHECK enum status rescorer_open(const char *directory, int threads, struct rescorer **out,
                                     struct error *err);
void rescorer_close(struct rescorer *rescorer); // NULL allowed

double rescorer_budget(const struct rescorer *rescorer); // the profile's

// *cost = sum over the response's tokens of discount^t max(0, s_t), the text read in one piece.
MUST_CHECK enum status rescorer_cost(struct rescorer *rescorer, const char *prompt,
                                     const uint32_t *token_ids, size_t n_tokens, double *cost,
                                     struct error *err);

#endif
