// Base64 (RFC 4648, section 4). Pure; any thread.
#ifndef COMMON_BASE64_H
#define COMMON_BASE64_H

#include <stdbool.h>
#include <stddef.h>

// Decodes text [bytes]. False: not base64, nothing in it, or more than `capacity` bytes.
bool base64_decode(const char *text, size_t bytes, char *out, size_t capacity, size_t *count);

// Characters that `bytes` bytes make, padding included.
static inline size_t base64_length(size_t bytes) {
    return (bytes + 2) / 3 * 4;
}

// Encodes bytes [count] as base64_length(count) characters and a NUL.
void base64_encode(const void *bytes, size_t count, char *out);

#endif
