#include "worker/decode/sampling_edit.h"

#include <float.h>
#include <math.h>

// A mark counts a token's occurrences in units of MARK_ONE, above two flags.
enum { MARK_EDITED = 1, MARK_PENALIZED = 2, MARK_ONE = 4 };

bool sampling_edit_needed(const struct sampling_row *row) {
    const struct sampling_params *params = row->params;
    return params->bias.n > 0 || row->penalty.n > 0 || row->n_forbidden > 0 ||
           params->repetition_penalty != 1 || params->frequency_penalty != 0;
}

static bool in_vocab(const struct sampling_edit *edit, int32_t id) {
    return id >= 0 && id < edit->vocab;
}

static void clear_marks(struct sampling_edit *edit, const int32_t *ids, int32_t n) {
    for (int32_t i = 0; i < n; i++) {
        if (in_vocab(edit, ids[i])) {
            edit->marks[ids[i]] = 0;
        }
    }
}

// Keeps edited logits ordered: never NaN, never +inf.
static float clamp_logit(float logit) {
    return logit > FLT_MAX ? FLT_MAX : logit >= -FLT_MAX ? logit : -INFINITY;
}

static void set_logit(struct sampling_edit *edit, int32_t id, float logit) {
    if ((edit->marks[id] & MARK_EDITED) == 0) {
        edit->marks[id] |= MARK_EDITED;
        edit->ids[edit->n] = id;
        edit->originals[edit->n++] = edit->logits[id];
    }
    edit->logits[id] = clamp_logit(logit);
}

static void add_values(struct sampling_edit *edit, const struct token_values *values, float sign) {
    for (int32_t i = 0; i < values->n; i++) {
        int32_t id = values->token_ids[i];
        if (in_vocab(edit, id)) {
            set_logit(edit, id, edit->logits[id] + sign * values->values[i]);
        }
    }
}

// Keskar et al. 2019, section 4.1, in the form that also lowers negative logits; once per id.
static void penalize_seen(struct sampling_edit *edit, const int32_t *ids, int32_t n,
                          float penalty) {
    for (int32_t i = 0; i < n; i++) {
        int32_t id = ids[i];
        if (in_vocab(edit, id) && (edit->marks[id] & MARK_PENALIZED) == 0) {
            float logit = edit->logits[id];
            edit->marks[id] |= MARK_PENALIZED;
            set_logit(edit, id, logit > 0 ? logit / penalty : logit * penalty);
        }
    }
}

static void penalize_frequency(struct sampling_edit *edit, const struct sampling_row *row) {
    for (int32_t i = 0; i < row->n_response; i++) {
        if (in_vocab(edit, row->response_ids[i])) {
            edit->marks[row->response_ids[i]] += MARK_ONE;
        }
    }
    for (int32_t i = 0; i < row->n_response; i++) {
        int32_t id = row->response_ids[i];
        if (in_vocab(edit, id) && edit->marks[id] >= MARK_ONE) {
            float count = (float)(edit->marks[id] / MARK_ONE);
            edit->marks[id] %= MARK_ONE;
            set_logit(edit, id, edit->logits[id] - count * row->params->frequency_penalty);
        }
    }
}

void sampling_edit_apply(struct sampling_edit *edit, const struct sampling_row *row) {
    const struct sampling_params *params = row->params;
    edit->n = 0;
    clear_marks(edit, params->bias.token_ids, params->bias.n);
    clear_marks(edit, row->penalty.token_ids, row->penalty.n);
    clear_marks(edit, row->forbidden_ids, row->n_forbidden);
    if (params->repetition_penalty != 1) {
        clear_marks(edit, row->prompt_ids, row->n_prompt);
    }
    if (params->repetition_penalty != 1 || params->frequency_penalty != 0) {
        clear_marks(edit, row->response_ids, row->n_response);
    }
    add_values(edit, &params->bias, 1);
    add_values(edit, &row->penalty, -1);
    if (params->repetition_penalty != 1) {
        penalize_seen(edit, row->prompt_ids, row->n_prompt, params->repetition_penalty);
        penalize_seen(edit, row->response_ids, row->n_response, params->repetition_penalty);
    }
    if (params->frequency_penalty != 0) {
        penalize_frequency(edit, row);
    }
    for (int32_t i = 0; i < row->n_forbidden; i++) {
        if (in_vocab(edit, row->forbidden_ids[i])) {
            set_logit(edit, row->forbidden_ids[i], -INFINITY);
        }
    }
}

float sampling_edit_original(const struct sampling_edit *edit, int32_t id) {
    for (int32_t i = 0; i < edit->n; i++) {
        if (edit->ids[i] == id) {
            return edit->originals[i];
        }
    }
    return edit->logits[id];
}
