#include "worker/critic/split.h"

#include <stdlib.h>

#include "common/rng.h"

enum { PARTS_OF_PROMPTS = 10 };

struct draw {
    double number;
    uint32_t prompt;
};

static int compare_draws(const void *left, const void *right) {
    const struct draw *a = left, *b = right;
    if (a->number != b->number) {
        return a->number < b->number ? -1 : 1;
    }
    return a->prompt < b->prompt ? -1 : 1;
}

// parts[n_prompts], owned; NULL: no memory.
static unsigned char *draw_parts(uint32_t n_prompts, uint64_t seed) {
    struct draw *draws = malloc(((size_t)n_prompts + 1) * sizeof *draws);
    unsigned char *parts = malloc((size_t)n_prompts + 1);
    for (uint32_t i = 0; draws != NULL && i < n_prompts; i++) {
        draws[i] = (struct draw){.number = rng_uniform(seed, 0, i, 0), .prompt = i};
    }
    if (draws == NULL || parts == NULL) {
        free(draws);
        free(parts);
        return NULL;
    }
    qsort(draws, n_prompts, sizeof *draws, compare_draws);
    uint32_t share = n_prompts / PARTS_OF_PROMPTS;
    for (uint32_t i = 0; i < n_prompts; i++) {
        parts[draws[i].prompt] = i < share       ? CRITIC_PART_STOP
                                 : i < 2 * share ? CRITIC_PART_REPORT
                                                 : CRITIC_PART_TRAIN;
    }
    free(draws);
    return parts;
}

enum status critic_split_make(const struct critic_samples *samples, uint64_t seed,
                              struct critic_split *out) {
    *out = (struct critic_split){0};
    unsigned char *parts = draw_parts(samples->n_prompts, seed);
    if (parts == NULL) {
        return STATUS_NO_MEMORY;
    }
    for (size_t i = 0; i < samples->n; i++) {
        out->counts[parts[samples->prompts[i]]]++;
    }
    enum status status = STATUS_OK;
    for (int part = 0; part < CRITIC_PARTS; part++) {
        out->indexes[part] = malloc((out->counts[part] + 1) * sizeof *out->indexes[part]);
        status = out->indexes[part] != NULL ? status : STATUS_NO_MEMORY;
        out->counts[part] = 0;
    }
    for (size_t i = 0; status == STATUS_OK && i < samples->n; i++) {
        unsigned part = parts[samples->prompts[i]];
        out->indexes[part][out->counts[part]++] = i;
    }
    free(parts);
    return status;
}

void critic_split_finish(struct critic_split *split) {
    for (int part = 0; part < CRITIC_PARTS; part++) {
        free(split->indexes[part]);
    }
    *split = (struct critic_split){0};
}
