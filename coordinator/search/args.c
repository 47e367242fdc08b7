// args (Khanov et al. 2024, arXiv 2402.01694): every token is, of the N that the policy
// gives the largest logits, the one with the largest logit + omega * score of the text with it. A
// step grows N children of the text so far, the i-th by the token of rank i; all come back before
// one is chosen, so the order of arrival cannot matter. Their log-probabilities stand for the
// logits: the two differ by the same number for all.
#include "coordinator/search/search_internal.h"

#include <stdlib.h>

struct args {
    struct candidate *text;      // so far; NULL: the prompt
    struct candidate **children; // [n] of this step, by rank
    uint32_t n_pending;          // of them, not back
};

static enum status make_children(struct search *search, struct args *state) {
    for (uint32_t i = 0; i < search->spec.n; i++) {
        enum status status = search_add_candidate(search, state->text, &state->children[i]);
        if (status != STATUS_OK) {
            return status;
        }
        state->children[i]->token_rank = i + 1;
    }
    state->n_pending = search->spec.n;
    return STATUS_OK;
}

static enum status start(struct search *search) {
    struct args *state = calloc(1, sizeof *state);
    if (state == NULL) {
        return STATUS_NO_MEMORY;
    }
    search->method_state = state;
    state->children = malloc(search->spec.n * sizeof(struct candidate *));
    return state->children != NULL ? make_children(search, state) : STATUS_NO_MEMORY;
}

static void destroy(struct search *search) {
    struct args *state = search->method_state;
    if (state != NULL) {
        free(state->children);
        free(state);
    }
}

static double value_of(const struct search_spec *spec, const struct candidate *child) {
    double logprob = (double)child->history->logprobs[child->n_tokens - 1];
    return logprob + spec->omega * preference_score(spec, child);
}

// Whether `child` is better than `other`, which has a smaller id.
static bool is_better(const struct search_spec *spec, const struct candidate *child,
                      const struct candidate *other) {
    bool augmented = spec->selection == SEARCH_SELECTION_AUGMENTED;
    if (augmented && child->safety.admissible != other->safety.admissible) {
        return child->safety.admissible;
    }
    if (augmented && !child->safety.admissible) {
        return child->safety.nearness > other->safety.nearness;
    }
    return value_of(spec, child) > value_of(spec, other);
}

// Under the augmented rule a certain loss is never gone on from; NULL: all are.
static struct candidate *choose(const struct search *search, const struct args *state) {
    const struct search_spec *spec = &search->spec;
    struct candidate *best = NULL;
    for (uint32_t i = 0; i < spec->n; i++) {
        struct candidate *child = state->children[i];
        bool lost = spec->selection == SEARCH_SELECTION_AUGMENTED && child->safety.certain_loss;
        if (!lost && (best == NULL || is_better(spec, child, best))) {
            best = child;
        }
    }
    return best;
}

static enum status drop_others(struct search *search, const struct args *state,
                               const struct candidate *chosen) {
    for (uint32_t i = 0; i < search->spec.n; i++) {
        struct candidate *child = state->children[i];
        enum status status =
            child == chosen
                ? STATUS_OK
                : search_drop_candidate(search, child,
                                        preference_fate_of_unselected(&search->spec, child));
        if (status != STATUS_OK) {
            return status;
        }
    }
    return STATUS_OK;
}

static enum status on_grown(struct search *search, struct candidate *candidate) {
    (void)candidate;
    struct args *state = search->method_state;
    ASSERT(state->n_pending > 0);
    state->n_pending--;
    if (state->n_pending > 0) {
        return STATUS_OK;
    }
    search->steps++;
    struct candidate *chosen = choose(search, state);
    enum status status = drop_others(search, state, chosen);
    if (status == STATUS_OK && state->text != NULL) {
        status = search_drop_candidate(search, state->text, CANDIDATE_FATE_EXTENDED);
    }
    state->text = chosen;
    if (status != STATUS_OK || chosen == NULL) {
        return status;
    }
    return chosen->finish != SEARCH_FINISH_NONE ? search_finish_candidate(search, chosen)
                                                : make_children(search, state);
}

static uint64_t candidates_bound(const struct search_spec *spec) {
    return (uint64_t)spec->n * spec->max_tokens;
}

const struct search_method_ops search_args_ops = {
    .candidates_bound = candidates_bound,
    .start = start,
    .on_grown = on_grown,
    .destroy = destroy,
    .choosing_rule = "the text that was chosen token by token",
};
