// surefoot models check MODEL: asks the worker program, which alone reads models, for its memory
// plan.
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/cli/models_flags.h"
#include "client/cli/models_render.h"
#include "client/cli/print.h"
#include "client/cli/service.h"
#include "client/cli/worker_run.h"
#include "common/json_numbers.h"

enum { CONFIG_BYTES_MAX = 16 << 20 };

struct check {
    const char *directory;
    const char *policy; // that a scorer is checked beside; NULL: the shipped one
    bool scorer;        // by its config.json
    uint32_t timeout_ms;
    struct worker_run run;
};

static json_t *parse(int fd, size_t size) {
    char *text = malloc(size + 1);
    ssize_t got = text != NULL ? read(fd, text, size) : -1;
    json_t *object = NULL;
    if (got > 0) {
        json_numbers_bound(text, (size_t)got);
        object = json_loadb(text, (size_t)got, 0, NULL);
    }
    free(text);
    return object;
}

// `separator` is "/", or "." where the document lies beside a GGUF file.
static json_t *load(const char *model, const char *separator, const char *name) {
    char path[SERVICE_PATH_BYTES];
    snprintf(path, sizeof path, "%.4000s%s%s", model, separator, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); // no waiting for a pipe's writer
    struct stat info;
    json_t *object = NULL;
    if (fd >= 0 && fstat(fd, &info) == 0 && S_ISREG(info.st_mode) &&
        info.st_size <= CONFIG_BYTES_MAX) {
        object = parse(fd, (size_t)info.st_size);
    }
    if (fd >= 0) {
        close(fd);
    }
    return object;
}

static bool is_scorer_class(const char *name) {
    static const char *const endings[] = {"ForSequenceClassification", "LlamaForScore",
                                          "LlamaModelForScore"};
    size_t length = name != NULL ? strlen(name) : 0;
    for (size_t i = 0; i < sizeof endings / sizeof endings[0]; i++) {
        size_t size = strlen(endings[i]);
        if (length >= size && strcmp(name + length - size, endings[i]) == 0) {
            return true;
        }
    }
    return false;
}

// By the class, an adapter's task, or a value head that the profile names. What cannot be read or
// is unknown counts as a policy, a GGUF file without such a profile among it: the worker then tells
// what is wrong with it.
static bool is_scorer(const char *model) {
    size_t length = strlen(model);
    bool is_file = length >= 5 && strcmp(model + length - 5, ".gguf") == 0;
    json_t *config = load(model, "/", "config.json");
    json_t *adapter = load(model, "/", "adapter_config.json");
    json_t *profile = load(model, is_file ? "." : "/", "surefoot.json");
    json_t *class_name = json_array_get(json_object_get(config, "architectures"), 0);
    const char *head = json_string_value(json_object_get(profile, "head"));
    const char *task = json_string_value(json_object_get(adapter, "task_type"));
    bool scorer = class_name != NULL ? is_scorer_class(json_string_value(class_name))
                                     : task != NULL && strcmp(task, "SEQ_CLS") == 0;
    scorer = scorer || (head != NULL && strcmp(head, "value") == 0);
    json_decref(config);
    json_decref(adapter);
    json_decref(profile);
    return scorer;
}

static enum status check_model(struct cli *cli, struct check *check, struct error *err) {
    char program[SERVICE_PATH_BYTES + 32];
    char shipped[SERVICE_PATH_BYTES];
    char policy[SERVICE_PATH_BYTES + 16];
    char scorer[SERVICE_PATH_BYTES + 16];
    snprintf(program, sizeof program, "%s/surefoot-worker", cli->program_dir);
    snprintf(policy, sizeof policy, "%s", check->directory);
    snprintf(scorer, sizeof scorer, "checked=%s", check->directory);
    check->scorer = is_scorer(check->directory);
    if (check->scorer && check->policy == NULL) {
        enum status status = service_find_models(cli, shipped, err);
        if (status != STATUS_OK) {
            return status;
        }
        snprintf(policy, sizeof policy, "%s/policy", shipped);
    } else if (check->scorer) {
        snprintf(policy, sizeof policy, "%s", check->policy);
    }
    char *argv[] = {program, "--plan", "--policy", policy, NULL, NULL, NULL};
    if (check->scorer) {
        argv[4] = "--scorer";
        argv[5] = scorer;
    }
    return worker_run(cli, argv, check->timeout_ms, &check->run, err);
}

static int print_check(const struct check *check, bool json) {
    if (json) {
        json_t *object = json_pack("{s:s, s:s, s:b, s:s}", "directory", check->directory, "kind",
                                   check->scorer ? "scorer" : "policy", "good", check->run.good,
                                   "report", check->run.output);
        if (print_json_line(object, stdout) != STATUS_OK) {
            return CLI_EXIT_SYSTEM;
        }
    } else {
        print_text(check->run.output, false, 0, check->run.good ? stdout : stderr);
        printf("%s: %s\n", check->directory,
               !check->run.good ? "cannot be served"
               : check->scorer  ? "good as a scorer"
                                : "good as a policy");
    }
    return check->run.good ? CLI_EXIT_OK : CLI_EXIT_USAGE;
}

int verb_models(struct cli *cli, int argc, char **argv) {
    if (argc > 0 && strcmp(argv[0], "render") == 0) {
        return verb_models_render(cli, argc, argv);
    }
    struct models_flags shared;
    struct check check = {0};
    models_flags_init(&shared);
    const struct flag own[] = {
        {.name = "policy",
         .kind = FLAG_TEXT,
         .target = &check.policy,
         .value = "DIR",
         .help = "beside which a scorer is checked; default: the shipped one"},
        {.name = NULL},
    };
    const struct command_line line = {
        .usage = "models check MODEL [FLAGS] (or models render MODEL, see its --help)",
        .about = "Opens a model, a directory in Hugging Face layout (config.json, weights, "
                 "tokenizer.json)\nor a GGUF file, and prints the memory it would take, or why it "
                 "cannot be served (exit\ncode 2). JSON: directory, kind, good, report.",
        .tables = {own, shared.table},
        .n_tables = 2,
        .positional_min = 2,
        .positional_max = 2,
    };
    const char *positional[2];
    int n_positional = 0;
    bool help = false;
    struct error err;
    enum status status = flags_parse(&line, argc, argv, positional, &n_positional, &help, &err);
    if (status == STATUS_OK && help) {
        flags_print_help(&line, stdout);
        return CLI_EXIT_OK;
    }
    if (status == STATUS_OK && strcmp(positional[0], "check") != 0) {
        status = error_set(&err, STATUS_INVALID_ARGUMENT, positional[0],
                           "unknown; usage: surefoot %s", line.usage);
    }
    if (status == STATUS_OK) {
        check.directory = positional[1];
        check.timeout_ms = shared.timeout_ms;
        status = check_model(cli, &check, &err);
    }
    int code = status == STATUS_OK ? print_check(&check, shared.json) : cli_fail(&err, shared.json);
    worker_run_finish(&check.run);
    return code;
}
