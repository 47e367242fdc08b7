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
    uint64_t rebuilt_tokens; // of its responses, that groups read again
    uint64_t scored_tokens;  // of its responses, that scorer models read
    uint8_t *states;         // [n_states, spec->state_bytes] of its only candidate; NULL: none
    uint32_t *state_tokens;  // [n_states]
    size_t n_states;
    Surefoot__Outcome outcome; // of a DONE job
    uint8_t *result;           // [result_size] packed JobResult of a DONE job
    size_t result_size;
    bool is_saving; // the result is among the owner's writes
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

// Resolves the specification against the models and starts the search, which borrows `tilts` until
// it ends. An error is the job's own: the caller rejects it.
MUST_CHECK enum status job_start(struct job *job, const struct model_set *models,
                                 struct tilt_cache *tilts, struct error *err);

// scheduler_next_fn of a running job.
bool job_next(void *job, struct search_grow *out);

// Hands in a row without an error for a candidate that was given out. MALFORMED: the row is not
// what was asked for, or not finite; nothing of it was taken, another row of the candidate may
// follow. After NO_MEMORY the job cannot go on.
MUST_CHECK enum status job_on_row(struct job *job, const Surefoot__Row *row, struct error *err);

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
