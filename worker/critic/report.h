// How a critic does on samples that it was not trained on: for several budgets, at a quarter, half
// and three quarters of the texts, beside the safety state alone. One thread.
#ifndef WORKER_CRITIC_REPORT_H
#define WORKER_CRITIC_REPORT_H

#include <jansson.h>

#include "worker/critic/critic.h"
#include "worker/critic/samples.h"

enum { REPORT_BUDGETS_MAX = 8 };

// budgets [*n], at most REPORT_BUDGETS_MAX: `own` unless it is NaN, then the quartiles of what the
// texts of samples indexes [n_indexes] cost in `channel` in all, each once. STATUS_NO_MEMORY.
MUST_CHECK enum status critic_report_budgets(const struct critic_terms *terms,
                                             const struct critic_samples *samples, int32_t channel,
                                             const size_t *indexes, size_t n_indexes, double own,
                                             double budgets[REPORT_BUDGETS_MAX], size_t *n);

// Appends {scorer, budget, at[{place, n, safe, auroc, brier, auroc_z, brier_z}], all{n, safe,
// auroc, brier, false_safe, false_unsafe, bins[{from, n, predicted, happened}]}} of a channel to
// `list`. In `at` each text counts once, with its state nearest to the place, within an eighth; "z"
// is the safety state alone: its order, and 1[z >= 0] as a probability. What cannot be said (all
// safe) is null. Errors of critic_evaluate and critic_read; STATUS_NO_MEMORY.
MUST_CHECK enum status critic_report_make(struct critic *critic, struct backend *backend,
                                          const struct critic_samples *samples, int32_t channel,
                                          const size_t *indexes, size_t n, const double *budgets,
                                          size_t n_budgets, json_t *list, struct error *err);

// [{place, n, correlation, squared_error}] of a value with what the texts came to, at the same
// places. Owned. Errors likewise.
MUST_CHECK enum status critic_report_value(struct critic *critic, struct backend *backend,
                                           const struct critic_samples *samples,
                                           const size_t *indexes, size_t n, json_t **out,
                                           struct error *err);

#endif
