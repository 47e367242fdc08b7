#include "client/cli/process.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/deadline.h"

enum { STEP_MS = 20, KILL_WAIT_MS = 2000 };

struct process_stat {
    char state;
    int session;
    uint64_t start_ticks;
};

static bool read_stat(pid_t pid, struct process_stat *out) {
    char path[64];
    char text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return false;
    }
    ssize_t size = read(fd, text, sizeof text - 1);
    close(fd);
    if (size <= 0) {
        return false;
    }
    text[size] = '\0';
    // The name in parentheses may hold anything, so count the fields from its end.
    const char *after = strrchr(text, ')');
    unsigned long long ticks = 0;
    int session = 0;
    char state = 0;
    int read_count = after == NULL
                         ? 0
                         : sscanf(after + 1,
                                  " %c %*d %*d %d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d "
                                  "%*d %*d %*d %llu",
                                  &state, &session, &ticks);
    *out = (struct process_stat){.state = state, .session = session, .start_ticks = ticks};
    return read_count == 3;
}

// In the child: never returns. An errno goes to `report` when the program cannot be run.
static void run_child(char *const *argv, const char *log_path, bool bound, pid_t parent,
                      int report) {
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setsid();
    if (bound) {
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        // The parent may have gone before the line above.
        if (getppid() != parent) {
            _exit(127);
        }
    }
    int input = open("/dev/null", O_RDONLY);
    int log = open(log_path, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (input >= 0 && log >= 0 && dup2(input, 0) >= 0 && dup2(log, 1) >= 0 && dup2(log, 2) >= 0) {
        execvp(argv[0], argv);
    }
    int code = errno;
    ssize_t ignored = write(report, &code, sizeof code);
    (void)ignored;
    _exit(127);
}

enum status process_start(const char *name, char *const *argv, const char *log_path, bool bound,
                          struct process *out, struct error *err) {
    int report[2];
    if (pipe2(report, O_CLOEXEC) != 0) {
        return error_set(err, status_from_errno(errno), NULL, "pipe: %s", strerror(errno));
    }
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid == 0) {
        run_child(argv, log_path, bound, parent, report[1]);
    }
    close(report[1]);
    if (pid < 0) {
        close(report[0]);
        return error_set(err, status_from_errno(errno), NULL, "fork: %s", strerror(errno));
    }
    // Closed by a successful exec, so this waits for the exec and no longer.
    int code = 0;
    ssize_t size = read(report[0], &code, sizeof code);
    close(report[0]);
    if (size > 0) {
        waitpid(pid, NULL, 0);
        return error_set(err, status_from_errno(code), NULL, "cannot run %s: %s", argv[0],
                         strerror(code));
    }
    struct process_stat stat = {0};
    read_stat(pid, &stat);
    *out = (struct process){.pid = pid, .start_ticks = stat.start_ticks};
    snprintf(out->name, sizeof out->name, "%s", name);
    return STATUS_OK;
}

int process_exit_code(const struct process *process) {
    siginfo_t info = {.si_pid = 0};
    if (waitid(P_PID, (id_t)process->pid, &info, WEXITED | WNOHANG | WNOWAIT) != 0 ||
        info.si_pid != process->pid || info.si_code != CLD_EXITED) {
        return -1;
    }
    return info.si_status;
}

bool process_alive(const struct process *process) {
    struct process_stat stat;
    return read_stat(process->pid, &stat) && stat.state != 'Z' &&
           stat.start_ticks == process->start_ticks;
}

// Signals the living processes of the session; returns how many there are.
static int signal_session(const struct process *process, int number) {
    struct process_stat leader;
    if (read_stat(process->pid, &leader) && leader.start_ticks != process->start_ticks) {
        return 0; // the number belongs to a stranger now, so the session is gone
    }
    DIR *directory = opendir("/proc");
    if (directory == NULL) {
        return 0;
    }
    int count = 0;
    for (struct dirent *entry = readdir(directory); entry != NULL; entry = readdir(directory)) {
        pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10); // 0 for names that are no number
        struct process_stat stat;
        if (pid > 1 && read_stat(pid, &stat) && stat.session == process->pid && stat.state != 'Z' &&
            kill(pid, number) == 0) {
            count++;
        }
    }
    closedir(directory);
    return count;
}

static bool wait_gone(const struct process *process, int timeout_ms) {
    int64_t deadline = deadline_after_ms(timeout_ms);
    const struct timespec step = {.tv_nsec = STEP_MS * 1000000L};
    for (;;) {
        bool gone = signal_session(process, 0) == 0;
        waitpid(process->pid, NULL, WNOHANG); // after the look, so that no ended child is left
        if (gone) {
            return true;
        }
        if (deadline_passed(deadline)) {
            return false;
        }
        nanosleep(&step, NULL);
    }
}

bool process_stop(const struct process *process, int timeout_ms) {
    // The leader ends its own children in order (mpirun does); stragglers are ended below.
    if (process_alive(process)) {
        kill(process->pid, SIGTERM);
    } else {
        signal_session(process, SIGTERM);
    }
    if (wait_gone(process, timeout_ms)) {
        return true;
    }
    signal_session(process, SIGKILL);
    return wait_gone(process, KILL_WAIT_MS);
}
