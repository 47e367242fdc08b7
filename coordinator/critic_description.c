#include "coordinator/critic_description.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/cost_to_go.h"
#include "proto/job_fields.h"

static enum status copy_text(char *out, size_t size, const char *text, size_t least,
                             const char *field, struct error *err) {
    size_t length = text != NULL ? strlen(text) : 0;
    if (length < least || length >= size) {
        return error_set(err, length < least ? STATUS_INVALID_ARGUMENT : STATUS_LIMIT, field,
                         "%zu bytes, outside %zu..%zu", length, least, size - 1);
    }
    memcpy(out, text != NULL ? text : "", length + 1);
    return STATUS_OK;
}

static enum status check_count(size_t count, size_t least, size_t most, const char *field,
                               struct error *err) {
    return count >= least && count <= most
               ? STATUS_OK
               : error_set(err, STATUS_LIMIT, field, "%zu, outside %zu..%zu", count, least, most);
}

static enum status read_scorer(const char *hash, double weight,
                               struct critic_scorer_description *out, struct error *err) {
    out->weight = weight;
    if (!isfinite(weight)) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "weight", "is not a finite number");
    }
    return copy_text(out->hash, sizeof out->hash, hash, 1, "scorer_hash", err);
}

static enum status read_choice(enum job_field_index index, const char *text, int *out,
                               struct error *err) {
    *out = text != NULL ? job_choice_parse(index, text) : 0;
    return *out > 0 ? STATUS_OK
                    : error_set(err, STATUS_INVALID_ARGUMENT, job_field_get(index)->name,
                                "unknown \"%.40s\"", text != NULL ? text : "");
}

static enum status read_channel(const Surefoot__CriticChannel *channel,
                                struct critic_channel_description *out, struct error *err) {
    int mode = 0, eos = 0, rule = 0, unit = 0;
    enum status status = read_scorer(channel->scorer_hash, channel->weight, &out->scorer, err);
    if (status == STATUS_OK) {
        status = read_choice(JOB_FIELD_COST_MODE, channel->cost_mode, &mode, err);
    }
    if (status == STATUS_OK) {
        status = read_choice(JOB_FIELD_COST_EOS, channel->cost_eos, &eos, err);
    }
    if (status == STATUS_OK) {
        status = read_choice(JOB_FIELD_ADMIT_RULE, channel->admit_rule, &rule, err);
    }
    if (status == STATUS_OK) {
        status = read_choice(JOB_FIELD_DISCOUNT_UNIT, channel->discount_unit, &unit, err);
    }
    if (status == STATUS_OK && !(channel->discount > 0 && channel->discount <= 1)) {
        status = error_set(err, STATUS_INVALID_ARGUMENT, "discount", "is outside (0, 1]");
    }
    out->cost_mode = (enum cost_mode)mode;
    out->cost_eos = (enum cost_eos)eos;
    out->admit_rule = (enum admit_rule)rule;
    out->discount_unit = (enum discount_unit)unit;
    out->discount = channel->discount;
    out->block_tokens = channel->has_block_tokens ? channel->block_tokens : 0;
    return status;
}

static enum status read_counts(const Surefoot__CriticInfo *info, bool is_value,
                               struct critic_description *out, struct error *err) {
    bool has_costs = !is_value || info->lambda > 0;
    enum status status = check_count(info->n_parts, is_value ? 0 : 1,
                                     is_value ? 0 : COST_TO_GO_PARTS_MAX, "n_parts", err);
    if (status == STATUS_OK && !(info->lambda >= 0 && isfinite(info->lambda))) {
        status = error_set(err, STATUS_INVALID_ARGUMENT, "lambda", "is negative, or no number");
    }
    if (status == STATUS_OK) {
        status = check_count(info->n_channels, has_costs ? 1 : 0, has_costs ? LIMIT_CHANNELS : 0,
                             "channels", err);
    }
    if (status == STATUS_OK) {
        status = check_count(info->n_rewards, is_value ? 1 : 0, LIMIT_SCORERS, "rewards", err);
    }
    out->lambda = info->lambda;
    out->n_parts = info->n_parts;
    out->n_channels = (uint32_t)info->n_channels;
    out->n_rewards = (uint32_t)info->n_rewards;
    return status;
}

enum status critic_description_read(const Surefoot__CriticInfo *info, bool is_value,
                                    struct critic_description *out, struct error *err) {
    *out = (struct critic_description){.n_parts = 0};
    if (info == NULL) {
        return STATUS_OK;
    }
    char field[ERROR_FIELD_BYTES] = "";
    enum status status = copy_text(out->hash, sizeof out->hash, info->hash, 1, "hash", err);
    if (status == STATUS_OK) {
        status = copy_text(out->chat_template, sizeof out->chat_template, info->chat_template, 0,
                           "chat_template", err);
    }
    if (status == STATUS_OK) {
        status = read_counts(info, is_value, out, err);
    }
    for (uint32_t i = 0; status == STATUS_OK && i < out->n_channels; i++) {
        snprintf(field, sizeof field, "channels[%u]", i);
        status = read_channel(info->channels[i], &out->channels[i], err);
    }
    for (uint32_t i = 0; status == STATUS_OK && i < out->n_rewards; i++) {
        snprintf(field, sizeof field, "rewards[%u]", i);
        status = read_scorer(info->rewards[i]->scorer_hash, info->rewards[i]->weight,
                             &out->rewards[i], err);
    }
    if (status != STATUS_OK && field[0] != '\0') {
        error_prefix_field(err, field);
    }
    return status;
}
