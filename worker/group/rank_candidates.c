// Held candidates: creation by fork, release, and eviction of what was used longest ago.
#include <string.h>

#include "worker/group/rank_internal.h"

struct rank_candidate *rank_candidate_find(const struct rank *rank, uint64_t job_id,
                                           uint64_t candidate_id) {
    int32_t slot = id_table_find(&rank->candidate_table, job_id, candidate_id);
    return slot >= 0 ? &rank->candidates[slot] : NULL;
}

struct rank_candidate *rank_candidate_parent(const struct rank *rank,
                                             const struct rank_item *item) {
    const Surefoot__OrderItem *order = item->item;
    struct rank_candidate *parent = rank_candidate_find(rank, order->job_id, order->parent_id);
    if (parent == NULL || (size_t)parent->response.n_tokens != order->n_tokens) {
        return NULL;
    }
    for (size_t i = 0; i < order->n_tokens; i++) {
        if ((uint32_t)parent->response.token_ids[i] != order->tokens[i]) {
            return NULL;
        }
    }
    return parent;
}

static void release(struct rank *rank, struct rank_candidate *candidate) {
    for (int i = 0; i < candidate->job->n_scorers; i++) {
        scorer_state_drop(candidate->scorer_states[i]);
    }
    sequence_destroy(rank->policy.context, candidate->sequence);
    decoder_state_release(rank->decoder, candidate->state);
    response_finish(&candidate->response);
    *candidate = (struct rank_candidate){.state = -1};
}

void rank_candidate_drop(struct rank *rank, struct rank_candidate *candidate) {
    release(rank, candidate);
    id_table_remove(&rank->candidate_table, (int32_t)(candidate - rank->candidates));
}

void rank_candidates_drop_all(struct rank *rank) {
    for (int32_t i = 0; i < rank->candidate_table.capacity; i++) {
        if (id_table_used(&rank->candidate_table, i)) {
            rank_candidate_drop(rank, &rank->candidates[i]);
        }
    }
}

static enum status fill(struct rank *rank, struct rank_candidate *candidate,
                        const struct rank_candidate *parent) {
    struct rank_job *job = candidate->job;
    enum status status =
        parent != NULL
            ? response_fork(&candidate->response, &parent->response)
            : response_init(&candidate->response, rank->policy.tokenizer, job->params.max_tokens);
    if (status != STATUS_OK) {
        return status;
    }
    const struct sequence *origin = parent != NULL ? parent->sequence : job->sequence;
    candidate->sequence = sequence_fork(rank->policy.context, origin, sequence_length(origin));
    candidate->state = decoder_state_acquire(rank->decoder);
    if (candidate->sequence == NULL || candidate->state < 0) {
        return STATUS_LIMIT;
    }
    for (int i = 0; i < job->n_scorers && status == STATUS_OK; i++) {
        status = parent != NULL
                     ? scorer_state_fork(parent->scorer_states[i], &candidate->scorer_states[i])
                     : scorer_state_open(job->scorers[i].job, &candidate->scorer_states[i]);
    }
    return status;
}

enum status rank_candidate_create(struct rank *rank, const struct rank_item *item,
                                  const struct rank_candidate *parent,
                                  struct rank_candidate **out) {
    const Surefoot__OrderItem *order = item->item;
    int32_t slot = id_table_add(&rank->candidate_table, order->job_id, order->candidate_id);
    if (slot < 0) {
        return STATUS_LIMIT;
    }
    struct rank_candidate *candidate = &rank->candidates[slot];
    *candidate = (struct rank_candidate){
        .id = order->candidate_id, .job = item->job, .state = -1, .pin = rank->wave};
    enum status status = fill(rank, candidate, parent);
    if (status != STATUS_OK) {
        rank_candidate_drop(rank, candidate);
        return status;
    }
    *out = candidate;
    return STATUS_OK;
}

static bool has_room(const struct rank *rank, int32_t n, int64_t n_blocks) {
    return rank->candidate_table.capacity - rank->candidate_table.count >= n &&
           rank_kv_blocks_free(rank) >= n_blocks;
}

static struct rank_candidate *oldest_candidate(const struct rank *rank) {
    struct rank_candidate *oldest = NULL;
    for (int32_t i = 0; i < rank->candidate_table.capacity; i++) {
        struct rank_candidate *candidate = &rank->candidates[i];
        if (id_table_used(&rank->candidate_table, i) && candidate->pin != rank->wave &&
            (oldest == NULL || candidate->used < oldest->used)) {
            oldest = candidate;
        }
    }
    return oldest;
}

static struct rank_job *oldest_prompt(const struct rank *rank) {
    struct rank_job *oldest = NULL;
    for (int32_t i = 0; i < rank->job_table.capacity; i++) {
        struct rank_job *job = &rank->jobs[i];
        if (id_table_used(&rank->job_table, i) && job->sequence != NULL && job->pin != rank->wave &&
            (oldest == NULL || job->used < oldest->used)) {
            oldest = job;
        }
    }
    return oldest;
}

bool rank_make_room(struct rank *rank, int32_t n, int64_t n_blocks) {
    if (!has_room(rank, n, n_blocks)) {
        for (int i = 0; i < rank->n_scorers; i++) {
            scorer_forget(rank->scorers[i].scorer);
        }
    }
    while (!has_room(rank, n, n_blocks)) {
        struct rank_candidate *candidate = oldest_candidate(rank);
        if (candidate != NULL) {
            rank_candidate_drop(rank, candidate);
            continue;
        }
        struct rank_job *job = oldest_prompt(rank);
        if (job == NULL) {
            return false;
        }
        rank_job_unload(rank, job);
    }
    return true;
}
