// Random histories of orders: two ranks of very different size, with different releases, must give
// the same rows order after order, and a third one that holds nothing at all as well.
#include <stdlib.h>
#include <string.h>

#include "common/rng.h"
#include "tests/support/testkit.h"
#include "tests/worker/rank_fixture.h"
#include "tests/worker/tiny_models.h"

enum { N_JOBS = 3, CANDIDATES_MAX = 24, MAX_TOKENS = 40, ROUNDS = 14 };

static const char *const scorers[] = {"reward-eos", "foreign-cost", NULL};

struct candidate {
    uint64_t job_id;
    uint64_t id;
    uint32_t tokens[MAX_TOKENS];
    size_t n_tokens;
    bool live;
};

struct history {
    struct candidate candidates[CANDIDATES_MAX]; // free entries are not live
    uint64_t next_id;
    uint64_t seed;
    uint32_t counter;
};

static uint32_t draw(struct history *history, uint32_t below) {
    return (uint32_t)(rng_uniform(history->seed, 1, history->counter++, 0) * below);
}

static void add_jobs(struct order_fixture *order) {
    static const char *const prompts[N_JOBS] = {"a", "how to boil an egg in the morning",
                                                "the other day I said that it is and it was"};
    for (uint64_t i = 0; i < N_JOBS; i++) {
        const struct order_job job = {.id = i + 1,
                                      .prompt = prompts[i],
                                      .max_tokens = MAX_TOKENS,
                                      .seed = 100 + i,
                                      .scorers = scorers,
                                      .cost_eos_append = i == 1};
        order_add_job(order, &job);
    }
}

static struct candidate *free_candidate(struct history *history) {
    for (int i = 0; i < CANDIDATES_MAX; i++) {
        if (!history->candidates[i].live) {
            return &history->candidates[i];
        }
    }
    return NULL;
}

// Items for the next round: some candidates go on, some have children, some jobs get a new one.
// What a candidate was before it goes on is kept in `before`.
static void add_items(struct history *history, struct order_fixture *order) {
    struct candidate before[CANDIDATES_MAX];
    memcpy(before, history->candidates, sizeof before);
    for (int i = 0; i < CANDIDATES_MAX; i++) {
        const struct candidate *parent = &before[i];
        uint32_t choice = draw(history, 4);
        if (!parent->live || choice == 0) {
            continue;
        }
        if (choice >= 2) {
            order_add_item(order, parent->job_id, parent->id, parent->id, parent->tokens,
                           parent->n_tokens, 1 + draw(history, 9));
        }
        struct candidate *child = free_candidate(history);
        if (choice <= 2 && child != NULL) {
            *child = *parent;
            child->id = history->next_id++;
            order_add_item(order, child->job_id, child->id, parent->id, child->tokens,
                           child->n_tokens, 1 + draw(history, 9));
        }
    }
    for (int i = 0; i < 2; i++) {
        struct candidate *fresh = free_candidate(history);
        if (fresh != NULL) {
            *fresh = (struct candidate){
                .job_id = 1 + draw(history, N_JOBS), .id = history->next_id++, .live = true};
            order_add_item(order, fresh->job_id, fresh->id, 0, NULL, 0, 1 + draw(history, 9));
        }
    }
}

static void take_rows(struct history *history, const Surefoot__Gathered *rows) {
    for (size_t r = 0; r < rows->n_rows; r++) {
        const Surefoot__Row *row = rows->rows[r];
        for (int i = 0; i < CANDIDATES_MAX; i++) {
            struct candidate *candidate = &history->candidates[i];
            if (candidate->live && candidate->id == row->candidate_id) {
                memcpy(candidate->tokens + candidate->n_tokens, row->token_ids,
                       row->n_token_ids * sizeof *row->token_ids);
                candidate->n_tokens += row->n_token_ids;
                candidate->live = row->finish == SUREFOOT__FINISH__FINISH_NONE;
            }
        }
    }
}

// Candidates that will not go on; only `order` of the first rank says so.
static void prune(struct history *history, struct order_fixture *order) {
    for (int i = 0; i < CANDIDATES_MAX; i++) {
        struct candidate *candidate = &history->candidates[i];
        if (candidate->live && draw(history, 4) == 0) {
            candidate->live = false;
            order_add_release(order, candidate->job_id, candidate->id, false);
        }
    }
}

static void test_any_history_gives_the_same_rows(void **state) {
    const char *directory = *state;
    for (uint64_t seed = 1; seed <= 3; seed++) {
        struct rank *large = rank_fixture_open(directory, 1, 64, 0);
        struct rank *small = rank_fixture_open(directory, 1, 3, 360);
        struct rank *forgetful = rank_fixture_open(directory, 1, 16, 0);
        struct history history = {.seed = seed, .next_id = 1};
        for (int round = 0; round < ROUNDS; round++) {
            struct order_fixture *order = order_create();
            add_jobs(order);
            prune(&history, order);
            add_items(&history, order);
            Surefoot__Gathered *rows = order_run(large, order);
            order_message(order)->n_releases = 0;
            Surefoot__Gathered *others = order_run(small, order);
            assert_gathered_equal(rows, others);
            wire_free(WIRE_GATHERED, others);
            for (uint64_t job = 1; job <= N_JOBS; job++) {
                order_add_release(order, job, 0, true);
            }
            others = order_run(forgetful, order);
            assert_gathered_equal(rows, others);
            wire_free(WIRE_GATHERED, others);
            take_rows(&history, rows);
            wire_free(WIRE_GATHERED, rows);
            order_destroy(order);
        }
        rank_close(large);
        rank_close(small);
        rank_close(forgetful);
    }
}

static int setup(void **state) {
    *state = tiny_models_make();
    return 0;
}

static int teardown(void **state) {
    testkit_remove_tree(*state);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_any_history_gives_the_same_rows),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
