#include "client/benchmarks/csv.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

void csv_init(struct csv_reader *reader, const char *bytes, size_t size, char separator) {
    bool has_mark = size >= 3 && memcmp(bytes, "\xEF\xBB\xBF", 3) == 0;
    *reader = (struct csv_reader){
        .at = bytes + (has_mark ? 3 : 0), .end = bytes + size, .line = 1, .separator = separator};
}

static enum status malformed(const struct csv_reader *reader, const char *what, struct error *err) {
    return error_set(err, STATUS_MALFORMED, NULL, "line %zu: %s", reader->line, what);
}

// Steps over a line end at `at`; false when there is none.
static bool skip_line_end(struct csv_reader *reader) {
    if (reader->at < reader->end && *reader->at == '\n') {
        reader->at++;
    } else if (reader->end - reader->at >= 2 && memcmp(reader->at, "\r\n", 2) == 0) {
        reader->at += 2;
    } else {
        return false;
    }
    reader->line++;
    return true;
}

static bool at_field_end(const struct csv_reader *reader) {
    return reader->at == reader->end || *reader->at == reader->separator || *reader->at == '\n' ||
           (reader->end - reader->at >= 2 && memcmp(reader->at, "\r\n", 2) == 0);
}

// Reads a quoted field into `out`, which has room for what is left of the input.
static enum status read_quoted(struct csv_reader *reader, char *out, struct error *err) {
    reader->at++;
    for (;;) {
        if (reader->at == reader->end) {
            return malformed(reader, "a quoted field has no end", err);
        }
        char byte = *reader->at++;
        if (byte == '"' && reader->at < reader->end && *reader->at == '"') {
            reader->at++;
        } else if (byte == '"') {
            break;
        } else if (byte == '\0') {
            return malformed(reader, "NUL byte", err);
        }
        reader->line += byte == '\n';
        *out++ = byte;
    }
    *out = '\0';
    return at_field_end(reader) ? STATUS_OK : malformed(reader, "text after a quoted field", err);
}

static enum status read_plain(struct csv_reader *reader, char *out, struct error *err) {
    while (!at_field_end(reader)) {
        if (*reader->at == '"' || *reader->at == '\0') {
            return malformed(reader, "a quote or NUL byte in an unquoted field", err);
        }
        *out++ = *reader->at++;
    }
    *out = '\0';
    return STATUS_OK;
}

// Bytes that the field at `at` may take: up to the closing quote or the field's end.
static size_t field_bytes_max(const struct csv_reader *reader) {
    struct csv_reader scan = *reader;
    if (scan.at < scan.end && *scan.at == '"') {
        scan.at++;
        // A doubled quote goes on with the field, a single one ends it.
        while (scan.at < scan.end) {
            bool doubled = scan.end - scan.at >= 2 && memcmp(scan.at, "\"\"", 2) == 0;
            if (*scan.at == '"' && !doubled) {
                break;
            }
            scan.at += doubled ? 2 : 1;
        }
    } else {
        while (!at_field_end(&scan)) {
            scan.at++;
        }
    }
    return (size_t)(scan.at - reader->at);
}

static enum status append_field(struct csv_reader *reader, struct csv_row *row, struct error *err) {
    char **fields = realloc(row->fields, (row->count + 1) * sizeof *fields);
    if (fields == NULL) {
        return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for a row");
    }
    row->fields = fields;
    char *text = malloc(field_bytes_max(reader) + 1);
    if (text == NULL) {
        return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for a field");
    }
    fields[row->count++] = text;
    bool quoted = reader->at < reader->end && *reader->at == '"';
    return quoted ? read_quoted(reader, text, err) : read_plain(reader, text, err);
}

enum status csv_next(struct csv_reader *reader, struct csv_row *row, struct error *err) {
    while (skip_line_end(reader)) {
    }
    if (reader->at == reader->end) {
        return STATUS_NOT_FOUND;
    }
    *row = (struct csv_row){.line = reader->line};
    for (;;) {
        enum status status = append_field(reader, row, err);
        if (status != STATUS_OK) {
            csv_row_destroy(row);
            return status;
        }
        if (reader->at == reader->end || *reader->at != reader->separator) {
            break;
        }
        reader->at++;
    }
    skip_line_end(reader);
    return STATUS_OK;
}

void csv_row_destroy(struct csv_row *row) {
    for (size_t i = 0; i < row->count; i++) {
        free(row->fields[i]);
    }
    free(row->fields);
    *row = (struct csv_row){0};
}
