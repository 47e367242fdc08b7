#include "benchmarks/model_products.h"

#include <stdlib.h>

#include "common/deadline.h"
#include "common/rng.h"

// One row-major operand of each width that a layer has.
struct model_products {
    const struct model *model;
    float *memory; // of all operands
    struct tensor hidden, residual, qkv, heads, gated, logits;
};

double model_products_pass(struct model_products *at) {
    struct backend *backend = model_get_backend(at->model);
    const struct backend_ops *ops = backend->ops;
    const struct model_weights *weights = model_get_weights(at->model);
    int64_t begin = clock_monotonic_ns();
    for (int32_t i = 0; i < model_get_config(at->model)->n_layers; i++) {
        const struct layer_weights *layer = &weights->layers[i];
        ops->linear(backend, &at->qkv, &at->hidden, &layer->qkv);
        ops->linear_add(backend, &at->residual, &at->heads, &layer->o);
        ops->linear_gated(backend, &at->gated, &at->hidden, &layer->gate_up);
        ops->linear_add(backend, &at->residual, &at->gated, &layer->down);
    }
    ops->linear(backend, &at->logits, &at->hidden, &weights->lm_head);
    return (double)(clock_monotonic_ns() - begin) * 1e-9;
}

static struct tensor place(float **memory, int32_t rows, int32_t cols) {
    struct tensor tensor = {.data = *memory, .dtype = DTYPE_F32, .rows = rows, .cols = cols};
    *memory += (size_t)rows * (size_t)cols;
    return tensor;
}

enum status model_products_create(const struct model *model, int32_t n_rows,
                                  struct model_products **out, struct error *err) {
    struct backend *backend = model_get_backend(model);
    const struct model_config *config = model_get_config(model);
    int32_t heads = config->n_heads * config->head_dim;
    int32_t kv_heads = config->n_kv_heads * config->head_dim;
    size_t cols = 2 * (size_t)config->hidden_dim + 2 * (size_t)heads + 2 * (size_t)kv_heads +
                  (size_t)config->ffn_dim + (size_t)config->vocab_size;
    size_t n = cols * (size_t)n_rows;
    struct model_products *products = calloc(1, sizeof(*products));
    float *memory = backend->ops->alloc(backend, n * sizeof(float)), *next = memory;
    if (products == NULL || memory == NULL) {
        free(products);
        backend->ops->release(backend, memory);
        return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for %d rows", n_rows);
    }
    for (size_t i = 0; i < n; i++) {
        memory[i] = (float)rng_uniform(1, 0, (uint32_t)i, 0) - 0.5F;
    }
    *products = (struct model_products){
        .model = model,
        .memory = memory,
        .hidden = place(&next, n_rows, config->hidden_dim),
        .residual = place(&next, n_rows, config->hidden_dim),
        .qkv = place(&next, n_rows, heads + 2 * kv_heads),
        .heads = place(&next, n_rows, heads),
        .gated = place(&next, n_rows, config->ffn_dim),
        .logits = place(&next, n_rows, config->vocab_size),
    };
    *out = products;
    return STATUS_OK;
}

void model_products_destroy(struct model_products *products) {
    if (products == NULL) {
        return;
    }
    struct backend *backend = model_get_backend(products->model);
    backend->ops->release(backend, products->memory);
    free(products);
}
