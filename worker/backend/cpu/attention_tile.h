// Attention of a tile of queries over one visit, for every form of arithmetic. A score is one chain
// of operations over the dimensions and an element of the result one over the tokens, in order,
// whatever tile it falls in: the rows of a tile only share what is loaded. Online softmax: Milakov
// and Gimelshein 2018, algorithm 3; Dao et al. 2022, section 3.1. Everything is static: the file
// that includes this one decides which instructions there are.
//
// The chains run over words of 32 bits: one f32 number, two of bf16 or four of 8 bits that lie side
// by side in a block and are multiplied and added by one instruction.
#ifndef WORKER_BACKEND_CPU_ATTENTION_TILE_H
#define WORKER_BACKEND_CPU_ATTENTION_TILE_H

#include "worker/backend/cpu/attention_simd.h"

enum form {
    FORM_F32,
    FORM_F16,      // widened, then as f32
    FORM_BF16,     // likewise
    FORM_BF16_DOT, // queries and weights rounded to bf16, products of pairs summed in f32
    FORM_INT8,     // queries and weights rounded to 8 bits, exact sums in 32 bits
};

#if defined(__AVX512F__)
enum { COLUMNS = 4 }; // vectors of one tile: with 6 rows 24 of the 32 registers are sums
#else
enum { COLUMNS = 2 }; // 12 of 16
#endif
_Static_assert(SPAN_VECTORS % COLUMNS == 0, "scores come in whole tiles");

typedef float span_scores[KV_VISIT_TOKENS];

// queries[chunk][pair]: LANES words of each pair side by side, so that the rows of a tile are a
// constant distance apart.
typedef float query_chunk[ATTENTION_PAIRS][LANES];

// What a visit keeps of its pairs besides the scores, which become weights in place.
struct visit_state {
    _Alignas(64) float scores[ATTENTION_PAIRS][KV_VISIT_TOKENS];
    float maxima[ATTENTION_PAIRS];
    float shrink[ATTENTION_PAIRS];       // of the earlier sums
    float query_scale[ATTENTION_PAIRS];  // of 8-bit queries
    float weight_scale[ATTENTION_PAIRS]; // of 8-bit weights
    int32_t offset[ATTENTION_PAIRS];     // what 8-bit scores begin with
};

// Numbers in a word.
INLINE int32_t word_size(enum form form) {
    return form == FORM_BF16_DOT ? 2 : form == FORM_INT8 ? 4 : 1;
}

INLINE int32_t words_of(int32_t n, enum form form) {
    return (n + word_size(form) - 1) / word_size(form);
}

INLINE int32_t block_bytes(int32_t width, enum form form) {
    return width * KV_BLOCK_TOKENS * (form == FORM_F32 ? 4 : form == FORM_INT8 ? 1 : 2);
}

// Vector at `column` of row `depth` of a block of `width` columns: a row of words, or of numbers
// that are widened.
INLINE vector_f load_block(const char *block, int32_t depth, int32_t column, int32_t width,
                           enum form form) {
    if (form == FORM_BF16) {
        vector_i pairs;
        memcpy(&pairs, block + ((size_t)(depth / 2) * width + column) * 4, sizeof(pairs));
        return depth % 2 == 0 ? (vector_f)(pairs << 16) : (vector_f)(pairs & (int32_t)0xffff0000);
    }
    size_t at = (size_t)depth * width + column;
    return form == FORM_F16 ? vector_load_as(block + at * 2, DTYPE_F16)
                            : vector_load(block + at * 4);
}

// sums + unsigned_bytes . signed_bytes in each lane; exact.
INLINE vector_i dot_bytes(vector_i sums, vector_i unsigned_bytes, vector_i signed_bytes) {
#if defined(__AVX512BW__)
    __m512i u = (__m512i)unsigned_bytes, s = (__m512i)signed_bytes;
    __m512i even = _mm512_madd_epi16(_mm512_and_si512(u, _mm512_set1_epi16(0xff)),
                                     _mm512_srai_epi16(_mm512_slli_epi16(s, 8), 8));
    __m512i odd = _mm512_madd_epi16(_mm512_srli_epi16(u, 8), _mm512_srai_epi16(s, 8));
    return sums + (vector_i)even + (vector_i)odd;
#elif defined(__AVX2__)
    __m256i u = (__m256i)unsigned_bytes, s = (__m256i)signed_bytes;
    __m256i even = _mm256_madd_epi16(_mm256_and_si256(u, _mm256_set1_epi16(0xff)),
                                     _mm256_srai_epi16(_mm256_slli_epi16(s, 8), 8));
    __m256i odd = _mm256_madd_epi16(_mm256_srli_epi16(u, 8), _mm256_srai_epi16(s, 8));
    return sums + (vector_i)even + (vector_i)odd;
#else
    for (int byte = 0; byte < 4; ++byte) {
        sums += (unsigned_bytes >> 8 * byte & 0xff) * (signed_bytes << (24 - 8 * byte) >> 24);
    }
    return sums;
#endif
}

// One step of a chain. `unsigned_word`: of 8-bit numbers, the one without sign.
INLINE vector_f chain(vector_f sums, vector_f unsigned_word, vector_f word, enum form form) {
#if defined(__AVX512BF16__)
    if (form == FORM_BF16_DOT) {
        __asm__("vdpbf16ps %2, %1, %0" : "+v"(sums) : "v"(unsigned_word), "v"(word));
        return sums;
    }
#endif
#if defined(__AVX512VNNI__)
    if (form == FORM_INT8) {
        __asm__("vpdpbusd %2, %1, %0" : "+v"(sums) : "v"(unsigned_word), "v"(word));
        return sums;
    }
#endif
    if (form == FORM_INT8) {
        return (vector_f)dot_bytes((vector_i)sums, (vector_i)unsigned_word, (vector_i)word);
    }
    return vector_fma(unsigned_word, word, sums);
}

INLINE void gather_queries(struct visit_state *state, const struct attention_tile *tile,
                           enum form form) {
    query_chunk *chunks = tile->scratch;
    int32_t n_words = words_of(tile->head_dim, form);
    for (int i = 0, n = tile->n_pairs; i < n; ++i) {
        const float *q = tile->queries[i];
        for (int32_t w = 0; w < n_words; w += WIDTH) {
            vector_store(&chunks[w / LANES][i][w % LANES], vector_load(q + w));
        }
        if (form == FORM_INT8) {
            state->query_scale[i] = q[n_words];
            memcpy(&state->offset[i], &q[n_words + 1], sizeof(float));
        }
    }
}

// 8-bit sums of one block's tokens into scores: each token's key has a scale of its own, which
// stands behind the keys.
INLINE vector_f scale_scores(vector_f sums, float query_scale, const char *keys, int32_t column,
                             int32_t head_dim) {
    vector_f scales = vector_load(keys + (size_t)words_of(head_dim, FORM_INT8) * 4 * LANES +
                                  (size_t)column * sizeof(float));
    return __builtin_convertvector((vector_i)sums, vector_f) * query_scale * scales;
}

// scores[r][first ... first + COLUMNS * WIDTH) = q[r] . keys. Columns past the last block repeat
// it; their scores are hidden later.
INLINE void score_tile(struct visit_state *state, const struct attention_tile *tile, int first_pair,
                       int rows, int first, enum form form) {
    vector_f sums[ATTENTION_ROWS][COLUMNS];
    const char *keys[COLUMNS];
    int32_t column[COLUMNS], n_words = words_of(tile->head_dim, form);
#pragma GCC unroll 4
    for (int c = 0; c < COLUMNS; ++c) {
        int token = first + c * WIDTH, block = token / KV_BLOCK_TOKENS;
        keys[c] = tile->keys[block < tile->n_blocks ? block : tile->n_blocks - 1];
        column[c] = token % KV_BLOCK_TOKENS;
#pragma GCC unroll 6
        for (int r = 0; r < rows; ++r) {
            sums[r][c] = form == FORM_INT8
                             ? (vector_f)((vector_i){0} + state->offset[first_pair + r])
                             : (vector_f){0};
        }
    }
    const query_chunk *chunks = tile->scratch;
    for (int32_t begin = 0; begin < n_words; begin += LANES) {
        const float *q = chunks[begin / LANES][first_pair];
        int32_t end = n_words - begin < LANES ? n_words - begin : LANES;
        for (int32_t d = 0; d < end; ++d, ++q) {
            vector_f k[COLUMNS];
#pragma GCC unroll 4
            for (int c = 0; c < COLUMNS; ++c) {
                k[c] = load_block(keys[c], begin + d, column[c], KV_BLOCK_TOKENS, form);
            }
#pragma GCC unroll 6
            for (int r = 0; r < rows; ++r) {
                vector_f word = vector_set_word(&q[r * LANES]);
#pragma GCC unroll 4
                for (int c = 0; c < COLUMNS; ++c) {
                    sums[r][c] = chain(sums[r][c], k[c], word, form);
                }
            }
        }
    }
#pragma GCC unroll 6
    for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 4
        for (int c = 0; c < COLUMNS; ++c) {
            vector_f score = sums[r][c];
            if (form == FORM_INT8) {
                score = scale_scores(score, state->query_scale[first_pair + r], keys[c], column[c],
                                     tile->head_dim);
            }
            vector_store(state->scores[first_pair + r] + first + c * WIDTH, score);
        }
    }
}

// sums[r][0 ... n_columns) += weight words . value words; `seen`: of the values' words, which bits
// count.
INLINE void value_step(vector_f sums[ATTENTION_ROWS][COLUMNS], const float *weights,
                       const char *values, int32_t depth, int32_t first, int32_t width, int rows,
                       int n_columns, vector_i seen, enum form form) {
    vector_f v[COLUMNS];
#pragma GCC unroll 4
    for (int c = 0; c < n_columns; ++c) {
        v[c] = load_block(values, depth, first + c * WIDTH, width, form);
        if (form == FORM_BF16_DOT) {
            v[c] = (vector_f)((vector_i)v[c] & seen);
        }
    }
#pragma GCC unroll 6
    for (int r = 0; r < rows; ++r) {
        vector_f weight = vector_set_word(&weights[r * KV_VISIT_TOKENS + depth]);
#pragma GCC unroll 4
        for (int c = 0; c < n_columns; ++c) {
            sums[r][c] = chain(sums[r][c], weight, v[c], form);
        }
    }
}

// Elements [first, first + n_columns * WIDTH) of the pairs' sums, times shrink, plus weights .
// values over the first n_tokens tokens. What lies behind them may be anything: the last word of an
// odd number of bf16 tokens is cut, and 8-bit weights of 0 take nothing from any value.
INLINE void value_tile(struct visit_state *state, const struct attention_tile *tile, int first_pair,
                       int rows, int32_t first, int n_columns, int32_t n_tokens, enum form form) {
    const vector_i all = (vector_i){0} - 1;
    vector_f sums[ATTENTION_ROWS][COLUMNS];
    int32_t width = attention_padded(tile->head_dim);
#pragma GCC unroll 6
    for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 4
        for (int c = 0; c < n_columns; ++c) {
            const float *at = tile->sums[first_pair + r] + first + c * WIDTH;
            sums[r][c] =
                form == FORM_INT8 ? (vector_f){0} : vector_load(at) * state->shrink[first_pair + r];
        }
    }
    for (int32_t begin = 0; begin < n_tokens; begin += KV_BLOCK_TOKENS) {
        const char *values = tile->values[begin / KV_BLOCK_TOKENS];
        int32_t end = n_tokens - begin < KV_BLOCK_TOKENS ? n_tokens - begin : KV_BLOCK_TOKENS;
        const float *weights = &state->scores[first_pair][begin / word_size(form)];
        int32_t whole = form == FORM_BF16_DOT ? end / 2 : words_of(end, form);
        for (int32_t t = 0; t < whole; ++t) {
            value_step(sums, weights, values, t, first, width, rows, n_columns, all, form);
        }
        if (form == FORM_BF16_DOT && end % 2 != 0) {
            value_step(sums, weights, values, whole, first, width, rows, n_columns, all & 0xffff,
                       form);
        }
    }
#pragma GCC unroll 6
    for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 4
        for (int c = 0; c < n_columns; ++c) {
            float *at = tile->sums[first_pair + r] + first + c * WIDTH;
            if (form == FORM_INT8) {
                vector_f part = __builtin_convertvector((vector_i)sums[r][c], vector_f);
                sums[r][c] = vector_fma(part, vector_set(state->weight_scale[first_pair + r]),
                                        vector_load(at) * state->shrink[first_pair + r]);
            }
            vector_store(at, sums[r][c]);
        }
    }
}

// Asks for a block of the next tile, one per tile of rows: more at once would hold up the loads of
// this one.
INLINE void prefetch_block(const char *block, int32_t bytes) {
    for (int32_t at = 0; block != NULL && at < bytes; at += 64) {
        __builtin_prefetch(block + at, 0, 2);
    }
}

INLINE void score_rows(int first_pair, int rows, struct visit_state *state,
                       const struct attention_tile *tile, enum form form) {
    int32_t n = tile->n_blocks * KV_BLOCK_TOKENS;
    if (first_pair / ATTENTION_ROWS < KV_VISIT_BLOCKS) {
        prefetch_block(tile->next_keys[first_pair / ATTENTION_ROWS],
                       block_bytes(tile->head_dim, form));
    }
    for (int32_t first = 0; first < n; first += COLUMNS * WIDTH) {
        score_tile(state, tile, first_pair, rows, first, form);
    }
}

// Tokens that no row of these sees are left out: nothing has been stored there yet.
INLINE void value_rows(int first_pair, int rows, struct visit_state *state,
                       const struct attention_tile *tile, enum form form) {
    int32_t n_tokens = 0, padded = attention_padded(tile->head_dim), first = 0;
    for (int r = 0; r < rows; ++r) {
        int32_t visible = tile->visible[first_pair + r];
        n_tokens = visible > n_tokens ? visible : n_tokens;
    }
    if (first_pair / ATTENTION_ROWS < KV_VISIT_BLOCKS) {
        prefetch_block(tile->next_values[first_pair / ATTENTION_ROWS], block_bytes(padded, form));
    }
    for (; first + COLUMNS * WIDTH <= padded; first += COLUMNS * WIDTH) {
        value_tile(state, tile, first_pair, rows, first, COLUMNS, n_tokens, form);
    }
    for (; first < padded; first += WIDTH) {
        value_tile(state, tile, first_pair, rows, first, 1, n_tokens, form);
    }
}

// Weights into words of 8 bits, in place, relative to the largest of the span; each value's own
// scale, which stands behind the values, is taken into its weight first.
INLINE void pack_weights_int8(struct visit_state *state, const struct attention_tile *tile, int i) {
    float *weights = state->scores[i];
    size_t scales_at = (size_t)attention_padded(tile->head_dim) * KV_BLOCK_TOKENS;
    vector_f scaled[SPAN_VECTORS], largest = {0};
#pragma GCC unroll 16
    for (int v = 0; v < SPAN_VECTORS; ++v) {
        int block = v * WIDTH / KV_BLOCK_TOKENS, column = v * WIDTH % KV_BLOCK_TOKENS;
        const char *values = tile->values[block < tile->n_blocks ? block : tile->n_blocks - 1];
        vector_i seen = vector_iota() + v * WIDTH < tile->visible[i];
        vector_f scales = vector_load(values + scales_at + (size_t)column * sizeof(float));
        scaled[v] = vector_select(seen, vector_load(weights + v * WIDTH) * scales, (vector_f){0});
        largest = vector_larger(scaled[v], largest);
    }
    float maximum = vector_max(largest);
    float inverse = maximum > 0x1p-118f ? 255 / maximum : 0;
    state->weight_scale[i] = maximum * (1.0f / 255);
    for (int v = 0; v < SPAN_VECTORS; ++v) {
        // The integer stands in the low bits of a float of 2^23 and more.
        vector_i rounded = (vector_i)(scaled[v] * inverse + 0x1p23f) & 0xff;
        store_bytes((uint8_t *)weights + v * WIDTH, rounded);
    }
}

#if defined(__AVX512BF16__)
// Pairs of weights into words, in place.
INLINE void pack_weights_bf16(float weights[KV_VISIT_TOKENS]) {
    for (int v = 0; v < SPAN_VECTORS; v += 2) {
        __m512 low = (__m512)vector_load(weights + v * WIDTH);
        __m512 high = (__m512)vector_load(weights + (v + 1) * WIDTH);
        vector_store(weights + v / 2 * WIDTH, (vector_f)_mm512_cvtne2ps_pbh(high, low));
    }
}
#endif

INLINE void visit(const struct attention_tile *tile, enum form form) {
    struct visit_state state;
    int degree = form == FORM_BF16_DOT || form == FORM_INT8 ? QUICK_EXP : EXACT_EXP;
    gather_queries(&state, tile, form);
    FOR_ROW_TILES(tile->n_pairs, score_rows, &state, tile, form);
    raise_maxima(tile, state.scores, state.maxima, state.shrink);
    for (int i = 0; i < tile->n_pairs; ++i) {
        weigh_scores(tile->states[i], state.scores[i], state.maxima[i], state.shrink[i], degree);
#if defined(__AVX512BF16__)
        if (form == FORM_BF16_DOT) {
            pack_weights_bf16(state.scores[i]);
        }
#endif
        if (form == FORM_INT8) {
            pack_weights_int8(&state, tile, i);
        }
    }
    FOR_ROW_TILES(tile->n_pairs, value_rows, &state, tile, form);
}

#endif
