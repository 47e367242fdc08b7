// surefoot down: ends what `surefoot up` started.
#include "client/cli/print.h"
#include "client/cli/service.h"

int verb_down(struct cli *cli, int argc, char **argv) {
    (void)cli;
    const char *given = NULL;
    int json = 0;
    const struct flag own[] = {
        {.name = "dir",
         .kind = FLAG_TEXT,
         .target = &given,
         .value = "STATE_DIR",
         .help = "of `surefoot up`; default as there"},
        {.name = "json", .kind = FLAG_SWITCH, .target = &json, .help = "print one JSON object"},
        {.name = NULL},
    };
    const struct command_line line = {
        .usage = "down [FLAGS]",
        .about = "Stops the groups and the coordinator. Stored jobs stay for the next `up`.\n"
                 "JSON: stopped (processes).",
        .tables = {own},
        .n_tables = 1,
    };
    int n_positional = 0;
    bool help = false;
    struct error err;
    struct service service = {0};
    char directory[SERVICE_PATH_BYTES];
    enum status status = flags_parse(&line, argc, argv, NULL, &n_positional, &help, &err);
    if (status == STATUS_OK && help) {
        flags_print_help(&line, stdout);
        return CLI_EXIT_OK;
    }
    if (status == STATUS_OK) {
        status = service_directory(given, directory, &err);
    }
    if (status == STATUS_OK) {
        status = service_load(directory, &service, &err);
    }
    if (status == STATUS_OK) {
        status = service_stop(&service, &err);
    }
    if (status != STATUS_OK) {
        return cli_fail(&err, json);
    }
    service_forget(&service);
    if (json) {
        json_t *object = json_pack("{s:i}", "stopped", service.n_processes);
        return print_json_line(object, stdout) == STATUS_OK ? CLI_EXIT_OK : CLI_EXIT_SYSTEM;
    }
    printf("down: %d process%s stopped\n", service.n_processes,
           service.n_processes == 1 ? "" : "es");
    return CLI_EXIT_OK;
}
