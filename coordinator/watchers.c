#include "coordinator/watchers.h"

#include <stdlib.h>
#include <string.h>

struct watchers {
    struct watcher *items; // [count]
    size_t count;
    size_t capacity;
};

enum status watchers_create(struct watchers **out) {
    struct watchers *watchers = calloc(1, sizeof *watchers);
    if (watchers == NULL) {
        return STATUS_NO_MEMORY;
    }
    *out = watchers;
    return STATUS_OK;
}

void watchers_destroy(struct watchers *watchers) {
    if (watchers != NULL) {
        free(watchers->items);
        free(watchers);
    }
}

static bool same(const struct watcher *a, const struct watcher *b) {
    return a->job_id == b->job_id && a->stream == b->stream && a->request_id == b->request_id &&
           a->peer.size == b->peer.size && memcmp(a->peer.bytes, b->peer.bytes, a->peer.size) == 0;
}

enum status watchers_add(struct watchers *watchers, const struct watcher *watcher) {
    for (size_t i = 0; i < watchers->count; i++) {
        if (same(&watchers->items[i], watcher)) {
            watchers->items[i] = *watcher;
            return STATUS_OK;
        }
    }
    if (watchers->count == WATCHERS_MAX) {
        return STATUS_LIMIT;
    }
    if (watchers->count == watchers->capacity) {
        size_t capacity = watchers->capacity == 0 ? 64 : 2 * watchers->capacity;
        struct watcher *grown = realloc(watchers->items, capacity * sizeof *grown);
        if (grown == NULL) {
            return STATUS_NO_MEMORY;
        }
        watchers->items = grown;
        watchers->capacity = capacity;
    }
    watchers->items[watchers->count++] = *watcher;
    return STATUS_OK;
}

size_t watchers_count(const struct watchers *watchers) {
    return watchers->count;
}

struct watcher *watchers_get(struct watchers *watchers, size_t index) {
    ASSERT(index < watchers->count);
    return &watchers->items[index];
}

void watchers_remove(struct watchers *watchers, size_t index) {
    ASSERT(index < watchers->count);
    watchers->items[index] = watchers->items[--watchers->count];
}
