// surefoot-coordinator as a process: flags, exit codes, the ready file, signals.
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/process.h"
#include "tests/support/testkit.h"

enum { WAIT_MS = 120000 };

struct fixture {
    char *directory;
    char program[4096];
    char log_path[512];
    char store[512];
    char ready[512];
    struct process process;
};

static int setup(void **state) {
    struct fixture *fixture = calloc(1, sizeof *fixture);
    fixture->directory = testkit_make_directory();
    snprintf(fixture->program, sizeof fixture->program, "%s",
             testkit_binary_path("bin/surefoot-coordinator"));
    snprintf(fixture->log_path, sizeof fixture->log_path, "%s/log", fixture->directory);
    snprintf(fixture->store, sizeof fixture->store, "%s/store.db", fixture->directory);
    snprintf(fixture->ready, sizeof fixture->ready, "%s/ready", fixture->directory);
    *state = fixture;
    return 0;
}

static int teardown(void **state) {
    struct fixture *fixture = *state;
    process_stop(&fixture->process, WAIT_MS);
    testkit_remove_tree(fixture->directory);
    free(fixture);
    return 0;
}

static void start(struct fixture *fixture, struct process *process, char *client, char *store,
                  char *ready) {
    char *argv[] = {fixture->program, "--client", client,         "--group", "tcp://127.0.0.1:0",
                    "--store",        store,      "--ready-file", ready,     NULL};
    process_start(process, fixture->log_path, argv);
}

static bool is_ready(void *context) {
    return access(context, R_OK) == 0;
}

static void start_ready(struct fixture *fixture) {
    start(fixture, &fixture->process, "tcp://127.0.0.1:0", fixture->store, fixture->ready);
    assert_true(process_wait_until(is_ready, fixture->ready, WAIT_MS));
}

static void expect_exit(struct process *process, int expected) {
    int code = -1;
    if (!process_wait(process, WAIT_MS, &code) || code != expected) {
        process_print_log(process);
        fail_msg("exit code %d, expected %d", code, expected);
    }
}

static void expect_log(const struct fixture *fixture, const char *part) {
    char *log = testkit_read_file(fixture->log_path, NULL);
    if (strstr(log, part) == NULL) {
        fail_msg("\"%s\" is not in: %s", part, log);
    }
    free(log);
}

static void expect_log_once(const struct fixture *fixture, const char *part) {
    char *log = testkit_read_file(fixture->log_path, NULL);
    const char *at = strstr(log, part);
    if (at == NULL || strstr(at + 1, part) != NULL) {
        fail_msg("\"%s\" is not once in: %s", part, log);
    }
    free(log);
}

static void run_flags(struct fixture *fixture, char *flag, char *value, int code,
                      const char *part) {
    char *argv[] = {fixture->program, flag, value, NULL};
    process_start(&fixture->process, fixture->log_path, argv);
    expect_exit(&fixture->process, code);
    expect_log(fixture, part);
}

static void test_bad_flags_are_named(void **state) {
    struct fixture *fixture = *state;
    run_flags(fixture, "--help", NULL, 0, "Exit codes");
    run_flags(fixture, "--version", NULL, 0, "surefoot-coordinator ");
    run_flags(fixture, "--colour", "red", 2, "--help");
    run_flags(fixture, "--heartbeat-ms", "5", 2, "--heartbeat-ms 5: not a number in 10..60000");
    run_flags(fixture, "--running-max", "many", 2, "--running-max many");
    run_flags(fixture, "--log-level", "loud", 2, "error, warn, info, debug");
    run_flags(fixture, "surplus", NULL, 2, "surplus");
}

static void test_signal_stops_it_cleanly(void **state) {
    struct fixture *fixture = *state;
    start_ready(fixture);
    char *ready = testkit_read_file(fixture->ready, NULL);
    int client_port = 0;
    int group_port = 0;
    assert_int_equal(sscanf(ready, "client=tcp://127.0.0.1:%d group=tcp://127.0.0.1:%d",
                            &client_port, &group_port),
                     2);
    assert_true(client_port > 0 && group_port > 0);
    free(ready);
    process_signal(&fixture->process, SIGTERM);
    expect_exit(&fixture->process, 0);
}

static void test_port_in_use_is_an_address_error(void **state) {
    struct fixture *fixture = *state;
    start_ready(fixture);
    char *ready = testkit_read_file(fixture->ready, NULL);
    char endpoint[256];
    assert_int_equal(sscanf(ready, "client=%255s", endpoint), 1);
    free(ready);
    char store[600];
    snprintf(store, sizeof store, "%s.second", fixture->store);
    struct process second = {.pid = 0};
    start(fixture, &second, endpoint, store, "unused");
    expect_exit(&second, 3);
    expect_log(fixture, "in use");
    start(fixture, &second, "tcp://0.0.0.0:0", store, "unused");
    expect_exit(&second, 3);
    assert_int_not_equal(access(store, F_OK), 0); // nothing was made on the way to either
}

static void test_unusable_store_is_a_store_error(void **state) {
    struct fixture *fixture = *state;
    start_ready(fixture);
    struct process second = {.pid = 0};
    start(fixture, &second, "tcp://127.0.0.1:0", fixture->store, "unused");
    expect_exit(&second, 4);
    expect_log(fixture, "in use by another process");
    char broken[600];
    snprintf(broken, sizeof broken, "%s.broken", fixture->store);
    testkit_write_file(broken, "this is no database, and long enough to tell", 44);
    start(fixture, &second, "tcp://127.0.0.1:0", broken, "unused");
    expect_exit(&second, 4);
    snprintf(broken, sizeof broken, "%s/nowhere/store.db", fixture->directory);
    start(fixture, &second, "tcp://127.0.0.1:0", broken, "unused");
    expect_exit(&second, 4);
    expect_log_once(fixture, "unable to open");
}

int main(void) {
    if (access(testkit_binary_path("bin/surefoot-coordinator"), X_OK) != 0) {
        print_message("skipped: %s is missing\n", testkit_binary_path("bin/surefoot-coordinator"));
        return TESTKIT_SKIP;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_bad_flags_are_named, setup, teardown),
        cmocka_unit_test_setup_teardown(test_signal_stops_it_cleanly, setup, teardown),
        cmocka_unit_test_setup_teardown(test_port_in_use_is_an_address_error, setup, teardown),
        cmocka_unit_test_setup_teardown(test_unusable_store_is_a_store_error, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
