#include "worker/model/weight_files.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/model/finite.h"
#include "worker/model/safetensors.h"

struct weight_files {
    struct safetensors *safetensors;
};

enum status weight_files_open(const char *path, struct weight_files **out, struct error *err) {
    struct weight_files *files = calloc(1, sizeof *files);
    if (files == NULL) {
        return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for the weight files");
    }
    enum status status = safetensors_open(path, &files->safetensors, err);
    if (status != STATUS_OK) {
        weight_files_close(files);
        return status;
    }
    *out = files;
    return STATUS_OK;
}

void weight_files_close(struct weight_files *files) {
    if (files != NULL) {
        safetensors_close(files->safetensors);
        free(files);
    }
}

bool weight_files_find(const struct weight_files *files, const char *name,
                       struct weight_shape *out) {
    const struct safetensors_tensor *tensor = safetensors_find(files->safetensors, name);
    if (tensor != NULL && out != NULL) {
        *out = (struct weight_shape){.dtype = tensor->dtype, .n_dims = tensor->n_dims};
        memcpy(out->extents, tensor->shape, (size_t)tensor->n_dims * sizeof tensor->shape[0]);
    }
    return tensor != NULL;
}

static void format_shape(const struct weight_shape *shape, char *text, size_t capacity) {
    size_t used = (size_t)snprintf(text, capacity, "[");
    for (int32_t i = 0; i < shape->n_dims && used < capacity; i++) {
        used += (size_t)snprintf(text + used, capacity - used, "%s%lld", i > 0 ? ", " : "",
                                 (long long)shape->extents[i]);
    }
    if (used < capacity) {
        snprintf(text + used, capacity - used, "]");
    }
}

// A vector of n may be written [n] or [1, n].
static bool shape_is(const struct weight_shape *shape, int32_t rows, int32_t cols) {
    if (shape->n_dims == 1) {
        return rows == 1 && shape->extents[0] == cols;
    }
    return shape->n_dims == 2 && shape->extents[0] == rows && shape->extents[1] == cols;
}

static enum status check_shape(const struct weight_files *files, const char *name, int32_t rows,
                               int32_t cols, struct weight_shape *shape, struct error *err) {
    if (!weight_files_find(files, name, shape)) {
        return error_set(err, STATUS_NOT_FOUND, name,
                         "tensor %s [%d, %d] is not in the weight files", name, rows, cols);
    }
    if (!shape_is(shape, rows, cols)) {
        char text[128];
        format_shape(shape, text, sizeof text);
        return error_set(err, STATUS_SHAPE, name,
                         "tensor %s has shape %s, config.json needs [%d, %d]", name, text, rows,
                         cols);
    }
    return STATUS_OK;
}

enum status weight_files_get(struct weight_files *files, const char *name, int32_t rows,
                             int32_t cols, struct tensor *out, struct error *err) {
    static const char *const dtypes[] = {"F32", "F16", "BF16"}; // order of enum dtype
    struct weight_shape shape;
    enum status status = check_shape(files, name, rows, cols, &shape, err);
    if (status != STATUS_OK) {
        return status;
    }
    for (enum dtype dtype = DTYPE_F32; dtype <= DTYPE_BF16; dtype++) {
        if (strcmp(shape.dtype, dtypes[dtype]) == 0) {
            const void *data = safetensors_find(files->safetensors, name)->data;
            *out = (struct tensor){
                .data = (void *)(uintptr_t)data, .dtype = dtype, .rows = rows, .cols = cols};
            return finite_check(out, name, err);
        }
    }
    return error_set(err, STATUS_UNSUPPORTED, name,
                     "tensor %s has dtype %s, F32, F16 and BF16 are supported", name, shape.dtype);
}

void weight_files_drop(struct weight_files *files) {
    safetensors_drop_pages(files->safetensors);
}

void weight_files_hash(const struct weight_files *files, struct sha256 *sha) {
    for (size_t i = 0; i < safetensors_file_count(files->safetensors); i++) {
        const char *name = safetensors_file_name(files->safetensors, i);
        size_t size;
        const void *bytes = safetensors_file_bytes(files->safetensors, i, &size);
        unsigned char length[8];
        for (int k = 0; k < 8; k++) {
            length[k] = (unsigned char)((uint64_t)size >> 8 * k);
        }
        sha256_update(sha, name, strlen(name) + 1);
        sha256_update(sha, length, sizeof length);
        sha256_update(sha, bytes, size);
    }
}
