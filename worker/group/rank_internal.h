// The inside of a rank, shared by its files: rank.c opens models and tells about them, rank_jobs.c
// turns GroupJobs into what decoding and scoring need, rank_candidates.c keeps the held candidates,
// rank_wave.c grows and scores a set of candidates that fits, rank_pairs.c runs scorer models side
// by side, rank_rows.c writes rows, rank_execute.c cuts an order into such waves.
#ifndef WORKER_GROUP_RANK_INTERNAL_H
#define WORKER_GROUP_RANK_INTERNAL_H

#include <stdatomic.h>
#include <stdbool.h>

#include "proto/limits.h"
#include "worker/critic/critic.h"
#include "worker/decode/decoder.h"
#include "worker/group/id_table.h"
#include "worker/group/rank.h"
#include "worker/score/lexical.h"
#include "worker/score/score_model.h"

struct rank_model {
    char name[LIMIT_NAME_BYTES + 1];
    struct backend *backend; // the rank's, or its side backend
    int partner;             // scorer that works side by side with this one, -1 none
    struct model *model;
    struct model_context *context;
    struct tokenizer *tokenizer;
    struct template_set *templates;
    struct model_context_options options;
    struct model_context_plan plan;
    struct scorer *scorer; // NULL for the policy
};

// A scorer as one job uses it.
struct rank_job_scorer {
    struct scorer *scorer; // a model's or the lexical one; borrowed
    struct scorer_job *job;
    enum scorer_role role;
};

struct rank_job {
    uint64_t id;
    struct error error; // why no candidate of this job can be grown; STATUS_OK otherwise
    struct decode_params params;
    int32_t *prompt_ids; // [params.n_prompt], owned
    int32_t *bias_ids;   // owned, of params.sampling.bias
    float *bias_values;  // likewise
    char *stop_text;     // owned, of params.stops
    int32_t *prefixes[LIMIT_FALLBACK_PREFIXES]; // owned, tokens of each
    int32_t prefix_counts[LIMIT_FALLBACK_PREFIXES];
    bool states;         // its rows carry o_t
    bool critic;         // and what the critic foretells
    struct rank_job_scorer scorers[RANK_SCORERS_MAX];
    int n_scorers;
    struct sequence *sequence; // holds the prompt; NULL while it is not prepared
    int32_t state;             // row of o_t at the end of the prompt, -1 while not prepared
    uint64_t used;             // clock of the last use
    uint64_t pin;              // wave that needs it
    uint64_t rebuilt_tokens;   // response tokens read again in this order
    uint64_t scored_tokens;    // that its scorer models had read when the order began
};

// A candidate that stays held after its block: a continuation or fork of it needs no prefill.
struct rank_candidate {
    uint64_t id;
    struct rank_job *job;
    struct response response;
    struct sequence *sequence;                            // prompt and response
    int32_t state;                                        // row of o_t
    struct scorer_state *scorer_states[RANK_SCORERS_MAX]; // [job->n_scorers]
    uint64_t used;
    uint64_t pin;
};

// One item of an order on its way to a row.
struct rank_item {
    const Surefoot__OrderItem *item;
    struct rank_job *job;
    struct token_values penalty;     // borrowed from the order
    struct sampling_params sampling; // the job's, where the order names a temperature at that
    Surefoot__Row *row;              // of the Gathered under way
    // While its wave runs:
    struct rank_candidate *candidate;
    struct rank_candidate *parent; // held, or rebuilt by another item; NULL: the prompt
    int32_t n_before;              // response tokens that were given
    bool rebuild;                  // this item reads the given tokens again
};

struct rank {
    struct backend *backend;
    struct backend *side; // of the second scorers of pairs; NULL: there is no pair
    char backend_name[16];
    struct rank_model policy;
    struct rank_model scorers[RANK_SCORERS_MAX];
    int n_scorers;
    struct scorer *lexical;
    struct decoder *decoder;
    size_t decoder_bytes;
    enum precision precision;
    int slots;
    int32_t context_tokens; // longest prompt + response

    struct rank_critic *critic; // NULL: none
    struct rank_value *value;   // NULL: none

    struct id_table job_table;       // (job id, 0)
    struct rank_job *jobs;           // [job_table.capacity]
    struct id_table candidate_table; // (job id, candidate id)
    struct rank_candidate *candidates;
    uint64_t clock; // grows with every use of a job or candidate
    uint64_t wave;  // number of the running wave, for pins

    // Scratch of a wave.
    struct decode_task *tasks;           // [slots]
    struct decode_prefill *prefills;     // [slots]
    int32_t *state_pairs;                // [2 * slots]: from, then to
    struct scorer_extension *extensions; // [slots * RANK_SCORERS_MAX]
    struct rank_item **extension_items;  // likewise
    int *extension_indices;              // likewise: scorer within the job
    struct scorer_job **scorer_jobs;     // likewise
    // Per scorer model: its part of extensions, or of scorer_jobs.
    int32_t scorer_begins[RANK_SCORERS_MAX];
    int32_t scorer_counts[RANK_SCORERS_MAX];
    bool side_by_side; // a pair is at work
    _Atomic uint64_t side_progress;

    rank_progress_fn progress;
    void *progress_context;
    uint64_t progress_count;
    int64_t decode_ns; // of the order under way
    int64_t score_ns;
    struct rank_counts counts; // what the decoder and the scorers do not count

    Surefoot__ModelInfo infos[RANK_SCORERS_MAX + 1]; // what rank_describe lends out
    Surefoot__ModelInfo *info_pointers[RANK_SCORERS_MAX];
    Surefoot__GenerationDefaults generation; // of the policy's info
    uint32_t *exempt_ids;
    size_t n_exempt;
};

// rank_jobs.c. Registers a job of an order; one that is known stays as it is. A job that cannot be
// run is registered with its error. A full table gives up the job that was used longest ago.
MUST_CHECK enum status rank_job_add(struct rank *rank, const Surefoot__GroupJob *message);
struct rank_job *rank_job_find(struct rank *rank, uint64_t job_id); // NULL: unknown
void rank_job_remove(struct rank *rank, struct rank_job *job);      // with its candidates
// Makes the prompts of the items' jobs ready in all models. STATUS_LIMIT: no room.
MUST_CHECK enum status rank_jobs_prepare(struct rank *rank, struct rank_item *items, int32_t n,
                                         struct error *err);
// Gives up the prompt's KV in all models.
void rank_job_unload(struct rank *rank, struct rank_job *job);

// rank_candidates.c
struct rank_candidate *rank_candidate_find(const struct rank *rank, uint64_t job_id,
                                           uint64_t candidate_id); // NULL: not held
// The held candidate that `item` continues, at exactly its tokens; NULL: it must be rebuilt, or
// starts at the prompt.
struct rank_candidate *rank_candidate_parent(const struct rank *rank, const struct rank_item *item);
void rank_candidate_drop(struct rank *rank, struct rank_candidate *candidate);
void rank_candidates_drop_all(struct rank *rank);
// A new candidate for `item`: forked from `parent`, or from the prepared prompt when NULL. One of
// the same id is dropped first; it must not be `parent`. Its state row is not filled yet.
// STATUS_LIMIT: a table or pool is full.
MUST_CHECK enum status rank_candidate_create(struct rank *rank, const struct rank_item *item,
                                             const struct rank_candidate *parent,
                                             struct rank_candidate **out);
// Drops candidates, longest unused first, then unloads prompts, until `n` new candidates needing
// `n_blocks` KV blocks in every model fit. Spares what is pinned by rank->wave. False: they do not.
bool rank_make_room(struct rank *rank, int32_t n, int64_t n_blocks);

// rank_wave.c. Grows and scores items[n] and fills their rows; n <= slots, candidate ids differ. A
// fault of one item becomes its row's error. On failure no candidate of the wave is held, the rows
// are as before. STATUS_LIMIT: no room for so many at once.
MUST_CHECK enum status rank_wave_run(struct rank *rank, struct rank_item *items, int32_t n,
                                     struct error *err);

// rank_rows.c; each STATUS_NO_MEMORY only. Puts an error into a row; an earlier one stays.
MUST_CHECK enum status rank_row_fail(Surefoot__Row *row, const struct error *error);
// The score of the job's scorer `index`.
MUST_CHECK enum status rank_row_add_score(const struct rank_item *item, int index,
                                          const struct scorer_extension *extension);
// Everything else, from the item's grown candidate.
MUST_CHECK enum status rank_row_fill(const struct rank *rank, const struct rank_item *item);
// Takes back scores [n_scorers] and what rank_row_fill put there; the error stays.
void rank_row_clear(Surefoot__Row *row, int n_scorers);

void rank_report_progress(void *rank); // a model_progress_fn

// rank_pairs.c
typedef enum status (*rank_scorer_fn)(struct rank *rank, int scorer, struct error *err);
// Before scorer `index` is opened: finds it a partner among those before it, and its backend.
MUST_CHECK enum status rank_pair_scorer(struct rank *rank, int index, const char *directory,
                                        int threads, struct error *err);
// Calls `run` for each scorer model whose scorer_counts is not 0, partners side by side on two
// threads: it may touch nothing but that scorer's part of the rank.
MUST_CHECK enum status rank_run_scorers(struct rank *rank, rank_scorer_fn run, struct error *err);
void rank_report_side_progress(void *rank); // a model_progress_fn, of second scorers

// rank_critic.c. Opens the critic at `path` for the policy, which has its decoder, and describes it
// in `hello`. Errors of critic_open; STATUS_INVALID_ARGUMENT: it is another policy's.
MUST_CHECK enum status rank_critic_open(struct rank *rank, const char *path, struct error *err);
void rank_critic_close(struct rank *rank);
void rank_critic_describe(const struct rank *rank, Surefoot__GroupHello *hello);
// Puts into the unfinished rows of jobs that ask for it what the critic foretells. A candidate for
// which that is no number fails. STATUS_NO_MEMORY, STATUS_DEVICE.
MUST_CHECK enum status rank_critic_run(struct rank *rank, struct rank_item *items, int32_t n);

// What a critic says of itself in a hello; points into itself and borrows the critic's texts.
struct rank_critic_info {
    Surefoot__CriticInfo message;
    Surefoot__CriticChannel channels[CRITIC_CHANNELS_MAX];
    Surefoot__CriticChannel *channel_list[CRITIC_CHANNELS_MAX];
    Surefoot__CriticReward rewards[CRITIC_REWARDS_MAX];
    Surefoot__CriticReward *reward_list[CRITIC_REWARDS_MAX];
};
void rank_critic_info_fill(const struct critic *critic, struct rank_critic_info *out);
// Opens a critic or, with `is_value`, a value network for the policy; errors name `field`.
MUST_CHECK enum status rank_critic_open_file(const struct rank *rank, const char *path,
                                             const char *field, bool is_value, struct critic **out,
                                             struct error *err);

// rank_value.c. Opens the value network at `path` for the policy, whose decoder is to draw by its
// proposal, and describes it in `hello`. Errors as of rank_critic_open.
MUST_CHECK enum status rank_value_open(struct rank *rank, const char *path, struct error *err);
void rank_value_close(struct rank *rank);
void rank_value_describe(const struct rank *rank, Surefoot__GroupHello *hello);
struct proposal *rank_value_proposal(const struct rank *rank); // NULL: there is none
// How the job of `message` moves states. STATUS_UNSUPPORTED: there is nothing to move them along;
// STATUS_LIMIT.
MUST_CHECK enum status rank_value_read_move(const struct rank *rank,
                                            const Surefoot__GroupJob *message,
                                            struct decode_move *out, struct error *err);

#endif
