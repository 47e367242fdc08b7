// Scoring inside a rank: scorers in pairs, what they read, and whose thread tells of progress.
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/testkit.h"
#include "tests/worker/order_fixture.h"
#include "tests/worker/tiny_models.h"

static const char *const all_scorers[] = {"reward-eos", "cost", "foreign-cost", "foreign-reward",
                                          NULL};
static const char *const scorer_names[] = {"reward", "reward-eos", "cost", "foreign-cost",
                                           "foreign-reward"};
enum { N_SCORERS = sizeof scorer_names / sizeof scorer_names[0], BLOCK = 12, MAX_TOKENS = 48 };

struct world {
    char *directory;
    struct rank *rank; // one thread, ample memory
};

static struct rank *open_rank(const char *directory, int64_t kv_tokens, int threads) {
    struct rank_options options = {.policy_directory = tiny_model_path(directory, "policy"),
                                   .backend = "cpu",
                                   .threads = threads,
                                   .slots = 64,
                                   .kv_tokens = kv_tokens};
    for (int i = 0; i < N_SCORERS; i++) {
        options.scorers[i].name = scorer_names[i];
        options.scorers[i].directory = tiny_model_path(directory, scorer_names[i]);
    }
    options.n_scorers = N_SCORERS;
    struct rank *rank = NULL;
    struct error error = {0};
    assert_ok(rank_open(&options, &rank, &error), &error);
    return rank;
}

static int setup(void **state) {
    struct world *world = calloc(1, sizeof *world);
    world->directory = tiny_models_make();
    world->rank = open_rank(world->directory, 0, 1);
    *state = world;
    return 0;
}

static int teardown(void **state) {
    struct world *world = *state;
    rank_close(world->rank);
    testkit_remove_tree(world->directory);
    free(world);
    return 0;
}

static const struct order_job job_one = {.id = 1,
                                         .prompt = "tell me about the weather",
                                         .max_tokens = MAX_TOKENS,
                                         .seed = 7,
                                         .scorers = all_scorers};
static const struct order_job job_two = {.id = 2,
                                         .prompt = "another question, somewhat longer than that",
                                         .max_tokens = MAX_TOKENS,
                                         .seed = 8,
                                         .scorers = all_scorers,
                                         .cost_eos_append = true};

// Everything that a test has grown: the tokens of each candidate so far.
struct grown {
    uint64_t candidate_id;
    uint32_t tokens[MAX_TOKENS];
    size_t n_tokens;
    bool finished;
};

static struct grown *grow_first(struct rank *rank, const struct order_job *job, size_t n,
                                Surefoot__Gathered **rows) {
    struct order_fixture *order = order_create();
    order_add_job(order, job);
    for (size_t i = 0; i < n; i++) {
        order_add_item(order, job->id, i + 1, 0, NULL, 0, BLOCK);
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

// A second block: children with new ids from every unfinished candidate, which also goes on itself.
static struct order_fixture *second_order(const struct order_job *job, const struct grown *grown,
                                          size_t n, bool with_job) {
    struct order_fixture *order = order_create();
    if (with_job) {
        order_add_job(order, job);
    }
    for (size_t i = 0; i < n; i++) {
        if (grown[i].finished) {
            continue;
        }
        const uint64_t id = grown[i].candidate_id;
        order_add_item(order, job->id, 1000 + id, id, grown[i].tokens, grown[i].n_tokens, BLOCK);
        order_add_item(order, job->id, id, id, grown[i].tokens, grown[i].n_tokens, BLOCK);
        order_add_item(order, job->id, 2000 + id, id, grown[i].tokens, grown[i].n_tokens, BLOCK);
    }
    return order;
}

static void assert_all_rows_equal(const Surefoot__Gathered *a, const Surefoot__Gathered *b) {
    assert_int_equal(a->n_rows, b->n_rows);
    for (size_t i = 0; i < a->n_rows; i++) {
        assert_rows_equal(a->rows[i], b->rows[i]);
    }
}

// On two threads scorers work in pairs; the rows are those of one thread, and a lack of KV in the
// second of a pair leads to smaller waves as it does in the first.
static void test_scorers_side_by_side_give_the_same_rows(void **state) {
    struct world *world = *state;
    enum { N = 16 };
    const struct order_job *jobs[] = {&job_one, &job_two};
    const int64_t kv_tokens[] = {0, 192, 224, 256, 320, 400, 480, 560, 640};
    for (int j = 0; j < 2; j++) {
        Surefoot__Gathered *first = NULL;
        struct grown *grown = grow_first(world->rank, jobs[j], N, &first);
        struct order_fixture *order = second_order(jobs[j], grown, N, true);
        Surefoot__Gathered *second = order_run(world->rank, order);
        for (size_t s = 0; s < sizeof kv_tokens / sizeof kv_tokens[0]; s++) {
            struct rank *pairs = open_rank(world->directory, kv_tokens[s], 2);
            Surefoot__Gathered *rows = NULL;
            free(grow_first(pairs, jobs[j], N, &rows));
            assert_all_rows_equal(first, rows);
            wire_free(WIRE_GATHERED, rows);
            rows = order_run(pairs, order);
            assert_all_rows_equal(second, rows);
            wire_free(WIRE_GATHERED, rows);
            struct rank_counts counts;
            rank_get_counts(pairs, &counts);
            assert_true(counts.paired_runs > 0);
            rank_close(pairs);
        }
        order_destroy(order);
        free(grown);
        wire_free(WIRE_GATHERED, first);
        wire_free(WIRE_GATHERED, second);
    }
}

struct progress_log {
    pthread_t thread;
    uint64_t last;
};

static void on_progress(void *context, uint64_t progress) {
    struct progress_log *log = context;
    assert_true(pthread_equal(log->thread, pthread_self()));
    assert_true(progress > log->last);
    log->last = progress;
}

static void test_progress_of_a_pair_is_told_on_the_callers_thread(void **state) {
    struct world *world = *state;
    struct rank *pairs = open_rank(world->directory, 0, 2);
    struct progress_log log = {.thread = pthread_self()};
    rank_set_progress(pairs, on_progress, &log);
    Surefoot__Gathered *rows = NULL;
    free(grow_first(pairs, &job_one, 8, &rows));
    wire_free(WIRE_GATHERED, rows);
    assert_true(log.last > 0);
    rank_close(pairs);
}

// Over two blocks with forks, each scorer reads each sampled token once; the prompt once.
static void test_scorers_read_each_token_once(void **state) {
    struct world *world = *state;
    enum { N = 8 };
    static const char *const scorers[] = {"reward", "cost", NULL};
    struct order_job job = job_one;
    job.scorers = scorers;
    struct rank *rank = open_rank(world->directory, 0, 1);
    Surefoot__Gathered *rows = NULL;
    struct grown *grown = grow_first(rank, &job, N, &rows);
    uint32_t n_prompt = rows->rows[0]->prompt_tokens;
    struct rank_counts counts;
    rank_get_counts(rank, &counts);
    int64_t scorer_prompt = counts.scorers[0].prompt_tokens;
    assert_in_range(scorer_prompt, 10, 200);
    wire_free(WIRE_GATHERED, rows);
    struct order_fixture *order = second_order(&job, grown, N, false);
    wire_free(WIRE_GATHERED, order_run(rank, order));
    order_destroy(order);
    rank_get_counts(rank, &counts);
    assert_int_equal(counts.scorers[0].prompt_tokens, scorer_prompt);
    assert_true(counts.sampled_tokens > 2 * N);
    assert_true(counts.decode_steps <= 2 * BLOCK);
    assert_int_equal(counts.prefill_tokens, n_prompt);
    assert_int_equal(counts.rebuilt_tokens, 0);
    assert_int_equal(counts.scorers[0].response_tokens, counts.sampled_tokens);
    assert_int_equal(counts.scorers[2].response_tokens, counts.sampled_tokens);
    assert_int_equal(counts.scorers[1].response_tokens, 0);
    assert_int_equal(counts.paired_runs, 0);

    // What was given up is read again, and counted as such.
    order = second_order(&job, grown, N, true);
    order_add_release(order, job.id, 0, true);
    wire_free(WIRE_GATHERED, order_run(rank, order));
    order_destroy(order);
    int64_t given = 0;
    for (size_t i = 0; i < N; i++) {
        given += grown[i].finished ? 0 : (int64_t)grown[i].n_tokens;
    }
    rank_get_counts(rank, &counts);
    assert_int_equal(counts.rebuilt_tokens, given);
    assert_int_equal(counts.prefill_tokens, 2 * n_prompt + given);
    assert_int_equal(counts.scorers[0].response_tokens, counts.sampled_tokens + given);
    assert_int_equal(counts.scorers[0].prompt_tokens, 2 * scorer_prompt);
    free(grown);
    rank_close(rank);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scorers_side_by_side_give_the_same_rows),
        cmocka_unit_test(test_progress_of_a_pair_is_told_on_the_callers_thread),
        cmocka_unit_test(test_scorers_read_each_token_once),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
