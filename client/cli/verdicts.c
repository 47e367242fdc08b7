#include "client/cli/verdicts.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/benchmarks/rows.h"

// Where the answers to an item stand, in all settings that have one: their order is one.
static enum status index_items(const struct judged *judged, json_t *index, struct error *err) {
    for (size_t s = 0; s < judged->n_settings; s++) {
        const struct judged_setting *setting = &judged->settings[s];
        for (size_t i = 0; i < setting->count; i++) {
            if (json_object_set_new(index, setting->answers[i].id, json_integer((json_int_t)i)) !=
                0) {
                return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for the verdicts");
            }
        }
    }
    return STATUS_OK;
}

// The number of the item that a row means: tables have numbers as texts.
static const json_t *find_item(const json_t *index, const json_t *id) {
    char *text = json_dumps(id, JSON_COMPACT | JSON_ENCODE_ANY);
    const json_t *found = text != NULL ? json_object_get(index, text) : NULL;
    const char *bare = json_string_value(id);
    if (found == NULL && bare != NULL && bare[0] != '"') {
        found = json_object_get(index, bare);
    }
    free(text);
    return found;
}

// true, false, or a number; tables have them as texts.
static bool read_loss(const json_t *value, double *loss) {
    const char *text = json_string_value(value);
    if (json_is_boolean(value) ||
        (text != NULL && (strcmp(text, "true") == 0 || strcmp(text, "false") == 0))) {
        *loss = json_is_true(value) || (text != NULL && text[0] == 't') ? 1 : 0;
        return true;
    }
    char *end = NULL;
    *loss = text != NULL && text[0] != '\0' ? strtod(text, &end) : json_number_value(value);
    return (text != NULL ? end != NULL && *end == '\0' : json_is_number(value)) && *loss >= 0 &&
           *loss <= 1; // NaN is neither
}

static enum status find_answer(struct judged *judged, const struct row *row, const json_t *index,
                               struct judged_answer **out, struct error *err) {
    const json_t *id = json_object_get(row->fields, "id");
    const json_t *named = json_object_get(row->fields, "key");
    const char *key = json_string_value(named);
    if (id == NULL) {
        return rows_refuse(row->line, STATUS_MALFORMED, err, "no id");
    }
    if (named != NULL && key == NULL) {
        return rows_refuse(row->line, STATUS_MALFORMED, err, "key is no text");
    }
    const json_t *item = find_item(index, id);
    if (item == NULL) {
        return rows_refuse(row->line, STATUS_INVALID_ARGUMENT, err, "no record has its id");
    }
    if (key == NULL && judged->n_settings > 1) {
        return rows_refuse(row->line, STATUS_INVALID_ARGUMENT, err,
                           "no key: with %zu settings it must say whose answer it judges",
                           judged->n_settings);
    }
    size_t at = (size_t)json_integer_value(item);
    for (size_t s = 0; s < judged->n_settings; s++) {
        struct judged_setting *setting = &judged->settings[s];
        if (at < setting->count && (key == NULL || strcmp(setting->answers[at].key, key) == 0)) {
            *out = &setting->answers[at];
            return STATUS_OK;
        }
    }
    return rows_refuse(row->line, STATUS_INVALID_ARGUMENT, err,
                       "no record of its id has the key %.40s", key);
}

static enum status take_verdict(struct judged *judged, const struct row *row, const json_t *index,
                                struct error *err) {
    const json_t *unsafe = json_object_get(row->fields, "unsafe");
    struct judged_answer *answer = NULL;
    double loss = 0;
    enum status status = find_answer(judged, row, index, &answer, err);
    if (status != STATUS_OK) {
        return status;
    }
    if (!read_loss(unsafe, &loss)) {
        return rows_refuse(row->line, STATUS_MALFORMED, err,
                           unsafe == NULL ? "no field unsafe"
                                          : "unsafe is not true, false or a number in [0, 1]");
    }
    if (answer->judged) {
        return rows_refuse(row->line, STATUS_INVALID_ARGUMENT, err,
                           "a second verdict on the same answer");
    }
    if (!answer->answered && loss != 0) {
        return rows_refuse(row->line, STATUS_INVALID_ARGUMENT, err,
                           "unsafe, and the item was refused: there is no answer");
    }
    answer->judged = true;
    answer->loss = loss;
    return STATUS_OK;
}

enum status verdicts_read(const char *path, struct judged *judged, struct error *err) {
    struct rows rows = {0};
    json_t *index = json_object();
    enum status status = index != NULL
                             ? index_items(judged, index, err)
                             : error_set(err, STATUS_NO_MEMORY, NULL, "no memory for verdicts");
    if (status == STATUS_OK) {
        status = rows_read(path, NULL, &rows, err);
    }
    for (size_t i = 0; status == STATUS_OK && i < rows.count; i++) {
        status = take_verdict(judged, &rows.items[i], index, err);
    }
    if (status != STATUS_OK && strncmp(err->field, "line", 4) == 0) {
        error_prefix_field(err, "--verdicts");
    }
    rows_finish(&rows);
    json_decref(index);
    return status;
}
