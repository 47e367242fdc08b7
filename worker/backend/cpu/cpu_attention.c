// Attention over the KV tree: rows and heads cut into parts for the threads, a part's rows walked
// through the batch's visits, a visit's pairs of row and query head handed to the kernel in tiles.
// How rows are cut, and which of them share a visit, has no effect on any value.
#include <math.h>
#include <string.h>

#include "worker/backend/cpu/cpu_private.h"

struct attention_call {
    const struct cpu_backend *cpu;
    const struct attention_kernel *kernel;
    const struct kv_storage *storage;
    float *out;     // [n_rows, n_heads * head_dim]
    const float *q; // rows q_stride apart
    int32_t layer;
    int32_t n_heads;
    int32_t q_stride;
    float factor;        // of the queries
    int32_t n_row_parts; // work items: n_kv_heads * n_row_parts
};

// One thread's walk over the visits with as many pairs as its scratch holds. Pairs are numbered by
// row, then head.
struct walk {
    const struct attention_call *call;
    struct softmax_state *states; // [pairs]
    float *sums;                  // [pairs, padded]
    float *queries;               // [pairs, padded], packed
    float *tile_scratch;          // [ATTENTION_PAIRS, padded]
    int32_t padded;               // head_dim
    int32_t kv_head;
    int32_t head_begin; // query heads of kv_head in this walk
    int32_t n_heads;
    int32_t row_begin;
    int32_t row_end;
};

static void start_rows(const struct walk *walk) {
    const struct attention_call *call = walk->call;
    int32_t head_dim = call->storage->head_dim;
    size_t pair = 0;
    for (int32_t row = walk->row_begin; row < walk->row_end; ++row) {
        for (int32_t h = 0; h < walk->n_heads; ++h, ++pair) {
            const float *q =
                call->q + (size_t)row * call->q_stride + (size_t)(walk->head_begin + h) * head_dim;
            call->kernel->pack_query(walk->queries + pair * walk->padded, q, head_dim,
                                     call->factor);
            walk->states[pair] = (struct softmax_state){.maximum = -INFINITY};
        }
    }
    memset(walk->sums, 0, pair * walk->padded * sizeof(float));
}

// Adding +0 makes one zero of the two: how many hidden tokens a tile adds nothing for must not
// show.
static void finish_rows(const struct walk *walk) {
    const struct attention_call *call = walk->call;
    int32_t head_dim = call->storage->head_dim;
    size_t pair = 0;
    for (int32_t row = walk->row_begin; row < walk->row_end; ++row) {
        for (int32_t h = 0; h < walk->n_heads; ++h, ++pair) {
            const float *parts = walk->states[pair].sums, *sums = walk->sums + pair * walk->padded;
            float sum = 0;
            for (int i = 0; i < LANES; ++i) {
                sum += parts[i];
            }
            float *out =
                call->out + ((size_t)row * call->n_heads + walk->head_begin + h) * (size_t)head_dim;
            float inverse = 1.0f / sum;
            for (int32_t d = 0; d < head_dim; ++d) {
                out[d] = sums[d] * inverse + 0.0f;
            }
        }
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

static void add_pair(const struct walk *walk, const struct kv_visit *visit, int32_t row, int32_t h,
                     struct attention_tile *tile) {
    size_t pair = (size_t)(row - walk->row_begin) * walk->n_heads + h;
    int32_t visible = walk->call->cpu->plan.positions[row] - visit->start + 1;
    int i = tile->n_pairs++;
    tile->queries[i] = walk->queries + pair * walk->padded;
    tile->sums[i] = walk->sums + pair * walk->padded;
    tile->states[i] = &walk->states[pair];
    tile->visible[i] = visible < KV_VISIT_TOKENS ? visible : KV_VISIT_TOKENS;
}

static void visit_rows(const struct walk *walk, const struct kv_visit *visit,
                       const struct kv_visit *next, const int32_t *rows, int32_t n) {
    const struct attention_call *call = walk->call;
    struct attention_tile tile = {.scratch = walk->tile_scratch,
                                  .n_blocks = visit->n_blocks,
                                  .head_dim = call->storage->head_dim};
    for (int b = 0; b < visit->n_blocks; ++b) {
        int32_t block = visit->blocks[b];
        tile.keys[b] = cpu_kv_keys(call->storage, call->layer, walk->kv_head, block);
        tile.values[b] = cpu_kv_values(call->storage, call->layer, walk->kv_head, block);
    }
    for (int b = 0; b < next->n_blocks; ++b) {
        int32_t block = next->blocks[b];
        tile.next_keys[b] = cpu_kv_keys(call->storage, call->layer, walk->kv_head, block);
        tile.next_values[b] = cpu_kv_values(call->storage, call->layer, walk->kv_head, block);
    }
    for (int32_t i = 0; i < n; ++i) {
        for (int32_t h = 0; h < walk->n_heads; ++h) {
            add_pair(walk, visit, rows[i], h, &tile);
            if (tile.n_pairs == ATTENTION_PAIRS) {
                call->kernel->visit(&tile);
                tile.n_pairs = 0;
                memset(tile.next_keys, 0, sizeof(tile.next_keys));
                memset(tile.next_values, 0, sizeof(tile.next_values));
            }
        }
    }
    if (tile.n_pairs > 0) {
        call->kernel->visit(&tile);
    }
}

static void walk_visits(const struct walk *walk) {
    const struct batch_plan *plan = &walk->call->cpu->plan;
    for (int32_t i = 0; i < plan->n_visits; ++i) {
        const struct kv_visit *visit = &plan->visits[i];
        const int32_t *rows = plan->visit_rows + visit->row_begin;
        if (rows[0] >= walk->row_end || rows[visit->row_count - 1] < walk->row_begin) {
            continue;
        }
        int32_t begin = rows_from(rows, visit->row_count, walk->row_begin);
        int32_t end = rows_from(rows, visit->row_count, walk->row_end);
        const struct kv_visit *next = i + 1 < plan->n_visits ? visit + 1 : visit;
        visit_rows(walk, visit, next, rows + begin, end - begin);
    }
}

static int32_t min_int(int32_t a, int32_t b) {
    return a < b ? a : b;
}

// All query heads of one KV head, rows [row_begin, row_end), in walks that fit the scratch.
static void attend(const struct attention_call *call, int32_t kv_head, int32_t row_begin,
                   int32_t row_end, char *scratch) {
    int32_t group = call->n_heads / call->storage->n_kv_heads;
    int32_t padded = attention_padded(call->storage->head_dim);
    size_t pair_bytes = sizeof(struct softmax_state) + 2 * (size_t)padded * sizeof(float);
    size_t tile_bytes = ATTENTION_PAIRS * (size_t)padded * sizeof(float);
    int32_t pairs_max = (int32_t)((KERNEL_SCRATCH_BYTES - tile_bytes) / pair_bytes);
    int32_t heads_max = min_int(group, pairs_max), rows_max = pairs_max / heads_max;
    struct walk walk = {.call = call, .padded = padded, .kv_head = kv_head};
    walk.states = (struct softmax_state *)(void *)scratch;
    walk.queries = (float *)(void *)(walk.states + pairs_max);
    walk.sums = walk.queries + (size_t)pairs_max * padded;
    walk.tile_scratch = walk.sums + (size_t)pairs_max * padded;
    for (int32_t head = 0; head < group; head += heads_max) {
        walk.head_begin = kv_head * group + head;
        walk.n_heads = min_int(heads_max, group - head);
        for (int32_t row = row_begin; row < row_end; row += rows_max) {
            walk.row_begin = row;
            walk.row_end = min_int(row_end, row + rows_max);
            start_rows(&walk);
            walk_visits(&walk);
            finish_rows(&walk);
        }
    }
}

static void attention_part(void *argument, int index, int count) {
    const struct attention_call *call = argument;
    long begin, end;
    thread_pool_range((long)call->storage->n_kv_heads * call->n_row_parts, 1, index, count, &begin,
                      &end);
    for (long item = begin; item < end; ++item) {
        long row_begin, row_end;
        thread_pool_range(call->cpu->plan.n_rows, 1, (int)(item % call->n_row_parts),
                          call->n_row_parts, &row_begin, &row_end);
        attend(call, (int32_t)(item / call->n_row_parts), (int32_t)row_begin, (int32_t)row_end,
               call->cpu->scratch + (size_t)index * KERNEL_SCRATCH_BYTES);
    }
}

void cpu_attention(struct backend *backend, struct tensor *out, const struct tensor *qkv,
                   const struct kv_storage *storage, int32_t layer, int32_t n_heads, float scale) {
    struct cpu_backend *cpu = cpu_backend_from(backend);
    int32_t head_dim = storage->head_dim, n_kv_heads = storage->n_kv_heads;
    ASSERT(qkv->rows == cpu->plan.n_rows);
    ASSERT(qkv->cols == (n_heads + 2 * n_kv_heads) * head_dim);
    ASSERT(out->rows == qkv->rows && out->cols == n_heads * head_dim && out->data != qkv->data);
    ASSERT(n_heads % n_kv_heads == 0 && head_dim % 2 == 0);
    ASSERT(head_dim <= ATTENTION_HEAD_DIM_MAX);
    const float log2_e = 1.44269504f;
    struct attention_call call = {
        .cpu = cpu,
        .kernel = cpu->attention[storage->dtype],
        .storage = storage,
        .out = out->data,
        .q = qkv->data,
        .layer = layer,
        .n_heads = n_heads,
        .q_stride = qkv->cols,
        .factor = scale * log2_e,
        .n_row_parts = 1,
    };
    double work = 0;
    for (int32_t i = 0; i < cpu->plan.n_visits; ++i) {
        work += 2.0 * cpu->plan.visits[i].row_count * cpu->plan.visits[i].n_blocks * out->cols;
    }
    int n_threads = cpu_threads_for(cpu, work);
    // Heads go whole to threads where they come out even, so that each block is read by one thread;
    // otherwise rows are split as well, four items per thread for balance.
    if (n_kv_heads % n_threads != 0) {
        int32_t wanted = (4 * n_threads + n_kv_heads - 1) / n_kv_heads;
        call.n_row_parts = min_int(wanted, qkv->rows);
    }
    thread_pool_run(cpu->pool, attention_part, &call, n_threads);
}
