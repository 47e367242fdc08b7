// surefoot compare: the same prompts answered by several methods, side by side.
#include <stdlib.h>
#include <string.h>

#include "client/cli/compare_table.h"
#include "client/cli/presets.h"
#include "client/cli/print.h"
#include "client/cli/study.h"
#include "proto/job_fields.h"

enum { METHOD_BYTES = 64, DEFAULT_IN_FLIGHT = 4 };

struct method {
    char label[METHOD_BYTES]; // as given: NAME, NAME:SELECTION or a preset's name
    char name[METHOD_BYTES];
    char *selection; // in `name` or of the preset, or NULL
    const struct preset *preset;
    Surefoot__Sampling sampling; // what it reads of the job's, and the preset's
};

struct compare {
    struct study study;
    struct method methods[STUDY_METHODS_MAX];
    int n_methods;
    const Surefoot__JobSpec *base;
    const char *certified; // the label of the certified method, or NULL
    char certified_label[2 * METHOD_BYTES];
};

static enum status check_name(enum job_field_index index, const char *name, struct error *err) {
    if (job_choice_parse(index, name) != 0) {
        return STATUS_OK;
    }
    char choices[JOB_FIELD_TEXT_BYTES];
    job_choices_text(index, choices);
    return error_set(err, STATUS_INVALID_ARGUMENT, "--methods", "unknown %s \"%s\"; one of %s",
                     job_field_get(index)->name, name, choices);
}

// A method whose name has a slash is a preset: its method and selection.
static enum status read_preset(struct method *method, struct error *err) {
    enum status status = preset_find(method->label, "--methods", &method->preset, err);
    if (status == STATUS_OK) {
        Surefoot__JobSpec spec = SUREFOOT__JOB_SPEC__INIT;
        Surefoot__Sampling sampling = SUREFOOT__SAMPLING__INIT;
        preset_apply(method->preset, &spec, &sampling);
        snprintf(method->name, sizeof method->name, "%s", spec.method);
        method->selection = spec.selection;
    }
    return status;
}

static enum status read_methods(const char *list, struct compare *compare, struct error *err) {
    while (*list != '\0') {
        size_t length = strcspn(list, ",");
        if (length == 0 || length >= METHOD_BYTES || compare->n_methods == STUDY_METHODS_MAX) {
            return error_set(err, STATUS_INVALID_ARGUMENT, "--methods",
                             "not 1 to %d names of 1 to %d bytes between commas", STUDY_METHODS_MAX,
                             METHOD_BYTES - 1);
        }
        struct method *method = &compare->methods[compare->n_methods++];
        snprintf(method->label, sizeof method->label, "%.*s", (int)length, list);
        list += length + (list[length] == ',');
        if (strchr(method->label, '/') != NULL) {
            enum status status = read_preset(method, err);
            if (status != STATUS_OK) {
                return status;
            }
            continue;
        }
        memcpy(method->name, method->label, sizeof method->name);
        char *colon = strchr(method->name, ':');
        if (colon != NULL) {
            *colon = '\0';
            method->selection = colon + 1;
        }
        enum status status = check_name(JOB_FIELD_METHOD, method->name, err);
        if (status == STATUS_OK && method->selection != NULL) {
            status = check_name(JOB_FIELD_SELECTION, method->selection, err);
        }
        if (status != STATUS_OK) {
            return status;
        }
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

// A certificate is of one method: the others have its fields and do not name it.
static bool is_certified(const struct compare *compare, const struct method *method) {
    return compare->certified != NULL && strcmp(method->label, compare->certified) == 0;
}

// What a method reads of the options of a draw.
static Surefoot__Sampling sampling_of(const struct method *method, const Surefoot__JobSpec *spec) {
    Surefoot__Sampling sampling = SUREFOOT__SAMPLING__INIT;
    if (spec->sampling != NULL) {
        sampling = *spec->sampling;
    }
    if (row_of(method)->takes_by_rank) {
        sampling.has_temperature = sampling.has_top_k = sampling.has_top_p = 0;
        sampling.has_repetition_penalty = sampling.has_frequency_penalty = 0;
        sampling.n_logit_bias = 0;
    }
    return sampling;
}

// Makes of the fields that all methods are given those of one; *sampling is its own.
static void set_method(const struct compare *compare, const struct method *method,
                       Surefoot__JobSpec *spec, Surefoot__Sampling *sampling) {
    spec->method = (char *)method->name;
    if (!takes_selection(method)) {
        spec->selection = method->selection;
    }
    if (!is_certified(compare, method)) {
        spec->certificate = NULL;
    }
    *sampling = sampling_of(method, spec);
    spec->sampling = sampling;
    if (method->preset != NULL) {
        preset_apply(method->preset, spec, sampling);
    }
}

// The method that a certificate is of, named as --methods names it, leaves the fields of all.
static enum status take_certified(struct compare *compare, Surefoot__JobSpec *base,
                                  struct error *err) {
    if (base->certificate == NULL) {
        return STATUS_OK;
    }
    bool chooses = job_method_of(base)->chooses_selection;
    snprintf(compare->certified_label, sizeof compare->certified_label, "%s%s%s", base->method,
             chooses ? ":" : "", chooses ? base->selection : "");
    compare->certified = compare->certified_label;
    base->method = NULL;
    base->selection = NULL;
    for (int i = 0; i < compare->n_methods; i++) {
        if (is_certified(compare, &compare->methods[i])) {
            return STATUS_OK;
        }
    }
    return error_set(err, STATUS_INVALID_ARGUMENT, "--methods",
                     "%s is not among them, which --certificate certifies", compare->certified);
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

// The first option of a draw that is given, as a flag.
static const char *draw_option(const Surefoot__Sampling *sampling) {
    return sampling == NULL                   ? NULL
           : sampling->has_temperature        ? "--temperature"
           : sampling->has_top_k              ? "--top-k"
           : sampling->has_top_p              ? "--top-p"
           : sampling->has_repetition_penalty ? "--repetition-penalty"
           : sampling->has_frequency_penalty  ? "--frequency-penalty"
           : sampling->n_logit_bias > 0       ? "--logit-bias"
                                              : NULL;
}

static enum status check_drawn(const struct compare *compare, struct error *err) {
    const char *flag = draw_option(compare->base->sampling);
    bool read = flag == NULL || compare->certified != NULL;
    for (int i = 0; !read && i < compare->n_methods; i++) {
        read = !row_of(&compare->methods[i])->takes_by_rank;
    }
    return read ? STATUS_OK
                : error_set(err, STATUS_INVALID_ARGUMENT, flag,
                            "has no effect on any of the methods, which draw no token");
}

// Prefixes go with the other searches that a method falls back on.
static bool reads_prefixes(const Surefoot__JobSpec *spec) {
    return job_field_is_read(JOB_FIELD_FALLBACK_TEMPERATURE, spec);
}

static enum status check_prefixes(const struct compare *compare, struct error *err) {
    bool read = compare->certified != NULL || compare->base->n_fallback_prefixes == 0;
    for (int j = 0; !read && j < compare->n_methods; j++) {
        Surefoot__JobSpec spec = *compare->base;
        Surefoot__Sampling sampling;
        set_method(compare, &compare->methods[j], &spec, &sampling);
        read = reads_prefixes(&spec);
    }
    return read ? STATUS_OK
                : error_set(err, STATUS_INVALID_ARGUMENT, "--fallback-prefix",
                            "has no effect on any of the methods");
}

// One set of flags for all methods: each flag must mean something to one of them.
static enum status check_read(const struct compare *compare, struct error *err) {
    for (enum job_field_index i = 0; i < JOB_FIELDS_COUNT; i++) {
        // What a certificate sets was given to no method.
        bool read = compare->certified != NULL || !job_field_is_set(i, compare->base);
        for (int j = 0; !read && j < compare->n_methods; j++) {
            Surefoot__JobSpec spec = *compare->base;
            Surefoot__Sampling sampling;
            set_method(compare, &compare->methods[j], &spec, &sampling);
            read = job_field_is_read(i, &spec);
        }
        if (!read) {
            char name[FIELD_FLAG_NAME_BYTES];
            char flag[ERROR_FIELD_BYTES];
            field_flag_name(i, name);
            snprintf(flag, sizeof flag, "--%s", name);
            return error_set(err, STATUS_INVALID_ARGUMENT, flag,
                             "has no effect on any of the methods");
        }
    }
    enum status status = check_prefixes(compare, err);
    return status == STATUS_OK ? check_drawn(compare, err) : status;
}

// Gives each method of the study the flags that it reads.
static void set_methods(struct compare *compare) {
    struct study *study = &compare->study;
    study->n_methods = compare->n_methods;
    for (int i = 0; i < compare->n_methods; i++) {
        Surefoot__JobSpec spec = *compare->base;
        set_method(compare, &compare->methods[i], &spec, &compare->methods[i].sampling);
        for (enum job_field_index j = 0; j < JOB_FIELDS_COUNT; j++) {
            if (!job_field_is_read(j, &spec)) {
                job_field_clear(j, &spec);
            }
        }
        spec.n_fallback_prefixes = reads_prefixes(&spec) ? spec.n_fallback_prefixes : 0;
        study->methods[i] = (struct study_method){.label = compare->methods[i].label, .spec = spec};
    }
}

static int show(const struct study *study, bool json, bool show_unsafe) {
    struct compare_column columns[STUDY_METHODS_MAX];
    for (int i = 0; i < study->n_methods; i++) {
        columns[i] = (struct compare_column){.label = study->methods[i].label,
                                             .wall_ms = study->methods[i].wall_ms,
                                             .results = study->methods[i].results};
    }
    const struct compare_table table = {
        .items = &study->items, .columns = columns, .n_columns = study->n_methods};
    if (!json) {
        compare_table_print(&table, show_unsafe, stdout);
    } else if (compare_table_print_json(&table, stdout) != STATUS_OK) {
        return CLI_EXIT_SYSTEM;
    }
    return study_exit_code(study);
}

int verb_compare(struct cli *cli, int argc, char **argv) {
    struct session_flags session_flags;
    struct service_flags service_flags;
    struct job_flags job;
    struct batch_flags flags;
    const char *methods = "sample,best-of-n,inference-guard";
    int show_unsafe = 0;
    batch_flags_init(&flags, DEFAULT_IN_FLIGHT,
                     "one JSON object for each prompt and method, appended; default none");
    session_flags_init(&session_flags);
    service_flags_init(&service_flags);
    job_flags_init(&job);
    const struct flag own[] = {
        {.name = "methods",
         .kind = FLAG_TEXT,
         .target = &methods,
         .value = "A,B,..",
         .help = "each NAME, NAME:SELECTION or a preset (surefoot help presets); default "
                 "sample,best-of-n,inference-guard"},
        {.name = "show-unsafe",
         .kind = FLAG_SWITCH,
         .target = &show_unsafe,
         .help = "show answers that are over budget"},
        {.name = NULL},
    };
    const struct command_line line = {
        .usage = "compare FILE|- [FLAGS]",
        .about = "Answers the prompts of FILE (as sweep reads it) with several methods, one after "
                 "the other, and\nprints reward, cost, outcome, time and answer of each, and each "
                 "method's means over the\nprompts that every method answered. A method gets the "
                 "flags that it reads; "
                 "one that no method\nreads is refused. Run it again with the same --out after an "
                 "interruption and it goes on\nat the first record that is missing.\n"
                 "OUT: surefoot_compare (1), else a sweep's record with the method beside the id.\n"
                 "JSON: for each prompt and method id, method, the fields of run; then for each "
                 "method summary,\nmean_reward, mean_cost, common, left_out, over_budget, "
                 "answered, refused, failed, "
                 "mean_run_ms, wall_ms\n(null when an earlier run did a part).",
        .tables = {own, flags.table, job.table, session_flags.table, service_flags.table},
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
    compare->study.outfile.fd = -1;
    compare->study.keep_results = true;
    compare->base = &job.spec;
    enum status status = flags_parse(&line, argc, argv, &path, &n_positional, &help, &err);
    if (status == STATUS_OK && help) {
        flags_print_help(&line, stdout);
        goto out;
    }
    if (status == STATUS_OK && job.preset != NULL) {
        status = error_set(&err, STATUS_INVALID_ARGUMENT, "--preset",
                           "has no effect here; name presets in --methods");
    }
    if (status == STATUS_OK) {
        status = read_methods(methods, compare, &err);
    }
    if (status == STATUS_OK) {
        status = job_flags_finish(&job, &err);
    }
    if (status == STATUS_OK) {
        status = take_certified(compare, &job.spec, &err);
    }
    if (status == STATUS_OK) {
        status = check_selections(compare, &err);
    }
    if (status == STATUS_OK) {
        status = check_read(compare, &err);
    }
    if (status == STATUS_OK) {
        status = study_open(&compare->study, path, OUTFILE_COMPARISON, &flags, &job, &err);
    }
    if (status == STATUS_OK) {
        set_methods(compare);
        status = session_open(cli, &session_flags, &service_flags, &compare->study.session, &err);
    }
    if (status == STATUS_OK) {
        status = study_run(cli, &compare->study, &flags, &err);
    }
    code = status == STATUS_OK ? show(&compare->study, session_flags.json, show_unsafe)
                               : cli_fail(&err, session_flags.json);
out:
    study_close(&compare->study);
    free(compare);
    job_flags_destroy(&job);
    return code;
}
