// coordinator/scheduler.c with groups that exist only as numbers: fairness, placement, loss and
// retry.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/scheduler.h"
#include "tests/support/testkit.h"

// A job that gives out candidates 1..n, each forked from the prompt, or children of `parents`.
struct source {
    uint64_t next_id;
    uint64_t last_id;
    const uint64_t *parents; // [last_id + 1], NULL: all from the prompt
    uint32_t n_penalties;
    const uint32_t *penalty_ids;
    const float *penalties;
};

static bool source_next(void *context, struct search_grow *out) {
    struct source *source = context;
    static const uint32_t tokens[4] = {7, 8, 9, 10};
    if (source->next_id > source->last_id) {
        return false;
    }
    uint64_t id = source->next_id++;
    *out = (struct search_grow){
        .candidate_id = id,
        .parent_id = source->parents != NULL ? source->parents[id] : 0,
        .tokens = tokens,
        .n_tokens = 4,
        .grow_tokens = 8,
        .penalty_ids = source->penalty_ids,
        .penalties = source->penalties,
        .n_penalties = source->n_penalties,
    };
    return true;
}

static struct source candidates(uint64_t n) {
    return (struct source){.next_id = 1, .last_id = n};
}

static struct scheduler *make(int n_groups, uint32_t slots) {
    struct scheduler *scheduler;
    assert_ok(scheduler_create(&scheduler), NULL);
    for (int g = 0; g < n_groups; g++) {
        scheduler_add_group(scheduler, g, slots);
    }
    return scheduler;
}

static void add_job(struct scheduler *scheduler, uint64_t id, struct source *source) {
    assert_ok(scheduler_add_job(scheduler, id, 100, 2, source_next, source), NULL);
}

static const struct scheduler_order *dispatch(struct scheduler *scheduler, int group) {
    assert_ok(scheduler_dispatch(scheduler), NULL);
    return scheduler_take_order(scheduler, group);
}

// Answers the order of `group`, every item grown.
static void answer(struct scheduler *scheduler, int group, const struct scheduler_order *order) {
    struct scheduler_order *done = scheduler_finish_order(scheduler, group, order->order_id);
    assert_non_null(done);
    for (size_t i = 0; i < done->n_items; i++) {
        scheduler_place(scheduler, done->items[i], group);
    }
    scheduler_order_destroy(done);
}

static size_t count_job(const struct scheduler_order *order, uint64_t job_id) {
    size_t count = 0;
    for (size_t i = 0; i < order->n_items; i++) {
        count += order->items[i]->job_id == job_id ? 1 : 0;
    }
    return count;
}

// In turns of half the slots, 32 candidates at most.
static void check_turns(uint32_t slots, const size_t expected[3][3]) {
    struct scheduler *scheduler = make(1, slots);
    struct source sources[3] = {candidates(300), candidates(300), candidates(300)};
    for (uint64_t j = 0; j < 3; j++) {
        add_job(scheduler, j + 1, &sources[j]);
    }
    for (int turn = 0; turn < 3; turn++) {
        const struct scheduler_order *order = dispatch(scheduler, 0);
        assert_int_equal(order->n_items, slots);
        for (uint64_t j = 1; j <= 3; j++) {
            assert_int_equal(count_job(order, j), expected[turn][j - 1]);
        }
        answer(scheduler, 0, order);
    }
    scheduler_destroy(scheduler);
}

static void test_jobs_get_equal_shares_in_turns(void **state) {
    (void)state;
    check_turns(12, (const size_t[3][3]){{6, 6, 0}, {6, 0, 6}, {0, 6, 6}});
    check_turns(64, (const size_t[3][3]){{32, 32, 0}, {32, 0, 32}, {0, 32, 32}});
    check_turns(96, (const size_t[3][3]){{32, 32, 32}, {32, 32, 32}, {32, 32, 32}});
}

// Ten jobs of which the group can hold four at a time: these get equal shares, and as they end the
// others come in, oldest first.
static void test_no_job_starves_when_jobs_outnumber_slots(void **state) {
    (void)state;
    struct scheduler *scheduler = make(1, 4);
    struct source sources[10];
    size_t served[11] = {0};
    for (uint64_t j = 0; j < 10; j++) {
        sources[j] = candidates(4);
        add_job(scheduler, j + 1, &sources[j]);
    }
    for (int turn = 0; turn < 10; turn++) {
        const struct scheduler_order *order = dispatch(scheduler, 0);
        assert_int_equal(order->n_items, 4);
        for (size_t i = 0; i < order->n_items; i++) {
            served[order->items[i]->job_id]++;
        }
        answer(scheduler, 0, order);
        if (turn == 1 || turn == 3) {
            for (uint64_t j = 1; j <= 10; j++) {
                assert_int_equal(served[j], j > 4 ? 0 : turn + 1);
            }
        }
        for (uint64_t j = 1; j <= 10; j++) {
            if (served[j] == 4) {
                scheduler_remove_job(scheduler, j);
            }
        }
    }
    for (uint64_t j = 1; j <= 10; j++) {
        assert_int_equal(served[j], 4);
    }
    assert_null(dispatch(scheduler, 0));
    scheduler_destroy(scheduler);
}

// Grows what the first jobs have until the groups hold all they can; returns the orders it took
// until job `awaited` was served.
static int serve_until(struct scheduler *scheduler, uint64_t awaited) {
    for (int n = 1; n <= 100; n++) {
        const struct scheduler_order *order = dispatch(scheduler, 0);
        bool served = count_job(order, awaited) > 0;
        answer(scheduler, 0, order);
        if (served) {
            return n;
        }
    }
    fail_msg("job %d waits for ever", (int)awaited);
    return 0;
}

static void test_job_without_room_waits_but_not_for_ever(void **state) {
    (void)state;
    struct scheduler *scheduler = make(1, 4);
    struct source first = candidates(10000);
    struct source second = candidates(10000);
    struct source third = candidates(10000);
    struct source fourth = candidates(10000);
    add_job(scheduler, 1, &first);
    add_job(scheduler, 2, &second);
    for (int i = 0; i < 10; i++) {
        answer(scheduler, 0, dispatch(scheduler, 0));
    }
    add_job(scheduler, 3, &third);
    add_job(scheduler, 4, &fourth);
    // 512 tokens of each slot are 64 orders of 8; ten are done. Two jobs fill an order: the turn of
    // the fourth comes in the next.
    assert_int_equal(serve_until(scheduler, 3), 55);
    assert_int_equal(serve_until(scheduler, 4), 65);
    scheduler_destroy(scheduler);
}

static void test_free_slots_are_for_jobs_without_room(void **state) {
    (void)state;
    struct scheduler *scheduler = make(1, 4);
    struct source first = candidates(8); // both together as many as the group can hold
    struct source second = candidates(8);
    struct source late = candidates(4);
    add_job(scheduler, 1, &first);
    add_job(scheduler, 2, &second);
    for (int i = 0; i < 4; i++) {
        answer(scheduler, 0, dispatch(scheduler, 0));
    }
    first.last_id = 9; // one more
    add_job(scheduler, 3, &late);
    const struct scheduler_order *order = dispatch(scheduler, 0);
    assert_int_equal(count_job(order, 1), 1);
    assert_int_equal(count_job(order, 3), 3);
    scheduler_destroy(scheduler);
}

static void test_what_goes_on_comes_before_what_begins(void **state) {
    (void)state;
    struct scheduler *scheduler = make(1, 2);
    struct source source = candidates(4);
    struct source other = candidates(2);
    static const uint64_t parents[8] = {0, 0, 0, 0, 0, 1, 6, 7}; // 6 and 7 go on themselves
    source.parents = parents;
    add_job(scheduler, 1, &source);
    add_job(scheduler, 2, &other);
    // One of each job; the first job's second candidate is taken from its search but waits.
    answer(scheduler, 0, dispatch(scheduler, 0));
    source.next_id = 6;
    source.last_id = 7;
    scheduler_remove_job(scheduler, 2);
    const struct scheduler_order *order = dispatch(scheduler, 0);
    assert_int_equal(order->n_items, 2);
    assert_true(order->items[0]->candidate_id == 6 && order->items[1]->candidate_id == 2);
    scheduler_destroy(scheduler);
}

static void test_small_job_gets_through_beside_a_large_one(void **state) {
    (void)state;
    struct scheduler *scheduler = make(1, 8);
    struct source large = candidates(4096);
    struct source small = candidates(3);
    add_job(scheduler, 1, &large);
    const struct scheduler_order *order = dispatch(scheduler, 0);
    add_job(scheduler, 2, &small);
    answer(scheduler, 0, order);
    order = dispatch(scheduler, 0);
    assert_int_equal(count_job(order, 2), 3);
    assert_int_equal(count_job(order, 1), 5);
    scheduler_destroy(scheduler);
}

static void test_first_step_spreads_over_groups_by_slots(void **state) {
    (void)state;
    struct scheduler *scheduler = make(0, 0);
    scheduler_add_group(scheduler, 0, 32);
    scheduler_add_group(scheduler, 5, 16);
    struct source source = candidates(24);
    add_job(scheduler, 1, &source);
    assert_ok(scheduler_dispatch(scheduler), NULL);
    assert_int_equal(scheduler_take_order(scheduler, 0)->n_items, 16);
    assert_int_equal(scheduler_take_order(scheduler, 5)->n_items, 8);
    assert_null(scheduler_take_order(scheduler, 0));
    scheduler_destroy(scheduler);
}

static void test_children_go_where_their_parent_is(void **state) {
    (void)state;
    struct scheduler *scheduler = make(2, 16);
    struct source source = candidates(4);
    add_job(scheduler, 1, &source);
    assert_ok(scheduler_dispatch(scheduler), NULL);
    int holder[5] = {-1};
    for (int g = 0; g < 2; g++) {
        const struct scheduler_order *order = scheduler_take_order(scheduler, g);
        assert_int_equal(order->n_items, 2);
        for (size_t i = 0; i < 2; i++) {
            holder[order->items[i]->candidate_id] = g;
        }
        answer(scheduler, g, order);
    }
    static const uint64_t parents[9] = {0, 0, 0, 0, 0, 1, 2, 3, 4};
    source.parents = parents;
    source.last_id = 8;
    assert_ok(scheduler_dispatch(scheduler), NULL);
    for (int g = 0; g < 2; g++) {
        const struct scheduler_order *order = scheduler_take_order(scheduler, g);
        assert_int_equal(order->n_items, 2);
        for (size_t i = 0; i < 2; i++) {
            assert_int_equal(holder[order->items[i]->parent_id], g);
        }
    }
    scheduler_destroy(scheduler);
}

// One group holds all parents: the other takes the excess over one and a half shares.
static void test_lopsided_beams_are_spread_again(void **state) {
    (void)state;
    struct scheduler *scheduler = make(1, 32);
    struct source source = candidates(1);
    add_job(scheduler, 1, &source);
    answer(scheduler, 0, dispatch(scheduler, 0));
    scheduler_add_group(scheduler, 1, 32);
    static const uint64_t parents[18] = {0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    source.parents = parents;
    source.last_id = 17;
    assert_ok(scheduler_dispatch(scheduler), NULL);
    assert_int_equal(scheduler_take_order(scheduler, 0)->n_items, 12);
    assert_int_equal(scheduler_take_order(scheduler, 1)->n_items, 4);
    scheduler_destroy(scheduler);
}

static void test_idle_group_takes_half_of_what_waits_for_a_busy_one(void **state) {
    (void)state;
    struct scheduler *scheduler = make(1, 32);
    struct source first = candidates(1);
    struct source other = candidates(1);
    add_job(scheduler, 1, &first);
    answer(scheduler, 0, dispatch(scheduler, 0));
    add_job(scheduler, 2, &other);
    assert_int_equal(dispatch(scheduler, 0)->n_items, 1); // busy with the other job
    scheduler_add_group(scheduler, 1, 32);
    static const uint64_t parents[10] = {0, 0, 1, 1, 1, 1, 1, 1, 1, 1};
    first.parents = parents;
    first.last_id = 9;
    const struct scheduler_order *order = dispatch(scheduler, 1);
    assert_int_equal(order->n_items, 4);
    assert_int_equal(count_job(order, 1), 4);
    scheduler_destroy(scheduler);
}

static void test_lost_group_gives_its_order_to_another(void **state) {
    (void)state;
    struct scheduler *scheduler = make(1, 8);
    struct source source = candidates(6);
    add_job(scheduler, 1, &source);
    const struct scheduler_order *order = dispatch(scheduler, 0);
    uint64_t order_id = order->order_id;
    assert_int_equal(order->n_items, 6);
    assert_int_equal(scheduler_remove_group(scheduler, 0), 6);
    scheduler_add_group(scheduler, 1, 8);
    order = dispatch(scheduler, 1);
    assert_int_equal(order->n_items, 6);
    for (size_t i = 0; i < 6; i++) {
        assert_true(order->items[i]->candidate_id == i + 1);
    }
    // What the lost group says later is not taken for an answer.
    scheduler_add_group(scheduler, 0, 8);
    assert_null(scheduler_finish_order(scheduler, 0, order_id));
    assert_null(scheduler_finish_order(scheduler, 1, order_id));
    scheduler_destroy(scheduler);
}

static void test_group_gets_a_second_order_where_both_are_full(void **state) {
    (void)state;
    struct scheduler *scheduler = make(1, 8);
    struct source source = candidates(26);
    add_job(scheduler, 1, &source);
    const struct scheduler_order *orders[3] = {dispatch(scheduler, 0), dispatch(scheduler, 0),
                                               dispatch(scheduler, 0)};
    assert_int_equal(orders[0]->n_items, 8);
    assert_int_equal(orders[1]->n_items, 8);
    assert_null(orders[2]); // two at a time
    assert_int_equal(scheduler_group_load(scheduler, 0), 16);
    const struct scheduler_order *out[SCHEDULER_ORDERS_MAX];
    assert_int_equal(scheduler_get_orders(scheduler, 0, out), 2);
    assert_ptr_equal(out[0], orders[0]);
    assert_ptr_equal(out[1], orders[1]);
    answer(scheduler, 0, orders[0]);
    orders[2] = dispatch(scheduler, 0);
    assert_int_equal(orders[2]->n_items, 8);
    assert_true(orders[2]->items[0]->candidate_id == 17);
    answer(scheduler, 0, orders[1]);
    assert_null(dispatch(scheduler, 0)); // two are left, which wait for company
    answer(scheduler, 0, orders[2]);
    assert_int_equal(dispatch(scheduler, 0)->n_items, 2);
    scheduler_destroy(scheduler);
}

static void test_order_that_leaves_slots_has_none_behind_it(void **state) {
    (void)state;
    struct scheduler *scheduler = make(1, 8);
    struct source sources[2] = {candidates(7), candidates(20)};
    add_job(scheduler, 1, &sources[0]);
    assert_int_equal(dispatch(scheduler, 0)->n_items, 7);
    add_job(scheduler, 2, &sources[1]);
    assert_null(dispatch(scheduler, 0));
    scheduler_destroy(scheduler);
}

static void test_lost_group_gives_both_its_orders_back(void **state) {
    (void)state;
    struct scheduler *scheduler = make(1, 8);
    struct source source = candidates(20);
    add_job(scheduler, 1, &source);
    assert_non_null(dispatch(scheduler, 0));
    assert_non_null(dispatch(scheduler, 0));
    assert_int_equal(scheduler_remove_group(scheduler, 0), 16);
    scheduler_add_group(scheduler, 1, 32);
    const struct scheduler_order *order = dispatch(scheduler, 1);
    assert_int_equal(order->n_items, 20);
    for (size_t i = 0; i < 20; i++) {
        assert_true(order->items[i]->candidate_id == i + 1);
    }
    scheduler_destroy(scheduler);
}

static void test_job_set_apart_has_one_order_to_itself(void **state) {
    (void)state;
    struct scheduler *scheduler = make(2, 8);
    struct source sources[2] = {candidates(40), candidates(40)};
    add_job(scheduler, 1, &sources[0]);
    add_job(scheduler, 2, &sources[1]);
    answer(scheduler, 0, dispatch(scheduler, 0));
    scheduler_set_apart(scheduler, 2, UINT32_MAX);
    const struct scheduler_order *other = scheduler_take_order(scheduler, 1);
    assert_true(count_job(other, 2) > 0);
    const struct scheduler_order *order = dispatch(scheduler, 0);
    assert_int_equal(count_job(order, 2), 0); // some of it are out with the other group still
    answer(scheduler, 1, other);
    other = dispatch(scheduler, 1);
    assert_int_equal(count_job(other, 2), other->n_items);
    answer(scheduler, 0, order);
    order = dispatch(scheduler, 0);
    assert_int_equal(count_job(order, 1), order->n_items);
    answer(scheduler, 1, other);
    answer(scheduler, 0, order);
    scheduler_remove_group(scheduler, 1);
    scheduler_set_apart(scheduler, 2, 1);
    order = dispatch(scheduler, 0);
    assert_int_equal(order->n_items, 1);
    assert_int_equal(count_job(order, 2), 1);
    answer(scheduler, 0, order);
    scheduler_set_apart(scheduler, 2, 0);
    order = dispatch(scheduler, 0);
    assert_true(count_job(order, 1) > 0 && count_job(order, 2) > 0);
    scheduler_destroy(scheduler);
}

static void test_item_avoids_a_group_while_there_is_another(void **state) {
    (void)state;
    struct scheduler *scheduler = make(2, 8);
    struct source source = candidates(1);
    add_job(scheduler, 1, &source);
    const struct scheduler_order *order = dispatch(scheduler, 0);
    int first = order != NULL ? 0 : 1;
    order = order != NULL ? order : scheduler_take_order(scheduler, 1);
    for (int turn = 0; turn < 2; turn++) {
        struct scheduler_order *done = scheduler_finish_order(scheduler, first, order->order_id);
        done->items[0]->avoid = first;
        assert_true(scheduler_retry(scheduler, done, 0));
        scheduler_order_destroy(done);
        assert_null(dispatch(scheduler, first));
        order = scheduler_take_order(scheduler, 1 - first);
        assert_int_equal(order->n_items, 1);
        first = 1 - first;
    }
    assert_true(scheduler_has_other_group(scheduler, first));
    order->items[0]->avoid = 1 - first;
    scheduler_remove_group(scheduler, first);
    assert_false(scheduler_has_other_group(scheduler, 1 - first));
    assert_int_equal(dispatch(scheduler, 1 - first)->n_items, 1);
    scheduler_destroy(scheduler);
}

static void test_group_short_of_memory_gets_smaller_orders(void **state) {
    (void)state;
    struct scheduler *scheduler = make(1, 8);
    struct source source = candidates(100);
    add_job(scheduler, 1, &source);
    const struct scheduler_order *order = dispatch(scheduler, 0);
    struct scheduler_order *done = scheduler_finish_order(scheduler, 0, order->order_id);
    for (size_t i = 0; i < 2; i++) {
        scheduler_place(scheduler, done->items[i], 0);
    }
    for (size_t i = 8; i > 2; i--) {
        assert_true(scheduler_retry(scheduler, done, i - 1));
    }
    scheduler_order_destroy(done);
    scheduler_limit_group(scheduler, 0, 2);
    const size_t expected[] = {2, 4, 8, 8};
    for (size_t i = 0; i < 4; i++) {
        order = dispatch(scheduler, 0);
        assert_int_equal(order->n_items, expected[i]);
        if (i == 0) {
            assert_true(order->items[0]->candidate_id == 3);
        }
        answer(scheduler, 0, order);
    }
    scheduler_destroy(scheduler);
}

static void test_releases_reach_the_holder_once(void **state) {
    (void)state;
    struct scheduler *scheduler = make(1, 8);
    struct source source = candidates(3);
    add_job(scheduler, 9, &source);
    answer(scheduler, 0, dispatch(scheduler, 0));
    const uint64_t released[2] = {1, 3};
    scheduler_release(scheduler, 9, released, 2);
    scheduler_release(scheduler, 9, released, 1);
    size_t n = 0;
    const struct scheduler_release *list = scheduler_take_releases(scheduler, 0, &n);
    assert_int_equal(n, 2);
    assert_true(list[0].job_id == 9 && list[0].candidate_id == 1 && list[1].candidate_id == 3);
    const uint64_t last = 2;
    scheduler_release(scheduler, 9, &last, 1);
    scheduler_remove_job(scheduler, 9);
    list = scheduler_take_releases(scheduler, 0, &n);
    assert_int_equal(n, 1);
    assert_true(list[0].job_id == 9 && list[0].candidate_id == 0);
    scheduler_destroy(scheduler);
}

static void test_jobs_are_described_once_to_each_group(void **state) {
    (void)state;
    struct scheduler *scheduler = make(2, 8);
    struct source source = candidates(1);
    add_job(scheduler, 1, &source);
    assert_true(scheduler_tell_job(scheduler, 0, 1));
    assert_false(scheduler_tell_job(scheduler, 0, 1));
    assert_true(scheduler_tell_job(scheduler, 1, 1));
    scheduler_forget_job(scheduler, 0, 1);
    assert_true(scheduler_tell_job(scheduler, 0, 1));
    scheduler_destroy(scheduler);
}

static void test_rows_of_a_removed_job_go_nowhere(void **state) {
    (void)state;
    struct scheduler *scheduler = make(1, 8);
    struct source source = candidates(4);
    add_job(scheduler, 1, &source);
    const struct scheduler_order *order = dispatch(scheduler, 0);
    scheduler_remove_job(scheduler, 1);
    struct scheduler_order *done = scheduler_finish_order(scheduler, 0, order->order_id);
    scheduler_place(scheduler, done->items[0], 0);
    assert_false(scheduler_retry(scheduler, done, 1));
    scheduler_order_destroy(done);
    assert_null(dispatch(scheduler, 0));
    scheduler_destroy(scheduler);
}

static void test_penalties_are_shared_by_items_and_copied_from_the_search(void **state) {
    (void)state;
    struct scheduler *scheduler = make(1, 8);
    uint32_t ids[2] = {5, 6};
    float values[2] = {1.0f, 2.0f};
    struct source source = candidates(3);
    source.n_penalties = 2;
    source.penalty_ids = ids;
    source.penalties = values;
    add_job(scheduler, 1, &source);
    const struct scheduler_order *order = dispatch(scheduler, 0);
    ids[0] = 99;
    assert_int_equal(order->items[0]->penalties->token_ids[0], 5);
    assert_true(order->items[2]->penalties->values[1] == 2.0f);
    assert_ptr_equal(order->items[0]->penalties, order->items[2]->penalties);
    scheduler_destroy(scheduler);
}

// The same events give the same orders, item by item.
// Beam searches on a group that holds so many candidates and gives up those unused for longest.
enum { BEAM_JOBS = 32, BEAM_SLOTS = 64, BEAM_HELD = 6 * BEAM_SLOTS, BEAM_TOKENS = 64 };

struct held {
    uint64_t job_id; // 0: free
    uint64_t candidate_id;
    uint64_t used;
};

struct beam_group {
    struct scheduler *scheduler;
    struct search *searches[BEAM_JOBS + 1]; // by job id; NULL: ended
    struct held held[BEAM_HELD];
    uint64_t clock;
    uint64_t rebuilt; // tokens
    uint64_t sampled;
};

static bool beam_next(void *search, struct search_grow *out) {
    return search_next(search, out);
}

static struct held *find_held(struct beam_group *group, uint64_t job_id, uint64_t candidate_id) {
    for (size_t i = 0; i < BEAM_HELD; i++) {
        if (group->held[i].job_id == job_id && group->held[i].candidate_id == candidate_id) {
            return &group->held[i];
        }
    }
    return NULL;
}

static void hold(struct beam_group *group, uint64_t job_id, uint64_t candidate_id) {
    struct held *place = find_held(group, job_id, candidate_id);
    for (size_t i = 0; place == NULL && i < BEAM_HELD; i++) {
        place = group->held[i].job_id == 0 ? &group->held[i] : NULL;
    }
    for (size_t i = 0; place == NULL || (place->job_id != 0 && i < BEAM_HELD); i++) {
        place = place == NULL || group->held[i].used < place->used ? &group->held[i] : place;
    }
    *place = (struct held){.job_id = job_id, .candidate_id = candidate_id, .used = ++group->clock};
}

static void carry_out_releases(struct beam_group *group) {
    size_t n = 0;
    const struct scheduler_release *releases = scheduler_take_releases(group->scheduler, 0, &n);
    for (size_t r = 0; r < n; r++) {
        for (size_t i = 0; i < BEAM_HELD; i++) {
            if (group->held[i].job_id == releases[r].job_id &&
                (releases[r].candidate_id == 0 ||
                 group->held[i].candidate_id == releases[r].candidate_id)) {
                group->held[i].job_id = 0;
            }
        }
    }
}

// The row of an item that has grown: the reward is anything, the same on every run.
static void give_row(struct beam_group *group, const struct scheduler_item *item) {
    struct search *search = group->searches[item->job_id];
    const uint32_t tokens[32] = {(uint32_t)item->candidate_id, 1};
    const float logprobs[32] = {0};
    const struct search_score score = {.end_score =
                                           (float)(item->candidate_id * 2654435761u % 1009)};
    bool ends = item->n_tokens + item->grow_tokens == BEAM_TOKENS;
    const struct search_row row = {
        .candidate_id = item->candidate_id,
        .token_ids = tokens,
        .logprobs = logprobs,
        .n_tokens = item->grow_tokens,
        .finish = ends ? SEARCH_FINISH_LENGTH : SEARCH_FINISH_NONE,
        .scores = &score,
        .n_places = item->n_tokens + item->grow_tokens,
    };
    struct error err;
    assert_ok(search_on_row(search, &row, &err), &err);
    group->sampled += item->grow_tokens;
    uint64_t released[64];
    for (size_t n; (n = search_take_released(search, released, 64)) > 0;) {
        scheduler_release(group->scheduler, item->job_id, released, n);
    }
    if (search_is_done(search)) {
        scheduler_remove_job(group->scheduler, item->job_id);
        search_destroy(search);
        group->searches[item->job_id] = NULL;
    }
}

static void run_beam_order(struct beam_group *group, const struct scheduler_order *order) {
    carry_out_releases(group);
    struct scheduler_order *done = scheduler_finish_order(group->scheduler, 0, order->order_id);
    for (size_t i = 0; i < done->n_items; i++) {
        const struct scheduler_item *item = done->items[i];
        struct held *parent = find_held(group, item->job_id, item->parent_id);
        if (parent != NULL) {
            parent->used = ++group->clock;
        } else if (item->n_tokens > 0) {
            group->rebuilt += item->n_tokens;
            hold(group, item->job_id, item->parent_id); // its other children find it
        }
        hold(group, item->job_id, item->candidate_id);
        scheduler_place(group->scheduler, item, 0);
    }
    for (size_t i = 0; i < done->n_items; i++) {
        give_row(group, done->items[i]);
    }
    scheduler_order_destroy(done);
}

// Many orders, as short blocks make them, must not let in what the group cannot hold.
static void test_short_blocks_rebuild_no_more_than_long_ones(void **state) {
    (void)state;
    static const uint32_t blocks[] = {1, 2, 4, 32};
    for (size_t b = 0; b < sizeof blocks / sizeof blocks[0]; b++) {
        static struct beam_group group;
        group = (struct beam_group){.scheduler = make(1, BEAM_SLOTS)};
        const struct search_spec spec = {.method = SEARCH_METHOD_BEAM,
                                         .selection = SEARCH_SELECTION_PLAIN,
                                         .n = 32,
                                         .survivors = 8,
                                         .block_tokens = blocks[b],
                                         .block_growth = 1,
                                         .n_min = 32,
                                         .max_tokens = BEAM_TOKENS,
                                         .tries = 1,
                                         .tilt.transform = TILT_TRANSFORM_NONE};
        for (uint64_t id = 1; id <= BEAM_JOBS; id++) {
            assert_ok(search_create(&spec, &group.searches[id], NULL), NULL);
            assert_ok(scheduler_add_job(group.scheduler, id, 100, 2, beam_next, group.searches[id]),
                      NULL);
        }
        const struct scheduler_order *order;
        uint64_t n_orders = 0, n_items = 0;
        while ((order = dispatch(group.scheduler, 0)) != NULL) {
            n_orders++;
            n_items += order->n_items;
            run_beam_order(&group, order);
        }
        assert_int_equal(group.sampled, BEAM_JOBS * 32 * BEAM_TOKENS);
        assert_true(group.rebuilt <= group.sampled / 20);
        assert_true(n_items >= n_orders * BEAM_SLOTS * 9 / 10);
        scheduler_destroy(group.scheduler);
    }
}

static void test_orders_are_a_function_of_events(void **state) {
    (void)state;
    uint64_t trace[2][64];
    for (int run = 0; run < 2; run++) {
        struct scheduler *scheduler = make(3, 5);
        struct source sources[2] = {candidates(20), candidates(9)};
        add_job(scheduler, 1, &sources[0]);
        add_job(scheduler, 2, &sources[1]);
        size_t n = 0;
        for (int turn = 0; turn < 2; turn++) {
            assert_ok(scheduler_dispatch(scheduler), NULL);
            for (int g = 0; g < 3; g++) {
                const struct scheduler_order *order = scheduler_take_order(scheduler, g);
                if (order == NULL) {
                    continue;
                }
                for (size_t i = 0; i < order->n_items; i++) {
                    trace[run][n++] = (uint64_t)g * 10000 + order->items[i]->job_id * 100 +
                                      order->items[i]->candidate_id;
                }
                answer(scheduler, g, order);
            }
        }
        assert_int_equal(n, 29);
        scheduler_destroy(scheduler);
    }
    assert_memory_equal(trace[0], trace[1], 29 * sizeof(uint64_t));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_jobs_get_equal_shares_in_turns),
        cmocka_unit_test(test_no_job_starves_when_jobs_outnumber_slots),
        cmocka_unit_test(test_job_without_room_waits_but_not_for_ever),
        cmocka_unit_test(test_free_slots_are_for_jobs_without_room),
        cmocka_unit_test(test_what_goes_on_comes_before_what_begins),
        cmocka_unit_test(test_small_job_gets_through_beside_a_large_one),
        cmocka_unit_test(test_first_step_spreads_over_groups_by_slots),
        cmocka_unit_test(test_children_go_where_their_parent_is),
        cmocka_unit_test(test_lopsided_beams_are_spread_again),
        cmocka_unit_test(test_idle_group_takes_half_of_what_waits_for_a_busy_one),
        cmocka_unit_test(test_lost_group_gives_its_order_to_another),
        cmocka_unit_test(test_group_gets_a_second_order_where_both_are_full),
        cmocka_unit_test(test_order_that_leaves_slots_has_none_behind_it),
        cmocka_unit_test(test_lost_group_gives_both_its_orders_back),
        cmocka_unit_test(test_job_set_apart_has_one_order_to_itself),
        cmocka_unit_test(test_item_avoids_a_group_while_there_is_another),
        cmocka_unit_test(test_group_short_of_memory_gets_smaller_orders),
        cmocka_unit_test(test_releases_reach_the_holder_once),
        cmocka_unit_test(test_jobs_are_described_once_to_each_group),
        cmocka_unit_test(test_rows_of_a_removed_job_go_nowhere),
        cmocka_unit_test(test_penalties_are_shared_by_items_and_copied_from_the_search),
        cmocka_unit_test(test_short_blocks_rebuild_no_more_than_long_ones),
        cmocka_unit_test(test_orders_are_a_function_of_events),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
