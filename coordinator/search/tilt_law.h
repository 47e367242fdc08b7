// The laws of InfAlign's tilts (arXiv 2412.19792; docs/methods/infalign.md): what choosing by
// exp(Phi(u) / beta) gives, u the calibrated reward, uniform under the reference policy when no two
// rewards are equal. They depend on no prompt, reward or model. Pure; any thread. Betas are those
// of Phi as the paper writes it; inside, exp(t u) is exp(t (u - 1)), so that no value is above 1.
#ifndef COORDINATOR_SEARCH_TILT_LAW_H
#define COORDINATOR_SEARCH_TILT_LAW_H

#include <stdint.h>

#include "common/status.h"
#include "proto/job_choices.h"

enum {
    TILT_NODES = 320, // of integrals over [0, 1]
    TILT_STEPS = 512, // of the way to an optimum
};

// Phi in a unit of its own, so that no value is above 1. `optimum` is its value at v = 1 - (1 - k /
// TILT_STEPS)^2, v = u for the best of n and 1 - u for the worst, linear between them; NULL when
// there is a formula.
struct tilt_phi {
    enum tilt_transform transform;
    double t;        // of exp(t u) and -exp(-t u)
    double unit;     // what its values and beta are divided by
    double *optimum; // [TILT_STEPS + 1], owned
};

struct tilt_law {
    double win_rate;   // W against one answer of the reference policy
    double kl;         // nats, from the reference policy
    double best_of_n;  // W when both sides keep their best of N answers
    double worst_of_n; // and their worst
};

// An optimum of the best of `n` or of the worst is found as a fixed point, of the density that has
// the distance `kl` (beta 0) or of `beta` (kl 0). STATUS_LIMIT: it was not reached;
// STATUS_NO_MEMORY.
MUST_CHECK enum status tilt_phi_init(struct tilt_phi *phi, enum tilt_transform transform, double t,
                                     uint32_t n, double kl, double beta, struct error *err);
void tilt_phi_finish(struct tilt_phi *phi);

// Phi(u) / unit, u in [0, 1].
double tilt_phi_at(const struct tilt_phi *phi, double u);

// Gauss-Legendre on [0, 1].
struct tilt_rule {
    double at[TILT_NODES];
    double weights[TILT_NODES];
};
void tilt_rule_init(struct tilt_rule *rule);

// The law of choosing the r-th of `count` with probability p[r - 1], ranks ascending: u has the
// density sum of p_r Beta(r, count - r + 1). `cumulative` [count + 1] is scratch.
void tilt_law_of_few(const struct tilt_rule *rule, const double *p, uint32_t count, uint32_t n,
                     double *cumulative, struct tilt_law *law);
double tilt_kl_of_few(const struct tilt_rule *rule, const double *p, uint32_t count);

// Answers of the reference policy that exact rejection draws for one of the density ~ exp(Phi /
// beta), beta > 0 in the unit of Phi; infinite when it is more than a double holds.
double tilt_rejection_draws(const struct tilt_rule *rule, const struct tilt_phi *phi, double beta);

// below / beta for a value of Phi so far below the largest; beta 0 gives none but the largest a
// weight.
double tilt_exponent(double below, double beta);

// exp((values - the last) / beta), normalised, of values that ascend.
void tilt_weights(const double *values, uint32_t count, double beta, double *p);

// The beta at which the weights of values[count], ascending, have the distance `kl`; 0 when those
// of no beta have so large a one. `p` [count] is scratch.
double tilt_beta_of_few(const struct tilt_rule *rule, const double *values, uint32_t count,
                        double kl, double *p);

#endif
