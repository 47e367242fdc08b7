// Writer of one safetensors file (worker/model/safetensors.h reads it). The file appears under its
// name when it is complete and on disk, in place of an earlier one; until then it stands at
// `path`.part. Blocks; any thread.
#ifndef WORKER_MODEL_SAFETENSORS_WRITE_H
#define WORKER_MODEL_SAFETENSORS_WRITE_H

#include "worker/model/safetensors.h"

struct safetensors_text {
    const char *key;
    const char *value; // UTF-8
};

// Writes tensors [n] with name, dtype, shape, data and bytes set, in this order, and texts
// [n_metadata] as "__metadata__". Errors name the file: STATUS_IO, STATUS_DISK_FULL,
// STATUS_NO_MEMORY; an earlier file then stays as it was.
MUST_CHECK enum status safetensors_write(const char *path, const struct safetensors_text *metadata,
                                         size_t n_metadata,
                                         const struct safetensors_tensor *tensors, size_t n,
                                         struct error *err);

#endif
