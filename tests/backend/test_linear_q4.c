// Products on weights of four bits: every instruction set, those that this CPU has not included,
// against their definition bit for bit, and the definition against exact sums. So rows do not
// depend on their batch nor threads, and instruction sets agree.
#include "tests/support/testkit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/backend/linear_cases.h"
#include "tests/backend/q4_emulation.h"
#include "tests/backend/reference.h"
#include "worker/backend/cpu/cpu_private.h"

enum { VALUES = Q4_BLOCK_VALUES, BYTES = Q4_BLOCK_BYTES };

// A CPU backend, or one of this CPU's with emulated kernels in it, which have panels of their own.
struct subject {
    struct backend *backend; // NULL: this CPU has it not
    struct linear_kernels linear;
    struct cpu_kernels kernels;
};

enum { SUBJECTS = REFERENCE_ISAS + Q4_EMULATIONS };

static void plain_finish(const struct linear_finish *args) {
    assert_int_equal(LINEAR_STORE, args->store);
    for (int32_t r = 0; r < args->height; ++r) {
        for (int32_t o = 0; o < args->n_outputs; ++o) {
            args->out[(size_t)r * (size_t)args->out_stride + (size_t)o] =
                args->sums[r * Q4_EMULATION_PANEL + o] + (args->bias != NULL ? args->bias[o] : 0);
        }
    }
}

static void subject_open(struct subject *subject, int index, int n_threads) {
    bool emulated = index >= REFERENCE_ISAS;
    subject->backend = reference_backend(emulated ? "generic" : reference_isas[index], n_threads);
    if (!emulated) {
        return;
    }
    struct cpu_backend *cpu = cpu_backend_from(subject->backend);
    subject->kernels = *cpu->kernels;
    subject->linear = *cpu->kernels->linear;
    subject->linear.panel = Q4_EMULATION_PANEL;
    subject->linear.finish = plain_finish;
    subject->kernels.linear = &subject->linear;
    cpu->kernels = &subject->kernels;
    cpu->linear[LINEAR_Q4] = q4_emulations[index - REFERENCE_ISAS];
}

static void put_f16(unsigned char *to, float value) {
    uint16_t bits = reference_to_f16(value);
    memcpy(to, &bits, sizeof bits);
}

static float get_f16(const unsigned char *from) {
    uint16_t bits;
    memcpy(&bits, from, sizeof bits);
    return (float)reference_from_f16(bits);
}

// n / 32 blocks, owned: scales and minima of either sign, some zero.
static unsigned char *random_blocks(size_t n, uint64_t seed) {
    size_t n_blocks = n / VALUES;
    unsigned char *blocks = malloc(n_blocks * BYTES);
    float *drawn = linear_filled(n_blocks * 18, seed);
    for (size_t b = 0; b < n_blocks; ++b) {
        const float *from = drawn + b * 18;
        unsigned char *block = blocks + b * BYTES;
        put_f16(block, b % 11 == 3 ? 0 : from[0] * 0.1f);
        put_f16(block + 2, b % 13 == 5 ? 0 : from[1]);
        for (int i = 0; i < 16; ++i) {
            block[4 + i] = (unsigned char)((from[2 + i] + 1) * 127.99f);
        }
    }
    free(drawn);
    return blocks;
}

static int quant(const unsigned char *block, int k) {
    return k < 16 ? block[4 + k] & 15 : block[4 + k - 16] >> 4;
}

// What a product is: linear.h. *exact: the same sum in float64 of the weights as they are and rows
// as they were rounded; *bound: how far this may be from the sum of rows that were not.
static float defined_product(const unsigned char *blocks, const float *x, int32_t n, double *exact,
                             double *bound) {
    float sum = 0;
    *exact = 0;
    *bound = 0;
    for (const unsigned char *block = blocks; n > 0; n -= VALUES, x += VALUES, block += BYTES) {
        float largest = 0, d = get_f16(block), m = get_f16(block + 2);
        for (int k = 0; k < VALUES; ++k) {
            largest = fmaxf(largest, fabsf(x[k]));
        }
        float scale = largest / 127, inverse = largest > 0 ? 127 / largest : 0;
        int32_t whole = 0, total = 0;
        for (int k = 0; k < VALUES; ++k) {
            int32_t a = (int32_t)lrintf(x[k] * inverse);
            double w = (double)d * quant(block, k) + (double)m;
            assert_in_range(a + 127, 0, 254);
            whole += quant(block, k) * a;
            total += a;
            *exact += w * a * (double)scale;
            *bound += 0.501 * (double)scale * fabs(w);
        }
        sum = fmaf((float)whole * d, scale, sum);
        sum = fmaf(m, scale * (float)total, sum);
    }
    return sum;
}

struct product {
    float *x;              // [rows, in]
    unsigned char *blocks; // [out, in / 32]
    float *bias;           // [out]; NULL: none
    float *expected;       // [rows, out]
    float *got;
    int32_t rows;
    int32_t in;
    int32_t out;
};

static void product_open(struct product *p, int32_t rows, int32_t in, int32_t out, bool bias) {
    *p = (struct product){.rows = rows, .in = in, .out = out};
    p->x = linear_filled((size_t)rows * (size_t)in, 1);
    p->blocks = random_blocks((size_t)out * (size_t)in, 2);
    p->bias = bias ? linear_filled((size_t)out, 3) : NULL;
    p->expected = linear_filled((size_t)rows * (size_t)out, 4);
    p->got = linear_filled((size_t)rows * (size_t)out, 5);
}

static void product_close(struct product *p) {
    free(p->x);
    free(p->blocks);
    free(p->bias);
    free(p->expected);
    free(p->got);
}

static const unsigned char *blocks_of(const struct product *p, int32_t output) {
    return p->blocks + (size_t)output * dtype_row_bytes(DTYPE_Q4_1, p->in);
}

// Fills `expected`, and holds it against exact sums.
static void define(struct product *p) {
    for (int32_t r = 0; r < p->rows; ++r) {
        const float *x = p->x + (size_t)r * (size_t)p->in;
        for (int32_t o = 0; o < p->out; ++o) {
            double exact, bound, real = 0, magnitude = 0;
            float sum = defined_product(blocks_of(p, o), x, p->in, &exact, &bound);
            for (int32_t k = 0; k < p->in; ++k) {
                const unsigned char *block = blocks_of(p, o) + k / VALUES * BYTES;
                double w =
                    (double)get_f16(block) * quant(block, k % VALUES) + (double)get_f16(block + 2);
                real += w * (double)x[k];
                magnitude += fabs((double)x[k]) *
                             (15 * fabs((double)get_f16(block)) + fabs((double)get_f16(block + 2)));
            }
            double rounding = 0x1p-23 * (2 + (double)p->in / VALUES) * magnitude;
            assert_true(fabs((double)sum - exact) <= rounding);
            assert_true(fabs((double)sum - real) <= bound + rounding);
            p->expected[(size_t)r * (size_t)p->out + (size_t)o] =
                sum + (p->bias != NULL ? p->bias[o] : 0);
        }
    }
}

// Rows [first, first + n) into their places of `got`, as one part or as two.
static void multiply(struct backend *backend, const struct product *p, int32_t first, int32_t n,
                     bool gated) {
    int32_t n_parts = gated ? 2 : 1, part_rows = p->out / n_parts;
    struct weight_source source = {.n_parts = n_parts, .gated = gated};
    for (int32_t i = 0; i < n_parts; ++i) {
        source.parts[i] = (struct tensor){.data = (void *)(uintptr_t)blocks_of(p, i * part_rows),
                                          .dtype = DTYPE_Q4_1,
                                          .rows = part_rows,
                                          .cols = p->in};
        if (p->bias != NULL) {
            source.biases[i] =
                (struct tensor){.data = p->bias + i * part_rows, .rows = 1, .cols = part_rows};
        }
    }
    struct weight weight;
    assert_ok(backend->ops->weight_pack(backend, &source, PRECISION_Q4, &weight), NULL);
    struct tensor from = {.data = p->x + (size_t)first * (size_t)p->in, .rows = n, .cols = p->in};
    struct tensor to = {
        .data = p->got + (size_t)first * (size_t)part_rows, .rows = n, .cols = part_rows};
    if (gated) {
        backend->ops->linear_gated(backend, &to, &from, &weight);
    } else {
        backend->ops->linear(backend, &to, &from, &weight);
    }
    backend->ops->weight_release(backend, &weight);
}

static void check_rows(const struct product *p, int32_t first, int32_t n, int subject) {
    for (int32_t i = first * p->out; i < (first + n) * p->out; ++i) {
        if (p->expected[i] != p->got[i]) {
            fail_msg("subject %d, %d rows of %d, %d outputs: row %d, output %d: expected %a, got "
                     "%a",
                     subject, n, p->in, p->out, i / p->out, i % p->out, (double)p->expected[i],
                     (double)p->got[i]);
        }
    }
}

// Around tiles (6, 12 rows), panels (8, 16, 32 outputs), lines (64 inputs, and half of one) and
// chunks.
static void test_products_equal_their_definition(void **state) {
    (void)state;
    static const int32_t shapes[][3] = {
        {1, 32, 1},   {1, 64, 8},     {2, 96, 9},    {3, 128, 7},    {4, 64, 33},  {5, 96, 24},
        {7, 160, 16}, {8, 832, 10},   {13, 800, 9},  {1, 1600, 17},  {33, 576, 3}, {12, 128, 65},
        {6, 192, 31}, {25, 1120, 34}, {270, 96, 40}, {17, 32, 3000},
    };
    for (size_t s = 0; s < sizeof(shapes) / sizeof(shapes[0]); ++s) {
        struct product p;
        product_open(&p, shapes[s][0], shapes[s][1], shapes[s][2], s % 2 == 1);
        define(&p);
        for (int i = 0; i < SUBJECTS; ++i) {
            struct subject subject;
            subject_open(&subject, i, 1);
            if (subject.backend != NULL) {
                multiply(subject.backend, &p, 0, p.rows, false);
                check_rows(&p, 0, p.rows, i);
            }
            backend_destroy(subject.backend);
        }
        product_close(&p);
    }
}

static void test_rows_do_not_depend_on_batch_nor_threads(void **state) {
    (void)state;
    enum { ROWS = 300, THREADS = 3 };
    static const int32_t counts[] = {1,  2,  3,  4,  5,  6,  7,  8,  9,   11,
                                     12, 13, 17, 24, 25, 33, 64, 97, 257, 300};
    struct product p;
    product_open(&p, ROWS, 1184, 35, false);
    define(&p);
    for (int i = 0; i < SUBJECTS; ++i) {
        for (size_t c = 0; c < sizeof(counts) / sizeof(counts[0]); ++c) {
            struct subject subject;
            subject_open(&subject, i, 1 + (int)c % THREADS);
            if (subject.backend != NULL) {
                int32_t first = (ROWS - counts[c]) / 2;
                multiply(subject.backend, &p, first, counts[c], false);
                check_rows(&p, first, counts[c], i);
            }
            backend_destroy(subject.backend);
        }
    }
    product_close(&p);
}

// Gates and their ups lie in the two halves of the bytes.
static void test_gated_product_equals_plain_ones(void **state) {
    (void)state;
    enum { ROWS = 9, IN = 96, HALF = 75 };
    struct product p;
    product_open(&p, ROWS, IN, 2 * HALF, true);
    define(&p);
    for (int i = 0; i < REFERENCE_ISAS; ++i) {
        struct backend *backend = reference_backend(reference_isas[i], 2);
        if (backend == NULL) {
            continue;
        }
        multiply(backend, &p, 0, ROWS, true);
        for (int32_t k = 0; k < ROWS * HALF; ++k) {
            const float *row = p.expected + k / HALF * 2 * HALF;
            double gate = (double)row[k % HALF], up = (double)row[HALF + k % HALF];
            double expected = gate / (1 + exp(-gate)) * up;
            assert_true(fabs(expected - (double)p.got[k]) <= 0x1p-21 * fabs(expected) + 0x1p-120);
        }
        backend_destroy(backend);
    }
    product_close(&p);
}

// The largest pairs that 16 bits must hold, both signs.
static void test_largest_sums_are_exact(void **state) {
    (void)state;
    struct product p;
    product_open(&p, 2, 64, 40, false);
    for (int32_t k = 0; k < 2 * 64; ++k) {
        p.x[k] = k < 64 ? 1 : -1;
    }
    for (int32_t b = 0; b < 40 * 2; ++b) {
        memset(p.blocks + b * BYTES + 4, 0xff, 16);
    }
    define(&p);
    for (int i = 0; i < SUBJECTS; ++i) {
        struct subject subject;
        subject_open(&subject, i, 1);
        if (subject.backend != NULL) {
            multiply(subject.backend, &p, 0, 2, false);
            check_rows(&p, 0, 2, i);
        }
        backend_destroy(subject.backend);
    }
    product_close(&p);
}

static void test_extreme_inputs_stay_in_their_row(void **state) {
    (void)state;
    enum { ROWS = 6, IN = 160, OUT = 40 };
    struct product p;
    product_open(&p, ROWS, IN, OUT, false);
    for (int32_t k = 0; k < IN; ++k) {
        p.x[k] = 0;
        p.x[IN + k] = k == 3 ? NAN : 1;
        p.x[2 * IN + k] = k == 40 ? -INFINITY : 1;
        p.x[3 * IN + k] = 1e-40f; // counts as zero
        p.x[4 * IN + k] = k % 2 == 0 ? 1e36f : -1e36f;
    }
    for (int i = 0; i < SUBJECTS; ++i) {
        struct subject subject;
        subject_open(&subject, i, 1);
        if (subject.backend == NULL) {
            continue;
        }
        multiply(subject.backend, &p, 0, ROWS, false);
        for (int32_t o = 0; o < OUT; ++o) {
            double exact, bound;
            assert_true(p.got[o] == 0 && p.got[3 * OUT + o] == 0);
            assert_true(isnan(p.got[OUT + o]) && isnan(p.got[2 * OUT + o]));
            for (int32_t r = 4; r < ROWS; ++r) {
                float defined = defined_product(blocks_of(&p, o), p.x + r * IN, IN, &exact, &bound);
                assert_true(isfinite(defined) && defined == p.got[r * OUT + o]);
            }
        }
        backend_destroy(subject.backend);
    }
    product_close(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_products_equal_their_definition),
        cmocka_unit_test(test_rows_do_not_depend_on_batch_nor_threads),
        cmocka_unit_test(test_gated_product_equals_plain_ones),
        cmocka_unit_test(test_largest_sums_are_exact),
        cmocka_unit_test(test_extreme_inputs_stay_in_their_row),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
