// The inside of an opened GGUF file, shared by its reader (gguf_read.c) and what looks things up in
// it (gguf.c). No other file includes this.
#ifndef WORKER_MODEL_GGUF_PRIVATE_H
#define WORKER_MODEL_GGUF_PRIVATE_H

#include "worker/model/gguf.h"

struct gguf {
    const unsigned char *bytes; // [size]
    size_t size;
    bool mapped;
    char *file_name;
    struct gguf_value *values; // [n_values], by key
    size_t n_values;
    struct gguf_tensor *tensors; // [n_tensors], by name
    size_t n_tensors;
};

// Bytes of one value of a type; 0 for a string or an array.
size_t gguf_width(enum gguf_type type);

// A little-endian number of `count` bytes, at most 8.
uint64_t gguf_number(const unsigned char *bytes, size_t count);

// Fills values and tensors from bytes [size]. Errors as gguf_parse; what was filled is closed by
// gguf_close then too.
MUST_CHECK enum status gguf_read(struct gguf *gguf, struct error *err);

#endif
