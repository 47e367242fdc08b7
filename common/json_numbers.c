#include "common/json_numbers.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/status.h"

enum { NUMBER_BYTES_MAX = 1024 }; // a longer number stays as it is, and the parser judges it

// First byte after the string whose opening quote is text[begin].
static size_t skip_string(const char *text, size_t bytes, size_t begin) {
    size_t i = begin + 1;
    while (i < bytes && text[i] != '"') {
        i += text[i] == '\\' ? 2 : 1;
    }
    return i < bytes ? i + 1 : bytes;
}

static bool in_number(char c) {
    return (c >= '0' && c <= '9') || c == '-' || c == '+' || c == '.' || c == 'e' || c == 'E';
}

// Too long for int64_t or too large for double, both by what the C library reads; `number` ends
// with a NUL.
static bool is_too_large(const char *number, bool integer, double *value) {
    errno = 0;
    if (integer) {
        (void)strtoll(number, NULL, 10);
    } else {
        (void)strtod(number, NULL);
    }
    bool large = errno == ERANGE;
    *value = strtod(number, NULL);
    return large && fabs(*value) >= 1;
}

static void bound_number(char *text, size_t length) {
    char number[NUMBER_BYTES_MAX + 1];
    if (length > NUMBER_BYTES_MAX) {
        return;
    }
    memcpy(number, text, length);
    number[length] = '\0';
    double value;
    bool integer = strspn(number, "-0123456789") == length;
    if (!is_too_large(number, integer, &value)) {
        return;
    }
    // The shortest integer above 64 bits has 19 digits, the shortest number above double 5 bytes
    // (1e309): both forms fit.
    int written = isfinite(value)
                      ? snprintf(number, sizeof number, "%.12e", value)
                      : snprintf(number, sizeof number, "%s9e307", value < 0 ? "-" : "");
    if (written > 0 && (size_t)written <= length) {
        memset(text, ' ', length);
        memcpy(text, number, (size_t)written);
    }
}

void json_numbers_bound(char *text, size_t bytes) {
    size_t i = 0;
    while (i < bytes) {
        if (text[i] == '"') {
            i = skip_string(text, bytes, i);
            continue;
        }
        size_t begin = i;
        while (i < bytes && in_number(text[i])) {
            i++;
        }
        if (i - begin >= 5) {
            bound_number(text + begin, i - begin);
        }
        i += i == begin;
    }
}

enum {
    REAL_BYTES_MAX = 24, // "-2.2250738585072014e-308"
    REAL_TEXT_BYTES = 64,
    DIGITS_MAX = 17,
};

// Writes sign, digits and exponent of `value` as jansson does with 17 digits, a real one always
// with a point or an exponent. Returns the length.
static size_t write_real(double value, int n_digits, char out[REAL_TEXT_BYTES]) {
    char digits[REAL_TEXT_BYTES];
    snprintf(digits, sizeof digits, "%.*e", n_digits - 1, fabs(value));
    char *at = strchr(digits, 'e');
    int exponent = (int)strtol(at + 1, NULL, 10);
    const char *sign = signbit(value) ? "-" : "";
    int written;
    if (exponent < -4 || exponent >= DIGITS_MAX) {
        *at = '\0';
        written = snprintf(out, REAL_TEXT_BYTES, "%s%se%d", sign, digits, exponent);
    } else {
        int decimals = n_digits - 1 - exponent;
        written = snprintf(out, REAL_TEXT_BYTES, "%s%.*f%s", sign, decimals > 0 ? decimals : 0,
                           fabs(value), decimals > 0 ? "" : ".0");
    }
    ASSERT(written > 0 && written < REAL_TEXT_BYTES);
    return (size_t)written;
}

// The shortest form of the real number text[length], in `out`; its length, 0: it stays as it is.
static size_t shorten(const char *text, size_t length, char out[REAL_TEXT_BYTES]) {
    char number[REAL_BYTES_MAX + 1];
    if (length > REAL_BYTES_MAX || strcspn(text, ".eE") >= length) {
        return 0;
    }
    memcpy(number, text, length);
    number[length] = '\0';
    double value = strtod(number, NULL);
    for (int n_digits = 1; isfinite(value) && n_digits <= DIGITS_MAX; n_digits++) {
        size_t written = write_real(value, n_digits, out);
        if (strtod(out, NULL) == value) {
            return written <= length ? written : 0;
        }
    }
    return 0;
}

void json_numbers_shorten(char *text) {
    size_t bytes = strlen(text);
    size_t kept = 0;
    for (size_t i = 0; i < bytes;) {
        size_t begin = i;
        if (text[i] == '"') {
            i = skip_string(text, bytes, i);
        } else if (text[i] == '-' || (text[i] >= '0' && text[i] <= '9')) {
            char number[REAL_TEXT_BYTES];
            while (i < bytes && in_number(text[i])) {
                i++;
            }
            size_t length = shorten(text + begin, i - begin, number);
            if (length > 0) {
                memcpy(text + kept, number, length);
                kept += length;
                continue;
            }
        } else {
            i++;
        }
        memmove(text + kept, text + begin, i - begin);
        kept += i - begin;
    }
    text[kept] = '\0';
}
