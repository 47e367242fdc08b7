#include "client/cli/template_var.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/template_variables.h"

static const char flag_name[] = "--template-var";

struct flag template_vars_flag(struct template_vars *vars) {
    return (struct flag){.name = flag_name + 2,
                         .kind = FLAG_LIST,
                         .target = &vars->flags,
                         .value = "NAME=VALUE",
                         .help = "a variable of the chat template, as enable_thinking=false; "
                                 "repeatable; default none"};
}

// Python's spellings would be texts, and a text counts as true.
static bool is_foreign_word(const char *value) {
    static const char *const words[] = {"True", "False", "None", "null"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (strcmp(words[i], value) == 0) {
            return true;
        }
    }
    return false;
}

static bool is_number(const char *value) {
    const char *digits = value[0] == '-' ? value + 1 : value;
    return digits[0] != '\0' && digits[strspn(digits, "0123456789")] == '\0';
}

static enum status read_quoted(char *value, struct error *err) {
    json_t *text = json_loads(value, JSON_DECODE_ANY, NULL);
    if (!json_is_string(text)) {
        json_decref(text);
        return error_set(err, STATUS_INVALID_ARGUMENT, flag_name, "%.80s is no text of JSON",
                         value);
    }
    memcpy(value, json_string_value(text), json_string_length(text) + 1); // it became shorter
    json_decref(text);
    return STATUS_OK;
}

static enum status read_value(char *value, Surefoot__TemplateVariable *out, struct error *err) {
    if (strcmp(value, "true") == 0 || strcmp(value, "false") == 0) {
        out->has_truth = 1;
        out->truth = value[0] == 't';
        return STATUS_OK;
    }
    if (is_number(value)) {
        errno = 0;
        out->has_number = 1;
        out->number = strtoll(value, NULL, 10);
        return errno == 0 ? STATUS_OK
                          : error_set(err, STATUS_LIMIT, flag_name,
                                      "%.80s is beyond the limit of 64 bits", value);
    }
    if (is_foreign_word(value)) {
        return error_set(err, STATUS_INVALID_ARGUMENT, flag_name,
                         "%s is neither true nor false; the text is '\"%s\"'", value, value);
    }
    out->text = value;
    return value[0] == '"' ? read_quoted(value, err) : STATUS_OK;
}

static enum status read_flag(const char *given, char **text, Surefoot__TemplateVariable *out,
                             struct error *err) {
    surefoot__template_variable__init(out);
    *text = strdup(given);
    if (*text == NULL) {
        return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for the flags");
    }
    char *equals = strchr(*text, '=');
    if (equals == NULL) {
        return error_set(err, STATUS_INVALID_ARGUMENT, flag_name, "\"%.80s\" is not NAME=VALUE",
                         given);
    }
    *equals = '\0';
    out->name = *text;
    enum status status = read_value(equals + 1, out, err);
    if (status != STATUS_OK) {
        return status;
    }
    status = template_variable_check(out, err);
    if (status != STATUS_OK) {
        error_prefix_field(err, flag_name);
    }
    return status;
}

enum status template_vars_finish(struct template_vars *vars, struct error *err) {
    if (vars->flags.count > LIMIT_TEMPLATE_VARIABLES) {
        return error_set(err, STATUS_LIMIT, flag_name, "%d are above the limit %d",
                         vars->flags.count, LIMIT_TEMPLATE_VARIABLES);
    }
    for (size_t i = 0; i < (size_t)vars->flags.count; i++) {
        enum status status = read_flag(vars->flags.items[i], &vars->text[i], &vars->rows[i], err);
        if (status != STATUS_OK) {
            return status;
        }
        for (size_t j = 0; j < i; j++) {
            if (strcmp(vars->rows[j].name, vars->rows[i].name) == 0) {
                return error_set(err, STATUS_INVALID_ARGUMENT, flag_name, "%s is there twice",
                                 vars->rows[i].name);
            }
        }
        vars->list[i] = &vars->rows[i];
        vars->count = i + 1;
    }
    return STATUS_OK;
}

void template_vars_destroy(struct template_vars *vars) {
    for (size_t i = 0; i < LIMIT_TEMPLATE_VARIABLES; i++) {
        free(vars->text[i]);
    }
}

json_t *template_vars_json(Surefoot__TemplateVariable *const *list, size_t count) {
    json_t *object = count > 0 ? json_object() : NULL;
    for (size_t i = 0; i < count; i++) {
        const Surefoot__TemplateVariable *row = list[i];
        json_t *value = row->text != NULL ? json_string(row->text)
                        : row->has_number ? json_integer(row->number)
                                          : json_boolean(row->truth);
        json_object_set_new(object, row->name != NULL ? row->name : "", value);
    }
    return object;
}
