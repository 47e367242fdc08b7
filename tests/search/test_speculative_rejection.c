// Speculative rejection against a scripted policy: what is given up at the end of a block.
#include "tests/support/testkit.h"

#include "tests/search/world.h"

static const struct world_run in_order = {.shuffle_seed = 1};
static const enum search_selection selections[] = {
    SEARCH_SELECTION_PLAIN, SEARCH_SELECTION_LAGRANGIAN, SEARCH_SELECTION_AUGMENTED};

static struct search_spec speculative_spec(enum search_selection selection, uint32_t n,
                                           uint32_t block_tokens, uint32_t max_tokens) {
    struct search_spec spec =
        world_spec(SEARCH_METHOD_SPECULATIVE_REJECTION, selection, n, block_tokens, max_tokens);
    spec.rejection_alpha = 0.5;
    return spec;
}

static void test_order_of_arrival_changes_nothing(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 10; seed++) {
        struct world world;
        world_init(&world, seed);
        for (size_t s = 0; s < 3; s++) {
            struct search_spec spec = speculative_spec(selections[s], 12, 3, 20);
            spec.rejection_alpha = 0.1 * (double)seed - 0.1;
            struct verdict reference = world_verdict(&world, &spec, &in_order);
            for (uint64_t shuffle = 2; shuffle < 6; shuffle++) {
                const struct world_run how = {.shuffle_seed = shuffle, .batch = shuffle};
                struct verdict shuffled = world_verdict(&world, &spec, &how);
                assert_same_verdict(&reference, &shuffled);
            }
        }
    }
}

static void test_alpha_zero_is_best_of_n(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 10; seed++) {
        struct world world;
        world_init(&world, seed);
        for (size_t s = 0; s < 3; s++) {
            struct search_spec spec = speculative_spec(selections[s], 12, 4, 16);
            spec.rejection_alpha = 0.0;
            struct verdict speculative = world_verdict(&world, &spec, &in_order);
            spec.method = SEARCH_METHOD_BEST_OF_N;
            struct verdict best_of_n = world_verdict(&world, &spec, &in_order);
            assert_same_verdict(&speculative, &best_of_n);
        }
    }
}

static void test_no_answer_under_augmented_is_over_budget(void **state) {
    (void)state;
    int answered = 0;
    int refused = 0;
    for (uint64_t seed = 1; seed <= 100; seed++) {
        struct world world;
        world_init(&world, seed);
        struct search_spec spec = speculative_spec(SEARCH_SELECTION_AUGMENTED, 8, 4, 24);
        spec.channels[0].budget = 0.02 * (double)(seed % 10);
        struct verdict verdict = world_verdict(&world, &spec, &in_order);
        if (!verdict.answer.found) {
            refused++;
            assert_true(verdict.z < 0);
            continue;
        }
        answered++;
        double cost = world_cost(&world, &spec, verdict.tokens, verdict.n_tokens);
        assert_true(cost <= spec.channels[0].budget);
    }
    assert_true(answered > 20);
    assert_true(refused > 5);
}

// What candidate `id` says at its next block of one token.
struct line {
    enum search_finish finish;
    double reward;
    float cost;
};

static void send(struct search *search, uint64_t id, uint32_t n_before, struct line line) {
    const uint32_t token = 3;
    const float logprob = -1.0f;
    const char text[] = {(char)('a' + id), '\0'};
    struct search_score scores[WORLD_SCORERS];
    world_scores(scores, line.reward, &line.cost, 1, n_before);
    const struct search_row row = {.candidate_id = id,
                                   .token_ids = &token,
                                   .logprobs = &logprob,
                                   .n_tokens = 1,
                                   .finish = line.finish,
                                   .text = text,
                                   .scores = scores,
                                   .n_places = n_before + 1};
    struct error err;
    assert_ok(search_on_row(search, &row, &err), &err);
}

// Takes all that the search asks for, answers with lines[id]; returns how many there were.
static size_t run_block(struct search *search, const struct line *lines) {
    struct search_grow grows[64];
    size_t n = 0;
    while (search_next(search, &grows[n])) {
        n++;
    }
    for (size_t i = n; i > 0; i--) {
        uint64_t id = grows[i - 1].candidate_id;
        send(search, id, grows[i - 1].n_tokens, lines[id]);
    }
    return n;
}

static void test_a_share_of_the_worst_is_given_up_until_one_is_left(void **state) {
    (void)state;
    static const struct {
        double alpha;
        size_t growing[6];
    } cases[] = {
        {0.5, {11, 6, 3, 2, 1, 1}}, // round(0.5 n), half up
        {0.25, {11, 8, 6, 5, 4, 3}},
        {0.9, {11, 1, 1, 1, 1, 1}},
    };
    struct line lines[12];
    for (size_t id = 1; id < 12; id++) { // 7 is the best, then 2, 9, 4, 11, ...
        lines[id] = (struct line){.reward = (double)(id * 8 % 11)};
    }
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        struct search_spec spec = speculative_spec(SEARCH_SELECTION_PLAIN, 11, 1, 6);
        spec.rejection_alpha = cases[c].alpha;
        struct search *search = world_open_search(&spec);
        for (size_t step = 0; step < 6; step++) {
            assert_int_equal(run_block(search, lines), cases[c].growing[step]);
        }
        assert_true(search_is_done(search));
        struct search_answer answer;
        search_get_answer(search, &answer);
        assert_true(answer.found);
        assert_true(lines[answer.candidate_id].reward == 10.0);
        search_destroy(search);
    }
}

// An ended candidate takes a place above the cut, and answers from below it.
static void test_what_has_ended_is_ranked_and_stays_answerable(void **state) {
    (void)state;
    const struct search_spec spec = speculative_spec(SEARCH_SELECTION_PLAIN, 4, 1, 3);
    struct search *search = world_open_search(&spec);
    const struct line first[] = {{.reward = 0},
                                 {SEARCH_FINISH_EOS, 5.0, 0.0F},
                                 {SEARCH_FINISH_EOS, 3.0, 0.0F},
                                 {.reward = 4.0},
                                 {.reward = 3.5}};
    assert_int_equal(run_block(search, first), 4);
    // 1 and 3 are above the cut: 3 alone grows, 4 was better than the ended 2 and is given up.
    struct search_candidate candidate;
    assert_true(search_find_candidate(search, 4, &candidate));
    assert_int_equal(candidate.fate, CANDIDATE_FATE_NOT_SELECTED);
    const struct line second[] = {{0}, {0}, {0}, {.reward = 6.0}, {0}};
    assert_int_equal(run_block(search, second), 1);
    const struct line third[] = {{0}, {0}, {0}, {SEARCH_FINISH_EOS, 1.0, 0.0F}, {0}};
    assert_int_equal(run_block(search, third), 1);
    assert_true(search_is_done(search));
    struct search_answer answer;
    search_get_answer(search, &answer);
    assert_int_equal(answer.candidate_id, 1);
    assert_int_equal(answer.n_finished, 3);
    search_destroy(search);
}

static void test_certain_losses_never_go_on_under_augmented(void **state) {
    (void)state;
    struct search_spec spec = speculative_spec(SEARCH_SELECTION_AUGMENTED, 2, 1, 2);
    spec.rejection_alpha = 0.0;
    struct search *search = world_open_search(&spec);
    const struct line lines[] = {{0}, {.reward = 9.0, .cost = 2.0F}, {.reward = 1.0}};
    assert_int_equal(run_block(search, lines), 2);
    assert_int_equal(run_block(search, lines), 1);
    struct search_answer answer;
    search_get_answer(search, &answer);
    assert_int_equal(answer.candidate_id, 2);
    search_destroy(search);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order_of_arrival_changes_nothing),
        cmocka_unit_test(test_alpha_zero_is_best_of_n),
        cmocka_unit_test(test_no_answer_under_augmented_is_over_budget),
        cmocka_unit_test(test_a_share_of_the_worst_is_given_up_until_one_is_left),
        cmocka_unit_test(test_what_has_ended_is_ranked_and_stays_answerable),
        cmocka_unit_test(test_certain_losses_never_go_on_under_augmented),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
