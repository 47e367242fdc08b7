// Rotary position embedding. Angles are taken in double precision, because a float angle of
// position 10 000 is already off by 5e-4; they are computed once per batch and used by all layers.
#include <math.h>
#include <stdlib.h>

#include "worker/backend/cpu/cpu_private.h"

enum status cpu_rope_reserve(struct cpu_backend *cpu, int32_t n_rows) {
    struct rope_table *table = &cpu->rope;
    size_t needed = (size_t)n_rows * (size_t)(cpu->head_dim_max / 2);
    if (needed <= table->capacity) {
        return STATUS_OK;
    }
    float *cosines = malloc(needed * sizeof(float));
    float *sines = malloc(needed * sizeof(float));
    if (cosines == NULL || sines == NULL) {
        free(cosines);
        free(sines);
        return STATUS_NO_MEMORY;
    }
    free(table->cosines);
    free(table->sines);
    table->cosines = cosines;
    table->sines = sines;
    table->capacity = needed;
    return STATUS_OK;
}

static void fill_table(void *argument, int index, int count) {
    struct cpu_backend *cpu = argument;
    const struct rope_table *table = &cpu->rope;
    long begin, end;
    thread_pool_range(cpu->plan.n_rows, 1, index, count, &begin, &end);
    for (long row = begin; row < end; ++row) {
        for (int32_t i = 0; i < table->half; ++i) {
            double angle = (double)cpu->plan.positions[row] * (double)table->inv_freq[i];
            double sine, cosine;
            sincos(angle, &sine, &cosine);
            table->cosines[row * table->half + i] = (float)cosine;
            table->sines[row * table->half + i] = (float)sine;
        }
    }
}

static void prepare_table(struct cpu_backend *cpu, const float *inv_freq, int32_t half) {
    struct rope_table *table = &cpu->rope;
    if (table->valid && table->inv_freq == inv_freq && table->half == half) {
        return;
    }
    table->inv_freq = inv_freq;
    table->half = half;
    double work = 50.0 * cpu->plan.n_rows * half;
    thread_pool_run(cpu->pool, fill_table, cpu, cpu_threads_for(cpu, work));
    table->valid = true;
}

struct rotation {
    const struct cpu_backend *cpu;
    const struct kv_storage *storage;
    float *qkv;
    int32_t layer;
    int32_t n_heads;
    float factor;
};

static void rotate_heads(float *x, int32_t n_heads, const float *cosines, const float *sines,
                         int32_t half, float factor) {
    for (int32_t head = 0; head < n_heads; ++head, x += 2 * half) {
        for (int32_t i = 0; i < half; ++i) {
            float cosine = cosines[i] * factor, sine = sines[i] * factor;
            float first = x[i], second = x[i + half];
            x[i] = first * cosine - second * sine;
            x[i + half] = second * cosine + first * sine;
        }
    }
}

static void rotate_and_store(void *argument, int index, int count) {
    const struct rotation *r = argument;
    const struct rope_table *table = &r->cpu->rope;
    int32_t n_kv_heads = r->storage->n_kv_heads, head_dim = r->storage->head_dim;
    int32_t n_heads = r->n_heads + n_kv_heads; // those that are rotated
    size_t stride = (size_t)(n_heads + n_kv_heads) * head_dim;
    long begin, end;
    thread_pool_range(r->cpu->plan.n_rows, 1, index, count, &begin, &end);
    for (long row = begin; row < end; ++row) {
        float *q = r->qkv + (size_t)row * stride;
        rotate_heads(q, n_heads, table->cosines + row * table->half,
                     table->sines + row * table->half, table->half, r->factor);
        cpu_kv_store_row(&r->cpu->plan, r->storage, r->layer, (int32_t)row,
                         q + (size_t)r->n_heads * head_dim, q + (size_t)n_heads * head_dim);
    }
}

void cpu_rope_store(struct backend *backend, struct tensor *qkv, struct kv_storage *storage,
                    int32_t layer, int32_t n_heads, const float *inv_freq, float attention_factor) {
    struct cpu_backend *cpu = cpu_backend_from(backend);
    int32_t head_dim = storage->head_dim;
    ASSERT(qkv->rows == cpu->plan.n_rows);
    ASSERT(qkv->cols == (n_heads + 2 * storage->n_kv_heads) * head_dim);
    ASSERT(head_dim % 2 == 0 && head_dim <= cpu->head_dim_max);
    prepare_table(cpu, inv_freq, head_dim / 2);
    struct rotation rotation = {
        .cpu = cpu,
        .storage = storage,
        .qkv = qkv->data,
        .layer = layer,
        .n_heads = n_heads,
        .factor = attention_factor,
    };
    double work = 3.0 * qkv->rows * qkv->cols;
    thread_pool_run(cpu->pool, rotate_and_store, &rotation, cpu_threads_for(cpu, work));
}
