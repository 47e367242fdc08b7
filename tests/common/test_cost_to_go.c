// f1: values worked out by hand, and what every mixture has in common.
#include <math.h>

#include "common/cost_to_go.h"
#include "common/rng.h"
#include "tests/support/testkit.h"

static void test_one_part_is_a_logistic(void **state) {
    (void)state;
    const struct cost_to_go cost = {1, {1}, {2}, {0.5F}};
    assert_true(cost_to_go_within(&cost, 2) == 0.5);
    assert_true(fabs(cost_to_go_within(&cost, 3) - 1 / (1 + exp(-2))) < 1e-15);
    assert_true(fabs(cost_to_go_within(&cost, 1) - 1 / (1 + exp(2))) < 1e-15);
}

static void test_parts_count_by_their_weights(void **state) {
    (void)state;
    const struct cost_to_go cost = {3, {0.5F, 0.25F, 0.25F}, {0, 100, -100}, {1, 1, 1}};
    assert_true(fabs(cost_to_go_within(&cost, 0) - 0.5) < 1e-12);
    assert_true(fabs(cost_to_go_within(&cost, 50) - 0.75) < 1e-12);
    assert_true(fabs(cost_to_go_within(&cost, -50) - 0.25) < 1e-12);
}

static void test_more_left_of_the_budget_is_never_less_likely_enough(void **state) {
    (void)state;
    for (uint32_t i = 0; i < 2000; i++) {
        struct cost_to_go cost = {.n_parts = 1 + (int)(i % 3)};
        double sum = 0;
        for (uint32_t k = 0; k < (uint32_t)cost.n_parts; k++) {
            cost.weights[k] = (float)rng_uniform(1, i, k, 0);
            sum += (double)cost.weights[k];
            cost.mus[k] = (float)(20 * rng_uniform(1, i, k, 1) - 10);
            cost.sigmas[k] = (float)exp(12 * rng_uniform(1, i, k, 2) - 8);
        }
        for (int k = 0; k < cost.n_parts; k++) {
            cost.weights[k] = (float)((double)cost.weights[k] / sum);
        }
        assert_true(cost_to_go_is_valid(&cost));
        double last = cost_to_go_within(&cost, -INFINITY);
        assert_true(last == 0);
        for (double z = -1e4; z <= 1e4; z = z < 0 ? z / 1.3 + 1e-3 : z * 1.3 + 1e-3) {
            double now = cost_to_go_within(&cost, z);
            assert_true(now >= last && now <= 1);
            last = now;
        }
        assert_true(cost_to_go_within(&cost, INFINITY) >= last);
        assert_true(fabs(cost_to_go_within(&cost, INFINITY) - 1) < 1e-12);
    }
}

static void test_what_is_no_distribution_is_not_valid(void **state) {
    (void)state;
    const struct cost_to_go bad[] = {
        {0, {1}, {0}, {1}},   {4, {1}, {0}, {1}},    {1, {1}, {NAN}, {1}},
        {1, {1}, {0}, {0}},   {1, {1}, {0}, {-1}},   {1, {1}, {0}, {INFINITY}},
        {1, {NAN}, {0}, {1}}, {1, {0.9F}, {0}, {1}}, {2, {1.5F, -0.5F}, {0, 0}, {1, 1}},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_false(cost_to_go_is_valid(&bad[i]));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_part_is_a_logistic),
        cmocka_unit_test(test_parts_count_by_their_weights),
        cmocka_unit_test(test_more_left_of_the_budget_is_never_less_likely_enough),
        cmocka_unit_test(test_what_is_no_distribution_is_not_valid),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
