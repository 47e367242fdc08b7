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
    LANES = 16,                       // partial sums of every dot product
    ATTENTION_STATES = 4096,          // softmax states kept at once
    KERNEL_SCRATCH_BYTES = 96 * 1024, // of each thread
};

struct attention_args {
    float *out;          // [n_rows, n_heads * head_dim]
    const float *q;      // [n_rows, n_heads * head_dim], rows q_stride apart
    const float *keys;   // one layer: [n_blocks, n_kv_heads, head_dim, KV_BLOCK_TOKENS]
    const float *values; // one layer: [n_blocks, n_kv_heads, KV_BLOCK_TOKENS, head_dim]
    const struct batch_plan *plan;
    int32_t n_heads;
    int32_t n_kv_heads;
    int32_t head_dim;
    int32_t q_stride;
    float scale;
};

struct cpu_kernels {
    const char *name;
    const struct linear_kernels *linear; // linear.h
    // All query heads of one KV head, rows [row_begin, row_end).
    void (*attention)(const struct attention_args *args, int32_t kv_head, int32_t row_begin,
                      int32_t row_end, void *scratch);
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
extern const struct linear_kernel kernel_bf16_rounded_avx512bf16;
#endif

#endif
