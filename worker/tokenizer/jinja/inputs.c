#include "worker/tokenizer/jinja/inputs.h"

#include <string.h>

static enum status convert(struct run *run, const json_t *json, bool content, struct value *out);

// Roles that a template may write into its markers: they are names of the format, not what a person
// wrote. Any other role is content.
static bool is_usual_role(const char *key, const json_t *value) {
    static const char *const roles[] = {"system",    "developer", "user",
                                        "assistant", "tool",      "function"};
    if (strcmp(key, "role") != 0 || !json_is_string(value)) {
        return false;
    }
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++) {
        if (strlen(roles[i]) == json_string_length(value) &&
            strcmp(roles[i], json_string_value(value)) == 0) {
            return true;
        }
    }
    return false;
}

static enum status convert_members(struct run *run, const json_t *json, bool content,
                                   struct dict *dict) {
    const char *key;
    json_t *member;
    enum status status = STATUS_OK;
    // Iterating changes nothing; jansson has no const form of it.
    json_object_foreach((json_t *)json, key, member) {
        struct value name;
        struct value value;
        status = run_give_text(run, text_make(&run->arena, key, strlen(key), content), &name);
        if (status == STATUS_OK) {
            status = convert(run, member, content && !is_usual_role(key, member), &value);
        }
        if (status == STATUS_OK) {
            status = dict_set(run, dict, &name, &value);
        }
        if (status != STATUS_OK) {
            break;
        }
    }
    return status;
}

static enum status convert_object(struct run *run, const json_t *json, bool content,
                                  struct value *out) {
    struct dict *dict = arena_alloc(&run->arena, sizeof *dict);
    if (dict == NULL) {
        return run_no_memory(run);
    }
    *out = (struct value){.kind = VALUE_DICT, .dict = dict};
    return convert_members(run, json, content, dict);
}

static enum status convert_array(struct run *run, const json_t *json, bool content,
                                 struct value *out) {
    size_t count = json_array_size(json);
    struct value *items = arena_alloc_array(&run->arena, count, sizeof *items);
    if (items == NULL) {
        return run_no_memory(run);
    }
    enum status status = STATUS_OK;
    for (size_t i = 0; status == STATUS_OK && i < count; i++) {
        status = convert(run, json_array_get(json, i), content, &items[i]);
    }
    return status == STATUS_OK ? list_make(run, VALUE_LIST, items, count, out) : status;
}

static enum status convert_kind(struct run *run, const json_t *json, bool content,
                                struct value *out) {
    switch (json_typeof(json)) {
    case JSON_OBJECT:
        return convert_object(run, json, content, out);
    case JSON_ARRAY:
        return convert_array(run, json, content, out);
    case JSON_STRING:
        return run_give_text(
            run, text_make(&run->arena, json_string_value(json), json_string_length(json), content),
            out);
    case JSON_INTEGER:
        *out = value_int(json_integer_value(json));
        break;
    case JSON_REAL:
        *out = value_float(json_real_value(json));
        break;
    case JSON_NULL:
        *out = value_none();
        break;
    default:
        *out = value_bool(json_is_true(json));
        break;
    }
    out->content = content;
    return STATUS_OK;
}

static enum status convert(struct run *run, const json_t *json, bool content, struct value *out) {
    enum status status = run_enter(run);
    if (status == STATUS_OK) {
        status = convert_kind(run, json, content, out);
    }
    run_leave(run);
    return status;
}

enum status inputs_read(struct run *run, const struct jinja_inputs *inputs) {
    struct dict *dict = arena_alloc(&run->arena, sizeof *dict);
    if (dict == NULL) {
        return run_no_memory(run);
    }
    enum status status = STATUS_OK;
    if (inputs->data != NULL) {
        status = convert_members(run, inputs->data, true, dict);
    }
    if (status == STATUS_OK && inputs->trusted != NULL) {
        status = convert_members(run, inputs->trusted, false, dict);
    }
    run->variables = dict;
    return status;
}
