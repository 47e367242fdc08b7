#include "coordinator/job_row.h"

#include <math.h>

// `left` is how many tokens were asked for, at most.
static enum status check_tokens(const Surefoot__Row *row, uint32_t left, struct error *err) {
    if (row->n_logprobs != row->n_token_ids) {
        return error_set(err, STATUS_MALFORMED, "row.logprobs", "%zu for %zu tokens",
                         row->n_logprobs, row->n_token_ids);
    }
    if (row->n_token_ids > left) {
        return error_set(err, STATUS_MALFORMED, "row.token_ids",
                         "%zu tokens, at most %u were asked for", row->n_token_ids, left);
    }
    if (row->finish > SUREFOOT__FINISH__FINISH_LENGTH) {
        return error_set(err, STATUS_MALFORMED, "row.finish", "unknown number %u", row->finish);
    }
    if (row->n_token_ids < left && row->finish == SUREFOOT__FINISH__FINISH_NONE) {
        return error_set(err, STATUS_MALFORMED, "row.finish", "unfinished after %zu of %u tokens",
                         row->n_token_ids, left);
    }
    for (size_t i = 0; i < row->n_token_ids; i++) {
        if (row->token_ids[i] >= LIMIT_VOCAB || !isfinite(row->logprobs[i])) {
            return error_set(err, STATUS_MALFORMED, "row.token_ids", "token %zu is out of range",
                             i);
        }
    }
    return STATUS_OK;
}

// The reading of a finished text; *count: how many places the row's token scores are of.
static enum status check_reading(const Surefoot__Row *row, uint32_t before, uint32_t *count,
                                 struct error *err) {
    size_t length = before + row->n_token_ids;
    *count = (uint32_t)length;
    if (!row->has_read_from) {
        return STATUS_OK;
    }
    size_t n_read = row->read_from + row->n_read_ids;
    if (row->finish == SUREFOOT__FINISH__FINISH_NONE || row->read_from > length ||
        n_read > LIMIT_CONTEXT_TOKENS) {
        return error_set(err, STATUS_MALFORMED, "row.read_from",
                         "a reading of %zu tokens, from %u of %zu on", n_read, row->read_from,
                         length);
    }
    for (size_t i = 0; i < row->n_read_ids; i++) {
        if (row->read_ids[i] >= LIMIT_VOCAB) {
            return error_set(err, STATUS_MALFORMED, "row.read_ids", "token %zu is out of range", i);
        }
    }
    *count = n_read > 0 ? (uint32_t)n_read : 1;
    return STATUS_OK;
}

static bool is_cost(const struct job_spec *spec, uint32_t scorer_index) {
    return spec->scorers[scorer_index].role == SCORER_ROLE_COST;
}

// One scorer's part of a row after which `length` places have scores; before it `before` had.
static enum status check_score(const struct job_spec *spec, const Surefoot__RowScore *score,
                               uint32_t before, uint32_t length, struct error *err) {
    uint32_t index = score->scorer_index;
    if (!isfinite(score->end_score) || !isfinite(score->prompt_score)) {
        return error_set(err, STATUS_MALFORMED, "row.scores", "scorer %u: not a finite number",
                         index);
    }
    if (!is_cost(spec, index)) {
        return STATUS_OK;
    }
    if (score->scores_from > before || score->scores_from > length ||
        score->n_token_scores != length - score->scores_from) {
        return error_set(err, STATUS_MALFORMED, "row.scores",
                         "scorer %u: %zu scores from token %u for a text of %u", index,
                         score->n_token_scores, score->scores_from, length);
    }
    for (size_t i = 0; i < score->n_token_scores; i++) {
        if (!isfinite(score->token_scores[i])) {
            return error_set(err, STATUS_MALFORMED, "row.scores",
                             "scorer %u: token score %zu is not a finite number", index, i);
        }
    }
    return STATUS_OK;
}

static enum status check_scores(const struct job_spec *spec, const Surefoot__Row *row,
                                uint32_t before, uint32_t length, struct error *err) {
    bool seen[LIMIT_SCORERS] = {false};
    size_t n_scorers = spec->n_scorers;
    if (row->n_scores != n_scorers) {
        return error_set(err, STATUS_MALFORMED, "row.scores", "%zu for %zu scorers", row->n_scores,
                         n_scorers);
    }
    for (size_t i = 0; i < n_scorers; i++) {
        const Surefoot__RowScore *score = row->scores[i];
        if (score->scorer_index >= n_scorers || seen[score->scorer_index]) {
            return error_set(err, STATUS_MALFORMED, "row.scores", "scorer %u of %zu, or twice",
                             score->scorer_index, n_scorers);
        }
        seen[score->scorer_index] = true;
        enum status status = check_score(spec, score, before, length, err);
        if (status != STATUS_OK) {
            return status;
        }
    }
    return STATUS_OK;
}

enum status job_row_check(const struct job_spec *spec, const Surefoot__Row *row, uint32_t before,
                          uint32_t asked, uint32_t *length, struct error *err) {
    uint32_t left = spec->search.max_tokens - before;
    enum status status = check_tokens(row, asked < left ? asked : left, err);
    if (status == STATUS_OK) {
        status = check_reading(row, before, length, err);
    }
    return status == STATUS_OK ? check_scores(spec, row, before, *length, err) : status;
}
