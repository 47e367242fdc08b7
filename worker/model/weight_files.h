// The weights of a model by their Hugging Face names, whatever files they lie in: the one place
// that model.c reads tensors from. A tensor is handed out as F32, F16 or BF16, or in four bits
// where it has no more, row-major; where the file holds it so, in the mapping itself. One thread,
// during loading.
#ifndef WORKER_MODEL_WEIGHT_FILES_H
#define WORKER_MODEL_WEIGHT_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/status.h"
#include "worker/backend/backend.h"
#include "common/sha256.h"

enum { WEIGHT_DIMS_MAX = 8 };

// What a file says about a tensor.
struct weight_shape {
    const char *dtype; // as the file names it; borrowed until close
    int32_t n_dims;
    int64_t extents[WEIGHT_DIMS_MAX]; // [n_dims], each >= 0
};

struct weight_files;

// Opens the weights of the model at `path`: safetensors in a directory, a GGUF file, or a directory
// over a base (model_path.h), whose own tensors come first and whose adapter is added to those of
// the base as they are got, in f32. Errors: those of model_path_find, safetensors_open, gguf_open
// and lora_open; NOT_FOUND, SHAPE: a tensor over a base that is of another model.
MUST_CHECK enum status weight_files_open(const char *path, struct weight_files **out,
                                         struct error *err);
void weight_files_close(struct weight_files *files); // NULL allowed

// Whether there is such a tensor; `out` may be NULL.
bool weight_files_find(const struct weight_files *files, const char *name,
                       struct weight_shape *out);

// The tensor as a matrix [rows, cols]; a vector of n may be written [n] or [1, n] and is [1, n]
// here. Every element is finite. The data is borrowed until weight_files_drop. STATUS_NOT_FOUND,
// STATUS_SHAPE, STATUS_UNSUPPORTED (dtype), STATUS_MALFORMED (NaN or infinity; the message names
// the first), STATUS_NO_MEMORY; the error names the tensor.
MUST_CHECK enum status weight_files_get(struct weight_files *files, const char *name, int32_t rows,
                                        int32_t cols, struct tensor *out, struct error *err);

// Whether a file holds the tensor in blocks of four bits, each of 32 values with a scale of their
// own (Q4_0, Q4_1), and no adapter changes it.
bool weight_files_has_q4(const struct weight_files *files, const char *name);

// Such a tensor as DTYPE_Q4_1, its values bit for bit those of the file; otherwise as
// weight_files_get. STATUS_LIMIT: a scale of Q4_0 is too large for the minimum that Q4_1 needs.
MUST_CHECK enum status weight_files_get_q4(struct weight_files *files, const char *name,
                                           int32_t rows, int32_t cols, struct tensor *out,
                                           struct error *err);

// The data of a tensor that was got stays until close, drop or not.
void weight_files_keep(struct weight_files *files, const struct tensor *tensor);

// What was got is no longer looked at: copies are freed, and the kernel may take back the memory of
// mapped pages, which are read again where they are touched again.
void weight_files_drop(struct weight_files *files);

// Adds every byte of the files to `sha`: name and length before each keep the parts apart.
void weight_files_hash(const struct weight_files *files, struct sha256 *sha);

#endif
