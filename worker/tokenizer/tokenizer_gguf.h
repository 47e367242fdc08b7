// The tokenizer of a GGUF file as the tokenizer.json and tokenizer_config.json that would say the
// same, so that these have one reader and one set of checks. Byte-level BPE (tokenizer.ggml.model
// "gpt2") of the pre-tokenizers that are known by name. A GGUF file does not hold whether an added
// token takes the spaces beside it (lstrip, rstrip): none does here.
#ifndef WORKER_TOKENIZER_TOKENIZER_GGUF_H
#define WORKER_TOKENIZER_TOKENIZER_GGUF_H

#include <jansson.h>

#include "common/status.h"

// *out is owned. NOT_FOUND: a document that a GGUF file does not stand for. UNSUPPORTED: another
// model or pre-tokenizer, or a key that is not known; MALFORMED: keys that do not fit each other, a
// text that two tokens have. The rest as gguf_open. The field is the file's name, then the key.
MUST_CHECK enum status tokenizer_gguf_document(const char *path, const char *name, json_t **out,
                                               struct error *err);

#endif
