// Plain C in place of the AVX-512 instructions of the LINEAR_Q4 kernels, whose source is compiled
// behind it (the compiler's -include), with EMULATED_VNNI and without, for a CPU without vectors.
#ifndef TESTS_BACKEND_Q4_INTRINSICS_H
#define TESTS_BACKEND_Q4_INTRINSICS_H

#include <immintrin.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "worker/backend/cpu/kernels.h"
#include "worker/backend/cpu/race_check.h"

// Lanes of a register, by their width in bits.
typedef int8_t lanes_8 __attribute__((vector_size(64)));
typedef uint8_t lanes_u8 __attribute__((vector_size(64)));
typedef int16_t lanes_16 __attribute__((vector_size(64)));
typedef int32_t lanes_32 __attribute__((vector_size(64)));
typedef float lanes_f __attribute__((vector_size(64)));

static inline lanes_f emulate_fma(lanes_f a, lanes_f b, lanes_f c) {
    for (int i = 0; i < 16; ++i) {
        c[i] = fmaf(a[i], b[i], c[i]);
    }
    return c;
}

static inline lanes_f emulate_max(lanes_f a, lanes_f b) {
    for (int i = 0; i < 16; ++i) {
        b[i] = a[i] > b[i] ? a[i] : b[i];
    }
    return b;
}

static inline lanes_32 emulate_max_32(lanes_32 a, lanes_32 b) {
    for (int i = 0; i < 16; ++i) {
        b[i] = a[i] > b[i] ? a[i] : b[i];
    }
    return b;
}

static inline lanes_32 emulate_broadcast(int32_t value) {
    return value - (lanes_32){0};
}

static inline lanes_16 emulate_broadcast_16(int16_t value) {
    return value - (lanes_16){0};
}

// Unsigned bytes of `a` times signed ones of `b`, pairs added with saturation.
static inline lanes_16 emulate_maddubs(lanes_u8 a, lanes_8 b) {
    lanes_16 out;
    for (int i = 0; i < 32; ++i) {
        int sum = a[2 * i] * b[2 * i] + a[2 * i + 1] * b[2 * i + 1];
        out[i] = (int16_t)(sum > INT16_MAX ? INT16_MAX : sum < INT16_MIN ? INT16_MIN : sum);
    }
    return out;
}

static inline lanes_32 emulate_madd(lanes_16 a, lanes_16 b) {
    lanes_32 out;
    for (int i = 0; i < 16; ++i) {
        out[i] = a[2 * i] * b[2 * i] + a[2 * i + 1] * b[2 * i + 1];
    }
    return out;
}

// sum plus four products of unsigned bytes of `a` and signed ones of `b`.
static inline lanes_32 emulate_dot(lanes_32 sum, lanes_u8 a, lanes_8 b) {
    for (int i = 0; i < 64; ++i) {
        sum[i / 4] += a[i] * b[i];
    }
    return sum;
}

static inline __m128i emulate_narrow(lanes_32 whole) {
    int8_t bytes[16];
    for (int i = 0; i < 16; ++i) {
        bytes[i] = (int8_t)whole[i];
    }
    __m128i out;
    memcpy(&out, bytes, sizeof(out));
    return out;
}

static inline lanes_f emulate_widen_f16(__m256i half) {
    uint16_t bits[16];
    lanes_f out;
    memcpy(bits, &half, sizeof(bits));
    for (int i = 0; i < 16; ++i) {
        int exponent = bits[i] >> 10 & 31, fraction = bits[i] & 1023;
        float value = exponent == 0 ? ldexpf((float)fraction, -24)
                                    : ldexpf((float)(fraction | 1024), exponent - 25);
        out[i] = bits[i] & 0x8000 ? -value : value;
    }
    return out;
}

static inline lanes_32 emulate_zero_extend(__m256i half) {
    uint16_t bits[16];
    lanes_32 out;
    memcpy(bits, &half, sizeof(bits));
    for (int i = 0; i < 16; ++i) {
        out[i] = bits[i];
    }
    return out;
}

#undef _mm512_slli_epi32
#undef _mm512_extractf32x8_ps
#define _mm512_fmadd_ps(a, b, c) ((__m512)emulate_fma((lanes_f)(a), (lanes_f)(b), (lanes_f)(c)))
#define _mm512_max_ps(a, b) ((__m512)emulate_max((lanes_f)(a), (lanes_f)(b)))
#define _mm512_max_epi32(a, b) ((__m512i)emulate_max_32((lanes_32)(a), (lanes_32)(b)))
#define _mm512_set1_epi32(a) ((__m512i)emulate_broadcast(a))
#define _mm512_set1_epi16(a) ((__m512i)emulate_broadcast_16(a))
#define _mm512_add_epi16(a, b) ((__m512i)((lanes_16)(a) + (lanes_16)(b)))
#define _mm512_maddubs_epi16(a, b) ((__m512i)emulate_maddubs((lanes_u8)(a), (lanes_8)(b)))
#define _mm512_madd_epi16(a, b) ((__m512i)emulate_madd((lanes_16)(a), (lanes_16)(b)))
#define _mm512_dpbusd_epi32(sum, a, b)                                                             \
    ((__m512i)emulate_dot((lanes_32)(sum), (lanes_u8)(a), (lanes_8)(b)))
#define _mm512_cvtepi32_epi8(a) emulate_narrow((lanes_32)(a))
#define _mm512_cvtph_ps(a) ((__m512)emulate_widen_f16(a))
#define _mm512_cvtepu16_epi32(a) ((__m512i)emulate_zero_extend(a))
#define _mm512_slli_epi32(a, n) ((__m512i)((lanes_32)(a) << (n)))
// Not used by these kernels.
#define _mm512_stream_ps(to, a) ((void)(to), (void)(a))
#define _mm512_castps512_ps256(a) ((void)(a), (__m256){0})
#define _mm512_extractf32x8_ps(a, n) ((void)(a), (__m256){0})

// No instruction in the kernels' own source is to be chosen by what this file is compiled for.
#undef __x86_64__
#define __AVX2__ 1
#define __FMA__ 1
#define __F16C__ 1
#define __AVX512F__ 1
#define __AVX512BW__ 1
#if defined(EMULATED_VNNI)
#define __AVX512VNNI__ 1
#define CPU_ISA emulated_vnni
#else
#define CPU_ISA emulated_bw
#endif

#endif
