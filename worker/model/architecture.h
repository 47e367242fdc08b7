// What tells the supported architectures apart, as facts over one forward pass: a row for each,
// found by the class that config.json names. Everything is read-only; any thread.
#ifndef WORKER_MODEL_ARCHITECTURE_H
#define WORKER_MODEL_ARCHITECTURE_H

#include "common/status.h"
#include "worker/backend/backend.h"

enum model_architecture {
    MODEL_ARCHITECTURE_LLAMA,
    MODEL_ARCHITECTURE_MISTRAL,
    MODEL_ARCHITECTURE_QWEN2,
    MODEL_ARCHITECTURE_QWEN3,
    MODEL_ARCHITECTURE_PHI3,
    MODEL_ARCHITECTURE_COUNT
};

enum model_head {
    MODEL_HEAD_LM,    // *ForCausalLM: logits over the vocabulary
    MODEL_HEAD_CLASS, // *ForSequenceClassification: score.weight [labels, hidden], trained at the
                      // last token
    MODEL_HEAD_SCORE, // [1, hidden] with optional bias, trained at every position: Beaver's
                      // score_head, or TRL's v_head where the profile says so
};

// When a product has biases.
enum architecture_bias {
    ARCHITECTURE_BIAS_NEVER,
    ARCHITECTURE_BIAS_ALWAYS,
    ARCHITECTURE_BIAS_ATTENTION, // if attention_bias
    ARCHITECTURE_BIAS_MLP,       // if mlp_bias
};

// Which layers look back over sliding_window tokens only.
enum architecture_window {
    ARCHITECTURE_WINDOW_NONE,     // the key has no meaning
    ARCHITECTURE_WINDOW_ALL,      // every layer
    ARCHITECTURE_WINDOW_SWITCHED, // with use_sliding_window: those that layer_types names, or those
                                  // from max_window_layers on
};

// The products of a layer with weights.
enum layer_product { LAYER_QKV, LAYER_O, LAYER_GATE_UP, LAYER_DOWN, LAYER_PRODUCTS };

// Names of a product's tensors below "model.layers.N.", without ".weight" and ".bias": one for each
// matrix, or one alone where the file has all of them in a single tensor, one below the other.
struct product_facts {
    const char *names[WEIGHT_PARTS_MAX];
    enum architecture_bias bias;
};

struct architecture {
    const char *family;     // what its classes' names begin with
    const char *model_type; // in config.json
    struct product_facts products[LAYER_PRODUCTS];
    const char *attention_norm;
    const char *ffn_norm;
    const char *query_norm; // of each head; NULL: none
    const char *key_norm;
    enum architecture_window window;
    int32_t default_window; // where config.json does not mention sliding_window; 0: none
    // What an absent key of config.json means; 0: see model_config_read.
    int32_t default_kv_heads;
    int32_t default_pad_id; // where config.json has no pad_token_id at all; 0: none
    int32_t default_head_dim;
    float default_norm_eps;
    // Rotary embedding.
    bool partial_rotary;              // partial_rotary_factor has a meaning
    bool only_longrope;               // no other kind but default; "su" and "yarn" are names of it
    int32_t default_original_context; // original_max_position_embeddings stands beside the rope's
                                      // object, or is this; 0: it stands inside
    bool has_score_classes;           // the Beaver form exists
};

const struct architecture *architecture_get(enum model_architecture architecture);

// STATUS_UNSUPPORTED names the class and those that there are.
MUST_CHECK enum status architecture_find(const char *class_name,
                                         enum model_architecture *architecture,
                                         enum model_head *head, struct error *err);

#endif
