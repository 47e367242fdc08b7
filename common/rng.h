// Counter-based random numbers: Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy
// as 1, 2, 3", section 3.3). There is no generator state: the same key and counter give the same
// numbers on every rank, in every order, before and after a crash.
#ifndef COMMON_RNG_H
#define COMMON_RNG_H

#include <stdint.h>

// out[4] = Philox4x32-10(counter[4], key[2]).
void rng_philox4x32(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

// Uniform in [0, 1) with 53 random bits, for one draw of one candidate: key = job seed,
// counter = (lineage, position, draw). `lineage` is the candidate's id, unique within its job and
// assigned in a fixed order; a retry has ids of its own, so its text differs.
double rng_uniform(uint64_t seed, uint64_t lineage, uint32_t position, uint32_t draw);

#endif
