#include "worker/group/placement.h"

#include <stdlib.h>
#include <string.h>

#include "proto/limits.h"
#include "worker/group/id_table.h"

// A coordinator that releases nothing fills the table; it is then forgotten as a whole.
enum { CAPACITY = 2 * LIMIT_GROUP_SLOTS };

struct placement {
    int n_ranks;
    size_t *loads;         // [n_ranks], items of the order under way
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

void placement_assign(struct placement *placement, const Surefoot__Order *order, uint32_t *ranks) {
    for (size_t i = 0; i < order->n_releases; i++) {
        release(placement, order->releases[i]);
    }
    size_t n_ranks = (size_t)placement->n_ranks;
    size_t share = (order->n_items + n_ranks - 1) / n_ranks;
    memset(placement->loads, 0, n_ranks * sizeof *placement->loads);
    for (size_t i = 0; i < order->n_items; i++) {
        const Surefoot__OrderItem *item = order->items[i];
        int holder = placement_find(placement, item->job_id, item->parent_id);
        bool stays = holder >= 0 && placement->loads[holder] < share;
        ranks[i] = stays ? (uint32_t)holder : UINT32_MAX;
        if (stays) {
            placement->loads[holder]++;
        }
    }
    for (size_t i = 0; i < order->n_items; i++) {
        if (ranks[i] == UINT32_MAX) {
            ranks[i] = least_loaded(placement);
            placement->loads[ranks[i]]++;
        }
    }
    for (size_t i = 0; i < order->n_items; i++) {
        remember(placement, order->items[i], ranks[i]);
    }
}
