// Truncation and padding of tokenizer.json: checked, and then left out, as transformers does, which
// sets both for each call from its arguments.
#include <string.h>

#include "worker/tokenizer/model_file.h"
#include "worker/tokenizer/tokenizer_json.h"

static const char *const file = tokenizer_json_file;

enum kind { COUNT, OPTIONAL_COUNT, TEXT, DIRECTION, TRUNCATION, PADDING };

struct member {
    const char *name;
    enum kind kind;
};

static bool is_count(const json_t *value) {
    return json_is_integer(value) && json_integer_value(value) >= 0;
}

static bool is_one_of(const json_t *value, const char *const *names) {
    const char *text = json_string_value(value);
    while (text != NULL && *names != NULL && strcmp(*names, text) != 0) {
        names++;
    }
    return text != NULL && *names != NULL;
}

static bool fits(const json_t *value, enum kind kind) {
    static const char *const directions[] = {"Left", "Right", NULL};
    static const char *const truncations[] = {"LongestFirst", "OnlyFirst", "OnlySecond", NULL};
    static const char *const paddings[] = {"BatchLongest", NULL};
    switch (kind) {
    case COUNT:
        return is_count(value);
    case OPTIONAL_COUNT:
        return value == NULL || json_is_null(value) || is_count(value);
    case TEXT:
        return json_is_string(value);
    case DIRECTION: // of files that are older than the field
        return value == NULL || is_one_of(value, directions);
    case TRUNCATION:
        return is_one_of(value, truncations);
    default:
        return is_one_of(value, paddings) ||
               (json_object_size(value) == 1 && is_count(json_object_get(value, "Fixed")));
    }
}

static enum status check(json_t *root, const char *name, const struct member *members,
                         struct error *err) {
    json_t *object = json_object_get(root, name);
    if (object == NULL || json_is_null(object)) {
        return STATUS_OK;
    }
    if (!json_is_object(object)) {
        return model_file_error(err, STATUS_MALFORMED, file, name, "not an object");
    }
    for (; members->name != NULL; members++) {
        if (!fits(json_object_get(object, members->name), members->kind)) {
            return model_file_error(err, STATUS_MALFORMED, file, name,
                                    "%s is missing or not what it may be", members->name);
        }
    }
    return STATUS_OK;
}

enum status json_check_lengths(json_t *root, struct error *err) {
    static const struct member truncation[] = {{"max_length", COUNT},
                                               {"stride", COUNT},
                                               {"strategy", TRUNCATION},
                                               {"direction", DIRECTION},
                                               {NULL, COUNT}};
    static const struct member padding[] = {
        {"strategy", PADDING}, {"direction", DIRECTION}, {"pad_to_multiple_of", OPTIONAL_COUNT},
        {"pad_id", COUNT},     {"pad_type_id", COUNT},   {"pad_token", TEXT},
        {NULL, COUNT}};
    enum status status = check(root, "truncation", truncation, err);
    return status == STATUS_OK ? check(root, "padding", padding, err) : status;
}
