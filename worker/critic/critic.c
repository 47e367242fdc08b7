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
    int32_t rows_max;
};

static enum status pack(struct critic *critic, const struct critic_net *net, struct error *err) {
    for (int i = 0; i < CRITIC_LAYERS; i++) {
        int32_t rows = net->dims[i + 1], cols = net->dims[i];
        const struct weight_source source = {.parts = {{.data = (void *)(uintptr_t)net->weights[i],
                                                        .dtype = DTYPE_F32,
                                                        .rows = rows,
                                                        .cols = cols}},
                                             .biases = {{.data = (void *)(uintptr_t)net->biases[i],
                                                         .dtype = DTYPE_F32,
                                                         .rows = 1,
                                                         .cols = rows}},
                                             .n_parts = 1};
        enum status status = critic->backend->ops->weight_pack(
            critic->backend, &source, PRECISION_STORED, &critic->layers[i]);
        if (status != STATUS_OK) {
            return error_set(err, status, "critic", "no backend memory for a layer [%d, %d]", rows,
                             cols);
        }
    }
    return STATUS_OK;
}

static enum status take_values(struct critic *critic, struct error *err) {
    for (int i = 0; i <= CRITIC_LAYERS; i++) {
        size_t n = (size_t)critic->rows_max * (size_t)critic->dims[i];
        critic->values[i] = (struct tensor){
            .dtype = DTYPE_F32,
            .rows = critic->rows_max,
            .cols = critic->dims[i],
            .data = critic->backend->ops->alloc(critic->backend, n * sizeof(float))};
        if (critic->values[i].data == NULL) {
            return error_set(err, STATUS_NO_MEMORY, "critic", "no backend memory for %zu floats",
                             n);
        }
    }
    return STATUS_OK;
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
        status = pack(critic, &file.net, err);
    }
    if (status == STATUS_OK) {
        status = take_values(critic, err);
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
    }
    for (int i = 0; i <= CRITIC_LAYERS; i++) {
        if (critic->values[i].data != NULL) {
            ops->release(critic->backend, critic->values[i].data);
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

enum status critic_evaluate(struct critic *critic, const struct tensor *states, const int32_t *rows,
                            int32_t n, float *raw) {
    const struct backend_ops *ops = critic->backend->ops;
    size_t n_out = (size_t)critic->dims[CRITIC_LAYERS];
    for (int32_t begin = 0; begin < n; begin += critic->rows_max) {
        int32_t left = n - begin;
        struct tensor values[CRITIC_LAYERS + 1];
        for (int i = 0; i <= CRITIC_LAYERS; i++) {
            values[i] = critic->values[i];
            values[i].rows = left < critic->rows_max ? left : critic->rows_max;
        }
        ops->gather_rows(critic->backend, &values[0], states, rows + begin, values[0].rows);
        for (int i = 0; i < CRITIC_LAYERS; i++) {
            ops->linear(critic->backend, &values[i + 1], &values[i], &critic->layers[i]);
            if (i + 1 < CRITIC_LAYERS) {
                ops->relu(critic->backend, &values[i + 1]);
            }
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

enum status critic_read(const struct critic *critic, const float *raw, struct critic_output *out,
                        struct error *err) {
    return critic_output_read(&critic->terms, critic->sigma_min, raw, out, err);
}
