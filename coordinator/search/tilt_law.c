#include "coordinator/search/tilt_law.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

enum {
    ROOT_STEPS_MAX = 200,
    BRACKET_STEPS_MAX = 24,
};

static bool is_optimum(enum tilt_transform transform) {
    return transform == TILT_TRANSFORM_OPTIMAL_BON || transform == TILT_TRANSFORM_OPTIMAL_WON;
}

static double optimum_at(const double *optimum, double v) {
    double at = TILT_STEPS * (1 - sqrt(1 - v));
    int step = (int)fmin(at, TILT_STEPS - 1);
    return optimum[step] + (at - step) * (optimum[step + 1] - optimum[step]);
}

double tilt_phi_at(const struct tilt_phi *phi, double u) {
    switch (phi->transform) {
    case TILT_TRANSFORM_LOG:
        return log(u);
    case TILT_TRANSFORM_EXP:
        return exp(phi->t * (u - 1));
    case TILT_TRANSFORM_EXP_NEG:
        return -exp(-phi->t * u);
    case TILT_TRANSFORM_OPTIMAL_BON:
        return optimum_at(phi->optimum, u);
    case TILT_TRANSFORM_OPTIMAL_WON:
        return optimum_at(phi->optimum, 1 - u);
    case TILT_TRANSFORM_NONE:
    case TILT_TRANSFORM_IDENTITY:
        break;
    }
    return u;
}

// x^n
static double power(double x, uint32_t n) {
    double product = 1;
    for (; n > 0; n >>= 1) {
        product *= (n & 1) != 0 ? x : 1;
        x *= x;
    }
    return product;
}

// A root of a function that falls with x, between x where it is `at` > 0 and x where it is <= 0:
// the Illinois rule, halved when that is slow.
struct bracket {
    double low, at_low, high, at_high;
};

typedef double (*root_fn)(void *context, double x);

static double find_root(root_fn function, void *context, struct bracket bracket) {
    double low = bracket.low, high = bracket.high;
    double at_low = bracket.at_low, at_high = bracket.at_high;
    for (int step = 0; step < ROOT_STEPS_MAX && high - low > 1e-12 * (1 + fabs(low)); step++) {
        double x =
            step % 3 == 2 ? 0.5 * (low + high) : low + (high - low) * at_low / (at_low - at_high);
        double at = function(context, x);
        if (fabs(at) <= 1e-13) {
            return x;
        }
        if (at > 0) {
            low = x;
            at_low = at;
            at_high *= 0.5;
        } else {
            high = x;
            at_high = at;
            at_low *= 0.5;
        }
    }
    return 0.5 * (low + high);
}

// The positive number at whose logarithm a function that falls is 0, sought from `start` on in
// steps that begin with `step` and grow by the factor `growth`; 0 when the function is nowhere
// positive, or nowhere else.
static double find_falling(root_fn function, void *context, double start, double step,
                           double growth) {
    struct bracket bracket = {.low = log(start), .high = log(start)};
    bracket.at_low = bracket.at_high = function(context, bracket.low);
    bool is_low = bracket.at_low <= 0;
    for (int i = 0; i < BRACKET_STEPS_MAX && is_low && bracket.at_low <= 0; i++, step *= growth) {
        bracket.high = bracket.low;
        bracket.at_high = bracket.at_low;
        bracket.low -= step;
        bracket.at_low = function(context, bracket.low);
    }
    for (int i = 0; i < BRACKET_STEPS_MAX && !is_low && bracket.at_high > 0; i++, step *= growth) {
        bracket.low = bracket.high;
        bracket.at_low = bracket.at_high;
        bracket.high += step;
        bracket.at_high = function(context, bracket.high);
    }
    return bracket.at_low > 0 && bracket.at_high <= 0 ? exp(find_root(function, context, bracket))
                                                      : 0;
}

// A fixed point as a problem of two borders. With v = u and H = F for the best of N, v = 1 - u and
// H = 1 - F for the worst: H' = h, (log h)' = +- N^2 (H v)^(N - 1) / beta, H(0) = 0, H(1) = 1.
// Given h(0) there is one beta that meets the latter, and the distance grows with |log h(0)|.
struct shot {
    bool best;
    uint32_t n;
    double kl;     // what is asked for, or
    double beta;   // this where kl is 0
    double start;  // log h(0)
    double met;    // beta of that start, 0: none
    double missed; // H(1) - 1 at that beta
    double *path;  // [TILT_STEPS + 1] log h at v = 1 - (1 - k / TILT_STEPS)^2, which is dense at 1
    double distance;
};

struct shot_state {
    double mass; // H
    double log_density;
    double distance; // integral of h log h
};

static struct shot_state slope(const struct shot *shot, double coupling, double x,
                               struct shot_state at) {
    double stretch = 2 * (1 - x);
    double v = x * (2 - x);
    double density = exp(at.log_density);
    return (struct shot_state){
        .mass = stretch * density,
        .log_density = stretch * coupling * power(at.mass * v, shot->n - 1),
        .distance = density > 0 ? stretch * density * at.log_density : 0,
    };
}

static struct shot_state moved(struct shot_state at, struct shot_state by, double step) {
    return (struct shot_state){
        .mass = at.mass + step * by.mass,
        .log_density = at.log_density + step * by.log_density,
        .distance = at.distance + step * by.distance,
    };
}

// H(1) - 1, by Runge and Kutta's fourth order; cut short once H is so large that it cannot come
// back.
static double shoot(struct shot *shot, double beta) {
    double n = shot->n;
    double coupling = (shot->best ? 1 : -1) * n * n / beta;
    double h = 1.0 / TILT_STEPS;
    struct shot_state at = {.log_density = shot->start};
    shot->path[0] = at.log_density;
    for (int k = 0; k < TILT_STEPS; k++) {
        double x = k * h;
        struct shot_state a = slope(shot, coupling, x, at);
        struct shot_state b = slope(shot, coupling, x + h / 2, moved(at, a, h / 2));
        struct shot_state c = slope(shot, coupling, x + h / 2, moved(at, b, h / 2));
        struct shot_state d = slope(shot, coupling, x + h, moved(at, c, h));
        at = moved(moved(moved(moved(at, a, h / 6), b, h / 3), c, h / 3), d, h / 6);
        shot->path[k + 1] = at.log_density;
        if (shot->best && !(at.mass < 2)) {
            return 1;
        }
    }
    shot->distance = at.distance;
    return at.mass - 1;
}

static double excess_of_mass(void *context, double log_beta) {
    struct shot *shot = context;
    double excess = shoot(shot, exp(log_beta));
    return shot->best ? excess : -excess;
}

static double lack_of_distance(void *context, double log_start) {
    struct shot *shot = context;
    shot->start = (shot->best ? -1 : 1) * exp(log_start);
    shot->met = find_falling(excess_of_mass, shot, shot->met > 0 ? shot->met : 1, 1, 1.5);
    shot->missed = shoot(shot, shot->met);
    return shot->kl > 0 ? shot->kl - shot->distance : log(shot->met / shot->beta);
}

static enum status find_optimum(struct tilt_phi *phi, uint32_t n, double kl, double beta,
                                struct error *err) {
    struct shot shot = {
        .best = phi->transform == TILT_TRANSFORM_OPTIMAL_BON,
        .n = n,
        .kl = kl,
        .beta = beta,
        .met = 1,
        .path = phi->optimum,
    };
    double found = find_falling(lack_of_distance, &shot, 0.5, 0.5, 1);
    double lack = found > 0 ? lack_of_distance(&shot, log(found)) : INFINITY;
    if (!(fabs(lack) <= 1e-6 && fabs(shot.missed) <= 1e-6)) {
        return error_set(err, STATUS_LIMIT, NULL, "no optimum was found for N = %u at %s %g", n,
                         kl > 0 ? "KL" : "beta", kl > 0 ? kl : beta);
    }
    for (int k = TILT_STEPS; k >= 0; k--) {
        double zero = shot.best ? phi->optimum[0] : phi->optimum[TILT_STEPS];
        phi->optimum[k] -= zero;
    }
    phi->unit = shot.met;
    return STATUS_OK;
}

enum status tilt_phi_init(struct tilt_phi *phi, enum tilt_transform transform, double t, uint32_t n,
                          double kl, double beta, struct error *err) {
    *phi = (struct tilt_phi){.transform = transform, .t = t, .unit = 1};
    if (!is_optimum(transform)) {
        phi->unit = transform == TILT_TRANSFORM_EXP ? exp(t) : 1;
        return STATUS_OK;
    }
    if (n == 1) { // the integrals are u
        phi->transform = TILT_TRANSFORM_IDENTITY;
        return STATUS_OK;
    }
    phi->optimum = malloc((TILT_STEPS + 1) * sizeof *phi->optimum);
    if (phi->optimum == NULL) {
        return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for a tilt");
    }
    enum status status = find_optimum(phi, n, kl, beta, err);
    if (status != STATUS_OK) {
        tilt_phi_finish(phi);
    }
    return status;
}

void tilt_phi_finish(struct tilt_phi *phi) {
    free(phi->optimum);
    phi->optimum = NULL;
}

// Newton's method on the Legendre polynomial from Chebyshev's nodes (Press et al., "Numerical
// recipes", 3rd ed., section 4.6.1).
void tilt_rule_init(struct tilt_rule *rule) {
    const double pi = 3.14159265358979323846;
    for (int i = 0; i < (TILT_NODES + 1) / 2; i++) {
        double x = cos(pi * (i + 0.75) / (TILT_NODES + 0.5));
        double slope = 1;
        for (int step = 0; step < 8; step++) {
            double before = 1;
            double value = x;
            for (int k = 2; k <= TILT_NODES; k++) {
                double next = ((2 * k - 1) * x * value - (k - 1) * before) / k;
                before = value;
                value = next;
            }
            slope = TILT_NODES * (x * value - before) / (x * x - 1);
            x -= value / slope;
        }
        double weight = 1 / ((1 - x * x) * slope * slope);
        rule->at[i] = 0.5 * (1 - x);
        rule->at[TILT_NODES - 1 - i] = 0.5 * (1 + x);
        rule->weights[i] = rule->weights[TILT_NODES - 1 - i] = weight;
    }
}

// The mean of values[k], k of the binomial law of n draws with chance u.
static double binomial_mean(const double *values, uint32_t n, double u) {
    const double negligible = 1e-19; // of the largest probability
    double odds = u / (1 - u);
    uint32_t mode = (uint32_t)fmin(n, floor((n + 1.0) * u));
    double total = 1;
    double sum = values[mode];
    double chance = 1;
    for (uint32_t k = mode; k < n && chance > negligible; k++) {
        chance *= odds * (n - k) / (k + 1);
        total += chance;
        sum += chance * values[k + 1];
    }
    chance = 1;
    for (uint32_t k = mode; k > 0 && chance > negligible; k--) {
        chance *= k / ((n - k + 1) * odds);
        total += chance;
        sum += chance * values[k - 1];
    }
    return sum / total;
}

// sum of p_r Beta(r, count - r + 1) at u: count times the mean of p over one draw fewer.
static double density_of_few(const double *p, uint32_t count, double u) {
    return count * binomial_mean(p, count - 1, u);
}

double tilt_kl_of_few(const struct tilt_rule *rule, const double *p, uint32_t count) {
    double kl = 0;
    for (int i = 0; i < TILT_NODES; i++) {
        double density = density_of_few(p, count, rule->at[i]);
        kl += density > 0 ? rule->weights[i] * density * log(density) : 0;
    }
    return kl;
}

void tilt_law_of_few(const struct tilt_rule *rule, const double *p, uint32_t count, uint32_t n,
                     double *cumulative, struct tilt_law *law) {
    *law = (struct tilt_law){.kl = tilt_kl_of_few(rule, p, count), .best_of_n = 1};
    cumulative[0] = 0;
    for (uint32_t r = 1; r <= count; r++) {
        cumulative[r] = cumulative[r - 1] + p[r - 1];
        law->win_rate += p[r - 1] * r / (count + 1.0);
    }
    for (int i = 0; i < TILT_NODES; i++) {
        // P(Beta(r, count - r + 1) <= u) is that of at least r of `count` numbers below u.
        double u = rule->at[i];
        double below = fmin(1, binomial_mean(cumulative, count, u));
        law->best_of_n -= rule->weights[i] * n * power(below, n) * power(u, n - 1);
        law->worst_of_n += rule->weights[i] * n * power(1 - below, n) * power(1 - u, n - 1);
    }
}

double tilt_rejection_draws(const struct tilt_rule *rule, const struct tilt_phi *phi, double beta) {
    double largest = tilt_phi_at(phi, 1);
    double accepted = 0;
    for (int i = 0; i < TILT_NODES; i++) {
        accepted += rule->weights[i] * exp((tilt_phi_at(phi, rule->at[i]) - largest) / beta);
    }
    return 1 / accepted;
}

double tilt_exponent(double below, double beta) {
    return below < 0 ? below / beta : 0;
}

void tilt_weights(const double *values, uint32_t count, double beta, double *p) {
    double largest = values[count - 1];
    double sum = 0;
    for (uint32_t r = 0; r < count; r++) {
        p[r] = exp(tilt_exponent(values[r] - largest, beta));
        sum += p[r];
    }
    for (uint32_t r = 0; r < count; r++) {
        p[r] /= sum;
    }
}

struct few {
    const struct tilt_rule *rule;
    const double *values; // [count]
    uint32_t count;
    double kl;
    double *p; // [count]
};

static double excess_of_few(void *context, double log_beta) {
    struct few *few = context;
    tilt_weights(few->values, few->count, exp(log_beta), few->p);
    return tilt_kl_of_few(few->rule, few->p, few->count) - few->kl;
}

double tilt_beta_of_few(const struct tilt_rule *rule, const double *values, uint32_t count,
                        double kl, double *p) {
    tilt_weights(values, count, 0, p);
    if (tilt_kl_of_few(rule, p, count) <= kl) {
        return 0;
    }
    struct few few = {.rule = rule, .values = values, .count = count, .kl = kl, .p = p};
    return find_falling(excess_of_few, &few, 1, 1, 1.5);
}
