// Header: "GGUF", version u32, tensor count u64, value count u64; then the values (key, type,
// payload), the tensor infos (name, dimensions, extents, type, offset), padding up to the
// alignment, and the data section. A string is a u64 length and its bytes. The reader goes through
// a file once, by a cursor that nothing passes the end of, and keeps names and places.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/model/gguf_private.h"

enum { INFO_BYTES_MIN = 32, VALUE_BYTES_MIN = 13, ALIGNMENT_DEFAULT = 32 };

struct cursor {
    const unsigned char *at;
    const unsigned char *end;
};

static size_t left(const struct cursor *cursor) {
    return (size_t)(cursor->end - cursor->at);
}

// False when fewer than `count` (<= 8) bytes are left.
static bool take(struct cursor *cursor, size_t count, uint64_t *out) {
    if (left(cursor) < count) {
        return false;
    }
    *out = gguf_number(cursor->at, count);
    cursor->at += count;
    return true;
}

static enum status truncated(const struct gguf *gguf, const char *name, const char *part,
                             struct error *err) {
    return error_set(err, STATUS_MALFORMED, name, "the file ends at byte %zu, within %s",
                     gguf->size, part);
}

static enum status take_string(const struct gguf *gguf, struct cursor *cursor, const char *name,
                               const char *part, uint64_t limit, struct gguf_string *out,
                               struct error *err) {
    uint64_t count;
    if (!take(cursor, 8, &count)) {
        return truncated(gguf, name, part, err);
    }
    if (count > limit) {
        return error_set(err, STATUS_LIMIT, name, "%s has %llu bytes, the limit is %llu", part,
                         (unsigned long long)count, (unsigned long long)limit);
    }
    if (count > left(cursor)) {
        return truncated(gguf, name, part, err);
    }
    *out = (struct gguf_string){.bytes = (const char *)cursor->at, .count = (size_t)count};
    cursor->at += count;
    return STATUS_OK;
}

// An owned name of a key or tensor.
static enum status take_name(const struct gguf *gguf, struct cursor *cursor, const char *part,
                             size_t index, char **out, struct error *err) {
    char label[32];
    snprintf(label, sizeof label, "%s[%zu]", part, index);
    struct gguf_string text = {0};
    enum status status =
        take_string(gguf, cursor, label, "its name", GGUF_NAME_BYTES_MAX, &text, err);
    if (status != STATUS_OK) {
        return status;
    }
    if (text.count == 0 || memchr(text.bytes, '\0', text.count) != NULL) {
        return error_set(err, STATUS_MALFORMED, label, "its name is empty or holds a zero byte");
    }
    *out = strndup(text.bytes, text.count);
    return *out != NULL ? STATUS_OK
                        : error_set(err, STATUS_NO_MEMORY, label, "no memory for its name");
}

static enum status take_type(const struct gguf *gguf, struct cursor *cursor, const char *key,
                             enum gguf_type *out, struct error *err) {
    uint64_t type;
    if (!take(cursor, 4, &type)) {
        return truncated(gguf, key, "its type", err);
    }
    if (type >= GGUF_TYPES) {
        return error_set(err, STATUS_MALFORMED, key, "value type %llu is not one of 0 to %d",
                         (unsigned long long)type, GGUF_TYPES - 1);
    }
    *out = (enum gguf_type)type;
    return STATUS_OK;
}

static enum status take_array_head(const struct gguf *gguf, struct cursor *cursor,
                                   struct gguf_value *value, struct error *err) {
    enum status status = take_type(gguf, cursor, value->key, &value->type, err);
    if (status != STATUS_OK) {
        return status;
    }
    if (value->type == GGUF_ARRAY) {
        return error_set(err, STATUS_UNSUPPORTED, value->key, "an array of arrays");
    }
    if (!take(cursor, 8, &value->count)) {
        return truncated(gguf, value->key, "its length", err);
    }
    if (value->count > GGUF_ARRAY_ITEMS_MAX) {
        return error_set(err, STATUS_LIMIT, value->key, "an array of %llu items, the limit is %d",
                         (unsigned long long)value->count, GGUF_ARRAY_ITEMS_MAX);
    }
    value->is_array = true;
    return STATUS_OK;
}

static enum status take_items(const struct gguf *gguf, struct cursor *cursor,
                              struct gguf_value *value, struct error *err) {
    size_t width = gguf_width(value->type);
    value->data = cursor->at;
    if (width > 0) {
        if (value->count > left(cursor) / width) {
            return truncated(gguf, value->key, "its value", err);
        }
        cursor->at += value->count * width;
    }
    for (uint64_t i = 0; width == 0 && i < value->count; i++) {
        struct gguf_string text;
        enum status status = take_string(gguf, cursor, value->key, "a string of its value",
                                         GGUF_STRING_BYTES_MAX, &text, err);
        if (status != STATUS_OK) {
            return status;
        }
    }
    value->end = cursor->at;
    for (uint64_t i = 0; value->type == GGUF_BOOL && i < value->count; i++) {
        if (value->data[i] > 1) {
            return error_set(err, STATUS_MALFORMED, value->key, "a bool is %d", value->data[i]);
        }
    }
    return STATUS_OK;
}

static enum status take_value(struct gguf *gguf, struct cursor *cursor, struct error *err) {
    struct gguf_value *value = &gguf->values[gguf->n_values];
    char *key = NULL;
    enum status status = take_name(gguf, cursor, "metadata", gguf->n_values, &key, err);
    if (status != STATUS_OK) {
        return status;
    }
    *value = (struct gguf_value){.key = key, .count = 1};
    gguf->n_values++;
    status = take_type(gguf, cursor, key, &value->type, err);
    if (status == STATUS_OK && value->type == GGUF_ARRAY) {
        status = take_array_head(gguf, cursor, value, err);
    }
    return status == STATUS_OK ? take_items(gguf, cursor, value, err) : status;
}

// Extents and the bytes that they need.
static enum status take_shape(const struct gguf *gguf, struct cursor *cursor,
                              struct gguf_tensor *tensor, uint64_t *n_values, struct error *err) {
    uint64_t n_dims;
    if (!take(cursor, 4, &n_dims)) {
        return truncated(gguf, tensor->name, "its dimensions", err);
    }
    if (n_dims == 0 || n_dims > GGUF_DIMS_MAX) {
        return error_set(err, STATUS_LIMIT, tensor->name, "%llu dimensions, allowed is 1 to %d",
                         (unsigned long long)n_dims, GGUF_DIMS_MAX);
    }
    tensor->n_dims = (int32_t)n_dims;
    *n_values = 1;
    for (int32_t i = 0; i < tensor->n_dims; i++) {
        uint64_t extent;
        if (!take(cursor, 8, &extent)) {
            return truncated(gguf, tensor->name, "its dimensions", err);
        }
        if (extent == 0 || extent > INT64_MAX ||
            __builtin_mul_overflow(*n_values, extent, n_values)) {
            return error_set(err, STATUS_LIMIT, tensor->name,
                             "dimension %d is %llu: none, or more values than can be addressed", i,
                             (unsigned long long)extent);
        }
        tensor->extents[i] = (int64_t)extent;
    }
    return STATUS_OK;
}

static enum status take_tensor_type(const struct gguf *gguf, struct cursor *cursor,
                                    struct gguf_tensor *tensor, uint64_t n_values,
                                    struct error *err) {
    uint64_t number, bytes;
    if (!take(cursor, 4, &number)) {
        return truncated(gguf, tensor->name, "its type", err);
    }
    tensor->type = gguf_block_type_find((uint32_t)number);
    if (tensor->type == NULL) {
        return error_set(err, STATUS_UNSUPPORTED, tensor->name,
                         "tensor type %llu (%s) is not supported: F32, F16, BF16, Q8_0, Q4_0, "
                         "Q4_1, Q5_0, Q5_1, Q4_K, Q5_K and Q6_K are",
                         (unsigned long long)number, gguf_type_name((uint32_t)number));
    }
    if (tensor->extents[0] % tensor->type->values != 0) {
        return error_set(err, STATUS_MALFORMED, tensor->name,
                         "a row of %lld values is not in blocks of %d, as %s has them",
                         (long long)tensor->extents[0], tensor->type->values, tensor->type->name);
    }
    uint64_t n_blocks = n_values / (uint64_t)tensor->type->values;
    if (__builtin_mul_overflow(n_blocks, (uint64_t)tensor->type->bytes, &bytes) ||
        bytes > SIZE_MAX / 2) {
        return error_set(err, STATUS_LIMIT, tensor->name, "more bytes than can be addressed");
    }
    tensor->bytes = (size_t)bytes;
    return STATUS_OK;
}

static enum status take_tensor(struct gguf *gguf, struct cursor *cursor, struct error *err) {
    struct gguf_tensor *tensor = &gguf->tensors[gguf->n_tensors];
    char *name = NULL;
    uint64_t n_values = 0;
    enum status status = take_name(gguf, cursor, "tensor", gguf->n_tensors, &name, err);
    if (status != STATUS_OK) {
        return status;
    }
    *tensor = (struct gguf_tensor){.name = name};
    gguf->n_tensors++;
    status = take_shape(gguf, cursor, tensor, &n_values, err);
    if (status == STATUS_OK) {
        status = take_tensor_type(gguf, cursor, tensor, n_values, err);
    }
    if (status == STATUS_OK && !take(cursor, 8, &tensor->offset)) {
        status = truncated(gguf, name, "its offset", err);
    }
    return status;
}

static enum status check_count(const struct cursor *cursor, const char *field, uint64_t count,
                               uint64_t limit, size_t bytes_min, struct error *err) {
    if (count > limit) {
        return error_set(err, STATUS_LIMIT, field, "%llu are above the limit %llu",
                         (unsigned long long)count, (unsigned long long)limit);
    }
    if (count > left(cursor) / bytes_min) {
        return error_set(err, STATUS_MALFORMED, field,
                         "%llu do not fit into the %zu bytes that are left of the file",
                         (unsigned long long)count, left(cursor));
    }
    return STATUS_OK;
}

static enum status check_version(uint32_t version, struct error *err) {
    if (version == 2 || version == 3) {
        return STATUS_OK;
    }
    // A version's number is small: where only the upper half is not zero, the bytes are swapped.
    if (version != 0 && (version & 0xffff) == 0) {
        return error_set(err, STATUS_UNSUPPORTED, "version", "a big-endian file");
    }
    return error_set(err, STATUS_VERSION, "version", "version %u is not understood: 2 and 3 are",
                     version);
}

static enum status take_header(struct gguf *gguf, struct cursor *cursor, uint64_t *n_tensors,
                               uint64_t *n_values, struct error *err) {
    if (gguf->size < 4 || memcmp(gguf->bytes, "GGUF", 4) != 0) {
        return error_set(err, STATUS_MALFORMED, "magic", "the file does not begin with GGUF");
    }
    cursor->at += 4;
    uint64_t version;
    if (!take(cursor, 4, &version)) {
        return truncated(gguf, "version", "the header", err);
    }
    enum status status = check_version((uint32_t)version, err);
    if (status != STATUS_OK) {
        return status;
    }
    if (!take(cursor, 8, n_tensors) || !take(cursor, 8, n_values)) {
        return truncated(gguf, "header", "the header", err);
    }
    status =
        check_count(cursor, "metadata_kv_count", *n_values, GGUF_KEYS_MAX, VALUE_BYTES_MIN, err);
    return status == STATUS_OK ? check_count(cursor, "tensor_count", *n_tensors, GGUF_TENSORS_MAX,
                                             INFO_BYTES_MIN, err)
                               : status;
}

static int compare_keys(const void *a, const void *b) {
    return strcmp(((const struct gguf_value *)a)->key, ((const struct gguf_value *)b)->key);
}

static int compare_names(const void *a, const void *b) {
    return strcmp(((const struct gguf_tensor *)a)->name, ((const struct gguf_tensor *)b)->name);
}

static int compare_offsets(const void *a, const void *b) {
    uint64_t x = ((const struct gguf_tensor *)a)->offset;
    uint64_t y = ((const struct gguf_tensor *)b)->offset;
    return x < y ? -1 : x > y;
}

static enum status sort_values(struct gguf *gguf, struct error *err) {
    qsort(gguf->values, gguf->n_values, sizeof gguf->values[0], compare_keys);
    for (size_t i = 1; i < gguf->n_values; i++) {
        if (strcmp(gguf->values[i - 1].key, gguf->values[i].key) == 0) {
            return error_set(err, STATUS_MALFORMED, gguf->values[i].key, "the key stands twice");
        }
    }
    return STATUS_OK;
}

static enum status sort_tensors(struct gguf *gguf, struct error *err) {
    qsort(gguf->tensors, gguf->n_tensors, sizeof gguf->tensors[0], compare_names);
    for (size_t i = 1; i < gguf->n_tensors; i++) {
        if (strcmp(gguf->tensors[i - 1].name, gguf->tensors[i].name) == 0) {
            return error_set(err, STATUS_MALFORMED, gguf->tensors[i].name,
                             "the tensor stands twice");
        }
    }
    return STATUS_OK;
}

static enum status read_alignment(const struct gguf *gguf, uint64_t *out, struct error *err) {
    const char *key = "general.alignment";
    const struct gguf_value *value = gguf_find(gguf, key);
    int64_t alignment = ALIGNMENT_DEFAULT;
    if (value != NULL && (value->type != GGUF_U32 || value->is_array)) {
        return error_set(err, STATUS_MALFORMED, key, "it is not a u32");
    }
    if (value != NULL) {
        alignment = (int64_t)gguf_number(value->data, 4);
    }
    if (alignment < GGUF_ALIGNMENT_MIN || alignment > GGUF_ALIGNMENT_MAX ||
        (alignment & (alignment - 1)) != 0) {
        return error_set(err, STATUS_LIMIT, key, "%lld is not a power of two of %d to %d",
                         (long long)alignment, GGUF_ALIGNMENT_MIN, GGUF_ALIGNMENT_MAX);
    }
    *out = (uint64_t)alignment;
    return STATUS_OK;
}

// Gives each tensor its data: inside the section, aligned, overlapping no other.
static enum status place_tensors(struct gguf *gguf, size_t infos_end, struct error *err) {
    uint64_t alignment = 0;
    enum status status = read_alignment(gguf, &alignment, err);
    if (status != STATUS_OK) {
        return status;
    }
    size_t begin = (infos_end + alignment - 1) / alignment * alignment;
    size_t section = begin < gguf->size ? gguf->size - begin : 0;
    qsort(gguf->tensors, gguf->n_tensors, sizeof gguf->tensors[0], compare_offsets);
    for (size_t i = 0; i < gguf->n_tensors; i++) {
        struct gguf_tensor *tensor = &gguf->tensors[i];
        unsigned long long offset = tensor->offset;
        if (offset % alignment != 0) {
            return error_set(err, STATUS_MALFORMED, tensor->name,
                             "offset %llu is not a multiple of the alignment %llu", offset,
                             (unsigned long long)alignment);
        }
        if (offset > section || tensor->bytes > section - offset) {
            return error_set(err, STATUS_MALFORMED, tensor->name,
                             "%zu bytes at offset %llu end outside the %zu bytes of data",
                             tensor->bytes, offset, section);
        }
        const struct gguf_tensor *last = i > 0 ? &gguf->tensors[i - 1] : NULL;
        if (last != NULL && offset - last->offset < last->bytes) {
            return error_set(err, STATUS_MALFORMED, tensor->name,
                             "data at offset %llu overlaps %.160s, which ends at %llu", offset,
                             last->name, (unsigned long long)(last->offset + last->bytes));
        }
        tensor->data = gguf->bytes + begin + offset;
    }
    return STATUS_OK;
}

// A part holds some of the tensors only, and the others would be missed late or never.
static enum status refuse_split(const struct gguf *gguf, struct error *err) {
    const char *key = "split.count";
    const struct gguf_value *value = gguf_find(gguf, key);
    int64_t count = 0;
    if (value != NULL && !gguf_integer(value, 0, &count)) {
        return error_set(err, STATUS_MALFORMED, key, "it is not an integer");
    }
    return count > 1
               ? error_set(err, STATUS_UNSUPPORTED, key,
                           "one part of a model in %lld files: join them first", (long long)count)
               : STATUS_OK;
}

enum status gguf_read(struct gguf *gguf, struct error *err) {
    struct cursor cursor = {gguf->bytes, gguf->bytes + gguf->size};
    uint64_t n_tensors = 0, n_values = 0;
    enum status status = take_header(gguf, &cursor, &n_tensors, &n_values, err);
    if (status != STATUS_OK) {
        return status;
    }
    gguf->values = calloc((size_t)n_values + 1, sizeof gguf->values[0]);
    gguf->tensors = calloc((size_t)n_tensors + 1, sizeof gguf->tensors[0]);
    if (gguf->values == NULL || gguf->tensors == NULL) {
        return error_set(err, STATUS_NO_MEMORY, "header", "no memory for its table");
    }
    for (uint64_t i = 0; i < n_values && status == STATUS_OK; i++) {
        status = take_value(gguf, &cursor, err);
    }
    if (status == STATUS_OK) {
        status = sort_values(gguf, err);
    }
    if (status == STATUS_OK) {
        status = refuse_split(gguf, err);
    }
    for (uint64_t i = 0; i < n_tensors && status == STATUS_OK; i++) {
        status = take_tensor(gguf, &cursor, err);
    }
    if (status == STATUS_OK) {
        status = place_tensors(gguf, (size_t)(cursor.at - gguf->bytes), err);
    }
    return status == STATUS_OK ? sort_tensors(gguf, err) : status;
}
