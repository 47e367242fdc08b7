// surefoot submit.
#include "client/cli/job_flags.h"
#include "client/cli/print.h"
#include "client/cli/session.h"

static int print_accepted(const char *job_key, bool duplicate, bool json) {
    if (json) {
        json_t *object = json_pack("{s:s, s:b}", "key", job_key, "duplicate", duplicate);
        return print_json_line(object, stdout) == STATUS_OK ? CLI_EXIT_OK : CLI_EXIT_SYSTEM;
    }
    printf("%s\n", job_key);
    return CLI_EXIT_OK;
}

int verb_submit(struct cli *cli, int argc, char **argv) {
    struct session_flags session_flags;
    struct job_flags job;
    const char *given_key = NULL;
    session_flags_init(&session_flags);
    job_flags_init(&job);
    const struct flag own[] = {
        {.name = "key",
         .kind = FLAG_TEXT,
         .target = &given_key,
         .value = "KEY",
         .help = "the same key again is the same job; default: a random one"},
        {.name = NULL},
    };
    const struct command_line line = {
        .usage = "submit PROMPT [FLAGS]",
        .about = "Hands in a job and prints its key, for fetch, cancel and close. The job is "
                 "stored when this returns.\nJSON: key, duplicate.",
        .tables = {job.table, session_flags.table, own},
        .n_tables = 3,
        .positional_min = 1,
        .positional_max = 1,
    };
    const char *prompt = NULL;
    int n_positional = 0;
    bool help = false;
    struct error err;
    struct session session = {0};
    char job_key[SUREFOOT_KEY_BYTES] = "";
    bool duplicate = false;
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
        status = session_open(cli, &session_flags, NULL, &session, &err);
    }
    if (status == STATUS_OK) {
        const struct surefoot_submit args = {
            .spec = &job.spec, .job_key = given_key, .timeout_ms = session.timeout_ms};
        status = surefoot_submit(session.client, &args, job_key, &duplicate, &err);
    }
    if (status != STATUS_OK) {
        status = calibration_name_refusal(&job.calibration_file, &err);
    }
    session_close(&session);
    code = status == STATUS_OK ? print_accepted(job_key, duplicate, session_flags.json)
                               : cli_fail(&err, session_flags.json);
out:
    job_flags_destroy(&job);
    return code;
}
