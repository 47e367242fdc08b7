#include <stdio.h>
#include <string.h>

#include "worker/model/config.h"
#include "worker/model/gguf.h"
#include "worker/model/json_fields.h"
#include "worker/model/model_path.h"

enum { PROFILE_SCHEMA = 1 };

static const char *const roles[] = {"policy", "reward", "cost", NULL};
static const char *const cost_modes[] = {"end_delta", "token_sum", "token_sum_pos",
                                         "block_end", "end_sign",  NULL};
static const char *const cost_eos_rules[] = {"none", "append", NULL};
static const char *const poolings[] = {"last-non-pad", "last", NULL};

// Reads a string that must be one of `names`, whose list goes into the error.
static enum status read_name(const json_t *json, const char *key, const char *const *names,
                             char *out, size_t capacity, struct error *err) {
    enum status status = json_string_get(json, key, out, capacity, err);
    if (status != STATUS_OK || out[0] == '\0') {
        return status;
    }
    char list[128] = "";
    size_t used = 0;
    for (size_t i = 0; names[i] != NULL; i++) {
        if (strcmp(names[i], out) == 0) {
            return STATUS_OK;
        }
        used +=
            (size_t)snprintf(list + used, sizeof list - used, "%s%s", i > 0 ? ", " : "", names[i]);
    }
    return error_set(err, STATUS_INVALID_ARGUMENT, key, "%s is not one of %s", out, list);
}

static enum status read_number(const json_t *json, const char *key, double min, double max,
                               bool *has, double *out, struct error *err) {
    *has = json_value_find(json, key) != NULL;
    return json_number_get(json, key, false, min, max, out, err);
}

static enum status read_names(const json_t *json, struct model_profile *profile,
                              struct error *err) {
    char cost_eos[16] = "none", pooling[16] = "";
    enum status status = read_name(json, "role", roles, profile->role, sizeof profile->role, err);
    if (status == STATUS_OK) {
        status = json_string_get(json, "chat_template", profile->chat_template,
                                 sizeof profile->chat_template, err);
    }
    if (status == STATUS_OK) {
        status = read_name(json, "cost_mode", cost_modes, profile->cost_mode,
                           sizeof profile->cost_mode, err);
    }
    if (status == STATUS_OK && strcmp(profile->role, "cost") == 0 &&
        profile->cost_mode[0] == '\0') {
        status = error_set(err, STATUS_INVALID_ARGUMENT, "cost_mode",
                           "a cost model must say how its score is read: end_delta, token_sum, "
                           "token_sum_pos, block_end or end_sign");
    }
    if (status == STATUS_OK) {
        status = json_bool_get(json, "append_eos", &profile->append_eos, err);
    }
    if (status == STATUS_OK) {
        status = read_name(json, "cost_eos", cost_eos_rules, cost_eos, sizeof cost_eos, err);
    }
    if (status == STATUS_OK) {
        status = json_string_get(json, "score_after", profile->score_after,
                                 sizeof profile->score_after, err);
    }
    if (status == STATUS_OK) {
        status = read_name(json, "pooling", poolings, pooling, sizeof pooling, err);
    }
    profile->cost_eos_append = strcmp(cost_eos, "append") == 0;
    if (status == STATUS_OK && profile->score_after[0] != '\0' &&
        (profile->append_eos || profile->cost_eos_append)) {
        status = error_set(err, STATUS_INVALID_ARGUMENT, "score_after",
                           "it says what a text is read with; append_eos and cost_eos append say "
                           "otherwise");
    }
    profile->pools_last = strcmp(pooling, "last") == 0;
    return status;
}

// Every key that is read anywhere: a misspelt one would be a wish without effect.
static enum status check_keys(const json_t *json, struct error *err) {
    static const char *const known[] = {
        "append_eos",  "base",      "base_hint", "budget", "chat_template", "cost_eos",
        "cost_min",    "cost_mode", "discount",  "head",   "ignore_fields", "label",
        "label_score", "pooling",   "role",      "schema", "score_after",
    };
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)json, key, value) {
        size_t i = 0;
        while (i < sizeof known / sizeof known[0] && strcmp(known[i], key) != 0) {
            i++;
        }
        if (i == sizeof known / sizeof known[0] && !json_is_null(value)) {
            return error_set(err, STATUS_UNSUPPORTED, key, "%.64s is not a key of profiles", key);
        }
    }
    return STATUS_OK;
}

static enum status read_profile(const json_t *json, struct model_profile *profile,
                                struct error *err) {
    int32_t schema = 0;
    enum status status = json_int_get(json, "schema", true, 0, INT32_MAX, &schema, err);
    if (status == STATUS_OK && schema != PROFILE_SCHEMA) {
        status = error_set(err, STATUS_VERSION, "schema", "schema %d is not understood: %d is",
                           schema, PROFILE_SCHEMA);
    }
    if (status == STATUS_OK) {
        status = check_keys(json, err);
    }
    if (status == STATUS_OK) {
        status = read_names(json, profile, err);
    }
    if (status == STATUS_OK) {
        status =
            read_number(json, "budget", -1e9, 1e9, &profile->has_budget, &profile->budget, err);
    }
    if (status == STATUS_OK) {
        status =
            read_number(json, "discount", 1e-6, 1, &profile->has_discount, &profile->discount, err);
    }
    if (status == STATUS_OK) {
        status = read_number(json, "cost_min", -1e9, 1e9, &profile->has_cost_min,
                             &profile->cost_min, err);
    }
    return status;
}

// A GGUF file is laid over nothing: the wish would have no effect.
static enum status refuse_base(const json_t *json, struct error *err) {
    static const char *const keys[] = {"base", "base_hint"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        if (json_value_find(json, keys[i]) != NULL) {
            return error_set(err, STATUS_INVALID_ARGUMENT, keys[i],
                             "%s is for directories: a GGUF file holds its model whole", keys[i]);
        }
    }
    return STATUS_OK;
}

enum status model_profile_read(const char *directory, struct model_profile *out,
                               struct error *err) {
    struct model_profile profile = {.present = true};
    json_t *json = NULL;
    enum status status = model_profile_document_read(directory, &json, err);
    if (status == STATUS_NOT_FOUND) {
        *out = (struct model_profile){.present = false};
        return STATUS_OK;
    }
    if (status == STATUS_OK && gguf_is_path(directory)) {
        status = refuse_base(json, err);
    }
    if (status == STATUS_OK) {
        status = read_profile(json, &profile, err);
    }
    json_decref(json);
    if (status != STATUS_OK) {
        error_prefix_field(err, "surefoot.json");
        model_profile_label_error(directory, err);
        return status;
    }
    *out = profile;
    return STATUS_OK;
}
