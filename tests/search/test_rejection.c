// Rejection sampling against a scripted policy: the first draw within budget, and no more draws
// than it takes.
#include "tests/support/testkit.h"

#include "tests/search/world.h"

static const struct world_run in_order = {.shuffle_seed = 1};

static struct search_spec rejection_spec(uint32_t n, uint32_t block_tokens, uint32_t max_tokens) {
    return world_spec(SEARCH_METHOD_REJECTION, SEARCH_SELECTION_AUGMENTED, n, block_tokens,
                      max_tokens);
}

static void test_order_of_arrival_changes_nothing(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct world world;
        world_init(&world, seed);
        struct search_spec spec = rejection_spec(12, 3, 20);
        spec.channels[0].budget = 0.02 * (double)(seed % 10);
        struct verdict reference = world_verdict(&world, &spec, &in_order);
        for (uint64_t shuffle = 2; shuffle < 8; shuffle++) {
            const struct world_run how = {.shuffle_seed = shuffle, .batch = shuffle - 1};
            struct verdict shuffled = world_verdict(&world, &spec, &how);
            assert_same_verdict(&reference, &shuffled);
        }
    }
}

// The smallest id within budget among N full samples; 0: none.
static uint64_t first_of_all(const struct world *world, struct search_spec spec) {
    spec.method = SEARCH_METHOD_BEST_OF_N;
    spec.early_stop = false;
    struct search *search = world_open_search(&spec);
    world_run_search(world, &spec, &in_order, search);
    uint64_t first = 0;
    for (size_t i = search_candidate_count(search); i > 0; i--) {
        struct search_candidate candidate;
        search_get_candidate(search, i - 1, &candidate);
        first = candidate.admissible ? candidate.candidate_id : first;
    }
    search_destroy(search);
    return first;
}

static void test_the_answer_is_the_first_of_independent_draws(void **state) {
    (void)state;
    int late = 0;
    int refused = 0;
    for (uint64_t seed = 1; seed <= 100; seed++) {
        struct world world;
        world_init(&world, seed);
        struct search_spec spec = rejection_spec(20, 2, 24);
        spec.channels[0].budget = 0.02 * (double)(seed % 8);
        struct verdict verdict = world_verdict(&world, &spec, &in_order);
        uint64_t first = first_of_all(&world, spec);
        assert_int_equal(verdict.answer.found, first != 0);
        if (first == 0) {
            refused++;
            assert_int_equal(verdict.n_candidates, spec.n);
            assert_true(verdict.z < 0);
            continue;
        }
        late += first > 3 ? 1 : 0;
        assert_int_equal(verdict.answer.candidate_id, first);
        assert_true(verdict.n_candidates < 2 * first);
        double cost = world_cost(&world, &spec, verdict.tokens, verdict.n_tokens);
        assert_true(cost <= spec.channels[0].budget);
    }
    assert_true(late > 5);
    assert_true(refused > 5);
}

static void test_early_stop_gives_the_same_answer_in_fewer_tokens(void **state) {
    (void)state;
    uint64_t with = 0;
    uint64_t without = 0;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct world world;
        world_init(&world, seed);
        struct search_spec spec = rejection_spec(16, 2, 24);
        spec.channels[0].budget = 0.1;
        struct verdict early = world_verdict(&world, &spec, &in_order);
        spec.early_stop = false;
        struct verdict late = world_verdict(&world, &spec, &in_order);
        assert_int_equal(early.answer.found, late.answer.found);
        if (late.answer.found) {
            assert_int_equal(early.answer.candidate_id, late.answer.candidate_id);
        }
        with += early.tokens_sampled;
        without += late.tokens_sampled;
    }
    assert_true(with < without);
}

// One token for a candidate that was asked for; the budget is 0.5.
static void send(struct search *search, uint64_t id, enum search_finish finish, double reward,
                 float cost) {
    struct search_candidate before;
    assert_true(search_find_candidate(search, id, &before));
    const uint32_t token = 3;
    const float logprob = -1.0f;
    const char text[] = {(char)('a' + id), '\0'};
    struct search_score scores[WORLD_SCORERS];
    world_scores(scores, reward, &cost, 1, before.n_tokens);
    const struct search_row row = {.candidate_id = id,
                                   .token_ids = &token,
                                   .logprobs = &logprob,
                                   .n_tokens = 1,
                                   .finish = finish,
                                   .text = text,
                                   .scores = scores,
                                   .n_places = before.n_tokens + 1};
    struct error err;
    assert_ok(search_on_row(search, &row, &err), &err);
}

static void expect_asked(struct search *search, const uint64_t *ids, size_t n) {
    struct search_grow grow;
    for (size_t i = 0; i < n; i++) {
        assert_true(search_next(search, &grow));
        assert_int_equal(grow.candidate_id, ids[i]);
    }
    assert_false(search_next(search, &grow));
}

static enum candidate_fate fate_of(struct search *search, uint64_t id) {
    struct search_candidate candidate;
    assert_true(search_find_candidate(search, id, &candidate));
    return candidate.fate;
}

// The later draws of a wave end first and better: an earlier one is waited for, and taken.
static void test_an_earlier_draw_is_waited_for_and_later_ones_are_given_up(void **state) {
    (void)state;
    struct search_spec spec = rejection_spec(7, 1, 4);
    struct search *search = world_open_search(&spec);
    expect_asked(search, (const uint64_t[]){1}, 1);
    send(search, 1, SEARCH_FINISH_NONE, 0.0, 2.0F);
    assert_int_equal(fate_of(search, 1), CANDIDATE_FATE_PRUNED_SOUND);
    expect_asked(search, (const uint64_t[]){2, 3}, 2);
    send(search, 2, SEARCH_FINISH_NONE, 0.0, 2.0F);
    send(search, 3, SEARCH_FINISH_NONE, 0.0, 2.0F);
    expect_asked(search, (const uint64_t[]){4, 5, 6, 7}, 4);
    send(search, 7, SEARCH_FINISH_NONE, 0.0, 0.0F);
    send(search, 6, SEARCH_FINISH_NONE, 0.0, 0.0F);
    send(search, 5, SEARCH_FINISH_NONE, 0.0, 0.0F);
    send(search, 4, SEARCH_FINISH_NONE, 0.0, 0.0F);
    expect_asked(search, (const uint64_t[]){4, 5, 6, 7}, 4);
    send(search, 4, SEARCH_FINISH_NONE, 0.0, 0.0F);
    send(search, 5, SEARCH_FINISH_NONE, 0.0, 0.0F);
    send(search, 7, SEARCH_FINISH_NONE, 0.0, 0.0F);
    send(search, 6, SEARCH_FINISH_EOS, 9.0, 0.0F);
    assert_int_equal(fate_of(search, 7), CANDIDATE_FATE_NOT_SELECTED);
    expect_asked(search, (const uint64_t[]){4, 5}, 2);
    send(search, 5, SEARCH_FINISH_EOS, -9.0, 0.0F);
    send(search, 4, SEARCH_FINISH_EOS, 5.0, 2.0F);
    assert_true(search_is_done(search));
    struct search_answer answer;
    search_get_answer(search, &answer);
    assert_true(answer.found);
    assert_int_equal(answer.candidate_id, 5);
    assert_int_equal(answer.n_finished, 3);
    assert_int_equal(answer.n_admissible, 2);
    assert_int_equal(answer.steps, 3);
    search_destroy(search);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order_of_arrival_changes_nothing),
        cmocka_unit_test(test_the_answer_is_the_first_of_independent_draws),
        cmocka_unit_test(test_early_stop_gives_the_same_answer_in_fewer_tokens),
        cmocka_unit_test(test_an_earlier_draw_is_waited_for_and_later_ones_are_given_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
