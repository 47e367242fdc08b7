// The way of a token's query, key and value to attention: rotation, packing, storing. A block keeps
// its keys as [head_dim][token] and its values as [token][attention_padded(head_dim)]; in bf16 two
// dimensions of a key, two tokens of a value stand side by side (kernels_attention.c reads them).
// Rows of one block may be stored by different threads at once, so nothing but a token's own
// elements is written.
#include <math.h>

#include "worker/backend/cpu/attention_simd.h"
#include "worker/backend/cpu/kernels_private.h"

void KERNEL(rotate)(float *x, int32_t n_heads, int32_t head_dim, const float *cosines,
                    const float *sines, int32_t half) {
    for (int32_t head = 0; head < n_heads; ++head, x += head_dim) {
        int32_t i = 0;
        for (; i + WIDTH <= half; i += WIDTH) {
            vector_f cosine = vector_load(cosines + i), sine = vector_load(sines + i);
            vector_f a = vector_load(x + i), b = vector_load(x + half + i);
            vector_store(x + i, a * cosine - b * sine);
            vector_store(x + half + i, b * cosine + a * sine);
        }
        for (; i < half; ++i) {
            float a = x[i], b = x[half + i];
            x[i] = a * cosines[i] - b * sines[i];
            x[half + i] = b * cosines[i] + a * sines[i];
        }
    }
}

void KERNEL(pack_query)(void *packed, const float *q, int32_t head_dim, float factor) {
    float *out = packed;
    int32_t d = 0;
    for (; d + WIDTH <= head_dim; d += WIDTH) {
        vector_store(out + d, vector_load(q + d) * factor);
    }
    for (; d < head_dim; ++d) {
        out[d] = q[d] * factor;
    }
}

void KERNEL(store_f32)(void *keys, void *values, const float *key, const float *value,
                       int32_t token, int32_t head_dim) {
    float *k = (float *)keys + token;
    for (int32_t d = 0; d < head_dim; ++d) {
        k[(size_t)d * KV_BLOCK_TOKENS] = key[d];
    }
    memcpy((float *)values + (size_t)token * attention_padded(head_dim), value,
           (size_t)head_dim * sizeof(float));
}

// The first min(n, WIDTH) values at `source`, zeros after them.
INLINE vector_f load_up_to(const float *source, int n) {
    return n >= WIDTH ? vector_load(source) : vector_load_part(source, n);
}

// Rounds to nearest even; what is too large for the format becomes its largest number, so that one
// outlier does not turn a whole row into NaN.
INLINE void narrow_f16(uint16_t out[LANES], const float *values, int n) {
    for (int part = 0; part < n; part += WIDTH) {
        vector_f v = load_up_to(values + part, n - part);
        v = vector_select(v > 65504.0f, vector_set(65504.0f), v);
        v = vector_select(v < -65504.0f, vector_set(-65504.0f), v);
        vector_h half;
#if defined(__AVX512F__)
        half = (vector_h)_mm512_cvtps_ph((__m512)v, _MM_FROUND_TO_NEAREST_INT);
#elif defined(__F16C__)
        half = (vector_h)_mm256_cvtps_ph((__m256)v, _MM_FROUND_TO_NEAREST_INT);
#else
        // Adding 2^13 times the power of two below the value, at least that of the smallest normal
        // number, leaves 10 bits of fraction and lets the addition round; dividing by 2^112 then
        // moves the exponent to its place.
        vector_i sign = (vector_i)v >> 16 & 0x8000, bits = (vector_i)v & 0x7fffffff;
        vector_i nan = bits > 0x7f800000, power = bits & 0x7f800000;
        power = (vector_i)vector_select(power < 0x38800000, vector_set(0x1p-14f), (vector_f)power);
        vector_f magic = (vector_f)((vector_u)power + (13u << 23));
        vector_i moved = (vector_i)((((vector_f)bits + magic) - magic) * 0x1p-112f) >> 13;
        half = __builtin_convertvector(sign | (~nan & moved) | (nan & 0x7e00), vector_h);
#endif
        memcpy(out + part, &half, sizeof(half));
    }
}

void KERNEL(store_f16)(void *keys, void *values, const float *key, const float *value,
                       int32_t token, int32_t head_dim) {
    uint16_t *k = (uint16_t *)keys + token;
    uint16_t *v = (uint16_t *)values + (size_t)token * attention_padded(head_dim);
    for (int32_t d = 0; d < head_dim; d += LANES) {
        int n = head_dim - d < LANES ? head_dim - d : LANES;
        uint16_t half[LANES];
        narrow_f16(half, key + d, n);
        for (int i = 0; i < n; ++i) {
            k[(size_t)(d + i) * KV_BLOCK_TOKENS] = half[i];
        }
        narrow_f16(half, value + d, n);
        memcpy(v + d, half, (size_t)n * sizeof(*v));
    }
}

// Rounds to nearest even.
INLINE void narrow_bf16(uint16_t out[LANES], const float *values, int n) {
    for (int part = 0; part < n; part += WIDTH) {
        vector_i bits = (vector_i)load_up_to(values + part, n - part);
        vector_i rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
        vector_i nan = (bits & 0x7fffffff) > 0x7f800000;
        rounded = (nan & (bits >> 16 | 0x40)) | (~nan & rounded);
        vector_h half = __builtin_convertvector(rounded, vector_h);
        memcpy(out + part, &half, sizeof(half));
    }
}

void KERNEL(store_bf16)(void *keys, void *values, const float *key, const float *value,
                        int32_t token, int32_t head_dim) {
    uint16_t *k = (uint16_t *)keys + 2 * token;
    uint16_t *v =
        (uint16_t *)values + token % 2 + 2 * (size_t)(token / 2) * attention_padded(head_dim);
    for (int32_t d = 0; d < head_dim; d += LANES) {
        int n = head_dim - d < LANES ? head_dim - d : LANES;
        uint16_t half[LANES];
        narrow_bf16(half, key + d, n);
        for (int i = 0; i < n; i += 2) {
            memcpy(k + (size_t)(d + i) * KV_BLOCK_TOKENS, half + i, 2 * sizeof(*k));
        }
        narrow_bf16(half, value + d, n);
        for (int i = 0; i < n; ++i) {
            v[2 * (d + i)] = half[i];
        }
    }
}

// The largest magnitude of n numbers, times factor; NaN when one is not finite.
INLINE float largest_magnitude(const float *x, int32_t n, float factor) {
    vector_i largest = {0}; // bits of magnitudes are in the order of their numbers
    for (int32_t i = 0; i < n; i += WIDTH) {
        vector_f v = load_up_to(x + i, n - i) * factor;
        largest = vector_larger_i((vector_i)v & 0x7fffffff, largest);
    }
    int32_t bits = vector_max_i(largest);
    float magnitude;
    memcpy(&magnitude, &bits, sizeof(bits));
    return bits < 0x7f800000 ? magnitude : NAN;
}

// out[i] = x[i] * factor, times `inverse`, as integers in -127..127, rounded to nearest even; up to
// a multiple of WIDTH, zeros behind n. Returns the sum of the integers.
INLINE int32_t quantize(int8_t *out, const float *x, int32_t n, float factor, float inverse) {
    vector_i sums = {0};
    for (int32_t i = 0; i < n; i += WIDTH) {
        vector_f v = load_up_to(x + i, n - i) * factor * inverse;
        v = vector_smaller(vector_larger(vector_set(-127), v), vector_set(127));
        vector_i integers = (vector_i)(v + round_magic);
        sums += integers - 0x4b400000;
        store_bytes((uint8_t *)out + i, integers);
    }
    return vector_sum_i(sums);
}

// What n numbers are multiplied by to become 8-bit integers; *scale: its inverse.
INLINE float inverse_scale(float largest, float *scale) {
    *scale = largest * (1.0f / 127);
    return largest > 0x1p-118f ? 127 / largest : 0; // of less, all are 0
}

void KERNEL(pack_query_int8)(void *packed, const float *q, int32_t head_dim, float factor) {
    float scale, inverse = inverse_scale(largest_magnitude(q, head_dim, factor), &scale);
    int32_t offset = -128 * quantize(packed, q, head_dim, factor, inverse); // see store_int8
    float *behind = (float *)packed + (head_dim + 3) / 4;
    behind[0] = scale;
    memcpy(behind + 1, &offset, sizeof(offset));
}

// Keys as bytes with 128 added, [head_dim / 4][token][4], behind them the tokens' scales; values as
// signed bytes, [token / 4][attention_padded(head_dim)][4], behind them the logarithms of the
// tokens' scales and their inverses. A value's scale is between 2^-40 and 2^80, so that weights
// that include it stay apart by less than the range of f32: larger values become the largest.
void KERNEL(store_int8)(void *keys, void *values, const float *key, const float *value,
                        int32_t token, int32_t head_dim) {
    int32_t width = (head_dim + 3) / 4 * 4, padded = attention_padded(head_dim);
    int8_t small[ATTENTION_HEAD_DIM_MAX];
    uint8_t *k = (uint8_t *)keys + 4 * token;
    int8_t *v = (int8_t *)values + (size_t)(token / 4) * padded * 4 + token % 4;
    float *key_scale = (float *)keys + (size_t)width / 4 * KV_BLOCK_TOKENS + token;
    float *value_scale = (float *)values + (size_t)padded / 4 * KV_BLOCK_TOKENS + token;
    float inverse = inverse_scale(largest_magnitude(key, head_dim, 1), key_scale);
    quantize(small, key, head_dim, 1, inverse);
    for (int32_t d = 0; d < width; d += 4) {
        uint32_t word;
        memcpy(&word, small + d, sizeof(word));
        word ^= 0x80808080; // adds 128 to each
        memcpy(k + (size_t)d * KV_BLOCK_TOKENS, &word, sizeof(word));
    }
    float scale = largest_magnitude(value, head_dim, 1) * (1.0f / 127);
    scale = scale < 0x1p-40f ? 0x1p-40f : scale > 0x1p80f ? 0x1p80f : scale;
    value_scale[0] = log2f(scale);
    value_scale[KV_BLOCK_TOKENS] = 1 / scale;
    quantize(small, value, head_dim, 1, 1 / scale);
    for (int32_t d = 0; d < head_dim; ++d) {
        v[(size_t)d * 4] = small[d];
    }
}
