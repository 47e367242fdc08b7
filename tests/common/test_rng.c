// Known answers of Philox4x32-10 (the test vectors published with Random123) and properties of the
// uniform numbers made of it.
#include "common/rng.h"
#include "tests/support/testkit.h"

static void test_philox_gives_the_published_answers(void **state) {
    (void)state;
    static const struct {
        uint32_t counter[4], key[2], out[4];
    } cases[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint32_t out[4];
        rng_philox4x32(cases[i].counter, cases[i].key, out);
        assert_memory_equal(out, cases[i].out, sizeof out);
    }
}

static void test_uniform_depends_on_every_argument(void **state) {
    (void)state;
    double base = rng_uniform(1, 2, 3, 4);
    assert_true(base == rng_uniform(1, 2, 3, 4));
    assert_true(base != rng_uniform(UINT64_C(1) << 32 | 1, 2, 3, 4));
    assert_true(base != rng_uniform(0, 2, 3, 4));
    assert_true(base != rng_uniform(1, UINT64_C(1) << 32 | 2, 3, 4));
    assert_true(base != rng_uniform(1, 0, 3, 4));
    assert_true(base != rng_uniform(1, 2, 0, 4));
    assert_true(base != rng_uniform(1, 2, 3, 0));
}

static void test_uniform_fills_the_unit_interval_evenly(void **state) {
    (void)state;
    enum { DRAWS = 64000, BINS = 64 };
    int counts[BINS] = {0};
    for (uint32_t i = 0; i < DRAWS; i++) {
        double u = rng_uniform(7, i / 100, i % 100, 0);
        assert_true(u >= 0 && u < 1);
        counts[(int)(u * BINS)]++;
    }
    double chi_square = 0;
    for (int i = 0; i < BINS; i++) {
        double excess = counts[i] - (double)DRAWS / BINS;
        chi_square += excess * excess / ((double)DRAWS / BINS);
    }
    // 63 degrees of freedom: 0.0001 of all streams are above 114; the stream is fixed.
    assert_true(chi_square < 114);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_philox_gives_the_published_answers),
        cmocka_unit_test(test_uniform_depends_on_every_argument),
        cmocka_unit_test(test_uniform_fills_the_unit_interval_evenly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
