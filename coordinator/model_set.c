#include "coordinator/model_set.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/number_text.h"
#include "coordinator/spec_check.h"

static enum status copy_text(char *out, size_t size, const char *text, const char *field,
                             struct error *err) {
    size_t length = text != NULL ? strlen(text) : 0;
    if (length >= size) {
        return error_set(err, STATUS_LIMIT, field, "%zu bytes, the limit is %zu", length, size - 1);
    }
    memcpy(out, text != NULL ? text : "", length + 1);
    return STATUS_OK;
}

static enum status read_texts(const Surefoot__ModelInfo *info, struct model_description *out,
                              struct error *err) {
    const struct {
        char *out;
        size_t size;
        const char *text;
        const char *field;
    } texts[] = {
        {out->name, sizeof out->name, info->name, "name"},
        {out->role, sizeof out->role, info->role, "role"},
        {out->hash, sizeof out->hash, info->hash, "hash"},
        {out->precision, sizeof out->precision, info->precision, "precision"},
        {out->kv_dtype, sizeof out->kv_dtype, info->kv_dtype, "kv_dtype"},
        {out->chat_template, sizeof out->chat_template, info->chat_template, "chat_template"},
        {out->cost_mode, sizeof out->cost_mode, info->cost_mode, "cost_mode"},
        {out->cost_eos, sizeof out->cost_eos, info->cost_eos, "cost_eos"},
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        enum status status =
            copy_text(texts[i].out, texts[i].size, texts[i].text, texts[i].field, err);
        if (status != STATUS_OK) {
            return status;
        }
    }
    return out->name[0] != '\0' ? STATUS_OK
                                : error_set(err, STATUS_INVALID_ARGUMENT, "name", "is empty");
}

static enum status check_generation(const Surefoot__GenerationDefaults *generation,
                                    struct error *err) {
    const struct {
        bool present;
        double value;
        struct number_range range;
        const char *field;
    } numbers[] = {
        {generation->has_temperature,
         generation->temperature,
         {.low = 0, .high = 100, .single = true},
         "generation.temperature"},
        {generation->has_top_p,
         generation->top_p,
         {.low = 0, .high = 1, .above_low = true, .single = true},
         "generation.top_p"},
        {generation->has_repetition_penalty,
         generation->repetition_penalty,
         {.low = 0, .high = 100, .above_low = true, .single = true},
         "generation.repetition_penalty"},
        {generation->has_top_k,
         generation->top_k,
         {.low = 0, .high = LIMIT_TOP_K},
         "generation.top_k"},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        double value = 0;
        enum status status = check_number(numbers[i].present, numbers[i].value, numbers[i].range,
                                          numbers[i].field, &value, err);
        if (status != STATUS_OK) {
            return status;
        }
    }
    return STATUS_OK;
}

static void copy_generation(const Surefoot__GenerationDefaults *from,
                            Surefoot__GenerationDefaults *to) {
    surefoot__generation_defaults__init(to);
    to->has_temperature = from->has_temperature;
    to->temperature = from->temperature;
    to->has_top_k = from->has_top_k;
    to->top_k = from->top_k;
    to->has_top_p = from->has_top_p;
    to->top_p = from->top_p;
    to->has_repetition_penalty = from->has_repetition_penalty;
    to->repetition_penalty = from->repetition_penalty;
    to->has_max_new_tokens = from->has_max_new_tokens && from->max_new_tokens > 0;
    to->max_new_tokens = from->max_new_tokens;
    to->has_do_sample = from->has_do_sample;
    to->do_sample = from->do_sample;
}

static bool same_generation(const struct model_description *a, const struct model_description *b) {
    const Surefoot__GenerationDefaults *x = &a->generation, *y = &b->generation;
    return a->has_generation == b->has_generation && x->has_temperature == y->has_temperature &&
           x->temperature == y->temperature && x->has_top_k == y->has_top_k &&
           x->top_k == y->top_k && x->has_top_p == y->has_top_p && x->top_p == y->top_p &&
           x->has_repetition_penalty == y->has_repetition_penalty &&
           x->repetition_penalty == y->repetition_penalty &&
           x->has_max_new_tokens == y->has_max_new_tokens &&
           x->max_new_tokens == y->max_new_tokens && x->has_do_sample == y->has_do_sample &&
           x->do_sample == y->do_sample;
}

static enum status read_description(const Surefoot__ModelInfo *info, struct model_description *out,
                                    struct error *err) {
    memset(out, 0, sizeof *out);
    if (info == NULL) {
        return error_set(err, STATUS_INVALID_ARGUMENT, NULL, "is missing");
    }
    enum status status = read_texts(info, out, err);
    if (status != STATUS_OK) {
        return status;
    }
    out->context_length = info->context_length;
    out->vocab_size = info->vocab_size;
    out->hidden_dim = info->hidden_dim;
    out->parameter_count = info->parameter_count;
    out->has_budget = info->has_budget;
    out->budget = info->has_budget ? info->budget : 0;
    out->has_discount = info->has_discount;
    out->discount = info->has_discount ? info->discount : 0;
    out->has_cost_min = info->has_cost_min;
    out->cost_min = info->has_cost_min ? info->cost_min : 0;
    out->has_generation = info->generation != NULL;
    if (out->has_generation) {
        enum status checked = check_generation(info->generation, err);
        if (checked != STATUS_OK) {
            return checked;
        }
        copy_generation(info->generation, &out->generation);
    }
    if (out->context_length > LIMIT_CONTEXT_TOKENS) {
        return error_set(err, STATUS_LIMIT, "context_length", "%u tokens, the limit is %d",
                         out->context_length, LIMIT_CONTEXT_TOKENS);
    }
    if (out->vocab_size > LIMIT_VOCAB) {
        return error_set(err, STATUS_LIMIT, "vocab_size", "%u tokens, the limit is %d",
                         out->vocab_size, LIMIT_VOCAB);
    }
    if (out->hidden_dim > LIMIT_STATES_BYTES / 2) {
        return error_set(err, STATUS_LIMIT, "hidden_dim", "%u elements, the limit is %d",
                         out->hidden_dim, LIMIT_STATES_BYTES / 2);
    }
    if (!isfinite(out->budget) || !isfinite(out->cost_min)) {
        return error_set(err, STATUS_INVALID_ARGUMENT,
                         isfinite(out->budget) ? "cost_min" : "budget", "is not a finite number");
    }
    if (out->has_discount && !(out->discount > 0 && out->discount <= 1)) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "discount", "%s is outside (0, 1]",
                         number_text(out->discount, (char[NUMBER_TEXT_BYTES]){0}));
    }
    return STATUS_OK;
}

static enum status read_exempt(const Surefoot__GroupHello *hello, struct model_set *out,
                               struct error *err) {
    if (hello->n_exempt_ids > MODEL_EXEMPT_MAX) {
        return error_set(err, STATUS_LIMIT, "exempt_ids", "%zu tokens, the limit is %d",
                         hello->n_exempt_ids, MODEL_EXEMPT_MAX);
    }
    for (size_t i = 0; i < hello->n_exempt_ids; i++) {
        if (hello->exempt_ids[i] >= LIMIT_VOCAB) {
            return error_set(err, STATUS_INVALID_ARGUMENT, "exempt_ids",
                             "%u is outside the vocabulary limit %d", hello->exempt_ids[i],
                             LIMIT_VOCAB);
        }
        out->exempt_ids[i] = (int32_t)hello->exempt_ids[i];
    }
    out->n_exempt = hello->n_exempt_ids;
    return STATUS_OK;
}

enum status model_set_read(const Surefoot__GroupHello *hello, struct model_set *out,
                           struct error *err) {
    memset(out, 0, sizeof *out);
    enum status status = read_description(hello->policy, &out->policy, err);
    if (status != STATUS_OK) {
        error_prefix_field(err, "policy");
        return status;
    }
    if (hello->n_scorers > LIMIT_SCORERS) {
        return error_set(err, STATUS_LIMIT, "scorers", "%zu scorers, the limit is %d",
                         hello->n_scorers, LIMIT_SCORERS);
    }
    for (size_t i = 0; i < hello->n_scorers; i++) {
        char field[ERROR_FIELD_BYTES];
        snprintf(field, sizeof field, "scorers[%zu]", i);
        status = read_description(hello->scorers[i], &out->scorers[i], err);
        if (status != STATUS_OK) {
            error_prefix_field(err, field);
            return status;
        }
        if (model_set_find(out, out->scorers[i].name) != NULL) {
            return error_set(err, STATUS_INVALID_ARGUMENT, field, "a second scorer named %s",
                             out->scorers[i].name);
        }
        out->n_scorers++;
    }
    status = critic_description_read(hello->critic, false, &out->critic, err);
    if (status != STATUS_OK) {
        error_prefix_field(err, "critic");
        return status;
    }
    status = critic_description_read(hello->value, true, &out->value, err);
    if (status != STATUS_OK) {
        error_prefix_field(err, "value");
        return status;
    }
    out->block_tokens_max = hello->has_order_tokens_max && hello->order_tokens_max > 0 &&
                                    hello->order_tokens_max < LIMIT_BLOCK_TOKENS
                                ? hello->order_tokens_max
                                : LIMIT_BLOCK_TOKENS;
    return read_exempt(hello, out, err);
}

static bool same_profile(const struct model_description *a, const struct model_description *b) {
    return strcmp(a->role, b->role) == 0 && strcmp(a->chat_template, b->chat_template) == 0 &&
           strcmp(a->cost_mode, b->cost_mode) == 0 && strcmp(a->cost_eos, b->cost_eos) == 0 &&
           a->context_length == b->context_length && a->vocab_size == b->vocab_size &&
           a->hidden_dim == b->hidden_dim && a->has_budget == b->has_budget &&
           a->budget == b->budget && a->has_discount == b->has_discount &&
           a->discount == b->discount && a->has_cost_min == b->has_cost_min &&
           a->cost_min == b->cost_min;
}

static enum status agree(const struct model_description *ours,
                         const struct model_description *other, const char *field,
                         struct error *err) {
    if (strcmp(ours->name, other->name) != 0 || strcmp(ours->hash, other->hash) != 0) {
        return error_set(err, STATUS_INVALID_ARGUMENT, field,
                         "%s (hash %.12s) where the service runs %s (hash %.12s)", other->name,
                         other->hash, ours->name, ours->hash);
    }
    if (strcmp(ours->precision, other->precision) != 0) {
        return error_set(err, STATUS_INVALID_ARGUMENT, field,
                         "%s computes in precision %s where the service computes in %s",
                         other->name, other->precision, ours->precision);
    }
    if (strcmp(ours->kv_dtype, other->kv_dtype) != 0) {
        return error_set(err, STATUS_INVALID_ARGUMENT, field,
                         "%s keeps keys and values in %s where the service keeps them in %s",
                         other->name, other->kv_dtype, ours->kv_dtype);
    }
    if (!same_generation(ours, other)) {
        return error_set(err, STATUS_INVALID_ARGUMENT, field,
                         "%s has another generation_config than in the service", other->name);
    }
    if (!same_profile(ours, other)) {
        return error_set(err, STATUS_INVALID_ARGUMENT, field,
                         "%s has another profile or context length than in the service",
                         other->name);
    }
    return STATUS_OK;
}

static enum status agree_critics(const char *field, const struct critic_description *ours,
                                 const struct critic_description *other, struct error *err) {
    return strcmp(ours->hash, other->hash) == 0
               ? STATUS_OK
               : error_set(err, STATUS_INVALID_ARGUMENT, field,
                           "hash %.12s where the service has %.12s",
                           other->hash[0] != '\0' ? other->hash : "none",
                           ours->hash[0] != '\0' ? ours->hash : "none");
}

enum status model_set_agree(const struct model_set *set, const struct model_set *other,
                            struct error *err) {
    enum status status = agree(&set->policy, &other->policy, "policy", err);
    if (status != STATUS_OK) {
        return status;
    }
    status = agree_critics("critic", &set->critic, &other->critic, err);
    if (status == STATUS_OK) {
        status = agree_critics("value", &set->value, &other->value, err);
    }
    if (status != STATUS_OK) {
        return status;
    }
    if (set->n_scorers != other->n_scorers) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "scorers",
                         "number %zu, those of the service %zu", other->n_scorers, set->n_scorers);
    }
    for (size_t i = 0; i < set->n_scorers; i++) {
        // Groups may list their scorers in any order: jobs name them.
        const struct model_description *twin = model_set_find(other, set->scorers[i].name);
        if (twin == NULL) {
            return error_set(err, STATUS_INVALID_ARGUMENT, "scorers",
                             "lacks %s, which the service runs", set->scorers[i].name);
        }
        status = agree(&set->scorers[i], twin, "scorers", err);
        if (status != STATUS_OK) {
            return status;
        }
    }
    if (other->block_tokens_max < set->block_tokens_max) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "order_tokens_max",
                         "%u is below the service's %u", other->block_tokens_max,
                         set->block_tokens_max);
    }
    return STATUS_OK;
}

const struct model_description *model_set_find(const struct model_set *set, const char *name) {
    for (size_t i = 0; i < set->n_scorers; i++) {
        if (strcmp(set->scorers[i].name, name) == 0) {
            return &set->scorers[i];
        }
    }
    return NULL;
}

void model_set_list(const struct model_set *set, char *text, size_t size) {
    size_t used = 0;
    text[0] = '\0';
    for (size_t i = 0; i < set->n_scorers && used < size; i++) {
        used += (size_t)snprintf(text + used, size - used, "%s%s", i == 0 ? "" : ", ",
                                 set->scorers[i].name);
    }
}

// protobuf-c declares strings without const; packing does not write to them.
static char *text_or_null(const char *text) {
    return text[0] != '\0' ? (char *)text : NULL;
}

void model_description_fill(const struct model_description *model, Surefoot__ModelInfo *info) {
    surefoot__model_info__init(info);
    info->name = (char *)model->name;
    info->role = text_or_null(model->role);
    info->hash = text_or_null(model->hash);
    info->precision = text_or_null(model->precision);
    info->kv_dtype = text_or_null(model->kv_dtype);
    info->chat_template = text_or_null(model->chat_template);
    info->cost_mode = text_or_null(model->cost_mode);
    info->cost_eos = text_or_null(model->cost_eos);
    info->has_context_length = model->context_length > 0;
    info->context_length = model->context_length;
    info->has_vocab_size = model->vocab_size > 0;
    info->vocab_size = model->vocab_size;
    info->has_hidden_dim = model->hidden_dim > 0;
    info->hidden_dim = model->hidden_dim;
    info->has_parameter_count = model->parameter_count > 0;
    info->parameter_count = model->parameter_count;
    info->has_budget = model->has_budget;
    info->budget = model->budget;
    info->has_discount = model->has_discount;
    info->discount = model->discount;
    info->has_cost_min = model->has_cost_min;
    info->cost_min = model->cost_min;
    info->generation =
        model->has_generation ? (Surefoot__GenerationDefaults *)&model->generation : NULL;
}
