// A search method: a pure state machine, one file each. Candidates to grow come out, gathered rows
// go in; no socket, clock, thread or hidden randomness, so that everything is a deterministic
// function of (spec, rows). Rows may arrive in any order; what the search does must not depend on
// it. Scores arrive as each scorer gave them; combine.h has what they are together.
#ifndef COORDINATOR_SEARCH_SEARCH_H
#define COORDINATOR_SEARCH_SEARCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/cost_to_go.h"
#include "common/status.h"
#include "coordinator/search/tilt_cache.h"
#include "proto/job_choices.h"
#include "proto/limits.h"

struct search_scorer {
    bool is_cost;     // else of reward
    uint32_t channel; // of a cost scorer
    double weight;
};

// Costs with a budget of their own: what one channel saves pays for nothing in another.
struct search_channel {
    const char *name; // for messages; borrowed
    enum cost_mode cost_mode;
    double budget;   // b
    double discount; // gamma, (0, 1]
    enum discount_unit discount_unit;
    enum admit_rule admit_rule;
    bool has_cost_min;
    double cost_min; // no cost is less: pruning on the running sum is then sound
};

// A job's search parameters, all validated and defaulted by coordinator/job_spec.c.
struct search_spec {
    enum search_method method;
    enum search_selection selection;
    uint32_t n;            // N, candidates
    uint32_t survivors;    // K, 1..N
    uint32_t block_tokens; // d, of the first block; see blocks.h
    double block_growth;   // >= 1; 1: all blocks are of block_tokens
    uint32_t block_tokens_max;
    uint32_t n_min; // 1..N, fewest children of a step of inference-guard; N: all have N
    // inference-guard: places of a text, in tokens, at whose multiples one that is lost for certain
    // stops inside its block, 0: none. No effect where a cost falls on ends of blocks.
    uint32_t abort_tokens;
    uint32_t patience;   // steps without a better answer that end inference-guard, 0: none do
    uint32_t max_tokens; // D
    uint32_t tries;      // M, >= 1
    struct search_scorer scorers[LIMIT_SCORERS];
    uint32_t n_scorers;
    struct search_channel channels[LIMIT_CHANNELS];
    uint32_t n_channels; // 0: the job has no cost scorer
    double discount;     // gamma of the reward, (0, 1]
    enum discount_unit discount_unit;
    bool discount_reward;
    double lagrangian_lambda;
    enum fallback_penalty fallback_penalty;
    double fallback_weight; // n2
    double fallback_cap;    // logits
    // inference-guard: of a second search where the first finds no answer within budget, 0: none.
    double fallback_temperature;
    uint32_t n_prefixes;        // searches after that whose answers begin with given texts
    uint32_t prefix_tokens_max; // of each, > 0
    bool early_stop;        // best-of-n, rejection; others never go on from a certain loss
    double rejection_alpha; // speculative-rejection: share given up at a block's end, [0, 1)
    uint64_t seed;          // the job's
    // cards; block_tokens is the longest segment.
    double entropy_threshold;    // nats at which a segment ends, 0 off; 0 for all other methods
    uint32_t segment_tokens_min; // the shortest segment that is not a text's last
    double reward_threshold;     // r*
    double threshold_start;      // alpha, [0, 1]
    double accept_temperature;   // beta, 0: a segment must reach the threshold
    const float *rollouts;       // [n_rollouts] other answers' rewards, ascending; borrowed
    uint32_t n_rollouts;
    struct tilt_spec tilt;    // of methods whose candidates are draws of the policy
    struct tilt_cache *tilts; // of other searches too, borrowed; NULL: the search makes its own
    double omega;             // args: weight of the score beside the logit
    // Where unfinished candidates are ordered by what a critic foretells (docs/methods/critic.md):
    uint32_t critic_parts; // of each mixture; 0: none is asked
    uint32_t n_critic_channels;
    uint32_t critic_channels[LIMIT_CHANNELS]; // of the job, whose cost each foretells
    bool critic_has_reward;
    uint32_t critic_unread;    // scorers, by bit, that read only what the critic chooses; 0: none
    double critic_keep;        // share of a step's texts that it chooses, (0, 1]
    const int32_t *exempt_ids; // special tokens that the fallback never penalises; borrowed
    size_t n_exempt;
};

enum search_finish { // as Finish in group.proto
    SEARCH_FINISH_NONE = 0,
    SEARCH_FINISH_EOS = 1,
    SEARCH_FINISH_STOP = 2,
    SEARCH_FINISH_LENGTH = 3,
};

// "Grow this candidate", or score it: valid until the next call on the search.
struct search_grow {
    uint64_t candidate_id;
    uint64_t parent_id;     // 0 the prompt; equal to candidate_id: goes on itself
    const uint32_t *tokens; // [n_tokens] response so far; of the search
    uint32_t n_tokens;
    uint32_t grow_tokens;        // 0: only score what stands
    uint32_t unread_by;          // scorers, by bit, that leave it out while it goes on
    uint32_t token_rank;         // 0 draws; else the token of this place by logit is taken
    float entropy_stop;          // nats at which the block ends, 0 off; then
    uint32_t entropy_after;      // the fewest tokens that it has, > 0
    uint32_t prefix_index;       // 1-based: the text that is its first block, 0: it is drawn
    float temperature;           // in place of the job's; 0: the job's
    const uint32_t *penalty_ids; // [n_penalties] sparse logit penalties of a fallback try, or NULL
    const float *penalties;
    uint32_t n_penalties;
};

// What one scorer says of a row.
struct search_score {
    float end_score;    // after the last token
    float prompt_score; // at the end of the prompt; the first row's count
    // Of a cost scorer, [n_token_scores]: restated from place `from` to the end.
    const float *token_scores;
    size_t n_token_scores;
    uint32_t from;
};

// How a finished text was read, if otherwise than written.
struct reading {
    bool is_other;
    uint32_t from;       // so many tokens of the response, then
    const uint32_t *ids; // [n_ids] these
    size_t n_ids;
};

// What came back for one candidate. Arrays are borrowed during the call.
struct search_row {
    uint64_t candidate_id;
    const uint32_t *token_ids; // [n_tokens] new ones; may be 0 only when finish is not NONE
    const float *logprobs;     // [n_tokens]
    uint32_t n_tokens;
    enum search_finish finish;
    const char *text;                  // of a finished candidate; NULL is the empty one
    struct reading reading;            // likewise
    const struct search_score *scores; // [n_scorers]
    uint32_t unread_by; // scorers, by bit, that left it out: no score of theirs is there
    // That have token scores after the row: one a token of the response, or of the reading of a
    // finished text, which can have more or fewer.
    uint32_t n_places;
    // Of an unfinished candidate that a critic was asked about:
    const struct cost_to_go *costs_to_go; // [n_critic_channels]
    double foretold_reward;
};

// Raw scores of a candidate as far as it has grown: what its safety state is evaluated from.
struct search_scores {
    const float *token_scores; // [n_scorers][stride], n_places of them; cost scorers' are set
    uint32_t stride;
    uint32_t n_places;          // n_tokens; of a finished text the places of its reading
    uint32_t n_tokens;          // of the response
    const uint32_t *block_ends; // [n_blocks] tokens at the end of each block, ascending
    const float *end_scores;    // [n_blocks][n_scorers] at the end of each block
    uint32_t n_blocks;
    const float *prompt_scores; // [n_scorers] at the end of the prompt
};

enum candidate_fate { // frozen, stored and shown
    CANDIDATE_FATE_LIVE = 0,
    CANDIDATE_FATE_CHOSEN = 1,
    CANDIDATE_FATE_FINISHED = 2,
    CANDIDATE_FATE_PRUNED_SOUND = 3,     // certain loss
    CANDIDATE_FATE_PRUNED_HEURISTIC = 4, // over budget now, could in theory recover
    CANDIDATE_FATE_NOT_SELECTED = 5,
    CANDIDATE_FATE_DUPLICATE = 6,
    CANDIDATE_FATE_EXTENDED = 7, // survived a selection; its children went on
    CANDIDATE_FATE_UNSCORED = 8, // the critic preferred others
};
const char *candidate_fate_name(enum candidate_fate fate);

struct channel_state {
    double cost;        // S_t; for end_sign the newest e_j
    double z;           // gamma^-t (b - S_t); for end_sign b - e_j; see safety.h
    bool admissible;    // terminal: z >= 0 now; prefix: z >= 0 now and at every earlier cost
    bool certain_loss;  // no continuation within max_tokens can be admissible
    double cost_lowest; // of the costs that are summed so far; infinite where there is none
};

// Summary for provenance. Tokens, scores and text belong to the search and are there for candidates
// that still grow and for the best finished one, with a tilt for all finished within budget; NULL
// and 0 for all others.
struct search_candidate {
    uint64_t candidate_id;
    uint64_t parent_id;
    const uint32_t *tokens; // [n_tokens]
    const float *logprobs;  // [n_tokens]
    struct search_scores scores;
    const char *text;       // of a finished one
    struct reading reading; // likewise
    uint32_t n_tokens;
    double reward;
    const struct channel_state *channels; // [n_channels]
    double safety_state;                  // as safety_state.z
    bool admissible;
    enum candidate_fate fate;
    enum search_finish finish;
};

// What a tilt chose from.
struct search_tilt {
    uint32_t n_draws;  // finished within budget, equal texts counted each
    uint32_t n_ranked; // those whose ranks counted, or roll-outs
    double rank;       // of the answer, 1 the worst; a mean of equal rewards
    double calibrated; // its reward, in [0, 1]
    double beta;       // 0: the best was taken
    bool has_law;      // the law is that of the draws: no other was ranked
    struct tilt_law law;
    double rejection_draws;   // infinite at beta 0
    double log_inverse_share; // log(candidates / n_draws)
};

struct search_answer {
    bool found;            // false: nothing admissible (NO_SAFE_CANDIDATE)
    bool over_budget;      // possible only for plain and Lagrangian selection
    uint64_t candidate_id; // chosen; when !found the nearest to the budgets, 0 if there is none
    const char *rule;      // static text: which rule chose it, or refused
    uint32_t n_finished;   // different texts
    uint32_t n_admissible; // among the finished
    uint32_t n_aborted;    // candidates that stopped inside a block
    uint32_t n_repeats;    // candidates that ended in a text that another had
    uint32_t n_unscored;   // candidates given up unscored
    // Sampled in later blocks than that in which the chosen candidate ended, blocks counted from
    // the beginning of each text; 0 when !found.
    uint64_t tokens_after_choice;
    uint32_t tries_used; // extra tries over all steps
    bool fallback_fired;
    uint32_t n_restarts; // searches after the first, each since nothing was within budget
    uint32_t steps;
    const struct search_tilt *tilt; // of the search; NULL: none, or nothing found
};

struct search_progress {
    uint32_t step, live, finished, pruned;
    uint64_t tokens;
    bool has_best;
    double best_reward;
};

struct search;

// Candidates that one job may create over all steps and tries; bounds the memory of a search.
enum { SEARCH_CANDIDATES_MAX = 1 << 18 };

// How many candidates a search of this spec can create: n for methods that never fork, n times
// steps times tries for the beam methods.
uint64_t search_candidates_bound(const struct search_spec *spec);

// Copies `spec`, exempt ids included. STATUS_LIMIT: the bound above exceeds SEARCH_CANDIDATES_MAX,
// or the tilt that is asked for does not exist.
MUST_CHECK enum status search_create(const struct search_spec *spec, struct search **out,
                                     struct error *err);
void search_destroy(struct search *search); // NULL allowed

// Takes the next candidate to grow: those that have begun first, then in the order of creation.
// What a search decides does not depend on it. False: nothing to issue now (wait for rows, or
// done). What was taken is outstanding until search_on_row: the scheduler gives it to another group
// when its own dies.
bool search_next(struct search *search, struct search_grow *out);

// STATUS_MALFORMED: the row contradicts what was asked (unknown candidate, too many tokens, NaN
// score); the search is unchanged.
MUST_CHECK enum status search_on_row(struct search *search, const struct search_row *row,
                                     struct error *err);

// Candidates that are no longer needed since the last call: their KV may be freed. Returns how many
// ids were written, at most capacity; call until 0.
size_t search_take_released(struct search *search, uint64_t *candidate_ids, size_t capacity);

bool search_is_done(const struct search *search);
// Valid once done; also when the job is cut short (deadline, cancel) to report the best z so far.
void search_get_answer(struct search *search, struct search_answer *out);
void search_get_progress(const struct search *search, struct search_progress *out);
// All candidates ever made, by id.
size_t search_candidate_count(const struct search *search);
void search_get_candidate(const struct search *search, size_t index, struct search_candidate *out);
bool search_find_candidate(const struct search *search, uint64_t candidate_id,
                           struct search_candidate *out);

#endif
