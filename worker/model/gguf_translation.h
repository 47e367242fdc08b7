// The inside of the translation of a GGUF file's metadata to config.json, shared by gguf_config.c
// and gguf_rope.c. No other file includes this.
#ifndef WORKER_MODEL_GGUF_TRANSLATION_H
#define WORKER_MODEL_GGUF_TRANSLATION_H

#include "worker/model/gguf_config.h"
#include "worker/model/gguf_names.h"

enum { GGUF_KEY_BYTES = 128 };

struct gguf_translation {
    const struct gguf *gguf;
    const struct gguf_architecture *architecture;
    json_t *config; // owned; what was translated so far
};

// "<architecture>.<suffix>"; returns key.
const char *gguf_full_key(const struct gguf_translation *t, const char *suffix,
                          char key[GGUF_KEY_BYTES]);

// MALFORMED: "<key> is not <wanted>".
enum status gguf_wrong_type(const char *key, const char *wanted, struct error *err);

// A finite number, *out as it was where there is none.
MUST_CHECK enum status gguf_get_real(const struct gguf *gguf, const char *key, bool required,
                                     double *out, struct error *err);

// Numbers of a head, as the configuration so far says.
int64_t gguf_head_dim(const struct gguf_translation *t);

// Adds rope_scaling, of the scaling keys and the tensors of factors. Errors as gguf_config.
MUST_CHECK enum status gguf_add_rope(const struct gguf_translation *t, struct error *err);

#endif
