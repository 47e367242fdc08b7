#include "client/cli/service_settings.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

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
    *flags = (struct service_flags){.groups = 1, .ranks = 1, .start_timeout_ms = 60000};
    struct flag *at = flags->table;
    *at++ = count_flag("groups", &flags->groups, 1, SERVICE_GROUPS_MAX, "worker groups, default 1");
    *at++ = count_flag("ranks", &flags->ranks, 1, LIMIT_RANKS, "ranks of each group, default 1");
    *at++ = count_flag("threads", &flags->threads, 0, 256,
                       "threads of each rank, 0: the cores, shared out; default 0");
    *at++ = count_flag("slots", &flags->slots, 0, 4096,
                       "candidates of each rank at once; default 0: the worker's");
    *at++ = count_flag("start-timeout-ms", &flags->start_timeout_ms, 1, LIMIT_DEADLINE_MS,
                       "until all groups are registered, default 60000");
    *at++ = (struct flag){
        .name = "timeout-s", .kind = FLAG_RENAMED, .help = "--start-timeout-ms, milliseconds,"};
    *at++ = (struct flag){.name = "precision",
                          .kind = FLAG_TEXT,
                          .target = &flags->precision,
                          .value = "NAME",
                          .help = "of products: stored, bf16, int8, q4; default stored"};
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
    *at++ = (struct flag){.name = "latent-critic",
                          .kind = FLAG_TEXT,
                          .target = &flags->critic,
                          .value = "FILE",
                          .help = "of `surefoot critic train`, for jobs with --critic; "
                                  "default none"};
    *at++ = (struct flag){.name = "value",
                          .kind = FLAG_TEXT,
                          .target = &flags->value,
                          .value = "FILE",
                          .help = "of `surefoot critic train --form value`, for --method "
                                  "re-control; default none"};
    *at++ = (struct flag){.name = "reward",
                          .kind = FLAG_LIST,
                          .target = &flags->rewards,
                          .value = "NAME=DIR",
                          .help = "reward model; repeatable; default the shipped one"};
    *at++ = (struct flag){.name = "cost",
                          .kind = FLAG_LIST,
                          .target = &flags->costs,
                          .value = "NAME=DIR",
                          .help = "cost model; repeatable; default the shipped one"};
    *at++ =
        (struct flag){.name = "comm",
                      .kind = FLAG_TEXT,
                      .target = &flags->comm,
                      .value = "mpi|local",
                      .help = "ranks as MPI processes or as threads; default: mpi if installed"};
    ASSERT(at < flags->table + SERVICE_FLAGS_COUNT); // the last row stays empty and ends the table
    for (int i = 0; i < SERVICE_FLAGS_COUNT; i++) {
        flags->table[i].given = &flags->given[i];
    }
}

const char *service_flags_given(const struct service_flags *flags) {
    for (int i = 0; i < SERVICE_FLAGS_COUNT && flags->table[i].name != NULL; i++) {
        if (flags->given[i] && flags->table[i].target != &flags->start_timeout_ms) {
            return flags->table[i].name;
        }
    }
    return NULL;
}

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

static bool is_gguf_file(const char *path) {
    size_t length = strlen(path);
    struct stat info;
    return length > 5 && strcmp(path + length - 5, ".gguf") == 0 && stat(path, &info) == 0 &&
           S_ISREG(info.st_mode);
}

// The absolute path of a model's directory or GGUF file, so that a later command finds it from
// elsewhere. A file keeps its own name, which may be a link to one that does not end in .gguf.
static bool resolve(const char *model, char *out, size_t size) {
    const char *slash = strrchr(model, '/');
    const char *name = !is_gguf_file(model) ? NULL : slash != NULL ? slash + 1 : model;
    char directory[SERVICE_PATH_BYTES];
    if (name == NULL) {
        snprintf(directory, sizeof directory, "%s", model);
    } else {
        snprintf(directory, sizeof directory, "%.*s.", (int)(name - model), model);
    }
    char *whole = is_directory(directory) ? realpath(directory, NULL) : NULL;
    bool good =
        whole != NULL && (size_t)snprintf(out, size, "%s%s%s", whole, name != NULL ? "/" : "",
                                          name != NULL ? name : "") < size;
    free(whole);
    return good;
}

static bool resolve_file(const char *path, char *out, size_t size) {
    struct stat info;
    bool is_file = stat(path, &info) == 0 && S_ISREG(info.st_mode);
    char *whole = is_file ? realpath(path, NULL) : NULL;
    bool good = whole != NULL && (size_t)snprintf(out, size, "%s", whole) < size;
    free(whole);
    return good;
}

static enum status copy_list(const char *flag, const struct flag_list *list,
                             struct service_models *out, struct error *err) {
    if (list->count > LIMIT_SCORERS) {
        return error_set(err, STATUS_LIMIT, flag, "%d are above the limit %d", list->count,
                         LIMIT_SCORERS);
    }
    for (int i = 0; i < list->count; i++) {
        const char *text = list->items[i];
        const char *equals = strchr(text, '=');
        size_t head = equals == NULL ? 0 : (size_t)(equals - text) + 1;
        bool good = head > 1 && head <= LIMIT_NAME_BYTES + 1 &&
                    resolve(equals + 1, out->items[i] + head, SERVICE_MODEL_BYTES - head);
        if (!good) {
            return error_set(err, STATUS_INVALID_ARGUMENT, flag,
                             "\"%.120s\" is not NAME=DIR with an existing directory or GGUF file",
                             text);
        }
        memcpy(out->items[i], text, head);
    }
    out->count = list->count;
    return STATUS_OK;
}

static enum status find_models(const struct cli *cli, const struct service_flags *flags,
                               struct service_settings *out, struct error *err) {
    if (flags->policy == NULL && flags->rewards.count + flags->costs.count > 0) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "--policy",
                         "needed when --reward or --cost is given");
    }
    if (flags->policy != NULL) {
        if (!resolve(flags->policy, out->policy, sizeof out->policy)) {
            return error_set(err, STATUS_NOT_FOUND, "--policy",
                             "%s is not a directory or GGUF file", flags->policy);
        }
        enum status status = copy_list("--reward", &flags->rewards, &out->rewards, err);
        return status != STATUS_OK ? status : copy_list("--cost", &flags->costs, &out->costs, err);
    }
    char shipped[SERVICE_PATH_BYTES];
    char whole[SERVICE_PATH_BYTES];
    enum status status = service_find_models(cli, shipped, err);
    if (status == STATUS_OK && !resolve(shipped, whole, sizeof whole)) {
        status = error_set(err, STATUS_NOT_FOUND, "--policy", "%.200s cannot be read", shipped);
    }
    if (status == STATUS_OK) {
        snprintf(out->policy, sizeof out->policy, "%s/policy", whole);
        snprintf(out->rewards.items[0], SERVICE_MODEL_BYTES, "reward=%s/reward", whole);
        snprintf(out->costs.items[0], SERVICE_MODEL_BYTES, "cost=%s/cost", whole);
        out->rewards.count = 1;
        out->costs.count = 1;
    }
    return status;
}

static bool have_mpirun(void) {
    const char *path = getenv("PATH");
    char candidate[SERVICE_MODEL_BYTES];
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

static enum status copy_name(const char *flag, const char *name, char out[SERVICE_NAME_BYTES],
                             struct error *err) {
    if (strlen(name) >= SERVICE_NAME_BYTES) {
        return error_set(err, STATUS_INVALID_ARGUMENT, flag, "\"%.40s\" is no known name", name);
    }
    snprintf(out, SERVICE_NAME_BYTES, "%s", name);
    return STATUS_OK;
}

enum status service_settings_make(const struct cli *cli, const struct service_flags *flags,
                                  struct service_settings *out, struct error *err) {
    *out = (struct service_settings){.groups = flags->groups,
                                     .ranks = flags->ranks,
                                     .threads = flags->threads,
                                     .slots = flags->slots};
    const char *comm = flags->comm != NULL ? flags->comm : have_mpirun() ? "mpi" : "local";
    if (strcmp(comm, "mpi") != 0 && strcmp(comm, "local") != 0) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "--comm", "\"%.40s\" is not mpi or local",
                         comm);
    }
    enum status status = copy_name("--comm", comm, out->comm, err);
    if (status == STATUS_OK) {
        status = copy_name("--precision", flags->precision == NULL ? "stored" : flags->precision,
                           out->precision, err);
    }
    if (status == STATUS_OK) {
        status = copy_name("--kv-dtype", flags->kv_dtype == NULL ? "f32" : flags->kv_dtype,
                           out->kv_dtype, err);
    }
    if (status == STATUS_OK && flags->critic != NULL &&
        !resolve_file(flags->critic, out->critic, sizeof out->critic)) {
        status = error_set(err, STATUS_NOT_FOUND, "--latent-critic", "%.200s is not a file",
                           flags->critic);
    }
    if (status == STATUS_OK && flags->value != NULL &&
        !resolve_file(flags->value, out->value, sizeof out->value)) {
        status = error_set(err, STATUS_NOT_FOUND, "--value", "%.200s is not a file", flags->value);
    }
    return status == STATUS_OK ? find_models(cli, flags, out, err) : status;
}

// One setting as a person reads it. `row` is that of the flag's table.
enum { SETTING_BYTES = 256 };

static void add_models(const struct service_models *models, char out[SETTING_BYTES]) {
    snprintf(out, SETTING_BYTES, models->count == 0 ? "none" : "%s", "");
    for (int i = 0; i < models->count; i++) {
        size_t used = strlen(out);
        snprintf(out + used, SETTING_BYTES - used, "%s%s", i == 0 ? "" : ", ", models->items[i]);
    }
}

static bool same_models(const struct service_models *a, const struct service_models *b) {
    bool same = a->count == b->count;
    for (int i = 0; same && i < a->count; i++) {
        same = strcmp(a->items[i], b->items[i]) == 0;
    }
    return same;
}

// Compares one setting; true when it differs, with both values as text.
static bool differs(const char *name, const struct service_settings *running,
                    const struct service_settings *asked, char have[SETTING_BYTES],
                    char want[SETTING_BYTES]) {
    const struct {
        const char *name;
        uint32_t have;
        uint32_t want;
    } numbers[] = {{"groups", running->groups, asked->groups},
                   {"ranks", running->ranks, asked->ranks},
                   {"threads", running->threads, asked->threads},
                   {"slots", running->slots, asked->slots}};
    const struct {
        const char *name;
        const char *have;
        const char *want;
    } texts[] = {{"precision", running->precision, asked->precision},
                 {"kv-dtype", running->kv_dtype, asked->kv_dtype},
                 {"comm", running->comm, asked->comm},
                 {"latent-critic", running->critic, asked->critic},
                 {"value", running->value, asked->value},
                 {"policy", running->policy, asked->policy}};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        if (strcmp(name, numbers[i].name) == 0) {
            snprintf(have, SETTING_BYTES, "%u", numbers[i].have);
            snprintf(want, SETTING_BYTES, "%u", numbers[i].want);
            return numbers[i].have != numbers[i].want;
        }
    }
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        if (strcmp(name, texts[i].name) == 0) {
            snprintf(have, SETTING_BYTES, "%s", texts[i].have[0] != '\0' ? texts[i].have : "none");
            snprintf(want, SETTING_BYTES, "%s", texts[i].want);
            return strcmp(texts[i].have, texts[i].want) != 0;
        }
    }
    bool reward = strcmp(name, "reward") == 0;
    add_models(reward ? &running->rewards : &running->costs, have);
    add_models(reward ? &asked->rewards : &asked->costs, want);
    return reward ? !same_models(&running->rewards, &asked->rewards)
                  : !same_models(&running->costs, &asked->costs);
}

enum status service_settings_check(const struct cli *cli, const struct service_settings *running,
                                   const struct service_flags *flags, bool may_grow,
                                   struct error *err) {
    if (service_flags_given(flags) == NULL) {
        return STATUS_OK;
    }
    struct service_settings *asked = calloc(1, sizeof *asked);
    if (asked == NULL) {
        return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for the settings");
    }
    enum status status = service_settings_make(cli, flags, asked, err);
    for (int i = 0; status == STATUS_OK && flags->table[i].name != NULL; i++) {
        const char *name = flags->table[i].name;
        char field[ERROR_FIELD_BYTES];
        char have[SETTING_BYTES];
        char want[SETTING_BYTES];
        bool counts = flags->given[i] && flags->table[i].target != &flags->start_timeout_ms;
        bool grows = may_grow && strcmp(name, "groups") == 0 && asked->groups >= running->groups;
        if (counts && !grows && differs(name, running, asked, have, want)) {
            snprintf(field, sizeof field, "--%s", name);
            status = error_set(err, STATUS_INVALID_ARGUMENT, field,
                               "the service that is up has %.100s, not %.100s; `surefoot down` "
                               "first, or leave the flag out",
                               have, want);
        }
    }
    free(asked);
    return status;
}

static json_t *models_json(const struct service_models *models) {
    json_t *list = json_array();
    for (int i = 0; i < models->count; i++) {
        json_array_append_new(list, json_string(models->items[i]));
    }
    return list;
}

json_t *service_settings_json(const struct service_settings *settings) {
    return json_pack("{s:I, s:I, s:I, s:I, s:s, s:s, s:s, s:s, s:s, s:s, s:o, s:o}", "groups",
                     (json_int_t)settings->groups, "ranks", (json_int_t)settings->ranks, "threads",
                     (json_int_t)settings->threads, "slots", (json_int_t)settings->slots,
                     "precision", settings->precision, "kv_dtype", settings->kv_dtype, "comm",
                     settings->comm, "policy", settings->policy, "critic", settings->critic,
                     "value", settings->value, "rewards", models_json(&settings->rewards), "costs",
                     models_json(&settings->costs));
}

static bool read_number(const json_t *value, const char *name, uint32_t low, uint32_t high,
                        uint32_t *out) {
    json_t *number = json_object_get(value, name);
    json_int_t whole = json_integer_value(number);
    *out = (uint32_t)whole;
    return json_is_integer(number) && whole >= low && whole <= high;
}

static bool read_text(const json_t *value, size_t size, char *out) {
    const char *text = json_string_value(value);
    return text != NULL && (size_t)snprintf(out, size, "%s", text) < size;
}

static bool read_models(const json_t *list, struct service_models *out) {
    bool good = json_is_array(list) && json_array_size(list) <= LIMIT_SCORERS;
    for (size_t i = 0; good && i < json_array_size(list); i++) {
        good = read_text(json_array_get(list, i), SERVICE_MODEL_BYTES, out->items[i]);
        out->count = (int)i + 1;
    }
    return good;
}

bool service_settings_read(const json_t *value, struct service_settings *out) {
    *out = (struct service_settings){0};
    bool good =
        read_number(value, "groups", 1, SERVICE_GROUPS_MAX, &out->groups) &&
        read_number(value, "ranks", 1, LIMIT_RANKS, &out->ranks) &&
        read_number(value, "threads", 0, 256, &out->threads) &&
        read_number(value, "slots", 0, 4096, &out->slots) &&
        read_text(json_object_get(value, "precision"), SERVICE_NAME_BYTES, out->precision) &&
        read_text(json_object_get(value, "kv_dtype"), SERVICE_NAME_BYTES, out->kv_dtype) &&
        read_text(json_object_get(value, "comm"), SERVICE_NAME_BYTES, out->comm) &&
        read_text(json_object_get(value, "policy"), SERVICE_MODEL_BYTES, out->policy) &&
        (json_object_get(value, "critic") == NULL || // of a version without
         read_text(json_object_get(value, "critic"), SERVICE_MODEL_BYTES, out->critic)) &&
        (json_object_get(value, "value") == NULL ||
         read_text(json_object_get(value, "value"), SERVICE_MODEL_BYTES, out->value)) &&
        read_models(json_object_get(value, "rewards"), &out->rewards) &&
        read_models(json_object_get(value, "costs"), &out->costs);
    if (!good) {
        *out = (struct service_settings){0};
    }
    return good;
}
