// Kernels over rows and elements, and this instruction set's table.
#include <math.h>

#include "worker/backend/cpu/kernels_private.h"
#include "worker/backend/cpu/simd.h"

void KERNEL(widen)(float *out, const void *values, enum dtype dtype, size_t n) {
    const char *from = values;
    size_t size = dtype_bytes(dtype);
    size_t i = 0;
    for (; i + WIDTH <= n; i += WIDTH) {
        vector_store(out + i, vector_load_as(from + i * size, dtype));
    }
    if (i < n) {
        vector_f rest = vector_load_part_as(from + i * size, (int)(n - i), dtype);
        memcpy(out + i, &rest, (n - i) * sizeof(float));
    }
}

static float sum_of_squares(const float *x, int32_t n) {
    vector_f sums[PARTS] = {0};
    int32_t k = 0;
    for (; k + LANES <= n; k += LANES) {
        for (int p = 0; p < PARTS; ++p) {
            vector_f v = vector_load(x + k + p * WIDTH);
            sums[p] = vector_fma(v, v, sums[p]);
        }
    }
    float tail[LANES] = {0};
    memcpy(tail, x + k, (size_t)(n - k) * sizeof(float));
    for (int p = 0; p < PARTS; ++p) {
        vector_f v = vector_load(tail + p * WIDTH);
        sums[p] = vector_fma(v, v, sums[p]);
    }
    return fold(sums);
}

void KERNEL(rms_norm)(float *out, const float *x, const void *weight, enum dtype dtype, float eps,
                      int32_t n_rows, int32_t dim) {
    const char *weights = weight;
    size_t size = dtype_bytes(dtype);
    for (int32_t row = 0; row < n_rows; ++row, x += dim, out += dim) {
        float scale = 1.0f / sqrtf(sum_of_squares(x, dim) / (float)dim + eps);
        int32_t i = 0;
        for (; i + WIDTH <= dim; i += WIDTH) {
            vector_f w = vector_load_as(weights + (size_t)i * size, dtype);
            vector_store(out + i, vector_load(x + i) * scale * w);
        }
        if (i < dim) {
            vector_f w = vector_load_part_as(weights + (size_t)i * size, dim - i, dtype);
            vector_f rest = vector_load_part(x + i, dim - i) * scale * w;
            memcpy(out + i, &rest, (size_t)(dim - i) * sizeof(float));
        }
    }
}

#define TABLE_JOIN_(isa) cpu_kernels_##isa
#define TABLE_JOIN(isa) TABLE_JOIN_(isa)
#define TEXT_(isa) #isa
#define TEXT(isa) TEXT_(isa)

const struct cpu_kernels TABLE_JOIN(CPU_ISA) = {
    .name = TEXT(CPU_ISA),
    .linear = &KERNEL(linear),
    .attention = {[KV_F32] = &KERNEL(attention_f32),
                  [KV_F16] = &KERNEL(attention_f16),
                  [KV_BF16] = &KERNEL(attention_bf16),
                  [KV_INT8] = &KERNEL(attention_int8)},
    .attention_finish = KERNEL(attention_finish),
    .rotate = KERNEL(rotate),
    .rms_norm = KERNEL(rms_norm),
    .widen = KERNEL(widen),
    .sampling = &SAMPLING_TABLE,
};
