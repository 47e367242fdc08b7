// rejection: candidates are drawn until one has ended within budget, at most N; the answer is the
// first of them by id, not the best. Draws come in waves of 1, 2, 4, ... candidates, so that a hard
// prompt keeps the slots full and an easy one costs one draw; what is drawn depends on a
// candidate's id alone, so the answer is that of drawing one after the other. The candidates of a
// wave grow block by block together: what is decided, and when, depends on no order of arrival.
#include "coordinator/search/search_internal.h"

#include <stdlib.h>

struct rejection {
    struct candidate **wave; // [n_wave] those that grow, ascending by id
    uint32_t n_wave;
    uint32_t n_pending;  // of the wave, not back from this block
    uint32_t wave_draws; // candidates that the newest wave began with
};

static enum status begin_wave(struct search *search, struct rejection *state) {
    uint32_t left = search->spec.n - (uint32_t)search->n_candidates;
    uint32_t draws = state->wave_draws == 0 ? 1 : 2 * state->wave_draws;
    state->wave_draws = draws < left ? draws : left;
    for (state->n_wave = 0; state->n_wave < state->wave_draws; state->n_wave++) {
        enum status status = search_add_candidate(search, NULL, &state->wave[state->n_wave]);
        if (status != STATUS_OK) {
            return status;
        }
    }
    state->n_pending = state->n_wave;
    search->steps++;
    return STATUS_OK;
}

static enum status start(struct search *search) {
    struct rejection *state = calloc(1, sizeof *state);
    if (state == NULL) {
        return STATUS_NO_MEMORY;
    }
    search->method_state = state;
    state->wave = malloc(search->spec.n * sizeof(struct candidate *));
    return state->wave != NULL ? begin_wave(search, state) : STATUS_NO_MEMORY;
}

static void destroy(struct search *search) {
    struct rejection *state = search->method_state;
    if (state != NULL) {
        free(state->wave);
        free(state);
    }
}

// Ends or gives up what need not grow on: what has ended, what is lost, and whatever comes after
// one that ended within budget.
static enum status sort_wave(struct search *search, struct rejection *state) {
    uint32_t kept = 0;
    bool found = false;
    for (uint32_t i = 0; i < state->n_wave; i++) {
        struct candidate *candidate = state->wave[i];
        enum status status = STATUS_OK;
        if (candidate->finish != SEARCH_FINISH_NONE) {
            found = found || candidate->safety.admissible;
            status = search_finish_candidate(search, candidate);
        } else if (found) {
            status = search_drop_candidate(search, candidate, CANDIDATE_FATE_NOT_SELECTED);
        } else if (search->spec.early_stop && candidate->safety.certain_loss) {
            status = search_drop_candidate(search, candidate, CANDIDATE_FATE_PRUNED_SOUND);
        } else {
            state->wave[kept++] = candidate;
        }
        if (status != STATUS_OK) {
            return status;
        }
    }
    state->n_wave = kept;
    state->n_pending = kept;
    return STATUS_OK;
}

static enum status on_grown(struct search *search, struct candidate *candidate) {
    (void)candidate;
    struct rejection *state = search->method_state;
    ASSERT(state->n_pending > 0);
    state->n_pending--;
    if (state->n_pending > 0) {
        return STATUS_OK;
    }
    enum status status = sort_wave(search, state);
    // What has begun is put before what waits: the last comes first.
    for (uint32_t i = state->n_wave; status == STATUS_OK && i > 0; i--) {
        status = search_mark_ready(search, state->wave[i - 1]);
    }
    bool none_yet = state->n_wave == 0 && search->n_admissible == 0;
    if (status == STATUS_OK && none_yet && search->n_candidates < search->spec.n) {
        status = begin_wave(search, state);
    }
    return status;
}

static uint64_t candidates_bound(const struct search_spec *spec) {
    return spec->n;
}

const struct search_method_ops search_rejection_ops = {
    .candidates_bound = candidates_bound,
    .start = start,
    .on_grown = on_grown,
    .destroy = destroy,
    .choosing_rule = "the first of the finished within budget",
    .takes_first = true,
};
