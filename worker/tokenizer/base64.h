// Base64 (RFC 4648, section 4), as the model files hold bytes. Pure; any thread.
#ifndef WORKER_TOKENIZER_BASE64_H
#define WORKER_TOKENIZER_BASE64_H

#include <stdbool.h>
#include <stddef.h>

// Decodes text [bytes]. False: not base64, nothing in it, or more than `capacity` bytes.
bool base64_decode(const char *text, size_t bytes, char *out, size_t capacity, size_t *count);

#endif
