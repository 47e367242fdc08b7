// The bookkeeping that all search methods share; the methods themselves are listed in methods.c.
#include "coordinator/search/search_internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/search/blocks.h"
#include "coordinator/search/safety.h"

static enum status queue_reserve(struct id_queue *queue) {
    if (queue->count < queue->capacity) {
        return STATUS_OK;
    }
    size_t capacity = queue->capacity == 0 ? 64 : 2 * queue->capacity;
    uint64_t *ids = malloc(capacity * sizeof *ids);
    if (ids == NULL) {
        return STATUS_NO_MEMORY;
    }
    for (size_t i = 0; i < queue->count; i++) {
        ids[i] = queue->ids[(queue->first + i) % queue->capacity];
    }
    free(queue->ids);
    *queue = (struct id_queue){.ids = ids, .capacity = capacity, .count = queue->count};
    return STATUS_OK;
}

static enum status queue_push_front(struct id_queue *queue, uint64_t id) {
    if (queue_reserve(queue) != STATUS_OK) {
        return STATUS_NO_MEMORY;
    }
    queue->first = (queue->first + queue->capacity - 1) % queue->capacity;
    queue->ids[queue->first] = id;
    queue->count++;
    return STATUS_OK;
}

static enum status queue_push(struct id_queue *queue, uint64_t id) {
    if (queue_reserve(queue) != STATUS_OK) {
        return STATUS_NO_MEMORY;
    }
    queue->ids[(queue->first + queue->count) % queue->capacity] = id;
    queue->count++;
    return STATUS_OK;
}

static uint64_t queue_pop(struct id_queue *queue) {
    ASSERT(queue->count > 0);
    uint64_t id = queue->ids[queue->first];
    queue->first = (queue->first + 1) % queue->capacity;
    queue->count--;
    return id;
}

static struct candidate *find_candidate(const struct search *search, uint64_t id) {
    return id >= 1 && id <= search->n_candidates ? search->candidates[id - 1] : NULL;
}

uint64_t search_candidates_bound(const struct search_spec *spec) {
    return search_method_find(spec->method)->candidates_bound(spec);
}

static enum status copy_exempt_ids(struct search *search) {
    if (search->spec.n_exempt == 0) {
        return STATUS_OK;
    }
    size_t bytes = search->spec.n_exempt * sizeof(int32_t);
    int32_t *copy = malloc(bytes);
    if (copy == NULL) {
        search->spec.n_exempt = 0;
        return STATUS_NO_MEMORY;
    }
    memcpy(copy, search->spec.exempt_ids, bytes);
    search->spec.exempt_ids = copy;
    return STATUS_OK;
}

static enum status start(struct search *search, struct error *err) {
    enum status status = copy_exempt_ids(search);
    if (status == STATUS_OK) {
        status = search->ops->start(search);
    }
    if (status != STATUS_OK) {
        return error_set(err, status, NULL, "no memory for the search");
    }
    return search->spec.tilt.transform == TILT_TRANSFORM_NONE ? STATUS_OK
           : search->spec.tilts != NULL
               ? tilt_cache_find(search->spec.tilts, &search->spec.tilt, &search->tilt, err)
               : tilt_create(&search->spec.tilt, &search->tilt, err);
}

enum status search_create(const struct search_spec *spec, struct search **out, struct error *err) {
    ASSERT(spec->n > 0 && spec->block_tokens > 0 && spec->max_tokens > 0 && spec->tries > 0);
    ASSERT(spec->survivors > 0 && spec->survivors <= spec->n);
    ASSERT(spec->n_min > 0 && spec->n_min <= spec->n && spec->block_growth >= 1);
    if (search_candidates_bound(spec) > SEARCH_CANDIDATES_MAX) {
        return error_set(err, STATUS_LIMIT, "spec.n",
                         "the candidates that it could make are above the limit %d",
                         SEARCH_CANDIDATES_MAX);
    }
    struct search *search = calloc(1, sizeof *search);
    if (search == NULL) {
        return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for the search");
    }
    search->spec = *spec;
    search->ops = search_method_find(spec->method);
    // What scorers read only of some is read at the ends of blocks.
    bool inside = safety_shows_inside_blocks(spec) && spec->critic_unread == 0;
    search->spec.abort_tokens = inside ? spec->abort_tokens : 0;
    enum status status = start(search, err);
    if (status != STATUS_OK) {
        search_destroy(search);
        return status;
    }
    *out = search;
    return STATUS_OK;
}

void search_destroy(struct search *search) {
    if (search == NULL) {
        return;
    }
    if (search->ops->destroy != NULL) {
        search->ops->destroy(search);
    }
    for (size_t i = 0; i < search->n_candidates; i++) {
        candidate_destroy(search->candidates[i]);
    }
    if (search->spec.n_exempt > 0) {
        free((void *)(uintptr_t)search->spec.exempt_ids);
    }
    tilt_destroy(search->tilt);
    text_set_finish(&search->finished);
    free(search->penalties.token_ids);
    free(search->penalties.values);
    free(search->candidates);
    free(search->ready.ids);
    free(search->released.ids);
    free(search->block_tokens);
    free(search);
}

enum status search_mark_ready(struct search *search, struct candidate *candidate) {
    uint32_t left = search->spec.max_tokens - candidate->n_tokens;
    ASSERT(left > 0 && !candidate->outstanding);
    if (!candidate->in_block) {
        uint32_t block = blocks_tokens(&search->spec, candidate->n_blocks);
        candidate->block_end = candidate->n_tokens + (left < block ? left : block);
    }
    candidate->grow_tokens = candidate->block_end - candidate->n_tokens;
    uint32_t abort = search->spec.abort_tokens;
    if (abort > 0 && candidate->grow_tokens > abort - candidate->n_tokens % abort) {
        candidate->grow_tokens = abort - candidate->n_tokens % abort;
    }
    candidate->unread_by = search->spec.critic_unread;
    // What has begun goes on before others begin, so that groups hold few candidates at a time.
    return candidate->grown ? queue_push_front(&search->ready, candidate->id)
                            : queue_push(&search->ready, candidate->id);
}

enum status search_mark_unread(struct search *search, struct candidate *candidate) {
    ASSERT(candidate->unread != 0 && !candidate->outstanding);
    candidate->grow_tokens = 0;
    candidate->unread_by = ~candidate->unread & ((1U << search->spec.n_scorers) - 1);
    return queue_push_front(&search->ready, candidate->id);
}

enum status search_add_candidate(struct search *search, const struct candidate *parent,
                                 struct candidate **out) {
    if (search->n_candidates == search->candidate_capacity) {
        size_t capacity = search->candidate_capacity == 0 ? 64 : 2 * search->candidate_capacity;
        struct candidate **grown =
            realloc(search->candidates, capacity * sizeof *search->candidates);
        if (grown == NULL) {
            return STATUS_NO_MEMORY;
        }
        search->candidates = grown;
        search->candidate_capacity = capacity;
    }
    struct candidate *candidate = candidate_create(search->n_candidates + 1, parent);
    if (candidate == NULL) {
        return STATUS_NO_MEMORY;
    }
    search->candidates[search->n_candidates++] = candidate;
    *out = candidate;
    return search_mark_ready(search, candidate);
}

// Remembers the candidate that came nearest to the budget.
static void note_nearest(struct search *search, struct candidate *candidate) {
    const struct candidate *nearest = search->nearest;
    if (nearest == NULL || candidate->safety.nearness > nearest->safety.nearness ||
        (!(candidate->safety.nearness < nearest->safety.nearness) && candidate->id < nearest->id)) {
        search->nearest = candidate;
    }
}

// Counts a finished candidate among the different texts, or one of two equal ones as a duplicate:
// the less preferred, so that neither the choice nor a count depends on which came first.
static enum status keep_once(struct search *search, struct candidate *candidate) {
    struct candidate *kept = NULL;
    enum status status = text_set_add(&search->finished, candidate, &kept);
    if (status != STATUS_OK) {
        return status;
    }
    if (kept == NULL) {
        search->n_finished++;
        search->n_admissible += candidate->safety.admissible ? 1 : 0;
        return STATUS_OK;
    }
    search->n_repeats++;
    if (preference_compare(&search->spec, kept, candidate) < 0) {
        candidate->fate = CANDIDATE_FATE_DUPLICATE;
        return STATUS_OK;
    }
    kept->fate = CANDIDATE_FATE_DUPLICATE;
    search->n_admissible += candidate->safety.admissible ? 1 : 0;
    search->n_admissible -= kept->safety.admissible ? 1 : 0;
    text_set_replace(&search->finished, candidate);
    return STATUS_OK;
}

enum status search_finish_candidate(struct search *search, struct candidate *candidate) {
    candidate->fate = CANDIDATE_FATE_FINISHED;
    if (keep_once(search, candidate) != STATUS_OK) {
        return STATUS_NO_MEMORY;
    }
    note_nearest(search, candidate);
    bool tilted = search->tilt != NULL;
    bool answerable = !tilted || candidate->safety.admissible;
    struct candidate *loser = candidate;
    if (answerable &&
        (search->best == NULL || preference_compare(&search->spec, candidate, search->best) < 0)) {
        loser = search->best;
        search->best = candidate;
    }
    // A tilt may take any that is within budget.
    if (loser != NULL && !(tilted && loser->safety.admissible)) {
        candidate_drop_history(loser);
    }
    return queue_push(&search->released, candidate->id);
}

enum status search_drop_candidate(struct search *search, struct candidate *candidate,
                                  enum candidate_fate fate) {
    candidate->fate = fate;
    if (fate != CANDIDATE_FATE_EXTENDED) {
        search->n_pruned++;
    }
    search->n_unscored += candidate->unread != 0 ? 1 : 0;
    // What was within budget when it was given up says nothing of why there is no answer.
    if (fate != CANDIDATE_FATE_EXTENDED && !candidate->safety.admissible &&
        candidate->unread == 0) {
        note_nearest(search, candidate);
    }
    candidate_drop_history(candidate);
    return queue_push(&search->released, candidate->id);
}

bool search_next(struct search *search, struct search_grow *out) {
    if (search->ready.count == 0) {
        return false;
    }
    struct candidate *candidate = find_candidate(search, queue_pop(&search->ready));
    candidate->outstanding = true;
    search->n_outstanding++;
    *out = (struct search_grow){
        .candidate_id = candidate->id,
        .parent_id = candidate->grown ? candidate->id : candidate->parent_id,
        .tokens = candidate->history != NULL ? candidate->history->tokens : NULL,
        .n_tokens = candidate->n_tokens,
        .grow_tokens = candidate->grow_tokens,
        .unread_by = candidate->unread_by,
        .token_rank = candidate->token_rank,
        .entropy_stop = (float)search->spec.entropy_threshold,
        .entropy_after = candidate_shortest_row(candidate, &search->spec),
        .prefix_index = candidate->prefix_index,
        .temperature = search->temperature,
        .penalty_ids = search->penalties.token_ids,
        .penalties = search->penalties.values,
        .n_penalties = candidate->grow_tokens > 0 ? search->penalties.n : 0,
    };
    return true;
}

// Counts the tokens of a candidate's newest block, its n_blocks-th.
static enum status count_tokens(struct search *search, uint32_t n_blocks, uint32_t n_tokens) {
    if (n_blocks > search->n_block_tokens) {
        uint64_t *grown = realloc(search->block_tokens, n_blocks * sizeof *grown);
        if (grown == NULL) {
            return STATUS_NO_MEMORY;
        }
        memset(grown + search->n_block_tokens, 0,
               (n_blocks - search->n_block_tokens) * sizeof *grown);
        search->block_tokens = grown;
        search->n_block_tokens = n_blocks;
    }
    search->block_tokens[n_blocks - 1] += n_tokens;
    search->n_tokens += n_tokens;
    return STATUS_OK;
}

enum status search_on_row(struct search *search, const struct search_row *row, struct error *err) {
    struct candidate *candidate = find_candidate(search, row->candidate_id);
    if (candidate == NULL || !candidate->outstanding) {
        return error_set(err, STATUS_MALFORMED, "row.candidate_id",
                         "candidate %" PRIu64 " was not asked for", row->candidate_id);
    }
    enum status status = candidate_check_row(candidate, &search->spec, row, err);
    if (status != STATUS_OK) {
        return status;
    }
    for (uint32_t i = 0; i < search->spec.n_scorers; i++) {
        if (((search->prompts_read | row->unread_by) >> i & 1) == 0) {
            search->prompt_scores[i] = row->scores[i].prompt_score;
            search->prompts_read |= 1U << i;
        }
    }
    status = candidate_append_row(candidate, &search->spec, search->prompt_scores, row, err);
    if (status != STATUS_OK) {
        return status;
    }
    candidate->outstanding = false;
    search->n_outstanding--;
    status = count_tokens(search, candidate->n_blocks, row->n_tokens);
    if (status == STATUS_OK) {
        status = search->ops->on_grown(search, candidate);
    }
    if (status == STATUS_OK && search->tilt != NULL && search_is_done(search)) {
        status = search_choose_tilted(search);
    }
    return status == STATUS_OK ? status : error_set(err, status, "", "no memory for the search");
}

size_t search_take_released(struct search *search, uint64_t *candidate_ids, size_t capacity) {
    size_t count = 0;
    while (count < capacity && search->released.count > 0) {
        candidate_ids[count++] = queue_pop(&search->released);
    }
    return count;
}

bool search_is_done(const struct search *search) {
    return search->ready.count == 0 && search->n_outstanding == 0;
}

static const char *choosing_rule(const struct search *search) {
    const struct search_spec *spec = &search->spec;
    if (search->tilt != NULL) {
        return "drawn by a tilt among the finished within budget";
    }
    if (search->ops->choosing_rule != NULL) {
        return search->ops->choosing_rule;
    }
    switch (spec->selection) {
    case SEARCH_SELECTION_PLAIN:
        return "highest reward of the finished";
    case SEARCH_SELECTION_LAGRANGIAN:
        return "highest reward - lambda * cost of the finished";
    case SEARCH_SELECTION_COST:
        return "lowest cost of the finished";
    case SEARCH_SELECTION_AUGMENTED:
        break;
    }
    return search->ops->discounts_reward && spec->discount_reward
               ? "highest discounted reward of the finished within budget"
               : "highest reward of the finished within budget";
}

static uint64_t tokens_after(const struct search *search, const struct candidate *candidate) {
    uint64_t count = 0;
    for (uint32_t i = candidate->n_blocks; i < search->n_block_tokens; i++) {
        count += search->block_tokens[i];
    }
    return count;
}

void search_get_answer(struct search *search, struct search_answer *out) {
    const struct candidate *best = search->best;
    bool augmented = search->spec.selection == SEARCH_SELECTION_AUGMENTED;
    bool found = search_is_done(search) && best != NULL && (!augmented || best->safety.admissible);
    const struct candidate *shown = found ? best : search->nearest;
    if (found) {
        search->best->fate = CANDIDATE_FATE_CHOSEN;
    }
    *out = (struct search_answer){
        .found = found,
        .over_budget = found && !best->safety.admissible,
        .candidate_id = shown == NULL ? 0 : shown->id,
        .rule = found ? choosing_rule(search) : "no finished candidate is within budget",
        .n_finished = search->n_finished,
        .n_admissible = search->n_admissible,
        .n_repeats = search->n_repeats,
        .n_aborted = search->n_aborted,
        .n_unscored = search->n_unscored,
        .tokens_after_choice = found ? tokens_after(search, best) : 0,
        .tries_used = search->tries_used,
        .fallback_fired = search->tries_used > 0 || search->n_restarts > 0,
        .n_restarts = search->n_restarts,
        .steps = search->steps,
        .tilt = found && search->tilt != NULL ? &search->tilted : NULL,
    };
}

void search_get_progress(const struct search *search, struct search_progress *out) {
    const struct candidate *best = search->best;
    *out = (struct search_progress){
        .step = search->steps,
        .live = (uint32_t)(search->ready.count + search->n_outstanding),
        .finished = search->n_finished,
        .pruned = search->n_pruned,
        .tokens = search->n_tokens,
        .has_best = best != NULL && best->safety.admissible,
        .best_reward = best != NULL ? best->reward : 0.0,
    };
}

size_t search_candidate_count(const struct search *search) {
    return search->n_candidates;
}

void search_get_candidate(const struct search *search, size_t index, struct search_candidate *out) {
    ASSERT(index < search->n_candidates);
    const struct candidate *candidate = search->candidates[index];
    *out = (struct search_candidate){
        .candidate_id = candidate->id,
        .parent_id = candidate->parent_id,
        .tokens = candidate->history != NULL ? candidate->history->tokens : NULL,
        .logprobs = candidate->history != NULL ? candidate->history->logprobs : NULL,
        .scores = candidate_scores(candidate, search->prompt_scores),
        .text = candidate->text,
        .reading = candidate->reading,
        .n_tokens = candidate->n_tokens,
        .reward = candidate->reward,
        .channels = candidate->safety.channels,
        .safety_state = candidate->safety.z,
        .admissible = candidate->safety.admissible,
        .fate = candidate->fate,
        .finish = candidate->finish,
    };
}

bool search_find_candidate(const struct search *search, uint64_t candidate_id,
                           struct search_candidate *out) {
    if (find_candidate(search, candidate_id) == NULL) {
        return false;
    }
    search_get_candidate(search, candidate_id - 1, out);
    return true;
}
