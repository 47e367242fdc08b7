// Reader of GGUF files, versions 2 and 3, little-endian: the one-file form of a model, as published
// by the ggml project (its docs/gguf.md). Metadata as typed values by key, then tensors by name. A
// file is mapped read-only and stays so until close; what it says is untrusted: every count, size,
// offset, type and string is checked against the file and the limits below before it is used, and
// values are handed out only afterwards. The mapping trusts one thing: that nobody shortens a file
// while it is open. Immutable after open; any thread.
#ifndef WORKER_MODEL_GGUF_H
#define WORKER_MODEL_GGUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/status.h"
#include "worker/model/gguf_blocks.h"

enum {
    GGUF_KEYS_MAX = 1 << 16,
    GGUF_TENSORS_MAX = 1 << 16,
    GGUF_NAME_BYTES_MAX = 256,        // of a key or a tensor
    GGUF_STRING_BYTES_MAX = 16 << 20, // of a value
    GGUF_ARRAY_ITEMS_MAX = 1 << 24,
    GGUF_DIMS_MAX = 4, // the format's own limit
    GGUF_ALIGNMENT_MIN = 8,
    GGUF_ALIGNMENT_MAX = 1 << 20,
};

// Numbers as in the file.
enum gguf_type {
    GGUF_U8,
    GGUF_I8,
    GGUF_U16,
    GGUF_I16,
    GGUF_U32,
    GGUF_I32,
    GGUF_F32,
    GGUF_BOOL,
    GGUF_STRING,
    GGUF_ARRAY,
    GGUF_U64,
    GGUF_I64,
    GGUF_F64,
    GGUF_TYPES,
};

struct gguf_value {
    const char *key;
    enum gguf_type type; // never GGUF_ARRAY: that of the items
    bool is_array;
    uint64_t count;            // items of an array, else 1
    const unsigned char *data; // in the file, not aligned
    const unsigned char *end;  // of the data
};

// A string where it is mapped; no NUL behind it.
struct gguf_string {
    const char *bytes;
    size_t count;
};

struct gguf_tensor {
    const char *name;
    const struct gguf_block_type *type;
    int32_t n_dims;
    int64_t extents[GGUF_DIMS_MAX]; // [n_dims], as in the file: the fastest first; each > 0
    const void *data;               // aligned to GGUF_ALIGNMENT_MIN
    size_t bytes;
    uint64_t offset; // of the data from the start of the data section
};

struct gguf;

// Whether the name ends in ".gguf": what a path is taken for, before anything is opened.
bool gguf_is_path(const char *path);

// Opens a file. NOT_FOUND, IO. MALFORMED: truncated, inconsistent, a repeated key or tensor. LIMIT:
// above one of the limits. VERSION: not version 2 or 3. UNSUPPORTED: big-endian, a part of a split
// model, an array of arrays, a tensor type without a decoder. The error's field is the key or
// tensor, "" where the file as a whole is meant; the message names the numbers.
MUST_CHECK enum status gguf_open(const char *path, struct gguf **out, struct error *err);

// The same for bytes in memory, aligned to GGUF_ALIGNMENT_MIN, borrowed until close.
MUST_CHECK enum status gguf_parse(const void *bytes, size_t size, struct gguf **out,
                                  struct error *err);
void gguf_close(struct gguf *gguf); // NULL allowed

// Last component of the path it was opened by; "" for bytes in memory.
const char *gguf_file_name(const struct gguf *gguf);
const void *gguf_bytes(const struct gguf *gguf, size_t *size);
// Lets the kernel take back the memory of mapped pages; what is touched again is read again.
void gguf_drop_pages(const struct gguf *gguf);

// Values and tensors in ascending order of their names; NULL when absent. Borrowed until close.
const struct gguf_value *gguf_find(const struct gguf *gguf, const char *key);
size_t gguf_value_count(const struct gguf *gguf);
const struct gguf_value *gguf_value_at(const struct gguf *gguf, size_t index);
const struct gguf_tensor *gguf_find_tensor(const struct gguf *gguf, const char *name);
size_t gguf_tensor_count(const struct gguf *gguf);
const struct gguf_tensor *gguf_tensor_at(const struct gguf *gguf, size_t index);

// Item `index` (below count) of a value whose type is an integer or BOOL; false for another type
// and for a number that int64_t does not hold.
bool gguf_integer(const struct gguf_value *value, uint64_t index, int64_t *out);
// Of type F32 or F64.
bool gguf_real(const struct gguf_value *value, uint64_t index, double *out);

// Walks the strings of a value: *at is value->data at first, and moves on with each call. False at
// the end, or when the type is another.
bool gguf_next_string(const struct gguf_value *value, const unsigned char **at,
                      struct gguf_string *out);

#endif
