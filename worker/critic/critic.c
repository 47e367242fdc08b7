#include "worker/critic/critic.h"

#include <stdlib.h>
#include <string.h>

struct critic {
    struct backend *backend;
    struct critic_terms terms;
    float sigma_min[CRITIC_CHANNELS_MAX];
    char hash[SHA256_HEX_BYTES];
    int32_t dims[CRITIC_LAYERS + 1];
    struct weight layers[CRITIC_LAYERS];
    struct tensor values[CRITIC_LAYERS + 1]; // [rows_max, dims[i]], device
    // Of a value, for the way back:
    struct weight turned[CRITIC_LAYERS];     // the layers transposed, without biases
    struct tensor slopes[CRITIC_LAYERS + 1]; // [rows_max, dims[i]], device; the last all 1
    int32_t rows_max;
};

// weights[rows, cols], biases[rows] or NULL.
static enum status pack(struct critic *critic, const float *weights, const float *biases,
                        int32_t rows, int32_t cols, struct weight *out, struct error *err) {
    const struct weight_source source = {
        .parts =
            {{.data = (void *)(uintptr_t)weights, .dtype = DTYPE_F32, .rows = rows, .cols = cols}},
        .biases =
            {{.data = (void *)(uintptr_t)biases, .dtype = DTYPE_F32, .rows = 1, .cols = rows}},
        .n_parts = 1};
    enum status status =
        critic->backend->ops->weight_pack(critic->backend, &source, PRECISION_STORED, out);
    return status == STATUS_OK ? status
                               : error_set(err, status, "critic",
                                           "no backend memory for a layer [%d, %d]", rows, cols);
}

static enum status pack_turned(struct critic *critic, const float *weights, int32_t rows,
                               int32_t cols, struct weight *out, struct error *err) {
    float *turned = malloc((size_t)rows * (size_t)cols * sizeof *turned);
    if (turned == NULL) {
        return error_set(err, STATUS_NO_MEMORY, "critic", "no memory for a layer [%d, %d]", rows,
                         cols);
    }
    critic_transpose(weights, rows, cols, turned);
    enum status status = pack(critic, turned, NULL, cols, rows, out, err);
    free(turned);
    return status;
}

static enum status pack_net(struct critic *critic, const struct critic_net *net,
                            struct error *err) {
    enum status status = STATUS_OK;
    for (int i = 0; status == STATUS_OK && i < CRITIC_LAYERS; i++) {
        int32_t rows = net->dims[i + 1], cols = net->dims[i];
        status = pack(critic, net->weights[i], net->biases[i], rows, cols, &critic->layers[i], err);
        if (status == STATUS_OK && critic_terms_are_value(&critic->terms)) {
            status = pack_turned(critic, net->weights[i], rows, cols, &critic->turned[i], err);
        }
    }
    return status;
}

static enum status take_rows(struct critic *critic, struct tensor rows[CRITIC_LAYERS + 1],
                             struct error *err) {
    for (int i = 0; i <= CRITIC_LAYERS; i++) {
        size_t n = (size_t)critic->rows_max * (size_t)critic->dims[i];
        rows[i] = (struct tensor){
            .dtype = DTYPE_F32,
            .rows = critic->rows_max,
            .cols = critic->dims[i],
            .data = critic->backend->ops->alloc(critic->backend, n * sizeof(float))};
        if (rows[i].data == NULL) {
            return error_set(err, STATUS_NO_MEMORY, "critic", "no backend memory for %zu floats",
                             n);
        }
    }
    return STATUS_OK;
}

static enum status take_slopes(struct critic *critic, struct error *err) {
    enum status status = take_rows(critic, critic->slopes, err);
    for (int32_t i = 0; status == STATUS_OK && i < critic->rows_max; i++) {
        static const float one = 1;
        float *last = critic->slopes[CRITIC_LAYERS].data;
        critic->backend->ops->upload(critic->backend, last + i, &one, sizeof one);
    }
    return status;
}

enum status critic_open(const char *path, struct backend *backend, int32_t rows_max,
                        struct critic **out, struct error *err) {
    ASSERT(rows_max > 0);
    struct critic_file file;
    struct critic *critic = NULL;
    enum status status = critic_file_open(path, &file, err);
    if (status == STATUS_OK) {
        critic = calloc(1, sizeof *critic);
        status = critic != NULL ? STATUS_OK
                                : error_set(err, STATUS_NO_MEMORY, "critic", "no memory for it");
    }
    if (status == STATUS_OK) {
        critic->backend = backend;
        critic->rows_max = rows_max;
        critic->terms = file.terms;
        memcpy(critic->sigma_min, file.net.sigma_min, sizeof critic->sigma_min);
        memcpy(critic->hash, file.hash, sizeof critic->hash);
        memcpy(critic->dims, file.net.dims, sizeof critic->dims);
        status = pack_net(critic, &file.net, err);
    }
    if (status == STATUS_OK) {
        status = take_rows(critic, critic->values, err);
    }
    if (status == STATUS_OK && critic_terms_are_value(&critic->terms)) {
        status = take_slopes(critic, err);
    }
    critic_file_close(&file);
    if (status != STATUS_OK) {
        critic_close(critic);
        return status;
    }
    *out = critic;
    return STATUS_OK;
}

void critic_close(struct critic *critic) {
    if (critic == NULL) {
        return;
    }
    const struct backend_ops *ops = critic->backend->ops;
    for (int i = 0; i < CRITIC_LAYERS; i++) {
        ops->weight_release(critic->backend, &critic->layers[i]);
        ops->weight_release(critic->backend, &critic->turned[i]);
    }
    for (int i = 0; i <= CRITIC_LAYERS; i++) {
        void *const data[] = {critic->values[i].data, critic->slopes[i].data};
        for (int j = 0; j < 2; j++) {
            if (data[j] != NULL) {
                ops->release(critic->backend, data[j]);
            }
        }
    }
    free(critic);
}

const struct critic_terms *critic_get_terms(const struct critic *critic) {
    return &critic->terms;
}

const char *critic_get_hash(const struct critic *critic) {
    return critic->hash;
}

// The first `rows` rows of tensors of as many columns as layers have inputs and outputs.
static void head(const struct tensor from[CRITIC_LAYERS + 1], int32_t rows,
                 struct tensor out[CRITIC_LAYERS + 1]) {
    for (int i = 0; i <= CRITIC_LAYERS; i++) {
        out[i] = from[i];
        out[i].rows = rows;
    }
}

static void run_layer(struct critic *critic, int layer, struct tensor values[CRITIC_LAYERS + 1]) {
    const struct backend_ops *ops = critic->backend->ops;
    ops->linear(critic->backend, &values[layer + 1], &values[layer], &critic->layers[layer]);
    if (layer + 1 < CRITIC_LAYERS) {
        ops->relu(critic->backend, &values[layer + 1]);
    }
}

enum status critic_evaluate(struct critic *critic, const struct tensor *states, const int32_t *rows,
                            int32_t n, float *raw) {
    const struct backend_ops *ops = critic->backend->ops;
    size_t n_out = (size_t)critic->dims[CRITIC_LAYERS];
    for (int32_t begin = 0; begin < n; begin += critic->rows_max) {
        int32_t left = n - begin;
        struct tensor values[CRITIC_LAYERS + 1];
        head(critic->values, left < critic->rows_max ? left : critic->rows_max, values);
        ops->gather_rows(critic->backend, &values[0], states, rows + begin, values[0].rows);
        for (int i = 0; i < CRITIC_LAYERS; i++) {
            run_layer(critic, i, values);
        }
        enum status status =
            ops->download(critic->backend, raw + (size_t)begin * n_out, values[CRITIC_LAYERS].data,
                          (size_t)values[CRITIC_LAYERS].rows * n_out * sizeof *raw);
        if (status != STATUS_OK) {
            return status;
        }
    }
    return STATUS_OK;
}

// slopes[0] = dV/do at values[0]. V itself is not needed.
static void run_back(struct critic *critic, struct tensor values[CRITIC_LAYERS + 1],
                     struct tensor slopes[CRITIC_LAYERS + 1]) {
    const struct backend_ops *ops = critic->backend->ops;
    for (int i = 0; i + 1 < CRITIC_LAYERS; i++) {
        run_layer(critic, i, values);
    }
    for (int i = CRITIC_LAYERS - 1; i >= 0; i--) {
        ops->linear(critic->backend, &slopes[i], &slopes[i + 1], &critic->turned[i]);
        if (i > 0) {
            ops->relu_slopes(critic->backend, &slopes[i], &values[i]);
        }
    }
}

void critic_ascend(struct critic *critic, struct tensor *states, const int32_t *rows,
                   const float *sizes, int32_t n, int32_t steps) {
    ASSERT(critic_terms_are_value(&critic->terms));
    const struct backend_ops *ops = critic->backend->ops;
    for (int32_t begin = 0; begin < n; begin += critic->rows_max) {
        int32_t left = n - begin, count = left < critic->rows_max ? left : critic->rows_max;
        struct tensor values[CRITIC_LAYERS + 1], slopes[CRITIC_LAYERS + 1];
        head(critic->values, count, values);
        head(critic->slopes, count, slopes);
        ops->gather_rows(critic->backend, &values[0], states, rows + begin, count);
        for (int32_t step = 0; step < steps; step++) {
            run_back(critic, values, slopes);
            ops->add_scaled(critic->backend, &values[0], &slopes[0], sizes + begin);
        }
        ops->scatter_rows(critic->backend, states, &values[0], rows + begin, count);
    }
}

enum status critic_read(const struct critic *critic, const float *raw, struct critic_output *out,
                        struct error *err) {
    return critic_output_read(&critic->terms, critic->sigma_min, raw, out, err);
}
