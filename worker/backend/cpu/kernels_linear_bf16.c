// Product tiles of LINEAR_BF16_ROUNDED with AVX-512's bf16 dot product. The instruction multiplies
// pairs and adds the upper product first, then the lower, each fused and rounded to nearest even:
// the same numbers as widened f32 gives, but for values below 2^-126, which it takes for zero.
#include "worker/backend/cpu/kernels_linear.h"

enum { LINE_INPUTS = 2 * LINE_UNITS, UNIT_BYTES = PANEL * 4 };

INLINE vector_f dot_pairs(vector_f sum, vector_i weights, vector_i inputs) {
    return (vector_f)_mm512_dpbf16_ps((__m512)sum, (__m512bh)inputs, (__m512bh)weights);
}

INLINE void tile_rows(const struct linear_tile *tile, int rows) {
    vector_f sums[TILE_ROWS][2];
    load_sums(tile, rows, sums);
    const char *w = tile->weights, *x = tile->x, *soon = tile->prefetch;
    for (int32_t line = 0; line < tile->n_lines; ++line, x += rows * LINE_BYTES) {
#pragma GCC unroll 1
        for (int unit = 0; unit < LINE_UNITS; unit += UNROLL) {
#pragma GCC unroll 4
            for (int i = 0; i < UNROLL; ++i, w += UNIT_BYTES, soon += tile->prefetch_step) {
                vector_i pairs[2] = {(vector_i)vector_load(w),
                                     (vector_i)vector_load(w + LINE_BYTES)};
                KEEP_IN_REGISTER(pairs[0]);
                KEEP_IN_REGISTER(pairs[1]);
#pragma GCC unroll 12
                for (int r = 0; r < rows; ++r) {
                    int32_t inputs;
                    memcpy(&inputs, x + r * LINE_BYTES + (unit + i) * 4, sizeof(inputs));
                    vector_i both = inputs - (vector_i){0};
                    KEEP_IN_REGISTER(both);
                    sums[r][0] = dot_pairs(sums[r][0], pairs[0], both);
                    sums[r][1] = dot_pairs(sums[r][1], pairs[1], both);
                }
                prefetch_unit(soon, UNIT_BYTES);
            }
        }
    }
    store_sums(tile, rows, sums);
}

#define TILE(rows) tile_rows(tile, rows)

static UNCHECKED void tile_bf16(const struct linear_tile *tile) {
    SWITCH_HEIGHT(tile->height, TILE);
}

static void pack_pairs(const struct linear_rows *rows) {
    const vector_i even = {0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30};
    for (int32_t r = rows->begin; r < rows->end; ++r) {
        const float *x = rows->x + (size_t)r * (size_t)rows->cols;
        char *to = rows->lines + (size_t)r * LINE_BYTES;
        for (int32_t line = 0; line < rows->n_lines; ++line, to += rows->height * LINE_BYTES) {
            int32_t at = line * LINE_INPUTS;
            vector_i low = (vector_i)round_to_bf16(vector_load_left(x + at, rows->cols - at));
            at += WIDTH;
            vector_i high = (vector_i)round_to_bf16(vector_load_left(x + at, rows->cols - at));
            vector_i earlier = __builtin_shuffle(low, high, even);
            vector_i later = __builtin_shuffle(low, high, even + 1);
            vector_store(to, (vector_f)(earlier | ((later >> 16) & 0xffff)));
        }
    }
}

const struct linear_kernel KERNEL(bf16_rounded) = {
    .line_inputs = LINE_INPUTS,
    .tile_rows = TILE_ROWS,
    .pack = pack_pairs,
    .tile = tile_bf16,
};
