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

// Starts what is missing of a service that `surefoot down` has not ended.
static enum status mend(struct cli *cli, const struct service_flags *flags, struct service *service,
                        struct service_mended *mended, struct error *err) {
    enum status status = service_settings_check(cli, &service->settings, flags, true, err);
    return status == STATUS_OK
               ? service_mend(cli, service, flags->groups, flags->start_timeout_ms, mended, err)
               : status;
}

static enum status start(struct cli *cli, const struct service_flags *flags, const char *directory,
                         struct service *service, struct service_mended *mended,
                         struct error *err) {
    service_remove_stale(directory);
    enum status status = service_load(directory, service, err);
    bool known = status == STATUS_OK && service->settings.groups > 0;
    if (status == STATUS_OK && !known) {
        return error_set(err, STATUS_ALREADY_EXISTS, "--dir",
                         "another version started a service in %s; `surefoot down` first",
                         directory);
    }
    if (known) {
        status = mend(cli, flags, service, mended, err);
        return status == STATUS_OK ? service_save(service, err) : status;
    }
    if (status != STATUS_NOT_FOUND) {
        return status;
    }
    status = service_start(cli, flags, directory, false, service, err);
    if (status != STATUS_OK) {
        return status;
    }
    *mended = (struct service_mended){.coordinator = true, .groups = flags->groups};
    status = service_save(service, err);
    if (status != STATUS_OK) {
        struct error ignored;
        enum status stopped = service_stop(service, &ignored);
        return stopped == STATUS_OK ? status : stopped;
    }
    return STATUS_OK;
}

static void print_up(const struct service *service, const struct service_mended *mended) {
    const struct service_settings *settings = &service->settings;
    bool all = mended->coordinator && mended->groups == settings->groups;
    printf("up: %u group%s of %u rank%s at %s\n", settings->groups, print_plural(settings->groups),
           settings->ranks, print_plural(settings->ranks), service->client_endpoint);
    if (!all && !mended->coordinator && mended->groups == 0) {
        printf("all of it was up already\n");
    } else if (!all) {
        printf("started now: %s%u group%s; the rest was up already\n",
               mended->coordinator ? "the coordinator, " : "", mended->groups,
               print_plural(mended->groups));
    }
    printf("logs and store: %s\n", service->directory);
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
                 "registered. Of a service\nthat was not taken down it starts what has died, and "
                 "more groups if "
                 "--groups asks for them; other flags must\nfit what runs.\n"
                 "JSON: client_endpoint, group_endpoint, directory, groups, ranks, "
                 "started{coordinator, groups}.",
        .tables = {flags.table, own},
        .n_tables = 2,
    };
    int n_positional = 0;
    bool help = false;
    struct error err;
    struct service service = {0};
    struct service_mended mended = {0};
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
        status = lock < 0 ? err.status : start(cli, &flags, directory, &service, &mended, &err);
    }
    if (lock >= 0) {
        close(lock);
    }
    if (status != STATUS_OK) {
        return cli_fail(&err, json);
    }
    if (json) {
        json_t *object = json_pack(
            "{s:s, s:s, s:s, s:i, s:i, s:{s:b, s:i}}", "client_endpoint", service.client_endpoint,
            "group_endpoint", service.group_endpoint, "directory", service.directory, "groups",
            (int)service.settings.groups, "ranks", (int)service.settings.ranks, "started",
            "coordinator", mended.coordinator, "groups", (int)mended.groups);
        return print_json_line(object, stdout) == STATUS_OK ? CLI_EXIT_OK : CLI_EXIT_SYSTEM;
    }
    print_up(&service, &mended);
    return CLI_EXIT_OK;
}
