#include "common/status.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *status_name(enum status status) {
    switch (status) {
#define STATUS_CASE(name, number, text)                                                            \
    case STATUS_##name:                                                                            \
        return #name;
        STATUS_TABLE(STATUS_CASE)
#undef STATUS_CASE
    }
    return "UNKNOWN";
}

const char *status_text(enum status status) {
    switch (status) {
#define STATUS_CASE(name, number, text)                                                            \
    case STATUS_##name:                                                                            \
        return text;
        STATUS_TABLE(STATUS_CASE)
#undef STATUS_CASE
    }
    return "unknown status";
}

bool status_is_known(int number) {
    switch (number) {
#define STATUS_CASE(name, value, text) case value:
        STATUS_TABLE(STATUS_CASE)
#undef STATUS_CASE
        return true;
    default:
        return false;
    }
}

enum status status_from_errno(int errno_value) {
    switch (errno_value) {
    case 0:
        return STATUS_OK;
    case ENOENT:
        return STATUS_NOT_FOUND;
    case EEXIST:
        return STATUS_ALREADY_EXISTS;
    case ENOMEM:
        return STATUS_NO_MEMORY;
    case ENOSPC:
    case EDQUOT:
        return STATUS_DISK_FULL;
    case EADDRINUSE:
        return STATUS_ADDRESS_IN_USE;
    case ETIMEDOUT:
        return STATUS_DEADLINE;
    case EINVAL:
        return STATUS_INVALID_ARGUMENT;
    default:
        return STATUS_IO;
    }
}

// Cuts `text` back to a whole UTF-8 character when snprintf cut it inside one.
static void trim_partial_character(char *text) {
    size_t length = strlen(text);
    size_t start = length;
    while (start > 0 && ((unsigned char)text[start - 1] & 0xC0) == 0x80) {
        start--;
    }
    if (start == 0) {
        return;
    }
    unsigned char lead = (unsigned char)text[start - 1];
    size_t want = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC0 ? 2 : 1;
    if (length - (start - 1) < want) {
        text[start - 1] = '\0';
    }
}

enum status error_set(struct error *err, enum status status, const char *field, const char *format,
                      ...) {
    if (err == NULL) {
        return status;
    }
    err->status = status;
    int field_bytes = snprintf(err->field, sizeof err->field, "%s", field == NULL ? "" : field);
    if (field_bytes >= (int)sizeof err->field) {
        trim_partial_character(err->field);
    }
    va_list args;
    va_start(args, format);
    int wanted = vsnprintf(err->message, sizeof err->message, format, args);
    va_end(args);
    if (wanted >= (int)sizeof err->message) {
        trim_partial_character(err->message);
    }
    return status;
}

void error_prefix_field(struct error *err, const char *prefix) {
    if (err == NULL) {
        return;
    }
    char joined[ERROR_FIELD_BYTES];
    int wanted = err->field[0] == '\0'
                     ? snprintf(joined, sizeof joined, "%s", prefix)
                     : snprintf(joined, sizeof joined, "%s.%s", prefix, err->field);
    if (wanted >= (int)sizeof joined) {
        trim_partial_character(joined);
    }
    memcpy(err->field, joined, sizeof joined);
}

_Noreturn void assert_fail(const char *condition, const char *file, int line,
                           const char *function) {
    fprintf(stderr, "%s:%d: %s: assertion failed: %s\n", file, line, function, condition);
    abort();
}
