// The results of a sweep on disk: JSON lines, appended, each beginning with {"surefoot_sweep":1.
// Nothing is changed before the whole file is known to hold such records; then a line that a crash
// tore is cut off. Records count as safe once outfile_sync has returned.
#ifndef CLIENT_CLI_OUTFILE_H
#define CLIENT_CLI_OUTFILE_H

#include <stdbool.h>
#include <stddef.h>

#include <jansson.h>

#include "common/status.h"

struct outfile {
    int fd;
    json_t *records;   // owned object: key -> outcome, of every record in the file
    size_t torn_bytes; // cut off at opening
};

// Opens or makes `path` and reads its records. With `drop_failed` the records of jobs that ended
// neither COMPLETED nor NO_SAFE_CANDIDATE are removed from the file, by way of a file `path`.part.
// STATUS_INVALID_ARGUMENT: it is the file `input` (NULL: none) under whatever name, or no regular
// file; STATUS_ALREADY_EXISTS: another sweep has it open; STATUS_MALFORMED: a line that is no
// record, the message names it; STATUS_IO, STATUS_DISK_FULL. Release with outfile_close(), on
// failure too.
MUST_CHECK enum status outfile_open(const char *path, const char *input, bool drop_failed,
                                    struct outfile *out, struct error *err);
void outfile_close(struct outfile *file);

// The outcome recorded under a key, or NULL.
const char *outfile_find(const struct outfile *file, const char *key);

// Appends one record, an object with "key" and "outcome", under the mark of a sweep; takes it.
MUST_CHECK enum status outfile_append(struct outfile *file, json_t *record, struct error *err);

// Returns when everything appended would survive a loss of power.
MUST_CHECK enum status outfile_sync(struct outfile *file, struct error *err);

#endif
