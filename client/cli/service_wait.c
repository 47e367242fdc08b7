// Waiting for the groups of a service, and telling why they do not come.
#include <string.h>
#include <unistd.h>

#include "client/cli/service.h"
#include "client/surefoot.h"
#include "common/deadline.h"

enum { PATH_BYTES = SERVICE_PATH_BYTES + 64, LOG_TAIL_BYTES = 2048, STATUS_WAIT_MS = 500 };

static void print_log_tail(const struct service *service, const char *name) {
    char path[PATH_BYTES];
    char text[LOG_TAIL_BYTES + 1];
    snprintf(path, sizeof path, "%s/%s.log", service->directory, name);
    FILE *log = fopen(path, "rb");
    if (log == NULL) {
        return;
    }
    if (fseek(log, -LOG_TAIL_BYTES, SEEK_END) != 0) {
        rewind(log);
    }
    size_t size = fread(text, 1, LOG_TAIL_BYTES, log);
    text[size] = '\0';
    fclose(log);
    fprintf(stderr, "--- end of %s\n%s---\n", path, text);
}

// The process that ended although it should run, or NULL.
static const struct process *find_dead(const struct service *service) {
    for (int i = 0; i < service->n_processes; i++) {
        if (!process_alive(&service->processes[i])) {
            return &service->processes[i];
        }
    }
    return NULL;
}

// A worker ends with 1 or 2 when it cannot serve its models or flags; its first error says why.
static enum status explain_end(const struct service *service, const struct process *dead,
                               struct error *err) {
    int code = process_exit_code(dead);
    bool refused = dead != &service->processes[0] && (code == 1 || code == 2);
    char path[PATH_BYTES];
    char line[512];
    snprintf(path, sizeof path, "%s/%s.log", service->directory, dead->name);
    FILE *log = refused ? fopen(path, "rb") : NULL;
    const char *why = NULL;
    while (log != NULL && why == NULL && fgets(line, sizeof line, log) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        why = strstr(line, "surefoot-worker: ");
    }
    if (log != NULL) {
        fclose(log);
    }
    return why != NULL ? error_set(err, STATUS_INVALID_ARGUMENT, NULL, "%s: %s", dead->name, why)
                       : error_set(err, STATUS_UNAVAILABLE, NULL, "%s ended at once", dead->name);
}

// Whether a group is registered; one that was started anew may still be known from before.
static bool is_registered(const Surefoot__ServiceStatus *state, const char *name, bool fresh,
                          int64_t since_ms) {
    for (size_t i = 0; i < state->n_groups; i++) {
        const Surefoot__GroupStatus *group = state->groups[i];
        if (group->name != NULL && strcmp(group->name, name) == 0) {
            return group->alive &&
                   (!fresh || group->joined_ms < (double)(clock_monotonic_ms() - since_ms));
        }
    }
    return false;
}

// Counts the registered groups; *missing is the first that is not.
static enum status count_registered(struct surefoot_client *client, const struct service *service,
                                    const bool fresh[SERVICE_GROUPS_MAX], int64_t since_ms,
                                    int *count, const char **missing, struct error *err) {
    Surefoot__ServiceStatus *state = NULL;
    enum status status = surefoot_status(client, STATUS_WAIT_MS, &state, err);
    *count = 0;
    *missing = NULL;
    for (int i = 1; status == STATUS_OK && i < service->n_processes; i++) {
        const char *name = service->processes[i].name;
        if (is_registered(state, name, fresh[i - 1], since_ms)) {
            ++*count;
        } else if (*missing == NULL) {
            *missing = name;
        }
    }
    surefoot_status_free(state);
    return status;
}

enum status service_wait_registered(struct cli *cli, const struct service *service,
                                    const bool fresh[SERVICE_GROUPS_MAX], int64_t since_ms,
                                    uint32_t timeout_ms, struct error *err) {
    struct surefoot_client *client = NULL;
    const struct surefoot_options options = {.resend_ms = 200, .wake_fd = cli->signal_fd};
    enum status status = surefoot_client_open(service->client_endpoint, &options, &client, err);
    if (status != STATUS_OK) {
        return status;
    }
    int64_t deadline = since_ms + timeout_ms;
    int n_groups = service->n_processes - 1;
    int count = 0;
    const char *log = service->processes[0].name;
    while (count < n_groups) {
        const struct process *dead = find_dead(service);
        if (dead != NULL) {
            log = dead->name;
            status = explain_end(service, dead, err);
            break;
        }
        if (deadline_passed(deadline)) {
            status = error_set(err, STATUS_DEADLINE, "--start-timeout-ms",
                               "groups registered after %u ms: %d of %d; the first missing is %s",
                               timeout_ms, count, n_groups, log);
            break;
        }
        const char *missing = NULL;
        status = count_registered(client, service, fresh, since_ms, &count, &missing, err);
        log = missing != NULL ? missing : service->processes[0].name;
        if (status != STATUS_OK && status != STATUS_DEADLINE) {
            break;
        }
        if (status == STATUS_OK && count < n_groups) {
            usleep(50000);
        }
    }
    surefoot_client_close(client);
    if (status != STATUS_OK && status != STATUS_CANCELLED) {
        print_log_tail(service, log);
    }
    return status;
}
