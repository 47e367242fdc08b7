// The rows of a file of prompts, whatever its form: JSON lines, one JSON list of objects or of
// texts, one JSON object of lists of texts under a behaviour (HarmBench's test cases), CSV, TSV,
// text with a prompt a line. The name's end tells CSV, TSV and text, or the caller does; JSON tells
// itself. A byte order mark is skipped. The whole file is read and checked; errors name the line.
#ifndef CLIENT_BENCHMARKS_ROWS_H
#define CLIENT_BENCHMARKS_ROWS_H

#include <stdbool.h>
#include <stddef.h>

#include <jansson.h>

#include "common/status.h"

enum { ROWS_MAX = 10000000, ROWS_ROW_BYTES_MAX = 4 << 20 };
#define ROWS_FILE_BYTES_MAX ((size_t)4 << 30)

// The one field of a row that is a bare text.
#define ROWS_TEXT_FIELD "prompt"

// The fields of a row that is one text of the list of a behaviour, beside "id": the behaviour's, or
// with several texts behaviour/1, behaviour/2, ...
#define ROWS_BEHAVIOR_FIELD "behavior_id"
#define ROWS_CASE_FIELD "test_case"

struct row {
    json_t *fields; // owned object
    size_t line;    // where it begins, from 1
};

struct rows {
    struct row *items; // [count]
    size_t count;
    const char *form; // "JSON lines", "JSON", "CSV", ...; static
    bool bare;        // rows are texts, under ROWS_TEXT_FIELD
};

// The path of standard input.
#define ROWS_STDIN "-"

// The names that rows_read() knows a form by.
#define ROWS_FORMS "csv, tsv, txt, json"

// `form` is one of ROWS_FORMS, or NULL: by the end of the path, standard input json. Release with
// rows_finish(), on failure too. STATUS_INVALID_ARGUMENT (form), STATUS_NOT_FOUND, STATUS_MALFORMED
// (also: no rows), STATUS_LIMIT, STATUS_NO_MEMORY, STATUS_IO.
MUST_CHECK enum status rows_read(const char *path, const char *form, struct rows *out,
                                 struct error *err);
void rows_finish(struct rows *rows);

// Sets an error at a line of the file; returns `status`.
enum status rows_refuse(size_t line, enum status status, struct error *err, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

#endif
