// Real programs in tests: started with their output in a file, watched with deadlines, killed on
// request. Output is printed only when a test asks for it (on failure). What a failed test leaves
// running is killed when its program ends.
#ifndef TESTS_SUPPORT_PROCESS_H
#define TESTS_SUPPORT_PROCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct process {
    pid_t pid;           // also its process group, so that children die with it; 0 when not running
    char log_path[4096]; // stdout and stderr
};

// Starts argv[0] (a path, or a name in $PATH) with its output appended to log_path. Fails the test
// when it cannot.
void process_start(struct process *process, const char *log_path, char *const argv[]);

// Sends `signal` to the process alone, or to it and all its children.
void process_signal(struct process *process, int signal);
void process_signal_group(struct process *process, int signal);

// Waits for the end; *exit_code is 128 + signal when one killed it. False when it took too long.
bool process_wait(struct process *process, int timeout_ms, int *exit_code);

// SIGTERM, then SIGKILL to the group after timeout_ms; does nothing when it is not running.
void process_stop(struct process *process, int timeout_ms);

// Waits until `condition(context)` is true, looking about every 10 ms. False at the deadline.
bool process_wait_until(bool (*condition)(void *context), void *context, int timeout_ms);

// Prints the last 60 lines of the log, for a test that is about to fail.
void process_print_log(const struct process *process);

#endif
