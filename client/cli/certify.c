// surefoot certify: which settings keep the rate of unsafe answers below a target, as a judge sees
// it that selects nothing in the search. Answers come from records, or are made first.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/certificate.h"
#include "client/cli/certify_live.h"
#include "client/cli/certify_records.h"
#include "client/cli/certify_report.h"

enum { DEFAULT_IN_FLIGHT = 64, OWN_FLAGS = 16 };

struct certify {
    struct certify_findings found;
    struct certify_live live;
    struct flag_list grids;
    struct flag_list records;
    const char *check;
    const char *risk;
    const char *bound;
    const char *procedure;
    double epsilon;
    double delta;
    int epsilon_given;
    uint32_t asked; // prompts that the records are of
    int asked_given;
};

static void init_flags(struct certify *certify, struct flag table[OWN_FLAGS]) {
    certify->risk = risk_kind_name(RISK_KIND_JOINT);
    certify->bound = rate_kind_name(RATE_KIND_EXACT);
    certify->procedure = test_procedure_name(TEST_PROCEDURE_FIXED_SEQUENCE);
    certify->delta = 0.05;
    certify->found.pilot_share = 0.2;
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
         .target = &certify->found.judge,
         .value = "NAME:X",
         .help = "a scorer with weight 0 in the job: an answer above X is unsafe"},
        {.name = "verdicts",
         .kind = FLAG_TEXT,
         .target = &certify->found.verdicts,
         .value = "FILE",
         .help = "of a judge outside: rows {id, key, unsafe}"},
        {.name = "pilot",
         .kind = FLAG_REAL,
         .target = &certify->found.pilot_share,
         .max = 1,
         .value = "X",
         .help = "share of the prompts from which it is first told whether a setting can reach the "
                 "target; default 0.2"},
        {.name = "base",
         .kind = FLAG_SWITCH,
         .target = &certify->found.use_base,
         .help =
             "plain answers too (method sample), which are not certified: their rate says what a "
             "filter alone would cost"},
        {.name = "trust-constant-judge",
         .kind = FLAG_SWITCH,
         .target = &certify->found.trust_constant,
         .help = "also when it calls every answer the same"},
        {.name = "write",
         .kind = FLAG_TEXT,
         .target = &certify->found.write,
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
    const char *colon = certify->found.judge == NULL ? NULL : strrchr(certify->found.judge, ':');
    char *end = NULL;
    if (certify->found.judge == NULL) {
        return STATUS_OK;
    }
    size_t length = colon == NULL ? 0 : (size_t)(colon - certify->found.judge);
    certify->found.threshold = colon == NULL ? NAN : strtod(colon + 1, &end);
    if (length == 0 || length >= CERTIFY_JUDGE_BYTES || end == colon + 1 || *end != '\0' ||
        !isfinite(certify->found.threshold)) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "--judge",
                         "\"%.80s\" is not NAME:X with a finite number", certify->found.judge);
    }
    memcpy(certify->found.judge_name, certify->found.judge, length);
    return STATUS_OK;
}

static enum status read_rule(struct certify *certify, struct error *err) {
    certify->found.rule = (struct selection_rule){
        .risk = (enum risk_kind)risk_kind_parse(certify->risk),
        .bound = (enum rate_kind)rate_kind_parse(certify->bound),
        .procedure = (enum test_procedure)test_procedure_parse(certify->procedure),
        .epsilon = certify->epsilon,
        .delta = certify->delta,
    };
    if (certify->found.rule.risk == 0) {
        return refuse_name("--risk", certify->risk, "joint, answered", err);
    }
    if (certify->found.rule.bound == 0) {
        return refuse_name("--bound", certify->bound, "exact, hoeffding-bentkus, anytime", err);
    }
    if (certify->found.rule.procedure == 0) {
        return refuse_name("--procedure", certify->procedure, "fixed-sequence, holm, bonferroni",
                           err);
    }
    if (!certify->epsilon_given) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "--epsilon", "required");
    }
    if ((certify->found.judge != NULL) == (certify->found.verdicts != NULL)) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "--judge",
                         "one judge: --judge, or --verdicts");
    }
    return read_judge(certify, err);
}

// Before the work whose fruit it is to hold.
static enum status check_write(const char *path, struct error *err) {
    enum status status = path != NULL ? certificate_check_path(path, err) : STATUS_OK;
    if (status != STATUS_OK) {
        error_prefix_field(err, "--write");
    }
    return status;
}

static int report(const struct certify_findings *found, bool json) {
    const struct certify_report report = {
        .judged = &found->judged,
        .rule = &found->rule,
        .tallies = found->tallies,
        .findings = found->findings,
        .base = found->has_base ? &found->base : NULL,
        .chosen = found->certificate != NULL ? found->chosen : found->judged.n_settings,
        .infeasible = found->infeasible,
        .pilot = found->infeasible ? found->pilot : 0,
        .certificate = found->certificate,
        .path = found->certificate != NULL ? found->write : NULL,
    };
    if (certify_report_print(&report, json, stdout) != STATUS_OK) {
        return CLI_EXIT_SYSTEM;
    }
    return found->certificate != NULL ? CLI_EXIT_OK : CLI_EXIT_FAILED;
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
    init_flags(certify, own);
    batch_flags_init(&flags, DEFAULT_IN_FLIGHT,
                     "with FILE: its records, as of compare; required, no default");
    session_flags_init(&session_flags);
    service_flags_init(&service_flags);
    job_flags_init(&job);
    certify->live = (struct certify_live){.cli = cli,
                                          .grids = &certify->grids,
                                          .session = &session_flags,
                                          .service = &service_flags,
                                          .flags = &flags,
                                          .job = &job,
                                          .found = &certify->found,
                                          .study.outfile.fd = -1};
    struct command_line line = {
        .usage = "certify FILE|- --out OUT.jsonl --epsilon X --judge NAME:X [FLAGS] | certify "
                 "--records OUT.jsonl --epsilon X ... | certify --check CERT.json",
        .about = about,
        .tables = {own, session_flags.table, flags.table, job.table, service_flags.table},
        .n_tables = 5,
        .positional_max = 1,
    };
    int n_positional = 0;
    bool help = false;
    struct error err;
    int code = CLI_EXIT_OK;
    enum status status =
        flags_parse(&line, argc, argv, &certify->live.path, &n_positional, &help, &err);
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
        status = check_write(certify->found.write, &err);
    }
    if (status == STATUS_OK) {
        status = n_positional > 0
                     ? certify_live(&certify->live, &err)
                     : certify_records(&certify->found, &certify->records,
                                       certify->asked_given ? &certify->asked : NULL, &err);
    }
    code = status == STATUS_OK ? report(&certify->found, session_flags.json)
                               : cli_fail(&err, session_flags.json);
out:
    certify_live_finish(&certify->live);
    certify_findings_finish(&certify->found);
    free(certify);
    job_flags_destroy(&job);
    return code;
}
