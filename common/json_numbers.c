#include "common/json_numbers.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
