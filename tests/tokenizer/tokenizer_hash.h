// The hashes by which ids and texts are compared with those of other libraries: FNV-1a, 32 bits,
// over ids as little-endian words or over the bytes of a text.
#ifndef TESTS_TOKENIZER_TOKENIZER_HASH_H
#define TESTS_TOKENIZER_TOKENIZER_HASH_H

#include <stddef.h>

#include "common/status.h"
#include "worker/tokenizer/tokenizer.h"

enum { TOKENIZER_HASHES_BYTES = 24 };

// Writes three hashes, 8 hexadecimal digits each and a NUL: of the ids with special tokens
// recognised, of those without, of the decoding of the first with special tokens shown.
MUST_CHECK enum status tokenizer_hash(const struct tokenizer *tokenizer, const char *text,
                                      size_t bytes, char hashes[TOKENIZER_HASHES_BYTES + 1],
                                      struct error *err);

#endif
