#include "worker/tokenizer/base64.h"

#include <stdint.h>

// The value of a digit, 255 for any other byte.
static unsigned digit_value(char c) {
    if (c >= 'A' && c <= 'Z') {
        return (unsigned)(c - 'A');
    }
    if (c >= 'a' && c <= 'z') {
        return (unsigned)(c - 'a') + 26;
    }
    if (c >= '0' && c <= '9') {
        return (unsigned)(c - '0') + 52;
    }
    return c == '+' ? 62 : c == '/' ? 63 : 255;
}

bool base64_decode(const char *text, size_t bytes, char *out, size_t capacity, size_t *count) {
    if (bytes == 0 || bytes % 4 != 0) {
        return false;
    }
    size_t padding = text[bytes - 1] != '=' ? 0 : text[bytes - 2] != '=' ? 1 : 2;
    size_t total = bytes / 4 * 3 - padding;
    if (total > capacity) {
        return false;
    }
    size_t done = 0;
    for (size_t i = 0; i < bytes; i += 4) {
        uint32_t group = 0;
        for (size_t j = i; j < i + 4; j++) {
            unsigned digit = j >= bytes - padding ? 0 : digit_value(text[j]);
            if (digit == 255) {
                return false;
            }
            group = group << 6 | digit;
        }
        for (int shift = 16; shift >= 0 && done < total; shift -= 8) {
            out[done++] = (char)(group >> shift);
        }
    }
    *count = total;
    return true;
}
