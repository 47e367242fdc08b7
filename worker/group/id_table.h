// A hash table of fixed capacity from a pair of ids to a slot number: the caller keeps the values
// in an array of its own, indexed by slot. All memory is taken at init. One thread.
#ifndef WORKER_GROUP_ID_TABLE_H
#define WORKER_GROUP_ID_TABLE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/status.h"

struct id_table_entry {
    uint64_t first;
    uint64_t second;
    int32_t next; // in its bucket, or in the free list; -1 ends it
    bool used;
};

struct id_table {
    struct id_table_entry *entries; // [capacity], owned
    int32_t *buckets;               // [mask + 1], slot or -1, owned
    int32_t mask;
    int32_t capacity;
    int32_t free_list;
    int32_t count; // slots in use
};

MUST_CHECK enum status id_table_init(struct id_table *table, int32_t capacity);
void id_table_finish(struct id_table *table); // a zeroed table is allowed

// Slot of the pair, -1 when it is not there.
int32_t id_table_find(const struct id_table *table, uint64_t first, uint64_t second);

// Takes a free slot for a pair that is not there; -1 when the table is full.
int32_t id_table_add(struct id_table *table, uint64_t first, uint64_t second);

void id_table_remove(struct id_table *table, int32_t slot);

static inline bool id_table_used(const struct id_table *table, int32_t slot) {
    return table->entries[slot].used;
}

#endif
