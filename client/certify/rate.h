// What counts say about a rate: bounds and p-values of the mean of n independent losses, exactly
// for losses of 0 and 1, without further assumptions for losses in [0, 1], and for a sample that
// may be looked at after every loss. docs/methods/certificate.md has the formulas. Pure; any
// thread. Counts are up to RATE_COUNT_MAX; levels (delta) and rates lie in (0, 1).
#ifndef CLIENT_CERTIFY_RATE_H
#define CLIENT_CERTIFY_RATE_H

#include <stddef.h>

enum { RATE_COUNT_MAX = 1000000 };

// Numbers of the names; the names stand in certificates.
enum rate_kind {
    RATE_KIND_EXACT = 1,   // losses 0 and 1, n fixed beforehand
    RATE_KIND_BOUNDED = 2, // losses in [0, 1], n fixed beforehand
    RATE_KIND_ANYTIME = 3, // losses 0 and 1, n chosen while looking
};

// "exact", "hoeffding-bentkus", "anytime"; rate_kind_parse gives 0 for any other name.
const char *rate_kind_name(enum rate_kind kind);
int rate_kind_parse(const char *name);

// P(X <= k) for X ~ Binomial(n, p): 1 - I_p(k + 1, n - k) (DLMF 8.17.5).
double rate_binomial_cdf(size_t k, size_t n, double p);

// What is known of a mean: the sum of `n` losses, a whole number but for RATE_KIND_BOUNDED, in
// [0, n]. With n = 0 nothing is: p-values are 1, bounds 0 and 1.
struct rate_sum {
    double losses;
    size_t n;
};

// p-value of the hypothesis that the mean is at least `rate`: below delta with a probability of at
// most delta when that is so.
// exact: P(X <= losses), X ~ Binomial(n, rate) (Clopper and Pearson 1934).
// hoeffding-bentkus: min(exp(-n h(min(m, rate), rate)), e P(X <= ceil(losses))), m = losses/n, h
// the relative entropy of two coins (Bates et al. 2021, section 3.1; Angelopoulos et al. 2021,
// Angelopoulos et al. 2021).
// anytime: 1 over rate_evidence_below, at most 1.
double rate_p_below(enum rate_kind kind, struct rate_sum sum, double rate);

// The same of the hypothesis that the mean is at most `rate`: the losses turned into gains.
double rate_p_above(enum rate_kind kind, struct rate_sum sum, double rate);

// The upper (lower) end of a one-sided confidence interval of level 1 - delta: the largest
// (smallest) rate whose hypothesis above is not refused at delta. Clopper and Pearson's for exact,
// a confidence sequence for anytime.
double rate_upper(enum rate_kind kind, struct rate_sum sum, double delta);
double rate_lower(enum rate_kind kind, struct rate_sum sum, double delta);

// Logarithm of the evidence against "the mean is at least `rate`": the likelihood of k losses of 1
// among n, averaged over Jeffreys' prior of means below `rate`, over that at `rate`. While the
// hypothesis holds the evidence is a nonnegative supermartingale that begins at 1, so that it ever
// reaches 1/delta with a probability of at most delta (Ville 1939; mixture: Robbins 1970; losses
// looked at one by one: Waudby-Smith and Ramdas 2024, section 4; Howard et al. 2021).
double rate_evidence_below(size_t k, size_t n, double rate);

// The share of prompts on which a filter must abstain, if without it answers are unsafe at the rate
// `base` and of those it lets through at most `target` may be: (base - target)/(1 - target), 0 when
// the base is below the target (arXiv 2606.29054, impossibility result). The best that a filter can
// do is to stop unsafe answers alone: (base - a)/(1 - a) <= target.
double rate_abstention_min(double base, double target);

#endif
