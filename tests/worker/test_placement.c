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
    placement_assign(placement, &test->order, test->ranks);
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
    placement_assign(placement, &next.order, next.ranks);
    for (size_t i = 0; i < next.order.n_items; i++) {
        size_t before = (next.items[i].job_id - 1) * 10 + next.items[i].candidate_id - 1;
        assert_int_equal(next.ranks[i], first.ranks[before]);
    }
}

static void test_forks_of_one_parent_fill_its_rank_only_to_an_even_share(void **state) {
    struct placement *placement = *state;
    struct test_order first;
    place_first(placement, &first);
    struct test_order next;
    make_order(&next);
    for (uint64_t i = 1; i <= 12; i++) {
        add_item(&next, 1, 20 + i, 5);
    }
    placement_assign(placement, &next.order, next.ranks);
    expect_loads(&next, 4, 4);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(next.ranks[i], placement_find(placement, 1, 5));
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
    placement_assign(placement, &next.order, next.ranks);
    assert_true(placement_find(placement, 1, 1) >= 0);
    assert_int_equal(placement_find(placement, 1, 2), -1);
    assert_int_equal(placement_find(placement, 1, 3), -1);

    make_order(&next);
    set_release(&next, 1);
    next.release.whole_job = true;
    placement_assign(placement, &next.order, next.ranks);
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
        placement_assign(placement, &test.order, test.ranks);
        assert_int_equal(placement_find(placement, 1, 1 + round * ITEMS_MAX), test.ranks[0]);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_new_candidates_of_each_job_are_dealt_out_evenly, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_candidates_stay_where_they_are, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_forks_of_one_parent_fill_its_rank_only_to_an_even_share, setup, teardown),
        cmocka_unit_test_setup_teardown(test_released_candidates_are_forgotten, setup, teardown),
        cmocka_unit_test_setup_teardown(test_coordinator_that_releases_nothing_is_survived, setup,
                                        teardown),
    };
    return cmocka_run_group_tests_name("placement", tests, NULL, NULL);
}
