// Unfinished candidates ordered by what a critic foretells (docs/methods/critic.md): scripted rows,
// so that z, f1 and f2 of each candidate are known.
#include <math.h>

#include "tests/search/world.h"
#include "tests/support/testkit.h"

enum { N = 4, MAX_TOKENS = 4 };

// What the critic says of one candidate after its next token.
struct foretold {
    float mu; // of a cost to go that is nearly certain
    double reward;
};

static struct search_spec make_spec(uint32_t tries, bool has_reward) {
    struct search_spec spec =
        world_spec(SEARCH_METHOD_INFERENCE_GUARD, SEARCH_SELECTION_AUGMENTED, N, 1, MAX_TOKENS);
    spec.survivors = 2;
    spec.tries = tries;
    spec.critic_parts = 1;
    spec.n_critic_channels = 1;
    spec.critic_has_reward = has_reward;
    return spec;
}

// Another token for each candidate, which costs 0.1: after the first, z is 0.4 / 0.999. The partial
// text's reward says the opposite of the foretold one.
static void answer(struct search *search, const struct search_grow *grow,
                   const struct foretold *foretold) {
    const uint32_t token = (uint32_t)grow->candidate_id;
    const float logprob = -1;
    const float cost = 0.1F;
    const struct search_score scores[WORLD_SCORERS] = {
        {.end_score = -(float)foretold->reward},
        {.end_score = cost, .token_scores = &cost, .n_token_scores = 1, .from = grow->n_tokens}};
    const struct cost_to_go cost_to_go = {
        .n_parts = 1, .weights = {1}, .mus = {foretold->mu}, .sigmas = {0.01F}};
    const struct search_row row = {.candidate_id = grow->candidate_id,
                                   .token_ids = &token,
                                   .logprobs = &logprob,
                                   .n_tokens = 1,
                                   .scores = scores,
                                   .n_places = grow->n_tokens + 1,
                                   .costs_to_go = &cost_to_go,
                                   .reward_to_go = foretold->reward};
    struct error err = {0};
    assert_ok(search_on_row(search, &row, &err), &err);
}

// A try of N children whose parents are expected; answers them by the order of their numbers.
static void run_try(struct search *search, const uint64_t parents[2], bool penalised,
                    const struct foretold foretold[N]) {
    struct search_grow grows[N];
    for (int i = 0; i < N; i++) {
        assert_true(search_next(search, &grows[i]));
        assert_int_equal(grows[i].parent_id, parents[i % 2]);
        assert_int_equal(grows[i].n_penalties > 0, penalised);
        answer(search, &grows[i], &foretold[i]);
    }
}

static void test_survivors_are_those_likely_within_by_reward_to_come(void **state) {
    (void)state;
    struct search_spec spec = make_spec(1, true);
    struct search *search = world_open_search(&spec);
    // The third would be over the budget in the end, whatever its reward.
    run_try(search, (const uint64_t[2]){0, 0}, false,
            (const struct foretold[N]){{0.1F, 1}, {0.1F, 3}, {0.9F, 9}, {0.1F, 2}});
    run_try(search, (const uint64_t[2]){2, 4}, false,
            (const struct foretold[N]){{0, 0}, {0, 0}, {0, 0}, {0, 0}});
    struct search_candidate third;
    assert_true(search_find_candidate(search, 3, &third));
    assert_int_equal(third.fate, CANDIDATE_FATE_PRUNED_HEURISTIC);
    assert_true(third.admissible); // so far
    search_destroy(search);
}

static void test_without_a_foretold_reward_the_partial_text_counts(void **state) {
    (void)state;
    struct search_spec spec = make_spec(1, false);
    struct search *search = world_open_search(&spec);
    run_try(search, (const uint64_t[2]){0, 0}, false,
            (const struct foretold[N]){{0.1F, 1}, {0.1F, 3}, {0.9F, -9}, {0.1F, 2}});
    run_try(search, (const uint64_t[2]){1, 4}, false,
            (const struct foretold[N]){{0, 0}, {0, 0}, {0, 0}, {0, 0}});
    search_destroy(search);
}

// All are within the budget so far and none is likely to stay: the step is tried again, and then
// the likeliest of both tries go on.
static void test_a_step_without_a_likely_one_is_tried_again(void **state) {
    (void)state;
    struct search_spec spec = make_spec(2, true);
    struct search *search = world_open_search(&spec);
    run_try(search, (const uint64_t[2]){0, 0}, false,
            (const struct foretold[N]){{2, 1}, {2, 2}, {0.43F, 3}, {2, 4}});
    run_try(search, (const uint64_t[2]){0, 0}, true,
            (const struct foretold[N]){{0.9F, 5}, {0.41F, 0}, {0.8F, 7}, {0.7F, 8}});
    run_try(search, (const uint64_t[2]){6, 3}, false,
            (const struct foretold[N]){{0, 0}, {0, 0}, {0, 0}, {0, 0}});
    search_destroy(search);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_survivors_are_those_likely_within_by_reward_to_come),
        cmocka_unit_test(test_without_a_foretold_reward_the_partial_text_counts),
        cmocka_unit_test(test_a_step_without_a_likely_one_is_tried_again),
    };
    return cmocka_run_group_tests_name("critic_order", tests, NULL, NULL);
}
