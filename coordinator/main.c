// surefoot-coordinator: flags, signals, and the loop of coordinator.h.
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "common/log.h"
#include "coordinator/coordinator.h"

enum exit_code {
    EXIT_CODE_OK = 0,
    EXIT_CODE_INTERNAL = 1,
    EXIT_CODE_USAGE = 2,
    EXIT_CODE_ADDRESS = 3,
    EXIT_CODE_STORE = 4,
};

enum { LARGE_BLOCK_BYTES = 128 << 10 };

static const char help[] =
    "usage: surefoot-coordinator [flags]\n"
    "\n"
    "Accepts jobs from clients, searches them on worker groups, keeps the results.\n"
    "\n"
    "  --client ENDPOINT    clients' address (default tcp://127.0.0.1:7420); port 0 takes a free "
    "one\n"
    "  --group ENDPOINT     worker groups' address (default tcp://127.0.0.1:7421)\n"
    "  --store FILE         jobs and results (default surefoot.db); created when absent\n"
    "  --heartbeat-ms N     interval of heartbeats, 10..60000 (default 1000)\n"
    "  --dead-after-ms N    silence after which a group counts as dead (default 5 heartbeats)\n"
    "  --jobs-max N         jobs stored and not yet closed, 1..1048576 (default 1048576)\n"
    "  --bytes-max N        bytes of jobs and results stored and not yet closed (default 16 GiB)\n"
    "  --retain-hours N     results that nobody closes are dropped so long after they were\n"
    "                       stored, 0..87600; 0: never (default 720)\n"
    "  --running-max N      jobs searched at once, 1..4096 (default 64)\n"
    "  --ready-file FILE    written once both addresses are bound: lines client=..., group=..., "
    "pid=... (default none)\n"
    "  --log-level LEVEL    error, warn, info, debug (default info)\n"
    "  --version, --help\n"
    "\n"
    "Addresses are tcp://127.0.0.1:PORT, tcp://[::1]:PORT or ipc://PATH. SIGTERM and SIGINT stop "
    "it;\n"
    "unfinished jobs run again, with the same results, after the next start.\n"
    "\n"
    "Exit codes: 0 stopped by a signal, 1 internal failure, 2 bad flag, 3 an address cannot be "
    "bound,\n"
    "4 the store cannot be used.\n";

struct flags {
    struct coordinator_options options;
    const char *ready_file;
    int log_level;
};

static bool parse_number(const char *text, long long low, long long high, const char *flag,
                         long long *out) {
    char *end = NULL;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || value < low || value > high) {
        fprintf(stderr, "surefoot-coordinator: --%s %s: not a number in %lld..%lld\n", flag, text,
                low, high);
        return false;
    }
    *out = value;
    return true;
}

static bool take_flag(int letter, const char *name, struct flags *flags) {
    long long number = 0;
    switch (letter) {
    case 'c':
        flags->options.client_endpoint = optarg;
        return true;
    case 'g':
        flags->options.group_endpoint = optarg;
        return true;
    case 's':
        flags->options.store_path = optarg;
        return true;
    case 'r':
        flags->ready_file = optarg;
        return true;
    case 'b':
        if (!parse_number(optarg, 10, 60000, name, &number)) {
            return false;
        }
        flags->options.heartbeat_ms = (int)number;
        return true;
    case 'd':
        if (!parse_number(optarg, 10, 3600000, name, &number)) {
            return false;
        }
        flags->options.dead_after_ms = (int)number;
        return true;
    case 'j':
        if (!parse_number(optarg, 1, 1 << 20, name, &number)) {
            return false;
        }
        flags->options.jobs_max = (uint64_t)number;
        return true;
    case 'y':
        if (!parse_number(optarg, 1, LLONG_MAX, name, &number)) {
            return false;
        }
        flags->options.bytes_max = (uint64_t)number;
        return true;
    case 'k':
        if (!parse_number(optarg, 0, 87600, name, &number)) {
            return false;
        }
        flags->options.retain_ms = number == 0 ? -1 : (int64_t)number * 3600 * 1000;
        return true;
    case 'n':
        if (!parse_number(optarg, 1, 4096, name, &number)) {
            return false;
        }
        flags->options.running_max = (uint32_t)number;
        return true;
    case 'l':
        flags->log_level = log_level_parse(optarg);
        if (flags->log_level < 0) {
            fprintf(stderr,
                    "surefoot-coordinator: --log-level %s: one of error, warn, info, debug\n",
                    optarg);
        }
        return flags->log_level >= 0;
    default:
        fprintf(stderr, "surefoot-coordinator: see --help\n");
        return false;
    }
}

// Returns -1 to go on, else the exit code.
static int parse_flags(int argc, char **argv, struct flags *flags) {
    static const struct option options[] = {
        {"client", required_argument, NULL, 'c'},
        {"group", required_argument, NULL, 'g'},
        {"store", required_argument, NULL, 's'},
        {"heartbeat-ms", required_argument, NULL, 'b'},
        {"dead-after-ms", required_argument, NULL, 'd'},
        {"jobs-max", required_argument, NULL, 'j'},
        {"bytes-max", required_argument, NULL, 'y'},
        {"retain-hours", required_argument, NULL, 'k'},
        {"running-max", required_argument, NULL, 'n'},
        {"ready-file", required_argument, NULL, 'r'},
        {"log-level", required_argument, NULL, 'l'},
        {"version", no_argument, NULL, 'v'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    *flags = (struct flags){
        .options = {.client_endpoint = "tcp://127.0.0.1:7420",
                    .group_endpoint = "tcp://127.0.0.1:7421",
                    .store_path = "surefoot.db"},
        .log_level = LOG_LEVEL_INFO,
    };
    int letter;
    int index = 0;
    while ((letter = getopt_long(argc, argv, "", options, &index)) != -1) {
        if (letter == 'h') {
            fputs(help, stdout);
            return EXIT_CODE_OK;
        }
        if (letter == 'v') {
            printf("surefoot-coordinator %s\n", SUREFOOT_VERSION);
            return EXIT_CODE_OK;
        }
        if (!take_flag(letter, options[index].name, flags)) {
            return EXIT_CODE_USAGE;
        }
    }
    if (optind < argc) {
        fprintf(stderr, "surefoot-coordinator: unexpected argument %s\n", argv[optind]);
        return EXIT_CODE_USAGE;
    }
    return -1;
}

// Whole or not at all, for scripts that wait for the file to appear.
static bool write_ready_file(const char *path, const struct coordinator *coordinator) {
    char temporary[PATH_MAX];
    if (snprintf(temporary, sizeof temporary, "%s.new", path) >= (int)sizeof temporary) {
        log_error("--ready-file: the path is too long");
        return false;
    }
    FILE *file = fopen(temporary, "w");
    bool written =
        file != NULL &&
        fprintf(file, "client=%s\ngroup=%s\npid=%ld\n", coordinator_client_endpoint(coordinator),
                coordinator_group_endpoint(coordinator), (long)getpid()) > 0;
    if (file != NULL && fclose(file) != 0) {
        written = false;
    }
    if (!written || rename(temporary, path) != 0) {
        log_error("--ready-file %s: %s", path, strerror(errno));
        return false;
    }
    return true;
}

static int exit_code_of(const struct error *err) {
    if (strcmp(err->field, "store") == 0) {
        return EXIT_CODE_STORE;
    }
    if (strncmp(err->field, "client", 6) == 0 || strncmp(err->field, "group", 5) == 0) {
        return EXIT_CODE_ADDRESS;
    }
    return err->status == STATUS_INVALID_ARGUMENT || err->status == STATUS_LIMIT
               ? EXIT_CODE_USAGE
               : EXIT_CODE_INTERNAL;
}

static int run(const struct flags *flags, int stop_fd) {
    struct coordinator *coordinator = NULL;
    struct error err = {0};
    if (coordinator_open(&flags->options, &coordinator, &err) != STATUS_OK) {
        log_error("%s%s%s", err.field, err.field[0] != '\0' ? ": " : "", err.message);
        return exit_code_of(&err);
    }
    log_info("version %s, clients at %s, groups at %s", SUREFOOT_VERSION,
             coordinator_client_endpoint(coordinator), coordinator_group_endpoint(coordinator));
    int code = EXIT_CODE_INTERNAL;
    if (flags->ready_file == NULL || write_ready_file(flags->ready_file, coordinator)) {
        code =
            coordinator_run(coordinator, stop_fd) == STATUS_OK ? EXIT_CODE_OK : EXIT_CODE_INTERNAL;
    }
    coordinator_close(coordinator);
    log_info("stopped");
    return code;
}

int main(int argc, char **argv) {
    struct flags flags;
    int code = parse_flags(argc, argv, &flags);
    if (code >= 0) {
        return code;
    }
    // Blocks of a message's size go back to the system when they are freed, instead of leaving
    // holes.
    mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK_BYTES);
    mallopt(M_TRIM_THRESHOLD, LARGE_BLOCK_BYTES);
    log_init("coordinator", (enum log_level)flags.log_level);
    // Blocked before any thread starts, so that signals come through the descriptor alone.
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    signal(SIGPIPE, SIG_IGN);
    int stop_fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
    if (stop_fd < 0) {
        log_error("signalfd: %s", strerror(errno));
        return EXIT_CODE_INTERNAL;
    }
    code = run(&flags, stop_fd);
    close(stop_fd);
    return code;
}
