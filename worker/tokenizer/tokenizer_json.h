// The parts of the reader of tokenizer.json: tokenizer_json.c reads the model and the added tokens,
// json_steps.c the stages around it. Whatever type or option is not known here is refused, because
// leaving it out would give other ids. Errors name "tokenizer.json:<path>".
#ifndef WORKER_TOKENIZER_TOKENIZER_JSON_H
#define WORKER_TOKENIZER_TOKENIZER_JSON_H

#include <jansson.h>
#include <stdbool.h>

#include "common/status.h"
#include "worker/tokenizer/tokenizer_data.h"

enum { JSON_PATH_BYTES = 96 };

extern const char tokenizer_json_file[];

// Whether the object's "type" is `type`.
bool json_has_type(json_t *node, const char *type);

// UNSUPPORTED, naming the object's type.
enum status json_unsupported_type(json_t *node, const char *path, struct error *err);

// An option that is absent has its default; anything else than a boolean is an error, null too.
MUST_CHECK enum status json_read_flag(json_t *node, const char *path, const char *key,
                                      bool fallback, bool *out, struct error *err);

// MALFORMED: not a string of at least bytes_min bytes. LIMIT: longer than `out` holds.
MUST_CHECK enum status json_read_string(json_t *value, const char *path, size_t bytes_min,
                                        struct normalize_string *out, struct error *err);

// Truncation and padding, which are not used. MALFORMED: not what the tokenizers library reads.
MUST_CHECK enum status json_check_lengths(json_t *root, struct error *err);

// The stages, each from its key in the root. One that is absent or null leaves `out` as it is.
MUST_CHECK enum status json_read_normalizer(json_t *root, struct normalizer *out,
                                            struct error *err);
MUST_CHECK enum status json_read_pretokenizer(json_t *root, struct pretokenizer *out,
                                              struct error *err);
MUST_CHECK enum status json_read_decoder(json_t *root, bool byte_level, struct decoder *out,
                                         struct error *err);
MUST_CHECK enum status json_read_postprocessor(json_t *root, struct tokenizer *tokenizer,
                                               struct error *err);

#endif
