// Kernels of sampling, see worker/decode/sampling_kernels.h.
#include <math.h>

#include "worker/backend/cpu/kernels_private.h"
#include "worker/backend/cpu/simd.h"

_Static_assert((int)SAMPLING_LANES == (int)LANES && (int)SAMPLING_BLOCK % (int)LANES == 0,
               "one scheme of sums");
_Static_assert((int)SAMPLING_SLACK >= (int)WIDTH, "lists are written in vectors");

// The n < WIDTH values at `source`, -inf after them: a logit that changes neither maximum nor sum.
INLINE vector_f load_logits_part(const float *source, int n) {
    vector_f v = vector_set(-INFINITY);
    memcpy(&v, source, (size_t)n * sizeof(float));
    return v;
}

INLINE vector_f load_logits(const float *x, int32_t i, int32_t n) {
    return n - i >= WIDTH ? vector_load(x + i) : load_logits_part(x + i, n - i > 0 ? n - i : 0);
}

INLINE int32_t block_size(int32_t n, int32_t begin) {
    return n - begin < SAMPLING_BLOCK ? n - begin : SAMPLING_BLOCK;
}

// Bit i set where lane i is all ones.
INLINE uint32_t lane_bits(vector_i mask) {
#if defined(__AVX512F__)
    return _mm512_movepi32_mask((__m512i)mask);
#elif defined(__AVX2__)
    return (uint32_t)_mm256_movemask_ps((__m256)mask);
#else
    uint32_t bits = 0;
    for (int i = 0; i < WIDTH; ++i) {
        bits |= (uint32_t)(mask[i] & 1) << i;
    }
    return bits;
#endif
}

// Stores the lanes whose bits are set one after the other; may write WIDTH lanes.
INLINE void store_lanes(void *to, vector_i v, uint32_t bits) {
#if defined(__AVX512F__)
    // To memory directly, the instruction is slow on some CPUs.
    _mm512_storeu_si512(to, _mm512_maskz_compress_epi32((__mmask16)bits, (__m512i)v));
#else
    int32_t lanes[WIDTH], *out = to;
    memcpy(lanes, &v, sizeof(lanes));
    for (; bits != 0; bits &= bits - 1) {
        *out++ = lanes[__builtin_ctz(bits)];
    }
#endif
}

static bool maxima(const float *x, int32_t n, float *lanes, float *block_maxima) {
    vector_i ordered = ~(vector_i){0};
    for (int32_t begin = 0; begin < n; begin += SAMPLING_BLOCK) {
        int32_t end = begin + block_size(n, begin);
        vector_f largest[PARTS];
        for (int p = 0; p < PARTS; ++p) {
            largest[p] = vector_set(-INFINITY);
        }
        for (int32_t i = begin; i < end; i += LANES) {
            for (int p = 0; p < PARTS; ++p) {
                vector_f v = load_logits(x, i + p * WIDTH, end);
                ordered &= v < INFINITY;
                largest[p] = vector_larger(v, largest[p]);
            }
        }
        memcpy(lanes, largest, sizeof(largest));
        float maximum = lanes[0];
        for (int i = 1; i < LANES; ++i) {
            maximum = lanes[i] > maximum ? lanes[i] : maximum;
        }
        *block_maxima++ = maximum;
        lanes += LANES;
    }
    return lane_bits(ordered) == (UINT32_C(1) << WIDTH) - 1;
}

// 2^y, y = (x - reference) * scale <= 0, as 2^n 2^r with |r| <= 1/2; 2^r is the polynomial of
// degree 5 with the smallest largest relative error (1.1e-7) of those that are 1 at 0. n comes out
// of the low bits of y + 1.5 * 2^23 and is added to the exponent. What falls below 2^-125.5
// would leave the exponent's range and becomes 0, -inf too.
INLINE vector_f weight_of(vector_f x, vector_f reference, vector_f scale) {
    const vector_f round_magic = vector_set(0x1.8p23f);
    vector_f distance = x - reference;
    vector_f shifted = vector_fma(distance, scale, round_magic);
    vector_f r = vector_fma(distance, scale, round_magic - shifted);
    vector_f p = vector_set(0x1.5bb98ap-10f);
    p = vector_fma(p, r, vector_set(0x1.3cea8cp-7f));
    p = vector_fma(p, r, vector_set(0x1.c6b754p-5f));
    p = vector_fma(p, r, vector_set(0x1.ebf9bcp-3f));
    p = vector_fma(p, r, vector_set(0x1.62e42ap-1f));
    p = vector_fma(p, r, vector_set(1.0f));
    vector_i kept = shifted >= 0x1.8p23f - 125;
    return (vector_f)(((vector_u)p + ((vector_u)shifted << 23)) & (vector_u)kept);
}

INLINE float weigh_block(const float *x, int32_t n, float reference, vector_f scale,
                         float *weights) {
    // A block of -inf only has nothing to refer to; any number will do.
    vector_f from = vector_set(reference > -INFINITY ? reference : 0);
    vector_f sums[PARTS] = {0};
    int32_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        for (int p = 0; p < PARTS; ++p) {
            vector_f w = weight_of(vector_load(x + i + p * WIDTH), from, scale);
            sums[p] += w;
            if (weights != NULL) {
                vector_store(weights + i + p * WIDTH, w);
            }
        }
    }
    for (int p = 0; p < PARTS && i + p * WIDTH < n; ++p) {
        int32_t at = i + p * WIDTH, left = n - at < WIDTH ? n - at : WIDTH;
        vector_f w = weight_of(load_logits(x, at, n), from, scale);
        sums[p] += w;
        if (weights != NULL) {
            memcpy(weights + at, &w, (size_t)left * sizeof(float));
        }
    }
    return fold(sums);
}

static void weigh(const float *x, int32_t n, const float *references, float scale, float *sums,
                  float *weights) {
    for (int32_t begin = 0; begin < n; begin += SAMPLING_BLOCK) {
        float *block_weights = weights != NULL ? weights + begin : NULL;
        *sums++ = weigh_block(x + begin, block_size(n, begin), *references++, vector_set(scale),
                              block_weights);
    }
}

INLINE vector_i count_up(int32_t first) {
    static const int32_t steps[LANES] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    vector_i v;
    memcpy(&v, steps, sizeof(v));
    return v + first;
}

// Which of a block's logits that equal the cut's are inside it.
enum ties { TIES_IN, TIES_OUT, TIES_BY_ID };

INLINE vector_i is_inside(vector_f v, vector_f logit, vector_i ids, int32_t last_id,
                          enum ties ties) {
    if (ties == TIES_BY_ID) {
        return (v > logit) | ((v == logit) & (ids <= last_id));
    }
    return ties == TIES_IN ? v >= logit : v > logit;
}

INLINE float sum_cut_block(const float *x, const float *weights, int32_t n, int32_t first_id,
                           struct sampling_cut cut, enum ties ties) {
    vector_f sums[PARTS] = {0}, logit = vector_set(cut.logit);
    int32_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        for (int p = 0; p < PARTS; ++p) {
            int32_t at = i + p * WIDTH;
            vector_i inside =
                is_inside(vector_load(x + at), logit, count_up(first_id + at), cut.last_id, ties);
            sums[p] += (vector_f)(inside & (vector_i)vector_load(weights + at));
        }
    }
    for (int p = 0; p < PARTS && i + p * WIDTH < n; ++p) {
        int32_t at = i + p * WIDTH, left = n - at < WIDTH ? n - at : WIDTH;
        vector_i inside =
            is_inside(load_logits(x, at, n), logit, count_up(first_id + at), cut.last_id, ties);
        sums[p] += (vector_f)(inside & (vector_i)vector_load_part(weights + at, left));
    }
    return fold(sums);
}

static void sum_cut(const float *x, const float *weights, int32_t n, int32_t first_id,
                    const float *maxima, struct sampling_cut cut, float *sums) {
    for (int32_t begin = 0; begin < n; begin += SAMPLING_BLOCK, ++sums) {
        int32_t size = block_size(n, begin), first = first_id + begin;
        if (maxima != NULL && maxima[begin / SAMPLING_BLOCK] < cut.logit) {
            *sums = 0;
        } else if (first + (size - 1) <= cut.last_id) {
            *sums = sum_cut_block(x + begin, weights + begin, size, first, cut, TIES_IN);
        } else if (first > cut.last_id) {
            *sums = sum_cut_block(x + begin, weights + begin, size, first, cut, TIES_OUT);
        } else {
            *sums = sum_cut_block(x + begin, weights + begin, size, first, cut, TIES_BY_ID);
        }
    }
}

static void collect(const float *x, int32_t n, const float *maxima, float from, float to,
                    struct sampling_list *out) {
    enum { GROUP = 4 }; // vectors that are skipped together, so that the branch is predictable
    int32_t kept = out->n;
    for (int32_t i = 0; i < n; i += GROUP * WIDTH) {
        if (maxima[i / SAMPLING_BLOCK] < from) {
            i += SAMPLING_BLOCK - GROUP * WIDTH;
            continue;
        }
        vector_f v[GROUP];
        vector_i wanted[GROUP], any = {0};
        for (int g = 0; g < GROUP; ++g) {
            v[g] = load_logits(x, i + g * WIDTH, n);
            wanted[g] = (v[g] >= from) & (v[g] < to);
            any |= wanted[g];
        }
        for (int g = 0; g < GROUP && lane_bits(any) != 0; ++g) {
            uint32_t bits = lane_bits(wanted[g]);
            store_lanes(out->ids + kept, count_up(i + g * WIDTH), bits);
            store_lanes(out->logits + kept, (vector_i)v[g], bits);
            kept += __builtin_popcount(bits);
        }
    }
    out->n = kept;
}

static void partition(const struct sampling_list *list, float pivot, bool upper,
                      struct sampling_list *out) {
    vector_i flip = vector_set(0) == (upper ? 1.0f : 0.0f);
    int32_t kept = 0;
    for (int32_t i = 0; i < list->n; i += WIDTH) {
        uint32_t valid = list->n - i >= WIDTH ? UINT32_MAX : (UINT32_C(1) << (list->n - i)) - 1;
        vector_f v = vector_load(list->logits + i);
        uint32_t bits = lane_bits((v >= pivot) ^ flip) & valid;
        store_lanes(out->ids + kept, (vector_i)vector_load(list->ids + i), bits);
        store_lanes(out->logits + kept, (vector_i)v, bits);
        store_lanes(out->weights + kept, (vector_i)vector_load(list->weights + i), bits);
        kept += __builtin_popcount(bits);
    }
    out->n = kept;
}

const struct sampling_kernels SAMPLING_TABLE = {
    .maxima = maxima,
    .weigh = weigh,
    .sum_cut = sum_cut,
    .collect = collect,
    .partition = partition,
};
