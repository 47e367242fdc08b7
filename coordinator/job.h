// One job from its acceptance to its result: QUEUED, RUNNING with a search, DONE with the bytes of
// a JobResult. Checks and combines the rows of its candidates and keeps what the result has to
// show. Owns its specification and search; knows no socket, store or scheduler.
#ifndef COORDINATOR_JOB_H
#define COORDINATOR_JOB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/date.h"
#include "common/status.h"
#include "coordinator/job_spec.h"
#include "coordinator/search/search.h"
#include "proto/wire.h"

// What the rows said of one candidate, beyond what the search keeps.
struct job_candidate {
    uint32_t n_tokens;
    uint32_t n_scores;   // n_tokens; of a finished one the places of its reading, at least 1
    uint32_t capacity;   // of the rows of token_scores
    float *token_scores; // [n_scorers][capacity], cost scorers' rows only are used
    double end_scores[LIMIT_SCORERS];
    uint32_t n_blocks;
    uint32_t block_capacity;
    uint32_t *block_ends; // [n_blocks] tokens at the end of each block
    double *block_costs;  // [n_blocks] weighted cost at the end of each block
    char *text;           // of a finished candidate
    bool has_reading;     // of a finished one: read otherwise than it was written
    uint32_t read_from;   // the reading: so many tokens of the response, then
    uint32_t *read_ids;   // [n_read_ids] these
    size_t n_read_ids;
};

// Groups lost while they worked on the job: see faults.c.
struct job_losses {
    bool suspect;       // has its orders to itself
    bool one_by_one;    // and one candidate in each
    bool awaits_key;    // since an earlier process: until `key` has come back
    uint32_t pending;   // candidates of lost orders that are not back yet
    uint32_t count;     // losses alone, in all
    uint64_t key;       // which candidate was alone in the last order lost, 0 none
    uint64_t order_id;  // the last order lost
    uint64_t newest_id; // newest order when a loss was counted: what was out then counts no more
};

struct job {
    uint64_t id;
    char *key;             // owned
    struct job_spec *spec; // owned; NULL while QUEUED and unloaded, and DONE without having run
    size_t spec_bytes;     // packed, as stored
    uint64_t seed;
    char date[DATE_TEXT_BYTES]; // of templates: the specification's, else the day of acceptance
    Surefoot__JobState state;
    struct search *search; // owned; NULL unless RUNNING, or DONE after having run
    int64_t accepted_ms;   // CLOCK_MONOTONIC; before the process began for jobs of an earlier one
    int64_t started_ms;
    int64_t deadline_ms; // INT64_MAX none
    uint32_t prompt_tokens;
    double prompt_scores[LIMIT_SCORERS]; // at the end of the prompt, once known
    bool has_prompt_scores[LIMIT_SCORERS];
    struct job_candidate **candidates; // [n_candidates] by id - 1; NULL unknown or no longer needed
    size_t n_candidates;
    uint64_t best_id;          // finished candidate whose record is kept, 0 none
    Surefoot__Outcome outcome; // of a DONE job
    uint8_t *result;           // [result_size] packed JobResult of a DONE job
    size_t result_size;
    bool is_saving;        // the result is among the owner's writes
    struct job_losses losses;
    struct job_line *line; // NULL: not queued; this and the links are job_table's
    struct job *next_in_line;
    struct job *previous_in_line;
    struct job *next_by_key;
    struct job *next_by_id;
};

// Takes `spec`, of which the packed form has `spec_bytes`. `accepted_ms` is CLOCK_MONOTONIC,
// `accepted_realtime_ms` the same time as it is stored, since 1970. STATUS_NO_MEMORY: not taken.
MUST_CHECK enum status job_create(uint64_t id, struct job_spec *spec, size_t spec_bytes,
                                  int64_t accepted_ms, int64_t accepted_realtime_ms,
                                  struct job **out);
void job_destroy(struct job *job); // NULL allowed

// Gives the specification of a queued job back, or takes it again before it starts.
void job_unload(struct job *job);
void job_load(struct job *job, struct job_spec *spec);

// Resolves the specification against the models and starts the search. An error is the job's own:
// the caller rejects it.
MUST_CHECK enum status job_start(struct job *job, const struct model_set *models,
                                 struct error *err);

// scheduler_next_fn of a running job.
bool job_next(void *job, struct search_grow *out);

// Hands in a row without an error for a candidate that was given out with `parent_id` as parent, to
// grow by `asked` tokens. MALFORMED: the row is not what was asked for, or not finite; nothing of
// it was taken, another row of the candidate may follow. After NO_MEMORY or INTERNAL the job cannot
// go on.
MUST_CHECK enum status job_on_row(struct job *job, const Surefoot__Row *row, uint64_t parent_id,
                                  uint32_t asked, struct error *err);

// Candidates that the search needs no more, as search_take_released; call until 0.
size_t job_take_released(struct job *job, uint64_t *candidate_ids, size_t capacity);

// Ends the job and makes its result. A running job that is done ends by its search's answer, which
// is checked against the budget once more: job_finish. Every other end is job_stop's; `why` is for
// REJECTED and FAILED, NULL otherwise. `models` may be NULL when none are known. Both always end in
// DONE and drop the search; without memory for a result, `result` stays NULL and job_stop may be
// called again.
void job_finish(struct job *job, const struct model_set *models);
void job_stop(struct job *job, Surefoot__Outcome outcome, const struct error *why,
              const struct model_set *models);

// Fills `progress`; strings are borrowed from the job.
void job_fill_progress(const struct job *job, Surefoot__JobProgress *progress);

#endif
