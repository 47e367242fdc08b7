#include "coordinator/job.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/deadline.h"
#include "common/log.h"
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

static void candidate_destroy(struct job_candidate *candidate) {
    if (candidate != NULL) {
        free(candidate->token_scores);
        free(candidate->block_ends);
        free(candidate->block_costs);
        free(candidate->text);
        free(candidate->read_ids);
        free(candidate);
    }
}

static void drop_search(struct job *job) {
    for (size_t i = 0; i < job->n_candidates; i++) {
        candidate_destroy(job->candidates[i]);
    }
    free(job->candidates);
    job->candidates = NULL;
    job->n_candidates = 0;
    search_destroy(job->search);
    job->search = NULL;
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

enum status job_start(struct job *job, const struct model_set *models, struct error *err) {
    ASSERT(job->state == SUREFOOT__JOB_STATE__JOB_STATE_QUEUED);
    enum status status = job_spec_resolve(job->spec, models, err);
    if (status != STATUS_OK) {
        return status;
    }
    status = search_create(&job->spec->search, &job->search);
    if (status == STATUS_LIMIT) {
        return error_set(err, status, "spec.n", "n * steps * tries is above the limit %d",
                         SEARCH_CANDIDATES_MAX);
    }
    if (status != STATUS_OK) {
        return error_set(err, status, NULL, "no memory for the search");
    }
    job->state = SUREFOOT__JOB_STATE__JOB_STATE_RUNNING;
    job->started_ms = clock_monotonic_ms();
    return STATUS_OK;
}

bool job_next(void *job, struct search_grow *out) {
    return search_next(((struct job *)job)->search, out);
}

static struct job_candidate *find(const struct job *job, uint64_t id) {
    return id >= 1 && id <= job->n_candidates ? job->candidates[id - 1] : NULL;
}

static bool reserve_ids(struct job *job, uint64_t id) {
    if (id <= job->n_candidates) {
        return true;
    }
    size_t wanted = 2 * (size_t)id;
    struct job_candidate **grown =
        realloc(job->candidates, wanted * sizeof(struct job_candidate *));
    if (grown == NULL) {
        return false;
    }
    memset(grown + job->n_candidates, 0,
           (wanted - job->n_candidates) * sizeof(struct job_candidate *));
    job->candidates = grown;
    job->n_candidates = wanted;
    return true;
}

static size_t larger(size_t a, size_t b) {
    return a > b ? a : b;
}

// Room for `count` scores of each scorer.
static bool reserve_scores(const struct job *job, struct job_candidate *candidate, uint32_t count) {
    if (count <= candidate->capacity) {
        return true;
    }
    size_t n_scorers = job->spec->n_scorers;
    size_t capacity = larger(count, 2 * (size_t)candidate->capacity);
    float *scores = calloc(n_scorers * capacity + 1, sizeof *scores);
    if (scores == NULL) {
        return false;
    }
    for (size_t i = 0; i < n_scorers && candidate->n_scores > 0; i++) {
        memcpy(scores + i * capacity, candidate->token_scores + i * candidate->capacity,
               candidate->n_scores * sizeof *scores);
    }
    free(candidate->token_scores);
    candidate->token_scores = scores;
    candidate->capacity = (uint32_t)capacity;
    return true;
}

static bool reserve_blocks(struct job_candidate *candidate, uint32_t count) {
    if (count <= candidate->block_capacity) {
        return true;
    }
    size_t capacity = larger(count, 2 * (size_t)candidate->block_capacity);
    uint32_t *ends = realloc(candidate->block_ends, capacity * sizeof *ends);
    candidate->block_ends = ends != NULL ? ends : candidate->block_ends;
    double *costs = realloc(candidate->block_costs, capacity * sizeof *costs);
    candidate->block_costs = costs != NULL ? costs : candidate->block_costs;
    if (ends == NULL || costs == NULL) {
        return false;
    }
    candidate->block_capacity = (uint32_t)capacity;
    return true;
}

static void copy_history(const struct job *job, const struct job_candidate *parent,
                         struct job_candidate *child) {
    for (size_t i = 0; i < job->spec->n_scorers; i++) {
        memcpy(child->token_scores + i * child->capacity,
               parent->token_scores + i * parent->capacity,
               parent->n_scores * sizeof *child->token_scores);
    }
    memcpy(child->block_ends, parent->block_ends, parent->n_blocks * sizeof *child->block_ends);
    memcpy(child->block_costs, parent->block_costs, parent->n_blocks * sizeof *child->block_costs);
    child->n_tokens = parent->n_tokens;
    child->n_scores = parent->n_scores;
    child->n_blocks = parent->n_blocks;
}

// A candidate as long as `parent` (NULL: the prompt) with room for one more block and `length`
// scores.
static struct job_candidate *candidate_create(const struct job *job,
                                              const struct job_candidate *parent, uint32_t length) {
    struct job_candidate *candidate = calloc(1, sizeof *candidate);
    if (candidate == NULL) {
        return NULL;
    }
    size_t n_scores = larger(larger(length, 1), parent != NULL ? parent->n_scores : 0);
    if (!reserve_scores(job, candidate, (uint32_t)n_scores) ||
        !reserve_blocks(candidate, parent != NULL ? parent->n_blocks + 1 : 1)) {
        candidate_destroy(candidate);
        return NULL;
    }
    if (parent != NULL) {
        copy_history(job, parent, candidate);
    }
    return candidate;
}

// The record of the row's candidate, made from its parent's when it is its first row, with room for
// the row's block and for `length` scores.
static enum status take_record(struct job *job, uint64_t id, uint64_t parent_id, uint32_t length,
                               struct job_candidate **out, struct error *err) {
    struct job_candidate *candidate = find(job, id);
    if (candidate == NULL && reserve_ids(job, id)) {
        candidate = candidate_create(job, find(job, parent_id), length);
        job->candidates[id - 1] = candidate;
    }
    if (candidate == NULL || !reserve_scores(job, candidate, length) ||
        !reserve_blocks(candidate, candidate->n_blocks + 1)) {
        return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for candidate %" PRIu64, id);
    }
    *out = candidate;
    return STATUS_OK;
}

// How long a candidate is before its row, by its record or, before its first row, its parent's.
static enum status length_before(const struct job *job, uint64_t id, uint64_t parent_id,
                                 uint32_t *length, struct error *err) {
    const struct job_candidate *known = find(job, id);
    known = known != NULL ? known : find(job, parent_id);
    if (known == NULL && parent_id != 0) {
        return error_set(err, STATUS_INTERNAL, NULL, "candidate %" PRIu64 " lost its parent", id);
    }
    *length = known != NULL ? known->n_tokens : 0;
    return STATUS_OK;
}

static bool is_cost(const struct job *job, uint32_t scorer_index) {
    return job->spec->scorers[scorer_index].role == SCORER_ROLE_COST;
}

// Stores the scores of a checked row, of `length` places then; returns the first place whose cost
// may have changed.
static uint32_t take_scores(struct job *job, struct job_candidate *candidate,
                            const Surefoot__Row *row, uint32_t length) {
    uint32_t from = candidate->n_scores < length ? candidate->n_scores : length;
    for (size_t i = 0; i < row->n_scores; i++) {
        const Surefoot__RowScore *score = row->scores[i];
        uint32_t index = score->scorer_index;
        candidate->end_scores[index] = score->end_score;
        if (score->has_prompt_score && !job->has_prompt_scores[index]) {
            job->prompt_scores[index] = score->prompt_score;
            job->has_prompt_scores[index] = true;
        }
        if (is_cost(job, index)) {
            float *kept = candidate->token_scores + (size_t)index * candidate->capacity;
            for (size_t t = 0; t < score->n_token_scores; t++) {
                kept[score->scores_from + t] = score->token_scores[t];
            }
            from = score->scores_from < from ? score->scores_from : from;
        }
    }
    candidate->n_scores = length;
    return from;
}

static double weighted(const struct job_spec *spec, enum scorer_role role, const double *scores) {
    double sum = 0;
    for (size_t i = 0; i < spec->n_scorers; i++) {
        if (spec->scorers[i].role == role) {
            sum += spec->scorers[i].weight * scores[i];
        }
    }
    return sum;
}

// Under token_sum_pos each scorer is clamped by itself: what one finds good pays for nothing that
// another finds bad.
void job_weighted_costs(const struct job *job, const struct job_candidate *candidate, uint32_t from,
                        uint32_t to, double *out) {
    bool clamps = job->spec->search.cost_mode == COST_MODE_TOKEN_SUM_POS;
    for (uint32_t t = from; t < to; t++) {
        double sum = 0;
        for (size_t i = 0; i < job->spec->n_scorers; i++) {
            if (job->spec->scorers[i].role == SCORER_ROLE_COST) {
                double score = candidate->token_scores[i * candidate->capacity + t];
                sum += job->spec->scorers[i].weight * (clamps ? fmax(0.0, score) : score);
            }
        }
        out[t - from] = sum;
    }
}

double job_violations(const struct job *job, const struct job_candidate *candidate) {
    double sum = 0;
    for (size_t i = 0; i < job->spec->n_scorers; i++) {
        const struct job_scorer *scorer = &job->spec->scorers[i];
        if (scorer->lexical != NULL && scorer->role == SCORER_ROLE_COST && scorer->weight > 0) {
            sum += candidate->end_scores[i];
        }
    }
    return sum;
}

double job_prompt_cost(const struct job *job) {
    return weighted(job->spec, SCORER_ROLE_COST, job->prompt_scores);
}

// *length: how many places have scores after the row.
static enum status check_row(const struct job *job, const Surefoot__Row *row, uint64_t parent_id,
                             uint32_t asked, uint32_t *length, struct error *err) {
    uint32_t before = 0;
    enum status status = length_before(job, row->candidate_id, parent_id, &before, err);
    return status == STATUS_OK ? job_row_check(job->spec, row, before, asked, length, err) : status;
}

// What a result shows of a finished candidate.
static enum status take_text(struct job_candidate *candidate, const Surefoot__Row *row) {
    candidate->text = strdup(row->text != NULL ? row->text : "");
    candidate->has_reading = row->has_read_from;
    candidate->read_from = row->read_from;
    candidate->read_ids = malloc((row->n_read_ids + 1) * sizeof *candidate->read_ids);
    if (candidate->text == NULL || candidate->read_ids == NULL) {
        return STATUS_NO_MEMORY;
    }
    for (size_t i = 0; i < row->n_read_ids; i++) {
        candidate->read_ids[i] = row->read_ids[i];
    }
    candidate->n_read_ids = row->n_read_ids;
    return STATUS_OK;
}

enum status job_on_row(struct job *job, const Surefoot__Row *row, uint64_t parent_id,
                       uint32_t asked, struct error *err) {
    struct job_candidate *candidate = NULL;
    uint32_t length = 0;
    enum status status = check_row(job, row, parent_id, asked, &length, err);
    if (status == STATUS_OK) {
        status = take_record(job, row->candidate_id, parent_id, length, &candidate, err);
    }
    if (status != STATUS_OK) {
        return status;
    }
    uint32_t from = take_scores(job, candidate, row, length);
    double *costs = malloc(((size_t)length - from + 1) * sizeof *costs);
    if (costs == NULL) {
        return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for a row");
    }
    job_weighted_costs(job, candidate, from, length, costs);
    const struct search_row converted = {
        .candidate_id = row->candidate_id,
        .token_ids = row->token_ids,
        .logprobs = row->logprobs,
        .n_tokens = (uint32_t)row->n_token_ids,
        .finish = (enum search_finish)row->finish,
        .text = row->text,
        .reward = weighted(job->spec, SCORER_ROLE_REWARD, candidate->end_scores),
        .prompt_cost = job_prompt_cost(job),
        .end_cost = weighted(job->spec, SCORER_ROLE_COST, candidate->end_scores),
        .violations = job_violations(job, candidate),
        .costs_from = from,
        .token_costs = costs,
        .n_costs = length - from,
    };
    // The record first: the search may release the candidate within this call.
    candidate->n_tokens += (uint32_t)row->n_token_ids;
    candidate->block_ends[candidate->n_blocks] = candidate->n_tokens;
    candidate->block_costs[candidate->n_blocks] = converted.end_cost;
    candidate->n_blocks++;
    job->prompt_tokens = row->has_prompt_tokens ? row->prompt_tokens : job->prompt_tokens;
    if (row->finish != SUREFOOT__FINISH__FINISH_NONE ||
        candidate->n_tokens == job->spec->search.max_tokens) {
        status = take_text(candidate, row);
        if (status != STATUS_OK) {
            error_set(err, status, NULL, "no memory for a text");
        }
    }
    if (status == STATUS_OK) {
        status = search_on_row(job->search, &converted, err);
    }
    free(costs);
    return status;
}

// A released candidate's record is kept only while it may be the answer: the search keeps the
// tokens of its best finished candidate alone.
static void drop_unless_best(struct job *job, uint64_t id) {
    struct search_candidate known;
    struct job_candidate *candidate = find(job, id);
    bool best = candidate != NULL && candidate->text != NULL &&
                search_find_candidate(job->search, id, &known) && known.tokens != NULL;
    if (best) {
        job->best_id = id;
    } else if (candidate != NULL) {
        candidate_destroy(candidate);
        job->candidates[id - 1] = NULL;
    }
}

size_t job_take_released(struct job *job, uint64_t *candidate_ids, size_t capacity) {
    size_t n = search_take_released(job->search, candidate_ids, capacity);
    for (size_t i = 0; i < n; i++) {
        uint64_t earlier = job->best_id;
        drop_unless_best(job, candidate_ids[i]);
        if (job->best_id != earlier) {
            drop_unless_best(job, earlier);
            job->best_id = candidate_ids[i];
        }
    }
    return n;
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
