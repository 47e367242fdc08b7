#include "client/cli/job_parse.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/limits.h"
#include "proto/same_job.h"

enum { LIST_MAX = LIMIT_LOGIT_BIAS }; // the longest list of a job

static enum status parse_message(const json_t *object, const ProtobufCMessageDescriptor *descriptor,
                                 const char *path, ProtobufCMessage **out, struct error *err);

static enum status refuse(const char *path, const char *what, struct error *err) {
    return error_set(err, STATUS_MALFORMED, path, "%s", what);
}

static enum status no_memory(struct error *err) {
    return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for a job");
}

static enum status parse_text(const json_t *value, const char *path, void *at, struct error *err) {
    const char *text = json_string_value(value);
    if (text == NULL) {
        return refuse(path, "is not a text", err);
    }
    char *copy = strdup(text);
    memcpy(at, &copy, sizeof copy);
    return copy != NULL ? STATUS_OK : no_memory(err);
}

// Above 2^63 - 1 it is written as a text.
static enum status parse_whole(const json_t *value, uint64_t max, const char *path, uint64_t *out,
                               struct error *err) {
    const char *text = json_string_value(value);
    if (json_is_integer(value) && json_integer_value(value) >= 0 &&
        (uint64_t)json_integer_value(value) <= max) {
        *out = (uint64_t)json_integer_value(value);
        return STATUS_OK;
    }
    if (text != NULL && text[0] >= '0' && text[0] <= '9') {
        char *end = NULL;
        errno = 0;
        *out = strtoull(text, &end, 10);
        if (errno == 0 && *end == '\0' && *out <= max) {
            return STATUS_OK;
        }
    }
    return refuse(path, "is not a whole number of its range", err);
}

// One value of a field, written to `at`.
static enum status parse_value(const json_t *value, const ProtobufCFieldDescriptor *field,
                               const char *path, void *at, struct error *err) {
    uint64_t whole = 0;
    enum status status = STATUS_OK;
    switch (field->type) {
    case PROTOBUF_C_TYPE_STRING:
        return parse_text(value, path, at, err);
    case PROTOBUF_C_TYPE_MESSAGE:
        return parse_message(value, field->descriptor, path, at, err);
    case PROTOBUF_C_TYPE_BOOL:
        *(protobuf_c_boolean *)at = json_is_true(value);
        return json_is_boolean(value) ? STATUS_OK : refuse(path, "is neither true nor false", err);
    case PROTOBUF_C_TYPE_UINT32:
        status = parse_whole(value, UINT32_MAX, path, &whole, err);
        *(uint32_t *)at = (uint32_t)whole;
        return status;
    case PROTOBUF_C_TYPE_UINT64:
        return parse_whole(value, UINT64_MAX, path, at, err);
    case PROTOBUF_C_TYPE_INT64: // of a template's variable
        *(int64_t *)at = json_integer_value(value);
        return json_is_integer(value) ? STATUS_OK : refuse(path, "is not a whole number", err);
    case PROTOBUF_C_TYPE_FLOAT:
        *(float *)at = (float)json_number_value(value);
        return json_is_number(value) ? STATUS_OK : refuse(path, "is not a number", err);
    case PROTOBUF_C_TYPE_DOUBLE:
        *(double *)at = json_number_value(value);
        return json_is_number(value) ? STATUS_OK : refuse(path, "is not a number", err);
    default:
        return refuse(path, "is no field of a record", err);
    }
}

// Lists hold texts and messages, pointers both.
static enum status parse_list(const json_t *list, const ProtobufCFieldDescriptor *field,
                              const char *path, ProtobufCMessage *message, struct error *err) {
    size_t count = json_array_size(list);
    if (!json_is_array(list) || count > LIST_MAX ||
        (field->type != PROTOBUF_C_TYPE_STRING && field->type != PROTOBUF_C_TYPE_MESSAGE)) {
        return refuse(path, "is not a list of its length", err);
    }
    void **items = calloc(count + 1, sizeof *items);
    if (items == NULL) {
        return no_memory(err);
    }
    memcpy((char *)message + field->offset, &items, sizeof items);
    enum status status = STATUS_OK;
    for (size_t i = 0; status == STATUS_OK && i < count; i++) {
        status = parse_value(json_array_get(list, i), field, path, &items[i], err);
        // What was read is the message's to free.
        size_t *n = (size_t *)(void *)((char *)message + field->quantifier_offset);
        *n += items[i] != NULL;
    }
    return status;
}

static enum status parse_field(const char *name, const json_t *value, const char *path,
                               ProtobufCMessage *message, struct error *err) {
    const ProtobufCFieldDescriptor *field =
        protobuf_c_message_descriptor_get_field_by_name(message->descriptor, name);
    if (field == NULL) {
        return refuse(path, "is no field of a record", err);
    }
    if (field->label == PROTOBUF_C_LABEL_REPEATED) {
        return parse_list(value, field, path, message, err);
    }
    enum status status = parse_value(value, field, path, (char *)message + field->offset, err);
    bool pointer = field->type == PROTOBUF_C_TYPE_STRING || field->type == PROTOBUF_C_TYPE_MESSAGE;
    if (status == STATUS_OK && !pointer) {
        *(protobuf_c_boolean *)((char *)message + field->quantifier_offset) = 1;
    }
    return status;
}

static void free_message(ProtobufCMessage *message) {
    protobuf_c_message_free_unpacked(message, NULL);
}

// Written to *out when made; NULL after a failure.
static enum status parse_message(const json_t *object, const ProtobufCMessageDescriptor *descriptor,
                                 const char *path, ProtobufCMessage **out, struct error *err) {
    *out = NULL;
    if (!json_is_object(object)) {
        return refuse(path, "is not an object", err);
    }
    ProtobufCMessage *message = calloc(1, descriptor->sizeof_message);
    if (message == NULL) {
        return no_memory(err);
    }
    protobuf_c_message_init(descriptor, message);
    const char *name = NULL;
    json_t *value = NULL;
    enum status status = STATUS_OK;
    json_object_foreach((json_t *)object, name, value) {
        char inner[ERROR_FIELD_BYTES];
        snprintf(inner, sizeof inner, "%.22s.%.40s", path, name);
        if (status == STATUS_OK) {
            status = parse_field(name, value, inner, message, err);
        }
    }
    if (status != STATUS_OK) {
        free_message(message);
        return status;
    }
    *out = message;
    return STATUS_OK;
}

// The object {name: value} as the list that the message has.
static json_t *variables_list(const json_t *variables) {
    json_t *list = json_array();
    const char *name = NULL;
    json_t *value = NULL;
    json_object_foreach((json_t *)variables, name, value) {
        const char *kind = json_is_boolean(value)   ? "truth"
                           : json_is_integer(value) ? "number"
                                                    : "text";
        json_array_append_new(list, json_pack("{s:s, s:O}", "name", name, kind, value));
    }
    return list;
}

enum status job_parse(const json_t *job, const char *field, Surefoot__JobSpec **out,
                      struct error *err) {
    json_t *object = json_is_object(job) ? json_copy((json_t *)job) : json_object();
    const json_t *variables = json_object_get(job, "template_variables");
    if (variables != NULL) {
        json_object_set_new(object, "template_variables", variables_list(variables));
    }
    ProtobufCMessage *message = NULL;
    enum status status =
        json_is_object(job)
            ? parse_message(object, &surefoot__job_spec__descriptor, field, &message, err)
            : refuse(field, "is not an object", err);
    json_decref(object);
    if (status == STATUS_OK) {
        *out = (Surefoot__JobSpec *)message;
    }
    return status;
}

void job_parse_free(Surefoot__JobSpec *spec) {
    if (spec != NULL) {
        free_message(&spec->base);
    }
}

enum status job_parse_model_hash(const char *name, const json_t *fields, const char *field,
                                 char hex[SHA256_HEX_BYTES], struct error *err) {
    json_t *object = json_is_object(fields) ? json_copy((json_t *)fields) : NULL;
    if (object == NULL) {
        return refuse(field, "is not an object", err);
    }
    json_object_set_new(object, "name", json_string(name));
    ProtobufCMessage *message = NULL;
    enum status status =
        parse_message(object, &surefoot__model_info__descriptor, field, &message, err);
    json_decref(object);
    if (status == STATUS_OK &&
        same_job_model_hash((Surefoot__ModelInfo *)message, hex) != STATUS_OK) {
        status = no_memory(err);
    }
    if (message != NULL) {
        free_message(message);
    }
    return status;
}
