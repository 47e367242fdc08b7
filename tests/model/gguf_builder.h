// Writes GGUF files piece by piece, for tests: right ones, and ones that lie.
#ifndef TESTS_MODEL_GGUF_BUILDER_H
#define TESTS_MODEL_GGUF_BUILDER_H

#include <stddef.h>
#include <stdint.h>

#include "worker/model/gguf.h"

// A growing file. Nothing checks what is put into it.
struct gguf_builder {
    unsigned char *bytes; // owned, aligned as malloc does it
    size_t size;
    size_t capacity;
};

void gguf_builder_finish(struct gguf_builder *file);

void gguf_put(struct gguf_builder *file, const void *bytes, size_t count);
void gguf_put_u32(struct gguf_builder *file, uint32_t value);
void gguf_put_u64(struct gguf_builder *file, uint64_t value);
void gguf_put_string(struct gguf_builder *file, const char *text);
void gguf_put_header(struct gguf_builder *file, uint32_t version, uint64_t n_tensors,
                     uint64_t n_values);

// Whole values.
void gguf_put_text(struct gguf_builder *file, const char *key, const char *text);
void gguf_put_number(struct gguf_builder *file, const char *key, uint32_t value);
void gguf_put_real(struct gguf_builder *file, const char *key, float value);
void gguf_put_bool(struct gguf_builder *file, const char *key, int value);
void gguf_put_texts(struct gguf_builder *file, const char *key, const char *const *texts, size_t n);
void gguf_put_reals(struct gguf_builder *file, const char *key, const float *values, size_t n);
void gguf_put_numbers(struct gguf_builder *file, const char *key, const int32_t *values, size_t n);

// A tensor info of one or two dimensions (rows 0: one).
void gguf_put_tensor(struct gguf_builder *file, const char *name, uint64_t cols, uint64_t rows,
                     uint32_t type, uint64_t offset);

// Zeros up to the next multiple.
void gguf_put_padding(struct gguf_builder *file, size_t alignment);

#endif
