"""Choices of tilts by numpy: 100,000 pools with ties, made from Philox numbers, one character each.

    python tests/parity/make_tilt_vectors.py tests/vectors/tilt_choices.txt

tests/search/test_tilt.c makes the same pools (make_pool there) and compares what it chooses with the
character of each: the index of the answer, as a digit of base 64. Needs numpy.
"""

import pathlib
import sys

import numpy as np

POOLS = 100_000
DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
LEVELS = (2, 5, 40, 1_000_000_000)
BETAS = (0.02, 0.3, 2.0)
TRANSFORMS = (
    (lambda u: u, 1.0),
    (lambda u: np.log(u, out=np.full_like(u, -np.inf), where=u > 0), 1.0),
    (lambda u: np.exp(10 * u), np.exp(10.0)),
    (lambda u: -np.exp(-10 * u), 1.0),
)
TILT_LINEAGE = 2**64 - 1


def uniform(seed, lineage, draw):
    """rng_uniform of common/rng.c at position 0, for an array of lineages."""
    mask = np.uint64(0xFFFFFFFF)
    lineage = np.asarray(lineage, dtype=np.uint64)
    c0, c1 = np.zeros_like(lineage), np.full_like(lineage, draw)
    c2, c3 = lineage & mask, lineage >> np.uint64(32)
    k0, k1 = seed & 0xFFFFFFFF, seed >> 32
    for _ in range(10):
        product0, product1 = np.uint64(0xD2511F53) * c0, np.uint64(0xCD9E8D57) * c2
        c0, c1, c2, c3 = ((product1 >> np.uint64(32)) ^ c1 ^ np.uint64(k0), product1 & mask,
                          (product0 >> np.uint64(32)) ^ c3 ^ np.uint64(k1), product0 & mask)
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return ((c0 << np.uint64(21)) ^ (c1 >> np.uint64(11))).astype(np.float64) * 2.0**-53


def below(seed, draw, count):
    return int(uniform(seed, [0], draw)[0] * count)


def choose(seed):
    count = 1 + below(seed, 0, 64)
    levels = LEVELS[below(seed, 1, 4)]
    phi, unit = TRANSFORMS[below(seed, 2, 4)]
    beta = BETAS[below(seed, 3, 3)] * unit
    by_rollouts = below(seed, 4, 2) == 1
    index = np.arange(1, count + 1)
    rewards = np.floor(uniform(seed, index, 0) * levels) * 0.25
    eligible = uniform(seed, index, 1) < 0.8
    eligible = eligible if eligible.any() else np.ones(count, dtype=bool)
    if by_rollouts:
        rollouts = 1 + below(seed, 5, 32)
        others = np.floor(uniform(seed, 1000 + np.arange(rollouts), 0) * levels) * 0.25
        others, mine = others.astype(np.float32), rewards.astype(np.float32)
    else:
        others, mine = rewards, rewards
    # w of section 1, over every pair: an answer ties with itself, which is its (rank - 1/2) / M.
    wins = (mine[:, None] > others).astype(float) + 0.5 * (mine[:, None] == others)
    exponents = phi(wins.mean(axis=1)) / beta
    largest = exponents[eligible].max()
    if np.isinf(largest):
        weights = np.ones(count)
    else:
        weights = np.exp(exponents - largest)
    order = np.lexsort((index * 37 % 101, rewards))
    order = order[eligible[order]]
    cumulative = np.cumsum(weights[order])
    target = uniform(seed, np.array([TILT_LINEAGE], dtype=np.uint64), 0)[0] * cumulative[-1]
    at = min(int(np.searchsorted(cumulative, target, side="right")), len(order) - 1)
    return DIGITS[order[at]]


def main():
    choices = "".join(choose(seed) for seed in range(POOLS))
    lines = [choices[i:i + 100] for i in range(0, POOLS, 100)]
    pathlib.Path(sys.argv[1]).write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
