#include "tests/support/service.h"

#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/testkit.h"

static bool is_there(const char *path) {
    if (access(path, R_OK) == 0) {
        return true;
    }
    print_message("skipped: %s is missing\n", path);
    return false;
}

bool service_is_possible(void) {
    return is_there(testkit_binary_path("bin/surefoot-coordinator")) &&
           is_there(testkit_binary_path("bin/surefoot-worker")) &&
           is_there(testkit_source_path("models/demo/policy/model.safetensors")) &&
           is_there(testkit_source_path("models/demo/reward/model.safetensors")) &&
           is_there(testkit_source_path("models/demo/cost/model.safetensors")) &&
           is_there(testkit_source_path("models/demo/prompts.jsonl"));
}

// A NULL-terminated argument list whose strings live until the process is started.
struct arguments {
    char *items[64];
    int count;
};

static void add(struct arguments *arguments, const char *text) {
    assert_in_range(arguments->count, 0, 62);
    char *copy = strdup(text);
    assert_non_null(copy);
    arguments->items[arguments->count++] = copy;
    arguments->items[arguments->count] = NULL;
}

static void add_option(struct arguments *arguments, const char *flag, const char *value) {
    add(arguments, flag);
    add(arguments, value);
}

static void add_number(struct arguments *arguments, const char *flag, int value) {
    char text[16];
    snprintf(text, sizeof text, "%d", value);
    add_option(arguments, flag, text);
}

static void start_and_free(struct process *process, const char *directory, const char *name,
                           struct arguments *arguments) {
    char log_path[512];
    snprintf(log_path, sizeof log_path, "%s/%s.log", directory, name);
    process_start(process, log_path, arguments->items);
    for (int i = 0; i < arguments->count; i++) {
        free(arguments->items[i]);
    }
}

void service_start_coordinator(struct service *service) {
    char store[512];
    snprintf(store, sizeof store, "%s/store.db", service->directory);
    struct arguments arguments = {.count = 0};
    add(&arguments, testkit_binary_path("bin/surefoot-coordinator"));
    add_option(&arguments, "--client", service->client_endpoint);
    add_option(&arguments, "--group", service->group_endpoint);
    add_option(&arguments, "--store", store);
    add_number(&arguments, "--heartbeat-ms", 500);
    // Sanitizer builds on a busy machine may be silent for a while.
    add_number(&arguments, "--dead-after-ms", 20000);
    start_and_free(&service->coordinator, service->directory, "coordinator", &arguments);
}

static void add_scorer(struct arguments *arguments, const char *name) {
    char value[4096];
    char relative[64];
    snprintf(relative, sizeof relative, "models/demo/%s", name);
    snprintf(value, sizeof value, "%s=%s", name, testkit_source_path(relative));
    add_option(arguments, "--scorer", value);
}

void service_start_group(struct service *service, int index) {
    const struct service_options *options = &service->options;
    char name[16];
    snprintf(name, sizeof name, "group%d", index);
    struct arguments arguments = {.count = 0};
    if (options->mpi) {
        // mpirun refuses root unless both are set; they mean nothing to other users.
        setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 1);
        setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 1);
        add(&arguments, "mpirun");
        add(&arguments, "--oversubscribe");
        add_option(&arguments, "--bind-to", "none");
        add_number(&arguments, "-n", options->n_ranks);
    }
    add(&arguments, testkit_binary_path("bin/surefoot-worker"));
    add_option(&arguments, "--coordinator", service->group_endpoint);
    add_option(&arguments, "--name", name);
    add_option(&arguments, "--policy", testkit_source_path("models/demo/policy"));
    add_scorer(&arguments, "reward");
    add_scorer(&arguments, "cost");
    add_option(&arguments, "--comm", options->mpi ? "mpi" : "local");
    if (!options->mpi) {
        add_number(&arguments, "--ranks", options->n_ranks);
    }
    add_number(&arguments, "--threads", 1);
    if (options->slots > 0) {
        add_number(&arguments, "--slots", options->slots);
    }
    if (options->kv_tokens > 0) {
        add_number(&arguments, "--kv-tokens", options->kv_tokens);
    }
    start_and_free(&service->groups[index], service->directory, name, &arguments);
}

struct group_count {
    struct service *service;
    int wanted;
};

static bool groups_are_alive(void *context) {
    struct group_count *count = context;
    Surefoot__ServiceStatus *status = NULL;
    struct error err;
    if (surefoot_status(count->service->client, 1000, &status, &err) != STATUS_OK) {
        return false;
    }
    int alive = 0;
    for (size_t i = 0; i < status->n_groups; i++) {
        alive += status->groups[i]->alive ? 1 : 0;
    }
    surefoot_status_free(status);
    return alive == count->wanted;
}

void service_await_groups(struct service *service, int count) {
    struct group_count wanted = {.service = service, .wanted = count};
    if (process_wait_until(groups_are_alive, &wanted, SERVICE_WAIT_MS)) {
        return;
    }
    process_print_log(&service->coordinator);
    for (int i = 0; i < service->options.n_groups; i++) {
        process_print_log(&service->groups[i]);
    }
    fail_msg("not %d live groups after %d ms", count, SERVICE_WAIT_MS);
}

void service_start(struct service *service, const struct service_options *options) {
    *service = (struct service){.options = *options};
    assert_in_range(options->n_groups, 1, SERVICE_GROUPS_MAX);
    service->directory = testkit_make_directory();
    snprintf(service->client_endpoint, sizeof service->client_endpoint, "ipc://%s/client",
             service->directory);
    snprintf(service->group_endpoint, sizeof service->group_endpoint, "ipc://%s/group",
             service->directory);
    struct error err;
    assert_ok(surefoot_client_open(service->client_endpoint, NULL, &service->client, &err), &err);
    service_start_coordinator(service);
    for (int i = 0; i < options->n_groups; i++) {
        service_start_group(service, i);
    }
    service_await_groups(service, options->n_groups);
}

void service_stop(struct service *service) {
    for (int i = 0; i < service->options.n_groups; i++) {
        process_stop(&service->groups[i], 20000);
    }
    process_stop(&service->coordinator, 20000);
    surefoot_client_close(service->client);
    testkit_remove_tree(service->directory);
}

char *service_prompt(int index) {
    FILE *file = fopen(testkit_source_path("models/demo/prompts.jsonl"), "r");
    assert_non_null(file);
    char *line = NULL;
    size_t capacity = 0;
    for (int i = 0; i <= index; i++) {
        assert_true(getline(&line, &capacity, file) > 0);
    }
    fclose(file);
    json_t *object = json_loads(line, 0, NULL);
    free(line);
    assert_non_null(object);
    const char *text = json_string_value(json_object_get(object, "prompt"));
    assert_non_null(text);
    char *prompt = strdup(text);
    assert_non_null(prompt);
    json_decref(object);
    return prompt;
}

Surefoot__JobResult *service_run(struct service *service, const Surefoot__JobSpec *spec) {
    const struct surefoot_submit args = {.spec = spec, .timeout_ms = SERVICE_WAIT_MS};
    char key[SUREFOOT_KEY_BYTES];
    struct error err;
    assert_ok(surefoot_submit(service->client, &args, key, NULL, &err), &err);
    Surefoot__JobResult *result = NULL;
    assert_ok(surefoot_fetch(service->client, key, SERVICE_WAIT_MS, SERVICE_WAIT_MS, &result, &err),
              &err);
    assert_non_null(result);
    return result;
}
