// Product tiles of LINEAR_Q4: weights of four bits, unpacked in registers, times rows in 8.
// Products of a group are summed as integers, exactly, and joined in f32 by two fused
// multiply-additions: all instruction sets agree bit for bit. Compiled in three forms: with AVX-512
// VNNI dot products of four add up in 32 bits; on AVX2 and AVX-512 those of two in 16, where all
// eight of a group stay below 8 * 2 * 15 * 127 < 2^15, so that one widening serves a group;
// otherwise one input is a small whole f32.
#include "worker/backend/cpu/kernels_linear.h"

#if defined(__AVX2__)
enum { UNIT_INPUTS = 4 };
typedef vector_i group_sum;
#else
enum { UNIT_INPUTS = 1 };
typedef vector_f group_sum; // whole numbers below 2^24
#endif

enum {
    LINE_INPUTS = LINE_UNITS * UNIT_INPUTS,
    QUADS = Q4_GROUP / 4,
    QUAD_BYTES = PANEL * 2, // four inputs' weights
    QUAD_UNITS = 4 / UNIT_INPUTS,
    HEADER_BYTES = PANEL * 4, // scales and minima
    GROUPS = Q4_STEP / Q4_GROUP,
};

// Four inputs' weights of the panel's halves, a byte each.
INLINE void load_quads(const char *w, vector_i quads[2]) {
    vector_u both = (vector_u)vector_load(w);
    quads[0] = (vector_i)(both & 0x0f0f0f0f);
    quads[1] = (vector_i)(both >> 4 & 0x0f0f0f0f);
    KEEP_IN_REGISTER(quads[0]);
    KEEP_IN_REGISTER(quads[1]);
}

// Adds to both halves' sums the products of one unit of inputs and its weights among those of four;
// the first unit of a group finds zeros.
INLINE void add_products(group_sum sums[2], const vector_i quads[2], uint32_t inputs, int unit) {
#if defined(__AVX512VNNI__)
    (void)unit;
    __m512i both = _mm512_set1_epi32((int)inputs);
    sums[0] = (group_sum)_mm512_dpbusd_epi32((__m512i)sums[0], (__m512i)quads[0], both);
    sums[1] = (group_sum)_mm512_dpbusd_epi32((__m512i)sums[1], (__m512i)quads[1], both);
#elif defined(__AVX512BW__)
    __m512i both = _mm512_set1_epi32((int)inputs);
#pragma GCC unroll 2
    for (int v = 0; v < 2; ++v) {
        __m512i pairs = _mm512_maddubs_epi16((__m512i)quads[v], both);
        sums[v] =
            unit == 0 ? (group_sum)pairs : (group_sum)_mm512_add_epi16((__m512i)sums[v], pairs);
    }
#elif defined(__AVX2__)
    __m256i both = _mm256_set1_epi32((int)inputs);
    if (unit == 0) {
        sums[0] = (group_sum)_mm256_maddubs_epi16((__m256i)quads[0], both);
        sums[1] = (group_sum)_mm256_maddubs_epi16((__m256i)quads[1], both);
        KEEP_IN_REGISTER(sums[0]);
        KEEP_IN_REGISTER(sums[1]);
        return;
    }
    // As one piece: the compiler would put the additions of several units off and run out of
    // registers. Additions right behind their products would take the ports of the next ones (Zen
    // 3: a quarter longer).
    __m256i pairs;
    __asm__(
        "vpmaddubsw %[both], %[low], %[pairs]\n\t"
        "vpmaddubsw %[both], %[high], %[both]\n\t"
        "vpaddw %[pairs], %[sum_low], %[sum_low]\n\t"
        "vpaddw %[both], %[sum_high], %[sum_high]"
        : [sum_low] "+x"(sums[0]), [sum_high] "+x"(sums[1]), [pairs] "=&x"(pairs), [both] "+x"(both)
        : [low] "x"(quads[0]), [high] "x"(quads[1]));
#else
    float input;
    memcpy(&input, &inputs, sizeof(input));
    for (int v = 0; v < 2; ++v) {
        vector_i one = quads[v] >> 8 * (unit % 4) & 0xff;
        sums[v] += __builtin_convertvector(one, vector_f) * vector_set(input);
    }
#endif
}

INLINE vector_f sum_to_float(group_sum sum) {
#if defined(__AVX512VNNI__)
    return __builtin_convertvector(sum, vector_f);
#elif defined(__AVX512BW__)
    __m512i whole = _mm512_madd_epi16((__m512i)sum, _mm512_set1_epi16(1));
    return __builtin_convertvector((vector_i)whole, vector_f);
#elif defined(__AVX2__)
    __m256i whole = _mm256_madd_epi16((__m256i)sum, _mm256_set1_epi16(1));
    return __builtin_convertvector((vector_i)whole, vector_f);
#else
    return sum;
#endif
}

// a * b + c, rounded once everywhere.
INLINE vector_f fuse(vector_f a, vector_f b, vector_f c) {
#if defined(__FMA__)
    return vector_fma(a, b, c);
#else
    for (int i = 0; i < WIDTH; ++i) {
        c[i] = __builtin_fmaf(a[i], b[i], c[i]);
    }
    return c;
#endif
}

// Where a row's unit `unit` of a group of a step lies.
INLINE const char *unit_at(const char *x, int rows, int group, int unit) {
    int at = group * (Q4_GROUP / UNIT_INPUTS) + unit;
    return x + at / LINE_UNITS * rows * LINE_BYTES + at % LINE_UNITS * 4;
}

INLINE void multiply_group(const char *w, const char *x, int rows, int group,
                           const struct linear_tile *tile, const char *soon,
                           group_sum sums[TILE_ROWS][2]) {
#pragma GCC unroll 8
    for (int quad = 0; quad < QUADS; ++quad, w += QUAD_BYTES) {
        vector_i quads[2];
        load_quads(w, quads);
#pragma GCC unroll 4
        for (int unit = quad * QUAD_UNITS; unit < (quad + 1) * QUAD_UNITS; ++unit) {
            const char *from = unit_at(x, rows, group, unit);
#pragma GCC unroll 12
            for (int r = 0; r < rows; ++r) {
                uint32_t inputs;
                memcpy(&inputs, from + r * LINE_BYTES, sizeof(inputs));
                add_products(sums[r], quads, inputs, unit);
            }
        }
        if (quad % 2 == 0) {
            prefetch_unit(soon, 2 * QUAD_BYTES);
            soon += 2 * QUAD_UNITS * tile->prefetch_step;
        }
    }
}

// Takes a group into the tile's sums.
INLINE void join_group(const char *header, const float *x_scales, int rows, bool first,
                       group_sum sums[TILE_ROWS][2], float *to) {
    vector_f scales[2], minima[2];
#pragma GCC unroll 2
    for (int v = 0; v < 2; ++v) {
        vector_h half;
        memcpy(&half, header + v * WIDTH * 2, sizeof(half));
        scales[v] = widen_f16(half);
        memcpy(&half, header + (PANEL + v * WIDTH) * 2, sizeof(half));
        minima[v] = widen_f16(half);
    }
#pragma GCC unroll 12
    for (int r = 0; r < rows; ++r, x_scales += Q4_STEP_SCALES, to += PANEL) {
#pragma GCC unroll 2
        for (int v = 0; v < 2; ++v) {
            vector_f before = first ? (vector_f){0} : vector_load(to + v * WIDTH);
            vector_f product = sum_to_float(sums[r][v]) * scales[v];
            vector_f sum = fuse(product, vector_set(x_scales[0]), before);
            vector_store(to + v * WIDTH, fuse(minima[v], vector_set(x_scales[1]), sum));
        }
    }
}

INLINE void tile_rows(const struct linear_tile *tile, int rows) {
    const char *w = tile->weights, *x = tile->x, *soon = tile->prefetch;
    const float *x_scales = tile->x_scales;
    bool first = tile->first;
    for (int32_t line = 0; line < tile->n_lines; line += Q4_STEP / LINE_INPUTS) {
#pragma GCC unroll 1
        for (int group = 0; group < GROUPS; ++group, first = false) {
            group_sum sums[TILE_ROWS][2] = {{{0}}};
            prefetch_unit(soon, HEADER_BYTES);
            soon += 2 * QUAD_UNITS * tile->prefetch_step;
            multiply_group(w + HEADER_BYTES, x, rows, group, tile, soon, sums);
            soon += QUADS * QUAD_UNITS * tile->prefetch_step;
            join_group(w, x_scales + group * (Q4_STEP_SCALES / GROUPS), rows, first, sums,
                       tile->sums);
            w += HEADER_BYTES + QUADS * QUAD_BYTES;
        }
        x += Q4_STEP / LINE_INPUTS * rows * LINE_BYTES;
        x_scales += rows * Q4_STEP_SCALES;
    }
}

#define TILE(rows) tile_rows(tile, rows)

static UNCHECKED void tile_q4(const struct linear_tile *tile) {
    SWITCH_HEIGHT(tile->height, TILE);
}

// WIDTH whole numbers in [-127, 127] on their way into a line.
INLINE void put_inputs(char *to, vector_i whole) {
#if defined(__AVX512F__)
    __m128i bytes = _mm512_cvtepi32_epi8((__m512i)whole);
    memcpy(to, &bytes, sizeof(bytes));
#elif defined(__AVX2__)
    __m256i words = _mm256_packs_epi32((__m256i)whole, (__m256i)whole);
    __m256i bytes = _mm256_packs_epi16(words, words); // four of each half
    uint32_t halves[2] = {(uint32_t)_mm256_extract_epi32(bytes, 0),
                          (uint32_t)_mm256_extract_epi32(bytes, 4)};
    memcpy(to, halves, sizeof(halves));
#else
    vector_store(to, __builtin_convertvector(whole, vector_f));
#endif
}

// One group of one row, the first n of its values, into a line from `to` on; its scale and scale
// times sum become scales[0] and scales[1].
INLINE void round_group(const float *x, int32_t n, char *to, int32_t height, float *scales) {
    vector_f v[Q4_GROUP / WIDTH];
#pragma GCC unroll 8
    for (int i = 0; i < Q4_GROUP / WIDTH; ++i) {
        v[i] = vector_load_left(x + i * WIDTH, n - i * WIDTH);
    }
    struct group_step step = step_of(largest_bits(v, Q4_GROUP / WIDTH));
    vector_i sums = {0};
#pragma GCC unroll 8
    for (int i = 0; i < Q4_GROUP / WIDTH; ++i) {
        vector_i whole = round_to_whole(v[i] * step.inverse);
        int at = i * WIDTH;
        put_inputs(to + at / LINE_INPUTS * height * LINE_BYTES +
                       at % LINE_INPUTS * LINE_BYTES / LINE_INPUTS,
                   whole);
        sums += whole;
    }
    int32_t sum = 0;
#pragma GCC unroll 16
    for (int i = 0; i < WIDTH; ++i) {
        sum += sums[i];
    }
    scales[0] = step.scale;
    scales[1] = step.scale * (float)sum;
}

static void pack_q4(const struct linear_rows *rows) {
    const size_t line_step = (size_t)rows->height * LINE_BYTES;
    for (int32_t r = rows->begin; r < rows->end; ++r) {
        const float *x = rows->x + (size_t)r * (size_t)rows->cols;
        char *line = rows->lines + (size_t)r * LINE_BYTES;
        float *scales = rows->scales + r * Q4_STEP_SCALES;
        int32_t inputs = rows->n_lines * LINE_INPUTS;
        for (int32_t at = 0; at < inputs; at += Q4_STEP) {
            for (int group = 0; group < GROUPS; ++group) {
                int32_t from = at + group * Q4_GROUP;
                char *to = line + (size_t)(from / LINE_INPUTS) * line_step +
                           from % LINE_INPUTS * LINE_BYTES / LINE_INPUTS;
                round_group(x + from, rows->cols - from, to, rows->height,
                            scales + group * (Q4_STEP_SCALES / GROUPS));
            }
            scales += rows->height * Q4_STEP_SCALES;
        }
    }
}

const struct linear_kernel KERNEL(q4) = {
    .line_inputs = LINE_INPUTS,
    .tile_rows = TILE_ROWS,
    .pack = pack_q4,
    .tile = tile_q4,
};
