// What the product kernels of all formats share: the shape of a tile in the instruction set that
// the including file is compiled for.
#ifndef WORKER_BACKEND_CPU_KERNELS_LINEAR_H
#define WORKER_BACKEND_CPU_KERNELS_LINEAR_H

#include "worker/backend/cpu/kernels_private.h"
#include "worker/backend/cpu/linear.h"
#include "worker/backend/cpu/race_check.h"
#include "worker/backend/cpu/simd.h"

// Two vectors of outputs and as many rows as leave registers for two weights and an input: 24 sums
// in 32 registers, 12 in 16.
enum { PANEL = 2 * WIDTH, TILE_ROWS = WIDTH == 16 ? 12 : 6 };

enum { UNROLL = 4 }; // units

// The compiler would otherwise fold a load into each use and read the value once per use.
#if defined(__x86_64__)
#define KEEP_IN_REGISTER(v) __asm__("" : "+v"(v))
#else
#define KEEP_IN_REGISTER(v) (void)(v)
#endif

// body(rows) with a constant, so that the sums of each height live in registers.
#if defined(__AVX512F__)
#define SWITCH_HEIGHT_PAST_6(body)                                                                 \
    case 7:                                                                                        \
        body(7);                                                                                   \
        break;                                                                                     \
    case 8:                                                                                        \
        body(8);                                                                                   \
        break;                                                                                     \
    case 9:                                                                                        \
        body(9);                                                                                   \
        break;                                                                                     \
    case 10:                                                                                       \
        body(10);                                                                                  \
        break;                                                                                     \
    case 11:                                                                                       \
        body(11);                                                                                  \
        break;                                                                                     \
    case 12:                                                                                       \
        body(12);                                                                                  \
        break;
#else
#define SWITCH_HEIGHT_PAST_6(body)
#endif
#define SWITCH_HEIGHT(height, body)                                                                \
    switch (height) {                                                                              \
    case 1:                                                                                        \
        body(1);                                                                                   \
        break;                                                                                     \
    case 2:                                                                                        \
        body(2);                                                                                   \
        break;                                                                                     \
    case 3:                                                                                        \
        body(3);                                                                                   \
        break;                                                                                     \
    case 4:                                                                                        \
        body(4);                                                                                   \
        break;                                                                                     \
    case 5:                                                                                        \
        body(5);                                                                                   \
        break;                                                                                     \
    case 6:                                                                                        \
        body(6);                                                                                   \
        break;                                                                                     \
        SWITCH_HEIGHT_PAST_6(body)                                                                 \
    }

INLINE void load_sums(const struct linear_tile *tile, int rows, vector_f sums[TILE_ROWS][2]) {
#pragma GCC unroll 12
    for (int r = 0; r < rows; ++r) {
        const float *from = tile->sums + r * PANEL;
        sums[r][0] = tile->first ? (vector_f){0} : vector_load(from);
        sums[r][1] = tile->first ? (vector_f){0} : vector_load(from + WIDTH);
    }
}

INLINE void store_sums(const struct linear_tile *tile, int rows, vector_f sums[TILE_ROWS][2]) {
#pragma GCC unroll 12
    for (int r = 0; r < rows; ++r) {
        vector_store(tile->sums + r * PANEL, sums[r][0]);
        vector_store(tile->sums + r * PANEL + WIDTH, sums[r][1]);
    }
}

// Into the second level: what a core waits for there is more than the first can have under way.
INLINE void prefetch_unit(const char *soon, size_t unit_bytes) {
    for (size_t at = 0; at < unit_bytes; at += LINE_BYTES) {
        __builtin_prefetch(soon + at, 0, 2);
    }
}

// WIDTH of the `left` values at `source`, zeros past them.
INLINE vector_f vector_load_left(const float *source, int32_t left) {
    if (left >= WIDTH) {
        return vector_load(source);
    }
    return left > 0 ? vector_load_part(source, left) : (vector_f){0};
}

// Nearest even, in place: the upper half of a lane is the bf16, the lower half zero. A value that
// is not a number stays one.
INLINE vector_f round_to_bf16(vector_f v) {
    vector_u bits = (vector_u)v;
    vector_u rounded = (bits + 0x7fff + ((bits >> 16) & 1)) & 0xffff0000;
    vector_i unordered = (vector_i)(bits & 0x7fffffff) > 0x7f800000;
    return vector_select(unordered, vector_set(__builtin_nanf("")), (vector_f)rounded);
}

// Rows of LINEAR_INT8, whose form depends on the instruction set: kernels_linear_int8.c.
extern const struct linear_kernel KERNEL(int8);

#endif
