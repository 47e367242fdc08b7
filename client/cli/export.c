// surefoot export: the records of a sweep in the files of other tools.
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/cli/cli.h"
#include "client/cli/exports.h"
#include "client/cli/flags.h"
#include "client/cli/outfile.h"

static enum status fail(const char *path, const char *what, struct error *err) {
    return error_set(err, status_from_errno(errno), "--out", "cannot %s %.200s: %s", what, path,
                     strerror(errno));
}

// Whole or not at all: written beside its place first, which nothing else may hold.
static enum status write_file(const struct outfile *file, const struct exports_options *options,
                              const char *path, struct exports_counts *counts, struct error *err) {
    char part[PATH_MAX];
    if (snprintf(part, sizeof part, "%s.part", path) >= (int)sizeof part) {
        return error_set(err, STATUS_LIMIT, "--out", "the path is too long");
    }
    if (access(path, F_OK) == 0) {
        return error_set(err, STATUS_ALREADY_EXISTS, "--out",
                         "%.200s is there; remove it, or name another file", path);
    }
    int fd = open(part, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    FILE *out = fd >= 0 ? fdopen(fd, "wb") : NULL;
    if (out == NULL) {
        return fail(part, "make", err);
    }
    enum status status = exports_write(file, options, out, counts, err);
    if (status == STATUS_OK && fsync(fd) != 0) {
        status = fail(part, "write", err);
    }
    if (fclose(out) != 0 && status == STATUS_OK) {
        status = fail(part, "write", err);
    }
    if (status == STATUS_OK && rename(part, path) != 0) {
        status = fail(path, "write", err);
    }
    if (status != STATUS_OK) {
        unlink(part);
    }
    return status;
}

static enum status export_records(const char *records, const struct exports_options *options,
                                  const char *out, struct error *err) {
    struct outfile file = {.fd = -1};
    struct exports_counts counts = {0};
    enum status status = outfile_open_records(records, "RECORDS", &file, err);
    if (status == STATUS_OK) {
        status = out != NULL ? write_file(&file, options, out, &counts, err)
                             : exports_write(&file, options, stdout, &counts, err);
    }
    if (status == STATUS_OK) {
        fprintf(stderr, "%zu items: %zu answers, %zu refused, %zu failed; %zu failed left out%s\n",
                counts.written, counts.written - counts.refused - counts.failed, counts.refused,
                counts.failed, counts.skipped,
                file.torn_bytes > 0 ? "; a last record that was cut is left out" : "");
    }
    outfile_close(&file);
    return status;
}

int verb_export(struct cli *cli, int argc, char **argv) {
    (void)cli;
    struct exports_options options = {.refusal = ""};
    const char *out = NULL;
    int skips_failed = 0;
    const struct flag own[] = {
        {.name = "to",
         .kind = FLAG_TEXT,
         .target = &options.form,
         .value = "FORM",
         .help = "harmbench, strongreject, xstest, openai-batch, csv; required, no default"},
        {.name = "method",
         .kind = FLAG_TEXT,
         .target = &options.method,
         .value = "LABEL",
         .help = "of a comparison, as its records name it; default: the only one"},
        {.name = "refusal",
         .kind = FLAG_TEXT,
         .target = &options.refusal,
         .value = "TEXT",
         .help = "the text of refused items; default none, an empty text"},
        {.name = "skip-failed",
         .kind = FLAG_SWITCH,
         .target = &skips_failed,
         .help = "leave items of failed jobs out; default: they are an error where the form has "
                 "no place for them"},
        {.name = "out",
         .kind = FLAG_TEXT,
         .target = &out,
         .value = "FILE",
         .help = "default: standard output"},
        {.name = NULL},
    };
    const struct command_line line = {
        .usage = "export RECORDS.jsonl --to FORM [FLAGS]",
        .about = "Writes the answers of a sweep, or of one method of a comparison, in a form that "
                 "other tools read:\n"
                 "  harmbench     HarmBench's completions: {behaviour: [{test_case, generation}]}\n"
                 "  strongreject  CSV: the items' columns and `response`\n"
                 "  xstest        CSV: the items' columns and `completion`\n"
                 "  openai-batch  a line for each item, as the output file of a batch; failed "
                 "items are its errors\n"
                 "  csv           the items' columns, `completion`, and what the records say of "
                 "it; failed items too",
        .tables = {own},
        .n_tables = 1,
        .positional_min = 1,
        .positional_max = 1,
    };
    const char *records = NULL;
    int n_positional = 0;
    bool help = false;
    struct error err;
    enum status status = flags_parse(&line, argc, argv, &records, &n_positional, &help, &err);
    if (status == STATUS_OK && help) {
        flags_print_help(&line, stdout);
        return CLI_EXIT_OK;
    }
    if (status == STATUS_OK && options.form == NULL) {
        status = error_set(&err, STATUS_INVALID_ARGUMENT, "--to", "required: one of %s",
                           exports_forms());
    }
    options.skips_failed = skips_failed != 0;
    if (status == STATUS_OK) {
        status = export_records(records, &options, out, &err);
    }
    return status == STATUS_OK ? CLI_EXIT_OK : cli_fail(&err, false);
}
