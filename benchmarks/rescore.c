#include "benchmarks/rescore.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "worker/model/context.h"
#include "worker/tokenizer/template.h"

enum { RESCORE_TOKENS_MAX = 2048 };

struct rescorer {
    struct backend *backend;
    struct model *model;
    struct model_context *context;
    struct tokenizer *tokenizer;
    struct template_set *templates;
    const struct template *chat_template;
    int32_t ids[RESCORE_TOKENS_MAX];
    float scores[RESCORE_TOKENS_MAX];
};

static enum status check_profile(struct rescorer *rescorer, struct error *err) {
    const struct model_profile *profile = model_get_profile(rescorer->model);
    bool is_cost = strcmp(profile->role, "cost") == 0;
    if (is_cost && (strcmp(profile->cost_mode, "token_sum_pos") != 0 || !profile->has_discount ||
                    !profile->has_budget)) {
        return error_set(err, STATUS_UNSUPPORTED, "cost_mode",
                         "the profile must name cost_mode token_sum_pos, discount and budget");
    }
    if (!is_cost && !profile->append_eos) {
        return error_set(err, STATUS_UNSUPPORTED, "append_eos",
                         "a reward model must be one that reads an end token");
    }
    return STATUS_OK;
}

static enum status open_parts(struct rescorer *rescorer, const char *directory, int threads,
                              struct error *err) {
    enum status status = backend_create("cpu", threads, &rescorer->backend, err);
    if (status == STATUS_OK) {
        status = model_open(directory, rescorer->backend, PRECISION_STORED, &rescorer->model, err);
    }
    if (status == STATUS_OK) {
        status = check_profile(rescorer, err);
    }
    if (status == STATUS_OK) {
        status = tokenizer_open(directory, &rescorer->tokenizer, err);
    }
    if (status == STATUS_OK) {
        status = template_set_open(directory, rescorer->tokenizer, &rescorer->templates, err);
    }
    if (status == STATUS_OK) {
        status =
            template_find(rescorer->templates, model_get_profile(rescorer->model)->chat_template,
                          &rescorer->chat_template, err);
    }
    if (status != STATUS_OK) {
        return status;
    }
    int32_t longest = model_get_config(rescorer->model)->context_length;
    longest = longest < RESCORE_TOKENS_MAX ? longest : RESCORE_TOKENS_MAX;
    const struct model_context_options options = {
        .n_kv_blocks = longest / KV_BLOCK_TOKENS + 1,
        .n_sequences = 1,
        .batch_rows = 256,
        .output_rows = longest,
        .context_tokens = longest,
    };
    return model_context_create(rescorer->model, &options, &rescorer->context, err);
}

enum status rescorer_open(const char *directory, int threads, struct rescorer **out,
                          struct error *err) {
    struct rescorer *rescorer = calloc(1, sizeof *rescorer);
    if (rescorer == NULL) {
        return error_set(err, STATUS_NO_MEMORY, "", "no memory for the judge");
    }
    enum status status = open_parts(rescorer, directory, threads, err);
    if (status != STATUS_OK) {
        rescorer_close(rescorer);
        return status;
    }
    *out = rescorer;
    return STATUS_OK;
}

void rescorer_close(struct rescorer *rescorer) {
    if (rescorer == NULL) {
        return;
    }
    model_context_destroy(rescorer->context);
    template_set_close(rescorer->templates);
    tokenizer_close(rescorer->tokenizer);
    model_close(rescorer->model);
    backend_destroy(rescorer->backend);
    free(rescorer);
}

double rescorer_budget(const struct rescorer *rescorer) {
    return model_get_profile(rescorer->model)->budget;
}

// Scores at every token of the prompt and `text`, of an end token as well when `ended`.
static enum status score_text(struct rescorer *rescorer, const char *prompt, const char *text,
                              bool ended, size_t *n_prompt, size_t *n_tokens, struct error *err) {
    const struct chat_message message = {.role = "user", .content = prompt};
    const struct chat chat = {.messages = &message, .n_messages = 1};
    enum status status = template_encode(rescorer->chat_template, &chat, rescorer->ids,
                                         RESCORE_TOKENS_MAX, n_prompt, err);
    if (status == STATUS_OK) {
        status = tokenizer_encode(rescorer->tokenizer, text, strlen(text), TOKENIZER_CONTINUATION,
                                  rescorer->ids + *n_prompt, RESCORE_TOKENS_MAX - *n_prompt - 1,
                                  n_tokens, err);
    }
    if (status != STATUS_OK) {
        return status;
    }
    if (ended) {
        rescorer->ids[*n_prompt + (*n_tokens)++] = tokenizer_eos_id(rescorer->tokenizer);
    }
    struct sequence *sequence = sequence_create(rescorer->context);
    ASSERT(sequence != NULL);
    const struct forward_item item = {
        .sequence = sequence,
        .token_ids = rescorer->ids,
        .n_tokens = (int32_t)(*n_prompt + *n_tokens),
        .output = FORWARD_OUTPUT_ALL,
    };
    status = model_forward(rescorer->context, &item, 1, err);
    if (status == STATUS_OK) {
        status = model_score_outputs(rescorer->context, rescorer->scores);
    }
    sequence_destroy(rescorer->context, sequence);
    return status;
}

enum status rescorer_cost(struct rescorer *rescorer, const char *prompt, const char *text,
                          double *cost, struct error *err) {
    size_t n_prompt = 0;
    size_t n_tokens = 0;
    enum status status = score_text(rescorer, prompt, text, false, &n_prompt, &n_tokens, err);
    if (status != STATUS_OK) {
        return status;
    }
    double sum = 0.0;
    double weight = 1.0;
    for (size_t i = 0; i < n_tokens; i++) {
        sum += weight * fmax(0.0, rescorer->scores[n_prompt + i]);
        weight *= model_get_profile(rescorer->model)->discount;
    }
    *cost = sum;
    return STATUS_OK;
}

enum status rescorer_reward(struct rescorer *rescorer, const char *prompt, const char *text,
                            double *reward, struct error *err) {
    size_t n_prompt = 0;
    size_t n_tokens = 0;
    enum status status = score_text(rescorer, prompt, text, true, &n_prompt, &n_tokens, err);
    if (status == STATUS_OK) {
        *reward = rescorer->scores[n_prompt + n_tokens - 1];
    }
    return status;
}
