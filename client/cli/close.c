// surefoot close.
#include "client/cli/print.h"
#include "client/cli/session.h"

int verb_close(struct cli *cli, int argc, char **argv) {
    struct session_flags session_flags;
    session_flags_init(&session_flags);
    const struct command_line line = {
        .usage = "close KEY [FLAGS]",
        .about = "Drops a job's stored result; its key is then free again. Safe to repeat.\nJSON: "
                 "key, closed.",
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
        status = surefoot_close_job(session.client, job_key, session.timeout_ms, &err);
    }
    session_close(&session);
    if (status != STATUS_OK) {
        return cli_fail(&err, session_flags.json);
    }
    if (session_flags.json) {
        json_t *object = json_pack("{s:s, s:b}", "key", job_key, "closed", 1);
        return print_json_line(object, stdout) == STATUS_OK ? CLI_EXIT_OK : CLI_EXIT_SYSTEM;
    }
    printf("%s closed\n", job_key);
    return CLI_EXIT_OK;
}
