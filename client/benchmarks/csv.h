// CSV as RFC 4180 has it, or with another separator: commas, quoted fields with doubled quotes and
// line breaks inside, CRLF or LF. A byte order mark at the start is skipped. Reads from memory;
// rows own their text.
#ifndef CLIENT_BENCHMARKS_CSV_H
#define CLIENT_BENCHMARKS_CSV_H

#include <stddef.h>

#include "common/status.h"

struct csv_row {
    char **fields; // [count], NUL-terminated
    size_t count;
    size_t line; // 1-based line at which the row starts
};

struct csv_reader {
    const char *at;
    const char *end;
    size_t line;
    char separator;
};

// Borrows `bytes` until the last row is read.
void csv_init(struct csv_reader *reader, const char *bytes, size_t size, char separator);

// Reads the next row, released with csv_row_destroy(). Lines without any character are skipped.
// STATUS_NOT_FOUND: no more rows. STATUS_MALFORMED: an open quote, text after a closing quote, a
// quote inside an unquoted field, or a NUL byte; the message names the line. STATUS_NO_MEMORY.
MUST_CHECK enum status csv_next(struct csv_reader *reader, struct csv_row *row, struct error *err);

void csv_row_destroy(struct csv_row *row);

#endif
