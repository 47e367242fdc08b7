// Models of random weights in Hugging Face layout: any shape that the worker loads, for benchmarks
// and tests that need the arithmetic of a model and not its text. A directory gets config.json, the
// weights, tokenizer.json and surefoot.json; the same options give the same bytes. Matrices are
// normal with standard deviation 0.02, so that logits stay small; norms are one. Weights are
// streamed through a small buffer: memory does not grow with the model. Any thread, no state.
#ifndef BENCHMARKS_RANDOM_MODEL_H
#define BENCHMARKS_RANDOM_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/status.h"
#include "worker/backend/backend.h"
#include "worker/model/config.h"

enum {
    RANDOM_MODEL_BOS = 0,
    RANDOM_MODEL_EOS = 1,
    RANDOM_MODEL_PAD = 2,
    RANDOM_MODEL_BYTE = 3,        // the token of byte b is RANDOM_MODEL_BYTE + b
    RANDOM_MODEL_VOCAB_MIN = 259, // three special tokens and 256 bytes
};

struct random_model_options {
    enum model_architecture architecture; // LLAMA
    enum model_head head;                 // LM; SCORE (a cost model) exists for LLAMA only
    enum dtype dtype;                     // of every tensor
    uint32_t dim;                         // hidden size, a multiple of 2 * n_heads
    uint32_t n_layers;
    uint32_t n_heads;
    uint32_t n_kv_heads;     // divides n_heads
    uint32_t hidden;         // feed-forward size
    uint32_t vocab_size;     // RANDOM_MODEL_VOCAB_MIN or more; the tokenizer has as many tokens
    uint32_t context_length; // tokens
    bool tied;               // the output matrix is the embedding
    uint64_t seed;
    uint64_t shard_bytes_max; // a weight file is no larger unless one tensor is
};

// One of the shapes "15m", "110m", "1.1b", "7b" (named for their parameters), f32, untied, seed 1,
// shards of 4 GB. False, with *out untouched, for another name.
bool random_model_preset(const char *name, struct random_model_options *out);

// Creates `directory` (its parent must exist) or overwrites the model in it. The error's field is
// the flag of make_random_model that is wrong, or the file that cannot be written: a half-written
// model is left then. STATUS_INVALID_ARGUMENT, STATUS_LIMIT, STATUS_UNSUPPORTED, STATUS_DISK_FULL,
// STATUS_IO, STATUS_NO_MEMORY.
MUST_CHECK enum status random_model_write(const char *directory,
                                          const struct random_model_options *options,
                                          struct error *err);

// What a guard needs, in directory/policy, directory/reward (CLASS head) and directory/cost (SCORE
// head): models of one shape, whose seeds count up from the options'. Otherwise as above.
MUST_CHECK enum status random_model_write_guard(const char *directory,
                                                const struct random_model_options *options,
                                                struct error *err);

#endif
