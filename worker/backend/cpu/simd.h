// Vectors of the instruction set that the including file is compiled for, and the few operations on
// them that C has not. Everything is static: a function compiled for AVX-512 must never be the one
// that the linker keeps for all. A dot product's 16 partial sums are PARTS vectors of WIDTH lanes.
#ifndef WORKER_BACKEND_CPU_SIMD_H
#define WORKER_BACKEND_CPU_SIMD_H

#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "worker/backend/cpu/kernels.h"

#if defined(__AVX512F__)
enum { WIDTH = 16 };
#elif defined(__AVX2__)
enum { WIDTH = 8 };
#else
enum { WIDTH = 4 };
#endif
enum { PARTS = LANES / WIDTH };

typedef float vector_f __attribute__((vector_size(WIDTH * 4)));
typedef int32_t vector_i __attribute__((vector_size(WIDTH * 4)));
typedef uint32_t vector_u __attribute__((vector_size(WIDTH * 4)));
typedef uint16_t vector_h __attribute__((vector_size(WIDTH * 2)));
typedef float vector_8f __attribute__((vector_size(32)));

#define INLINE static inline __attribute__((always_inline))

INLINE vector_f vector_load(const void *source) {
    vector_f v;
    memcpy(&v, source, sizeof(v));
    return v;
}

INLINE void vector_store(void *destination, vector_f v) {
    memcpy(destination, &v, sizeof(v));
}

// Past the caches; aligned to the vector. Who lets another thread read it calls stream_fence first.
INLINE void vector_stream(float *destination, vector_f v) {
#if defined(__AVX512F__)
    _mm512_stream_ps(destination, (__m512)v);
#elif defined(__AVX2__)
    _mm256_stream_ps(destination, (__m256)v);
#else
    vector_store(destination, v);
#endif
}

INLINE vector_f vector_set(float value) {
    return value - (vector_f){0};
}

// The n < WIDTH values at `source`, zeros after them.
INLINE vector_f vector_load_part(const float *source, int n) {
    vector_f v = {0};
    memcpy(&v, source, (size_t)n * 4);
    return v;
}

// a * b + c, rounded once where the instruction set can.
INLINE vector_f vector_fma(vector_f a, vector_f b, vector_f c) {
#if defined(__AVX512F__)
    return (vector_f)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__FMA__)
    return (vector_f)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
    return a * b + c;
#endif
}

// The same for one value.
INLINE float scalar_fma(float a, float b, float c) {
#if defined(__FMA__)
    return __builtin_fmaf(a, b, c);
#else
    return a * b + c;
#endif
}

// Lanes of `a` where `mask` is all ones, of `b` where it is zero.
INLINE vector_f vector_select(vector_i mask, vector_f a, vector_f b) {
    return (vector_f)((mask & (vector_i)a) | (~mask & (vector_i)b));
}

// The larger of each lane; of a NaN and a number, `b`.
INLINE vector_f vector_larger(vector_f a, vector_f b) {
#if defined(__AVX512F__)
    return (vector_f)_mm512_max_ps((__m512)a, (__m512)b);
#elif defined(__AVX2__)
    return (vector_f)_mm256_max_ps((__m256)a, (__m256)b);
#else
    return vector_select(a > b, a, b);
#endif
}

// The same of integers.
INLINE vector_i vector_larger_i(vector_i a, vector_i b) {
#if defined(__AVX512F__)
    return (vector_i)_mm512_max_epi32((__m512i)a, (__m512i)b);
#else
    vector_i larger = a > b;
    return (larger & a) | (~larger & b);
#endif
}

INLINE vector_f widen_f16(vector_h half) {
#if defined(__AVX512F__)
    return (vector_f)_mm512_cvtph_ps((__m256i)half);
#elif defined(__F16C__)
    return (vector_f)_mm256_cvtph_ps((__m128i)half);
#else
    // Exponent and fraction moved into place and rescaled by 2^112, which is exact for subnormals
    // too; all-ones exponents are infinities and NaN.
    vector_i bits = __builtin_convertvector(half, vector_i);
    vector_i magnitude = (bits & 0x7fff) << 13;
    vector_f scaled = (vector_f)magnitude * 0x1p112f;
    vector_i special = ((bits & 0x7c00) == 0x7c00) & 0x7f800000;
    return (vector_f)((vector_i)scaled | special | ((bits & 0x8000) << 16));
#endif
}

INLINE vector_f widen_bf16(vector_h half) {
#if defined(__AVX512F__)
    return (vector_f)_mm512_slli_epi32(_mm512_cvtepu16_epi32((__m256i)half), 16);
#elif defined(__AVX2__)
    return (vector_f)_mm256_slli_epi32(_mm256_cvtepu16_epi32((__m128i)half), 16);
#else
    return (vector_f)(__builtin_convertvector(half, vector_i) << 16);
#endif
}

// WIDTH values of `dtype`, at any alignment.
INLINE vector_f vector_load_as(const char *source, enum dtype dtype) {
    if (dtype == DTYPE_F32) {
        return vector_load(source);
    }
    vector_h half;
    memcpy(&half, source, sizeof(half));
    return dtype == DTYPE_F16 ? widen_f16(half) : widen_bf16(half);
}

INLINE vector_f vector_load_part_as(const char *source, int n, enum dtype dtype) {
    char padded[WIDTH * 4] = {0};
    memcpy(padded, source, (size_t)n * (dtype == DTYPE_F32 ? 4 : 2));
    return vector_load_as(padded, dtype);
}

// First step of the tree that joins 16 partial sums: lane i and lane i + 8.
INLINE vector_8f fold_16(const vector_f parts[PARTS]) {
    vector_8f low, high;
#if defined(__AVX512F__)
    low = (vector_8f)_mm512_castps512_ps256((__m512)parts[0]);
    high = (vector_8f)_mm512_extractf32x8_ps((__m512)parts[0], 1);
#else
    memcpy(&low, &parts[0], 32);
    memcpy(&high, &parts[PARTS / 2], 32);
#endif
    return low + high;
}

// The rest of the tree for one value.
INLINE float fold_8(vector_8f v) {
    return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]));
}

INLINE float fold(const vector_f parts[PARTS]) {
    return fold_8(fold_16(parts));
}

// e^x within 1 ulp or so: 2^n e^r with |r| <= ln(2)/2 (Cody and Waite 1980, chapter 6: ln 2 in two
// parts), e^r as its Taylor polynomial of degree 7, whose remainder is below 2^-27. Results
// underflow gradually to 0 (also for -infinity) and overflow to infinity. Each lane depends on
// itself only.
INLINE vector_f vector_exp(vector_f x) {
    const float round_magic = 0x1.8p23f; // adding it leaves an integer in the low fraction bits
    x = vector_select(x < -105.0f, vector_set(-105.0f), x);
    x = vector_select(x > 90.0f, vector_set(90.0f), x);
    vector_f shifted = vector_fma(x, vector_set(0x1.715476p+0f), vector_set(round_magic));
    vector_f n = shifted - round_magic;
    vector_f r = vector_fma(n, vector_set(-0x1.63p-1f), x);
    r = vector_fma(n, vector_set(0x1.bd0106p-13f), r);
    vector_f p = vector_set(1.0f / 5040);
    p = vector_fma(p, r, vector_set(1.0f / 720));
    p = vector_fma(p, r, vector_set(1.0f / 120));
    p = vector_fma(p, r, vector_set(1.0f / 24));
    p = vector_fma(p, r, vector_set(1.0f / 6));
    p = vector_fma(p, r, vector_set(0.5f));
    p = vector_fma(p, r, vector_set(1.0f));
    p = vector_fma(p, r, vector_set(1.0f));
    // 2^n in two factors, so that neither leaves the normal range.
    vector_i exponent = (vector_i)shifted - 0x4b400000;
    vector_i half = exponent >> 1;
    vector_f first = (vector_f)((half + 127) << 23);
    vector_f second = (vector_f)((exponent - half + 127) << 23);
    return p * first * second;
}

#endif
