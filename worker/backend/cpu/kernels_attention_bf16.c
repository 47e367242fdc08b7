// Attention with AVX-512's dot products of bf16 pairs: twice the products of f32. Queries and
// weights are rounded to bf16 as well; sums are f32.
#include "worker/backend/cpu/attention_tile.h"
#include "worker/backend/cpu/kernels_private.h"

static void pack_query_pairs(void *packed, const float *q, int32_t head_dim, float factor) {
    int32_t d = 0;
    for (; d + 2 * WIDTH <= head_dim; d += 2 * WIDTH) {
        __m512 first = (__m512)(vector_load(q + d) * factor);
        __m512 second = (__m512)(vector_load(q + d + WIDTH) * factor);
        vector_store((float *)packed + d / 2, (vector_f)_mm512_cvtne2ps_pbh(second, first));
    }
    if (d < head_dim) {
        int low = head_dim - d < WIDTH ? head_dim - d : WIDTH;
        int high = head_dim - d - low < WIDTH ? head_dim - d - low : WIDTH;
        __m512 first = (__m512)(vector_load_part(q + d, low) * factor);
        __m512 second = (__m512)(vector_load_part(q + d + low, high) * factor);
        vector_store((float *)packed + d / 2, (vector_f)_mm512_cvtne2ps_pbh(second, first));
    }
}

static void visit_pairs(const struct attention_tile *tile) {
    visit(tile, FORM_BF16_DOT);
}

const struct attention_kernel KERNEL(attention_bf16) = {
    .store = kernel_store_bf16_avx512,
    .pack_query = pack_query_pairs,
    .visit = visit_pairs,
};
