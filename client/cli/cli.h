// What every verb of the `surefoot` command shares: the process's surroundings, the exit codes, the
// list of verbs. One verb, one file; main.c only picks.
#ifndef CLIENT_CLI_CLI_H
#define CLIENT_CLI_CLI_H

#include <stdbool.h>
#include <stdio.h>

#include "common/status.h"

// Frozen: scripts read them. docs/operations.md lists them.
enum cli_exit {
    CLI_EXIT_OK = 0,
    CLI_EXIT_SYSTEM = 1,      // files, memory, processes
    CLI_EXIT_USAGE = 2,       // bad flags or input, refused by this program or the service
    CLI_EXIT_FAILED = 3,      // a job ended as REJECTED, FAILED, CANCELLED or DEADLINE_EXCEEDED
    CLI_EXIT_NO_SERVICE = 4,  // nothing answers
    CLI_EXIT_INTERRUPTED = 5, // SIGINT or SIGTERM
    CLI_EXIT_REFUSED = 6,     // run, fetch: NO_SAFE_CANDIDATE
    CLI_EXIT_NOT_ENDED = 7,   // fetch: the job still runs
};

struct cli {
    char
        program_dir[4096]; // where this executable stands, and the coordinator and worker beside it
    int signal_fd;         // readable after SIGINT or SIGTERM, both of which are blocked
};

// Finds the program's place and blocks the signals, which are read from the descriptor from here
// on, so that every wait can end on them and what was started is stopped in order. What fails is
// printed. The caller closes signal_fd.
MUST_CHECK enum status cli_open(struct cli *cli);

// A verb gets the arguments after its name and returns its exit code.
typedef int (*verb_fn)(struct cli *cli, int argc, char **argv);

int verb_up(struct cli *cli, int argc, char **argv);
int verb_down(struct cli *cli, int argc, char **argv);
int verb_status(struct cli *cli, int argc, char **argv);
int verb_run(struct cli *cli, int argc, char **argv);
int verb_submit(struct cli *cli, int argc, char **argv);
int verb_fetch(struct cli *cli, int argc, char **argv);
int verb_cancel(struct cli *cli, int argc, char **argv);
int verb_close(struct cli *cli, int argc, char **argv);
int verb_jobs(struct cli *cli, int argc, char **argv);
int verb_purge(struct cli *cli, int argc, char **argv);
int verb_sweep(struct cli *cli, int argc, char **argv);
int verb_calibrate(struct cli *cli, int argc, char **argv);
int verb_compare(struct cli *cli, int argc, char **argv);
int verb_export(struct cli *cli, int argc, char **argv);
int verb_certify(struct cli *cli, int argc, char **argv);
int verb_critic(struct cli *cli, int argc, char **argv);
int verb_models(struct cli *cli, int argc, char **argv);

// Prints the error for people on stderr and, with `json`, as one object on stdout; returns the exit
// code that fits its status.
int cli_fail(const struct error *err, bool json);

#endif
