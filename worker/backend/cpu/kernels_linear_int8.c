// Product tiles of LINEAR_INT8. Products of a group are summed as integers, exactly, and joined in
// f32 by multiplications and additions that are rounded one by one: all instruction sets agree bit
// for bit. Compiled in four forms: with AVX-512 VNNI a unit holds four inputs as unsigned bytes,
// offset by 128, which the weights' sums in the panel take back; on AVX2 four signed bytes, which
// are multiplied by the weights' magnitudes after these gave them their signs; on AVX-512 without
// VNNI, which has no such instruction, two inputs in 16 bits (of each four: first and third, second
// and fourth); otherwise one input as a small whole f32.
#include "worker/backend/cpu/kernels_linear.h"

#if defined(__AVX512BW__) && !defined(__AVX512VNNI__)
enum { UNIT_INPUTS = 2 };
#elif defined(__AVX2__)
enum { UNIT_INPUTS = 4 };
#else
enum { UNIT_INPUTS = 1 };
#endif

enum { LINE_INPUTS = LINE_UNITS * UNIT_INPUTS, GROUP_LINES = INT8_GROUP / LINE_INPUTS };
enum { WIDTH_BITS = WIDTH == 16 ? 4 : WIDTH == 8 ? 3 : 2 };

#if defined(__AVX2__)
typedef vector_i group_sum;
#if !defined(__AVX512BW__)
static const __m256i ones = {0x0001000100010001, 0x0001000100010001, 0x0001000100010001,
                             0x0001000100010001};
#endif
#else
typedef vector_f group_sum; // whole numbers below 2^24
#endif

INLINE group_sum start_sum(vector_i header) {
#if defined(__AVX512VNNI__)
    return (header << 16) >> 9; // 128 times the negated sum of the weights
#else
    (void)header;
    return (group_sum){0};
#endif
}

// Four inputs' weights of WIDTH outputs as add_products wants them.
INLINE vector_i load_quad(const char *w) {
    vector_i quad = (vector_i)vector_load(w);
#if defined(__AVX2__) && !defined(__AVX512BW__)
    quad = (vector_i)_mm256_abs_epi8((__m256i)quad);
#endif
    return quad;
}

// Adds the products of one unit of inputs and the weights at `w`, which load_quad made `quad` of.
INLINE group_sum add_products(group_sum sum, const char *w, vector_i quad, uint32_t inputs,
                              int unit) {
#if defined(__AVX512VNNI__)
    (void)w, (void)unit;
    return (group_sum)_mm512_dpbusd_epi32((__m512i)sum, _mm512_set1_epi32((int)inputs),
                                          (__m512i)quad);
#elif defined(__AVX512BW__)
    typedef int16_t vector_s __attribute__((vector_size(64)));
    (void)w;
    vector_s pair = unit % 2 == 0 ? (vector_s)quad << 8 >> 8 : (vector_s)quad >> 8;
    return sum + (group_sum)_mm512_madd_epi16((__m512i)pair, _mm512_set1_epi32((int)inputs));
#elif defined(__AVX2__)
    // Pairs stay below 2^15: neither factor is larger than 127. As one piece, since the compiler
    // would put the additions of several units off and run out of registers.
    (void)unit;
    __m256i products;
    __asm__("vpsignb %[weights], %[inputs], %[products]\n\t"
            "vpmaddubsw %[products], %[quad], %[products]\n\t"
            "vpmaddwd %[ones], %[products], %[products]\n\t"
            "vpaddd %[products], %[sum], %[sum]"
            : [sum] "+x"(sum), [products] "=&x"(products)
            : [inputs] "x"(_mm256_set1_epi32((int)inputs)), [quad] "x"(quad),
              [weights] "m"(*(const __m256i_u *)w), [ones] "m"(ones));
    return sum;
#else
    (void)w;
    vector_i one = quad << (24 - 8 * unit) >> 24;
    float input;
    memcpy(&input, &inputs, sizeof(input));
    return sum + __builtin_convertvector(one, vector_f) * vector_set(input);
#endif
}

INLINE vector_f sum_to_float(group_sum sum) {
#if defined(__AVX2__)
    return __builtin_convertvector(sum, vector_f);
#else
    return sum;
#endif
}

enum { QUAD_UNITS = 4 / UNIT_INPUTS, QUAD_BYTES = PANEL * 4 };

INLINE void multiply_line(const char *w, const char *x, int rows, const struct linear_tile *tile,
                          const char *soon, group_sum sums[TILE_ROWS][2]) {
#pragma GCC unroll 1
    for (int unit = 0; unit < LINE_UNITS; unit += UNROLL, x += UNROLL * 4) {
#pragma GCC unroll 4
        for (int i = 0; i < UNROLL; ++i, soon += tile->prefetch_step) {
            vector_i quads[2];
            for (int v = 0; v < 2; ++v) {
                quads[v] = load_quad(w + v * WIDTH * 4);
                KEEP_IN_REGISTER(quads[v]);
            }
#pragma GCC unroll 12
            for (int r = 0; r < rows; ++r) {
                uint32_t inputs;
                memcpy(&inputs, x + r * LINE_BYTES + i * 4, sizeof(inputs));
#pragma GCC unroll 2
                for (int v = 0; v < 2; ++v) {
                    sums[r][v] = add_products(sums[r][v], w + v * WIDTH * 4, quads[v], inputs,
                                              i % QUAD_UNITS);
                }
            }
            prefetch_unit(soon, QUAD_BYTES / QUAD_UNITS);
            w += (i + 1) % QUAD_UNITS == 0 ? QUAD_BYTES : 0;
        }
    }
}

INLINE void tile_rows(const struct linear_tile *tile, int rows) {
    const char *w = tile->weights, *x = tile->x, *soon = tile->prefetch;
    bool first = tile->first;
    const float *x_scales = tile->x_scales;
    for (int32_t line = 0; line < tile->n_lines; line += GROUP_LINES, first = false) {
        vector_i headers[2] = {(vector_i)vector_load(w), (vector_i)vector_load(w + WIDTH * 4)};
        group_sum sums[TILE_ROWS][2];
#pragma GCC unroll 12
        for (int r = 0; r < rows; ++r) {
            sums[r][0] = start_sum(headers[0]);
            sums[r][1] = start_sum(headers[1]);
        }
        prefetch_unit(soon, QUAD_BYTES);
        soon += QUAD_UNITS * tile->prefetch_step;
        w += QUAD_BYTES;
        int32_t left = tile->n_lines - line;
        int32_t n = left < GROUP_LINES ? left : GROUP_LINES;
        for (int32_t i = 0; i < n; ++i) {
            multiply_line(w, x, rows, tile, soon, sums);
            w += LINE_INPUTS / 4 * QUAD_BYTES;
            x += rows * LINE_BYTES;
            soon += LINE_UNITS * tile->prefetch_step;
        }
#pragma GCC unroll 12
        for (int r = 0; r < rows; ++r, ++x_scales) {
#pragma GCC unroll 2
            for (int v = 0; v < 2; ++v) {
                float *to = tile->sums + r * PANEL + v * WIDTH;
                vector_f scale = (vector_f)(headers[v] & (int32_t)0xffff0000) * *x_scales;
                vector_f product = sum_to_float(sums[r][v]) * scale;
                vector_store(to, first ? product : vector_load(to) + product);
            }
        }
    }
}

#define TILE(rows) tile_rows(tile, rows)

static UNCHECKED void tile_int8(const struct linear_tile *tile) {
    SWITCH_HEIGHT(tile->height, TILE);
}

// WIDTH whole numbers in [-127, 127], in two's complement, on their way into a line.
INLINE void put_inputs(char *to, vector_i whole) {
#if defined(__AVX512VNNI__)
    __m128i bytes = _mm512_cvtepi32_epi8((__m512i)(whole + 128));
    memcpy(to, &bytes, sizeof(bytes));
#elif defined(__AVX2__) && !defined(__AVX512BW__)
    __m256i words = _mm256_packs_epi32((__m256i)whole, (__m256i)whole);
    __m256i bytes = _mm256_packs_epi16(words, words); // four of each half
    uint32_t halves[2] = {(uint32_t)_mm256_extract_epi32(bytes, 0),
                          (uint32_t)_mm256_extract_epi32(bytes, 4)};
    memcpy(to, halves, sizeof(halves));
#elif defined(__AVX512BW__)
    int16_t pairs[WIDTH];
    for (int i = 0; i < WIDTH; ++i) {
        int from = i % 4 == 1 ? i + 1 : i % 4 == 2 ? i - 1 : i;
        pairs[i] = (int16_t)whole[from];
    }
    memcpy(to, pairs, sizeof(pairs));
#else
    vector_store(to, __builtin_convertvector(whole, vector_f));
#endif
}

// Walsh-Hadamard transform of n_vectors, a constant, in place: out[i] is the sum of all in[k],
// those with an odd number of ones in i & k subtracted. Pairs one, two, four, ... values apart
// become their sum and difference, each rounded once: the same bits everywhere.
INLINE void transform(vector_f *v, int n_vectors) {
    vector_i lanes;
    for (int i = 0; i < WIDTH; ++i) {
        lanes[i] = i;
    }
#pragma GCC unroll 4
    for (int bit = 0; bit < WIDTH_BITS; ++bit) {
        vector_i partners = lanes ^ (1 << bit);
        vector_f signs = __builtin_convertvector(1 - 2 * (lanes >> bit & 1), vector_f);
#pragma GCC unroll 32
        for (int i = 0; i < n_vectors; ++i) {
            v[i] = vector_fma(v[i], signs, __builtin_shuffle(v[i], partners));
        }
    }
#pragma GCC unroll 5
    for (int bit = 0; 1 << bit < n_vectors; ++bit) {
#pragma GCC unroll 32
        for (int i = 0; i < n_vectors; ++i) {
            if ((i >> bit & 1) == 0) {
                vector_f low = v[i], high = v[i | 1 << bit];
                v[i] = low + high;
                v[i | 1 << bit] = low - high;
            }
        }
    }
}

// The first n of a group's `size` values, a constant, with zeros after them, spread: none becomes
// larger than the largest was.
INLINE void load_spread(const float *x, int32_t n, int size, vector_f *v) {
#pragma GCC unroll 32
    for (int i = 0; i < size / WIDTH; ++i) {
        v[i] = vector_load_left(x + i * WIDTH, n - i * WIDTH) * (1.0f / (float)size);
    }
    transform(v, size / WIDTH);
}

// One group of one row, the first n of `size` values, a constant, into lines; returns its scale.
INLINE float round_group(const float *x, int32_t n, int size, char *line, int32_t height) {
    vector_f v[INT8_GROUP / WIDTH];
    load_spread(x, n, size, v);
    struct group_step step = step_of(largest_bits(v, size / WIDTH));
#pragma GCC unroll 32
    for (int i = 0; i < size / WIDTH; ++i) {
        int at = i * WIDTH;
        char *to = line + (size_t)(at / LINE_INPUTS) * (size_t)height * LINE_BYTES;
        put_inputs(to + at % LINE_INPUTS * LINE_BYTES / LINE_INPUTS,
                   round_to_whole(v[i] * step.inverse));
    }
    return step.scale;
}

static void pack_int8(const struct linear_rows *rows) {
    int32_t inputs = rows->n_lines * LINE_INPUTS;
    for (int32_t r = rows->begin; r < rows->end; ++r) {
        const float *x = rows->x + (size_t)r * (size_t)rows->cols;
        char *line = rows->lines + (size_t)r * LINE_BYTES;
        float *scale = rows->scales + r;
        for (int32_t at = 0; at < inputs; at += INT8_GROUP, scale += rows->height) {
            int32_t left = rows->cols - at;
            *scale = inputs - at >= INT8_GROUP
                         ? round_group(x + at, left, INT8_GROUP, line, rows->height)
                         : round_group(x + at, left, INT8_STEP, line, rows->height);
            line += (size_t)GROUP_LINES * (size_t)rows->height * LINE_BYTES;
        }
    }
}

INLINE void spread_values(float *values, int size) {
    vector_f v[INT8_GROUP / WIDTH];
    load_spread(values, size, size, v);
    memcpy(values, v, (size_t)size * sizeof(float));
}

static void spread_int8(float *values, int32_t size) {
    if (size == INT8_GROUP) {
        spread_values(values, INT8_GROUP);
    } else {
        spread_values(values, INT8_STEP);
    }
}

const struct linear_kernel KERNEL(int8) = {
    .line_inputs = LINE_INPUTS,
    .tile_rows = TILE_ROWS,
    .pack = pack_int8,
    .tile = tile_int8,
    .spread = spread_int8,
};
