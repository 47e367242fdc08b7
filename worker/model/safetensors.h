// Reader of safetensors weight files, single (model.safetensors) or sharded
// (model.safetensors.index.json), as published by Hugging Face: u64 header length, JSON header of
// name -> dtype, shape, data_offsets, then the data, without gaps or bytes behind. Files are mapped
// read-only and stay so until close; what they say is untrusted and checked in full before any
// tensor is handed out. The mapping trusts one thing: that nobody shortens a file while it is open.
#ifndef WORKER_MODEL_SAFETENSORS_H
#define WORKER_MODEL_SAFETENSORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/status.h"

enum {
    SAFETENSORS_HEADER_BYTES_MAX = 100000000, // the format's own limit
    SAFETENSORS_TENSORS_MAX = 1 << 20,
    SAFETENSORS_NAME_BYTES_MAX = 512,
    SAFETENSORS_DIMS_MAX = 8,
    SAFETENSORS_FILES_MAX = 1024,
};

struct safetensors_tensor {
    const char *name;
    char dtype[8]; // as written, "F32", "BF16", ...
    int32_t n_dims;
    int64_t shape[SAFETENSORS_DIMS_MAX]; // [n_dims], each >= 0
    const void *data; // aligned to the dtype; a tensor that lies unaligned in its file is copied
    size_t bytes;     // product of shape times the dtype's width
};

struct safetensors;

// Opens the weights in `directory`. STATUS_NOT_FOUND: no weight file, or the index names an absent
// file or tensor. STATUS_MALFORMED, STATUS_LIMIT: the error names the file, the tensor and the
// numbers. STATUS_UNSUPPORTED: an unknown dtype. STATUS_IO, STATUS_NO_MEMORY.
MUST_CHECK enum status safetensors_open(const char *directory, struct safetensors **out,
                                        struct error *err);
// The same for the one file directory/name.
MUST_CHECK enum status safetensors_open_file(const char *directory, const char *name,
                                             struct safetensors **out, struct error *err);
// The same for the one file at `path`.
MUST_CHECK enum status safetensors_open_path(const char *path, struct safetensors **out,
                                             struct error *err);
// Whether `directory` has weight files that safetensors_open would read.
bool safetensors_exist(const char *directory);
void safetensors_close(struct safetensors *safetensors); // NULL allowed

// The tensor or NULL; borrowed until close.
const struct safetensors_tensor *safetensors_find(const struct safetensors *safetensors,
                                                  const char *name);
size_t safetensors_count(const struct safetensors *safetensors);
// The tensor at `index` of all, in name order.
const struct safetensors_tensor *safetensors_at(const struct safetensors *safetensors,
                                                size_t index);

// A text of the first file's "__metadata__", NULL when it has none of this name. Borrowed until
// close.
const char *safetensors_metadata(const struct safetensors *safetensors, const char *key);

// The mapped files in name order, for hashing.
size_t safetensors_file_count(const struct safetensors *safetensors);
const char *safetensors_file_name(const struct safetensors *safetensors, size_t index);
const void *safetensors_file_bytes(const struct safetensors *safetensors, size_t index,
                                   size_t *size);

// Lets the kernel take back the memory of mapped pages; what is touched again is read again.
void safetensors_drop_pages(const struct safetensors *safetensors);

#endif
