// Scoring inside a rank: scorers in pairs, what they read, and whose thread tells of progress.
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/testkit.h"
#include "tests/worker/rank_fixture.h"
#include "tests/worker/tiny_models.h"

// On two threads scorers work in pairs; the rows are those of one thread, and a lack of KV in the
// second of a pair leads to smaller waves as it does in the first.
static void test_scorers_side_by_side_give_the_same_rows(void **state) {
    struct rank_fixture *fixture = *state;
    enum { N = 16 };
    const int64_t kv_tokens[] = {0, 192, 224, 256, 320, 400, 480, 560, 640};
    for (int j = 0; j < 2; j++) {
        Surefoot__Gathered *first = NULL;
        struct grown *grown = grow_first(fixture->rank, &rank_fixture_jobs[j], N, &first);
        struct order_fixture *order = second_order(&rank_fixture_jobs[j], grown, N, true);
        Surefoot__Gathered *second = order_run(fixture->rank, order);
        for (size_t s = 0; s < sizeof kv_tokens / sizeof kv_tokens[0]; s++) {
            struct rank *pairs = rank_fixture_open(fixture->directory, 2, 64, kv_tokens[s]);
            Surefoot__Gathered *rows = NULL;
            free(grow_first(pairs, &rank_fixture_jobs[j], N, &rows));
            assert_gathered_equal(first, rows);
            wire_free(WIRE_GATHERED, rows);
            rows = order_run(pairs, order);
            assert_gathered_equal(second, rows);
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
    struct rank_fixture *fixture = *state;
    struct rank *pairs = rank_fixture_open(fixture->directory, 2, 64, 0);
    struct progress_log log = {.thread = pthread_self()};
    rank_set_progress(pairs, on_progress, &log);
    Surefoot__Gathered *rows = NULL;
    free(grow_first(pairs, &rank_fixture_jobs[0], 8, &rows));
    wire_free(WIRE_GATHERED, rows);
    assert_true(log.last > 0);
    rank_close(pairs);
}

// How many tokens a scorer with the policy's tokenizer reads for rows after it had read `before` of
// each response: the sampled ones, or, where the reading of a finished text differs from them, the
// reading from there on.
static int64_t count_read(const Surefoot__Gathered *rows, uint32_t before) {
    int64_t count = 0;
    for (size_t i = 0; i < rows->n_rows; i++) {
        const Surefoot__Row *row = rows->rows[i];
        size_t n_read = row->read_from + row->n_read_ids;
        size_t kept = row->read_from < before ? row->read_from : before;
        count += (int64_t)(row->has_read_from ? n_read - kept : row->n_token_ids);
    }
    return count;
}

// Over two blocks with forks, each scorer reads each token once; the prompt once.
static void test_scorers_read_each_token_once(void **state) {
    struct rank_fixture *fixture = *state;
    enum { N = 8 };
    static const char *const scorers[] = {"reward", "cost", NULL};
    struct order_job job = rank_fixture_jobs[0];
    job.scorers = scorers;
    struct rank *rank = rank_fixture_open(fixture->directory, 1, 64, 0);
    Surefoot__Gathered *rows = NULL;
    struct grown *grown = grow_first(rank, &job, N, &rows);
    uint32_t n_prompt = rows->rows[0]->prompt_tokens;
    struct rank_counts counts;
    rank_get_counts(rank, &counts);
    int64_t scorer_prompt = counts.scorers[0].prompt_tokens;
    assert_in_range(scorer_prompt, 10, 200);
    int64_t n_read = count_read(rows, 0);
    wire_free(WIRE_GATHERED, rows);
    struct order_fixture *order = second_order(&job, grown, N, false);
    rows = order_run(rank, order);
    int64_t n_second = count_read(rows, FIXTURE_BLOCK);
    n_read += n_second;
    wire_free(WIRE_GATHERED, rows);
    order_destroy(order);
    rank_get_counts(rank, &counts);
    assert_int_equal(counts.scorers[0].prompt_tokens, scorer_prompt);
    assert_true(counts.sampled_tokens > 2 * N);
    assert_true(counts.decode_steps <= 2 * FIXTURE_BLOCK);
    assert_int_equal(counts.prefill_tokens, n_prompt);
    assert_int_equal(counts.rebuilt_tokens, 0);
    assert_int_equal(counts.scorers[0].response_tokens, n_read);
    assert_int_equal(counts.scorers[2].response_tokens, n_read);
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
    assert_int_equal(counts.scorers[0].response_tokens, n_read + n_second + given);
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
    return cmocka_run_group_tests(tests, rank_fixture_setup, rank_fixture_teardown);
}
