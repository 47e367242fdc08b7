// The kernels of one instruction set: CPU_ISA names it, on the compiler's command line.
#ifndef WORKER_BACKEND_CPU_KERNELS_PRIVATE_H
#define WORKER_BACKEND_CPU_KERNELS_PRIVATE_H

#include "worker/backend/cpu/kernels.h"

#define KERNEL_JOIN_(name, isa) kernel_##name##_##isa
#define KERNEL_JOIN(name, isa) KERNEL_JOIN_(name, isa)
#define KERNEL(name) KERNEL_JOIN(name, CPU_ISA)

extern const struct linear_kernels KERNEL(linear);
extern const struct attention_kernel KERNEL(attention_f32);
extern const struct attention_kernel KERNEL(attention_f16);
extern const struct attention_kernel KERNEL(attention_bf16);
extern const struct attention_kernel KERNEL(attention_int8);
// Those with dot products store what the plain AVX-512 kernels store.
kv_store_fn kernel_store_bf16_avx512, kernel_store_int8_avx512;
kv_pack_fn kernel_pack_query_int8_avx512;
kv_store_fn KERNEL(store_f32), KERNEL(store_f16), KERNEL(store_bf16), KERNEL(store_int8);
kv_pack_fn KERNEL(pack_query), KERNEL(pack_query_int8);
void KERNEL(attention_finish)(float *out, const float *sums, const struct softmax_state *state,
                              int32_t head_dim);
void KERNEL(rotate)(float *x, int32_t n_heads, int32_t head_dim, const float *cosines,
                    const float *sines, int32_t half);
void KERNEL(rms_norm)(float *out, const float *x, const void *weight, enum dtype dtype, float eps,
                      int32_t n_rows, int32_t dim);
void KERNEL(widen)(float *out, const void *values, enum dtype dtype, size_t n);

#define SAMPLING_TABLE KERNEL_JOIN(sampling, CPU_ISA)
extern const struct sampling_kernels SAMPLING_TABLE;

#endif
