// ARGS against a scripted policy: each token by its logit and the score of the text with it.
#include "tests/support/testkit.h"

#include <math.h>
#include <string.h>

#include "tests/search/world.h"

static const struct world_run in_order = {.shuffle_seed = 1};
static const enum search_selection selections[] = {
    SEARCH_SELECTION_PLAIN, SEARCH_SELECTION_LAGRANGIAN, SEARCH_SELECTION_AUGMENTED,
    SEARCH_SELECTION_COST};

static struct search_spec args_spec(enum search_selection selection, uint32_t n,
                                    uint32_t max_tokens) {
    struct search_spec spec = world_spec(SEARCH_METHOD_ARGS, selection, n, 1, max_tokens);
    spec.omega = 2.5;
    return spec;
}

static void test_order_of_arrival_changes_nothing(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 10; seed++) {
        struct world world;
        world_init(&world, seed);
        for (size_t s = 0; s < 4; s++) {
            struct search_spec spec = args_spec(selections[s], 6, 12);
            struct verdict reference = world_verdict(&world, &spec, &in_order);
            for (uint64_t shuffle = 2; shuffle < 6; shuffle++) {
                const struct world_run how = {.shuffle_seed = shuffle, .batch = shuffle};
                struct verdict shuffled = world_verdict(&world, &spec, &how);
                assert_same_verdict(&reference, &shuffled);
            }
        }
    }
}

// Whether `token` is among the n of the largest logits.
static bool is_among(const struct world *world, uint32_t token, uint32_t n) {
    uint32_t before = 0;
    for (uint32_t v = 0; v < WORLD_VOCAB; v++) {
        before += world->logits[v] > world->logits[token] ? 1 : 0;
    }
    return before < n;
}

static double score_of(const struct world *world, const struct search_spec *spec,
                       const uint32_t *tokens, uint32_t n_tokens) {
    double reward = world_reward(world, tokens, n_tokens);
    double cost = world_cost(world, spec, tokens, n_tokens); // the C of token_sum_pos
    switch (spec->selection) {
    case SEARCH_SELECTION_LAGRANGIAN:
        return reward - spec->lagrangian_lambda * cost;
    case SEARCH_SELECTION_COST:
        return -cost;
    default:
        return reward;
    }
}

static void test_every_token_is_the_best_of_the_most_likely(void **state) {
    (void)state;
    const enum search_selection forms[] = {SEARCH_SELECTION_PLAIN, SEARCH_SELECTION_LAGRANGIAN,
                                           SEARCH_SELECTION_COST};
    for (uint64_t seed = 1; seed <= 30; seed++) {
        struct world world;
        world_init(&world, seed);
        world.cost_noise = 0.3;
        for (size_t s = 0; s < 3; s++) {
            struct search_spec spec = args_spec(forms[s], 5, 8);
            struct verdict verdict = world_verdict(&world, &spec, &in_order);
            assert_true(verdict.answer.found);
            uint32_t text[8];
            for (uint32_t t = 0; t < verdict.n_tokens; t++) {
                double best = -INFINITY;
                uint32_t chosen = WORLD_VOCAB;
                for (uint32_t v = 0; v < WORLD_VOCAB; v++) {
                    text[t] = v;
                    double value = world_logprob(&world, v) +
                                   spec.omega * score_of(&world, &spec, text, t + 1);
                    if (is_among(&world, v, 5) && value > best) {
                        best = value;
                        chosen = v;
                    }
                }
                text[t] = chosen;
                assert_int_equal(verdict.tokens[t], chosen);
            }
            assert_int_equal(verdict.tokens_sampled, 5 * verdict.n_tokens);
            assert_int_equal(verdict.answer.steps, verdict.n_tokens);
        }
    }
}

static void test_omega_zero_is_greedy(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 10; seed++) {
        struct world world;
        world_init(&world, seed);
        struct search_spec spec = args_spec(SEARCH_SELECTION_PLAIN, 4, 8);
        spec.omega = 0;
        struct verdict verdict = world_verdict(&world, &spec, &in_order);
        for (uint32_t t = 0; t < verdict.n_tokens; t++) {
            assert_true(is_among(&world, verdict.tokens[t], 1));
        }
    }
}

static void test_no_answer_under_augmented_is_over_budget(void **state) {
    (void)state;
    int answered = 0;
    int refused = 0;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct world world;
        world_init(&world, seed);
        for (uint32_t v = 0; v < WORLD_VOCAB && seed % 3 == 0; v++) {
            world.costs[v] = 0.3; // every text of two tokens is over budget
        }
        struct search_spec spec = args_spec(SEARCH_SELECTION_AUGMENTED, 4, 10);
        struct verdict verdict = world_verdict(&world, &spec, &in_order);
        if (!verdict.answer.found) {
            refused++;
            assert_true(verdict.z < 0);
            // Nothing goes on from a loss.
            assert_true(seed % 3 != 0 || verdict.tokens_sampled == 2 * spec.n);
            continue;
        }
        answered++;
        double cost = world_cost(&world, &spec, verdict.tokens, verdict.n_tokens);
        assert_true(cost <= spec.channels[0].budget);
    }
    assert_true(answered > 20);
    assert_true(refused > 5);
}

static void test_a_row_without_its_token_is_refused(void **state) {
    (void)state;
    const struct search_spec spec = args_spec(SEARCH_SELECTION_PLAIN, 2, 4);
    struct search *search = world_open_search(&spec);
    struct search_grow grow;
    assert_true(search_next(search, &grow));
    assert_int_equal(grow.token_rank, 1);
    struct search_score scores[WORLD_SCORERS];
    const float cost = 0;
    world_scores(scores, 0.0, &cost, 1, 0);
    const struct search_row row = {.candidate_id = grow.candidate_id,
                                   .finish = SEARCH_FINISH_EOS,
                                   .text = "",
                                   .scores = scores,
                                   .n_places = 1};
    struct error err;
    assert_status(STATUS_MALFORMED, search_on_row(search, &row, &err));
    search_destroy(search);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order_of_arrival_changes_nothing),
        cmocka_unit_test(test_every_token_is_the_best_of_the_most_likely),
        cmocka_unit_test(test_omega_zero_is_greedy),
        cmocka_unit_test(test_no_answer_under_augmented_is_over_budget),
        cmocka_unit_test(test_a_row_without_its_token_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
