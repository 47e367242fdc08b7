// Products with packed weights: parts stacked row by row, biases behind them.
#include <stdlib.h>
#include <string.h>

#include "worker/backend/cpu/cpu_private.h"

struct linear_call {
    const struct cpu_backend *cpu;
    struct linear_args args;
    int32_t n_rows;
    int n_out_parts; // threads = n_out_parts * n_row_parts
    int n_row_parts;
};

static void linear_part(void *argument, int index, int count) {
    const struct linear_call *call = argument;
    (void)count;
    long out_begin, out_end, row_begin, row_end;
    thread_pool_range(call->args.out_dim, LINEAR_OUTPUTS, index % call->n_out_parts,
                      call->n_out_parts, &out_begin, &out_end);
    thread_pool_range(call->n_rows, LINEAR_TILE_ROWS, index / call->n_out_parts, call->n_row_parts,
                      &row_begin, &row_end);
    if (out_begin < out_end && row_begin < row_end) {
        call->cpu->kernels->linear(&call->args, (int32_t)row_begin, (int32_t)row_end,
                                   (int32_t)out_begin, (int32_t)out_end,
                                   call->cpu->scratch + (size_t)index * KERNEL_SCRATCH_BYTES);
    }
}

static enum dtype common_dtype(const struct weight_source *source) {
    for (int32_t i = 1; i < source->n_parts; ++i) {
        if (source->parts[i].dtype != source->parts[0].dtype) {
            return DTYPE_F32;
        }
    }
    return source->parts[0].dtype;
}

// Rows whose products are kept on their way into a sum or through a gate.
enum { PRODUCT_ROWS = 64 };

static size_t aligned(size_t size) {
    return (size + 63) / 64 * 64;
}

static float *bias_of(const struct weight *weight) {
    size_t matrix = (size_t)weight->rows * (size_t)weight->cols * dtype_bytes(weight->dtype);
    return weight->has_bias ? (float *)((char *)weight->data + aligned(matrix)) : NULL;
}

static bool reserve_products(struct cpu_backend *cpu, size_t n) {
    if (n <= cpu->products_capacity) {
        return true;
    }
    float *products = aligned_alloc(64, aligned(n * sizeof(float)));
    if (products == NULL) {
        return false;
    }
    free(cpu->products);
    cpu->products = products;
    cpu->products_capacity = n;
    return true;
}

enum status cpu_weight_pack(struct backend *backend, const struct weight_source *source,
                            enum precision precision, struct weight *out) {
    struct cpu_backend *cpu = cpu_backend_from(backend);
    struct weight weight = {.cols = source->parts[0].cols,
                            .dtype = common_dtype(source),
                            .precision = precision,
                            .gated = source->gated};
    for (int32_t i = 0; i < source->n_parts; ++i) {
        ASSERT(source->parts[i].cols == weight.cols);
        weight.rows += source->parts[i].rows;
        weight.has_bias = weight.has_bias || source->biases[i].data != NULL;
    }
    size_t row_bytes = (size_t)weight.cols * dtype_bytes(weight.dtype);
    weight.bytes = aligned((size_t)weight.rows * row_bytes) +
                   (weight.has_bias ? (size_t)weight.rows * sizeof(float) : 0);
    if (!reserve_products(cpu, (size_t)PRODUCT_ROWS * (size_t)weight.rows)) {
        return STATUS_NO_MEMORY;
    }
    weight.data = cpu_alloc(backend, weight.bytes);
    if (weight.data == NULL) {
        return STATUS_NO_MEMORY;
    }
    char *to = weight.data;
    float *bias = bias_of(&weight);
    for (int32_t i = 0; i < source->n_parts; ++i) {
        const struct tensor *part = &source->parts[i];
        size_t n = (size_t)part->rows * (size_t)part->cols;
        if (part->dtype == weight.dtype) {
            memcpy(to, part->data, n * dtype_bytes(part->dtype));
        } else {
            cpu->kernels->widen((float *)to, part->data, part->dtype, n);
        }
        to += n * dtype_bytes(weight.dtype);
        if (source->biases[i].data != NULL) {
            memcpy(bias, source->biases[i].data, (size_t)part->rows * sizeof(float));
        }
        bias += weight.has_bias ? part->rows : 0;
    }
    *out = weight;
    return STATUS_OK;
}

void cpu_weight_release(struct backend *backend, struct weight *weight) {
    cpu_release(backend, weight->data);
    *weight = (struct weight){0};
}

static void multiply(struct cpu_backend *cpu, float *out, const struct tensor *x,
                     const struct weight *weight) {
    int32_t out_dim = weight->rows;
    ASSERT(x->cols == weight->cols);
    struct linear_call call = {
        .cpu = cpu,
        .args = {.out = out,
                 .x = x->data,
                 .weight = weight->data,
                 .dtype = weight->dtype,
                 .bias = bias_of(weight),
                 .bias_dtype = DTYPE_F32,
                 .in_dim = x->cols,
                 .out_dim = out_dim,
                 .out_stride = out_dim},
        .n_rows = x->rows,
    };
    // Outputs are split first, so that one thread reads each weight; rows when they are few.
    int n_threads = cpu_threads_for(cpu, (double)x->rows * x->cols * out_dim / 16);
    int n_tiles = (out_dim + LINEAR_OUTPUTS - 1) / LINEAR_OUTPUTS;
    call.n_out_parts = n_threads < n_tiles ? n_threads : n_tiles;
    call.n_row_parts = n_threads / call.n_out_parts;
    thread_pool_run(cpu->pool, linear_part, &call, call.n_out_parts * call.n_row_parts);
}

void cpu_linear(struct backend *backend, struct tensor *out, const struct tensor *x,
                const struct weight *weight) {
    ASSERT(out->rows == x->rows && out->cols == weight->rows && !weight->gated);
    multiply(cpu_backend_from(backend), out->data, x, weight);
}

static struct tensor rows_from(const struct tensor *tensor, int32_t begin, int32_t n) {
    struct tensor part = *tensor;
    part.data = (float *)tensor->data + (size_t)begin * (size_t)tensor->cols;
    part.rows = n;
    return part;
}

void cpu_linear_add(struct backend *backend, struct tensor *out, const struct tensor *x,
                    const struct weight *weight) {
    struct cpu_backend *cpu = cpu_backend_from(backend);
    ASSERT(out->rows == x->rows && out->cols == weight->rows && !weight->gated);
    for (int32_t row = 0; row < x->rows; row += PRODUCT_ROWS) {
        int32_t n = x->rows - row < PRODUCT_ROWS ? x->rows - row : PRODUCT_ROWS;
        struct tensor from = rows_from(x, row, n), to = rows_from(out, row, n);
        multiply(cpu, cpu->products, &from, weight);
        cpu->kernels->add(to.data, cpu->products, (size_t)n * (size_t)out->cols);
    }
}

void cpu_linear_gated(struct backend *backend, struct tensor *out, const struct tensor *x,
                      const struct weight *weight) {
    struct cpu_backend *cpu = cpu_backend_from(backend);
    ASSERT(out->rows == x->rows && 2 * out->cols == weight->rows && weight->gated);
    for (int32_t row = 0; row < x->rows; row += PRODUCT_ROWS) {
        int32_t n = x->rows - row < PRODUCT_ROWS ? x->rows - row : PRODUCT_ROWS;
        struct tensor from = rows_from(x, row, n), to = rows_from(out, row, n);
        multiply(cpu, cpu->products, &from, weight);
        for (int32_t i = 0; i < n; ++i) {
            const float *gate = cpu->products + (size_t)i * (size_t)weight->rows;
            cpu->kernels->silu_mul((float *)to.data + (size_t)i * (size_t)out->cols, gate,
                                   gate + out->cols, (size_t)out->cols);
        }
    }
}
