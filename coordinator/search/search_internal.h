// What the search methods share: the table of candidates, the queue of work that is ready, the list
// of candidates to release, and the best finished candidate so far. Only for coordinator/search.
#ifndef COORDINATOR_SEARCH_SEARCH_INTERNAL_H
#define COORDINATOR_SEARCH_SEARCH_INTERNAL_H

#include "coordinator/search/candidate.h"
#include "coordinator/search/preference.h"
#include "coordinator/search/text_set.h"

// First in, first out list of candidate ids.
struct id_queue {
    uint64_t *ids; // ring of `capacity`
    size_t capacity;
    size_t first;
    size_t count;
};

struct search_penalties { // sparse logit penalties of the try in progress; n 0 is none
    uint32_t *token_ids;  // [n] ascending
    float *values;        // [n] logits, subtracted
    uint32_t n;
};

// A row of methods.c; its work stands in a file of its own, or in that of the method it varies.
struct search_method_ops {
    // So many candidates can be created for `spec`, at most.
    uint64_t (*candidates_bound)(const struct search_spec *spec);
    // Creates the first candidates and marks them ready.
    enum status (*start)(struct search *search);
    // `candidate` has just grown. Finishes, prunes or continues it.
    enum status (*on_grown)(struct search *search, struct candidate *candidate);
    // Frees the method's own state; NULL when it has none.
    void (*destroy)(struct search *search);
    const char *choosing_rule; // of the answer; NULL: as its selection says
    bool discounts_reward;     // of finished candidates under the augmented rule, if the job does
    bool retries;              // a step without an admissible child, up to `tries` times
    bool takes_first;          // of what is admissible the smallest id is best
};

struct search {
    struct search_spec spec; // exempt_ids owned
    const struct search_method_ops *ops;
    void *method_state;                 // of the method
    float prompt_scores[LIMIT_SCORERS]; // [n_scorers] of the first row that has one
    uint32_t prompts_read;              // scorers, by bit, of which there is one
    struct candidate **candidates;      // [n_candidates]; id i stands at i - 1
    size_t n_candidates;
    size_t candidate_capacity;
    struct id_queue ready;
    struct id_queue released;
    size_t n_outstanding;
    struct search_penalties penalties;
    float temperature;   // of what is drawn now; 0: the job's
    uint32_t n_restarts; // as in search_answer
    struct text_set finished;
    struct candidate *best; // best finished candidate by the order of preference
    // Nearest to the budgets of the finished and of those given up over budget, for the record of a
    // refusal.
    struct candidate *nearest;
    struct tilt *tilt;         // NULL: none
    struct search_tilt tilted; // once done and found
    uint32_t steps;            // selections done
    uint32_t tries_used;       // tries beyond the first, over all steps
    uint32_t n_finished;       // those kept of equal texts, as n_admissible
    uint32_t n_admissible;
    uint32_t n_repeats;
    uint32_t n_aborted;
    uint32_t n_unscored;
    uint32_t n_pruned;
    uint64_t n_tokens; // sampled
    // [n_block_tokens] of them, in the i-th block of a candidate. It is what tells early from late
    // tokens, as the order in which rows arrive must decide nothing.
    uint64_t *block_tokens;
    uint32_t n_block_tokens;
};

extern const struct search_method_ops search_sample_ops;
extern const struct search_method_ops search_best_of_n_ops;
extern const struct search_method_ops search_beam_ops;
extern const struct search_method_ops search_inference_guard_ops;
extern const struct search_method_ops search_rejection_ops;
extern const struct search_method_ops search_speculative_rejection_ops;
extern const struct search_method_ops search_cards_ops;
extern const struct search_method_ops search_args_ops;
extern const struct search_method_ops search_re_control_ops;

const struct search_method_ops *search_method_find(enum search_method method);

// A new candidate, child of `parent` (NULL: the prompt), marked ready.
MUST_CHECK enum status search_add_candidate(struct search *search, const struct candidate *parent,
                                            struct candidate **out);

MUST_CHECK enum status search_mark_ready(struct search *search, struct candidate *candidate);

// Has the scorers that left its newest block out read it.
MUST_CHECK enum status search_mark_unread(struct search *search, struct candidate *candidate);

// The candidate has ended its text: counts it, keeps it if it is the best so far, releases it. Of
// equal texts the better candidate is kept, the other is a duplicate.
MUST_CHECK enum status search_finish_candidate(struct search *search, struct candidate *candidate);

// Draws the answer of a search that is done and has a tilt, in place of the best.
MUST_CHECK enum status search_choose_tilted(struct search *search);

// The candidate is given up with `fate`; its KV may be freed.
MUST_CHECK enum status search_drop_candidate(struct search *search, struct candidate *candidate,
                                             enum candidate_fate fate);

#endif
