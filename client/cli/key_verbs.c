// surefoot cancel and surefoot close: one request about one job.
#include "client/cli/print.h"
#include "client/cli/session.h"

struct key_verb {
    const char *usage;
    const char *about;
    const char *past; // what has been done to the job
    enum status (*request)(struct surefoot_client *client, const char *job_key, int timeout_ms,
                           struct error *err);
};

static int run_key_verb(const struct key_verb *verb, struct cli *cli, int argc, char **argv) {
    struct session_flags session_flags;
    session_flags_init(&session_flags);
    const struct command_line line = {
        .usage = verb->usage,
        .about = verb->about,
        .tables = {session_flags.table},
        .n_tables = 1,
        .positional_min = 1,
        .positional_max = 1,
    };
    const char *job_key = NULL;
    int n_positional = 0;
    bool help = false;
    struct error err;
    struct session session = {0};
    enum status status = flags_parse(&line, argc, argv, &job_key, &n_positional, &help, &err);
    if (status == STATUS_OK && help) {
        flags_print_help(&line, stdout);
        return CLI_EXIT_OK;
    }
    if (status == STATUS_OK) {
        status = session_open(cli, &session_flags, NULL, &session, &err);
    }
    if (status == STATUS_OK) {
        status = verb->request(session.client, job_key, session.timeout_ms, &err);
    }
    session_close(&session);
    if (status != STATUS_OK) {
        return cli_fail(&err, session_flags.json);
    }
    if (session_flags.json) {
        json_t *object = json_pack("{s:s, s:b}", "key", job_key, verb->past, 1);
        return print_json_line(object, stdout) == STATUS_OK ? CLI_EXIT_OK : CLI_EXIT_SYSTEM;
    }
    printf("%s %s\n", job_key, verb->past);
    return CLI_EXIT_OK;
}

int verb_cancel(struct cli *cli, int argc, char **argv) {
    static const struct key_verb cancel = {
        .usage = "cancel KEY [FLAGS]",
        .about =
            "Ends a job with outcome CANCELLED unless it has ended already.\nJSON: key, cancelled.",
        .past = "cancelled",
        .request = surefoot_cancel,
    };
    return run_key_verb(&cancel, cli, argc, argv);
}

// The service answers a close of an unknown key as one of a known key, so that a lost answer can be
// asked for again. A person who names an unknown key is told, as by cancel.
static enum status close_known(struct surefoot_client *client, const char *job_key, int timeout_ms,
                               struct error *err) {
    Surefoot__JobResult *result = NULL;
    enum status status = surefoot_fetch(client, job_key, 0, timeout_ms, &result, err);
    surefoot_result_free(result);
    return status == STATUS_OK ? surefoot_close_job(client, job_key, timeout_ms, err) : status;
}

int verb_close(struct cli *cli, int argc, char **argv) {
    static const struct key_verb close = {
        .usage = "close KEY [FLAGS]",
        .about = "Drops a job's stored result; its key is then free again.\nJSON: key, "
                 "closed.",
        .past = "closed",
        .request = close_known,
    };
    return run_key_verb(&close, cli, argc, argv);
}
