// surefoot fetch.
#include "client/cli/outcome.h"
#include "client/cli/print.h"
#include "client/cli/session.h"

static int print_not_ended(const char *job_key, bool json) {
    if (json) {
        json_t *object = json_pack("{s:s, s:s}", "key", job_key, "state", "NOT_ENDED");
        return print_json_line(object, stdout) == STATUS_OK ? CLI_EXIT_NOT_ENDED : CLI_EXIT_SYSTEM;
    }
    printf("%s has not ended\n", job_key);
    return CLI_EXIT_NOT_ENDED;
}

int verb_fetch(struct cli *cli, int argc, char **argv) {
    struct session_flags session_flags;
    struct outcome_view view = {0};
    uint32_t wait_ms = 0;
    session_flags_init(&session_flags);
    const struct flag own[] = {
        {.name = "wait-ms",
         .kind = FLAG_U32,
         .target = &wait_ms,
         .max = LIMIT_DEADLINE_MS,
         .value = "N",
         .help = "wait so long for the job to end, default 0"},
        {.name = "details", .kind = FLAG_SWITCH, .target = &view.details, .help = "in JSON"},
        {.name = "show-unsafe",
         .kind = FLAG_SWITCH,
         .target = &view.show_unsafe,
         .help = "show an answer that is over budget"},
        {.name = NULL},
    };
    const struct command_line line = {
        .usage = "fetch KEY [FLAGS]",
        .about = "Prints a job's result, which stays stored until `surefoot close`. Exit code 7: "
                 "it has not ended;\nthen JSON: key, state.\n" OUTCOME_JSON_HELP,
        .tables = {session_flags.table, own},
        .n_tables = 2,
        .positional_min = 1,
        .positional_max = 1,
    };
    const char *job_key = NULL;
    int n_positional = 0;
    bool help = false;
    struct error err;
    struct session session = {0};
    Surefoot__JobResult *result = NULL;
    enum status status = flags_parse(&line, argc, argv, &job_key, &n_positional, &help, &err);
    if (status == STATUS_OK && help) {
        flags_print_help(&line, stdout);
        return CLI_EXIT_OK;
    }
    if (status == STATUS_OK) {
        status = session_open(cli, &session_flags, NULL, &session, &err);
    }
    if (status == STATUS_OK) {
        status =
            surefoot_fetch(session.client, job_key, wait_ms, session.timeout_ms, &result, &err);
    }
    session_close(&session);
    view.json = session_flags.json;
    if (status != STATUS_OK) {
        return cli_fail(&err, view.json);
    }
    int code = result == NULL ? print_not_ended(job_key, view.json) : outcome_print(result, &view);
    surefoot_result_free(result);
    return code;
}
