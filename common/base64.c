#include "common/base64.h"

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

void base64_encode(const void *bytes, size_t count, char *out) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *in = bytes;
    for (size_t i = 0; i < count; i += 3) {
        uint32_t group = (uint32_t)in[i] << 16;
        group |= i + 1 < count ? (uint32_t)in[i + 1] << 8 : 0;
        group |= i + 2 < count ? in[i + 2] : 0;
        *out++ = digits[group >> 18];
        *out++ = digits[group >> 12 & 63];
        *out++ = i + 1 < count ? digits[group >> 6 & 63] : '=';
        *out++ = i + 2 < count ? digits[group & 63] : '=';
    }
    *out = '\0';
}
