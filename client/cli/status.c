// surefoot status.
#include "client/cli/print.h"
#include "client/cli/session.h"

int verb_status(struct cli *cli, int argc, char **argv) {
    struct session_flags flags;
    session_flags_init(&flags);
    const struct command_line line = {
        .usage = "status [FLAGS]",
        .about =
            "Shows groups, models and jobs of the service.\n"
            "JSON: version, uptime_ms, busy_ms, jobs_queued, jobs_running, jobs_done, groups[name, "
            "alive,\nn_ranks, slots, slots_busy, orders_done, tokens, rebuilt_tokens, "
            "heartbeat_age_ms, "
            "joined_ms, order_ms,\ndecode_ms, score_ms, collective_ms, models[name, role, hash, "
            "precision,\nkv_dtype, parameter_count, context_length, vocab_size, chat_template, "
            "cost_mode, "
            "cost_eos, budget,\ncost_min, discount, generation{temperature, ...}]].",
        .tables = {flags.table},
        .n_tables = 1,
    };
    int n_positional = 0;
    bool help = false;
    struct error err;
    struct session session = {0};
    Surefoot__ServiceStatus *state = NULL;
    enum status status = flags_parse(&line, argc, argv, NULL, &n_positional, &help, &err);
    if (status == STATUS_OK && help) {
        flags_print_help(&line, stdout);
        return CLI_EXIT_OK;
    }
    if (status == STATUS_OK) {
        status = session_open(cli, &flags, NULL, &session, &err);
    }
    if (status == STATUS_OK) {
        status = surefoot_status(session.client, session.timeout_ms, &state, &err);
    }
    session_close(&session);
    if (status != STATUS_OK) {
        return cli_fail(&err, flags.json);
    }
    if (flags.json) {
        status = print_json_line(print_status_json(state), stdout);
    } else {
        print_service_status(state, stdout);
    }
    surefoot_status_free(state);
    return status == STATUS_OK ? CLI_EXIT_OK : CLI_EXIT_SYSTEM;
}
