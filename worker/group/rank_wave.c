// One wave: candidates that fit into the KV together are placed (forked, continued or rebuilt),
// grown by the decoder and scored by their jobs' scorers; then their rows are filled.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/deadline.h"
#include "worker/group/rank_internal.h"

void rank_report_progress(void *context) {
    struct rank *rank = context;
    rank->progress_count++;
    if (rank->progress != NULL) {
        rank->progress(rank->progress_context, rank->progress_count);
    }
}

// A response as scorers see it: the first n_tokens of one that goes on, the reading of a finished
// one.
static struct scorer_text view(const struct response *response, int32_t n_tokens) {
    if (response->finish == DECODE_FINISH_NONE) {
        return (struct scorer_text){.token_ids = response->token_ids,
                                    .text_ends = response->text_ends,
                                    .n_tokens = n_tokens,
                                    .text = response->text};
    }
    bool empty = response->n_read == 0;
    return (struct scorer_text){.token_ids = response->read_ids,
                                .text_ends = response->read_ends,
                                .n_tokens = empty ? 1 : response->n_read,
                                .text = response->text,
                                .ended = response->finish == DECODE_FINISH_EOS,
                                .finished = true,
                                .empty = empty};
}

// Whether the job's scorer `index` reads the item's candidate; with `given` the tokens that were
// given, which one that is only scored has its scores of from the beginning.
static bool reads(const struct rank_item *item, int index, bool given) {
    if (given) {
        return item->item->grow_tokens > 0;
    }
    return item->candidate->response.finish != DECODE_FINISH_NONE ||
           (item->item->unread_by >> index & 1) == 0;
}

// Lists the extensions of the items that use `scorer`, from `count` on; with `given` only those of
// rebuilt items, by the tokens that were given. Returns how many are listed then.
static int32_t list_extensions(struct rank *rank, const struct scorer *scorer,
                               struct rank_item *items, int32_t n, bool given, int32_t count) {
    for (int32_t i = 0; i < n; i++) {
        struct rank_item *item = &items[i];
        if (item->row->error != NULL || (given && !item->rebuild)) { // some have no candidate yet
            continue;
        }
        const struct response *response = &item->candidate->response;
        for (int k = 0; k < item->job->n_scorers; k++) {
            if (item->job->scorers[k].scorer != scorer || !reads(item, k, given)) {
                continue;
            }
            rank->extensions[count] = (struct scorer_extension){
                .state = item->candidate->scorer_states[k],
                .text = view(response, given ? item->n_before : response->n_tokens)};
            rank->extension_items[count] = item;
            rank->extension_indices[count++] = k;
        }
    }
    return count;
}

static enum status fail_extension(struct rank *rank, int32_t index) {
    struct error error = rank->extensions[index].error;
    char prefix[ERROR_FIELD_BYTES];
    snprintf(prefix, sizeof prefix, "scorers[%d]", rank->extension_indices[index]);
    error_prefix_field(&error, prefix);
    return rank_row_fail(rank->extension_items[index]->row, &error);
}

static enum status extend_scorer(struct rank *rank, int scorer, struct error *err) {
    return scorer_extend(rank->scorers[scorer].scorer,
                         rank->extensions + rank->scorer_begins[scorer],
                         rank->scorer_counts[scorer], err);
}

// Runs the listed extensions: n_lexical, then those of the models.
static enum status extend_all(struct rank *rank, int32_t n_lexical, struct error *err) {
    enum status status = STATUS_OK;
    // Words gain nothing from a batch, and many slow patterns must not look like a dead rank.
    for (int32_t i = 0; i < n_lexical && status == STATUS_OK; i++) {
        status = scorer_extend(rank->lexical, &rank->extensions[i], 1, err);
        rank_report_progress(rank);
    }
    return status == STATUS_OK ? rank_run_scorers(rank, extend_scorer, err) : status;
}

// A verdict must be a number: one that is none fails its candidate.
static void check_finite(struct rank *rank, int32_t index) {
    struct scorer_extension *extension = &rank->extensions[index];
    const struct rank_item *item = rank->extension_items[index];
    const struct scorer_job *job = item->job->scorers[rank->extension_indices[index]].job;
    if (extension->error.status != STATUS_OK) {
        return;
    }
    bool finite = isfinite(extension->end_score) && isfinite(scorer_prompt_score(job));
    for (int32_t t = extension->scores_from; finite && t < extension->text.n_tokens; t++) {
        finite = isfinite(extension->token_scores[t]);
    }
    if (!finite) {
        error_set(&extension->error, STATUS_DEVICE, NULL,
                  "the score of a response of %d tokens is NaN or infinite: the model's numbers "
                  "overflow",
                  extension->text.n_tokens);
    }
}

// Room for the token scores of the listed extensions. Returns owned, NULL: no memory.
static float *give_scores(struct rank *rank, int32_t count) {
    size_t n_scores = 0;
    for (int32_t i = 0; i < count; i++) {
        n_scores += (size_t)rank->extensions[i].text.n_tokens;
    }
    float *scores = malloc((n_scores > 0 ? n_scores : 1) * sizeof *scores);
    float *next = scores;
    for (int32_t i = 0; i < count && scores != NULL; i++) {
        rank->extensions[i].token_scores = next;
        next += rank->extensions[i].text.n_tokens;
    }
    return scores;
}

// Extends all states of the items; with `given` those of rebuilt items, by the given tokens.
// Results go to the rows unless they are of given tokens.
static enum status score_all(struct rank *rank, struct rank_item *items, int32_t n, bool given,
                             struct error *err) {
    int32_t n_lexical = list_extensions(rank, rank->lexical, items, n, given, 0);
    int32_t count = n_lexical;
    for (int k = 0; k < rank->n_scorers; k++) {
        rank->scorer_begins[k] = count;
        count = list_extensions(rank, rank->scorers[k].scorer, items, n, given, count);
        rank->scorer_counts[k] = count - rank->scorer_begins[k];
    }
    float *scores = give_scores(rank, count);
    if (scores == NULL) {
        return STATUS_NO_MEMORY;
    }
    enum status status = extend_all(rank, n_lexical, err);
    for (int32_t i = 0; i < count && status == STATUS_OK; i++) {
        check_finite(rank, i);
        if (rank->extensions[i].error.status != STATUS_OK) {
            status = fail_extension(rank, i);
        } else if (!given) {
            status = rank_row_add_score(rank->extension_items[i], rank->extension_indices[i],
                                        &rank->extensions[i]);
        }
    }
    free(scores);
    return status;
}

// Rebuilds the response from the given tokens; the model reads them in the caller's batch.
static enum status restore_response(struct rank_item *item) {
    struct response *response = &item->candidate->response;
    for (size_t i = 0; i < item->item->n_tokens; i++) {
        enum status status = response_append(response, (int32_t)item->item->tokens[i], 0, false);
        if (status != STATUS_OK) {
            return status;
        }
    }
    return STATUS_OK;
}

static bool continues_itself(const struct rank_item *item) {
    return item->parent != NULL && item->parent->id == item->item->candidate_id;
}

// The item before `item` that rebuilds the same tokens of the same parent, NULL when there is none.
static const struct rank_item *find_twin(const struct rank_item *items,
                                         const struct rank_item *item) {
    for (const struct rank_item *other = items; other < item; other++) {
        if (other->rebuild && other->job == item->job && other->n_before == item->n_before &&
            other->item->parent_id == item->item->parent_id &&
            memcmp(other->item->tokens, item->item->tokens,
                   item->item->n_tokens * sizeof *item->item->tokens) == 0) {
            return other;
        }
    }
    return NULL;
}

// Creates the candidates whose tokens nobody holds, once for each parent, and reads those tokens.
static enum status rebuild(struct rank *rank, struct rank_item *items, int32_t n,
                           struct error *err) {
    int32_t n_prefills = 0;
    for (int32_t i = 0; i < n; i++) {
        struct rank_item *item = &items[i];
        if (item->parent != NULL || item->n_before == 0) {
            continue;
        }
        const struct rank_item *twin = find_twin(items, item);
        if (twin != NULL) {
            item->parent = twin->candidate;
            continue;
        }
        item->rebuild = true;
        enum status status = rank_candidate_create(rank, item, NULL, &item->candidate);
        if (status == STATUS_OK) {
            status = restore_response(item);
        }
        if (status != STATUS_OK) {
            return error_set(err, status, NULL, "a candidate could not be rebuilt");
        }
        rank->counts.rebuilt_tokens += item->n_before;
        item->job->rebuilt_tokens += (uint64_t)item->n_before;
        rank->prefills[n_prefills++] =
            (struct decode_prefill){.sequence = item->candidate->sequence,
                                    .token_ids = item->candidate->response.token_ids,
                                    .n_tokens = item->n_before,
                                    .state = item->candidate->state};
    }
    enum status status = decoder_prefill(rank->decoder, rank->prefills, n_prefills, err);
    return status == STATUS_OK && n_prefills > 0 ? score_all(rank, items, n, true, err) : status;
}

// Every item gets its candidate, standing at the tokens that were given.
static enum status place_all(struct rank *rank, struct rank_item *items, int32_t n,
                             struct error *err) {
    for (int32_t i = 0; i < n; i++) {
        bool itself = items[i].item->parent_id == items[i].item->candidate_id &&
                      rank_candidate_parent(rank, &items[i]) != NULL;
        if (!itself) {
            // An earlier candidate of this id makes room before anything could fork it.
            struct rank_candidate *old =
                rank_candidate_find(rank, items[i].job->id, items[i].item->candidate_id);
            if (old != NULL) {
                rank_candidate_drop(rank, old);
            }
        }
    }
    for (int32_t i = 0; i < n; i++) {
        items[i].parent = items[i].n_before > 0 ? rank_candidate_parent(rank, &items[i]) : NULL;
    }
    enum status status = rebuild(rank, items, n, err);
    int32_t n_pairs = 0;
    for (int32_t i = 0; i < n && status == STATUS_OK; i++) {
        struct rank_item *item = &items[i];
        if (item->rebuild || continues_itself(item)) {
            continue;
        }
        status = rank_candidate_create(rank, item, item->parent, &item->candidate);
        if (status != STATUS_OK) {
            return error_set(err, status, NULL, "a candidate could not be placed");
        }
        rank->state_pairs[n_pairs] = item->parent != NULL ? item->parent->state : item->job->state;
        rank->state_pairs[rank->slots + n_pairs++] = item->candidate->state;
    }
    if (status != STATUS_OK) {
        return status;
    }
    decoder_state_copy(rank->decoder, rank->state_pairs, rank->state_pairs + rank->slots, n_pairs);
    // What goes on itself is taken over after all forks of it.
    for (int32_t i = 0; i < n; i++) {
        if (items[i].candidate == NULL) {
            items[i].candidate = items[i].parent;
        }
        items[i].candidate->used = ++rank->clock;
    }
    return STATUS_OK;
}

static enum status grow_all(struct rank *rank, struct rank_item *items, int32_t n,
                            struct error *err) {
    int32_t n_tasks = 0;
    for (int32_t i = 0; i < n; i++) {
        struct rank_candidate *candidate = items[i].candidate;
        if (items[i].item->grow_tokens == 0) {
            continue;
        }
        items[i].sampling = items[i].job->params.sampling;
        items[i].sampling.temperature = items[i].item->temperature;
        struct decode_task *new_task = &rank->tasks[n_tasks++];
        *new_task = (struct decode_task){
            .params = &items[i].job->params,
            .sequence = candidate->sequence,
            .response = &candidate->response,
            .state = candidate->state,
            .grow_tokens = (int32_t)items[i].item->grow_tokens,
            .penalty = items[i].penalty,
            .sampling = items[i].item->has_temperature ? &items[i].sampling : NULL,
            .lineage = items[i].item->candidate_id,
            .rank = (int32_t)items[i].item->token_rank,
            .entropy_stop = items[i].item->entropy_stop,
            .entropy_after = (int32_t)items[i].item->entropy_after};
        uint32_t prefix = items[i].item->prefix_index;
        if (prefix > 0) {
            new_task->given = items[i].job->prefixes[prefix - 1];
            new_task->grow_tokens = items[i].job->prefix_counts[prefix - 1];
        }
    }
    if (n_tasks == 0) {
        return STATUS_OK;
    }
    enum status status = decoder_grow(rank->decoder, rank->tasks, n_tasks, err);
    const struct decode_task *task = rank->tasks;
    for (int32_t i = 0; i < n && status == STATUS_OK; i++) {
        if (items[i].item->grow_tokens == 0) {
            continue;
        }
        struct response *response = task->response;
        struct error error = task->error;
        task++;
        if (error.status == STATUS_OK && (response->finish == DECODE_FINISH_NONE ||
                                          response_read(response, &error) == STATUS_OK)) {
            continue;
        }
        status = error.status == STATUS_NO_MEMORY ? STATUS_NO_MEMORY
                                                  : rank_row_fail(items[i].row, &error);
    }
    return status;
}

// Rows of failed items stay empty; candidates that cannot go on are not held.
static enum status finish_items(struct rank *rank, struct rank_item *items, int32_t n) {
    for (int32_t i = 0; i < n; i++) {
        struct rank_item *item = &items[i];
        if (item->row->error != NULL) {
            rank_row_clear(item->row, item->job->n_scorers);
        } else if (rank_row_fill(rank, item) != STATUS_OK) {
            return STATUS_NO_MEMORY;
        }
    }
    for (int32_t i = 0; i < n; i++) {
        if (items[i].row->error != NULL ||
            items[i].candidate->response.finish != DECODE_FINISH_NONE) {
            rank_candidate_drop(rank, items[i].candidate);
        }
        items[i].candidate = NULL;
    }
    return STATUS_OK;
}

static void abandon(struct rank *rank, struct rank_item *items, int32_t n) {
    for (int32_t i = 0; i < n; i++) {
        rank_row_clear(items[i].row, items[i].job->n_scorers);
        if (items[i].candidate != NULL) {
            rank_candidate_drop(rank, items[i].candidate);
            items[i].candidate = NULL;
        }
    }
}

enum status rank_wave_run(struct rank *rank, struct rank_item *items, int32_t n,
                          struct error *err) {
    ASSERT(n > 0 && n <= rank->slots);
    int64_t started = clock_monotonic_ns();
    for (int32_t i = 0; i < n; i++) {
        items[i].candidate = NULL;
        items[i].parent = NULL;
        items[i].rebuild = false;
        items[i].job->used = ++rank->clock;
    }
    enum status status = rank_jobs_prepare(rank, items, n, err);
    if (status == STATUS_OK) {
        status = place_all(rank, items, n, err);
    }
    if (status == STATUS_OK) {
        status = grow_all(rank, items, n, err);
    }
    if (status == STATUS_OK) {
        status = rank_critic_run(rank, items, n);
    }
    int64_t grown = clock_monotonic_ns();
    rank->decode_ns += grown - started;
    if (status == STATUS_OK) {
        status = score_all(rank, items, n, false, err);
    }
    if (status == STATUS_OK) {
        status = finish_items(rank, items, n);
    }
    rank->score_ns += clock_monotonic_ns() - grown;
    if (status != STATUS_OK) {
        abandon(rank, items, n);
    }
    return status;
}
