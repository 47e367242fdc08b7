#include "worker/group/order_check.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "proto/limits.h"

static enum status check_count(size_t count, size_t limit, const char *field, struct error *err) {
    return count <= limit
               ? STATUS_OK
               : error_set(err, STATUS_LIMIT, field, "%zu are above the limit %zu", count, limit);
}

static enum status check_range(uint64_t value, uint64_t low, uint64_t high, const char *field,
                               struct error *err) {
    return value >= low && value <= high
               ? STATUS_OK
               : error_set(err, STATUS_LIMIT, field, "%llu is outside %llu..%llu",
                           (unsigned long long)value, (unsigned long long)low,
                           (unsigned long long)high);
}

static enum status check_tokens(const uint32_t *ids, size_t n, uint32_t vocab_size,
                                const char *field, struct error *err) {
    for (size_t i = 0; i < n; i++) {
        if (ids[i] >= vocab_size) {
            return error_set(err, STATUS_INVALID_ARGUMENT, field,
                             "entry %zu is %u, not below the vocabulary's %u", i, ids[i],
                             vocab_size);
        }
    }
    return STATUS_OK;
}

// How the tokens are taken, where they are not only drawn.
static enum status check_drawing(const Surefoot__OrderItem *item, uint32_t vocab_size,
                                 struct error *err) {
    enum status status = check_range(item->token_rank, 0, vocab_size, "token_rank", err);
    if (status == STATUS_OK && !(item->entropy_stop >= 0 && isfinite(item->entropy_stop))) {
        status = error_set(err, STATUS_INVALID_ARGUMENT, "entropy_stop", "%g is no entropy in nats",
                           (double)item->entropy_stop);
    }
    bool hot = item->temperature > 0 && item->temperature <= 100;
    if (status == STATUS_OK && item->has_temperature && !hot) {
        status = error_set(err, STATUS_INVALID_ARGUMENT, "temperature", "%g is outside (0, 100]",
                           (double)item->temperature);
    }
    if (status == STATUS_OK && item->entropy_stop > 0) {
        status = check_range(item->entropy_after, 1, item->grow_tokens, "entropy_after", err);
    }
    return status;
}

static enum status check_item(const Surefoot__Order *order, const Surefoot__OrderItem *item,
                              const struct order_limits *limits, struct error *err) {
    enum status status = check_range(item->candidate_id, 1, UINT64_MAX, "candidate_id", err);
    if (status == STATUS_OK) {
        status = check_range(item->grow_tokens, 0, limits->block_tokens_max, "grow_tokens", err);
    }
    if (status == STATUS_OK && item->grow_tokens == 0 &&
        (item->parent_id != item->candidate_id || item->n_tokens == 0)) {
        status = error_set(err, STATUS_INVALID_ARGUMENT, "grow_tokens",
                           "is 0 for a candidate that has nothing to score");
    }
    if (status == STATUS_OK) {
        status = check_range(item->unread_by, 0, (1U << LIMIT_SCORERS) - 1, "unread_by", err);
    }
    if (status == STATUS_OK) {
        status = check_range(item->penalty_index, 0, order->n_penalties, "penalty_index", err);
    }
    if (status == STATUS_OK) {
        status = check_count(item->n_tokens, LIMIT_MAX_TOKENS, "tokens", err);
    }
    if (status == STATUS_OK) {
        status = check_tokens(item->tokens, item->n_tokens, limits->vocab_size, "tokens", err);
    }
    if (status == STATUS_OK) {
        status = check_range(item->prefix_index, 0, LIMIT_FALLBACK_PREFIXES, "prefix_index", err);
    }
    return status == STATUS_OK ? check_drawing(item, limits->vocab_size, err) : status;
}

static enum status check_penalty(const Surefoot__TokenPenalty *penalty, uint32_t vocab_size,
                                 struct error *err) {
    enum status status = check_count(penalty->n_token_ids, vocab_size, "token_ids", err);
    if (status == STATUS_OK && penalty->n_penalties != penalty->n_token_ids) {
        status = error_set(err, STATUS_INVALID_ARGUMENT, "penalties", "%zu values for %zu tokens",
                           penalty->n_penalties, penalty->n_token_ids);
    }
    if (status == STATUS_OK) {
        status =
            check_tokens(penalty->token_ids, penalty->n_token_ids, vocab_size, "token_ids", err);
    }
    for (size_t i = 0; status == STATUS_OK && i < penalty->n_penalties; i++) {
        if (!isfinite(penalty->penalties[i])) {
            status =
                error_set(err, STATUS_INVALID_ARGUMENT, "penalties", "entry %zu is not finite", i);
        }
    }
    return status;
}

static enum status check_job(const Surefoot__GroupJob *job, struct error *err) {
    enum status status = check_count(job->n_messages, LIMIT_MESSAGES, "messages", err);
    return status == STATUS_OK ? check_count(job->n_scorers, LIMIT_SCORERS, "scorers", err)
                               : status;
}

// Names the member of a list that err->field lies in.
static enum status prefix(struct error *err, const char *list, size_t index, enum status status) {
    if (status != STATUS_OK) {
        char name[ERROR_FIELD_BYTES];
        snprintf(name, sizeof name, "order.%s[%zu]", list, index);
        error_prefix_field(err, name);
    }
    return status;
}

static int compare_items(const void *left, const void *right) {
    const Surefoot__OrderItem *a = *(Surefoot__OrderItem *const *)left;
    const Surefoot__OrderItem *b = *(Surefoot__OrderItem *const *)right;
    if (a->job_id != b->job_id) {
        return a->job_id < b->job_id ? -1 : 1;
    }
    return a->candidate_id < b->candidate_id ? -1 : a->candidate_id > b->candidate_id;
}

// One candidate twice would give two rows that nothing tells apart.
static enum status check_unique(const Surefoot__Order *order, struct error *err) {
    if (order->n_items < 2) {
        return STATUS_OK;
    }
    Surefoot__OrderItem **sorted = malloc(order->n_items * sizeof *sorted);
    if (sorted == NULL) {
        return error_set(err, STATUS_NO_MEMORY, "order.items", "no memory for %zu items",
                         order->n_items);
    }
    for (size_t i = 0; i < order->n_items; i++) {
        sorted[i] = order->items[i];
    }
    qsort(sorted, order->n_items, sizeof *sorted, compare_items);
    enum status status = STATUS_OK;
    for (size_t i = 1; i < order->n_items && status == STATUS_OK; i++) {
        if (compare_items(&sorted[i - 1], &sorted[i]) == 0) {
            status = error_set(err, STATUS_INVALID_ARGUMENT, "order.items",
                               "candidate %llu of job %llu is there twice",
                               (unsigned long long)sorted[i]->candidate_id,
                               (unsigned long long)sorted[i]->job_id);
        }
    }
    free(sorted);
    return status;
}

static enum status check_counts(const Surefoot__Order *order, const struct order_limits *limits,
                                struct error *err) {
    if (!order->has_order_id) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "order.order_id", "is missing");
    }
    if (order->n_ranks > 0 || order->shutdown) {
        return error_set(err, STATUS_INVALID_ARGUMENT,
                         order->shutdown ? "order.shutdown" : "order.ranks",
                         "is for the leader to set");
    }
    enum status status = check_count(order->n_items, limits->slots, "order.items", err);
    if (status == STATUS_OK) {
        status = check_count(order->n_jobs, LIMIT_GROUP_SLOTS, "order.jobs", err);
    }
    if (status == STATUS_OK) {
        status = check_count(order->n_penalties, LIMIT_GROUP_SLOTS, "order.penalties", err);
    }
    return status;
}

enum status order_check(const Surefoot__Order *order, const struct order_limits *limits,
                        struct error *err) {
    enum status status = check_counts(order, limits, err);
    for (size_t i = 0; i < order->n_jobs && status == STATUS_OK; i++) {
        status = prefix(err, "jobs", i, check_job(order->jobs[i], err));
    }
    for (size_t i = 0; i < order->n_items && status == STATUS_OK; i++) {
        status = prefix(err, "items", i, check_item(order, order->items[i], limits, err));
    }
    for (size_t i = 0; i < order->n_penalties && status == STATUS_OK; i++) {
        status = prefix(err, "penalties", i,
                        check_penalty(order->penalties[i], limits->vocab_size, err));
    }
    return status == STATUS_OK ? check_unique(order, err) : status;
}
