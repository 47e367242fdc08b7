#include "tests/model/shape_model.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "tests/model/made_weights.h"
#include "tests/support/testkit.h"

static int integer(const json_t *config, const char *key, int absent) {
    const json_t *value = json_object_get(config, key);
    return json_is_integer(value) ? (int)json_integer_value(value) : absent;
}

static void add_matrix(json_t *shapes, const char *prefix, const char *name, int rows, int cols,
                       bool bias) {
    char full[96];
    snprintf(full, sizeof full, "%s%s.weight", prefix, name);
    json_object_set_new(shapes, full, json_pack("[i,i]", rows, cols));
    if (bias) {
        snprintf(full, sizeof full, "%s%s.bias", prefix, name);
        json_object_set_new(shapes, full, json_pack("[i]", rows));
    }
}

static void add_vector(json_t *shapes, const char *prefix, const char *name, int n) {
    char full[96];
    snprintf(full, sizeof full, "%s%s.weight", prefix, name);
    json_object_set_new(shapes, full, json_pack("[i]", n));
}

static void add_layer(json_t *shapes, const json_t *config, const char *family, int layer) {
    int hidden = integer(config, "hidden_size", 0), ffn = integer(config, "intermediate_size", 0);
    int heads = integer(config, "num_attention_heads", 0);
    int kv_heads = integer(config, "num_key_value_heads", 8);
    int dim = integer(config, "head_dim", strcmp(family, "qwen3") == 0 ? 128 : hidden / heads);
    bool attention_bias = json_is_true(json_object_get(config, "attention_bias"));
    bool mlp_bias = json_is_true(json_object_get(config, "mlp_bias"));
    bool qkv_bias = attention_bias || strcmp(family, "qwen2") == 0;
    char at[64];
    snprintf(at, sizeof at, "model.layers.%d.", layer);
    add_vector(shapes, at, "input_layernorm", hidden);
    add_vector(shapes, at, "post_attention_layernorm", hidden);
    if (strcmp(family, "qwen3") == 0) {
        add_vector(shapes, at, "self_attn.q_norm", dim);
        add_vector(shapes, at, "self_attn.k_norm", dim);
    }
    if (strcmp(family, "phi3") == 0) {
        int rows = (heads + 2 * kv_heads) * dim;
        add_matrix(shapes, at, "self_attn.qkv_proj", rows, hidden, false);
        add_matrix(shapes, at, "mlp.gate_up_proj", 2 * ffn, hidden, false);
    } else {
        add_matrix(shapes, at, "self_attn.q_proj", heads * dim, hidden, qkv_bias);
        add_matrix(shapes, at, "self_attn.k_proj", kv_heads * dim, hidden, qkv_bias);
        add_matrix(shapes, at, "self_attn.v_proj", kv_heads * dim, hidden, qkv_bias);
        add_matrix(shapes, at, "mlp.gate_proj", ffn, hidden, mlp_bias);
        add_matrix(shapes, at, "mlp.up_proj", ffn, hidden, mlp_bias);
    }
    add_matrix(shapes, at, "self_attn.o_proj", hidden, heads * dim, attention_bias);
    add_matrix(shapes, at, "mlp.down_proj", hidden, ffn, mlp_bias);
}

static json_t *tensor_shapes(const json_t *config) {
    json_t *shapes = json_object();
    const char *family = json_string_value(json_object_get(config, "model_type"));
    const char *name =
        json_string_value(json_array_get(json_object_get(config, "architectures"), 0));
    int hidden = integer(config, "hidden_size", 0), vocab = integer(config, "vocab_size", 0);
    add_matrix(shapes, "model.", "embed_tokens", vocab, hidden, false);
    for (int i = 0; i < integer(config, "num_hidden_layers", 0); i++) {
        add_layer(shapes, config, family, i);
    }
    add_vector(shapes, "model.", "norm", hidden);
    if (strstr(name, "SequenceClassification") != NULL) {
        add_matrix(shapes, "", "score", 1, hidden, false);
    } else if (!json_is_true(json_object_get(config, "tie_word_embeddings"))) {
        add_matrix(shapes, "", "lm_head", vocab, hidden, false);
    }
    return shapes;
}

static void write_config(const char *directory, const json_t *config) {
    char path[4200];
    snprintf(path, sizeof path, "%s/config.json", directory);
    assert_int_equal(json_dump_file(config, path, 0), 0);
}

char *shape_model_make(const json_t *config) {
    char *directory = testkit_make_directory();
    json_t *shapes = tensor_shapes(config);
    write_config(directory, config);
    made_weights_write(directory, shapes, NULL, 0.5);
    json_decref(shapes);
    return directory;
}
