#include "tests/support/process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/deadline.h"
#include "tests/support/testkit.h"

extern char **environ;

// Process groups that were started and not seen to end: a failed assertion leaves the test before it
// stops them, so the program does at its end.
enum { RUNNING_MAX = 256 };
static pid_t running[RUNNING_MAX];

static void kill_running(void) {
    for (int i = 0; i < RUNNING_MAX; i++) {
        if (running[i] > 0) {
            kill(-running[i], SIGKILL);
        }
    }
}

static void replace_running(pid_t old, pid_t new) {
    for (int i = 0; i < RUNNING_MAX; i++) {
        if (running[i] == old) {
            running[i] = new;
            return;
        }
    }
}

static void remember(pid_t pid) {
    static bool registered;
    if (!registered) {
        registered = atexit(kill_running) == 0;
    }
    replace_running(0, pid);
}

void process_start(struct process *process, const char *log_path, char *const argv[]) {
    snprintf(process->log_path, sizeof process->log_path, "%s", log_path);
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions, 1, log_path, O_WRONLY | O_CREAT | O_APPEND, 0600);
    posix_spawn_file_actions_adddup2(&actions, 1, 2);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
    posix_spawnattr_setpgroup(&attributes, 0);
    int error = posix_spawnp(&process->pid, argv[0], &actions, &attributes, argv, environ);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    if (error != 0) {
        process->pid = 0;
        fail_msg("cannot start %s: %s", argv[0], strerror(error));
    }
    remember(process->pid);
}

void process_signal(struct process *process, int signal) {
    assert_true(process->pid > 0);
    kill(process->pid, signal);
}

void process_signal_group(struct process *process, int signal) {
    assert_true(process->pid > 0);
    kill(-process->pid, signal);
}

bool process_wait_until(bool (*condition)(void *context), void *context, int timeout_ms) {
    int64_t deadline = deadline_after_ms(timeout_ms);
    while (!condition(context)) {
        if (deadline_passed(deadline)) {
            return false;
        }
        poll(NULL, 0, 10);
    }
    return true;
}

struct exit_wait {
    struct process *process;
    int exit_code;
};

static bool has_ended(void *context) {
    struct exit_wait *wait = context;
    int status;
    pid_t pid = waitpid(wait->process->pid, &status, WNOHANG);
    if (pid == 0 || (pid < 0 && errno == EINTR)) {
        return false;
    }
    wait->exit_code = pid < 0               ? -1
                      : WIFSIGNALED(status) ? 128 + WTERMSIG(status)
                                            : WEXITSTATUS(status);
    return true;
}

bool process_wait(struct process *process, int timeout_ms, int *exit_code) {
    assert_true(process->pid > 0);
    struct exit_wait wait = {.process = process};
    if (!process_wait_until(has_ended, &wait, timeout_ms)) {
        return false;
    }
    replace_running(process->pid, 0);
    process->pid = 0;
    if (exit_code != NULL) {
        *exit_code = wait.exit_code;
    }
    return true;
}

void process_stop(struct process *process, int timeout_ms) {
    if (process->pid <= 0) {
        return;
    }
    pid_t group = process->pid;
    process_signal(process, SIGTERM);
    if (!process_wait(process, timeout_ms, NULL)) {
        process_signal_group(process, SIGKILL);
        process_wait(process, timeout_ms, NULL);
    }
    kill(-group, SIGKILL);
}

void process_print_log(const struct process *process) {
    size_t size;
    char *text = testkit_read_file(process->log_path, &size);
    char *start = text + size;
    for (int lines = 0; start > text && lines <= 60; start--) {
        lines += start[-1] == '\n' ? 1 : 0;
    }
    print_message("--- %s\n%s---\n", process->log_path, start);
    free(text);
}
