#include "tests/worker/order_fixture.h"

#include <stdlib.h>
#include <string.h>

#include "tests/support/testkit.h"

enum { ENTRIES_MAX = 4096 };

struct order_fixture {
    Surefoot__Order message;
    void *memory[16 * ENTRIES_MAX]; // everything allocated
    size_t n_memory;
};

static void *take(struct order_fixture *order, size_t size) {
    assert_in_range(order->n_memory, 0, 16 * ENTRIES_MAX - 1);
    void *memory = calloc(1, size > 0 ? size : 1);
    assert_non_null(memory);
    order->memory[order->n_memory++] = memory;
    return memory;
}

struct order_fixture *order_create(void) {
    struct order_fixture *order = calloc(1, sizeof *order);
    assert_non_null(order);
    surefoot__order__init(&order->message);
    order->message.jobs = take(order, ENTRIES_MAX * sizeof *order->message.jobs);
    order->message.items = take(order, ENTRIES_MAX * sizeof *order->message.items);
    order->message.penalties = take(order, ENTRIES_MAX * sizeof *order->message.penalties);
    order->message.releases = take(order, ENTRIES_MAX * sizeof *order->message.releases);
    return order;
}

void order_destroy(struct order_fixture *order) {
    for (size_t i = 0; i < order->n_memory; i++) {
        free(order->memory[i]);
    }
    free(order);
}

Surefoot__Order *order_message(struct order_fixture *order) {
    return &order->message;
}

Surefoot__GroupJob *order_add_job(struct order_fixture *order, const struct order_job *job) {
    Surefoot__GroupJob *message = take(order, sizeof *message);
    surefoot__group_job__init(message);
    message->date = (char *)"2026-11-28";
    message->job_id = job->id;
    message->prompt = (char *)job->prompt;
    message->max_tokens = job->max_tokens;
    message->seed = job->seed;
    message->sampling = (Surefoot__Sampling *)job->sampling;
    message->cost_eos_append = job->cost_eos_append;
    message->scorers = take(order, RANK_SCORERS_MAX * sizeof *message->scorers);
    for (size_t i = 0; job->scorers != NULL && job->scorers[i] != NULL; i++) {
        message->scorers[i] = take(order, sizeof *message->scorers[i]);
        surefoot__scorer_spec__init(message->scorers[i]);
        message->scorers[i]->name = (char *)job->scorers[i];
        message->n_scorers++;
    }
    order->message.jobs[order->message.n_jobs++] = message;
    return message;
}

Surefoot__OrderItem *order_add_item(struct order_fixture *order, uint64_t job_id,
                                    uint64_t candidate_id, uint64_t parent_id,
                                    const uint32_t *tokens, size_t n_tokens, uint32_t grow_tokens) {
    Surefoot__OrderItem *item = take(order, sizeof *item);
    surefoot__order_item__init(item);
    item->job_id = job_id;
    item->candidate_id = candidate_id;
    item->parent_id = parent_id;
    item->tokens = take(order, n_tokens * sizeof *item->tokens);
    if (n_tokens > 0) {
        memcpy(item->tokens, tokens, n_tokens * sizeof *tokens);
    }
    item->n_tokens = n_tokens;
    item->grow_tokens = grow_tokens;
    assert_in_range(order->message.n_items, 0, ENTRIES_MAX - 1);
    order->message.items[order->message.n_items++] = item;
    return item;
}

uint32_t order_add_penalty(struct order_fixture *order, uint32_t *ids, float *values, size_t n) {
    Surefoot__TokenPenalty *penalty = take(order, sizeof *penalty);
    surefoot__token_penalty__init(penalty);
    penalty->token_ids = ids;
    penalty->penalties = values;
    penalty->n_token_ids = penalty->n_penalties = n;
    order->message.penalties[order->message.n_penalties++] = penalty;
    return (uint32_t)order->message.n_penalties;
}

void order_add_release(struct order_fixture *order, uint64_t job_id, uint64_t candidate_id,
                       bool whole_job) {
    Surefoot__ReleaseCandidates *release = take(order, sizeof *release);
    surefoot__release_candidates__init(release);
    release->job_id = job_id;
    release->whole_job = whole_job;
    release->candidate_ids = take(order, sizeof *release->candidate_ids);
    release->candidate_ids[0] = candidate_id;
    release->n_candidate_ids = whole_job ? 0 : 1;
    order->message.releases[order->message.n_releases++] = release;
}

Surefoot__Gathered *order_run(struct rank *rank, struct order_fixture *order) {
    struct error error = {0};
    Surefoot__Gathered *gathered = NULL;
    assert_ok(rank_execute(rank, &order->message, 0, &gathered, &error), &error);
    return gathered;
}

const Surefoot__Row *order_find_row(const Surefoot__Gathered *gathered, uint64_t job_id,
                                    uint64_t candidate_id) {
    for (size_t i = 0; i < gathered->n_rows; i++) {
        if (gathered->rows[i]->job_id == job_id &&
            gathered->rows[i]->candidate_id == candidate_id) {
            return gathered->rows[i];
        }
    }
    fail_msg("no row of candidate %llu", (unsigned long long)candidate_id);
    return NULL;
}

static void assert_no_error(const Surefoot__Row *row) {
    if (row->error != NULL) {
        fail_msg("candidate %llu: %s: %s", (unsigned long long)row->candidate_id, row->error->field,
                 row->error->message);
    }
}

void assert_rows_equal(const Surefoot__Row *a, const Surefoot__Row *b) {
    assert_no_error(a);
    assert_no_error(b);
    assert_int_equal(a->candidate_id, b->candidate_id);
    assert_int_equal(a->n_token_ids, b->n_token_ids);
    assert_memory_equal(a->token_ids, b->token_ids, a->n_token_ids * sizeof *a->token_ids);
    assert_memory_equal(a->logprobs, b->logprobs, a->n_logprobs * sizeof *a->logprobs);
    assert_int_equal(a->finish, b->finish);
    assert_int_equal(a->text == NULL, b->text == NULL);
    if (a->text != NULL) {
        assert_string_equal(a->text, b->text);
    }
    assert_int_equal(a->has_read_from, b->has_read_from);
    assert_int_equal(a->read_from, b->read_from);
    assert_int_equal(a->n_read_ids, b->n_read_ids);
    for (size_t i = 0; i < a->n_read_ids; i++) {
        assert_int_equal(a->read_ids[i], b->read_ids[i]);
    }
    assert_int_equal(a->n_scores, b->n_scores);
    for (size_t i = 0; i < a->n_scores; i++) {
        const Surefoot__RowScore *x = a->scores[i];
        const Surefoot__RowScore *y = b->scores[i];
        assert_int_equal(x->scorer_index, y->scorer_index);
        assert_memory_equal(&x->end_score, &y->end_score, sizeof x->end_score);
        assert_memory_equal(&x->prompt_score, &y->prompt_score, sizeof x->prompt_score);
        assert_int_equal(x->scores_from, y->scores_from);
        assert_int_equal(x->n_token_scores, y->n_token_scores);
        assert_memory_equal(x->token_scores, y->token_scores,
                            x->n_token_scores * sizeof *x->token_scores);
    }
}

void assert_gathered_equal(const Surefoot__Gathered *a, const Surefoot__Gathered *b) {
    assert_int_equal(a->n_rows, b->n_rows);
    for (size_t i = 0; i < a->n_rows; i++) {
        assert_rows_equal(a->rows[i], b->rows[i]);
    }
}
