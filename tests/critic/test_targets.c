// Costs and costs to go: a table by hand, and 1[z_t >= R_t] (M_t) against simulating each budget.
#include <math.h>

#include "common/rng.h"
#include "tests/support/testkit.h"
#include "worker/critic/measure.h"
#include "worker/critic/targets.h"

enum { TOKENS = 5 };

static void assert_values(const double *got, const double *want) {
    for (int i = 0; i < TOKENS; i++) {
        assert_true(fabs(got[i] - want[i]) < 1e-12);
    }
}

static void test_costs_of_each_mode(void **state) {
    (void)state;
    static const float scores[TOKENS] = {1, -2, 3, 4, -5};
    static const struct {
        enum cost_mode mode;
        double costs[TOKENS];
    } cases[] = {
        {COST_MODE_TOKEN_SUM, {2, -4, 6, 8, -10}}, {COST_MODE_TOKEN_SUM_POS, {2, 0, 6, 8, 0}},
        {COST_MODE_BLOCK_END, {0, -4, 0, 8, 14}},  {COST_MODE_END_DELTA, {0, -4, 0, 12, 6}},
        {COST_MODE_END_SIGN, {0, -4, 0, 12, 6}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct critic_channel channel = {.scorer = {.weight = 2},
                                         .cost_mode = cases[i].mode,
                                         .discount = 0.5,
                                         .discount_unit = DISCOUNT_UNIT_BLOCK,
                                         .block_tokens = 2};
        double costs[TOKENS], discounts[TOKENS];
        bool undiscounted = cases[i].mode == COST_MODE_END_SIGN;
        double gamma = undiscounted ? 1 : 0.5;
        critic_costs(&channel, scores, 7, TOKENS, costs, discounts);
        assert_values(costs, cases[i].costs);
        assert_values(discounts, (double[]){1, gamma, 1, gamma, gamma});
        channel.discount_unit = DISCOUNT_UNIT_TOKEN;
        critic_costs(&channel, scores, 7, TOKENS, costs, discounts);
        assert_values(discounts, (double[]){gamma, gamma, gamma, gamma, gamma});
    }
}

static void test_cost_to_go_by_hand(void **state) {
    (void)state;
    const double costs[TOKENS] = {1, -4, 2, 0, 8};
    const double discounts[TOKENS] = {0.5, 1, 0.5, 1, 0.5};
    double to_go[TOKENS];
    critic_cost_to_go(ADMIT_RULE_TERMINAL, costs, discounts, TOKENS, to_go);
    assert_values(to_go, (double[]){2, 2, 6, 8, 8});
    const double falling[TOKENS] = {3, -4, 2, -1, -8};
    critic_cost_to_go(ADMIT_RULE_PREFIX, falling, discounts, TOKENS, to_go);
    assert_values(to_go, (double[]){3, -2, 2, -1, -8});
}

// z moves by (z - c) / gamma from z_t = z on: what the rule says of it at the end.
static bool simulate(enum admit_rule rule, const double *costs, const double *discounts, int t,
                     int n, double z) {
    bool within = true;
    for (int k = t; k < n; k++) {
        z -= costs[k];
        within = within && z >= 0;
        z /= discounts[k];
    }
    return rule == ADMIT_RULE_PREFIX ? within : z >= 0;
}

static void test_labels_are_what_each_budget_would_come_to(void **state) {
    (void)state;
    for (uint32_t trial = 0; trial < 3000; trial++) {
        enum { MOST = 24 };
        double costs[MOST], discounts[MOST], to_go[MOST];
        int n = 1 + (int)(MOST * rng_uniform(9, trial, 0, 0));
        double gamma = 0.7 + 0.3 * rng_uniform(9, trial, 0, 1);
        for (uint32_t i = 0; i < (uint32_t)n; i++) {
            costs[i] = trial % 3 == 0 ? fmax(0, 4 * rng_uniform(9, trial, i, 2) - 2)
                                      : 4 * rng_uniform(9, trial, i, 2) - 2;
            discounts[i] = trial % 2 == 0 || i % 4 == 3 ? gamma : 1;
        }
        enum admit_rule rule = trial % 5 < 2 ? ADMIT_RULE_PREFIX : ADMIT_RULE_TERMINAL;
        critic_cost_to_go(rule, costs, discounts, n, to_go);
        for (int t = 0; t < n; t++) {
            for (uint32_t i = 0; i < 8; i++) {
                double z = to_go[t] + 6 * rng_uniform(9, trial, i, 3 + (uint32_t)t) - 3;
                if (fabs(z - to_go[t]) > 1e-9) {
                    assert_int_equal(z >= to_go[t], simulate(rule, costs, discounts, t, n, z));
                }
            }
        }
    }
}

static void test_measures_by_hand(void **state) {
    (void)state;
    struct measure measure;
    struct measure_case cases[] = {{0.9, true}, {0.2, false}, {0.6, false}, {0.6, true},
                                   {0.4, true}, {1, true},    {0, false},   {0.5, false}};
    measure_cases(cases, 8, &measure);
    assert_true(measure.n == 8 && measure.safe == 0.5);
    assert_true(fabs(measure.auroc - 13.5 / 16) < 1e-12);
    assert_true(fabs(measure.brier - (.01 + .04 + .36 + .16 + .36 + 0 + 0 + .25) / 8) < 1e-12);
    assert_true(measure.false_safe == 0.25 && measure.false_unsafe == 0.25);
    assert_true(measure.bins[6].n == 2 && measure.bins[6].happened == 0.5 &&
                fabs(measure.bins[6].predicted - 0.6) < 1e-12);
    assert_true(measure.bins[9].n == 2 && measure.bins[9].happened == 1);
    struct measure_case same[] = {{0.1, true}, {0.7, true}};
    assert_true(isnan(measure_auroc(same, 2)));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_costs_of_each_mode),
        cmocka_unit_test(test_cost_to_go_by_hand),
        cmocka_unit_test(test_labels_are_what_each_budget_would_come_to),
        cmocka_unit_test(test_measures_by_hand),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
