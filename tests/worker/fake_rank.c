#include "tests/worker/fake_rank.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { JOBS_MAX = 64 };

struct rank {
    struct fake_control *control;
    rank_progress_fn progress;
    void *progress_context;
    uint64_t n_progress;
    uint64_t jobs[JOBS_MAX];
    int n_jobs;
    int index;
    Surefoot__ModelInfo policy;
};

void fake_control_init(struct fake_control *control) {
    *control = (struct fake_control){.blocked_rank = -1, .faulty_rank = -1};
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&control->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&control->mutex, NULL);
}

void fake_control_finish(struct fake_control *control) {
    pthread_cond_destroy(&control->changed);
    pthread_mutex_destroy(&control->mutex);
}

static void block(struct fake_control *control, int rank_index, bool is_frozen) {
    pthread_mutex_lock(&control->mutex);
    control->blocked_rank = rank_index;
    control->is_frozen = is_frozen;
    pthread_cond_broadcast(&control->changed);
    pthread_mutex_unlock(&control->mutex);
}

void fake_block(struct fake_control *control, int rank_index) {
    block(control, rank_index, false);
}

void fake_freeze(struct fake_control *control, int rank_index) {
    block(control, rank_index, true);
}

void fake_break(struct fake_control *control, int rank_index, enum status fault) {
    pthread_mutex_lock(&control->mutex);
    control->faulty_rank = rank_index;
    control->fault = fault;
    pthread_mutex_unlock(&control->mutex);
}

void fake_forget(struct fake_control *control) {
    pthread_mutex_lock(&control->mutex);
    control->forgetful = true;
    pthread_mutex_unlock(&control->mutex);
}

void fake_await_executions(struct fake_control *control, int count) {
    pthread_mutex_lock(&control->mutex);
    while (control->n_executions < count) {
        pthread_cond_wait(&control->changed, &control->mutex);
    }
    pthread_mutex_unlock(&control->mutex);
}

struct rank *fake_rank_create(struct fake_control *control) {
    struct rank *rank = calloc(1, sizeof *rank);
    rank->control = control;
    surefoot__model_info__init(&rank->policy);
    rank->policy.name = "policy";
    rank->policy.has_vocab_size = true;
    rank->policy.vocab_size = FAKE_VOCAB;
    return rank;
}

void rank_close(struct rank *rank) {
    free(rank);
}

void rank_set_progress(struct rank *rank, rank_progress_fn progress, void *context) {
    rank->progress = progress;
    rank->progress_context = context;
}

void rank_describe(struct rank *rank, Surefoot__GroupHello *hello) {
    hello->policy = &rank->policy;
    hello->backend = "fake";
    hello->has_order_tokens_max = true;
    hello->order_tokens_max = FAKE_BLOCK_TOKENS;
}

// One turn at a time, so that the leader's progress callback runs again and again.
static void work(struct rank *rank) {
    struct fake_control *control = rank->control;
    pthread_mutex_lock(&control->mutex);
    control->n_executions++;
    pthread_cond_broadcast(&control->changed);
    while (control->blocked_rank == rank->index) {
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += 1000000;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        pthread_cond_timedwait(&control->changed, &control->mutex, &until);
        bool is_frozen = control->is_frozen;
        pthread_mutex_unlock(&control->mutex);
        if (rank->progress != NULL && !is_frozen) {
            rank->progress(rank->progress_context, ++rank->n_progress);
        }
        pthread_mutex_lock(&control->mutex);
    }
    pthread_mutex_unlock(&control->mutex);
}

static bool knows(const struct rank *rank, uint64_t job_id) {
    for (int i = 0; i < rank->n_jobs; i++) {
        if (rank->jobs[i] == job_id) {
            return true;
        }
    }
    return false;
}

static Surefoot__Row *make_row(const Surefoot__OrderItem *item, int rank_index) {
    Surefoot__Row *row = malloc(sizeof *row);
    surefoot__row__init(row);
    row->has_job_id = row->has_candidate_id = true;
    row->job_id = item->job_id;
    row->candidate_id = item->candidate_id;
    row->token_ids = malloc(2 * sizeof *row->token_ids);
    row->n_token_ids = 2;
    row->token_ids[0] = (uint32_t)item->candidate_id;
    row->token_ids[1] = (uint32_t)rank_index;
    return row;
}

enum status rank_execute(struct rank *rank, const Surefoot__Order *order, int rank_index,
                         Surefoot__Gathered **out, struct error *err) {
    rank->index = rank_index;
    work(rank);
    struct fake_control *control = rank->control;
    pthread_mutex_lock(&control->mutex);
    enum status fault = control->faulty_rank == rank_index ? control->fault : STATUS_OK;
    if (control->forgetful) {
        rank->n_jobs = 0;
    }
    pthread_mutex_unlock(&control->mutex);
    if (fault != STATUS_OK) {
        return error_set(err, fault, "device", "broken by the test");
    }
    for (size_t i = 0; i < order->n_jobs && rank->n_jobs < JOBS_MAX; i++) {
        rank->jobs[rank->n_jobs++] = order->jobs[i]->job_id;
    }
    Surefoot__Gathered *gathered = malloc(sizeof *gathered);
    surefoot__gathered__init(gathered);
    gathered->rows = calloc(order->n_items + 1, sizeof *gathered->rows);
    gathered->unknown_jobs = calloc(order->n_items + 1, sizeof *gathered->unknown_jobs);
    for (size_t i = 0; i < order->n_items; i++) {
        if (order->ranks[i] != (uint32_t)rank_index) {
            continue;
        }
        if (knows(rank, order->items[i]->job_id)) {
            gathered->rows[gathered->n_rows++] = make_row(order->items[i], rank_index);
        } else {
            gathered->unknown_jobs[gathered->n_unknown_jobs++] = order->items[i]->job_id;
        }
    }
    gathered->has_decode_ms = gathered->has_score_ms = true;
    gathered->decode_ms = 1 + rank_index;
    gathered->has_rebuilt_tokens = true;
    gathered->rebuilt_tokens = 5 + (uint64_t)rank_index;
    gathered->rebuilt_jobs = calloc(1, sizeof *gathered->rebuilt_jobs);
    gathered->rebuilt_job_tokens = calloc(1, sizeof *gathered->rebuilt_job_tokens);
    gathered->rebuilt_jobs[0] = 7;
    gathered->rebuilt_job_tokens[0] = gathered->rebuilt_tokens;
    gathered->n_rebuilt_jobs = gathered->n_rebuilt_job_tokens = 1;
    gathered->scored_jobs = calloc(1, sizeof *gathered->scored_jobs);
    gathered->scored_job_tokens = calloc(1, sizeof *gathered->scored_job_tokens);
    gathered->scored_jobs[0] = 8;
    gathered->scored_job_tokens[0] = 20 + (uint64_t)rank_index;
    gathered->n_scored_jobs = gathered->n_scored_job_tokens = 1;
    gathered->score_ms = 3 - 0.25 * rank_index; // the slowest rank is not the slowest at this
    *out = gathered;
    return STATUS_OK;
}
