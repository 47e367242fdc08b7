// Product tiles with f32 rows: weights in f32, f16 or bf16, widened in registers. Also the way out
// of finished sums, for all formats.
#include "worker/backend/cpu/kernels_linear.h"

// Both vectors of one unit's weights; of bf16, one half of a pair.
INLINE void load_weights(const char *w, int unit, enum linear_format format, vector_f out[2]) {
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i) {
        if (format == LINEAR_F32) {
            out[i] = vector_load(w + (unit * PANEL + i * WIDTH) * 4);
        } else if (format == LINEAR_F16) {
            vector_h half;
            memcpy(&half, w + (unit * PANEL + i * WIDTH) * 2, sizeof(half));
            out[i] = widen_f16(half);
        } else {
            vector_i pair = (vector_i)vector_load(w + (unit / 2 * PANEL + i * WIDTH) * 4);
            out[i] = (vector_f)(unit % 2 == 0 ? pair & (int32_t)0xffff0000 : pair << 16);
        }
        KEEP_IN_REGISTER(out[i]);
    }
}

INLINE void multiply_unit(const char *x, int unit, int rows, const vector_f weights[2],
                          vector_f sums[TILE_ROWS][2]) {
#pragma GCC unroll 12
    for (int r = 0; r < rows; ++r) {
        float value;
        memcpy(&value, x + r * LINE_BYTES + unit * 4, sizeof(value));
        vector_f input = vector_set(value);
        KEEP_IN_REGISTER(input);
        sums[r][0] = vector_fma(input, weights[0], sums[r][0]);
        sums[r][1] = vector_fma(input, weights[1], sums[r][1]);
    }
}

INLINE void tile_rows(const struct linear_tile *tile, int rows, enum linear_format format) {
    const size_t unit_bytes = (size_t)PANEL * (format == LINEAR_F32 ? 4 : 2);
    vector_f sums[TILE_ROWS][2];
    load_sums(tile, rows, sums);
    const char *w = tile->weights, *x = tile->x, *soon = tile->prefetch;
    for (int32_t line = 0; line < tile->n_lines; ++line, x += rows * LINE_BYTES) {
#pragma GCC unroll 1
        for (int unit = 0; unit < LINE_UNITS; unit += UNROLL, w += UNROLL * unit_bytes) {
#pragma GCC unroll 4
            for (int i = 0; i < UNROLL; ++i, soon += tile->prefetch_step) {
                vector_f weights[2];
                load_weights(w, i, format, weights);
                multiply_unit(x + unit * 4, i, rows, weights, sums);
                prefetch_unit(soon, unit_bytes);
            }
        }
    }
    store_sums(tile, rows, sums);
}

#define TILE_F32(rows) tile_rows(tile, rows, LINEAR_F32)
#define TILE_F16(rows) tile_rows(tile, rows, LINEAR_F16)
#define TILE_BF16(rows) tile_rows(tile, rows, LINEAR_BF16)

static UNCHECKED void tile_f32(const struct linear_tile *tile) {
    SWITCH_HEIGHT(tile->height, TILE_F32);
}

static UNCHECKED void tile_f16(const struct linear_tile *tile) {
    SWITCH_HEIGHT(tile->height, TILE_F16);
}

static UNCHECKED void tile_bf16(const struct linear_tile *tile) {
    SWITCH_HEIGHT(tile->height, TILE_BF16);
}

INLINE void pack(const struct linear_rows *rows, bool rounded) {
    for (int32_t r = rows->begin; r < rows->end; ++r) {
        const float *x = rows->x + (size_t)r * (size_t)rows->cols;
        char *to = rows->lines + (size_t)r * LINE_BYTES;
        for (int32_t line = 0; line < rows->n_lines; ++line, to += rows->height * LINE_BYTES) {
            for (int32_t i = 0; i < LINE_UNITS; i += WIDTH) {
                int32_t at = line * LINE_UNITS + i;
                vector_f v = vector_load_left(x + at, rows->cols - at);
                vector_store(to + i * 4, rounded ? round_to_bf16(v) : v);
            }
        }
    }
}

static void pack_f32(const struct linear_rows *rows) {
    pack(rows, false);
}

static void pack_rounded(const struct linear_rows *rows) {
    pack(rows, true);
}

INLINE void store_outputs(float *to, vector_f v, int32_t n, enum linear_store store) {
    if (n <= 0) {
        return;
    }
    if (store == LINEAR_ADD) {
        v = vector_load_left(to, n) + v;
    }
    if (n >= WIDTH && store == LINEAR_STREAM) {
        vector_stream(to, v);
    } else if (n >= WIDTH) {
        vector_store(to, v);
    } else {
        memcpy(to, &v, (size_t)n * sizeof(float));
    }
}

static void finish(const struct linear_finish *args) {
    for (int32_t r = 0; r < args->height; ++r) {
        float *to = args->out + (size_t)r * (size_t)args->out_stride;
        vector_f v[2];
        for (int i = 0; i < 2; ++i) {
            v[i] = vector_load(args->sums + r * PANEL + i * WIDTH);
            if (args->bias != NULL) {
                v[i] += vector_load(args->bias + i * WIDTH);
            }
        }
        if (args->store == LINEAR_GATE) {
            vector_f gated = v[0] / (1.0f + vector_exp(-v[0])) * v[1];
            store_outputs(to, gated, args->n_outputs, LINEAR_GATE);
        } else {
            store_outputs(to, v[0], args->n_outputs, args->store);
            store_outputs(to + WIDTH, v[1], args->n_outputs - WIDTH, args->store);
        }
    }
}

#define KERNEL_OF(pack, tile)                                                                      \
    &(const struct linear_kernel) {                                                                \
        LINE_UNITS, TILE_ROWS, pack, tile                                                          \
    }

const struct linear_kernels KERNEL(linear) = {
    .panel = PANEL,
    .formats = {[LINEAR_F32] = KERNEL_OF(pack_f32, tile_f32),
                [LINEAR_F16] = KERNEL_OF(pack_f32, tile_f16),
                [LINEAR_BF16] = KERNEL_OF(pack_f32, tile_bf16),
                [LINEAR_BF16_ROUNDED] = KERNEL_OF(pack_rounded, tile_bf16),
                [LINEAR_INT8] = &KERNEL(int8),
                [LINEAR_Q4] = &KERNEL(q4)},
    .finish = finish,
};
