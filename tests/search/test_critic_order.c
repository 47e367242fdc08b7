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
                                   .foretold_reward = foretold->reward};
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

static void test_survivors_are_those_likely_within_by_the_reward_of_their_text(void **state) {
    (void)state;
    struct search_spec spec = make_spec(1, true);
    struct search *search = world_open_search(&spec);
    // The third would be over the budget in the end, whatever its reward.
    run_try(search, (const uint64_t[2]){0, 0}, false,
            (const struct foretold[N]){{0.1F, 1}, {0.1F, 3}, {0.9F, -9}, {0.1F, 2}});
    run_try(search, (const uint64_t[2]){1, 4}, false,
            (const struct foretold[N]){{0, 0}, {0, 0}, {0, 0}, {0, 0}});
    struct search_candidate third;
    assert_true(search_find_candidate(search, 3, &third));
    assert_int_equal(third.fate, CANDIDATE_FATE_PRUNED_HEURISTIC);
    assert_true(third.admissible); // so far
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

// Where scorers read the critic's choice alone: another token, or with grow_tokens 0 the scores.
static void answer_share(struct search *search, const struct search_grow *grow, float mu,
                         double foretold, float reward, float cost) {
    const bool scored = grow->grow_tokens == 0;
    const uint32_t token = (uint32_t)grow->candidate_id;
    const float logprob = -1;
    const struct search_score scores[WORLD_SCORERS] = {
        {.end_score = reward},
        {.end_score = cost,
         .token_scores = &cost,
         .n_token_scores = 1,
         .from = scored ? grow->n_tokens - 1 : grow->n_tokens}};
    const struct cost_to_go cost_to_go = {
        .n_parts = 1, .weights = {1}, .mus = {mu}, .sigmas = {0.01F}};
    struct search_row row = {.candidate_id = grow->candidate_id,
                             .token_ids = scored ? NULL : &token,
                             .logprobs = scored ? NULL : &logprob,
                             .n_tokens = scored ? 0 : 1,
                             .scores = scored ? scores : NULL,
                             .unread_by = scored ? 0 : 3,
                             .n_places = grow->n_tokens + (scored ? 0 : 1),
                             .costs_to_go = &cost_to_go,
                             .foretold_reward = foretold};
    struct error err = {0};
    if (scored) { // without what was asked for
        row.unread_by = 2;
        assert_status(STATUS_MALFORMED, search_on_row(search, &row, &err));
        assert_string_equal(err.field, "row.scores");
        row.unread_by = 0;
    }
    assert_ok(search_on_row(search, &row, &err), &err);
}

static struct search *open_sharing(uint32_t tries) {
    struct search_spec spec = make_spec(tries, true);
    spec.critic_unread = 3;
    spec.critic_keep = 0.5;
    return world_open_search(&spec);
}

static void grow_unread(struct search *search, const struct foretold foretold[N]) {
    struct search_grow grows[N];
    for (int i = 0; i < N; i++) {
        assert_true(search_next(search, &grows[i]));
        assert_int_equal(grows[i].grow_tokens, 1);
        assert_int_equal(grows[i].unread_by, 3);
    }
    assert_false(search_next(search, &grows[0]));
    for (int i = N; i > 0; i--) { // the order of rows decides nothing
        answer_share(search, &grows[i - 1], foretold[i - 1].mu, foretold[i - 1].reward, 0, 0);
    }
}

// Candidate `id` comes next, to be scored where it stands.
static void score_next(struct search *search, uint64_t id, float reward, float cost) {
    struct search_grow grow;
    assert_true(search_next(search, &grow));
    assert_int_equal(grow.candidate_id, id);
    assert_int_equal(grow.parent_id, id);
    assert_int_equal(grow.grow_tokens, 0);
    assert_int_equal(grow.unread_by, 0);
    assert_int_equal(grow.tokens[grow.n_tokens - 1], id);
    answer_share(search, &grow, 9, 0, reward, cost);
}

static enum candidate_fate fate_of(const struct search *search, uint64_t id) {
    struct search_candidate candidate;
    assert_true(search_find_candidate(search, id, &candidate));
    return candidate.fate;
}

static void test_scorers_read_the_critics_choice_and_decide(void **state) {
    (void)state;
    struct search *search = open_sharing(1);
    // The best by reward would be over the budget; what scorers say of the two that are left
    // counts.
    grow_unread(search, (const struct foretold[N]){{0.1F, 1}, {0.1F, 3}, {0.9F, 9}, {0.1F, 2}});
    score_next(search, 2, 1, 0.1F);
    score_next(search, 4, 5, 0.1F);
    struct search_grow grow;
    for (int i = 0; i < N; i++) {
        assert_true(search_next(search, &grow));
        assert_int_equal(grow.parent_id, i % 2 == 0 ? 4 : 2);
        assert_int_equal(grow.grow_tokens, 1);
        // Nothing was foretold of the parents, whose rewards are 5 and 1.
        answer_share(search, &grow, 0.1F, i % 2 == 0 ? 0.5 * i : 1.9, 0, 0);
    }
    score_next(search, 7, 5, 0.1F);
    score_next(search, 5, 5, 0.1F);
    assert_int_equal(fate_of(search, 1), CANDIDATE_FATE_UNSCORED);
    assert_int_equal(fate_of(search, 3), CANDIDATE_FATE_UNSCORED);
    struct search_answer so_far;
    search_get_answer(search, &so_far);
    assert_int_equal(so_far.n_unscored, 4); // 1, 3, 6, 8
    search_destroy(search);
}

// What the critic chose is over the budget: scorers read the rest before the step is tried again.
static void test_the_rest_is_read_before_a_step_is_given_up(void **state) {
    (void)state;
    struct search *search = open_sharing(2);
    grow_unread(search, (const struct foretold[N]){{0.1F, 1}, {0.1F, 3}, {0.9F, 9}, {0.1F, 2}});
    score_next(search, 2, 1, 3);
    score_next(search, 4, 5, 3);
    score_next(search, 1, 1, 3);
    score_next(search, 3, 2, 0.1F);
    struct search_grow grow;
    for (int i = 0; i < N; i++) {
        assert_true(search_next(search, &grow));
        assert_int_equal(grow.parent_id, 3);
        assert_int_equal(grow.n_penalties, 0);
    }
    search_destroy(search);
    // Where that is over the budget too, it is tried again.
    search = open_sharing(2);
    grow_unread(search, (const struct foretold[N]){{0.1F, 1}, {0.1F, 3}, {0.9F, 9}, {0.1F, 2}});
    score_next(search, 2, 1, 3);
    score_next(search, 4, 5, 3);
    score_next(search, 1, 1, 3);
    score_next(search, 3, 2, 3);
    assert_true(search_next(search, &grow));
    assert_int_equal(grow.parent_id, 0);
    assert_true(grow.n_penalties > 0);
    search_destroy(search);
}

// A text that fills max_tokens has ended: without scores its row is not taken.
static void test_what_has_ended_is_never_left_unscored(void **state) {
    (void)state;
    struct search_spec spec = make_spec(1, true);
    spec.max_tokens = 1;
    spec.critic_unread = 3;
    spec.critic_keep = 0.5;
    struct search *search = world_open_search(&spec);
    struct search_grow grow;
    assert_true(search_next(search, &grow));
    const uint32_t token = 5;
    const float logprob = -1;
    const struct cost_to_go cost_to_go = {
        .n_parts = 1, .weights = {1}, .mus = {0}, .sigmas = {0.01F}};
    const struct search_row row = {.candidate_id = grow.candidate_id,
                                   .token_ids = &token,
                                   .logprobs = &logprob,
                                   .n_tokens = 1,
                                   .unread_by = 3,
                                   .n_places = 1,
                                   .costs_to_go = &cost_to_go};
    struct error err = {0};
    assert_status(STATUS_MALFORMED, search_on_row(search, &row, &err));
    assert_string_equal(err.field, "row.scores");
    search_destroy(search);
}

// The search ends over its budget; another one begins with a given text, grown once and then
// scored like what is drawn.
static void test_a_given_text_is_scored_where_it_stands(void **state) {
    (void)state;
    struct search_spec spec = make_spec(1, true);
    spec.critic_unread = 3;
    spec.critic_keep = 0.5;
    spec.n_prefixes = 1;
    struct search *search = world_open_search(&spec);
    struct search_grow grow;
    const uint32_t token = 5;
    const float logprob = -1;
    const float cost = 9;
    for (int i = 0; i < N; i++) { // all end, over the budget
        assert_true(search_next(search, &grow));
        const struct search_score scores[WORLD_SCORERS] = {
            {.end_score = 1}, {.end_score = cost, .token_scores = &cost, .n_token_scores = 1}};
        const struct search_row row = {.candidate_id = grow.candidate_id,
                                       .token_ids = &token,
                                       .logprobs = &logprob,
                                       .n_tokens = 1,
                                       .finish = SEARCH_FINISH_EOS,
                                       .text = "a",
                                       .scores = scores,
                                       .n_places = 1};
        struct error err = {0};
        assert_ok(search_on_row(search, &row, &err), &err);
    }
    assert_true(search_next(search, &grow));
    assert_int_equal(grow.prefix_index, 1);
    const uint64_t id = grow.candidate_id;
    answer_share(search, &grow, 0.1F, 1, 0, 0);
    assert_true(search_next(search, &grow));
    assert_int_equal(grow.candidate_id, id);
    assert_int_equal(grow.grow_tokens, 0);
    assert_int_equal(grow.prefix_index, 0);
    answer_share(search, &grow, 0.1F, 1, 1, 0.1F);
    assert_true(search_next(search, &grow));
    assert_int_equal(grow.parent_id, id);
    assert_int_equal(grow.prefix_index, 0);
    assert_int_equal(grow.grow_tokens, 1);
    search_destroy(search);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_given_text_is_scored_where_it_stands),
        cmocka_unit_test(test_what_has_ended_is_never_left_unscored),
        cmocka_unit_test(test_scorers_read_the_critics_choice_and_decide),
        cmocka_unit_test(test_the_rest_is_read_before_a_step_is_given_up),
        cmocka_unit_test(test_survivors_are_those_likely_within_by_the_reward_of_their_text),
        cmocka_unit_test(test_a_step_without_a_likely_one_is_tried_again),
    };
    return cmocka_run_group_tests_name("critic_order", tests, NULL, NULL);
}
