#include "client/cli/worker_run.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/deadline.h"

enum { MISSING_PROGRAM = 127 /* as a shell has it */ };

// In the child: never returns.
static void run_child(char *const *argv, int out, bool both) {
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (dup2(out, 1) >= 0 && (!both || dup2(out, 2) >= 0)) {
        execv(argv[0], argv);
    }
    fprintf(stderr, "cannot run %s: %s\n", argv[0], strerror(errno));
    fflush(stderr);
    _exit(127);
}

// Room for one more piece, and a NUL behind it.
static enum status make_room(struct worker_run *run, struct error *err) {
    if (run->capacity - run->size > 1) {
        return STATUS_OK;
    }
    size_t capacity = 2 * run->capacity + 16384;
    char *output = realloc(run->output, capacity);
    if (output == NULL) {
        return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for what the worker prints");
    }
    run->output = output;
    run->capacity = capacity;
    return STATUS_OK;
}

// Reads all that the child prints, until it ends, the deadline passes or a signal comes.
static enum status read_output(struct cli *cli, struct worker_run *run, int in, int64_t timeout_ms,
                               struct error *err) {
    int64_t deadline = deadline_after_ms(timeout_ms);
    char rest[256]; // what is above the limit is read and dropped
    for (;;) {
        struct pollfd ready[] = {{.fd = in, .events = POLLIN},
                                 {.fd = cli->signal_fd, .events = POLLIN}};
        if (poll(ready, 2, deadline_left_ms(deadline)) <= 0) {
            return error_set(err, STATUS_DEADLINE, "--timeout-ms", "the check took above %lld ms",
                             (long long)timeout_ms);
        }
        if (ready[1].revents != 0) {
            return error_set(err, STATUS_CANCELLED, NULL, "interrupted");
        }
        bool room = run->size < WORKER_OUTPUT_BYTES_MAX;
        enum status status = room ? make_room(run, err) : STATUS_OK;
        if (status != STATUS_OK) {
            return status;
        }
        ssize_t count = read(in, room ? run->output + run->size : rest,
                             room ? run->capacity - run->size - 1 : sizeof rest);
        if (count <= 0) {
            return STATUS_OK;
        }
        run->size += room ? (size_t)count : 0;
        run->output[run->size] = '\0';
    }
}

static enum status run_program(struct cli *cli, char *const *argv, int64_t timeout_ms, bool both,
                               struct worker_run *run, struct error *err) {
    int ends[2];
    *run = (struct worker_run){0};
    enum status status = make_room(run, err);
    if (status != STATUS_OK) {
        return status;
    }
    run->output[0] = '\0';
    if (pipe(ends) != 0) {
        return error_set(err, status_from_errno(errno), NULL, "pipe: %s", strerror(errno));
    }
    pid_t pid = fork();
    if (pid == 0) {
        close(ends[0]);
        run_child(argv, ends[1], both);
    }
    close(ends[1]);
    status = pid < 0 ? error_set(err, status_from_errno(errno), NULL, "fork: %s", strerror(errno))
                     : read_output(cli, run, ends[0], timeout_ms, err);
    close(ends[0]);
    if (pid < 0) {
        return status;
    }
    if (status != STATUS_OK) {
        kill(pid, SIGKILL);
    }
    int state = 0;
    waitpid(pid, &state, 0);
    run->good = WIFEXITED(state) && WEXITSTATUS(state) == 0;
    if (status == STATUS_OK && WIFEXITED(state) && WEXITSTATUS(state) == MISSING_PROGRAM) {
        return error_set(err, STATUS_IO, NULL, "%.200s",
                         run->output[0] != '\0' ? run->output : argv[0]);
    }
    return status;
}

enum status worker_run(struct cli *cli, char *const *argv, uint32_t timeout_ms,
                       struct worker_run *run, struct error *err) {
    return run_program(cli, argv, timeout_ms, true, run, err);
}

enum status worker_run_at_length(struct cli *cli, char *const *argv, struct worker_run *run,
                                 struct error *err) {
    return run_program(cli, argv, INT64_MAX, false, run, err);
}

void worker_run_finish(struct worker_run *run) {
    free(run->output);
    *run = (struct worker_run){0};
}
