#include "tests/backend/linear_cases.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/backend/reference.h"
#include "tests/support/testkit.h"

static const double epsilon = 0x1p-24;

const struct linear_form linear_forms[LINEAR_FORMS] = {
    {"f32", PRECISION_STORED, DTYPE_F32},       {"f16", PRECISION_STORED, DTYPE_F16},
    {"bf16", PRECISION_STORED, DTYPE_BF16},     {"f32 in bf16", PRECISION_BF16, DTYPE_F32},
    {"f16 in int8", PRECISION_INT8, DTYPE_F16},
};

// rows, inputs, outputs: around tiles (6, 12 rows), panels (8, 16, 32 outputs), lines (16, 32, 64
// inputs), scale groups (128) and chunks (512 and more).
static const int32_t shapes[][3] = {
    {1, 1, 1},
    {1, 16, 8},
    {2, 17, 9},
    {3, 15, 7},
    {4, 64, 33},
    {5, 100, 24},
    {7, 48, 8},
    {8, 769, 10},
    {70, 31, 5},
    {13, 800, 9},
    {1, 1600, 17},
    {33, 1553, 3},
    {12, 128, 65},
    {6, 129, 31},
    {25, 1100, 34},
    {300, 70, 40},
    // Results of more than 2 MiB may go past the caches, if rows begin at lines.
    {17, 5, 32768},
    {17, 5, 32776},
};

float *linear_filled(size_t n, uint64_t seed) {
    float *values = aligned_alloc(64, (n * sizeof(float) + 63) / 64 * 64);
    reference_fill(values, n, seed);
    return values;
}

float *linear_decoded(const void *encoded, enum dtype dtype, size_t n) {
    float *values = malloc(n * sizeof(float));
    for (size_t i = 0; i < n; ++i) {
        values[i] = (float)reference_decode(encoded, i, dtype);
    }
    return values;
}

// One byte in front: weights in a mapped file need not be aligned.
static char *unaligned_copy(const void *bytes, size_t size) {
    char *copy = malloc(size + 1);
    memcpy(copy + 1, bytes, size);
    return copy;
}

// Multiplies x [rows, in] by weights that `values` [out, in] and bias are packed to. For a gate,
// the first half of the outputs are gates; got is [rows, out / 2].
void linear_multiply(struct backend *backend, const struct linear_form *form, const float *x,
                     int32_t rows, const float *values, int32_t in, int32_t out, const float *bias,
                     bool gated, float *got) {
    size_t n = (size_t)in * (size_t)out;
    char *encoded = reference_encode(values, n, form->dtype);
    char *stored = unaligned_copy(encoded, n * dtype_bytes(form->dtype));
    int32_t part_rows = gated ? out / 2 : out;
    struct weight_source source = {.n_parts = gated ? 2 : 1, .gated = gated};
    for (int32_t i = 0; i < source.n_parts; ++i) {
        size_t at = (size_t)i * (size_t)part_rows;
        source.parts[i] =
            (struct tensor){.data = stored + 1 + at * (size_t)in * dtype_bytes(form->dtype),
                            .dtype = form->dtype,
                            .rows = part_rows,
                            .cols = in};
        if (bias != NULL) {
            source.biases[i] = (struct tensor){
                .data = (float *)(uintptr_t)bias + at, .rows = 1, .cols = part_rows};
        }
    }
    struct weight weight;
    assert_ok(backend->ops->weight_pack(backend, &source, form->precision, &weight), NULL);
    assert_int_equal(out, weight.rows);
    free(stored);
    free(encoded);
    struct tensor from = {.data = (float *)(uintptr_t)x, .rows = rows, .cols = in};
    struct tensor to = {.data = got, .rows = rows, .cols = part_rows};
    if (gated) {
        backend->ops->linear_gated(backend, &to, &from, &weight);
    } else {
        backend->ops->linear(backend, &to, &from, &weight);
    }
    backend->ops->weight_release(backend, &weight);
    assert_null(weight.data);
}

static float round_bf16(float value) {
    return (float)reference_from_bf16(reference_to_bf16(value));
}

// Exact products of what the form makes of the values, in double; *magnitude: of their terms.
static double float_reference(const struct linear_form *form, const float *x, const float *w,
                              int32_t n, double *magnitude) {
    double sum = 0;
    *magnitude = 0;
    for (int32_t k = 0; k < n; ++k) {
        bool rounded = form->precision == PRECISION_BF16;
        double product = rounded ? (double)round_bf16(x[k]) * (double)round_bf16(w[k])
                                 : (double)x[k] * (double)w[k];
        sum += product;
        *magnitude += fabs(product);
    }
    return sum;
}

static float largest_magnitude(const float *values, int32_t n) {
    float largest = 0;
    for (int32_t k = 0; k < n; ++k) {
        largest = fmaxf(largest, fabsf(values[k]));
    }
    return largest;
}

// Least bf16 that is not below `value`.
static float round_up_to_bf16(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    uint16_t upper = (uint16_t)(bits >> 16);
    return (float)reference_from_bf16((uint16_t)(upper + ((bits & 0xffff) != 0)));
}

enum { GROUP = 128, SMALL_GROUP = 64 };

// The group's values from `begin` on, with zeros after them, times H / size (linear.h); returns
// size.
static int32_t spread(const float *values, int32_t n, int32_t begin, float out[GROUP]) {
    int32_t left = n - begin, size = left > SMALL_GROUP ? GROUP : SMALL_GROUP;
    for (int32_t k = 0; k < size; ++k) {
        out[k] = k < left ? values[begin + k] / (float)size : 0;
    }
    for (int32_t apart = 1; apart < size; apart *= 2) {
        for (int32_t k = 0; k < size; ++k) {
            if (k / apart % 2 == 0) {
                float low = out[k], high = out[k + apart];
                out[k] = low + high;
                out[k + apart] = low - high;
            }
        }
    }
    return size;
}

// The definition of an int8 product, in its own order of operations; *bound: how far rounding to 8
// bits may have moved it from the exact product.
static float int8_reference(const float *x, const float *w, int32_t n, double *bound) {
    float sum = 0;
    *bound = 0;
    for (int32_t begin = 0; begin < n; begin += GROUP) {
        float u[GROUP], v[GROUP];
        int32_t size = spread(x, n, begin, u), whole = 0;
        spread(w, n, begin, v);
        float u_largest = largest_magnitude(u, size), v_largest = largest_magnitude(v, size);
        float u_scale = u_largest / 127, v_scale = round_up_to_bf16(v_largest / 127 * (float)size);
        for (int32_t k = 0; k < size && u_largest > 0 && v_largest > 0; ++k) {
            int32_t a = (int32_t)lrintf(u[k] * (127 / u_largest));
            int32_t b = (int32_t)lrintf(v[k] * ((float)size / v_scale));
            assert_in_range(a + 127, 0, 254);
            assert_in_range(b + 127, 0, 254);
            whole += a * b;
            *bound += 0.501 * ((double)u_scale * fabs((double)v[k] * size) +
                               (double)v_scale * fabs((double)u[k]) + (double)u_scale * v_scale);
        }
        float product = (float)whole * (v_scale * u_scale);
        sum = begin == 0 ? product : sum + product;
    }
    return sum;
}

void linear_check_value(const struct linear_form *form, const float *x, const float *w, float bias,
                        int32_t n, float got) {
    double magnitude, bound;
    double exact = float_reference(form, x, w, n, &magnitude);
    // A sum of n terms is off by less than n rounding steps of their magnitude, and as much again
    // where products are rounded as well.
    double tolerance = (2.0 * n + 4) * epsilon * (magnitude + fabs((double)bias));
    double expected = exact + (double)bias;
    if (form->precision == PRECISION_INT8) {
        float sum = int8_reference(x, w, n, &bound);
        if (!(fabs((double)sum - exact) <= bound + tolerance)) {
            print_error("int8 of %d inputs: %.9g is not within %.3g of %.9g\n", n, (double)sum,
                        bound, exact);
            fail();
        }
        expected = (double)(sum + bias);
        tolerance = 0;
    }
    if (!(fabs(expected - (double)got) <= tolerance)) {
        print_error("%s, %d inputs: expected %.9g, got %.9g, tolerance %.3g\n", form->name, n,
                    expected, (double)got, tolerance);
        fail();
    }
}

static void check_product(struct backend *backend, const struct linear_form *form,
                          const int32_t shape[3], bool with_bias) {
    int32_t rows = shape[0], in = shape[1], out = shape[2];
    size_t n_weights = (size_t)in * (size_t)out;
    float *x = linear_filled((size_t)rows * (size_t)in, 1), *drawn = linear_filled(n_weights, 2);
    float *bias = with_bias ? linear_filled((size_t)out, 3) : NULL;
    float *got = linear_filled((size_t)rows * (size_t)out, 4);
    void *encoded = reference_encode(drawn, n_weights, form->dtype);
    float *w = linear_decoded(encoded, form->dtype, n_weights);
    linear_multiply(backend, form, x, rows, w, in, out, bias, false, got);
    for (int32_t r = 0; r < rows; ++r) {
        for (int32_t o = 0; o < out; ++o) {
            linear_check_value(form, x + (size_t)r * (size_t)in, w + (size_t)o * (size_t)in,
                               with_bias ? bias[o] : 0, in,
                               got[(size_t)r * (size_t)out + (size_t)o]);
        }
    }
    free(x);
    free(drawn);
    free(bias);
    free(got);
    free(encoded);
    free(w);
}

void linear_check_products(struct backend *backend, const struct linear_form *form) {
    for (size_t s = 0; s < sizeof(shapes) / sizeof(shapes[0]); ++s) {
        check_product(backend, form, shapes[s], s % 2);
    }
}

// All rows at once by one thread are the truth; every other cut must repeat it.
void linear_check_cuts(struct backend *const backends[], int n_backends,
                       const struct linear_form *form, int32_t in, int32_t out, bool gated) {
    enum { ROWS = 600 };
    static const int32_t counts[] = {1,  2,  3,  4,  5,  6,  7,  8,  9,  11, 12,  13,  16, 17,
                                     23, 24, 25, 31, 32, 33, 47, 64, 70, 97, 256, 257, 513};
    int32_t cols = gated ? out / 2 : out;
    float *x = linear_filled((size_t)ROWS * (size_t)in, 1);
    float *w = linear_filled((size_t)in * (size_t)out, 2);
    float *expected = linear_filled((size_t)ROWS * (size_t)cols, 3);
    float *got = linear_filled((size_t)ROWS * (size_t)cols, 4);
    linear_multiply(backends[0], form, x, ROWS, w, in, out, NULL, gated, expected);
    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); ++i) {
        int32_t n = counts[i], first = (ROWS - n) / 2 + (int32_t)i % 3;
        linear_multiply(backends[i % (size_t)n_backends], form, x + (size_t)first * (size_t)in, n,
                        w, in, out, NULL, gated, got);
        assert_memory_equal(expected + (size_t)first * (size_t)cols, got,
                            (size_t)n * (size_t)cols * sizeof(float));
    }
    free(x);
    free(w);
    free(expected);
    free(got);
}

// Not a number, and the first that rounding must not carry on into a sign.
static float full_nan(void) {
    const uint32_t bits = 0x7fffffff;
    float value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

void linear_check_extremes(struct backend *backend, const struct linear_form *form) {
    enum { ROWS = 7, IN = 200, OUT = 3 };
    float *x = calloc((size_t)ROWS * IN, sizeof(float));
    float *w = calloc((size_t)OUT * IN, sizeof(float)), got[ROWS * OUT];
    for (int32_t k = 0; k < IN; ++k) {
        w[k] = k == 150 ? full_nan() : 1;        // output 0: not a number
        w[IN + k] = 1;                           // output 1; output 2: zeros
        x[IN + k] = 1e30f;                       // row 1; row 0: zeros
        x[2 * IN + k] = k == 3 ? full_nan() : 1; // row 2
        x[3 * IN + k] = k == 3 ? INFINITY : 1;   // row 3
        x[4 * IN + k] = 1e-40f;                  // row 4
        x[5 * IN + k] = k == 130 ? FLT_MAX : 1;  // row 5
        x[6 * IN + k] = 1;                       // row 6
    }
    linear_multiply(backend, form, x, ROWS, w, IN, OUT, NULL, false, got);
    for (int32_t r = 0; r < ROWS; ++r) {
        assert_true(isnan(got[r * OUT]));
    }
    assert_true(got[1] == 0 && got[2] == 0);
    assert_true(fabsf(got[OUT + 1] / (IN * 1e30f) - 1) < 0.02f && got[OUT + 2] == 0);
    assert_true(isnan(got[2 * OUT + 1]));
    assert_true(!isfinite(got[3 * OUT + 1]));
    assert_true(fabsf(got[4 * OUT + 1]) <= IN * 1.01e-40f);
    assert_true(got[5 * OUT + 1] > 3e38f);
    assert_true(fabsf(got[6 * OUT + 1] / IN - 1) < 0.02f && got[6 * OUT + 2] == 0);
    free(x);
    free(w);
}
