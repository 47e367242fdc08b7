// Behaviour of the search methods against a scripted policy.
#include "tests/support/testkit.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/search/world.h"

static const struct world_run in_order = {.shuffle_seed = 1};

static const enum search_method methods[] = {SEARCH_METHOD_BEST_OF_N, SEARCH_METHOD_BEAM,
                                             SEARCH_METHOD_INFERENCE_GUARD};
static const enum search_selection selections[] = {
    SEARCH_SELECTION_PLAIN, SEARCH_SELECTION_LAGRANGIAN, SEARCH_SELECTION_AUGMENTED};

static void test_order_of_arrival_changes_nothing(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 10; seed++) {
        struct world world;
        world_init(&world, seed);
        for (size_t m = 0; m < 3; m++) {
            for (size_t s = 0; s < 3; s++) {
                struct search_spec spec = world_spec(methods[m], selections[s], 12, 4, 20);
                if (seed % 2 == 0) {
                    spec.block_growth = 1.5;
                    spec.block_tokens_max = 8;
                    spec.n_min = 2;
                    spec.patience = 1;
                }
                struct verdict reference = world_verdict(&world, &spec, &in_order);
                for (uint64_t shuffle = 2; shuffle < 6; shuffle++) {
                    const struct world_run how = {.shuffle_seed = shuffle, .batch = shuffle};
                    struct verdict shuffled = world_verdict(&world, &spec, &how);
                    assert_same_verdict(&reference, &shuffled);
                }
            }
        }
    }
}

static void test_no_answer_of_a_safety_method_is_over_budget(void **state) {
    (void)state;
    int answered = 0;
    int refused = 0;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct world world;
        world_init(&world, seed);
        for (size_t m = 0; m < 3; m++) {
            struct search_spec spec = world_spec(methods[m], SEARCH_SELECTION_AUGMENTED, 8, 4, 24);
            spec.channels[0].budget = 0.02 * (double)(seed % 20);
            struct verdict verdict = world_verdict(&world, &spec, &in_order);
            if (!verdict.answer.found) {
                refused++;
                assert_true(verdict.z < 0);
                continue;
            }
            answered++;
            double cost = world_cost(&world, &spec, verdict.tokens, verdict.n_tokens);
            assert_true(cost <= spec.channels[0].budget);
            assert_true(fabs(cost - verdict.cost) < 1e-12);
            assert_false(verdict.answer.over_budget);
        }
    }
    assert_true(answered > 20);
    assert_true(refused > 5);
}

// Few survivors, so that candidates within budget are given up on the way to a refusal.
static void test_a_refusal_shows_a_z_below_zero(void **state) {
    (void)state;
    int refused = 0;
    for (uint64_t seed = 1; seed <= 200; seed++) {
        struct world world;
        world_init(&world, seed);
        for (size_t m = 0; m < 3; m++) {
            struct search_spec spec = world_spec(methods[m], SEARCH_SELECTION_AUGMENTED, 4, 2, 12);
            spec.survivors = 1;
            spec.channels[0].budget = 0.01 * (double)(seed % 10);
            spec.channels[0].admit_rule = seed % 2 == 0 ? ADMIT_RULE_PREFIX : ADMIT_RULE_TERMINAL;
            struct verdict verdict = world_verdict(&world, &spec, &in_order);
            if (!verdict.answer.found) {
                refused++;
                assert_true(verdict.z < 0);
            }
        }
    }
    assert_true(refused > 50);
}

static void test_best_of_n_goes_on_before_it_begins_others(void **state) {
    (void)state;
    struct search_spec spec = world_spec(SEARCH_METHOD_BEST_OF_N, SEARCH_SELECTION_PLAIN, 6, 2, 24);
    struct search *search = world_open_search(&spec);
    struct search_grow grow;
    for (uint64_t id = 1; id <= 3; id++) {
        assert_true(search_next(search, &grow));
        assert_int_equal(grow.candidate_id, id);
    }
    const uint32_t tokens[2] = {1, 2};
    const float logprobs[2] = {-1, -1};
    const float costs[2] = {0, 0};
    struct search_score scores[WORLD_SCORERS];
    world_scores(scores, 0, costs, 2, 0);
    struct search_row row = {
        .token_ids = tokens, .logprobs = logprobs, .n_tokens = 2, .scores = scores, .n_places = 2};
    struct error err;
    for (uint64_t id = 3; id >= 1; id--) {
        row.candidate_id = id;
        assert_ok(search_on_row(search, &row, &err), &err);
    }
    for (uint64_t id = 1; id <= 6; id++) {
        assert_true(search_next(search, &grow));
        assert_int_equal(grow.candidate_id, id);
        assert_int_equal(grow.parent_id, id <= 3 ? id : 0);
    }
    assert_false(search_next(search, &grow));
    search_destroy(search);
}

static void test_best_of_n_early_stop_gives_the_same_answer_in_fewer_tokens(void **state) {
    (void)state;
    uint64_t with = 0;
    uint64_t without = 0;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        struct world world;
        world_init(&world, seed);
        struct search_spec spec =
            world_spec(SEARCH_METHOD_BEST_OF_N, SEARCH_SELECTION_AUGMENTED, 16, 2, 24);
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

// Best-of-n finds what a sort of all N full samples finds.
static void test_best_of_n_is_the_argmax_over_its_samples(void **state) {
    (void)state;
    struct world world;
    world_init(&world, 3);
    struct search_spec spec =
        world_spec(SEARCH_METHOD_BEST_OF_N, SEARCH_SELECTION_PLAIN, 24, 5, 20);
    struct search *search = world_open_search(&spec);
    world_run_search(&world, &spec, &in_order, search);
    struct search_answer answer;
    search_get_answer(search, &answer);
    double best = -INFINITY;
    uint64_t best_id = 0;
    for (size_t i = 0; i < search_candidate_count(search); i++) {
        struct search_candidate candidate;
        search_get_candidate(search, i, &candidate);
        if (candidate.reward > best) {
            best = candidate.reward;
            best_id = candidate.candidate_id;
        }
    }
    assert_int_equal(answer.candidate_id, best_id);
    search_destroy(search);
}

static void test_lambda_zero_is_plain(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 10; seed++) {
        struct world world;
        world_init(&world, seed);
        for (size_t m = 0; m < 2; m++) {
            struct search_spec spec = world_spec(methods[m], SEARCH_SELECTION_PLAIN, 12, 4, 16);
            struct verdict plain = world_verdict(&world, &spec, &in_order);
            spec.selection = SEARCH_SELECTION_LAGRANGIAN;
            spec.lagrangian_lambda = 0.0;
            struct verdict lagrangian = world_verdict(&world, &spec, &in_order);
            assert_same_verdict(&plain, &lagrangian);
        }
    }
}

static void test_beam_with_one_block_is_best_of_n(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 10; seed++) {
        struct world world;
        world_init(&world, seed);
        for (size_t s = 0; s < 3; s++) {
            struct search_spec spec = world_spec(SEARCH_METHOD_BEAM, selections[s], 12, 16, 16);
            spec.discount_reward = false;
            struct verdict beam = world_verdict(&world, &spec, &in_order);
            spec.method = SEARCH_METHOD_BEST_OF_N;
            struct verdict best_of_n = world_verdict(&world, &spec, &in_order);
            assert_int_equal(beam.answer.found, best_of_n.answer.found);
            if (beam.answer.found) {
                assert_int_equal(beam.answer.candidate_id, best_of_n.answer.candidate_id);
            }
        }
    }
}

static void test_no_reward_outranks_admissibility(void **state) {
    (void)state;
    const double rewards[] = {1e30, -1e30, 0.0, 5.0};
    const float costs[] = {2.0F, 0.1F, 3.0F, 0.2F};
    const char *const texts[] = {"a", "b", "c", "d"};
    struct search_spec spec =
        world_spec(SEARCH_METHOD_BEST_OF_N, SEARCH_SELECTION_AUGMENTED, 4, 4, 4);
    struct search *search = world_open_search(&spec);
    for (uint32_t i = 0; i < 4; i++) {
        struct search_grow grow;
        assert_true(search_next(search, &grow));
        const uint32_t token = 7;
        const float logprob = -1.0f;
        struct search_score scores[WORLD_SCORERS];
        world_scores(scores, rewards[i], &costs[i], 1, 0);
        const struct search_row row = {
            .candidate_id = grow.candidate_id,
            .token_ids = &token,
            .logprobs = &logprob,
            .n_tokens = 1,
            .finish = SEARCH_FINISH_EOS,
            .text = texts[i],
            .scores = scores,
            .n_places = 1,
        };
        struct error err;
        assert_ok(search_on_row(search, &row, &err), &err);
    }
    struct search_answer answer;
    search_get_answer(search, &answer);
    assert_true(answer.found);
    assert_int_equal(answer.candidate_id, 4);
    assert_int_equal(answer.n_admissible, 2);
    search_destroy(search);
}

// Four candidates that end at once come back in the order of `ids`.
static struct search *end_four(const struct search_spec *spec, const uint32_t *ids) {
    static const char *const texts[] = {"a", "b", "a", "a"};
    static const double rewards[] = {9.0, 2.0, 3.0, 3.0};
    static const float costs[] = {2.0F, 0.1F, 0.2F, 0.2F}; // the budget is 0.5
    struct search *search = world_open_search(spec);
    struct search_grow grow;
    for (uint32_t i = 0; i < 4; i++) {
        assert_true(search_next(search, &grow));
    }
    for (uint32_t i = 0; i < 4; i++) {
        const uint32_t token = 7;
        const float logprob = -1.0f;
        struct search_score scores[WORLD_SCORERS];
        world_scores(scores, rewards[ids[i] - 1], &costs[ids[i] - 1], 1, 0);
        const struct search_row row = {
            .candidate_id = ids[i],
            .token_ids = &token,
            .logprobs = &logprob,
            .n_tokens = 1,
            .finish = SEARCH_FINISH_EOS,
            .text = texts[ids[i] - 1],
            .scores = scores,
            .n_places = 1,
        };
        struct error err;
        assert_ok(search_on_row(search, &row, &err), &err);
    }
    return search;
}

static void test_finished_candidates_of_equal_text_are_kept_once(void **state) {
    (void)state;
    static const uint32_t orders[][4] = {{1, 2, 3, 4}, {4, 3, 2, 1}, {3, 1, 4, 2}, {1, 4, 3, 2}};
    static const enum candidate_fate fates[] = {CANDIDATE_FATE_DUPLICATE, CANDIDATE_FATE_FINISHED,
                                                CANDIDATE_FATE_CHOSEN, CANDIDATE_FATE_DUPLICATE};
    for (size_t m = 0; m < sizeof methods / sizeof methods[0]; m++) {
        const struct search_spec spec = world_spec(methods[m], SEARCH_SELECTION_AUGMENTED, 4, 4, 4);
        for (size_t o = 0; o < sizeof orders / sizeof orders[0]; o++) {
            struct search *search = end_four(&spec, orders[o]);
            struct search_answer answer;
            search_get_answer(search, &answer);
            assert_int_equal(answer.candidate_id, 3);
            assert_int_equal(answer.n_finished, 2);
            assert_int_equal(answer.n_admissible, 2);
            assert_int_equal(answer.n_repeats, 2);
            for (size_t i = 0; i < 4; i++) {
                struct search_candidate candidate;
                search_get_candidate(search, i, &candidate);
                assert_int_equal(candidate.fate, fates[i]);
            }
            search_destroy(search);
        }
    }
}

// Token 5 is drawn nearly always and costs too much; only a penalty on it lets others through.
static struct world scripted_trap(void) {
    struct world world = {.seed = 11};
    for (uint32_t v = 0; v < WORLD_VOCAB; v++) {
        world.logits[v] = v == 5 ? 9.0 : 0.0;
        world.costs[v] = v == 5 ? 1.0 : -0.5;
        world.rewards[v] = 0.1 * v;
    }
    return world;
}

static struct search_spec trap_spec(uint32_t tries) {
    struct search_spec spec =
        world_spec(SEARCH_METHOD_INFERENCE_GUARD, SEARCH_SELECTION_AUGMENTED, 8, 1, 3);
    spec.tries = tries;
    spec.fallback_penalty = FALLBACK_PENALTY_COUNT;
    spec.fallback_weight = 3.0;
    spec.fallback_cap = 12.0;
    return spec;
}

static void test_fallback_rescues_on_the_second_try(void **state) {
    (void)state;
    struct world world = scripted_trap();
    struct search_spec spec = trap_spec(2);
    struct verdict rescued = world_verdict(&world, &spec, &in_order);
    assert_true(rescued.answer.found);
    assert_true(rescued.answer.fallback_fired);
    spec.tries = 1;
    struct verdict lost = world_verdict(&world, &spec, &in_order);
    assert_false(lost.answer.found);
    assert_false(lost.answer.fallback_fired);
    assert_int_equal(lost.n_candidates, 8); // every one is a certain loss: it stops at once
    // beam has no fallback: as with one try.
    spec.method = SEARCH_METHOD_BEAM;
    spec.tries = 2;
    struct verdict beam = world_verdict(&world, &spec, &in_order);
    assert_false(beam.answer.found);
}

static void test_fallback_leaves_exempt_tokens_alone(void **state) {
    (void)state;
    struct world world = scripted_trap();
    struct search_spec spec = trap_spec(4);
    const int32_t exempt[] = {5};
    spec.exempt_ids = exempt;
    spec.n_exempt = 1;
    struct verdict verdict = world_verdict(&world, &spec, &in_order);
    assert_false(verdict.answer.found);
    assert_int_equal(verdict.answer.tries_used, 3);
}

// Penalties start anew with every step: the first grows of a step carry none.
static void test_penalties_reset_with_the_step(void **state) {
    (void)state;
    struct world world = scripted_trap();
    struct search_spec spec = trap_spec(2);
    spec.max_tokens = 4;
    struct search *search = world_open_search(&spec);
    uint32_t last_step = 0;
    uint32_t seen_in_step = 0;
    while (!search_is_done(search)) {
        struct search_grow grow;
        assert_true(search_next(search, &grow));
        struct search_progress progress;
        search_get_progress(search, &progress);
        seen_in_step = progress.step == last_step ? seen_in_step + 1 : 1;
        last_step = progress.step;
        assert_int_equal(grow.n_penalties > 0, seen_in_step > spec.n);
        // A penalised grow draws token 6, any other token 5.
        const uint32_t token = grow.n_penalties > 0 ? 6 : 5;
        if (grow.n_penalties > 0) {
            assert_int_equal(grow.n_penalties, 1);
            assert_int_equal(grow.penalty_ids[0], 5);
            assert_true(fabsf(grow.penalties[0] - 12.0f) < 1e-6f); // 8 * 3 capped at 12
        }
        float costs[4];
        for (uint32_t i = 0; i < grow.n_tokens; i++) {
            costs[i] = (float)world.costs[grow.tokens[i]];
        }
        costs[grow.n_tokens] = (float)world.costs[token];
        struct search_score scores[WORLD_SCORERS];
        world_scores(scores, 0, costs, grow.n_tokens + 1, 0);
        const float logprob = 0.0f;
        const struct search_row row = {
            .candidate_id = grow.candidate_id,
            .token_ids = &token,
            .logprobs = &logprob,
            .n_tokens = 1,
            .finish =
                grow.n_tokens + 1 == spec.max_tokens ? SEARCH_FINISH_LENGTH : SEARCH_FINISH_NONE,
            .scores = scores,
            .n_places = grow.n_tokens + 1,
        };
        struct error err;
        assert_ok(search_on_row(search, &row, &err), &err);
    }
    struct search_answer answer;
    search_get_answer(search, &answer);
    assert_true(answer.found);
    // All rescued children of a step are the same text: one survivor, so each step is one of N
    // again.
    assert_int_equal(answer.tries_used, 4);
    search_destroy(search);
}

static void test_retry_has_random_numbers_of_its_own(void **state) {
    (void)state;
    struct search_spec spec = trap_spec(3);
    struct world world = scripted_trap();
    struct search *search = world_open_search(&spec);
    world_run_search(&world, &spec, &in_order, search);
    for (size_t i = 0; i < search_candidate_count(search); i++) {
        struct search_candidate candidate;
        search_get_candidate(search, i, &candidate);
        assert_int_equal(candidate.candidate_id, i + 1);
        assert_true(candidate.parent_id < candidate.candidate_id);
    }
    assert_true(search_candidate_count(search) > spec.n);
    search_destroy(search);
}

// No continuation of a soundly pruned candidate is admissible: replay many from its cost on.
static void test_sound_pruning_never_loses_a_candidate(void **state) {
    (void)state;
    int pruned = 0;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct world world;
        world_init(&world, seed);
        struct search_spec spec =
            world_spec(SEARCH_METHOD_BEAM, SEARCH_SELECTION_AUGMENTED, 12, 3, 18);
        struct search *search = world_open_search(&spec);
        world_run_search(&world, &spec, &in_order, search);
        for (size_t i = 0; i < search_candidate_count(search); i++) {
            struct search_candidate candidate;
            search_get_candidate(search, i, &candidate);
            if (candidate.fate == CANDIDATE_FATE_PRUNED_SOUND) {
                pruned++;
                // Costs are non-negative under token_sum_pos, so the sum only rises.
                assert_true(candidate.channels[0].cost > spec.channels[0].budget);
            }
            assert_int_not_equal(candidate.fate, CANDIDATE_FATE_LIVE);
        }
        search_destroy(search);
    }
    assert_true(pruned > 0);
}

static void test_restated_costs_replace_earlier_ones(void **state) {
    (void)state;
    struct search_spec spec =
        world_spec(SEARCH_METHOD_BEST_OF_N, SEARCH_SELECTION_AUGMENTED, 1, 2, 4);
    spec.channels[0].discount = spec.discount = 1.0;
    struct search *search = world_open_search(&spec);
    struct search_grow grow;
    struct error err;
    const uint32_t tokens[] = {1, 2};
    const float logprobs[] = {0.0f, 0.0f};
    const float first[] = {0.125F, 0.25F};
    const float second[] = {0.0F, 0.125F, 0.25F};
    struct search_score scores[WORLD_SCORERS];
    world_scores(scores, 0, first, 2, 0);
    assert_true(search_next(search, &grow));
    struct search_row row = {.candidate_id = 1,
                             .token_ids = tokens,
                             .logprobs = logprobs,
                             .n_tokens = 2,
                             .scores = scores,
                             .n_places = 2};
    assert_ok(search_on_row(search, &row, &err), &err);
    assert_true(search_next(search, &grow));
    assert_int_equal(grow.parent_id, 1);
    world_scores(scores, 0, second, 3, 1);
    row.n_places = 4;
    row.finish = SEARCH_FINISH_LENGTH;
    assert_ok(search_on_row(search, &row, &err), &err);
    struct search_candidate candidate;
    assert_true(search_find_candidate(search, 1, &candidate));
    assert_true(candidate.channels[0].cost == 0.5);
    search_destroy(search);
}

// The last reading of a finished text, in fewer tokens, takes back what lost it: it stays lost, as
// it does when it is stopped.
static void test_what_was_lost_stays_lost(void **state) {
    (void)state;
    for (int early_stop = 0; early_stop <= 1; early_stop++) {
        struct search_spec spec =
            world_spec(SEARCH_METHOD_BEST_OF_N, SEARCH_SELECTION_AUGMENTED, 1, 2, 4);
        spec.channels[0].discount = spec.discount = 1.0;
        spec.channels[0].budget = 1.0;
        spec.early_stop = early_stop == 1;
        struct search *search = world_open_search(&spec);
        struct search_grow grow;
        struct error err;
        const uint32_t tokens[] = {1, 2};
        const float logprobs[] = {0.0f, 0.0f};
        const float costly[] = {0.5F, 0.75F};
        const float cheap[] = {0.25F};
        struct search_score scores[WORLD_SCORERS];
        world_scores(scores, 0, costly, 2, 0);
        assert_true(search_next(search, &grow));
        struct search_row row = {.candidate_id = 1,
                                 .token_ids = tokens,
                                 .logprobs = logprobs,
                                 .n_tokens = 2,
                                 .scores = scores,
                                 .n_places = 2};
        assert_ok(search_on_row(search, &row, &err), &err);
        assert_int_equal(search_next(search, &grow), !spec.early_stop);
        if (!spec.early_stop) {
            world_scores(scores, 0, cheap, 1, 0);
            row.n_places = 1;
            row.finish = SEARCH_FINISH_STOP;
            assert_ok(search_on_row(search, &row, &err), &err);
        }
        struct search_answer answer;
        search_get_answer(search, &answer);
        assert_true(search_is_done(search));
        assert_false(answer.found);
        struct search_candidate candidate;
        assert_true(search_find_candidate(search, 1, &candidate));
        assert_false(candidate.admissible);
        assert_true(candidate.channels[0].cost == 1.25 && candidate.safety_state == -0.25);
        search_destroy(search);
    }
}

static void test_rows_that_contradict_the_order_are_refused(void **state) {
    (void)state;
    struct search_spec spec =
        world_spec(SEARCH_METHOD_BEST_OF_N, SEARCH_SELECTION_AUGMENTED, 2, 2, 4);
    struct search *search = world_open_search(&spec);
    struct search_grow grow;
    assert_true(search_next(search, &grow));
    const uint32_t tokens[] = {1, 2, 3};
    const float logprobs[3] = {0.0f};
    const float costs[] = {0.1F, 0.1F, 0.1F};
    const float not_finite[] = {0.1F, NAN};
    struct search_score scores[WORLD_SCORERS];
    world_scores(scores, 0, costs, 2, 0);
    const struct search_row good = {.candidate_id = grow.candidate_id,
                                    .token_ids = tokens,
                                    .logprobs = logprobs,
                                    .n_tokens = 2,
                                    .scores = scores,
                                    .n_places = 2};
    enum { N_BAD = 9 };
    struct search_row bad[N_BAD];
    struct search_score bad_scores[N_BAD][WORLD_SCORERS];
    for (size_t i = 0; i < N_BAD; i++) {
        bad[i] = good;
        bad[i].scores = bad_scores[i];
        memcpy(bad_scores[i], scores, sizeof scores);
    }
    bad[0].candidate_id = 99;
    bad[1].candidate_id = 2; // not taken yet
    bad[2].n_tokens = bad[2].n_places = 3;
    bad_scores[2][1].n_token_scores = 3;
    bad[3].n_tokens = bad[3].n_places = 1;
    bad_scores[3][1].n_token_scores = 1;
    bad_scores[4][0].end_score = INFINITY;
    bad_scores[5][1].token_scores = not_finite;
    bad_scores[6][1].from = 1; // of a text that has no places yet
    bad_scores[6][1].n_token_scores = 1;
    bad_scores[7][1].n_token_scores = 1;
    bad[8].n_places = 1; // of a text of 2 tokens that goes on
    bad_scores[8][1].n_token_scores = 1;
    for (size_t i = 0; i < N_BAD; i++) {
        struct error err;
        assert_status(STATUS_MALFORMED, search_on_row(search, &bad[i], &err));
        assert_true(strncmp(err.field, "row.", 4) == 0);
    }
    struct error err;
    assert_ok(search_on_row(search, &good, &err), &err);
    search_destroy(search);
}

// Certain losses were told on its word.
static void test_a_cost_below_cost_min_is_refused_by_name(void **state) {
    (void)state;
    static const double declared[] = {5.0, -0.5, -2.0};
    for (size_t i = 0; i < sizeof declared / sizeof declared[0]; i++) {
        struct search_spec spec =
            world_spec(SEARCH_METHOD_BEST_OF_N, SEARCH_SELECTION_AUGMENTED, 1, 2, 4);
        spec.channels[0].name = "harm";
        spec.channels[0].cost_mode = COST_MODE_TOKEN_SUM;
        spec.channels[0].has_cost_min = true;
        spec.channels[0].cost_min = declared[i];
        struct search *search = world_open_search(&spec);
        struct search_grow grow;
        assert_true(search_next(search, &grow));
        const uint32_t tokens[] = {1, 2};
        const float logprobs[2] = {0.0F};
        const float costs[] = {0.25F, -2.0F};
        struct search_score scores[WORLD_SCORERS];
        world_scores(scores, 0, costs, 2, 0);
        const struct search_row row = {.candidate_id = grow.candidate_id,
                                       .token_ids = tokens,
                                       .logprobs = logprobs,
                                       .n_tokens = 2,
                                       .scores = scores,
                                       .n_places = 2};
        struct error err = {0};
        if (declared[i] == -2.0) {
            assert_ok(search_on_row(search, &row, &err), &err);
        } else {
            assert_status(STATUS_INVALID_ARGUMENT, search_on_row(search, &row, &err));
            assert_string_equal(err.field, "cost_min");
            assert_non_null(strstr(err.message, "channel harm is -2"));
        }
        search_destroy(search);
    }
}

static void test_too_many_candidates_are_a_limit(void **state) {
    (void)state;
    struct search_spec spec =
        world_spec(SEARCH_METHOD_INFERENCE_GUARD, SEARCH_SELECTION_AUGMENTED, 4096, 1, 64);
    struct search *search = NULL;
    assert_true(search_candidates_bound(&spec) > SEARCH_CANDIDATES_MAX);
    assert_status(STATUS_LIMIT, search_create(&spec, &search, NULL));
    assert_null(search);
}

// The first candidate ends in its first block; what the others sample in theirs is no waste yet,
// what they go on with is, whenever it comes.
static void test_tokens_after_the_choice_are_counted_by_blocks(void **state) {
    (void)state;
    static const uint64_t orders[][3] = {{1, 2, 3}, {3, 2, 1}};
    struct search_spec spec = world_spec(SEARCH_METHOD_BEST_OF_N, SEARCH_SELECTION_PLAIN, 3, 2, 6);
    for (size_t o = 0; o < 2; o++) {
        struct search *search = world_open_search(&spec);
        struct search_grow grow;
        for (int i = 0; i < 3; i++) {
            assert_true(search_next(search, &grow));
        }
        static const uint32_t tokens[2] = {3, 4};
        static const float logprobs[2] = {0};
        static const float costs[6] = {0};
        static const char *const texts[] = {"a", "b", "c"};
        for (uint32_t block = 1; block <= 3; block++) {
            for (size_t i = 0; i < 3; i++) {
                uint64_t id = orders[o][i];
                if (id == 1 && block > 1) {
                    continue;
                }
                struct search_score scores[WORLD_SCORERS];
                uint32_t n = id == 1 ? 1 : 2;
                world_scores(scores, id == 1 ? 2 : 1, costs, n, 2 * block - 2);
                const struct search_row row = {
                    .candidate_id = id,
                    .token_ids = tokens,
                    .logprobs = logprobs,
                    .n_tokens = n,
                    .finish = id == 1 ? SEARCH_FINISH_EOS : SEARCH_FINISH_NONE,
                    .text = texts[id - 1],
                    .scores = scores,
                    .n_places = 2 * block - 2 + n,
                };
                struct error err;
                assert_ok(search_on_row(search, &row, &err), &err);
            }
            while (search_next(search, &grow)) {
            }
        }
        struct search_answer answer;
        search_get_answer(search, &answer);
        assert_true(search_is_done(search) && answer.found);
        assert_int_equal(answer.candidate_id, 1);
        assert_int_equal(answer.tokens_after_choice, 8);
        search_destroy(search);
    }
}

// What a step's children do: the first n_ended end, each in a text of its own, at so much cost.
struct step {
    uint32_t n_ended;
    float cost;
    double reward; // of those that end
};

// Answers all that is asked for with rows as `step` says, the others' text goes on at reward -1.
// Returns how many children there were; *grow_tokens of each.
static uint32_t answer_step(struct search *search, const struct step *step, uint32_t *grow_tokens) {
    struct search_grow grows[32];
    uint32_t n = 0;
    while (search_next(search, &grows[n])) {
        n++;
        assert_in_range(n, 1, 31);
    }
    *grow_tokens = n > 0 ? grows[0].grow_tokens : 0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t tokens[64];
        static const float logprobs[64] = {0};
        float costs[64] = {0};
        char text[32];
        struct search_score scores[WORLD_SCORERS];
        bool ends = i < step->n_ended;
        assert_int_equal(grows[i].grow_tokens, *grow_tokens);
        for (uint32_t t = 0; t < *grow_tokens; t++) {
            tokens[t] = (uint32_t)grows[i].candidate_id;
        }
        costs[0] = ends ? step->cost : 0;
        snprintf(text, sizeof text, "%u", (unsigned)grows[i].candidate_id);
        world_scores(scores, ends ? step->reward : -1, costs, *grow_tokens, grows[i].n_tokens);
        const struct search_row row = {
            .candidate_id = grows[i].candidate_id,
            .token_ids = tokens,
            .logprobs = logprobs,
            .n_tokens = *grow_tokens,
            .finish = ends ? SEARCH_FINISH_EOS : SEARCH_FINISH_NONE,
            .text = ends ? text : NULL,
            .scores = scores,
            .n_places = grows[i].n_tokens + *grow_tokens,
        };
        struct error err;
        assert_ok(search_on_row(search, &row, &err), &err);
    }
    return n;
}

static struct search_spec guard_spec(uint32_t n, uint32_t block_tokens, uint32_t max_tokens) {
    return world_spec(SEARCH_METHOD_INFERENCE_GUARD, SEARCH_SELECTION_AUGMENTED, n, block_tokens,
                      max_tokens);
}

static void test_blocks_grow_to_the_longest(void **state) {
    (void)state;
    static const uint32_t expected[] = {2, 3, 5, 6, 6, 3}; // 25 tokens
    static const struct step none = {0};
    struct search_spec spec = guard_spec(4, 2, 25);
    spec.block_growth = 1.5;
    spec.block_tokens_max = 6;
    assert_int_equal(search_candidates_bound(&spec), 4 * 6 * 2);
    struct search *search = world_open_search(&spec);
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
        uint32_t grow_tokens = 0;
        assert_int_equal(answer_step(search, &none, &grow_tokens), 4);
        assert_int_equal(grow_tokens, expected[i]);
    }
    assert_true(search_is_done(search));
    search_destroy(search);
}

// Those over budget take none.
static void test_answers_within_budget_take_places(void **state) {
    (void)state;
    static const struct step steps[] = {{.n_ended = 3}, {.n_ended = 2, .cost = 9}, {.n_ended = 1}};
    static const struct {
        uint32_t n_min;
        uint32_t expected[3];
    } cases[] = {{16, {16, 16, 16}}, {1, {16, 13, 13}}, {14, {16, 14, 14}}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct search_spec spec = guard_spec(16, 2, 8);
        spec.n_min = cases[i].n_min;
        struct search *search = world_open_search(&spec);
        for (size_t s = 0; s < 3; s++) {
            uint32_t ignored = 0;
            assert_int_equal(answer_step(search, &steps[s], &ignored), cases[i].expected[s]);
        }
        struct search_progress progress;
        search_get_progress(search, &progress);
        assert_int_equal(progress.live, cases[i].n_min == 16 ? 16 : cases[i].n_min == 1 ? 12 : 14);
        search_destroy(search);
    }
}

// Two steps without a better answer end the search, once there are K; a better one begins anew.
static void test_patience_ends_a_search_that_has_settled(void **state) {
    (void)state;
    static const struct {
        struct step steps[5];
        uint32_t patience;
        size_t n_steps;
    } cases[] = {
        {{{.n_ended = 2, .reward = 1}}, 2, 3},
        {{{.n_ended = 2, .reward = 1}}, 0, 6},
        {{{.n_ended = 1, .reward = 1}}, 2, 6}, // K is 2
        {{{.n_ended = 2, .reward = 1}, {0}, {.n_ended = 1, .reward = 2}}, 2, 5},
        {{{.n_ended = 2, .reward = 1}, {.n_ended = 1, .reward = 0.5}}, 2, 3},
        {{{.n_ended = 2, .reward = 1, .cost = 9}}, 2, 6},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        static const struct step none = {0};
        struct search_spec spec = guard_spec(8, 2, 12);
        spec.patience = cases[i].patience;
        struct search *search = world_open_search(&spec);
        size_t n = 0;
        for (; !search_is_done(search); n++) {
            uint32_t ignored = 0;
            const struct step *step = n < 5 ? &cases[i].steps[n] : &none;
            assert_in_range(answer_step(search, step, &ignored), 1, 8);
        }
        assert_int_equal(n, cases[i].n_steps);
        search_destroy(search);
    }
}

// What is lost stops at a multiple of three tokens inside its block, answers stay as they are.
static void test_abort_gives_the_same_answers_in_fewer_tokens(void **state) {
    (void)state;
    uint64_t with = 0, without = 0;
    uint32_t aborted = 0, found = 0, retried = 0;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct world world;
        world_init(&world, seed);
        struct search_spec spec = guard_spec(8, 8, 24);
        spec.channels[0].budget = 0.1 * (double)(seed % 6);
        struct verdict late = world_verdict(&world, &spec, &in_order);
        spec.abort_tokens = 3;
        struct verdict early = world_verdict(&world, &spec, &in_order);
        const struct world_run shuffled = {.shuffle_seed = seed, .batch = 3};
        struct verdict again = world_verdict(&world, &spec, &shuffled);
        assert_same_verdict(&early, &again);
        assert_int_equal(early.answer.n_aborted, again.answer.n_aborted);
        assert_int_equal(early.answer.found, late.answer.found);
        assert_int_equal(early.answer.tries_used, late.answer.tries_used);
        assert_int_equal(early.n_candidates, late.n_candidates);
        if (late.answer.found) {
            assert_int_equal(early.answer.candidate_id, late.answer.candidate_id);
            assert_int_equal(early.n_tokens, late.n_tokens);
            assert_memory_equal(early.tokens, late.tokens, late.n_tokens * sizeof late.tokens[0]);
            assert_true(early.cost == late.cost && early.z == late.z);
        }
        assert_int_equal(late.answer.n_aborted, 0);
        with += early.tokens_sampled;
        without += late.tokens_sampled;
        aborted += early.answer.n_aborted;
        found += late.answer.found ? 1 : 0;
        retried += late.answer.tries_used;
    }
    assert_true(aborted > 60 && found > 20 && retried > 5);
    assert_true(with < without);
}

// Costs at the ends of blocks say nothing inside them.
static void test_nothing_aborts_where_costs_fall_on_ends_of_blocks(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct world world;
        world_init(&world, seed);
        struct search_spec spec = guard_spec(8, 8, 24);
        spec.channels[0].cost_mode = seed % 2 == 0 ? COST_MODE_BLOCK_END : COST_MODE_END_SIGN;
        spec.channels[0].admit_rule = ADMIT_RULE_PREFIX;
        struct verdict late = world_verdict(&world, &spec, &in_order);
        spec.abort_tokens = 3;
        struct verdict early = world_verdict(&world, &spec, &in_order);
        assert_same_verdict(&late, &early);
    }
}

// Where the first search ends with nothing within budget, and nowhere else, the second begins at
// the prompt, hotter, with candidates of its own.
static void test_a_hotter_search_follows_one_without_an_answer(void **state) {
    (void)state;
    static const struct step none = {0};
    static const struct step over = {.n_ended = 8, .cost = 9};
    static const struct step within = {.n_ended = 8};
    static const struct {
        const struct step *first;
        double temperature;
        uint32_t n_restarts;
    } cases[] = {{&over, 1.5, 1}, {&over, 0, 0}, {&within, 1.5, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct search_spec spec = guard_spec(8, 2, 4);
        spec.tries = 1;
        spec.fallback_temperature = cases[i].temperature;
        struct search *search = world_open_search(&spec);
        uint32_t ignored = 0;
        assert_int_equal(answer_step(search, cases[i].first, &ignored), 8);
        struct search_grow grow;
        assert_int_equal(search_next(search, &grow), cases[i].n_restarts > 0);
        if (cases[i].n_restarts > 0) {
            assert_true(grow.temperature == 1.5F && grow.n_tokens == 0);
            assert_int_equal(grow.candidate_id, 9);
            assert_int_equal(search_candidate_count(search), 16);
        }
        struct search_answer answer;
        search_get_answer(search, &answer);
        assert_int_equal(answer.n_restarts, cases[i].n_restarts);
        assert_int_equal(answer.fallback_fired, cases[i].n_restarts > 0);
        search_destroy(search);
    }
    // The second is the last.
    struct search_spec spec = guard_spec(4, 2, 2);
    spec.tries = 1;
    spec.fallback_temperature = 2;
    struct search *search = world_open_search(&spec);
    uint32_t ignored = 0;
    const struct step all_over = {.n_ended = 4, .cost = 9};
    assert_int_equal(answer_step(search, &all_over, &ignored), 4);
    assert_int_equal(answer_step(search, &all_over, &ignored), 4);
    assert_int_equal(answer_step(search, &none, &ignored), 0);
    assert_true(search_is_done(search));
    assert_int_equal(search_candidates_bound(&spec), 8);
    search_destroy(search);
}

// After the hotter search one for each prefix: a child that is the text, then children of it, drawn
// as the first search's.
static void test_prefixes_follow_a_hotter_search(void **state) {
    (void)state;
    const struct step over = {.n_ended = 8, .cost = 9};
    static const struct step goes_on = {0};
    struct search_spec spec = guard_spec(8, 2, 6);
    spec.fallback_temperature = 2;
    spec.tries = 1;
    spec.n_prefixes = 2;
    spec.prefix_tokens_max = 4;
    struct search *search = world_open_search(&spec);
    uint32_t grow_tokens = 0;
    assert_int_equal(answer_step(search, &over, &grow_tokens), 8);
    assert_int_equal(answer_step(search, &over, &grow_tokens), 8);
    for (uint32_t prefix = 1; prefix <= 2; prefix++) {
        struct search_grow grow;
        assert_true(search_next(search, &grow));
        assert_int_equal(grow.prefix_index, prefix);
        assert_int_equal(grow.grow_tokens, 4);
        assert_true(grow.n_tokens == 0 && grow.temperature == 0);
        assert_false(search_next(search, &grow));
        const uint32_t tokens[3] = {1, 2, 3}; // one fewer than there is room for
        const float logprobs[3] = {0};
        const float costs[3] = {0};
        struct search_score scores[WORLD_SCORERS];
        world_scores(scores, 0, costs, 3, 0);
        const struct search_row row = {.candidate_id = grow.candidate_id,
                                       .token_ids = tokens,
                                       .logprobs = logprobs,
                                       .n_tokens = 3,
                                       .scores = scores,
                                       .n_places = 3};
        struct error err;
        assert_ok(search_on_row(search, &row, &err), &err);
        assert_int_equal(answer_step(search, prefix == 1 ? &over : &goes_on, &grow_tokens), 8);
        assert_int_equal(grow_tokens, 2);
    }
    const struct step within = {.n_ended = 8};
    assert_int_equal(answer_step(search, &within, &grow_tokens), 8);
    assert_int_equal(grow_tokens, 1);
    struct search_answer answer;
    search_get_answer(search, &answer);
    assert_true(answer.found && search_is_done(search));
    assert_int_equal(answer.n_restarts, 3);
    assert_true(search_candidate_count(search) <= search_candidates_bound(&spec));
    search_destroy(search);
}

// The unfinished job reports its nearest candidate and never an answer.
static void test_cut_short_is_never_an_answer(void **state) {
    (void)state;
    struct world world;
    world_init(&world, 2);
    struct search_spec spec =
        world_spec(SEARCH_METHOD_BEST_OF_N, SEARCH_SELECTION_AUGMENTED, 3, 4, 8);
    struct search *search = world_open_search(&spec);
    struct search_grow grow;
    assert_true(search_next(search, &grow));
    struct search_answer answer;
    search_get_answer(search, &answer);
    assert_false(answer.found);
    search_destroy(search);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order_of_arrival_changes_nothing),
        cmocka_unit_test(test_no_answer_of_a_safety_method_is_over_budget),
        cmocka_unit_test(test_a_refusal_shows_a_z_below_zero),
        cmocka_unit_test(test_best_of_n_goes_on_before_it_begins_others),
        cmocka_unit_test(test_best_of_n_early_stop_gives_the_same_answer_in_fewer_tokens),
        cmocka_unit_test(test_best_of_n_is_the_argmax_over_its_samples),
        cmocka_unit_test(test_lambda_zero_is_plain),
        cmocka_unit_test(test_beam_with_one_block_is_best_of_n),
        cmocka_unit_test(test_no_reward_outranks_admissibility),
        cmocka_unit_test(test_finished_candidates_of_equal_text_are_kept_once),
        cmocka_unit_test(test_fallback_rescues_on_the_second_try),
        cmocka_unit_test(test_fallback_leaves_exempt_tokens_alone),
        cmocka_unit_test(test_penalties_reset_with_the_step),
        cmocka_unit_test(test_retry_has_random_numbers_of_its_own),
        cmocka_unit_test(test_sound_pruning_never_loses_a_candidate),
        cmocka_unit_test(test_restated_costs_replace_earlier_ones),
        cmocka_unit_test(test_what_was_lost_stays_lost),
        cmocka_unit_test(test_rows_that_contradict_the_order_are_refused),
        cmocka_unit_test(test_a_cost_below_cost_min_is_refused_by_name),
        cmocka_unit_test(test_too_many_candidates_are_a_limit),
        cmocka_unit_test(test_tokens_after_the_choice_are_counted_by_blocks),
        cmocka_unit_test(test_blocks_grow_to_the_longest),
        cmocka_unit_test(test_answers_within_budget_take_places),
        cmocka_unit_test(test_patience_ends_a_search_that_has_settled),
        cmocka_unit_test(test_abort_gives_the_same_answers_in_fewer_tokens),
        cmocka_unit_test(test_nothing_aborts_where_costs_fall_on_ends_of_blocks),
        cmocka_unit_test(test_a_hotter_search_follows_one_without_an_answer),
        cmocka_unit_test(test_prefixes_follow_a_hotter_search),
        cmocka_unit_test(test_cut_short_is_never_an_answer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
