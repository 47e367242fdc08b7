#include "proto/template_variables.h"

#include <string.h>

#include "proto/limits.h"

// As transformers and jinja2 have them.
bool template_variable_is_reserved(const char *name) {
    static const char *const names[] = {
        "messages",     "tools",     "documents",  "add_generation_prompt",
        "bos_token",    "eos_token", "unk_token",  "sep_token",
        "pad_token",    "cls_token", "mask_token", "raise_exception",
        "strftime_now", "namespace", "range",      "dict",
        "lipsum",       "cycler",    "joiner",     "loop",
        "caller",       "varargs",   "kwargs",     "self",
        "super",
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(names[i], name) == 0) {
            return true;
        }
    }
    return false;
}

static bool is_identifier(const char *name) {
    static const char first[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_";
    static const char digits[] = "0123456789";
    bool good = name[0] != '\0' && strchr(first, name[0]) != NULL;
    for (const char *at = name; good && *at != '\0'; at++) {
        good = strchr(first, *at) != NULL || strchr(digits, *at) != NULL;
    }
    return good;
}

enum status template_variable_check(const Surefoot__TemplateVariable *variable, struct error *err) {
    const char *name = variable->name != NULL ? variable->name : "";
    if (strlen(name) > LIMIT_NAME_BYTES || !is_identifier(name)) {
        return error_set(
            err, STATUS_INVALID_ARGUMENT, NULL,
            "\"%.80s\" is no name of ASCII letters, digits and _ with at most %d bytes", name,
            LIMIT_NAME_BYTES);
    }
    if (template_variable_is_reserved(name)) {
        return error_set(err, STATUS_INVALID_ARGUMENT, NULL,
                         "%s is given to every template and no variable of its own", name);
    }
    bool is_text = variable->text != NULL;
    if ((variable->has_truth != 0) + (variable->has_number != 0) + is_text != 1) {
        return error_set(err, STATUS_INVALID_ARGUMENT, NULL,
                         "%s: exactly one of truth, number and text must be set", name);
    }
    if (is_text && strlen(variable->text) > LIMIT_TEMPLATE_TEXT_BYTES) {
        return error_set(err, STATUS_LIMIT, NULL, "%s: %zu bytes are above the limit %d", name,
                         strlen(variable->text), LIMIT_TEMPLATE_TEXT_BYTES);
    }
    return STATUS_OK;
}
