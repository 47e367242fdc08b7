// One sampled continuation inside a search: its tokens, what scorers said of it, its safety state.
// The coordinator's only record of it: safety, results and the last check of an answer read these
// scores, as they came. Owned by the search's table; ids are 1, 2, ... in order of creation, so
// they are the same on every run.
#ifndef COORDINATOR_SEARCH_CANDIDATE_H
#define COORDINATOR_SEARCH_CANDIDATE_H

#include <stdbool.h>
#include <stdint.h>

#include "coordinator/search/safety.h"

// What a candidate has grown. Forks share their parent's until they grow: who grows while others
// have it takes a copy with room for the new block. Those that fork and never come back, and the
// last of several, so copy nothing.
struct history {
    uint32_t n_owners;
    uint32_t token_capacity;
    uint32_t place_capacity;
    uint32_t block_capacity;
    uint32_t *tokens;     // [token_capacity] response so far
    float *logprobs;      // [token_capacity] nats
    float *token_scores;  // [n_scorers][place_capacity]; rows of cost scorers alone are used
    uint32_t *block_ends; // [block_capacity] tokens
    float *end_scores;    // [block_capacity][n_scorers]
};

struct candidate {
    uint64_t id;
    uint64_t parent_id;
    struct history *history; // NULL before the first token and when it is dropped
    uint32_t n_tokens;
    uint32_t n_places; // with token scores: n_tokens; of a finished text those of its reading
    uint32_t n_blocks;
    uint32_t block_end;     // tokens at the end of the block that grows or has grown
    uint32_t grow_tokens;   // what is or will be asked for; 0: scores alone
    uint32_t unread_by;     // likewise: scorers, by bit, that leave it out while it goes on
    uint32_t unread;        // scorers that have left out its newest block
    uint32_t prefix_index;  // 1-based: the next block is a given text, 0: it is drawn
    uint32_t token_rank;    // 0 draws; else the place by logit of the token that it takes
    double lagrangian_cost; // C, see preference.h
    double reward;
    // Of the text so far. A candidate that was lost for certain while it grew stays lost, with the
    // state that lost it, whatever its final reading says: so it is the same to stop it or not.
    struct safety_state safety;
    bool lost;
    // What a critic foretells of an unfinished one that has grown: the smallest probability over
    // its channels that the text ends within the budget, f1, and the reward of its text so far, f2.
    double within;
    double foretold_reward;
    double foretold_error; // by how much f2 was too low when scorers last read the text
    enum search_finish finish;
    char *text;             // of a finished one that is not dropped, else NULL
    struct reading reading; // likewise; ids owned
    uint64_t text_digest;   // of a finished one
    enum candidate_fate fate;
    bool outstanding; // taken by search_next, no row yet
    bool grown;       // has had a row
    bool in_block;    // unfinished, and its newest block is only begun
};

// A child that starts as its parent is, or at the prompt when parent is NULL. Returns owned memory,
// NULL when there is none.
struct candidate *candidate_create(uint64_t id, const struct candidate *parent);
void candidate_destroy(struct candidate *candidate); // NULL allowed

// Drops tokens, scores and text and keeps the summary (n_tokens, scores, fate).
void candidate_drop_history(struct candidate *candidate);

// Its raw scores, borrowed; `prompt_scores` [n_scorers] too.
struct search_scores candidate_scores(const struct candidate *candidate,
                                      const float *prompt_scores);

// Tokens that an unfinished row of it has at least.
uint32_t candidate_shortest_row(const struct candidate *candidate, const struct search_spec *spec);

// STATUS_MALFORMED when the row contradicts what was asked or holds a NaN; nothing is changed.
MUST_CHECK enum status candidate_check_row(const struct candidate *candidate,
                                           const struct search_spec *spec,
                                           const struct search_row *row, struct error *err);

// Appends a checked row and re-evaluates the safety state. Until a scorer has read the newest block
// its tokens count 0 there, and its score at the end is that of the block before, 0 before the
// first. STATUS_NO_MEMORY; errors of safety_check_costs().
MUST_CHECK enum status candidate_append_row(struct candidate *candidate,
                                            const struct search_spec *spec,
                                            const float *prompt_scores,
                                            const struct search_row *row, struct error *err);

#endif
