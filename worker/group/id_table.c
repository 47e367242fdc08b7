#include "worker/group/id_table.h"

#include <stdlib.h>

enum status id_table_init(struct id_table *table, int32_t capacity) {
    ASSERT(capacity > 0 && capacity <= 1 << 24);
    int32_t n_buckets = 1;
    while (n_buckets < capacity) {
        n_buckets *= 2;
    }
    *table = (struct id_table){.mask = n_buckets - 1, .capacity = capacity};
    table->entries = calloc((size_t)capacity, sizeof *table->entries);
    table->buckets = malloc((size_t)n_buckets * sizeof *table->buckets);
    if (table->entries == NULL || table->buckets == NULL) {
        id_table_finish(table);
        return STATUS_NO_MEMORY;
    }
    for (int32_t i = 0; i < n_buckets; i++) {
        table->buckets[i] = -1;
    }
    for (int32_t i = 0; i < capacity; i++) {
        table->entries[i].next = i + 1 < capacity ? i + 1 : -1;
    }
    return STATUS_OK;
}

void id_table_finish(struct id_table *table) {
    free(table->entries);
    free(table->buckets);
    *table = (struct id_table){0};
}

// The finaliser of SplitMix64 (Steele, Lea and Flood 2014, figure 16) over both ids.
static int32_t *bucket_of(const struct id_table *table, uint64_t first, uint64_t second) {
    uint64_t hash = first * UINT64_C(0x9E3779B97F4A7C15) + second;
    hash = (hash ^ (hash >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    hash = (hash ^ (hash >> 27)) * UINT64_C(0x94D049BB133111EB);
    hash ^= hash >> 31;
    return &table->buckets[hash & (uint64_t)table->mask];
}

int32_t id_table_find(const struct id_table *table, uint64_t first, uint64_t second) {
    for (int32_t slot = *bucket_of(table, first, second); slot >= 0;
         slot = table->entries[slot].next) {
        if (table->entries[slot].first == first && table->entries[slot].second == second) {
            return slot;
        }
    }
    return -1;
}

int32_t id_table_add(struct id_table *table, uint64_t first, uint64_t second) {
    ASSERT(id_table_find(table, first, second) < 0);
    int32_t slot = table->free_list;
    if (slot < 0) {
        return -1;
    }
    struct id_table_entry *entry = &table->entries[slot];
    table->free_list = entry->next;
    int32_t *bucket = bucket_of(table, first, second);
    *entry =
        (struct id_table_entry){.first = first, .second = second, .next = *bucket, .used = true};
    *bucket = slot;
    table->count++;
    return slot;
}

void id_table_remove(struct id_table *table, int32_t slot) {
    struct id_table_entry *entry = &table->entries[slot];
    ASSERT(entry->used);
    int32_t *link = bucket_of(table, entry->first, entry->second);
    while (*link != slot) {
        link = &table->entries[*link].next;
    }
    *link = entry->next;
    *entry = (struct id_table_entry){.next = table->free_list};
    table->free_list = slot;
    table->count--;
}
