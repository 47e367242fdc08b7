#include "tests/support/testkit.h"

#include <math.h>

#include "proto/limits.h"
#include "worker/group/order_check.h"

static const struct order_limits limits = {.slots = 4, .vocab_size = 100, .block_tokens_max = 16};

// A good order with one of everything; each case spoils one thing.
struct test_order {
    Surefoot__Order order;
    Surefoot__GroupJob job;
    Surefoot__GroupJob *jobs[1];
    Surefoot__OrderItem items[8];
    Surefoot__OrderItem *item_pointers[8];
    Surefoot__TokenPenalty penalty;
    Surefoot__TokenPenalty *penalties[1];
    uint32_t tokens[2];
    uint32_t penalty_ids[2];
    float penalty_values[2];
};

static void make_order(struct test_order *test) {
    surefoot__order__init(&test->order);
    test->order.has_order_id = true;
    surefoot__group_job__init(&test->job);
    test->jobs[0] = &test->job;
    test->order.jobs = test->jobs;
    test->order.n_jobs = 1;
    test->tokens[0] = 0;
    test->tokens[1] = 99;
    for (size_t i = 0; i < 8; i++) {
        surefoot__order_item__init(&test->items[i]);
        test->items[i].job_id = 1;
        test->items[i].candidate_id = i + 1;
        test->items[i].grow_tokens = 16;
        test->items[i].tokens = test->tokens;
        test->items[i].n_tokens = 2;
        test->item_pointers[i] = &test->items[i];
    }
    test->items[1].penalty_index = 1;
    test->order.items = test->item_pointers;
    test->order.n_items = 4;
    surefoot__token_penalty__init(&test->penalty);
    test->penalty_ids[0] = 5;
    test->penalty_ids[1] = 99;
    test->penalty_values[0] = 1.5f;
    test->penalty_values[1] = 0;
    test->penalty.token_ids = test->penalty_ids;
    test->penalty.penalties = test->penalty_values;
    test->penalty.n_token_ids = test->penalty.n_penalties = 2;
    test->penalties[0] = &test->penalty;
    test->order.penalties = test->penalties;
    test->order.n_penalties = 1;
}

static void expect(const struct test_order *test, enum status status, const char *field) {
    struct error err = {.status = STATUS_OK};
    assert_status(status, order_check(&test->order, &limits, &err));
    assert_string_equal(err.field, field);
}

static void test_order_at_every_limit_passes(void **state) {
    (void)state;
    struct test_order test;
    make_order(&test);
    expect(&test, STATUS_OK, "");
}

static void test_counts_above_the_limits_are_named(void **state) {
    (void)state;
    struct test_order test;
    make_order(&test);
    test.order.n_items = 5;
    expect(&test, STATUS_LIMIT, "order.items");
    make_order(&test);
    test.job.n_scorers = LIMIT_SCORERS + 1;
    expect(&test, STATUS_LIMIT, "order.jobs[0].scorers");
    make_order(&test);
    test.job.n_messages = LIMIT_MESSAGES + 1;
    expect(&test, STATUS_LIMIT, "order.jobs[0].messages");
    make_order(&test);
    test.items[3].n_tokens = LIMIT_MAX_TOKENS + 1;
    expect(&test, STATUS_LIMIT, "order.items[3].tokens");
}

static void test_numbers_of_items_are_checked(void **state) {
    (void)state;
    struct test_order test;
    make_order(&test);
    test.items[0].grow_tokens = 0; // there is nothing to score
    test.items[0].parent_id = test.items[0].candidate_id;
    test.items[0].n_tokens = 0;
    expect(&test, STATUS_INVALID_ARGUMENT, "order.items[0].grow_tokens");
    make_order(&test);
    test.items[0].unread_by = 1U << LIMIT_SCORERS;
    expect(&test, STATUS_LIMIT, "order.items[0].unread_by");
    make_order(&test);
    test.items[0].grow_tokens = 17;
    expect(&test, STATUS_LIMIT, "order.items[0].grow_tokens");
    make_order(&test);
    test.items[2].candidate_id = 0;
    expect(&test, STATUS_LIMIT, "order.items[2].candidate_id");
    make_order(&test);
    test.items[1].penalty_index = 2;
    expect(&test, STATUS_LIMIT, "order.items[1].penalty_index");
    make_order(&test);
    test.tokens[1] = 100;
    expect(&test, STATUS_INVALID_ARGUMENT, "order.items[0].tokens");
    make_order(&test);
    test.items[1].token_rank = 101; // of 100 tokens
    expect(&test, STATUS_LIMIT, "order.items[1].token_rank");
    make_order(&test);
    test.items[1].has_temperature = true;
    for (size_t i = 0; i < 3; i++) {
        static const float temperatures[] = {0, NAN, 101};
        test.items[1].temperature = temperatures[i];
        expect(&test, STATUS_INVALID_ARGUMENT, "order.items[1].temperature");
    }
    make_order(&test);
    test.items[1].entropy_stop = -1;
    expect(&test, STATUS_INVALID_ARGUMENT, "order.items[1].entropy_stop");
    test.items[1].entropy_stop = NAN;
    expect(&test, STATUS_INVALID_ARGUMENT, "order.items[1].entropy_stop");
    test.items[1].entropy_stop = INFINITY;
    expect(&test, STATUS_INVALID_ARGUMENT, "order.items[1].entropy_stop");
    test.items[1].entropy_stop = 3;
    expect(&test, STATUS_LIMIT, "order.items[1].entropy_after");
    test.items[1].entropy_after = 17;
    expect(&test, STATUS_LIMIT, "order.items[1].entropy_after");
}

static void test_candidate_must_not_be_there_twice(void **state) {
    (void)state;
    struct test_order test;
    make_order(&test);
    test.items[3].candidate_id = test.items[0].candidate_id;
    expect(&test, STATUS_INVALID_ARGUMENT, "order.items");
    test.items[3].job_id = 2; // another job's candidate of that number
    expect(&test, STATUS_OK, "");
}

static void test_penalties_are_checked(void **state) {
    (void)state;
    struct test_order test;
    make_order(&test);
    test.penalty.n_penalties = 1;
    expect(&test, STATUS_INVALID_ARGUMENT, "order.penalties[0].penalties");
    make_order(&test);
    test.penalty_ids[0] = 100;
    expect(&test, STATUS_INVALID_ARGUMENT, "order.penalties[0].token_ids");
    make_order(&test);
    test.penalty_values[1] = NAN;
    expect(&test, STATUS_INVALID_ARGUMENT, "order.penalties[0].penalties");
}

static void test_what_only_a_leader_sets_is_refused(void **state) {
    (void)state;
    struct test_order test;
    make_order(&test);
    uint32_t ranks[4] = {0};
    test.order.ranks = ranks;
    test.order.n_ranks = 4;
    expect(&test, STATUS_INVALID_ARGUMENT, "order.ranks");
    make_order(&test);
    test.order.has_shutdown = test.order.shutdown = true;
    expect(&test, STATUS_INVALID_ARGUMENT, "order.shutdown");
    make_order(&test);
    test.order.has_order_id = false;
    expect(&test, STATUS_INVALID_ARGUMENT, "order.order_id");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order_at_every_limit_passes),
        cmocka_unit_test(test_counts_above_the_limits_are_named),
        cmocka_unit_test(test_numbers_of_items_are_checked),
        cmocka_unit_test(test_candidate_must_not_be_there_twice),
        cmocka_unit_test(test_penalties_are_checked),
        cmocka_unit_test(test_what_only_a_leader_sets_is_refused),
    };
    return cmocka_run_group_tests_name("order_check", tests, NULL, NULL);
}
