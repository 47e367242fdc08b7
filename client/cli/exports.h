// The answers of a sweep, or of one method of a comparison, in the files that other tools read.
#ifndef CLIENT_CLI_EXPORTS_H
#define CLIENT_CLI_EXPORTS_H

#include <stdbool.h>
#include <stdio.h>

#include "client/cli/outfile.h"

struct exports_options {
    const char *form;    // the name of a row of the table
    const char *method;  // of a comparison; NULL: the only one
    const char *refusal; // the text of an item that was refused
    bool skips_failed;   // items of failed jobs are left out; else they are an error
};

struct exports_counts {
    size_t written;
    size_t refused; // of them, as
    size_t failed;
    size_t skipped;
};

// "harmbench, openai-batch, ...", for errors.
const char *exports_forms(void);

// Writes the records of `file` to `out`. STATUS_INVALID_ARGUMENT: no such form or method, several
// methods and none named, a failed job, or a record without what the form needs, the message names
// its line; STATUS_MALFORMED, STATUS_IO, STATUS_NO_MEMORY. What was written then is of no use.
MUST_CHECK enum status exports_write(const struct outfile *file,
                                     const struct exports_options *options, FILE *out,
                                     struct exports_counts *counts, struct error *err);

#endif
