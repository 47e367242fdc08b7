// Runs a program of the worker's, which alone read models and train, and takes what it prints.
#ifndef CLIENT_CLI_WORKER_RUN_H
#define CLIENT_CLI_WORKER_RUN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/cli/cli.h"

enum { WORKER_OUTPUT_BYTES_MAX = 64 << 20 }; // what is above it is dropped

struct worker_run {
    char *output; // [size], owned, NUL-terminated: both streams, or stdout alone
    size_t size;
    size_t capacity;
    bool good; // it ended with 0
};

// argv[0] is the program, NULL ends argv. STATUS_DEADLINE after timeout_ms (field --timeout-ms),
// STATUS_CANCELLED by a signal; STATUS_IO: it cannot be run. Release with worker_run_finish(), on
// failure too. Blocks.
MUST_CHECK enum status worker_run(struct cli *cli, char *const *argv, uint32_t timeout_ms,
                                  struct worker_run *run, struct error *err);

// The same, as long as it takes, with stderr left to the program: it shows its progress there.
MUST_CHECK enum status worker_run_at_length(struct cli *cli, char *const *argv,
                                            struct worker_run *run, struct error *err);
void worker_run_finish(struct worker_run *run);

#endif
