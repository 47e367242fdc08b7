#include "worker/model/weight_files.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/model/element.h"
#include "worker/model/finite.h"
#include "worker/model/gguf.h"
#include "worker/model/gguf_names.h"
#include "worker/model/lora.h"
#include "worker/model/model_path.h"
#include "worker/model/safetensors.h"

// A buffer that was made for a tensor, as no file holds its values in the form that is handed out.
struct copy {
    void *data; // owned
    bool kept;  // until close
};

struct weight_files {
    struct safetensors *own;         // of a directory over a base, NULL where it has none
    struct lora *lora;               // NULL: no adapter
    struct safetensors *safetensors; // of the base, or of the model itself; NULL: gguf
    struct gguf *gguf;
    struct copy *copies; // [n_copies]
    size_t n_copies;
};

// Where a tensor's values are: one of the first two, and what is added to it.
struct place {
    const struct safetensors_tensor *tensor;
    const struct gguf_tensor *gguf_tensor;
    int32_t permuted_heads;           // of gguf_tensor; 0: rows stand in Hugging Face's order
    const struct lora_update *update; // NULL, or with lora_A and lora_B
};

static bool find_below(const struct weight_files *files, const char *name, struct place *out) {
    *out = (struct place){0};
    if (files->gguf != NULL) {
        out->gguf_tensor = gguf_model_tensor(files->gguf, name, &out->permuted_heads);
        return out->gguf_tensor != NULL;
    }
    out->tensor = safetensors_find(files->safetensors, name);
    return out->tensor != NULL;
}

static bool find_place(const struct weight_files *files, const char *name, struct place *out) {
    const struct lora_update *update = files->lora != NULL ? lora_find(files->lora, name) : NULL;
    const struct safetensors_tensor *own =
        files->own != NULL ? safetensors_find(files->own, name) : NULL;
    own = update != NULL && update->whole != NULL ? update->whole : own;
    if (own != NULL) {
        *out = (struct place){.tensor = own};
        return true;
    }
    bool found = find_below(files, name, out);
    out->update = update;
    return found;
}

static void get_shape(const struct place *place, struct weight_shape *out) {
    if (place->tensor != NULL) {
        const struct safetensors_tensor *tensor = place->tensor;
        *out = (struct weight_shape){.dtype = tensor->dtype, .n_dims = tensor->n_dims};
        memcpy(out->extents, tensor->shape, (size_t)tensor->n_dims * sizeof tensor->shape[0]);
        return;
    }
    const struct gguf_tensor *tensor = place->gguf_tensor;
    *out = (struct weight_shape){.dtype = tensor->type->name, .n_dims = tensor->n_dims};
    for (int32_t i = 0; i < tensor->n_dims; i++) {
        out->extents[i] = tensor->extents[tensor->n_dims - 1 - i];
    }
}

bool weight_files_find(const struct weight_files *files, const char *name,
                       struct weight_shape *out) {
    struct place place;
    bool found = find_place(files, name, &place);
    if (found && out != NULL) {
        get_shape(&place, out);
    }
    return found;
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

static void format_wanted(int32_t rows, int32_t cols, char *text, size_t capacity) {
    if (rows == 1) {
        snprintf(text, capacity, "[%d] or [1, %d]", cols, cols);
    } else {
        snprintf(text, capacity, "[%d, %d]", rows, cols);
    }
}

// Of two tensors of one name, with and without the model's prefix, transformers loads both into the
// same place; which one stays is nothing to rely on.
static bool has_twin(const struct weight_files *files, const char *name) {
    static const char prefix[] = "model.";
    struct place place;
    return files->gguf == NULL && strncmp(name, prefix, sizeof prefix - 1) == 0 &&
           find_below(files, name + sizeof prefix - 1, &place);
}

static enum status check_shape(const struct weight_files *files, const char *name, int32_t rows,
                               int32_t cols, struct weight_shape *shape, struct error *err) {
    char wanted[64], text[128];
    format_wanted(rows, cols, wanted, sizeof wanted);
    if (!weight_files_find(files, name, shape)) {
        return error_set(err, STATUS_NOT_FOUND, name, "tensor %s %s is not in the weight files",
                         name, wanted);
    }
    if (has_twin(files, name)) {
        return error_set(err, STATUS_MALFORMED, name,
                         "tensor %s is also there without \"model.\": which one counts is not said",
                         name);
    }
    if (!shape_is(shape, rows, cols)) {
        format_shape(shape, text, sizeof text);
        return error_set(err, STATUS_SHAPE, name, "tensor %s has shape %s, config.json needs %s",
                         name, text, wanted);
    }
    return STATUS_OK;
}

static void *make_copy(struct weight_files *files, size_t bytes) {
    struct copy *copies = realloc(files->copies, (files->n_copies + 1) * sizeof *copies);
    if (copies == NULL) {
        return NULL;
    }
    files->copies = copies;
    void *data = malloc(bytes);
    if (data != NULL) {
        copies[files->n_copies++] = (struct copy){.data = data};
    }
    return data;
}

// Where unit `at` (a row, or an element of a vector) of a GGUF tensor stands in Hugging Face's
// order, which has the halves of a head one after the other where the file has them in pairs.
static size_t unpermuted(size_t at, size_t n, int32_t heads) {
    if (heads == 0) {
        return at;
    }
    size_t size = n / (size_t)heads, head = at / size, within = at % size;
    return head * size + within % 2 * (size / 2) + within / 2;
}

static void widen_row(const struct gguf_block_type *type, const unsigned char *row, size_t n,
                      float *out) {
    for (size_t i = 0; i < n; i += (size_t)type->values) {
        type->widen(row + i / (size_t)type->values * (size_t)type->bytes, out + i);
    }
}

// Copies in Hugging Face's order, widened where the type is quantised.
static void read_gguf(const struct place *place, size_t rows, size_t cols, void *out) {
    const struct gguf_block_type *type = place->gguf_tensor->type;
    if (place->gguf_tensor->n_dims == 1 && place->permuted_heads != 0) {
        rows = cols; // elements of a vector move as rows of one
        cols = 1;
    }
    size_t from_bytes = cols / (size_t)type->values * (size_t)type->bytes;
    size_t to_bytes = type->widen != NULL ? cols * sizeof(float) : from_bytes;
    for (size_t row = 0; row < rows; row++) {
        const unsigned char *from =
            (const unsigned char *)place->gguf_tensor->data + row * from_bytes;
        char *to = (char *)out + unpermuted(row, rows, place->permuted_heads) * to_bytes;
        if (type->widen != NULL) {
            widen_row(type, from, cols, (float *)(void *)to);
        } else {
            memcpy(to, from, to_bytes);
        }
    }
}

static bool rewrite_row(const struct gguf_block_type *type, const unsigned char *row,
                        int32_t n_blocks, unsigned char *out) {
    bool fits = true;
    for (int32_t i = 0; i < n_blocks; i++, row += type->bytes, out += Q4_BLOCK_BYTES) {
        fits = type->to_q4_1(row, out) && fits;
    }
    return fits;
}

static enum status no_copy(const char *name, struct error *err) {
    return error_set(err, STATUS_NO_MEMORY, name, "no memory to widen tensor %s", name);
}

static enum status check_heads(const struct place *place, size_t units, const char *name,
                               struct error *err) {
    bool whole = place->permuted_heads == 0 || units % (2 * (size_t)place->permuted_heads) == 0;
    return whole ? STATUS_OK
                 : error_set(err, STATUS_SHAPE, name, "%zu rows are not %d heads of an even number",
                             units, place->permuted_heads);
}

// Sets out->data and out->dtype to the values as the base has them.
static enum status read_base(struct weight_files *files, const struct place *place,
                             const char *name, struct tensor *out, struct error *err) {
    if (place->tensor != NULL) {
        if (!element_find_dtype(place->tensor->dtype, &out->dtype)) {
            return error_set(err, STATUS_UNSUPPORTED, name,
                             "tensor %s has dtype %s, F32, F16 and BF16 are supported", name,
                             place->tensor->dtype);
        }
        out->data = (void *)(uintptr_t)place->tensor->data;
        return STATUS_OK;
    }
    const struct gguf_tensor *tensor = place->gguf_tensor;
    if (!element_find_dtype(tensor->type->name, &out->dtype)) {
        out->dtype = DTYPE_F32;
    }
    out->data = (void *)(uintptr_t)tensor->data;
    size_t rows = (size_t)out->rows, cols = (size_t)out->cols;
    size_t units = tensor->n_dims == 1 ? cols : rows;
    enum status status = check_heads(place, units, name, err);
    if (status != STATUS_OK) {
        return status;
    }
    if (tensor->type->widen == NULL && place->permuted_heads == 0) {
        return STATUS_OK;
    }
    out->data = make_copy(files, rows * cols * dtype_bytes(out->dtype));
    if (out->data == NULL) {
        return no_copy(name, err);
    }
    read_gguf(place, rows, cols, out->data);
    return STATUS_OK;
}

// The values with what the adapter adds, in f32.
static enum status merge(struct weight_files *files, const struct lora_update *update,
                         struct tensor *tensor, struct error *err) {
    size_t n = (size_t)tensor->rows * (size_t)tensor->cols;
    float *values = make_copy(files, n * sizeof *values);
    if (values == NULL) {
        return no_copy(update->name, err);
    }
    for (size_t i = 0; i < n; i++) {
        values[i] = element_to_f32(tensor->data, tensor->dtype, i);
    }
    if (lora_add(files->lora, update, values, tensor->rows, tensor->cols) != STATUS_OK) {
        return no_copy(update->name, err);
    }
    tensor->data = values;
    tensor->dtype = DTYPE_F32;
    return STATUS_OK;
}

enum status weight_files_get(struct weight_files *files, const char *name, int32_t rows,
                             int32_t cols, struct tensor *out, struct error *err) {
    struct weight_shape shape;
    struct place place;
    enum status status = check_shape(files, name, rows, cols, &shape, err);
    if (status != STATUS_OK) {
        return status;
    }
    (void)find_place(files, name, &place);
    struct tensor tensor = {.rows = rows, .cols = cols};
    status = read_base(files, &place, name, &tensor, err);
    if (status == STATUS_OK && place.update != NULL) {
        status = merge(files, place.update, &tensor, err);
    }
    if (status == STATUS_OK) {
        status = finite_check(&tensor, name, err);
    }
    if (status == STATUS_OK) {
        *out = tensor;
    }
    return status;
}

bool weight_files_has_q4(const struct weight_files *files, const char *name) {
    struct place place;
    return find_place(files, name, &place) && place.gguf_tensor != NULL && place.update == NULL &&
           place.gguf_tensor->type->to_q4_1 != NULL;
}

// As read_base, of a tensor that has q4.
static enum status read_q4(struct weight_files *files, const struct place *place, const char *name,
                           struct tensor *out, struct error *err) {
    const struct gguf_tensor *tensor = place->gguf_tensor;
    const struct gguf_block_type *type = tensor->type;
    const int32_t n_blocks = out->cols / Q4_BLOCK_VALUES;
    const size_t to_bytes = dtype_row_bytes(DTYPE_Q4_1, out->cols);
    enum status status = check_heads(place, (size_t)out->rows, name, err);
    if (status != STATUS_OK) {
        return status;
    }
    unsigned char *data = make_copy(files, (size_t)out->rows * to_bytes);
    if (data == NULL) {
        return error_set(err, STATUS_NO_MEMORY, name, "no memory for a copy of tensor %s", name);
    }
    for (int32_t row = 0; row < out->rows; row++) {
        size_t to = unpermuted((size_t)row, (size_t)out->rows, place->permuted_heads);
        const unsigned char *from = (const unsigned char *)tensor->data +
                                    (size_t)row * (size_t)n_blocks * (size_t)type->bytes;
        if (!rewrite_row(type, from, n_blocks, data + to * to_bytes)) {
            return error_set(err, STATUS_LIMIT, name,
                             "tensor %s has a scale of 8192 or more in row %d: precision q4 takes "
                             "smaller ones, the others any",
                             name, row);
        }
    }
    out->data = data;
    out->dtype = DTYPE_Q4_1;
    return STATUS_OK;
}

enum status weight_files_get_q4(struct weight_files *files, const char *name, int32_t rows,
                                int32_t cols, struct tensor *out, struct error *err) {
    struct weight_shape shape;
    struct place place;
    enum status status = check_shape(files, name, rows, cols, &shape, err);
    if (status != STATUS_OK) {
        return status;
    }
    (void)find_place(files, name, &place);
    struct tensor tensor = {.rows = rows, .cols = cols};
    status = read_q4(files, &place, name, &tensor, err);
    if (status == STATUS_OK) {
        status = finite_check(&tensor, name, err);
    }
    if (status == STATUS_OK) {
        *out = tensor;
    }
    return status;
}

void weight_files_keep(struct weight_files *files, const struct tensor *tensor) {
    for (size_t i = 0; i < files->n_copies; i++) {
        files->copies[i].kept = files->copies[i].kept || files->copies[i].data == tensor->data;
    }
}

void weight_files_drop(struct weight_files *files) {
    size_t n_kept = 0;
    for (size_t i = 0; i < files->n_copies; i++) {
        if (files->copies[i].kept) {
            files->copies[n_kept++] = files->copies[i];
        } else {
            free(files->copies[i].data);
        }
    }
    files->n_copies = n_kept;
    if (files->safetensors != NULL) {
        safetensors_drop_pages(files->safetensors);
    }
    if (files->own != NULL) {
        safetensors_drop_pages(files->own);
    }
    if (files->gguf != NULL) {
        gguf_drop_pages(files->gguf);
    }
}

static enum status check_shape_over(const struct weight_files *files, const char *name,
                                    int64_t rows, int64_t cols, struct error *err) {
    struct place place;
    struct weight_shape shape;
    if (!find_below(files, name, &place)) {
        return error_set(err, STATUS_NOT_FOUND, name,
                         "tensor %s is not in the base: that of another model", name);
    }
    get_shape(&place, &shape);
    if (rows > INT32_MAX || cols > INT32_MAX || !shape_is(&shape, (int32_t)rows, (int32_t)cols)) {
        char text[128];
        format_shape(&shape, text, sizeof text);
        return error_set(err, STATUS_SHAPE, name,
                         "tensor %s is [%lld, %lld] over a base that has %s: that of another "
                         "model",
                         name, (long long)rows, (long long)cols, text);
    }
    return STATUS_OK;
}

static enum status check_target(const struct weight_files *files, const char *name,
                                struct error *err) {
    struct place place;
    if (lora_find(files->lora, name) != NULL || !find_below(files, name, &place)) {
        return STATUS_OK;
    }
    if (lora_is_target(files->lora, name)) {
        return error_set(err, STATUS_NOT_FOUND, name,
                         "adapter_config.json targets it, but the adapter has no tensors for it");
    }
    return lora_is_saved(files->lora, name)
               ? error_set(err, STATUS_NOT_FOUND, name,
                           "modules_to_save of adapter_config.json names it, but the adapter does "
                           "not hold it")
               : STATUS_OK;
}

// Every weight of the base that the adapter's settings target or save is in the adapter.
static enum status check_targets(const struct weight_files *files, struct error *err) {
    static const char *const modules[] = {
        "self_attn.q_proj",
        "self_attn.k_proj",
        "self_attn.v_proj",
        "self_attn.o_proj",
        "mlp.gate_proj",
        "mlp.up_proj",
        "mlp.down_proj",
        "self_attn.qkv_proj",
        "mlp.gate_up_proj",
        "input_layernorm",
        "post_attention_layernorm",
    };
    static const char *const others[] = {"model.embed_tokens.weight", "model.norm.weight",
                                         "lm_head.weight", "score.weight"};
    enum status status = STATUS_OK;
    for (size_t i = 0; i < sizeof others / sizeof others[0] && status == STATUS_OK; i++) {
        status = check_target(files, others[i], err);
    }
    char name[128];
    struct place place;
    for (int layer = 0; status == STATUS_OK; layer++) {
        snprintf(name, sizeof name, "model.layers.%d.input_layernorm.weight", layer);
        if (!find_below(files, name, &place)) {
            break;
        }
        for (size_t i = 0; i < sizeof modules / sizeof modules[0] && status == STATUS_OK; i++) {
            snprintf(name, sizeof name, "model.layers.%d.%s.weight", layer, modules[i]);
            status = check_target(files, name, err);
        }
    }
    return status;
}

// Every tensor over a base is one of the base's, in its shape, or a head, whose shape the
// configuration decides.
static enum status check_overlay(const struct weight_files *files, struct error *err) {
    enum status status = STATUS_OK;
    for (size_t i = 0; files->own != NULL && i < safetensors_count(files->own); i++) {
        const struct safetensors_tensor *tensor = safetensors_at(files->own, i);
        bool is_vector = tensor->n_dims == 1;
        if (lora_is_head(tensor->name)) {
            continue;
        }
        if (tensor->n_dims != 1 && tensor->n_dims != 2) {
            return error_set(err, STATUS_SHAPE, tensor->name, "neither a vector nor a matrix");
        }
        status = check_shape_over(files, tensor->name, is_vector ? 1 : tensor->shape[0],
                                  tensor->shape[is_vector ? 0 : 1], err);
        if (status != STATUS_OK) {
            return status;
        }
    }
    for (size_t i = 0; files->lora != NULL && i < lora_count(files->lora); i++) {
        const struct lora_update *update = lora_at(files->lora, i);
        if (files->own != NULL && safetensors_find(files->own, update->name) != NULL) {
            return error_set(err, STATUS_MALFORMED, update->name,
                             "tensor %s stands in the directory and in its adapter", update->name);
        }
        if (update->whole == NULL) {
            status = check_shape_over(files, update->name, update->b->shape[0], update->a->shape[1],
                                      err);
        }
        if (status != STATUS_OK) {
            return status;
        }
    }
    return status == STATUS_OK && files->lora != NULL ? check_targets(files, err) : status;
}

static enum status open_below(struct weight_files *files, const char *path, struct error *err) {
    return gguf_is_path(path) ? gguf_open(path, &files->gguf, err)
                              : safetensors_open(path, &files->safetensors, err);
}

static enum status open_overlay(struct weight_files *files, const struct model_path *path,
                                struct error *err) {
    enum status status = open_below(files, path->base, err);
    if (status != STATUS_OK) {
        error_prefix_field(err, "base");
        return status;
    }
    if (safetensors_exist(path->own)) {
        status = safetensors_open(path->own, &files->own, err);
    }
    if (status == STATUS_OK && path->is_adapter) {
        status = lora_open(path->own, &files->lora, err);
    }
    return status == STATUS_OK ? check_overlay(files, err) : status;
}

enum status weight_files_open(const char *path, struct weight_files **out, struct error *err) {
    struct model_path found;
    enum status status = model_path_find(path, &found, err);
    if (status != STATUS_OK) {
        return status;
    }
    struct weight_files *files = calloc(1, sizeof *files);
    if (files == NULL) {
        return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for the weight files");
    }
    status =
        found.base[0] != '\0' ? open_overlay(files, &found, err) : open_below(files, path, err);
    if (status != STATUS_OK) {
        weight_files_close(files);
        return status;
    }
    *out = files;
    return STATUS_OK;
}

void weight_files_close(struct weight_files *files) {
    if (files == NULL) {
        return;
    }
    for (size_t i = 0; i < files->n_copies; i++) {
        free(files->copies[i].data);
    }
    free(files->copies);
    lora_close(files->lora);
    safetensors_close(files->own);
    safetensors_close(files->safetensors);
    gguf_close(files->gguf);
    free(files);
}

static void hash_part(struct sha256 *sha, const char *name, const void *bytes, size_t size) {
    unsigned char length[8];
    for (int k = 0; k < 8; k++) {
        length[k] = (unsigned char)((uint64_t)size >> 8 * k);
    }
    sha256_update(sha, name, strlen(name) + 1);
    sha256_update(sha, length, sizeof length);
    sha256_update(sha, bytes, size);
}

static void hash_safetensors(struct sha256 *sha, const struct safetensors *files) {
    for (size_t i = 0; files != NULL && i < safetensors_file_count(files); i++) {
        size_t size;
        const void *bytes = safetensors_file_bytes(files, i, &size);
        hash_part(sha, safetensors_file_name(files, i), bytes, size);
    }
}

void weight_files_hash(const struct weight_files *files, struct sha256 *sha) {
    hash_safetensors(sha, files->safetensors);
    if (files->gguf != NULL) {
        size_t size;
        const void *bytes = gguf_bytes(files->gguf, &size);
        hash_part(sha, gguf_file_name(files->gguf), bytes, size);
    }
    hash_safetensors(sha, files->own);
    if (files->lora != NULL) {
        hash_safetensors(sha, lora_files(files->lora));
        hash_part(sha, "adapter_config.json", lora_settings(files->lora),
                  strlen(lora_settings(files->lora)));
    }
}
