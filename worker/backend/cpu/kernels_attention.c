// Attention over the KV tree for one KV head and a range of rows. Visits come in the order of
// positions; the rows of a visit are taken four at a time against the block's keys, so that a
// shared block is read once for all of them. Each row keeps a running maximum and sum (online
// softmax, Milakov and Gimelshein 2018, algorithm 3; Dao et al. 2022, section 3.1) that depend only
// on its own scores, block after block.
#include <math.h>

#include "worker/backend/cpu/kernels_private.h"
#include "worker/backend/cpu/simd.h"

enum { TILE = 4 };
_Static_assert((int)KV_BLOCK_TOKENS == (int)LANES, "one block is one set of lanes");

struct softmax_state {
    float maximum;
    float sum;
};
_Static_assert(ATTENTION_STATES * sizeof(struct softmax_state) <= KERNEL_SCRATCH_BYTES,
               "scratch too small");

// What is the same for all rows of one call.
struct walk {
    const struct attention_args *args;
    struct softmax_state *states; // [row_end - row_begin, group]
    int32_t kv_head;
    int32_t group; // query heads of one KV head
    int32_t row_begin;
    int32_t row_end;
};

// scores[r][t] = q[r] . keys[:, t]; even and odd dimensions are two sums, for speed.
INLINE void block_scores(float scores[TILE][LANES], const float *const q[TILE], const float *keys,
                         int32_t head_dim, int rows) {
    for (int p = 0; p < PARTS; ++p) {
        vector_f even[TILE] = {0}, odd[TILE] = {0};
        const float *k = keys + p * WIDTH;
        for (int32_t d = 0; d < head_dim; d += 2, k += 2 * LANES) {
            vector_f k_even = vector_load(k), k_odd = vector_load(k + LANES);
#pragma GCC unroll 4
            for (int r = 0; r < rows; ++r) {
                even[r] = vector_fma(vector_set(q[r][d]), k_even, even[r]);
                odd[r] = vector_fma(vector_set(q[r][d + 1]), k_odd, odd[r]);
            }
        }
        for (int r = 0; r < rows; ++r) {
            vector_store(scores[r] + p * WIDTH, even[r] + odd[r]);
        }
    }
}

// Turns the first `valid` scores into weights e^(score - maximum) and returns the factor by which
// what the row has summed so far shrinks.
INLINE float update_softmax(struct softmax_state *state, float scores[LANES], int32_t valid,
                            float scale) {
    float maximum = state->maximum;
    for (int32_t t = 0; t < valid; ++t) {
        scores[t] *= scale;
        maximum = scores[t] > maximum ? scores[t] : maximum;
    }
    for (int32_t t = valid; t < LANES; ++t) {
        scores[t] = -INFINITY;
    }
    vector_f sums[PARTS];
    for (int p = 0; p < PARTS; ++p) {
        sums[p] = vector_exp(vector_load(scores + p * WIDTH) - maximum);
        vector_store(scores + p * WIDTH, sums[p]);
    }
    float shrink = vector_exp(vector_set(state->maximum - maximum))[0];
    state->sum = scalar_fma(state->sum, shrink, fold(sums));
    state->maximum = maximum;
    return shrink;
}

// out = out * shrink + weights . values, in the order of tokens.
INLINE void add_values(float *out, const float *values, const float weights[LANES], int32_t valid,
                       float shrink, int32_t head_dim) {
    enum { WIDE = 4 };
    int32_t d = 0;
    for (; d + WIDE * WIDTH <= head_dim; d += WIDE * WIDTH) {
        vector_f sums[WIDE];
#pragma GCC unroll 4
        for (int i = 0; i < WIDE; ++i) {
            sums[i] = vector_load(out + d + i * WIDTH) * shrink;
        }
        for (int32_t t = 0; t < valid; ++t) {
            const float *v = values + (size_t)t * head_dim + d;
            vector_f weight = vector_set(weights[t]);
#pragma GCC unroll 4
            for (int i = 0; i < WIDE; ++i) {
                sums[i] = vector_fma(weight, vector_load(v + i * WIDTH), sums[i]);
            }
        }
#pragma GCC unroll 4
        for (int i = 0; i < WIDE; ++i) {
            vector_store(out + d + i * WIDTH, sums[i]);
        }
    }
    for (; d < head_dim; d += WIDTH) {
        int n = head_dim - d < WIDTH ? head_dim - d : WIDTH;
        vector_f sum = vector_load_part(out + d, n) * shrink;
        for (int32_t t = 0; t < valid; ++t) {
            vector_f v = vector_load_part(values + (size_t)t * head_dim + d, n);
            sum = vector_fma(vector_set(weights[t]), v, sum);
        }
        memcpy(out + d, &sum, (size_t)n * sizeof(float));
    }
}

// Up to TILE (row, query head) pairs against one block: pair i is rows[i / group], head i % group.
INLINE void visit_tile(const struct walk *walk, const struct kv_visit *visit, const int32_t *rows,
                       int32_t first, int n) {
    const struct attention_args *args = walk->args;
    int32_t head_dim = args->head_dim;
    size_t block_at =
        ((size_t)visit->block * args->n_kv_heads + walk->kv_head) * head_dim * KV_BLOCK_TOKENS;
    const float *q[TILE];
    size_t at[TILE];
    for (int i = 0; i < n; ++i) {
        int32_t row = rows[(first + i) / walk->group];
        int32_t head = walk->kv_head * walk->group + (first + i) % walk->group;
        at[i] = ((size_t)row * args->n_heads + head) * head_dim;
        q[i] = args->q + (size_t)row * args->q_stride + (size_t)head * head_dim;
    }
    _Alignas(64) float scores[TILE][LANES];
    block_scores(scores, q, args->keys + block_at, head_dim, n);
    for (int i = 0; i < n; ++i) {
        int32_t row = rows[(first + i) / walk->group];
        int32_t valid = args->plan->positions[row] - visit->start + 1;
        valid = valid < KV_BLOCK_TOKENS ? valid : KV_BLOCK_TOKENS;
        struct softmax_state *state = walk->states + (size_t)(row - walk->row_begin) * walk->group +
                                      (first + i) % walk->group;
        float shrink = update_softmax(state, scores[i], valid, args->scale);
        add_values(args->out + at[i], args->values + block_at, scores[i], valid, shrink, head_dim);
    }
}

// Index of the first of n ascending rows that is not below `row`.
static int32_t rows_from(const int32_t *rows, int32_t n, int32_t row) {
    int32_t low = 0, high = n;
    while (low < high) {
        int32_t middle = low + (high - low) / 2;
        if (rows[middle] < row) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static void visit_block(const struct walk *walk, const struct kv_visit *visit) {
    const int32_t *rows = walk->args->plan->visit_rows + visit->row_begin;
    int32_t begin = rows_from(rows, visit->row_count, walk->row_begin);
    int32_t end = rows_from(rows, visit->row_count, walk->row_end);
    rows += begin;
    int32_t n_pairs = (end - begin) * walk->group;
    int32_t i = 0;
    for (; i + TILE <= n_pairs; i += TILE) {
        visit_tile(walk, visit, rows, i, TILE);
    }
    for (; i < n_pairs; ++i) {
        visit_tile(walk, visit, rows, i, 1);
    }
}

static void start_rows(const struct walk *walk) {
    const struct attention_args *args = walk->args;
    int32_t width = walk->group * args->head_dim;
    for (int32_t row = walk->row_begin; row < walk->row_end; ++row) {
        size_t at = (size_t)row * args->n_heads * args->head_dim + (size_t)walk->kv_head * width;
        memset(args->out + at, 0, (size_t)width * sizeof(float));
    }
    int32_t n = (walk->row_end - walk->row_begin) * walk->group;
    for (int32_t i = 0; i < n; ++i) {
        walk->states[i] = (struct softmax_state){.maximum = -INFINITY};
    }
}

static void finish_rows(const struct walk *walk) {
    const struct attention_args *args = walk->args;
    const struct softmax_state *state = walk->states;
    for (int32_t row = walk->row_begin; row < walk->row_end; ++row) {
        for (int32_t g = 0; g < walk->group; ++g, ++state) {
            size_t head = (size_t)row * args->n_heads + walk->kv_head * walk->group + g;
            float *out = args->out + head * args->head_dim;
            for (int32_t d = 0; d < args->head_dim; ++d) {
                out[d] /= state->sum;
            }
        }
    }
}

void KERNEL(attention)(const struct attention_args *args, int32_t kv_head, int32_t row_begin,
                       int32_t row_end, void *memory) {
    int32_t group = args->n_heads / args->n_kv_heads;
    int32_t rows_max = ATTENTION_STATES / group;
    for (int32_t row = row_begin; row < row_end; row += rows_max) {
        struct walk walk = {
            .args = args,
            .states = memory,
            .kv_head = kv_head,
            .group = group,
            .row_begin = row,
            .row_end = row_end - row < rows_max ? row_end : row + rows_max,
        };
        start_rows(&walk);
        for (int32_t i = 0; i < args->plan->n_visits; ++i) {
            visit_block(&walk, &args->plan->visits[i]);
        }
        finish_rows(&walk);
    }
}
