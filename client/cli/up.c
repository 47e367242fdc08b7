// surefoot up: a service that stays.
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "client/cli/print.h"
#include "client/cli/service.h"

// Held while the state of a directory changes, so that two commands do not both start a service.
static int lock_directory(const char *directory, struct error *err) {
    char path[SERVICE_PATH_BYTES + 8];
    snprintf(path, sizeof path, "%s/lock", directory);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0) {
        return fd;
    }
    error_set(err, fd < 0 ? status_from_errno(errno) : STATUS_ALREADY_EXISTS, "--dir",
              "another command is starting a service in %s", directory);
    if (fd >= 0) {
        close(fd);
    }
    return -1;
}

static enum status start(struct cli *cli, const struct service_flags *flags, const char *directory,
                         struct service *service, struct error *err) {
    service_remove_stale(directory);
    enum status status = service_load(directory, service, err);
    if (status == STATUS_OK && service_alive(service)) {
        return error_set(err, STATUS_ALREADY_EXISTS, "--dir",
                         "a service is up in %s already, at %s", directory,
                         service->client_endpoint);
    }
    if (status == STATUS_OK) { // its coordinator died: end what is left of it
        status = service_stop(service, err);
        if (status != STATUS_OK) {
            return status;
        }
    }
    status = service_start(cli, flags, directory, false, service, err);
    if (status != STATUS_OK) {
        return status;
    }
    status = service_save(service, err);
    if (status != STATUS_OK) {
        struct error ignored;
        enum status stopped = service_stop(service, &ignored);
        return stopped == STATUS_OK ? status : stopped;
    }
    return STATUS_OK;
}

int verb_up(struct cli *cli, int argc, char **argv) {
    struct service_flags flags;
    service_flags_init(&flags);
    const char *given = NULL;
    int json = 0;
    const struct flag own[] = {
        {.name = "dir",
         .kind = FLAG_TEXT,
         .target = &given,
         .value = "STATE_DIR",
         .help = "sockets, store, logs and state; default $XDG_RUNTIME_DIR/surefoot or "
                 "/tmp/surefoot-UID"},
        {.name = "json", .kind = FLAG_SWITCH, .target = &json, .help = "print one JSON object"},
        {.name = NULL},
    };
    const struct command_line line = {
        .usage = "up [FLAGS]",
        .about = "Starts a coordinator and worker groups and returns when every group is "
                 "registered.\nJSON: client_endpoint, group_endpoint, directory, groups, ranks.",
        .tables = {flags.table, own},
        .n_tables = 2,
    };
    int n_positional = 0;
    bool help = false;
    struct error err;
    struct service service = {0};
    char directory[SERVICE_PATH_BYTES];
    int lock = -1;
    enum status status = flags_parse(&line, argc, argv, NULL, &n_positional, &help, &err);
    if (status == STATUS_OK && help) {
        flags_print_help(&line, stdout);
        return CLI_EXIT_OK;
    }
    if (status == STATUS_OK) {
        status = service_directory(given, directory, &err);
    }
    if (status == STATUS_OK) {
        lock = lock_directory(directory, &err);
        status = lock < 0 ? err.status : start(cli, &flags, directory, &service, &err);
    }
    if (lock >= 0) {
        close(lock);
    }
    if (status != STATUS_OK) {
        return cli_fail(&err, json);
    }
    if (json) {
        json_t *object =
            json_pack("{s:s, s:s, s:s, s:i, s:i}", "client_endpoint", service.client_endpoint,
                      "group_endpoint", service.group_endpoint, "directory", service.directory,
                      "groups", (int)flags.groups, "ranks", (int)flags.ranks);
        return print_json_line(object, stdout) == STATUS_OK ? CLI_EXIT_OK : CLI_EXIT_SYSTEM;
    }
    printf("up: %u group%s of %u rank%s at %s\nlogs and store: %s\n", flags.groups,
           flags.groups == 1 ? "" : "s", flags.ranks, flags.ranks == 1 ? "" : "s",
           service.client_endpoint, service.directory);
    return CLI_EXIT_OK;
}
