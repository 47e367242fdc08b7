// Reads a model directory's small files whole, with their size checked first. Blocks; any thread.
#ifndef WORKER_TOKENIZER_MODEL_FILE_H
#define WORKER_TOKENIZER_MODEL_FILE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "common/status.h"

// Returns owned text [*bytes] with a NUL after it. NOT_FOUND; LIMIT: above
// TOKENIZER_FILE_BYTES_MAX; IO, NO_MEMORY. err->field is the name.
MUST_CHECK enum status model_file_read(const char *directory, const char *name, char **text,
                                       size_t *bytes, struct error *err);

// Returns an owned object; a key that occurs twice is an error. Integers above 64 bits are reals
// (common/json_numbers.h). As above, and MALFORMED.
MUST_CHECK enum status model_file_read_json(const char *directory, const char *name, json_t **out,
                                            struct error *err);

// Sets an error whose field is "<file>:<path>"; returns `status`.
enum status model_file_error(struct error *err, enum status status, const char *file,
                             const char *path, const char *format, ...)
    __attribute__((format(printf, 5, 6)));

// Takes the next line of *at..end without its end; false at the end of the text.
bool model_file_next_line(const char **at, const char *end, const char **line, size_t *bytes);

#endif
