// surefoot compare: the same prompts answered by several methods, side by side.
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/batch.h"
#include "client/cli/batch_flags.h"
#include "client/cli/compare_table.h"
#include "client/cli/items.h"
#include "client/cli/job_flags.h"
#include "client/cli/job_json.h"
#include "client/cli/print.h"
#include "client/cli/progress.h"
#include "client/cli/session.h"
#include "common/deadline.h"
#include "proto/job_fields.h"

enum { METHODS_MAX = 16, METHOD_BYTES = 64, DEFAULT_IN_FLIGHT = 4 };

struct method {
    char label[METHOD_BYTES]; // as given: NAME or NAME:SELECTION
    char name[METHOD_BYTES];
    char *selection; // in `name`, or NULL
    double wall_ms;
};

struct compare {
    struct session session;
    struct items items;
    struct method methods[METHODS_MAX];
    int n_methods;
    int at; // method being run
    size_t done;
    Surefoot__JobResult **results;    // [n_methods][items.count], owned copies
    char (*keys)[SUREFOOT_KEY_BYTES]; // [items.count] of the method being run
    const Surefoot__JobSpec *base;
    struct turns turns;
    FILE *out; // or NULL
    Surefoot__JobSpec spec;
    Surefoot__ChatMessage message_rows[LIMIT_MESSAGES];
    Surefoot__ChatMessage *message_list[LIMIT_MESSAGES];
    struct progress progress;
    struct watch watch;
};

struct compare_flags {
    struct batch_flags batch;
    const char *methods;
    const char *out;
    uint32_t limit;
    int show_unsafe;
};

static enum status read_methods(const char *list, struct compare *compare, struct error *err) {
    while (*list != '\0') {
        size_t length = strcspn(list, ",");
        if (length == 0 || length >= METHOD_BYTES || compare->n_methods == METHODS_MAX) {
            return error_set(err, STATUS_INVALID_ARGUMENT, "--methods",
                             "not 1 to %d names of 1 to %d bytes between commas", METHODS_MAX,
                             METHOD_BYTES - 1);
        }
        struct method *method = &compare->methods[compare->n_methods++];
        snprintf(method->label, sizeof method->label, "%.*s", (int)length, list);
        memcpy(method->name, method->label, sizeof method->name);
        char *colon = strchr(method->name, ':');
        if (colon != NULL) {
            *colon = '\0';
            method->selection = colon + 1;
        }
        list += length + (list[length] == ',');
    }
    return compare->n_methods > 0
               ? STATUS_OK
               : error_set(err, STATUS_INVALID_ARGUMENT, "--methods", "names no method");
}

static const struct job_method *row_of(const struct method *method) {
    return job_method_get(job_choice_parse(JOB_FIELD_METHOD, method->name));
}

// The selection of --selection is for methods that choose one and name none themselves.
static bool takes_selection(const struct method *method) {
    return method->selection == NULL && row_of(method)->chooses_selection;
}

static void set_method(const struct method *method, Surefoot__JobSpec *spec) {
    spec->method = (char *)method->name;
    if (!takes_selection(method)) {
        spec->selection = method->selection;
    }
}

static enum status check_selections(const struct compare *compare, struct error *err) {
    bool read = compare->base->selection == NULL;
    if (compare->base->method != NULL) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "--method",
                         "has no effect here; the methods are those of --methods");
    }
    for (int i = 0; i < compare->n_methods; i++) {
        const struct method *method = &compare->methods[i];
        const char *own = job_choice_name(JOB_FIELD_SELECTION, row_of(method)->own_selection);
        read = read || takes_selection(method);
        if (method->selection != NULL && !row_of(method)->chooses_selection &&
            strcmp(method->selection, own) != 0) {
            return error_set(err, STATUS_INVALID_ARGUMENT, "--methods",
                             "%s: method %s is always %s", method->label, method->name, own);
        }
    }
    return read ? STATUS_OK
                : error_set(err, STATUS_INVALID_ARGUMENT, "--selection",
                            "has no effect on any of the methods");
}

// One set of flags for all methods: each flag must mean something to one of them.
static enum status check_read(const struct compare *compare, struct error *err) {
    for (enum job_field_index i = 0; i < JOB_FIELDS_COUNT; i++) {
        bool read = !job_field_is_set(i, compare->base);
        for (int j = 0; !read && j < compare->n_methods; j++) {
            Surefoot__JobSpec spec = *compare->base;
            set_method(&compare->methods[j], &spec);
            read = job_field_is_read(i, &spec);
        }
        if (!read) {
            char flag[ERROR_FIELD_BYTES];
            snprintf(flag, sizeof flag, "--%s", job_field_get(i)->name);
            for (char *c = strchr(flag, '_'); c != NULL; c = strchr(c, '_')) {
                *c = '-';
            }
            return error_set(err, STATUS_INVALID_ARGUMENT, flag,
                             "has no effect on any of the methods");
        }
    }
    return STATUS_OK;
}

static void describe(void *user, size_t index, const Surefoot__JobSpec **spec, const char **key) {
    struct compare *compare = user;
    const struct method *method = &compare->methods[compare->at];
    compare->spec = *compare->base;
    item_set_prompt(&compare->items.rows[index], &compare->turns, &compare->spec,
                    compare->message_rows, compare->message_list);
    set_method(method, &compare->spec);
    for (enum job_field_index i = 0; i < JOB_FIELDS_COUNT; i++) {
        if (!job_field_is_read(i, &compare->spec)) {
            job_field_clear(i, &compare->spec);
        }
    }
    *spec = &compare->spec;
    *key = compare->keys[index];
}

// A copy that outlives the event: through its bytes, the only deep copy that protobuf-c has.
static Surefoot__JobResult *copy_result(const Surefoot__JobResult *result) {
    size_t size = surefoot__job_result__get_packed_size(result);
    uint8_t *bytes = malloc(size + 1);
    if (bytes == NULL) {
        return NULL;
    }
    surefoot__job_result__pack(result, bytes);
    Surefoot__JobResult *copy = surefoot__job_result__unpack(NULL, size, bytes);
    free(bytes);
    return copy;
}

// One line of --out: all of it stays, whatever becomes of this process.
static enum status write_result(struct compare *compare, size_t index,
                                const Surefoot__JobResult *result, struct error *err) {
    const struct item *item = &compare->items.rows[index];
    json_t *record = json_pack("{s:i, s:O, s:s}", "surefoot_compare", 1, "id", item->id, "method",
                               compare->methods[compare->at].label);
    json_t *fields = print_result_json(result, false);
    json_object_update(record, fields);
    json_decref(fields);
    json_object_set_new(record, "settings",
                        json_pack("{s:s?, s:s, s:s?, s:s?, s:b, s:o}", "benchmark",
                                  compare->items.benchmark, "asked", compare->items.asked, "system",
                                  compare->turns.system, "prefill", compare->turns.prefill,
                                  "rendered", compare->turns.rendered, "job",
                                  job_json(&compare->spec)));
    if (item->joined != NULL) {
        json_object_set_new(record, "prompt", json_string(item->joined));
    }
    json_object_set(record, "input", item->source);
    enum status status = print_json_line(record, compare->out);
    return status == STATUS_OK
               ? STATUS_OK
               : error_set(err, status, "--out", "cannot write: %s", strerror(errno));
}

static enum status done(void *user, size_t index, const Surefoot__JobResult *result,
                        struct error *err) {
    struct compare *compare = user;
    Surefoot__JobResult **slot =
        &compare->results[(size_t)compare->at * compare->items.count + index];
    *slot = copy_result(result);
    if (*slot == NULL) {
        return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for a result");
    }
    if (compare->out != NULL) {
        enum status written = write_result(compare, index, result, err);
        if (written != STATUS_OK) {
            return written;
        }
    }
    compare->progress.done++;
    compare->progress.refused += result->outcome == SUREFOOT__OUTCOME__OUTCOME_NO_SAFE_CANDIDATE;
    compare->progress.failed += result->outcome != SUREFOOT__OUTCOME__OUTCOME_NO_SAFE_CANDIDATE &&
                                result->outcome != SUREFOOT__OUTCOME__OUTCOME_COMPLETED;
    enum status status = surefoot_close_job(compare->session.client, compare->keys[index],
                                            watch_timeout(&compare->watch), err);
    // The result is in hand; a stored copy that stays costs only space at the service.
    return status == STATUS_NOT_FOUND || status == STATUS_DEADLINE ? STATUS_OK : status;
}

static enum status tick(void *user, struct error *err) {
    (void)err;
    progress_show(&((struct compare *)user)->progress);
    return STATUS_OK;
}

static const struct batch_ops compare_ops = {.describe = describe, .done = done, .tick = tick};

// One method after the other, so that their times do not mix.
static enum status run_methods(struct cli *cli, struct compare *compare,
                               const struct compare_flags *flags, struct error *err) {
    size_t count = compare->items.count;
    size_t *indexes = calloc(count, sizeof *indexes);
    compare->results = calloc((size_t)compare->n_methods * count, sizeof(void *));
    compare->keys = calloc(count, sizeof *compare->keys);
    if (indexes == NULL || compare->results == NULL || compare->keys == NULL) {
        free(indexes);
        return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for the results");
    }
    progress_start(&compare->progress, stderr, flags->batch.quiet,
                   (size_t)compare->n_methods * count, 0,
                   SIZE_MAX); // methods differ too much
    watch_init(&compare->watch, compare->session.client, compare->session.timeout_ms,
               flags->batch.patience_ms);
    const struct batch batch = {
        .client = compare->session.client,
        .wake_fd = cli->signal_fd,
        .in_flight = (int)flags->batch.in_flight,
        .watch = &compare->watch,
        .ops = &compare_ops,
        .user = compare,
    };
    enum status status = STATUS_OK;
    for (int i = 0; status == STATUS_OK && i < compare->n_methods; i++) {
        compare->at = i;
        for (size_t j = 0; j < count; j++) {
            indexes[j] = j;
            surefoot_make_key(compare->keys[j]);
        }
        int64_t start = clock_monotonic_ms();
        status = batch_run(&batch, indexes, count, err);
        compare->methods[i].wall_ms = (double)(clock_monotonic_ms() - start);
    }
    progress_end(&compare->progress);
    free(indexes);
    return status;
}

static int show(const struct compare *compare, bool json, bool show_unsafe) {
    size_t count = compare->items.count;
    struct compare_column columns[METHODS_MAX];
    for (int i = 0; i < compare->n_methods; i++) {
        columns[i] = (struct compare_column){.label = compare->methods[i].label,
                                             .wall_ms = compare->methods[i].wall_ms,
                                             .results = compare->results + (size_t)i * count};
    }
    const struct compare_table table = {
        .items = &compare->items, .columns = columns, .n_columns = compare->n_methods};
    if (!json) {
        compare_table_print(&table, show_unsafe, stdout);
    } else if (compare_table_print_json(&table, stdout) != STATUS_OK) {
        return CLI_EXIT_SYSTEM;
    }
    return compare->progress.failed > 0 ? CLI_EXIT_FAILED : CLI_EXIT_OK;
}

static void close_compare(struct compare *compare) {
    session_close(&compare->session);
    for (size_t i = 0;
         compare->results != NULL && i < (size_t)compare->n_methods * compare->items.count; i++) {
        surefoot_result_free(compare->results[i]);
    }
    if (compare->out != NULL && fclose(compare->out) != 0) {
        fprintf(stderr, "surefoot: --out: cannot close: %s\n", strerror(errno));
    }
    free(compare->results);
    free(compare->keys);
    items_finish(&compare->items);
    free(compare);
}

int verb_compare(struct cli *cli, int argc, char **argv) {
    struct session_flags session_flags;
    struct service_flags service_flags;
    struct job_flags job;
    struct compare_flags flags = {.methods = "sample,best-of-n,inference-guard"};
    batch_flags_init(&flags.batch, DEFAULT_IN_FLIGHT);
    session_flags_init(&session_flags);
    service_flags_init(&service_flags);
    job_flags_init(&job);
    const struct flag own[] = {
        {.name = "methods",
         .kind = FLAG_TEXT,
         .target = &flags.methods,
         .value = "A,B,..",
         .help = "each NAME or NAME:SELECTION; default sample,best-of-n,inference-guard"},
        {.name = "out",
         .kind = FLAG_TEXT,
         .target = &flags.out,
         .value = "OUT.jsonl",
         .help = "a new file for one JSON object for each prompt and method; default none"},
        {.name = "limit",
         .kind = FLAG_U32,
         .target = &flags.limit,
         .max = UINT32_MAX,
         .value = "N",
         .help = "the first N prompts, 0: all; default 0"},
        {.name = "show-unsafe",
         .kind = FLAG_SWITCH,
         .target = &flags.show_unsafe,
         .help = "show answers that are over budget"},
        {.name = NULL},
    };
    const struct command_line line = {
        .usage = "compare FILE [FLAGS]",
        .about = "Answers the prompts of FILE (as sweep reads it) with several methods, one after "
                 "the other, and\nprints reward, cost, outcome, time and answer of each, and each "
                 "method's means over the\nprompts that every method answered. A method gets the "
                 "flags that it reads; "
                 "one that no method\nreads is refused.\n"
                 "JSON: for each prompt and method the fields of run, id, method; then for each "
                 "method summary,\nmean_reward, mean_cost, common, left_out, over_budget, "
                 "answered, refused, failed, "
                 "mean_run_ms, wall_ms.",
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
    struct compare *compare = calloc(1, sizeof *compare);
    if (compare == NULL) {
        return CLI_EXIT_SYSTEM;
    }
    compare->base = &job.spec;
    enum status status = flags_parse(&line, argc, argv, &path, &n_positional, &help, &err);
    if (status == STATUS_OK && help) {
        flags_print_help(&line, stdout);
        goto out;
    }
    if (status == STATUS_OK) {
        status = read_methods(flags.methods, compare, &err);
    }
    if (status == STATUS_OK) {
        status = job_flags_finish(&job, &err);
    }
    if (status == STATUS_OK) {
        status = check_selections(compare, &err);
    }
    if (status == STATUS_OK) {
        status = check_read(compare, &err);
    }
    if (status == STATUS_OK) {
        job_flags_fix_date(&job, NULL); // one for all methods, also over midnight
    }
    if (status == STATUS_OK) {
        const struct items_choice choice = {.prompt_column = flags.batch.prompt_column,
                                            .id_column = flags.batch.id_column,
                                            .turns = job.turns};
        compare->turns = job.turns;
        status = items_read(path, &choice, &compare->items, &err);
    }
    if (status == STATUS_OK && !flags.batch.quiet) {
        items_describe(&compare->items, stderr);
    }
    if (status == STATUS_OK) {
        items_keep_first(&compare->items, flags.limit);
    }
    if (status == STATUS_OK && flags.out != NULL) {
        compare->out = fopen(flags.out, "wxe"); // never over a file that is there
        if (compare->out == NULL) {
            status = error_set(&err, status_from_errno(errno), "--out", "cannot make %.200s: %s",
                               flags.out, strerror(errno));
        }
    }
    if (status == STATUS_OK) {
        status = session_open(cli, &session_flags, &service_flags, &compare->session, &err);
    }
    if (status == STATUS_OK) {
        status = run_methods(cli, compare, &flags, &err);
    }
    code = status == STATUS_OK ? show(compare, session_flags.json, flags.show_unsafe)
                               : cli_fail(&err, session_flags.json);
out:
    close_compare(compare);
    job_flags_destroy(&job);
    return code;
}
