// The `surefoot` command: picks a verb.
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "client/cli/cli.h"

struct verb {
    const char *name;
    verb_fn run;
    const char *help;
};

static const struct verb verbs[] = {
    {"up", verb_up, "start a coordinator and worker groups on this machine"},
    {"down", verb_down, "stop them"},
    {"status", verb_status, "groups, models and jobs of the service"},
    {"run", verb_run, "answer one prompt"},
    {"submit", verb_submit, "hand in a job and print its key"},
    {"fetch", verb_fetch, "wait for a job's result"},
    {"cancel", verb_cancel, "end a job"},
    {"close", verb_close, "drop a job's stored result"},
    {"sweep", verb_sweep, "answer every prompt of a file; goes on where it was interrupted"},
    {"compare", verb_compare, "answer the prompts of a file with several methods side by side"},
    {"models", verb_models, "models check MODEL: can it be served? models render MODEL: its chat template"},
};

static void print_help(FILE *out) {
    fprintf(out, "usage: surefoot VERB [ARGUMENTS]\n\n");
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++) {
        fprintf(out, "  %-8s %s\n", verbs[i].name, verbs[i].help);
    }
    fprintf(out,
            "\n`surefoot VERB --help` lists its flags, `surefoot --version` the version.\n"
            "Exit codes: 0 done, 1 system error, 2 bad flags or input, 3 a job failed,\n"
            "4 no service answers, 5 interrupted, 6 refused (no safe candidate), 7 not ended.\n");
}

int main(int argc, char **argv) {
    if (argc >= 2 && strcmp(argv[1], "--version") == 0) {
        printf("surefoot %s\n", SUREFOOT_VERSION);
        return CLI_EXIT_OK;
    }
    if (argc < 2 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        print_help(argc < 2 ? stderr : stdout);
        return argc < 2 ? CLI_EXIT_USAGE : CLI_EXIT_OK;
    }
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++) {
        if (strcmp(argv[1], verbs[i].name) == 0) {
            struct cli cli;
            if (cli_open(&cli) != STATUS_OK) {
                return CLI_EXIT_SYSTEM;
            }
            int code = verbs[i].run(&cli, argc - 2, argv + 2);
            close(cli.signal_fd);
            return code;
        }
    }
    fprintf(stderr, "surefoot: %s: no such verb; see surefoot --help\n", argv[1]);
    return CLI_EXIT_USAGE;
}
