// beam and inference-guard: N children a step, K survivors, blocks of d tokens (Ji et al. 2025,
// arXiv 2502.01208, section 4). All children of a step come back before anything is decided, so the
// order of arrival cannot matter. inference-guard is the augmented beam with the all-unsafe
// fallback: when no child is viable, the tokens of the failed children are penalised and the
// step is tried again, at most `tries` times. Its answers within budget take places of children,
// and end the search when it finds no better one.
#include "coordinator/search/search_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/search/blocks.h"

struct candidate_list {
    struct candidate **items;
    size_t count;
    size_t capacity;
};

struct token_count {
    uint32_t token_id;
    uint32_t count;
};

struct beam {
    struct candidate_list survivors; // parents of this step; empty at the first: the prompt
    struct candidate_list children;  // of this step, all tries, in order of creation
    uint32_t n;                      // children of each of its tries
    size_t try_begin;                // first child of the try in progress
    size_t n_pending;                // children of the try that have not come back
    uint32_t try_index;              // 1-based
    uint64_t best_id;                // of the best answer within budget, 0 none
    uint32_t n_quiet;                // steps since there was a better one
    bool shared;                     // the critic has chosen what of the try the scorers read
    struct token_count *failed;      // [n_failed] new tokens of failed children, ascending by id
    size_t n_failed;
};

static enum status list_push(struct candidate_list *list, struct candidate *candidate) {
    if (list->count == list->capacity) {
        size_t capacity = list->capacity == 0 ? 64 : 2 * list->capacity;
        struct candidate **grown = realloc(list->items, capacity * sizeof(struct candidate *));
        if (grown == NULL) {
            return STATUS_NO_MEMORY;
        }
        list->items = grown;
        list->capacity = capacity;
    }
    list->items[list->count++] = candidate;
    return STATUS_OK;
}

// A step's children over the survivors: n / |survivors| each, round-robin for the rest.
static enum status make_children(struct search *search, struct beam *beam) {
    beam->try_begin = beam->children.count;
    for (uint32_t i = 0; i < beam->n; i++) {
        size_t n_parents = beam->survivors.count;
        const struct candidate *parent =
            n_parents == 0 ? NULL : beam->survivors.items[i % n_parents];
        struct candidate *child;
        enum status status = search_add_candidate(search, parent, &child);
        if (status == STATUS_OK) {
            status = list_push(&beam->children, child);
        }
        if (status != STATUS_OK) {
            return status;
        }
    }
    beam->n_pending = beam->n;
    beam->shared = false;
    return STATUS_OK;
}

static void clear_penalties(struct search *search, struct beam *beam) {
    free(beam->failed);
    beam->failed = NULL;
    beam->n_failed = 0;
    free(search->penalties.token_ids);
    free(search->penalties.values);
    search->penalties = (struct search_penalties){.n = 0};
}

// Each text within budget that has ended takes the place of a child, but for those of the smallest
// step.
static uint32_t count_places(const struct search *search) {
    uint32_t n = search->spec.n;
    uint32_t spare = search->ops->retries ? n - search->spec.n_min : 0;
    return n - (search->n_admissible < spare ? search->n_admissible : spare);
}

static enum status start_step(struct search *search, struct beam *beam) {
    beam->n = count_places(search);
    clear_penalties(search, beam);
    beam->children.count = 0;
    beam->try_index = 1;
    return make_children(search, beam);
}

static enum status start(struct search *search) {
    struct beam *beam = calloc(1, sizeof *beam);
    if (beam == NULL) {
        return STATUS_NO_MEMORY;
    }
    search->method_state = beam;
    return start_step(search, beam);
}

static void destroy(struct search *search) {
    struct beam *beam = search->method_state;
    if (beam != NULL) {
        free(beam->survivors.items);
        free(beam->children.items);
        free(beam->failed);
        free(beam);
    }
}

static bool is_exempt(const struct search_spec *spec, uint32_t token_id) {
    for (size_t i = 0; i < spec->n_exempt; i++) {
        if ((uint32_t)spec->exempt_ids[i] == token_id) {
            return true;
        }
    }
    return false;
}

static int compare_tokens(const void *left, const void *right) {
    const struct token_count *a = left;
    const struct token_count *b = right;
    return a->token_id < b->token_id ? -1 : a->token_id > b->token_id ? 1 : 0;
}

// Tokens that a child added in this step.
static uint32_t new_token_count(const struct candidate *child) {
    uint32_t before = child->n_blocks >= 2 ? child->history->block_ends[child->n_blocks - 2] : 0;
    return child->n_tokens - before;
}

// F <- F + counts of the new tokens of the failed try, special tokens exempt.
static enum status count_failed_tokens(struct search *search, struct beam *beam) {
    size_t capacity = beam->n_failed;
    for (size_t i = beam->try_begin; i < beam->children.count; i++) {
        capacity += new_token_count(beam->children.items[i]);
    }
    struct token_count *counts = malloc((capacity + 1) * sizeof *counts);
    if (counts == NULL) {
        return STATUS_NO_MEMORY;
    }
    size_t n = beam->n_failed;
    if (n > 0) {
        memcpy(counts, beam->failed, n * sizeof *counts);
    }
    for (size_t i = beam->try_begin; i < beam->children.count; i++) {
        const struct candidate *child = beam->children.items[i];
        for (uint32_t t = child->n_tokens - new_token_count(child); t < child->n_tokens; t++) {
            if (!is_exempt(&search->spec, child->history->tokens[t])) {
                counts[n++] =
                    (struct token_count){.token_id = child->history->tokens[t], .count = 1};
            }
        }
    }
    qsort(counts, n, sizeof *counts, compare_tokens);
    size_t merged = 0;
    for (size_t i = 0; i < n; i++) {
        if (merged > 0 && counts[merged - 1].token_id == counts[i].token_id) {
            counts[merged - 1].count += counts[i].count;
        } else {
            counts[merged++] = counts[i];
        }
    }
    free(beam->failed);
    beam->failed = counts;
    beam->n_failed = merged;
    return STATUS_OK;
}

// phi(F): fallback_weight * f(F[v]), capped.
static double penalty_of(const struct search_spec *spec, uint32_t count) {
    double f = 1.0;
    if (spec->fallback_penalty == FALLBACK_PENALTY_COUNT) {
        f = count;
    } else if (spec->fallback_penalty == FALLBACK_PENALTY_LOG1P) {
        f = log1p(count);
    }
    return fmin(spec->fallback_cap, spec->fallback_weight * f);
}

static enum status set_penalties(struct search *search, const struct beam *beam) {
    size_t n = beam->n_failed;
    uint32_t *token_ids = malloc((n + 1) * sizeof *token_ids);
    float *values = malloc((n + 1) * sizeof *values);
    if (token_ids == NULL || values == NULL) {
        free(token_ids);
        free(values);
        return STATUS_NO_MEMORY;
    }
    for (size_t i = 0; i < n; i++) {
        token_ids[i] = beam->failed[i].token_id;
        values[i] = (float)penalty_of(&search->spec, beam->failed[i].count);
    }
    free(search->penalties.token_ids);
    free(search->penalties.values);
    search->penalties =
        (struct search_penalties){.token_ids = token_ids, .values = values, .n = (uint32_t)n};
    return STATUS_OK;
}

static enum status retry_step(struct search *search, struct beam *beam) {
    enum status status = count_failed_tokens(search, beam);
    if (status == STATUS_OK) {
        status = set_penalties(search, beam);
    }
    if (status != STATUS_OK) {
        return status;
    }
    beam->try_index++;
    search->tries_used++;
    return make_children(search, beam);
}

static bool same_tokens(const struct candidate *a, const struct candidate *b) {
    return a->n_tokens == b->n_tokens &&
           memcmp(a->history->tokens, b->history->tokens, a->n_tokens * sizeof(uint32_t)) == 0;
}

static int compare_texts(const void *left, const void *right) {
    const struct candidate *a = *(struct candidate *const *)left;
    const struct candidate *b = *(struct candidate *const *)right;
    if (a->n_tokens != b->n_tokens) {
        return a->n_tokens < b->n_tokens ? -1 : 1;
    }
    int order = memcmp(a->history->tokens, b->history->tokens, a->n_tokens * sizeof(uint32_t));
    return order != 0 ? order : a->id < b->id ? -1 : 1;
}

// Keeps the smallest id of each text.
static enum status drop_duplicates(struct search *search, struct candidate_list *list) {
    if (list->count < 2) {
        return STATUS_OK;
    }
    qsort(list->items, list->count, sizeof(struct candidate *), compare_texts);
    size_t kept = 1;
    for (size_t i = 1; i < list->count; i++) {
        struct candidate *candidate = list->items[i];
        if (same_tokens(list->items[kept - 1], candidate)) {
            enum status status = search_drop_candidate(search, candidate, CANDIDATE_FATE_DUPLICATE);
            if (status != STATUS_OK) {
                return status;
            }
        } else {
            list->items[kept++] = candidate;
        }
    }
    list->count = kept;
    return STATUS_OK;
}

// How many go on: K, of fewer children the same share.
static uint32_t count_survivors(const struct search *search) {
    uint64_t scaled = (uint64_t)count_places(search) * search->spec.survivors;
    return scaled >= search->spec.n ? (uint32_t)(scaled / search->spec.n) : 1;
}

// Notes the step's answers. Whether there are K within budget, and the best of them has stood for
// `patience` steps.
static bool has_settled(const struct search *search, struct beam *beam) {
    const struct candidate *best = search->best;
    uint64_t best_id = best != NULL && best->safety.admissible ? best->id : 0;
    beam->n_quiet = best_id == beam->best_id ? beam->n_quiet + 1 : 0;
    beam->best_id = best_id;
    return search->ops->retries && search->spec.patience > 0 &&
           search->n_admissible >= search->spec.survivors && beam->n_quiet >= search->spec.patience;
}

// Under the augmented rule a certain loss never goes on.
static enum status select_survivors(struct search *search, struct beam *beam,
                                    struct candidate_list *rest) {
    preference_sort(&search->spec, rest->items, rest->count);
    bool augmented = search->spec.selection == SEARCH_SELECTION_AUGMENTED;
    uint32_t n_survivors = has_settled(search, beam) ? 0 : count_survivors(search);
    for (size_t i = 0; i < rest->count; i++) {
        struct candidate *candidate = rest->items[i];
        bool lost = augmented && candidate->safety.certain_loss;
        bool taken = beam->survivors.count < n_survivors && !lost;
        enum status status =
            taken ? list_push(&beam->survivors, candidate)
                  : search_drop_candidate(search, candidate,
                                          preference_fate_of_unselected(&search->spec, candidate));
        if (status != STATUS_OK) {
            return status;
        }
    }
    return STATUS_OK;
}

// The parents are inner nodes of the tree from here on.
static enum status retire_survivors(struct search *search, struct beam *beam) {
    for (size_t i = 0; i < beam->survivors.count; i++) {
        enum status status =
            search_drop_candidate(search, beam->survivors.items[i], CANDIDATE_FATE_EXTENDED);
        if (status != STATUS_OK) {
            return status;
        }
    }
    beam->survivors.count = 0;
    return STATUS_OK;
}

// Sorts the step's children into finished and growing ones; those of failed earlier tries are
// dropped when a later try succeeded.
static enum status sort_children(struct search *search, struct beam *beam, bool rescued,
                                 struct candidate_list *rest) {
    for (size_t i = 0; i < beam->children.count; i++) {
        struct candidate *child = beam->children.items[i];
        enum status status;
        if (child->finish != SEARCH_FINISH_NONE) {
            status = search_finish_candidate(search, child);
        } else if (child->unread != 0 || (rescued && i < beam->try_begin)) {
            status = search_drop_candidate(search, child,
                                           preference_fate_of_unselected(&search->spec, child));
        } else {
            status = list_push(rest, child);
        }
        if (status != STATUS_OK) {
            return status;
        }
    }
    return STATUS_OK;
}

// The search begins with one child, which is a given text.
static enum status start_with_prefix(struct search *search, struct beam *beam, uint32_t index) {
    beam->n = 1;
    clear_penalties(search, beam);
    beam->children.count = 0;
    beam->try_index = search->spec.tries; // it is the same at every try
    enum status status = make_children(search, beam);
    if (status == STATUS_OK) {
        struct candidate *child = beam->children.items[0];
        child->prefix_index = index;
        child->grow_tokens = search->spec.prefix_tokens_max < search->spec.max_tokens
                                 ? search->spec.prefix_tokens_max
                                 : search->spec.max_tokens;
    }
    return status;
}

// Searches that may follow the first.
static uint32_t count_fallbacks(const struct search_spec *spec) {
    return (spec->fallback_temperature > 0 ? 1 : 0) + spec->n_prefixes;
}

// No candidate is left. Where none ended within budget, the search begins anew at the prompt with
// the next fallback, if there is one: hotter, then with each prefix.
static enum status end_search(struct search *search, struct beam *beam) {
    const struct search_spec *spec = &search->spec;
    bool over = search->n_admissible > 0 || search->n_restarts == count_fallbacks(spec);
    if (over || !search->ops->retries) {
        return STATUS_OK;
    }
    uint32_t n_hotter = spec->fallback_temperature > 0 ? 1 : 0;
    search->n_restarts++;
    search->temperature = search->n_restarts <= n_hotter ? (float)spec->fallback_temperature : 0;
    return search->n_restarts <= n_hotter
               ? start_step(search, beam)
               : start_with_prefix(search, beam, search->n_restarts - n_hotter);
}

static enum status finish_step(struct search *search, struct beam *beam, bool rescued) {
    struct candidate_list rest = {.count = 0};
    search->steps++;
    enum status status = sort_children(search, beam, rescued, &rest);
    if (status == STATUS_OK) {
        status = retire_survivors(search, beam);
    }
    if (status == STATUS_OK) {
        status = drop_duplicates(search, &rest);
    }
    if (status == STATUS_OK) {
        status = select_survivors(search, beam, &rest);
    }
    free(rest.items);
    if (status != STATUS_OK) {
        return status;
    }
    return beam->survivors.count > 0 ? start_step(search, beam) : end_search(search, beam);
}

// Lets those of a failed try that stopped inside their blocks go on to the ends: the penalties of
// the next count their tokens. False: none did.
static enum status complete_try(struct search *search, struct beam *beam, bool *any) {
    enum status status = STATUS_OK;
    *any = false;
    for (size_t i = beam->try_begin; i < beam->children.count && status == STATUS_OK; i++) {
        struct candidate *child = beam->children.items[i];
        if (child->in_block) {
            status = search_mark_ready(search, child);
            child->grow_tokens = child->block_end - child->n_tokens;
            beam->n_pending++;
            search->n_aborted--;
            *any = true;
        }
    }
    return status;
}

static bool any_viable(const struct search_spec *spec, const struct beam *beam) {
    for (size_t i = beam->try_begin; i < beam->children.count; i++) {
        if (beam->children.items[i]->unread == 0 &&
            preference_is_viable(spec, beam->children.items[i])) {
            return true;
        }
    }
    return false;
}

// The different texts of the try that scorers have not read, the smallest id of each, best first as
// the critic sees them. NULL: no memory.
static struct candidate **list_unread(const struct search *search, const struct beam *beam,
                                      size_t *count) {
    size_t n = beam->children.count - beam->try_begin;
    struct candidate **list = malloc((n + 1) * sizeof(struct candidate *));
    *count = 0;
    if (list == NULL) {
        return NULL;
    }
    size_t n_growing = 0;
    for (size_t i = beam->try_begin; i < beam->children.count; i++) {
        if (beam->children.items[i]->finish == SEARCH_FINISH_NONE) {
            list[n_growing++] = beam->children.items[i];
        }
    }
    qsort(list, n_growing, sizeof(struct candidate *), compare_texts);
    const struct candidate *text = NULL; // the first of the equal ones
    for (size_t i = 0; i < n_growing; i++) {
        struct candidate *candidate = list[i];
        bool repeats = text != NULL && same_tokens(text, candidate);
        text = repeats ? text : candidate;
        if (!repeats && candidate->unread != 0) {
            list[(*count)++] = candidate;
        }
    }
    preference_sort(&search->spec, list, *count);
    return list;
}

// Has the scorers read a share of what they have not read of the try, at least as many as survive.
static enum status score_share(struct search *search, struct beam *beam, double share) {
    size_t count = 0;
    struct candidate **list = list_unread(search, beam, &count);
    if (list == NULL) {
        return STATUS_NO_MEMORY;
    }
    size_t least = count_survivors(search);
    least = least < count ? least : count;
    size_t wanted = (size_t)ceil(share * (double)count);
    wanted = wanted > least ? wanted : least;
    enum status status = STATUS_OK;
    // Backwards: what is marked goes in front of the queue.
    for (size_t i = wanted; i > 0 && status == STATUS_OK; i--) {
        status = search_mark_unread(search, list[i - 1]);
    }
    beam->n_pending = wanted;
    free(list);
    return status;
}

// All children of the try have come back: what scorers have not read goes to them first. The rest
// of it too where all that they read is over budget.
static enum status score_next(struct search *search, struct beam *beam, bool viable) {
    if (search->spec.critic_unread == 0 || (beam->shared && viable)) {
        return STATUS_OK;
    }
    double share = beam->shared ? 1 : search->spec.critic_keep;
    beam->shared = true;
    return score_share(search, beam, share);
}

// All children of the try are there.
static enum status end_try(struct search *search, struct beam *beam) {
    bool rescued = any_viable(&search->spec, beam);
    enum status status = score_next(search, beam, rescued);
    if (status != STATUS_OK || beam->n_pending > 0) {
        return status;
    }
    if (rescued || !search->ops->retries || beam->try_index >= search->spec.tries) {
        return finish_step(search, beam, rescued);
    }
    bool waits = false;
    status = complete_try(search, beam, &waits);
    return status != STATUS_OK || waits ? status : retry_step(search, beam);
}

static enum status on_grown(struct search *search, struct candidate *candidate) {
    struct beam *beam = search->method_state;
    if (candidate->in_block && !candidate->safety.certain_loss) {
        return search_mark_ready(search, candidate);
    }
    search->n_aborted += candidate->in_block ? 1 : 0;
    ASSERT(beam->n_pending > 0);
    beam->n_pending--;
    return beam->n_pending > 0 ? STATUS_OK : end_try(search, beam);
}

static uint64_t candidates_bound(const struct search_spec *spec) {
    uint64_t steps = blocks_count(spec);
    uint64_t tries = search_method_find(spec->method)->retries ? spec->tries : 1;
    return spec->n * steps * tries * (1 + (uint64_t)count_fallbacks(spec)) + spec->n_prefixes;
}

const struct search_method_ops search_beam_ops = {
    .candidates_bound = candidates_bound,
    .start = start,
    .on_grown = on_grown,
    .destroy = destroy,
    .discounts_reward = true,
};

const struct search_method_ops search_inference_guard_ops = {
    .candidates_bound = candidates_bound,
    .start = start,
    .on_grown = on_grown,
    .destroy = destroy,
    .discounts_reward = true,
    .retries = true,
};
