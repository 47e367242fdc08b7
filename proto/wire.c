#include "proto/wire.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/limits.h"

// No path through the schema is deeper; it has no recursive message.
enum { DEPTH_MAX = 8, FIELDS_MAX = 64, PATH_BYTES = 256 };

struct wire_row {
    const ProtobufCMessageDescriptor *descriptor;
    size_t bytes_max;
    size_t allocations_max; // of one unpacking
    size_t memory_max;      // bytes allocated by one unpacking
};

enum {
    CLIENT_ALLOCATIONS_MAX = 1 << 17,
    GROUP_ALLOCATIONS_MAX = 1 << 20,
};

#define CLIENT_ROW(type)                                                                           \
    {                                                                                              \
        &surefoot__##type##__descriptor, LIMIT_CLIENT_MESSAGE_BYTES, CLIENT_ALLOCATIONS_MAX,       \
            (size_t)16 * LIMIT_CLIENT_MESSAGE_BYTES                                                \
    }
#define GROUP_ROW(type)                                                                            \
    {                                                                                              \
        &surefoot__##type##__descriptor, LIMIT_GROUP_MESSAGE_BYTES, GROUP_ALLOCATIONS_MAX,         \
            (size_t)8 * LIMIT_GROUP_MESSAGE_BYTES                                                  \
    }

static const struct wire_row wire_rows[] = {
    [WIRE_CLIENT_REQUEST] = CLIENT_ROW(client_request),
    [WIRE_CLIENT_REPLY] = CLIENT_ROW(client_reply),
    [WIRE_GROUP_MESSAGE] = GROUP_ROW(group_message),
    [WIRE_GROUP_COMMAND] = GROUP_ROW(group_command),
    [WIRE_ORDER] = GROUP_ROW(order),
    [WIRE_GATHERED] = GROUP_ROW(gathered),
    [WIRE_SUBMIT_JOB] = CLIENT_ROW(submit_job),
    [WIRE_JOB_RESULT] = CLIENT_ROW(job_result),
    [WIRE_CALIBRATION_ENTRY] = CLIENT_ROW(calibration_entry),
};

static const struct wire_row *row_of(enum wire_type type) {
    ASSERT((size_t)type < sizeof wire_rows / sizeof wire_rows[0]);
    return &wire_rows[type];
}

// A position in the bytes of one message.
struct reader {
    const uint8_t *at;
    const uint8_t *end;
};

static bool read_varint(struct reader *reader, uint64_t *out) {
    uint64_t value = 0;
    for (int shift = 0; shift < 70 && reader->at < reader->end; shift += 7) {
        uint8_t byte = *reader->at++;
        value |= shift < 64 ? (uint64_t)(byte & 0x7F) << shift : 0;
        if ((byte & 0x80) == 0) {
            *out = value;
            return true;
        }
    }
    return false;
}

static bool skip_bytes(struct reader *reader, uint64_t count) {
    if (count > (uint64_t)(reader->end - reader->at)) {
        return false;
    }
    reader->at += count;
    return true;
}

// Bytes of the UTF-8 character at `at`, 0 when there is none (RFC 3629: shortest form, no
// surrogate, at most U+10FFFF) and for NUL, at which a C string would end unnoticed.
static size_t utf8_character_bytes(const uint8_t *at, const uint8_t *end) {
    uint8_t lead = at[0];
    if (lead < 0x80) {
        return lead == 0 ? 0 : 1;
    }
    size_t count = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
    if (lead < 0xC2 || lead > 0xF4 || (size_t)(end - at) < count) {
        return 0;
    }
    uint8_t second_min = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
    uint8_t second_max = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
    if (at[1] < second_min || at[1] > second_max) {
        return 0;
    }
    for (size_t i = 2; i < count; i++) {
        if ((at[i] & 0xC0) != 0x80) {
            return 0;
        }
    }
    return count;
}

static bool utf8_is_valid(const uint8_t *at, const uint8_t *end) {
    while (at < end) {
        size_t count = utf8_character_bytes(at, end);
        if (count == 0) {
            return false;
        }
        at += count;
    }
    return true;
}

static const ProtobufCFieldDescriptor *find_field(const ProtobufCMessageDescriptor *descriptor,
                                                  uint64_t id) {
    return id > UINT32_MAX ? NULL
                           : protobuf_c_message_descriptor_get_field(descriptor, (unsigned)id);
}

// The walk's place, for messages to people: the dotted path so far.
struct walk {
    char path[PATH_BYTES];
    struct error *err;
};

static enum status malformed(struct walk *walk, const char *what) {
    return error_set(walk->err, STATUS_MALFORMED, walk->path, "%s", what);
}

// Appends ".name" or ".name[index]" to the path; returns the old length, to cut back to.
static size_t path_push(struct walk *walk, const ProtobufCFieldDescriptor *field, uint32_t index) {
    size_t length = strlen(walk->path);
    char *at = walk->path + length;
    const char *dot = length == 0 ? "" : ".";
    if (field->label == PROTOBUF_C_LABEL_REPEATED) {
        snprintf(at, sizeof walk->path - length, "%s%s[%u]", dot, field->name, index);
    } else {
        snprintf(at, sizeof walk->path - length, "%s%s", dot, field->name);
    }
    return length;
}

static enum status check_message(const ProtobufCMessageDescriptor *descriptor, struct reader reader,
                                 int depth, struct walk *walk);

static enum status check_delimited(const ProtobufCFieldDescriptor *field, struct reader inside,
                                   uint32_t index, int depth, struct walk *walk) {
    enum status status = STATUS_OK;
    size_t length = path_push(walk, field, index);
    if (field->type == PROTOBUF_C_TYPE_STRING && !utf8_is_valid(inside.at, inside.end)) {
        return malformed(walk, "the text is not UTF-8, or has a NUL byte");
    }
    if (field->type == PROTOBUF_C_TYPE_MESSAGE) {
        status = check_message(field->descriptor, inside, depth + 1, walk);
    }
    if (status == STATUS_OK) {
        walk->path[length] = '\0';
    }
    return status;
}

// One field after its tag.
static enum status check_field(const ProtobufCFieldDescriptor *field, unsigned wire_type,
                               struct reader *reader, uint32_t *seen, int depth,
                               struct walk *walk) {
    uint64_t value = 0;
    switch (wire_type) {
    case PROTOBUF_C_WIRE_TYPE_VARINT:
        return read_varint(reader, &value) ? STATUS_OK : malformed(walk, "a number is cut short");
    case PROTOBUF_C_WIRE_TYPE_64BIT:
        return skip_bytes(reader, 8) ? STATUS_OK : malformed(walk, "a number is cut short");
    case PROTOBUF_C_WIRE_TYPE_32BIT:
        return skip_bytes(reader, 4) ? STATUS_OK : malformed(walk, "a number is cut short");
    case PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED: {
        if (!read_varint(reader, &value)) {
            return malformed(walk, "a length is cut short");
        }
        struct reader inside = {.at = reader->at};
        if (!skip_bytes(reader, value)) {
            return malformed(walk, "a field is longer than what holds it");
        }
        inside.end = reader->at;
        return field == NULL ? STATUS_OK : check_delimited(field, inside, (*seen)++, depth, walk);
    }
    default:
        return malformed(walk, "unknown wire type");
    }
}

static enum status check_message(const ProtobufCMessageDescriptor *descriptor, struct reader reader,
                                 int depth, struct walk *walk) {
    ASSERT(depth < DEPTH_MAX && descriptor->n_fields <= FIELDS_MAX);
    uint32_t seen[FIELDS_MAX] = {0}; // occurrences of each field, the index of repeated ones
    uint32_t seen_unknown = 0;
    while (reader.at < reader.end) {
        uint64_t tag = 0;
        if (!read_varint(&reader, &tag) || tag >> 3 == 0) {
            return malformed(walk, "a field number is cut short or zero");
        }
        const ProtobufCFieldDescriptor *field = find_field(descriptor, tag >> 3);
        uint32_t *count = field == NULL ? &seen_unknown : &seen[field - descriptor->fields];
        enum status status = check_field(field, tag & 7, &reader, count, depth, walk);
        if (status != STATUS_OK) {
            return status;
        }
    }
    return STATUS_OK;
}

enum status wire_check(enum wire_type type, const uint8_t *bytes, size_t size, struct error *err) {
    const struct wire_row *row = row_of(type);
    if (size > row->bytes_max) {
        return error_set(err, STATUS_LIMIT, "message", "%zu bytes are above the limit %zu", size,
                         row->bytes_max);
    }
    if (size == 0) {
        return STATUS_OK;
    }
    struct walk walk = {.err = err};
    struct reader reader = {.at = bytes, .end = bytes + size};
    return check_message(row->descriptor, reader, 0, &walk);
}

enum status wire_pack(enum wire_type type, const void *message, uint8_t **bytes, size_t *size) {
    const struct wire_row *row = row_of(type);
    const ProtobufCMessage *base = message;
    ASSERT(base->descriptor == row->descriptor);
    size_t wanted = protobuf_c_message_get_packed_size(base);
    if (wanted > row->bytes_max) {
        return STATUS_LIMIT;
    }
    uint8_t *packed = malloc(wanted + 1);
    if (packed == NULL) {
        return STATUS_NO_MEMORY;
    }
    size_t written = protobuf_c_message_pack(base, packed);
    ASSERT(written == wanted);
    *bytes = packed;
    *size = written;
    return STATUS_OK;
}

// Memory of one unpacking: refuses what is above the type's limits.
struct budget {
    size_t allocations_left;
    size_t memory_left;
    bool exceeded;
};

static void *budget_alloc(void *data, size_t size) {
    struct budget *budget = data;
    if (budget->allocations_left == 0 || size > budget->memory_left) {
        budget->exceeded = true;
        return NULL;
    }
    budget->allocations_left--;
    budget->memory_left -= size;
    // protobuf-c asks for 0 bytes for empty unknown fields and takes NULL for failure.
    return malloc(size == 0 ? 1 : size);
}

static void budget_free(void *data, void *pointer) {
    (void)data;
    free(pointer);
}

enum status wire_unpack(enum wire_type type, const uint8_t *bytes, size_t size, void **message,
                        struct error *err) {
    const struct wire_row *row = row_of(type);
    enum status status = wire_check(type, bytes, size, err);
    if (status != STATUS_OK) {
        return status;
    }
    struct budget budget = {.allocations_left = row->allocations_max,
                            .memory_left = row->memory_max};
    ProtobufCAllocator allocator = {
        .alloc = budget_alloc, .free = budget_free, .allocator_data = &budget};
    ProtobufCMessage *unpacked =
        protobuf_c_message_unpack(row->descriptor, &allocator, size, bytes);
    if (unpacked == NULL && budget.exceeded) {
        return error_set(err, STATUS_LIMIT, "message",
                         "it needs more than %zu allocations or %zu bytes of memory",
                         row->allocations_max, row->memory_max);
    }
    if (unpacked == NULL) {
        return error_set(err, STATUS_MALFORMED, "message", "not a %s", row->descriptor->short_name);
    }
    *message = unpacked;
    return STATUS_OK;
}

void wire_free(enum wire_type type, void *message) {
    if (message == NULL) {
        return;
    }
    struct budget unused = {0};
    ProtobufCAllocator allocator = {
        .alloc = budget_alloc, .free = budget_free, .allocator_data = &unused};
    ASSERT(((ProtobufCMessage *)message)->descriptor == row_of(type)->descriptor);
    protobuf_c_message_free_unpacked(message, &allocator);
}

enum status wire_check_version(uint32_t major, uint32_t minor, struct error *err) {
    if (major != WIRE_SCHEMA_MAJOR) {
        return error_set(err, STATUS_VERSION, "schema_major",
                         "the peer speaks schema %u.%u, this program %d.%d", major, minor,
                         WIRE_SCHEMA_MAJOR, WIRE_SCHEMA_MINOR);
    }
    return STATUS_OK;
}

void wire_error_fill(Surefoot__ErrorInfo *info, const struct error *err) {
    surefoot__error_info__init(info);
    info->has_status = true;
    info->status = (uint32_t)err->status;
    info->field = (char *)err->field;
    info->message = (char *)err->message;
}

void wire_error_read(const Surefoot__ErrorInfo *info, struct error *err) {
    if (info == NULL) {
        error_set(err, STATUS_OK, "", "%s", "");
        return;
    }
    bool known = info->status <= INT32_MAX && status_is_known((int)info->status);
    error_set(err, known ? (enum status)info->status : STATUS_INTERNAL, info->field, "%s",
              info->message == NULL ? "" : info->message);
}
