// What a rank puts into rows. They are allocated as wire_free releases them.
#include <stdlib.h>
#include <string.h>

#include "worker/group/rank_internal.h"

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
    if (scorer->role != SCORER_ROLE_COST || n_scores == 0) {
        return STATUS_OK;
    }
    score->token_scores = malloc((size_t)n_scores * sizeof *score->token_scores);
    if (score->token_scores == NULL) {
        return STATUS_NO_MEMORY;
    }
    memcpy(score->token_scores, extension->token_scores + extension->scores_from,
           (size_t)n_scores * sizeof *score->token_scores);
    score->n_token_scores = (size_t)n_scores;
    score->has_scores_from = true;
    score->scores_from = (uint32_t)extension->scores_from;
    return STATUS_OK;
}

// The text that is returned, as a string of the wire: a NUL character, which such a string cannot
// hold, becomes U+FFFD. Returns owned, NULL: no memory.
static char *copy_text(const struct response *response) {
    static const char replacement[] = "\xef\xbf\xbd";
    size_t bytes = (size_t)response->shown_bytes;
    char *text = malloc(bytes * (sizeof replacement - 1) + 1);
    if (text == NULL) {
        return NULL;
    }
    char *end = text;
    for (size_t i = 0; i < bytes; i++) {
        if (response->text[i] != '\0') {
            *end++ = response->text[i];
        } else {
            memcpy(end, replacement, sizeof replacement - 1);
            end += sizeof replacement - 1;
        }
    }
    *end = '\0';
    return text;
}

enum status rank_row_fill(const struct rank_item *item) {
    Surefoot__Row *row = item->row;
    const struct response *response = &item->candidate->response;
    size_t n = (size_t)(response->n_tokens - item->n_before);
    row->token_ids = malloc(n * sizeof *row->token_ids);
    row->logprobs = malloc(n * sizeof *row->logprobs);
    if (response->finish != DECODE_FINISH_NONE) {
        row->text = copy_text(response);
    }
    if (row->token_ids == NULL || row->logprobs == NULL ||
        (response->finish != DECODE_FINISH_NONE && row->text == NULL)) {
        return STATUS_NO_MEMORY;
    }
    for (size_t i = 0; i < n; i++) {
        row->token_ids[i] = (uint32_t)response->token_ids[item->n_before + (int32_t)i];
        row->logprobs[i] = response->logprobs[item->n_before + (int32_t)i];
    }
    row->n_token_ids = row->n_logprobs = n;
    row->has_finish = true;
    row->finish = (uint32_t)response->finish;
    row->has_prompt_tokens = true;
    row->prompt_tokens = (uint32_t)item->job->params.n_prompt;
    row->n_scores = (size_t)item->job->n_scorers;
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
    row->scores = NULL;
    row->token_ids = NULL;
    row->logprobs = NULL;
    row->text = NULL;
    row->n_scores = row->n_token_ids = row->n_logprobs = 0;
}
