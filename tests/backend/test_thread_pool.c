// The thread pool: every part runs exactly once per call, on threads of its own, and has finished
// when the call returns; parts can wait for one another on their way.
#include "tests/support/testkit.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>

#include "worker/backend/cpu/thread_pool.h"

enum { THREADS_MAX = 8 };

struct record {
    long values[THREADS_MAX]; // written without atomics: the pool must order the accesses
    pthread_t threads[THREADS_MAX];
    int count;
};

static void add_index(void *argument, int index, int count) {
    struct record *record = argument;
    record->values[index] += index + 1;
    record->threads[index] = pthread_self();
    if (index == 0) {
        record->count = count;
    }
}

static void test_each_part_runs_once_per_call(void **state) {
    (void)state;
    for (int n_threads = 1; n_threads <= THREADS_MAX; ++n_threads) {
        struct thread_pool *pool = NULL;
        assert_ok(thread_pool_create(n_threads, &pool, NULL), NULL);
        assert_int_equal(n_threads, thread_pool_size(pool));
        struct record record = {0};
        enum { CALLS = 2000 };
        for (int call = 0; call < CALLS; ++call) {
            thread_pool_run(pool, add_index, &record, n_threads);
            // Read at once by the caller: a part that has not finished would show here.
            for (int i = 0; i < n_threads; ++i) {
                assert_int_equal((call + 1) * (i + 1), record.values[i]);
            }
        }
        assert_int_equal(n_threads, record.count);
        thread_pool_destroy(pool);
    }
}

static void test_parts_run_on_different_threads(void **state) {
    (void)state;
    struct thread_pool *pool = NULL;
    assert_ok(thread_pool_create(4, &pool, NULL), NULL);
    struct record record = {0};
    thread_pool_run(pool, add_index, &record, 4);
    assert_true(pthread_equal(record.threads[0], pthread_self()));
    for (int i = 0; i < 4; ++i) {
        for (int j = 0; j < i; ++j) {
            assert_false(pthread_equal(record.threads[i], record.threads[j]));
        }
    }
    thread_pool_destroy(pool);
}

static void test_fewer_parts_than_threads_leave_the_rest_idle(void **state) {
    (void)state;
    struct thread_pool *pool = NULL;
    assert_ok(thread_pool_create(4, &pool, NULL), NULL);
    struct record record = {0};
    for (int call = 0; call < 500; ++call) {
        thread_pool_run(pool, add_index, &record, 1 + call % 3);
    }
    const long expected[THREADS_MAX] = {500, 2 * 333, 3 * 166};
    assert_memory_equal(expected, record.values, sizeof(expected));
    thread_pool_destroy(pool);
}

// Parts that wait for each other finish only if all of them run at the same time.
static void meet(void *argument, int index, int count) {
    (void)index;
    _Atomic int *arrived = argument;
    atomic_fetch_add(arrived, 1);
    while (atomic_load(arrived) < count) {
        sched_yield();
    }
}

static void test_parts_run_at_the_same_time(void **state) {
    (void)state;
    struct thread_pool *pool = NULL;
    assert_ok(thread_pool_create(3, &pool, NULL), NULL);
    _Atomic int arrived = 0;
    thread_pool_run(pool, meet, &arrived, 3);
    assert_int_equal(3, arrived);
    thread_pool_destroy(pool);
}

enum { MEETINGS = 300 };

struct relay {
    struct thread_pool *pool;
    long values[MEETINGS][THREADS_MAX]; // written without atomics: meetings must order the accesses
};

// Each part passes on what its neighbour wrote before the meeting.
static void pass_on(void *argument, int index, int count) {
    struct relay *relay = argument;
    for (int i = 1; i < MEETINGS; ++i) {
        relay->values[i][index] = relay->values[i - 1][(index + 1) % count] + 1;
        thread_pool_meet(relay->pool, count);
    }
}

static void test_parts_see_what_others_wrote_before_a_meeting(void **state) {
    (void)state;
    for (int n_threads = 1; n_threads <= 5; ++n_threads) {
        struct relay relay = {0};
        assert_ok(thread_pool_create(n_threads, &relay.pool, NULL), NULL);
        for (int call = 0; call < 20; ++call) {
            int count = 1 + call % n_threads;
            memset(relay.values[1], 0, sizeof(relay.values) - sizeof(relay.values[0]));
            thread_pool_run(relay.pool, pass_on, &relay, count);
            for (int i = 0; i < count; ++i) {
                assert_int_equal(MEETINGS - 1, relay.values[MEETINGS - 1][i]);
            }
        }
        thread_pool_destroy(relay.pool);
    }
}

struct shares {
    struct thread_pool *pool;
    _Atomic int taken[100];
    _Atomic int by_first; // items that part 0 took
    bool wait;            // part 0 only begins when the others have taken everything
    int32_t n_items;
};

static void take_items(void *argument, int index, int count) {
    struct shares *shares = argument;
    int32_t item;
    if (index == 0 && shares->wait) {
        thread_pool_meet(shares->pool, count);
    }
    while (thread_pool_take(shares->pool, index, &item)) {
        assert_in_range(item, 0, shares->n_items - 1);
        atomic_fetch_add(&shares->taken[item], 1);
        atomic_fetch_add(&shares->by_first, index == 0);
    }
    if (index != 0 && shares->wait) {
        thread_pool_meet(shares->pool, count);
    }
}

static void check_shares(struct shares *shares, int32_t n_items, int count) {
    memset(shares->taken, 0, sizeof(shares->taken));
    shares->by_first = 0;
    shares->n_items = n_items;
    thread_pool_share(shares->pool, n_items, count);
    thread_pool_run(shares->pool, take_items, shares, count);
    for (int32_t i = 0; i < n_items; ++i) {
        assert_int_equal(1, shares->taken[i]);
    }
}

static void test_every_item_is_taken_once(void **state) {
    (void)state;
    struct shares shares = {0};
    assert_ok(thread_pool_create(4, &shares.pool, NULL), NULL);
    for (int call = 0; call < 2000; ++call) {
        check_shares(&shares, call % 100, 1 + call % 4);
    }
    thread_pool_destroy(shares.pool);
}

static void test_items_of_a_part_that_is_held_up_are_taken_by_others(void **state) {
    (void)state;
    struct shares shares = {.wait = true};
    assert_ok(thread_pool_create(3, &shares.pool, NULL), NULL);
    check_shares(&shares, 91, 3);
    assert_int_equal(0, shares.by_first);
    thread_pool_destroy(shares.pool);
}

static void test_ranges_cover_everything_in_whole_units(void **state) {
    (void)state;
    for (long n = 0; n < 40; ++n) {
        for (long unit = 1; unit <= 9; ++unit) {
            for (int count = 1; count <= 7; ++count) {
                long next = 0;
                for (int i = 0; i < count; ++i) {
                    long begin, end;
                    thread_pool_range(n, unit, i, count, &begin, &end);
                    assert_int_equal(next, begin);
                    assert_true(end == n || end % unit == 0);
                    next = end;
                }
                assert_int_equal(n, next);
            }
        }
    }
}

static void test_thread_counts_out_of_range_are_refused(void **state) {
    (void)state;
    struct thread_pool *pool = NULL;
    struct error err = {0};
    assert_status(STATUS_INVALID_ARGUMENT, thread_pool_create(0, &pool, &err));
    assert_string_equal("threads", err.field);
    assert_status(STATUS_INVALID_ARGUMENT,
                  thread_pool_create(THREAD_POOL_THREADS_MAX + 1, &pool, &err));
    thread_pool_destroy(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_part_runs_once_per_call),
        cmocka_unit_test(test_parts_run_on_different_threads),
        cmocka_unit_test(test_fewer_parts_than_threads_leave_the_rest_idle),
        cmocka_unit_test(test_parts_run_at_the_same_time),
        cmocka_unit_test(test_parts_see_what_others_wrote_before_a_meeting),
        cmocka_unit_test(test_every_item_is_taken_once),
        cmocka_unit_test(test_items_of_a_part_that_is_held_up_are_taken_by_others),
        cmocka_unit_test(test_ranges_cover_everything_in_whole_units),
        cmocka_unit_test(test_thread_counts_out_of_range_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
