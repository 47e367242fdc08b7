// The AMX product kernels within the CPU backend, which gives them its rows, chunks and threads:
// int8 against the portable kernels bit for bit, bf16 against its definition bit for bit, and both
// against themselves in other batches. On a CPU without AMX the instructions are emulated: that
// says that the kernels are right if the CPUs do what their manual says.
#include "tests/support/testkit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/backend/amx_emulation.h"
#include "tests/backend/linear_cases.h"
#include "tests/backend/reference.h"
#include "worker/backend/cpu/amx_tile.h"
#include "worker/backend/cpu/cpu_private.h"

static const struct linear_form *const bf16 = &linear_forms[LINEAR_FORM_BF16];
static const struct linear_form *const int8 = &linear_forms[LINEAR_FORM_INT8];

// Owned; NULL where there is nothing to run the kernels on: a CPU without the vectors that they
// also use, or one with AMX and a system that keeps it back.
static struct backend *amx_backend(int n_threads) {
    bool real = amx_permitted();
    if (!real && __builtin_cpu_supports("amx-tile")) {
        return NULL;
    }
    struct backend *backend = reference_backend("avx512bf16", n_threads);
    if (backend != NULL) {
        struct cpu_backend *cpu = cpu_backend_from(backend);
        cpu->linear[LINEAR_INT8] = &kernel_int8_avx512amx;
        cpu->linear[LINEAR_BF16_ROUNDED] = &kernel_bf16_rounded_avx512amx;
    }
    if (backend != NULL && !real) {
        amx_emulation_install(); // cmocka takes the signal back at the beginning of each case
    }
    return backend;
}

static void test_products_equal_reference(void **state) {
    (void)state;
    struct backend *backend = amx_backend(2);
    linear_check_products(backend, bf16);
    linear_check_products(backend, int8);
    backend_destroy(backend);
}

static void test_rows_do_not_depend_on_the_batch(void **state) {
    (void)state;
    enum { THREADS = 3 };
    struct backend *backends[THREADS];
    for (int t = 0; t < THREADS; ++t) {
        backends[t] = amx_backend(t + 1);
    }
    for (int f = LINEAR_FORM_BF16; f <= LINEAR_FORM_INT8; ++f) {
        linear_check_cuts(backends, THREADS, &linear_forms[f], 50, 37, false);
        linear_check_cuts(backends, THREADS, &linear_forms[f], 2500, 19, false);
        linear_check_cuts(backends, THREADS, &linear_forms[f], 300, 98, true);
    }
    for (int t = 0; t < THREADS; ++t) {
        backend_destroy(backends[t]);
    }
}

static void test_extreme_inputs_stay_in_their_row_and_output(void **state) {
    (void)state;
    struct backend *backend = amx_backend(1);
    linear_check_extremes(backend, bf16);
    linear_check_extremes(backend, int8);
    backend_destroy(backend);
}

struct product {
    float *x, *w;          // [rows, in], [out, in]
    float *expected, *got; // [rows, out]
    int32_t rows, in, out;
};

static struct product product_of(int32_t rows, int32_t in, int32_t out) {
    return (struct product){
        .x = linear_filled((size_t)rows * (size_t)in, 1),
        .w = linear_filled((size_t)in * (size_t)out, 2),
        .expected = linear_filled((size_t)rows * (size_t)out, 3),
        .got = linear_filled((size_t)rows * (size_t)out, 4),
        .rows = rows,
        .in = in,
        .out = out,
    };
}

// Multiplies, compares and frees.
static void check_product(struct product *product, const struct linear_form *form) {
    struct backend *backend = amx_backend(1);
    linear_multiply(backend, form, product->x, product->rows, product->w, product->in, product->out,
                    NULL, false, product->got);
    assert_false(amx_emulation_holds_registers()); // the one thread is this one
    assert_memory_equal(product->expected, product->got,
                        (size_t)product->rows * (size_t)product->out * sizeof(float));
    backend_destroy(backend);
    free(product->x);
    free(product->w);
    free(product->expected);
    free(product->got);
}

// At every height of a tile: 33 to 36 rows are two of them.
static void test_int8_equals_the_portable_kernels(void **state) {
    (void)state;
    struct backend *portable = reference_backend("generic", 1);
    for (int32_t rows = 1; rows <= 36; ++rows) {
        struct product product = product_of(rows, 1000 + rows, 70);
        linear_multiply(portable, int8, product.x, rows, product.w, product.in, product.out, NULL,
                        false, product.expected);
        check_product(&product, int8);
    }
    backend_destroy(portable);
}

static float rounded(float value) {
    return (float)reference_from_bf16(reference_to_bf16(value));
}

// The definition of a bf16 product in AMX: see linear.h.
static float defined_product(const float *x, const float *w, int32_t n) {
    enum { STEP = 32 };
    float sum = 0;
    for (int32_t begin = 0; begin < n; begin += STEP) {
        float even = 0, odd = 0;
        for (int32_t k = begin; k < n && k < begin + STEP; k += 2) {
            even = fmaf(rounded(x[k]), rounded(w[k]), even);
            odd = k + 1 < n ? fmaf(rounded(x[k + 1]), rounded(w[k + 1]), odd) : odd;
        }
        sum += even + odd;
    }
    return sum;
}

static void test_bf16_has_its_own_order_of_sums(void **state) {
    (void)state;
    for (int32_t rows = 1; rows <= 36; ++rows) {
        struct product product = product_of(rows, 1200 + rows, 35);
        for (int32_t i = 0; i < rows * product.out; ++i) {
            product.expected[i] =
                defined_product(product.x + i / product.out * product.in,
                                product.w + i % product.out * product.in, product.in);
        }
        check_product(&product, bf16);
    }
}

// Numbers below 2^-126 count as zeros, and so do products and sums of them.
static void test_bf16_flushes_small_numbers(void **state) {
    (void)state;
    static const float inputs[][2] = {
        {0x1p-127f, 0x1p100f}, {0x1p100f, 0x1p-127f}, {0x1p-70f, 0x1p-70f}, {0x1p-63f, 0x1p-63f}};
    for (int32_t i = 0; i < 4; ++i) {
        struct product product = product_of(1, 1, 1);
        product.x[0] = inputs[i][0];
        product.w[0] = inputs[i][1];
        product.expected[0] = i == 3 ? 0x1p-126f : 0;
        check_product(&product, bf16);
    }
}

int main(void) {
    struct backend *probe = amx_backend(1);
    if (probe == NULL) {
        return 77;
    }
    backend_destroy(probe);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_products_equal_reference),
        cmocka_unit_test(test_rows_do_not_depend_on_the_batch),
        cmocka_unit_test(test_extreme_inputs_stay_in_their_row_and_output),
        cmocka_unit_test(test_int8_equals_the_portable_kernels),
        cmocka_unit_test(test_bf16_has_its_own_order_of_sums),
        cmocka_unit_test(test_bf16_flushes_small_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
