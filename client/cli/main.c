// The `surefoot` command: picks a verb.
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "client/cli/cli.h"
#include "client/cli/presets.h"

struct verb {
    const char *name;
    verb_fn run;
    const char *help;
};

enum { HELP_WORDS_MAX = 2 }; // a verb, and one of models' own

static const struct verb verbs[] = {
    {"up", verb_up, "start a coordinator and worker groups on this machine"},
    {"down", verb_down, "stop them"},
    {"status", verb_status, "groups, models and jobs of the service"},
    {"run", verb_run, "answer one prompt"},
    {"submit", verb_submit, "hand in a job and print its key"},
    {"fetch", verb_fetch, "wait for a job's result"},
    {"cancel", verb_cancel, "end a job"},
    {"close", verb_close, "drop a job's stored result"},
    {"jobs", verb_jobs, "list the jobs that the service keeps"},
    {"purge", verb_purge, "drop old results"},
    {"sweep", verb_sweep, "answer every prompt of a file; goes on where it was interrupted"},
    {"calibrate", verb_calibrate, "gather rewards of other answers to the prompts of a file"},
    {"compare", verb_compare, "answer them with several methods side by side; goes on likewise"},
    {"export", verb_export, "write the answers of a sweep in the form of another tool"},
    {"certify", verb_certify, "certify how often answers are unsafe, as a judge outside sees it"},
    {"critic", verb_critic, "critic train FILE: predict how texts will end; critic check FILE"},
    {"models", verb_models,
     "models check MODEL: can it be served? models render MODEL: its chat template"},
};

static void print_help(FILE *out) {
    fprintf(out, "usage: surefoot VERB [ARGUMENTS]\n\n");
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++) {
        fprintf(out, "  %-9s %s\n", verbs[i].name, verbs[i].help);
    }
    fprintf(out, "  %-9s %s\n", "help",
            "help VERB: what it does, and its flags; help presets: published settings");
    fprintf(out,
            "\n`surefoot VERB --help` does too; `surefoot --version` prints the version.\n"
            "Exit codes: 0 done, 1 system error, 2 bad flags or input, 3 a job failed,\n"
            "4 no service answers, 5 interrupted, 6 refused (no safe candidate), 7 not ended.\n");
}

// Runs the verb argv[0] with the arguments after it. A NULL ends argv.
static int run_verb(int argc, char **argv) {
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++) {
        if (strcmp(argv[0], verbs[i].name) == 0) {
            struct cli cli;
            if (cli_open(&cli) != STATUS_OK) {
                return CLI_EXIT_SYSTEM;
            }
            int code = verbs[i].run(&cli, argc - 1, argv + 1);
            close(cli.signal_fd);
            return code;
        }
    }
    fprintf(stderr, "surefoot: %s: no such verb; see surefoot help\n", argv[0]);
    return CLI_EXIT_USAGE;
}

// help, help presets; help VERB, help models render: each is --help of what it names.
static int help(int argc, char **argv) {
    if (argc == 0) {
        print_help(stdout);
        return CLI_EXIT_OK;
    }
    if (argc == 1 && strcmp(argv[0], "presets") == 0) {
        presets_print(stdout);
        return CLI_EXIT_OK;
    }
    if (argc > HELP_WORDS_MAX) {
        fprintf(stderr, "surefoot: %s: one argument too many; usage: surefoot help [VERB]\n",
                argv[HELP_WORDS_MAX]);
        return CLI_EXIT_USAGE;
    }
    char *words[HELP_WORDS_MAX + 2] = {NULL};
    memcpy(words, argv, (size_t)argc * sizeof *words);
    words[argc] = (char *)"--help";
    return run_verb(argc + 1, words);
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
    return strcmp(argv[1], "help") == 0 ? help(argc - 2, argv + 2) : run_verb(argc - 1, argv + 1);
}
