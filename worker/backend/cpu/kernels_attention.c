// Attention with the instructions of this instruction set: f32, f16 and bf16 widened on use, and
// 8 bits.
#include "worker/backend/cpu/attention_tile.h"
#include "worker/backend/cpu/kernels_private.h"

static void visit_f32(const struct attention_tile *tile) {
    visit(tile, FORM_F32);
}

static void visit_f16(const struct attention_tile *tile) {
    visit(tile, FORM_F16);
}

static void visit_bf16(const struct attention_tile *tile) {
    visit(tile, FORM_BF16);
}

static void visit_int8(const struct attention_tile *tile) {
    visit(tile, FORM_INT8);
}

// Adding +0 makes one zero of the two: how many hidden tokens a tile adds nothing for must not
// show.
void KERNEL(attention_finish)(float *out, const float *sums, const struct softmax_state *state,
                              int32_t head_dim) {
    vector_f parts[PARTS];
    for (int p = 0; p < PARTS; ++p) {
        parts[p] = vector_load(state->sums + p * WIDTH);
    }
    float inverse = 1.0f / fold(parts);
    int32_t d = 0;
    for (; d + WIDTH <= head_dim; d += WIDTH) {
        vector_store(out + d, vector_load(sums + d) * inverse + 0.0f);
    }
    for (; d < head_dim; ++d) {
        out[d] = sums[d] * inverse + 0.0f;
    }
}

const struct attention_kernel KERNEL(attention_f32) = {
    .store = KERNEL(store_f32),
    .pack_query = KERNEL(pack_query),
    .visit = visit_f32,
};

const struct attention_kernel KERNEL(attention_f16) = {
    .store = KERNEL(store_f16),
    .pack_query = KERNEL(pack_query),
    .visit = visit_f16,
};

const struct attention_kernel KERNEL(attention_bf16) = {
    .store = KERNEL(store_bf16),
    .pack_query = KERNEL(pack_query),
    .visit = visit_bf16,
};

const struct attention_kernel KERNEL(attention_int8) = {
    .store = KERNEL(store_int8),
    .pack_query = KERNEL(pack_query_int8),
    .visit = visit_int8,
};
