// speculative-rejection (Sun et al. 2024, arXiv 2410.20290, algorithm 1): best-of-n that gives up
// the worst share alpha of its candidates at every end of a block, by the selection's order over
// the partial texts. What has ended stands in the ranking with its final scores and stays
// answerable below the cut. All candidates of a block come back before anything is decided, so the
// order of arrival cannot matter.
#include "coordinator/search/search_internal.h"

#include <math.h>
#include <stdlib.h>

struct speculative_rejection {
    // [n_ranked] what grows and, from their end on, those that have ended above every cut so far.
    struct candidate **ranked;
    uint32_t n_ranked;
    uint32_t n_pending; // not back from this block
};

static enum status start(struct search *search) {
    struct speculative_rejection *state = calloc(1, sizeof *state);
    if (state == NULL) {
        return STATUS_NO_MEMORY;
    }
    search->method_state = state;
    state->ranked = malloc(search->spec.n * sizeof(struct candidate *));
    if (state->ranked == NULL) {
        return STATUS_NO_MEMORY;
    }
    for (; state->n_ranked < search->spec.n; state->n_ranked++) {
        enum status status = search_add_candidate(search, NULL, &state->ranked[state->n_ranked]);
        if (status != STATUS_OK) {
            return status;
        }
    }
    state->n_pending = state->n_ranked;
    return STATUS_OK;
}

static void destroy(struct search *search) {
    struct speculative_rejection *state = search->method_state;
    if (state != NULL) {
        free(state->ranked);
        free(state);
    }
}

// How many of `count` are above the cut: one at least, so that a search always ends in a text.
static uint32_t count_above_cut(const struct search_spec *spec, uint32_t count) {
    double above = round((1.0 - spec->rejection_alpha) * count);
    return above < 1.0 ? 1 : (uint32_t)above;
}

// Keeps what is above the cut; under the augmented rule a certain loss never is.
static enum status cut(struct search *search, struct speculative_rejection *state) {
    const struct search_spec *spec = &search->spec;
    bool augmented = spec->selection == SEARCH_SELECTION_AUGMENTED;
    uint32_t n_above = count_above_cut(spec, state->n_ranked);
    uint32_t kept = 0;
    search->steps++;
    preference_sort(spec, state->ranked, state->n_ranked);
    for (uint32_t i = 0; i < state->n_ranked; i++) {
        struct candidate *candidate = state->ranked[i];
        bool growing = candidate->finish == SEARCH_FINISH_NONE;
        bool lost = augmented && growing && candidate->safety.certain_loss;
        if (i < n_above && !lost) {
            state->ranked[kept++] = candidate;
        } else if (growing) {
            enum status status = search_drop_candidate(
                search, candidate, preference_fate_of_unselected(spec, candidate));
            if (status != STATUS_OK) {
                return status;
            }
        }
    }
    state->n_ranked = kept;
    return STATUS_OK;
}

// What ended in this block has not been counted yet.
static enum status finish_ended(struct search *search, struct speculative_rejection *state) {
    for (uint32_t i = 0; i < state->n_ranked; i++) {
        struct candidate *candidate = state->ranked[i];
        if (candidate->finish != SEARCH_FINISH_NONE && candidate->fate == CANDIDATE_FATE_LIVE) {
            enum status status = search_finish_candidate(search, candidate);
            if (status != STATUS_OK) {
                return status;
            }
        }
    }
    return STATUS_OK;
}

static enum status on_grown(struct search *search, struct candidate *candidate) {
    (void)candidate;
    struct speculative_rejection *state = search->method_state;
    ASSERT(state->n_pending > 0);
    state->n_pending--;
    if (state->n_pending > 0) {
        return STATUS_OK;
    }
    enum status status = finish_ended(search, state);
    if (status == STATUS_OK) {
        status = cut(search, state);
    }
    for (uint32_t i = 0; status == STATUS_OK && i < state->n_ranked; i++) {
        if (state->ranked[i]->finish == SEARCH_FINISH_NONE) {
            state->n_pending++;
            status = search_mark_ready(search, state->ranked[i]);
        }
    }
    return status;
}

static uint64_t candidates_bound(const struct search_spec *spec) {
    return spec->n;
}

const struct search_method_ops search_speculative_rejection_ops = {
    .candidates_bound = candidates_bound,
    .start = start,
    .on_grown = on_grown,
    .destroy = destroy,
};
