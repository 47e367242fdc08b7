// The precompiled character map of SentencePiece: a double-array trie of strings to replace (Darts
// clone, as in sentencepiece/src/normalizer.cc) and the texts that replace them. Applied as the
// Hugging Face tokenizers library does (normalizers/precompiled.rs): to a short grapheme cluster as
// a whole, else to each of its characters.
#ifndef WORKER_TOKENIZER_CHARSMAP_H
#define WORKER_TOKENIZER_CHARSMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/status.h"
#include "worker/tokenizer/text_buffer.h"

enum { CHARSMAP_BYTES_MAX = 1 << 24 };

struct charsmap {
    uint32_t *units; // [n_units], the trie; owned
    size_t n_units;
    char *texts; // [texts_bytes], replacements, each ends with NUL; owned
    size_t texts_bytes;
    bool keeps[128]; // an ASCII character that is a cluster of its own stays as it is
};

// Copies a map of bytes [count] as it lies in a file: the trie's length in bytes (little-endian
// 32-bit), the trie, the texts. MALFORMED: lengths that do not fit. LIMIT, NO_MEMORY.
MUST_CHECK enum status charsmap_read(const void *bytes, size_t count, struct charsmap *out);

// Appends text [bytes] (well-formed UTF-8), mapped. LIMIT, NO_MEMORY.
MUST_CHECK enum status charsmap_apply(const struct charsmap *map, const char *text, size_t bytes,
                                      struct text_buffer *out);

void charsmap_finish(struct charsmap *map);

#endif
