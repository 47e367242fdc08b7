// surefoot run: one prompt, from submission to result.
#include "client/cli/job_flags.h"
#include "client/cli/outcome.h"
#include "client/cli/session.h"
#include "client/cli/watch.h"

enum { FETCH_WAIT_MS = 1000 };

// Waits as long as the job takes; a deadline of the job itself ends it at the service.
static enum status wait_result(struct session *session, const char *job_key, uint32_t patience_ms,
                               Surefoot__JobResult **result, struct error *err) {
    struct watch watch;
    watch_init(&watch, session->client, session->timeout_ms, patience_ms);
    enum status status = STATUS_OK;
    while (status == STATUS_OK && *result == NULL) {
        status = surefoot_fetch(session->client, job_key, FETCH_WAIT_MS, watch_timeout(&watch),
                                result, err);
        if (status == STATUS_DEADLINE || (status == STATUS_OK && *result == NULL)) {
            status = watch_look(&watch, err);
        }
    }
    return status;
}

static enum status run_job(struct session *session, struct job_flags *job, uint32_t patience_ms,
                           Surefoot__JobResult **result, struct error *err) {
    char job_key[SUREFOOT_KEY_BYTES];
    const struct surefoot_submit args = {.spec = &job->spec, .timeout_ms = session->timeout_ms};
    enum status status = surefoot_submit(session->client, &args, job_key, NULL, err);
    if (status != STATUS_OK) {
        return status;
    }
    status = wait_result(session, job_key, patience_ms, result, err);
    if (status != STATUS_OK) {
        if (!session->private_service) {
            fprintf(stderr, "surefoot: the job goes on; `surefoot fetch %s` waits for it\n",
                    job_key);
        }
        return status;
    }
    // The result is in hand; a stored copy that stays costs only space at the service.
    struct error ignored;
    if (surefoot_close_job(session->client, job_key, session->timeout_ms, &ignored) != STATUS_OK) {
        fprintf(stderr, "surefoot: the stored result stays: %s\n", ignored.message);
    }
    return STATUS_OK;
}

int verb_run(struct cli *cli, int argc, char **argv) {
    struct session_flags session_flags;
    struct service_flags service_flags;
    struct job_flags job;
    struct outcome_view view = {0};
    session_flags_init(&session_flags);
    service_flags_init(&service_flags);
    job_flags_init(&job);
    uint32_t patience_ms = 60000;
    const struct flag own[] = {
        watch_flag(&patience_ms),
        {.name = "details", .kind = FLAG_SWITCH, .target = &view.details, .help = "in JSON"},
        {.name = "show-unsafe",
         .kind = FLAG_SWITCH,
         .target = &view.show_unsafe,
         .help = "show an answer that is over budget"},
        {.name = NULL},
    };
    const struct command_line line = {
        .usage = "run PROMPT [FLAGS]",
        .about = "Answers one prompt with the running service, or starts one for this call and "
                 "stops it after.\nExit code 0 answered, 6 refused, 3 otherwise ended.\n" //
        OUTCOME_JSON_HELP,
        .tables = {job.table, session_flags.table, own, service_flags.table},
        .n_tables = 4,
        .positional_min = 1,
        .positional_max = 1,
    };
    const char *prompt = NULL;
    int n_positional = 0;
    bool help = false;
    struct error err;
    struct session session = {0};
    Surefoot__JobResult *result = NULL;
    int code = CLI_EXIT_OK;
    enum status status = flags_parse(&line, argc, argv, &prompt, &n_positional, &help, &err);
    if (status == STATUS_OK && help) {
        flags_print_help(&line, stdout);
        goto out;
    }
    if (status == STATUS_OK) {
        status = job_flags_finish(&job, &err);
    }
    if (status == STATUS_OK) {
        job_flags_set_prompt(&job, prompt);
        status = job_flags_calibrate(&job, &job.spec, &err);
    }
    if (status == STATUS_OK) {
        status = session_open(cli, &session_flags, &service_flags, &session, &err);
    }
    if (status == STATUS_OK) {
        status = run_job(&session, &job, patience_ms, &result, &err);
    }
    if (status != STATUS_OK) {
        status = calibration_name_refusal(&job.calibration_file, &err);
    }
    session_close(&session);
    view.json = session_flags.json;
    code = status == STATUS_OK ? outcome_print(result, &view) : cli_fail(&err, view.json);
out:
    surefoot_result_free(result);
    job_flags_destroy(&job);
    return code;
}
