// Child processes that lead a session of their own: start, watch, end with everything they started.
#ifndef CLIENT_CLI_PROCESS_H
#define CLIENT_CLI_PROCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/status.h"

// Identity that outlives the parent: a pid alone may be taken again by another process.
struct process {
    char name[32];
    pid_t pid;            // also its session
    uint64_t start_ticks; // /proc/<pid>/stat field 22
};

// Runs argv[0] (a path, or a name looked up in PATH) in a new session, stdin from /dev/null, stdout
// and stderr appended to log_path. With `bound` it gets SIGTERM when this process dies.
// STATUS_NOT_FOUND: argv[0] cannot be run; STATUS_IO.
MUST_CHECK enum status process_start(const char *name, char *const *argv, const char *log_path,
                                     bool bound, struct process *out, struct error *err);

// True while the process itself runs. An ended child is left for process_stop to reap.
bool process_alive(const struct process *process);

// Exit code of an ended child that is not yet reaped; -1 of others and of those that a signal
// ended.
int process_exit_code(const struct process *process);

// Ends every process of the session: SIGTERM, then SIGKILL after timeout_ms. True when none is
// left.
bool process_stop(const struct process *process, int timeout_ms);

#endif
