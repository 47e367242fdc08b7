#include "client/benchmarks/rows.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "client/benchmarks/benchmark.h"
#include "client/benchmarks/csv.h"

enum status rows_refuse(size_t line, enum status status, struct error *err, const char *format,
                        ...) {
    char field[ERROR_FIELD_BYTES];
    char message[ERROR_MESSAGE_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    snprintf(field, sizeof field, "line %zu", line);
    return error_set(err, status, field, "%s", message);
}

// Appends a row, taking `fields`; NULL: there was no memory for it.
static enum status append(struct rows *rows, json_t *fields, size_t line, struct error *err) {
    if (rows->count == ROWS_MAX) {
        json_decref(fields);
        return rows_refuse(line, STATUS_LIMIT, err, "above %d rows", ROWS_MAX);
    }
    // Grows by doubling: the count passes a power of two.
    if (fields != NULL && (rows->count & (rows->count - 1)) == 0) {
        size_t capacity = rows->count == 0 ? 1 : 2 * rows->count;
        struct row *items = realloc(rows->items, capacity * sizeof *items);
        if (items == NULL) {
            json_decref(fields);
            fields = NULL;
        } else {
            rows->items = items;
        }
    }
    if (fields == NULL) {
        return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for the rows");
    }
    rows->items[rows->count++] = (struct row){.fields = fields, .line = line};
    return STATUS_OK;
}

static bool is_blank(const char *bytes, size_t size) {
    for (size_t i = 0; i < size; i++) {
        if (memchr(" \t\r\n", bytes[i], 4) == NULL) {
            return false;
        }
    }
    return true;
}

// A position in the file's bytes.
struct cursor {
    const char *at;
    const char *end;
    size_t line;
};

static bool next_line(struct cursor *cursor, const char **bytes, size_t *size) {
    if (cursor->at == cursor->end) {
        return false;
    }
    size_t left = (size_t)(cursor->end - cursor->at);
    const char *stop = memchr(cursor->at, '\n', left);
    *bytes = cursor->at;
    *size = stop == NULL ? left : (size_t)(stop - cursor->at);
    cursor->at = stop == NULL ? cursor->end : stop + 1;
    return true;
}

static enum status read_json_lines(struct cursor *cursor, struct rows *out, struct error *err) {
    const char *bytes = NULL;
    size_t size = 0;
    enum status status = STATUS_OK;
    for (; status == STATUS_OK && next_line(cursor, &bytes, &size); cursor->line++) {
        if (is_blank(bytes, size)) {
            continue;
        }
        if (size > ROWS_ROW_BYTES_MAX) {
            return rows_refuse(cursor->line, STATUS_LIMIT, err, "longer than %d bytes",
                               ROWS_ROW_BYTES_MAX);
        }
        json_error_t why;
        json_t *fields = json_loadb(bytes, size, JSON_REJECT_DUPLICATES, &why);
        if (!json_is_object(fields)) {
            const char *text = fields == NULL ? why.text : "not a JSON object";
            status = rows_refuse(cursor->line, STATUS_MALFORMED, err, "%s", text);
            json_decref(fields);
        } else {
            status = append(out, fields, cursor->line, err);
        }
    }
    return status;
}

static void skip_space(struct cursor *cursor) {
    for (; cursor->at < cursor->end && memchr(" \t\r\n", *cursor->at, 4) != NULL; cursor->at++) {
        cursor->line += *cursor->at == '\n';
    }
}

// Reads the value at the cursor and steps behind it; owned.
static enum status read_value(struct cursor *cursor, json_t **out, struct error *err) {
    json_error_t why;
    size_t left = (size_t)(cursor->end - cursor->at);
    json_t *value = json_loadb(
        cursor->at, left, JSON_REJECT_DUPLICATES | JSON_DISABLE_EOF_CHECK | JSON_DECODE_ANY, &why);
    if (value == NULL) {
        size_t lines = why.line > 0 ? (size_t)why.line - 1 : 0;
        return rows_refuse(cursor->line + lines, STATUS_MALFORMED, err, "%s", why.text);
    }
    size_t used = (size_t)why.position;
    if (used > ROWS_ROW_BYTES_MAX) {
        json_decref(value);
        return rows_refuse(cursor->line, STATUS_LIMIT, err, "longer than %d bytes",
                           ROWS_ROW_BYTES_MAX);
    }
    for (size_t i = 0; i < used; i++) {
        cursor->line += cursor->at[i] == '\n';
    }
    cursor->at += used;
    *out = value;
    return STATUS_OK;
}

// Reads the element at the cursor and steps behind it.
static enum status read_element(struct cursor *cursor, struct rows *out, struct error *err) {
    size_t line = cursor->line;
    json_t *value = NULL;
    enum status status = read_value(cursor, &value, err);
    if (status != STATUS_OK) {
        return status;
    }
    bool bare = json_is_string(value);
    if (!bare && !json_is_object(value)) {
        status = rows_refuse(line, STATUS_MALFORMED, err, "not a JSON object or text");
    } else if (out->count > 0 && bare != out->bare) {
        status = rows_refuse(line, STATUS_MALFORMED, err, "objects and texts are mixed");
    }
    if (status != STATUS_OK) {
        json_decref(value);
        return status;
    }
    out->bare = bare;
    return append(out, bare ? json_pack("{s:o}", ROWS_TEXT_FIELD, value) : value, line, err);
}

static enum status read_json_list(struct cursor *cursor, struct rows *out, struct error *err) {
    enum status status = STATUS_OK;
    char wanted = '[';
    for (;;) {
        cursor->at++; // over the bracket or comma
        skip_space(cursor);
        bool empty = wanted == '[' && cursor->at < cursor->end && *cursor->at == ']';
        if (!empty) {
            status = read_element(cursor, out, err);
            skip_space(cursor);
        }
        if (status != STATUS_OK) {
            return status;
        }
        if (cursor->at == cursor->end || *cursor->at != ',') {
            break;
        }
        wanted = ',';
    }
    if (cursor->at == cursor->end || *cursor->at != ']') {
        return rows_refuse(cursor->line, STATUS_MALFORMED, err, "the list has no end here");
    }
    cursor->at++;
    skip_space(cursor);
    return cursor->at == cursor->end
               ? STATUS_OK
               : rows_refuse(cursor->line, STATUS_MALFORMED, err, "text after the list");
}

// Appends the text of a behaviour's list at the cursor, number `number` of `count` from 1.
static enum status read_case(struct cursor *cursor, const char *behavior, size_t number,
                             size_t count, struct rows *out, struct error *err) {
    size_t line = cursor->line;
    json_t *text = NULL;
    enum status status = read_value(cursor, &text, err);
    if (status != STATUS_OK) {
        return status;
    }
    if (!json_is_string(text)) {
        bool pair = json_is_array(text);
        json_decref(text);
        return rows_refuse(line, pair ? STATUS_UNSUPPORTED : STATUS_MALFORMED, err,
                           "\"%.60s\": test case %zu is %s", behavior, number,
                           pair ? "a list, an image and a text: images are not sent"
                                : "not a text");
    }
    json_t *id = count == 1 ? json_string(behavior) : json_sprintf("%s/%zu", behavior, number);
    return append(out,
                  json_pack("{s:o, s:s, s:o}", "id", id, ROWS_BEHAVIOR_FIELD, behavior,
                            ROWS_CASE_FIELD, text),
                  line, err);
}

static bool has_objects(const json_t *list) {
    for (size_t i = 0; i < json_array_size(list); i++) {
        if (json_is_object(json_array_get(list, i))) {
            return true;
        }
    }
    return false;
}

// Whether the whole of the bytes is one object of lists, none of them messages or under a column
// that a row of JSON lines is asked by: HarmBench's test_cases.json. *cases is owned, NULL when it
// is not.
static void recognise_cases(const struct cursor *cursor, json_t **cases) {
    *cases =
        json_loadb(cursor->at, (size_t)(cursor->end - cursor->at), JSON_REJECT_DUPLICATES, NULL);
    bool good = json_object_size(*cases) > 0;
    const char *name = NULL;
    json_t *value = NULL;
    json_object_foreach(*cases, name, value) {
        good = good && json_is_array(value) && !has_objects(value) && !benchmark_is_asked(name);
    }
    if (!good) {
        json_decref(*cases);
        *cases = NULL;
    }
}

// Walks over the text of `cases`, which is known to be good, so that every row knows its line.
static enum status read_cases(struct cursor *cursor, const json_t *cases, struct rows *out,
                              struct error *err) {
    enum status status = STATUS_OK;
    const char *behavior = NULL;
    json_t *list = NULL;
    json_object_foreach((json_t *)cases, behavior, list) {
        json_t *name = NULL;
        cursor->at++; // over the brace or comma
        skip_space(cursor);
        status = read_value(cursor, &name, err);
        json_decref(name);
        if (status != STATUS_OK) {
            return status;
        }
        skip_space(cursor);
        cursor->at++; // over the colon
        skip_space(cursor);
        for (size_t i = 0; i < json_array_size(list); i++) {
            cursor->at++; // over the bracket or comma
            skip_space(cursor);
            status = read_case(cursor, behavior, i + 1, json_array_size(list), out, err);
            if (status != STATUS_OK) {
                return status;
            }
            skip_space(cursor);
        }
        if (json_array_size(list) == 0) {
            cursor->at++;
            skip_space(cursor);
        }
        cursor->at++; // over the closing bracket
        skip_space(cursor);
    }
    return STATUS_OK;
}

static enum status read_json(struct cursor *cursor, struct rows *out, struct error *err) {
    struct cursor start = *cursor;
    skip_space(&start);
    json_t *cases = NULL;
    if (start.at < start.end && *start.at == '{') {
        recognise_cases(&start, &cases);
    }
    if (cases != NULL) {
        out->form = "JSON";
        enum status status = read_cases(&start, cases, out, err);
        json_decref(cases);
        return status;
    }
    if (start.at < start.end && *start.at == '[') {
        out->form = "JSON";
        enum status status = read_json_list(&start, out, err);
        if (out->bare) {
            out->form = "JSON list of texts";
        }
        return status;
    }
    return read_json_lines(cursor, out, err);
}

// Makes the fields of a row an object under the header's names.
static enum status row_object(const struct csv_row *header, const struct csv_row *row, json_t **out,
                              struct error *err) {
    if (row->count != header->count) {
        return rows_refuse(row->line, STATUS_MALFORMED, err,
                           "fields in the row: %zu, in the header: %zu", row->count, header->count);
    }
    json_t *object = json_object();
    for (size_t i = 0; i < row->count; i++) {
        json_t *value = json_string(row->fields[i]);
        if (value == NULL || json_object_set_new(object, header->fields[i], value) != 0) {
            json_decref(object);
            return rows_refuse(row->line, STATUS_MALFORMED, err, "field \"%.80s\" is not UTF-8",
                               header->fields[i]);
        }
    }
    *out = object;
    return STATUS_OK;
}

static enum status check_header(const struct csv_row *header, struct error *err) {
    for (size_t i = 0; i < header->count; i++) {
        for (size_t j = 0; j < i; j++) {
            if (strcmp(header->fields[i], header->fields[j]) == 0) {
                return rows_refuse(header->line, STATUS_MALFORMED, err,
                                   "the column \"%.80s\" stands there twice", header->fields[i]);
            }
        }
    }
    return STATUS_OK;
}

static enum status read_table(struct cursor *cursor, char separator, struct rows *out,
                              struct error *err) {
    struct csv_reader reader;
    csv_init(&reader, cursor->at, (size_t)(cursor->end - cursor->at), separator);
    struct csv_row header = {0};
    enum status status = csv_next(&reader, &header, err);
    if (status == STATUS_NOT_FOUND) {
        return rows_refuse(1, STATUS_MALFORMED, err, "no header");
    }
    if (status == STATUS_OK) {
        status = check_header(&header, err);
    }
    while (status == STATUS_OK) {
        struct csv_row row;
        status = csv_next(&reader, &row, err);
        if (status != STATUS_OK) {
            break;
        }
        json_t *object = NULL;
        status = row_object(&header, &row, &object, err);
        if (status == STATUS_OK) {
            status = append(out, object, row.line, err);
        }
        csv_row_destroy(&row);
    }
    csv_row_destroy(&header);
    return status == STATUS_NOT_FOUND ? STATUS_OK : status;
}

static enum status read_csv(struct cursor *cursor, struct rows *out, struct error *err) {
    return read_table(cursor, ',', out, err);
}

static enum status read_tsv(struct cursor *cursor, struct rows *out, struct error *err) {
    return read_table(cursor, '\t', out, err);
}

static enum status read_text(struct cursor *cursor, struct rows *out, struct error *err) {
    out->bare = true;
    const char *bytes = NULL;
    size_t size = 0;
    enum status status = STATUS_OK;
    for (; status == STATUS_OK && next_line(cursor, &bytes, &size); cursor->line++) {
        size -= size > 0 && bytes[size - 1] == '\r';
        if (is_blank(bytes, size)) {
            continue;
        }
        if (size > ROWS_ROW_BYTES_MAX) {
            return rows_refuse(cursor->line, STATUS_LIMIT, err, "longer than %d bytes",
                               ROWS_ROW_BYTES_MAX);
        }
        // A prompt may begin with a brace, but a line that is an object belongs to another form.
        json_t *json = json_loadb(bytes, size, 0, NULL);
        json_t *text = json_stringn(bytes, size);
        if (json != NULL || text == NULL || memchr(bytes, '\0', size) != NULL) {
            status = rows_refuse(cursor->line, STATUS_MALFORMED, err, "%s",
                                 json != NULL ? "is JSON, the name of the file says text"
                                              : "not a line of UTF-8 text");
            json_decref(text);
        } else {
            status = append(out, json_pack("{s:o}", ROWS_TEXT_FIELD, text), cursor->line, err);
        }
        json_decref(json);
    }
    return status;
}

struct form {
    const char *suffix; // the last one's also: any other
    const char *name;
    enum status (*read)(struct cursor *cursor, struct rows *out, struct error *err);
};

static const struct form forms[] = {
    {".csv", "CSV", read_csv},
    {".tsv", "TSV", read_tsv},
    {".txt", "text", read_text},
    {".json", "JSON lines", read_json},
};
enum { FORMS_COUNT = sizeof forms / sizeof forms[0] };

static const struct form *find_form(const char *path) {
    size_t length = strlen(path);
    const struct form *form = forms;
    while (form < &forms[FORMS_COUNT - 1] &&
           (length <= strlen(form->suffix) ||
            strcasecmp(path + length - strlen(form->suffix), form->suffix) != 0)) {
        form++;
    }
    return form;
}

// NULL: none of that name.
static const struct form *find_named_form(const char *name) {
    for (size_t i = 0; i < FORMS_COUNT; i++) {
        if (strcmp(forms[i].suffix + 1, name) == 0) {
            return &forms[i];
        }
    }
    return NULL;
}

// Reads the whole file, from a pipe too. Standard input stays open.
static enum status read_bytes(const char *path, const char *name, char **bytes, size_t *size,
                              struct error *err) {
    bool standard = strcmp(path, ROWS_STDIN) == 0;
    FILE *file = standard ? stdin : fopen(path, "rbe");
    if (file == NULL) {
        return error_set(err, status_from_errno(errno), path, "cannot open: %s", strerror(errno));
    }
    size_t capacity = 0;
    *size = 0;
    for (size_t got = 1; got > 0; *size += got) {
        if (*size == capacity) {
            capacity = capacity == 0 ? 1 << 16 : 2 * capacity;
            char *more = *size >= ROWS_FILE_BYTES_MAX ? NULL : realloc(*bytes, capacity);
            if (more == NULL) {
                break;
            }
            *bytes = more;
        }
        got = fread(*bytes + *size, 1, capacity - *size, file);
    }
    enum status status = STATUS_OK;
    if (ferror(file) != 0) {
        status = error_set(err, STATUS_IO, name, "cannot read: %s", strerror(errno));
    } else if (feof(file) == 0) {
        status = error_set(err, STATUS_LIMIT, name, "above %zu bytes, or no memory for it",
                           ROWS_FILE_BYTES_MAX);
    }
    if (!standard) {
        fclose(file);
    }
    return status;
}

// Forms that a look at the first bytes gives away.
static enum status check_start(const char *path, const struct cursor *cursor, struct error *err) {
    size_t size = (size_t)(cursor->end - cursor->at);
    if (size >= 2 && memcmp(cursor->at, "\x1F\x8B", 2) == 0) {
        return error_set(err, STATUS_UNSUPPORTED, path, "is compressed; unpack it first");
    }
    if (size >= 2 &&
        (memcmp(cursor->at, "\xFF\xFE", 2) == 0 || memcmp(cursor->at, "\xFE\xFF", 2) == 0)) {
        return error_set(err, STATUS_UNSUPPORTED, path, "is UTF-16; UTF-8 is read");
    }
    return STATUS_OK;
}

enum status rows_read(const char *path, const char *form_name, struct rows *out,
                      struct error *err) {
    *out = (struct rows){0};
    const struct form *form = form_name != NULL ? find_named_form(form_name) : find_form(path);
    if (form == NULL) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "--form", "\"%.40s\" is none of %s",
                         form_name, ROWS_FORMS);
    }
    char *bytes = NULL;
    size_t size = 0;
    const char *name = strcmp(path, ROWS_STDIN) == 0 ? "standard input" : path;
    enum status status = read_bytes(path, name, &bytes, &size, err);
    if (status == STATUS_OK) {
        struct cursor cursor = {.at = bytes, .end = bytes + size, .line = 1};
        if (size >= 3 && memcmp(bytes, "\xEF\xBB\xBF", 3) == 0) {
            cursor.at += 3;
        }
        out->form = form->name;
        status = check_start(name, &cursor, err);
        if (status == STATUS_OK) {
            status = form->read(&cursor, out, err);
        }
    }
    free(bytes);
    if (status == STATUS_OK && out->count == 0) {
        return error_set(err, STATUS_MALFORMED, name, "no items");
    }
    return status;
}

void rows_finish(struct rows *rows) {
    for (size_t i = 0; i < rows->count; i++) {
        json_decref(rows->items[i].fields);
    }
    free(rows->items);
    *rows = (struct rows){0};
}
