// The one way between protobuf-c messages and bytes: one type table, two functions. Size, structure
// and strings are checked before anything is allocated, and unpacking allocates through a counting
// allocator, so that a small message cannot ask for much memory. Enum numbers and fields that this
// build does not know are let through. Any thread.
#ifndef PROTO_WIRE_H
#define PROTO_WIRE_H

#include <stddef.h>
#include <stdint.h>

#include "common/status.h"
#include "client.pb-c.h" // IWYU pragma: export
#include "group.pb-c.h"  // IWYU pragma: export

enum { WIRE_SCHEMA_MAJOR = 1, WIRE_SCHEMA_MINOR = 11 };

enum wire_type {
    WIRE_CLIENT_REQUEST,    // Surefoot__ClientRequest
    WIRE_CLIENT_REPLY,      // Surefoot__ClientReply
    WIRE_GROUP_MESSAGE,     // Surefoot__GroupMessage
    WIRE_GROUP_COMMAND,     // Surefoot__GroupCommand
    WIRE_ORDER,             // Surefoot__Order
    WIRE_GATHERED,          // Surefoot__Gathered
    WIRE_SUBMIT_JOB,        // Surefoot__SubmitJob
    WIRE_JOB_RESULT,        // Surefoot__JobResult
    WIRE_CALIBRATION_ENTRY, // Surefoot__CalibrationEntry
};

// Packs `message` (the protobuf-c struct of `type`). Returns owned bytes in *bytes, released with
// free(). STATUS_LIMIT: larger than the type's limit; STATUS_NO_MEMORY.
MUST_CHECK enum status wire_pack(enum wire_type type, const void *message, uint8_t **bytes,
                                 size_t *size);

// What wire_unpack checks before it allocates: the size, that fields and submessages lie within
// each other, and that every string is UTF-8 without a NUL byte (err->field is its dotted path,
// such as "submit.spec.messages[2].content"). For senders that pass on text of others.
// STATUS_LIMIT, STATUS_MALFORMED.
MUST_CHECK enum status wire_check(enum wire_type type, const uint8_t *bytes, size_t size,
                                  struct error *err);

// Unpacks into *message, released with wire_free(). STATUS_LIMIT: size, number of allocations or
// memory above the type's limit; STATUS_MALFORMED as in wire_check; STATUS_NO_MEMORY. Outputs are
// written only on success.
MUST_CHECK enum status wire_unpack(enum wire_type type, const uint8_t *bytes, size_t size,
                                   void **message, struct error *err);

// Releases what wire_unpack returned; NULL is allowed.
void wire_free(enum wire_type type, void *message);

// The schema check of a first message: STATUS_VERSION unless major equals ours.
MUST_CHECK enum status wire_check_version(uint32_t major, uint32_t minor, struct error *err);

// ErrorInfo <-> struct error. A status number outside our table reads as STATUS_INTERNAL; NULL
// `info` reads as STATUS_OK. wire_error_fill borrows the strings of `err` until the message is
// packed.
void wire_error_fill(Surefoot__ErrorInfo *info, const struct error *err);
void wire_error_read(const Surefoot__ErrorInfo *info, struct error *err);

#endif
