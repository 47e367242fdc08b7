#include "worker/model/gguf_config.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/model/gguf_translation.h"

enum status gguf_wrong_type(const char *key, const char *wanted, struct error *err) {
    return error_set(err, STATUS_MALFORMED, key, "%s is not %s", key, wanted);
}

static enum status missing(const char *key, struct error *err) {
    return error_set(err, STATUS_MALFORMED, key, "%s is missing", key);
}

enum status gguf_get_integer(const struct gguf *gguf, const char *key, bool required, int64_t *out,
                             struct error *err) {
    const struct gguf_value *value = gguf_find(gguf, key);
    if (value == NULL) {
        return required ? missing(key, err) : STATUS_OK;
    }
    int64_t first = -1;
    bool same = value->count > 0;
    for (uint64_t i = 0; same && i < value->count; i++) {
        int64_t item;
        same = gguf_integer(value, i, &item) && item >= 0 && (i == 0 || item == first);
        first = item;
    }
    if (!same) {
        return gguf_wrong_type(key,
                               value->is_array ? "one number of at least 0 for all layers"
                                               : "an integer of at least 0",
                               err);
    }
    *out = first;
    return STATUS_OK;
}

enum status gguf_get_real(const struct gguf *gguf, const char *key, bool required, double *out,
                          struct error *err) {
    const struct gguf_value *value = gguf_find(gguf, key);
    if (value == NULL) {
        return required ? missing(key, err) : STATUS_OK;
    }
    if (value->is_array || !gguf_real(value, 0, out) || !isfinite(*out)) {
        return gguf_wrong_type(key, "a finite number", err);
    }
    return STATUS_OK;
}

enum status gguf_copy_string(const struct gguf *gguf, const char *key, json_t *object,
                             const char *to, struct error *err) {
    struct gguf_string text;
    if (gguf_find(gguf, key) == NULL) {
        return STATUS_OK;
    }
    json_t *string =
        gguf_get_string(gguf, key, &text) ? json_stringn(text.bytes, text.count) : NULL;
    if (string == NULL) {
        return gguf_wrong_type(key, "a string of UTF-8", err);
    }
    json_object_set_new(object, to, string);
    return STATUS_OK;
}

const char *gguf_full_key(const struct gguf_translation *t, const char *suffix,
                          char key[GGUF_KEY_BYTES]) {
    snprintf(key, GGUF_KEY_BYTES, "%s.%s", t->architecture->name, suffix);
    return key;
}

static enum status add_numbers(const struct gguf_translation *t, struct error *err) {
    static const struct {
        const char *suffix;
        const char *to;
        bool required;
        bool real;
    } numbers[] = {
        {"context_length", "max_position_embeddings", true, false},
        {"embedding_length", "hidden_size", true, false},
        {"block_count", "num_hidden_layers", true, false},
        {"feed_forward_length", "intermediate_size", true, false},
        {"attention.head_count", "num_attention_heads", true, false},
        {"attention.head_count_kv", "num_key_value_heads", false, false},
        {"attention.key_length", "head_dim", false, false},
        {"attention.layer_norm_rms_epsilon", "rms_norm_eps", true, true},
        {"rope.freq_base", "rope_theta", false, true},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        char key[GGUF_KEY_BYTES];
        gguf_full_key(t, numbers[i].suffix, key);
        if (!numbers[i].required && gguf_find(t->gguf, key) == NULL) {
            continue;
        }
        int64_t integer = 0;
        double real = 0;
        enum status status =
            numbers[i].real ? gguf_get_real(t->gguf, key, numbers[i].required, &real, err)
                            : gguf_get_integer(t->gguf, key, numbers[i].required, &integer, err);
        if (status != STATUS_OK) {
            return status;
        }
        json_object_set_new(t->config, numbers[i].to,
                            numbers[i].real ? json_real(real) : json_integer(integer));
    }
    return STATUS_OK;
}

// Keys that may only say what the architecture does anyway.
static enum status check_fixed(const struct gguf_translation *t, struct error *err) {
    static const struct {
        const char *suffix;
        int64_t value;
    } fixed[] = {
        {"expert_count", 0}, {"expert_used_count", 0},     {"attention.causal", 1},
        {"pooling_type", 0}, {"use_parallel_residual", 0}, {"nextn_predict_layers", 0},
    };
    for (size_t i = 0; i < sizeof fixed / sizeof fixed[0]; i++) {
        char key[GGUF_KEY_BYTES];
        int64_t value = fixed[i].value;
        enum status status =
            gguf_get_integer(t->gguf, gguf_full_key(t, fixed[i].suffix, key), false, &value, err);
        if (status == STATUS_OK && value != fixed[i].value) {
            status = error_set(err, STATUS_UNSUPPORTED, key, "%s is %lld: only %lld is supported",
                               key, (long long)value, (long long)fixed[i].value);
        }
        if (status != STATUS_OK) {
            return status;
        }
    }
    return STATUS_OK;
}

static enum status add_vocabulary(const struct gguf_translation *t, struct error *err) {
    const struct gguf_tensor *table = gguf_find_tensor(t->gguf, "token_embd.weight");
    if (table == NULL || table->n_dims != 2) {
        return error_set(err, STATUS_SHAPE, "token_embd.weight", "there is no such matrix");
    }
    char key[GGUF_KEY_BYTES];
    int64_t size = table->extents[1];
    enum status status =
        gguf_get_integer(t->gguf, gguf_full_key(t, "vocab_size", key), false, &size, err);
    if (status == STATUS_OK && size != table->extents[1]) {
        status = error_set(err, STATUS_SHAPE, key, "%s is %lld, token_embd.weight has %lld rows",
                           key, (long long)size, (long long)table->extents[1]);
    }
    json_object_set_new(t->config, "vocab_size", json_integer(table->extents[1]));
    json_object_set_new(t->config, "tie_word_embeddings",
                        json_boolean(gguf_find_tensor(t->gguf, "output.weight") == NULL));
    return status;
}

int64_t gguf_head_dim(const struct gguf_translation *t) {
    json_int_t heads = json_integer_value(json_object_get(t->config, "num_attention_heads"));
    json_t *given = json_object_get(t->config, "head_dim");
    json_int_t hidden = json_integer_value(json_object_get(t->config, "hidden_size"));
    return given != NULL ? json_integer_value(given) : heads > 0 ? hidden / heads : 0;
}

static enum status add_head(const struct gguf_translation *t, struct error *err) {
    char key[GGUF_KEY_BYTES];
    int64_t width = gguf_head_dim(t), rotated = width, value_width = width;
    enum status status = gguf_get_integer(t->gguf, gguf_full_key(t, "attention.value_length", key),
                                          false, &value_width, err);
    if (status == STATUS_OK && value_width != width) {
        return error_set(err, STATUS_UNSUPPORTED, key,
                         "values of %lld numbers a head beside keys of %lld",
                         (long long)value_width, (long long)width);
    }
    if (status == STATUS_OK) {
        status = gguf_get_integer(t->gguf, gguf_full_key(t, "rope.dimension_count", key), false,
                                  &rotated, err);
    }
    if (status != STATUS_OK || rotated == width) {
        return status;
    }
    // Permuted rows of a partly rotated head would be others than those that permutation moved.
    if (t->architecture->permuted || rotated <= 0 || rotated > width) {
        return error_set(err, STATUS_UNSUPPORTED, key, "%lld of %lld numbers of a head are rotated",
                         (long long)rotated, (long long)width);
    }
    json_object_set_new(t->config, "partial_rotary_factor",
                        json_real((double)rotated / (double)width));
    return STATUS_OK;
}

// Sliding windows: those of llama files are Mistral's, those of phi3 its own; 0 is none.
static enum status add_window(const struct gguf_translation *t, struct error *err) {
    char key[GGUF_KEY_BYTES];
    int64_t window = 0;
    enum status status = gguf_get_integer(
        t->gguf, gguf_full_key(t, "attention.sliding_window", key), false, &window, err);
    if (status != STATUS_OK || window == 0) {
        return status;
    }
    json_t *context = json_object_get(t->config, "max_position_embeddings");
    bool wide = window >= json_integer_value(context);
    if ((t->architecture->bit & (GGUF_QWEN2 | GGUF_QWEN3)) != 0 && !wide) {
        return error_set(err, STATUS_UNSUPPORTED, key, "a window of %lld tokens in some layers",
                         (long long)window);
    }
    if (t->architecture->bit == GGUF_LLAMA && !wide) {
        json_object_set_new(t->config, "architectures", json_pack("[s]", "MistralForCausalLM"));
    }
    if ((t->architecture->bit & (GGUF_LLAMA | GGUF_PHI3)) != 0) {
        json_object_set_new(t->config, "sliding_window", json_integer(window));
    }
    return STATUS_OK;
}

// Every key of the architecture is one that was followed above, or says nothing about the values.
static enum status check_keys(const struct gguf_translation *t, struct error *err) {
    static const char *const known[] = {
        "context_length",
        "embedding_length",
        "block_count",
        "feed_forward_length",
        "attention.head_count",
        "attention.head_count_kv",
        "attention.key_length",
        "attention.value_length",
        "attention.layer_norm_rms_epsilon",
        "attention.causal",
        "attention.sliding_window",
        "rope.freq_base",
        "rope.dimension_count",
        "rope.scaling.type",
        "rope.scaling.factor",
        "rope.scale_linear",
        "rope.scaling.attn_factor",
        "rope.scaling.original_context_length",
        "rope.scaling.finetuned",
        "rope.scaling.yarn_beta_fast",
        "rope.scaling.yarn_beta_slow",
        "vocab_size",
        "expert_count",
        "expert_used_count",
        "pooling_type",
        "use_parallel_residual",
        "nextn_predict_layers",
        "tensor_data_layout",
    };
    size_t length = strlen(t->architecture->name);
    for (size_t i = 0; i < gguf_value_count(t->gguf); i++) {
        const char *key = gguf_value_at(t->gguf, i)->key;
        if (strncmp(key, t->architecture->name, length) != 0 || key[length] != '.') {
            continue;
        }
        bool found = false;
        for (size_t k = 0; k < sizeof known / sizeof known[0] && !found; k++) {
            found = strcmp(key + length + 1, known[k]) == 0;
        }
        if (!found) {
            return error_set(err, STATUS_UNSUPPORTED, key, "%s is not known", key);
        }
    }
    return STATUS_OK;
}

static bool has_bias(const struct gguf_translation *t, const char *own) {
    char name[64];
    snprintf(name, sizeof name, "blk.0.%s.bias", own);
    return gguf_find_tensor(t->gguf, name) != NULL;
}

// Biases come in groups that one flag of config.json stands for, all or none.
static enum status add_biases(const struct gguf_translation *t, const char *const *owns, size_t n,
                              const char *flag, struct error *err) {
    bool first = has_bias(t, owns[0]);
    for (size_t i = 1; i < n; i++) {
        if (has_bias(t, owns[i]) != first) {
            return error_set(err, STATUS_UNSUPPORTED, owns[i],
                             "of %s and %s one has a bias, the other has none", owns[0], owns[i]);
        }
    }
    json_object_set_new(t->config, flag, json_boolean(first));
    return STATUS_OK;
}

static enum status check_tensors(const struct gguf_translation *t, struct error *err) {
    static const char *const attention[] = {"attn_q", "attn_k", "attn_v", "attn_output"};
    static const char *const mlp[] = {"ffn_gate", "ffn_up", "ffn_down"};
    json_int_t n_blocks = json_integer_value(json_object_get(t->config, "num_hidden_layers"));
    for (size_t i = 0; i < gguf_tensor_count(t->gguf); i++) {
        const char *name = gguf_tensor_at(t->gguf, i)->name;
        if (!gguf_name_is_expected(t->architecture, name, n_blocks)) {
            return error_set(err, STATUS_UNSUPPORTED, name,
                             "a %s model of %lld blocks has no tensor %.200s",
                             t->architecture->name, (long long)n_blocks, name);
        }
    }
    enum status status = STATUS_OK;
    if ((t->architecture->bit & (GGUF_LLAMA | GGUF_QWEN3)) != 0) {
        status = add_biases(t, attention, 4, "attention_bias", err);
    }
    if (status == STATUS_OK && t->architecture->bit == GGUF_LLAMA) {
        status = add_biases(t, mlp, 3, "mlp_bias", err);
    }
    return status;
}

// Turns end where one of these stands, which older files do not name as an end token.
static bool ends_turn(const struct gguf_string *token) {
    static const char *const spellings[] = {"<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>",
                                            "<|eom_id|>"};
    for (size_t i = 0; i < sizeof spellings / sizeof spellings[0]; i++) {
        if (gguf_string_is(token, spellings[i])) {
            return true;
        }
    }
    return false;
}

static void add_id(json_t *ids, int64_t id) {
    size_t i;
    json_t *known;
    json_array_foreach(ids, i, known) {
        if (json_integer_value(known) == id) {
            return;
        }
    }
    json_array_append_new(ids, json_integer(id));
}

static enum status read_end_ids(const struct gguf *gguf, json_t *ids, struct error *err) {
    static const char *const keys[] = {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
                                       "tokenizer.ggml.eom_token_id"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        int64_t id = -1;
        enum status status = gguf_get_integer(gguf, keys[i], false, &id, err);
        if (status != STATUS_OK) {
            return status;
        }
        if (id >= 0) {
            add_id(ids, id);
        }
    }
    const struct gguf_value *tokens = gguf_find(gguf, "tokenizer.ggml.tokens");
    const struct gguf_value *types = gguf_find(gguf, "tokenizer.ggml.token_type");
    const unsigned char *at = tokens != NULL ? tokens->data : NULL;
    struct gguf_string token;
    for (int64_t id = 0; tokens != NULL && gguf_next_string(tokens, &at, &token); id++) {
        int64_t type = 0;
        bool typed = types != NULL && (uint64_t)id < types->count &&
                     gguf_integer(types, (uint64_t)id, &type);
        // 3 is a control token, 4 one that a user defined.
        if (typed && (type == 3 || type == 4) && ends_turn(&token)) {
            add_id(ids, id);
        }
    }
    return STATUS_OK;
}

// The number that a person wrote: the shortest one that is this f32.
static double written(double value) {
    char text[32];
    double parsed = value;
    for (int digits = 6; digits <= 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        parsed = strtod(text, NULL);
        if ((float)parsed == (float)value) {
            break;
        }
    }
    return parsed;
}

static json_t *plain_value(const struct gguf_value *value) {
    int64_t integer;
    double real;
    if (!value->is_array && gguf_integer(value, 0, &integer)) {
        return json_integer((json_int_t)integer);
    }
    if (!value->is_array && gguf_real(value, 0, &real) && isfinite(real)) {
        return json_real(written(real));
    }
    return json_true(); // a text or a list: that it is there is all that counts
}

// Sampling that the makers recommend, by the names of generation_config.json. What has none there
// keeps its own, for the reader to refuse.
static void add_sampling(const struct gguf *gguf, json_t *config) {
    static const char prefix[] = "general.sampling.";
    static const char *const names[][2] = {{"temp", "temperature"},
                                           {"top_k", "top_k"},
                                           {"top_p", "top_p"},
                                           {"min_p", "min_p"},
                                           {"penalty_repeat", "repetition_penalty"}};
    for (size_t i = 0; i < gguf_value_count(gguf); i++) {
        const struct gguf_value *value = gguf_value_at(gguf, i);
        if (strncmp(value->key, prefix, sizeof prefix - 1) != 0) {
            continue;
        }
        const char *to = value->key;
        for (size_t k = 0; k < sizeof names / sizeof names[0]; k++) {
            to = strcmp(value->key + sizeof prefix - 1, names[k][0]) == 0 ? names[k][1] : to;
        }
        json_object_set_new(config, to, plain_value(value));
        json_object_set_new(config, "do_sample", json_true());
    }
    json_t *temperature = json_object_get(config, "temperature");
    if (temperature != NULL && json_number_value(temperature) == 0) {
        json_object_del(config, "temperature");
        json_object_set_new(config, "do_sample", json_false());
    }
}

enum status gguf_generation_config(const struct gguf *gguf, json_t **out, struct error *err) {
    json_t *ids = json_array();
    enum status status = read_end_ids(gguf, ids, err);
    if (status != STATUS_OK) {
        json_decref(ids);
        return status;
    }
    *out = json_object();
    if (json_array_size(ids) > 0) {
        json_object_set(*out, "eos_token_id", ids);
    }
    add_sampling(gguf, *out);
    json_decref(ids);
    return STATUS_OK;
}

static enum status add_special_ids(const struct gguf_translation *t, struct error *err) {
    static const struct {
        const char *key;
        const char *to;
    } names[] = {{"tokenizer.ggml.bos_token_id", "bos_token_id"},
                 {"tokenizer.ggml.eos_token_id", "eos_token_id"},
                 {"tokenizer.ggml.padding_token_id", "pad_token_id"}};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        int64_t id = -1;
        enum status status = gguf_get_integer(t->gguf, names[i].key, false, &id, err);
        if (status != STATUS_OK) {
            return status;
        }
        if (id >= 0) {
            json_object_set_new(t->config, names[i].to, json_integer(id));
        }
    }
    return STATUS_OK;
}

enum status gguf_config(const struct gguf *gguf, json_t **out, struct error *err) {
    static enum status (*const steps[])(const struct gguf_translation *, struct error *) = {
        add_numbers,   check_fixed,     add_vocabulary, add_head,      add_window,
        gguf_add_rope, add_special_ids, check_keys,     check_tensors,
    };
    struct gguf_translation t = {.gguf = gguf};
    enum status status = gguf_architecture_get(gguf, &t.architecture, err);
    if (status != STATUS_OK) {
        return status;
    }
    t.config = json_pack("{s:[s]}", "architectures", t.architecture->class_name);
    for (size_t i = 0; i < sizeof steps / sizeof steps[0] && status == STATUS_OK; i++) {
        status = steps[i](&t, err);
    }
    if (status != STATUS_OK) {
        json_decref(t.config);
        return status;
    }
    *out = t.config;
    return STATUS_OK;
}
