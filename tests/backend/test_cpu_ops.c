// Every operation of the CPU backend against a plain double-precision reference, for each
// instruction set that this CPU has; products are in test_linear.c.
#include "tests/support/testkit.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/backend/reference.h"
#include "worker/decode/sampling.h"

static const double epsilon = 0x1p-24;

static struct tensor make(int32_t rows, int32_t cols, uint64_t seed) {
    struct tensor tensor = {.dtype = DTYPE_F32, .rows = rows, .cols = cols};
    size_t n = (size_t)rows * (size_t)cols;
    tensor.data = malloc(n * sizeof(float));
    reference_fill(tensor.data, n, seed);
    return tensor;
}

static float at(const struct tensor *tensor, int32_t row, int32_t col) {
    return ((const float *)tensor->data)[(size_t)row * (size_t)tensor->cols + (size_t)col];
}

static void assert_near(double expected, double got, double tolerance, const char *what) {
    if (!(fabs(expected - got) <= tolerance)) {
        print_error("%s: expected %.9g, got %.9g, tolerance %.3g\n", what, expected, got,
                    tolerance);
        fail();
    }
}

static void test_sixteen_bit_values_widen_exactly(void **state) {
    (void)state;
    // Every finite pattern, subnormals and signed zeros included, through embed.
    enum { PATTERNS = 1 << 16 };
    uint16_t *patterns = malloc(PATTERNS * sizeof(uint16_t));
    for (int32_t i = 0; i < PATTERNS; ++i) {
        patterns[i] = (uint16_t)i;
    }
    int32_t token = 0;
    const struct batch_plan plan = {
        .n_rows = 1, .token_ids = &token, .positions = &token, .kv_block = &token};
    struct tensor out = make(1, PATTERNS, 1);
    for (int i = 0; i < REFERENCE_ISAS; ++i) {
        struct backend *backend = reference_backend(reference_isas[i], 1);
        for (enum dtype dtype = DTYPE_F16; backend != NULL && dtype <= DTYPE_BF16; ++dtype) {
            struct tensor table = {.data = patterns, .dtype = dtype, .rows = 1, .cols = PATTERNS};
            assert_ok(backend->ops->batch_begin(backend, &plan), NULL);
            backend->ops->embed(backend, &out, &table);
            for (int32_t p = 0; p < PATTERNS; ++p) {
                double expected = reference_decode(patterns, (size_t)p, dtype);
                float got = at(&out, 0, p);
                if (isnan(expected)) {
                    assert_true(isnan(got));
                } else {
                    assert_true(expected == got && !signbit(expected) == !signbit(got));
                }
            }
        }
        backend_destroy(backend);
    }
    free(out.data);
    free(patterns);
}

static void test_embed_takes_the_rows_of_the_tokens(void **state) {
    (void)state;
    struct backend *backend = reference_backend("generic", 3);
    struct tensor table = make(11, 19, 5), out = make(4, 19, 6);
    const int32_t tokens[] = {10, 0, 3, 3}, zeros[4] = {0};
    const struct batch_plan plan = {
        .n_rows = 4, .token_ids = tokens, .positions = zeros, .kv_block = zeros};
    assert_ok(backend->ops->batch_begin(backend, &plan), NULL);
    backend->ops->embed(backend, &out, &table);
    for (int32_t r = 0; r < 4; ++r) {
        for (int32_t c = 0; c < 19; ++c) {
            assert_true(at(&out, r, c) == at(&table, tokens[r], c));
        }
    }
    free(table.data);
    free(out.data);
    backend_destroy(backend);
}

static void test_rms_norm_equals_reference(void **state) {
    (void)state;
    for (int i = 0; i < REFERENCE_ISAS * 4; ++i) {
        const int32_t dims[] = {1, 16, 37, 2048};
        struct backend *backend = reference_backend(reference_isas[i / 4], 2);
        if (backend == NULL) {
            continue;
        }
        int32_t dim = dims[i % 4];
        struct tensor x = make(3, dim, 7), out = make(3, dim, 8), values = make(1, dim, 9);
        struct tensor weight = {.data = reference_encode(values.data, (size_t)dim, DTYPE_BF16),
                                .dtype = DTYPE_BF16,
                                .rows = 1,
                                .cols = dim};
        backend->ops->rms_norm(backend, &out, &x, &weight, 1e-5f);
        for (int32_t r = 0; r < 3; ++r) {
            double sum = 0;
            for (int32_t c = 0; c < dim; ++c) {
                sum += (double)at(&x, r, c) * at(&x, r, c);
            }
            for (int32_t c = 0; c < dim; ++c) {
                double expected = at(&x, r, c) / sqrt(sum / dim + (double)1e-5f) *
                                  reference_decode(weight.data, (size_t)c, DTYPE_BF16);
                assert_near(expected, at(&out, r, c), (dim / 16.0 + 16) * epsilon * fabs(expected),
                            "rms_norm");
            }
        }
        free(x.data);
        free(out.data);
        free(values.data);
        free(weight.data);
        backend_destroy(backend);
    }
}

static void test_rope_rotates_half_pairs_by_position(void **state) {
    (void)state;
    enum { HEADS = 3, DIM = 10, ROWS = 4, COLS = (HEADS + 2) * DIM };
    struct backend *backend = reference_backend("generic", 2);
    float inv_freq[DIM / 2];
    for (int32_t i = 0; i < DIM / 2; ++i) {
        inv_freq[i] = powf(10000, -2.0f * (float)i / DIM);
    }
    struct kv_storage kv = {.n_layers = 1,
                            .n_blocks = 1,
                            .n_kv_heads = 1,
                            .head_dim = DIM,
                            .n_positions = 100001,
                            .inv_freq = inv_freq,
                            .rotary_dim = DIM,
                            .rotary_scale = 1};
    assert_ok(backend->ops->kv_create(backend, &kv), NULL);
    struct tensor x = make(ROWS, COLS, 13), old = make(ROWS, COLS, 13);
    const int32_t positions[ROWS] = {0, 1, 77, 100000}, zeros[ROWS] = {0};
    const struct batch_plan plan = {
        .n_rows = ROWS, .token_ids = zeros, .positions = positions, .kv_block = zeros};
    assert_ok(backend->ops->batch_begin(backend, &plan), NULL);
    backend->ops->rope_store(backend, &x, &kv, &(struct attention_layer){.n_heads = HEADS});
    for (int32_t r = 0; r < ROWS; ++r) {
        for (int32_t c = 0; c < HEADS * DIM; ++c) {
            int32_t i = c % DIM % (DIM / 2);
            bool upper = c % DIM >= DIM / 2;
            double angle = (double)positions[r] * inv_freq[i];
            double partner = at(&old, r, upper ? c - DIM / 2 : c + DIM / 2);
            double expected =
                at(&old, r, c) * cos(angle) + (upper ? partner : -partner) * sin(angle);
            assert_near(expected, at(&x, r, c), 8 * epsilon, "rope");
        }
    }
    free(x.data);
    free(old.data);
    backend->ops->kv_destroy(backend, &kv);
    backend_destroy(backend);
}

static void test_gather_and_scatter_move_rows(void **state) {
    (void)state;
    struct backend *backend = reference_backend("generic", 4);
    struct tensor x = make(5, 23, 14);
    struct tensor picked = make(3, 23, 16), back = make(5, 23, 17);
    const int32_t rows[] = {4, 0, 2};
    backend->ops->gather_rows(backend, &picked, &x, rows, 3);
    backend->ops->scatter_rows(backend, &back, &picked, rows, 3);
    for (int32_t c = 0; c < 23; ++c) {
        for (int32_t i = 0; i < 3; ++i) {
            assert_true(at(&picked, i, c) == at(&x, rows[i], c));
            assert_true(at(&back, rows[i], c) == at(&x, rows[i], c));
        }
    }
    free(x.data);
    free(picked.data);
    free(back.data);
    backend_destroy(backend);
}

// One sequence of `length` tokens in blocks that lie in reverse order, all rows in one batch.
// So that a memory plan knows it before the first draw.
static void test_relu_keeps_what_is_above_zero_and_what_is_no_number(void **state) {
    (void)state;
    for (int threads = 1; threads <= 3; ++threads) {
        struct backend *backend = reference_backend("generic", threads);
        struct tensor x = make(41, 700, 9), before = make(41, 700, 9);
        ((float *)x.data)[3] = NAN;
        backend->ops->relu(backend, &x);
        for (int32_t i = 0; i < 41 * 700; ++i) {
            float was = ((float *)before.data)[i], is = ((float *)x.data)[i];
            assert_true(i == 3 ? isnan(is) : is == (was > 0 ? was : 0));
        }
        free(x.data);
        free(before.data);
        backend_destroy(backend);
    }
}

static void test_relu_slopes_are_kept_where_the_value_is_above_zero(void **state) {
    (void)state;
    for (int threads = 1; threads <= 3; ++threads) {
        struct backend *backend = reference_backend("generic", threads);
        struct tensor values = make(41, 700, 9), slopes = make(41, 700, 11);
        struct tensor before = make(41, 700, 11);
        ((float *)values.data)[3] = NAN;
        ((float *)values.data)[4] = 0;
        backend->ops->relu_slopes(backend, &slopes, &values);
        for (int32_t i = 0; i < 41 * 700; ++i) {
            float want = ((float *)values.data)[i] > 0 ? ((float *)before.data)[i] : 0;
            assert_true(((float *)slopes.data)[i] == want);
        }
        free(values.data);
        free(slopes.data);
        free(before.data);
        backend_destroy(backend);
    }
}

static void test_add_scaled_takes_each_rows_own_scale_and_spares_those_of_zero(void **state) {
    (void)state;
    for (int threads = 1; threads <= 3; ++threads) {
        struct backend *backend = reference_backend("generic", threads);
        struct tensor x = make(41, 700, 9), before = make(41, 700, 9), y = make(41, 700, 11);
        float scales[41];
        for (int32_t row = 0; row < 41; ++row) {
            scales[row] = (float)(row % 5) / 4;
        }
        ((float *)y.data)[5 * 700] = INFINITY; // a row of scale 0
        backend->ops->add_scaled(backend, &x, &y, scales);
        for (int32_t i = 0; i < 41 * 700; ++i) {
            float scale = scales[i / 700], was = ((float *)before.data)[i];
            double want = (double)was + (double)scale * (double)((float *)y.data)[i];
            double got = (double)((float *)x.data)[i];
            assert_true(scale == 0 ? got == (double)was
                                   : fabs(got - want) <= 1e-6 * fabs(want) + 1e-6);
        }
        free(x.data);
        free(before.data);
        free(y.data);
        backend_destroy(backend);
    }
}

static void test_empty_draw_takes_the_memory_of_draws(void **state) {
    (void)state;
    enum { THREADS = 2, VOCAB = 10000 };
    struct backend *backend = reference_backend("generic", THREADS);
    size_t before = backend->ops->own_bytes(backend);
    struct tensor logits = {.dtype = DTYPE_F32, .cols = VOCAB};
    assert_ok(backend->ops->sample(backend, &logits, NULL, 0), NULL);
    size_t after = backend->ops->own_bytes(backend);
    assert_true(after >= before + THREADS * sampling_scratch_bytes(VOCAB));
    logits.cols = VOCAB / 2;
    assert_ok(backend->ops->sample(backend, &logits, NULL, 0), NULL);
    assert_int_equal(after, backend->ops->own_bytes(backend));
    backend_destroy(backend);
}

static void test_backend_refuses_what_it_cannot_be(void **state) {
    (void)state;
    struct backend *backend = NULL;
    struct error err = {0};
    assert_status(STATUS_UNSUPPORTED, backend_create("tpu", 1, &backend, &err));
    assert_string_equal("backend", err.field);
    assert_status(STATUS_INVALID_ARGUMENT, backend_create("cpu", 0, &backend, &err));
    assert_string_equal("threads", err.field);
    assert_status(STATUS_INVALID_ARGUMENT, backend_create("cpu", 257, &backend, &err));
    setenv("SUREFOOT_CPU_ISA", "mmx", 1);
    assert_status(STATUS_INVALID_ARGUMENT, backend_create("cpu", 1, &backend, &err));
    assert_string_equal("SUREFOOT_CPU_ISA", err.field);
    unsetenv("SUREFOOT_CPU_ISA");
    assert_null(backend);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sixteen_bit_values_widen_exactly),
        cmocka_unit_test(test_embed_takes_the_rows_of_the_tokens),
        cmocka_unit_test(test_rms_norm_equals_reference),
        cmocka_unit_test(test_rope_rotates_half_pairs_by_position),
        cmocka_unit_test(test_gather_and_scatter_move_rows),
        cmocka_unit_test(test_relu_keeps_what_is_above_zero_and_what_is_no_number),
        cmocka_unit_test(test_relu_slopes_are_kept_where_the_value_is_above_zero),
        cmocka_unit_test(test_add_scaled_takes_each_rows_own_scale_and_spares_those_of_zero),
        cmocka_unit_test(test_empty_draw_takes_the_memory_of_draws),
        cmocka_unit_test(test_backend_refuses_what_it_cannot_be),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
