#include "tests/model/gguf_builder.h"

#include <stdlib.h>
#include <string.h>

#include "common/status.h"

void gguf_builder_finish(struct gguf_builder *file) {
    free(file->bytes);
    *file = (struct gguf_builder){0};
}

void gguf_put(struct gguf_builder *file, const void *bytes, size_t count) {
    if (file->size + count > file->capacity) {
        file->capacity = 2 * (file->size + count) + 256;
        file->bytes = realloc(file->bytes, file->capacity);
        ASSERT(file->bytes != NULL);
    }
    if (count > 0) {
        memcpy(file->bytes + file->size, bytes, count);
    }
    file->size += count;
}

static void put_number(struct gguf_builder *file, uint64_t value, size_t count) {
    unsigned char bytes[8];
    for (size_t i = 0; i < count; i++) {
        bytes[i] = (unsigned char)(value >> 8 * i);
    }
    gguf_put(file, bytes, count);
}

void gguf_put_u32(struct gguf_builder *file, uint32_t value) {
    put_number(file, value, 4);
}

void gguf_put_u64(struct gguf_builder *file, uint64_t value) {
    put_number(file, value, 8);
}

void gguf_put_string(struct gguf_builder *file, const char *text) {
    gguf_put_u64(file, strlen(text));
    gguf_put(file, text, strlen(text));
}

void gguf_put_header(struct gguf_builder *file, uint32_t version, uint64_t n_tensors,
                     uint64_t n_values) {
    gguf_put(file, "GGUF", 4);
    gguf_put_u32(file, version);
    gguf_put_u64(file, n_tensors);
    gguf_put_u64(file, n_values);
}

static void put_key(struct gguf_builder *file, const char *key, enum gguf_type type) {
    gguf_put_string(file, key);
    gguf_put_u32(file, (uint32_t)type);
}

void gguf_put_text(struct gguf_builder *file, const char *key, const char *text) {
    put_key(file, key, GGUF_STRING);
    gguf_put_string(file, text);
}

void gguf_put_number(struct gguf_builder *file, const char *key, uint32_t value) {
    put_key(file, key, GGUF_U32);
    gguf_put_u32(file, value);
}

void gguf_put_real(struct gguf_builder *file, const char *key, float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    put_key(file, key, GGUF_F32);
    gguf_put_u32(file, bits);
}

void gguf_put_bool(struct gguf_builder *file, const char *key, int value) {
    put_key(file, key, GGUF_BOOL);
    put_number(file, (uint64_t)value, 1);
}

static void put_array(struct gguf_builder *file, const char *key, enum gguf_type type, size_t n) {
    put_key(file, key, GGUF_ARRAY);
    gguf_put_u32(file, (uint32_t)type);
    gguf_put_u64(file, n);
}

void gguf_put_texts(struct gguf_builder *file, const char *key, const char *const *texts,
                    size_t n) {
    put_array(file, key, GGUF_STRING, n);
    for (size_t i = 0; i < n; i++) {
        gguf_put_string(file, texts[i]);
    }
}

void gguf_put_numbers(struct gguf_builder *file, const char *key, const int32_t *values, size_t n) {
    put_array(file, key, GGUF_I32, n);
    for (size_t i = 0; i < n; i++) {
        gguf_put_u32(file, (uint32_t)values[i]);
    }
}

void gguf_put_reals(struct gguf_builder *file, const char *key, const float *values, size_t n) {
    put_array(file, key, GGUF_F32, n);
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &values[i], sizeof bits);
        gguf_put_u32(file, bits);
    }
}

void gguf_put_tensor(struct gguf_builder *file, const char *name, uint64_t cols, uint64_t rows,
                     uint32_t type, uint64_t offset) {
    gguf_put_string(file, name);
    gguf_put_u32(file, rows > 0 ? 2 : 1);
    gguf_put_u64(file, cols);
    if (rows > 0) {
        gguf_put_u64(file, rows);
    }
    gguf_put_u32(file, type);
    gguf_put_u64(file, offset);
}

void gguf_put_padding(struct gguf_builder *file, size_t alignment) {
    while (file->size % alignment != 0) {
        gguf_put(file, "", 1);
    }
}
