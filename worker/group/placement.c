#include "worker/group/placement.h"

#include <stdlib.h>
#include <string.h>

#include "proto/limits.h"
#include "worker/group/id_table.h"

// A coordinator that releases nothing fills the table; it is then forgotten as a whole.
enum { CAPACITY = 2 * LIMIT_GROUP_SLOTS };

// Items of one parent.
struct kin {
    size_t begin; // in the list of items
    size_t n;
    size_t n_moved; // to `other`
    int rank;       // that holds the parent
    int other;      // -1: none
    uint64_t grow;  // tokens of an item
    uint64_t text;  // tokens that a rank without the parent reads again
};

struct placement {
    int n_ranks;
    uint64_t *loads;       // [n_ranks], tokens of the order under way
    struct id_table table; // (job, candidate)
    uint16_t *held_by;     // [CAPACITY], rank, by slot of the table
};

enum status placement_create(int n_ranks, struct placement **out) {
    ASSERT(n_ranks >= 1 && n_ranks <= LIMIT_RANKS);
    struct placement *placement = calloc(1, sizeof *placement);
    if (placement == NULL) {
        return STATUS_NO_MEMORY;
    }
    placement->n_ranks = n_ranks;
    placement->loads = calloc((size_t)n_ranks, sizeof *placement->loads);
    placement->held_by = calloc(CAPACITY, sizeof *placement->held_by);
    enum status status = id_table_init(&placement->table, CAPACITY);
    if (status != STATUS_OK || placement->loads == NULL || placement->held_by == NULL) {
        placement_destroy(placement);
        return STATUS_NO_MEMORY;
    }
    *out = placement;
    return STATUS_OK;
}

void placement_destroy(struct placement *placement) {
    if (placement == NULL) {
        return;
    }
    id_table_finish(&placement->table);
    free(placement->held_by);
    free(placement->loads);
    free(placement);
}

int placement_find(const struct placement *placement, uint64_t job_id, uint64_t candidate_id) {
    int32_t slot = id_table_find(&placement->table, job_id, candidate_id);
    return slot < 0 ? -1 : placement->held_by[slot];
}

// Forgets one job's candidates, or all when `job_id` is NULL.
static void forget(struct placement *placement, const uint64_t *job_id) {
    for (int32_t slot = 0; slot < CAPACITY; slot++) {
        if (id_table_used(&placement->table, slot) &&
            (job_id == NULL || placement->table.entries[slot].first == *job_id)) {
            id_table_remove(&placement->table, slot);
        }
    }
}

static void release(struct placement *placement, const Surefoot__ReleaseCandidates *release) {
    if (release->whole_job) {
        forget(placement, &release->job_id);
        return;
    }
    for (size_t i = 0; i < release->n_candidate_ids; i++) {
        int32_t slot = id_table_find(&placement->table, release->job_id, release->candidate_ids[i]);
        if (slot >= 0) {
            id_table_remove(&placement->table, slot);
        }
    }
}

static void remember(struct placement *placement, const Surefoot__OrderItem *item, uint32_t rank) {
    int32_t slot = id_table_find(&placement->table, item->job_id, item->candidate_id);
    if (slot < 0) {
        slot = id_table_add(&placement->table, item->job_id, item->candidate_id);
    }
    if (slot < 0) {
        forget(placement, NULL);
        slot = id_table_add(&placement->table, item->job_id, item->candidate_id);
    }
    placement->held_by[slot] = (uint16_t)rank;
}

static uint32_t least_loaded(const struct placement *placement) {
    int best = 0;
    for (int rank = 1; rank < placement->n_ranks; rank++) {
        if (placement->loads[rank] < placement->loads[best]) {
            best = rank;
        }
    }
    return (uint32_t)best;
}

static uint32_t most_loaded(const struct placement *placement) {
    int best = 0;
    for (int rank = 1; rank < placement->n_ranks; rank++) {
        if (placement->loads[rank] > placement->loads[best]) {
            best = rank;
        }
    }
    return (uint32_t)best;
}

static int compare_numbers(uint64_t a, uint64_t b) {
    return a < b ? -1 : a > b ? 1 : 0;
}

// By job and parent, then as they came.
static int compare_items(const void *left, const void *right, void *argument) {
    const Surefoot__Order *order = argument;
    size_t a = *(const size_t *)left;
    size_t b = *(const size_t *)right;
    int by_job = compare_numbers(order->items[a]->job_id, order->items[b]->job_id);
    int by_parent = compare_numbers(order->items[a]->parent_id, order->items[b]->parent_id);
    return by_job != 0 ? by_job : by_parent != 0 ? by_parent : compare_numbers(a, b);
}

// Lists the order's items by kin: those of one parent, which does not count the prompt. Returns how
// many kins there are.
static size_t list_kins(const struct placement *placement, const Surefoot__Order *order,
                        size_t *items, struct kin *kins) {
    size_t n = 0;
    for (size_t i = 0; i < order->n_items; i++) {
        if (order->items[i]->parent_id != 0) {
            items[n++] = i;
        }
    }
    qsort_r(items, n, sizeof *items, compare_items, (void *)(uintptr_t)order);
    size_t n_kins = 0;
    for (size_t i = 0; i < n; i++) {
        const Surefoot__OrderItem *item = order->items[items[i]];
        struct kin *last = n_kins > 0 ? &kins[n_kins - 1] : NULL;
        if (last == NULL || order->items[items[last->begin]]->job_id != item->job_id ||
            order->items[items[last->begin]]->parent_id != item->parent_id) {
            last = &kins[n_kins++];
            *last = (struct kin){.begin = i,
                                 .rank = placement_find(placement, item->job_id, item->parent_id),
                                 .other = -1,
                                 .text = item->n_tokens};
        }
        last->n++;
        last->grow = item->grow_tokens > last->grow ? item->grow_tokens : last->grow;
    }
    return n_kins;
}

// How many of the kin on rank `from` should go to rank `to`, and what their text costs there.
static uint64_t count_movers(const struct placement *placement, const struct kin *kin, int from,
                             int to, uint64_t *text) {
    // What is only scored costs less where it is held.
    if (kin->rank != from || kin->grow == 0 || kin->n_moved == kin->n ||
        (kin->other >= 0 && kin->other != to)) {
        return 0;
    }
    *text = kin->other == to ? 0 : kin->text;
    uint64_t gap = placement->loads[from] - placement->loads[to];
    uint64_t movers = gap > *text ? (gap - *text) / (2 * kin->grow) : 0;
    uint64_t left = kin->n - kin->n_moved;
    return movers < left ? movers : left;
}

// Moves what shortens the longest rank's part, the kin with the shortest text first.
static void balance(struct placement *placement, struct kin *kins, size_t n_kins) {
    for (;;) {
        int from = (int)most_loaded(placement);
        int to = (int)least_loaded(placement);
        struct kin *best = NULL;
        uint64_t best_text = UINT64_MAX;
        uint64_t best_movers = 0;
        for (size_t k = 0; k < n_kins; k++) {
            uint64_t text = 0;
            uint64_t movers = count_movers(placement, &kins[k], from, to, &text);
            if (movers > 0 && text < best_text) {
                best = &kins[k];
                best_text = text;
                best_movers = movers;
            }
        }
        if (best == NULL) {
            return;
        }
        best->other = to;
        best->n_moved += best_movers;
        placement->loads[from] -= best_movers * best->grow;
        placement->loads[to] += best_movers * best->grow + best_text;
    }
}

// Places the items that have parents; the last of a kin move.
static void place_kins(struct placement *placement, const Surefoot__Order *order, size_t *items,
                       struct kin *kins, uint32_t *ranks) {
    size_t n_kins = list_kins(placement, order, items, kins);
    for (size_t k = 0; k < n_kins; k++) {
        if (kins[k].rank >= 0) {
            placement->loads[kins[k].rank] += kins[k].n * kins[k].grow;
        }
    }
    for (size_t k = 0; k < n_kins; k++) {
        if (kins[k].rank < 0) {
            kins[k].rank = (int)least_loaded(placement);
            placement->loads[kins[k].rank] += kins[k].n * kins[k].grow + kins[k].text;
        }
    }
    balance(placement, kins, n_kins);
    for (size_t k = 0; k < n_kins; k++) {
        for (size_t i = 0; i < kins[k].n; i++) {
            bool moves = i >= kins[k].n - kins[k].n_moved;
            ranks[items[kins[k].begin + i]] = (uint32_t)(moves ? kins[k].other : kins[k].rank);
        }
    }
}

enum status placement_assign(struct placement *placement, const Surefoot__Order *order,
                             uint32_t *ranks) {
    for (size_t i = 0; i < order->n_releases; i++) {
        release(placement, order->releases[i]);
    }
    size_t *items = malloc((order->n_items + 1) * sizeof *items);
    struct kin *kins = malloc((order->n_items + 1) * sizeof *kins);
    if (items == NULL || kins == NULL) {
        free(items);
        free(kins);
        return STATUS_NO_MEMORY;
    }
    memset(placement->loads, 0, (size_t)placement->n_ranks * sizeof *placement->loads);
    place_kins(placement, order, items, kins, ranks);
    for (size_t i = 0; i < order->n_items; i++) {
        if (order->items[i]->parent_id == 0) {
            ranks[i] = least_loaded(placement);
            placement->loads[ranks[i]] += order->items[i]->grow_tokens;
        }
    }
    for (size_t i = 0; i < order->n_items; i++) {
        remember(placement, order->items[i], ranks[i]);
    }
    free(items);
    free(kins);
    return STATUS_OK;
}
