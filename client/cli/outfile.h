// The results of a sweep on disk: JSON lines, appended, each beginning with {"surefoot_sweep":1,
// one for each item, all made with the same settings. Nothing is changed before the whole file is
// known to hold such records. Records count as safe once outfile_sync has returned.
#ifndef CLIENT_CLI_OUTFILE_H
#define CLIENT_CLI_OUTFILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "client/cli/digest.h"
#include "common/status.h"

struct outfile_record {
    char key[DIGEST_HEX_BYTES];
    const char *outcome; // static
    struct digest input; // of the item's fields
    int64_t offset;      // where its line begins
    size_t line;         // from 1
};

struct outfile {
    int fd;
    const char *path;               // borrowed
    const char *input;              // borrowed, the file of the items, or NULL
    struct outfile_record *records; // [count], in the file's order
    size_t count;
    json_t *index;     // owned object: an id's text -> its record's number
    json_t *settings;  // owned: those of the first record, or NULL
    size_t n_failed;   // records of jobs that ended neither COMPLETED nor NO_SAFE_CANDIDATE
    size_t torn_bytes; // what a crash left of a last record
    bool unended;      // the last record lacks its line end
};

// Opens or makes `path` and reads its records, without changing any. Borrows both names until it is
// closed. STATUS_INVALID_ARGUMENT: it is the file `input` (NULL: none) under whatever name, or no
// regular file; STATUS_ALREADY_EXISTS: another sweep has it open; STATUS_MALFORMED: a line that is
// no record, an id twice, records made with different settings, the message names the line;
// STATUS_IO. Release with outfile_close(), on failure too.
MUST_CHECK enum status outfile_open(const char *path, const char *input, struct outfile *out,
                                    struct error *err);

// Makes the file ready for records with `settings`: cuts a torn record, and with `drop_failed`
// removes those of failed jobs, by way of a file `path`.part. STATUS_INVALID_ARGUMENT: the records
// that would stay were made with other settings, the message names the first difference;
// STATUS_MALFORMED: a foreign `path`.part; STATUS_IO, STATUS_DISK_FULL.
MUST_CHECK enum status outfile_start(struct outfile *file, const json_t *settings, bool drop_failed,
                                     struct error *err);
void outfile_close(struct outfile *file);

// The record of an item, or NULL. Valid until the next append.
const struct outfile_record *outfile_find(const struct outfile *file, const json_t *id);

// The whole record as it stands in the file; owned. STATUS_IO, STATUS_MALFORMED.
MUST_CHECK enum status outfile_load(const struct outfile *file, const struct outfile_record *record,
                                    json_t **out, struct error *err);

// The digest that a record has of the fields `input` of its item. STATUS_NO_MEMORY.
MUST_CHECK enum status outfile_digest(const json_t *input, struct digest *out, struct error *err);

// Appends one record, an object with "id", "key", "outcome" and "input", under the mark of a sweep
// and the settings of outfile_start(); takes it.
MUST_CHECK enum status outfile_append(struct outfile *file, json_t *record, struct error *err);

// Returns when everything appended would survive a loss of power.
MUST_CHECK enum status outfile_sync(struct outfile *file, struct error *err);

#endif
