#include "worker/group/answer.h"

#include <stdlib.h>

#include "worker/group/slice.h"

void answer_init(struct answer *answer, uint64_t order_id) {
    *answer = (struct answer){.error.status = STATUS_OK};
    surefoot__gathered__init(&answer->gathered);
    surefoot__error_info__init(&answer->error_info);
    answer->gathered.has_order_id = true;
    answer->gathered.order_id = order_id;
}

void answer_finish(struct answer *answer) {
    for (int i = 0; i < answer->n_parts; i++) {
        wire_free(WIRE_GATHERED, answer->parts[i]);
    }
    free(answer->parts);
    free(answer->gathered.rows);
    free(answer->gathered.unknown_jobs);
    free(answer->gathered.rebuilt_jobs);
    free(answer->gathered.rebuilt_job_tokens);
    free(answer->gathered.scored_jobs);
    free(answer->gathered.scored_job_tokens);
}

void answer_fail(struct answer *answer, const struct error *error) {
    answer->error = *error;
    wire_error_fill(&answer->error_info, &answer->error);
    answer->gathered.error = &answer->error_info;
    answer->gathered.n_rows = 0;
    answer->fatal = slice_fault_is_fatal(error->status);
}

static enum status unpack_parts(struct answer *answer, const uint8_t *bytes, const size_t *offsets,
                                int world_size) {
    answer->parts = calloc((size_t)world_size, sizeof *answer->parts);
    if (answer->parts == NULL) {
        return STATUS_NO_MEMORY;
    }
    answer->n_parts = world_size;
    for (int i = 0; i < world_size; i++) {
        void *part = NULL;
        struct error error = {.status = STATUS_OK};
        enum status status = wire_unpack(WIRE_GATHERED, bytes + offsets[i],
                                         offsets[i + 1] - offsets[i], &part, &error);
        if (status != STATUS_OK) {
            return status;
        }
        answer->parts[i] = part;
    }
    return STATUS_OK;
}

// The worst error of the ranks: one that ends the group before one that does not.
static void take_errors(struct answer *answer) {
    for (int i = 0; i < answer->n_parts; i++) {
        const Surefoot__ErrorInfo *info = answer->parts[i]->error;
        if (info == NULL || answer->fatal) {
            continue;
        }
        struct error error = {.status = STATUS_OK};
        wire_error_read(info, &error);
        answer_fail(answer, &error);
    }
}

// The means of the ranks' times: those of different ranks would add up to more than the order took,
// and so would the longest of orders that follow each other closely.
static void take_measures(struct answer *answer) {
    Surefoot__Gathered *out = &answer->gathered;
    out->has_decode_ms = out->has_score_ms = true;
    out->has_rebuilt_tokens = true;
    for (int i = 0; i < answer->n_parts; i++) {
        const Surefoot__Gathered *part = answer->parts[i];
        out->decode_ms += part->decode_ms / answer->n_parts;
        out->score_ms += part->score_ms / answer->n_parts;
        out->rebuilt_tokens += part->rebuilt_tokens;
    }
    answer->work_ms = out->decode_ms + out->score_ms;
}

// A list of jobs and their counts in a Gathered.
struct job_counts {
    uint64_t **jobs;
    size_t *n_jobs;
    uint64_t **counts;
    size_t *n_counts;
};

static struct job_counts rebuilt_of(Surefoot__Gathered *gathered) {
    return (struct job_counts){&gathered->rebuilt_jobs, &gathered->n_rebuilt_jobs,
                               &gathered->rebuilt_job_tokens, &gathered->n_rebuilt_job_tokens};
}

static struct job_counts scored_of(Surefoot__Gathered *gathered) {
    return (struct job_counts){&gathered->scored_jobs, &gathered->n_scored_jobs,
                               &gathered->scored_job_tokens, &gathered->n_scored_job_tokens};
}

// The ranks' lists one behind the other.
static enum status take_counts(struct answer *answer,
                               struct job_counts (*list_of)(Surefoot__Gathered *)) {
    const struct job_counts out = list_of(&answer->gathered);
    size_t count = 0;
    for (int i = 0; i < answer->n_parts; i++) {
        const struct job_counts part = list_of(answer->parts[i]);
        ASSERT(*part.n_jobs == *part.n_counts); // a rank of this program
        count += *part.n_jobs;
    }
    if (count == 0) {
        return STATUS_OK;
    }
    *out.jobs = malloc(count * sizeof **out.jobs);
    *out.counts = malloc(count * sizeof **out.counts);
    if (*out.jobs == NULL || *out.counts == NULL) {
        return STATUS_NO_MEMORY;
    }
    for (int i = 0; i < answer->n_parts; i++) {
        const struct job_counts part = list_of(answer->parts[i]);
        for (size_t k = 0; k < *part.n_jobs; k++) {
            (*out.jobs)[(*out.n_jobs)++] = (*part.jobs)[k];
            (*out.counts)[(*out.n_counts)++] = (*part.counts)[k];
        }
    }
    return STATUS_OK;
}

static int compare_ids(const void *left, const void *right) {
    uint64_t a = *(const uint64_t *)left;
    uint64_t b = *(const uint64_t *)right;
    return a < b ? -1 : a > b;
}

static enum status take_unknown_jobs(struct answer *answer) {
    size_t count = 0;
    for (int i = 0; i < answer->n_parts; i++) {
        count += answer->parts[i]->n_unknown_jobs;
    }
    if (count == 0) {
        return STATUS_OK;
    }
    uint64_t *ids = malloc(count * sizeof *ids);
    if (ids == NULL) {
        return STATUS_NO_MEMORY;
    }
    size_t n = 0;
    for (int i = 0; i < answer->n_parts; i++) {
        for (size_t k = 0; k < answer->parts[i]->n_unknown_jobs; k++) {
            ids[n++] = answer->parts[i]->unknown_jobs[k];
        }
    }
    qsort(ids, n, sizeof *ids, compare_ids);
    size_t kept = 1;
    for (size_t i = 1; i < n; i++) {
        if (ids[i] != ids[kept - 1]) {
            ids[kept++] = ids[i];
        }
    }
    answer->gathered.unknown_jobs = ids;
    answer->gathered.n_unknown_jobs = kept;
    return STATUS_OK;
}

static bool is_unknown(const struct answer *answer, uint64_t job_id) {
    return answer->gathered.n_unknown_jobs > 0 &&
           bsearch(&job_id, answer->gathered.unknown_jobs, answer->gathered.n_unknown_jobs,
                   sizeof job_id, compare_ids) != NULL;
}

// Each rank's rows are in item order, so one cursor per rank finds them all.
static enum status take_rows(struct answer *answer, const Surefoot__Order *order) {
    size_t n_items = order->n_items;
    size_t *cursors = calloc((size_t)answer->n_parts, sizeof *cursors);
    Surefoot__Row **rows = malloc((n_items > 0 ? n_items : 1) * sizeof *rows);
    if (cursors == NULL || rows == NULL) {
        free(cursors);
        free(rows);
        return STATUS_NO_MEMORY;
    }
    answer->gathered.rows = rows;
    for (size_t i = 0; i < n_items; i++) {
        const Surefoot__OrderItem *item = order->items[i];
        const Surefoot__Gathered *part = answer->parts[order->ranks[i]];
        size_t *cursor = &cursors[order->ranks[i]];
        Surefoot__Row *row = *cursor < part->n_rows ? part->rows[*cursor] : NULL;
        if (row != NULL && row->job_id == item->job_id && row->candidate_id == item->candidate_id) {
            rows[answer->gathered.n_rows++] = row;
            ++*cursor;
        } else if (!is_unknown(answer, item->job_id)) {
            struct error error;
            error_set(&error, STATUS_INTERNAL, "rows", "rank %u has no row of candidate %llu",
                      order->ranks[i], (unsigned long long)item->candidate_id);
            answer_fail(answer, &error);
            break;
        }
    }
    free(cursors);
    return STATUS_OK;
}

enum status answer_merge(struct answer *answer, const Surefoot__Order *order, const uint8_t *bytes,
                         const size_t *offsets, int world_size) {
    ASSERT(order->n_ranks == order->n_items);
    enum status status = unpack_parts(answer, bytes, offsets, world_size);
    if (status != STATUS_OK) {
        return status;
    }
    take_measures(answer);
    take_errors(answer);
    if (answer->gathered.error != NULL) {
        return STATUS_OK;
    }
    status = take_counts(answer, rebuilt_of);
    if (status == STATUS_OK) {
        status = take_counts(answer, scored_of);
    }
    if (status == STATUS_OK) {
        status = take_unknown_jobs(answer);
    }
    return status == STATUS_OK ? take_rows(answer, order) : status;
}
