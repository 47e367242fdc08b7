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

// Bits of the largest magnitude; as whole numbers they are in the order of the magnitudes, with
// infinity and what is not a number above all others.
INLINE int32_t largest_bits(const vector_f *v, int n_vectors) {
    vector_i largest = {0};
#pragma GCC unroll 32
    for (int i = 0; i < n_vectors; ++i) {
        largest = vector_larger_i(largest, (vector_i)v[i] & 0x7fffffff);
    }
    vector_i lanes;
    for (int i = 0; i < WIDTH; ++i) {
        lanes[i] = i;
    }
#pragma GCC unroll 4
    for (int step = WIDTH / 2; step > 0; step /= 2) {
        largest = vector_larger_i(largest, __builtin_shuffle(largest, lanes ^ step));
    }
    return largest[0];
}

// How a group with these largest_bits is rounded to whole numbers in [-127, 127]. One with nothing
// above 2^-100 counts as zeros; a value that is not finite makes the scale, and so the row's
// results, not a number.
struct group_step {
    float scale;   // of the whole numbers
    float inverse; // of the values
};

INLINE struct group_step step_of(int32_t largest) {
    float magnitude;
    memcpy(&magnitude, &largest, sizeof(magnitude));
    bool finite = largest < 0x7f800000, counts = finite && magnitude >= 0x1p-100f;
    return (struct group_step){
        .scale = counts   ? magnitude / 127
                 : finite ? 0
                          : __builtin_nanf(""),
        .inverse = counts ? 127 / magnitude : 0,
    };
}

// Nearest even, of magnitudes below 2^22: adding the constant leaves a whole number in the low
// fraction bits.
INLINE vector_i round_to_whole(vector_f v) {
    return (vector_i)(v + 0x1.8p23f) - 0x4b400000;
}

// Formats with rows in 8 bits, whose form depends on the instruction set: kernels_linear_int8.c,
// kernels_linear_q4.c.
extern const struct linear_kernel KERNEL(int8), KERNEL(q4);

#endif
