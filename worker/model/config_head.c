#include "worker/model/config_head.h"

#include <stdio.h>
#include <string.h>

#include "worker/model/json_fields.h"

static enum status read_class_head(const json_t *json, struct model_config *config,
                                   struct error *err) {
    config->n_labels = 2; // what Hugging Face assumes when nothing is said
    const json_t *labels = json_value_find(json, "id2label");
    if (json_is_object(labels)) {
        size_t n = json_object_size(labels);
        config->n_labels = n <= MODEL_LABELS_MAX ? (int32_t)n : MODEL_LABELS_MAX + 1;
    }
    enum status status =
        json_int_get(json, "num_labels", false, 1, MODEL_LABELS_MAX, &config->n_labels, err);
    if (status == STATUS_OK && (config->n_labels < 1 || config->n_labels > MODEL_LABELS_MAX)) {
        status = error_set(err, STATUS_LIMIT, "id2label", "%d labels, allowed are 1 to %d",
                           config->n_labels, MODEL_LABELS_MAX);
    }
    return status;
}

// Absent keys mean what safe-rlhf's init_score_head takes for them: one reward, not normalized. Its
// releases disagree about the bias (false as "bias", true as "score_bias"), so a bias counts where
// one is stored, unless the configuration says that there is none.
static enum status read_score_head(const json_t *json, struct model_config *config,
                                   struct error *err) {
    int32_t score_dim = 1;
    char type[16] = "reward";
    config->score_bias = true;
    enum status status = json_int_get(json, "score_dim", false, 1, 1 << 20, &score_dim, err);
    if (status == STATUS_OK && score_dim != 1) {
        status = error_set(err, STATUS_UNSUPPORTED, "score_dim",
                           "a score head of %d values is not supported: 1 is", score_dim);
    }
    if (status == STATUS_OK) {
        status = json_string_get(json, "score_type", type, sizeof type, err);
    }
    if (status == STATUS_OK) {
        status = json_bool_get(json, "do_normalize", &config->normalize, err);
    }
    if (status == STATUS_OK) {
        status = json_bool_get(json, "bias", &config->score_bias, err);
    }
    if (status == STATUS_OK) {
        status = json_bool_get(json, "score_bias", &config->score_bias, err);
    }
    if (status != STATUS_OK) {
        return status;
    }
    config->normalize_center = strcmp(type, "reward") == 0;
    if (strcmp(type, "critic") == 0) {
        config->normalize = false;
    } else if (!config->normalize_center && strcmp(type, "cost") != 0) {
        return error_set(err, STATUS_UNSUPPORTED, "score_type",
                         "score_type %s is not supported: reward, cost and critic are", type);
    }
    return STATUS_OK;
}

// "mean" and "var" of the Beaver form: a number or an array of one.
static enum status read_normalizer(const json_t *json, const char *key, double min, float *out,
                                   struct error *err) {
    const json_t *value = json_value_find(json, key);
    if (json_is_array(value) && json_array_size(value) == 1) {
        value = json_array_get(value, 0);
    }
    if (value == NULL) {
        return STATUS_OK;
    }
    double number = json_is_number(value) ? json_number_value(value) : -1e300;
    if (!(number >= min && number <= 1e9)) {
        return error_set(err, STATUS_LIMIT, key, "%s is not one number of %g to 1e9", key, min);
    }
    *out = (float)number;
    return STATUS_OK;
}

enum status config_head_read(const json_t *json, struct model_config *config, struct error *err) {
    if (config->head == MODEL_HEAD_CLASS) {
        return read_class_head(json, config, err);
    }
    if (config->head != MODEL_HEAD_SCORE) {
        return STATUS_OK;
    }
    enum status status = read_score_head(json, config, err);
    if (status == STATUS_OK) {
        status = read_normalizer(json, "mean", -1e9, &config->score_mean, err);
    }
    if (status == STATUS_OK) {
        status = read_normalizer(json, "var", 0, &config->score_var, err);
    }
    return status;
}

// The label that is called `name` in id2label; -1 when there is none.
static int32_t find_label(const json_t *json, const char *name, int32_t n_labels) {
    for (int32_t i = 0; i < n_labels; i++) {
        char key[16];
        snprintf(key, sizeof key, "%d", i);
        const char *label =
            json_string_value(json_object_get(json_object_get(json, "id2label"), key));
        if (label != NULL && strcmp(label, name) == 0) {
            return i;
        }
    }
    return -1;
}

static enum status choose_label(const json_t *json, const json_t *value,
                                struct model_config *config, struct error *err) {
    int64_t index = json_is_integer(value) ? json_integer_value(value) : -1;
    if (json_is_string(value)) {
        index = find_label(json, json_string_value(value), config->n_labels);
    }
    if (index < 0 || index >= config->n_labels) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "surefoot.json.label",
                         "it is neither a name of id2label nor an index of 0 to %d",
                         config->n_labels - 1);
    }
    config->label = (int32_t)index;
    return STATUS_OK;
}

// How transformers trains the labels: one at a time against the others, unless problem_type says
// that each stands alone.
static enum status default_label_score(const json_t *json, struct model_config *config,
                                       struct error *err) {
    char problem[40] = "";
    enum status status = json_string_get(json, "problem_type", problem, sizeof problem, err);
    bool apart = config->n_labels == 1 || strcmp(problem, "regression") == 0 ||
                 strcmp(problem, "multi_label_classification") == 0;
    config->label_score = apart ? LABEL_SCORE_LOGIT : LABEL_SCORE_LOG_ODDS;
    if (status != STATUS_OK) {
        error_prefix_field(err, "config.json");
    }
    return status;
}

static enum status choose_label_score(const json_t *profile, struct model_config *config,
                                      struct error *err) {
    static const char *const names[] = {"logit", "log-odds", "probability"};
    char name[16] = "";
    enum status status = json_string_get(profile, "label_score", name, sizeof name, err);
    if (status != STATUS_OK) {
        error_prefix_field(err, "surefoot.json");
        return status;
    }
    for (int i = 0; i < 3; i++) {
        if (strcmp(names[i], name) == 0) {
            config->label_score = (enum label_score)i;
            bool odds = config->label_score != LABEL_SCORE_LOGIT;
            return odds && config->n_labels == 1
                       ? error_set(err, STATUS_INVALID_ARGUMENT, "surefoot.json.label_score",
                                   "%s needs labels to compare with; the model has one", name)
                       : STATUS_OK;
        }
    }
    return name[0] == '\0' ? STATUS_OK
                           : error_set(err, STATUS_INVALID_ARGUMENT, "surefoot.json.label_score",
                                       "%s is not one of logit, log-odds, probability", name);
}

static enum status choose_class(const json_t *json, const json_t *profile,
                                struct model_config *config, struct error *err) {
    const json_t *label = json_value_find(profile, "label");
    if (label == NULL && config->n_labels > 1) {
        return error_set(err, STATUS_UNSUPPORTED, "config.json.num_labels",
                         "of %d labels the score must be one's: name it in the profile, as "
                         "\"label\": a name of id2label or an index",
                         config->n_labels);
    }
    enum status status = label != NULL ? choose_label(json, label, config, err) : STATUS_OK;
    if (status == STATUS_OK) {
        status = default_label_score(json, config, err);
    }
    return status == STATUS_OK ? choose_label_score(profile, config, err) : status;
}

// TRL's AutoModelForCausalLMWithValueHead leaves the class as it was: the profile says that the
// value head is what counts.
static enum status choose_value_head(const json_t *profile, struct model_config *config,
                                     struct error *err) {
    char head[16] = "";
    enum status status = json_string_get(profile, "head", head, sizeof head, err);
    if (status != STATUS_OK) {
        error_prefix_field(err, "surefoot.json");
        return status;
    }
    if (head[0] == '\0') {
        return STATUS_OK;
    }
    if (strcmp(head, "value") != 0 || config->head != MODEL_HEAD_LM) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "surefoot.json.head",
                         "\"%s\" of this class: only value, of a ForCausalLM with v_head, is known",
                         head);
    }
    config->head = MODEL_HEAD_SCORE;
    config->value_head = config->score_bias = true;
    return STATUS_OK;
}

// Refuses the profile's keys[n], whose wish would have no effect: they are for `whom`.
static enum status refuse_keys(const json_t *profile, const char *const *keys, size_t n,
                               const char *whom, struct error *err) {
    for (size_t i = 0; i < n; i++) {
        if (json_value_find(profile, keys[i]) != NULL) {
            char field[ERROR_FIELD_BYTES];
            snprintf(field, sizeof field, "surefoot.json.%s", keys[i]);
            return error_set(err, STATUS_INVALID_ARGUMENT, field, "%s is for %s", keys[i], whom);
        }
    }
    return STATUS_OK;
}

// The head decides what a model is for; a profile that says otherwise is of another model.
static enum status check_role(const json_t *profile, const struct model_config *config,
                              struct error *err) {
    static const char *const of_scorers[] = {"append_eos", "budget",   "cost_eos",   "cost_min",
                                             "cost_mode",  "discount", "score_after"};
    const char *role = json_string_value(json_value_find(profile, "role"));
    if (config->head != MODEL_HEAD_LM) {
        return role != NULL && strcmp(role, "policy") == 0
                   ? error_set(err, STATUS_INVALID_ARGUMENT, "surefoot.json.role",
                               "policy, but the model has a head that scores")
                   : STATUS_OK;
    }
    if (role != NULL && (strcmp(role, "reward") == 0 || strcmp(role, "cost") == 0)) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "surefoot.json.role",
                         "%s, but the model writes: a scorer is a ForSequenceClassification or "
                         "has a score head, or a value head that \"head\": \"value\" names",
                         role);
    }
    return refuse_keys(profile, of_scorers, sizeof of_scorers / sizeof of_scorers[0], "scorers",
                       err);
}

enum status config_head_choose(const json_t *json, const json_t *profile,
                               struct model_config *config, struct error *err) {
    static const char *const of_classes[] = {"label", "label_score", "pooling"};
    enum status status;
    if (config->head == MODEL_HEAD_CLASS) {
        status = choose_class(json, profile, config, err);
    } else {
        status = refuse_keys(profile, of_classes, sizeof of_classes / sizeof of_classes[0],
                             "ForSequenceClassification", err);
        if (status == STATUS_OK) {
            status = choose_value_head(profile, config, err);
        }
    }
    return status == STATUS_OK ? check_role(profile, config, err) : status;
}
