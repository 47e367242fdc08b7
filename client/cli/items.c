#include "client/cli/items.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/benchmarks/csv.h"

static const char *const prompt_columns[] = {"prompt", "Behavior", "Goal", "goal",
                                             "forbidden_prompt"};
enum { PROMPT_COLUMNS_COUNT = sizeof prompt_columns / sizeof prompt_columns[0] };

static enum status refuse(size_t line, enum status status, const char *what, struct error *err) {
    char field[ERROR_FIELD_BYTES];
    snprintf(field, sizeof field, "line %zu", line);
    return error_set(err, status, field, "%s", what);
}

static enum status check_messages(const json_t *messages, size_t line, struct error *err) {
    size_t count = json_array_size(messages);
    if (count == 0 || count > LIMIT_MESSAGES) {
        return refuse(line, STATUS_LIMIT, "messages is not a list of 1 to 256", err);
    }
    size_t total = 0;
    for (size_t i = 0; i < count; i++) {
        const json_t *message = json_array_get(messages, i);
        const json_t *content = json_object_get(message, "content");
        if (!json_is_string(json_object_get(message, "role")) || !json_is_string(content)) {
            return refuse(line, STATUS_MALFORMED, "a message needs the texts role and content",
                          err);
        }
        total += json_string_length(content);
    }
    return total <= LIMIT_PROMPT_BYTES
               ? STATUS_OK
               : refuse(line, STATUS_LIMIT, "the messages are above 1048576 bytes", err);
}

// Finds the prompt in the item's fields.
static enum status find_prompt(struct item *item, const char *column, struct error *err) {
    const json_t *value = NULL;
    if (column != NULL) {
        value = json_object_get(item->source, column);
    }
    for (size_t i = 0; column == NULL && value == NULL && i < PROMPT_COLUMNS_COUNT; i++) {
        value = json_object_get(item->source, prompt_columns[i]);
    }
    if (value == NULL && column == NULL) {
        const json_t *messages = json_object_get(item->source, "messages");
        if (messages != NULL) {
            return check_messages(messages, item->line, err);
        }
    }
    if (!json_is_string(value)) {
        return refuse(item->line, STATUS_MALFORMED,
                      "no prompt: none of the fields prompt, Behavior, Goal, goal, "
                      "forbidden_prompt, or the one of --prompt-column, is a text",
                      err);
    }
    if (json_string_length(value) == 0 || json_string_length(value) > LIMIT_PROMPT_BYTES) {
        return refuse(item->line, STATUS_LIMIT, "the prompt has not 1 to 1048576 bytes", err);
    }
    item->prompt = json_string_value(value);
    return STATUS_OK;
}

// Appends an item, taking `source`.
static enum status append(struct items *items, json_t *source, size_t line, const char *column,
                          struct error *err) {
    if (items->count == ITEMS_MAX) {
        json_decref(source);
        return refuse(line, STATUS_LIMIT, "above 10000000 items", err);
    }
    // Grows by doubling: the count passes a power of two.
    if ((items->count & (items->count - 1)) == 0) {
        size_t capacity = items->count == 0 ? 1 : 2 * items->count;
        struct item *rows = realloc(items->rows, capacity * sizeof *rows);
        if (rows == NULL) {
            json_decref(source);
            return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for the items");
        }
        items->rows = rows;
    }
    struct item *item = &items->rows[items->count++];
    *item = (struct item){.source = source, .line = line};
    json_t *id = json_object_get(source, "id");
    if (id != NULL && !json_is_null(id)) {
        item->id = json_incref(id);
        json_object_del(source, "id");
    } else {
        item->id = json_integer((json_int_t)items->count);
    }
    return find_prompt(item, column, err);
}

static bool is_blank(const char *bytes, size_t size) {
    return strspn(bytes, " \t\r\n") >= size;
}

static enum status read_json_lines(FILE *file, const char *column, struct items *out,
                                   struct error *err) {
    char *line = NULL;
    size_t capacity = 0;
    size_t number = 0;
    enum status status = STATUS_OK;
    errno = 0;
    for (ssize_t size = 0; status == STATUS_OK && (size = getline(&line, &capacity, file)) >= 0;) {
        number++;
        if (is_blank(line, (size_t)size)) {
            continue;
        }
        if (size > ITEMS_LINE_BYTES_MAX) {
            status = refuse(number, STATUS_LIMIT, "longer than 4194304 bytes", err);
            break;
        }
        json_error_t why;
        json_t *source = json_loadb(line, (size_t)size, JSON_REJECT_DUPLICATES, &why);
        if (json_is_object(source)) {
            status = append(out, source, number, column, err);
        } else {
            json_decref(source);
            status = refuse(number, STATUS_MALFORMED,
                            source == NULL ? why.text : "not a JSON object", err);
        }
    }
    if (status == STATUS_OK && ferror(file)) {
        status = error_set(err, STATUS_IO, NULL, "cannot read: %s", strerror(errno));
    }
    free(line);
    return status;
}

// Makes the fields of a CSV row an object under the header's names.
static enum status row_object(const struct csv_row *header, const struct csv_row *row, json_t **out,
                              struct error *err) {
    if (row->count != header->count) {
        return refuse(row->line, STATUS_MALFORMED, "not as many fields as the header", err);
    }
    json_t *object = json_object();
    for (size_t i = 0; i < row->count; i++) {
        json_t *value = json_string(row->fields[i]);
        if (value == NULL || json_object_set_new(object, header->fields[i], value) != 0) {
            json_decref(object);
            return refuse(row->line, STATUS_MALFORMED, "a field is not UTF-8", err);
        }
    }
    *out = object;
    return STATUS_OK;
}

static enum status read_csv_rows(const char *bytes, size_t size, const char *column,
                                 struct items *out, struct error *err) {
    struct csv_reader reader;
    csv_init(&reader, bytes, size);
    struct csv_row header = {0};
    enum status status = csv_next(&reader, &header, err);
    if (status == STATUS_NOT_FOUND) {
        return refuse(1, STATUS_MALFORMED, "no header", err);
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
            status = append(out, object, row.line, column, err);
        }
        csv_row_destroy(&row);
    }
    csv_row_destroy(&header);
    return status == STATUS_NOT_FOUND ? STATUS_OK : status;
}

static enum status read_csv(FILE *file, const char *column, struct items *out, struct error *err) {
    struct stat info;
    if (fstat(fileno(file), &info) != 0 || !S_ISREG(info.st_mode) || info.st_size == 0) {
        return error_set(err, STATUS_MALFORMED, NULL, "not a CSV file with a header");
    }
    size_t size = (size_t)info.st_size;
    char *bytes = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fileno(file), 0);
    if (bytes == MAP_FAILED) {
        return error_set(err, STATUS_IO, NULL, "cannot read: %s", strerror(errno));
    }
    enum status status = read_csv_rows(bytes, size, column, out, err);
    munmap(bytes, size);
    return status;
}

enum status items_read(const char *path, const char *prompt_column, struct items *out,
                       struct error *err) {
    *out = (struct items){0};
    FILE *file = fopen(path, "rbe");
    if (file == NULL) {
        return error_set(err, status_from_errno(errno), path, "cannot open: %s", strerror(errno));
    }
    size_t length = strlen(path);
    bool csv = length > 4 && strcasecmp(path + length - 4, ".csv") == 0;
    enum status status = csv ? read_csv(file, prompt_column, out, err)
                             : read_json_lines(file, prompt_column, out, err);
    fclose(file);
    if (status == STATUS_OK && out->count == 0) {
        return error_set(err, STATUS_MALFORMED, path, "no items");
    }
    return status;
}

void items_finish(struct items *items) {
    for (size_t i = 0; i < items->count; i++) {
        json_decref(items->rows[i].id);
        json_decref(items->rows[i].source);
    }
    free(items->rows);
    *items = (struct items){0};
}

void item_set_prompt(const struct item *item, Surefoot__JobSpec *spec, Surefoot__ChatMessage *rows,
                     Surefoot__ChatMessage **list) {
    spec->prompt = (char *)item->prompt; // packing only reads
    spec->n_messages = 0;
    spec->messages = list;
    if (item->prompt != NULL) {
        return;
    }
    const json_t *messages = json_object_get(item->source, "messages");
    spec->n_messages = json_array_size(messages);
    for (size_t i = 0; i < spec->n_messages; i++) {
        const json_t *message = json_array_get(messages, i);
        surefoot__chat_message__init(&rows[i]);
        rows[i].role = (char *)json_string_value(json_object_get(message, "role"));
        rows[i].content = (char *)json_string_value(json_object_get(message, "content"));
        list[i] = &rows[i];
    }
}
