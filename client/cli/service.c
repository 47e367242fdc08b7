#include "client/cli/service.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/deadline.h"

enum {
    ARGUMENTS_MAX = 64,
    PATH_BYTES = SERVICE_PATH_BYTES + 64,
    STOP_WAIT_MS = 10000,
};

// An argument vector whose numbers are kept beside it.
struct arguments {
    char *items[ARGUMENTS_MAX];
    int count;
    char numbers[8][16];
    int n_numbers;
};

static void push(struct arguments *arguments, const char *text) {
    ASSERT(arguments->count + 1 < ARGUMENTS_MAX);
    arguments->items[arguments->count++] = (char *)text;
}

static void push_number(struct arguments *arguments, uint32_t number) {
    ASSERT(arguments->n_numbers < 8);
    char *text = arguments->numbers[arguments->n_numbers++];
    snprintf(text, 16, "%u", number);
    push(arguments, text);
}

static void log_path(const struct service *service, const char *name, char out[PATH_BYTES]) {
    snprintf(out, PATH_BYTES, "%s/%s.log", service->directory, name);
}

static enum status start_coordinator(struct cli *cli, struct service *service, bool bound,
                                     struct error *err) {
    char program[PATH_BYTES];
    char store[PATH_BYTES];
    char log[PATH_BYTES];
    snprintf(program, sizeof program, "%s/surefoot-coordinator", cli->program_dir);
    snprintf(store, sizeof store, "%s/store.db", service->directory);
    struct arguments arguments = {0};
    push(&arguments, program);
    push(&arguments, "--client");
    push(&arguments, service->client_endpoint);
    push(&arguments, "--group");
    push(&arguments, service->group_endpoint);
    push(&arguments, "--store");
    push(&arguments, store);
    log_path(service, "coordinator", log);
    return process_start("coordinator", arguments.items, log, bound, &service->processes[0], err);
}

static void push_models(struct arguments *arguments, const struct service_settings *settings) {
    push(arguments, "--policy");
    push(arguments, settings->policy);
    for (int i = 0; i < settings->rewards.count; i++) {
        push(arguments, "--scorer");
        push(arguments, settings->rewards.items[i]);
    }
    for (int i = 0; i < settings->costs.count; i++) {
        push(arguments, "--scorer");
        push(arguments, settings->costs.items[i]);
    }
}

// Shares the machine's cores among all ranks.
static uint32_t threads_by_cores(const struct service_settings *settings) {
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    uint32_t share = cores < 1 ? 1 : (uint32_t)cores / (settings->groups * settings->ranks);
    return share == 0 ? 1 : share;
}

// Starts group `index`, from 0, as processes[index + 1].
static enum status start_group(struct cli *cli, struct service *service, int index, bool bound,
                               struct error *err) {
    const struct service_settings *settings = &service->settings;
    char program[PATH_BYTES];
    char log[PATH_BYTES];
    char name[32];
    snprintf(program, sizeof program, "%s/surefoot-worker", cli->program_dir);
    snprintf(name, sizeof name, "group-%d", index + 1);
    bool mpi = strcmp(settings->comm, "mpi") == 0;
    struct arguments arguments = {0};
    if (mpi) {
        push(&arguments, "mpirun");
        push(&arguments, "-n");
        push_number(&arguments, settings->ranks);
        push(&arguments, "--oversubscribe");
        push(&arguments, "--bind-to");
        push(&arguments, "none");
        push(&arguments, "--mca");
        push(&arguments, "mpi_yield_when_idle");
        push(&arguments, "1");
    }
    push(&arguments, program);
    push(&arguments, "--comm");
    push(&arguments, mpi ? "mpi" : "local");
    if (!mpi) {
        push(&arguments, "--ranks");
        push_number(&arguments, settings->ranks);
    }
    push(&arguments, "--coordinator");
    push(&arguments, service->group_endpoint);
    push(&arguments, "--name");
    push(&arguments, name);
    push_models(&arguments, settings);
    push(&arguments, "--threads");
    push_number(&arguments, settings->threads > 0 ? settings->threads : threads_by_cores(settings));
    push(&arguments, "--precision");
    push(&arguments, settings->precision);
    push(&arguments, "--kv-dtype");
    push(&arguments, settings->kv_dtype);
    if (settings->critic[0] != '\0') {
        push(&arguments, "--critic");
        push(&arguments, settings->critic);
    }
    if (settings->value[0] != '\0') {
        push(&arguments, "--value");
        push(&arguments, settings->value);
    }
    if (settings->slots > 0) {
        push(&arguments, "--slots");
        push_number(&arguments, settings->slots);
    }
    log_path(service, name, log);
    return process_start(name, arguments.items, log, bound, &service->processes[index + 1], err);
}

// Fresh logs: what an earlier service of this directory logged is of no use to a new one.
static void remove_logs(const struct service *service) {
    char log[PATH_BYTES];
    log_path(service, "coordinator", log);
    unlink(log);
    for (uint32_t i = 0; i < service->settings.groups; i++) {
        char name[32];
        snprintf(name, sizeof name, "group-%u", i + 1);
        log_path(service, name, log);
        unlink(log);
    }
}

static void allow_root(void) {
    if (geteuid() == 0) { // mpirun refuses root otherwise
        setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 1);
        setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 1);
    }
}

static void set_endpoints(struct service *service, const char *directory) {
    snprintf(service->directory, sizeof service->directory, "%s", directory);
    snprintf(service->client_endpoint, sizeof service->client_endpoint, "ipc://%.100s/clients",
             directory);
    snprintf(service->group_endpoint, sizeof service->group_endpoint, "ipc://%.100s/groups",
             directory);
}

enum status service_start(struct cli *cli, const struct service_flags *flags, const char *directory,
                          bool bound, struct service *out, struct error *err) {
    memset(out, 0, sizeof *out);
    enum status status = service_settings_make(cli, flags, &out->settings, err);
    if (status != STATUS_OK) {
        return status;
    }
    set_endpoints(out, directory);
    allow_root();
    remove_logs(out);
    int64_t since = clock_monotonic_ms();
    status = start_coordinator(cli, out, bound, err);
    out->n_processes = status == STATUS_OK ? 1 : 0;
    for (uint32_t i = 0; status == STATUS_OK && i < flags->groups; i++) {
        status = start_group(cli, out, (int)i, bound, err);
        out->n_processes += status == STATUS_OK;
    }
    if (status == STATUS_OK) {
        const bool fresh[SERVICE_GROUPS_MAX] = {false};
        status = service_wait_registered(cli, out, fresh, since, flags->start_timeout_ms, err);
    }
    if (status != STATUS_OK) {
        struct error ignored;
        enum status stopped = service_stop(out, &ignored);
        if (stopped != STATUS_OK) {
            fprintf(stderr, "surefoot: %s\n", ignored.message);
        }
    }
    return status;
}

// Starts process `index` of the service in place of what is left of it.
static enum status restart(struct cli *cli, struct service *service, int index, struct error *err) {
    if (index < service->n_processes && !process_stop(&service->processes[index], STOP_WAIT_MS)) {
        return error_set(err, STATUS_INTERNAL, NULL, "what is left of %s did not end",
                         service->processes[index].name);
    }
    // The former life's log may say why it ended; the new one's must not begin with that.
    char log[PATH_BYTES];
    char former[PATH_BYTES + 2];
    char name[32];
    snprintf(name, sizeof name, "group-%d", index);
    log_path(service, index == 0 ? "coordinator" : name, log);
    snprintf(former, sizeof former, "%s.1", log);
    rename(log, former);
    return index == 0 ? start_coordinator(cli, service, false, err)
                      : start_group(cli, service, index - 1, false, err);
}

enum status service_mend(struct cli *cli, struct service *service, uint32_t groups,
                         uint32_t start_timeout_ms, struct service_mended *out, struct error *err) {
    *out = (struct service_mended){0};
    bool started[SERVICE_PROCESSES_MAX] = {false};
    bool grows = groups > service->settings.groups;
    service->settings.groups = grows ? groups : service->settings.groups;
    int wanted = (int)service->settings.groups + 1;
    allow_root();
    int64_t since = clock_monotonic_ms();
    enum status status = STATUS_OK;
    for (int i = 0; status == STATUS_OK && i < wanted; i++) {
        if (i < service->n_processes && process_alive(&service->processes[i])) {
            continue;
        }
        status = restart(cli, service, i, err);
        started[i] = status == STATUS_OK;
        service->n_processes =
            status == STATUS_OK && i == service->n_processes ? i + 1 : service->n_processes;
        out->coordinator = out->coordinator || (started[i] && i == 0);
        out->groups += started[i] && i > 0;
    }
    if (status == STATUS_OK) {
        status = service_wait_registered(cli, service, started + 1, since, start_timeout_ms, err);
    }
    for (int i = wanted - 1; status != STATUS_OK && i >= 0; i--) {
        if (started[i] && !process_stop(&service->processes[i], STOP_WAIT_MS)) {
            fprintf(stderr, "surefoot: %s did not end\n", service->processes[i].name);
        }
    }
    return status;
}

enum status service_stop(const struct service *service, struct error *err) {
    bool all = true;
    // Groups first: a group without its coordinator waits for it.
    for (int i = service->n_processes - 1; i >= 0; i--) {
        all = process_stop(&service->processes[i], STOP_WAIT_MS) && all;
    }
    return all ? STATUS_OK
               : error_set(err, STATUS_INTERNAL, NULL, "a process of the service did not end");
}

bool service_alive(const struct service *service) {
    return service->n_processes > 0 && process_alive(&service->processes[0]);
}
