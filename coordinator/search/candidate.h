// One sampled continuation inside a search: its tokens, its scores, its safety state. Owned by the
// search's table; ids are 1, 2, ... in order of creation, so they are the same on every run.
#ifndef COORDINATOR_SEARCH_CANDIDATE_H
#define COORDINATOR_SEARCH_CANDIDATE_H

#include <stdbool.h>
#include <stdint.h>

#include "coordinator/search/safety.h"

struct candidate {
    uint64_t id;
    uint64_t parent_id;
    uint32_t *tokens;     // [n_tokens] response so far
    float *logprobs;      // [n_tokens] nats
    double *token_costs;  // [n_costs] s_i; unused without a cost scorer
    uint32_t *block_ends; // [n_blocks]
    double *block_scores; // [n_blocks]
    uint32_t n_tokens;
    uint32_t n_costs; // n_tokens; of a finished text the places of its reading
    uint32_t token_capacity;
    uint32_t cost_capacity;
    uint32_t n_blocks;
    uint32_t block_capacity;
    uint32_t grow_tokens; // what is or will be asked for
    double prompt_cost;
    double end_cost;
    double reward;
    double violations;
    // Of the text so far. A candidate that was lost for certain while it grew stays lost, with the
    // state that lost it, whatever its final reading says: so it is the same to stop it or not.
    struct safety_state safety;
    bool lost;
    enum search_finish finish;
    uint64_t text_digest; // of a finished one
    enum candidate_fate fate;
    bool outstanding; // taken by search_next, no row yet
    bool grown;       // has had a row
};

// A child that starts as a copy of `parent`, or at the prompt when parent is NULL. Returns owned
// memory, NULL when there is none.
struct candidate *candidate_create(uint64_t id, const struct candidate *parent,
                                   const struct search_spec *spec);
void candidate_destroy(struct candidate *candidate); // NULL allowed

// Frees the arrays and keeps the summary (n_tokens, scores, fate).
void candidate_drop_arrays(struct candidate *candidate);

// STATUS_MALFORMED when the row contradicts what was asked or holds a NaN; nothing is changed.
MUST_CHECK enum status candidate_check_row(const struct candidate *candidate,
                                           const struct search_spec *spec,
                                           const struct search_row *row, struct error *err);

// Appends a checked row and re-evaluates the safety state.
MUST_CHECK enum status candidate_append_row(struct candidate *candidate,
                                            const struct search_spec *spec,
                                            const struct search_row *row);

#endif
