// What a latent critic predicts of the discounted cost that a text has still to pay: a mixture of
// logistic distributions, whose distribution function at the safety state z is the probability that
// the text ends within its budget (docs/methods/critic.md). Plain data; any thread.
#ifndef COMMON_COST_TO_GO_H
#define COMMON_COST_TO_GO_H

#include <stdbool.h>

enum { COST_TO_GO_PARTS_MAX = 3 };

struct cost_to_go {
    int n_parts;                         // 1..COST_TO_GO_PARTS_MAX
    float weights[COST_TO_GO_PARTS_MAX]; // [n_parts] at least 0, sum 1
    float mus[COST_TO_GO_PARTS_MAX];     // [n_parts] units of cost
    float sigmas[COST_TO_GO_PARTS_MAX];  // [n_parts] above 0, likewise
};

// Whether every number is finite and in its range; weights may miss 1 by 1e-3.
bool cost_to_go_is_valid(const struct cost_to_go *cost);

// f1(z) = sum_k w_k / (1 + exp(-(z - mu_k) / sigma_k)) of a valid one: P(cost to go <= z), in [0,
// 1] and not decreasing in z. NaN for NaN.
double cost_to_go_within(const struct cost_to_go *cost, double z);

#endif
