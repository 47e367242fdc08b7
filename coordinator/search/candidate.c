#include "coordinator/search/candidate.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/search/text_set.h"

const char *candidate_fate_name(enum candidate_fate fate) {
    static const char *const names[] = {
        [CANDIDATE_FATE_LIVE] = "live",
        [CANDIDATE_FATE_CHOSEN] = "chosen",
        [CANDIDATE_FATE_FINISHED] = "finished",
        [CANDIDATE_FATE_PRUNED_SOUND] = "pruned-sound",
        [CANDIDATE_FATE_PRUNED_HEURISTIC] = "pruned-heuristic",
        [CANDIDATE_FATE_NOT_SELECTED] = "not-selected",
        [CANDIDATE_FATE_DUPLICATE] = "duplicate",
        [CANDIDATE_FATE_EXTENDED] = "extended",
    };
    ASSERT((size_t)fate < sizeof names / sizeof names[0]);
    return names[fate];
}

// Grows an array in place; the old one stays valid when there is no memory.
static bool resize(void *array_pointer, size_t count, size_t element_bytes) {
    void **array = array_pointer;
    void *grown = realloc(*array, count * element_bytes);
    if (grown == NULL) {
        return false;
    }
    *array = grown;
    return true;
}

static bool reserve_tokens(struct candidate *candidate, uint32_t count) {
    if (count <= candidate->token_capacity) {
        return true;
    }
    if (!resize(&candidate->tokens, count, sizeof *candidate->tokens) ||
        !resize(&candidate->logprobs, count, sizeof *candidate->logprobs)) {
        return false;
    }
    candidate->token_capacity = count;
    return true;
}

static bool reserve_costs(struct candidate *candidate, uint32_t count) {
    if (count <= candidate->cost_capacity) {
        return true;
    }
    if (!resize(&candidate->token_costs, count, sizeof *candidate->token_costs)) {
        return false;
    }
    candidate->cost_capacity = count;
    return true;
}

static bool reserve_blocks(struct candidate *candidate, uint32_t count) {
    if (count <= candidate->block_capacity) {
        return true;
    }
    if (!resize(&candidate->block_ends, count, sizeof *candidate->block_ends) ||
        !resize(&candidate->block_scores, count, sizeof *candidate->block_scores)) {
        return false;
    }
    candidate->block_capacity = count;
    return true;
}

static bool copy_history(struct candidate *child, const struct candidate *parent) {
    if (!reserve_tokens(child, parent->n_tokens) || !reserve_costs(child, parent->n_costs) ||
        !reserve_blocks(child, parent->n_blocks)) {
        return false;
    }
    if (parent->n_tokens > 0) {
        memcpy(child->tokens, parent->tokens, parent->n_tokens * sizeof *child->tokens);
        memcpy(child->logprobs, parent->logprobs, parent->n_tokens * sizeof *child->logprobs);
    }
    if (parent->n_costs > 0) {
        memcpy(child->token_costs, parent->token_costs,
               parent->n_costs * sizeof *child->token_costs);
    }
    if (parent->n_blocks > 0) {
        memcpy(child->block_ends, parent->block_ends, parent->n_blocks * sizeof *child->block_ends);
        memcpy(child->block_scores, parent->block_scores,
               parent->n_blocks * sizeof *child->block_scores);
    }
    child->n_tokens = parent->n_tokens;
    child->n_costs = parent->n_costs;
    child->n_blocks = parent->n_blocks;
    child->prompt_cost = parent->prompt_cost;
    return true;
}

struct candidate *candidate_create(uint64_t id, const struct candidate *parent,
                                   const struct search_spec *spec) {
    struct candidate *candidate = calloc(1, sizeof *candidate);
    if (candidate == NULL) {
        return NULL;
    }
    candidate->id = id;
    candidate->parent_id = parent == NULL ? 0 : parent->id;
    if (parent != NULL && !copy_history(candidate, parent)) {
        candidate_destroy(candidate);
        return NULL;
    }
    uint32_t left = spec->max_tokens - candidate->n_tokens;
    candidate->grow_tokens = left < spec->block_tokens ? left : spec->block_tokens;
    candidate->safety.z = spec->budget;
    candidate->safety.admissible = true;
    return candidate;
}

void candidate_drop_arrays(struct candidate *candidate) {
    free(candidate->tokens);
    free(candidate->logprobs);
    free(candidate->token_costs);
    free(candidate->block_ends);
    free(candidate->block_scores);
    candidate->tokens = NULL;
    candidate->logprobs = NULL;
    candidate->token_costs = NULL;
    candidate->block_ends = NULL;
    candidate->block_scores = NULL;
    candidate->token_capacity = 0;
    candidate->cost_capacity = 0;
    candidate->block_capacity = 0;
}

void candidate_destroy(struct candidate *candidate) {
    if (candidate != NULL) {
        candidate_drop_arrays(candidate);
        free(candidate);
    }
}

static enum status check_scores(const struct candidate *candidate, const struct search_spec *spec,
                                const struct search_row *row, struct error *err) {
    if (!isfinite(row->reward)) {
        return error_set(err, STATUS_MALFORMED, "row.reward",
                         "candidate %" PRIu64 ": the reward is not a finite number",
                         row->candidate_id);
    }
    if (!spec->has_cost) {
        return STATUS_OK;
    }
    if (!isfinite(row->prompt_cost) || !isfinite(row->end_cost) || !isfinite(row->violations)) {
        return error_set(err, STATUS_MALFORMED, "row.end_cost",
                         "candidate %" PRIu64 ": the cost is not a finite number",
                         row->candidate_id);
    }
    // A finished text can be read in more or fewer tokens than it was written in.
    uint64_t end = (uint64_t)row->costs_from + row->n_costs;
    uint64_t n_tokens = (uint64_t)candidate->n_tokens + row->n_tokens;
    if (row->costs_from > candidate->n_costs || end > UINT32_MAX ||
        (row->finish == SEARCH_FINISH_NONE && end != n_tokens)) {
        return error_set(err, STATUS_MALFORMED, "row.token_costs",
                         "candidate %" PRIu64 ": %u costs from token %u for %" PRIu64 " tokens",
                         row->candidate_id, row->n_costs, row->costs_from, n_tokens);
    }
    for (uint32_t i = 0; i < row->n_costs; i++) {
        if (!isfinite(row->token_costs[i])) {
            return error_set(err, STATUS_MALFORMED, "row.token_costs",
                             "candidate %" PRIu64 ": cost %u is not a finite number",
                             row->candidate_id, row->costs_from + i);
        }
    }
    return STATUS_OK;
}

enum status candidate_check_row(const struct candidate *candidate, const struct search_spec *spec,
                                const struct search_row *row, struct error *err) {
    if (row->n_tokens > candidate->grow_tokens) {
        return error_set(err, STATUS_MALFORMED, "row.token_ids",
                         "candidate %" PRIu64 ": %u tokens came, at most %u were asked for",
                         row->candidate_id, row->n_tokens, candidate->grow_tokens);
    }
    if (row->finish == SEARCH_FINISH_NONE && row->n_tokens != candidate->grow_tokens) {
        return error_set(err, STATUS_MALFORMED, "row.finish",
                         "candidate %" PRIu64 ": unfinished after %u of %u tokens",
                         row->candidate_id, row->n_tokens, candidate->grow_tokens);
    }
    return check_scores(candidate, spec, row, err);
}

enum status candidate_append_row(struct candidate *candidate, const struct search_spec *spec,
                                 const struct search_row *row) {
    uint32_t n_tokens = candidate->n_tokens + row->n_tokens;
    uint32_t n_costs = spec->has_cost ? row->costs_from + row->n_costs : 0;
    if (!reserve_tokens(candidate, n_tokens) || !reserve_costs(candidate, n_costs) ||
        !reserve_blocks(candidate, candidate->n_blocks + 1)) {
        return STATUS_NO_MEMORY;
    }
    if (row->n_tokens > 0) {
        memcpy(candidate->tokens + candidate->n_tokens, row->token_ids,
               row->n_tokens * sizeof *row->token_ids);
        memcpy(candidate->logprobs + candidate->n_tokens, row->logprobs,
               row->n_tokens * sizeof *row->logprobs);
    }
    if (n_costs > 0 && row->n_costs > 0) {
        memcpy(candidate->token_costs + row->costs_from, row->token_costs,
               row->n_costs * sizeof *row->token_costs);
    }
    candidate->n_tokens = n_tokens;
    candidate->n_costs = n_costs;
    candidate->block_ends[candidate->n_blocks] = n_tokens;
    candidate->block_scores[candidate->n_blocks] = row->end_cost;
    candidate->n_blocks++;
    candidate->prompt_cost = row->prompt_cost;
    candidate->end_cost = row->end_cost;
    candidate->violations = row->violations;
    candidate->reward = row->reward;
    candidate->grown = true;
    // A candidate that fills max_tokens has ended, whatever the worker calls it.
    bool full = n_tokens >= spec->max_tokens;
    candidate->finish =
        row->finish == SEARCH_FINISH_NONE && full ? SEARCH_FINISH_LENGTH : row->finish;
    candidate->text_digest = text_digest(row->text);
    const struct safety_input input = {
        .token_costs = candidate->token_costs,
        .n_costs = candidate->n_costs,
        .n_tokens = candidate->n_tokens,
        .block_ends = candidate->block_ends,
        .block_scores = candidate->block_scores,
        .n_blocks = candidate->n_blocks,
        .prompt_cost = candidate->prompt_cost,
        .violations = candidate->violations,
    };
    struct safety_state state;
    safety_evaluate(spec, &input, &state);
    if (!candidate->lost || !state.admissible) {
        candidate->safety = state;
    }
    candidate->lost =
        candidate->lost || (state.certain_loss && candidate->finish == SEARCH_FINISH_NONE &&
                            spec->selection == SEARCH_SELECTION_AUGMENTED);
    return STATUS_OK;
}
