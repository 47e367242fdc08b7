"""Vectors of exact statements about rates: what scipy and statsmodels give for the p-values and
bounds of client/certify/. tests/client/test_rate.c compares within 1e-9.

    python tests/parity/make_rate_vectors.py tests/vectors/rates.json

Needs scipy, statsmodels, numpy.
"""

import json
import math
import sys

import numpy as np
from scipy import optimize, special, stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

COUNTS = [(0, 1), (1, 1), (0, 30), (1, 30), (29, 30), (30, 30), (3, 100), (50, 100), (7, 720), (0, 1000),
          (61, 1000), (999, 1000), (120, 20000), (5000, 100000)]
SUMS = [(0.0, 40), (0.25, 40), (3.75, 40), (39.5, 40), (12.5, 720), (400.125, 5000)]
RATES = [0.001, 0.02, 0.05, 0.3, 0.9]
DELTAS = [0.2, 0.05, 1e-4]


def entropy(a, b):
    return sum(x * math.log(x / y) for x, y in ((a, b), (1 - a, 1 - b)) if x > 0)


def p_bounded(losses, n, rate):
    hoeffding = math.exp(-n * entropy(min(losses / n, rate), rate))
    return min(1.0, hoeffding, math.e * stats.binom.cdf(math.ceil(losses), n, rate))


def p_anytime(losses, n, rate):
    """One over the mean likelihood ratio under Jeffreys' prior below `rate`."""
    k = int(losses)
    inside = stats.beta.cdf(rate, k + 0.5, n - k + 0.5)
    if inside == 0:  # far above the rate: no evidence
        return 1.0
    mixture = math.log(inside) + special.betaln(k + 0.5, n - k + 0.5)
    mixture -= math.log(stats.beta.cdf(rate, 0.5, 0.5)) + special.betaln(0.5, 0.5)
    return min(1.0, math.exp(-mixture + k * math.log(rate) + (n - k) * math.log1p(-rate)))


def p_exact(losses, n, rate):
    return float(stats.binom.cdf(int(losses), n, rate))


P_BELOW = {"exact": p_exact, "hoeffding-bentkus": p_bounded, "anytime": p_anytime}


def solve_upper(p_below, losses, n, delta):
    """The largest rate that stays, by bisection in the logarithm of the p-value."""
    if losses >= n:
        return 1.0
    low, high = losses / n, 1 - 1e-15
    if p_below(losses, n, high) > delta:
        return 1.0
    start = max(low, 1e-13)
    difference = lambda rate: math.log(max(p_below(losses, n, rate), 1e-300)) - math.log(delta)
    return optimize.brentq(difference, start, high, xtol=1e-13, rtol=1e-13)


def bounds(kind, losses, n, delta):
    if kind == "exact":
        # Two-sided at 2 delta is one-sided at delta.
        return tuple(float(x) for x in proportion_confint(int(losses), n, alpha=2 * delta, method="beta"))
    return (1 - solve_upper(P_BELOW[kind], n - losses, n, delta), solve_upper(P_BELOW[kind], losses, n, delta))


def main():
    p_values, intervals, tests = [], [], []
    for kind in P_BELOW:
        for losses, n in COUNTS + (SUMS if kind == "hoeffding-bentkus" else []):
            for rate in RATES:
                below = P_BELOW[kind](losses, n, rate)
                above = P_BELOW[kind](n - losses, n, 1 - rate)
                p_values.append([kind, float(losses), n, rate, below, above])
            for delta in DELTAS:
                intervals.append([kind, float(losses), n, delta, *bounds(kind, losses, n, delta)])
    random = np.random.default_rng(20260601)
    for n in (1, 2, 5, 16):
        for _ in range(5):
            p = [float(x) for x in random.uniform(0, 0.1, n)]
            for delta in DELTAS:
                tests.append({"p": p, "delta": delta,
                              "holm": [bool(x) for x in multipletests(p, delta, method="holm")[0]],
                              "bonferroni": [bool(x) for x in multipletests(p, delta, method="bonferroni")[0]]})
    out = {"p_values": p_values, "intervals": intervals, "tests": tests}
    with open(sys.argv[1], "w") as file:
        file.write(json.dumps(out, separators=(",", ":")).replace("],[", "],\n["))
        file.write("\n")


main()
