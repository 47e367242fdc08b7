// surefoot cancel.
#include "client/cli/print.h"
#include "client/cli/session.h"

int verb_cancel(struct cli *cli, int argc, char **argv) {
    struct session_flags session_flags;
    session_flags_init(&session_flags);
    const struct command_line line = {
        .usage = "cancel KEY [FLAGS]",
        .about =
            "Ends a job with outcome CANCELLED unless it has ended already.\nJSON: key, cancelled.",
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
        status = surefoot_cancel(session.client, job_key, session.timeout_ms, &err);
    }
    session_close(&session);
    if (status != STATUS_OK) {
        return cli_fail(&err, session_flags.json);
    }
    if (session_flags.json) {
        json_t *object = json_pack("{s:s, s:b}", "key", job_key, "cancelled", 1);
        return print_json_line(object, stdout) == STATUS_OK ? CLI_EXIT_OK : CLI_EXIT_SYSTEM;
    }
    printf("%s cancelled\n", job_key);
    return CLI_EXIT_OK;
}
