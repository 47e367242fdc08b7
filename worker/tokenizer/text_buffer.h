// A growing byte string for text that is rewritten on its way to the model: one scratch buffer per
// encode call is reused for all its parts.
#ifndef WORKER_TOKENIZER_TEXT_BUFFER_H
#define WORKER_TOKENIZER_TEXT_BUFFER_H

#include <stddef.h>

#include "common/status.h"

// A text may grow while it is normalised (a space becomes three bytes); beyond this it is refused.
enum { TEXT_BUFFER_BYTES_MAX = 1 << 24 };

struct text_buffer {
    char *data; // [bytes], owned; NULL while nothing was appended
    size_t bytes;
    size_t capacity;
};

// LIMIT above TEXT_BUFFER_BYTES_MAX, NO_MEMORY; the contents stay.
MUST_CHECK enum status text_buffer_append(struct text_buffer *buffer, const char *bytes,
                                          size_t count);

// Frees the contents.
void text_buffer_finish(struct text_buffer *buffer);

#endif
