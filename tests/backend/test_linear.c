// Products with packed weights: values against plain references for every format, and sameness bit
// for bit where it is promised: of a row in any batch, by any number of threads; of AVX-512 and
// AVX2; of every instruction set for int8.
#include "tests/support/testkit.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "tests/backend/linear_cases.h"
#include "tests/backend/reference.h"

static const double epsilon = 0x1p-24;

static void test_products_equal_reference(void **state) {
    (void)state;
    for (int i = 0; i < REFERENCE_ISAS; ++i) {
        struct backend *backend = reference_backend(reference_isas[i], 2);
        for (int f = 0; backend != NULL && f < LINEAR_FORMS; ++f) {
            linear_check_products(backend, &linear_forms[f]);
        }
        backend_destroy(backend);
    }
}

static void test_rows_do_not_depend_on_the_batch(void **state) {
    (void)state;
    enum { THREADS = 5 };
    for (int i = 0; i < REFERENCE_ISAS; ++i) {
        struct backend *backends[THREADS];
        for (int t = 0; t < THREADS; ++t) {
            backends[t] = reference_backend(reference_isas[i], t + 1);
        }
        for (int f = 0; backends[0] != NULL && f < LINEAR_FORMS; ++f) {
            linear_check_cuts(backends, THREADS, &linear_forms[f], 50, 37, false);
            linear_check_cuts(backends, THREADS, &linear_forms[f], 1607, 19, false);
            linear_check_cuts(backends, THREADS, &linear_forms[f], 300, 98, true);
        }
        for (int t = 0; t < THREADS; ++t) {
            backend_destroy(backends[t]);
        }
    }
}

// Whether products of this form have the same bits in this instruction set as in the others: the
// portable build has no fused multiply-add, AMX sums bf16 in another order. int8 needs neither.
static bool agrees(const char *isa, const struct linear_form *form) {
    bool ordered = strcmp(isa, "avx512amx") != 0 || form->precision != PRECISION_BF16;
    bool fused = strcmp(isa, "generic") != 0;
    return form->precision == PRECISION_INT8 || (ordered && fused);
}

static void test_instruction_sets_agree(void **state) {
    (void)state;
    enum { ROWS = 19, IN = 1000, OUT = 40 };
    float *x = linear_filled((size_t)ROWS * IN, 1), *w = linear_filled((size_t)OUT * IN, 2);
    float *expected = linear_filled((size_t)ROWS * OUT, 3);
    float *got = linear_filled((size_t)ROWS * OUT, 4);
    for (int f = 0; f < LINEAR_FORMS; ++f) {
        bool any = false;
        for (int i = 0; i < REFERENCE_ISAS; ++i) {
            struct backend *backend = reference_backend(reference_isas[i], 1);
            if (backend != NULL && agrees(reference_isas[i], &linear_forms[f])) {
                linear_multiply(backend, &linear_forms[f], x, ROWS, w, IN, OUT, NULL, false,
                                any ? got : expected);
                if (any) {
                    assert_memory_equal(expected, got, (size_t)ROWS * OUT * sizeof(float));
                }
                any = true;
            }
            backend_destroy(backend);
        }
    }
    free(x);
    free(w);
    free(expected);
    free(got);
}

// One input that is far larger than the others must not round these away: were its group rounded as
// it is, in steps of 100 / 127, products would be off by 1.5 or so.
static void test_int8_keeps_small_inputs_beside_a_large_one(void **state) {
    (void)state;
    enum { IN = 576, OUT = 64 };
    float *x = linear_filled(IN, 1), *w = linear_filled((size_t)OUT * IN, 2), got[OUT];
    x[5] = 100;
    for (int i = 0; i < REFERENCE_ISAS; ++i) {
        struct backend *backend = reference_backend(reference_isas[i], 1);
        if (backend == NULL) {
            continue;
        }
        linear_multiply(backend, &linear_forms[LINEAR_FORM_INT8], x, 1, w, IN, OUT, NULL, false,
                        got);
        double squares = 0;
        for (int32_t o = 0; o < OUT; ++o) {
            double exact = 0;
            for (int32_t k = 0; k < IN; ++k) {
                exact += (double)x[k] * (double)w[o * IN + k];
            }
            squares += pow((double)got[o] - exact, 2);
        }
        assert_true(sqrt(squares / OUT) < 0.6);
        backend_destroy(backend);
    }
    free(x);
    free(w);
}

static float uneven(float value, int32_t index) {
    return index % 7 == 0 ? value * 80 : value;
}

// A gated product is the gate's product through silu times the other's, each as a plain product
// gives it.
static void test_gated_product_equals_reference(void **state) {
    (void)state;
    enum { ROWS = 9, IN = 37, HALF = 75 };
    for (int i = 0; i < REFERENCE_ISAS * LINEAR_FORMS; ++i) {
        const struct linear_form *form = &linear_forms[i % LINEAR_FORMS];
        struct backend *backend = reference_backend(reference_isas[i / LINEAR_FORMS], 2);
        if (backend == NULL) {
            continue;
        }
        float *x = linear_filled((size_t)ROWS * IN, 1);
        float *w = linear_filled((size_t)2 * HALF * IN, 2);
        float *bias = linear_filled((size_t)2 * HALF, 3);
        float *plain = linear_filled((size_t)2 * ROWS * HALF, 4);
        float *got = linear_filled((size_t)ROWS * HALF, 5);
        for (int32_t k = 0; k < HALF * IN; ++k) {
            w[k] = uneven(w[k], k);
        }
        linear_multiply(backend, form, x, ROWS, w, IN, 2 * HALF, bias, false, plain);
        linear_multiply(backend, form, x, ROWS, w, IN, 2 * HALF, bias, true, got);
        for (int32_t r = 0; r < ROWS; ++r) {
            for (int32_t o = 0; o < HALF; ++o) {
                double gate = (double)plain[r * 2 * HALF + o];
                double expected = gate / (1 + exp(-gate)) * (double)plain[r * 2 * HALF + HALF + o];
                // Four rounding steps.
                double tolerance = 6 * epsilon * fabs(expected) + 0x1p-120;
                assert_true(fabs(expected - (double)got[r * HALF + o]) <= tolerance);
            }
        }
        free(x);
        free(w);
        free(bias);
        free(plain);
        free(got);
        backend_destroy(backend);
    }
}

// With one input of 1 the products are the weights themselves.
static void test_gate_takes_extreme_values(void **state) {
    (void)state;
    static const float gates[] = {0, -0.0f, 88, -88, 200, -200, 1e-30f, -1e-30f, 1e30f, -1e30f};
    enum { N = sizeof(gates) / sizeof(gates[0]) };
    for (int i = 0; i < REFERENCE_ISAS; ++i) {
        struct backend *backend = reference_backend(reference_isas[i], 1);
        if (backend == NULL) {
            continue;
        }
        float w[2 * N], got[N];
        memcpy(w, gates, sizeof(gates));
        reference_fill(w + N, N, 1);
        linear_multiply(backend, &linear_forms[0], (const float[]){1}, 1, w, 1, 2 * N, NULL, true,
                        got);
        for (int32_t o = 0; o < N; ++o) {
            double gate = (double)gates[o];
            double expected = gate / (1 + exp(-gate)) * (double)w[N + o];
            double tolerance = 6 * epsilon * fabs(expected) + 0x1p-120;
            assert_true(fabs(expected - (double)got[o]) <= tolerance);
        }
        backend_destroy(backend);
    }
}

static void test_product_is_added_to_what_is_there(void **state) {
    (void)state;
    enum { ROWS = 14, IN = 33, OUT = 43 };
    for (int i = 0; i < REFERENCE_ISAS; ++i) {
        struct backend *backend = reference_backend(reference_isas[i], 2);
        if (backend == NULL) {
            continue;
        }
        float *x = linear_filled((size_t)ROWS * IN, 1), *w = linear_filled((size_t)OUT * IN, 2);
        float *product = linear_filled((size_t)ROWS * OUT, 3);
        float *sum = linear_filled((size_t)ROWS * OUT, 4);
        float *old = linear_filled((size_t)ROWS * OUT, 4);
        linear_multiply(backend, &linear_forms[0], x, ROWS, w, IN, OUT, NULL, false, product);
        const struct weight_source source = {.parts = {{.data = w, .rows = OUT, .cols = IN}},
                                             .n_parts = 1};
        struct weight weight;
        assert_ok(backend->ops->weight_pack(backend, &source, PRECISION_STORED, &weight), NULL);
        struct tensor from = {.data = x, .rows = ROWS, .cols = IN};
        struct tensor to = {.data = sum, .rows = ROWS, .cols = OUT};
        backend->ops->linear_add(backend, &to, &from, &weight);
        for (int32_t k = 0; k < ROWS * OUT; ++k) {
            assert_true(sum[k] == old[k] + product[k]);
        }
        backend->ops->weight_release(backend, &weight);
        free(x);
        free(w);
        free(product);
        free(sum);
        free(old);
        backend_destroy(backend);
    }
}

// Queries, keys and values of one product: parts of different dtypes, biases on some.
static void test_parts_stand_below_one_another(void **state) {
    (void)state;
    enum { IN = 45, ROWS = 3, PARTS = 3 };
    static const int32_t part_rows[PARTS] = {37, 5, 9};
    static const enum dtype dtypes[PARTS] = {DTYPE_F16, DTYPE_F16, DTYPE_BF16};
    for (int same = 0; same < 2; ++same) {
        struct backend *backend = reference_backend("generic", 2);
        float *x = linear_filled((size_t)ROWS * IN, 1), got[ROWS * (37 + 5 + 9)], bias[5];
        float *values[PARTS];
        void *encoded[PARTS];
        reference_fill(bias, 5, 2);
        struct weight_source source = {.n_parts = PARTS,
                                       .biases = {{0}, {.data = bias, .rows = 1, .cols = 5}}};
        for (int p = 0; p < PARTS; ++p) {
            enum dtype dtype = same ? DTYPE_F16 : dtypes[p];
            size_t n = (size_t)part_rows[p] * IN;
            float *drawn = linear_filled(n, 3 + (uint64_t)p);
            encoded[p] = reference_encode(drawn, n, dtype);
            values[p] = linear_decoded(encoded[p], dtype, n);
            source.parts[p] = (struct tensor){encoded[p], dtype, part_rows[p], IN};
            free(drawn);
        }
        struct weight weight;
        assert_ok(backend->ops->weight_pack(backend, &source, PRECISION_STORED, &weight), NULL);
        struct tensor from = {.data = x, .rows = ROWS, .cols = IN};
        struct tensor to = {.data = got, .rows = ROWS, .cols = 37 + 5 + 9};
        backend->ops->linear(backend, &to, &from, &weight);
        const float *at = got;
        for (int32_t r = 0; r < ROWS; ++r) {
            for (int p = 0; p < PARTS; ++p) {
                for (int32_t o = 0; o < part_rows[p]; ++o) {
                    linear_check_value(&linear_forms[0], x + r * IN, values[p] + o * IN,
                                       p == 1 ? bias[o] : 0, IN, *at++);
                }
            }
        }
        backend->ops->weight_release(backend, &weight);
        for (int p = 0; p < PARTS; ++p) {
            free(values[p]);
            free(encoded[p]);
        }
        free(x);
        backend_destroy(backend);
    }
}

static void test_extreme_inputs_stay_in_their_row_and_output(void **state) {
    (void)state;
    for (int i = 0; i < REFERENCE_ISAS; ++i) {
        struct backend *backend = reference_backend(reference_isas[i], 1);
        for (int f = 0; backend != NULL && f < LINEAR_FORMS; ++f) {
            linear_check_extremes(backend, &linear_forms[f]);
        }
        backend_destroy(backend);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_products_equal_reference),
        cmocka_unit_test(test_rows_do_not_depend_on_the_batch),
        cmocka_unit_test(test_instruction_sets_agree),
        cmocka_unit_test(test_int8_keeps_small_inputs_beside_a_large_one),
        cmocka_unit_test(test_gated_product_equals_reference),
        cmocka_unit_test(test_gate_takes_extreme_values),
        cmocka_unit_test(test_product_is_added_to_what_is_there),
        cmocka_unit_test(test_parts_stand_below_one_another),
        cmocka_unit_test(test_extreme_inputs_stay_in_their_row_and_output),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
