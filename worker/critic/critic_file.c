#include "worker/critic/critic_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/model/finite.h"
#include "worker/model/safetensors_write.h"

enum { TENSORS = 2 * CRITIC_LAYERS + 1, NAME_BYTES = 32 };

static const char version_key[] = "surefoot_critic";
static const char version[] = "2";
static const char terms_key[] = "terms";
static const char sigma_name[] = "sigma_min";

static void tensor_name(int layer, bool is_bias, char out[NAME_BYTES]) {
    snprintf(out, NAME_BYTES, "layers.%d.%s", layer, is_bias ? "bias" : "weight");
}

static enum status read_terms(const char *path, struct critic_file *file, struct error *err) {
    const char *found = safetensors_metadata(file->tensors, version_key);
    if (found == NULL) {
        return error_set(err, STATUS_MALFORMED, version_key, "%.200s is no critic", path);
    }
    if (strcmp(found, version) != 0) {
        return error_set(err, STATUS_VERSION, version_key, "version %.16s, this program reads %s",
                         found, version);
    }
    const char *text = safetensors_metadata(file->tensors, terms_key);
    json_error_t where = {.text = "it is missing"};
    json_t *json = text != NULL ? json_loads(text, JSON_REJECT_DUPLICATES, &where) : NULL;
    if (json == NULL) {
        return error_set(err, STATUS_MALFORMED, terms_key, "%s", where.text);
    }
    enum status status = critic_terms_read(json, &file->terms, err);
    json_decref(json);
    if (status != STATUS_OK) {
        error_prefix_field(err, terms_key);
    }
    return status;
}

// A tensor of n_dims extents, the others of `shape` unused.
static enum status get(const struct safetensors *tensors, const char *name, int32_t n_dims,
                       const int32_t shape[2], const float **out, struct error *err) {
    const struct safetensors_tensor *found = safetensors_find(tensors, name);
    if (found == NULL) {
        return error_set(err, STATUS_NOT_FOUND, name, "is missing");
    }
    if (strcmp(found->dtype, "F32") != 0) {
        return error_set(err, STATUS_UNSUPPORTED, name, "is %s, a critic is F32", found->dtype);
    }
    bool fits = found->n_dims == n_dims;
    for (int32_t i = 0; fits && i < n_dims; i++) {
        fits = found->shape[i] == shape[i];
    }
    if (!fits) {
        return error_set(err, STATUS_SHAPE, name,
                         n_dims == 2 ? "%zu bytes are not [%d, %d]" : "%zu bytes are not [%d]",
                         found->bytes, shape[0], shape[1]);
    }
    *out = found->data;
    const struct tensor tensor = {.data = (void *)(uintptr_t)found->data,
                                  .dtype = DTYPE_F32,
                                  .rows = n_dims == 2 ? shape[0] : 1,
                                  .cols = shape[n_dims - 1]};
    return finite_check(&tensor, name, err);
}

// The widths of the two inner layers, which the biases say.
static enum status read_widths(struct critic_file *file, struct error *err) {
    int32_t *dims = file->net.dims;
    dims[0] = file->terms.hidden_dim;
    dims[CRITIC_LAYERS] = critic_output_count(&file->terms);
    for (int i = 0; i < CRITIC_LAYERS - 1; i++) {
        char name[NAME_BYTES];
        tensor_name(i, true, name);
        const struct safetensors_tensor *bias = safetensors_find(file->tensors, name);
        if (bias == NULL) {
            return error_set(err, STATUS_NOT_FOUND, name, "is missing");
        }
        if (bias->n_dims != 1 || bias->shape[0] < 1 || bias->shape[0] > CRITIC_WIDTH_MAX) {
            return error_set(err, STATUS_SHAPE, name, "is not a vector of 1 to %d",
                             CRITIC_WIDTH_MAX);
        }
        dims[i + 1] = (int32_t)bias->shape[0];
    }
    return STATUS_OK;
}

static enum status read_sigmas(struct critic_file *file, struct error *err) {
    const float *sigmas = NULL;
    const int32_t shape[2] = {file->terms.n_channels, 0};
    enum status status = get(file->tensors, sigma_name, 1, shape, &sigmas, err);
    for (int32_t i = 0; status == STATUS_OK && i < file->terms.n_channels; i++) {
        file->net.sigma_min[i] = sigmas[i];
        if (!(sigmas[i] > 0)) {
            status = error_set(err, STATUS_LIMIT, sigma_name, "%g of channel %d is not above 0",
                               (double)sigmas[i], i);
        }
    }
    return status;
}

static enum status read_net(struct critic_file *file, struct error *err) {
    enum status status = read_widths(file, err);
    for (int i = 0; status == STATUS_OK && i < CRITIC_LAYERS; i++) {
        const int32_t shape[2] = {file->net.dims[i + 1], file->net.dims[i]};
        char name[NAME_BYTES];
        tensor_name(i, false, name);
        status = get(file->tensors, name, 2, shape, &file->net.weights[i], err);
        if (status == STATUS_OK) {
            tensor_name(i, true, name);
            status = get(file->tensors, name, 1, shape, &file->net.biases[i], err);
        }
    }
    bool is_value = critic_terms_are_value(&file->terms);
    if (status == STATUS_OK && !is_value) {
        status = read_sigmas(file, err);
    }
    size_t wanted = is_value ? TENSORS - 1 : TENSORS;
    if (status == STATUS_OK && safetensors_count(file->tensors) != wanted) {
        status = error_set(err, STATUS_MALFORMED, version_key, "%zu tensors, a critic has %zu",
                           safetensors_count(file->tensors), wanted);
    }
    return status;
}

enum status critic_file_open(const char *path, struct critic_file *out, struct error *err) {
    *out = (struct critic_file){0};
    enum status status = safetensors_open_path(path, &out->tensors, err);
    if (status == STATUS_OK) {
        status = read_terms(path, out, err);
    }
    if (status == STATUS_OK) {
        status = read_net(out, err);
    }
    if (status != STATUS_OK) {
        return status;
    }
    struct sha256 sha;
    size_t size;
    const void *bytes = safetensors_file_bytes(out->tensors, 0, &size);
    sha256_init(&sha);
    sha256_update(&sha, bytes, size);
    sha256_finish_hex(&sha, out->hash);
    return STATUS_OK;
}

void critic_file_close(struct critic_file *file) {
    safetensors_close(file->tensors);
    *file = (struct critic_file){0};
}

static struct safetensors_tensor tensor_of(const char *name, const float *data, int32_t n_dims,
                                           int32_t rows, int32_t cols) {
    size_t n = (size_t)rows * (size_t)(n_dims == 2 ? cols : 1);
    return (struct safetensors_tensor){.name = name,
                                       .dtype = "F32",
                                       .n_dims = n_dims,
                                       .shape = {rows, cols},
                                       .data = data,
                                       .bytes = n * sizeof *data};
}

enum status critic_file_write(const char *path, const struct critic_terms *terms,
                              const struct critic_net *net, struct error *err) {
    struct safetensors_tensor tensors[TENSORS];
    char names[2 * CRITIC_LAYERS][NAME_BYTES];
    for (int i = 0; i < CRITIC_LAYERS; i++) {
        char *weight = names[2 * i], *bias = names[2 * i + 1];
        tensor_name(i, false, weight);
        tensor_name(i, true, bias);
        tensors[2 * i] = tensor_of(weight, net->weights[i], 2, net->dims[i + 1], net->dims[i]);
        tensors[2 * i + 1] = tensor_of(bias, net->biases[i], 1, net->dims[i + 1], 0);
    }
    tensors[TENSORS - 1] = tensor_of(sigma_name, net->sigma_min, 1, terms->n_channels, 0);
    json_t *json = critic_terms_json(terms);
    char *text = json != NULL ? json_dumps(json, JSON_COMPACT) : NULL;
    json_decref(json);
    if (text == NULL) {
        return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for the critic's terms");
    }
    const struct safetensors_text metadata[] = {{version_key, version}, {terms_key, text}};
    size_t n = critic_terms_are_value(terms) ? TENSORS - 1 : TENSORS;
    enum status status = safetensors_write(path, metadata, 2, tensors, n, err);
    free(text);
    return status;
}
