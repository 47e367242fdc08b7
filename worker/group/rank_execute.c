// Execution of one order: releases, new jobs, then this rank's items in waves that fit into its KV.
// What is held, evicted or rebuilt on the way changes the time, never a row.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "worker/group/rank_internal.h"

static void carry_out_release(struct rank *rank, const Surefoot__ReleaseCandidates *release) {
    if (release->whole_job) {
        struct rank_job *job = rank_job_find(rank, release->job_id);
        if (job != NULL) {
            rank_job_remove(rank, job);
        }
        return;
    }
    for (size_t i = 0; i < release->n_candidate_ids; i++) {
        struct rank_candidate *candidate =
            rank_candidate_find(rank, release->job_id, release->candidate_ids[i]);
        if (candidate != NULL) {
            rank_candidate_drop(rank, candidate);
        }
    }
}

static enum status check_tokens(const struct rank *rank, const Surefoot__OrderItem *item,
                                const struct rank_job *job, struct error *err) {
    if (item->n_tokens >= (size_t)job->params.max_tokens) {
        return error_set(err, STATUS_LIMIT, "tokens", "%zu leave no room under max_tokens %d",
                         item->n_tokens, job->params.max_tokens);
    }
    uint32_t vocab = (uint32_t)tokenizer_vocab_size(rank->policy.tokenizer);
    for (size_t i = 0; i < item->n_tokens; i++) {
        if (item->tokens[i] >= vocab || decoder_is_end(rank->decoder, (int32_t)item->tokens[i])) {
            return error_set(err, STATUS_INVALID_ARGUMENT, "tokens",
                             "token %zu is %u: an end token, or not below %u", i, item->tokens[i],
                             vocab);
        }
    }
    return STATUS_OK;
}

static enum status read_penalty(const struct rank *rank, const Surefoot__Order *order,
                                const Surefoot__OrderItem *item, struct token_values *out,
                                struct error *err) {
    *out = (struct token_values){0};
    if (item->penalty_index == 0) {
        return STATUS_OK;
    }
    if (item->penalty_index > order->n_penalties) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "penalty_index", "%u is above %zu",
                         item->penalty_index, order->n_penalties);
    }
    const Surefoot__TokenPenalty *penalty = order->penalties[item->penalty_index - 1];
    uint32_t vocab = (uint32_t)model_get_config(rank->policy.model)->vocab_size;
    if (penalty->n_token_ids != penalty->n_penalties || penalty->n_token_ids > vocab) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "penalties", "%zu token ids and %zu values",
                         penalty->n_token_ids, penalty->n_penalties);
    }
    for (size_t i = 0; i < penalty->n_token_ids; i++) {
        if (penalty->token_ids[i] >= vocab || !isfinite(penalty->penalties[i])) {
            return error_set(err, STATUS_INVALID_ARGUMENT, "penalties",
                             "entry %zu: token %u of %u, penalty %g", i, penalty->token_ids[i],
                             vocab, (double)penalty->penalties[i]);
        }
    }
    *out = (struct token_values){.token_ids = (const int32_t *)penalty->token_ids,
                                 .values = penalty->penalties,
                                 .n = (int32_t)penalty->n_token_ids};
    return STATUS_OK;
}

static enum status check_item(const struct rank *rank, const Surefoot__Order *order,
                              struct rank_item *item, struct error *err) {
    if (item->job->error.status != STATUS_OK) {
        *err = item->job->error;
        return err->status;
    }
    uint32_t grow = item->item->grow_tokens;
    if (grow > LIMIT_BLOCK_TOKENS) {
        return error_set(err, STATUS_LIMIT, "grow_tokens", "%u is outside 0..%d", grow,
                         LIMIT_BLOCK_TOKENS);
    }
    if (grow == 0 &&
        (item->item->parent_id != item->item->candidate_id || item->item->n_tokens == 0)) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "grow_tokens",
                         "is 0 for a candidate that has nothing to score");
    }
    uint32_t prefix = item->item->prefix_index;
    if (prefix > 0 && (prefix > LIMIT_FALLBACK_PREFIXES || item->item->n_tokens > 0 ||
                       item->job->prefix_counts[prefix - 1] == 0 ||
                       (uint32_t)item->job->prefix_counts[prefix - 1] > grow)) {
        return error_set(
            err, STATUS_INVALID_ARGUMENT, "prefix_index",
            "%u names no prefix of the job that begins a response of at most %u tokens", prefix,
            grow);
    }
    enum status status = check_tokens(rank, item->item, item->job, err);
    return status == STATUS_OK ? read_penalty(rank, order, item->item, &item->penalty, err)
                               : status;
}

static void add_unknown(Surefoot__Gathered *gathered, uint64_t job_id) {
    for (size_t i = 0; i < gathered->n_unknown_jobs; i++) {
        if (gathered->unknown_jobs[i] == job_id) {
            return;
        }
    }
    gathered->unknown_jobs[gathered->n_unknown_jobs++] = job_id;
}

// Gives every item of this rank a row, or names its job as unknown; items[*n_items] can be run.
static enum status admit_items(struct rank *rank, const Surefoot__Order *order, int rank_index,
                               struct rank_item *items, int32_t *n_items,
                               Surefoot__Gathered *gathered) {
    for (size_t i = 0; i < order->n_items; i++) {
        if (order->n_ranks > 0 && order->ranks[i] != (uint32_t)rank_index) {
            continue;
        }
        const Surefoot__OrderItem *message = order->items[i];
        struct rank_item item = {.item = message,
                                 .job = rank_job_find(rank, message->job_id),
                                 .n_before = (int32_t)message->n_tokens};
        if (item.job == NULL) {
            add_unknown(gathered, message->job_id);
            continue;
        }
        item.row = malloc(sizeof *item.row);
        if (item.row == NULL) {
            return STATUS_NO_MEMORY;
        }
        surefoot__row__init(item.row);
        item.row->has_job_id = item.row->has_candidate_id = true;
        item.row->job_id = message->job_id;
        item.row->candidate_id = message->candidate_id;
        gathered->rows[gathered->n_rows++] = item.row;
        struct error error = {0};
        if (check_item(rank, order, &item, &error) == STATUS_OK) {
            items[(*n_items)++] = item;
        } else if (rank_row_fail(item.row, &error) != STATUS_OK) {
            return STATUS_NO_MEMORY;
        }
    }
    return STATUS_OK;
}

static int64_t blocks(int64_t n_tokens) {
    return (n_tokens + KV_BLOCK_TOKENS - 1) / KV_BLOCK_TOKENS;
}

// Pins what the first items need and returns how many of them make a wave: at most `n`, none of one
// candidate twice. *n_blocks: KV blocks that they will take, about, in any one model.
static int32_t plan_wave(struct rank *rank, struct rank_item *items, int32_t n, int64_t *n_blocks) {
    rank->wave++;
    *n_blocks = 0;
    int32_t count = 0;
    for (; count < n; count++) {
        struct rank_item *item = &items[count];
        const Surefoot__OrderItem *message = item->item;
        for (int32_t k = 0; k < count; k++) {
            if (items[k].item->job_id == message->job_id &&
                items[k].item->candidate_id == message->candidate_id) {
                return count;
            }
        }
        int64_t n_prompt = item->job->params.n_prompt;
        int64_t shared = n_prompt;
        struct rank_candidate *parent =
            item->n_before > 0 ? rank_candidate_parent(rank, item) : NULL;
        if (parent != NULL) {
            parent->pin = rank->wave;
            shared += item->n_before;
        }
        if (item->job->pin != rank->wave && item->job->sequence == NULL) {
            *n_blocks += blocks(n_prompt);
        }
        item->job->pin = rank->wave;
        // One more position for an end token that a scorer reads and forgets.
        *n_blocks +=
            blocks(n_prompt + item->n_before + message->grow_tokens + 1) - shared / KV_BLOCK_TOKENS;
    }
    return count;
}

// Runs as many of the first items as fit and returns how many had their rows filled.
static enum status run_some(struct rank *rank, struct rank_item *items, int32_t n, int32_t *n_done,
                            struct error *err) {
    int32_t limit = n < rank->slots ? n : rank->slots;
    bool empty = false; // nothing but this wave takes room
    for (;;) {
        int64_t n_blocks = 0;
        int32_t count = plan_wave(rank, items, limit, &n_blocks);
        if (!rank_make_room(rank, count, n_blocks) && count > 1) {
            limit = (count + 1) / 2;
            continue;
        }
        struct error error = {0};
        enum status status = rank_wave_run(rank, items, count, &error);
        if (status == STATUS_LIMIT && (count > 1 || !empty)) {
            // The estimate was too low. A clean start of a smaller wave gives the same rows.
            rank_candidates_drop_all(rank);
            for (int32_t i = 0; i < rank->job_table.capacity; i++) {
                if (id_table_used(&rank->job_table, i)) {
                    rank_job_unload(rank, &rank->jobs[i]);
                }
            }
            empty = true;
            limit = (count + 1) / 2;
            continue;
        }
        if (status == STATUS_LIMIT) {
            error_set(&error, STATUS_LIMIT, "kv_tokens",
                      "one candidate of %d tokens does not fit into the rank's KV of %d tokens",
                      items[0].job->params.n_prompt + items[0].n_before +
                          (int32_t)items[0].item->grow_tokens,
                      rank->policy.options.n_kv_blocks * KV_BLOCK_TOKENS);
            status = rank_row_fail(items[0].row, &error);
        } else if (status != STATUS_OK && err != NULL) {
            *err = error;
        }
        *n_done = count;
        return status;
    }
}

static Surefoot__Gathered *gathered_create(const Surefoot__Order *order) {
    Surefoot__Gathered *gathered = malloc(sizeof *gathered);
    if (gathered == NULL) {
        return NULL;
    }
    surefoot__gathered__init(gathered);
    gathered->has_order_id = true;
    gathered->order_id = order->order_id;
    size_t n = order->n_items > 0 ? order->n_items : 1;
    gathered->rows = calloc(n, sizeof *gathered->rows);
    gathered->unknown_jobs = calloc(n, sizeof *gathered->unknown_jobs);
    if (gathered->rows == NULL || gathered->unknown_jobs == NULL) {
        wire_free(WIRE_GATHERED, gathered);
        return NULL;
    }
    return gathered;
}

static enum status run_order(struct rank *rank, const Surefoot__Order *order, int rank_index,
                             struct rank_item *items, Surefoot__Gathered *gathered,
                             struct error *err) {
    for (size_t i = 0; i < order->n_releases; i++) {
        carry_out_release(rank, order->releases[i]);
    }
    // So that a full table gives up jobs that this order does not name.
    for (size_t i = 0; i < order->n_items; i++) {
        struct rank_job *job = rank_job_find(rank, order->items[i]->job_id);
        if (job != NULL) {
            job->used = ++rank->clock;
        }
    }
    for (size_t i = 0; i < order->n_jobs; i++) {
        enum status status = rank_job_add(rank, order->jobs[i]);
        if (status != STATUS_OK) {
            return status;
        }
    }
    int32_t n_items = 0;
    enum status status = admit_items(rank, order, rank_index, items, &n_items, gathered);
    for (int32_t begin = 0; begin < n_items && status == STATUS_OK;) {
        int32_t n_done = 0;
        status = run_some(rank, items + begin, n_items - begin, &n_done, err);
        begin += n_done;
    }
    return status;
}

// Response tokens that the job's scorer models have read.
static uint64_t scored_tokens(const struct rank_job *job) {
    int64_t sum = 0;
    for (int k = 0; k < job->n_scorers; k++) {
        sum += job->scorers[k].job->response_tokens;
    }
    return (uint64_t)sum;
}

// Adds a job's count to a list that has room for n_items, and is made with the first.
static enum status add_count(uint64_t job_id, uint64_t count, size_t n_items, uint64_t **jobs,
                             size_t *n_jobs, uint64_t **counts, size_t *n_counts) {
    if (count == 0) {
        return STATUS_OK;
    }
    if (*jobs == NULL) {
        *jobs = malloc(n_items * sizeof **jobs);
        *counts = malloc(n_items * sizeof **counts);
    }
    if (*jobs == NULL || *counts == NULL) {
        return STATUS_NO_MEMORY;
    }
    (*jobs)[(*n_jobs)++] = job_id;
    (*counts)[(*n_counts)++] = count;
    return STATUS_OK;
}

// What was read again and what scorers read, by job. Counts start anew.
static enum status take_counts(struct rank *rank, const Surefoot__Order *order,
                               Surefoot__Gathered *gathered) {
    enum status status = STATUS_OK;
    for (size_t i = 0; i < order->n_items && status == STATUS_OK; i++) {
        struct rank_job *job = rank_job_find(rank, order->items[i]->job_id);
        if (job == NULL) {
            continue;
        }
        uint64_t scored = scored_tokens(job);
        status = add_count(job->id, job->rebuilt_tokens, order->n_items, &gathered->rebuilt_jobs,
                           &gathered->n_rebuilt_jobs, &gathered->rebuilt_job_tokens,
                           &gathered->n_rebuilt_job_tokens);
        if (status == STATUS_OK) {
            status = add_count(job->id, scored - job->scored_tokens, order->n_items,
                               &gathered->scored_jobs, &gathered->n_scored_jobs,
                               &gathered->scored_job_tokens, &gathered->n_scored_job_tokens);
        }
        job->rebuilt_tokens = 0;
        job->scored_tokens = scored;
    }
    return status;
}

enum status rank_execute(struct rank *rank, const Surefoot__Order *order, int rank_index,
                         Surefoot__Gathered **out, struct error *err) {
    if (order->n_ranks != 0 && order->n_ranks != order->n_items) {
        return error_set(err, STATUS_MALFORMED, "ranks", "%zu ranks for %zu items", order->n_ranks,
                         order->n_items);
    }
    struct rank_item *items = calloc(order->n_items > 0 ? order->n_items : 1, sizeof *items);
    Surefoot__Gathered *gathered = gathered_create(order);
    if (items == NULL || gathered == NULL) {
        free(items);
        wire_free(WIRE_GATHERED, gathered);
        return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for %zu items", order->n_items);
    }
    rank->decode_ns = 0;
    rank->score_ns = 0;
    int64_t rebuilt = rank->counts.rebuilt_tokens;
    enum status status = run_order(rank, order, rank_index, items, gathered, err);
    free(items);
    if (status == STATUS_OK) {
        status = take_counts(rank, order, gathered);
    }
    if (status != STATUS_OK) {
        wire_free(WIRE_GATHERED, gathered);
        return status == STATUS_NO_MEMORY ? error_set(err, status, NULL, "out of memory") : status;
    }
    rank->counts.orders++;
    rank->counts.decode_ns += rank->decode_ns;
    rank->counts.score_ns += rank->score_ns;
    gathered->has_decode_ms = gathered->has_score_ms = true;
    gathered->decode_ms = (double)rank->decode_ns * 1e-6;
    gathered->score_ms = (double)rank->score_ns * 1e-6;
    gathered->has_rebuilt_tokens = true;
    gathered->rebuilt_tokens = (uint64_t)(rank->counts.rebuilt_tokens - rebuilt);
    *out = gathered;
    return STATUS_OK;
}
