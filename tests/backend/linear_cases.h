// What every set of product kernels must do, for tests to ask of one backend after the other.
#ifndef TESTS_BACKEND_LINEAR_CASES_H
#define TESTS_BACKEND_LINEAR_CASES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "worker/backend/backend.h"

struct linear_form {
    const char *name;
    enum precision precision;
    enum dtype dtype; // of stored weights
};

// One for each format of packed weights.
enum { LINEAR_FORMS = 5, LINEAR_FORM_BF16 = 3, LINEAR_FORM_INT8 = 4 };
extern const struct linear_form linear_forms[LINEAR_FORMS];

// n values in [-1, 1) by reference_fill, owned, on a line of their own.
float *linear_filled(size_t n, uint64_t seed);
// n values of `dtype` as f32, owned.
float *linear_decoded(const void *encoded, enum dtype dtype, size_t n);

// Multiplies x [rows, in] by weights that `values` [out, in] and bias [out] (NULL: none) are packed
// to. For a gate, the first half of the outputs are gates; got is [rows, out / 2].
void linear_multiply(struct backend *backend, const struct linear_form *form, const float *x,
                     int32_t rows, const float *values, int32_t in, int32_t out, const float *bias,
                     bool gated, float *got);

// The rest fails the test where the backend is wrong.

// One output: x [n] times w [n], plus bias, within the rounding of the form; of int8 exactly.
void linear_check_value(const struct linear_form *form, const float *x, const float *w, float bias,
                        int32_t n, float got);
// Products of many shapes against plain references.
void linear_check_products(struct backend *backend, const struct linear_form *form);
// Rows in batches of many sizes, by the backends in turn, against all rows at once, bit for bit.
void linear_check_cuts(struct backend *const backends[], int n_backends,
                       const struct linear_form *form, int32_t in, int32_t out, bool gated);
// Zeros, the largest and the smallest numbers, and no numbers at all.
void linear_check_extremes(struct backend *backend, const struct linear_form *form);

#endif
