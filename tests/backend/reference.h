// Plain double-precision references of the backend's operations and deterministic test data.
#ifndef TESTS_BACKEND_REFERENCE_H
#define TESTS_BACKEND_REFERENCE_H

#include <stddef.h>
#include <stdint.h>

#include "worker/backend/backend.h"

// Instruction sets of the CPU backend, best first.
enum { REFERENCE_ISAS = 6 };
extern const char *const reference_isas[REFERENCE_ISAS];

// A CPU backend with the kernels of `isa`, owned; NULL, with a message, when this CPU has not that
// instruction set. Any other failure fails the test.
struct backend *reference_backend(const char *isa, int n_threads);

// Values in [-1, 1), the same for the same seed; element i does not depend on n.
void reference_fill(float *values, size_t n, uint64_t seed);

// Rounds to nearest even and returns the 16-bit pattern.
uint16_t reference_to_f16(float value);
uint16_t reference_to_bf16(float value);
double reference_from_f16(uint16_t bits);
double reference_from_bf16(uint16_t bits);

// Writes n values as `dtype` and returns owned memory.
void *reference_encode(const float *values, size_t n, enum dtype dtype);
double reference_decode(const void *values, size_t index, enum dtype dtype);

// sum_k x[k] w[k] and sum_k |x[k] w[k]|, the scale of its rounding error.
double reference_dot(const float *x, const void *weight, enum dtype dtype, size_t begin, int32_t n,
                     double *magnitude);

#endif
