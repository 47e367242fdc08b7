#include "worker/tokenizer/word_cache.h"

#include <stdlib.h>
#include <string.h>

enum { FIRST_SLOTS = 128 };

uint32_t word_cache_hash(const char *word, size_t bytes) {
    uint64_t hash = bytes * 0x9E3779B97F4A7C15u;
    for (; bytes >= 8; word += 8, bytes -= 8) {
        uint64_t part;
        memcpy(&part, word, 8);
        hash = (hash ^ part) * 0xBF58476D1CE4E5B9u;
        hash ^= hash >> 32;
    }
    uint64_t rest = 0;
    for (size_t i = 0; i < bytes; i++) {
        rest = rest << 8 | (uint8_t)word[i];
    }
    hash = (hash ^ rest) * 0x94D049BB133111EBu;
    return (uint32_t)(hash >> 32);
}

// The slot of the word, or the free one where it belongs.
static size_t find_slot(const struct word_cache *cache, const char *word, size_t bytes,
                        uint32_t hash) {
    size_t slot = hash & cache->mask;
    while (cache->slots[slot].bytes != 0) {
        const struct cached_word *own = &cache->slots[slot];
        if (own->hash == hash && own->bytes == bytes && memcmp(own->text, word, bytes) == 0) {
            break;
        }
        slot = (slot + 1) & cache->mask;
    }
    return slot;
}

const int32_t *word_cache_find(const struct word_cache *cache, const char *word, size_t bytes,
                               uint32_t hash, size_t *n_ids) {
    if (cache->slots == NULL) {
        return NULL;
    }
    const struct cached_word *found = &cache->slots[find_slot(cache, word, bytes, hash)];
    *n_ids = found->n_ids;
    return found->bytes == 0 ? NULL : cache->ids + found->ids;
}

// Keeps the slots at most half full. False: no memory.
static bool grow(struct word_cache *cache) {
    size_t slots = cache->slots == NULL ? 0 : cache->mask + 1;
    if (2 * (cache->count + 1) <= slots) {
        return true;
    }
    struct cached_word *old = cache->slots;
    size_t new_slots = slots == 0 ? FIRST_SLOTS : 4 * slots;
    struct cached_word *room = calloc(new_slots, sizeof *room);
    if (room == NULL) {
        return false;
    }
    cache->slots = room;
    cache->mask = new_slots - 1;
    for (size_t i = 0; i < slots; i++) {
        if (old[i].bytes != 0) {
            room[find_slot(cache, old[i].text, old[i].bytes, old[i].hash)] = old[i];
        }
    }
    free(old);
    return true;
}

void word_cache_add(struct word_cache *cache, const char *word, size_t bytes, uint32_t hash,
                    const int32_t *ids, size_t n_ids) {
    if (cache->count == WORD_CACHE_WORDS_MAX || !grow(cache)) {
        return;
    }
    if (n_ids > cache->ids_capacity - cache->n_ids) {
        size_t capacity = 2 * (cache->ids_capacity + n_ids) + FIRST_SLOTS;
        int32_t *room = realloc(cache->ids, capacity * sizeof *room);
        if (room == NULL) {
            return;
        }
        cache->ids = room;
        cache->ids_capacity = capacity;
    }
    struct cached_word *slot = &cache->slots[find_slot(cache, word, bytes, hash)];
    *slot = (struct cached_word){.hash = hash,
                                 .ids = (uint32_t)cache->n_ids,
                                 .bytes = (uint8_t)bytes,
                                 .n_ids = (uint8_t)n_ids};
    memcpy(slot->text, word, bytes);
    if (n_ids > 0) {
        memcpy(cache->ids + cache->n_ids, ids, n_ids * sizeof *ids);
    }
    cache->n_ids += n_ids;
    cache->count++;
}

void word_cache_finish(struct word_cache *cache) {
    free(cache->slots);
    free(cache->ids);
    *cache = (struct word_cache){0};
}
