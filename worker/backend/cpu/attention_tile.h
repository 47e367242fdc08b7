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

// What a visit keeps of its pairs besides the scores, which become weights in place.
struct visit_state {
    _Alignas(64) float scores[ATTENTION_PAIRS][KV_VISIT_TOKENS];
    struct softmax_step step;
    float weight_scale[ATTENTION_PAIRS_ROUNDED]; // of 8-bit weights
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

// Column `column` of row `depth` of a block of `width` columns: a row of words, or of numbers that
// are widened.
INLINE const char *row_of_block(const char *block, int32_t depth, int32_t column, int32_t width,
                                enum form form) {
    int32_t row = form == FORM_BF16 ? depth / 2 : depth, size = form == FORM_F16 ? 2 : 4;
    return block + ((size_t)row * width + column) * size;
}

// The vector that begins `skip` columns behind one of row `depth`.
INLINE vector_f load_row(const char *at, int32_t depth, int32_t skip, enum form form) {
    if (form == FORM_BF16) {
        vector_i pairs;
        memcpy(&pairs, at + (size_t)skip * 4, sizeof(pairs));
        return depth % 2 == 0 ? (vector_f)(pairs << 16) : (vector_f)(pairs & (int32_t)0xffff0000);
    }
    return form == FORM_F16 ? vector_load_as(at + (size_t)skip * 2, DTYPE_F16)
                            : vector_load(at + (size_t)skip * 4);
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

// What stands behind the words of an 8-bit query: its scale, and what its scores begin with.
INLINE float query_scale(const float *query, int32_t head_dim) {
    return query[words_of(head_dim, FORM_INT8)];
}

INLINE vector_f query_offset(const float *query, int32_t head_dim) {
    return vector_set_word(&query[words_of(head_dim, FORM_INT8) + 1]);
}

// Asks for the lines of one step of a tile; the last step of a run may go past its end. Tiles of
// few rows ask for as many lines as they read, those of many rows, which take their time, for what
// memory brings meanwhile.
INLINE void fetch_lines(struct fetch_queue *queue, int rows) {
    const char *at = queue->now.at;
    int n = rows > 2 ? 2 : (COLUMNS * WIDTH * 4 + LINE_BYTES - 1) / LINE_BYTES;
    if (at == queue->now.end) {
        return;
    }
#pragma GCC unroll 4
    for (int i = 0; i < n; ++i) {
        __builtin_prefetch(at + (size_t)i * LINE_BYTES, 0, 2);
    }
    queue->now.at = at + (size_t)n * LINE_BYTES;
    if (queue->now.at >= queue->now.end) {
        fetch_from(queue, queue->first + 1);
    }
}

// What stands behind the 8-bit values of a block: each token's scale, as its logarithm and inverse.
INLINE const float *value_scales(const char *values, int32_t head_dim) {
    return (const float *)(const void *)(values +
                                         block_bytes(attention_padded(head_dim), FORM_INT8));
}

// 8-bit sums of one block's tokens into scores. The scale of a token's key stands behind the keys;
// that of its value is taken in here, so that the weights, which are 2^score, include it.
INLINE vector_f scale_scores(vector_f sums, float query_scale, const char *keys, const char *values,
                             int32_t column, int32_t head_dim) {
    const char *scales = keys + block_bytes(words_of(head_dim, FORM_INT8) * 4, FORM_INT8);
    return vector_fma(__builtin_convertvector((vector_i)sums, vector_f) * query_scale,
                      vector_load(scales + (size_t)column * sizeof(float)),
                      vector_load(value_scales(values, head_dim) + column));
}

// scores[r][first ... first + COLUMNS * WIDTH) = q[r] . keys. Columns past the last block repeat
// it; their scores are hidden later.
INLINE void score_tile(struct visit_state *state, const struct attention_tile *tile, int first_pair,
                       int rows, int first, enum form form) {
    vector_f sums[ATTENTION_ROWS][COLUMNS];
    const char *keys[COLUMNS], *values[COLUMNS];
    const float *q[ATTENTION_ROWS];
    int32_t column[COLUMNS], head_dim = tile->head_dim, n_words = words_of(head_dim, form);
#pragma GCC unroll 6
    for (int r = 0; r < rows; ++r) {
        q[r] = tile->queries[first_pair + r];
    }
#pragma GCC unroll 4
    for (int c = 0; c < COLUMNS; ++c) {
        int token = first + c * WIDTH, block = token / KV_BLOCK_TOKENS;
        block = block < tile->n_blocks ? block : tile->n_blocks - 1;
        keys[c] = tile->keys[block];
        values[c] = tile->values[block];
        column[c] = token % KV_BLOCK_TOKENS;
#pragma GCC unroll 6
        for (int r = 0; r < rows; ++r) {
            sums[r][c] = form == FORM_INT8 ? query_offset(q[r], head_dim) : (vector_f){0};
        }
    }
    for (int32_t d = 0; d < n_words; ++d) {
        vector_f k[COLUMNS];
        fetch_lines(tile->fetch, rows);
#pragma GCC unroll 4
        for (int c = 0; c < COLUMNS; ++c) {
            k[c] = load_row(row_of_block(keys[c], d, column[c], KV_BLOCK_TOKENS, form), d, 0, form);
        }
#pragma GCC unroll 6
        for (int r = 0; r < rows; ++r) {
            vector_f word = vector_set_word(&q[r][d]);
#pragma GCC unroll 4
            for (int c = 0; c < COLUMNS; ++c) {
                sums[r][c] = chain(sums[r][c], k[c], word, form);
            }
        }
    }
#pragma GCC unroll 6
    for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 4
        for (int c = 0; c < COLUMNS; ++c) {
            vector_f score = sums[r][c];
            if (form == FORM_INT8) {
                score = scale_scores(score, query_scale(q[r], head_dim), keys[c], values[c],
                                     column[c], head_dim);
            }
            vector_store(state->scores[first_pair + r] + first + c * WIDTH, score);
        }
    }
}

// sums[r][0 ... n_columns) += weight words . value words; `seen`: of the values' words, which bits
// count.
INLINE void value_step(vector_f sums[ATTENTION_ROWS][COLUMNS], const float *weights,
                       const char *row, int32_t depth, int rows, int n_columns, vector_i seen,
                       enum form form) {
    vector_f v[COLUMNS];
#pragma GCC unroll 4
    for (int c = 0; c < n_columns; ++c) {
        v[c] = load_row(row, depth, c * WIDTH, form);
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
    size_t row_bytes = (size_t)width * (form == FORM_F16 ? 2 : 4);
#pragma GCC unroll 6
    for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 4
        for (int c = 0; c < n_columns; ++c) {
            const float *at = tile->sums[first_pair + r] + first + c * WIDTH;
            sums[r][c] = form == FORM_INT8 ? (vector_f){0}
                                           : vector_load(at) * state->step.shrink[first_pair + r];
        }
    }
    for (int32_t begin = 0; begin < n_tokens; begin += KV_BLOCK_TOKENS) {
        const char *values = tile->values[begin / KV_BLOCK_TOKENS];
        int32_t end = n_tokens - begin < KV_BLOCK_TOKENS ? n_tokens - begin : KV_BLOCK_TOKENS;
        const float *weights = &state->scores[first_pair][begin / word_size(form)];
        int32_t whole = form == FORM_BF16_DOT ? end / 2 : words_of(end, form);
        const char *row = row_of_block(values, 0, first, width, form);
        int32_t t = 0;
#pragma GCC unroll 1
        for (; t < whole; ++t) {
            fetch_lines(tile->fetch, rows);
            value_step(sums, weights, row, t, rows, n_columns, all, form);
            row += form == FORM_BF16 ? t % 2 * row_bytes : row_bytes;
        }
        if (form == FORM_BF16_DOT && end % 2 != 0) {
            value_step(sums, weights, row, t, rows, n_columns, all & 0xffff, form);
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
                                        vector_load(at) * state->step.shrink[first_pair + r]);
            }
            vector_store(at, sums[r][c]);
        }
    }
}

INLINE void score_rows(int first_pair, int rows, struct visit_state *state,
                       const struct attention_tile *tile, enum form form) {
    int32_t n = tile->n_blocks * KV_BLOCK_TOKENS;
    for (int32_t first = 0; first < n; first += COLUMNS * WIDTH) {
        score_tile(state, tile, first_pair, rows, first, form);
    }
}

// Tokens that no row of these sees are left out: nothing has been stored there yet.
INLINE void value_rows(int first_pair, int rows, struct visit_state *state,
                       const struct attention_tile *tile, enum form form) {
    int32_t n_tokens = 0, padded = attention_padded(tile->head_dim), first = 0;
    for (int r = 0; r < rows; ++r) {
        int32_t end = tile->seen[first_pair + r] & 0xff;
        n_tokens = end > n_tokens ? end : n_tokens;
    }
    for (; first + COLUMNS * WIDTH <= padded; first += COLUMNS * WIDTH) {
        value_tile(state, tile, first_pair, rows, first, COLUMNS, n_tokens, form);
    }
    for (; first < padded; first += WIDTH) {
        value_tile(state, tile, first_pair, rows, first, 1, n_tokens, form);
    }
}

// Scores into words of 8-bit weights, in place, relative to the largest of the visit. They include
// the values' scales, so that the sum of the softmax takes them out again. `inverses`: of the
// visit's tokens.
INLINE void weigh_scores_int8(struct visit_state *state, const struct attention_tile *tile, int i,
                              const float *const inverses[SPAN_VECTORS], bool all_seen) {
    const float log2_255 = 7.994353436858858f;
    float *scores = state->scores[i], *sums = tile->states[i]->sums;
    float top = state->step.span[i] - log2_255;
    vector_f parts[PARTS] = {0};
#pragma GCC unroll 16
    for (int v = 0; v < SPAN_VECTORS; ++v) {
        vector_f inverse = vector_load(inverses[v]);
        if (!all_seen) {
            vector_i seen = seen_tokens(tile, i, v);
            inverse = vector_select(seen, inverse, (vector_f){0});
        }
        vector_f weights = vector_exp2_above_0(vector_load(scores + v * WIDTH) - top);
        parts[v % PARTS] = vector_fma(weights, inverse, parts[v % PARTS]);
        store_bytes((uint8_t *)scores + v * WIDTH, (vector_i)(weights + round_magic));
    }
    for (int p = 0; p < PARTS; ++p) {
        vector_f old = vector_load(sums + p * WIDTH) * state->step.shrink[i];
        vector_store(sums + p * WIDTH,
                     vector_fma(parts[p], vector_set(state->weight_scale[i]), old));
    }
}

// What an 8-bit weight stands for: the visit's largest is 255 of it.
INLINE void scale_weights(struct visit_state *state, int n) {
    for (int i = 0; i < n; i += WIDTH) {
        vector_f below = vector_load(state->step.span + i) - vector_load(state->step.maxima + i);
        vector_store(state->weight_scale + i, vector_exp2(below) * (1.0f / 255));
    }
}

INLINE void weigh_int8(struct visit_state *state, const struct attention_tile *tile) {
    const float *inverses[SPAN_VECTORS];
    for (int v = 0; v < SPAN_VECTORS; ++v) {
        int block = v * WIDTH / KV_BLOCK_TOKENS, column = v * WIDTH % KV_BLOCK_TOKENS;
        const char *values = tile->values[block < tile->n_blocks ? block : tile->n_blocks - 1];
        inverses[v] = value_scales(values, tile->head_dim) + LANES + column;
    }
    scale_weights(state, tile->n_pairs);
    for (int i = 0; i < tile->n_pairs; ++i) {
        if (sees_all(tile, i)) {
            weigh_scores_int8(state, tile, i, inverses, true);
        } else {
            weigh_scores_int8(state, tile, i, inverses, false);
        }
    }
}

#if defined(__AVX512BF16__)
// 2^x for x <= 0 as 2^floor(x) 2^r: a minimax polynomial of relative error 3e-6 on [0, 1] that
// gives exactly 1 at 0. Only this form of weights has these instructions on every CPU.
INLINE vector_f exp2_of_pairs(vector_f x) {
    vector_f r = (vector_f)_mm512_reduce_ps((__m512)x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
    vector_f p = vector_set(0.01342668428390227f);
    p = vector_fma(p, r, vector_set(0.05224247419973371f));
    p = vector_fma(p, r, vector_set(0.24128020476597628f));
    p = vector_fma(p, r, vector_set(0.6930448449002667f));
    p = vector_fma(p, r, vector_set(1.0f));
    return (vector_f)_mm512_scalef_ps((__m512)p, (__m512)x);
}

// Scores into words of pairs of weights, in place.
INLINE void weigh_scores_pairs(struct visit_state *state, const struct attention_tile *tile, int i,
                               bool all_seen) {
    float *scores = state->scores[i], *sums = tile->states[i]->sums;
    vector_f sum = vector_load(sums) * state->step.shrink[i], weights[SPAN_VECTORS];
#pragma GCC unroll 4
    for (int v = 0; v < SPAN_VECTORS; ++v) {
        vector_f score = vector_load(scores + v * WIDTH) - state->step.maxima[i];
        weights[v] = exp2_of_pairs(score);
        if (!all_seen) {
            vector_i seen = seen_tokens(tile, i, v);
            weights[v] = vector_select(seen, weights[v], (vector_f){0});
        }
        sum += weights[v];
    }
    vector_store(sums, sum);
    for (int v = 0; v < SPAN_VECTORS; v += 2) {
        __m512bh pairs = _mm512_cvtne2ps_pbh((__m512)weights[v + 1], (__m512)weights[v]);
        vector_store(scores + v / 2 * WIDTH, (vector_f)pairs);
    }
}

INLINE void weigh_pairs(struct visit_state *state, const struct attention_tile *tile) {
    for (int i = 0; i < tile->n_pairs; ++i) {
        if (sees_all(tile, i)) {
            weigh_scores_pairs(state, tile, i, true);
        } else {
            weigh_scores_pairs(state, tile, i, false);
        }
    }
}
#endif

INLINE void visit(const struct attention_tile *tile, enum form form) {
    struct visit_state state;
    int n = tile->n_pairs;
    FOR_ROW_TILES(n, score_rows, &state, tile, form);
    raise_maxima(tile, state.scores, &state.step);
#if defined(__AVX512BF16__)
    if (form == FORM_BF16_DOT) {
        weigh_pairs(&state, tile);
    }
#endif
    if (form == FORM_INT8) {
        weigh_int8(&state, tile);
    }
    for (int i = 0; i < n && form != FORM_BF16_DOT && form != FORM_INT8; ++i) {
        weigh_scores(tile->states[i], state.scores[i], state.step.maxima[i], state.step.shrink[i]);
    }
    FOR_ROW_TILES(n, value_rows, &state, tile, form);
}

#endif
