#include "worker/model/lora_targets.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "worker/model/json_fields.h"

static bool is_list(const json_t *value, json_type type) {
    if (!json_is_array(value)) {
        return false;
    }
    size_t index;
    json_t *item;
    json_array_foreach((json_t *)(uintptr_t)value, index, item) {
        if (json_typeof(item) != type) {
            return false;
        }
    }
    return true;
}

static bool is_all_linear(const json_t *targets) {
    return json_is_string(targets) && strcasecmp(json_string_value(targets), "all-linear") == 0;
}

static enum status check_targets(const json_t *config, struct error *err) {
    const json_t *targets = json_value_find(config, "target_modules");
    if (json_is_string(targets) && !is_all_linear(targets)) {
        return error_set(err, STATUS_UNSUPPORTED, "target_modules",
                         "\"%.64s\" is a regular expression, which is not supported: a list of "
                         "names and all-linear are",
                         json_string_value(targets));
    }
    if (!json_is_string(targets) &&
        (!is_list(targets, JSON_STRING) || json_array_size(targets) == 0)) {
        return error_set(err, STATUS_MALFORMED, "target_modules",
                         "it is neither a list of names nor all-linear");
    }
    if (json_is_string(targets) && json_value_find(config, "layers_to_transform") != NULL) {
        return error_set(err, STATUS_MALFORMED, "layers_to_transform",
                         "it cannot be used beside all-linear");
    }
    return STATUS_OK;
}

static enum status check_names(const json_t *config, const char *key, struct error *err) {
    const json_t *value = json_value_find(config, key);
    return value == NULL || is_list(value, JSON_STRING)
               ? STATUS_OK
               : error_set(err, STATUS_UNSUPPORTED, key, "only a list of names is supported");
}

static enum status check_layers(const json_t *config, struct error *err) {
    const json_t *layers = json_value_find(config, "layers_to_transform");
    const json_t *pattern = json_value_find(config, "layers_pattern");
    if (json_is_array(pattern) && json_array_size(pattern) == 1) {
        pattern = json_array_get(pattern, 0);
    }
    const char *name = json_string_value(pattern);
    bool is_known = pattern == NULL || json_says_nothing(pattern) ||
                    (name != NULL && strcmp(name, "layers") == 0);
    if (layers != NULL && !json_is_integer(layers) && !is_list(layers, JSON_INTEGER)) {
        return error_set(err, STATUS_MALFORMED, "layers_to_transform",
                         "it is neither an integer nor a list of them");
    }
    return is_known ? STATUS_OK
                    : error_set(err, STATUS_UNSUPPORTED, "layers_pattern",
                                "another pattern than \"layers\" is not supported");
}

enum status lora_targets_check(const json_t *config, struct error *err) {
    enum status status = check_targets(config, err);
    if (status == STATUS_OK) {
        status = check_names(config, "exclude_modules", err);
    }
    if (status == STATUS_OK) {
        status = check_names(config, "modules_to_save", err);
    }
    return status == STATUS_OK ? check_layers(config, err) : status;
}

static bool is_or_ends_with(const char *module, const char *name, bool *whole) {
    size_t n = strlen(module), m = strlen(name);
    *whole = strcmp(module, name) == 0;
    return *whole || (n > m && module[n - m - 1] == '.' && strcmp(module + n - m, name) == 0);
}

// Whether one of the names is the module's or its end, behind a dot; *whole: it is all of it.
static bool is_named(const json_t *names, const char *module, bool *whole) {
    bool ends = false;
    size_t index;
    json_t *item;
    json_array_foreach((json_t *)(uintptr_t)names, index, item) {
        if (is_or_ends_with(module, json_string_value(item), whole)) {
            ends = true;
            if (*whole) {
                return true;
            }
        }
    }
    *whole = false;
    return ends;
}

// Whether one of the names stands in the module's, between dots.
static bool is_within(const json_t *names, const char *module) {
    size_t index;
    json_t *item;
    json_array_foreach((json_t *)(uintptr_t)names, index, item) {
        const char *name = json_string_value(item);
        size_t length = strlen(name);
        const char *at = length > 0 ? strstr(module, name) : NULL;
        for (; at != NULL; at = strstr(at + 1, name)) {
            if ((at == module || at[-1] == '.') && (at[length] == '\0' || at[length] == '.')) {
                return true;
            }
        }
    }
    return false;
}

static bool is_of_layers(const json_t *layers, const char *module) {
    static const char before[] = "model.layers.";
    if (layers == NULL || (json_is_array(layers) && json_array_size(layers) == 0)) {
        return true;
    }
    if (strncmp(module, before, sizeof before - 1) != 0) {
        return false;
    }
    json_int_t layer = strtoll(module + sizeof before - 1, NULL, 10);
    if (json_is_integer(layers)) {
        return json_integer_value(layers) == layer;
    }
    size_t index;
    json_t *item;
    json_array_foreach((json_t *)(uintptr_t)layers, index, item) {
        if (json_integer_value(item) == layer) {
            return true;
        }
    }
    return false;
}

// The linear modules of these architectures, but for heads.
static bool is_linear(const char *module) {
    const char *last = strrchr(module, '.');
    size_t length = last != NULL ? strlen(last) : 0;
    return strncmp(module, "model.layers.", 13) == 0 && length >= 5 &&
           strcmp(last + length - 5, "_proj") == 0;
}

bool lora_targets_save(const json_t *config, const char *module) {
    return is_within(json_value_find(config, "modules_to_save"), module);
}

bool lora_targets_have(const json_t *config, const char *module) {
    const json_t *targets = json_value_find(config, "target_modules");
    bool whole = false;
    if (is_named(json_value_find(config, "exclude_modules"), module, &whole) ||
        lora_targets_save(config, module)) {
        return false;
    }
    if (is_all_linear(targets)) {
        return is_linear(module);
    }
    bool found = is_named(targets, module, &whole);
    // A name in full counts in every layer, as there.
    return found && (whole || is_of_layers(json_value_find(config, "layers_to_transform"), module));
}
