#include "worker/score/readings.h"

#include <stdlib.h>
#include <string.h>

struct readings {
    struct model_context *context;
    int32_t capacity;
    uint64_t clock;
    struct reading items[]; // [capacity]
};

enum status readings_create(struct model_context *context, int32_t capacity,
                            struct readings **out) {
    struct readings *readings =
        calloc(1, sizeof *readings + (size_t)capacity * sizeof readings->items[0]);
    if (readings == NULL) {
        return STATUS_NO_MEMORY;
    }
    readings->context = context;
    readings->capacity = capacity;
    *out = readings;
    return STATUS_OK;
}

static void forget(struct readings *readings, struct reading *reading) {
    sequence_destroy(readings->context, reading->sequence);
    reading->sequence = NULL;
    reading->owner = NULL;
    reading->n = 0;
}

void readings_forget_all(struct readings *readings) {
    for (int32_t i = 0; i < readings->capacity; i++) {
        forget(readings, &readings->items[i]);
    }
}

void readings_forget(struct readings *readings, const void *owner) {
    for (int32_t i = 0; i < readings->capacity; i++) {
        if (readings->items[i].owner == owner) {
            forget(readings, &readings->items[i]);
        }
    }
}

void readings_destroy(struct readings *readings) {
    if (readings == NULL) {
        return;
    }
    readings_forget_all(readings);
    for (int32_t i = 0; i < readings->capacity; i++) {
        free(readings->items[i].ids);
        free(readings->items[i].scores);
    }
    free(readings);
}

int32_t readings_common(const int32_t *a, int32_t n_a, const int32_t *b, int32_t n_b) {
    int32_t n = 0;
    while (n < n_a && n < n_b && a[n] == b[n]) {
        n++;
    }
    return n;
}

const struct reading *readings_find(struct readings *readings, const void *owner,
                                    const int32_t *ids, int32_t n, int32_t *length) {
    struct reading *best = NULL;
    *length = 0;
    for (int32_t i = 0; i < readings->capacity; i++) {
        struct reading *reading = &readings->items[i];
        if (reading->owner != owner) {
            continue;
        }
        int32_t common = readings_common(reading->ids, reading->n, ids, n);
        if (common > *length) {
            *length = common;
            best = reading;
        }
    }
    if (best != NULL) {
        best->used = ++readings->clock;
    }
    return best;
}

// A free place, the owner's oldest when it has READINGS_PER_OWNER, else the oldest of all.
static struct reading *choose_place(struct readings *readings, const void *owner) {
    struct reading *oldest = NULL;
    struct reading *own = NULL;
    int32_t n_own = 0;
    for (int32_t i = 0; i < readings->capacity; i++) {
        struct reading *reading = &readings->items[i];
        uint64_t used = reading->owner != NULL ? reading->used : 0;
        if (oldest == NULL || used < (oldest->owner != NULL ? oldest->used : 0)) {
            oldest = reading;
        }
        if (reading->owner == owner) {
            n_own++;
            own = own == NULL || used < own->used ? reading : own;
        }
    }
    return n_own >= READINGS_PER_OWNER ? own : oldest;
}

static bool reserve(struct reading *reading, int32_t n) {
    if (n <= reading->capacity) {
        return true;
    }
    int32_t *ids = realloc(reading->ids, (size_t)n * sizeof *ids);
    reading->ids = ids != NULL ? ids : reading->ids;
    float *scores = realloc(reading->scores, (size_t)n * sizeof *scores);
    reading->scores = scores != NULL ? scores : reading->scores;
    if (ids == NULL || scores == NULL) {
        return false;
    }
    reading->capacity = n;
    return true;
}

void readings_keep(struct readings *readings, const void *owner, const struct sequence *sequence,
                   const int32_t *ids, const float *scores, int32_t n) {
    int32_t length = 0;
    if (n == 0 || readings->capacity == 0 ||
        (readings_find(readings, owner, ids, n, &length) != NULL && length == n)) {
        return;
    }
    struct reading *place = choose_place(readings, owner);
    forget(readings, place);
    if (!reserve(place, n)) {
        return;
    }
    place->sequence = sequence_fork(readings->context, sequence, sequence_length(sequence));
    if (place->sequence == NULL) {
        return;
    }
    memcpy(place->ids, ids, (size_t)n * sizeof *ids);
    memcpy(place->scores, scores, (size_t)n * sizeof *scores);
    place->n = n;
    place->owner = owner;
    place->used = ++readings->clock;
}
