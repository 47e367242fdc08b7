// The weights of one layer, by the names and biases of its architecture.
#include <stdio.h>
#include <stdlib.h>

#include "worker/model/model_private.h"

// One product of a layer: its matrices, one below the other, and their biases.
struct product {
    int32_t rows[WEIGHT_PARTS_MAX];
    int32_t n_parts;
    int32_t cols;
    bool gated;
    struct weight *out;
};

// How the matrices of a product are loaded.
struct part_form {
    bool biased;
    bool q4;
};

// One matrix of a product, and its bias where it has one.
static enum status load_part(struct model *model, const char *tensor_name, int32_t rows,
                             int32_t cols, const struct part_form *form, struct tensor *part,
                             struct tensor *bias, struct error *err) {
    char name[96];
    snprintf(name, sizeof name, "%s.weight", tensor_name);
    enum status status = form->q4 ? weight_load_q4(model, name, rows, cols, part, err)
                                  : weight_load_matrix(model, name, rows, cols, part, err);
    if (status == STATUS_OK && form->biased) {
        float *values = NULL;
        snprintf(name, sizeof name, "%s.bias", tensor_name);
        status = weight_load_read(model, name, rows, &values, err);
        *bias = (struct tensor){.data = values, .rows = 1, .cols = rows};
    }
    return status;
}

// A tensor of all parts is a product of one part; a gated one, whose parts are packed alternately,
// is cut in two.
static void cut_gated(struct weight_source *source) {
    struct tensor *gate = &source->parts[0], *up = &source->parts[1];
    gate->rows /= 2;
    *up = *gate;
    up->data = (char *)gate->data + (size_t)gate->rows * dtype_row_bytes(gate->dtype, gate->cols);
    source->n_parts = 2;
}

// Whether all matrices of a product have four bits, and are to be multiplied so.
static bool takes_q4(const struct model *model, int32_t layer, const char *const *names,
                     int32_t n_parts) {
    bool q4 = model->precision == PRECISION_Q4;
    for (int32_t i = 0; i < n_parts && q4; i++) {
        char name[96];
        snprintf(name, sizeof name, "model.layers.%d.%s.weight", layer, names[i]);
        q4 = weight_files_has_q4(model->files, name);
    }
    return q4;
}

static enum status load_product(struct model *model, int32_t layer, enum layer_product number,
                                const struct product *product, struct error *err) {
    const struct product_facts *facts =
        &architecture_get(model->config.architecture)->products[number];
    bool fused = facts->names[1] == NULL;
    struct weight_source source = {.n_parts = fused ? 1 : product->n_parts,
                                   .gated = product->gated};
    const struct part_form form = {
        .biased = model->config.biased[number],
        .q4 = takes_q4(model, layer, facts->names, source.n_parts),
    };
    enum status status = STATUS_OK;
    char name[64];
    for (int32_t i = 0; i < source.n_parts && status == STATUS_OK; i++) {
        int32_t rows = product->rows[i];
        for (int32_t k = 1; fused && k < product->n_parts; k++) {
            rows += product->rows[k];
        }
        snprintf(name, sizeof name, "model.layers.%d.%s", layer, facts->names[i]);
        status = load_part(model, name, rows, product->cols, &form, &source.parts[i],
                           &source.biases[i], err);
    }
    if (status == STATUS_OK && fused && product->gated) {
        ASSERT(!form.biased); // no architecture has biases here
        cut_gated(&source);
    }
    if (status == STATUS_OK) {
        status = weight_load_pack(model, &source, model->precision, name, product->out, err);
    }
    for (int32_t i = 0; i < source.n_parts; i++) {
        free(source.biases[i].data);
    }
    return status;
}

static enum status load_layer_norms(struct model *model, int32_t index, struct error *err) {
    const struct architecture *architecture = architecture_get(model->config.architecture);
    struct layer_weights *layer = &model->weights.layers[index];
    int32_t hidden = model->config.hidden_dim, head_dim = model->config.head_dim;
    const struct {
        const char *name;
        int32_t n;
        struct tensor *out;
    } norms[] = {
        {architecture->attention_norm, hidden, &layer->attention_norm},
        {architecture->ffn_norm, hidden, &layer->ffn_norm},
        {architecture->query_norm, head_dim, &layer->query_norm},
        {architecture->key_norm, head_dim, &layer->key_norm},
    };
    for (size_t i = 0; i < sizeof norms / sizeof norms[0]; i++) {
        char name[96];
        if (norms[i].name == NULL) {
            continue;
        }
        snprintf(name, sizeof name, "model.layers.%d.%s.weight", index, norms[i].name);
        enum status status = weight_load_vector(model, name, norms[i].n, norms[i].out, err);
        if (status != STATUS_OK) {
            return status;
        }
    }
    return STATUS_OK;
}

enum status layer_load(struct model *model, int32_t index, struct error *err) {
    const struct model_config *config = &model->config;
    struct layer_weights *layer = &model->weights.layers[index];
    int32_t hidden = config->hidden_dim, ffn = config->ffn_dim;
    int32_t q_dim = config->n_heads * config->head_dim;
    int32_t kv_dim = config->n_kv_heads * config->head_dim;
    const struct product products[LAYER_PRODUCTS] = {
        [LAYER_QKV] = {{q_dim, kv_dim, kv_dim}, .n_parts = 3, .cols = hidden, .out = &layer->qkv},
        [LAYER_O] = {{hidden}, .n_parts = 1, .cols = q_dim, .out = &layer->o},
        [LAYER_GATE_UP] =
            {{ffn, ffn}, .n_parts = 2, .cols = hidden, .gated = true, .out = &layer->gate_up},
        [LAYER_DOWN] = {{hidden}, .n_parts = 1, .cols = ffn, .out = &layer->down},
    };
    enum status status = load_layer_norms(model, index, err);
    for (int i = 0; i < LAYER_PRODUCTS && status == STATUS_OK; i++) {
        status = load_product(model, index, (enum layer_product)i, &products[i], err);
    }
    weight_files_drop(model->files);
    return status;
}
