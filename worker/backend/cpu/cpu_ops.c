// The tensor operations: shapes checked, work cut into static parts, parts handed to the kernels.
// Where a part ends has no effect on any value.
#include <string.h>

#include "worker/backend/cpu/cpu_private.h"

struct rows_call {
    const struct cpu_backend *cpu;
    const struct tensor *out;
    const struct tensor *a;
    const struct tensor *b;
    const int32_t *rows; // row numbers of gather and scatter, token ids of embed
    const float *scales; // of rows
    int32_t n;
    float eps;
};

static void run_rows(struct cpu_backend *cpu, thread_pool_fn run, const struct rows_call *call,
                     double work_per_row) {
    thread_pool_run(cpu->pool, run, (void *)(uintptr_t)call,
                    cpu_threads_for(cpu, work_per_row * call->n));
}

static float *row_of(const struct tensor *tensor, long row) {
    return (float *)tensor->data + (size_t)row * tensor->cols;
}

static void embed_part(void *argument, int index, int count) {
    const struct rows_call *call = argument;
    const struct tensor *table = call->a;
    size_t row_bytes = (size_t)table->cols * dtype_bytes(table->dtype);
    long begin, end;
    thread_pool_range(call->n, 1, index, count, &begin, &end);
    for (long row = begin; row < end; ++row) {
        const char *from = (const char *)table->data + (size_t)call->rows[row] * row_bytes;
        call->cpu->kernels->widen(row_of(call->out, row), from, table->dtype, (size_t)table->cols);
    }
}

void cpu_embed(struct backend *backend, struct tensor *out, const struct tensor *table) {
    struct cpu_backend *cpu = cpu_backend_from(backend);
    ASSERT(out->rows == cpu->plan.n_rows && out->cols == table->cols);
    struct rows_call call = {
        .cpu = cpu, .out = out, .a = table, .rows = cpu->plan.token_ids, .n = out->rows};
    run_rows(cpu, embed_part, &call, out->cols);
}

static void rms_norm_part(void *argument, int index, int count) {
    const struct rows_call *call = argument;
    long begin, end;
    thread_pool_range(call->n, 1, index, count, &begin, &end);
    call->cpu->kernels->rms_norm(row_of(call->out, begin), row_of(call->a, begin), call->b->data,
                                 call->b->dtype, call->eps, (int32_t)(end - begin), call->a->cols);
}

void cpu_rms_norm(struct backend *backend, struct tensor *out, const struct tensor *x,
                  const struct tensor *weight, float eps) {
    struct cpu_backend *cpu = cpu_backend_from(backend);
    ASSERT(out->rows == x->rows && out->cols == x->cols && weight->cols == x->cols);
    struct rows_call call = {.cpu = cpu, .out = out, .a = x, .b = weight, .n = x->rows, .eps = eps};
    run_rows(cpu, rms_norm_part, &call, x->cols);
}

static void relu_part(void *argument, int index, int count) {
    const struct rows_call *call = argument;
    long begin, end;
    thread_pool_range(call->n, 1, index, count, &begin, &end);
    float *x = row_of(call->out, begin);
    size_t n = (size_t)(end - begin) * (size_t)call->out->cols;
    for (size_t i = 0; i < n; ++i) {
        x[i] = x[i] < 0 ? 0 : x[i];
    }
}

void cpu_relu(struct backend *backend, struct tensor *x) {
    struct cpu_backend *cpu = cpu_backend_from(backend);
    struct rows_call call = {.cpu = cpu, .out = x, .n = x->rows};
    run_rows(cpu, relu_part, &call, x->cols);
}

static void relu_slopes_part(void *argument, int index, int count) {
    const struct rows_call *call = argument;
    long begin, end;
    thread_pool_range(call->n, 1, index, count, &begin, &end);
    float *slopes = row_of(call->out, begin);
    const float *values = row_of(call->a, begin);
    size_t n = (size_t)(end - begin) * (size_t)call->out->cols;
    for (size_t i = 0; i < n; ++i) {
        slopes[i] = values[i] > 0 ? slopes[i] : 0;
    }
}

void cpu_relu_slopes(struct backend *backend, struct tensor *slopes, const struct tensor *values) {
    struct cpu_backend *cpu = cpu_backend_from(backend);
    ASSERT(slopes->rows == values->rows && slopes->cols == values->cols);
    struct rows_call call = {.cpu = cpu, .out = slopes, .a = values, .n = slopes->rows};
    run_rows(cpu, relu_slopes_part, &call, slopes->cols);
}

static void add_scaled_part(void *argument, int index, int count) {
    const struct rows_call *call = argument;
    long begin, end;
    thread_pool_range(call->n, 1, index, count, &begin, &end);
    for (long row = begin; row < end; ++row) {
        float scale = call->scales[row];
        float *x = row_of(call->out, row);
        const float *y = row_of(call->a, row);
        for (int32_t i = 0; scale != 0 && i < call->out->cols; ++i) {
            x[i] += scale * y[i];
        }
    }
}

void cpu_add_scaled(struct backend *backend, struct tensor *x, const struct tensor *y,
                    const float *scales) {
    struct cpu_backend *cpu = cpu_backend_from(backend);
    ASSERT(x->rows == y->rows && x->cols == y->cols);
    struct rows_call call = {.cpu = cpu, .out = x, .a = y, .scales = scales, .n = x->rows};
    run_rows(cpu, add_scaled_part, &call, x->cols);
}

static void gather_part(void *argument, int index, int count) {
    const struct rows_call *call = argument;
    long begin, end;
    thread_pool_range(call->n, 1, index, count, &begin, &end);
    for (long i = begin; i < end; ++i) {
        memcpy(row_of(call->out, i), row_of(call->a, call->rows[i]),
               (size_t)call->a->cols * sizeof(float));
    }
}

void cpu_gather_rows(struct backend *backend, struct tensor *out, const struct tensor *x,
                     const int32_t *rows, int32_t n) {
    struct cpu_backend *cpu = cpu_backend_from(backend);
    ASSERT(out->rows >= n && out->cols == x->cols);
    struct rows_call call = {.cpu = cpu, .out = out, .a = x, .rows = rows, .n = n};
    run_rows(cpu, gather_part, &call, x->cols);
}

static void scatter_part(void *argument, int index, int count) {
    const struct rows_call *call = argument;
    long begin, end;
    thread_pool_range(call->n, 1, index, count, &begin, &end);
    for (long i = begin; i < end; ++i) {
        memcpy(row_of(call->out, call->rows[i]), row_of(call->a, i),
               (size_t)call->a->cols * sizeof(float));
    }
}

void cpu_scatter_rows(struct backend *backend, struct tensor *out, const struct tensor *x,
                      const int32_t *rows, int32_t n) {
    struct cpu_backend *cpu = cpu_backend_from(backend);
    ASSERT(x->rows >= n && out->cols == x->cols);
    struct rows_call call = {.cpu = cpu, .out = out, .a = x, .rows = rows, .n = n};
    run_rows(cpu, scatter_part, &call, x->cols);
}
