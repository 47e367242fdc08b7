#include "client/certify/rate.h"

#include <math.h>
#include <string.h>

#include "client/certify/incomplete_beta.h"
#include "common/status.h"

enum { HALVINGS = 200 }; // more than the bits of a double

static const double prior = 0.5; // both parameters of Jeffreys' beta distribution

static const char *const kind_names[] = {
    [RATE_KIND_EXACT] = "exact",
    [RATE_KIND_BOUNDED] = "hoeffding-bentkus",
    [RATE_KIND_ANYTIME] = "anytime",
};

const char *rate_kind_name(enum rate_kind kind) {
    return kind_names[kind];
}

int rate_kind_parse(const char *name) {
    for (size_t i = 1; i < sizeof kind_names / sizeof kind_names[0]; i++) {
        if (strcmp(kind_names[i], name) == 0) {
            return (int)i;
        }
    }
    return 0;
}

double rate_binomial_cdf(size_t k, size_t n, double p) {
    if (k >= n) {
        return 1;
    }
    return exp(log_incomplete_beta((double)(n - k), (double)k + 1, 1 - p));
}

// Relative entropy of a coin `a` to a coin `b`, nats.
static double relative_entropy(double a, double b) {
    double heads = a > 0 ? a * log(a / b) : 0;
    double tails = a < 1 ? (1 - a) * log((1 - a) / (1 - b)) : 0;
    return heads + tails;
}

static double p_bounded(struct rate_sum sum, double rate) {
    double n = (double)sum.n;
    double mean = fmin(sum.losses / n, rate);
    double hoeffding = exp(-n * relative_entropy(mean, rate));
    double bentkus = exp(1) * rate_binomial_cdf((size_t)ceil(sum.losses), sum.n, rate);
    return fmin(1, fmin(hoeffding, bentkus));
}

// The mixture's integral is a beta function cut off at `rate`.
double rate_evidence_below(size_t k, size_t n, double rate) {
    double a = prior + (double)k;
    double b = prior + (double)(n - k);
    double mixture = log_beta(a, b) + log_incomplete_beta(a, b, rate) - log_beta(prior, prior) -
                     log_incomplete_beta(prior, prior, rate);
    return mixture - (double)k * log(rate) - (double)(n - k) * log1p(-rate);
}

double rate_p_below(enum rate_kind kind, struct rate_sum sum, double rate) {
    ASSERT(sum.losses >= 0 && sum.losses <= (double)sum.n && sum.n <= RATE_COUNT_MAX);
    if (sum.n == 0) {
        return 1;
    }
    if (kind == RATE_KIND_BOUNDED) {
        return p_bounded(sum, rate);
    }
    size_t k = (size_t)sum.losses;
    ASSERT((double)k == sum.losses);
    return kind == RATE_KIND_EXACT ? rate_binomial_cdf(k, sum.n, rate)
                                   : fmin(1, exp(-rate_evidence_below(k, sum.n, rate)));
}

static struct rate_sum gains(struct rate_sum sum) {
    return (struct rate_sum){.losses = (double)sum.n - sum.losses, .n = sum.n};
}

double rate_p_above(enum rate_kind kind, struct rate_sum sum, double rate) {
    return rate_p_below(kind, gains(sum), 1 - rate);
}

// Above the mean the p-value falls as the rate grows.
double rate_upper(enum rate_kind kind, struct rate_sum sum, double delta) {
    if (sum.n == 0 || sum.losses >= (double)sum.n) {
        return 1;
    }
    double low = sum.losses / (double)sum.n;
    double high = 1;
    for (int i = 0; i < HALVINGS; i++) {
        double middle = low + (high - low) / 2;
        if (middle <= low || middle >= high) {
            break;
        }
        if (rate_p_below(kind, sum, middle) > delta) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return high;
}

double rate_lower(enum rate_kind kind, struct rate_sum sum, double delta) {
    return 1 - rate_upper(kind, gains(sum), delta);
}

double rate_abstention_min(double base, double target) {
    return base > target ? (base - target) / (1 - target) : 0;
}
