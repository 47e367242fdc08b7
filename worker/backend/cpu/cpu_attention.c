// Attention over the KV tree: rows and heads cut into parts for the threads, a part's rows walked
// through the batch's visits, a visit's pairs of row and query head handed to the kernel in tiles.
// How rows are cut, and which of them share a visit, has no effect on any value.
#include <math.h>
#include <string.h>

#include "worker/backend/cpu/cpu_private.h"

// How far ahead blocks are asked for: what fits a core's second-level cache beside the work itself.
enum { LOOKAHEAD_BYTES = 512 * 1024 };

struct attention_call {
    const struct cpu_backend *cpu;
    const struct attention_kernel *kernel;
    const struct kv_storage *storage;
    const struct visit_list *list;
    struct kv_layer layer;
    float *out;     // [n_rows, n_heads * head_dim]
    const float *q; // rows q_stride apart
    int32_t n_heads;
    int32_t q_stride;
    int32_t window;      // 0: none
    float factor;        // of the queries
    int32_t n_row_parts; // work items: n_kv_heads * n_row_parts
};

// What a thread asks for before it gets there: the blocks of its next visits. A suffix is read once
// in a step, which takes as long as memory needs; asked for early, it arrives while shared blocks
// keep the arithmetic busy.
struct lookahead {
    struct fetch_queue queue;
    uint32_t run_visit[FETCH_RUNS]; // number of the visit that a run belongs to
    uint32_t n_queued;              // visits
    uint32_t n_begun;
    int32_t visit;   // index of the one that is queued next
    int32_t kv_head; // and its head
    int32_t kv_head_end;
    size_t bytes; // of visits that are queued and have not begun
};

// One thread's walk over the visits with as many pairs as its scratch holds. Pairs are numbered by
// row, then head.
struct walk {
    const struct attention_call *call;
    struct softmax_state *states; // [pairs]
    float *sums;                  // [pairs, padded]
    float *queries;               // [pairs, padded], packed
    struct lookahead *ahead;      // of the thread
    int32_t padded;               // head_dim
    int32_t kv_head;
    int32_t head_begin; // query heads of kv_head in this walk
    int32_t n_heads;
    int32_t row_begin;
    int32_t row_end;
};

static int32_t min_int(int32_t a, int32_t b) {
    return a < b ? a : b;
}

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

static void finish_rows(const struct walk *walk) {
    const struct attention_call *call = walk->call;
    int32_t head_dim = call->storage->head_dim;
    size_t pair = 0;
    for (int32_t row = walk->row_begin; row < walk->row_end; ++row) {
        for (int32_t h = 0; h < walk->n_heads; ++h, ++pair) {
            float *out =
                call->out + ((size_t)row * call->n_heads + walk->head_begin + h) * (size_t)head_dim;
            call->cpu->kernels->attention_finish(out, walk->sums + pair * walk->padded,
                                                 &walk->states[pair], head_dim);
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

static bool has_rows(const struct walk *walk, const struct kv_visit *visit) {
    const int32_t *rows = walk->call->list->rows + visit->row_begin;
    return rows[0] < walk->row_end && rows[visit->row_count - 1] >= walk->row_begin;
}

static size_t visit_bytes(const struct attention_call *call, const struct kv_visit *visit) {
    return (size_t)visit->n_blocks * (call->layer.key_bytes + call->layer.value_bytes);
}

static void queue_run(struct lookahead *ahead, const char *at, size_t bytes) {
    struct fetch_queue *queue = &ahead->queue;
    bool empty = queue->first == queue->end;
    uint32_t place = queue->end++ % FETCH_RUNS;
    queue->runs[place] = (struct fetch_run){.at = at, .end = at + bytes};
    ahead->run_visit[place] = ahead->n_queued;
    if (empty) {
        fetch_from(queue, queue->first);
    }
}

static void queue_visit(const struct walk *walk, const struct kv_visit *visit) {
    const struct attention_call *call = walk->call;
    struct lookahead *ahead = walk->ahead;
    for (int b = 0; b < visit->n_blocks; ++b) {
        queue_run(ahead, kv_layer_keys(&call->layer, ahead->kv_head, visit->blocks[b]),
                  call->layer.key_bytes);
    }
    for (int b = 0; b < visit->n_blocks; ++b) {
        queue_run(ahead, kv_layer_values(&call->layer, ahead->kv_head, visit->blocks[b]),
                  call->layer.value_bytes);
    }
    ahead->n_queued += 1;
    ahead->bytes += visit_bytes(call, visit);
}

// Queues visits as far as the lookahead goes, at least the next one that begins.
static void look_ahead(const struct walk *walk) {
    const struct visit_list *list = walk->call->list;
    struct lookahead *ahead = walk->ahead;
    while (ahead->bytes < LOOKAHEAD_BYTES &&
           ahead->queue.end - ahead->queue.first <= FETCH_RUNS - 2 * KV_VISIT_BLOCKS) {
        if (ahead->visit == list->n_visits) {
            if (ahead->kv_head + 1 >= ahead->kv_head_end) {
                return;
            }
            ahead->kv_head += 1;
            ahead->visit = 0;
        }
        const struct kv_visit *visit = &list->visits[ahead->visit++];
        if (has_rows(walk, visit)) {
            queue_visit(walk, visit);
        }
    }
}

// What the visit that begins has not been asked for by now, it will load itself.
static void begin_visit(const struct walk *walk, const struct kv_visit *visit) {
    struct lookahead *ahead = walk->ahead;
    struct fetch_queue *queue = &ahead->queue;
    look_ahead(walk);
    uint32_t first = queue->first;
    while (first != queue->end && ahead->run_visit[first % FETCH_RUNS] == ahead->n_begun) {
        first += 1;
    }
    if (first != queue->first) {
        fetch_from(queue, first);
    }
    ahead->n_begun += 1;
    ahead->bytes -= visit_bytes(walk->call, visit);
}

static void visit_rows(const struct walk *walk, const struct kv_visit *visit, const int32_t *rows,
                       int32_t n) {
    const struct attention_call *call = walk->call;
    struct attention_tile tile;
    tile.fetch = &walk->ahead->queue;
    tile.n_blocks = visit->n_blocks;
    tile.n_pairs = 0;
    tile.head_dim = call->storage->head_dim;
    for (int b = 0; b < visit->n_blocks; ++b) {
        tile.keys[b] = kv_layer_keys(&call->layer, walk->kv_head, visit->blocks[b]);
        tile.values[b] = kv_layer_values(&call->layer, walk->kv_head, visit->blocks[b]);
    }
    const int32_t *positions = call->cpu->plan.positions;
    int32_t n_heads = walk->n_heads, row_begin = walk->row_begin, start = visit->start;
    int32_t before = call->window > 0 ? start + call->window - 1 : INT32_MAX;
    size_t padded = (size_t)walk->padded;
    float *queries = walk->queries, *sums = walk->sums;
    for (int32_t i = 0; i < n; ++i) {
        int32_t seen = min_int(positions[rows[i]] - start + 1, KV_VISIT_TOKENS);
        seen += positions[rows[i]] > before ? (positions[rows[i]] - before) << 8 : 0;
        size_t pair = (size_t)(rows[i] - row_begin) * n_heads;
        for (int32_t h = 0; h < n_heads; ++h, ++pair) {
            int place = tile.n_pairs++;
            tile.queries[place] = queries + pair * padded;
            tile.sums[place] = sums + pair * padded;
            tile.states[place] = &walk->states[pair];
            tile.seen[place] = seen;
            if (place + 1 == ATTENTION_PAIRS) {
                call->kernel->visit(&tile);
                tile.n_pairs = 0;
            }
        }
    }
    if (tile.n_pairs > 0) {
        call->kernel->visit(&tile);
    }
}

static void walk_visits(const struct walk *walk) {
    const struct visit_list *list = walk->call->list;
    for (int32_t i = 0; i < list->n_visits; ++i) {
        const struct kv_visit *visit = &list->visits[i];
        if (!has_rows(walk, visit)) {
            continue;
        }
        const int32_t *rows = list->rows + visit->row_begin;
        int32_t begin = rows_from(rows, visit->row_count, walk->row_begin);
        int32_t end = rows_from(rows, visit->row_count, walk->row_end);
        begin_visit(walk, visit);
        visit_rows(walk, visit, rows + begin, end - begin);
    }
}

// All query heads of one KV head, rows [row_begin, row_end), in walks that fit the scratch.
static void attend(const struct attention_call *call, struct lookahead *ahead, int32_t kv_head,
                   int32_t row_begin, int32_t row_end, char *scratch) {
    int32_t group = call->n_heads / call->storage->n_kv_heads;
    int32_t padded = attention_padded(call->storage->head_dim);
    size_t pair_bytes = sizeof(struct softmax_state) + 2 * (size_t)padded * sizeof(float);
    int32_t pairs_max = (int32_t)(KERNEL_SCRATCH_BYTES / pair_bytes);
    int32_t heads_max = min_int(group, pairs_max), rows_max = pairs_max / heads_max;
    struct walk walk = {.call = call, .ahead = ahead, .padded = padded, .kv_head = kv_head};
    walk.states = (struct softmax_state *)(void *)scratch;
    walk.queries = (float *)(void *)(walk.states + pairs_max);
    walk.sums = walk.queries + (size_t)pairs_max * padded;
    bool whole = heads_max == group && row_end - row_begin <= rows_max;
    for (int32_t head = 0; head < group; head += heads_max) {
        walk.head_begin = kv_head * group + head;
        walk.n_heads = min_int(heads_max, group - head);
        for (int32_t row = row_begin; row < row_end; row += rows_max) {
            walk.row_begin = row;
            walk.row_end = min_int(row_end, row + rows_max);
            size_t pairs = (size_t)walk.n_heads * (walk.row_end - row);
            ASSERT(pairs * pair_bytes <= KERNEL_SCRATCH_BYTES);
            if (!whole || ahead->n_queued == 0) {
                *ahead = (struct lookahead){.kv_head = kv_head,
                                            .kv_head_end = whole ? ahead->kv_head_end : 0};
            }
            start_rows(&walk);
            walk_visits(&walk);
            finish_rows(&walk);
        }
    }
}

static void attention_part(void *argument, int index, int count) {
    const struct attention_call *call = argument;
    int32_t n_row_parts = call->n_row_parts;
    char *scratch = call->cpu->scratch + (size_t)index * KERNEL_SCRATCH_BYTES;
    int32_t n_heads = call->storage->n_kv_heads, item;
    long begin, end;
    thread_pool_range(n_heads, 1, index, count, &begin, &end);
    struct lookahead ahead;
    ahead.n_queued = 0;
    while (thread_pool_take(call->cpu->pool, index, &item)) {
        // What follows an item is known where a thread goes through the heads of its own share.
        bool own = n_row_parts == 1 && item >= begin && item < end;
        long row_begin, row_end;
        thread_pool_range(call->cpu->plan.n_rows, 1, item % n_row_parts, n_row_parts, &row_begin,
                          &row_end);
        if (!own) {
            ahead.n_queued = 0;
        }
        ahead.kv_head_end = own ? (int32_t)end : 0;
        attend(call, &ahead, item / n_row_parts, (int32_t)row_begin, (int32_t)row_end, scratch);
    }
}

void cpu_attention(struct backend *backend, struct tensor *out, const struct tensor *qkv,
                   const struct kv_storage *storage, const struct attention_layer *layer) {
    struct cpu_backend *cpu = cpu_backend_from(backend);
    int32_t n_heads = layer->n_heads;
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
        .list = layer->window > 0 ? &cpu->plan.windowed : &cpu->plan.visits,
        .layer = cpu_kv_layer(storage, layer->index),
        .out = out->data,
        .q = qkv->data,
        .n_heads = n_heads,
        .q_stride = qkv->cols,
        .window = layer->window,
        .factor = layer->scale * log2_e,
        .n_row_parts = 1,
    };
    double work = 0;
    for (int32_t i = 0; i < call.list->n_visits; ++i) {
        const struct kv_visit *visit = &call.list->visits[i];
        work += 2.0 * visit->row_count * visit->n_blocks * out->cols;
    }
    int n_threads = cpu_threads_for(cpu, work);
    // Heads go whole to threads where they come out even, so that each block is read by one thread;
    // otherwise rows are split as well, four items per thread for balance.
    if (n_kv_heads % n_threads != 0) {
        int32_t wanted = (4 * n_threads + n_kv_heads - 1) / n_kv_heads;
        call.n_row_parts = min_int(wanted, qkv->rows);
    }
    thread_pool_share(cpu->pool, n_kv_heads * call.n_row_parts, n_threads);
    thread_pool_run(cpu->pool, attention_part, &call, n_threads);
}
