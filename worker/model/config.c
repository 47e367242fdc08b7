#include "worker/model/config.h"

#include <string.h>

#include "worker/model/config_fields.h"
#include "worker/model/config_head.h"
#include "worker/model/json_fields.h"
#include "worker/model/model_path.h"
#include "worker/model/rope_config.h"

// transformers chooses the class by model_type, so the two must agree. Score models have classes of
// their own.
static enum status check_model_type(const json_t *json, const struct model_config *config,
                                    struct error *err) {
    char type[64] = "";
    enum status status = json_string_get(json, "model_type", type, sizeof type, err);
    const struct architecture *architecture = architecture_get(config->architecture);
    if (status != STATUS_OK || type[0] == '\0' || config->head == MODEL_HEAD_SCORE ||
        strcmp(type, architecture->model_type) == 0) {
        return status;
    }
    return error_set(err, STATUS_UNSUPPORTED, "model_type",
                     "model_type %s does not belong to the classes of %s that architectures names",
                     type, architecture->family);
}

static enum status read_architecture(const json_t *json, struct model_config *config,
                                     struct error *err) {
    const char *name = json_string_value(json_array_get(json_object_get(json, "architectures"), 0));
    if (name == NULL) {
        return error_set(err, STATUS_MALFORMED, "architectures",
                         "architectures names no model class");
    }
    enum status status = architecture_find(name, &config->architecture, &config->head, err);
    return status == STATUS_OK ? check_model_type(json, config, err) : status;
}

// Fields that transformers takes no null for: of the classes of these families they are declared
// with a type, or a null of theirs ends in arithmetic.
static enum status check_nulls(const json_t *json, struct model_config *config, struct error *err) {
    enum {
        LLAMA = 1 << MODEL_ARCHITECTURE_LLAMA,
        QWEN2 = 1 << MODEL_ARCHITECTURE_QWEN2,
        QWEN3 = 1 << MODEL_ARCHITECTURE_QWEN3,
        PHI3 = 1 << MODEL_ARCHITECTURE_PHI3,
        ALL = (1 << MODEL_ARCHITECTURE_COUNT) - 1,
    };
    static const struct {
        const char *key;
        unsigned families;
    } fields[] = {
        {"hidden_act", ALL},
        {"rms_norm_eps", ALL},
        {"tie_word_embeddings", ALL},
        {"attention_bias", LLAMA | QWEN3},
        {"mlp_bias", LLAMA},
        {"head_dim", QWEN2 | QWEN3 | PHI3},
        {"use_sliding_window", QWEN2 | QWEN3},
        {"max_window_layers", QWEN2 | QWEN3},
        {"partial_rotary_factor", PHI3},
        {"original_max_position_embeddings", PHI3},
    };
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        if ((fields[i].families & 1u << config->architecture) != 0 &&
            json_is_null(json_object_get(json, fields[i].key))) {
            return error_set(err, STATUS_MALFORMED, fields[i].key,
                             "%s is null, which transformers refuses: leave it out for its default",
                             fields[i].key);
        }
    }
    // The base of the rotation may stand in rope_parameters instead.
    return json_is_null(json_object_get(json, "rope_theta")) &&
                   json_value_find(json, "rope_parameters") == NULL
               ? error_set(err, STATUS_MALFORMED, "rope_theta",
                           "rope_theta is null, which transformers refuses: leave it out for its "
                           "default")
               : STATUS_OK;
}

static enum status read_shapes(const json_t *json, struct model_config *config, struct error *err) {
    const struct architecture *architecture = architecture_get(config->architecture);
    const struct {
        const char *key;
        bool required;
        int64_t max;
        int32_t *out;
    } fields[] = {
        {"vocab_size", true, MODEL_VOCAB_MAX, &config->vocab_size},
        {"hidden_size", true, MODEL_HIDDEN_MAX, &config->hidden_dim},
        {"intermediate_size", true, MODEL_FFN_MAX, &config->ffn_dim},
        {"num_hidden_layers", true, MODEL_LAYERS_MAX, &config->n_layers},
        {"num_attention_heads", true, MODEL_HEADS_MAX, &config->n_heads},
        {"num_key_value_heads", false, MODEL_HEADS_MAX, &config->n_kv_heads},
        {"head_dim", false, MODEL_HEAD_DIM_MAX, &config->head_dim},
    };
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        enum status status = json_int_get(json, fields[i].key, fields[i].required, 1, fields[i].max,
                                          fields[i].out, err);
        if (status != STATUS_OK) {
            return status;
        }
    }
    enum status status = json_limit_get(json, "max_position_embeddings", true, 1, MODEL_CONTEXT_MAX,
                                        &config->context_length, err);
    if (status != STATUS_OK) {
        return status;
    }
    if (json_object_get(json, "num_key_value_heads") == NULL) {
        config->n_kv_heads = architecture->default_kv_heads;
    }
    if (config->n_kv_heads == 0) {
        config->n_kv_heads = config->n_heads;
    }
    if (json_object_get(json, "head_dim") == NULL) {
        config->head_dim = architecture->default_head_dim;
    }
    if (config->n_heads % config->n_kv_heads != 0) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "num_key_value_heads",
                         "%d attention heads cannot share %d key/value heads evenly",
                         config->n_heads, config->n_kv_heads);
    }
    if (config->head_dim == 0) {
        if (config->hidden_dim % config->n_heads != 0) {
            return error_set(
                err, STATUS_INVALID_ARGUMENT, "num_attention_heads",
                "hidden_size %d is not a multiple of %d heads, and there is no head_dim",
                config->hidden_dim, config->n_heads);
        }
        config->head_dim = config->hidden_dim / config->n_heads;
    }
    if (config->head_dim % 2 != 0 || config->head_dim > MODEL_HEAD_DIM_MAX) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "head_dim",
                         "head_dim is %d, it must be even and at most %d", config->head_dim,
                         MODEL_HEAD_DIM_MAX);
    }
    return STATUS_OK;
}

static enum status read_float(const json_t *json, const char *key, bool required, double min,
                              double max, float *out, struct error *err) {
    double value = *out;
    enum status status = json_number_get(json, key, required, min, max, &value, err);
    if (status == STATUS_OK) {
        *out = (float)value;
    }
    return status;
}

// What layer_types says of one layer.
static enum status read_layer_type(const json_t *value, bool *windowed, struct error *err) {
    const char *type = json_is_string(value) ? json_string_value(value) : "something else";
    if (strcmp(type, "sliding_attention") != 0 && strcmp(type, "full_attention") != 0) {
        return error_set(err, STATUS_UNSUPPORTED, "layer_types",
                         "a layer of type %.32s is not supported: full_attention and "
                         "sliding_attention are",
                         type);
    }
    *windowed = type[0] == 's';
    return STATUS_OK;
}

// Layers may be named one by one, which only some architectures heed: of the others it may say no
// more than what they are.
static enum status read_layer_types(const json_t *json, bool heeded, struct model_config *config,
                                    struct error *err) {
    const json_t *types = json_value_find(json, "layer_types");
    if (types == NULL) {
        return STATUS_OK;
    }
    if (!json_is_array(types) || json_array_size(types) != (size_t)config->n_layers) {
        return error_set(err, STATUS_MALFORMED, "layer_types",
                         "layer_types is not an array of %d layers", config->n_layers);
    }
    for (int32_t i = 0; i < config->n_layers; i++) {
        bool windowed = false;
        enum status status = read_layer_type(json_array_get(types, (size_t)i), &windowed, err);
        if (status != STATUS_OK) {
            return status;
        }
        if (windowed && config->sliding_window == 0) {
            return error_set(err, STATUS_INVALID_ARGUMENT, "layer_types",
                             "layer %d is of sliding_attention, but there is no window", i);
        }
        if (!heeded && windowed != config->windowed[i]) {
            return error_set(err, STATUS_UNSUPPORTED, "layer_types",
                             "layer %d of this architecture cannot be of type %s", i,
                             windowed ? "sliding_attention" : "full_attention");
        }
        config->windowed[i] = windowed;
    }
    return STATUS_OK;
}

static enum status read_sliding_window(const json_t *json, struct model_config *config,
                                       struct error *err) {
    const struct architecture *architecture = architecture_get(config->architecture);
    bool switched = architecture->window == ARCHITECTURE_WINDOW_SWITCHED;
    bool used = architecture->window == ARCHITECTURE_WINDOW_ALL;
    int32_t window = 0, first = switched ? 28 : 0;
    enum status status = STATUS_OK;
    if (switched) {
        status = json_bool_get(json, "use_sliding_window", &used, err);
    }
    if (status == STATUS_OK && switched) {
        status = json_limit_get(json, "max_window_layers", false, 0, MODEL_LAYERS_MAX, &first, err);
    }
    if (json_object_get(json, "sliding_window") == NULL) {
        window = architecture->default_window;
    }
    if (status == STATUS_OK && architecture->window != ARCHITECTURE_WINDOW_NONE) {
        status = json_limit_get(json, "sliding_window", false, 1, MODEL_CONTEXT_MAX, &window, err);
    }
    if (status != STATUS_OK) {
        return status;
    }
    config->sliding_window = used ? window : 0;
    for (int32_t i = first; config->sliding_window > 0 && i < config->n_layers; i++) {
        config->windowed[i] = true;
    }
    status = read_layer_types(json, switched, config, err);
    bool any = false;
    for (int32_t i = 0; i < config->n_layers; i++) {
        any = any || config->windowed[i];
    }
    config->sliding_window = any ? config->sliding_window : 0;
    return status;
}

static enum status refuse_true(const json_t *json, const char *key, struct error *err) {
    bool value = false;
    enum status status = json_bool_get(json, key, &value, err);
    if (status == STATUS_OK && value) {
        status = error_set(err, STATUS_UNSUPPORTED, key, "%s true is not supported", key);
    }
    return status;
}

// Sets the biases of the products that go by `key`, which must not be true where none does.
static enum status read_bias(const json_t *json, const char *key, enum architecture_bias rule,
                             struct model_config *config, struct error *err) {
    const struct architecture *architecture = architecture_get(config->architecture);
    bool value = false, heeded = false;
    enum status status = json_bool_get(json, key, &value, err);
    for (int i = 0; i < LAYER_PRODUCTS && status == STATUS_OK; i++) {
        if (architecture->products[i].bias == rule) {
            config->biased[i] = value;
            heeded = true;
        }
    }
    if (status == STATUS_OK && value && !heeded) {
        status = error_set(err, STATUS_UNSUPPORTED, key, "%s true is not supported for %s*", key,
                           architecture->family);
    }
    return status;
}

static enum status read_biases(const json_t *json, struct model_config *config, struct error *err) {
    const struct architecture *architecture = architecture_get(config->architecture);
    for (int i = 0; i < LAYER_PRODUCTS; i++) {
        config->biased[i] = architecture->products[i].bias == ARCHITECTURE_BIAS_ALWAYS;
    }
    enum status status =
        read_bias(json, "attention_bias", ARCHITECTURE_BIAS_ATTENTION, config, err);
    return status == STATUS_OK ? read_bias(json, "mlp_bias", ARCHITECTURE_BIAS_MLP, config, err)
                               : status;
}

// Attention in both directions, and weights in a file of another name than the format's.
static enum status refuse_other_ways(const json_t *json, struct error *err) {
    bool causal = true;
    enum status status = json_bool_get(json, "is_causal", &causal, err);
    if (status == STATUS_OK && !causal) {
        return error_set(err, STATUS_UNSUPPORTED, "is_causal", "is_causal false is not supported");
    }
    char file[64] = "model.safetensors";
    if (status == STATUS_OK) {
        status = json_string_get(json, "transformers_weights", file, sizeof file, err);
    }
    if (status == STATUS_OK && strcmp(file, "model.safetensors") != 0) {
        return error_set(err, STATUS_UNSUPPORTED, "transformers_weights",
                         "weights in %s are not supported: in model.safetensors they are", file);
    }
    return status;
}

static enum status read_variant(const json_t *json, struct model_config *config,
                                struct error *err) {
    char activation[32] = "silu";
    enum status status = json_string_get(json, "hidden_act", activation, sizeof activation, err);
    if (status == STATUS_OK && strcmp(activation, "silu") != 0 &&
        strcmp(activation, "swish") != 0) {
        return error_set(err, STATUS_UNSUPPORTED, "hidden_act",
                         "activation %s is not supported: silu is", activation);
    }
    if (status == STATUS_OK) {
        status = refuse_true(json, "is_encoder_decoder", err);
    }
    if (status == STATUS_OK) {
        status = refuse_other_ways(json, err);
    }
    if (status == STATUS_OK) {
        status = read_biases(json, config, err);
    }
    if (status == STATUS_OK && json_value_find(json, "quantization_config") != NULL) {
        status = error_set(err, STATUS_UNSUPPORTED, "quantization_config",
                           "quantized weights are not supported: F32, F16 and BF16 are");
    }
    config->norm_eps = architecture_get(config->architecture)->default_norm_eps;
    if (status == STATUS_OK) {
        status = read_float(json, "rms_norm_eps", false, 1e-12, 0.1, &config->norm_eps, err);
    }
    if (status == STATUS_OK) {
        status = json_bool_get(json, "tie_word_embeddings", &config->tied_embeddings, err);
    }
    return status;
}

static enum status add_eos(const json_t *value, struct model_config *config, struct error *err) {
    json_int_t id = json_is_integer(value) ? json_integer_value(value) : -1;
    if (id < 0 || id >= config->vocab_size) {
        return error_set(err, STATUS_LIMIT, "eos_token_id",
                         "eos_token_id holds something else than ids of 0 to %d",
                         config->vocab_size - 1);
    }
    for (int32_t i = 0; i < config->n_eos; i++) {
        if (config->eos_ids[i] == id) {
            return STATUS_OK;
        }
    }
    if (config->n_eos == MODEL_EOS_MAX) {
        return error_set(err, STATUS_LIMIT, "eos_token_id", "more than %d end tokens",
                         MODEL_EOS_MAX);
    }
    config->eos_ids[config->n_eos++] = (int32_t)id;
    return STATUS_OK;
}

static enum status read_eos(const json_t *json, struct model_config *config, struct error *err) {
    const json_t *value = json_value_find(json, "eos_token_id");
    if (value == NULL) {
        return STATUS_OK;
    }
    if (!json_is_array(value)) {
        return add_eos(value, config, err);
    }
    for (size_t i = 0; i < json_array_size(value); i++) {
        enum status status = add_eos(json_array_get(value, i), config, err);
        if (status != STATUS_OK) {
            return status;
        }
    }
    return STATUS_OK;
}

// -1 is how older files write "none".
static enum status read_special_ids(const json_t *json, struct model_config *config,
                                    struct error *err) {
    enum status status =
        json_int_get(json, "bos_token_id", false, -1, config->vocab_size - 1, &config->bos_id, err);
    if (status == STATUS_OK) {
        status = json_int_get(json, "pad_token_id", false, -1, config->vocab_size - 1,
                              &config->pad_id, err);
    }
    // Null is none; what is absent is the class's own, if the vocabulary has it.
    int32_t own = architecture_get(config->architecture)->default_pad_id;
    if (own > 0 && own < config->vocab_size && json_object_get(json, "pad_token_id") == NULL) {
        config->pad_id = own;
    }
    return status == STATUS_OK ? read_eos(json, config, err) : status;
}

static enum status read_config(const json_t *json, struct model_config *config, struct error *err) {
    static enum status (*const readers[])(const json_t *, struct model_config *, struct error *) = {
        read_architecture, check_nulls,         read_variant,     read_shapes,
        rope_config_read,  read_sliding_window, read_special_ids, config_head_read,
    };
    for (size_t i = 0; i < sizeof readers / sizeof readers[0]; i++) {
        enum status status = readers[i](json, config, err);
        if (status != STATUS_OK) {
            return status;
        }
    }
    return STATUS_OK;
}

// generation_config.json, or where there is none, config.json's fields of generation. The former
// may know further end tokens (Llama 3: <|eot_id|>).
static enum status read_generation(const char *directory, const json_t *config_json,
                                   const json_t *ignored, struct model_config *config,
                                   struct error *err) {
    json_t *json = NULL;
    const char *name = "generation_config.json";
    enum status status = model_document_read(directory, name, &json, err);
    bool whole = status != STATUS_NOT_FOUND;
    if (!whole) {
        name = "config.json";
        json = json_incref((json_t *)(uintptr_t)config_json);
        status = STATUS_OK;
    }
    if (status == STATUS_OK && whole) {
        status = read_eos(json, config, err);
    }
    if (status == STATUS_OK && config->head == MODEL_HEAD_LM) {
        status = generation_read(json, whole, ignored, &config->generation, err);
    }
    json_decref(json);
    if (status != STATUS_OK) {
        error_prefix_field(err, model_document_label(directory, name));
    }
    return status;
}

// The profile and its ignore_fields; both stay NULL where there are none. Owned by the caller.
static enum status read_beside(const char *directory, json_t **profile, json_t **ignored,
                               struct error *err) {
    struct error own = {0}; // a file that is absent is no failure
    enum status status = model_profile_document_read(directory, profile, &own);
    if (status == STATUS_NOT_FOUND) {
        return STATUS_OK;
    }
    if (status != STATUS_OK) {
        *err = own;
    } else {
        status = json_strings_get(*profile, "ignore_fields", ignored, err);
    }
    if (status != STATUS_OK) {
        error_prefix_field(err, "surefoot.json");
    }
    return status;
}

static enum status read_all(const char *directory, const json_t *json, const json_t *profile,
                            const json_t *ignored, struct model_config *config, struct error *err) {
    enum status status = read_config(json, config, err);
    if (status == STATUS_OK) {
        status = config_fields_check(json, ignored, err);
    }
    if (status != STATUS_OK) {
        error_prefix_field(err, model_document_label(directory, "config.json"));
        return status;
    }
    status = config_head_choose(json, profile, config, err);
    return status == STATUS_OK ? read_generation(directory, json, ignored, config, err) : status;
}

enum status model_config_read(const char *directory, struct model_config *out, struct error *err) {
    json_t *json = NULL;
    json_t *profile = NULL;
    json_t *ignored = NULL;
    struct model_config config = {
        .bos_id = -1,
        .pad_id = -1,
        .n_labels = 1,
        .score_var = 1,
    };
    struct model_path path;
    enum status status = read_beside(directory, &profile, &ignored, err);
    if (status == STATUS_OK) {
        status = model_path_find(directory, &path, err); // its errors are not config.json's
    }
    if (status == STATUS_OK) {
        status = model_document_read(directory, "config.json", &json, err);
        if (status != STATUS_OK) {
            error_prefix_field(err, model_document_label(directory, "config.json"));
        }
    }
    if (status == STATUS_OK) {
        status = read_all(directory, json, profile, ignored, &config, err);
    }
    json_decref(ignored);
    json_decref(profile);
    json_decref(json);
    if (status == STATUS_OK) {
        *out = config;
    } else {
        model_profile_label_error(directory, err);
    }
    return status;
}

int32_t model_config_default_context(const struct model_config *config) {
    const struct rope *rope = &config->rope;
    bool shorter = rope->kind == ROPE_LONGROPE && rope->original_context < config->context_length;
    return shorter ? rope->original_context : config->context_length;
}
