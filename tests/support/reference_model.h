// A transformer in float64, written from the published formulas alone, over weights that it makes
// up itself, and a writer that puts the same weights into a Hugging Face directory. What the engine
// computes from that directory must agree. Nothing here is shared with the engine.
#ifndef TESTS_SUPPORT_REFERENCE_MODEL_H
#define TESTS_SUPPORT_REFERENCE_MODEL_H

#include <stdbool.h>
#include <stdint.h>

enum reference_dtype { REFERENCE_F32, REFERENCE_F16, REFERENCE_BF16 };

struct reference_shape {
    const char *architecture; // as in config.json; decides the head by its ending
    int vocab_size;
    int hidden_dim;
    int ffn_dim;
    int n_layers;
    int n_heads;
    int n_kv_heads;
    int head_dim; // 0: hidden_dim / n_heads, and the config does not name it
    int context_length;
    double norm_eps;
    double rope_theta;
    bool llama3_scaling; // factor 8, low 1, high 4, original context 32
    bool qkv_bias;
    bool tied;
    bool score_bias;   // LlamaForScore: score_head.bias present
    bool do_normalize; // LlamaForScore: config flag; mean 0.5, var 4 in the weights
    const char *score_type;
    enum reference_dtype dtype;
};

struct reference_model;

// Weights are pseudo-random by `seed`, rounded to the dtype, so that file and reference are equal.
struct reference_model *reference_model_create(const struct reference_shape *shape, uint64_t seed);
void reference_model_destroy(struct reference_model *model); // NULL allowed

// Writes config.json and the weights into `directory`: model.safetensors, or with n_shards > 1 that
// many files and their index. `padding` spaces end the header (the format wants a multiple of 8 in
// all; -1 does that).
void reference_model_write(const struct reference_model *model, const char *directory, int n_shards,
                           int padding);

// Final hidden states (after the last norm) of a whole text: hidden[n * hidden_dim].
void reference_model_forward(const struct reference_model *model, const int32_t *ids, int n,
                             double *hidden);
// logits[vocab_size] of one state.
void reference_model_logits(const struct reference_model *model, const double *state,
                            double *logits);
// Score of one state by the classification or score head, normaliser applied.
double reference_model_score(const struct reference_model *model, const double *state);

// Elements of all tensors that a config of this shape calls for.
int64_t reference_model_parameters(const struct reference_model *model);

#endif
