#include "coordinator/job_row.h"

#include <math.h>

#include "coordinator/job_critic.h"

static enum status check_tokens(const Surefoot__Row *row, struct error *err) {
    if (row->n_logprobs != row->n_token_ids) {
        return error_set(err, STATUS_MALFORMED, "row.logprobs", "%zu for %zu tokens",
                         row->n_logprobs, row->n_token_ids);
    }
    if (row->n_token_ids > LIMIT_MAX_TOKENS) {
        return error_set(err, STATUS_MALFORMED, "row.token_ids", "%zu tokens, the limit is %d",
                         row->n_token_ids, LIMIT_MAX_TOKENS);
    }
    if (row->finish > SUREFOOT__FINISH__FINISH_LENGTH) {
        return error_set(err, STATUS_MALFORMED, "row.finish", "unknown number %u", row->finish);
    }
    for (size_t i = 0; i < row->n_token_ids; i++) {
        if (row->token_ids[i] >= LIMIT_VOCAB || !isfinite(row->logprobs[i])) {
            return error_set(err, STATUS_MALFORMED, "row.token_ids", "token %zu is out of range",
                             i);
        }
    }
    return STATUS_OK;
}

// The reading of a finished text; *count: how many places have scores.
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

// Of each scorer one at most; the search knows which of them should be there.
static enum status check_scores(const struct job_spec *spec, const Surefoot__Row *row,
                                struct error *err) {
    bool seen[LIMIT_SCORERS] = {false};
    size_t n_scorers = spec->n_scorers;
    for (size_t i = 0; i < row->n_scores; i++) {
        const Surefoot__RowScore *score = row->scores[i];
        if (score->scorer_index >= n_scorers || seen[score->scorer_index]) {
            return error_set(err, STATUS_MALFORMED, "row.scores", "scorer %u of %zu, or twice",
                             score->scorer_index, n_scorers);
        }
        seen[score->scorer_index] = true;
    }
    return STATUS_OK;
}

// o_t of a row that goes on, where the job asks for it.
static enum status check_state(const struct job_spec *spec, const Surefoot__Row *row,
                               struct error *err) {
    size_t want = row->finish == SUREFOOT__FINISH__FINISH_NONE ? spec->state_bytes : 0;
    size_t size = row->has_state ? row->state.len : 0;
    if (size != want) {
        return error_set(err, STATUS_MALFORMED, "row.state", "%zu bytes instead of %zu", size,
                         want);
    }
    for (size_t i = 0; i < size; i += 2) {
        if ((row->state.data[i + 1] & 0x7F) == 0x7F && (row->state.data[i] & 0x80) != 0) {
            return error_set(err, STATUS_MALFORMED, "row.state", "element %zu is NaN or infinite",
                             i / 2);
        }
    }
    return STATUS_OK;
}

enum status job_row_check(const struct job_spec *spec, const Surefoot__Row *row, uint32_t before,
                          uint32_t *n_places, struct error *err) {
    enum status status = check_tokens(row, err);
    if (status == STATUS_OK) {
        status = check_reading(row, before, n_places, err);
    }
    if (status == STATUS_OK) {
        status = check_state(spec, row, err);
    }
    if (status == STATUS_OK) {
        status = job_critic_check_row(spec, row, err);
    }
    return status == STATUS_OK ? check_scores(spec, row, err) : status;
}
