// What a GGUF file says about a model as the config.json and generation_config.json that would say
// the same, so that these have one reader and one set of checks. A key or tensor that is not known
// to mean what the configuration then says is refused by name: nothing in a file is passed over.
#ifndef WORKER_MODEL_GGUF_CONFIG_H
#define WORKER_MODEL_GGUF_CONFIG_H

#include <jansson.h>

#include "common/status.h"
#include "worker/model/gguf.h"

// Returns an owned object in *out. UNSUPPORTED: an architecture, key or tensor that is not known.
// MALFORMED: a key that is missing or of another type.
MUST_CHECK enum status gguf_config(const struct gguf *gguf, json_t **out, struct error *err);

// The ids that end a generation, as generation_config.json holds them.
MUST_CHECK enum status gguf_generation_config(const struct gguf *gguf, json_t **out,
                                              struct error *err);

// Adds the string at `key` to `object`; nothing where there is none. MALFORMED: not a string of
// UTF-8.
MUST_CHECK enum status gguf_copy_string(const struct gguf *gguf, const char *key, json_t *object,
                                        const char *to, struct error *err);

// An integer of at least 0, *out as it was when there is none.
MUST_CHECK enum status gguf_get_integer(const struct gguf *gguf, const char *key, bool required,
                                        int64_t *out, struct error *err);

#endif
