// A scripted policy with scorers for the search tests: logits, per-token costs and rewards come
// from small tables, random numbers from Philox keyed by candidate id and position, exactly as a
// worker does it.
#ifndef TESTS_SEARCH_WORLD_H
#define TESTS_SEARCH_WORLD_H

#include "coordinator/search/search.h"

enum { WORLD_VOCAB = 16, WORLD_EOS = 0, WORLD_SCORERS = 2 };

struct world {
    uint64_t seed;
    double logits[WORLD_VOCAB];
    double costs[WORLD_VOCAB];   // s_i of each token
    double rewards[WORLD_VOCAB]; // added up over the text
    double cost_noise;           // amplitude of a position-dependent part of s_i
};

struct world_run {
    uint64_t shuffle_seed; // rows come back in an order drawn from this
    size_t batch;          // rows in flight at once
};

// Logits and costs drawn from `seed`.
void world_init(struct world *world, uint64_t seed);

// A spec with a reward scorer (0), a cost scorer (1) and every parameter set and no search of its
// own: method, n, d, D are the caller's.
struct search_spec world_spec(enum search_method method, enum search_selection selection,
                              uint32_t n, uint32_t block_tokens, uint32_t max_tokens);

// Runs the search to its end; returns the number of tokens sampled.
uint64_t world_run_search(const struct world *world, const struct search_spec *spec,
                          const struct world_run *run, struct search *search);

// Cost sum and reward of a text from scratch, as a judge that knows nothing of the search.
double world_cost(const struct world *world, const struct search_spec *spec, const uint32_t *tokens,
                  uint32_t n_tokens);
double world_reward(const struct world *world, const uint32_t *tokens, uint32_t n_tokens);

// Of a token under the logits.
double world_logprob(const struct world *world, uint32_t token);

struct search *world_open_search(const struct search_spec *spec);

// What a run decided, for comparison.
struct verdict {
    struct search_answer answer;
    uint64_t tokens_sampled;
    uint32_t n_tokens;
    uint32_t tokens[256];
    double cost;
    double z; // of what is shown, when nothing was found too; NaN: nothing is
    double reward;
    size_t n_candidates;
};

struct verdict world_verdict(const struct world *world, const struct search_spec *spec,
                             const struct world_run *how);
void assert_same_verdict(const struct verdict *a, const struct verdict *b);

// What the two say of a row: the reward at its end, the costs of `n` places from `from` on.
void world_scores(struct search_score out[WORLD_SCORERS], double reward, const float *costs,
                  size_t n, uint32_t from);

#endif
