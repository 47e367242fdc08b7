// Rotary position embedding and the storing of keys and values. Angles are taken in double
// precision, because a float angle of position 10 000 is already off by 5e-4, once for all
// positions that a storage can have.
#include <math.h>

#include "worker/backend/cpu/cpu_private.h"

// Floats of one position: cosines[head_dim / 2], then sines.
static size_t position_floats(const struct kv_storage *storage) {
    return (size_t)storage->head_dim;
}

size_t cpu_rope_bytes(const struct kv_storage *storage) {
    return (size_t)storage->n_positions * position_floats(storage) * sizeof(float);
}

static void fill_part(void *argument, int index, int count) {
    const struct kv_storage *storage = argument;
    int32_t half = storage->head_dim / 2;
    long begin, end;
    thread_pool_range(storage->n_positions, 1, index, count, &begin, &end);
    for (long position = begin; position < end; ++position) {
        float *cosines = (float *)storage->angles + (size_t)position * position_floats(storage);
        for (int32_t i = 0; i < half; ++i) {
            double sine, cosine;
            sincos((double)position * (double)storage->inv_freq[i], &sine, &cosine);
            cosines[i] = (float)cosine;
            cosines[half + i] = (float)sine;
        }
    }
}

void cpu_rope_fill(struct cpu_backend *cpu, struct kv_storage *storage) {
    double work = 25.0 * storage->n_positions * storage->head_dim;
    thread_pool_run(cpu->pool, fill_part, storage, cpu_threads_for(cpu, work));
}

struct rope_call {
    const struct cpu_backend *cpu;
    const struct kv_storage *storage;
    float *qkv;
    int32_t layer;
    int32_t n_heads;
};

static void store_row(const struct rope_call *call, long row, const float *keys,
                      const float *values) {
    const struct kv_storage *storage = call->storage;
    const struct attention_kernel *kernel = call->cpu->attention[storage->dtype];
    int32_t block = call->cpu->plan.kv_block[row], head_dim = storage->head_dim;
    int32_t token = call->cpu->plan.positions[row] % KV_BLOCK_TOKENS;
    for (int32_t head = 0; head < storage->n_kv_heads; ++head) {
        kernel->store(cpu_kv_keys(storage, call->layer, head, block),
                      cpu_kv_values(storage, call->layer, head, block),
                      keys + (size_t)head * head_dim, values + (size_t)head * head_dim, token,
                      head_dim);
    }
}

static void rotate_and_store(void *argument, int index, int count) {
    const struct rope_call *call = argument;
    const struct kv_storage *storage = call->storage;
    int32_t head_dim = storage->head_dim;
    int32_t n_rotated = call->n_heads + storage->n_kv_heads;
    size_t stride = (size_t)(n_rotated + storage->n_kv_heads) * head_dim;
    long begin, end;
    thread_pool_range(call->cpu->plan.n_rows, 1, index, count, &begin, &end);
    for (long row = begin; row < end; ++row) {
        float *q = call->qkv + (size_t)row * stride;
        int32_t position = call->cpu->plan.positions[row];
        ASSERT(position < storage->n_positions);
        const float *angles =
            (float *)storage->angles + (size_t)position * position_floats(storage);
        call->cpu->kernels->rotate(q, n_rotated, angles, angles + head_dim / 2, head_dim / 2);
        store_row(call, row, q + (size_t)call->n_heads * head_dim,
                  q + (size_t)n_rotated * head_dim);
    }
}

void cpu_rope_store(struct backend *backend, struct tensor *qkv, struct kv_storage *storage,
                    int32_t layer, int32_t n_heads) {
    struct cpu_backend *cpu = cpu_backend_from(backend);
    ASSERT(qkv->rows == cpu->plan.n_rows);
    ASSERT(qkv->cols == (n_heads + 2 * storage->n_kv_heads) * storage->head_dim);
    ASSERT(storage->head_dim % 2 == 0);
    struct rope_call call = {
        .cpu = cpu, .storage = storage, .qkv = qkv->data, .layer = layer, .n_heads = n_heads};
    double work = 3.0 * qkv->rows * qkv->cols;
    thread_pool_run(cpu->pool, rotate_and_store, &call, cpu_threads_for(cpu, work));
}
