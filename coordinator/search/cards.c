// cards (Li et al. 2025, arXiv 2406.16306): the text grows by segments, which end where
// the policy is uncertain of the next token; a segment is drawn until its score passes a test that
// gets harder with the length, at most N times, and then the best of them is taken. Draws come in
// waves of 1, 2, 4, ...: the first by id that passes is taken, as if they came one by one, and all
// of a wave come back before anything is decided, so the order of arrival cannot matter.
#include "coordinator/search/search_internal.h"

#include <math.h>
#include <stdlib.h>

#include "common/rng.h"

enum { ACCEPT_POSITION = UINT32_MAX }; // of the numbers that tests use; no token stands there

struct cards {
    struct candidate *text;  // of the accepted segments; NULL: the prompt
    struct candidate **wave; // [n_wave] ascending by id
    uint32_t n_wave;
    uint32_t n_pending;     // of the wave, not back
    uint32_t n_drawn;       // of this segment
    struct candidate *best; // of this segment's draws that the text could go on with
};

static enum status begin_wave(struct search *search, struct cards *state) {
    uint32_t left = search->spec.n - state->n_drawn;
    uint32_t draws = state->n_drawn == 0 ? 1 : 2 * state->n_wave;
    draws = draws < left ? draws : left;
    for (state->n_wave = 0; state->n_wave < draws; state->n_wave++) {
        struct candidate **draw = &state->wave[state->n_wave];
        enum status status = search_add_candidate(search, state->text, draw);
        if (status != STATUS_OK) {
            return status;
        }
    }
    state->n_pending = draws;
    return STATUS_OK;
}

static enum status start(struct search *search) {
    struct cards *state = calloc(1, sizeof *state);
    if (state == NULL) {
        return STATUS_NO_MEMORY;
    }
    search->method_state = state;
    state->wave = malloc(search->spec.n * sizeof(struct candidate *));
    return state->wave != NULL ? begin_wave(search, state) : STATUS_NO_MEMORY;
}

static void destroy(struct search *search) {
    struct cards *state = search->method_state;
    if (state != NULL) {
        free(state->wave);
        free(state);
    }
}

// From a start between the prompt's score and r* straight to r* at max_tokens.
static double threshold_at(const struct search *search, uint32_t n_tokens) {
    const struct search_spec *spec = &search->spec;
    double alpha = spec->threshold_start;
    double prompt = preference_prompt_score(spec, search->prompt_scores);
    double first = (1.0 - alpha) * prompt + alpha * spec->reward_threshold;
    double at = first + (double)n_tokens * (spec->reward_threshold - first) / spec->max_tokens;
    return fmin(at, spec->reward_threshold);
}

// With probability min(1, exp((score - threshold) / beta)); without beta where it is reached.
static bool passes(const struct search *search, const struct candidate *draw) {
    const struct search_spec *spec = &search->spec;
    double above = preference_score(spec, draw) - threshold_at(search, draw->n_tokens);
    if (above >= 0 || spec->accept_temperature == 0) {
        return above >= 0;
    }
    double u = rng_uniform(spec->seed, draw->id, ACCEPT_POSITION, 0);
    return u < exp(above / spec->accept_temperature);
}

static bool is_within_budget(const struct search_spec *spec, const struct candidate *draw) {
    return spec->selection != SEARCH_SELECTION_AUGMENTED || draw->safety.admissible;
}

// Over budget and without a way back.
static bool is_dead(const struct search_spec *spec, const struct candidate *draw) {
    bool ended = draw->finish != SEARCH_FINISH_NONE;
    return !is_within_budget(spec, draw) && (ended || draw->safety.certain_loss);
}

static enum status reject(struct search *search, struct candidate *draw) {
    return search_drop_candidate(search, draw, preference_fate_of_unselected(&search->spec, draw));
}

// Counts the wave's draws up to the one that is accepted, if any, and gives up all but that and the
// best so far.
static enum status test_wave(struct search *search, struct cards *state,
                             struct candidate **accepted) {
    const struct search_spec *spec = &search->spec;
    *accepted = NULL;
    for (uint32_t i = 0; i < state->n_wave; i++) {
        struct candidate *draw = state->wave[i];
        struct candidate *loser = draw;
        state->n_drawn++;
        if (*accepted == NULL && state->n_drawn < spec->n && is_within_budget(spec, draw) &&
            passes(search, draw)) {
            *accepted = draw;
            loser = state->best;
            state->best = NULL;
        } else if (*accepted == NULL && !is_dead(spec, draw) &&
                   (state->best == NULL || preference_compare(spec, draw, state->best) < 0)) {
            loser = state->best;
            state->best = draw;
        }
        enum status status = loser != NULL ? reject(search, loser) : STATUS_OK;
        if (status != STATUS_OK) {
            return status;
        }
    }
    return STATUS_OK;
}

static enum status take_segment(struct search *search, struct cards *state,
                                struct candidate *draw) {
    if (state->text != NULL) {
        enum status status = search_drop_candidate(search, state->text, CANDIDATE_FATE_EXTENDED);
        if (status != STATUS_OK) {
            return status;
        }
    }
    search->steps++;
    state->text = draw;
    state->best = NULL;
    state->n_drawn = 0;
    if (draw == NULL) {
        return STATUS_OK;
    }
    return draw->finish != SEARCH_FINISH_NONE ? search_finish_candidate(search, draw)
                                              : begin_wave(search, state);
}

static enum status on_grown(struct search *search, struct candidate *candidate) {
    (void)candidate;
    struct cards *state = search->method_state;
    ASSERT(state->n_pending > 0);
    state->n_pending--;
    if (state->n_pending > 0) {
        return STATUS_OK;
    }
    struct candidate *accepted;
    enum status status = test_wave(search, state, &accepted);
    if (status != STATUS_OK) {
        return status;
    }
    bool exhausted = state->n_drawn == search->spec.n;
    return accepted != NULL ? take_segment(search, state, accepted)
           : exhausted      ? take_segment(search, state, state->best)
                            : begin_wave(search, state);
}

static uint64_t candidates_bound(const struct search_spec *spec) {
    uint64_t shortest = safety_shortest_block(spec);
    return spec->n * ((spec->max_tokens + shortest - 1) / shortest);
}

const struct search_method_ops search_cards_ops = {
    .candidates_bound = candidates_bound,
    .start = start,
    .on_grown = on_grown,
    .destroy = destroy,
    .choosing_rule = "the text of the accepted segments",
};
