// The kernels of one instruction set: CPU_ISA names it, on the compiler's command line.
#ifndef WORKER_BACKEND_CPU_KERNELS_PRIVATE_H
#define WORKER_BACKEND_CPU_KERNELS_PRIVATE_H

#include "worker/backend/cpu/kernels.h"

#define KERNEL_JOIN_(name, isa) kernel_##name##_##isa
#define KERNEL_JOIN(name, isa) KERNEL_JOIN_(name, isa)
#define KERNEL(name) KERNEL_JOIN(name, CPU_ISA)

extern const struct linear_kernels KERNEL(linear);
void KERNEL(attention)(const struct attention_args *args, int32_t kv_head, int32_t row_begin,
                       int32_t row_end, void *memory);
void KERNEL(rms_norm)(float *out, const float *x, const void *weight, enum dtype dtype, float eps,
                      int32_t n_rows, int32_t dim);
void KERNEL(widen)(float *out, const void *values, enum dtype dtype, size_t n);

#define SAMPLING_TABLE KERNEL_JOIN(sampling, CPU_ISA)
extern const struct sampling_kernels SAMPLING_TABLE;

#endif
