// The tokenizer of a GGUF file as the tokenizer.json and tokenizer_config.json that would say the
// same, so that these have one reader and one set of checks: byte-level BPE (tokenizer.ggml.model
// "gpt2") of the pre-tokenizers that are known by name. SentencePiece vocabularies ("llama") have a
// tokenizer_config.json only; tokenizer_gguf_pieces.c reads them. A GGUF file does not hold whether
// an added token takes the spaces beside it (lstrip, rstrip): none does here.
#ifndef WORKER_TOKENIZER_TOKENIZER_GGUF_H
#define WORKER_TOKENIZER_TOKENIZER_GGUF_H

#include <jansson.h>

#include "common/status.h"
#include "worker/model/gguf.h"

// *out is owned. NOT_FOUND: a document that a GGUF file does not stand for. UNSUPPORTED: another
// model or pre-tokenizer, or a key that is not known; MALFORMED: keys that do not fit each other, a
// text that two tokens have. The rest as gguf_open. The field is the file's name, then the key.
MUST_CHECK enum status tokenizer_gguf_document(const char *path, const char *name, json_t **out,
                                               struct error *err);

// The same of an opened file; the field is the key alone.
MUST_CHECK enum status tokenizer_gguf_translate(const struct gguf *gguf, const char *name,
                                                json_t **out, struct error *err);

// A bool, *out as it was where there is none. MALFORMED: something else.
MUST_CHECK enum status tokenizer_gguf_flag(const struct gguf *gguf, const char *key, bool *out,
                                           struct error *err);

// UNSUPPORTED: a key below tokenizer.ggml that is not known, or EOS and separators in every text.
MUST_CHECK enum status tokenizer_gguf_check(const struct gguf *gguf, struct error *err);

#endif
