// The inner loops of the CPU backend, compiled once per instruction set and chosen at run time.
// They are pure functions of their arguments over one thread's share of the work: no allocation, no
// locks. Products are in linear.h. Other sums follow one scheme everywhere, whatever tile a value
// falls in: 16 partial sums by index modulo 16, in index order, with fused multiply-add where the
// instruction set has it, then the tree i + (i + 8), + 4, + 2, + 1. AVX-512 and AVX2 therefore
// agree bit for bit; the portable build rounds products as well and does not.
#ifndef WORKER_BACKEND_CPU_KERNELS_H
#define WORKER_BACKEND_CPU_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#include "worker/backend/backend.h"
#include "worker/backend/cpu/linear.h"
#include "worker/decode/sampling_kernels.h"

enum {
    LANES = 16,           // partial sums of every dot product
    ATTENTION_ROWS = 6,   // pairs that share registers
    ATTENTION_PAIRS = 24, // pairs of one tile; multiple of ATTENTION_ROWS
    ATTENTION_PAIRS_ROUNDED = (ATTENTION_PAIRS + LANES - 1) / LANES * LANES,
    FETCH_RUNS = 64,                   // a power of two
    ATTENTION_HEAD_DIM_MAX = 1024,     // so that a pair fits the scratch
    KERNEL_SCRATCH_BYTES = 256 * 1024, // of each thread
};

// Softmax of one pair so far: the largest score and the sums of weights relative to it, by token
// modulo LANES.
struct softmax_state {
    _Alignas(64) float sums[LANES];
    float maximum; // in powers of two
};

struct fetch_run {
    const char *at; // the next line
    const char *end;
};

// Memory that is needed soon. Kernels ask for it line by line while they compute, so that loads run
// beside the arithmetic and never in bursts that it would wait for.
struct fetch_queue {
    struct fetch_run now; // what is left of the first run; of an empty queue, nothing
    struct fetch_run runs[FETCH_RUNS];
    uint32_t first; // number of the run that is asked for; its place is modulo FETCH_RUNS
    uint32_t end;   // past the last
};

// Goes on with run `first`.
static inline void fetch_from(struct fetch_queue *queue, uint32_t first) {
    queue->first = first;
    queue->now = first == queue->end ? (struct fetch_run){0} : queue->runs[first % FETCH_RUNS];
}

// Pairs of a row and a query head that attend to the same blocks.
struct attention_tile {
    const void *keys[KV_VISIT_BLOCKS];             // blocks of one KV head
    const void *values[KV_VISIT_BLOCKS];           // likewise
    const void *queries[ATTENTION_PAIRS];          // packed by the same kernel
    float *sums[ATTENTION_PAIRS];                  // [attention_padded(head_dim)], weights . values
    struct softmax_state *states[ATTENTION_PAIRS]; // their softmax so far
    int32_t seen[ATTENTION_PAIRS];                 // tokens of the blocks, at least one: their end,
                                                   // and 256 times their begin
    struct fetch_queue *fetch;
    int32_t n_blocks;
    int32_t n_pairs;
    int32_t head_dim;
};

// Stores one token's key and value [head_dim] at place `token` of a block.
typedef void kv_store_fn(void *keys, void *values, const float *key, const float *value,
                         int32_t token, int32_t head_dim);
// packed = q[head_dim] * factor, at most attention_padded(head_dim) floats.
typedef void kv_pack_fn(void *packed, const float *q, int32_t head_dim, float factor);

// Attention with keys and values of one format.
struct attention_kernel {
    kv_store_fn *store;
    kv_pack_fn *pack_query;
    // Takes the blocks into the pairs' states and sums.
    void (*visit)(const struct attention_tile *tile);
};

// Elements that a row of head_dim values takes in blocks of values and in scratch.
static inline int32_t attention_padded(int32_t head_dim) {
    return (head_dim + LANES - 1) / LANES * LANES;
}

struct cpu_kernels {
    const char *name;
    const struct linear_kernels *linear; // linear.h
    const struct attention_kernel *attention[KV_DTYPES];
    // out[head_dim] = sums[attention_padded(head_dim)] / the sum of state's weights.
    void (*attention_finish)(float *out, const float *sums, const struct softmax_state *state,
                             int32_t head_dim);
    // x[n_heads, head_dim]: each head's pairs (i, half + i) turned by its angle.
    void (*rotate)(float *x, int32_t n_heads, int32_t head_dim, const float *cosines,
                   const float *sines, int32_t half);
    void (*rms_norm)(float *out, const float *x, const void *weight, enum dtype dtype, float eps,
                     int32_t n_rows, int32_t dim);
    void (*widen)(float *out, const void *values, enum dtype dtype, size_t n);
    const struct sampling_kernels *sampling;
};

extern const struct cpu_kernels cpu_kernels_generic;
#if defined(__x86_64__)
extern const struct cpu_kernels cpu_kernels_avx2;
extern const struct cpu_kernels cpu_kernels_avx512;
extern const struct linear_kernel kernel_int8_avx512vnni;
extern const struct linear_kernel kernel_q4_avx512vnni;
extern const struct linear_kernel kernel_bf16_rounded_avx512bf16;
extern const struct linear_kernel kernel_int8_avx512amx; // these two where the compiler knows AMX
extern const struct linear_kernel kernel_bf16_rounded_avx512amx;
extern const struct attention_kernel kernel_attention_int8_avx512vnni;
extern const struct attention_kernel kernel_attention_bf16_avx512bf16;
#endif

#endif
