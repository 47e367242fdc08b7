// surefoot calibrate: the rewards of K answers to every prompt of a file, for jobs that compare
// with them. A prompt is one best-of-n job of K candidates; its record is on disk before the job is
// closed, so an interrupted run goes on at the first prompt without one.
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/batch.h"
#include "client/cli/batch_flags.h"
#include "client/cli/item_key.h"
#include "client/cli/job_flags.h"
#include "client/cli/job_json.h"
#include "client/cli/print.h"
#include "client/cli/progress.h"
#include "client/cli/session.h"

enum { DEFAULT_IN_FLIGHT = 8, DEFAULT_ROLLOUTS = 100 };

struct run {
    struct session session;
    struct items items;
    struct job_flags *job; // borrowed
    struct calibration_file file;
    struct item_key *keys;            // owned [items.count]
    char (*hashes)[SHA256_HEX_BYTES]; // owned [items.count], of the prompts
    size_t recorded;                  // an item whose prompt has its record; SIZE_MAX: none has
    struct watch watch;
    struct progress progress;
    Surefoot__JobSpec spec; // of the item described last
    Surefoot__ChatMessage message_rows[LIMIT_MESSAGES];
    Surefoot__ChatMessage *message_list[LIMIT_MESSAGES];
};

static void set_item(struct run *run, size_t index) {
    run->spec = run->job->spec;
    item_set_prompt(&run->items.rows[index], &run->job->turns, &run->spec, run->message_rows,
                    run->message_list);
}

static void describe(void *user, size_t index, const Surefoot__JobSpec **spec, const char **key) {
    struct run *run = user;
    set_item(run, index);
    run->spec.has_seed = 1;
    run->spec.seed = run->keys[index].seed;
    *spec = &run->spec;
    *key = run->keys[index].text;
}

// Of the first result, or of every other one the comparison with it.
static enum status begin(struct run *run, const Surefoot__JobResult *result, struct error *err) {
    Surefoot__CalibrationHeader header = SUREFOOT__CALIBRATION_HEADER__INIT;
    Surefoot__Calibration conditions = *result->calibration;
    conditions.rewards = NULL;
    conditions.n_rewards = 0;
    header.has_schema = header.has_rollouts = header.has_seed = 1;
    header.schema = 1;
    header.conditions = &conditions;
    header.rollouts = run->job->spec.n;
    header.seed = run->job->spec.seed;
    header.date = run->job->spec.date;
    return calibration_begin(&run->file, &header, err);
}

// What stays when the service is away costs it only space; the record is safe.
static enum status forget(struct run *run, const char *key, struct error *err) {
    enum status status =
        surefoot_close_job(run->session.client, key, watch_timeout(&run->watch), err);
    return status == STATUS_DEADLINE || status == STATUS_NOT_FOUND ? STATUS_OK : status;
}

static enum status done(void *user, size_t index, const Surefoot__JobResult *result,
                        struct error *err) {
    struct run *run = user;
    run->progress.done++;
    if (result->outcome != SUREFOOT__OUTCOME__OUTCOME_COMPLETED || result->calibration == NULL ||
        result->calibration->policy == NULL || result->calibration->sampling == NULL) {
        run->progress.failed++;
        fprintf(stderr, "surefoot: line %zu has no rewards: %s%s%s\n", run->items.rows[index].line,
                surefoot_outcome_name(result->outcome), result->error != NULL ? ", " : "",
                result->error != NULL && result->error->message != NULL ? result->error->message
                                                                        : "");
        return forget(run, run->keys[index].text, err);
    }
    const Surefoot__Calibration *made = result->calibration;
    enum status status = begin(run, result, err);
    if (status == STATUS_OK) {
        status =
            calibration_append(&run->file, run->hashes[index], made->rewards, made->n_rewards, err);
    }
    return status == STATUS_OK ? forget(run, run->keys[index].text, err) : status;
}

static enum status tick(void *user, struct error *err) {
    (void)err;
    progress_show(&((struct run *)user)->progress);
    return STATUS_OK;
}

static const struct batch_ops ops = {.describe = describe, .done = done, .tick = tick};

// The first flag of the job that has no effect on the rewards of the policy's answers; "": none.
static void find_idle_flag(const struct job_flags *job, char out[ERROR_FIELD_BYTES]) {
    const struct {
        bool given;
        const char *flag;
    } others[] = {
        {job->preset != NULL, "--preset"},
        {job->certificate != NULL, "--certificate"},
        {job->calibration_path != NULL, "--calibration"},
        {job->channels.flags.count > 0, "--channel"},
        {job->required.count > 0, "--require"},
        {job->forbidden.count > 0, "--forbid"},
        {job->required_regex.count > 0, "--require-regex"},
        {job->forbidden_regex.count > 0, "--forbid-regex"},
        {job->lexical.has_words_min, "--words-min"},
        {job->lexical.has_words_max, "--words-max"},
    };
    out[0] = '\0';
    for (enum job_field_index i = 0; i < JOB_FIELDS_COUNT; i++) {
        if (i != JOB_FIELD_MAX_TOKENS && i != JOB_FIELD_DEADLINE_MS &&
            job_field_is_set(i, &job->spec)) {
            char name[FIELD_FLAG_NAME_BYTES];
            field_flag_name(i, name);
            snprintf(out, ERROR_FIELD_BYTES, "--%s", name);
            return;
        }
    }
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        if (others[i].given) {
            snprintf(out, ERROR_FIELD_BYTES, "%s", others[i].flag);
            return;
        }
    }
}

static enum status refuse_idle(const char *flag, struct error *err) {
    return error_set(err, STATUS_INVALID_ARGUMENT, flag,
                     "has no effect: calibrate keeps the rewards of --rollouts answers of the "
                     "policy, whatever they cost");
}

static enum status take_job(struct job_flags *job, uint32_t rollouts, struct error *err) {
    char flag[ERROR_FIELD_BYTES];
    find_idle_flag(job, flag);
    if (flag[0] != '\0') {
        return refuse_idle(flag, err);
    }
    job->spec.method = "best-of-n";
    job->spec.selection = "plain";
    job->spec.has_n = job->spec.has_calibrate = job->spec.calibrate = 1;
    job->spec.n = rollouts;
    return STATUS_OK;
}

static bool is_cost_model(const Surefoot__ServiceStatus *state, const char *name) {
    for (size_t i = 0; i < state->n_groups; i++) {
        const Surefoot__GroupStatus *group = state->groups[i];
        for (size_t j = 0; group->alive && j < group->n_models; j++) {
            const Surefoot__ModelInfo *model = group->models[j];
            if (model->name != NULL && strcmp(model->name, name) == 0) {
                return model->role != NULL && strcmp(model->role, "cost") == 0;
            }
        }
    }
    return false;
}

static enum status check_scorers(const struct run *run, const Surefoot__ServiceStatus *state,
                                 struct error *err) {
    const Surefoot__JobSpec *spec = &run->job->spec;
    for (size_t i = 0; i < spec->n_scorers; i++) {
        const char *role = spec->scorers[i]->role;
        if (role != NULL ? strcmp(role, "cost") == 0
                         : is_cost_model(state, spec->scorers[i]->name)) {
            char flag[ERROR_FIELD_BYTES];
            snprintf(flag, sizeof flag, "--scorer %.40s", spec->scorers[i]->name);
            return refuse_idle(flag, err);
        }
    }
    return STATUS_OK;
}

// What the service cannot compare.
static enum status check_header(struct run *run, struct error *err) {
    if (run->file.header == NULL) {
        return STATUS_OK;
    }
    Surefoot__CalibrationHeader header = *run->file.header->header;
    header.seed = run->job->spec.seed;
    header.date = run->job->spec.date;
    return calibration_begin(&run->file, &header, err);
}

// One answer to a prompt that has its record, as a job with the calibration: the service compares
// models, scorers and sampling with what the file was made with, and says what differs.
struct probe {
    struct run *run;
    Surefoot__Calibration conditions;
    char key[SUREFOOT_KEY_BYTES];
};

static void describe_probe(void *user, size_t index, const Surefoot__JobSpec **spec,
                           const char **key) {
    struct probe *probe = user;
    struct run *run = probe->run;
    set_item(run, index);
    run->spec.n = 1;
    run->spec.has_calibrate = run->spec.calibrate = 0;
    run->spec.calibration = &probe->conditions;
    *spec = &run->spec;
    *key = probe->key;
}

static enum status done_probe(void *user, size_t index, const Surefoot__JobResult *result,
                              struct error *err) {
    struct probe *probe = user;
    (void)index;
    (void)result;
    return forget(probe->run, probe->key, err);
}

static enum status tick_probe(void *user, struct error *err) {
    (void)user;
    (void)err;
    return STATUS_OK;
}

static const struct batch_ops probe_ops = {
    .describe = describe_probe, .done = done_probe, .tick = tick_probe};

// The names of the items' jobs: equal when prompt, job and models are.
static enum status make_keys(struct run *run, struct error *err) {
    Surefoot__ServiceStatus *state = NULL;
    enum status status = surefoot_status(run->session.client, run->session.timeout_ms, &state, err);
    if (status != STATUS_OK) {
        return status;
    }
    status = check_scorers(run, state, err);
    if (status == STATUS_OK) {
        status = check_header(run, err);
    }
    if (status != STATUS_OK) {
        surefoot_status_free(state);
        return status;
    }
    json_t *settings = json_pack("{s:o, s:o*}", "calibrate", job_json(&run->job->spec), "models",
                                 job_models_json(state));
    surefoot_status_free(state);
    status = item_keys_make(&run->items, run->job->spec.seed, settings, &run->keys, err);
    json_decref(settings);
    return status;
}

// The items whose prompts have no record: indexes[*count]. Prompts that are there twice count once.
// One that has its record is kept for the probe.
static enum status find_missing(struct run *run, size_t *indexes, size_t *count,
                                struct error *err) {
    json_t *seen = json_object();
    enum status status = STATUS_OK;
    *count = 0;
    for (size_t i = 0; status == STATUS_OK && i < run->items.count; i++) {
        set_item(run, i);
        status = calibration_prompt_hash(&run->spec, run->hashes[i], err);
        if (status != STATUS_OK) {
            break;
        }
        if (calibration_find(&run->file, run->hashes[i]) != NULL) {
            run->recorded = i;
        } else if (json_object_get(seen, run->hashes[i]) == NULL) {
            json_object_set_new(seen, run->hashes[i], json_true());
            indexes[(*count)++] = i;
        }
    }
    json_decref(seen);
    return status;
}

static enum status run_probe(struct run *run, struct batch batch, struct error *err) {
    if (run->recorded == SIZE_MAX) {
        return STATUS_OK;
    }
    float reward = 0;
    struct probe probe = {.run = run, .conditions = *run->file.header->header->conditions};
    probe.conditions.rewards = &reward;
    probe.conditions.n_rewards = 1;
    surefoot_make_key(probe.key);
    batch.ops = &probe_ops;
    batch.user = &probe;
    enum status status = batch_run(&batch, &run->recorded, 1, err);
    return status == STATUS_OK ? status : calibration_name_refusal(&run->file, err);
}

static enum status run_items(struct cli *cli, struct run *run, const struct batch_flags *flags,
                             struct error *err) {
    size_t count = 0;
    size_t *indexes = calloc(run->items.count, sizeof *indexes);
    run->hashes = calloc(run->items.count, sizeof *run->hashes);
    enum status status = indexes != NULL && run->hashes != NULL
                             ? make_keys(run, err)
                             : error_set(err, STATUS_NO_MEMORY, NULL, "no memory for the prompts");
    if (status == STATUS_OK) {
        status = find_missing(run, indexes, &count, err);
    }
    struct batch batch = {
        .client = run->session.client,
        .wake_fd = cli->signal_fd,
        .in_flight = (int)flags->in_flight,
        .watch = &run->watch,
    };
    watch_init(&run->watch, run->session.client, run->session.timeout_ms, flags->patience_ms);
    if (status == STATUS_OK) {
        status = run_probe(run, batch, err);
    }
    if (status == STATUS_OK) {
        batch.ops = &ops;
        batch.user = run;
        progress_start(&run->progress, stderr, flags->quiet, run->items.count,
                       run->items.count - count, flags->in_flight);
        status = batch_run(&batch, indexes, count, err);
        progress_end(&run->progress);
    }
    if (status == STATUS_OK && run->progress.failed == 0) {
        status = calibration_finish(&run->file, err);
    }
    free(indexes);
    return status;
}

static enum status open_run(struct run *run, const char *path, const struct batch_flags *flags,
                            struct error *err) {
    const struct items_choice choice = {.prompt_column = flags->prompt_column,
                                        .id_column = flags->id_column,
                                        .form = flags->form,
                                        .turns = run->job->turns};
    const struct selection selection = {.filters = &flags->filters,
                                        .sample = flags->sample,
                                        .sample_seed = flags->sample_seed,
                                        .limit = flags->limit};
    enum status status = batch_flags_check(flags, err);
    if (status == STATUS_OK) {
        status = items_read(path, &choice, &run->items, err);
    }
    if (status == STATUS_OK) {
        status = items_select(&run->items, &selection, err);
    }
    if (status == STATUS_OK && !flags->quiet) {
        items_describe(&run->items, &selection, stderr);
    }
    if (status == STATUS_OK) {
        status = calibration_open(flags->out, true, "--out", &run->file, err);
    }
    const Surefoot__CalibrationEntry *made = run->file.header;
    if (status == STATUS_OK && made != NULL && made->header->rollouts != run->job->spec.n) {
        status = error_set(err, STATUS_INVALID_ARGUMENT, "--rollouts",
                           "%u, and --out has %u of each prompt", run->job->spec.n,
                           made->header->rollouts);
    }
    if (status == STATUS_OK) {
        job_flags_fix_date(run->job, made != NULL ? made->header->date : NULL);
    }
    return status;
}

static int print_summary(const struct run *run, const char *out, bool json) {
    const struct progress *progress = &run->progress;
    int code = progress->failed > 0 ? CLI_EXIT_FAILED : CLI_EXIT_OK;
    size_t made = progress->done - progress->done_before - progress->failed;
    if (!json) {
        printf("%zu prompt%s, %zu of them new, %zu failed; %u rewards each; %s\n", run->file.count,
               print_plural(run->file.count), made, progress->failed, run->job->spec.n, out);
        return code;
    }
    json_t *object =
        json_pack("{s:I, s:I, s:I, s:i, s:s, s:b}", "prompts", (json_int_t)run->file.count, "new",
                  (json_int_t)made, "failed", (json_int_t)progress->failed, "rollouts",
                  (int)run->job->spec.n, "out", out, "finished", run->file.finished);
    return print_json_line(object, stdout) == STATUS_OK ? code : CLI_EXIT_SYSTEM;
}

static void close_run(struct run *run) {
    session_close(&run->session);
    calibration_close(&run->file);
    items_finish(&run->items);
    free(run->keys);
    free(run->hashes);
}

int verb_calibrate(struct cli *cli, int argc, char **argv) {
    struct session_flags session_flags;
    struct service_flags service_flags;
    struct job_flags job;
    struct batch_flags flags;
    uint32_t rollouts = DEFAULT_ROLLOUTS;
    batch_flags_init(&flags, DEFAULT_IN_FLIGHT, "the calibration; required, no default");
    session_flags_init(&session_flags);
    service_flags_init(&service_flags);
    job_flags_init(&job);
    const struct flag own[] = {
        {.name = "rollouts",
         .kind = FLAG_U32,
         .target = &rollouts,
         .min = 1,
         .max = LIMIT_ROLLOUTS,
         .value = "K",
         .help = "answers to each prompt; default 100"},
        {.name = NULL},
    };
    const struct command_line line = {
        .usage = "calibrate FILE|- --out CALIBRATION [FLAGS]",
        .about = "Draws K answers of the policy to every prompt of FILE and keeps their rewards, "
                 "for jobs with --calibration.\nRun it again after an interruption and it goes on "
                 "at the first missing prompt.\nExit code 0: every prompt has its rewards; 3: some "
                 "failed; 5: interrupted.\nJSON: prompts, new, failed, rollouts, out, finished.",
        .tables = {flags.table, own, job.table, session_flags.table, service_flags.table},
        .n_tables = 5,
        .positional_min = 1,
        .positional_max = 1,
    };
    const char *path = NULL;
    int n_positional = 0;
    bool help = false;
    struct error err;
    int code = CLI_EXIT_OK;
    struct run *run = calloc(1, sizeof *run);
    if (run == NULL) {
        return CLI_EXIT_SYSTEM;
    }
    run->file.fd = -1;
    run->recorded = SIZE_MAX;
    run->job = &job;
    enum status status = flags_parse(&line, argc, argv, &path, &n_positional, &help, &err);
    if (status == STATUS_OK && help) {
        flags_print_help(&line, stdout);
        goto out;
    }
    if (status == STATUS_OK && (flags.out == NULL || flags.retry_failed)) {
        status =
            error_set(&err, STATUS_INVALID_ARGUMENT, flags.out == NULL ? "--out" : "--retry-failed",
                      flags.out == NULL ? "required" : "failed prompts are always done again");
    }
    if (status == STATUS_OK) {
        status = take_job(&job, rollouts, &err);
    }
    if (status == STATUS_OK) {
        status = job_flags_finish(&job, &err);
    }
    if (status == STATUS_OK) {
        status = open_run(run, path, &flags, &err);
    }
    if (status == STATUS_OK) {
        status = session_open(cli, &session_flags, &service_flags, &run->session, &err);
    }
    if (status == STATUS_OK) {
        status = run_items(cli, run, &flags, &err);
    }
    code = status == STATUS_OK ? print_summary(run, flags.out, session_flags.json)
                               : cli_fail(&err, session_flags.json);
out:
    close_run(run);
    free(run);
    job_flags_destroy(&job);
    return code;
}
