#include "worker/model/architecture.h"

#include <string.h>

static const struct architecture architectures[MODEL_ARCHITECTURE_COUNT] = {
    [MODEL_ARCHITECTURE_LLAMA] =
        {
            .family = "Llama",
            .model_type = "llama",
            .products =
                {
                    [LAYER_QKV] = {{"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"},
                                   ARCHITECTURE_BIAS_ATTENTION},
                    [LAYER_O] = {{"self_attn.o_proj"}, ARCHITECTURE_BIAS_ATTENTION},
                    [LAYER_GATE_UP] = {{"mlp.gate_proj", "mlp.up_proj"}, ARCHITECTURE_BIAS_MLP},
                    [LAYER_DOWN] = {{"mlp.down_proj"}, ARCHITECTURE_BIAS_MLP},
                },
            .attention_norm = "input_layernorm",
            .ffn_norm = "post_attention_layernorm",
            .default_norm_eps = 1e-6f,
            .has_score_classes = true,
        },
    [MODEL_ARCHITECTURE_MISTRAL] =
        {
            .family = "Mistral",
            .model_type = "mistral",
            .products =
                {
                    [LAYER_QKV] = {{"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"}},
                    [LAYER_O] = {{"self_attn.o_proj"}},
                    [LAYER_GATE_UP] = {{"mlp.gate_proj", "mlp.up_proj"}},
                    [LAYER_DOWN] = {{"mlp.down_proj"}},
                },
            .attention_norm = "input_layernorm",
            .ffn_norm = "post_attention_layernorm",
            .window = ARCHITECTURE_WINDOW_ALL,
            .default_window = 4096,
            .default_kv_heads = 8,
            .default_norm_eps = 1e-6f,
        },
    [MODEL_ARCHITECTURE_QWEN2] =
        {
            .family = "Qwen2",
            .model_type = "qwen2",
            .products =
                {
                    [LAYER_QKV] = {{"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"},
                                   ARCHITECTURE_BIAS_ALWAYS},
                    [LAYER_O] = {{"self_attn.o_proj"}},
                    [LAYER_GATE_UP] = {{"mlp.gate_proj", "mlp.up_proj"}},
                    [LAYER_DOWN] = {{"mlp.down_proj"}},
                },
            .attention_norm = "input_layernorm",
            .ffn_norm = "post_attention_layernorm",
            .window = ARCHITECTURE_WINDOW_SWITCHED,
            .default_window = 4096,
            .default_kv_heads = 32,
            .default_norm_eps = 1e-6f,
        },
    [MODEL_ARCHITECTURE_QWEN3] =
        {
            .family = "Qwen3",
            .model_type = "qwen3",
            .products =
                {
                    [LAYER_QKV] = {{"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"},
                                   ARCHITECTURE_BIAS_ATTENTION},
                    [LAYER_O] = {{"self_attn.o_proj"}, ARCHITECTURE_BIAS_ATTENTION},
                    [LAYER_GATE_UP] = {{"mlp.gate_proj", "mlp.up_proj"}},
                    [LAYER_DOWN] = {{"mlp.down_proj"}},
                },
            .attention_norm = "input_layernorm",
            .ffn_norm = "post_attention_layernorm",
            .query_norm = "self_attn.q_norm",
            .key_norm = "self_attn.k_norm",
            .window = ARCHITECTURE_WINDOW_SWITCHED,
            .default_window = 4096,
            .default_kv_heads = 32,
            .default_head_dim = 128,
            .default_norm_eps = 1e-6f,
        },
    [MODEL_ARCHITECTURE_PHI3] =
        {
            .family = "Phi3",
            .model_type = "phi3",
            .products =
                {
                    [LAYER_QKV] = {{"self_attn.qkv_proj"}},
                    [LAYER_O] = {{"self_attn.o_proj"}},
                    [LAYER_GATE_UP] = {{"mlp.gate_up_proj"}},
                    [LAYER_DOWN] = {{"mlp.down_proj"}},
                },
            .attention_norm = "input_layernorm",
            .ffn_norm = "post_attention_layernorm",
            .window = ARCHITECTURE_WINDOW_ALL,
            .default_norm_eps = 1e-5f,
            .partial_rotary = true,
            .only_longrope = true,
            .default_original_context = 4096,
            .default_pad_id = 32000,
        },
};

static const struct {
    const char *suffix; // of the class name
    enum model_head head;
} heads[] = {
    {"ForCausalLM", MODEL_HEAD_LM},
    {"ForSequenceClassification", MODEL_HEAD_CLASS},
    {"ForScore", MODEL_HEAD_SCORE},
    {"ModelForScore", MODEL_HEAD_SCORE},
};

const struct architecture *architecture_get(enum model_architecture architecture) {
    ASSERT(architecture < MODEL_ARCHITECTURE_COUNT);
    return &architectures[architecture];
}

enum status architecture_find(const char *class_name, enum model_architecture *architecture,
                              enum model_head *head, struct error *err) {
    for (enum model_architecture a = 0; a < MODEL_ARCHITECTURE_COUNT; a++) {
        size_t length = strlen(architectures[a].family);
        if (strncmp(class_name, architectures[a].family, length) != 0) {
            continue;
        }
        for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++) {
            bool exists = heads[i].head != MODEL_HEAD_SCORE || architectures[a].has_score_classes;
            if (exists && strcmp(class_name + length, heads[i].suffix) == 0) {
                *architecture = a;
                *head = heads[i].head;
                return STATUS_OK;
            }
        }
    }
    return error_set(err, STATUS_UNSUPPORTED, "architectures",
                     "%.64s is not supported: {Llama,Mistral,Qwen2,Qwen3,Phi3}ForCausalLM and "
                     "-ForSequenceClassification, LlamaForScore, "
                     "LlamaModelForScore are",
                     class_name);
}
