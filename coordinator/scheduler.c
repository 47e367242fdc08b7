#include "coordinator/scheduler.h"

#include <stdlib.h>
#include <string.h>

#include "coordinator/scheduler_job.h"

enum {
    // Bound of one order and of the rows that it can bring back, well below the message limit.
    ORDER_BYTES_MAX = LIMIT_GROUP_MESSAGE_BYTES / 4,
    ITEM_BYTES = 64, // of an item or row besides its arrays
    // Candidates that a group is given to hold, for each of its slots: two thirds of what it has
    // room for, the rest is for parents that are released late.
    HELD_PER_SLOT = 4,
    // A job waits for at most so many tokens of each slot times the number of jobs that came before
    // it. Tokens, because orders of short blocks are many and pass quickly: letting a job in for
    // each few of them fills the groups with more than they hold, and all of it is computed again.
    PATIENCE_TOKENS = 512,
    // Candidates of one job in a turn, half of all slots at most: those of a step together, because
    // models read once what they still share.
    TURN_ITEMS = 32,
};

struct group_state {
    bool alive;
    uint32_t slots;
    uint32_t slots_now; // lowered while the group is short of memory
    struct scheduler_order *sent[SCHEDULER_ORDERS_MAX]; // [n_sent], oldest first
    size_t n_sent;
    struct scheduler_order *order; // being filled, or about to be taken; NULL none
    uint32_t cap;                  // of the dispatch in progress
    struct scheduler_release *releases;
    size_t n_releases;
    size_t release_capacity;
};

struct scheduler {
    struct group_state groups[LIMIT_GROUPS];
    int n_groups;                // those above were never used
    struct scheduler_job **jobs; // [n_jobs], oldest first
    size_t n_jobs;
    size_t job_capacity;
    size_t turn;         // index of the job whose turn it is
    uint32_t turn_items; // at most, in a turn of the dispatch in progress
    uint64_t last_order_id;
    uint64_t tokens;      // asked for in all orders
    uint64_t admitted_at; // tokens when a job was last admitted
    struct scheduler_release *taken_releases;
};

static bool test_bit(const uint64_t *words, int bit) {
    return (words[bit / SCHEDULER_WORD_BITS] >> (bit % SCHEDULER_WORD_BITS) & 1) != 0;
}

static void set_bit(uint64_t *words, int bit, bool value) {
    uint64_t mask = UINT64_C(1) << (bit % SCHEDULER_WORD_BITS);
    words[bit / SCHEDULER_WORD_BITS] =
        value ? words[bit / SCHEDULER_WORD_BITS] | mask : words[bit / SCHEDULER_WORD_BITS] & ~mask;
}

void scheduler_order_destroy(struct scheduler_order *order) {
    if (order != NULL) {
        for (size_t i = 0; i < order->n_items; i++) {
            scheduler_item_destroy(order->items[i]);
        }
        free(order->items);
        free(order);
    }
}

enum status scheduler_create(struct scheduler **out) {
    struct scheduler *scheduler = calloc(1, sizeof *scheduler);
    if (scheduler == NULL) {
        return STATUS_NO_MEMORY;
    }
    *out = scheduler;
    return STATUS_OK;
}

void scheduler_destroy(struct scheduler *scheduler) {
    if (scheduler == NULL) {
        return;
    }
    for (int g = 0; g < scheduler->n_groups; g++) {
        struct group_state *group = &scheduler->groups[g];
        scheduler_order_destroy(group->order);
        for (size_t i = 0; i < group->n_sent; i++) {
            scheduler_order_destroy(group->sent[i]);
        }
        free(group->releases);
    }
    for (size_t i = 0; i < scheduler->n_jobs; i++) {
        scheduler_job_destroy(scheduler->jobs[i]);
    }
    free(scheduler->jobs);
    free(scheduler->taken_releases);
    free(scheduler);
}

static struct scheduler_job *find_job(const struct scheduler *scheduler, uint64_t job_id) {
    for (size_t i = 0; i < scheduler->n_jobs; i++) {
        if (scheduler->jobs[i]->job_id == job_id) {
            return scheduler->jobs[i];
        }
    }
    return NULL;
}

static struct group_state *group_at(struct scheduler *scheduler, int group) {
    ASSERT(group >= 0 && group < LIMIT_GROUPS);
    return &scheduler->groups[group];
}

void scheduler_add_group(struct scheduler *scheduler, int group, uint32_t slots) {
    ASSERT(slots > 0);
    struct group_state *state = group_at(scheduler, group);
    ASSERT(!state->alive);
    scheduler->n_groups = group >= scheduler->n_groups ? group + 1 : scheduler->n_groups;
    state->alive = true;
    state->slots = slots;
    state->slots_now = slots;
}

// Puts an item in front of its job's queue, or drops it when the job is gone.
static bool requeue(struct scheduler *scheduler, struct scheduler_item *item) {
    struct scheduler_job *job = find_job(scheduler, item->job_id);
    if (job == NULL) {
        scheduler_item_destroy(item);
        return false;
    }
    scheduler_job_requeue(job, item);
    return true;
}

// Puts an order's candidates back in front of their jobs' queues.
static size_t requeue_order(struct scheduler *scheduler, struct scheduler_order *order) {
    size_t n = order != NULL ? order->n_items : 0;
    // Backwards, so that the first stays the first.
    for (size_t i = n; i > 0; i--) {
        requeue(scheduler, order->items[i - 1]);
    }
    if (order != NULL) {
        order->n_items = 0;
        scheduler_order_destroy(order);
    }
    return n;
}

size_t scheduler_remove_group(struct scheduler *scheduler, int group) {
    struct group_state *state = group_at(scheduler, group);
    size_t returned = requeue_order(scheduler, state->order);
    for (size_t i = state->n_sent; i > 0; i--) {
        returned += requeue_order(scheduler, state->sent[i - 1]);
    }
    free(state->releases);
    *state = (struct group_state){.alive = false};
    for (size_t j = 0; j < scheduler->n_jobs; j++) {
        struct scheduler_job *job = scheduler->jobs[j];
        set_bit(job->told, group, false);
        set_bit(job->counted, group, false);
        scheduler_job_forget_group(job, group);
    }
    return returned;
}

void scheduler_limit_group(struct scheduler *scheduler, int group, uint32_t items) {
    struct group_state *state = group_at(scheduler, group);
    state->slots_now = items == 0 ? 1 : items < state->slots ? items : state->slots;
}

enum status scheduler_add_job(struct scheduler *scheduler, uint64_t job_id, size_t job_bytes,
                              size_t n_scorers, scheduler_next_fn next, void *context) {
    ASSERT(find_job(scheduler, job_id) == NULL);
    struct scheduler_job *job = calloc(1, sizeof *job);
    if (job == NULL || !scheduler_reserve(&scheduler->jobs, scheduler->n_jobs,
                                          &scheduler->job_capacity, sizeof *scheduler->jobs)) {
        free(job);
        return STATUS_NO_MEMORY;
    }
    job->job_id = job_id;
    job->job_bytes = job_bytes;
    job->n_scorers = n_scorers;
    job->next = next;
    job->context = context;
    scheduler->jobs[scheduler->n_jobs++] = job;
    return STATUS_OK;
}

// A release that finds no memory is forgotten: the group frees the job as a whole later, or by
// itself when it runs short.
static void add_release(struct group_state *group, uint64_t job_id, uint64_t candidate_id) {
    if (group->alive && scheduler_reserve(&group->releases, group->n_releases,
                                          &group->release_capacity, sizeof *group->releases)) {
        group->releases[group->n_releases++] =
            (struct scheduler_release){.job_id = job_id, .candidate_id = candidate_id};
    }
}

// The whole job's release stands for those of its candidates.
static void release_job(struct group_state *group, uint64_t job_id) {
    size_t kept = 0;
    for (size_t i = 0; i < group->n_releases; i++) {
        if (group->releases[i].job_id != job_id) {
            group->releases[kept++] = group->releases[i];
        }
    }
    group->n_releases = kept;
    add_release(group, job_id, 0);
}

void scheduler_remove_job(struct scheduler *scheduler, uint64_t job_id) {
    size_t index = 0;
    while (index < scheduler->n_jobs && scheduler->jobs[index]->job_id != job_id) {
        index++;
    }
    if (index == scheduler->n_jobs) {
        return;
    }
    struct scheduler_job *job = scheduler->jobs[index];
    for (int g = 0; g < scheduler->n_groups; g++) {
        if (test_bit(job->touched, g)) {
            release_job(&scheduler->groups[g], job_id);
        }
    }
    scheduler_job_destroy(job);
    scheduler->n_jobs--;
    memmove(scheduler->jobs + index, scheduler->jobs + index + 1,
            (scheduler->n_jobs - index) * sizeof *scheduler->jobs);
    if (scheduler->turn > index) {
        scheduler->turn--;
    }
}

void scheduler_set_apart(struct scheduler *scheduler, uint64_t job_id, uint32_t items_max) {
    struct scheduler_job *job = find_job(scheduler, job_id);
    if (job != NULL) {
        job->apart = items_max;
    }
}

uint64_t scheduler_last_order_id(const struct scheduler *scheduler) {
    return scheduler->last_order_id;
}

static bool is_idle(const struct group_state *group) {
    return group->alive && group->n_sent == 0;
}

// Whether the order that the group works on leaves it no room: another one may wait there then. One
// of a job set apart is alone.
static bool is_full(const struct group_state *group) {
    const struct scheduler_order *last = group->n_sent > 0 ? group->sent[group->n_sent - 1] : NULL;
    return last != NULL && last->apart_job_id == 0 &&
           (last->n_items >= group->slots_now || last->bytes >= ORDER_BYTES_MAX);
}

static bool may_get_order(const struct group_state *group) {
    return is_idle(group) ||
           (group->alive && group->n_sent < SCHEDULER_ORDERS_MAX && is_full(group));
}

static size_t load_of(const struct group_state *group) {
    return group->order != NULL ? group->order->n_items : 0;
}

static bool has_room(const struct group_state *group) {
    return may_get_order(group) && load_of(group) < group->cap &&
           (group->order == NULL || group->order->bytes < ORDER_BYTES_MAX);
}

// Whether the order that `group` is given, or would be, has a place for the job's candidates.
static bool takes(const struct group_state *group, const struct scheduler_job *job) {
    if (!has_room(group)) {
        return false;
    }
    if (group->order == NULL) {
        return job->apart == 0 || (job->n_out == 0 && group->n_sent == 0);
    }
    if (job->apart > 0) {
        return group->order->apart_job_id == job->job_id && group->order->n_items < job->apart;
    }
    return group->order->apart_job_id == 0;
}

// The idle group other than `avoid` with the smallest load for its slots, or -1; `job` NULL: any
// that has room.
static int least_loaded(const struct scheduler *scheduler, const struct scheduler_job *job,
                        int avoid) {
    int best = -1;
    for (int g = 0; g < scheduler->n_groups; g++) {
        const struct group_state *group = &scheduler->groups[g];
        if (g == avoid || !(job != NULL ? takes(group, job) : has_room(group))) {
            continue;
        }
        if (best < 0 || (uint64_t)load_of(group) * scheduler->groups[best].slots <
                            (uint64_t)load_of(&scheduler->groups[best]) * group->slots) {
            best = g;
        }
    }
    return best;
}

bool scheduler_has_other_group(const struct scheduler *scheduler, int group) {
    for (int g = 0; g < scheduler->n_groups; g++) {
        if (g != group && scheduler->groups[g].alive) {
            return true;
        }
    }
    return false;
}

static bool assign(struct scheduler *scheduler, struct scheduler_job *job, size_t index,
                   int target) {
    struct group_state *group = &scheduler->groups[target];
    struct scheduler_item *item = job->queue[index];
    if (group->order == NULL) {
        struct scheduler_order *order = calloc(1, sizeof *order);
        struct scheduler_item **items = calloc(group->slots_now, sizeof(struct scheduler_item *));
        if (order == NULL || items == NULL) {
            free(order);
            free(items);
            return false;
        }
        order->order_id = ++scheduler->last_order_id;
        order->group = target;
        order->apart_job_id = job->apart > 0 ? job->job_id : 0;
        order->items = items;
        group->order = order;
    }
    struct scheduler_order *order = group->order;
    size_t length = (size_t)item->n_tokens + item->grow_tokens;
    size_t penalty_bytes = item->penalties != NULL ? (size_t)item->penalties->n * 9 : 0;
    // Ids take up to 5 bytes each way, a log-probability or token score 4; text about 4 a token.
    order->bytes += ITEM_BYTES + length * (14 + 4 * job->n_scorers) + penalty_bytes;
    if (!test_bit(job->counted, target)) {
        order->bytes += job->job_bytes;
        set_bit(job->counted, target, true);
    }
    order->items[order->n_items++] = item;
    scheduler->tokens += item->grow_tokens;
    job->queue[index] = NULL;
    job->n_out++;
    set_bit(job->touched, target, true);
    int home = scheduler_job_home(job, item);
    if (home >= 0 && home != target && item->parent_id == item->candidate_id) {
        add_release(&scheduler->groups[home], job->job_id, item->candidate_id);
    }
    return true;
}

// Places the job's next placeable item. Loads only grow during a pass, so that what could not be
// placed before the cursor cannot be placed later either.
static bool place_one(struct scheduler *scheduler, struct scheduler_job *job, bool steal) {
    for (; job->cursor < job->n_queue; job->cursor++) {
        const struct scheduler_item *item = job->queue[job->cursor];
        if (item == NULL) {
            continue;
        }
        bool avoids = item->avoid >= 0 && scheduler_has_other_group(scheduler, item->avoid);
        int avoid = avoids ? item->avoid : -1;
        int home = scheduler_job_home(job, item);
        home = home == avoid ? -1 : home;
        int target;
        if (home >= 0 && takes(&scheduler->groups[home], job)) {
            target = home;
        } else if (home >= 0 && !steal && scheduler->groups[home].n_sent > 0) {
            continue;
        } else {
            target = least_loaded(scheduler, job, avoid);
        }
        if (target >= 0 && assign(scheduler, job, job->cursor, target)) {
            job->cursor++;
            return true;
        }
    }
    return false;
}

static void admit(struct scheduler *scheduler, struct scheduler_job *job) {
    job->admitted = true;
    scheduler->admitted_at = scheduler->tokens;
}

// Lets jobs in, oldest first, while the groups have room for what these jobs will make them hold:
// what does not fit is forgotten there and computed again. One job counts for three quarters at
// most, so that small ones go beside it.
static void admit_what_fits(struct scheduler *scheduler, size_t slots) {
    size_t room = HELD_PER_SLOT * slots;
    size_t used = 0;
    bool patient = scheduler->tokens - scheduler->admitted_at < PATIENCE_TOKENS * slots;
    for (int pass = 0; pass < 2; pass++) {
        for (size_t j = 0; j < scheduler->n_jobs; j++) {
            struct scheduler_job *job = scheduler->jobs[j];
            if (job->admitted != (pass == 0)) {
                continue;
            }
            size_t held = job->n_held + job->n_new;
            held = held < room / 4 * 3 ? held : room / 4 * 3;
            if (pass == 1 && used + held > room && patient) {
                return;
            }
            used += held;
            if (pass == 1) {
                admit(scheduler, job);
                patient = true;
            }
        }
    }
}

// Slots that the admitted jobs leave free are for the oldest of the others.
static bool admit_next(struct scheduler *scheduler) {
    if (least_loaded(scheduler, NULL, -1) < 0) {
        return false;
    }
    for (size_t j = 0; j < scheduler->n_jobs; j++) {
        struct scheduler_job *job = scheduler->jobs[j];
        if (!job->admitted && job->n_queue > 0) {
            admit(scheduler, job);
            return true;
        }
    }
    return false;
}

// Jobs take turns until nothing more can be placed. Those set apart come first: they need a group
// that nobody else has been given anything for.
static void place_round_robin(struct scheduler *scheduler, bool steal, bool admits) {
    for (size_t j = 0; j < scheduler->n_jobs; j++) {
        struct scheduler_job *job = scheduler->jobs[j];
        job->cursor = 0;
        while (job->apart > 0 && job->admitted && place_one(scheduler, job, steal)) {
        }
    }
    size_t passed = 0;
    while (scheduler->n_jobs > 0) {
        if (passed == scheduler->n_jobs) {
            if (!admits || !admit_next(scheduler)) {
                return;
            }
            passed = 0;
        }
        scheduler->turn %= scheduler->n_jobs;
        struct scheduler_job *job = scheduler->jobs[scheduler->turn];
        uint32_t placed = 0;
        while (placed < scheduler->turn_items && job->admitted &&
               place_one(scheduler, job, steal)) {
            placed++;
        }
        passed = placed > 0 ? 0 : passed + 1;
        scheduler->turn++; // a job that comes next has the next turn
    }
}

static size_t compact(struct scheduler *scheduler) {
    size_t waiting = 0;
    for (size_t j = 0; j < scheduler->n_jobs; j++) {
        scheduler_job_compact(scheduler->jobs[j]);
        waiting += scheduler->jobs[j]->n_queue;
    }
    return waiting;
}

static uint32_t smaller(uint64_t a, uint32_t b) {
    return a < b ? (uint32_t)a : b;
}

// Groups that got nothing take half of what waits for busy ones.
static void steal(struct scheduler *scheduler, size_t waiting) {
    uint32_t thieves = 0;
    for (int g = 0; g < scheduler->n_groups; g++) {
        struct group_state *group = &scheduler->groups[g];
        bool empty = is_idle(group) && group->order == NULL;
        thieves += empty ? 1 : 0;
        group->cap = empty ? group->slots_now : 0;
    }
    if (thieves == 0 || waiting == 0) {
        return;
    }
    uint64_t each = (waiting + 2 * thieves - 1) / (2 * thieves);
    for (int g = 0; g < scheduler->n_groups; g++) {
        scheduler->groups[g].cap = smaller(each, scheduler->groups[g].cap);
    }
    place_round_robin(scheduler, true, true);
    compact(scheduler);
}

// Candidates that wait of admitted jobs; none while a job is set apart, which needs a group without
// any order.
static size_t count_admitted(const struct scheduler *scheduler) {
    size_t count = 0;
    for (size_t j = 0; j < scheduler->n_jobs; j++) {
        const struct scheduler_job *job = scheduler->jobs[j];
        if (job->apart > 0) {
            return 0;
        }
        count += job->admitted ? job->n_queue : 0;
    }
    return count;
}

// Groups that work on a full order get the next one while what is admitted fills it too: a group's
// slots cost the least when they are all in use.
static void queue_orders(struct scheduler *scheduler) {
    size_t ready = count_admitted(scheduler);
    for (int g = 0; g < scheduler->n_groups; g++) {
        struct group_state *group = &scheduler->groups[g];
        bool next = group->n_sent > 0 && may_get_order(group) && ready >= group->slots_now;
        group->cap = next ? group->slots_now : 0;
        ready -= next ? group->slots_now : 0;
    }
    place_round_robin(scheduler, false, false);
    compact(scheduler);
}

// The idle groups get what is ready.
static void give_orders(struct scheduler *scheduler, size_t ready, size_t idle) {
    uint64_t share = (ready + idle - 1) / idle;
    for (int g = 0; g < scheduler->n_groups; g++) {
        struct group_state *group = &scheduler->groups[g];
        group->cap = is_idle(group) ? smaller(share + (share + 1) / 2, group->slots_now) : 0;
    }
    place_round_robin(scheduler, false, true);
    steal(scheduler, compact(scheduler));
}

enum status scheduler_dispatch(struct scheduler *scheduler) {
    size_t slots = 0;
    size_t idle = 0;
    size_t open = 0;
    for (int g = 0; g < scheduler->n_groups; g++) {
        const struct group_state *group = &scheduler->groups[g];
        slots += group->alive ? group->slots : 0;
        idle += is_idle(group) ? 1 : 0;
        open += may_get_order(group) ? 1 : 0;
    }
    if (open == 0) {
        return STATUS_OK;
    }
    enum status status = STATUS_OK;
    size_t ready = 0;
    for (size_t j = 0; j < scheduler->n_jobs; j++) {
        enum status pulled = scheduler_job_pull(scheduler->jobs[j], slots);
        status = pulled != STATUS_OK ? pulled : status;
        ready += scheduler->jobs[j]->n_queue;
    }
    admit_what_fits(scheduler, slots);
    scheduler->turn_items = smaller(slots / 2, TURN_ITEMS);
    scheduler->turn_items += scheduler->turn_items == 0 ? 1 : 0;
    if (idle > 0) {
        give_orders(scheduler, ready, idle);
    }
    if (open > idle) {
        queue_orders(scheduler);
    }
    return status;
}

const struct scheduler_order *scheduler_take_order(struct scheduler *scheduler, int group) {
    struct group_state *state = group_at(scheduler, group);
    struct scheduler_order *order = state->order;
    if (order != NULL) {
        ASSERT(state->n_sent < SCHEDULER_ORDERS_MAX);
        state->sent[state->n_sent++] = order;
        state->order = NULL;
    }
    return order;
}

struct scheduler_order *scheduler_finish_order(struct scheduler *scheduler, int group,
                                               uint64_t order_id) {
    struct group_state *state = group_at(scheduler, group);
    size_t index = 0;
    while (index < state->n_sent && state->sent[index]->order_id != order_id) {
        index++;
    }
    if (index == state->n_sent) {
        return NULL;
    }
    struct scheduler_order *order = state->sent[index];
    state->n_sent--;
    memmove(state->sent + index, state->sent + index + 1,
            (state->n_sent - index) * sizeof(struct scheduler_order *));
    state->slots_now = smaller(2 * (uint64_t)state->slots_now, state->slots);
    return order;
}

void scheduler_place(struct scheduler *scheduler, const struct scheduler_item *item, int group) {
    struct scheduler_job *job = find_job(scheduler, item->job_id);
    if (job != NULL) {
        scheduler_job_set_holder(job, item, group);
    }
}

bool scheduler_retry(struct scheduler *scheduler, struct scheduler_order *order, size_t index) {
    struct scheduler_item *item = order->items[index];
    order->items[index] = NULL;
    return requeue(scheduler, item);
}

void scheduler_release(struct scheduler *scheduler, uint64_t job_id, const uint64_t *candidate_ids,
                       size_t n) {
    struct scheduler_job *job = find_job(scheduler, job_id);
    for (size_t i = 0; job != NULL && i < n; i++) {
        int holder = scheduler_job_clear_holder(job, candidate_ids[i]);
        if (holder >= 0) {
            add_release(&scheduler->groups[holder], job_id, candidate_ids[i]);
        }
    }
}

const struct scheduler_release *scheduler_take_releases(struct scheduler *scheduler, int group,
                                                        size_t *n) {
    struct group_state *state = group_at(scheduler, group);
    free(scheduler->taken_releases);
    scheduler->taken_releases = state->releases;
    *n = state->n_releases;
    state->releases = NULL;
    state->n_releases = 0;
    state->release_capacity = 0;
    return scheduler->taken_releases;
}

bool scheduler_tell_job(struct scheduler *scheduler, int group, uint64_t job_id) {
    struct scheduler_job *job = find_job(scheduler, job_id);
    if (job == NULL || test_bit(job->told, group)) {
        return false;
    }
    set_bit(job->told, group, true);
    return true;
}

bool scheduler_must_tell(const struct scheduler *scheduler, int group, uint64_t job_id) {
    const struct scheduler_job *job = find_job(scheduler, job_id);
    return job != NULL && !test_bit(job->told, group);
}

void scheduler_forget_job(struct scheduler *scheduler, int group, uint64_t job_id) {
    struct scheduler_job *job = find_job(scheduler, job_id);
    if (job != NULL) {
        set_bit(job->told, group, false);
        set_bit(job->counted, group, false);
    }
}

size_t scheduler_get_orders(const struct scheduler *scheduler, int group,
                            const struct scheduler_order **out) {
    ASSERT(group >= 0 && group < LIMIT_GROUPS);
    const struct group_state *state = &scheduler->groups[group];
    for (size_t i = 0; i < state->n_sent; i++) {
        out[i] = state->sent[i];
    }
    return state->n_sent;
}

size_t scheduler_group_load(const struct scheduler *scheduler, int group) {
    ASSERT(group >= 0 && group < LIMIT_GROUPS);
    const struct group_state *state = &scheduler->groups[group];
    size_t n_items = 0;
    for (size_t i = 0; i < state->n_sent; i++) {
        n_items += state->sent[i]->n_items;
    }
    return n_items;
}
