// A loaded model: weights mapped from safetensors files, checked against the configuration,
// immutable and shareable between threads. What changes (sequences, KV, scratch) is in context.h.
#ifndef WORKER_MODEL_MODEL_H
#define WORKER_MODEL_MODEL_H

#include <stddef.h>
#include <stdint.h>

#include "common/status.h"
#include "worker/backend/backend.h"
#include "worker/model/config.h"

// Matrices keep the dtype of their file. Vectors (norms, biases, score) are always DTYPE_F32.
struct layer_weights {
    struct tensor attention_norm; // [1, hidden]
    struct tensor q;              // [n_heads * head_dim, hidden]
    struct tensor k;              // [n_kv_heads * head_dim, hidden]
    struct tensor v;              // [n_kv_heads * head_dim, hidden]
    struct tensor q_bias;         // [1, n_heads * head_dim], data NULL when absent; likewise k, v
    struct tensor k_bias;
    struct tensor v_bias;
    struct tensor o;        // [hidden, n_heads * head_dim]
    struct tensor ffn_norm; // [1, hidden]
    struct tensor gate;     // [ffn, hidden]
    struct tensor up;       // [ffn, hidden]
    struct tensor down;     // [hidden, ffn]
};

struct model_weights {
    struct tensor embedding;      // [vocab, hidden]
    struct layer_weights *layers; // [n_layers]
    struct tensor final_norm;     // [1, hidden]
    struct tensor lm_head;        // [vocab, hidden]; the embedding when tied; LM head only
    struct tensor score;          // [1, hidden]; CLASS and SCORE heads
    float score_bias;
    float score_mean; // normaliser buffers; 0 and 1 when absent
    float score_std;  // the divisor itself: sqrt(var) + 1e-8
    float *inv_freq;  // device memory [head_dim / 2], rope scaling applied
};

struct model;

// Opens a Hugging Face directory. The files stay mapped until model_close. Borrows `backend` until
// model_close. Reads every weight byte once, for the hash. Errors name the tensor and what was
// expected: those of model_config_read and safetensors_open; STATUS_NOT_FOUND, STATUS_SHAPE and
// STATUS_UNSUPPORTED (dtype) for a tensor that config.json calls for.
MUST_CHECK enum status model_open(const char *directory, struct backend *backend,
                                  struct model **out, struct error *err);
void model_close(struct model *model); // NULL allowed

const struct model_config *model_get_config(const struct model *model);
const struct model_profile *model_get_profile(const struct model *model);
const struct model_weights *model_get_weights(const struct model *model);
struct backend *model_get_backend(const struct model *model);
const char *model_get_directory(const struct model *model);
// SHA-256 over all weight files and config.json, hex.
const char *model_get_hash(const struct model *model);
int64_t model_parameter_count(const struct model *model);
size_t model_weight_bytes(const struct model *model); // bytes of tensor data in use

#endif
