// Decodes a generation token by token, handing out only whole UTF-8 characters. The struct is plain
// data without ownership: copying it by assignment forks the stream, as a forked candidate needs.
// It borrows the tokenizer. One thread at a time per struct.
#ifndef WORKER_TOKENIZER_DETOKENIZER_H
#define WORKER_TOKENIZER_DETOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/status.h"
#include "worker/tokenizer/tokenizer.h"

enum {
    // Every push and finish fits in a buffer of this size: each byte may become a U+FFFD.
    DETOKENIZER_OUT_BYTES_MAX = 3 * (TOKENIZER_PIECE_BYTES_MAX + 3),
};

struct detokenizer {
    const struct tokenizer *tokenizer; // borrowed
    unsigned flags;                    // TOKENIZER_CONTINUATION, TOKENIZER_KEEP_SPECIAL
    uint8_t pending[4];                // [pending_bytes], start of an unfinished character
    uint8_t pending_bytes;             // 0..3
    bool started;                      // false while the start rule of the text still applies
};

// Starts a stream. TOKENIZER_CONTINUATION: the tokens continue a text (a generation after its
// prompt), so that a leading space is kept. TOKENIZER_KEEP_SPECIAL: special tokens appear as text.
void detokenizer_init(struct detokenizer *detokenizer, const struct tokenizer *tokenizer,
                      unsigned flags);

// Appends one token and writes what has become complete to `out` (not NUL-terminated, possibly
// nothing). INVALID_ARGUMENT: id outside the vocabulary. LIMIT: capacity too small; *bytes is then
// the needed count. After a failure the stream stands as before the call.
MUST_CHECK enum status detokenizer_push(struct detokenizer *detokenizer, int32_t id, char *out,
                                        size_t capacity, size_t *bytes);

// Ends the stream: an unfinished character becomes U+FFFD. The stream can go on after it, as a
// continuation. LIMIT as for push.
MUST_CHECK enum status detokenizer_finish(struct detokenizer *detokenizer, char *out,
                                          size_t capacity, size_t *bytes);

#endif
