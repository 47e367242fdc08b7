// The architectures of GGUF files that are known, and the names of their tensors beside those of
// Hugging Face. The facts (tensor names, which matrices are permuted) are those of llama.cpp's
// converter. No state; any thread.
#ifndef WORKER_MODEL_GGUF_NAMES_H
#define WORKER_MODEL_GGUF_NAMES_H

#include "common/status.h"
#include "worker/model/gguf.h"

// As bits, for sets of them.
enum { GGUF_LLAMA = 1, GGUF_QWEN2 = 2, GGUF_QWEN3 = 4, GGUF_PHI3 = 8 };

struct gguf_architecture {
    const char *name;       // general.architecture, and the prefix of its keys
    const char *class_name; // Hugging Face's
    unsigned bit;
    bool permuted; // queries and keys
};

// UNSUPPORTED: another architecture. MALFORMED: none.
MUST_CHECK enum status gguf_architecture_get(const struct gguf *gguf,
                                             const struct gguf_architecture **out,
                                             struct error *err);

// Whether a model of n_blocks may have a tensor of this name.
bool gguf_name_is_expected(const struct gguf_architecture *architecture, const char *name,
                           int64_t n_blocks);

// A tensor by its Hugging Face name, NULL when absent. Where *permuted_heads is not 0, its rows are
// that many heads of n rows and stand in pairs: row 2 i + j of a head is row j n / 2 + i of Hugging
// Face's.
const struct gguf_tensor *gguf_model_tensor(const struct gguf *gguf, const char *name,
                                            int32_t *permuted_heads);

// A value that is one string; false when there is none.
bool gguf_get_string(const struct gguf *gguf, const char *key, struct gguf_string *out);
bool gguf_string_is(const struct gguf_string *string, const char *text);

#endif
