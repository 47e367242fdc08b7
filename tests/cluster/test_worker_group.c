// Ranks as real processes under mpirun: one that dies or hangs ends its group, never the service,
// and a signal to the leader ends a group in order.
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/service.h"
#include "tests/support/testkit.h"

enum { EXIT_LOST = 5, N_RANKS = 2 };

static int setup(void **state) {
    (void)state;
    setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 1);
    setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 1);
    setenv("SUREFOOT_COLLECTIVE_TIMEOUT_MS", "10000", 1);
    // Open MPI leaks in plugins that it unloads, which no suppression can name.
    setenv("ASAN_OPTIONS", "detect_leaks=0", 1);
    return 0;
}

static bool is_possible(void) {
    if (system("command -v mpirun >/dev/null 2>&1") != 0) {
        print_message("skipped: mpirun is not installed\n");
        return false;
    }
    return service_is_possible();
}

// Reads a file of /proc whole; "" when the process is gone.
static size_t read_proc(pid_t pid, const char *name, char *text, size_t capacity) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
    FILE *file = fopen(path, "r");
    size_t size = file != NULL ? fread(text, 1, capacity - 1, file) : 0;
    text[size] = '\0';
    if (file != NULL) {
        fclose(file);
    }
    return size;
}

static bool is_rank(pid_t pid, int rank) {
    char text[32768];
    char wanted[64];
    snprintf(wanted, sizeof wanted, "OMPI_COMM_WORLD_RANK=%d", rank);
    size_t size = read_proc(pid, "environ", text, sizeof text);
    for (const char *entry = text; entry < text + size; entry += strlen(entry) + 1) {
        if (strcmp(entry, wanted) == 0) {
            return true;
        }
    }
    return false;
}

// The process of `rank` among the children of mpirun; fails the test when there is none.
static pid_t find_rank(const struct process *mpirun, int rank) {
    pid_t found = 0;
    DIR *proc = opendir("/proc");
    assert_non_null(proc);
    for (struct dirent *entry = readdir(proc); entry != NULL; entry = readdir(proc)) {
        pid_t pid = (pid_t)atoi(entry->d_name);
        char stat[1024];
        int parent = 0;
        if (pid <= 0 || read_proc(pid, "stat", stat, sizeof stat) == 0) {
            continue;
        }
        const char *after_name = strrchr(stat, ')'); // the name may hold anything
        if (after_name != NULL && sscanf(after_name, ") %*c %d", &parent) == 1 &&
            parent == (int)mpirun->pid && is_rank(pid, rank)) {
            found = pid;
        }
    }
    closedir(proc);
    assert_true(found > 0);
    return found;
}

static void expect_exit(struct process *process, int expected) {
    int exit_code = -1;
    bool ended = process_wait(process, SERVICE_WAIT_MS, &exit_code);
    if (!ended || exit_code != expected) {
        process_print_log(process);
        fail_msg("exit code %d instead of %d", exit_code, expected);
    }
}

static char *submit(struct service *service, const char *key) {
    char *prompt = service_prompt(0);
    Surefoot__JobSpec spec = SUREFOOT__JOB_SPEC__INIT;
    spec.prompt = prompt;
    spec.method = "best-of-n";
    spec.has_n = spec.has_seed = spec.has_max_tokens = true;
    spec.n = 16;
    spec.seed = 7;
    spec.max_tokens = 32;
    const struct surefoot_submit args = {
        .spec = &spec, .job_key = key, .timeout_ms = SERVICE_WAIT_MS};
    struct error err;
    char made_key[SUREFOOT_KEY_BYTES];
    assert_ok(surefoot_submit(service->client, &args, made_key, NULL, &err), &err);
    free(prompt);
    return strdup(made_key);
}

// A job given in while there is no group is answered by the next one.
static void expect_recovery(struct service *service, const char *key) {
    service_await_groups(service, 0);
    char *made_key = submit(service, key);
    service_start_group(service, 0);
    struct error err;
    Surefoot__JobResult *result = NULL;
    assert_ok(
        surefoot_fetch(service->client, made_key, SERVICE_WAIT_MS, SERVICE_WAIT_MS, &result, &err),
        &err);
    assert_non_null(result);
    assert_true(result->outcome == SUREFOOT__OUTCOME__OUTCOME_COMPLETED ||
                result->outcome == SUREFOOT__OUTCOME__OUTCOME_NO_SAFE_CANDIDATE);
    surefoot_result_free(result);
    free(made_key);
}

static bool group_is_stalled(void *context) {
    struct service *service = context;
    Surefoot__ServiceStatus *status = NULL;
    struct error err;
    if (surefoot_status(service->client, 1000, &status, &err) != STATUS_OK) {
        return false;
    }
    const Surefoot__GroupStatus *group = status->groups[0];
    bool stalled = strcmp(group->condition, "stalled") == 0;
    assert_true(!stalled || strstr(group->why, "rank 1") != NULL);
    surefoot_status_free(status);
    return stalled;
}

static void test_group_ends_with_a_rank_and_the_service_goes_on(void **state) {
    (void)state;
    struct service service;
    service_start(&service,
                  &(struct service_options){.n_groups = 1, .n_ranks = N_RANKS, .mpi = true});

    print_message("a follower hangs while the group is idle\n");
    kill(find_rank(&service.groups[0], 1), SIGSTOP);
    assert_true(process_wait_until(group_is_stalled, &service, SERVICE_WAIT_MS));
    expect_exit(&service.groups[0], EXIT_LOST);
    expect_recovery(&service, "after-hang");

    print_message("the leader hangs\n");
    kill(find_rank(&service.groups[0], 0), SIGSTOP);
    expect_exit(&service.groups[0], EXIT_LOST);
    expect_recovery(&service, "after-leader");

    print_message("a follower dies\n");
    kill(find_rank(&service.groups[0], 1), SIGKILL);
    expect_exit(&service.groups[0], 128 + SIGKILL);
    expect_recovery(&service, "after-death");

    print_message("the leader is asked to stop\n");
    kill(find_rank(&service.groups[0], 0), SIGTERM);
    expect_exit(&service.groups[0], 0);
    service_stop(&service);
}

int main(void) {
    if (!is_possible()) {
        return TESTKIT_SKIP;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_group_ends_with_a_rank_and_the_service_goes_on),
    };
    return cmocka_run_group_tests_name("worker_group", tests, setup, NULL);
}
