// surefoot-coordinator as a process: flags, exit codes, the ready file, signals, the log.
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/deadline.h"
#include "proto/channel.h"
#include "proto/limits.h"
#include "proto/wire.h"
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
    struct channel_context *context;
    struct channel *channel; // NULL: none is open
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
    channel_close(fixture->channel);
    channel_context_destroy(fixture->context);
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

// Connects to one of the addresses in the ready file, "client=" or "group=".
static void connect_to(struct fixture *fixture, const char *side) {
    const struct channel_options options = {.message_bytes_max = LIMIT_CLIENT_MESSAGE_BYTES};
    char endpoint[256];
    char *ready = testkit_read_file(fixture->ready, NULL);
    const char *at = strstr(ready, side);
    assert_true(at != NULL && sscanf(at + strlen(side), "%255s", endpoint) == 1);
    free(ready);
    struct error err;
    assert_ok(channel_context_create(&fixture->context), NULL);
    assert_ok(channel_connect(fixture->context, endpoint, &options, &fixture->channel, &err), &err);
}

static void send_message(struct fixture *fixture, enum wire_type type, const void *message) {
    uint8_t *bytes = NULL;
    size_t size = 0;
    assert_ok(wire_pack(type, message, &bytes, &size), NULL);
    assert_ok(channel_send(fixture->channel, NULL, bytes, size), NULL);
    free(bytes);
}

// Owned, released with wire_free.
static void *receive_message(struct fixture *fixture, enum wire_type type) {
    uint8_t *bytes = NULL;
    size_t size = 0;
    void *message = NULL;
    int64_t deadline = deadline_after_ms(WAIT_MS);
    while (channel_receive(fixture->channel, NULL, &bytes, &size) != STATUS_OK) {
        bool ready = false;
        assert_false(deadline_passed(deadline));
        enum status status = channel_poll(&fixture->channel, 1, -1, 100, &ready);
        assert_true(status == STATUS_OK || status == STATUS_DEADLINE);
    }
    assert_ok(wire_unpack(type, bytes, size, &message, NULL), NULL);
    free(bytes);
    return message;
}

static void ask(struct fixture *fixture, uint64_t id, Surefoot__ClientRequest *request) {
    request->has_schema_major = request->has_request_id = true;
    request->schema_major = WIRE_SCHEMA_MAJOR;
    request->request_id = id;
    send_message(fixture, WIRE_CLIENT_REQUEST, request);
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

static void test_signal_answers_those_who_wait(void **state) {
    enum { SUBMIT_ID = 1, FETCH_ID, STATUS_ID };
    struct fixture *fixture = *state;
    start_ready(fixture);
    connect_to(fixture, "client=");
    Surefoot__JobSpec spec = SUREFOOT__JOB_SPEC__INIT;
    spec.prompt = "hello";
    Surefoot__SubmitJob submit = SUREFOOT__SUBMIT_JOB__INIT;
    submit.job_key = "job";
    submit.spec = &spec;
    Surefoot__FetchJob fetch = SUREFOOT__FETCH_JOB__INIT;
    fetch.job_key = "job";
    fetch.has_wait_ms = true;
    fetch.wait_ms = 10 * WAIT_MS;
    Surefoot__GetStatus get = SUREFOOT__GET_STATUS__INIT;
    Surefoot__ClientRequest request = SUREFOOT__CLIENT_REQUEST__INIT;
    request.submit = &submit;
    ask(fixture, SUBMIT_ID, &request);
    request.submit = NULL;
    request.fetch = &fetch;
    ask(fixture, FETCH_ID, &request);
    request.fetch = NULL;
    request.status = &get;
    ask(fixture, STATUS_ID, &request);
    Surefoot__ClientReply *reply = NULL;
    for (uint64_t id = 0; id != STATUS_ID;) {
        reply = receive_message(fixture, WIRE_CLIENT_REPLY);
        id = reply->request_id;
        assert_int_not_equal(id, FETCH_ID);
        wire_free(WIRE_CLIENT_REPLY, reply);
    }
    process_signal(&fixture->process, SIGTERM);
    reply = receive_message(fixture, WIRE_CLIENT_REPLY);
    assert_int_equal(reply->request_id, FETCH_ID);
    assert_non_null(reply->progress);
    wire_free(WIRE_CLIENT_REPLY, reply);
    expect_exit(&fixture->process, 0);
}

static void test_refused_groups_do_not_fill_the_log(void **state) {
    enum { HELLOS = 20000, LOG_BYTES_MAX = 32 << 10 };
    struct fixture *fixture = *state;
    start_ready(fixture);
    connect_to(fixture, "group=");
    Surefoot__GroupHello hello = SUREFOOT__GROUP_HELLO__INIT;
    hello.name = "stranger"; // and nothing else
    Surefoot__GroupMessage message = SUREFOOT__GROUP_MESSAGE__INIT;
    message.has_schema_major = true;
    message.schema_major = WIRE_SCHEMA_MAJOR;
    message.has_schema_minor = true;
    message.schema_minor = WIRE_SCHEMA_MINOR;
    message.hello = &hello;
    for (int i = 0; i < HELLOS; i++) {
        send_message(fixture, WIRE_GROUP_MESSAGE, &message);
        Surefoot__GroupCommand *command = receive_message(fixture, WIRE_GROUP_COMMAND);
        assert_non_null(command->reject);
        wire_free(WIRE_GROUP_COMMAND, command);
    }
    process_signal(&fixture->process, SIGTERM);
    expect_exit(&fixture->process, 0);
    size_t size = 0;
    char *log = testkit_read_file(fixture->log_path, &size);
    assert_non_null(strstr(log, "group stranger is refused"));
    assert_true(size < LOG_BYTES_MAX);
    free(log);
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
        cmocka_unit_test_setup_teardown(test_signal_answers_those_who_wait, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refused_groups_do_not_fill_the_log, setup, teardown),
        cmocka_unit_test_setup_teardown(test_port_in_use_is_an_address_error, setup, teardown),
        cmocka_unit_test_setup_teardown(test_unusable_store_is_a_store_error, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
