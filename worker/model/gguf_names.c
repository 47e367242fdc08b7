#include "worker/model/gguf_names.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCKS_MAX = 1024, KEY_BYTES = 128 };

enum { LLAMA = GGUF_LLAMA, QWEN2 = GGUF_QWEN2, QWEN3 = GGUF_QWEN3, PHI3 = GGUF_PHI3 };
enum { SPLIT = LLAMA | QWEN2 | QWEN3, ALL = SPLIT | PHI3 };

static const struct gguf_architecture architectures[] = {
    {"llama", "LlamaForCausalLM", LLAMA, true},
    {"qwen2", "Qwen2ForCausalLM", QWEN2, false},
    {"qwen3", "Qwen3ForCausalLM", QWEN3, false},
    {"phi3", "Phi3ForCausalLM", PHI3, false},
};

static const struct tensor_name {
    const char *own;          // below "blk.N." where in_block
    const char *hugging_face; // below "model.layers.N."
    bool in_block;
    unsigned weights; // architectures that have it with .weight
    unsigned biases;  // that may have it with .bias
} tensor_names[] = {
    {"token_embd", "model.embed_tokens", false, ALL, 0},
    {"output_norm", "model.norm", false, ALL, 0},
    {"output", "lm_head", false, ALL, 0},
    {"attn_norm", "input_layernorm", true, ALL, 0},
    {"attn_q", "self_attn.q_proj", true, SPLIT, SPLIT},
    {"attn_k", "self_attn.k_proj", true, SPLIT, SPLIT},
    {"attn_v", "self_attn.v_proj", true, SPLIT, SPLIT},
    {"attn_qkv", "self_attn.qkv_proj", true, PHI3, 0},
    {"attn_q_norm", "self_attn.q_norm", true, QWEN3, 0},
    {"attn_k_norm", "self_attn.k_norm", true, QWEN3, 0},
    {"attn_output", "self_attn.o_proj", true, ALL, LLAMA | QWEN3},
    {"ffn_norm", "post_attention_layernorm", true, ALL, 0},
    {"ffn_gate", "mlp.gate_proj", true, SPLIT, LLAMA},
    {"ffn_up", "mlp.up_proj", true, SPLIT, LLAMA},
    {"ffn_up", "mlp.gate_up_proj", true, PHI3, 0},
    {"ffn_down", "mlp.down_proj", true, ALL, LLAMA},
};
enum { TENSOR_NAMES = sizeof tensor_names / sizeof tensor_names[0] };

bool gguf_get_string(const struct gguf *gguf, const char *key, struct gguf_string *out) {
    const struct gguf_value *value = gguf_find(gguf, key);
    if (value == NULL || value->is_array) {
        return false;
    }
    const unsigned char *at = value->data;
    return gguf_next_string(value, &at, out);
}

bool gguf_string_is(const struct gguf_string *string, const char *text) {
    return string->count == strlen(text) && memcmp(string->bytes, text, string->count) == 0;
}

static const struct gguf_architecture *find_architecture(const struct gguf *gguf) {
    struct gguf_string name;
    if (!gguf_get_string(gguf, "general.architecture", &name)) {
        return NULL;
    }
    for (size_t i = 0; i < sizeof architectures / sizeof architectures[0]; i++) {
        if (gguf_string_is(&name, architectures[i].name)) {
            return &architectures[i];
        }
    }
    return NULL;
}

enum status gguf_architecture_get(const struct gguf *gguf, const struct gguf_architecture **out,
                                  struct error *err) {
    static const char key[] = "general.architecture";
    struct gguf_string name;
    if (!gguf_get_string(gguf, key, &name)) {
        return error_set(err, STATUS_MALFORMED, key, "%s is missing or not a string", key);
    }
    *out = find_architecture(gguf);
    return *out != NULL ? STATUS_OK
                        : error_set(err, STATUS_UNSUPPORTED, key,
                                    "%.*s is not supported: llama, qwen2, qwen3 and phi3 are",
                                    (int)(name.count < 64 ? name.count : 64), name.bytes);
}

// Splits "blk.7.attn_q" into 7 and "attn_q"; -1 and the whole for names outside of blocks, -2 for
// what looks like neither.
static int32_t block_of(const char *name, const char **rest) {
    *rest = name;
    if (strncmp(name, "blk.", 4) != 0) {
        return -1;
    }
    char *end;
    long block = name[4] >= '0' && name[4] <= '9' ? strtol(name + 4, &end, 10) : -2;
    if (block < 0 || block >= BLOCKS_MAX || *end != '.') {
        return -2;
    }
    *rest = end + 1;
    return (int32_t)block;
}

bool gguf_name_is_expected(const struct gguf_architecture *architecture, const char *name,
                           int64_t n_blocks) {
    static const char *const rope_factors[] = {"rope_freqs.weight", "rope_factors_long.weight",
                                               "rope_factors_short.weight"};
    for (size_t i = 0; i < 3; i++) {
        if (strcmp(name, rope_factors[i]) == 0) {
            return true;
        }
    }
    const char *rest;
    int32_t block = block_of(name, &rest);
    for (size_t i = 0; i < TENSOR_NAMES; i++) {
        const struct tensor_name *row = &tensor_names[i];
        size_t length = strlen(row->own);
        if (row->in_block != (block >= 0) || block >= n_blocks ||
            strncmp(rest, row->own, length) != 0) {
            continue;
        }
        unsigned owners = strcmp(rest + length, ".weight") == 0 ? row->weights
                          : strcmp(rest + length, ".bias") == 0 ? row->biases
                                                                : 0;
        if ((owners & architecture->bit) != 0) {
            return true;
        }
    }
    return false;
}

// Queries and keys, with the number of their heads.
static int32_t permuted_heads_of(const struct gguf *gguf,
                                 const struct gguf_architecture *architecture, const char *own) {
    bool is_query = strcmp(own, "attn_q") == 0;
    if (!architecture->permuted || (!is_query && strcmp(own, "attn_k") != 0)) {
        return 0;
    }
    char key[KEY_BYTES];
    int64_t heads = 0;
    snprintf(key, sizeof key, "%s.attention.head_count", architecture->name);
    const struct gguf_value *value = gguf_find(gguf, key);
    snprintf(key, sizeof key, "%s.attention.head_count_kv", architecture->name);
    const struct gguf_value *kv_value = gguf_find(gguf, key);
    value = !is_query && kv_value != NULL ? kv_value : value;
    bool known = value != NULL && value->count > 0 && gguf_integer(value, 0, &heads);
    return known && heads > 0 && heads <= INT32_MAX ? (int32_t)heads : 0;
}

const struct gguf_tensor *gguf_model_tensor(const struct gguf *gguf, const char *name,
                                            int32_t *permuted_heads) {
    const struct gguf_architecture *architecture = find_architecture(gguf);
    const char *dot = strrchr(name, '.');
    if (architecture == NULL || dot == NULL) {
        return NULL;
    }
    static const char prefix[] = "model.layers.";
    const char *rest = name;
    long block = -1;
    if (strncmp(name, prefix, sizeof prefix - 1) == 0) {
        char *end;
        block = strtol(name + sizeof prefix - 1, &end, 10);
        if (block < 0 || block >= BLOCKS_MAX || *end != '.') {
            return NULL;
        }
        rest = end + 1;
    }
    for (size_t i = 0; i < TENSOR_NAMES; i++) {
        const struct tensor_name *row = &tensor_names[i];
        size_t length = strlen(row->hugging_face);
        if (row->in_block != (block >= 0) || (row->weights & architecture->bit) == 0 ||
            rest + length != dot || strncmp(rest, row->hugging_face, length) != 0) {
            continue;
        }
        char own[GGUF_NAME_BYTES_MAX];
        if (block >= 0) {
            snprintf(own, sizeof own, "blk.%ld.%s%s", block, row->own, dot);
        } else {
            snprintf(own, sizeof own, "%s%s", row->own, dot);
        }
        *permuted_heads = permuted_heads_of(gguf, architecture, row->own);
        return gguf_find_tensor(gguf, own);
    }
    return NULL;
}
