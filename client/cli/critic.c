// surefoot critic: roll-outs of the policy through the service, and what the worker's program makes
// of their records.
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/cli/print.h"
#include "client/cli/study.h"
#include "client/cli/worker_run.h"

enum { DEFAULT_IN_FLIGHT = 64, DEFAULT_ROLLOUTS = 5, PASSED_FLAGS = 9, LABEL_BYTES = 16 };

// Flags that are the training's own, passed on as they are.
static const struct {
    const char *name;
    const char *value;
    const char *help;
} passed[PASSED_FLAGS] = {
    {"network", "NAME", "latent, value, value-released; default latent"},
    {"lambda", "X", "weight of the cost in a value; default 0: it is of rewards alone"},
    {"parts", "N", "logistic parts of each mixture, 1 to 3; default 3"},
    {"width", "N", "of both inner layers; default: the hidden size"},
    {"batch", "N", "states of one step, default 256; of a value texts, 512"},
    {"epochs", "N", "at most; default 50, of a value 100"},
    {"stop-after", "N", "epochs without a better one; default 5, of a value 100"},
    {"learning-rate", "X", "of AdamW; default 0.001, of a value 0.0001"},
    {"weight-decay", "X", "of AdamW; default 0.01, of a value 0"},
};

struct training {
    struct study study;
    struct batch_flags flags;
    uint32_t rollouts;
    const char *values[PASSED_FLAGS];
    char labels[STUDY_METHODS_MAX][LABEL_BYTES];
    const char *out;                  // the critic
    char records[SERVICE_PATH_BYTES]; // of the roll-outs
};

static enum status name_records(struct training *training, struct error *err) {
    training->out = training->flags.out;
    if (training->out == NULL) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "--out", "required");
    }
    if (snprintf(training->records, sizeof training->records, "%s.rollouts.jsonl", training->out) >=
        (int)sizeof training->records) {
        return error_set(err, STATUS_LIMIT, "--out", "a path of %zu bytes is too long",
                         strlen(training->out));
    }
    training->flags.out = training->records;
    return STATUS_OK;
}

static bool is_value(const struct training *training) {
    return training->values[0] != NULL && strncmp(training->values[0], "value", 5) == 0;
}

static enum status make_methods(struct training *training, const struct job_flags *job,
                                struct error *err) {
    if (job->spec.method != NULL && strcmp(job->spec.method, "sample") != 0) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "--method",
                         "roll-outs are of method sample, not %s", job->spec.method);
    }
    for (uint32_t i = 0; i < training->rollouts; i++) {
        snprintf(training->labels[i], LABEL_BYTES, "rollout-%u", i + 1);
        struct study_method *method = &training->study.methods[i];
        *method = (struct study_method){.label = training->labels[i], .spec = job->spec};
        method->spec.method = (char *)"sample";
        method->spec.has_states = method->spec.states = true;
        if (is_value(training) && !method->spec.has_block_tokens) {
            method->spec.has_block_tokens = true; // a state for every token
            method->spec.block_tokens = 1;
        }
        method->spec.has_seed = true;
        method->spec.seed = (job->spec.has_seed ? job->spec.seed : 0) + i;
    }
    training->study.n_methods = (int)training->rollouts;
    return STATUS_OK;
}

// Runs the worker's program; its JSON, owned, goes to *out. What it prints of its own goes on.
static enum status run_critic(struct cli *cli, char **arguments, json_t **out, struct error *err) {
    char program[SERVICE_PATH_BYTES + 32];
    snprintf(program, sizeof program, "%s/surefoot-critic", cli->program_dir);
    arguments[0] = program;
    struct worker_run run;
    enum status status = worker_run_at_length(cli, arguments, &run, err);
    if (status == STATUS_OK && !run.good) {
        status =
            error_set(err, STATUS_INVALID_ARGUMENT, "surefoot-critic", "failed; it has said why");
    }
    if (status == STATUS_OK) {
        *out = json_loads(run.output, 0, NULL);
        status = *out != NULL
                     ? STATUS_OK
                     : error_set(err, STATUS_MALFORMED, "surefoot-critic", "printed no JSON");
    }
    worker_run_finish(&run);
    return status;
}

// Before anything is answered: a file that is there must be a critic, which is made anew.
static enum status check_out(struct cli *cli, const struct training *training, struct error *err) {
    if (access(training->out, F_OK) != 0) {
        return STATUS_OK;
    }
    char *arguments[] = {NULL, "check", (char *)training->out, NULL};
    json_t *critic = NULL;
    enum status status = run_critic(cli, arguments, &critic, err);
    json_decref(critic);
    return status != STATUS_INVALID_ARGUMENT
               ? status
               : error_set(err, STATUS_ALREADY_EXISTS, "--out",
                           "%.200s is there and no critic; name another file", training->out);
}

// With `check` only whether the flags that are passed on are good.
static enum status train(struct cli *cli, struct training *training, uint64_t seed, bool check,
                         json_t **out, struct error *err) {
    char *arguments[9 + 2 * PASSED_FLAGS + 1] = {
        NULL, "train", "--records", training->records, "--out", (char *)training->out, "--seed"};
    char seed_text[24], names[PASSED_FLAGS][32];
    int n = 7;
    snprintf(seed_text, sizeof seed_text, "%" PRIu64, seed);
    arguments[n++] = seed_text;
    for (int i = 0; i < PASSED_FLAGS; i++) {
        if (training->values[i] != NULL) {
            snprintf(names[i], sizeof names[i], "--%s", passed[i].name);
            arguments[n++] = names[i];
            arguments[n++] = (char *)training->values[i];
        }
    }
    if (check) {
        arguments[n++] = "--check";
    }
    return run_critic(cli, arguments, out, err);
}

// Before anything is answered: what the training would refuse when all is.
static enum status check_flags(struct cli *cli, struct training *training, uint64_t seed,
                               struct error *err) {
    json_t *nothing = NULL;
    enum status status = train(cli, training, seed, true, &nothing, err);
    json_decref(nothing);
    return status;
}

static void print_share(const json_t *object, const char *name) {
    const json_t *value = json_object_get(object, name);
    if (json_is_number(value)) {
        printf(" %8.3f", json_number_value(value));
    } else {
        printf(" %8s", "-");
    }
}

static void print_value_report(const json_t *report) {
    size_t i;
    json_t *at;
    printf("%6s %8s %12s %14s\n", "at", "texts", "correlation", "squared error");
    json_array_foreach(json_object_get(report, "at"), i, at) {
        printf("%5.0f%% %8lld    ", 100 * json_number_value(json_object_get(at, "place")),
               (long long)json_integer_value(json_object_get(at, "n")));
        print_share(at, "correlation");
        printf("      ");
        print_share(at, "squared_error");
        printf("\n");
    }
}

static void print_report(const json_t *report) {
    size_t i, j;
    json_t *budget, *at;
    printf("%s: %lld states of %lld texts on %lld prompts; on prompts not trained on:\n",
           json_string_value(json_object_get(report, "out")),
           (long long)json_integer_value(json_object_get(report, "states")),
           (long long)json_integer_value(json_object_get(report, "texts")),
           (long long)json_integer_value(json_object_get(report, "prompts")));
    if (json_object_get(report, "at") != NULL) {
        print_value_report(report);
        return;
    }
    printf("%10s %6s %8s %8s %8s %8s %8s %8s\n", "budget", "at", "texts", "safe", "AUROC", "of z",
           "Brier", "of z");
    json_array_foreach(json_object_get(report, "budgets"), i, budget) {
        json_array_foreach(json_object_get(budget, "at"), j, at) {
            printf("%10g %5.0f%% %8lld", json_number_value(json_object_get(budget, "budget")),
                   100 * json_number_value(json_object_get(at, "place")),
                   (long long)json_integer_value(json_object_get(at, "n")));
            print_share(at, "safe");
            print_share(at, "auroc");
            print_share(at, "auroc_z");
            print_share(at, "brier");
            print_share(at, "brier_z");
            printf("\n");
        }
    }
}

static int print_training(json_t *report, bool json) {
    if (json) {
        return print_json_line(report, stdout) == STATUS_OK ? CLI_EXIT_OK : CLI_EXIT_SYSTEM;
    }
    print_report(report);
    json_decref(report);
    return CLI_EXIT_OK;
}

static void fill_flags(struct training *training, struct flag table[PASSED_FLAGS + 2]) {
    *table++ = (struct flag){.name = "rollouts",
                             .kind = FLAG_U32,
                             .target = &training->rollouts,
                             .min = 1,
                             .max = STUDY_METHODS_MAX,
                             .value = "N",
                             .help = "texts of each prompt; default 5"};
    for (int i = 0; i < PASSED_FLAGS; i++) {
        *table++ = (struct flag){.name = passed[i].name,
                                 .kind = FLAG_TEXT,
                                 .target = &training->values[i],
                                 .value = passed[i].value,
                                 .help = passed[i].help};
    }
    *table = (struct flag){.name = NULL};
}

static int verb_train(struct cli *cli, int argc, char **argv) {
    struct session_flags session_flags;
    struct service_flags service_flags;
    struct job_flags job;
    struct flag own[PASSED_FLAGS + 2];
    struct training *training = calloc(1, sizeof *training);
    if (training == NULL) {
        return CLI_EXIT_SYSTEM;
    }
    training->rollouts = DEFAULT_ROLLOUTS;
    training->study.outfile.fd = -1;
    batch_flags_init(&training->flags, DEFAULT_IN_FLIGHT, "the critic; required, no default");
    session_flags_init(&session_flags);
    service_flags_init(&service_flags);
    job_flags_init(&job);
    fill_flags(training, own);
    const struct command_line line = {
        .usage = "critic train FILE|- --out OUT.safetensors [FLAGS]",
        .about =
            "Trains a critic: a small network on the policy's hidden states that predicts what a "
            "text has still to\npay and to get. Every prompt of FILE (as for sweep) is answered "
            "--rollouts times by method sample; the\nrecords, with states, stand in "
            "OUT.rollouts.jsonl. Run it again after an interruption and it goes on. One\nprompt in "
            "ten is kept to stop by and one to report on. Formulas: docs/methods/critic.md. With "
            "--network value it is one that\npredicts reward - lambda cost, which --method "
            "re-control "
            "goes up (docs/methods/re-control.md); the\ndefault of --block-tokens is then 1.\n"
            "JSON: out, hash, states, texts, prompts, passed_over, reported_on, terms{policy_hash, "
            "channels, ...},\nbudgets[budget, at[place, n, safe, auroc, brier, auroc_z, brier_z], "
            "all{n, safe, auroc, brier,\nfalse_safe, false_unsafe, bins[from, n, predicted, "
            "happened]}].",
        .tables = {own, training->flags.table, job.table, session_flags.table, service_flags.table},
        .n_tables = 5,
        .positional_min = 2,
        .positional_max = 2,
    };
    const char *positional[2] = {NULL};
    int n_positional = 0;
    bool help = false;
    struct error err;
    json_t *report = NULL;
    int code = CLI_EXIT_OK;
    enum status status = flags_parse(&line, argc, argv, positional, &n_positional, &help, &err);
    if (status == STATUS_OK && help) {
        flags_print_help(&line, stdout);
        goto out;
    }
    if (status == STATUS_OK) {
        status = name_records(training, &err);
    }
    if (status == STATUS_OK) {
        status = check_out(cli, training, &err);
    }
    if (status == STATUS_OK) {
        status = job_flags_finish(&job, &err);
    }
    uint64_t seed = job.spec.has_seed ? job.spec.seed : 0;
    if (status == STATUS_OK) {
        status = check_flags(cli, training, seed, &err);
    }
    if (status == STATUS_OK) {
        status = study_open(&training->study, positional[1], OUTFILE_COMPARISON, &training->flags,
                            &job, &err);
    }
    if (status == STATUS_OK) {
        status = make_methods(training, &job, &err);
    }
    if (status == STATUS_OK) {
        status = session_open(cli, &session_flags, &service_flags, &training->study.session, &err);
    }
    if (status == STATUS_OK) {
        status = study_run(cli, &training->study, &training->flags, &err);
    }
    // The training wants the cores, and the records to itself.
    study_close(&training->study);
    training->study = (struct study){.outfile = {.fd = -1}};
    if (status == STATUS_OK) {
        status = train(cli, training, seed, false, &report, &err);
    }
    code = status == STATUS_OK ? print_training(report, session_flags.json)
                               : cli_fail(&err, session_flags.json);
out:
    study_close(&training->study);
    free(training);
    job_flags_destroy(&job);
    return code;
}

static int verb_check(struct cli *cli, int argc, char **argv) {
    const struct command_line line = {
        .usage = "critic check FILE",
        .about = "Opens a critic and prints what it was trained for, as JSON: hash, dims, "
                 "terms{policy_hash,\nchat_template, hidden_dim, n_parts, channels, rewards}; or "
                 "why it is none (exit code 2).",
        .positional_min = 2,
        .positional_max = 2,
    };
    const char *positional[2] = {NULL};
    int n_positional = 0;
    bool help = false;
    struct error err;
    json_t *object = NULL;
    enum status status = flags_parse(&line, argc, argv, positional, &n_positional, &help, &err);
    if (status == STATUS_OK && help) {
        flags_print_help(&line, stdout);
        return CLI_EXIT_OK;
    }
    if (status == STATUS_OK) {
        char *arguments[] = {NULL, "check", (char *)positional[1], NULL};
        status = run_critic(cli, arguments, &object, &err);
    }
    if (status != STATUS_OK) {
        return cli_fail(&err, false);
    }
    return print_json_line(object, stdout) == STATUS_OK ? CLI_EXIT_OK : CLI_EXIT_SYSTEM;
}

int verb_critic(struct cli *cli, int argc, char **argv) {
    if (argc > 0 && strcmp(argv[0], "check") == 0) {
        return verb_check(cli, argc, argv);
    }
    bool help = argc > 0 && strcmp(argv[0], "--help") == 0;
    if (!help && (argc == 0 || strcmp(argv[0], "train") != 0)) {
        struct error err;
        error_set(&err, STATUS_INVALID_ARGUMENT, argc > 0 ? argv[0] : "critic",
                  "usage: surefoot critic train FILE --out OUT.safetensors, or critic check FILE");
        return cli_fail(&err, false);
    }
    return verb_train(cli, argc, argv);
}
