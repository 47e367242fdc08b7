#include "worker/critic/terms.h"

#include <stdio.h>
#include <string.h>

#include "proto/job_fields.h"
#include "worker/model/json_fields.h"

static const char *const forms[] = {
    [CRITIC_FORM_LATENT] = "latent",
    [CRITIC_FORM_VALUE] = "value",
    [CRITIC_FORM_VALUE_RELEASED] = "value-released",
};
enum { FORMS = sizeof forms / sizeof forms[0] };

const char *critic_form_name(enum critic_form form) {
    return (size_t)form < FORMS ? forms[form] : NULL;
}

bool critic_form_parse(const char *name, enum critic_form *out) {
    for (int i = 0; i < FORMS; i++) {
        if (strcmp(forms[i], name) == 0) {
            *out = (enum critic_form)i;
            return true;
        }
    }
    return false;
}

bool critic_terms_are_value(const struct critic_terms *terms) {
    return terms->form != CRITIC_FORM_LATENT;
}

bool critic_channel_needs_blocks(const struct critic_channel *channel) {
    return channel->discount_unit == DISCOUNT_UNIT_BLOCK ||
           (channel->cost_mode != COST_MODE_TOKEN_SUM &&
            channel->cost_mode != COST_MODE_TOKEN_SUM_POS);
}

static json_t *scorer_json(const struct critic_scorer *scorer) {
    return json_pack("{s:s, s:s, s:f}", "name", scorer->name, "hash", scorer->hash, "weight",
                     scorer->weight);
}

static json_t *channel_json(const struct critic_channel *channel) {
    return json_pack("{s:o, s:s, s:s, s:s, s:f, s:s, s:i}", "scorer", scorer_json(&channel->scorer),
                     "cost_mode", job_choice_name(JOB_FIELD_COST_MODE, channel->cost_mode),
                     "cost_eos", job_choice_name(JOB_FIELD_COST_EOS, channel->cost_eos),
                     "admit_rule", job_choice_name(JOB_FIELD_ADMIT_RULE, channel->admit_rule),
                     "discount", channel->discount, "discount_unit",
                     job_choice_name(JOB_FIELD_DISCOUNT_UNIT, channel->discount_unit),
                     "block_tokens", channel->block_tokens);
}

json_t *critic_terms_json(const struct critic_terms *terms) {
    json_t *channels = json_array();
    json_t *rewards = json_array();
    int failed = 0;
    for (int32_t i = 0; i < terms->n_channels; i++) {
        failed |= json_array_append_new(channels, channel_json(&terms->channels[i]));
    }
    for (int32_t i = 0; i < terms->n_rewards; i++) {
        failed |= json_array_append_new(rewards, scorer_json(&terms->rewards[i]));
    }
    json_t *json = json_pack("{s:s, s:s, s:i, s:o, s:o}", "policy_hash", terms->policy_hash,
                             "chat_template", terms->chat_template, "hidden_dim", terms->hidden_dim,
                             "channels", channels, "rewards", rewards);
    if (critic_terms_are_value(terms)) {
        failed |= json_object_set_new(json, "form", json_string(forms[terms->form]));
        failed |= json_object_set_new(json, "lambda", json_real(terms->lambda));
    } else {
        failed |= json_object_set_new(json, "n_parts", json_integer(terms->n_parts));
    }
    if (failed != 0) {
        json_decref(json);
        return NULL;
    }
    return json;
}

static enum status check_names(const json_t *object, const char *const *names, struct error *err) {
    if (!json_is_object(object)) {
        return error_set(err, STATUS_MALFORMED, NULL, "is not an object");
    }
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)object, key, value) {
        const char *const *name = names;
        while (*name != NULL && strcmp(*name, key) != 0) {
            name++;
        }
        if (*name == NULL) {
            return error_set(err, STATUS_MALFORMED, key, "is no field of a critic");
        }
    }
    return STATUS_OK;
}

static enum status read_text(const json_t *object, const char *key, char *out, size_t capacity,
                             struct error *err) {
    if (json_value_find(object, key) == NULL) {
        return error_set(err, STATUS_MALFORMED, key, "is missing");
    }
    return json_string_get(object, key, out, capacity, err);
}

static enum status read_hash(const json_t *object, const char *key, char out[SHA256_HEX_BYTES],
                             struct error *err) {
    enum status status = read_text(object, key, out, SHA256_HEX_BYTES, err);
    if (status == STATUS_OK && strspn(out, "0123456789abcdef") != SHA256_HEX_BYTES - 1) {
        return error_set(err, STATUS_MALFORMED, key, "\"%s\" is not 64 hexadecimal digits", out);
    }
    return status;
}

static enum status read_choice(const json_t *object, enum job_field_index index, int *out,
                               struct error *err) {
    const char *key = job_field_get(index)->name;
    char name[32] = "";
    enum status status = read_text(object, key, name, sizeof name, err);
    if (status != STATUS_OK) {
        return status;
    }
    *out = job_choice_parse(index, name);
    if (*out == 0) {
        char choices[JOB_FIELD_TEXT_BYTES];
        job_choices_text(index, choices);
        return error_set(err, STATUS_INVALID_ARGUMENT, key, "\"%s\" is not one of %s", name,
                         choices);
    }
    return STATUS_OK;
}

static enum status read_scorer(const json_t *object, bool is_cost, struct critic_scorer *out,
                               struct error *err) {
    static const char *const names[] = {"name", "hash", "weight", NULL};
    enum status status = check_names(object, names, err);
    if (status == STATUS_OK) {
        status = read_text(object, "name", out->name, sizeof out->name, err);
    }
    if (status == STATUS_OK && out->name[0] == '\0') {
        status = error_set(err, STATUS_INVALID_ARGUMENT, "name", "is empty");
    }
    if (status == STATUS_OK) {
        status = read_hash(object, "hash", out->hash, err);
    }
    if (status == STATUS_OK) {
        status = json_number_get(object, "weight", true, -1e6, 1e6, &out->weight, err);
    }
    if (status == STATUS_OK && is_cost && !(out->weight > 0)) {
        status = error_set(err, STATUS_LIMIT, "weight", "%g of a cost is not above 0", out->weight);
    }
    return status;
}

static enum status read_choices(const json_t *object, struct critic_channel *out,
                                struct error *err) {
    int mode = 0, eos = 0, rule = 0, unit = 0;
    enum status status = read_choice(object, JOB_FIELD_COST_MODE, &mode, err);
    if (status == STATUS_OK) {
        status = read_choice(object, JOB_FIELD_COST_EOS, &eos, err);
    }
    if (status == STATUS_OK) {
        status = read_choice(object, JOB_FIELD_ADMIT_RULE, &rule, err);
    }
    if (status == STATUS_OK) {
        status = read_choice(object, JOB_FIELD_DISCOUNT_UNIT, &unit, err);
    }
    out->cost_mode = (enum cost_mode)mode;
    out->cost_eos = (enum cost_eos)eos;
    out->admit_rule = (enum admit_rule)rule;
    out->discount_unit = (enum discount_unit)unit;
    return status;
}

static enum status read_channel(const json_t *object, struct critic_channel *out,
                                struct error *err) {
    static const char *const names[] = {"scorer",   "cost_mode",     "cost_eos",     "admit_rule",
                                        "discount", "discount_unit", "block_tokens", NULL};
    enum status status = check_names(object, names, err);
    if (status == STATUS_OK) {
        status = read_scorer(json_object_get(object, "scorer"), true, &out->scorer, err);
        if (status != STATUS_OK) {
            error_prefix_field(err, "scorer");
        }
    }
    if (status == STATUS_OK) {
        status = read_choices(object, out, err);
    }
    if (status == STATUS_OK) {
        status = json_number_get(object, "discount", true, 0, 1, &out->discount, err);
    }
    if (status == STATUS_OK && !(out->discount > 0)) {
        status = error_set(err, STATUS_LIMIT, "discount", "0 is not above 0");
    }
    if (status == STATUS_OK) {
        bool needed = critic_channel_needs_blocks(out);
        status = json_int_get(object, "block_tokens", true, needed ? 1 : 0,
                              needed ? LIMIT_BLOCK_TOKENS : 0, &out->block_tokens, err);
    }
    return status;
}

static enum status read_list(const json_t *json, const char *key, size_t min, size_t max,
                             size_t *out, struct error *err) {
    const json_t *list = json_object_get(json, key);
    if (!json_is_array(list) || json_array_size(list) < min || json_array_size(list) > max) {
        return error_set(err, STATUS_MALFORMED, key, "is not a list of %zu to %zu", min, max);
    }
    *out = json_array_size(list);
    return STATUS_OK;
}

static enum status read_lists(const json_t *json, struct critic_terms *out, struct error *err) {
    char place[32] = "";
    size_t n_channels = 0, n_rewards = 0;
    bool is_value = critic_terms_are_value(out), has_costs = !is_value || out->lambda > 0;
    enum status status = read_list(json, "channels", has_costs ? 1 : 0,
                                   has_costs ? CRITIC_CHANNELS_MAX : 0, &n_channels, err);
    if (status == STATUS_OK) {
        status = read_list(json, "rewards", is_value ? 1 : 0, CRITIC_REWARDS_MAX, &n_rewards, err);
    }
    out->n_channels = (int32_t)n_channels;
    out->n_rewards = (int32_t)n_rewards;
    for (size_t i = 0; status == STATUS_OK && i < n_channels; i++) {
        const json_t *channel = json_array_get(json_object_get(json, "channels"), i);
        status = read_channel(channel, &out->channels[i], err);
        snprintf(place, sizeof place, "channels[%zu]", i);
    }
    for (size_t i = 0; status == STATUS_OK && i < n_rewards; i++) {
        const json_t *reward = json_array_get(json_object_get(json, "rewards"), i);
        status = read_scorer(reward, false, &out->rewards[i], err);
        snprintf(place, sizeof place, "rewards[%zu]", i);
    }
    if (status != STATUS_OK && place[0] != '\0') {
        error_prefix_field(err, place);
    }
    return status;
}

// What else a file of its form holds; without a word of it, it is a latent critic's.
static enum status read_form(const json_t *json, struct critic_terms *out, struct error *err) {
    static const char *const latent[] = {"policy_hash", "chat_template", "hidden_dim", "n_parts",
                                         "channels",    "rewards",       NULL};
    static const char *const value[] = {"policy_hash", "chat_template", "hidden_dim", "form",
                                        "lambda",      "channels",      "rewards",    NULL};
    char form[32] = "latent";
    if (!json_is_object(json) || json_object_get(json, "form") == NULL) {
        enum status status = check_names(json, latent, err);
        return status == STATUS_OK ? json_int_get(json, "n_parts", true, 1, COST_TO_GO_PARTS_MAX,
                                                  &out->n_parts, err)
                                   : status;
    }
    out->n_parts = 1;
    enum status status = check_names(json, value, err);
    if (status == STATUS_OK) {
        status = read_text(json, "form", form, sizeof form, err);
    }
    if (status == STATUS_OK &&
        (!critic_form_parse(form, &out->form) || !critic_terms_are_value(out))) {
        status = error_set(err, STATUS_INVALID_ARGUMENT, "form",
                           "\"%s\" is not one of value, value-released", form);
    }
    return status == STATUS_OK ? json_number_get(json, "lambda", true, 0, 1e6, &out->lambda, err)
                               : status;
}

enum status critic_terms_read(const json_t *json, struct critic_terms *out, struct error *err) {
    struct critic_terms terms = {0};
    enum status status = read_form(json, &terms, err);
    if (status == STATUS_OK) {
        status = read_hash(json, "policy_hash", terms.policy_hash, err);
    }
    if (status == STATUS_OK) {
        status =
            read_text(json, "chat_template", terms.chat_template, sizeof terms.chat_template, err);
    }
    if (status == STATUS_OK) {
        status =
            json_int_get(json, "hidden_dim", true, 1, CRITIC_HIDDEN_MAX, &terms.hidden_dim, err);
    }
    if (status == STATUS_OK) {
        status = read_lists(json, &terms, err);
    }
    if (status == STATUS_OK) {
        *out = terms;
    }
    return status;
}

static enum status differ(const char *field, const char *have, const char *want,
                          struct error *err) {
    return error_set(err, STATUS_INVALID_ARGUMENT, field,
                     "the critic was trained for %.72s, this is %.72s",
                     have[0] != '\0' ? have : "none", want[0] != '\0' ? want : "none");
}

static enum status agree_texts(const char *field, const char *have, const char *want,
                               struct error *err) {
    return strcmp(have, want) == 0 ? STATUS_OK : differ(field, have, want, err);
}

static enum status agree_numbers(const char *field, double have, double want, struct error *err) {
    char texts[2][32];
    snprintf(texts[0], sizeof texts[0], "%.10g", have);
    snprintf(texts[1], sizeof texts[1], "%.10g", want);
    return have == want ? STATUS_OK : differ(field, texts[0], texts[1], err);
}

static enum status agree_choices(enum job_field_index index, int have, int want,
                                 struct error *err) {
    return have == want ? STATUS_OK
                        : differ(job_field_get(index)->name, job_choice_name(index, have),
                                 job_choice_name(index, want), err);
}

static enum status agree_scorers(const struct critic_scorer *have, const struct critic_scorer *want,
                                 struct error *err) {
    enum status status = agree_texts("hash", have->hash, want->hash, err);
    return status == STATUS_OK ? agree_numbers("weight", have->weight, want->weight, err) : status;
}

static enum status agree_channels(const struct critic_channel *have,
                                  const struct critic_channel *want, struct error *err) {
    enum status status = agree_scorers(&have->scorer, &want->scorer, err);
    if (status != STATUS_OK) {
        error_prefix_field(err, "scorer");
        return status;
    }
    status = agree_choices(JOB_FIELD_COST_MODE, have->cost_mode, want->cost_mode, err);
    if (status == STATUS_OK) {
        status = agree_choices(JOB_FIELD_COST_EOS, have->cost_eos, want->cost_eos, err);
    }
    if (status == STATUS_OK) {
        status = agree_choices(JOB_FIELD_ADMIT_RULE, have->admit_rule, want->admit_rule, err);
    }
    if (status == STATUS_OK) {
        status = agree_numbers("discount", have->discount, want->discount, err);
    }
    if (status == STATUS_OK) {
        status =
            agree_choices(JOB_FIELD_DISCOUNT_UNIT, have->discount_unit, want->discount_unit, err);
    }
    return status == STATUS_OK
               ? agree_numbers("block_tokens", have->block_tokens, want->block_tokens, err)
               : status;
}

enum status critic_terms_agree(const struct critic_terms *terms, const struct critic_terms *wanted,
                               struct error *err) {
    char place[32] = "";
    if (terms->form != wanted->form) {
        return differ("form", forms[terms->form], forms[wanted->form], err);
    }
    if (terms->lambda != wanted->lambda) {
        return agree_numbers("lambda", terms->lambda, wanted->lambda, err);
    }
    enum status status = agree_texts("policy_hash", terms->policy_hash, wanted->policy_hash, err);
    if (status == STATUS_OK) {
        status = agree_texts("chat_template", terms->chat_template, wanted->chat_template, err);
    }
    if (status == STATUS_OK) {
        status = agree_numbers("hidden_dim", terms->hidden_dim, wanted->hidden_dim, err);
    }
    if (status == STATUS_OK) {
        status = agree_numbers("channels", terms->n_channels, wanted->n_channels, err);
    }
    if (status == STATUS_OK) {
        status = agree_numbers("rewards", terms->n_rewards, wanted->n_rewards, err);
    }
    for (int32_t i = 0; status == STATUS_OK && i < terms->n_channels; i++) {
        snprintf(place, sizeof place, "channels[%d]", i);
        status = agree_channels(&terms->channels[i], &wanted->channels[i], err);
    }
    for (int32_t i = 0; status == STATUS_OK && i < terms->n_rewards; i++) {
        snprintf(place, sizeof place, "rewards[%d]", i);
        status = agree_scorers(&terms->rewards[i], &wanted->rewards[i], err);
    }
    if (status != STATUS_OK && place[0] != '\0') {
        error_prefix_field(err, place);
    }
    return status;
}
