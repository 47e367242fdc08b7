#include "client/cli/cli.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

enum status cli_open(struct cli *cli) {
    ssize_t length = readlink("/proc/self/exe", cli->program_dir, sizeof cli->program_dir - 1);
    if (length <= 0) {
        fprintf(stderr, "surefoot: cannot find the program's own place: %s\n", strerror(errno));
        return status_from_errno(errno);
    }
    cli->program_dir[length] = '\0';
    *strrchr(cli->program_dir, '/') = '\0';
    sigset_t watched;
    sigemptyset(&watched);
    sigaddset(&watched, SIGINT);
    sigaddset(&watched, SIGTERM);
    sigprocmask(SIG_BLOCK, &watched, NULL);
    cli->signal_fd = signalfd(-1, &watched, SFD_CLOEXEC | SFD_NONBLOCK);
    if (cli->signal_fd < 0) {
        fprintf(stderr, "surefoot: signalfd: %s\n", strerror(errno));
        return status_from_errno(errno);
    }
    return STATUS_OK;
}
