// What the attention kernels of all key/value formats share: the softmax over one visit's scores.
// Scores and maxima are in powers of two: log2(e) is already in the queries.
#ifndef WORKER_BACKEND_CPU_ATTENTION_SIMD_H
#define WORKER_BACKEND_CPU_ATTENTION_SIMD_H

#include <math.h>

#include "worker/backend/cpu/kernels.h"
#include "worker/backend/cpu/simd.h"

enum {
    SPAN_VECTORS = KV_VISIT_TOKENS / WIDTH,
    QUICK_EXP = 4, // degrees of exp2's polynomial: for weights that are rounded to 8 bits,
    EXACT_EXP = 6, // and for those that stay f32
};

// All lanes the 32 bits at `word`.
INLINE vector_f vector_set_word(const float *word) {
#if defined(__AVX512F__)
    return (vector_f)_mm512_set1_ps(*word);
#else
    return vector_set(*word);
#endif
}

// The lowest byte of each lane, one after the other.
INLINE void store_bytes(uint8_t out[WIDTH], vector_i v) {
#if defined(__AVX512F__)
    _mm_storeu_si128((__m128i *)(void *)out, _mm512_cvtepi32_epi8((__m512i)v));
#else
    typedef uint8_t vector_b __attribute__((vector_size(WIDTH)));
    vector_b bytes = __builtin_convertvector(v, vector_b);
    memcpy(out, &bytes, sizeof(bytes));
#endif
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

// 2^x for x <= 0: 2^n 2^r with |r| <= 1/2; 0 below 2^-126. Minimax polynomials of relative error
// 4e-6 and 3e-9 that give exactly 1 at 0.
INLINE vector_f vector_exp2(vector_f x, int degree) {
    const float round_magic = 0x1.8p23f; // adding it leaves an integer in the low fraction bits
    x = vector_larger(vector_set(-127.0f), x);
    vector_f shifted = x + round_magic;
    vector_f r = x - (shifted - round_magic);
    vector_f p;
    if (degree == EXACT_EXP) {
        p = vector_set(0.00015594677541745636f);
        p = vector_fma(p, r, vector_set(0.001340664390487925f));
        p = vector_fma(p, r, vector_set(0.009617692974910887f));
        p = vector_fma(p, r, vector_set(0.05550310550996409f));
        p = vector_fma(p, r, vector_set(0.2402265278287605f));
        p = vector_fma(p, r, vector_set(0.6931472149680392f));
    } else {
        p = vector_set(0.009782912553449081f);
        p = vector_fma(p, r, vector_set(0.05597688362708762f));
        p = vector_fma(p, r, vector_set(0.24020711078854004f));
        p = vector_fma(p, r, vector_set(0.693113604403909f));
    }
    p = vector_fma(p, r, vector_set(1.0f));
    vector_f power = (vector_f)(((vector_i)shifted << 23) + 0x3f800000);
    return p * power; // at n = -127 the power's bits are those of 0
}

// Calls function(first, rows, ...) over tiles of n pairs, `rows` being a constant of each call.
#define FOR_ROW_TILES(n, function, ...)                                                            \
    do {                                                                                           \
        int first_ = 0;                                                                            \
        for (; first_ + ATTENTION_ROWS <= (n); first_ += ATTENTION_ROWS) {                         \
            function(first_, ATTENTION_ROWS, __VA_ARGS__);                                         \
        }                                                                                          \
        for (; first_ + 4 <= (n); first_ += 4) {                                                   \
            function(first_, 4, __VA_ARGS__);                                                      \
        }                                                                                          \
        for (; first_ + 2 <= (n); first_ += 2) {                                                   \
            function(first_, 2, __VA_ARGS__);                                                      \
        }                                                                                          \
        for (; first_ < (n); ++first_) {                                                           \
            function(first_, 1, __VA_ARGS__);                                                      \
        }                                                                                          \
    } while (0)

INLINE float vector_max(vector_f v) {
#if defined(__AVX512F__)
    return _mm512_reduce_max_ps((__m512)v);
#else
    float largest = v[0];
    for (int i = 1; i < WIDTH; ++i) {
        largest = v[i] > largest ? v[i] : largest;
    }
    return largest;
#endif
}

// In the order of lanes.
INLINE float vector_sum(vector_f v) {
    float sum = v[0];
    for (int i = 1; i < WIDTH; ++i) {
        sum += v[i];
    }
    return sum;
}

INLINE vector_i vector_iota(void) {
    vector_i v;
    for (int i = 0; i < WIDTH; ++i) {
        v[i] = i;
    }
    return v;
}

// Scores past the tokens that a row sees become -infinity; what stood there is never looked at.
INLINE void hide_scores(float scores[KV_VISIT_TOKENS], int32_t visible) {
    for (int v = 0; v < SPAN_VECTORS; ++v) {
        vector_i seen = vector_iota() + v * WIDTH < visible;
        vector_f hidden = vector_set(-INFINITY);
        vector_store(scores + v * WIDTH,
                     vector_select(seen, vector_load(scores + v * WIDTH), hidden));
    }
}

INLINE float largest_score(const float scores[KV_VISIT_TOKENS]) {
    vector_f largest = vector_load(scores);
    for (int v = 1; v < SPAN_VECTORS; ++v) {
        largest = vector_larger(vector_load(scores + v * WIDTH), largest);
    }
    return vector_max(largest);
}

// Raises the pairs' maxima to those of the new scores; shrink[i] is the factor by which what pair i
// has summed so far shrinks.
INLINE void raise_maxima(const struct attention_tile *tile, float scores[][KV_VISIT_TOKENS],
                         float maxima[ATTENTION_PAIRS], float shrink[ATTENTION_PAIRS]) {
    enum { ROUNDED = (ATTENTION_PAIRS + LANES - 1) / LANES * LANES };
    float old[ROUNDED] = {0}, raised[ROUNDED] = {0};
    for (int i = 0; i < tile->n_pairs; ++i) {
        if (tile->visible[i] < KV_VISIT_TOKENS) {
            hide_scores(scores[i], tile->visible[i]);
        }
        float largest = largest_score(scores[i]);
        old[i] = tile->states[i]->maximum;
        raised[i] = largest > old[i] ? largest : old[i];
        maxima[i] = tile->states[i]->maximum = raised[i];
    }
    for (int i = 0; i < tile->n_pairs; i += WIDTH) {
        vector_store(old + i,
                     vector_exp2(vector_load(old + i) - vector_load(raised + i), EXACT_EXP));
    }
    memcpy(shrink, old, (size_t)tile->n_pairs * sizeof(float));
}

// Scores into weights 2^(score - maximum), which are added to the pair's sums.
INLINE void weigh_scores(struct softmax_state *state, float scores[KV_VISIT_TOKENS], float maximum,
                         float shrink, int degree) {
    vector_f sums[PARTS];
    for (int p = 0; p < PARTS; ++p) {
        sums[p] = vector_load(state->sums + p * WIDTH) * shrink;
    }
#pragma GCC unroll 16
    for (int v = 0; v < SPAN_VECTORS; ++v) {
        vector_f weights = vector_exp2(vector_load(scores + v * WIDTH) - maximum, degree);
        vector_store(scores + v * WIDTH, weights);
        sums[v % PARTS] += weights;
    }
    for (int p = 0; p < PARTS; ++p) {
        vector_store(state->sums + p * WIDTH, sums[p]);
    }
}

#endif
