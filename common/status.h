// One table of failures for every program, and the record that carries a failure to a person.
// Codes of other libraries (errno, MPI, ZeroMQ, SQLite) are converted where they appear and nowhere
// else. The numbers reach the wire and the database: they are frozen, new ones go at the end.
#ifndef COMMON_STATUS_H
#define COMMON_STATUS_H

#include <stdbool.h>

#define MUST_CHECK __attribute__((warn_unused_result))

// name, frozen number, text
#define STATUS_TABLE(X)                                                                            \
    X(OK, 0, "success")                                                                            \
    X(INVALID_ARGUMENT, 1, "invalid argument")                                                     \
    X(LIMIT, 2, "limit exceeded")                                                                  \
    X(NOT_FOUND, 3, "not found")                                                                   \
    X(ALREADY_EXISTS, 4, "already exists")                                                         \
    X(NO_MEMORY, 5, "out of memory")                                                               \
    X(IO, 6, "input/output error")                                                                 \
    X(DISK_FULL, 7, "no space left for the store")                                                 \
    X(MALFORMED, 8, "malformed data")                                                              \
    X(UNSUPPORTED, 9, "not supported")                                                             \
    X(SHAPE, 10, "tensor shape mismatch")                                                          \
    X(DEADLINE, 11, "deadline exceeded")                                                           \
    X(CANCELLED, 12, "cancelled")                                                                  \
    X(UNAVAILABLE, 13, "unavailable, try again")                                                   \
    X(ADDRESS_IN_USE, 14, "address already in use")                                                \
    X(PEER_LOST, 15, "peer lost")                                                                  \
    X(DEVICE, 16, "device error")                                                                  \
    X(VERSION, 17, "incompatible version")                                                         \
    X(INTERNAL, 18, "internal error")                                                              \
    X(RESOURCE_EXHAUSTED, 19, "no room now, try again later")                                      \
    X(PERMISSION, 20, "not allowed")

enum status {
#define STATUS_ENUM(name, number, text) STATUS_##name = number,
    STATUS_TABLE(STATUS_ENUM)
#undef STATUS_ENUM
};

// Short name such as "INVALID_ARGUMENT"; "UNKNOWN" for a number outside the table. Static storage.
const char *status_name(enum status status);

// Sentence for a person; static storage.
const char *status_text(enum status status);

// True when `number` is one of the table's, for codes read from outside.
bool status_is_known(int number);

// Converts an errno value: ENOENT to NOT_FOUND, ENOMEM to NO_MEMORY, ENOSPC and EDQUOT to DISK_FULL,
// EADDRINUSE to ADDRESS_IN_USE, everything else to IO.
enum status status_from_errno(int errno_value);

enum { ERROR_FIELD_BYTES = 64, ERROR_MESSAGE_BYTES = 320 };

// What a person or client is told. Fixed size, no allocation; the message names the limit.
struct error {
    enum status status;
    char field[ERROR_FIELD_BYTES];     // dotted path of the offending input, "" when there is none
    char message[ERROR_MESSAGE_BYTES]; // UTF-8, NUL-terminated, truncated at a character boundary
};

// Fills `err` (NULL is allowed and ignored) and returns `status`, so that a failing function can end
// with `return error_set(err, STATUS_LIMIT, "max_tokens", "%d is above the limit %d", ...)`.
// `field` may be NULL.
enum status error_set(struct error *err, enum status status, const char *field, const char *format,
                      ...) __attribute__((format(printf, 4, 5)));

// Puts `prefix` and a dot before err->field (or makes it the field when that is empty), for callers
// that know where in a larger document the failing part stood.
void error_prefix_field(struct error *err, const char *prefix);

// Programmer errors only; stays in release builds. Prints the place and aborts.
#define ASSERT(condition)                                                                          \
    ((condition) ? (void)0 : assert_fail(#condition, __FILE__, __LINE__, __func__))

_Noreturn void assert_fail(const char *condition, const char *file, int line, const char *function);

#endif
