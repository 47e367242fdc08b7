#include "client/cli/service.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/surefoot.h"
#include "common/deadline.h"

enum {
    ARGUMENTS_MAX = 64,
    PATH_BYTES = SERVICE_PATH_BYTES + 64,
    STATUS_WAIT_MS = 500,
    STOP_WAIT_MS = 10000,
    LOG_TAIL_BYTES = 2048,
    MODELS_PER_ROLE_MAX = LIMIT_SCORERS,
};

static struct flag count_flag(const char *name, uint32_t *target, double min, double max,
                              const char *help) {
    return (struct flag){.name = name,
                         .kind = FLAG_U32,
                         .target = target,
                         .min = min,
                         .max = max,
                         .value = "N",
                         .help = help};
}

void service_flags_init(struct service_flags *flags) {
    *flags = (struct service_flags){.groups = 1, .ranks = 1, .timeout_s = 60};
    struct flag *at = flags->table;
    *at++ = count_flag("groups", &flags->groups, 1, SERVICE_GROUPS_MAX, "worker groups, default 1");
    *at++ = count_flag("ranks", &flags->ranks, 1, LIMIT_RANKS, "ranks of each group, default 1");
    *at++ = count_flag("threads", &flags->threads, 0, 256,
                       "threads of each rank, 0: the cores, shared out");
    *at++ = count_flag("slots", &flags->slots, 0, 4096,
                       "candidates of each rank at once, 0: the worker's default");
    *at++ = count_flag("timeout-s", &flags->timeout_s, 1, 86400,
                       "until all groups are registered, default 60");
    *at++ = (struct flag){.name = "precision",
                          .kind = FLAG_TEXT,
                          .target = &flags->precision,
                          .value = "NAME",
                          .help = "of products: stored, bf16, int8; default stored"};
    *at++ = (struct flag){.name = "kv-dtype",
                          .kind = FLAG_TEXT,
                          .target = &flags->kv_dtype,
                          .value = "NAME",
                          .help = "of keys and values: f32, f16, bf16, int8; default f32"};
    *at++ = (struct flag){.name = "policy",
                          .kind = FLAG_TEXT,
                          .target = &flags->policy,
                          .value = "DIR",
                          .help = "model that writes; default: the shipped models"};
    *at++ = (struct flag){.name = "reward",
                          .kind = FLAG_LIST,
                          .target = &flags->rewards,
                          .value = "NAME=DIR",
                          .help = "reward model; repeatable"};
    *at++ = (struct flag){.name = "cost",
                          .kind = FLAG_LIST,
                          .target = &flags->costs,
                          .value = "NAME=DIR",
                          .help = "cost model; repeatable"};
    *at++ =
        (struct flag){.name = "comm",
                      .kind = FLAG_TEXT,
                      .target = &flags->comm,
                      .value = "mpi|local",
                      .help = "ranks as MPI processes or as threads; default: mpi if installed"};
    ASSERT(at < flags->table + SERVICE_FLAGS_COUNT);
}

// The models that a group loads.
struct model_paths {
    char policy[PATH_BYTES];
    char rewards[MODELS_PER_ROLE_MAX][PATH_BYTES]; // NAME=DIR
    char costs[MODELS_PER_ROLE_MAX][PATH_BYTES];
    int n_rewards;
    int n_costs;
};

static bool is_directory(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

enum status service_find_models(const struct cli *cli, char out[SERVICE_PATH_BYTES],
                                struct error *err) {
    const char *given = getenv("SUREFOOT_MODELS");
    if (given != NULL) {
        snprintf(out, SERVICE_PATH_BYTES, "%s", given);
        return is_directory(out) ? STATUS_OK
                                 : error_set(err, STATUS_NOT_FOUND, "SUREFOOT_MODELS",
                                             "%s is not a directory", given);
    }
    static const char *const places[] = {"../../models/demo", "../../../models/demo",
                                         "../share/surefoot/models/demo"};
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        char policy[SERVICE_PATH_BYTES + 16];
        snprintf(out, SERVICE_PATH_BYTES, "%.4000s/%s", cli->program_dir, places[i]);
        snprintf(policy, sizeof policy, "%s/policy", out);
        if (is_directory(policy)) {
            return STATUS_OK;
        }
    }
    return error_set(err, STATUS_NOT_FOUND, "--policy",
                     "no models given, and the shipped ones are not found from %.100s; set "
                     "SUREFOOT_MODELS",
                     cli->program_dir);
}

static enum status copy_list(const char *flag, const struct flag_list *list,
                             char out[MODELS_PER_ROLE_MAX][PATH_BYTES], int *count,
                             struct error *err) {
    if (list->count > MODELS_PER_ROLE_MAX) {
        return error_set(err, STATUS_LIMIT, flag, "%d are above the limit %d", list->count,
                         MODELS_PER_ROLE_MAX);
    }
    for (int i = 0; i < list->count; i++) {
        const char *equals = strchr(list->items[i], '=');
        if (equals == NULL || equals == list->items[i] ||
            equals - list->items[i] > LIMIT_NAME_BYTES || !is_directory(equals + 1)) {
            return error_set(err, STATUS_INVALID_ARGUMENT, flag,
                             "\"%.120s\" is not NAME=DIR with an existing directory",
                             list->items[i]);
        }
        snprintf(out[i], PATH_BYTES, "%s", list->items[i]);
    }
    *count = list->count;
    return STATUS_OK;
}

static enum status find_models(const struct cli *cli, const struct service_flags *flags,
                               struct model_paths *out, struct error *err) {
    if (flags->policy == NULL && flags->rewards.count + flags->costs.count > 0) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "--policy",
                         "needed when --reward or --cost is given");
    }
    if (flags->policy != NULL) {
        snprintf(out->policy, sizeof out->policy, "%s", flags->policy);
        if (!is_directory(out->policy)) {
            return error_set(err, STATUS_NOT_FOUND, "--policy", "%s is not a directory",
                             flags->policy);
        }
        enum status status =
            copy_list("--reward", &flags->rewards, out->rewards, &out->n_rewards, err);
        return status != STATUS_OK
                   ? status
                   : copy_list("--cost", &flags->costs, out->costs, &out->n_costs, err);
    }
    char shipped[SERVICE_PATH_BYTES];
    enum status status = service_find_models(cli, shipped, err);
    if (status == STATUS_OK) {
        snprintf(out->policy, sizeof out->policy, "%s/policy", shipped);
        snprintf(out->rewards[0], PATH_BYTES, "reward=%s/reward", shipped);
        snprintf(out->costs[0], PATH_BYTES, "cost=%s/cost", shipped);
        out->n_rewards = 1;
        out->n_costs = 1;
    }
    return status;
}

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

static bool have_mpirun(void) {
    const char *path = getenv("PATH");
    char candidate[PATH_BYTES];
    while (path != NULL && *path != '\0') {
        size_t length = strcspn(path, ":");
        snprintf(candidate, sizeof candidate, "%.*s/mpirun", (int)length, path);
        if (access(candidate, X_OK) == 0) {
            return true;
        }
        path += length + (path[length] == ':');
    }
    return false;
}

// A fresh log: what an earlier service of this directory logged is of no use to this one.
static void make_log(const struct service *service, const char *name, char out[PATH_BYTES]) {
    snprintf(out, PATH_BYTES, "%s/%s.log", service->directory, name);
    unlink(out);
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
    make_log(service, "coordinator", log);
    enum status status =
        process_start("coordinator", arguments.items, log, bound, &service->processes[0], err);
    service->n_processes = status == STATUS_OK ? 1 : 0;
    return status;
}

static void push_models(struct arguments *arguments, const struct model_paths *models) {
    push(arguments, "--policy");
    push(arguments, models->policy);
    for (int i = 0; i < models->n_rewards; i++) {
        push(arguments, "--scorer");
        push(arguments, models->rewards[i]);
    }
    for (int i = 0; i < models->n_costs; i++) {
        push(arguments, "--scorer");
        push(arguments, models->costs[i]);
    }
}

// Shares the machine's cores among all ranks.
static uint32_t threads_by_cores(const struct service_flags *flags) {
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    uint32_t share = cores < 1 ? 1 : (uint32_t)cores / (flags->groups * flags->ranks);
    return share == 0 ? 1 : share;
}

static enum status start_group(struct cli *cli, const struct service_flags *flags,
                               const struct model_paths *models, struct service *service, int index,
                               bool bound, struct error *err) {
    char program[PATH_BYTES];
    char log[PATH_BYTES];
    char name[32];
    snprintf(program, sizeof program, "%s/surefoot-worker", cli->program_dir);
    snprintf(name, sizeof name, "group-%d", index + 1);
    bool mpi = flags->comm != NULL ? strcmp(flags->comm, "mpi") == 0 : have_mpirun();
    struct arguments arguments = {0};
    if (mpi) {
        push(&arguments, "mpirun");
        push(&arguments, "-n");
        push_number(&arguments, flags->ranks);
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
        push_number(&arguments, flags->ranks);
    }
    push(&arguments, "--coordinator");
    push(&arguments, service->group_endpoint);
    push(&arguments, "--name");
    push(&arguments, name);
    push_models(&arguments, models);
    push(&arguments, "--threads");
    push_number(&arguments, flags->threads > 0 ? flags->threads : threads_by_cores(flags));
    if (flags->precision != NULL) {
        push(&arguments, "--precision");
        push(&arguments, flags->precision);
    }
    if (flags->kv_dtype != NULL) {
        push(&arguments, "--kv-dtype");
        push(&arguments, flags->kv_dtype);
    }
    if (flags->slots > 0) {
        push(&arguments, "--slots");
        push_number(&arguments, flags->slots);
    }
    make_log(service, name, log);
    enum status status = process_start(name, arguments.items, log, bound,
                                       &service->processes[service->n_processes], err);
    service->n_processes += status == STATUS_OK;
    return status;
}

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

static enum status count_alive(struct surefoot_client *client, uint32_t *count, struct error *err) {
    Surefoot__ServiceStatus *state = NULL;
    enum status status = surefoot_status(client, STATUS_WAIT_MS, &state, err);
    *count = 0;
    for (size_t i = 0; status == STATUS_OK && i < state->n_groups; i++) {
        *count += state->groups[i]->alive != 0;
    }
    surefoot_status_free(state);
    return status;
}

// Ends early when a process ends or a signal comes.
static enum status wait_registered(struct cli *cli, const struct service_flags *flags,
                                   const struct service *service, struct error *err) {
    struct surefoot_client *client = NULL;
    const struct surefoot_options options = {.resend_ms = 200, .wake_fd = cli->signal_fd};
    enum status status = surefoot_client_open(service->client_endpoint, &options, &client, err);
    if (status != STATUS_OK) {
        return status;
    }
    int64_t deadline = deadline_after_ms((int64_t)flags->timeout_s * 1000);
    uint32_t alive = 0;
    const char *log = "coordinator";
    while (alive < flags->groups) {
        const struct process *dead = find_dead(service);
        if (dead != NULL) {
            log = dead->name;
            status = explain_end(service, dead, err);
            break;
        }
        if (deadline_passed(deadline)) {
            log = status == STATUS_OK ? "group-1" : "coordinator";
            status = error_set(err, STATUS_DEADLINE, "--timeout-s",
                               "%u of %u groups are registered after %u s", alive, flags->groups,
                               flags->timeout_s);
            break;
        }
        status = count_alive(client, &alive, err);
        if (status != STATUS_OK && status != STATUS_DEADLINE) {
            break;
        }
        if (status == STATUS_OK && alive < flags->groups) {
            usleep(50000);
        }
    }
    surefoot_client_close(client);
    if (status != STATUS_OK && status != STATUS_CANCELLED) {
        print_log_tail(service, log);
    }
    return status;
}

enum status service_start(struct cli *cli, const struct service_flags *flags, const char *directory,
                          bool bound, struct service *out, struct error *err) {
    if (flags->comm != NULL && strcmp(flags->comm, "mpi") != 0 &&
        strcmp(flags->comm, "local") != 0) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "--comm", "\"%.40s\" is not mpi or local",
                         flags->comm);
    }
    struct model_paths *models = calloc(1, sizeof *models);
    if (models == NULL) {
        return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for paths");
    }
    enum status status = find_models(cli, flags, models, err);
    if (status == STATUS_OK) {
        *out = (struct service){0};
        snprintf(out->directory, sizeof out->directory, "%s", directory);
        snprintf(out->client_endpoint, sizeof out->client_endpoint, "ipc://%.100s/clients",
                 directory);
        snprintf(out->group_endpoint, sizeof out->group_endpoint, "ipc://%.100s/groups", directory);
        if (geteuid() == 0) { // mpirun refuses root otherwise
            setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 1);
            setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 1);
        }
        status = start_coordinator(cli, out, bound, err);
        for (uint32_t i = 0; status == STATUS_OK && i < flags->groups; i++) {
            status = start_group(cli, flags, models, out, (int)i, bound, err);
        }
        if (status == STATUS_OK) {
            status = wait_registered(cli, flags, out, err);
        }
        if (status != STATUS_OK) {
            struct error ignored;
            enum status stopped = service_stop(out, &ignored);
            if (stopped != STATUS_OK) {
                fprintf(stderr, "surefoot: %s\n", ignored.message);
            }
        }
    }
    free(models);
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
