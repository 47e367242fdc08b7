// What config.json and surefoot.json say about a model, validated: every number is in range and the
// shapes agree with each other before anything is allocated.
#ifndef WORKER_MODEL_CONFIG_H
#define WORKER_MODEL_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "common/status.h"
#include "worker/model/architecture.h"
#include "worker/model/generation.h"
#include "worker/model/rope.h"

enum {
    MODEL_EOS_MAX = 8,
    MODEL_VOCAB_MAX = 1 << 20,
    MODEL_HIDDEN_MAX = 1 << 16,
    MODEL_FFN_MAX = 1 << 20,
    MODEL_LAYERS_MAX = 1024,
    MODEL_HEADS_MAX = 1024,
    MODEL_LABELS_MAX = 256,
    MODEL_HEAD_DIM_MAX = 1024,
    MODEL_CONTEXT_MAX = 1 << 24, // tokens
    PROFILE_SCORE_AFTER_BYTES = 255,
};

// What the score of one label is.
enum label_score {
    LABEL_SCORE_LOGIT,       // its logit
    LABEL_SCORE_LOG_ODDS,    // logit - log of the sum of e^logit of the others
    LABEL_SCORE_PROBABILITY, // softmax: logistic of the log odds
};

struct model_config {
    enum model_architecture architecture;
    enum model_head head;
    int32_t vocab_size;
    int32_t hidden_dim;
    int32_t ffn_dim;
    int32_t n_layers;
    int32_t n_heads;
    int32_t n_kv_heads;
    int32_t head_dim;
    int32_t context_length; // tokens: max_position_embeddings
    int32_t sliding_window; // tokens that windowed layers see, the row's own included; 0: no layer
                            // is windowed
    bool windowed[MODEL_LAYERS_MAX]; // [n_layers]
    float norm_eps;
    struct rope rope;
    bool tied_embeddings;
    bool biased[LAYER_PRODUCTS];
    int32_t bos_id;                 // -1 none
    int32_t eos_ids[MODEL_EOS_MAX]; // config.json and generation_config.json
    int32_t n_eos;
    int32_t pad_id;                     // -1 none
    struct model_generation generation; // LM heads
    // CLASS heads.
    int32_t n_labels; // rows of score.weight; 1 for other heads
    int32_t label;    // whose score it is
    enum label_score label_score;
    // SCORE heads; the rest is of the Beaver form.
    bool value_head;       // TRL's: v_head.summary; else score_head
    bool score_bias;       // score_head.bias counts, where it is stored
    bool normalize;        // do_normalize, false when absent
    bool normalize_center; // score_type reward: (x - mean) / std; cost: x / std; critic is never
                           // normalized
    float score_mean;      // mean and var of config.json, 0 and 1 when absent; the buffers in the
    float score_var;       // weights come first (struct model_weights)
};

// How Surefoot uses a model: surefoot.json beside config.json, if there is one.
struct model_profile {
    bool present;
    char role[16];          // policy, reward, cost; "" unknown
    char chat_template[64]; // "" unknown
    char cost_mode[24];     // role cost always names it; else "" and the job must
    bool append_eos;        // score a finished text with the end token appended
    char score_after[PROFILE_SCORE_AFTER_BYTES + 1]; // what every text is read with behind it; ""
    bool pools_last;      // a CLASS head is read at the last token, even where that is padding
    bool cost_eos_append; // cost_eos "append": score partial texts on a forked end token
    bool has_budget, has_discount, has_cost_min;
    double budget;
    double discount;
    double cost_min;
};

// Outputs that a scorer's head computes for a position: all labels where they are compared.
static inline int32_t model_config_score_rows(const struct model_config *config) {
    return config->label_score == LABEL_SCORE_LOGIT ? 1 : config->n_labels;
}

// Reads and validates directory/config.json (and generation_config.json where present), but for the
// fields that ignore_fields of surefoot.json lists. STATUS_UNSUPPORTED names the architecture,
// activation, scaling or a field that is not known; STATUS_MALFORMED, STATUS_LIMIT
// and STATUS_INVALID_ARGUMENT name the field and its limit.
MUST_CHECK enum status model_config_read(const char *directory, struct model_config *out,
                                         struct error *err);

// The longest context in which every text has the result that transformers gives it: the model's
// own, but for longrope the one it was first trained for (rope_is_long).
int32_t model_config_default_context(const struct model_config *config);

MUST_CHECK enum status model_profile_read(const char *directory, struct model_profile *out,
                                          struct error *err);

#endif
