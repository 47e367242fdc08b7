// surefoot sweep: every prompt of a file answered once. An item's job is named by its content, so a
// rerun after any interruption meets its own jobs again; a job is closed only after its record is
// on disk.
#include <stdlib.h>
#include <string.h>

#include "client/cli/batch.h"
#include "client/cli/batch_flags.h"
#include "client/cli/item_key.h"
#include "client/cli/job_flags.h"
#include "client/cli/job_json.h"
#include "client/cli/json_diff.h"
#include "client/cli/outcome.h"
#include "client/cli/outfile.h"
#include "client/cli/print.h"
#include "client/cli/progress.h"
#include "client/cli/session.h"
#include "common/deadline.h"

enum {
    SYNC_RECORDS_MAX = 64, // records that may wait for the disk
    SYNC_EVERY_MS = 1000,
    // Records whose jobs a killed run may have left open: those of one sync and of one flight.
    REOPENED_MAX = SYNC_RECORDS_MAX + SUREFOOT_STREAMS_MAX,
    DEFAULT_IN_FLIGHT = 64,
};

struct sweep {
    struct session session;
    struct items items;
    struct item_key *keys; // [items.count]
    struct outfile outfile;
    struct progress progress;
    struct watch watch;
    struct turns turns;
    Surefoot__JobSpec spec; // of the item described last
    Surefoot__ChatMessage message_rows[LIMIT_MESSAGES];
    Surefoot__ChatMessage *message_list[LIMIT_MESSAGES];
    size_t unsynced[SYNC_RECORDS_MAX]; // items recorded since the last sync
    int n_unsynced;
    bool away; // the service did not answer the last time, and no result has come since
    int64_t synced_ms;
};

struct sweep_flags {
    struct batch_flags batch;
    const char *out;
    int retry_failed;
};

// Puts the records on disk, then lets the service forget their jobs.
static enum status sync_records(struct sweep *sweep, struct error *err) {
    sweep->synced_ms = clock_monotonic_ms();
    if (sweep->n_unsynced == 0) {
        return STATUS_OK;
    }
    enum status status = outfile_sync(&sweep->outfile, err);
    for (int i = 0; status == STATUS_OK && !sweep->away && i < sweep->n_unsynced; i++) {
        status = surefoot_close_job(sweep->session.client, sweep->keys[sweep->unsynced[i]].text,
                                    watch_timeout(&sweep->watch), err);
        // One question is enough for a service that is away; the next rerun closes the jobs.
        sweep->away = status == STATUS_DEADLINE;
        if (status == STATUS_DEADLINE || status == STATUS_NOT_FOUND) {
            status = STATUS_OK;
        }
    }
    sweep->n_unsynced = 0;
    return status;
}

static void describe(void *user, size_t index, const Surefoot__JobSpec **spec, const char **key) {
    struct sweep *sweep = user;
    item_set_prompt(&sweep->items.rows[index], &sweep->turns, &sweep->spec, sweep->message_rows,
                    sweep->message_list);
    sweep->spec.has_seed = 1;
    sweep->spec.seed = sweep->keys[index].seed;
    *spec = &sweep->spec;
    *key = sweep->keys[index].text;
}

static void count_outcome(struct progress *progress, const char *outcome) {
    progress->refused += strcmp(outcome, "NO_SAFE_CANDIDATE") == 0;
    progress->failed +=
        strcmp(outcome, "NO_SAFE_CANDIDATE") != 0 && strcmp(outcome, "COMPLETED") != 0;
}

static enum status done(void *user, size_t index, const Surefoot__JobResult *result,
                        struct error *err) {
    struct sweep *sweep = user;
    const struct item *item = &sweep->items.rows[index];
    json_t *record = json_object();
    json_t *fields = print_result_json(result, false);
    json_object_set(record, "id", item->id);
    json_object_update(record, fields);
    json_decref(fields);
    json_object_set_new(record, "key", json_string(sweep->keys[index].text));
    if (item->joined != NULL) {
        json_object_set_new(record, "prompt", json_string(item->joined));
    }
    json_object_set(record, "input", item->source);
    enum status status = outfile_append(&sweep->outfile, record, err);
    if (status != STATUS_OK) {
        return status;
    }
    sweep->away = false;
    sweep->progress.done++;
    count_outcome(&sweep->progress, surefoot_outcome_name(result->outcome));
    sweep->unsynced[sweep->n_unsynced++] = index;
    return sweep->n_unsynced == SYNC_RECORDS_MAX ? sync_records(sweep, err) : STATUS_OK;
}

static enum status tick(void *user, struct error *err) {
    struct sweep *sweep = user;
    progress_show(&sweep->progress);
    return clock_monotonic_ms() - sweep->synced_ms >= SYNC_EVERY_MS ? sync_records(sweep, err)
                                                                    : STATUS_OK;
}

static const struct batch_ops sweep_ops = {.describe = describe, .done = done, .tick = tick};

// What all records of this sweep have in common, with the models that the service has now.
static enum status make_settings(struct sweep *sweep, json_t **out, struct error *err) {
    Surefoot__ServiceStatus *state = NULL;
    enum status status =
        surefoot_status(sweep->session.client, sweep->session.timeout_ms, &state, err);
    if (status != STATUS_OK) {
        return status;
    }
    json_t *models = job_models_json(state);
    surefoot_status_free(state);
    if (models == NULL) {
        return error_set(err, STATUS_UNAVAILABLE, NULL,
                         "no group is alive, so the service's models are not known");
    }
    *out = json_pack("{s:s?, s:s, s:s?, s:s?, s:b, s:o, s:o}", "benchmark", sweep->items.benchmark,
                     "asked", sweep->items.asked, "system", sweep->turns.system, "prefill",
                     sweep->turns.prefill, "rendered", sweep->turns.rendered, "job",
                     job_json(&sweep->spec), "models", models);
    return *out != NULL ? STATUS_OK
                        : error_set(err, STATUS_NO_MEMORY, NULL, "no memory for the settings");
}

// Settles what the records say, names the items, and makes the file ready.
static enum status prepare(struct sweep *sweep, bool retry_failed, struct error *err) {
    json_t *settings = NULL;
    enum status status = make_settings(sweep, &settings, err);
    if (status == STATUS_OK) {
        status = item_keys_make(&sweep->items, sweep->spec.has_seed ? sweep->spec.seed : 0,
                                settings, &sweep->keys, err);
    }
    if (status == STATUS_OK) {
        status = outfile_start(&sweep->outfile, settings, retry_failed, err);
    }
    json_decref(settings);
    return status;
}

// Refuses a row of the input that is not what its record was made of.
static enum status refuse_edited(const struct sweep *sweep, const struct item *item,
                                 const struct outfile_record *record, struct error *err) {
    json_t *whole = NULL;
    enum status status = outfile_load(&sweep->outfile, record, &whole, err);
    if (status != STATUS_OK) {
        return status;
    }
    struct json_diff diff;
    char field[ERROR_FIELD_BYTES];
    snprintf(field, sizeof field, "line %zu", item->line);
    bool found = json_diff_first(json_object_get(whole, "input"), item->source, &diff);
    status = error_set(err, STATUS_INVALID_ARGUMENT, field,
                       "field \"%s\" is %s, and %s in the record of the same id, --out line %zu; "
                       "name another file, or undo the edit",
                       found ? diff.path : "key", found ? diff.after : "another",
                       found ? diff.before : "another", record->line);
    json_decref(whole);
    return status;
}

// True in *recorded when the item has its record; an error when the record is of another text.
static enum status find_record(struct sweep *sweep, size_t index, bool *recorded,
                               struct error *err) {
    const struct item *item = &sweep->items.rows[index];
    const struct outfile_record *record = outfile_find(&sweep->outfile, item->id);
    *recorded = record != NULL;
    if (record == NULL) {
        return STATUS_OK;
    }
    struct digest digest;
    enum status status = outfile_digest(item->source, &digest, err);
    if (status != STATUS_OK) {
        return status;
    }
    if (strcmp(record->key, sweep->keys[index].text) != 0 || digest.high != record->input.high ||
        digest.low != record->input.low) {
        return refuse_edited(sweep, item, record, err);
    }
    count_outcome(&sweep->progress, record->outcome);
    return STATUS_OK;
}

// The items without a record, and for those with one the counts; jobs of the newest records are
// closed, because the run that wrote them may have ended before it could.
static enum status find_missing(struct sweep *sweep, size_t *indexes, size_t *count,
                                struct error *err) {
    size_t count_before = sweep->outfile.count;
    enum status status = STATUS_OK;
    *count = 0;
    for (size_t i = 0; status == STATUS_OK && i < sweep->items.count; i++) {
        bool recorded = false;
        status = find_record(sweep, i, &recorded, err);
        indexes[*count] = i;
        *count += status == STATUS_OK && !recorded;
    }
    size_t first = count_before > REOPENED_MAX ? count_before - REOPENED_MAX : 0;
    for (size_t i = first; status == STATUS_OK && i < count_before; i++) {
        status = surefoot_close_job(sweep->session.client, sweep->outfile.records[i].key,
                                    sweep->session.timeout_ms, err);
        status = status == STATUS_NOT_FOUND ? STATUS_OK : status;
    }
    return status;
}

static enum status run_sweep(struct cli *cli, struct sweep *sweep, const struct sweep_flags *flags,
                             struct error *err) {
    size_t *indexes = calloc(sweep->items.count, sizeof *indexes);
    if (indexes == NULL) {
        return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for the sweep");
    }
    size_t count = 0;
    enum status status = prepare(sweep, flags->retry_failed, err);
    if (status == STATUS_OK) {
        status = find_missing(sweep, indexes, &count, err);
    }
    if (status == STATUS_OK) {
        struct progress before = sweep->progress;
        progress_start(&sweep->progress, stderr, flags->batch.quiet, sweep->items.count,
                       sweep->items.count - count, flags->batch.in_flight);
        sweep->progress.refused = before.refused;
        sweep->progress.failed = before.failed;
        watch_init(&sweep->watch, sweep->session.client, sweep->session.timeout_ms,
                   flags->batch.patience_ms);
        const struct batch batch = {
            .client = sweep->session.client,
            .wake_fd = cli->signal_fd,
            .in_flight = (int)flags->batch.in_flight,
            .watch = &sweep->watch,
            .ops = &sweep_ops,
            .user = sweep,
        };
        status = batch_run(&batch, indexes, count, err);
        // Whatever ended the batch, what it wrote shall be safe.
        sweep->away = sweep->away || status == STATUS_UNAVAILABLE;
        struct error late;
        enum status synced = sync_records(sweep, &late);
        if (status == STATUS_OK && synced != STATUS_OK) {
            *err = late;
            status = synced;
        }
        progress_end(&sweep->progress);
    }
    free(indexes);
    return status;
}

static int print_summary(const struct sweep *sweep, const struct sweep_flags *flags, bool json) {
    const struct progress *progress = &sweep->progress;
    size_t answered = progress->done - progress->refused - progress->failed;
    int code =
        progress->done < progress->total || progress->failed > 0 ? CLI_EXIT_FAILED : CLI_EXIT_OK;
    if (!json) {
        printf("%zu item%s: %zu answered, %zu refused, %zu failed; %zu of them in this run; %s\n",
               progress->total, print_plural(progress->total), answered, progress->refused,
               progress->failed, progress->done - progress->done_before, flags->out);
        return code;
    }
    json_t *object = json_pack(
        "{s:I, s:I, s:I, s:I, s:I, s:s, s:s?, s:s}", "items", (json_int_t)progress->total,
        "answered", (json_int_t)answered, "refused", (json_int_t)progress->refused, "failed",
        (json_int_t)progress->failed, "new", (json_int_t)(progress->done - progress->done_before),
        "out", flags->out, "benchmark", sweep->items.benchmark, "asked", sweep->items.asked);
    return print_json_line(object, stdout) == STATUS_OK ? code : CLI_EXIT_SYSTEM;
}

static void close_sweep(struct sweep *sweep) {
    session_close(&sweep->session);
    outfile_close(&sweep->outfile);
    items_finish(&sweep->items);
    free(sweep->keys);
    free(sweep);
}

// The date that the records were made with; NULL when there are none. Borrowed from the file.
static const char *recorded_date(const struct outfile *file) {
    const json_t *job = json_object_get(file->settings, "job");
    return json_string_value(json_object_get(job, "date"));
}

int verb_sweep(struct cli *cli, int argc, char **argv) {
    struct session_flags session_flags;
    struct service_flags service_flags;
    struct job_flags job;
    struct sweep_flags flags = {0};
    batch_flags_init(&flags.batch, DEFAULT_IN_FLIGHT);
    session_flags_init(&session_flags);
    service_flags_init(&service_flags);
    job_flags_init(&job);
    const struct flag own[] = {
        {.name = "out",
         .kind = FLAG_TEXT,
         .target = &flags.out,
         .value = "OUT.jsonl",
         .help = "one JSON object for each item, appended; required, no default"},
        {.name = "retry-failed",
         .kind = FLAG_SWITCH,
         .target = &flags.retry_failed,
         .help = "remove the records of failed items and do them again"},
        {.name = NULL},
    };
    const struct command_line line = {
        .usage = "sweep FILE --out OUT.jsonl [FLAGS]",
        .about =
            "Answers every prompt of FILE: JSON lines, a JSON list, CSV, TSV, or text with a "
            "prompt a line.\nPublic benchmarks are known by their columns, others by the one "
            "column "
            "with a usual name; what is\nasked is said, and --prompt-column decides. Run it again "
            "after an interruption and it goes on at the first missing "
            "item. An item is the same when\nid, prompt, job flags and models are. --seed is the "
            "sweep's; each item's own is derived from it,\nits id and its prompt.\n"
            "Exit code 0: every item answered or refused; 3: some failed; 5: interrupted.\n"
            "OUT: surefoot_sweep (1), id, prompt (if it is no field by itself), input{all other "
            "fields of the\nitem}, settings{benchmark, asked (column), system, prefill, "
            "rendered, job{every field},\nmodels{name: role, hash, precision, profile, ...}} "
            "and\n" OUTCOME_FIELDS
            "\nJSON on stdout: items, answered, refused, failed, new, out, benchmark, asked.",
        .tables = {own, flags.batch.table, job.table, session_flags.table, service_flags.table},
        .n_tables = 5,
        .positional_min = 1,
        .positional_max = 1,
    };
    const char *path = NULL;
    int n_positional = 0;
    bool help = false;
    struct error err;
    int code = CLI_EXIT_OK;
    struct sweep *sweep = calloc(1, sizeof *sweep);
    if (sweep == NULL) {
        return CLI_EXIT_SYSTEM;
    }
    sweep->outfile.fd = -1;
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
        const struct items_choice choice = {.prompt_column = flags.batch.prompt_column,
                                            .id_column = flags.batch.id_column,
                                            .turns = job.turns};
        sweep->turns = job.turns;
        status = items_read(path, &choice, &sweep->items, &err);
    }
    if (status == STATUS_OK && !flags.batch.quiet) {
        items_describe(&sweep->items, stderr);
    }
    if (status == STATUS_OK) {
        status = outfile_open(flags.out, path, &sweep->outfile, &err);
    }
    if (status == STATUS_OK) {
        job_flags_fix_date(&job, recorded_date(&sweep->outfile));
        sweep->spec = job.spec;
    }
    if (status == STATUS_OK) {
        status = session_open(cli, &session_flags, &service_flags, &sweep->session, &err);
    }
    if (status == STATUS_OK) {
        status = run_sweep(cli, sweep, &flags, &err);
    }
    code = status == STATUS_OK ? print_summary(sweep, &flags, session_flags.json)
                               : cli_fail(&err, session_flags.json);
out:
    close_sweep(sweep);
    job_flags_destroy(&job);
    return code;
}
