#include "worker/model/architecture.h"

#include <string.h>

static const struct architecture architectures[MODEL_ARCHITECTURE_COUNT] = {
    [MODEL_ARCHITECTURE_LLAMA] =
        {
            .family = "Llama",
            .products =
                {
                    [LAYER_QKV] = {{"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"}},
                    [LAYER_O] = {{"self_attn.o_proj"}},
                    [LAYER_GATE_UP] = {{"mlp.gate_proj", "mlp.up_proj"}},
                    [LAYER_DOWN] = {{"mlp.down_proj"}},
                },
            .attention_norm = "input_layernorm",
            .ffn_norm = "post_attention_layernorm",
            .has_score_classes = true,
        },
    [MODEL_ARCHITECTURE_MISTRAL] =
        {
            .family = "Mistral",
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
        },
    [MODEL_ARCHITECTURE_QWEN2] =
        {
            .family = "Qwen2",
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
                     "%.64s is not supported: {Llama,Mistral,Qwen2}ForCausalLM, "
                     "{Llama,Mistral,Qwen2}ForSequenceClassification, LlamaForScore, "
                     "LlamaModelForScore are",
                     class_name);
}
