// The results of a sweep or of a comparison on disk: JSON lines, appended, each beginning with
// {"surefoot_sweep":1, or {"surefoot_compare":1, one for each item, in a comparison for each item
// and method. Those of one method were made with the same settings, those of several with settings
// that differ in the job alone. Nothing is changed before the whole file is known to hold such
// records. Records count as safe once outfile_sync has returned.
#ifndef CLIENT_CLI_OUTFILE_H
#define CLIENT_CLI_OUTFILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "client/cli/digest.h"
#include "common/status.h"

enum outfile_kind { OUTFILE_SWEEP, OUTFILE_COMPARISON };

struct outfile_record {
    char key[DIGEST_HEX_BYTES];
    const char *outcome; // static
    struct digest input; // of the item's fields
    int64_t offset;      // where its line begins
    size_t line;         // from 1
};

// What the records of one method have in common. A sweep has one method, without a name.
struct outfile_method {
    char *name;       // owned; "" in a sweep
    json_t *settings; // owned
    size_t line;      // of its first record in the file as it was opened, from 1
    size_t count;     // records
    size_t n_failed;  // of them those of jobs that ended neither COMPLETED nor NO_SAFE_CANDIDATE
};

struct outfile {
    int fd;
    enum outfile_kind kind;
    const char *path;               // borrowed
    const char *input;              // borrowed, the file of the items, or NULL
    struct outfile_record *records; // [count], in the file's order
    size_t count;
    json_t *index; // owned object: the text of an id and its method -> the record's number
    struct outfile_method *methods; // [n_methods], in the order of their first records
    size_t n_methods;
    size_t torn_bytes; // what a crash left of a last record
    bool unended;      // the last record lacks its line end
};

// Opens or makes `path` and reads its records, without changing any. Borrows both names until it is
// closed. STATUS_INVALID_ARGUMENT: it is the file `input` (NULL: none) under whatever name, or no
// regular file; STATUS_ALREADY_EXISTS: another run has it open; STATUS_MALFORMED: a line that is
// no record of this kind, an item twice, records made with different settings, the message names
// the line; STATUS_IO. Release with outfile_close(), on failure too.
MUST_CHECK enum status outfile_open(const char *path, const char *input, enum outfile_kind kind,
                                    struct outfile *out, struct error *err);

// Opens the records that `path` has, of either kind; `field` is what errors call the file.
// STATUS_NOT_FOUND, and as above.
MUST_CHECK enum status outfile_open_records(const char *path, const char *field,
                                            struct outfile *out, struct error *err);

// Makes the file ready for records with `settings`, an object of a method's name -> its settings
// (objects; "" is the name in a sweep): cuts a torn record, and with `drop_failed` removes those of
// failed jobs, by way of a file `path`.part. Records of methods that are not in `settings` stay.
// STATUS_INVALID_ARGUMENT: the records that would stay were made with other settings, the message
// names the first difference; STATUS_MALFORMED: a foreign `path`.part; STATUS_IO,
// STATUS_DISK_FULL.
MUST_CHECK enum status outfile_start(struct outfile *file, const json_t *settings, bool drop_failed,
                                     struct error *err);
void outfile_close(struct outfile *file);

// The record of an item under a method ("" in a sweep), or NULL. Valid until the next append.
const struct outfile_record *outfile_find(const struct outfile *file, const json_t *id,
                                          const char *method);

// The date that the records were made with; NULL when there are none, or they have none. Borrowed
// until outfile_start.
const char *outfile_date(const struct outfile *file);

// The whole record as it stands in the file; owned. STATUS_IO, STATUS_MALFORMED.
MUST_CHECK enum status outfile_load(const struct outfile *file, const struct outfile_record *record,
                                    json_t **out, struct error *err);

// The digest that a record has of the fields `input` of its item. STATUS_NO_MEMORY.
MUST_CHECK enum status outfile_digest(const json_t *input, struct digest *out, struct error *err);

// Appends one record, an object with "id", "key", "outcome", "input" and in a comparison "method",
// under the mark of the kind and with the method's settings of outfile_start(); takes it.
MUST_CHECK enum status outfile_append(struct outfile *file, json_t *record, struct error *err);

// Returns when everything appended would survive a loss of power.
MUST_CHECK enum status outfile_sync(struct outfile *file, struct error *err);

#endif
