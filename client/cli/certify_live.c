#include "client/cli/certify_live.h"

#include <stdlib.h>
#include <string.h>

enum { LOOK_EVERY = 64 };

// Reads the study's own records anew: of each setting the answers that count.
static enum status read_study(struct certify_live *live, struct error *err) {
    judged_finish(&live->found->judged);
    live->found->judged = (struct judged){0};
    live->found->has_base = false;
    const char *labels[STUDY_METHODS_MAX];
    size_t n_labels = (size_t)live->study.n_methods;
    for (size_t i = 0; i < n_labels; i++) {
        labels[i] = live->study.methods[i].label;
    }
    enum status status =
        judged_add(&live->found->judged, &live->study.outfile, labels, n_labels, "--out", err);
    if (status == STATUS_OK) {
        status = certify_judge(live->found, err);
    }
    for (size_t i = 0; status == STATUS_OK && i < live->found->judged.n_settings; i++) {
        judged_cut(&live->found->judged, i, live->taken[i]);
    }
    return status == STATUS_OK ? certify_take_base(live->found, err) : status;
}

// Answers the items [taken, end) of a setting.
static enum status answer_to(struct certify_live *live, int setting, size_t end,
                             struct error *err) {
    const struct study_range range = {.method_begin = setting,
                                      .method_end = setting + 1,
                                      .item_begin = live->taken[setting],
                                      .item_end = end};
    enum status status = study_answer(live->cli, &live->study, live->flags, &range, err);
    live->taken[setting] = end;
    return status == STATUS_OK ? read_study(live, err) : status;
}

// True when more answers of a setting cannot change what is said of it.
static bool is_settled(const struct certify_live *live, size_t setting) {
    const struct selection_rule *rule = &live->found->rule;
    const struct selection_finding *finding = &live->found->findings[setting];
    bool one_by_one = rule->procedure == TEST_PROCEDURE_FIXED_SEQUENCE;
    double level = one_by_one ? rule->delta : rule->delta / (double)live->found->judged.n_settings;
    return rule->bound == RATE_KIND_ANYTIME &&
           (finding->p <= level || finding->p_far <= rule->delta);
}

static enum status find(struct certify_live *live, struct error *err) {
    enum status status = judged_tally(&live->found->judged, SIZE_MAX, live->found->tallies, err);
    if (status == STATUS_OK) {
        live->found->chosen = selection_run(&live->found->rule, live->found->tallies,
                                            live->found->judged.n_settings, live->found->findings);
    }
    return status;
}

// The rest of a setting's answers, or as many as settle it.
static enum status answer_setting(struct certify_live *live, int setting, struct error *err) {
    size_t total = live->study.items.count;
    bool looks = live->found->rule.bound == RATE_KIND_ANYTIME;
    enum status status = find(live, err);
    while (status == STATUS_OK && live->taken[setting] < total &&
           !is_settled(live, (size_t)setting)) {
        size_t end = looks ? live->taken[setting] + LOOK_EVERY : total;
        status = answer_to(live, setting, end < total ? end : total, err);
        if (status == STATUS_OK) {
            status = find(live, err);
        }
    }
    return status;
}

// Before anything is answered: the jobs name the judge as one.
static enum status check_jobs(const struct certify_live *live, struct error *err) {
    const struct study *study = &live->study;
    struct judged jobs = {.n_settings = (size_t)study->n_methods};
    for (size_t i = 0; i < jobs.n_settings; i++) {
        jobs.settings[i].settings = study->methods[i].settings;
        jobs.settings[i].name = (char *)study->methods[i].label;
    }
    return judged_by_scorer(&jobs, live->found->judge_name, live->found->threshold, err);
}

// Settles the jobs, whose settings are those of --grid.
static enum status start_study(struct certify_live *live, struct error *err) {
    enum status status = study_start(&live->study, live->flags, err);
    if (status != STATUS_OK && strcmp(err->field, "--methods") == 0) {
        struct error told = *err;
        status = error_set(err, told.status, "--grid", "%s", told.message);
    }
    return status == STATUS_OK ? check_jobs(live, err) : status;
}

// Those that can be certified.
static size_t count_settings(const struct certify_live *live) {
    return (size_t)(live->study.n_methods - (live->found->use_base ? 1 : 0));
}

// From answers that are made here: first the pilot's, of every setting.
static enum status run_study(struct certify_live *live, struct error *err) {
    struct study *study = &live->study;
    int n = (int)count_settings(live);
    live->found->pilot = certify_pilot_size(live->found, study->items.count);
    live->found->pilot = live->found->pilot > 0 ? live->found->pilot : 1;
    enum status status = start_study(live, err);
    const struct study_range pilot = {.method_end = study->n_methods,
                                      .item_end = live->found->pilot};
    if (status == STATUS_OK) {
        status = study_answer(live->cli, study, live->flags, &pilot, err);
    }
    for (int i = 0; i < study->n_methods; i++) {
        live->taken[i] = live->found->pilot;
    }
    if (status == STATUS_OK) {
        status = read_study(live, err);
    }
    if (status == STATUS_OK) {
        status = certify_look_at_pilot(live->found, err);
    }
    for (int i = 0; status == STATUS_OK && !live->found->infeasible && i < n; i++) {
        status = answer_setting(live, i, err);
        if (live->found->rule.procedure == TEST_PROCEDURE_FIXED_SEQUENCE &&
            !live->found->findings[i].certified) {
            break;
        }
    }
    return status == STATUS_OK && !live->found->infeasible ? certify_decide(live->found, err)
                                                           : status;
}

// The order of the prompts is that of their ids' hashes, whatever the file's.
static int by_hash(const void *a, const void *b) {
    char hashes[2][SHA256_HEX_BYTES];
    const struct item *items[2] = {a, b};
    for (int i = 0; i < 2; i++) {
        char *text = json_dumps(items[i]->id, JSON_COMPACT | JSON_ENCODE_ANY);
        sha256_hex(text != NULL ? text : "", text != NULL ? strlen(text) : 0, hashes[i]);
        free(text);
    }
    return strcmp(hashes[0], hashes[1]);
}

static enum status set_methods(struct certify_live *live, struct error *err) {
    struct study *study = &live->study;
    int max = STUDY_METHODS_MAX - (live->found->use_base ? 1 : 0);
    enum status status =
        certify_grid_make(live->grids, &live->job->spec, max, study->methods, &live->grid, err);
    study->n_methods = status == STATUS_OK ? live->grid.n : 0;
    if (status != STATUS_OK || !live->found->use_base) {
        return status;
    }
    Surefoot__JobSpec spec = live->job->spec;
    spec.method = (char *)"sample";
    spec.selection = NULL;
    for (enum job_field_index i = 0; i < JOB_FIELDS_COUNT; i++) {
        if (!job_field_is_read(i, &spec)) {
            job_field_clear(i, &spec);
        }
    }
    spec.n_fallback_prefixes = 0;
    study->methods[study->n_methods++] = (struct study_method){.label = "base", .spec = spec};
    return STATUS_OK;
}

enum status certify_live(struct certify_live *live, struct error *err) {
    struct study *study = &live->study;
    if (live->flags->out == NULL) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "--out", "required: the records");
    }
    if (live->found->verdicts != NULL || live->job->certificate != NULL) {
        return error_set(err, STATUS_INVALID_ARGUMENT,
                         live->job->certificate != NULL ? "--certificate" : "--verdicts",
                         "has no effect on answers that are made first");
    }
    enum status status =
        study_open(study, live->path, OUTFILE_COMPARISON, live->flags, live->job, err);
    if (status == STATUS_OK) {
        qsort(study->items.rows, study->items.count, sizeof *study->items.rows, by_hash);
        status = set_methods(live, err);
    }
    if (status == STATUS_OK) {
        status = certify_check_count(live->found, study->items.count, count_settings(live), err);
    }
    if (status == STATUS_OK) {
        status = session_open(live->cli, live->session, live->service, &study->session, err);
    }
    return status == STATUS_OK ? run_study(live, err) : status;
}

void certify_live_finish(struct certify_live *live) {
    study_close(&live->study);
    certify_grid_finish(&live->grid);
}
