// What a rank refuses: orders with faulty jobs or items, candidates too large, models that do not
// fit together. A fault of one job or item touches no other.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/model/model_files.h"
#include "tests/support/testkit.h"
#include "tests/worker/rank_fixture.h"
#include "tests/worker/tiny_models.h"

static void test_items_of_other_ranks_and_unknown_jobs_are_left_out(void **state) {
    struct rank_fixture *fixture = *state;
    struct order_fixture *order = order_create();
    struct order_job job = rank_fixture_jobs[0];
    job.id = 41;
    order_add_job(order, &job);
    order_add_item(order, 41, 1, 0, NULL, 0, 2);
    order_add_item(order, 41, 2, 0, NULL, 0, 2);
    order_add_item(order, 999, 1, 0, NULL, 0, 2);
    order_add_item(order, 999, 2, 0, NULL, 0, 2);
    uint32_t ranks[] = {1, 0, 0, 0};
    order_message(order)->ranks = ranks;
    order_message(order)->n_ranks = 4;
    Surefoot__Gathered *rows = order_run(fixture->rank, order);
    assert_int_equal(rows->n_rows, 1);
    assert_int_equal(rows->rows[0]->candidate_id, 2);
    assert_int_equal(rows->n_unknown_jobs, 1);
    assert_int_equal(rows->unknown_jobs[0], 999);
    wire_free(WIRE_GATHERED, rows);
    order_message(order)->n_ranks = 3;
    struct error error = {0};
    assert_status(STATUS_MALFORMED,
                  rank_execute(fixture->rank, order_message(order), 0, &rows, &error));
    order_message(order)->ranks = NULL;
    order_message(order)->n_ranks = 0;
    order_destroy(order);
}

// One faulty job or item in an order beside a good one: it alone gets the error.
static void assert_item_fails(struct rank *rank, struct order_fixture *order, uint64_t job_id,
                              enum status status, const char *field) {
    struct order_job good = rank_fixture_jobs[0];
    good.id = 500;
    order_add_job(order, &good);
    order_add_item(order, 500, 1, 0, NULL, 0, 2);
    Surefoot__Gathered *rows = order_run(rank, order);
    const Surefoot__Row *row = order_find_row(rows, job_id, 1);
    assert_non_null(row->error);
    assert_int_equal(row->error->status, status);
    assert_string_equal(row->error->field, field);
    assert_true(strlen(row->error->message) > 0);
    assert_int_equal(row->n_token_ids, 0);
    assert_null(order_find_row(rows, 500, 1)->error);
    order_destroy(order);
    wire_free(WIRE_GATHERED, rows);
}

static void test_faulty_jobs_are_named(void **state) {
    struct rank_fixture *fixture = *state;
    static const char *const unknown[] = {"nobody", NULL};
    static const char *const lexical[] = {"lexical", NULL};
    Surefoot__Sampling hot = SUREFOOT__SAMPLING__INIT;
    hot.has_temperature = true;
    hot.temperature = NAN;
    char long_prompt[400];
    memset(long_prompt, 'x', sizeof long_prompt - 1);
    long_prompt[sizeof long_prompt - 1] = '\0';
    const struct {
        struct order_job job;
        enum status status;
        const char *field;
    } cases[] = {
        {{.prompt = "", .max_tokens = 8}, STATUS_INVALID_ARGUMENT, "prompt"},
        {{.prompt = long_prompt, .max_tokens = 8}, STATUS_LIMIT, "prompt"},
        {{.prompt = "a", .max_tokens = 0}, STATUS_LIMIT, "max_tokens"},
        {{.prompt = "a", .max_tokens = TINY_CONTEXT}, STATUS_LIMIT, "prompt"},
        {{.prompt = "a", .max_tokens = 8, .scorers = unknown}, STATUS_NOT_FOUND, "scorers[0].name"},
        {{.prompt = "a", .max_tokens = 8, .scorers = lexical},
         STATUS_INVALID_ARGUMENT,
         "scorers[0].role"},
        {{.prompt = "a", .max_tokens = 8, .sampling = &hot},
         STATUS_INVALID_ARGUMENT,
         "sampling.temperature"},
        {{.prompt = "\xff", .max_tokens = 8}, STATUS_INVALID_ARGUMENT, "prompt"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct order_job job = cases[i].job;
        job.id = 600 + i;
        struct order_fixture *order = order_create();
        order_add_job(order, &job);
        order_add_item(order, job.id, 1, 0, NULL, 0, 2);
        assert_item_fails(fixture->rank, order, job.id, cases[i].status, cases[i].field);
    }
    struct order_fixture *order = order_create();
    struct order_job job = {.id = 650, .prompt = "a", .max_tokens = 8};
    order_add_job(order, &job)->chat_template = (char *)"unheard-of";
    order_add_item(order, 650, 1, 0, NULL, 0, 2);
    assert_item_fails(fixture->rank, order, 650, STATUS_INVALID_ARGUMENT, "chat_template");
}

static void test_faulty_items_are_named(void **state) {
    struct rank_fixture *fixture = *state;
    struct order_job job = rank_fixture_jobs[0];
    job.id = 700;
    const uint32_t outside[] = {5, TINY_VOCAB};
    const uint32_t ended[] = {5, TINY_EOS};
    uint32_t many[FIXTURE_MAX_TOKENS] = {0};
    const struct {
        const uint32_t *tokens;
        size_t n_tokens;
        uint32_t grow, penalty;
        enum status status;
        const char *field;
    } cases[] = {
        {NULL, 0, 0, 0, STATUS_INVALID_ARGUMENT, "grow_tokens"},
        {outside, 1, 0, 0, STATUS_INVALID_ARGUMENT, "grow_tokens"}, // another's
        {NULL, 0, 1u << 20, 0, STATUS_LIMIT, "grow_tokens"},
        {outside, 2, 2, 0, STATUS_INVALID_ARGUMENT, "tokens"},
        {ended, 2, 2, 0, STATUS_INVALID_ARGUMENT, "tokens"},
        {many, FIXTURE_MAX_TOKENS, 2, 0, STATUS_LIMIT, "tokens"},
        {NULL, 0, 2, 3, STATUS_INVALID_ARGUMENT, "penalty_index"},
        {NULL, 0, 2, 1, STATUS_INVALID_ARGUMENT, "penalties"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct order_fixture *order = order_create();
        uint32_t ids[] = {TINY_VOCAB};
        float values[] = {1};
        order_add_penalty(order, ids, values, 1);
        order_add_job(order, &job);
        order_add_item(order, 700, 1, 0, cases[i].tokens, cases[i].n_tokens, cases[i].grow)
            ->penalty_index = cases[i].penalty;
        assert_item_fails(fixture->rank, order, 700, cases[i].status, cases[i].field);
    }
}

static void test_candidate_too_large_for_the_kv_fails_alone(void **state) {
    struct rank_fixture *fixture = *state;
    struct rank *small = rank_fixture_open(fixture->directory, 1, 4, 96);
    struct order_fixture *order = order_create();
    struct order_job job = {.id = 1, .prompt = "aaaa bbbb cccc", .max_tokens = 150};
    order_add_job(order, &job);
    order_add_item(order, 1, 1, 0, NULL, 0, 150);
    order_add_item(order, 1, 2, 0, NULL, 0, 4);
    Surefoot__Gathered *rows = order_run(small, order);
    const Surefoot__Row *large = order_find_row(rows, 1, 1);
    // An early end token may have saved it.
    if (large->error != NULL) {
        assert_int_equal(large->error->status, STATUS_LIMIT);
        assert_string_equal(large->error->field, "kv_tokens");
    } else {
        assert_true(large->n_token_ids < 96);
    }
    assert_null(order_find_row(rows, 1, 2)->error);
    order_destroy(order);
    wire_free(WIRE_GATHERED, rows);
    rank_close(small);
}

// Two jobs in one order on a rank whose model `name` overflows behind a '%'.
static void check_overflow(const char *name, const char *field) {
    static const char *const scorers[] = {"reward-eos", "cost", "foreign-cost", NULL};
    const Surefoot__Sampling greedy = {
        .base = PROTOBUF_C_MESSAGE_INIT(&surefoot__sampling__descriptor), .has_temperature = true};
    char *directory = tiny_models_make();
    model_files_overflow_after(tiny_model_path(directory, name), TINY_VOCAB, 32, '%');
    struct rank *rank = rank_fixture_open(directory, 1, 16, 0);
    struct order_job good = {
        .id = 1, .prompt = "tell me", .max_tokens = 30, .scorers = scorers, .sampling = &greedy};
    struct order_job bad = good;
    bad.id = 2;
    bad.prompt = "9 % of them";
    Surefoot__Gathered *rows[2];
    for (int turn = 0; turn < 2; turn++) { // alone, then behind and beside what overflows
        struct order_fixture *order = order_create();
        if (turn == 1) {
            order_add_job(order, &bad);
            order_add_item(order, 2, 1, 0, NULL, 0, 6);
        }
        order_add_job(order, &good);
        order_add_item(order, 1, (uint64_t)turn + 1, 0, NULL, 0, 6);
        rows[turn] = order_run(rank, order);
        order_destroy(order);
    }
    const Surefoot__Row *row = order_find_row(rows[1], 2, 1);
    assert_non_null(row->error);
    assert_status(STATUS_DEVICE, row->error->status);
    assert_string_equal(row->error->field, field);
    assert_non_null(strstr(row->error->message, "NaN or infinite"));
    assert_int_equal(row->n_token_ids, 0);
    assert_null(order_find_row(rows[1], 1, 2)->error);
    rows[0]->rows[0]->candidate_id = 2;
    assert_rows_equal(order_find_row(rows[0], 1, 2), order_find_row(rows[1], 1, 2));
    wire_free(WIRE_GATHERED, rows[0]);
    wire_free(WIRE_GATHERED, rows[1]);
    rank_close(rank);
    testkit_remove_tree(directory);
}

static void test_numbers_that_overflow_fail_their_job_alone(void **state) {
    (void)state;
    check_overflow("policy", "policy");
    check_overflow("reward-eos", "scorers[0]");
    check_overflow("cost", "scorers[1]");
    check_overflow("foreign-cost", "scorers[2]");
}

static void test_more_jobs_than_the_table_holds_are_asked_for_again(void **state) {
    struct rank_fixture *fixture = *state;
    struct rank *small = rank_fixture_open(fixture->directory, 1, 1, 0);
    enum { N = 200 };
    for (uint64_t id = 1; id <= N; id++) {
        struct order_fixture *order = order_create();
        struct order_job job = {.id = id, .prompt = "a", .max_tokens = 8, .seed = id};
        order_add_job(order, &job);
        order_add_item(order, id, 1, 0, NULL, 0, 1);
        Surefoot__Gathered *rows = order_run(small, order);
        assert_int_equal(rows->n_rows, 1);
        assert_null(rows->rows[0]->error);
        order_destroy(order);
        wire_free(WIRE_GATHERED, rows);
    }
    struct order_fixture *order = order_create();
    order_add_item(order, 1, 2, 0, NULL, 0, 1);
    order_add_item(order, N, 2, 0, NULL, 0, 1);
    Surefoot__Gathered *rows = order_run(small, order);
    assert_int_equal(rows->n_rows, 1);
    assert_int_equal(rows->n_unknown_jobs, 1);
    assert_int_equal(rows->unknown_jobs[0], 1);
    order_destroy(order);
    wire_free(WIRE_GATHERED, rows);
    rank_close(small);
}

static void test_open_refuses_what_does_not_fit_together(void **state) {
    struct rank_fixture *fixture = *state;
    struct rank_options options = {.policy_directory =
                                       tiny_model_path(fixture->directory, "reward"),
                                   .backend = "cpu",
                                   .threads = 1};
    struct rank *rank = NULL;
    struct error error = {0};
    assert_status(STATUS_UNSUPPORTED, rank_open(&options, &rank, &error));
    assert_string_equal(error.field, "policy.architectures");
    options.policy_directory = tiny_model_path(fixture->directory, "policy");
    options.n_scorers = 1;
    options.scorers[0] = (struct rank_scorer_options){
        .name = "judge", .directory = tiny_model_path(fixture->directory, "policy")};
    assert_status(STATUS_UNSUPPORTED, rank_open(&options, &rank, &error));
    assert_string_equal(error.field, "judge.architectures");
    options.n_scorers = 0;
    options.context_tokens = TINY_CONTEXT + 1;
    assert_status(STATUS_LIMIT, rank_open(&options, &rank, &error));
    assert_string_equal(error.field, "context_tokens");
    options.context_tokens = 0;
    options.threads = 0;
    assert_status(STATUS_LIMIT, rank_open(&options, &rank, &error));
    assert_string_equal(error.field, "threads");
    assert_null(rank);
}

// With no context asked for, a longrope model gets that of its short factors, in which every text
// has the result that transformers gives it.
static void test_longrope_models_get_the_context_of_their_short_factors(void **state) {
    (void)state;
    char *directory = tiny_models_make();
    static const char longrope[] =
        "{\"rope_scaling\": {\"rope_type\": \"longrope\", \"short_factor\": [1, 1, 1, 1],"
        " \"long_factor\": [2, 2, 2, 2], \"original_max_position_embeddings\": 64}}";
    model_files_change_json(tiny_model_path(directory, "policy"), "config.json", longrope);
    struct rank_options options = {
        .policy_directory = tiny_model_path(directory, "policy"), .backend = "cpu", .threads = 1};
    static const int asked[] = {0, 64, 200}, given[] = {64, 64, 200};
    for (int i = 0; i < 3; i++) {
        struct rank *rank = NULL;
        struct error error = {0};
        Surefoot__GroupHello hello = SUREFOOT__GROUP_HELLO__INIT;
        options.context_tokens = asked[i];
        assert_ok(rank_open(&options, &rank, &error), &error);
        rank_describe(rank, &hello);
        assert_int_equal(hello.policy->context_length, given[i]);
        rank_close(rank);
    }
    testkit_remove_tree(directory);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_items_of_other_ranks_and_unknown_jobs_are_left_out),
        cmocka_unit_test(test_faulty_jobs_are_named),
        cmocka_unit_test(test_faulty_items_are_named),
        cmocka_unit_test(test_candidate_too_large_for_the_kv_fails_alone),
        cmocka_unit_test(test_numbers_that_overflow_fail_their_job_alone),
        cmocka_unit_test(test_more_jobs_than_the_table_holds_are_asked_for_again),
        cmocka_unit_test(test_open_refuses_what_does_not_fit_together),
        cmocka_unit_test(test_longrope_models_get_the_context_of_their_short_factors),
    };
    return cmocka_run_group_tests(tests, rank_fixture_setup, rank_fixture_teardown);
}
