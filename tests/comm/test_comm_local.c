#include "tests/support/testkit.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "common/deadline.h"
#include "cluster/comm/comm.h"
#include "tests/comm/comm_cases.h"

enum { WORLD_MAX = 5, LONG_MS = 60000, SHORT_MS = 20 };

struct rank_thread {
    pthread_t thread;
    struct comm *comm;
    bool good;
    enum status status;
    atomic_int n_idle;
};

static void start_world(struct rank_thread *ranks, int world_size, void *(*body)(void *)) {
    struct comm *comms[WORLD_MAX];
    assert_ok(comm_local_create(world_size, comms), NULL);
    for (int i = 0; i < world_size; i++) {
        ranks[i].comm = comms[i];
        ranks[i].good = false;
        ranks[i].n_idle = 0;
    }
    for (int i = 0; i < world_size && body != NULL; i++) {
        assert_int_equal(pthread_create(&ranks[i].thread, NULL, body, &ranks[i]), 0);
    }
}

static void *run_cases(void *argument) {
    struct rank_thread *rank = argument;
    rank->good = comm_cases_run(rank->comm, deadline_after_ms(LONG_MS));
    comm_close(rank->comm);
    return NULL;
}

static void *wait_at_barrier(void *argument) {
    struct rank_thread *rank = argument;
    rank->status = comm_barrier(rank->comm, deadline_after_ms(LONG_MS));
    return NULL;
}

static void test_collectives_are_exact_for_every_world_size(void **state) {
    (void)state;
    for (int world_size = 1; world_size <= WORLD_MAX; world_size++) {
        struct rank_thread ranks[WORLD_MAX];
        start_world(ranks, world_size, run_cases);
        for (int i = 0; i < world_size; i++) {
            pthread_join(ranks[i].thread, NULL);
        }
        for (int i = 0; i < world_size; i++) {
            assert_true(ranks[i].good);
        }
    }
}

static void test_absent_rank_ends_the_wait_at_the_deadline(void **state) {
    (void)state;
    struct rank_thread ranks[2];
    start_world(ranks, 2, NULL);
    uint8_t byte = 1;
    assert_status(STATUS_DEADLINE,
                  comm_broadcast(ranks[0].comm, &byte, 1, 0, deadline_after_ms(SHORT_MS)));
    // The one that comes late finds a group that has given up, at once.
    assert_status(STATUS_PEER_LOST,
                  comm_broadcast(ranks[1].comm, &byte, 1, 0, deadline_after_ms(LONG_MS)));
    assert_status(STATUS_PEER_LOST, comm_barrier(ranks[0].comm, deadline_after_ms(LONG_MS)));
    comm_close(ranks[0].comm);
    comm_close(ranks[1].comm);
}

static void test_deadline_of_one_rank_wakes_the_others(void **state) {
    (void)state;
    struct rank_thread ranks[3];
    start_world(ranks, 3, NULL);
    assert_int_equal(pthread_create(&ranks[1].thread, NULL, wait_at_barrier, &ranks[1]), 0);
    assert_status(STATUS_DEADLINE, comm_barrier(ranks[0].comm, deadline_after_ms(SHORT_MS)));
    pthread_join(ranks[1].thread, NULL);
    assert_status(STATUS_PEER_LOST, ranks[1].status);
    for (int i = 0; i < 3; i++) {
        comm_close(ranks[i].comm);
    }
}

static void test_abort_wakes_every_waiting_rank(void **state) {
    (void)state;
    struct rank_thread ranks[4];
    start_world(ranks, 4, NULL);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(pthread_create(&ranks[i].thread, NULL, wait_at_barrier, &ranks[i]), 0);
    }
    comm_abort(ranks[3].comm, 1);
    for (int i = 0; i < 3; i++) {
        pthread_join(ranks[i].thread, NULL);
        assert_status(STATUS_PEER_LOST, ranks[i].status);
    }
    for (int i = 0; i < 4; i++) {
        comm_close(ranks[i].comm);
    }
}

static void test_closed_rank_is_a_lost_peer(void **state) {
    (void)state;
    struct rank_thread ranks[2];
    start_world(ranks, 2, NULL);
    assert_int_equal(pthread_create(&ranks[0].thread, NULL, wait_at_barrier, &ranks[0]), 0);
    comm_close(ranks[1].comm);
    pthread_join(ranks[0].thread, NULL);
    assert_status(STATUS_PEER_LOST, ranks[0].status);
    comm_close(ranks[0].comm);
}

static void count_idle(void *context) {
    struct rank_thread *rank = context;
    atomic_fetch_add(&rank->n_idle, 1);
}

// The second rank arrives only after the first one has been called back, so the callback must come
// from within the wait.
static void test_idle_callback_runs_while_a_rank_waits(void **state) {
    (void)state;
    struct rank_thread ranks[2];
    start_world(ranks, 2, NULL);
    comm_set_idle(ranks[0].comm, count_idle, &ranks[0]);
    assert_int_equal(pthread_create(&ranks[0].thread, NULL, wait_at_barrier, &ranks[0]), 0);
    int64_t deadline_ms = deadline_after_ms(LONG_MS);
    while (atomic_load(&ranks[0].n_idle) < 2 && !deadline_passed(deadline_ms)) {
        sched_yield();
    }
    assert_true(atomic_load(&ranks[0].n_idle) >= 2);
    assert_ok(comm_barrier(ranks[1].comm, deadline_ms), NULL);
    pthread_join(ranks[0].thread, NULL);
    assert_ok(ranks[0].status, NULL);
    comm_close(ranks[0].comm);
    comm_close(ranks[1].comm);
}

static void abandon(void *context) {
    comm_abandon(((struct rank_thread *)context)->comm);
}

static void test_wait_that_is_abandoned_ends(void **state) {
    (void)state;
    struct rank_thread ranks[2];
    start_world(ranks, 2, NULL);
    comm_set_idle(ranks[0].comm, abandon, &ranks[0]);
    assert_int_equal(pthread_create(&ranks[0].thread, NULL, wait_at_barrier, &ranks[0]), 0);
    pthread_join(ranks[0].thread, NULL); // though the other rank never comes
    assert_status(STATUS_PEER_LOST, ranks[0].status);
    comm_close(ranks[0].comm);
    comm_close(ranks[1].comm);
}

// Steps one's broadcast, of a length and then of bytes, and the other's, in turn until both are
// done.
static void broadcast_to(struct rank_thread *ranks, struct comm_broadcast *from,
                         struct comm_broadcast *to) {
    uint8_t bytes[] = {7, 8, 9};
    comm_broadcast_begin(from, ranks[0].comm, bytes, sizeof bytes, 100, 0);
    comm_broadcast_begin(to, ranks[1].comm, NULL, 0, 100, 0);
    bool sent = false;
    bool received = false;
    for (int i = 0; i < 10 && !(sent && received); i++) {
        if (!sent) {
            assert_ok(comm_broadcast_step(from, &sent), NULL);
        }
        if (!received) {
            assert_ok(comm_broadcast_step(to, &received), NULL);
        }
    }
    assert_true(sent && received);
    assert_int_equal(to->length, sizeof bytes);
    assert_memory_equal(to->bytes, bytes, sizeof bytes);
    free(to->bytes);
}

// One thread plays both ranks: nothing here waits. The first rank's rows are under way while a
// broadcast goes from it to the other, which then brings its own rows.
static void test_lanes_do_not_wait_for_each_other(void **state) {
    (void)state;
    struct rank_thread ranks[2];
    start_world(ranks, 2, NULL);
    struct comm_gather gathers[2];
    size_t offsets[2][3];
    bool done = false;
    assert_ok(
        comm_gather_begin(&gathers[0], ranks[0].comm, (const uint8_t *)"ab", 2, 100, offsets[0]),
        NULL);
    assert_ok(comm_gather_step(&gathers[0], &done), NULL);
    assert_false(done);
    struct comm_broadcast from;
    struct comm_broadcast to;
    broadcast_to(ranks, &from, &to);
    assert_ok(comm_gather_step(&gathers[0], &done), NULL);
    assert_false(done);
    assert_ok(
        comm_gather_begin(&gathers[1], ranks[1].comm, (const uint8_t *)"cde", 3, 100, offsets[1]),
        NULL);
    bool all[2] = {false, false};
    for (int i = 0; i < 10 && !(all[0] && all[1]); i++) {
        for (int rank = 0; rank < 2; rank++) {
            if (!all[rank]) {
                assert_ok(comm_gather_step(&gathers[rank], &all[rank]), NULL);
            }
        }
    }
    for (int rank = 0; rank < 2; rank++) {
        assert_true(all[rank]);
        assert_int_equal(offsets[rank][1], 2);
        assert_int_equal(offsets[rank][2], 5);
        assert_memory_equal(gathers[rank].receive, "abcde", 5);
        comm_gather_finish(&gathers[rank]);
        comm_close(ranks[rank].comm);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lanes_do_not_wait_for_each_other),
        cmocka_unit_test(test_collectives_are_exact_for_every_world_size),
        cmocka_unit_test(test_absent_rank_ends_the_wait_at_the_deadline),
        cmocka_unit_test(test_deadline_of_one_rank_wakes_the_others),
        cmocka_unit_test(test_abort_wakes_every_waiting_rank),
        cmocka_unit_test(test_closed_rank_is_a_lost_peer),
        cmocka_unit_test(test_idle_callback_runs_while_a_rank_waits),
        cmocka_unit_test(test_wait_that_is_abandoned_ends),
    };
    return cmocka_run_group_tests_name("comm_local", tests, NULL, NULL);
}
