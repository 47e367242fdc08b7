// Best-of-n with a tilt against a scripted policy: which answers are its draws, and what is said of
// the choice.
#include "tests/support/testkit.h"

#include <math.h>
#include <stdlib.h>

#include "common/rng.h"
#include "tests/search/world.h"

static const struct world_run in_order = {.shuffle_seed = 1};

static struct search_spec tilted_spec(enum search_selection selection, uint32_t n) {
    struct search_spec spec = world_spec(SEARCH_METHOD_BEST_OF_N, selection, n, 3, 20);
    spec.tilt = (struct tilt_spec){.transform = TILT_TRANSFORM_EXP,
                                   .t = 10,
                                   .n = 4,
                                   .kl = 0.5,
                                   .sampler = TILT_SAMPLER_RANKS,
                                   .rank_set = TILT_RANK_SET_ADMISSIBLE};
    return spec;
}

static struct search *run(const struct world *world, const struct search_spec *spec) {
    struct search *search = world_open_search(spec);
    world_run_search(world, spec, &in_order, search);
    return search;
}

static void test_order_of_arrival_changes_no_choice(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct world world;
        world_init(&world, seed);
        struct search_spec spec = tilted_spec(SEARCH_SELECTION_AUGMENTED, 24);
        spec.seed = seed;
        spec.channels[0].budget = 0.02 * (double)(seed % 10);
        struct verdict reference = world_verdict(&world, &spec, &in_order);
        for (uint64_t shuffle = 2; shuffle < 8; shuffle++) {
            const struct world_run how = {.shuffle_seed = shuffle, .batch = shuffle - 1};
            struct verdict shuffled = world_verdict(&world, &spec, &how);
            assert_same_verdict(&reference, &shuffled);
        }
    }
}

// The choice made anew from what every candidate came to.
static uint64_t choose_again(struct search *search, const struct search_spec *spec,
                             uint32_t *n_draws) {
    bool ranks_all = spec->tilt.rank_set == TILT_RANK_SET_ALL;
    struct tilt_draw draws[64];
    struct tilt *tilt = NULL;
    struct tilt_table *table = NULL;
    uint32_t count = 0;
    *n_draws = 0;
    for (size_t i = search_candidate_count(search); i > 0; i--) {
        struct search_candidate candidate;
        search_get_candidate(search, i - 1, &candidate);
        bool finished = candidate.finish != SEARCH_FINISH_NONE;
        if (finished && (candidate.admissible || ranks_all)) {
            *n_draws += candidate.admissible;
            draws[count++] = (struct tilt_draw){.reward = candidate.reward,
                                                .candidate_id = candidate.candidate_id,
                                                .eligible = candidate.admissible};
        }
    }
    if (*n_draws == 0) {
        return 0;
    }
    assert_ok(tilt_create(&spec->tilt, &tilt, NULL), NULL);
    assert_ok(tilt_table_create(tilt, count, &table), NULL);
    tilt_place_by_rank(draws, count);
    uint64_t id = draws[tilt_choose(table, draws, count, spec->seed)].candidate_id;
    tilt_table_destroy(table);
    tilt_destroy(tilt);
    return id;
}

static void test_choice_is_of_the_finished_within_budget(void **state) {
    (void)state;
    int refused = 0;
    int not_best = 0;
    int outside = 0;
    const enum search_selection selections[] = {SEARCH_SELECTION_PLAIN, SEARCH_SELECTION_AUGMENTED};
    for (uint64_t seed = 1; seed <= 80; seed++) {
        struct world world;
        world_init(&world, seed);
        struct search_spec spec = tilted_spec(selections[seed % 2], 16);
        spec.tilt.rank_set = seed % 4 < 2 ? TILT_RANK_SET_ADMISSIBLE : TILT_RANK_SET_ALL;
        spec.early_stop = seed % 4 < 2;
        spec.seed = seed * seed;
        spec.channels[0].budget = 0.02 * (double)(seed % 7);
        struct search *search = run(&world, &spec);
        struct search_answer answer;
        search_get_answer(search, &answer);
        uint32_t n_draws = 0;
        uint64_t chosen = choose_again(search, &spec, &n_draws);
        assert_int_equal(answer.found, chosen != 0);
        if (chosen == 0) {
            refused++;
            assert_null(answer.tilt);
            search_destroy(search);
            continue;
        }
        assert_int_equal(answer.candidate_id, chosen);
        assert_false(answer.over_budget);
        assert_int_equal(answer.tilt->n_draws, n_draws);
        assert_int_equal(answer.tilt->has_law, answer.tilt->n_ranked == n_draws);
        outside += answer.tilt->has_law ? 0 : 1;
        assert_true(answer.tilt->log_inverse_share == log(16.0 / n_draws));
        struct search_candidate candidate;
        assert_true(search_find_candidate(search, chosen, &candidate));
        assert_non_null(candidate.text);
        assert_non_null(candidate.tokens);
        assert_int_equal(candidate.fate, CANDIDATE_FATE_CHOSEN);
        double cost = world_cost(&world, &spec, candidate.tokens, candidate.n_tokens);
        assert_true(cost <= spec.channels[0].budget);
        not_best += answer.tilt->rank < answer.tilt->n_ranked;
        search_destroy(search);
    }
    assert_true(refused > 2 && not_best > 10 && outside > 5);
}

// What one search has solved others of the same settings use, also after it has ended.
static void test_equal_settings_are_solved_once(void **state) {
    (void)state;
    struct world world;
    world_init(&world, 3);
    struct tilt_cache cache = {.n_made = 0};
    struct search_spec spec = tilted_spec(SEARCH_SELECTION_PLAIN, 16);
    spec.tilt.transform = TILT_TRANSFORM_OPTIMAL_BON;
    struct search *alone = run(&world, &spec);
    struct search_answer own;
    search_get_answer(alone, &own);
    spec.tilts = &cache;
    for (int i = 0; i < 3; i++) {
        struct search *search = run(&world, &spec);
        struct search_answer answer;
        search_get_answer(search, &answer);
        assert_int_equal(answer.candidate_id, own.candidate_id);
        assert_true(answer.tilt->beta == own.tilt->beta);
        assert_true(answer.tilt->law.win_rate == own.tilt->law.win_rate);
        search_destroy(search);
    }
    assert_int_equal(cache.n_made, 1);
    spec.tilt.n++;
    search_destroy(run(&world, &spec));
    spec.tilt.rank_set = TILT_RANK_SET_ALL; // is no part of what is solved
    spec.early_stop = false;
    search_destroy(run(&world, &spec));
    assert_int_equal(cache.n_made, 2);
    search_destroy(alone);
    tilt_cache_finish(&cache);
}

// That which was asked for longest ago gives way, and stays whole for who has it.
static void test_the_cache_is_bounded(void **state) {
    (void)state;
    struct tilt_cache cache = {.n_made = 0};
    struct tilt_spec spec = tilted_spec(SEARCH_SELECTION_PLAIN, 16).tilt;
    struct tilt *first = NULL;
    struct tilt *second = NULL;
    struct error err = {0};
    assert_ok(tilt_cache_find(&cache, &spec, &first, &err), &err);
    for (int i = 0; i < TILT_CACHE_MAX; i++) {
        struct tilt_spec other = spec;
        struct tilt *tilt = NULL;
        other.kl += 0.01 * (i + 1);
        assert_ok(tilt_cache_find(&cache, &other, &tilt, &err), &err);
        tilt_destroy(tilt);
    }
    assert_int_equal(cache.n_made, TILT_CACHE_MAX + 1);
    const struct tilt_table *table = NULL;
    assert_ok(tilt_table_find(first, 8, &table), NULL);
    assert_int_equal(table->places, 8);
    assert_ok(tilt_cache_find(&cache, &spec, &second, &err), &err);
    assert_int_equal(cache.n_made, TILT_CACHE_MAX + 2);
    assert_ptr_not_equal(first, second);
    spec.transform = TILT_TRANSFORM_OPTIMAL_WON; // which is not found
    spec.n = 1000;
    spec.kl = 0;
    spec.beta = 1e-300;
    struct tilt *none = NULL;
    assert_status(STATUS_LIMIT, tilt_cache_find(&cache, &spec, &none, &err));
    assert_int_equal(cache.n_made, TILT_CACHE_MAX + 2);
    tilt_destroy(first);
    tilt_destroy(second);
    tilt_cache_finish(&cache);
}

static void test_early_stop_changes_no_choice(void **state) {
    (void)state;
    uint64_t with = 0;
    uint64_t without = 0;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct world world;
        world_init(&world, seed);
        struct search_spec spec = tilted_spec(SEARCH_SELECTION_AUGMENTED, 16);
        spec.channels[0].budget = 0.1;
        spec.seed = seed;
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

static void test_a_boundless_budget_is_none(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        struct world world;
        world_init(&world, seed);
        struct search_spec spec = tilted_spec(SEARCH_SELECTION_AUGMENTED, 16);
        spec.seed = seed;
        spec.channels[0].budget = 1e9;
        struct verdict bounded = world_verdict(&world, &spec, &in_order);
        spec.selection = SEARCH_SELECTION_PLAIN;
        spec.n_channels = 0;
        spec.n_scorers = 1;
        struct verdict unbounded = world_verdict(&world, &spec, &in_order);
        assert_true(bounded.answer.found && unbounded.answer.found);
        assert_int_equal(bounded.answer.candidate_id, unbounded.answer.candidate_id);
    }
}

// Two tokens of eight: 64 texts, each of a known chance.
enum { TOY_TOKENS = 8, TOY_TEXTS = 64, TOY_DRAWS = 4096 };

static void toy_world(struct world *world, double chances[TOY_TEXTS]) {
    world_init(world, 3);
    world->cost_noise = 0;
    double total = 0;
    for (uint32_t v = 0; v < WORLD_VOCAB; v++) {
        bool used = v >= 1 && v <= TOY_TOKENS;
        world->logits[v] = used ? world->logits[v] : -1000;
        total += exp(world->logits[v]);
    }
    for (uint32_t i = 0; i < TOY_TEXTS; i++) {
        chances[i] = exp(world->logits[1 + i / TOY_TOKENS] + world->logits[1 + i % TOY_TOKENS]) /
                     (total * total);
    }
}

static void test_the_share_within_budget_is_estimated(void **state) {
    (void)state;
    struct world world;
    double chances[TOY_TEXTS];
    toy_world(&world, chances);
    struct search_spec spec = tilted_spec(SEARCH_SELECTION_AUGMENTED, TOY_DRAWS);
    spec.max_tokens = 2;
    spec.block_tokens = 2;
    spec.channels[0].budget = 0.1;
    double share = 0;
    for (uint32_t i = 0; i < TOY_TEXTS; i++) {
        const uint32_t tokens[] = {1 + i / TOY_TOKENS, 1 + i % TOY_TOKENS};
        share += world_cost(&world, &spec, tokens, 2) <= spec.channels[0].budget ? chances[i] : 0;
    }
    assert_true(share > 0.1 && share < 0.9);
    struct search *search = run(&world, &spec);
    struct search_answer answer;
    search_get_answer(search, &answer);
    // Every draw counts, though there are 64 texts at most.
    assert_true(answer.n_admissible <= TOY_TEXTS && answer.tilt->n_draws > 2 * TOY_TEXTS);
    double sigma = sqrt((1 - share) / (share * TOY_DRAWS));
    assert_true(fabs(answer.tilt->log_inverse_share - log(1 / share)) <= 3 * sigma);
    assert_true(fabs(answer.tilt->law.kl - 0.5) <= 1e-9);
    search_destroy(search);
}

static void test_an_unreached_optimum_is_refused(void **state) {
    (void)state;
    struct search_spec spec = tilted_spec(SEARCH_SELECTION_PLAIN, 4);
    spec.tilt = (struct tilt_spec){.transform = TILT_TRANSFORM_OPTIMAL_WON,
                                   .n = 1000,
                                   .beta = 1e-300,
                                   .sampler = TILT_SAMPLER_RANKS};
    static const int32_t exempt[] = {1}; // stays its owner's
    spec.exempt_ids = exempt;
    spec.n_exempt = 1;
    struct search *search = NULL;
    struct error err = {0};
    assert_status(STATUS_LIMIT, search_create(&spec, &search, &err));
    assert_string_equal("spec.tilt_n", err.field);
    assert_null(search);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order_of_arrival_changes_no_choice),
        cmocka_unit_test(test_choice_is_of_the_finished_within_budget),
        cmocka_unit_test(test_equal_settings_are_solved_once),
        cmocka_unit_test(test_the_cache_is_bounded),
        cmocka_unit_test(test_early_stop_changes_no_choice),
        cmocka_unit_test(test_a_boundless_budget_is_none),
        cmocka_unit_test(test_the_share_within_budget_is_estimated),
        cmocka_unit_test(test_an_unreached_optimum_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
