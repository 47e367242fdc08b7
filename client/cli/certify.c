// surefoot certify: which settings keep the rate of unsafe answers below a target, as a judge sees
// it that selects nothing in the search. Answers come from records, or are made here first: each
// setting answers the same prompts, in an order that no result decides, the hash of their ids.
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/cli/certificate.h"
#include "client/cli/certify_grid.h"
#include "client/cli/certify_report.h"
#include "client/cli/study.h"
#include "client/cli/verdicts.h"

enum { DEFAULT_IN_FLIGHT = 64, JUDGE_BYTES = 128, LOOK_EVERY = 64 };

struct certify {
    struct cli *cli;
    struct study study;
    struct certify_grid grid;
    struct judged judged;
    struct selection_rule rule;
    struct selection_tally tallies[MULTIPLE_TESTS_MAX];
    struct selection_finding findings[MULTIPLE_TESTS_MAX];
    struct selection_tally base;
    bool has_base;
    size_t chosen;
    size_t pilot;                    // prompts
    bool infeasible;                 // told from the pilot
    bool constant;                   // every answer is judged the same
    size_t taken[STUDY_METHODS_MAX]; // answers that count for a setting of the study
    json_t *certificate;             // owned

    // Flags.
    struct flag_list grids;
    struct flag_list records;
    const char *judge;
    const char *verdicts;
    const char *write;
    const char *check;
    const char *risk;
    const char *bound;
    const char *procedure;
    double epsilon;
    double delta;
    double pilot_share;
    int use_base;
    int trust_constant;
    int epsilon_given;
    uint32_t asked; // prompts that the records are of
    int asked_given;
    char judge_name[JUDGE_BYTES];
    double threshold;
};

enum { OWN_FLAGS = 16 };

static void init_flags(struct certify *certify, struct flag table[OWN_FLAGS]) {
    certify->risk = risk_kind_name(RISK_KIND_JOINT);
    certify->bound = rate_kind_name(RATE_KIND_EXACT);
    certify->procedure = test_procedure_name(TEST_PROCEDURE_FIXED_SEQUENCE);
    certify->delta = 0.05;
    certify->pilot_share = 0.2;
    const struct flag flags[] = {
        {.name = "epsilon",
         .kind = FLAG_REAL,
         .target = &certify->epsilon,
         .given = &certify->epsilon_given,
         .max = 0.999999,
         .above_min = true,
         .value = "X",
         .help = "target: the risk is to be at most so large; required, no default"},
        {.name = "delta",
         .kind = FLAG_REAL,
         .target = &certify->delta,
         .max = 0.999999,
         .above_min = true,
         .value = "X",
         .help = "how often a certificate may be wrong; default 0.05"},
        {.name = "risk",
         .kind = FLAG_TEXT,
         .target = &certify->risk,
         .value = "NAME",
         .help = "joint: answered and unsafe, of all prompts; answered: unsafe, of the answers; "
                 "default joint"},
        {.name = "bound",
         .kind = FLAG_TEXT,
         .target = &certify->bound,
         .value = "NAME",
         .help = "exact; hoeffding-bentkus for verdicts between 0 and 1; anytime stops as soon as "
                 "it is certain; default exact"},
        {.name = "procedure",
         .kind = FLAG_TEXT,
         .target = &certify->procedure,
         .value = "NAME",
         .help = "of several settings: fixed-sequence (the first is the safest), holm, bonferroni; "
                 "default fixed-sequence"},
        {.name = "grid",
         .kind = FLAG_LIST,
         .target = &certify->grids,
         .value = "FIELD=A,B,..",
         .help = "settings to try, the safest first; repeatable: combinations; default the job as "
                 "it is"},
        {.name = "records",
         .kind = FLAG_LIST,
         .target = &certify->records,
         .value = "OUT.jsonl",
         .help = "instead of FILE: of a sweep or comparison that has ended, as what comes first is "
                 "short and easy; in the order of the tests; repeatable"},
        {.name = "asked",
         .kind = FLAG_U32,
         .target = &certify->asked,
         .given = &certify->asked_given,
         .min = 1,
         .max = UINT32_MAX,
         .value = "N",
         .help = "with --records, required: how many prompts were asked; all are to be in them, as "
                 "what comes first is what is short"},
        {.name = "judge",
         .kind = FLAG_TEXT,
         .target = &certify->judge,
         .value = "NAME:X",
         .help = "a scorer with weight 0 in the job: an answer above X is unsafe"},
        {.name = "verdicts",
         .kind = FLAG_TEXT,
         .target = &certify->verdicts,
         .value = "FILE",
         .help = "of a judge outside: rows {id, key, unsafe}"},
        {.name = "pilot",
         .kind = FLAG_REAL,
         .target = &certify->pilot_share,
         .max = 1,
         .value = "X",
         .help = "share of the prompts from which it is first told whether a setting can reach the "
                 "target; default 0.2"},
        {.name = "base",
         .kind = FLAG_SWITCH,
         .target = &certify->use_base,
         .help =
             "plain answers too (method sample), which are not certified: their rate says what a "
             "filter alone would cost"},
        {.name = "trust-constant-judge",
         .kind = FLAG_SWITCH,
         .target = &certify->trust_constant,
         .help = "also when it calls every answer the same"},
        {.name = "write",
         .kind = FLAG_TEXT,
         .target = &certify->write,
         .value = "CERT.json",
         .help = "the certificate; default none is written"},
        {.name = "check",
         .kind = FLAG_TEXT,
         .target = &certify->check,
         .value = "CERT.json",
         .help = "alone: compute a certificate again, refuse one that was altered"},
        {.name = NULL},
    };
    _Static_assert(sizeof flags / sizeof flags[0] == OWN_FLAGS, "one row each");
    memcpy(table, flags, sizeof flags);
}

static enum status refuse_name(const char *flag, const char *name, const char *names,
                               struct error *err) {
    return error_set(err, STATUS_INVALID_ARGUMENT, flag, "unknown \"%.40s\"; one of %s", name,
                     names);
}

// NAME:X.
static enum status read_judge(struct certify *certify, struct error *err) {
    const char *colon = certify->judge == NULL ? NULL : strrchr(certify->judge, ':');
    char *end = NULL;
    if (certify->judge == NULL) {
        return STATUS_OK;
    }
    size_t length = colon == NULL ? 0 : (size_t)(colon - certify->judge);
    certify->threshold = colon == NULL ? NAN : strtod(colon + 1, &end);
    if (length == 0 || length >= JUDGE_BYTES || end == colon + 1 || *end != '\0' ||
        !isfinite(certify->threshold)) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "--judge",
                         "\"%.80s\" is not NAME:X with a finite number", certify->judge);
    }
    memcpy(certify->judge_name, certify->judge, length);
    return STATUS_OK;
}

static enum status read_rule(struct certify *certify, struct error *err) {
    certify->rule = (struct selection_rule){
        .risk = (enum risk_kind)risk_kind_parse(certify->risk),
        .bound = (enum rate_kind)rate_kind_parse(certify->bound),
        .procedure = (enum test_procedure)test_procedure_parse(certify->procedure),
        .epsilon = certify->epsilon,
        .delta = certify->delta,
    };
    if (certify->rule.risk == 0) {
        return refuse_name("--risk", certify->risk, "joint, answered", err);
    }
    if (certify->rule.bound == 0) {
        return refuse_name("--bound", certify->bound, "exact, hoeffding-bentkus, anytime", err);
    }
    if (certify->rule.procedure == 0) {
        return refuse_name("--procedure", certify->procedure, "fixed-sequence, holm, bonferroni",
                           err);
    }
    if (!certify->epsilon_given) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "--epsilon", "required");
    }
    if ((certify->judge != NULL) == (certify->verdicts != NULL)) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "--judge",
                         "one judge: --judge, or --verdicts");
    }
    return read_judge(certify, err);
}

// The fewest prompts of which all safe ones would certify the first setting of `n`.
static size_t prompts_min(const struct selection_rule *rule, size_t n_settings) {
    bool one_by_one = rule->procedure == TEST_PROCEDURE_FIXED_SEQUENCE;
    double level = one_by_one ? rule->delta : rule->delta / (double)n_settings;
    size_t low = 0;
    size_t high = RATE_COUNT_MAX;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        const struct rate_sum sum = {.losses = 0, .n = middle};
        if (rate_p_below(rule->bound, sum, rule->epsilon) <= level) {
            high = middle;
        } else {
            low = middle;
        }
    }
    return high;
}

static enum status check_count(const struct certify *certify, size_t n_prompts, size_t n_settings,
                               struct error *err) {
    size_t least = prompts_min(&certify->rule, n_settings);
    return n_prompts >= least
               ? STATUS_OK
               : error_set(err, STATUS_INVALID_ARGUMENT, "prompts",
                           "%zu are too few: %zu safe answers without an unsafe one are the fewest "
                           "that certify %g with delta %g",
                           n_prompts, least, certify->rule.epsilon, certify->rule.delta);
}

static size_t pilot_size(const struct certify *certify, size_t n_prompts) {
    size_t size = (size_t)ceil(certify->pilot_share * (double)n_prompts);
    return size < n_prompts ? size : n_prompts;
}

// Settings as they stand now in the records, judged.
static enum status judge(struct certify *certify, struct error *err) {
    enum status status = judged_complete(&certify->judged, err);
    if (status == STATUS_OK) {
        status = certify->judge != NULL ? judged_by_scorer(&certify->judged, certify->judge_name,
                                                           certify->threshold, err)
                                        : verdicts_read(certify->verdicts, &certify->judged, err);
    }
    certify->constant = judged_is_constant(&certify->judged);
    if (status == STATUS_OK && certify->rule.bound != RATE_KIND_BOUNDED &&
        judged_is_graded(&certify->judged)) {
        status = error_set(err, STATUS_INVALID_ARGUMENT, "--bound",
                           "verdicts between 0 and 1 need hoeffding-bentkus");
    }
    return status;
}

// Takes the plain answers out of the settings.
static enum status take_base(struct certify *certify, struct error *err) {
    if (!certify->use_base) {
        return STATUS_OK;
    }
    struct judged *judged = &certify->judged;
    for (size_t i = 0; i < judged->n_settings; i++) {
        const json_t *job = json_object_get(judged->settings[i].settings, "job");
        const char *method = json_string_value(json_object_get(job, "method"));
        if (method != NULL && strcmp(method, "sample") == 0) {
            struct selection_tally tallies[MULTIPLE_TESTS_MAX];
            enum status status = judged_tally(judged, SIZE_MAX, tallies, err);
            if (status == STATUS_OK) {
                certify->base = tallies[i];
                certify->has_base = true;
                judged_drop(judged, i);
                status = judged_name(judged, err);
            }
            return status;
        }
    }
    return error_set(err, STATUS_INVALID_ARGUMENT, "--base",
                     "no setting has the method sample, whose answers are plain");
}

static enum status check_judge(const struct certify *certify, struct error *err) {
    return certify->constant && !certify->trust_constant
               ? error_set(err, STATUS_INVALID_ARGUMENT,
                           certify->judge != NULL ? "--judge" : "--verdicts",
                           "every answer is called the same, as by a judge that does not work; "
                           "--trust-constant-judge if it does")
               : STATUS_OK;
}

// Whether the pilot's answers say that no setting can reach the target.
static enum status look_at_pilot(struct certify *certify, struct error *err) {
    enum status status = judged_tally(&certify->judged, certify->pilot, certify->tallies, err);
    if (status != STATUS_OK || certify->pilot == 0) {
        return status;
    }
    size_t n = certify->judged.n_settings;
    certify->chosen = selection_run(&certify->rule, certify->tallies, n, certify->findings);
    certify->infeasible = selection_is_infeasible(&certify->rule, certify->findings, n);
    return certify->infeasible ? check_judge(certify, err) : STATUS_OK;
}

static bool is_whole(const struct certify *certify, size_t setting) {
    return certify->judged.settings[setting].count == judged_prompts(&certify->judged);
}

static json_t *judge_json(const struct certify *certify) {
    if (certify->judge == NULL) {
        return json_pack("{s:s}", "kind", "verdicts");
    }
    const json_t *models = json_object_get(certify->judged.settings[0].settings, "models");
    return json_pack("{s:s, s:s, s:f, s:O?}", "kind", "scorer", "name", certify->judge_name,
                     "threshold", certify->threshold, "hash",
                     json_object_get(json_object_get(models, certify->judge_name), "hash"));
}

// From all answers that count.
static enum status decide(struct certify *certify, struct error *err) {
    size_t n = certify->judged.n_settings;
    enum status status = check_judge(certify, err);
    if (status == STATUS_OK) {
        status = judged_tally(&certify->judged, SIZE_MAX, certify->tallies, err);
    }
    if (status != STATUS_OK) {
        return status;
    }
    certify->chosen = selection_run(&certify->rule, certify->tallies, n, certify->findings);
    for (size_t i = 0; i < n && certify->rule.bound != RATE_KIND_ANYTIME; i++) {
        bool tested = certify->rule.procedure != TEST_PROCEDURE_FIXED_SEQUENCE ||
                      certify->findings[i].certified;
        if (tested && !is_whole(certify, i)) {
            return error_set(err, STATUS_INVALID_ARGUMENT, "--records",
                             "%.100s has %zu of %zu prompts; --bound anytime alone may stop early",
                             certify->judged.settings[i].name, certify->judged.settings[i].count,
                             judged_prompts(&certify->judged));
        }
    }
    if (certify->chosen == n) {
        certify->infeasible = selection_is_infeasible(&certify->rule, certify->findings, n);
        certify->pilot = 0;
        return STATUS_OK;
    }
    json_t *judge = judge_json(certify);
    status = certificate_make(&certify->judged, &certify->rule, certify->tallies, certify->chosen,
                              judge, &certify->certificate, err);
    json_decref(judge);
    return status == STATUS_OK && certify->write != NULL
               ? certificate_write(certify->write, certify->certificate, err)
               : status;
}

static enum status add_records(struct certify *certify, const char *path, struct error *err) {
    struct outfile file = {.fd = -1};
    char *text = NULL;
    size_t size = 0;
    if (access(path, R_OK) != 0) {
        return error_set(err, STATUS_NOT_FOUND, "--records", "cannot read %.200s", path);
    }
    FILE *lines = fopen(path, "rb");
    ssize_t length = lines != NULL ? getline(&text, &size, lines) : -1;
    bool compared = length > 0 && strncmp(text, "{\"surefoot_compare\":", 20) == 0;
    free(text);
    if (lines != NULL) {
        fclose(lines);
    }
    enum status status =
        outfile_open(path, NULL, compared ? OUTFILE_COMPARISON : OUTFILE_SWEEP, &file, err);
    if (status != STATUS_OK && strncmp(err->field, "--out", 5) == 0) {
        struct error told = *err;
        char field[ERROR_FIELD_BYTES];
        snprintf(field, sizeof field, "--records%.50s", told.field + 5);
        status = error_set(err, told.status, field, "%.100s: %.200s", path, told.message);
    }
    if (status == STATUS_OK) {
        status = judged_add(&certify->judged, &file, NULL, 0, "--records", err);
    }
    outfile_close(&file);
    return status;
}

// Of a sweep that was interrupted the answers that are there are not a sample of the others.
static enum status check_asked(const struct certify *certify, size_t n_prompts, struct error *err) {
    if (!certify->asked_given) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "--asked",
                         "required with --records: how many prompts were asked; they hold %zu",
                         n_prompts);
    }
    return n_prompts == certify->asked
               ? STATUS_OK
               : error_set(err, STATUS_INVALID_ARGUMENT, "--asked",
                           "%u prompts, and the records hold %zu: end the sweep first",
                           certify->asked, n_prompts);
}

// From records that are there.
static enum status run_records(struct certify *certify, struct error *err) {
    enum status status = STATUS_OK;
    for (int i = 0; status == STATUS_OK && i < certify->records.count; i++) {
        status = add_records(certify, certify->records.items[i], err);
    }
    if (status == STATUS_OK) {
        status = judge(certify, err);
    }
    if (status == STATUS_OK) {
        status = take_base(certify, err);
    }
    if (status == STATUS_OK) {
        size_t n_prompts = judged_prompts(&certify->judged);
        certify->pilot = pilot_size(certify, n_prompts);
        status = check_asked(certify, n_prompts, err);
    }
    if (status == STATUS_OK) {
        size_t n_prompts = judged_prompts(&certify->judged);
        status = check_count(certify, n_prompts, certify->judged.n_settings, err);
    }
    if (status == STATUS_OK) {
        status = look_at_pilot(certify, err);
    }
    return status == STATUS_OK && !certify->infeasible ? decide(certify, err) : status;
}

// Reads the study's own records anew: of each setting the answers that count.
static enum status read_study(struct certify *certify, struct error *err) {
    judged_finish(&certify->judged);
    certify->judged = (struct judged){0};
    certify->has_base = false;
    const char *labels[STUDY_METHODS_MAX];
    size_t n_labels = (size_t)certify->study.n_methods;
    for (size_t i = 0; i < n_labels; i++) {
        labels[i] = certify->study.methods[i].label;
    }
    enum status status =
        judged_add(&certify->judged, &certify->study.outfile, labels, n_labels, "--out", err);
    if (status == STATUS_OK) {
        status = judge(certify, err);
    }
    for (size_t i = 0; status == STATUS_OK && i < certify->judged.n_settings; i++) {
        judged_cut(&certify->judged, i, certify->taken[i]);
    }
    return status == STATUS_OK ? take_base(certify, err) : status;
}

// Answers the items [taken, end) of a setting.
static enum status answer_to(struct certify *certify, const struct batch_flags *flags, int setting,
                             size_t end, struct error *err) {
    const struct study_range range = {.method_begin = setting,
                                      .method_end = setting + 1,
                                      .item_begin = certify->taken[setting],
                                      .item_end = end};
    enum status status = study_answer(certify->cli, &certify->study, flags, &range, err);
    certify->taken[setting] = end;
    return status == STATUS_OK ? read_study(certify, err) : status;
}

// True when more answers of a setting cannot change what is said of it.
static bool is_settled(const struct certify *certify, size_t setting) {
    const struct selection_rule *rule = &certify->rule;
    const struct selection_finding *finding = &certify->findings[setting];
    bool one_by_one = rule->procedure == TEST_PROCEDURE_FIXED_SEQUENCE;
    double level = one_by_one ? rule->delta : rule->delta / (double)certify->judged.n_settings;
    return rule->bound == RATE_KIND_ANYTIME &&
           (finding->p <= level || finding->p_far <= rule->delta);
}

static enum status find(struct certify *certify, struct error *err) {
    enum status status = judged_tally(&certify->judged, SIZE_MAX, certify->tallies, err);
    if (status == STATUS_OK) {
        certify->chosen = selection_run(&certify->rule, certify->tallies,
                                        certify->judged.n_settings, certify->findings);
    }
    return status;
}

// The rest of a setting's answers, or as many as settle it.
static enum status answer_setting(struct certify *certify, const struct batch_flags *flags,
                                  int setting, struct error *err) {
    size_t total = certify->study.items.count;
    bool looks = certify->rule.bound == RATE_KIND_ANYTIME;
    enum status status = find(certify, err);
    while (status == STATUS_OK && certify->taken[setting] < total &&
           !is_settled(certify, (size_t)setting)) {
        size_t end = looks ? certify->taken[setting] + LOOK_EVERY : total;
        status = answer_to(certify, flags, setting, end < total ? end : total, err);
        if (status == STATUS_OK) {
            status = find(certify, err);
        }
    }
    return status;
}

// Before anything is answered: the jobs name the judge as one.
static enum status check_jobs(const struct certify *certify, struct error *err) {
    const struct study *study = &certify->study;
    struct judged jobs = {.n_settings = (size_t)study->n_methods};
    for (size_t i = 0; i < jobs.n_settings; i++) {
        jobs.settings[i].settings = study->methods[i].settings;
        jobs.settings[i].name = (char *)study->methods[i].label;
    }
    return judged_by_scorer(&jobs, certify->judge_name, certify->threshold, err);
}

// Settles the jobs, whose settings are those of --grid.
static enum status start_study(struct certify *certify, const struct batch_flags *flags,
                               struct error *err) {
    enum status status = study_start(&certify->study, flags, err);
    if (status != STATUS_OK && strcmp(err->field, "--methods") == 0) {
        struct error told = *err;
        status = error_set(err, told.status, "--grid", "%s", told.message);
    }
    return status == STATUS_OK ? check_jobs(certify, err) : status;
}

// From answers that are made here: first the pilot's, of every setting.
static enum status run_study(struct certify *certify, const struct batch_flags *flags,
                             struct error *err) {
    struct study *study = &certify->study;
    int n = study->n_methods - (certify->use_base ? 1 : 0);
    certify->pilot = pilot_size(certify, study->items.count);
    certify->pilot = certify->pilot > 0 ? certify->pilot : 1;
    enum status status = check_count(certify, study->items.count, (size_t)n, err);
    if (status == STATUS_OK) {
        status = start_study(certify, flags, err);
    }
    const struct study_range pilot = {.method_end = study->n_methods, .item_end = certify->pilot};
    if (status == STATUS_OK) {
        status = study_answer(certify->cli, study, flags, &pilot, err);
    }
    for (int i = 0; i < study->n_methods; i++) {
        certify->taken[i] = certify->pilot;
    }
    if (status == STATUS_OK) {
        status = read_study(certify, err);
    }
    if (status == STATUS_OK) {
        status = look_at_pilot(certify, err);
    }
    for (int i = 0; status == STATUS_OK && !certify->infeasible && i < n; i++) {
        status = answer_setting(certify, flags, i, err);
        if (certify->rule.procedure == TEST_PROCEDURE_FIXED_SEQUENCE &&
            !certify->findings[i].certified) {
            break;
        }
    }
    return status == STATUS_OK && !certify->infeasible ? decide(certify, err) : status;
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

static enum status set_methods(struct certify *certify, const struct job_flags *job,
                               struct error *err) {
    struct study *study = &certify->study;
    int max = STUDY_METHODS_MAX - (certify->use_base ? 1 : 0);
    enum status status =
        certify_grid_make(&certify->grids, &job->spec, max, study->methods, &certify->grid, err);
    study->n_methods = status == STATUS_OK ? certify->grid.n : 0;
    if (status != STATUS_OK || !certify->use_base) {
        return status;
    }
    Surefoot__JobSpec spec = job->spec;
    spec.method = (char *)"sample";
    spec.selection = NULL;
    for (enum job_field_index i = 0; i < JOB_FIELDS_COUNT; i++) {
        if (!job_field_is_read(i, &spec)) {
            job_field_clear(i, &spec);
        }
    }
    study->methods[study->n_methods++] = (struct study_method){.label = "base", .spec = spec};
    return STATUS_OK;
}

static enum status run_live(struct certify *certify, const char *path,
                            const struct session_flags *session,
                            const struct service_flags *service, const struct batch_flags *flags,
                            struct job_flags *job, struct error *err) {
    struct study *study = &certify->study;
    if (flags->out == NULL) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "--out", "required: the records");
    }
    if (certify->verdicts != NULL || job->certificate != NULL) {
        return error_set(err, STATUS_INVALID_ARGUMENT,
                         job->certificate != NULL ? "--certificate" : "--verdicts",
                         "has no effect on answers that are made first");
    }
    enum status status = study_open(study, path, OUTFILE_COMPARISON, flags, job, err);
    if (status == STATUS_OK) {
        qsort(study->items.rows, study->items.count, sizeof *study->items.rows, by_hash);
        status = set_methods(certify, job, err);
    }
    if (status == STATUS_OK) {
        status = session_open(certify->cli, session, service, &study->session, err);
    }
    return status == STATUS_OK ? run_study(certify, flags, err) : status;
}

static int report(const struct certify *certify, bool json) {
    const struct certify_report report = {
        .judged = &certify->judged,
        .rule = &certify->rule,
        .tallies = certify->tallies,
        .findings = certify->findings,
        .base = certify->has_base ? &certify->base : NULL,
        .chosen = certify->certificate != NULL ? certify->chosen : certify->judged.n_settings,
        .infeasible = certify->infeasible,
        .pilot = certify->infeasible ? certify->pilot : 0,
        .certificate = certify->certificate,
        .path = certify->certificate != NULL ? certify->write : NULL,
    };
    if (certify_report_print(&report, json, stdout) != STATUS_OK) {
        return CLI_EXIT_SYSTEM;
    }
    return certify->certificate != NULL ? CLI_EXIT_OK : CLI_EXIT_FAILED;
}

static enum status check(const struct certify *certify, bool json, struct error *err) {
    json_t *certificate = NULL;
    enum status status = certificate_read(certify->check, &certificate, err);
    if (status != STATUS_OK) {
        error_prefix_field(err, "--check");
        return status;
    }
    status = certify_report_checked(certificate, json, stdout);
    json_decref(certificate);
    return status == STATUS_OK ? status : error_set(err, status, NULL, "cannot print");
}

// Without FILE there is no job and no service: their flags would have no effect.
static enum status check_alone(struct certify *certify, const struct command_line *line, int argc,
                               char **argv, struct error *err) {
    const char *none = NULL;
    int n_positional = 0;
    bool help = false;
    if (certify->grids.count > 0) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "--grid", "has no effect without FILE");
    }
    const struct flag *check = line->tables[0];
    while (strcmp(check->name, "check") != 0) {
        check++;
    }
    const struct flag alone[] = {*check, {.name = NULL}};
    struct command_line less = *line;
    less.tables[0] = certify->check != NULL ? alone : line->tables[0];
    less.n_tables = 2; // own flags and --json
    certify->records.count = 0;
    enum status status = flags_parse(&less, argc, argv, &none, &n_positional, &help, err);
    if (status != STATUS_OK) {
        char field[ERROR_FIELD_BYTES];
        snprintf(field, sizeof field, "%s", err->field);
        return certify->check != NULL ? error_set(err, status, "--check",
                                                  "stands alone; %s has no effect on it", field)
                                      : error_set(err, status, field, "has no effect without FILE");
    }
    return STATUS_OK;
}

static const char about[] =
    "Certifies that answers are unsafe in at most --epsilon of cases, with confidence 1 - --delta, "
    "as a\njudge sees it that selects nothing in the search: of the settings of --grid, or of "
    "--records. Prompts must\nbe like those to come, and none of them used to train or tune "
    "anything. A pilot says early that no\nsetting can reach the target. Run it again after an "
    "interruption and it goes on.\n"
    "Exit code 0: certified, 3: nothing is; 5: interrupted.\n"
    "JSON: certified, infeasible, pilot (prompts that told so), chosen, settings[name, prompts, "
    "answered,\nlosses, p, lower, upper, certified], base{n, losses, lower, abstention_min}, id, "
    "certificate (path).";

int verb_certify(struct cli *cli, int argc, char **argv) {
    struct session_flags session_flags;
    struct service_flags service_flags;
    struct job_flags job;
    struct batch_flags flags;
    struct flag own[OWN_FLAGS];
    struct certify *certify = calloc(1, sizeof *certify);
    if (certify == NULL) {
        return CLI_EXIT_SYSTEM;
    }
    certify->cli = cli;
    certify->study.outfile.fd = -1;
    init_flags(certify, own);
    batch_flags_init(&flags, DEFAULT_IN_FLIGHT,
                     "with FILE: its records, as of compare; required, no default");
    session_flags_init(&session_flags);
    service_flags_init(&service_flags);
    job_flags_init(&job);
    struct command_line line = {
        .usage = "certify FILE|- --out OUT.jsonl --epsilon X --judge NAME:X [FLAGS] | certify "
                 "--records OUT.jsonl --epsilon X ... | certify --check CERT.json",
        .about = about,
        .tables = {own, session_flags.table, flags.table, job.table, service_flags.table},
        .n_tables = 5,
        .positional_max = 1,
    };
    const char *path = NULL;
    int n_positional = 0;
    bool help = false;
    struct error err;
    int code = CLI_EXIT_OK;
    enum status status = flags_parse(&line, argc, argv, &path, &n_positional, &help, &err);
    if (status == STATUS_OK && help) {
        flags_print_help(&line, stdout);
        goto out;
    }
    int n_sources = n_positional + (certify->records.count > 0) + (certify->check != NULL);
    if (status == STATUS_OK && n_sources != 1) {
        status = error_set(&err, STATUS_INVALID_ARGUMENT, NULL,
                           "one of FILE, --records, --check; usage: surefoot %s", line.usage);
    }
    if (status == STATUS_OK && certify->asked_given && certify->records.count == 0) {
        status = error_set(&err, STATUS_INVALID_ARGUMENT, "--asked", "goes with --records alone");
    }
    if (status == STATUS_OK && n_positional == 0) {
        status = check_alone(certify, &line, argc, argv, &err);
    }
    if (status == STATUS_OK && certify->check != NULL) {
        status = check(certify, session_flags.json, &err);
        code = status == STATUS_OK ? CLI_EXIT_OK : cli_fail(&err, session_flags.json);
        goto out;
    }
    if (status == STATUS_OK) {
        status = read_rule(certify, &err);
    }
    if (status == STATUS_OK) {
        status = job_flags_finish(&job, &err);
    }
    if (status == STATUS_OK) {
        status = n_positional > 0
                     ? run_live(certify, path, &session_flags, &service_flags, &flags, &job, &err)
                     : run_records(certify, &err);
    }
    code = status == STATUS_OK ? report(certify, session_flags.json)
                               : cli_fail(&err, session_flags.json);
out:
    study_close(&certify->study);
    certify_grid_finish(&certify->grid);
    judged_finish(&certify->judged);
    json_decref(certify->certificate);
    free(certify);
    job_flags_destroy(&job);
    return code;
}
