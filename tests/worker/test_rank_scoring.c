// Scoring inside a rank: scorers in pairs, what they read, and whose thread tells of progress.
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/testkit.h"
#include "tests/worker/rank_fixture.h"
#include "tests/worker/tiny_models.h"

static uint32_t order_scorers(const struct order_job *job) {
    uint32_t n = 0;
    while (job->scorers[n] != NULL) {
        n++;
    }
    return n;
}

// The same score of each scorer at the end, and of costs at each of the last tokens that both have.
static void assert_same_verdicts(const Surefoot__Row *later, const Surefoot__Row *whole) {
    assert_null(later->error);
    assert_int_equal(later->n_token_ids, 0);
    assert_int_equal(later->finish, SUREFOOT__FINISH__FINISH_NONE);
    assert_true(later->n_scores > 0);
    for (size_t i = 0; i < later->n_scores; i++) {
        const Surefoot__RowScore *a = later->scores[i], *b = NULL;
        for (size_t k = 0; k < whole->n_scores && b == NULL; k++) {
            b = whole->scores[k]->scorer_index == a->scorer_index ? whole->scores[k] : NULL;
        }
        assert_non_null(b);
        assert_memory_equal(&a->end_score, &b->end_score, sizeof a->end_score);
        assert_memory_equal(&a->prompt_score, &b->prompt_score, sizeof a->prompt_score);
        assert_int_equal(a->scores_from + a->n_token_scores, b->scores_from + b->n_token_scores);
        size_t n = a->n_token_scores < b->n_token_scores ? a->n_token_scores : b->n_token_scores;
        assert_true(n > 0 || b->n_token_scores == 0);
        if (n > 0) {
            assert_memory_equal(a->token_scores + a->n_token_scores - n,
                                b->token_scores + b->n_token_scores - n, n * sizeof(float));
        }
    }
}

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

// Candidates that no scorer read with their block get the same scores later, by scorers that read
// each token once, where they are held and where their texts are read again.
static void test_what_was_left_out_is_scored_later(void **state) {
    struct rank_fixture *fixture = *state;
    enum { N = 8 };
    for (int j = 0; j < 2; j++) {
        const struct order_job *job = &rank_fixture_jobs[j];
        Surefoot__Gathered *first = NULL, *wanted, *grown_rows, *scored, *rebuilt;
        struct grown *grown = grow_first(fixture->rank, job, N, &first);
        struct order_fixture *order = second_order(job, grown, N, false);
        wanted = order_run(fixture->rank, order);
        order_destroy(order);

        struct rank *rank = rank_fixture_open(fixture->directory, 1, 64, 0);
        wire_free(WIRE_GATHERED, first);
        free(grow_first(rank, job, N, &first));
        order = second_order(job, grown, N, false);
        Surefoot__Order *message = order_message(order);
        const uint32_t all = (1U << order_scorers(job)) - 1;
        for (size_t i = 0; i < message->n_items; i++) {
            message->items[i]->has_unread_by = true;
            message->items[i]->unread_by = i % 2 == 0 ? all : 1;
        }
        grown_rows = order_run(rank, order);
        struct order_fixture *later = order_create(), *again = order_create();
        order_add_job(again, job);
        order_add_release(again, job->id, 0, true);
        size_t n_later = 0;
        for (size_t i = 0; i < message->n_items; i++) {
            const Surefoot__OrderItem *item = message->items[i];
            const Surefoot__Row *row = order_find_row(grown_rows, job->id, item->candidate_id);
            const Surefoot__Row *whole = order_find_row(wanted, job->id, item->candidate_id);
            if (row->finish != SUREFOOT__FINISH__FINISH_NONE) {
                assert_rows_equal(row, whole);
                continue;
            }
            assert_int_equal(row->n_scores, whole->n_scores - (i % 2 == 0 ? whole->n_scores : 1));
            uint32_t tokens[2 * FIXTURE_BLOCK];
            memcpy(tokens, item->tokens, item->n_tokens * sizeof *tokens);
            memcpy(tokens + item->n_tokens, row->token_ids, row->n_token_ids * sizeof *tokens);
            for (int k = 0; k < 2; k++) {
                Surefoot__OrderItem *left = order_add_item(
                    k == 0 ? later : again, job->id, item->candidate_id, item->candidate_id, tokens,
                    item->n_tokens + row->n_token_ids, 0);
                left->has_unread_by = true;
                left->unread_by = all & ~item->unread_by;
            }
            n_later++;
        }
        assert_true(n_later > 2);
        scored = order_run(rank, later);
        assert_int_equal(scored->rebuilt_tokens, 0);
        assert_int_equal(scored->n_scored_jobs, 1);
        assert_int_equal(scored->scored_jobs[0], job->id);
        rebuilt = order_run(rank, again);
        assert_true(rebuilt->rebuilt_tokens > 0);
        assert_true(rebuilt->scored_job_tokens[0] > scored->scored_job_tokens[0]);
        for (size_t i = 0; i < scored->n_rows; i++) {
            const uint64_t id = scored->rows[i]->candidate_id;
            const Surefoot__Row *whole = order_find_row(wanted, job->id, id);
            assert_same_verdicts(scored->rows[i], whole);
            assert_same_verdicts(order_find_row(rebuilt, job->id, id), whole);
        }
        order_destroy(order);
        order_destroy(later);
        order_destroy(again);
        wire_free(WIRE_GATHERED, first);
        wire_free(WIRE_GATHERED, wanted);
        wire_free(WIRE_GATHERED, grown_rows);
        wire_free(WIRE_GATHERED, scored);
        wire_free(WIRE_GATHERED, rebuilt);
        free(grown);
        rank_close(rank);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_was_left_out_is_scored_later),
        cmocka_unit_test(test_scorers_side_by_side_give_the_same_rows),
        cmocka_unit_test(test_progress_of_a_pair_is_told_on_the_callers_thread),
        cmocka_unit_test(test_scorers_read_each_token_once),
    };
    return cmocka_run_group_tests(tests, rank_fixture_setup, rank_fixture_teardown);
}
