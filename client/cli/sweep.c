// surefoot sweep: every prompt of a file answered once.
#include <stdlib.h>

#include "client/cli/outcome.h"
#include "client/cli/print.h"
#include "client/cli/study.h"

enum { DEFAULT_IN_FLIGHT = 64 };

static int print_summary(const struct study *study, const char *out, bool json) {
    const struct progress *progress = &study->progress;
    size_t answered = progress->done - progress->refused - progress->failed;
    if (!json) {
        printf("%zu item%s: %zu answered, %zu refused, %zu failed; %zu of them in this run; %s\n",
               progress->total, print_plural(progress->total), answered, progress->refused,
               progress->failed, progress->done - progress->done_before, out);
        return study_exit_code(study);
    }
    json_t *object = json_pack(
        "{s:I, s:I, s:I, s:I, s:I, s:s, s:s?, s:s}", "items", (json_int_t)progress->total,
        "answered", (json_int_t)answered, "refused", (json_int_t)progress->refused, "failed",
        (json_int_t)progress->failed, "new", (json_int_t)(progress->done - progress->done_before),
        "out", out, "benchmark", study->items.benchmark, "asked", study->items.asked);
    return print_json_line(object, stdout) == STATUS_OK ? study_exit_code(study) : CLI_EXIT_SYSTEM;
}

int verb_sweep(struct cli *cli, int argc, char **argv) {
    struct session_flags session_flags;
    struct service_flags service_flags;
    struct job_flags job;
    struct batch_flags flags;
    batch_flags_init(&flags, DEFAULT_IN_FLIGHT,
                     "one JSON object for each item, appended; required, no default");
    session_flags_init(&session_flags);
    service_flags_init(&service_flags);
    job_flags_init(&job);
    const struct command_line line = {
        .usage = "sweep FILE|- --out OUT.jsonl [FLAGS]",
        .about =
            "Answers every prompt of FILE: JSON lines, a JSON list, CSV, TSV, or text with a "
            "prompt a line.\nPublic benchmarks are known by their columns, others by the one "
            "column "
            "with a usual name; what is\nasked is said, and --prompt-column decides. Run it again "
            "after an interruption and it goes on at the first missing "
            "item. An item is the same when\nid, prompt, job flags and models are. --seed is the "
            "sweep's; each item's own is derived from it,\nits id and its prompt.\n"
            "Exit code 0: every item answered or refused; 3: some failed; 5: interrupted.\n"
            "OUT: surefoot_sweep (1), id, prompt or messages (if they are no field by themselves), "
            "input{all other "
            "fields of the\nitem}, settings{benchmark, asked (column), system, prefill, "
            "rendered, job{every field},\nmodels{name: role, hash, precision, profile, ...}} "
            "and\n" OUTCOME_FIELDS
            "\nJSON on stdout: items, answered, refused, failed, new, out, benchmark, asked.",
        .tables = {flags.table, job.table, session_flags.table, service_flags.table},
        .n_tables = 4,
        .positional_min = 1,
        .positional_max = 1,
    };
    const char *path = NULL;
    int n_positional = 0;
    bool help = false;
    struct error err;
    int code = CLI_EXIT_OK;
    struct study *study = calloc(1, sizeof *study);
    if (study == NULL) {
        return CLI_EXIT_SYSTEM;
    }
    study->outfile.fd = -1;
    enum status status = flags_parse(&line, argc, argv, &path, &n_positional, &help, &err);
    if (status == STATUS_OK && help) {
        flags_print_help(&line, stdout);
        goto out;
    }
    if (status == STATUS_OK && flags.out == NULL) {
        status = error_set(&err, STATUS_INVALID_ARGUMENT, "--out", "required");
    }
    if (status == STATUS_OK) {
        status = job_flags_finish(&job, &err);
    }
    if (status == STATUS_OK) {
        status = study_open(study, path, OUTFILE_SWEEP, &flags, &job, &err);
    }
    if (status == STATUS_OK) {
        study->methods[0] = (struct study_method){.label = "", .spec = job.spec};
        study->n_methods = 1;
        status = session_open(cli, &session_flags, &service_flags, &study->session, &err);
    }
    if (status == STATUS_OK) {
        status = study_run(cli, study, &flags, &err);
    }
    code = status == STATUS_OK ? print_summary(study, flags.out, session_flags.json)
                               : cli_fail(&err, session_flags.json);
out:
    study_close(study);
    free(study);
    job_flags_destroy(&job);
    return code;
}
