// The safety state against the recursion and a table written by hand.
#include "tests/support/testkit.h"

#include <float.h>
#include <math.h>

#include "common/rng.h"
#include "coordinator/search/safety.h"

static struct search_spec make_spec(enum cost_mode mode, enum admit_rule rule, double budget,
                                    double discount) {
    return (struct search_spec){
        .method = SEARCH_METHOD_BEAM,
        .selection = SEARCH_SELECTION_AUGMENTED,
        .block_tokens = 2,
        .max_tokens = 8,
        .scorers = {{.is_cost = true, .weight = 1}},
        .n_scorers = 1,
        .channels = {{.cost_mode = mode,
                      .budget = budget,
                      .discount = discount,
                      .discount_unit = DISCOUNT_UNIT_TOKEN,
                      .admit_rule = rule}},
        .n_channels = 1,
    };
}

static const float no_scores[2];

// Of one scorer: a cost after each of n tokens.
#define TOKENS(scores, n) .token_scores = (scores), .n_places = (n), .n_tokens = (n)

static void test_state_equals_the_recursion(void **state) {
    (void)state;
    for (uint32_t round = 0; round < 200; round++) {
        float costs[40];
        uint32_t n = 1 + round % 40;
        struct search_spec spec =
            make_spec(COST_MODE_TOKEN_SUM, ADMIT_RULE_TERMINAL, 1.0, 0.9 + 0.0005 * round);
        double z = spec.channels[0].budget;
        double sum = 0.0;
        double weight = 1.0;
        for (uint32_t i = 0; i < n; i++) {
            costs[i] = (float)(2.0 * rng_uniform(9, round, i, 0) - 0.9);
            z = (z - (double)costs[i]) / spec.channels[0].discount;
            sum += weight * (double)costs[i];
            weight *= spec.channels[0].discount;
        }
        const struct search_scores input = {TOKENS(costs, n)};
        struct safety_state out;
        safety_evaluate(&spec, &input, &out);
        assert_true(fabs(out.z - z) <= 1e-9 * (1.0 + fabs(z)));
        assert_int_equal(out.admissible, sum <= spec.channels[0].budget);
        assert_int_equal(out.admissible, out.z >= 0.0);
    }
}

static void test_state_is_a_number_where_the_discount_vanishes(void **state) {
    (void)state;
    static const struct {
        float first_cost;
        double z;
        bool admissible;
    } cases[] = {{1, 0, true}, {0.5F, DBL_MAX, true}, {2, -DBL_MAX, false}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct search_spec spec = make_spec(COST_MODE_TOKEN_SUM, ADMIT_RULE_TERMINAL, 1.0, 1e-200);
        const float costs[] = {cases[i].first_cost, 1, 1};
        struct safety_state out;
        safety_evaluate(&spec, &(struct search_scores){TOKENS(costs, 3)}, &out);
        assert_true(out.z == cases[i].z);
        assert_int_equal(out.admissible, cases[i].admissible);
    }
}

static void test_budget_exactly_met_is_admissible(void **state) {
    (void)state;
    struct search_spec spec = make_spec(COST_MODE_TOKEN_SUM, ADMIT_RULE_PREFIX, 3.0, 1.0);
    const float exact[] = {1.0F, 2.0F};
    const float above[] = {1.0F, 2.0F + 0x1p-21F};
    struct safety_state out;
    safety_evaluate(&spec, &(struct search_scores){TOKENS(exact, 2)}, &out);
    assert_true(out.admissible);
    assert_false(out.certain_loss);
    safety_evaluate(&spec, &(struct search_scores){TOKENS(above, 2)}, &out);
    assert_false(out.admissible);
    assert_false(safety_within_budget(NAN, 1.0));
}

struct mode_case {
    enum cost_mode mode;
    enum admit_rule rule;
    double cost;
    double z;
    bool admissible;
    bool certain_loss;
};

// Text of four tokens in two blocks, e_0 = 0.5, s = 1, -2, 3, -1, e_1 = -2, e_2 = -1, gamma = 0.5,
// b = 1. end_delta: c = 0, -2.5 at token 1, 0, 1 at token 3: S = 0.5*-2.5 + 0.125*1 = -1.125, z =
// (1+1.125)*16. token_sum: S = 1 - 1 + 0.75 - 0.125 = 0.625; prefix sums 1, 0, 0.75, 0.625: never
// above 1. token_sum_pos: S = 1 + 0.75 = 1.75. block_end: S = 0.5*-2 + 0.125*-1 = -1.125. end_sign:
// e = -1, z = 2.
static const struct mode_case mode_cases[] = {
    {COST_MODE_END_DELTA, ADMIT_RULE_TERMINAL, -1.125, 34.0, true, false},
    {COST_MODE_END_DELTA, ADMIT_RULE_PREFIX, -1.125, 34.0, true, false},
    {COST_MODE_TOKEN_SUM, ADMIT_RULE_TERMINAL, 0.625, 6.0, true, false},
    {COST_MODE_TOKEN_SUM, ADMIT_RULE_PREFIX, 0.625, 6.0, true, false},
    {COST_MODE_TOKEN_SUM_POS, ADMIT_RULE_TERMINAL, 1.75, -12.0, false, true},
    {COST_MODE_TOKEN_SUM_POS, ADMIT_RULE_PREFIX, 1.75, -12.0, false, true},
    {COST_MODE_BLOCK_END, ADMIT_RULE_TERMINAL, -1.125, 34.0, true, false},
    {COST_MODE_BLOCK_END, ADMIT_RULE_PREFIX, -1.125, 34.0, true, false},
    {COST_MODE_END_SIGN, ADMIT_RULE_TERMINAL, -1.0, 2.0, true, false},
    {COST_MODE_END_SIGN, ADMIT_RULE_PREFIX, -1.0, 2.0, true, false},
};

static void test_every_cost_mode_and_admit_rule(void **state) {
    (void)state;
    const float scores[] = {1.0F, -2.0F, 3.0F, -1.0F};
    const uint32_t ends[] = {2, 4};
    const float block_scores[] = {-2.0F, -1.0F};
    const float prompt = 0.5F;
    for (size_t i = 0; i < sizeof mode_cases / sizeof mode_cases[0]; i++) {
        const struct mode_case *expected = &mode_cases[i];
        struct search_spec spec = make_spec(expected->mode, expected->rule, 1.0, 0.5);
        const struct search_scores input = {
            .token_scores = scores,
            .n_places = 4,
            .n_tokens = 4,
            .block_ends = ends,
            .end_scores = block_scores,
            .n_blocks = 2,
            .prompt_scores = &prompt,
        };
        struct safety_state out;
        safety_evaluate(&spec, &input, &out);
        assert_true(fabs(out.channels[0].cost - expected->cost) < 1e-12);
        assert_true(fabs(out.z - expected->z) < 1e-9);
        assert_int_equal(out.admissible, expected->admissible);
        assert_int_equal(out.certain_loss, expected->certain_loss);
    }
}

static void test_prefix_remembers_an_overrun_that_terminal_forgives(void **state) {
    (void)state;
    const float scores[] = {2.0F, -2.0F};
    const struct search_scores input = {TOKENS(scores, 2)};
    struct safety_state out;
    struct search_spec spec = make_spec(COST_MODE_TOKEN_SUM, ADMIT_RULE_TERMINAL, 1.0, 1.0);
    safety_evaluate(&spec, &input, &out);
    assert_true(out.admissible);
    spec.channels[0].admit_rule = ADMIT_RULE_PREFIX;
    safety_evaluate(&spec, &input, &out);
    assert_false(out.admissible);
    assert_true(out.certain_loss);
}

static void test_block_discount_advances_once_a_block(void **state) {
    (void)state;
    struct search_spec spec = make_spec(COST_MODE_TOKEN_SUM, ADMIT_RULE_TERMINAL, 10.0, 0.5);
    spec.channels[0].discount_unit = DISCOUNT_UNIT_BLOCK;
    const float scores[] = {1.0F, 1.0F, 1.0F, 1.0F};
    const uint32_t ends[] = {2, 4};
    const float block_scores[] = {1.0F, 1.0F};
    const struct search_scores input = {
        .token_scores = scores,
        .n_places = 4,
        .n_tokens = 4,
        .block_ends = ends,
        .end_scores = block_scores,
        .n_blocks = 2,
    };
    struct safety_state out;
    safety_evaluate(&spec, &input, &out);
    assert_true(fabs(out.channels[0].cost - 3.0) < 1e-12);
    assert_true(fabs(out.z - 28.0) < 1e-12);
}

// With c_min = -0.1 and 6 tokens to go at gamma 1, S may still fall by 0.6.
static void test_certain_loss_allows_for_negative_costs(void **state) {
    (void)state;
    struct search_spec spec = make_spec(COST_MODE_TOKEN_SUM, ADMIT_RULE_TERMINAL, 1.0, 1.0);
    spec.channels[0].has_cost_min = true;
    spec.channels[0].cost_min = -0.1;
    const float recoverable[] = {1.0F, 0.5F};
    const float lost[] = {1.0F, 0.7F};
    struct safety_state out;
    safety_evaluate(&spec, &(struct search_scores){TOKENS(recoverable, 2)}, &out);
    assert_false(out.admissible);
    assert_false(out.certain_loss);
    safety_evaluate(&spec, &(struct search_scores){TOKENS(lost, 2)}, &out);
    assert_true(out.certain_loss);
    spec.channels[0].has_cost_min = false;
    safety_evaluate(&spec, &(struct search_scores){TOKENS(lost, 2)}, &out);
    assert_false(out.certain_loss);
}

// Blocks of 2, c_min = -0.5 a block, 8 tokens: after 2 tokens three costs are left, which at gamma
// 1 can lower S by 1.5; per token, at gamma 0.5 and not before tokens 2, 4 and 6, by 0.5 *
// 0.328125.
static void test_certain_loss_of_block_modes_counts_the_blocks_left(void **state) {
    (void)state;
    static const enum cost_mode modes[] = {COST_MODE_BLOCK_END, COST_MODE_END_DELTA};
    for (size_t i = 0; i < 2; i++) {
        struct search_spec spec = make_spec(modes[i], ADMIT_RULE_TERMINAL, 1.0, 1.0);
        spec.channels[0].has_cost_min = true;
        spec.channels[0].cost_min = -0.5;
        const uint32_t ends[] = {2};
        float score = 2.5F;
        const struct search_scores input = {.n_tokens = 2,
                                            .block_ends = ends,
                                            .end_scores = &score,
                                            .n_blocks = 1,
                                            .prompt_scores = no_scores};
        struct safety_state out;
        safety_evaluate(&spec, &input, &out);
        assert_false(out.admissible || out.certain_loss);
        score = 2.5F + 0x1p-21F;
        safety_evaluate(&spec, &input, &out);
        assert_true(out.certain_loss);
        spec.channels[0].discount = 0.5;
        spec.channels[0].budget = 0.5 * 2.0;
        score = 2.0F * (1.0F + 0.5F * 0.328125F);
        safety_evaluate(&spec, &input, &out);
        assert_false(out.admissible || out.certain_loss);
        score += 0x1p-21F;
        safety_evaluate(&spec, &input, &out);
        assert_true(out.certain_loss);
    }
}

// Where entropy may end blocks after one token, as many costs are left as tokens.
static void test_certain_loss_counts_the_shortest_blocks(void **state) {
    (void)state;
    struct search_spec spec = make_spec(COST_MODE_BLOCK_END, ADMIT_RULE_TERMINAL, 1.0, 1.0);
    spec.channels[0].has_cost_min = true;
    spec.channels[0].cost_min = -0.5;
    const uint32_t ends[] = {2};
    const float score = 3.5F;
    const struct search_scores input = {.n_tokens = 2,
                                        .block_ends = ends,
                                        .end_scores = &score,
                                        .n_blocks = 1,
                                        .prompt_scores = no_scores};
    struct safety_state out;
    safety_evaluate(&spec, &input, &out);
    assert_true(out.certain_loss); // three costs are left
    spec.entropy_threshold = 3;
    spec.segment_tokens_min = 1;
    safety_evaluate(&spec, &input, &out);
    assert_false(out.certain_loss); // six are
}

// Blocks of 2, 3, 4, 4 tokens: under a discount per block the tokens of one share a weight.
static void test_discount_per_block_follows_growing_blocks(void **state) {
    (void)state;
    static const uint32_t ends[] = {2, 5, 9};
    const float costs[10] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    struct search_spec spec = make_spec(COST_MODE_TOKEN_SUM, ADMIT_RULE_TERMINAL, 100.0, 0.5);
    spec.channels[0].discount_unit = DISCOUNT_UNIT_BLOCK;
    spec.block_growth = 1.5;
    spec.block_tokens_max = 4;
    spec.max_tokens = 16;
    double sum = 0.0;
    double weight = 1.0;
    for (uint32_t i = 0, block = 0; i < 10; i++) {
        sum += weight;
        if (block < 3 && i + 1 == ends[block]) {
            weight *= 0.5;
            block++;
        }
        const struct search_scores input = {TOKENS(costs, i + 1)};
        struct safety_state out;
        safety_evaluate(&spec, &input, &out);
        assert_true(out.channels[0].cost == sum);
    }
}

// No cost of one channel pays for those of another, whatever the modes.
static void test_no_channel_pays_for_another(void **state) {
    (void)state;
    static const enum cost_mode modes[] = {COST_MODE_TOKEN_SUM, COST_MODE_TOKEN_SUM_POS,
                                           COST_MODE_BLOCK_END, COST_MODE_END_DELTA,
                                           COST_MODE_END_SIGN};
    float costs[2][2] = {{-50.0F, -50.0F}, {0.0F, 0.0F}};
    const uint32_t ends[] = {2};
    const float block[2] = {-50.0F, 0.0F};
    const struct search_scores input = {.token_scores = costs[0],
                                        .stride = 2,
                                        .n_places = 2,
                                        .n_tokens = 2,
                                        .block_ends = ends,
                                        .end_scores = block,
                                        .n_blocks = 1,
                                        .prompt_scores = no_scores};
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        struct search_spec spec = make_spec(modes[i], ADMIT_RULE_TERMINAL, 3.0, 0.9);
        spec.scorers[1] = (struct search_scorer){.is_cost = true, .channel = 1, .weight = 1};
        spec.n_scorers = spec.n_channels = 2;
        spec.channels[1] = (struct search_channel){.cost_mode = COST_MODE_TOKEN_SUM_POS,
                                                   .discount = 1,
                                                   .discount_unit = DISCOUNT_UNIT_TOKEN,
                                                   .admit_rule = ADMIT_RULE_TERMINAL};
        costs[1][1] = 0.0F;
        struct safety_state kept, broken;
        safety_evaluate(&spec, &input, &kept);
        assert_true(kept.admissible && kept.z == kept.channels[0].z && kept.nearness == kept.z);
        assert_true(kept.channels[1].admissible && kept.channels[1].z == 0);
        costs[1][1] = 2.0F;
        safety_evaluate(&spec, &input, &broken);
        assert_false(broken.admissible);
        assert_true(broken.certain_loss && broken.z == -2 && broken.nearness == -2);
        assert_true(broken.channels[0].admissible && broken.channels[0].z == kept.channels[0].z);
        assert_true(broken.channels[1].cost == 2 && broken.channels[1].certain_loss);
    }
}

// 30 over a budget of 100 is nearer than 2 over one of 1, and the farther channel counts.
static void test_nearness_is_in_parts_of_the_budgets(void **state) {
    (void)state;
    struct search_spec spec = make_spec(COST_MODE_TOKEN_SUM, ADMIT_RULE_TERMINAL, 100.0, 1.0);
    spec.scorers[1] = (struct search_scorer){.is_cost = true, .channel = 1, .weight = 1};
    spec.n_scorers = spec.n_channels = 2;
    spec.channels[1] = spec.channels[0];
    spec.channels[1].budget = 1.0;
    float costs[2] = {130.0F, 0.0F};
    const struct search_scores input = {
        .token_scores = costs, .stride = 1, .n_places = 1, .n_tokens = 1};
    struct safety_state out;
    safety_evaluate(&spec, &input, &out);
    assert_true(out.z == -30 && out.nearness == -0.3);
    costs[1] = 3.0F;
    safety_evaluate(&spec, &input, &out);
    assert_true(out.z == -30 && out.nearness == -2);
    spec.n_channels = 1;
    safety_evaluate(&spec, &input, &out);
    assert_true(out.nearness == -30);
}

// A text that was over budget and came back: z is what it was at its worst.
static void test_z_below_zero_says_inadmissible_under_prefix_too(void **state) {
    (void)state;
    const float costs[] = {2.0F, 1.0F, -3.0F};
    struct search_spec spec = make_spec(COST_MODE_TOKEN_SUM, ADMIT_RULE_PREFIX, 1.0, 1.0);
    struct safety_state out;
    safety_evaluate(&spec, &(struct search_scores){TOKENS(costs, 3)}, &out);
    assert_false(out.admissible);
    assert_true(out.channels[0].cost == 0.0 && out.z == -2.0);
    const uint32_t ends[] = {2, 4};
    const float scores[] = {2.5F, -1.0F};
    spec.channels[0].cost_mode = COST_MODE_END_SIGN;
    safety_evaluate(&spec,
                    &(struct search_scores){.n_tokens = 4,
                                            .block_ends = ends,
                                            .end_scores = scores,
                                            .n_blocks = 2,
                                            .prompt_scores = no_scores},
                    &out);
    assert_false(out.admissible);
    assert_true(out.channels[0].cost == -1.0 && out.z == -1.5);
}

static void test_no_cost_scorer_is_always_admissible(void **state) {
    (void)state;
    struct search_spec spec = make_spec(COST_MODE_TOKEN_SUM, ADMIT_RULE_PREFIX, 0.0, 1.0);
    spec.n_channels = 0;
    struct safety_state out;
    safety_evaluate(&spec, &(struct search_scores){.n_tokens = 3}, &out);
    assert_true(out.admissible);
    assert_false(out.certain_loss);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_state_equals_the_recursion),
        cmocka_unit_test(test_state_is_a_number_where_the_discount_vanishes),
        cmocka_unit_test(test_budget_exactly_met_is_admissible),
        cmocka_unit_test(test_every_cost_mode_and_admit_rule),
        cmocka_unit_test(test_prefix_remembers_an_overrun_that_terminal_forgives),
        cmocka_unit_test(test_block_discount_advances_once_a_block),
        cmocka_unit_test(test_certain_loss_allows_for_negative_costs),
        cmocka_unit_test(test_certain_loss_of_block_modes_counts_the_blocks_left),
        cmocka_unit_test(test_certain_loss_counts_the_shortest_blocks),
        cmocka_unit_test(test_discount_per_block_follows_growing_blocks),
        cmocka_unit_test(test_no_channel_pays_for_another),
        cmocka_unit_test(test_nearness_is_in_parts_of_the_budgets),
        cmocka_unit_test(test_z_below_zero_says_inadmissible_under_prefix_too),
        cmocka_unit_test(test_no_cost_scorer_is_always_admissible),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
