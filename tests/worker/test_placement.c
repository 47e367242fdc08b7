#include "tests/support/testkit.h"

#include "worker/group/placement.h"

enum { ITEMS_MAX = 32, N_RANKS = 3 };

struct test_order {
    Surefoot__Order order;
    Surefoot__OrderItem items[ITEMS_MAX];
    Surefoot__OrderItem *item_pointers[ITEMS_MAX];
    Surefoot__ReleaseCandidates release;
    Surefoot__ReleaseCandidates *release_pointer;
    uint32_t ranks[ITEMS_MAX];
};

static void make_order(struct test_order *test) {
    surefoot__order__init(&test->order);
    test->order.items = test->item_pointers;
}

static void add_item(struct test_order *test, uint64_t job_id, uint64_t candidate_id,
                     uint64_t parent_id) {
    size_t i = test->order.n_items++;
    surefoot__order_item__init(&test->items[i]);
    test->items[i].job_id = job_id;
    test->items[i].candidate_id = candidate_id;
    test->items[i].parent_id = parent_id;
    test->items[i].grow_tokens = 4;
    test->item_pointers[i] = &test->items[i];
}

static void set_release(struct test_order *test, uint64_t job_id) {
    surefoot__release_candidates__init(&test->release);
    test->release.job_id = job_id;
    test->release_pointer = &test->release;
    test->order.releases = &test->release_pointer;
    test->order.n_releases = 1;
}

static void expect_loads(const struct test_order *test, size_t low, size_t high) {
    for (int rank = 0; rank < N_RANKS; rank++) {
        size_t load = 0;
        for (size_t i = 0; i < test->order.n_items; i++) {
            load += test->ranks[i] == (uint32_t)rank;
        }
        assert_in_range(load, low, high);
    }
}

// 10 candidates of each of two jobs, at the prompt.
static void place_first(struct placement *placement, struct test_order *test) {
    make_order(test);
    for (uint64_t i = 1; i <= 10; i++) {
        add_item(test, 1, i, 0);
    }
    for (uint64_t i = 1; i <= 10; i++) {
        add_item(test, 2, i, 0);
    }
    assert_ok(placement_assign(placement, &test->order, test->ranks), NULL);
}

static int setup(void **state) {
    struct placement *placement = NULL;
    assert_ok(placement_create(N_RANKS, &placement), NULL);
    *state = placement;
    return 0;
}

static int teardown(void **state) {
    placement_destroy(*state);
    return 0;
}

static void test_new_candidates_of_each_job_are_dealt_out_evenly(void **state) {
    struct placement *placement = *state;
    struct test_order test;
    place_first(placement, &test);
    expect_loads(&test, 6, 7);
    for (int rank = 0; rank < N_RANKS; rank++) {
        size_t of_first_job = 0;
        for (size_t i = 0; i < 10; i++) {
            of_first_job += test.ranks[i] == (uint32_t)rank;
        }
        assert_in_range(of_first_job, 3, 4);
    }
}

static void test_candidates_stay_where_they_are(void **state) {
    struct placement *placement = *state;
    struct test_order first;
    place_first(placement, &first);
    struct test_order next;
    make_order(&next);
    for (uint64_t i = 10; i >= 1; i--) { // in another order
        add_item(&next, 2, i, i);
        add_item(&next, 1, i, i);
    }
    assert_ok(placement_assign(placement, &next.order, next.ranks), NULL);
    for (size_t i = 0; i < next.order.n_items; i++) {
        size_t before = (next.items[i].job_id - 1) * 10 + next.items[i].candidate_id - 1;
        assert_int_equal(next.ranks[i], first.ranks[before]);
    }
}

// 12 forks of candidate 5 of job 1, of so many tokens.
static void place_forks(struct placement *placement, struct test_order *test, size_t n_tokens) {
    make_order(test);
    for (uint64_t i = 1; i <= 12; i++) {
        add_item(test, 1, 20 + i, 5);
        test->items[i - 1].n_tokens = n_tokens;
    }
    assert_ok(placement_assign(placement, &test->order, test->ranks), NULL);
}

static size_t count_at(const struct test_order *test, int rank) {
    size_t count = 0;
    for (size_t i = 0; i < test->order.n_items; i++) {
        count += test->ranks[i] == (uint32_t)rank;
    }
    return count;
}

static void test_forks_leave_their_parents_rank_where_that_ends_sooner(void **state) {
    struct placement *placement = *state;
    struct test_order first;
    place_first(placement, &first);
    int home = placement_find(placement, 1, 5);
    struct test_order next;
    // 48 tokens to grow: with 4 to read again a second rank takes half of the rest.
    place_forks(placement, &next, 4);
    assert_int_equal(count_at(&next, home), 7);
    assert_int_equal(count_at(&next, (home + 1) % N_RANKS) + count_at(&next, (home + 2) % N_RANKS),
                     5);
    for (size_t i = 0; i < 7; i++) {
        assert_int_equal(next.ranks[i], home);
    }
    // 32 or 40 to read again: worth it for one child, and for none.
    place_forks(placement, &next, 32);
    assert_int_equal(count_at(&next, home), 10);
    place_forks(placement, &next, 41);
    assert_int_equal(count_at(&next, home), 12);
}

static void test_the_shortest_texts_move(void **state) {
    struct placement *placement = *state;
    struct test_order first;
    make_order(&first);
    for (uint64_t i = 1; i <= 9; i++) {
        add_item(&first, 1, i, 0);
    }
    assert_ok(placement_assign(placement, &first.order, first.ranks), NULL);
    int home = (int)first.ranks[0];
    struct test_order next;
    make_order(&next);
    for (size_t i = 0; i < 9; i++) { // three parents of one rank with texts of 30, 2 and 30 tokens
        if ((int)first.ranks[i] == home) {
            for (uint64_t k = 0; k < 4; k++) {
                add_item(&next, 1, 10 + next.order.n_items, i + 1);
                next.items[next.order.n_items - 1].n_tokens =
                    next.order.n_items > 4 && next.order.n_items <= 8 ? 2 : 30;
            }
        }
    }
    assert_int_equal(next.order.n_items, 12);
    assert_ok(placement_assign(placement, &next.order, next.ranks), NULL);
    for (size_t i = 0; i < 12; i++) {
        assert_int_equal((int)next.ranks[i] != home, i >= 4 && i < 8);
    }
}

static void test_released_candidates_are_forgotten(void **state) {
    struct placement *placement = *state;
    struct test_order first;
    place_first(placement, &first);
    struct test_order next;
    make_order(&next);
    set_release(&next, 1);
    uint64_t released[] = {2, 3, 999};
    next.release.candidate_ids = released;
    next.release.n_candidate_ids = 3;
    assert_ok(placement_assign(placement, &next.order, next.ranks), NULL);
    assert_true(placement_find(placement, 1, 1) >= 0);
    assert_int_equal(placement_find(placement, 1, 2), -1);
    assert_int_equal(placement_find(placement, 1, 3), -1);

    make_order(&next);
    set_release(&next, 1);
    next.release.whole_job = true;
    assert_ok(placement_assign(placement, &next.order, next.ranks), NULL);
    for (uint64_t i = 1; i <= 10; i++) {
        assert_int_equal(placement_find(placement, 1, i), -1);
        assert_true(placement_find(placement, 2, i) >= 0);
    }
}

static void test_coordinator_that_releases_nothing_is_survived(void **state) {
    struct placement *placement = *state;
    for (uint64_t round = 0; round < 10000; round++) {
        struct test_order test;
        make_order(&test);
        for (uint64_t i = 0; i < ITEMS_MAX; i++) {
            add_item(&test, 1, 1 + round * ITEMS_MAX + i, 0);
        }
        assert_ok(placement_assign(placement, &test.order, test.ranks), NULL);
        assert_int_equal(placement_find(placement, 1, 1 + round * ITEMS_MAX), test.ranks[0]);
    }
}

// Beside forks whose rank has most to do and whose text is long, what is only scored there has the
// shortest text, and stays.
static void test_what_is_only_scored_stays(void **state) {
    struct placement *placement = *state;
    struct test_order first;
    place_first(placement, &first);
    int home = placement_find(placement, 1, 5);
    struct test_order next;
    make_order(&next);
    for (uint64_t i = 1; i <= 10; i++) {
        add_item(&next, 1, 20 + i, 5);
        next.items[next.order.n_items - 1].n_tokens = 60;
    }
    for (uint64_t i = 1; i <= 10; i++) {
        add_item(&next, 2, i, i);
        next.items[next.order.n_items - 1].n_tokens = 1;
        next.items[next.order.n_items - 1].grow_tokens = 0;
    }
    assert_ok(placement_assign(placement, &next.order, next.ranks), NULL);
    for (size_t i = 0; i < 10; i++) {
        assert_int_equal(next.ranks[i], home);
        assert_int_equal(next.ranks[10 + i], first.ranks[10 + i]);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_what_is_only_scored_stays, setup, teardown),
        cmocka_unit_test_setup_teardown(test_new_candidates_of_each_job_are_dealt_out_evenly, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_candidates_stay_where_they_are, setup, teardown),
        cmocka_unit_test_setup_teardown(test_forks_leave_their_parents_rank_where_that_ends_sooner,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_the_shortest_texts_move, setup, teardown),
        cmocka_unit_test_setup_teardown(test_released_candidates_are_forgotten, setup, teardown),
        cmocka_unit_test_setup_teardown(test_coordinator_that_releases_nothing_is_survived, setup,
                                        teardown),
    };
    return cmocka_run_group_tests_name("placement", tests, NULL, NULL);
}
