// The tensor backend: the operations that a transformer's forward pass is written over, once, for
// CPU and GPU. Buffers are opaque device memory; index arrays come from the host, where they stay
// as they are until the next batch_begin: a backend may copy them or read them there. One backend
// per rank, used by that rank's engine thread only; the CPU backend spreads each operation over its
// own threads. Operations queue work in order; `download` waits. Every row of every result is the
// same bit for bit whatever other rows stand in the batch, however large it is and however many
// threads there are (docs/ARCHITECTURE.md, determinism).
#ifndef WORKER_BACKEND_BACKEND_H
#define WORKER_BACKEND_BACKEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/status.h"
#include "worker/backend/precision.h"

// Frozen order; names as in safetensors. DTYPE_Q4_1, of parts of a weight only, cuts rows into
// blocks of 32 values w = scale * q + min, q in 0..15, as GGUF files have them: f16 scale, f16 min,
// then 16 bytes, whose low halves are the first 16 values.
enum dtype { DTYPE_F32, DTYPE_F16, DTYPE_BF16, DTYPE_Q4_1 };

enum { Q4_BLOCK_VALUES = 32, Q4_BLOCK_BYTES = 20 };

// Of one value; not of DTYPE_Q4_1.
static inline size_t dtype_bytes(enum dtype dtype) {
    return dtype == DTYPE_F32 ? 4 : 2;
}

// Of a row of `cols` values.
static inline size_t dtype_row_bytes(enum dtype dtype, int32_t cols) {
    return dtype == DTYPE_Q4_1 ? (size_t)(cols / Q4_BLOCK_VALUES) * Q4_BLOCK_BYTES
                               : (size_t)cols * dtype_bytes(dtype);
}

struct tensor {
    void *data; // device memory, [rows, cols] row-major, contiguous
    enum dtype dtype;
    int32_t rows;
    int32_t cols;
};

// What one product is made of: up to three matrices [rows, cols] of host memory, one below the
// other, each with a bias [1, rows] in f32 or none (data NULL). Gated: two of equal shape, gate and
// up.
enum { WEIGHT_PARTS_MAX = 3 };

struct weight_source {
    struct tensor parts[WEIGHT_PARTS_MAX];
    struct tensor biases[WEIGHT_PARTS_MAX];
    int32_t n_parts;
    bool gated;
};

// A matrix in the order in which a backend's products read it; immutable.
struct weight {
    void *data;       // device memory, the backend's own layout; NULL: none
    size_t bytes;     // of data
    int32_t rows;     // outputs of all parts
    int32_t cols;     // inputs
    enum dtype dtype; // of the parts, PRECISION_STORED
    enum precision precision;
    bool gated;
    bool has_bias;
};

enum {
    KV_BLOCK_TOKENS = 16,
    KV_VISIT_BLOCKS = 4,
    KV_VISIT_TOKENS = KV_VISIT_BLOCKS * KV_BLOCK_TOKENS,
};

// Key/value storage of one model: n_blocks blocks of KV_BLOCK_TOKENS positions for every layer and
// KV head. The layout inside is the backend's own. The caller sets all but the first three members.
struct kv_storage {
    void *keys;            // device memory
    void *values;          // device memory
    void *angles;          // device memory, cosines and sines of all positions
    const float *inv_freq; // [rotary_dim / 2] device memory, read by kv_create only
    int32_t rotary_dim;    // how much of each head is rotated, its first elements; even
    float rotary_scale;    // of what is rotated, normally 1
    enum kv_dtype dtype;
    int32_t n_layers;
    int32_t n_blocks;
    int32_t n_kv_heads;
    int32_t head_dim;
    int32_t n_positions; // no sequence is longer
};

// Up to KV_VISIT_BLOCKS consecutive KV blocks that `row_count` rows of the batch attend to:
// rows[row_begin ...] of the list. Positions are cut into spans of KV_VISIT_TOKENS; a row appears
// exactly once in every span up to its own position, with the blocks of that span up to its own.
// Visits are ordered by span, so each row meets its blocks from the first position to the last;
// rows that have all blocks of a span in common share one visit.
struct kv_visit {
    int32_t blocks[KV_VISIT_BLOCKS]; // indices into kv_storage; n_blocks of them
    int32_t n_blocks;
    int32_t start;     // position of the first block's first token, a multiple of KV_VISIT_TOKENS
    int32_t row_begin; // into the list's rows
    int32_t row_count;
};

struct visit_list {
    int32_t n_visits;
    const struct kv_visit *visits; // [n_visits]
    const int32_t *rows;           // row numbers, referenced by visits; ascending within a visit
};

// Index arrays of one forward batch; host memory, borrowed until the next batch_begin.
struct batch_plan {
    int32_t n_rows;
    const int32_t *token_ids;   // [n_rows]
    const int32_t *positions;   // [n_rows], 0-based position in the row's sequence
    const int32_t *kv_block;    // [n_rows], block that takes the row's key and value
    struct visit_list visits;   // of layers that look back all the way
    struct visit_list windowed; // of layers with a window: spans before it have no such visits
};

// What tells the attention of one layer from that of others.
struct attention_layer {
    int32_t index;   // in the KV storage
    int32_t n_heads; // of queries
    int32_t window;  // a row at position p sees positions above p - window only; 0: all up to p
    float scale;     // of q k^T
    // Weights of the RMS norms that each head's query and key pass before they are rotated, f32
    // [1, head_dim]; data NULL: none.
    struct tensor query_norm;
    struct tensor key_norm;
    float norm_eps;
};

struct sampling_row; // worker/decode/sampling.h

struct backend;

struct backend_ops {
    const char *name;
    // Memory. alloc returns NULL when there is none; contents are zero.
    void *(*alloc)(struct backend *backend, size_t size);
    void (*release)(struct backend *backend, void *memory);
    // Makes `size` bytes of read-only host memory (a mapped weight file) usable as tensor data, for
    // tables that are looked up; the CPU returns the address itself, so that nothing is copied.
    void *(*import_table)(struct backend *backend, const void *host, size_t size);
    void (*release_table)(struct backend *backend, void *memory);
    void (*upload)(struct backend *backend, void *destination, const void *source, size_t size);
    enum status (*download)(struct backend *backend, void *destination, const void *source,
                            size_t size);
    // Bytes of keys, values and angles together.
    size_t (*kv_bytes)(const struct kv_storage *storage);
    enum status (*kv_create)(struct backend *backend,
                             struct kv_storage *storage); // shape set by caller
    void (*kv_destroy)(struct backend *backend, struct kv_storage *storage);
    // Copies a block, all layers (copy on write of a shared tail).
    void (*kv_copy)(struct backend *backend, struct kv_storage *storage, int32_t destination,
                    int32_t source);
    enum status (*batch_begin)(struct backend *backend, const struct batch_plan *plan);
    // out[n_rows, dim] = table[token_ids, :], widened to f32.
    void (*embed)(struct backend *backend, struct tensor *out, const struct tensor *table);
    // out[n, dim] = x / sqrt(mean(x^2) + eps) * weight (Zhang and Sennrich 2019, eq. 4). May alias.
    void (*rms_norm)(struct backend *backend, struct tensor *out, const struct tensor *x,
                     const struct tensor *weight, float eps);
    // Packs a matrix for the products below; copies what it needs. Parts are DTYPE_Q4_1 in
    // PRECISION_Q4 and in no other. STATUS_NO_MEMORY.
    enum status (*weight_pack)(struct backend *backend, const struct weight_source *source,
                               enum precision precision, struct weight *out);
    void (*weight_release)(struct backend *backend, struct weight *weight); // data NULL allowed
    // out[n, rows] = x[n, cols] weight^T + bias.
    void (*linear)(struct backend *backend, struct tensor *out, const struct tensor *x,
                   const struct weight *weight);
    // out += x weight^T + bias: a branch joins the residual stream.
    void (*linear_add)(struct backend *backend, struct tensor *out, const struct tensor *x,
                       const struct weight *weight);
    // out[n, rows / 2] = silu(x gate^T) * (x up^T) of a gated weight (Shazeer 2020, eq. 6).
    void (*linear_gated)(struct backend *backend, struct tensor *out, const struct tensor *x,
                         const struct weight *weight);
    // x = max(x, 0), in place; NaN stays.
    void (*relu)(struct backend *backend, struct tensor *x);
    // slopes = 0 wherever values, which came out of relu, is not above 0: what its outputs weigh is
    // what its inputs weigh.
    void (*relu_slopes)(struct backend *backend, struct tensor *slopes,
                        const struct tensor *values);
    // x[i, :] += scales[i] * y[i, :]; a row of scale 0 stays as it is. scales is host memory.
    void (*add_scaled)(struct backend *backend, struct tensor *x, const struct tensor *y,
                       const float *scales);
    // qkv[n_rows, (n_heads + 2 * n_kv_heads) * head_dim] holds a row's queries, keys and values, in
    // this order. Normalises queries and keys where the layer does, rotates them in place by the
    // batch's positions, halves of the rotated part paired as in Hugging Face's Llama (Su et al.
    // 2021, section 3.4.2), and stores keys and values at the batch's blocks and positions.
    void (*rope_store)(struct backend *backend, struct tensor *qkv, struct kv_storage *storage,
                       const struct attention_layer *layer);
    // out[n_rows, n_heads * head_dim] = softmax(q k^T * scale) v over each row's visits, causal: a
    // row at position p sees positions 0..p (Vaswani et al. 2017, eq. 1), or the last `window` of
    // them; n_heads / n_kv_heads query heads share a KV head (Ainslie et al. 2023, section 2.2). q:
    // the first columns of qkv, rotated.
    void (*attention)(struct backend *backend, struct tensor *out, const struct tensor *qkv,
                      const struct kv_storage *storage, const struct attention_layer *layer);
    // out[i, :] = x[rows[i], :]; rows is host memory.
    void (*gather_rows)(struct backend *backend, struct tensor *out, const struct tensor *x,
                        const int32_t *rows, int32_t n);
    // out[rows[i], :] = x[i, :].
    void (*scatter_rows)(struct backend *backend, struct tensor *out, const struct tensor *x,
                         const int32_t *rows, int32_t n);
    // Draws one token per row from logits[n, vocab]; sampling_row says how. logits are overwritten.
    // Waits: results are on the host afterwards. With n 0 it only takes the memory that draws from
    // so large a vocabulary need.
    enum status (*sample)(struct backend *backend, struct tensor *logits, struct sampling_row *rows,
                          int32_t n);
    // With `shared` half of the threads from now on, so that two backends can work side
    // by side, each with its own caller; without it all. No result depends on it.
    void (*share_cores)(struct backend *backend, bool shared);
    // Bytes that the backend holds for itself: tables and scratch, not what the others hand out.
    size_t (*own_bytes)(const struct backend *backend);
    void (*destroy)(struct backend *backend);
};

// Embedded first in each implementation's struct.
struct backend {
    const struct backend_ops *ops;
};

// kind: "cpu" (threads: worker threads of each operation, 1..256; chooses kernels by what the CPU
// has; environment SUREFOOT_CPU_ISA=avx512amx|avx512bf16|avx512vnni|avx512|avx2|generic
// narrows it). STATUS_UNSUPPORTED for a kind that this build has not.
MUST_CHECK enum status backend_create(const char *kind, int n_threads, struct backend **out,
                                      struct error *err);
void backend_destroy(struct backend *backend); // NULL allowed

#endif
