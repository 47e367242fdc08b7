#include "tests/worker/rank_fixture.h"

#include <stdlib.h>
#include <string.h>

#include "tests/support/testkit.h"
#include "tests/worker/tiny_models.h"

static const char *const scorer_names[FIXTURE_SCORERS] = {"reward", "reward-eos", "cost",
                                                          "foreign-cost", "foreign-reward"};
static const char *const job_scorers[] = {"reward-eos", "cost", "foreign-cost", "foreign-reward",
                                          NULL};

const struct order_job rank_fixture_jobs[2] = {
    {.id = 1,
     .prompt = "tell me about the weather",
     .max_tokens = FIXTURE_MAX_TOKENS,
     .seed = 7,
     .scorers = job_scorers},
    {.id = 2,
     .prompt = "another question, somewhat longer than that",
     .max_tokens = FIXTURE_MAX_TOKENS,
     .seed = 8,
     .scorers = job_scorers,
     .cost_eos_append = true},
};

struct rank *rank_fixture_open(const char *directory, int threads, int slots, int64_t kv_tokens) {
    struct rank_options options = {.policy_directory = tiny_model_path(directory, "policy"),
                                   .backend = "cpu",
                                   .threads = threads,
                                   .slots = slots,
                                   .kv_tokens = kv_tokens,
                                   .n_scorers = FIXTURE_SCORERS};
    for (int i = 0; i < FIXTURE_SCORERS; i++) {
        options.scorers[i].name = scorer_names[i];
        options.scorers[i].directory = tiny_model_path(directory, scorer_names[i]);
    }
    struct rank *rank = NULL;
    struct error error = {0};
    assert_ok(rank_open(&options, &rank, &error), &error);
    return rank;
}

int rank_fixture_setup(void **state) {
    struct rank_fixture *fixture = calloc(1, sizeof *fixture);
    assert_non_null(fixture);
    fixture->directory = tiny_models_make();
    fixture->rank = rank_fixture_open(fixture->directory, 1, 64, 0);
    *state = fixture;
    return 0;
}

int rank_fixture_teardown(void **state) {
    struct rank_fixture *fixture = *state;
    rank_close(fixture->rank);
    testkit_remove_tree(fixture->directory);
    free(fixture);
    return 0;
}

struct grown *grow_first(struct rank *rank, const struct order_job *job, size_t n,
                         Surefoot__Gathered **rows) {
    struct order_fixture *order = order_create();
    order_add_job(order, job);
    for (size_t i = 0; i < n; i++) {
        order_add_item(order, job->id, i + 1, 0, NULL, 0, FIXTURE_BLOCK);
    }
    *rows = order_run(rank, order);
    order_destroy(order);
    assert_int_equal((*rows)->n_rows, n);
    struct grown *grown = calloc(n, sizeof *grown);
    for (size_t i = 0; i < n; i++) {
        const Surefoot__Row *row = (*rows)->rows[i];
        grown[i].candidate_id = row->candidate_id;
        memcpy(grown[i].tokens, row->token_ids, row->n_token_ids * sizeof *row->token_ids);
        grown[i].n_tokens = row->n_token_ids;
        grown[i].finished = row->finish != SUREFOOT__FINISH__FINISH_NONE;
    }
    return grown;
}

struct order_fixture *second_order(const struct order_job *job, const struct grown *grown, size_t n,
                                   bool with_job) {
    struct order_fixture *order = order_create();
    if (with_job) {
        order_add_job(order, job);
    }
    for (size_t i = 0; i < n; i++) {
        if (grown[i].finished) {
            continue;
        }
        const uint64_t id = grown[i].candidate_id;
        order_add_item(order, job->id, 1000 + id, id, grown[i].tokens, grown[i].n_tokens,
                       FIXTURE_BLOCK);
        order_add_item(order, job->id, id, id, grown[i].tokens, grown[i].n_tokens, FIXTURE_BLOCK);
        order_add_item(order, job->id, 2000 + id, id, grown[i].tokens, grown[i].n_tokens,
                       FIXTURE_BLOCK);
    }
    return order;
}
