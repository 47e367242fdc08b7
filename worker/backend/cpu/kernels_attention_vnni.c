// Attention with AVX-512's dot products of 8-bit numbers: four times the products of f32, and bit
// for bit what the other instruction sets get from the same scores.
#include "worker/backend/cpu/attention_tile.h"
#include "worker/backend/cpu/kernels_private.h"

static void visit_int8(const struct attention_tile *tile) {
    visit(tile, FORM_INT8);
}

const struct attention_kernel KERNEL(attention_int8) = {
    .store = kernel_store_int8_avx512,
    .pack_query = kernel_pack_query_int8_avx512,
    .visit = visit_int8,
};
