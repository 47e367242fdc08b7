// Single tensors of a model: from its files to the host, to packed products, to vectors.
#include <stdlib.h>

#include "worker/model/element.h"
#include "worker/model/model_private.h"

enum status weight_load_matrix(struct model *model, const char *name, int32_t rows, int32_t cols,
                               struct tensor *out, struct error *err) {
    enum status status = weight_files_get(model->files, name, rows, cols, out, err);
    if (status == STATUS_OK) {
        model->n_parameters += (int64_t)rows * cols;
    }
    return status;
}

enum status weight_load_q4(struct model *model, const char *name, int32_t rows, int32_t cols,
                           struct tensor *out, struct error *err) {
    enum status status = weight_files_get_q4(model->files, name, rows, cols, out, err);
    if (status == STATUS_OK) {
        model->n_parameters += (int64_t)rows * cols;
    }
    return status;
}

enum status weight_load_pack(struct model *model, const struct weight_source *source,
                             enum precision precision, const char *name, struct weight *out,
                             struct error *err) {
    if (precision == PRECISION_Q4 && source->parts[0].dtype != DTYPE_Q4_1) {
        precision = PRECISION_INT8;
    }
    enum status status = model->backend->ops->weight_pack(model->backend, source, precision, out);
    if (status != STATUS_OK) {
        return error_set(err, status, name, "cannot pack the weights of %s: %s", name,
                         status_text(status));
    }
    model->weight_bytes += out->bytes;
    model->n_q4 += precision == PRECISION_Q4;
    return STATUS_OK;
}

void *weight_load_upload(struct backend *backend, const float *values, size_t n) {
    void *data = backend->ops->alloc(backend, n * sizeof *values);
    if (data != NULL) {
        backend->ops->upload(backend, data, values, n * sizeof *values);
    }
    return data;
}

enum status weight_load_read(struct model *model, const char *name, int32_t n, float **out,
                             struct error *err) {
    struct tensor tensor;
    enum status status = weight_files_get(model->files, name, 1, n, &tensor, err);
    if (status != STATUS_OK) {
        return status;
    }
    float *values = malloc((size_t)n * sizeof *values);
    if (values == NULL) {
        return error_set(err, STATUS_NO_MEMORY, name, "no memory for %d floats", n);
    }
    for (int32_t i = 0; i < n; i++) {
        values[i] = element_to_f32(tensor.data, tensor.dtype, (size_t)i);
    }
    model->n_parameters += n;
    *out = values;
    return STATUS_OK;
}

enum status weight_load_vector(struct model *model, const char *name, int32_t n, struct tensor *out,
                               struct error *err) {
    float *values;
    enum status status = weight_load_read(model, name, n, &values, err);
    if (status != STATUS_OK) {
        return status;
    }
    void *data = weight_load_upload(model->backend, values, (size_t)n);
    free(values);
    if (data == NULL) {
        return error_set(err, STATUS_NO_MEMORY, name, "no backend memory for %d floats", n);
    }
    *out = (struct tensor){.data = data, .dtype = DTYPE_F32, .rows = 1, .cols = n};
    model->weight_bytes += (size_t)n * sizeof *values;
    return STATUS_OK;
}
