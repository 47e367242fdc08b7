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

// Adding it to a number below 2^22 leaves the nearest integer in the low fraction bits.
static const float round_magic = 0x1.8p23f;

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
    vector_b bytes = __builtin_convertvector(v & 0xff, vector_b);
    memcpy(out, &bytes, sizeof(bytes));
#endif
}

// The smaller of each lane; of a NaN and a number, `b`.
INLINE vector_f vector_smaller(vector_f a, vector_f b) {
#if defined(__AVX512F__)
    return (vector_f)_mm512_min_ps((__m512)a, (__m512)b);
#elif defined(__AVX2__)
    return (vector_f)_mm256_min_ps((__m256)a, (__m256)b);
#else
    return vector_select(a < b, a, b);
#endif
}

// 2^r for |r| <= 1/2: minimax polynomials of relative error 4e-6 and 3e-9 that give exactly 1 at 0.
INLINE vector_f exp2_fraction(vector_f r, int degree) {
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
    return vector_fma(p, r, vector_set(1.0f));
}

// 2^x for x <= 0, as 2^n 2^r; 0 below 2^-126.
INLINE vector_f vector_exp2(vector_f x) {
    x = vector_larger(vector_set(-127.0f), x);
    vector_f shifted = x + round_magic;
    vector_f p = exp2_fraction(x - (shifted - round_magic), EXACT_EXP);
    vector_f power = (vector_f)(((vector_u)shifted << 23) + 0x3f800000u);
    return p * power; // at n = -127 the power's bits are those of 0
}

// 2^x for x < 127 as quickly as 8 bits of a result allow; at least 2^-125 or so.
INLINE vector_f vector_exp2_above_0(vector_f x) {
    x = vector_larger(vector_set(-125.0f), x);
    vector_f shifted = x + round_magic;
    vector_f p = exp2_fraction(x - (shifted - round_magic), QUICK_EXP);
    return (vector_f)((vector_u)p + ((vector_u)shifted << 23));
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

// Of integers, the largest lane and the sum of all.
INLINE int32_t vector_max_i(vector_i v) {
#if defined(__AVX512F__)
    return _mm512_reduce_max_epi32((__m512i)v);
#else
    int32_t largest = v[0];
    for (int i = 1; i < WIDTH; ++i) {
        largest = v[i] > largest ? v[i] : largest;
    }
    return largest;
#endif
}

INLINE int32_t vector_sum_i(vector_i v) {
#if defined(__AVX512F__)
    return _mm512_reduce_add_epi32((__m512i)v);
#else
    int32_t sum = 0;
    for (int i = 0; i < WIDTH; ++i) {
        sum += v[i];
    }
    return sum;
#endif
}

INLINE vector_i vector_iota(void) {
    vector_i v;
    for (int i = 0; i < WIDTH; ++i) {
        v[i] = i;
    }
    return v;
}

// Whether the pair's row sees every token of a span.
INLINE bool sees_all(const struct attention_tile *tile, int i) {
    return tile->seen[i] == KV_VISIT_TOKENS;
}

// Lanes of the tokens that it sees among those of vector v.
INLINE vector_i seen_tokens(const struct attention_tile *tile, int i, int v) {
    vector_i token = vector_iota() + v * WIDTH;
    return (token < (tile->seen[i] & 0xff)) & (token >= tile->seen[i] >> 8);
}

// Scores of tokens that a row does not see become -infinity; what stood there is never looked at.
INLINE void hide_scores(const struct attention_tile *tile, int i, float scores[KV_VISIT_TOKENS]) {
    for (int v = 0; v < SPAN_VECTORS; ++v) {
        vector_i seen = seen_tokens(tile, i, v);
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

// What a visit does to each pair's softmax.
struct softmax_step {
    float span[ATTENTION_PAIRS_ROUNDED];   // largest score of the visit
    float maxima[ATTENTION_PAIRS_ROUNDED]; // largest so far
    float shrink[ATTENTION_PAIRS_ROUNDED]; // factor of what has been summed so far
};

INLINE void raise_maxima(const struct attention_tile *tile, float scores[][KV_VISIT_TOKENS],
                         struct softmax_step *step) {
    int n = tile->n_pairs;
    for (int i = 0; i < n; ++i) {
        if (!sees_all(tile, i)) {
            hide_scores(tile, i, scores[i]);
        }
        step->span[i] = largest_score(scores[i]);
        step->shrink[i] = tile->states[i]->maximum;
    }
    for (int i = 0; i < n; i += WIDTH) {
        vector_f old = vector_load(step->shrink + i);
        vector_f raised = vector_larger(old, vector_load(step->span + i));
        vector_store(step->maxima + i, raised);
        vector_store(step->shrink + i, vector_exp2(old - raised));
    }
    for (int i = 0; i < n; ++i) {
        tile->states[i]->maximum = step->maxima[i];
    }
}

// Scores into weights 2^(score - maximum), which are added to the pair's sums.
INLINE void weigh_scores(struct softmax_state *state, float scores[KV_VISIT_TOKENS], float maximum,
                         float shrink) {
    vector_f sums[PARTS];
    for (int p = 0; p < PARTS; ++p) {
        sums[p] = vector_load(state->sums + p * WIDTH) * shrink;
    }
#pragma GCC unroll 16
    for (int v = 0; v < SPAN_VECTORS; ++v) {
        vector_f weights = vector_exp2(vector_load(scores + v * WIDTH) - maximum);
        vector_store(scores + v * WIDTH, weights);
        sums[v % PARTS] += weights;
    }
    for (int p = 0; p < PARTS; ++p) {
        vector_store(state->sums + p * WIDTH, sums[p]);
    }
}

#endif
