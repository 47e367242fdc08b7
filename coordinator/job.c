#include "coordinator/job.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/deadline.h"
#include "common/log.h"
#include "coordinator/job_critic.h"
#include "coordinator/job_result.h"
#include "coordinator/job_row.h"

enum status job_create(uint64_t id, struct job_spec *spec, size_t spec_bytes, int64_t accepted_ms,
                       int64_t accepted_realtime_ms, struct job **out) {
    struct job *job = calloc(1, sizeof *job);
    char *key = strdup(job_spec_key(spec));
    if (job == NULL || key == NULL) {
        free(job);
        free(key);
        return STATUS_NO_MEMORY;
    }
    job->id = id;
    job->key = key;
    job->spec = spec;
    job->spec_bytes = spec_bytes;
    job->seed = spec->seed;
    const char *date = spec->submit->spec->date;
    if (date != NULL) {
        snprintf(job->date, sizeof job->date, "%s", date);
    } else {
        date_of_realtime_ms(accepted_realtime_ms, job->date);
    }
    job->state = SUREFOOT__JOB_STATE__JOB_STATE_QUEUED;
    job->accepted_ms = accepted_ms;
    job->deadline_ms = spec->deadline_ms > 0 ? accepted_ms + spec->deadline_ms : INT64_MAX;
    *out = job;
    return STATUS_OK;
}

static void drop_search(struct job *job) {
    search_destroy(job->search);
    job->search = NULL;
    free(job->states);
    free(job->state_tokens);
    job->states = NULL;
    job->state_tokens = NULL;
    job->n_states = 0;
}

void job_destroy(struct job *job) {
    if (job != NULL) {
        drop_search(job);
        job_spec_destroy(job->spec);
        free(job->key);
        free(job->result);
        free(job);
    }
}

void job_unload(struct job *job) {
    ASSERT(job->state == SUREFOOT__JOB_STATE__JOB_STATE_QUEUED);
    job_spec_destroy(job->spec);
    job->spec = NULL;
}

void job_load(struct job *job, struct job_spec *spec) {
    ASSERT(job->spec == NULL && strcmp(job_spec_key(spec), job->key) == 0);
    job->spec = spec;
}

enum status job_start(struct job *job, const struct model_set *models, struct tilt_cache *tilts,
                      struct error *err) {
    ASSERT(job->state == SUREFOOT__JOB_STATE__JOB_STATE_QUEUED);
    enum status status = job_spec_resolve(job->spec, models, err);
    if (status != STATUS_OK) {
        return status;
    }
    job->spec->search.tilts = tilts;
    status = search_create(&job->spec->search, &job->search, err);
    if (status != STATUS_OK) {
        return status;
    }
    job->state = SUREFOOT__JOB_STATE__JOB_STATE_RUNNING;
    job->started_ms = clock_monotonic_ms();
    return STATUS_OK;
}

bool job_next(void *job, struct search_grow *out) {
    return search_next(((struct job *)job)->search, out);
}

// A checked row's part of each scorer, by scorer. Returns those without one, by bit.
static uint32_t take_scores(const Surefoot__Row *row, size_t n_scorers,
                            struct search_score out[LIMIT_SCORERS]) {
    uint32_t missing = (1U << n_scorers) - 1;
    for (size_t i = 0; i < row->n_scores; i++) {
        const Surefoot__RowScore *score = row->scores[i];
        out[score->scorer_index] = (struct search_score){
            .end_score = score->end_score,
            .prompt_score = score->prompt_score,
            .from = score->scores_from,
            .token_scores = score->token_scores,
            .n_token_scores = score->n_token_scores,
        };
        missing &= ~(1U << score->scorer_index);
    }
    return missing;
}

// Keeps the state that a checked row ends in, after n_tokens of the response.
static enum status keep_state(struct job *job, const Surefoot__Row *row, size_t n_tokens) {
    if (!row->has_state) {
        return STATUS_OK;
    }
    size_t n = job->n_states, bytes = row->state.len;
    uint8_t *states = realloc(job->states, (n + 1) * bytes);
    job->states = states != NULL ? states : job->states;
    uint32_t *tokens = realloc(job->state_tokens, (n + 1) * sizeof *tokens);
    job->state_tokens = tokens != NULL ? tokens : job->state_tokens;
    if (states == NULL || tokens == NULL) {
        return STATUS_NO_MEMORY;
    }
    memcpy(states + n * bytes, row->state.data, bytes);
    tokens[n] = (uint32_t)n_tokens;
    job->n_states = n + 1;
    return STATUS_OK;
}

enum status job_on_row(struct job *job, const Surefoot__Row *row, struct error *err) {
    struct search_candidate before;
    if (!search_find_candidate(job->search, row->candidate_id, &before)) {
        return error_set(err, STATUS_MALFORMED, "row.candidate_id",
                         "there is no candidate %" PRIu64, row->candidate_id);
    }
    uint32_t n_places = 0;
    enum status status = job_row_check(job->spec, row, before.n_tokens, &n_places, err);
    if (status != STATUS_OK) {
        return status;
    }
    struct search_score scores[LIMIT_SCORERS];
    uint32_t unread_by = take_scores(row, job->spec->n_scorers, scores);
    struct cost_to_go costs_to_go[LIMIT_CHANNELS];
    double foretold_reward = 0;
    if (row->n_critic > 0) {
        job_critic_take_row(job->spec, row, costs_to_go, &foretold_reward);
    }
    const struct search_row converted = {
        .candidate_id = row->candidate_id,
        .token_ids = row->token_ids,
        .logprobs = row->logprobs,
        .n_tokens = (uint32_t)row->n_token_ids,
        .finish = (enum search_finish)row->finish,
        .text = row->text,
        .reading = {.is_other = row->has_read_from,
                    .from = row->read_from,
                    .ids = row->read_ids,
                    .n_ids = row->n_read_ids},
        .scores = scores,
        .unread_by = unread_by,
        .n_places = n_places,
        .costs_to_go = costs_to_go,
        .foretold_reward = foretold_reward,
    };
    job->prompt_tokens = row->has_prompt_tokens ? row->prompt_tokens : job->prompt_tokens;
    status = search_on_row(job->search, &converted, err);
    return status == STATUS_OK ? keep_state(job, row, before.n_tokens + row->n_token_ids) : status;
}

size_t job_take_released(struct job *job, uint64_t *candidate_ids, size_t capacity) {
    return search_take_released(job->search, candidate_ids, capacity);
}

void job_stop(struct job *job, Surefoot__Outcome outcome, const struct error *why,
              const struct model_set *models) {
    job->state = SUREFOOT__JOB_STATE__JOB_STATE_DONE;
    job->outcome = outcome;
    free(job->result);
    job->result = NULL;
    struct job_ending ending = {.outcome = outcome, .why = why, .models = models};
    enum status status = job_result_pack(job, &ending, &job->result, &job->result_size);
    drop_search(job);
    if (status == STATUS_OK) {
        return;
    }
    // Without the search's part a result always fits its message.
    struct error err = {0};
    error_set(&err, status, NULL, "the result cannot be packed: %s", status_text(status));
    log_error("job %" PRIu64 ": %s", job->id, err.message);
    job->outcome = SUREFOOT__OUTCOME__OUTCOME_FAILED;
    ending = (struct job_ending){.outcome = job->outcome, .why = &err};
    status = job_result_pack(job, &ending, &job->result, &job->result_size);
    if (status != STATUS_OK) {
        log_error("job %" PRIu64 ": no result: %s", job->id, status_text(status));
    }
}

void job_finish(struct job *job, const struct model_set *models) {
    struct search_answer answer;
    search_get_answer(job->search, &answer);
    if (!answer.found) {
        job_stop(job, SUREFOOT__OUTCOME__OUTCOME_NO_SAFE_CANDIDATE, NULL, models);
        return;
    }
    struct error err = {0};
    enum status status = job_check_answer(job, &answer, &err);
    if (status != STATUS_OK) {
        log_error("job %" PRIu64 ": the answer is withheld: %s", job->id, err.message);
        job_stop(job, SUREFOOT__OUTCOME__OUTCOME_FAILED, &err, models);
        return;
    }
    job_stop(job, SUREFOOT__OUTCOME__OUTCOME_COMPLETED, NULL, models);
}

void job_fill_progress(const struct job *job, Surefoot__JobProgress *progress) {
    surefoot__job_progress__init(progress);
    progress->job_key = job->key;
    progress->has_state = true;
    progress->state = job->state;
    if (job->search == NULL) {
        return;
    }
    struct search_progress now;
    search_get_progress(job->search, &now);
    progress->has_step = true;
    progress->step = now.step;
    progress->has_live = true;
    progress->live = now.live;
    progress->has_finished = true;
    progress->finished = now.finished;
    progress->has_pruned = true;
    progress->pruned = now.pruned;
    progress->has_tokens = true;
    progress->tokens = now.tokens;
    progress->has_best_reward = now.has_best && job->spec->has_reward;
    progress->best_reward = now.best_reward;
}
