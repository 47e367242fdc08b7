#include "coordinator/search/candidate.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/search/combine.h"
#include "coordinator/search/preference.h"
#include "coordinator/search/text_set.h"

const char *candidate_fate_name(enum candidate_fate fate) {
    static const char *const names[] = {
        [CANDIDATE_FATE_LIVE] = "live",
        [CANDIDATE_FATE_CHOSEN] = "chosen",
        [CANDIDATE_FATE_FINISHED] = "finished",
        [CANDIDATE_FATE_PRUNED_SOUND] = "pruned-sound",
        [CANDIDATE_FATE_PRUNED_HEURISTIC] = "pruned-heuristic",
        [CANDIDATE_FATE_NOT_SELECTED] = "not-selected",
        [CANDIDATE_FATE_DUPLICATE] = "duplicate",
        [CANDIDATE_FATE_EXTENDED] = "extended",
        [CANDIDATE_FATE_UNSCORED] = "unscored",
    };
    ASSERT((size_t)fate < sizeof names / sizeof names[0]);
    return names[fate];
}

static void history_release(struct history *history) {
    if (history == NULL || --history->n_owners > 0) {
        return;
    }
    free(history->tokens);
    free(history->logprobs);
    free(history->token_scores);
    free(history->block_ends);
    free(history->end_scores);
    free(history);
}

static uint32_t larger(uint32_t a, uint32_t b) {
    return a > b ? a : b;
}

// Grows an array in place; the old one stays valid when there is no memory.
static bool resize(void *array_pointer, size_t count, size_t element_bytes) {
    void **array = array_pointer;
    void *grown = realloc(*array, (count + 1) * element_bytes);
    if (grown == NULL) {
        return false;
    }
    *array = grown;
    return true;
}

static bool reserve_tokens(struct history *history, uint32_t count) {
    if (count <= history->token_capacity) {
        return true;
    }
    uint32_t capacity = larger(count, 2 * history->token_capacity);
    if (!resize(&history->tokens, capacity, sizeof *history->tokens) ||
        !resize(&history->logprobs, capacity, sizeof *history->logprobs)) {
        return false;
    }
    history->token_capacity = capacity;
    return true;
}

// Rows of scorers move when their length does.
static bool reserve_places(struct history *history, uint32_t count, uint32_t n_scorers) {
    if (count <= history->place_capacity) {
        return true;
    }
    uint32_t before = history->place_capacity;
    uint32_t capacity = larger(count, 2 * before);
    float *scores = calloc((size_t)n_scorers * capacity + 1, sizeof *scores);
    if (scores == NULL) {
        return false;
    }
    for (uint32_t i = 0; i < n_scorers && before > 0; i++) {
        memcpy(scores + (size_t)i * capacity, history->token_scores + (size_t)i * before,
               before * sizeof *scores);
    }
    free(history->token_scores);
    history->token_scores = scores;
    history->place_capacity = capacity;
    return true;
}

static bool reserve_blocks(struct history *history, uint32_t count, uint32_t n_scorers) {
    if (count <= history->block_capacity) {
        return true;
    }
    uint32_t capacity = larger(count, 2 * history->block_capacity);
    if (!resize(&history->block_ends, capacity, sizeof *history->block_ends) ||
        !resize(&history->end_scores, (size_t)capacity * n_scorers, sizeof *history->end_scores)) {
        return false;
    }
    history->block_capacity = capacity;
    return true;
}

static bool reserve(struct history *history, const struct search_spec *spec, uint32_t n_tokens,
                    uint32_t n_places, uint32_t n_blocks) {
    return reserve_tokens(history, n_tokens) &&
           reserve_places(history, n_places, spec->n_scorers) &&
           reserve_blocks(history, n_blocks, spec->n_scorers);
}

// What the candidate has of a history that others have too.
static void copy_history(const struct candidate *candidate, uint32_t n_scorers,
                         struct history *copy) {
    const struct history *from = candidate->history;
    memcpy(copy->tokens, from->tokens, candidate->n_tokens * sizeof *copy->tokens);
    memcpy(copy->logprobs, from->logprobs, candidate->n_tokens * sizeof *copy->logprobs);
    for (uint32_t i = 0; i < n_scorers; i++) {
        memcpy(copy->token_scores + (size_t)i * copy->place_capacity,
               from->token_scores + (size_t)i * from->place_capacity,
               candidate->n_places * sizeof *copy->token_scores);
    }
    memcpy(copy->block_ends, from->block_ends, candidate->n_blocks * sizeof *copy->block_ends);
    memcpy(copy->end_scores, from->end_scores,
           (size_t)candidate->n_blocks * n_scorers * sizeof *copy->end_scores);
}

// Gives the candidate a history of its own with room for so much.
static bool own_history(struct candidate *candidate, const struct search_spec *spec,
                        uint32_t n_tokens, uint32_t n_places, uint32_t n_blocks) {
    if (candidate->history != NULL && candidate->history->n_owners == 1) {
        return reserve(candidate->history, spec, n_tokens, n_places, n_blocks);
    }
    struct history *own = calloc(1, sizeof *own);
    if (own == NULL) {
        return false;
    }
    own->n_owners = 1;
    // A finished text's reading can have fewer places than there were.
    if (!reserve(own, spec, n_tokens, larger(n_places, candidate->n_places), n_blocks)) {
        history_release(own);
        return false;
    }
    if (candidate->history != NULL) {
        copy_history(candidate, spec->n_scorers, own);
        history_release(candidate->history);
    }
    candidate->history = own;
    return true;
}

struct candidate *candidate_create(uint64_t id, const struct candidate *parent) {
    struct candidate *candidate = calloc(1, sizeof *candidate);
    if (candidate == NULL) {
        return NULL;
    }
    candidate->id = id;
    if (parent != NULL) {
        candidate->parent_id = parent->id;
        candidate->history = parent->history;
        candidate->history->n_owners++;
        candidate->n_tokens = parent->n_tokens;
        candidate->n_places = parent->n_places;
        candidate->n_blocks = parent->n_blocks;
        candidate->foretold_error = parent->foretold_error;
    }
    candidate->safety.admissible = true;
    return candidate;
}

void candidate_drop_history(struct candidate *candidate) {
    history_release(candidate->history);
    free(candidate->text);
    free((void *)(uintptr_t)candidate->reading.ids);
    candidate->history = NULL;
    candidate->text = NULL;
    candidate->reading = (struct reading){.n_ids = 0};
}

void candidate_destroy(struct candidate *candidate) {
    if (candidate != NULL) {
        candidate_drop_history(candidate);
        free(candidate);
    }
}

struct search_scores candidate_scores(const struct candidate *candidate,
                                      const float *prompt_scores) {
    const struct history *history = candidate->history;
    if (history == NULL) {
        return (struct search_scores){.prompt_scores = prompt_scores};
    }
    return (struct search_scores){
        .token_scores = history->token_scores,
        .stride = history->place_capacity,
        .n_places = candidate->n_places,
        .n_tokens = candidate->n_tokens,
        .block_ends = history->block_ends,
        .end_scores = history->end_scores,
        .n_blocks = candidate->n_blocks,
        .prompt_scores = prompt_scores,
    };
}

// One scorer's part of a row after which `n_places` places have scores.
static enum status check_score(const struct candidate *candidate, const struct search_score *score,
                               uint32_t index, bool is_cost, uint32_t n_places, struct error *err) {
    if (!isfinite(score->end_score) || !isfinite(score->prompt_score)) {
        return error_set(err, STATUS_MALFORMED, "row.scores", "scorer %u: not a finite number",
                         index);
    }
    if (!is_cost) {
        return STATUS_OK;
    }
    if (score->from > candidate->n_places || score->from > n_places ||
        score->n_token_scores != n_places - score->from) {
        return error_set(err, STATUS_MALFORMED, "row.scores",
                         "scorer %u: %zu scores from token %u for a text of %u", index,
                         score->n_token_scores, score->from, n_places);
    }
    for (size_t i = 0; i < score->n_token_scores; i++) {
        if (!isfinite(score->token_scores[i])) {
            return error_set(err, STATUS_MALFORMED, "row.scores",
                             "scorer %u: token score %zu is not a finite number", index, i);
        }
    }
    return STATUS_OK;
}

static enum status check_scores(const struct candidate *candidate, const struct search_spec *spec,
                                const struct search_row *row, struct error *err) {
    if (row->finish == SEARCH_FINISH_NONE && row->n_places != candidate->n_tokens + row->n_tokens) {
        return error_set(err, STATUS_MALFORMED, "row.scores",
                         "candidate %" PRIu64 ": %u places of an unfinished text of %u tokens",
                         row->candidate_id, row->n_places, candidate->n_tokens + row->n_tokens);
    }
    // What has ended is read by all, whatever the worker calls it.
    bool full = candidate->n_tokens + row->n_tokens >= spec->max_tokens;
    uint32_t unread = row->finish == SEARCH_FINISH_NONE && !full ? candidate->unread_by : 0;
    for (uint32_t i = 0; i < spec->n_scorers; i++) {
        if ((row->unread_by >> i & 1) != (unread >> i & 1)) {
            return error_set(err, STATUS_MALFORMED, "row.scores", "scorer %u: %s score", i,
                             (unread >> i & 1) != 0 ? "an unasked" : "no");
        }
        if ((unread >> i & 1) != 0) {
            continue;
        }
        enum status status = check_score(candidate, &row->scores[i], i, spec->scorers[i].is_cost,
                                         row->n_places, err);
        if (status != STATUS_OK) {
            return status;
        }
    }
    return STATUS_OK;
}

uint32_t candidate_shortest_row(const struct candidate *candidate, const struct search_spec *spec) {
    if (candidate->prefix_index > 0) {
        return 1;
    }
    bool varies = spec->entropy_threshold > 0 && spec->segment_tokens_min < candidate->grow_tokens;
    return varies ? spec->segment_tokens_min : candidate->grow_tokens;
}

enum status candidate_check_row(const struct candidate *candidate, const struct search_spec *spec,
                                const struct search_row *row, struct error *err) {
    if (candidate->grow_tokens == 0 && row->finish != SEARCH_FINISH_NONE) {
        return error_set(err, STATUS_MALFORMED, "row.finish", "ended by being scored");
    }
    if (row->n_tokens > candidate->grow_tokens) {
        return error_set(err, STATUS_MALFORMED, "row.token_ids",
                         "%u tokens, at most %u were asked for", row->n_tokens,
                         candidate->grow_tokens);
    }
    bool takes_one = candidate->token_rank > 0;
    if ((row->finish == SEARCH_FINISH_NONE || takes_one) &&
        row->n_tokens < candidate_shortest_row(candidate, spec)) {
        return error_set(err, STATUS_MALFORMED, "row.finish", "unfinished after %u of %u tokens",
                         row->n_tokens, candidate->grow_tokens);
    }
    return check_scores(candidate, spec, row, err);
}

// What a result shows of a finished candidate.
static bool keep_text(struct candidate *candidate, const struct search_row *row) {
    candidate->text = strdup(row->text != NULL ? row->text : "");
    uint32_t *ids = malloc((row->reading.n_ids + 1) * sizeof *ids);
    candidate->reading = row->reading;
    candidate->reading.ids = ids;
    if (candidate->text == NULL || ids == NULL) {
        return false;
    }
    if (row->reading.n_ids > 0) {
        memcpy(ids, row->reading.ids, row->reading.n_ids * sizeof *ids);
    }
    candidate->text_digest = text_digest(candidate->text);
    return true;
}

// What stands for the score of a scorer that left the newest block out.
static void stand_in(struct candidate *candidate, const struct search_spec *spec, uint32_t scorer,
                     float *end_scores) {
    struct history *history = candidate->history;
    bool first = candidate->n_blocks == 1;
    uint32_t before = first ? 0 : history->block_ends[candidate->n_blocks - 2];
    end_scores[scorer] = first ? 0 : (end_scores - spec->n_scorers)[scorer];
    float *kept = history->token_scores + (size_t)scorer * history->place_capacity;
    for (uint32_t t = before; t < candidate->n_places; t++) {
        kept[t] = 0;
    }
}

static void append_tokens(struct candidate *candidate, const struct search_spec *spec,
                          const struct search_row *row) {
    struct history *history = candidate->history;
    for (uint32_t i = 0; i < row->n_tokens; i++) {
        history->tokens[candidate->n_tokens + i] = row->token_ids[i];
        history->logprobs[candidate->n_tokens + i] = row->logprobs[i];
    }
    candidate->n_tokens += row->n_tokens;
    // A block that was only begun goes on.
    candidate->n_blocks += candidate->in_block ? 0 : 1;
    history->block_ends[candidate->n_blocks - 1] = candidate->n_tokens;
    candidate->in_block = spec->abort_tokens > 0 && candidate->prefix_index == 0 &&
                          row->finish == SEARCH_FINISH_NONE &&
                          candidate->n_tokens < candidate->block_end;
    candidate->prefix_index = 0; // what comes now is drawn, or scored
    candidate->grown = true;
}

static void take_scores(struct candidate *candidate, const struct search_spec *spec,
                        const struct search_row *row) {
    struct history *history = candidate->history;
    float *end_scores = history->end_scores + (size_t)(candidate->n_blocks - 1) * spec->n_scorers;
    bool scored_alone = candidate->grow_tokens == 0;
    candidate->n_places = row->n_places;
    for (uint32_t i = 0; i < spec->n_scorers; i++) {
        if ((row->unread_by >> i & 1) != 0) {
            if (!scored_alone) {
                stand_in(candidate, spec, i, end_scores);
            }
            continue;
        }
        const struct search_score *score = &row->scores[i];
        end_scores[i] = score->end_score;
        float *kept = history->token_scores + (size_t)i * history->place_capacity;
        for (size_t t = 0; spec->scorers[i].is_cost && t < score->n_token_scores; t++) {
            kept[score->from + t] = score->token_scores[t];
        }
    }
    candidate->unread = scored_alone ? 0 : row->unread_by;
    candidate->reward = combine_reward(spec, end_scores);
}

// Of what f2 misses of a text, the part that it misses of those that go on from it too: measured,
// docs/methods/critic.md.
static const double error_kept = 0.5;

static void take_foretold(struct candidate *candidate, const struct search_spec *spec,
                          const struct search_row *row) {
    candidate->within = 1.0;
    if (candidate->unread == 0) {
        candidate->foretold_error = candidate->reward - row->foretold_reward;
    }
    candidate->foretold_reward = row->foretold_reward + error_kept * candidate->foretold_error;
    for (uint32_t i = 0; i < spec->n_critic_channels; i++) {
        double z = candidate->safety.channels[spec->critic_channels[i]].z;
        candidate->within = fmin(candidate->within, cost_to_go_within(&row->costs_to_go[i], z));
    }
}

static enum status no_memory(const struct candidate *candidate, struct error *err) {
    return error_set(err, STATUS_NO_MEMORY, "", "no memory for candidate %" PRIu64, candidate->id);
}

enum status candidate_append_row(struct candidate *candidate, const struct search_spec *spec,
                                 const float *prompt_scores, const struct search_row *row,
                                 struct error *err) {
    bool scored_alone = candidate->grow_tokens == 0;
    if (!own_history(candidate, spec, candidate->n_tokens + row->n_tokens, row->n_places,
                     candidate->n_blocks + (scored_alone ? 0 : 1))) {
        return no_memory(candidate, err);
    }
    if (!scored_alone) {
        append_tokens(candidate, spec, row);
    }
    take_scores(candidate, spec, row);
    // A candidate that fills max_tokens has ended, whatever the worker calls it.
    bool full = candidate->n_tokens >= spec->max_tokens;
    candidate->finish =
        row->finish == SEARCH_FINISH_NONE && full ? SEARCH_FINISH_LENGTH : row->finish;
    if (candidate->finish != SEARCH_FINISH_NONE && !keep_text(candidate, row)) {
        return no_memory(candidate, err);
    }
    static const float unknown[LIMIT_SCORERS] = {0};
    bool first_unread = candidate->unread != 0 && candidate->n_blocks == 1;
    struct search_scores scores =
        candidate_scores(candidate, first_unread ? unknown : prompt_scores);
    struct safety_state state;
    safety_evaluate(spec, &scores, &state);
    candidate->lagrangian_cost = preference_lagrangian_cost(spec, &scores, &state);
    if (!candidate->lost || !state.admissible) {
        candidate->safety = state;
    }
    candidate->lost = candidate->lost ||
                      (state.certain_loss && candidate->finish == SEARCH_FINISH_NONE &&
                       candidate->unread == 0 && spec->selection == SEARCH_SELECTION_AUGMENTED);
    if (spec->critic_parts > 0 && candidate->finish == SEARCH_FINISH_NONE) {
        take_foretold(candidate, spec, row);
    }
    return candidate->unread == 0 ? safety_check_costs(spec, &state, err) : STATUS_OK;
}
