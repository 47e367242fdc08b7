// Attention over the KV tree for every format of keys and values and every instruction set: against
// a double-precision reference that starts from what the format keeps, and bit for bit against
// itself when the same rows are cut, shared and batched in other ways.
#include "tests/support/testkit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/backend/reference.h"
#include "worker/model/visits.h"

enum {
    SEQUENCES = 7,
    TOKENS_MAX = 320,
    BLOCKS_MAX = TOKENS_MAX / KV_BLOCK_TOKENS,
    LAYERS = 2,
    LAYER = 1, // the one that is used
    ROWS_MAX = 400,
};

static const float scale = 0.3f;

static struct attention_layer layer_of(int32_t n_heads, int32_t window) {
    return (struct attention_layer){
        .index = LAYER, .n_heads = n_heads, .window = window, .scale = scale};
}

struct heads {
    int32_t n_heads;
    int32_t n_kv_heads;
    int32_t head_dim;
};

// Sequences of one length whose first shared_tokens are the same. Copied: every sequence has its
// own blocks; otherwise whole shared blocks are one.
struct tree {
    struct backend *backend;
    struct kv_storage kv;
    struct heads heads;
    int32_t shared_tokens;
    int32_t window;     // of attention, 0: none
    const float *gains; // of q, k and v; NULL: 1
    struct sequence sequences[SEQUENCES];
    int32_t blocks[SEQUENCES][BLOCKS_MAX];
    struct batch_arrays arrays;
};

// Element of a token's q (part 0), key (1) or value (2).
static float element(const struct tree *tree, int part, int32_t sequence, int32_t position,
                     int32_t index) {
    uint64_t owner = position < tree->shared_tokens && part > 0 ? 0 : (uint64_t)sequence + 1;
    uint64_t at = ((uint64_t)position << 16) + (uint64_t)index;
    uint64_t bits = (at * 64 + owner * 3 + (uint64_t)part + 1) * 0x9e3779b97f4a7c15u;
    bits = (bits ^ bits >> 29) * 0xbf58476d1ce4e5b9u; // as splitmix64
    float value = (float)(int32_t)(bits >> 32) * 0x1p-31f;
    return tree->gains != NULL ? value * tree->gains[part] : value;
}

static int32_t columns(const struct tree *tree) {
    return (tree->heads.n_heads + 2 * tree->heads.n_kv_heads) * tree->heads.head_dim;
}

// The rows of the pieces, q, k and v.
static struct tensor make_rows(const struct tree *tree, int32_t n_pieces, int32_t n_rows) {
    struct tensor qkv = {.dtype = DTYPE_F32, .rows = n_rows, .cols = columns(tree)};
    int32_t q_dim = tree->heads.n_heads * tree->heads.head_dim;
    int32_t kv_dim = tree->heads.n_kv_heads * tree->heads.head_dim;
    float *out = malloc((size_t)n_rows * (size_t)qkv.cols * sizeof(float));
    qkv.data = out;
    for (int32_t p = 0; p < n_pieces; ++p) {
        const struct batch_piece *piece = &tree->arrays.pieces[p];
        int32_t sequence = (int32_t)(piece->sequence - tree->sequences);
        for (int32_t r = 0; r < piece->n_rows; ++r) {
            for (int32_t c = 0; c < qkv.cols; ++c) {
                int part = c < q_dim ? 0 : c < q_dim + kv_dim ? 1 : 2;
                int32_t index = part == 0 ? c : (c - q_dim) % kv_dim;
                *out++ = element(tree, part, sequence, piece->first_position + r, index);
            }
        }
    }
    return qkv;
}

// Plans a batch of the first n_pieces pieces, whose sequence, first_position and n_rows are set.
static struct batch_plan plan_pieces(struct tree *tree, int32_t n_pieces) {
    struct batch_arrays *arrays = &tree->arrays;
    struct batch_plan plan = {.token_ids = arrays->token_ids,
                              .positions = arrays->positions,
                              .kv_block = arrays->kv_block};
    for (int32_t p = 0; p < n_pieces; ++p) {
        struct batch_piece *piece = &arrays->pieces[p];
        piece->first_row = plan.n_rows;
        for (int32_t r = 0; r < piece->n_rows; ++r) {
            int32_t position = piece->first_position + r;
            arrays->positions[plan.n_rows] = position;
            arrays->kv_block[plan.n_rows] = piece->sequence->blocks[position / KV_BLOCK_TOKENS];
            plan.n_rows += 1;
        }
    }
    assert_in_range(plan.n_rows, 1, ROWS_MAX);
    plan.visits = visits_build(arrays, n_pieces, 0, &arrays->visits);
    if (tree->window > 0) {
        plan.windowed = visits_build(arrays, n_pieces, tree->window, &arrays->windowed);
    }
    return plan;
}

// Every place of every block holds NaN until a token is stored there: reading one shows.
static void poison(struct tree *tree) {
    struct tensor qkv = {.dtype = DTYPE_F32, .rows = KV_BLOCK_TOKENS, .cols = columns(tree)};
    const struct attention_layer layer = layer_of(tree->heads.n_heads, 0);
    float *values = malloc((size_t)qkv.rows * (size_t)qkv.cols * sizeof(float));
    qkv.data = values;
    for (int32_t block = 0; block < tree->kv.n_blocks; ++block) {
        struct batch_plan plan = {.n_rows = KV_BLOCK_TOKENS,
                                  .positions = tree->arrays.positions,
                                  .kv_block = tree->arrays.kv_block};
        for (int32_t t = 0; t < KV_BLOCK_TOKENS; ++t) {
            tree->arrays.positions[t] = t;
            tree->arrays.kv_block[t] = block;
        }
        for (int32_t i = 0; i < qkv.rows * qkv.cols; ++i) {
            values[i] = NAN;
        }
        assert_ok(tree->backend->ops->batch_begin(tree->backend, &plan), NULL);
        tree->backend->ops->rope_store(tree->backend, &qkv, &tree->kv, &layer);
    }
    free(values);
}

static void store_tokens(struct tree *tree, int32_t length) {
    const struct attention_layer layer = layer_of(tree->heads.n_heads, 0);
    for (int32_t s = 0; s < SEQUENCES; ++s) {
        tree->arrays.pieces[0] =
            (struct batch_piece){.sequence = &tree->sequences[s], .n_rows = length};
        struct batch_plan plan = plan_pieces(tree, 1);
        struct tensor qkv = make_rows(tree, 1, plan.n_rows);
        assert_ok(tree->backend->ops->batch_begin(tree->backend, &plan), NULL);
        tree->backend->ops->rope_store(tree->backend, &qkv, &tree->kv, &layer);
        free(qkv.data);
    }
}

// Block ids are dealt out from the last, sequences in turn, so that no table is in order.
static void deal_blocks(struct tree *tree, int32_t length, bool copied) {
    int32_t next = tree->kv.n_blocks;
    for (int32_t b = 0; b * KV_BLOCK_TOKENS < length; ++b) {
        bool shared = !copied && (b + 1) * KV_BLOCK_TOKENS <= tree->shared_tokens;
        for (int32_t s = 0; s < SEQUENCES; ++s) {
            tree->blocks[s][b] = shared && s > 0 ? tree->blocks[0][b] : --next;
        }
    }
}

static void tree_open(struct tree *tree, struct backend *backend, enum kv_dtype dtype,
                      const struct heads *heads, int32_t length, int32_t shared_tokens,
                      bool copied) {
    static const float still[512] = {0}; // frequencies that rotate nothing
    *tree = (struct tree){.backend = backend,
                          .heads = *heads,
                          .shared_tokens = shared_tokens,
                          .kv = {.dtype = dtype,
                                 .n_layers = LAYERS,
                                 .n_blocks = SEQUENCES * BLOCKS_MAX,
                                 .n_kv_heads = heads->n_kv_heads,
                                 .head_dim = heads->head_dim,
                                 .n_positions = TOKENS_MAX,
                                 .inv_freq = still,
                                 .rotary_dim = heads->head_dim,
                                 .rotary_scale = 1}};
    assert_true(length <= TOKENS_MAX && heads->head_dim <= 1024);
    struct batch_arrays *arrays = &tree->arrays;
    arrays->token_ids = calloc(ROWS_MAX, sizeof(int32_t));
    arrays->positions = calloc(ROWS_MAX, sizeof(int32_t));
    arrays->kv_block = calloc(ROWS_MAX, sizeof(int32_t));
    arrays->pieces = calloc(ROWS_MAX, sizeof(struct batch_piece));
    struct visit_arrays *lists[] = {&arrays->visits, &arrays->windowed};
    for (int i = 0; i < 2; ++i) {
        lists[i]->visits = calloc((size_t)tree->kv.n_blocks, sizeof(struct kv_visit));
        lists[i]->rows = calloc((size_t)visits_rows_max(ROWS_MAX, BLOCKS_MAX), sizeof(int32_t));
    }
    arrays->visit_of_block = calloc((size_t)tree->kv.n_blocks, sizeof(int32_t));
    assert_ok(backend->ops->kv_create(backend, &tree->kv), NULL);
    for (int32_t s = 0; s < SEQUENCES; ++s) {
        tree->sequences[s] = (struct sequence){.length = length, .blocks = tree->blocks[s]};
    }
    deal_blocks(tree, length, copied);
    poison(tree);
    store_tokens(tree, length);
}

static void tree_close(struct tree *tree) {
    tree->backend->ops->kv_destroy(tree->backend, &tree->kv);
    free(tree->arrays.token_ids);
    free(tree->arrays.positions);
    free(tree->arrays.kv_block);
    free(tree->arrays.pieces);
    free(tree->arrays.visits.visits);
    free(tree->arrays.visits.rows);
    free(tree->arrays.windowed.visits);
    free(tree->arrays.windowed.rows);
    free(tree->arrays.visit_of_block);
}

// Attention of the rows of the first n_pieces pieces; owned.
static float *attend(struct tree *tree, int32_t n_pieces) {
    struct batch_plan plan = plan_pieces(tree, n_pieces);
    struct tensor qkv = make_rows(tree, n_pieces, plan.n_rows);
    struct tensor out = {.dtype = DTYPE_F32,
                         .rows = plan.n_rows,
                         .cols = tree->heads.n_heads * tree->heads.head_dim};
    out.data = malloc((size_t)out.rows * (size_t)out.cols * sizeof(float));
    assert_ok(tree->backend->ops->batch_begin(tree->backend, &plan), NULL);
    const struct attention_layer layer = layer_of(tree->heads.n_heads, tree->window);
    tree->backend->ops->attention(tree->backend, &out, &qkv, &tree->kv, &layer);
    free(qkv.data);
    return out.data;
}

static struct batch_piece piece_of(const struct tree *tree, int32_t sequence, int32_t position,
                                   int32_t n_rows) {
    return (struct batch_piece){
        .sequence = &tree->sequences[sequence], .first_position = position, .n_rows = n_rows};
}

// What a format makes of n values that it keeps together.
static void keep(enum kv_dtype dtype, const float *values, int32_t n, double *out) {
    double largest = 0;
    for (int32_t i = 0; i < n; ++i) {
        largest = fmax(largest, fabs((double)values[i]));
    }
    for (int32_t i = 0; dtype == KV_INT8 && i < n; ++i) {
        out[i] = nearbyint(values[i] * 127 / largest) * largest / 127;
    }
    for (int32_t i = 0; dtype != KV_INT8 && i < n; ++i) {
        out[i] = dtype == KV_F32   ? (double)values[i]
                 : dtype == KV_F16 ? reference_from_f16(reference_to_f16(values[i]))
                                   : reference_from_bf16(reference_to_bf16(values[i]));
    }
}

// The reference for one row and head, and how far the kernel may be from it: what the rounding of
// queries and weights does if it adds up like noise, times 8, and f32 sums in the worst case.
static void reference_row(const struct tree *tree, int32_t sequence, int32_t position, int32_t head,
                          double *out, double *bound) {
    enum { DIM_MAX = 512 };
    const struct heads *heads = &tree->heads;
    int32_t dim = heads->head_dim, kv_head = head / (heads->n_heads / heads->n_kv_heads);
    double key[DIM_MAX], weights[TOKENS_MAX], value[DIM_MAX], spread[DIM_MAX] = {0};
    double largest = -INFINITY, sum = 0, score_noise = 0;
    // f32 and f16 round nothing beyond what is stored; the others may round queries and weights
    // too, relative to the number itself or to the largest of its like.
    double step = tree->kv.dtype == KV_BF16 ? 0x1p-9 : tree->kv.dtype == KV_INT8 ? 1.0 / 255 : 0;
    float kept[DIM_MAX];
    bool cut = tree->window > 0 && position >= tree->window;
    int32_t first = cut ? position - tree->window + 1 : 0;
    assert_true(dim <= DIM_MAX);
    for (int32_t t = first; t <= position; ++t) {
        double score = 0, noise = 0;
        for (int32_t d = 0; d < dim; ++d) {
            kept[d] = element(tree, 1, sequence, t, kv_head * dim + d);
        }
        keep(tree->kv.dtype, kept, dim, key);
        for (int32_t d = 0; d < dim; ++d) {
            double product =
                (double)element(tree, 0, sequence, position, head * dim + d) * key[d] * scale;
            score += product;
            noise += product * product;
        }
        weights[t] = score;
        largest = fmax(largest, score);
        score_noise = fmax(score_noise, step * sqrt(noise));
    }
    for (int32_t t = first; t <= position; ++t) {
        weights[t] = exp(weights[t] - largest);
        sum += weights[t];
    }
    memset(out, 0, (size_t)dim * sizeof(*out));
    for (int32_t t = first; t <= position; ++t) {
        for (int32_t d = 0; d < dim; ++d) {
            kept[d] = element(tree, 2, sequence, t, kv_head * dim + d);
        }
        keep(tree->kv.dtype, kept, dim, value);
        for (int32_t d = 0; d < dim; ++d) {
            double part = weights[t] / sum * value[d];
            out[d] += part;
            spread[d] += part * part;
        }
    }
    double exact = (scale * dim * (dim / 2.0 + 4) + position + 32) * 0x1p-24;
    for (int32_t d = 0; d < dim; ++d) {
        bound[d] = 8 * (step + 2 * score_noise) * sqrt(spread[d]) + exact;
    }
}

static void check_reference(struct tree *tree, int32_t sequence, int32_t first, int32_t n_rows) {
    double *expected = malloc((size_t)tree->heads.head_dim * 2 * sizeof(*expected));
    double *bound = expected + tree->heads.head_dim;
    tree->arrays.pieces[0] = piece_of(tree, sequence, first, n_rows);
    float *got = attend(tree, 1);
    for (int32_t r = 0; r < n_rows; ++r) {
        for (int32_t h = 0; h < tree->heads.n_heads; ++h) {
            reference_row(tree, sequence, first + r, h, expected, bound);
            const float *row = got + ((size_t)r * (size_t)tree->heads.n_heads + (size_t)h) *
                                         (size_t)tree->heads.head_dim;
            for (int32_t d = 0; d < tree->heads.head_dim; ++d) {
                if (!(fabs(expected[d] - (double)row[d]) <= bound[d])) {
                    fail_msg("format %d, position %d, head %d, element %d: %g, not %g, bound %g",
                             tree->kv.dtype, first + r, h, d, (double)row[d], expected[d],
                             bound[d]);
                }
            }
        }
    }
    free(got);
    free(expected);
}

static const struct heads shapes[] = {{1, 1, 2},  {2, 2, 10},  {6, 2, 64}, {8, 1, 16},
                                      {5, 5, 80}, {7, 1, 128}, {2, 1, 256}};
enum { SHAPES = sizeof(shapes) / sizeof(shapes[0]) };

static void test_equals_the_reference(void **state) {
    (void)state;
    static const int32_t lengths[] = {1, 15, 16, 17, 63, 64, 65, 130, 300};
    for (int i = 0; i < REFERENCE_ISAS; ++i) {
        struct backend *backend = reference_backend(reference_isas[i], 2);
        for (int dtype = 0; backend != NULL && dtype < KV_DTYPES; ++dtype) {
            for (int s = 0; s < SHAPES; ++s) {
                struct tree tree;
                tree_open(&tree, backend, dtype, &shapes[s], 301, 96, false);
                for (size_t l = 0; l < sizeof(lengths) / sizeof(lengths[0]); ++l) {
                    check_reference(&tree, 2, lengths[l] - 1, 2);
                }
                tree_close(&tree);
            }
        }
        backend_destroy(backend);
    }
}

// Windows that end within a block, with a block, with a span, and beyond the text.
static const int32_t windows[] = {1, 2, 15, 16, 63, 64, 65, 100, 128, 299, 301};
enum { WINDOWS = sizeof(windows) / sizeof(windows[0]) };

static void test_windows_equal_the_reference(void **state) {
    (void)state;
    for (int i = 0; i < REFERENCE_ISAS; ++i) {
        struct backend *backend = reference_backend(reference_isas[i], 2);
        for (int dtype = 0; backend != NULL && dtype < KV_DTYPES; ++dtype) {
            struct tree tree;
            tree_open(&tree, backend, dtype, &shapes[2], 301, 96, false);
            for (int w = 0; w < WINDOWS; ++w) {
                tree.window = windows[w];
                check_reference(&tree, 2, 58, 14);
                check_reference(&tree, 1, 289, 12);
            }
            tree_close(&tree);
        }
        backend_destroy(backend);
    }
}

// A window that hides nothing gives the bits of none.
static void test_a_wide_window_changes_nothing(void **state) {
    (void)state;
    for (int i = 0; i < REFERENCE_ISAS; ++i) {
        struct backend *backend = reference_backend(reference_isas[i], 1);
        for (int dtype = 0; backend != NULL && dtype < KV_DTYPES; ++dtype) {
            struct tree tree;
            tree_open(&tree, backend, dtype, &shapes[2], 200, 96, false);
            tree.arrays.pieces[0] = piece_of(&tree, 1, 130, 70);
            float *without = attend(&tree, 1);
            tree.window = 200;
            float *with = attend(&tree, 1);
            assert_memory_equal(without, with, 70 * 6 * 64 * sizeof(float));
            free(without);
            free(with);
            tree_close(&tree);
        }
        backend_destroy(backend);
    }
}

// The rows of all sequences from `first` on, one by one from blocks of their own, by one thread.
static float *attend_alone(struct tree *copied, int32_t first, int32_t n_rows) {
    size_t row_size = (size_t)copied->heads.n_heads * (size_t)copied->heads.head_dim;
    float *all = malloc((size_t)SEQUENCES * (size_t)n_rows * row_size * sizeof(float));
    for (int32_t s = 0; s < SEQUENCES; ++s) {
        for (int32_t r = 0; r < n_rows; ++r) {
            copied->arrays.pieces[0] = piece_of(copied, s, first + r, 1);
            float *row = attend(copied, 1);
            memcpy(all + ((size_t)s * (size_t)n_rows + (size_t)r) * row_size, row,
                   row_size * sizeof(float));
            free(row);
        }
    }
    return all;
}

// Batches of all sequences, of every length up to n_rows and in both orders, repeat `alone`.
static void check_batches(struct tree *tree, const float *alone, int32_t first, int32_t n_rows) {
    size_t row_size = (size_t)tree->heads.n_heads * (size_t)tree->heads.head_dim;
    for (int32_t n = 1; n <= n_rows; n = 2 * n + 1) {
        for (int reversed = 0; reversed < 2; ++reversed) {
            for (int32_t p = 0; p < SEQUENCES; ++p) {
                int32_t s = reversed ? SEQUENCES - 1 - p : p;
                tree->arrays.pieces[p] = piece_of(tree, s, first + n_rows - n, n);
            }
            float *got = attend(tree, SEQUENCES);
            for (int32_t p = 0; p < SEQUENCES; ++p) {
                int32_t s = reversed ? SEQUENCES - 1 - p : p;
                const float *want = alone + (size_t)(s * n_rows + n_rows - n) * row_size;
                assert_memory_equal(want, got + (size_t)(p * n) * row_size,
                                    (size_t)n * row_size * sizeof(float));
            }
            free(got);
        }
    }
}

static void check_invariance(const char *isa, enum kv_dtype dtype, const struct heads *heads,
                             int32_t shared, int32_t first, int32_t n_rows, int32_t window) {
    struct backend *backend = reference_backend(isa, 1);
    if (backend == NULL) {
        return;
    }
    struct tree copied;
    tree_open(&copied, backend, dtype, heads, first + n_rows, shared, true);
    copied.window = window;
    float *alone = attend_alone(&copied, first, n_rows);
    check_batches(&copied, alone, first, n_rows);
    tree_close(&copied);
    backend_destroy(backend);
    for (int threads = 1; threads <= 4; ++threads) {
        struct tree tree;
        backend = reference_backend(isa, threads);
        tree_open(&tree, backend, dtype, heads, first + n_rows, shared, false);
        tree.window = window;
        check_batches(&tree, alone, first, n_rows);
        tree_close(&tree);
        backend_destroy(backend);
    }
    free(alone);
}

static void test_rows_do_not_depend_on_sharing_batch_or_threads(void **state) {
    (void)state;
    for (int i = 0; i < REFERENCE_ISAS; ++i) {
        for (int dtype = 0; dtype < KV_DTYPES; ++dtype) {
            for (int s = 1; s < SHAPES - 1; ++s) {
                check_invariance(reference_isas[i], dtype, &shapes[s], 96, 150, 1, 0);
                check_invariance(reference_isas[i], dtype, &shapes[s], 64, 61, 50, 0);
            }
            check_invariance(reference_isas[i], dtype, &shapes[1], 0, 0, 40, 0);
        }
    }
}

static void test_rows_with_windows_do_not_depend_on_sharing_batch_or_threads(void **state) {
    (void)state;
    for (int i = 0; i < REFERENCE_ISAS; ++i) {
        for (int dtype = 0; dtype < KV_DTYPES; ++dtype) {
            check_invariance(reference_isas[i], dtype, &shapes[2], 96, 150, 1, 60);
            check_invariance(reference_isas[i], dtype, &shapes[4], 64, 101, 50, 33);
            check_invariance(reference_isas[i], dtype, &shapes[1], 130, 200, 50, 64);
        }
    }
}

// More query heads of one KV head than fit one walk's scratch.
static void test_wide_groups_are_cut(void **state) {
    (void)state;
    const struct heads wide = {.n_heads = 80, .n_kv_heads = 1, .head_dim = 1024};
    for (int i = 0; i < REFERENCE_ISAS; ++i) {
        check_invariance(reference_isas[i], KV_F32, &wide, 16, 20, 1, 0);
    }
}

static void test_copied_blocks_are_the_same(void **state) {
    (void)state;
    const struct heads heads = {4, 2, 18};
    for (int dtype = 0; dtype < KV_DTYPES; ++dtype) {
        struct backend *backend = reference_backend("generic", 1);
        struct tree tree;
        tree_open(&tree, backend, dtype, &heads, 45, 0, false);
        tree.arrays.pieces[0] = piece_of(&tree, 0, 44, 1);
        float *before = attend(&tree, 1);
        for (int32_t b = 0; b < 3; ++b) {
            int32_t copy = b; // the first blocks are the last to be dealt out
            backend->ops->kv_copy(backend, &tree.kv, copy, tree.blocks[0][b]);
            tree.blocks[0][b] = copy;
        }
        float *after = attend(&tree, 1);
        assert_memory_equal(before, after, 4 * 18 * sizeof(float));
        free(before);
        free(after);
        tree_close(&tree);
        backend_destroy(backend);
    }
}

// Attention of the last of 40 tokens with q, k and v times `gains`; owned.
static float *attend_with(struct backend *backend, enum kv_dtype dtype, const struct heads *heads,
                          const float gains[3], struct tree *tree) {
    tree_open(tree, backend, dtype, heads, 40, 0, false);
    tree->gains = gains;
    store_tokens(tree, 40);
    tree->arrays.pieces[0] = piece_of(tree, 0, 39, 1);
    return attend(tree, 1);
}

// Scores that are all 0 give the mean of the values, whatever made them 0 and however large the
// values are; what is too large for a format becomes its largest number.
static void test_extremes_stay_numbers(void **state) {
    (void)state;
    const struct heads heads = {2, 1, 20};
    static const float gains[][3] = {{1, 0, 1},     {0, 1, 1},     {0, 1e30f, 1}, {1, 0, 1e-12f},
                                     {1, 0, 1e20f}, {1, 0, 1e30f}, {1, 1, 0}};
    for (int i = 0; i < REFERENCE_ISAS; ++i) {
        struct backend *backend = reference_backend(reference_isas[i], 1);
        for (int dtype = 0; backend != NULL && dtype < KV_DTYPES; ++dtype) {
            double largest = dtype == KV_F16 ? 65504 : dtype == KV_INT8 ? 127 * 0x1p80 : 3e38;
            double least = dtype == KV_F16 ? 0x1p-24 : dtype == KV_INT8 ? 127 * 0x1p-40 : 0;
            for (size_t g = 0; g < sizeof(gains) / sizeof(gains[0]); ++g) {
                struct tree tree;
                float *got = attend_with(backend, (enum kv_dtype)dtype, &heads, gains[g], &tree);
                for (int32_t d = 0; d < heads.head_dim; ++d) {
                    double mean = 0;
                    for (int32_t t = 0; t < 40; ++t) {
                        double value = (double)element(&tree, 2, 0, t, d);
                        mean += fmax(-largest, fmin(largest, value)) / 40;
                    }
                    double bound = 0.01 * fmin(largest, (double)gains[g][2]) + least;
                    assert_true(fabs((double)got[d] - mean) <= bound);
                }
                free(got);
                tree_close(&tree);
            }
        }
        backend_destroy(backend);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equals_the_reference),
        cmocka_unit_test(test_windows_equal_the_reference),
        cmocka_unit_test(test_a_wide_window_changes_nothing),
        cmocka_unit_test(test_rows_do_not_depend_on_sharing_batch_or_threads),
        cmocka_unit_test(test_rows_with_windows_do_not_depend_on_sharing_batch_or_threads),
        cmocka_unit_test(test_wide_groups_are_cut),
        cmocka_unit_test(test_extremes_stay_numbers),
        cmocka_unit_test(test_copied_blocks_are_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
