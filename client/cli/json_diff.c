#include "client/cli/json_diff.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/json_numbers.h"

static void value_text(const json_t *value, char out[JSON_DIFF_VALUE_BYTES]) {
    char *text = value == NULL ? NULL : json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
    if (text != NULL) {
        json_numbers_shorten(text);
    }
    const char *shown = text != NULL ? text : "nothing";
    size_t size = strlen(shown);
    if (size >= JSON_DIFF_VALUE_BYTES) {
        size = JSON_DIFF_VALUE_BYTES - 4;
        while (size > 0 && ((unsigned char)shown[size] & 0xC0) == 0x80) {
            size--; // not inside a character
        }
    }
    snprintf(out, JSON_DIFF_VALUE_BYTES, "%.*s%s", (int)size, shown,
             shown[size] == '\0' ? "" : "...");
    free(text);
}

static void step_into(char path[JSON_DIFF_PATH_BYTES], const char *name) {
    size_t used = strlen(path);
    snprintf(path + used, JSON_DIFF_PATH_BYTES - used, "%s%.40s", used == 0 ? "" : ".", name);
}

// The first name whose values differ; NULL when none does.
static const char *differing_name(const json_t *before, const json_t *after) {
    const char *name = NULL;
    json_t *value = NULL;
    json_object_foreach((json_t *)before, name, value) {
        if (!json_equal(value, json_object_get(after, name))) {
            return name;
        }
    }
    json_object_foreach((json_t *)after, name, value) {
        if (json_object_get(before, name) == NULL) {
            return name;
        }
    }
    return NULL;
}

bool json_diff_first(const json_t *before, const json_t *after, struct json_diff *out) {
    if (json_equal(before, after)) {
        return false;
    }
    out->path[0] = '\0';
    while (json_is_object(before) && json_is_object(after)) {
        const char *name = differing_name(before, after);
        step_into(out->path, name);
        before = json_object_get(before, name);
        after = json_object_get(after, name);
    }
    value_text(before, out->before);
    value_text(after, out->after);
    return true;
}
