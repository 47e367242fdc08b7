// Norms of query and key heads, rotary position embedding, and the storing of keys and values.
// Angles are taken in double precision, because a float angle of position 10 000 is already off by
// 5e-4, once for all positions that a storage can have.
#include <math.h>

#include "worker/backend/cpu/cpu_private.h"

enum { BY_HEAD_ROWS_MAX = 128 };

// Floats of one position: cosines[rotary_dim / 2], then sines.
static size_t position_floats(const struct kv_storage *storage) {
    return (size_t)storage->rotary_dim;
}

size_t cpu_rope_bytes(const struct kv_storage *storage) {
    return (size_t)storage->n_positions * position_floats(storage) * sizeof(float);
}

static void fill_part(void *argument, int index, int count) {
    const struct kv_storage *storage = argument;
    int32_t half = storage->rotary_dim / 2;
    double scale = (double)storage->rotary_scale;
    long begin, end;
    thread_pool_range(storage->n_positions, 1, index, count, &begin, &end);
    for (long position = begin; position < end; ++position) {
        float *cosines = (float *)storage->angles + (size_t)position * position_floats(storage);
        for (int32_t i = 0; i < half; ++i) {
            double sine, cosine;
            sincos((double)position * (double)storage->inv_freq[i], &sine, &cosine);
            cosines[i] = (float)(cosine * scale);
            cosines[half + i] = (float)(sine * scale);
        }
    }
}

void cpu_rope_fill(struct cpu_backend *cpu, struct kv_storage *storage) {
    double work = 25.0 * storage->n_positions * storage->rotary_dim;
    thread_pool_run(cpu->pool, fill_part, storage, cpu_threads_for(cpu, work));
}

struct rope_call {
    const struct cpu_backend *cpu;
    const struct kv_storage *storage;
    const struct attention_layer *attention;
    float *qkv;
    struct kv_layer layer;
    bool by_head; // threads share the KV heads out, not the rows
};

// KV heads [head_begin, head_end) of rows [row_begin, row_end).
struct rope_part {
    const struct rope_call *call;
    long row_begin, row_end;
    long head_begin, head_end;
};

// Asks for the lines that a row will be stored to: a key touches all of its block, and what the
// value stands in is about to be read as well.
static void fetch_row(const struct rope_part *part, long row) {
    const struct kv_layer *layer = &part->call->layer;
    int32_t block = part->call->cpu->plan.kv_block[row];
    for (long head = part->head_begin; head < part->head_end; ++head) {
        const char *keys = kv_layer_keys(layer, (int32_t)head, block);
        const char *values = kv_layer_values(layer, (int32_t)head, block);
        for (size_t at = 0; at < layer->key_bytes; at += LINE_BYTES) {
            __builtin_prefetch(keys + at, 0, 2);
        }
        for (size_t at = 0; at < layer->value_bytes; at += LINE_BYTES) {
            __builtin_prefetch(values + at, 0, 2);
        }
    }
}

static void store_row(const struct rope_part *part, long row, const float *keys,
                      const float *values) {
    const struct kv_storage *storage = part->call->storage;
    const struct attention_kernel *kernel = part->call->cpu->attention[storage->dtype];
    int32_t block = part->call->cpu->plan.kv_block[row], head_dim = storage->head_dim;
    int32_t token = part->call->cpu->plan.positions[row] % KV_BLOCK_TOKENS;
    for (long head = part->head_begin; head < part->head_end; ++head) {
        kernel->store(kv_layer_keys(&part->call->layer, (int32_t)head, block),
                      kv_layer_values(&part->call->layer, (int32_t)head, block),
                      keys + head * head_dim, values + head * head_dim, token, head_dim);
    }
}

// x[n_heads, head_dim], in place.
static void norm_heads(const struct rope_call *call, float *x, int32_t n_heads,
                       const struct tensor *weight) {
    if (weight->data != NULL) {
        call->cpu->kernels->rms_norm(x, x, weight->data, weight->dtype, call->attention->norm_eps,
                                     n_heads, call->storage->head_dim);
    }
}

static void rotate_row(const struct rope_part *part, float *q, float *keys, int32_t position) {
    const struct rope_call *call = part->call;
    const struct kv_storage *storage = call->storage;
    int32_t head_dim = storage->head_dim, half = storage->rotary_dim / 2;
    int32_t group = call->attention->n_heads / storage->n_kv_heads;
    int32_t n_kv_heads = (int32_t)(part->head_end - part->head_begin);
    ASSERT(position < storage->n_positions);
    const float *cosines = (float *)storage->angles + (size_t)position * position_floats(storage);
    q += part->head_begin * group * head_dim;
    keys += part->head_begin * head_dim;
    norm_heads(call, q, n_kv_heads * group, &call->attention->query_norm);
    norm_heads(call, keys, n_kv_heads, &call->attention->key_norm);
    call->cpu->kernels->rotate(q, n_kv_heads * group, head_dim, cosines, cosines + half, half);
    call->cpu->kernels->rotate(keys, n_kv_heads, head_dim, cosines, cosines + half, half);
}

static void rotate_and_store(const struct rope_part *part) {
    const struct rope_call *call = part->call;
    const struct kv_storage *storage = call->storage;
    size_t keys = (size_t)call->attention->n_heads * storage->head_dim;
    size_t values = keys + (size_t)storage->n_kv_heads * storage->head_dim;
    size_t stride = 2 * values - keys;
    for (long row = part->row_begin; row < part->row_end; ++row) {
        const int32_t *kv_block = call->cpu->plan.kv_block;
        if (row + 1 < part->row_end && kv_block[row + 1] != kv_block[row]) {
            fetch_row(part, row + 1);
        }
        float *q = call->qkv + (size_t)row * stride;
        rotate_row(part, q, q + keys, call->cpu->plan.positions[row]);
        store_row(part, row, q + keys, q + values);
    }
}

static void rope_part(void *argument, int index, int count) {
    const struct rope_call *call = argument;
    struct rope_part part = {
        .call = call, .row_end = call->cpu->plan.n_rows, .head_end = call->storage->n_kv_heads};
    if (call->by_head) {
        thread_pool_range(part.head_end, 1, index, count, &part.head_begin, &part.head_end);
    } else {
        thread_pool_range(part.row_end, 1, index, count, &part.row_begin, &part.row_end);
    }
    rotate_and_store(&part);
}

void cpu_rope_store(struct backend *backend, struct tensor *qkv, struct kv_storage *storage,
                    const struct attention_layer *layer) {
    struct cpu_backend *cpu = cpu_backend_from(backend);
    ASSERT(qkv->rows == cpu->plan.n_rows);
    ASSERT(qkv->cols == (layer->n_heads + 2 * storage->n_kv_heads) * storage->head_dim);
    ASSERT(storage->rotary_dim % 2 == 0 && storage->rotary_dim <= storage->head_dim);
    struct rope_call call = {.cpu = cpu,
                             .storage = storage,
                             .attention = layer,
                             .qkv = qkv->data,
                             .layer = cpu_kv_layer(storage, layer->index)};
    double work = 3.0 * qkv->rows * qkv->cols;
    int n_threads = cpu_threads_for(cpu, work);
    // As attention shares out the heads, so that it finds what its thread has stored. That of many
    // rows does not stay in a core's cache, and rows are read faster whole.
    call.by_head = storage->n_kv_heads % n_threads == 0 && qkv->rows <= BY_HEAD_ROWS_MAX;
    thread_pool_run(cpu->pool, rope_part, &call, n_threads);
}
