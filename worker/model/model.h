// A loaded model: weights mapped from safetensors files, checked against the configuration,
// immutable and shareable between threads. What changes (sequences, KV, scratch) is in context.h.
#ifndef WORKER_MODEL_MODEL_H
#define WORKER_MODEL_MODEL_H

#include <stddef.h>
#include <stdint.h>

#include "common/status.h"
#include "worker/backend/backend.h"
#include "worker/model/config.h"

// Matrices are packed for the backend's products. Vectors are DTYPE_F32.
struct layer_weights {
    struct tensor attention_norm; // [1, hidden]
    struct weight qkv;            // [(n_heads + 2 * n_kv_heads) * head_dim, hidden]
    struct tensor query_norm;     // [1, head_dim], likewise key_norm; data NULL: none
    struct tensor key_norm;
    struct weight o;        // [hidden, n_heads * head_dim]
    struct tensor ffn_norm; // [1, hidden]
    struct weight gate_up;  // gated, [2 * ffn, hidden]
    struct weight down;     // [hidden, ffn]
};

struct model_weights {
    struct tensor embedding;      // [vocab, hidden], in the dtype of its file
    struct layer_weights *layers; // [n_layers]
    struct tensor final_norm;     // [1, hidden]
    struct weight lm_head;        // [vocab, hidden]; packed from the embedding when tied
    struct weight score; // [model_config_score_rows, hidden], always PRECISION_STORED; CLASS, SCORE
    float score_bias;    // SCORE; 0 where none is stored
    float score_mean;    // normaliser buffers; 0 and 1 when absent
    float score_std;     // the divisor itself: sqrt(var) + 1e-8
    float *inv_freq;     // device memory [rotary_dim / 2], radians per position
    float *long_inv_freq; // likewise in contexts of long texts (rope_is_long); NULL: the same
};

struct model;

// Opens a Hugging Face directory and packs its matrices for products of the given precision. The
// files stay mapped until model_close, for the embedding. Borrows `backend` until model_close.
// Reads every weight byte, for the hash too. Errors name the tensor and what was expected: those of
// model_config_read and weight_files_open; STATUS_NOT_FOUND, STATUS_SHAPE, STATUS_UNSUPPORTED
// (dtype) and STATUS_MALFORMED (NaN, infinity) for a tensor that config.json calls for;
// STATUS_UNSUPPORTED for PRECISION_Q4 where no product's weights have four bits.
MUST_CHECK enum status model_open(const char *directory, struct backend *backend,
                                  enum precision precision, struct model **out, struct error *err);
void model_close(struct model *model); // NULL allowed

const struct model_config *model_get_config(const struct model *model);
const struct model_profile *model_get_profile(const struct model *model);
const struct model_weights *model_get_weights(const struct model *model);
struct backend *model_get_backend(const struct model *model);
const char *model_get_directory(const struct model *model);
// SHA-256 over all weight files and config.json, hex.
const char *model_get_hash(const struct model *model);
int64_t model_parameter_count(const struct model *model);
// Bytes of memory that the weights take: packed matrices, vectors, and the embedding, which is
// mapped.
size_t model_weight_bytes(const struct model *model);

#endif
