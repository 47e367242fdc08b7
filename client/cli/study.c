#include "client/cli/study.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/batch.h"
#include "client/cli/job_json.h"
#include "client/cli/json_diff.h"
#include "client/cli/print.h"
#include "common/deadline.h"

enum {
    SYNC_EVERY_MS = 1000,
    // Records whose jobs a killed run may have left open: those of one sync and of one flight.
    REOPENED_MAX = STUDY_SYNC_RECORDS + SUREFOOT_STREAMS_MAX,
};

static bool has_file(const struct study *study) {
    return study->outfile.fd >= 0;
}

// Puts the records on disk, then lets the service forget their jobs.
static enum status sync_records(struct study *study, struct error *err) {
    study->synced_ms = clock_monotonic_ms();
    if (study->n_unsynced == 0) {
        return STATUS_OK;
    }
    enum status status = has_file(study) ? outfile_sync(&study->outfile, err) : STATUS_OK;
    for (int i = 0; status == STATUS_OK && !study->away && i < study->n_unsynced; i++) {
        status = surefoot_close_job(study->session.client, study->unsynced[i],
                                    watch_timeout(&study->watch), err);
        // One question is enough for a service that is away; the next rerun closes the jobs.
        study->away = status == STATUS_DEADLINE;
        if (status == STATUS_DEADLINE || status == STATUS_NOT_FOUND) {
            status = STATUS_OK;
        }
    }
    study->n_unsynced = 0;
    return status;
}

// The job of an item under a method, but for its seed.
static void set_item(struct study *study, const struct study_method *method, size_t index) {
    study->spec = method->spec;
    item_set_prompt(&study->items.rows[index], &study->turns, &study->spec, study->message_rows,
                    study->message_list);
}

static void describe(void *user, size_t index, const Surefoot__JobSpec **spec, const char **key) {
    struct study *study = user;
    const struct study_method *method = &study->methods[study->at];
    set_item(study, method, index);
    study->spec.has_seed = 1;
    study->spec.seed = method->keys[index].seed;
    struct error ignored;
    enum status status = job_flags_calibrate(study->job, &study->spec, &ignored);
    ASSERT(status == STATUS_OK); // find_missing has seen that it is there
    *spec = &study->spec;
    *key = method->keys[index].text;
}

static void count_outcome(struct progress *progress, const char *outcome) {
    progress->refused += strcmp(outcome, "NO_SAFE_CANDIDATE") == 0;
    progress->failed +=
        strcmp(outcome, "NO_SAFE_CANDIDATE") != 0 && strcmp(outcome, "COMPLETED") != 0;
}

// Keeps of a record what is the result's own. Borrows the record.
static enum status keep_result(struct study *study, int method, size_t index, json_t *record,
                               struct error *err) {
    static const char *const others[] = {"surefoot_compare", "surefoot_sweep", "prompt",
                                         "messages",         "input",          "settings"};
    json_t *result = json_copy(record);
    for (size_t i = 0; result != NULL && i < sizeof others / sizeof others[0]; i++) {
        json_object_del(result, others[i]);
    }
    study->methods[method].results[index] = result;
    return result != NULL ? STATUS_OK
                          : error_set(err, STATUS_NO_MEMORY, NULL, "no memory for a result");
}

// The record of a result; owned.
static json_t *make_record(const struct study *study, size_t index,
                           const Surefoot__JobResult *result) {
    const struct item *item = &study->items.rows[index];
    const struct study_method *method = &study->methods[study->at];
    json_t *record = json_object();
    json_t *fields = print_result_json(result, false);
    json_object_set(record, "id", item->id);
    if (method->label[0] != '\0') {
        json_object_set_new(record, "method", json_string(method->label));
    }
    json_object_update(record, fields);
    json_decref(fields);
    json_object_set_new(record, "key", json_string(method->keys[index].text));
    if (item->joined != NULL) {
        json_object_set_new(record, "prompt", json_string(item->joined));
    }
    if (item->turned != NULL) {
        json_object_set(record, "messages", item->turned);
    }
    json_object_set(record, "input", item->source);
    return record;
}

static enum status done(void *user, size_t index, const Surefoot__JobResult *result,
                        struct error *err) {
    struct study *study = user;
    json_t *record = make_record(study, index, result);
    enum status status =
        study->keep_results ? keep_result(study, study->at, index, record, err) : STATUS_OK;
    if (status == STATUS_OK && has_file(study)) {
        status = outfile_append(&study->outfile, json_incref(record), err);
    }
    json_decref(record);
    if (status != STATUS_OK) {
        return status;
    }
    study->away = false;
    study->progress.done++;
    count_outcome(&study->progress, surefoot_outcome_name(result->outcome));
    study->unsynced[study->n_unsynced++] = study->methods[study->at].keys[index].text;
    return study->n_unsynced == STUDY_SYNC_RECORDS ? sync_records(study, err) : STATUS_OK;
}

static enum status tick(void *user, struct error *err) {
    struct study *study = user;
    progress_show(&study->progress);
    return clock_monotonic_ms() - study->synced_ms >= SYNC_EVERY_MS ? sync_records(study, err)
                                                                    : STATUS_OK;
}

static const struct batch_ops study_ops = {.describe = describe, .done = done, .tick = tick};

// The models that the service has now; owned.
static enum status ask_models(const struct study *study, json_t **out, struct error *err) {
    Surefoot__ServiceStatus *state = NULL;
    enum status status =
        surefoot_status(study->session.client, study->session.timeout_ms, &state, err);
    if (status != STATUS_OK) {
        return status;
    }
    *out = job_models_json(state);
    surefoot_status_free(state);
    return *out != NULL ? STATUS_OK
                        : error_set(err, STATUS_UNAVAILABLE, NULL,
                                    "no group is alive, so the service's models are not known");
}

// What all records of a method have in common, and the names of its items.
static enum status prepare_method(struct study *study, struct study_method *method, json_t *models,
                                  struct error *err) {
    const Surefoot__JobSpec *spec = &method->spec;
    method->wall_ms = NAN;
    method->settings = json_pack("{s:s?, s:s, s:s?, s:s?, s:b, s:o, s:O}", "benchmark",
                                 study->items.benchmark, "asked", study->items.asked, "system",
                                 study->turns.system, "prefill", study->turns.prefill, "rendered",
                                 study->turns.rendered, "job", job_json(spec), "models", models);
    const struct calibration_file *calibration = &study->job->calibration_file;
    if (method->settings != NULL && calibration->fd >= 0) {
        struct sha256 sha = calibration->sha;
        char hex[SHA256_HEX_BYTES];
        sha256_finish_hex(&sha, hex);
        json_object_set_new(method->settings, "calibration", json_string(hex));
    }
    method->results = calloc(study->items.count, sizeof(json_t *));
    if (method->settings == NULL || method->results == NULL) {
        return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for the settings");
    }
    for (const struct study_method *other = study->methods; other < method; other++) {
        if (json_equal(other->settings, method->settings)) {
            return error_set(err, STATUS_INVALID_ARGUMENT, "--methods", "%s and %s are the same",
                             other->label, method->label);
        }
    }
    return item_keys_make(&study->items, spec->has_seed ? spec->seed : 0, method->settings,
                          &method->keys, err);
}

// Settles what the records say, names the items, and makes the file ready.
static enum status prepare(struct study *study, bool retry_failed, struct error *err) {
    json_t *models = NULL;
    json_t *settings = json_object();
    enum status status = ask_models(study, &models, err);
    for (int i = 0; status == STATUS_OK && i < study->n_methods; i++) {
        struct study_method *method = &study->methods[i];
        status = prepare_method(study, method, models, err);
        if (status == STATUS_OK &&
            json_object_set(settings, method->label, method->settings) != 0) {
            status = error_set(err, STATUS_NO_MEMORY, NULL, "no memory for the settings");
        }
    }
    if (status == STATUS_OK && has_file(study)) {
        status = outfile_start(&study->outfile, settings, retry_failed, err);
    }
    json_decref(settings);
    json_decref(models);
    return status;
}

// Refuses a row of the input that is not what its record was made of.
static enum status refuse_edited(const struct study *study, const struct item *item,
                                 const struct outfile_record *record, struct error *err) {
    json_t *whole = NULL;
    enum status status = outfile_load(&study->outfile, record, &whole, err);
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
static enum status find_record(struct study *study, int at, size_t index, bool *recorded,
                               struct error *err) {
    const struct study_method *method = &study->methods[at];
    const struct item *item = &study->items.rows[index];
    const struct outfile_record *record =
        has_file(study) ? outfile_find(&study->outfile, item->id, method->label) : NULL;
    *recorded = record != NULL;
    if (record == NULL) {
        return STATUS_OK;
    }
    struct digest digest;
    enum status status = outfile_digest(item->source, &digest, err);
    if (status != STATUS_OK) {
        return status;
    }
    if (strcmp(record->key, method->keys[index].text) != 0 || digest.high != record->input.high ||
        digest.low != record->input.low) {
        return refuse_edited(study, item, record, err);
    }
    count_outcome(&study->progress, record->outcome);
    json_t *whole = NULL;
    if (study->keep_results) {
        status = outfile_load(&study->outfile, record, &whole, err);
    }
    if (whole != NULL) {
        status = keep_result(study, at, index, whole, err);
    }
    json_decref(whole);
    return status;
}

// Closes jobs of the newest records: the run that wrote them may have ended before it could.
static enum status close_recorded(struct study *study, struct error *err) {
    const struct outfile *file = &study->outfile;
    enum status status = STATUS_OK;
    for (size_t i = file->count > REOPENED_MAX ? file->count - REOPENED_MAX : 0;
         status == STATUS_OK && i < file->count; i++) {
        status = surefoot_close_job(study->session.client, file->records[i].key,
                                    study->session.timeout_ms, err);
        status = status == STATUS_NOT_FOUND ? STATUS_OK : status;
    }
    return status;
}

// The items of a range that have no record under a method: indexes[*count].
static enum status find_missing(struct study *study, int method, const struct study_range *range,
                                size_t *indexes, size_t *count, struct error *err) {
    enum status status = STATUS_OK;
    *count = 0;
    for (size_t i = range->item_begin; status == STATUS_OK && i < range->item_end; i++) {
        bool recorded = false;
        status = find_record(study, method, i, &recorded, err);
        if (status == STATUS_OK && !recorded) {
            set_item(study, &study->methods[method], i);
            status = job_flags_calibrate(study->job, &study->spec, err);
        }
        if (status == STATUS_NOT_FOUND) {
            const struct error told = *err;
            status = error_set(err, told.status, told.field, "%s, which line %zu asks",
                               told.message, study->items.rows[i].line);
        }
        indexes[*count] = i;
        *count += status == STATUS_OK && !recorded;
    }
    return status;
}

static enum status run_methods(struct cli *cli, struct study *study,
                               const struct batch_flags *flags, const struct study_range *range,
                               size_t *const *indexes, const size_t *counts, struct error *err) {
    watch_init(&study->watch, study->session.client, study->session.timeout_ms, flags->patience_ms);
    const struct batch batch = {
        .client = study->session.client,
        .wake_fd = cli->signal_fd,
        .in_flight = (int)flags->in_flight,
        .watch = &study->watch,
        .ops = &study_ops,
        .user = study,
    };
    enum status status = STATUS_OK;
    for (int i = range->method_begin; status == STATUS_OK && i < range->method_end; i++) {
        int64_t start_ms = clock_monotonic_ms();
        study->at = i;
        status = batch_run(&batch, indexes[i], counts[i], err);
        if (status != STATUS_OK) {
            status = calibration_name_refusal(&study->job->calibration_file, err);
        }
        if (counts[i] == study->items.count) {
            study->methods[i].wall_ms = (double)(clock_monotonic_ms() - start_ms);
        }
    }
    // Whatever ended the batch, what it wrote shall be safe.
    study->away = study->away || status == STATUS_UNAVAILABLE;
    struct error late;
    enum status synced = sync_records(study, &late);
    if (status == STATUS_OK && synced != STATUS_OK) {
        *err = late;
        status = synced;
    }
    return status;
}

enum status study_open(struct study *study, const char *path, enum outfile_kind kind,
                       const struct batch_flags *flags, struct job_flags *job, struct error *err) {
    const struct items_choice choice = {.prompt_column = flags->prompt_column,
                                        .id_column = flags->id_column,
                                        .form = flags->form,
                                        .turns = job->turns};
    const struct selection selection = {.filters = &flags->filters,
                                        .sample = flags->sample,
                                        .sample_seed = flags->sample_seed,
                                        .limit = flags->limit};
    study->job = job;
    study->turns = job->turns;
    enum status status = batch_flags_check(flags, err);
    if (status == STATUS_OK) {
        status = items_read(path, &choice, &study->items, err);
    }
    if (status == STATUS_OK) {
        status = items_select(&study->items, &selection, err);
    }
    if (status == STATUS_OK && !flags->quiet) {
        items_describe(&study->items, &selection, stderr);
    }
    if (status == STATUS_OK && flags->out != NULL) {
        status = outfile_open(flags->out, study->items.from_stdin ? "/dev/stdin" : path, kind,
                              &study->outfile, err);
    }
    if (status == STATUS_OK) {
        job_flags_fix_date(job, outfile_date(&study->outfile));
    }
    return status;
}

enum status study_start(struct study *study, const struct batch_flags *flags, struct error *err) {
    enum status status = prepare(study, flags->retry_failed, err);
    return status == STATUS_OK ? close_recorded(study, err) : status;
}

enum status study_answer(struct cli *cli, struct study *study, const struct batch_flags *flags,
                         const struct study_range *range, struct error *err) {
    size_t *indexes[STUDY_METHODS_MAX] = {NULL};
    size_t counts[STUDY_METHODS_MAX] = {0};
    size_t n_items = range->item_end - range->item_begin;
    size_t left = 0;
    enum status status = STATUS_OK;
    study->progress = (struct progress){0};
    for (int i = range->method_begin; status == STATUS_OK && i < range->method_end; i++) {
        indexes[i] = calloc(n_items + 1, sizeof *indexes[i]);
        status = indexes[i] != NULL
                     ? find_missing(study, i, range, indexes[i], &counts[i], err)
                     : error_set(err, STATUS_NO_MEMORY, NULL, "no memory for the items");
        left += counts[i];
    }
    if (status == STATUS_OK) {
        const struct progress before = study->progress;
        int n_methods = range->method_end - range->method_begin;
        size_t total = (size_t)n_methods * n_items;
        // The times of several methods differ too much to say how long is left.
        progress_start(&study->progress, stderr, flags->quiet, total, total - left,
                       n_methods == 1 ? flags->in_flight : SIZE_MAX);
        study->progress.refused = before.refused;
        study->progress.failed = before.failed;
        status = run_methods(cli, study, flags, range, indexes, counts, err);
        progress_end(&study->progress);
    }
    for (int i = 0; i < study->n_methods; i++) {
        free(indexes[i]);
    }
    return status;
}

enum status study_run(struct cli *cli, struct study *study, const struct batch_flags *flags,
                      struct error *err) {
    const struct study_range all = {.method_end = study->n_methods, .item_end = study->items.count};
    enum status status = study_start(study, flags, err);
    return status == STATUS_OK ? study_answer(cli, study, flags, &all, err) : status;
}

int study_exit_code(const struct study *study) {
    const struct progress *progress = &study->progress;
    return progress->done < progress->total || progress->failed > 0 ? CLI_EXIT_FAILED : CLI_EXIT_OK;
}

void study_close(struct study *study) {
    session_close(&study->session);
    outfile_close(&study->outfile);
    for (int i = 0; i < study->n_methods; i++) {
        struct study_method *method = &study->methods[i];
        for (size_t j = 0; method->results != NULL && j < study->items.count; j++) {
            json_decref(method->results[j]);
        }
        free(method->results);
        free(method->keys);
        json_decref(method->settings);
    }
    items_finish(&study->items);
}
