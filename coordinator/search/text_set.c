#include "coordinator/search/text_set.h"

#include <stdlib.h>

// FNV-1a (Fowler, Noll, Vo), 64 bits.
uint64_t text_digest(const char *text) {
    uint64_t digest = UINT64_C(0xcbf29ce484222325);
    for (const char *at = text; at != NULL && *at != '\0'; at++) {
        digest = (digest ^ (unsigned char)*at) * UINT64_C(0x100000001b3);
    }
    return digest;
}

static struct candidate **probe(struct candidate **places, size_t capacity, uint64_t digest) {
    size_t at = digest & (capacity - 1);
    while (places[at] != NULL && places[at]->text_digest != digest) {
        at = (at + 1) & (capacity - 1);
    }
    return &places[at];
}

static enum status grow(struct text_set *set) {
    size_t capacity = set->capacity == 0 ? 64 : 2 * set->capacity;
    struct candidate **places = calloc(capacity, sizeof(struct candidate *));
    if (places == NULL) {
        return STATUS_NO_MEMORY;
    }
    for (size_t i = 0; i < set->capacity; i++) {
        if (set->places[i] != NULL) {
            *probe(places, capacity, set->places[i]->text_digest) = set->places[i];
        }
    }
    free(set->places);
    set->places = places;
    set->capacity = capacity;
    return STATUS_OK;
}

enum status text_set_add(struct text_set *set, struct candidate *candidate,
                         struct candidate **kept) {
    if (2 * (set->count + 1) > set->capacity && grow(set) != STATUS_OK) {
        return STATUS_NO_MEMORY;
    }
    struct candidate **place = probe(set->places, set->capacity, candidate->text_digest);
    *kept = *place;
    if (*place == NULL) {
        *place = candidate;
        set->count++;
    }
    return STATUS_OK;
}

void text_set_replace(struct text_set *set, struct candidate *candidate) {
    *probe(set->places, set->capacity, candidate->text_digest) = candidate;
}

void text_set_finish(struct text_set *set) {
    free(set->places);
    *set = (struct text_set){.capacity = 0};
}
