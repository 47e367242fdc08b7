// Leader and followers against a coordinator played by the test.
#include "tests/worker/group_fixture.h"

#include <string.h>
#include <unistd.h>

enum { BEAT_MS = 20, NEVER_MS = 600000, ITEMS_MAX = 64 };

// An order of `n` candidates, odd ones of job 1 and even ones of job 2, both described.
struct test_order {
    Surefoot__Order order;
    Surefoot__GroupJob jobs[2];
    Surefoot__GroupJob *job_pointers[2];
    Surefoot__OrderItem items[ITEMS_MAX];
    Surefoot__OrderItem *item_pointers[ITEMS_MAX];
};

static void make_order(struct test_order *test, uint64_t order_id, size_t n) {
    surefoot__order__init(&test->order);
    test->order.has_order_id = true;
    test->order.order_id = order_id;
    test->order.n_jobs = 2;
    test->order.jobs = test->job_pointers;
    for (int i = 0; i < 2; i++) {
        surefoot__group_job__init(&test->jobs[i]);
        test->jobs[i].date = (char *)"2026-11-28";
        test->jobs[i].has_job_id = true;
        test->jobs[i].job_id = (uint64_t)i + 1;
        test->job_pointers[i] = &test->jobs[i];
    }
    test->order.n_items = n;
    test->order.items = test->item_pointers;
    for (size_t i = 0; i < n; i++) {
        Surefoot__OrderItem *item = &test->items[i];
        surefoot__order_item__init(item);
        item->has_job_id = item->has_candidate_id = item->has_grow_tokens = true;
        item->job_id = 2 - (i + 1) % 2;
        item->candidate_id = 100 - i;
        item->grow_tokens = 16;
        test->item_pointers[i] = item;
    }
}

static void send_order(struct group_fixture *group, struct test_order *test) {
    Surefoot__GroupCommand command = SUREFOOT__GROUP_COMMAND__INIT;
    command.order = &test->order;
    group_send(group, &command);
}

static void expect_rows(struct group_fixture *group, const struct test_order *test) {
    Surefoot__GroupMessage *message = group_receive(group);
    assert_non_null(message->gathered);
    const Surefoot__Gathered *gathered = message->gathered;
    assert_null(gathered->error);
    assert_int_equal(gathered->order_id, test->order.order_id);
    assert_int_equal(gathered->n_rows, test->order.n_items);
    int per_rank[GROUP_RANKS_MAX] = {0};
    for (size_t i = 0; i < gathered->n_rows; i++) {
        assert_int_equal(gathered->rows[i]->job_id, test->items[i].job_id);
        assert_int_equal(gathered->rows[i]->candidate_id, test->items[i].candidate_id);
        assert_int_equal(gathered->rows[i]->token_ids[0], test->items[i].candidate_id);
        per_rank[gathered->rows[i]->token_ids[1]]++;
    }
    size_t share = (test->order.n_items + (size_t)group->n_ranks - 1) / (size_t)group->n_ranks;
    for (int rank = 0; rank < group->n_ranks; rank++) {
        assert_in_range(per_rank[rank], 0, share);
    }
    // The means of the ranks.
    assert_float_equal(gathered->decode_ms, 0.5 * (group->n_ranks + 1), 1e-9);
    assert_float_equal(gathered->score_ms, 3 - 0.125 * (group->n_ranks - 1), 1e-9);
    uint64_t n = (uint64_t)group->n_ranks;
    assert_int_equal(gathered->rebuilt_tokens, 5 * n + n * (n - 1) / 2); // all of them
    assert_int_equal(gathered->n_rebuilt_jobs, n);
    assert_int_equal(gathered->n_rebuilt_job_tokens, n);
    assert_int_equal(gathered->n_scored_jobs, n);
    assert_int_equal(gathered->n_scored_job_tokens, n);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(gathered->rebuilt_jobs[i], 7);
        assert_int_equal(gathered->rebuilt_job_tokens[i], 5 + i);
        assert_int_equal(gathered->scored_jobs[i], 8);
        assert_int_equal(gathered->scored_job_tokens[i], 20 + i);
    }
    assert_true(gathered->has_collective_ms && gathered->collective_ms >= 0);
    assert_true(gathered->order_ms > 0);
    wire_free(WIRE_GROUP_MESSAGE, message);
}

static void run_order(struct group_fixture *group, uint64_t order_id, size_t n) {
    struct test_order test;
    make_order(&test, order_id, n);
    send_order(group, &test);
    expect_rows(group, &test);
}

static void expect_goodbye(struct group_fixture *group) {
    Surefoot__GroupMessage *message = group_receive(group);
    assert_non_null(message->goodbye);
    wire_free(WIRE_GROUP_MESSAGE, message);
}

static void expect_ends(const struct group_fixture *group, enum group_end end) {
    for (int i = 0; i < group->n_ranks; i++) {
        assert_int_equal(group->members[i].end, end);
    }
}

static void stop_and_close(struct group_fixture *group) {
    Surefoot__GroupCommand command = SUREFOOT__GROUP_COMMAND__INIT;
    command.has_stop = command.stop = true;
    group_send(group, &command);
    expect_goodbye(group);
    group_join(group);
    expect_ends(group, GROUP_END_STOPPED);
    group_close(group);
}

static void test_rows_come_back_in_item_order(void **state) {
    (void)state;
    for (int n_ranks = 1; n_ranks <= 3; n_ranks++) {
        struct group_fixture group;
        group_open(&group, n_ranks);
        group_start(&group);
        group_admit(&group, BEAT_MS, NEVER_MS);
        run_order(&group, 1, 7);
        run_order(&group, 2, 1);
        run_order(&group, 3, (size_t)n_ranks * GROUP_SLOTS);
        run_order(&group, 4, 0); // releases alone are an order too
        stop_and_close(&group);
    }
}

struct counting_comm {
    struct comm_ops ops;
    const struct comm_ops *original;
    atomic_int n_broadcasts;
};

static struct counting_comm counting;

static enum status count_begin(struct comm *comm, const struct comm_call *call) {
    if (call->kind == COMM_BROADCAST) {
        atomic_fetch_add(&counting.n_broadcasts, 1);
    }
    return counting.original->begin(comm, call);
}

static void test_idle_followers_hear_from_the_leader(void **state) {
    (void)state;
    struct group_fixture group;
    group_open(&group, 2);
    group.options.timeouts.collective_ms = 2000;
    struct comm *follower = group.members[1].comm;
    counting.original = follower->ops;
    counting.ops = *follower->ops;
    counting.ops.begin = count_begin;
    follower->ops = &counting.ops;
    group_start(&group);
    group_admit(&group, BEAT_MS, NEVER_MS);
    while (atomic_load(&counting.n_broadcasts) < 8) { // two of them make a message
        wire_free(WIRE_GROUP_MESSAGE, group_receive_any(&group));
    }
    run_order(&group, 1, 3);
    stop_and_close(&group);
}

// Takes heartbeats until `count` have come from a busy group.
static uint64_t expect_busy_beats(struct group_fixture *group, uint32_t n_items, int count) {
    uint64_t progress = 0;
    while (count > 0) {
        Surefoot__GroupMessage *message = group_receive_any(group);
        assert_non_null(message->heartbeat);
        if (message->heartbeat->slots_busy == n_items) {
            assert_true(message->heartbeat->progress >= progress);
            progress = message->heartbeat->progress;
            count--;
        }
        wire_free(WIRE_GROUP_MESSAGE, message);
    }
    return progress;
}

static void test_heartbeats_go_on_while_the_leader_works(void **state) {
    (void)state;
    struct group_fixture group;
    group_open(&group, 2);
    group_start(&group);
    group_admit(&group, BEAT_MS, NEVER_MS);
    fake_block(&group.control, 0);
    struct test_order test;
    make_order(&test, 1, 5);
    send_order(&group, &test);
    uint64_t before = expect_busy_beats(&group, 5, 1);
    assert_true(expect_busy_beats(&group, 5, 4) > before);
    fake_block(&group.control, -1);
    expect_rows(&group, &test);
    stop_and_close(&group);
}

static void test_heartbeats_go_on_while_the_leader_waits_for_a_slow_rank(void **state) {
    (void)state;
    struct group_fixture group;
    group_open(&group, 3);
    group_start(&group);
    group_admit(&group, BEAT_MS, NEVER_MS);
    fake_block(&group.control, 2);
    struct test_order test;
    make_order(&test, 1, 5);
    send_order(&group, &test);
    expect_busy_beats(&group, 5, 5);
    fake_block(&group.control, -1);
    expect_rows(&group, &test);
    stop_and_close(&group);
}

static void expect_error(struct group_fixture *group, enum status status, const char *field,
                         bool has_order_id) {
    Surefoot__GroupMessage *message = group_receive(group);
    assert_non_null(message->gathered);
    assert_non_null(message->gathered->error);
    assert_int_equal(message->gathered->error->status, status);
    assert_string_equal(message->gathered->error->field, field);
    assert_int_equal(message->gathered->has_order_id, has_order_id);
    assert_int_equal(message->gathered->n_rows, 0);
    wire_free(WIRE_GROUP_MESSAGE, message);
}

// The rank that is done with its share begins the next order's while another one still works; the
// answers come in the orders' order.
static void expect_next_order_begun(int slow_rank) {
    struct group_fixture group;
    group_open(&group, 3);
    group_start(&group);
    group_admit(&group, BEAT_MS, NEVER_MS);
    fake_block(&group.control, slow_rank);
    struct test_order first;
    struct test_order second;
    make_order(&first, 1, 6);
    make_order(&second, 2, 9);
    send_order(&group, &first);
    send_order(&group, &second);
    fake_await_executions(&group.control, 3 + 2);
    expect_busy_beats(&group, 15, 1);
    fake_block(&group.control, -1);
    expect_rows(&group, &first);
    expect_rows(&group, &second);
    run_order(&group, 3, 3);
    stop_and_close(&group);
}

static void test_ranks_that_are_done_begin_the_next_order(void **state) {
    (void)state;
    expect_next_order_begun(2);
    expect_next_order_begun(0);
}

// Stopped with two orders, the group does both.
static void test_orders_under_way_are_done_before_the_group_stops(void **state) {
    (void)state;
    struct group_fixture group;
    group_open(&group, 2);
    group_start(&group);
    group_admit(&group, BEAT_MS, NEVER_MS);
    fake_block(&group.control, 1);
    struct test_order first;
    struct test_order second;
    make_order(&first, 1, 4);
    make_order(&second, 2, 5);
    send_order(&group, &first);
    send_order(&group, &second);
    fake_await_executions(&group.control, 2 + 1);
    assert_int_equal(write(group.stop_pipe[1], "x", 1), 1);
    fake_block(&group.control, -1);
    expect_rows(&group, &first);
    expect_rows(&group, &second);
    expect_goodbye(&group);
    group_join(&group);
    expect_ends(&group, GROUP_END_STOPPED);
    group_close(&group);
}

// What comes while rank 0 works and is no order waits, and is not lost.
static void test_word_that_comes_during_work_is_heard_after_it(void **state) {
    (void)state;
    struct group_fixture group;
    group_open(&group, 2);
    group_start(&group);
    group_admit(&group, BEAT_MS, NEVER_MS);
    fake_block(&group.control, 0);
    struct test_order test;
    make_order(&test, 1, 4);
    send_order(&group, &test);
    fake_await_executions(&group.control, 2);
    Surefoot__GroupCommand command = SUREFOOT__GROUP_COMMAND__INIT;
    command.has_stop = command.stop = true;
    group_send(&group, &command);
    expect_busy_beats(&group, 4, 3);
    fake_block(&group.control, -1);
    expect_rows(&group, &test);
    expect_goodbye(&group);
    group_join(&group);
    expect_ends(&group, GROUP_END_STOPPED);
    group_close(&group);
}

// A rank fails the first of two orders: both are answered or given up, and every rank ends.
static void test_fault_ends_the_group_with_an_order_behind_it(void **state) {
    (void)state;
    struct group_fixture group;
    group_open(&group, 3);
    fake_break(&group.control, 1, STATUS_DEVICE);
    group_start(&group);
    group_admit(&group, BEAT_MS, NEVER_MS);
    fake_block(&group.control, 2);
    struct test_order first;
    struct test_order second;
    make_order(&first, 1, 6);
    make_order(&second, 2, 6);
    send_order(&group, &first);
    send_order(&group, &second);
    fake_await_executions(&group.control, 3 + 2);
    fake_block(&group.control, -1);
    expect_error(&group, STATUS_DEVICE, "device", true);
    expect_goodbye(&group);
    group_join(&group);
    assert_int_equal(group.members[0].end, GROUP_END_FAULT);
    assert_int_equal(group.members[1].end, GROUP_END_FAULT);
    assert_int_equal(group.members[2].end, GROUP_END_STOPPED);
    group_close(&group);
}

// Takes heartbeats until one names `rank` as stalled, or with -1 none.
static void await_stall(struct group_fixture *group, int rank) {
    bool found = false;
    while (!found) {
        Surefoot__GroupMessage *message = group_receive_any(group);
        assert_non_null(message->heartbeat);
        int stalled =
            message->heartbeat->has_stalled_rank ? (int)message->heartbeat->stalled_rank : -1;
        assert_true(stalled == rank || stalled == -1 || rank == -1);
        found = stalled == rank;
        if (found && rank >= 0) {
            assert_true(message->heartbeat->stalled_ms >= 3 * BEAT_MS);
        }
        wire_free(WIRE_GROUP_MESSAGE, message);
    }
}

static void test_rank_without_a_sign_of_life_is_named_until_it_goes_on(void **state) {
    (void)state;
    struct group_fixture group;
    group_open(&group, 3);
    group_start(&group);
    group_admit(&group, BEAT_MS, NEVER_MS);
    fake_freeze(&group.control, 2);
    struct test_order test;
    make_order(&test, 1, 5);
    send_order(&group, &test);
    await_stall(&group, 2);
    fake_block(&group.control, 2); // it works again, but does not come to an end
    await_stall(&group, -1);
    fake_block(&group.control, -1);
    expect_rows(&group, &test);
    stop_and_close(&group);
}

static void test_rank_that_hangs_for_good_is_not_waited_for(void **state) {
    (void)state;
    struct group_fixture group;
    group_open(&group, 3);
    group.options.timeouts.collective_ms = 300; // the order's time is GROUP_WAIT_MS
    group_start(&group);
    group_admit(&group, BEAT_MS, NEVER_MS);
    fake_freeze(&group.control, 1);
    struct test_order test;
    make_order(&test, 1, 6);
    send_order(&group, &test);
    expect_goodbye(&group);
    fake_block(&group.control, -1);
    group_join(&group);
    expect_ends(&group, GROUP_END_LOST);
    group_close(&group);
}

static void test_silent_coordinator_is_greeted_again(void **state) {
    (void)state;
    struct group_fixture group;
    group_open(&group, 2);
    group_start(&group);
    group_admit(&group, BEAT_MS, 300);
    struct channel_peer old_peer = group.peer;
    // No word for 300 ms: a new connection greets, though this end never went away.
    group_admit(&group, BEAT_MS, NEVER_MS);
    assert_memory_not_equal(&old_peer, &group.peer, sizeof old_peer);
    run_order(&group, 2, 4);
    stop_and_close(&group);
}

static void test_restarted_coordinator_can_ask_for_hello(void **state) {
    (void)state;
    struct group_fixture group;
    group_open(&group, 2);
    group_start(&group);
    group_admit(&group, BEAT_MS, NEVER_MS);
    run_order(&group, 1, 4);
    group_unbind(&group);
    group_rebind(&group);
    Surefoot__GroupMessage *message = group_receive_any(&group); // from a leader it does not know
    assert_non_null(message->heartbeat);
    wire_free(WIRE_GROUP_MESSAGE, message);
    Surefoot__GroupCommand command = SUREFOOT__GROUP_COMMAND__INIT;
    command.has_say_hello = command.say_hello = true;
    group_send(&group, &command);
    group_admit(&group, BEAT_MS, NEVER_MS);
    run_order(&group, 1, 4);
    stop_and_close(&group);
}

static void test_group_waits_for_a_coordinator_that_starts_later(void **state) {
    (void)state;
    struct group_fixture group;
    group_open(&group, 2);
    group_unbind(&group);
    group_start(&group);
    group_rebind(&group);
    group_admit(&group, BEAT_MS, NEVER_MS);
    run_order(&group, 1, 4);
    stop_and_close(&group);
}

static void test_bad_orders_are_refused_and_the_group_goes_on(void **state) {
    (void)state;
    struct group_fixture group;
    group_open(&group, 2);
    group_start(&group);
    group_admit(&group, BEAT_MS, NEVER_MS);

    group_send_bytes(&group, "\xff\xff\xff junk", 8);
    expect_error(&group, STATUS_MALFORMED, "", false);

    struct test_order test;
    make_order(&test, 5, 2 * GROUP_SLOTS + 1);
    send_order(&group, &test);
    expect_error(&group, STATUS_LIMIT, "order.items", true);

    make_order(&test, 6, 3);
    test.items[2].grow_tokens = FAKE_BLOCK_TOKENS + 1;
    send_order(&group, &test);
    expect_error(&group, STATUS_LIMIT, "order.items[2].grow_tokens", true);

    run_order(&group, 7, 3);
    stop_and_close(&group);
}

static void test_unknown_job_is_named_once_beside_the_rows_of_others(void **state) {
    (void)state;
    struct group_fixture group;
    group_open(&group, 3);
    fake_forget(&group.control);
    group_start(&group);
    group_admit(&group, BEAT_MS, NEVER_MS);
    struct test_order test;
    make_order(&test, 1, 12);
    test.order.n_jobs = 1; // job 2 is not described
    send_order(&group, &test);
    Surefoot__GroupMessage *message = group_receive(&group);
    assert_non_null(message->gathered);
    assert_null(message->gathered->error);
    assert_int_equal(message->gathered->n_unknown_jobs, 1);
    assert_int_equal(message->gathered->unknown_jobs[0], 2);
    assert_int_equal(message->gathered->n_rows, 6);
    for (size_t i = 0; i < 6; i++) {
        assert_int_equal(message->gathered->rows[i]->job_id, 1);
        assert_int_equal(message->gathered->rows[i]->candidate_id, test.items[2 * i].candidate_id);
    }
    wire_free(WIRE_GROUP_MESSAGE, message);
    run_order(&group, 2, 12);
    stop_and_close(&group);
}

static void test_order_that_is_too_large_for_a_rank_is_an_error_of_the_order(void **state) {
    (void)state;
    struct group_fixture group;
    group_open(&group, 2);
    fake_break(&group.control, 1, STATUS_LIMIT);
    group_start(&group);
    group_admit(&group, BEAT_MS, NEVER_MS);
    struct test_order test;
    make_order(&test, 1, 4);
    send_order(&group, &test);
    expect_error(&group, STATUS_LIMIT, "device", true);
    fake_break(&group.control, -1, STATUS_OK);
    run_order(&group, 2, 4);
    stop_and_close(&group);
}

static void test_failed_rank_is_reported_and_ends_the_group(void **state) {
    (void)state;
    struct group_fixture group;
    group_open(&group, 3);
    fake_break(&group.control, 1, STATUS_DEVICE);
    group_start(&group);
    group_admit(&group, BEAT_MS, NEVER_MS);
    struct test_order test;
    make_order(&test, 1, 6);
    send_order(&group, &test);
    expect_error(&group, STATUS_DEVICE, "device", true);
    expect_goodbye(&group);
    group_join(&group);
    assert_int_equal(group.members[0].end, GROUP_END_FAULT);
    assert_status(STATUS_DEVICE, group.members[0].err.status);
    assert_int_equal(group.members[1].end, GROUP_END_FAULT);
    assert_int_equal(group.members[2].end, GROUP_END_STOPPED);
    group_close(&group);
}

static void test_rank_that_does_not_come_back_ends_the_group(void **state) {
    (void)state;
    struct group_fixture group;
    group_open(&group, 3);
    group.options.timeouts.order_ms = 100;
    group_start(&group);
    group_admit(&group, BEAT_MS, NEVER_MS);
    fake_block(&group.control, 1);
    struct test_order test;
    make_order(&test, 1, 6);
    send_order(&group, &test);
    expect_goodbye(&group);
    fake_block(&group.control, -1);
    group_join(&group);
    expect_ends(&group, GROUP_END_LOST);
    group_close(&group);
}

static void test_stop_descriptor_ends_the_group_with_goodbye(void **state) {
    (void)state;
    struct group_fixture group;
    group_open(&group, 2);
    group_start(&group);
    group_admit(&group, BEAT_MS, NEVER_MS);
    run_order(&group, 1, 2);
    assert_int_equal(write(group.stop_pipe[1], "x", 1), 1);
    expect_goodbye(&group);
    group_join(&group);
    expect_ends(&group, GROUP_END_STOPPED);
    group_close(&group);
}

static void test_refused_group_ends_with_the_coordinators_reason(void **state) {
    (void)state;
    struct group_fixture group;
    group_open(&group, 2);
    group_start(&group);
    wire_free(WIRE_GROUP_MESSAGE, group_receive(&group));
    struct error error;
    error_set(&error, STATUS_INVALID_ARGUMENT, "hello.policy", "another model");
    Surefoot__ErrorInfo info;
    wire_error_fill(&info, &error);
    Surefoot__GroupCommand command = SUREFOOT__GROUP_COMMAND__INIT;
    command.reject = &info;
    group_send(&group, &command);
    expect_goodbye(&group);
    group_join(&group);
    assert_int_equal(group.members[0].end, GROUP_END_REJECTED);
    assert_string_equal(group.members[0].err.field, "hello.policy");
    assert_int_equal(group.members[1].end, GROUP_END_STOPPED);
    group_close(&group);
}

static void test_group_that_is_not_admitted_yet_asks_again(void **state) {
    (void)state;
    struct group_fixture group;
    group_open(&group, 1);
    group_start(&group);
    wire_free(WIRE_GROUP_MESSAGE, group_receive(&group));
    struct error error;
    error_set(&error, STATUS_UNAVAILABLE, "hello", "later");
    Surefoot__ErrorInfo info;
    wire_error_fill(&info, &error);
    Surefoot__GroupCommand command = SUREFOOT__GROUP_COMMAND__INIT;
    command.reject = &info;
    group_send(&group, &command);
    group_admit(&group, BEAT_MS, NEVER_MS);
    run_order(&group, 1, 2);
    stop_and_close(&group);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows_come_back_in_item_order),
        cmocka_unit_test(test_idle_followers_hear_from_the_leader),
        cmocka_unit_test(test_heartbeats_go_on_while_the_leader_works),
        cmocka_unit_test(test_heartbeats_go_on_while_the_leader_waits_for_a_slow_rank),
        cmocka_unit_test(test_ranks_that_are_done_begin_the_next_order),
        cmocka_unit_test(test_orders_under_way_are_done_before_the_group_stops),
        cmocka_unit_test(test_word_that_comes_during_work_is_heard_after_it),
        cmocka_unit_test(test_fault_ends_the_group_with_an_order_behind_it),
        cmocka_unit_test(test_rank_without_a_sign_of_life_is_named_until_it_goes_on),
        cmocka_unit_test(test_rank_that_hangs_for_good_is_not_waited_for),
        cmocka_unit_test(test_silent_coordinator_is_greeted_again),
        cmocka_unit_test(test_restarted_coordinator_can_ask_for_hello),
        cmocka_unit_test(test_group_waits_for_a_coordinator_that_starts_later),
        cmocka_unit_test(test_bad_orders_are_refused_and_the_group_goes_on),
        cmocka_unit_test(test_unknown_job_is_named_once_beside_the_rows_of_others),
        cmocka_unit_test(test_order_that_is_too_large_for_a_rank_is_an_error_of_the_order),
        cmocka_unit_test(test_failed_rank_is_reported_and_ends_the_group),
        cmocka_unit_test(test_rank_that_does_not_come_back_ends_the_group),
        cmocka_unit_test(test_stop_descriptor_ends_the_group_with_goodbye),
        cmocka_unit_test(test_refused_group_ends_with_the_coordinators_reason),
        cmocka_unit_test(test_group_that_is_not_admitted_yet_asks_again),
    };
    return cmocka_run_group_tests_name("group", tests, NULL, NULL);
}
