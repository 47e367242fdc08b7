#include "worker/model/rope_config.h"

#include <math.h>
#include <string.h>

#include "worker/model/json_fields.h"

static const struct {
    const char *name;
    enum rope_kind kind;
} kinds[] = {
    {"default", ROPE_DEFAULT}, {"linear", ROPE_LINEAR},     {"dynamic", ROPE_DYNAMIC},
    {"yarn", ROPE_YARN},       {"longrope", ROPE_LONGROPE}, {"llama3", ROPE_LLAMA3},
};

// What is read below, and "finetuned", which old files say of YaRN.
static const char *const known_keys[] = {
    "type",
    "rope_type",
    "rope_theta",
    "partial_rotary_factor",
    "factor",
    "original_max_position_embeddings",
    "attention_factor",
    "beta_fast",
    "beta_slow",
    "mscale",
    "mscale_all_dim",
    "truncate",
    "short_factor",
    "long_factor",
    "low_freq_factor",
    "high_freq_factor",
    "finetuned",
};

static enum status check_keys(const json_t *object, struct error *err) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)object, key, value) {
        bool known = false;
        for (size_t i = 0; i < sizeof known_keys / sizeof known_keys[0]; i++) {
            known = known || strcmp(key, known_keys[i]) == 0;
        }
        if (!known) {
            return error_set(err, STATUS_UNSUPPORTED, key, "%.64s is not supported", key);
        }
    }
    return STATUS_OK;
}

// What the checkpoints of one architecture call longrope has had other names.
static enum status read_kind(const json_t *object, const struct architecture *architecture,
                             enum rope_kind *kind, struct error *err) {
    char name[32] = "default";
    enum status status = json_string_get(object, "type", name, sizeof name, err);
    if (status == STATUS_OK) {
        status = json_string_get(object, "rope_type", name, sizeof name, err);
    }
    if (status != STATUS_OK) {
        return status;
    }
    bool renamed =
        architecture->only_longrope && (strcmp(name, "su") == 0 || strcmp(name, "yarn") == 0);
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (strcmp(renamed ? "longrope" : name, kinds[i].name) == 0) {
            *kind = kinds[i].kind;
            bool exists =
                !architecture->only_longrope || *kind == ROPE_DEFAULT || *kind == ROPE_LONGROPE;
            if (exists) {
                return STATUS_OK;
            }
        }
    }
    return error_set(
        err, STATUS_UNSUPPORTED, "rope_type", "RoPE of type %s is not supported: %s are", name,
        architecture->only_longrope ? "default and longrope"
                                    : "default, linear, dynamic, yarn, longrope and llama3");
}

static enum status read_llama3(const json_t *object, struct rope *rope, struct error *err) {
    enum status status =
        json_number_get(object, "low_freq_factor", true, 1e-3, 1e4, &rope->low_freq_factor, err);
    if (status == STATUS_OK) {
        status = json_number_get(object, "high_freq_factor", true, 1e-3, 1e4,
                                 &rope->high_freq_factor, err);
    }
    if (status == STATUS_OK && rope->high_freq_factor <= rope->low_freq_factor) {
        status = error_set(err, STATUS_INVALID_ARGUMENT, "high_freq_factor",
                           "high_freq_factor %g is not above low_freq_factor %g",
                           rope->high_freq_factor, rope->low_freq_factor);
    }
    return status;
}

// How much sharper attention becomes (Peng et al. 2023, section 3.4).
static double yarn_scale(double factor, double mscale) {
    return factor <= 1 ? 1 : 0.1 * mscale * log(factor) + 1;
}

static enum status read_yarn(const json_t *object, struct rope *rope, struct error *err) {
    double mscale = 0, mscale_all_dim = 0, attention_factor = -1;
    const struct {
        const char *key;
        double *out;
    } numbers[] = {
        {"beta_fast", &rope->beta_fast},
        {"beta_slow", &rope->beta_slow},
        {"mscale", &mscale},
        {"mscale_all_dim", &mscale_all_dim},
        {"attention_factor", &attention_factor},
    };
    rope->truncate = true;
    enum status status = json_bool_get(object, "truncate", &rope->truncate, err);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0] && status == STATUS_OK; i++) {
        status = json_number_get(object, numbers[i].key, false, 0, 1e6, numbers[i].out, err);
    }
    if (status == STATUS_OK && rope->theta <= 1) {
        status =
            error_set(err, STATUS_LIMIT, "rope_theta", "a theta of %g has no yarn", rope->theta);
    }
    // Zero counts as unsaid.
    rope->beta_fast = rope->beta_fast != 0 ? rope->beta_fast : 32;
    rope->beta_slow = rope->beta_slow != 0 ? rope->beta_slow : 1;
    if (attention_factor >= 0) {
        rope->scale = (float)attention_factor;
    } else if (mscale != 0 && mscale_all_dim != 0) {
        rope->scale =
            (float)(yarn_scale(rope->factor, mscale) / yarn_scale(rope->factor, mscale_all_dim));
    } else {
        rope->scale = (float)yarn_scale(rope->factor, 1);
    }
    return status;
}

static enum status read_divisors(const json_t *object, const char *key, int32_t n, float *out,
                                 struct error *err) {
    const json_t *array = json_value_find(object, key);
    if (!json_is_array(array) || json_array_size(array) != (size_t)n) {
        return error_set(err, STATUS_MALFORMED, key, "%s is not an array of %d numbers", key, n);
    }
    for (int32_t i = 0; i < n; i++) {
        const json_t *value = json_array_get(array, (size_t)i);
        double number = json_is_number(value) ? json_number_value(value) : -1;
        if (!(number >= 1e-6 && number <= 1e9)) {
            return error_set(err, STATUS_LIMIT, key, "%s[%d] is not a number of 1e-6 to 1e9", key,
                             i);
        }
        out[i] = (float)number;
    }
    return STATUS_OK;
}

// Attention's scale: Ding et al. 2024, section 3.4.
static enum status read_longrope(const json_t *object, struct rope *rope, struct error *err) {
    double attention_factor = -1;
    int32_t n = rope->rotary_dim / 2;
    enum status status = read_divisors(object, "short_factor", n, rope->short_factors, err);
    if (status == STATUS_OK) {
        status = read_divisors(object, "long_factor", n, rope->long_factors, err);
    }
    if (status == STATUS_OK) {
        status = json_number_get(object, "attention_factor", false, 0, 1e6, &attention_factor, err);
    }
    if (status == STATUS_OK && attention_factor < 0 && rope->factor > 1 &&
        rope->original_context < 2) {
        status = error_set(err, STATUS_LIMIT, "original_max_position_embeddings",
                           "original_max_position_embeddings is %d, longrope needs 2 or more",
                           rope->original_context);
    }
    if (attention_factor >= 0) {
        rope->scale = (float)attention_factor;
    } else if (rope->factor > 1) {
        rope->scale = (float)sqrt(1 + log(rope->factor) / log((double)rope->original_context));
    }
    return status;
}

// The number beside the object counts more than the one inside, and for some architectures it has
// always a value.
static enum status read_original_context(const json_t *json, const json_t *object,
                                         const struct model_config *config, struct rope *rope,
                                         struct error *err) {
    static const char key[] = "original_max_position_embeddings";
    int32_t fixed = architecture_get(config->architecture)->default_original_context;
    rope->original_context = fixed > 0 ? fixed : config->context_length;
    bool inside = json_value_find(json, key) == NULL && fixed == 0;
    return json_int_get(inside ? object : json, key, false, 1, MODEL_CONTEXT_MAX,
                        &rope->original_context, err);
}

static enum status read_scaling(const json_t *json, const json_t *object,
                                const struct model_config *config, struct rope *rope,
                                struct error *err) {
    enum rope_kind kind = rope->kind;
    if (kind == ROPE_DEFAULT) {
        return STATUS_OK;
    }
    bool extends = kind == ROPE_YARN || kind == ROPE_LONGROPE || kind == ROPE_LLAMA3;
    enum status status =
        extends ? read_original_context(json, object, config, rope, err) : STATUS_OK;
    // These two may leave the factor to the ratio of the contexts: yarn by null, which is how a
    // factor is unsaid that must be there.
    bool ratio = kind == ROPE_LONGROPE ||
                 (kind == ROPE_YARN && json_is_null(json_object_get(object, "factor")));
    if (ratio && status == STATUS_OK) {
        rope->factor = (double)config->context_length / rope->original_context;
    }
    if (status == STATUS_OK) {
        status = json_number_get(object, "factor", !ratio, 1e-3, 1e6, &rope->factor, err);
    }
    if (status != STATUS_OK) {
        return status;
    }
    switch (kind) {
    case ROPE_YARN:
        return read_yarn(object, rope, err);
    case ROPE_LONGROPE:
        return read_longrope(object, rope, err);
    case ROPE_LLAMA3:
        return read_llama3(object, rope, err);
    default:
        return STATUS_OK;
    }
}

// Inside the object or beside it.
static enum status read_either(const json_t *json, const json_t *object, const char *key,
                               double min, double max, double *out, struct error *err) {
    enum status status = json_number_get(json, key, false, min, max, out, err);
    return status == STATUS_OK ? json_number_get(object, key, false, min, max, out, err) : status;
}

static enum status read_rotary_dim(const json_t *json, const json_t *object,
                                   const struct model_config *config, struct rope *rope,
                                   struct error *err) {
    double part = 1;
    enum status status = read_either(json, object, "partial_rotary_factor", 0, 1, &part, err);
    if (status == STATUS_OK && part != 1 &&
        !architecture_get(config->architecture)->partial_rotary) {
        return error_set(err, STATUS_UNSUPPORTED, "partial_rotary_factor",
                         "this architecture has no partial_rotary_factor of %g, only 1", part);
    }
    rope->rotary_dim = (int32_t)(config->head_dim * part);
    if (status == STATUS_OK && (rope->rotary_dim < 2 || rope->rotary_dim % 2 != 0)) {
        status = error_set(err, STATUS_INVALID_ARGUMENT, "partial_rotary_factor",
                           "partial_rotary_factor %g of a head of %d is %d, not even and positive",
                           part, config->head_dim, rope->rotary_dim);
    }
    return status;
}

static enum status read_object(const json_t *json, const json_t *object,
                               struct model_config *config, struct error *err) {
    struct rope *rope = &config->rope;
    enum status status = check_keys(object, err);
    if (status == STATUS_OK) {
        status = read_kind(object, architecture_get(config->architecture), &rope->kind, err);
    }
    if (status == STATUS_OK) {
        status = json_number_get(object, "rope_theta", false, 1, 1e12, &rope->theta, err);
    }
    if (status == STATUS_OK) {
        status = read_rotary_dim(json, object, config, rope, err);
    }
    return status == STATUS_OK ? read_scaling(json, object, config, rope, err) : status;
}

enum status rope_config_read(const json_t *json, struct model_config *config, struct error *err) {
    static const char *const keys[] = {"rope_scaling", "rope_parameters"}; // the first that is set
    config->rope = (struct rope){.theta = 10000, .factor = 1, .scale = 1};
    enum status status =
        json_number_get(json, "rope_theta", false, 1, 1e12, &config->rope.theta, err);
    for (size_t i = 0; i < sizeof keys / sizeof keys[0] && status == STATUS_OK; i++) {
        const json_t *object = json_value_find(json, keys[i]);
        if (object != NULL && !json_is_object(object)) {
            return error_set(err, STATUS_MALFORMED, keys[i], "%s is neither null nor an object",
                             keys[i]);
        }
        if (json_object_size(object) > 0) {
            status = read_object(json, object, config, err);
            if (status != STATUS_OK) {
                error_prefix_field(err, keys[i]);
            }
            return status;
        }
    }
    return status == STATUS_OK ? read_rotary_dim(json, NULL, config, &config->rope, err) : status;
}
