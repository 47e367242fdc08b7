// What a rank puts into rows. They are allocated as wire_free releases them.
#include <stdlib.h>
#include <string.h>

#include "worker/group/rank_internal.h"
#include "worker/model/element.h"

enum status rank_row_fail(Surefoot__Row *row, const struct error *error) {
    if (row->error != NULL) {
        return STATUS_OK;
    }
    Surefoot__ErrorInfo *info = malloc(sizeof *info);
    char *field = strdup(error->field);
    char *message = strdup(error->message);
    if (info == NULL || field == NULL || message == NULL) {
        free(info);
        free(field);
        free(message);
        return STATUS_NO_MEMORY;
    }
    surefoot__error_info__init(info);
    info->has_status = true;
    info->status = (uint32_t)error->status;
    info->field = field;
    info->message = message;
    row->error = info;
    return STATUS_OK;
}

enum status rank_row_add_score(const struct rank_item *item, int index,
                               const struct scorer_extension *extension) {
    if (item->row->scores == NULL) {
        item->row->scores = calloc((size_t)item->job->n_scorers, sizeof *item->row->scores);
        if (item->row->scores == NULL) {
            return STATUS_NO_MEMORY;
        }
    }
    Surefoot__RowScore *score = malloc(sizeof *score);
    int32_t n_scores = extension->text.n_tokens - extension->scores_from;
    const struct rank_job_scorer *scorer = &item->job->scorers[index];
    if (score == NULL) {
        return STATUS_NO_MEMORY;
    }
    surefoot__row_score__init(score);
    score->has_scorer_index = true;
    score->scorer_index = (uint32_t)index;
    score->has_end_score = true;
    score->end_score = extension->end_score;
    score->has_prompt_score = true;
    score->prompt_score = scorer_prompt_score(scorer->job);
    item->row->scores[index] = score;
    // Token scores of rewards are not asked for: rewards count at the end of a block only.
    if (scorer->role != SCORER_ROLE_COST) {
        return STATUS_OK;
    }
    score->has_scores_from = true;
    score->scores_from = (uint32_t)extension->scores_from;
    if (n_scores == 0) {
        return STATUS_OK;
    }
    score->token_scores = malloc((size_t)n_scores * sizeof *score->token_scores);
    if (score->token_scores == NULL) {
        return STATUS_NO_MEMORY;
    }
    memcpy(score->token_scores, extension->token_scores + extension->scores_from,
           (size_t)n_scores * sizeof *score->token_scores);
    score->n_token_scores = (size_t)n_scores;
    return STATUS_OK;
}

// The scorers read other tokens than the policy wrote: says which.
static enum status fill_reading(const struct response *response, Surefoot__Row *row) {
    size_t n = (size_t)(response->n_read - response->read_from);
    row->has_read_from = true;
    row->read_from = (uint32_t)response->read_from;
    if (n == 0) {
        return STATUS_OK;
    }
    row->read_ids = malloc(n * sizeof *row->read_ids);
    if (row->read_ids == NULL) {
        return STATUS_NO_MEMORY;
    }
    memcpy(row->read_ids, response->read_ids + response->read_from, n * sizeof *row->read_ids);
    row->n_read_ids = n;
    return STATUS_OK;
}

// The end, the text and the reading of a finished response.
static enum status fill_finish(const struct response *response, Surefoot__Row *row) {
    row->has_finish = true;
    row->finish = (uint32_t)response->finish;
    if (response->finish == DECODE_FINISH_NONE) {
        return STATUS_OK;
    }
    row->text = strndup(response->text, (size_t)response->shown_bytes);
    if (row->text == NULL) {
        return STATUS_NO_MEMORY;
    }
    return response_reads_as_written(response) ? STATUS_OK : fill_reading(response, row);
}

// o_t of the last token, as little-endian bf16.
static enum status fill_state(const struct rank *rank, const struct rank_item *item,
                              Surefoot__Row *row) {
    size_t n = (size_t)model_get_config(rank->policy.model)->hidden_dim;
    float *values = malloc(n * sizeof *values);
    uint8_t *bytes = malloc(2 * n);
    enum status status = values != NULL && bytes != NULL ? STATUS_OK : STATUS_NO_MEMORY;
    if (status == STATUS_OK) {
        status = decoder_state_read(rank->decoder, item->candidate->state, values);
    }
    if (status != STATUS_OK) {
        free(values);
        free(bytes);
        return status;
    }
    for (size_t i = 0; i < n; i++) {
        uint16_t bits = element_to_bf16(values[i]);
        bytes[2 * i] = (uint8_t)bits;
        bytes[2 * i + 1] = (uint8_t)(bits >> 8);
    }
    free(values);
    row->has_state = true;
    row->state = (ProtobufCBinaryData){.len = 2 * n, .data = bytes};
    return STATUS_OK;
}

// Scores of the scorers that read the text come to stand side by side.
static void close_gaps(Surefoot__Row *row, int n_scorers) {
    for (int k = 0; row->scores != NULL && k < n_scorers; k++) {
        Surefoot__RowScore *score = row->scores[k];
        if (score != NULL) {
            row->scores[k] = NULL;
            row->scores[row->n_scores++] = score;
        }
    }
}

enum status rank_row_fill(const struct rank *rank, const struct rank_item *item) {
    Surefoot__Row *row = item->row;
    const struct response *response = &item->candidate->response;
    size_t n = (size_t)(response->n_tokens - item->n_before);
    row->token_ids = malloc((n + 1) * sizeof *row->token_ids);
    row->logprobs = malloc((n + 1) * sizeof *row->logprobs);
    if (row->token_ids == NULL || row->logprobs == NULL ||
        fill_finish(response, row) != STATUS_OK) {
        return STATUS_NO_MEMORY;
    }
    for (size_t i = 0; i < n; i++) {
        row->token_ids[i] = (uint32_t)response->token_ids[item->n_before + (int32_t)i];
        row->logprobs[i] = response->logprobs[item->n_before + (int32_t)i];
    }
    row->n_token_ids = row->n_logprobs = n;
    if (item->job->states && response->finish == DECODE_FINISH_NONE) {
        enum status status = fill_state(rank, item, row);
        if (status != STATUS_OK) {
            return status;
        }
    }
    row->has_prompt_tokens = true;
    row->prompt_tokens = (uint32_t)item->job->params.n_prompt;
    close_gaps(row, item->job->n_scorers);
    return STATUS_OK;
}

void rank_row_clear(Surefoot__Row *row, int n_scorers) {
    for (int k = 0; row->scores != NULL && k < n_scorers; k++) {
        if (row->scores[k] != NULL) {
            free(row->scores[k]->token_scores);
            free(row->scores[k]);
        }
    }
    free(row->scores);
    free(row->token_ids);
    free(row->logprobs);
    free(row->text);
    free(row->read_ids);
    free(row->state.data);
    free(row->critic);
    row->critic = NULL;
    row->n_critic = 0;
    row->scores = NULL;
    row->token_ids = NULL;
    row->logprobs = NULL;
    row->text = NULL;
    row->read_ids = NULL;
    row->has_read_from = false;
    row->has_state = false;
    row->state = (ProtobufCBinaryData){0};
    row->n_scores = row->n_token_ids = row->n_logprobs = row->n_read_ids = 0;
}
