#include "tests/support/testkit.h"

#include <stdlib.h>
#include <string.h>

#include "worker/options.h"

enum { ARGUMENTS_MAX = 40 };

static struct worker_options options; // large

// Parses a command line of words separated by spaces.
static enum status parse(const char *line, struct error *err) {
    char text[1024];
    char *argv[ARGUMENTS_MAX] = {"surefoot-worker"};
    int argc = 1;
    *err = (struct error){.status = STATUS_OK};
    assert_true(strlen(line) < sizeof text);
    strcpy(text, line);
    char *rest = NULL;
    for (char *word = strtok_r(text, " ", &rest); word != NULL; word = strtok_r(NULL, " ", &rest)) {
        assert_in_range(argc, 1, ARGUMENTS_MAX - 2);
        argv[argc++] = word;
    }
    return worker_options_parse(argc, argv, &options, err);
}

static void test_defaults_are_as_documented(void **state) {
    (void)state;
    struct error err;
    assert_ok(parse("--coordinator ipc:///tmp/x --policy dir", &err), &err);
    assert_string_equal(options.coordinator, "ipc:///tmp/x");
    assert_string_equal(options.policy, "dir");
    assert_string_equal(options.backend, "cpu");
    assert_int_equal(options.slots, 64);
    assert_int_equal(options.ranks, 1);
    assert_int_equal(options.threads, 0);
    assert_int_equal(options.heartbeat_ms, 1000);
    assert_int_equal(options.collective_timeout_ms, 30000);
    assert_int_equal(options.order_timeout_ms, 600000);
    assert_int_equal(options.comm, WORKER_COMM_AUTO);
    assert_int_equal(options.precision, PRECISION_STORED);
    assert_int_equal(options.kv_dtype, KV_F32);
    assert_int_equal(options.log_level, LOG_LEVEL_INFO);
    assert_int_equal(options.n_scorers, 0);
}

static void test_every_flag_is_read(void **state) {
    (void)state;
    struct error err;
    assert_ok(
        parse("--coordinator ipc://e --name g --policy p --scorer reward=a/b --scorer cost=c=d "
              "--threads 2 --slots 3 --kv-tokens 4000 --context-tokens 500 --backend cpu "
              "--comm local --ranks 6 --heartbeat-ms 70 --collective-timeout-ms 800 "
              "--order-timeout-ms 900 --log-level debug --precision int8 --kv-dtype bf16 --plan",
              &err),
        &err);
    assert_string_equal(options.name, "g");
    assert_int_equal(options.n_scorers, 2);
    assert_string_equal(options.scorers[0].name, "reward");
    assert_string_equal(options.scorers[0].directory, "a/b");
    assert_string_equal(options.scorers[1].directory, "c=d");
    assert_int_equal(options.threads, 2);
    assert_int_equal(options.slots, 3);
    assert_int_equal(options.kv_tokens, 4000);
    assert_int_equal(options.context_tokens, 500);
    assert_int_equal(options.comm, WORKER_COMM_LOCAL);
    assert_int_equal(options.precision, PRECISION_INT8);
    assert_int_equal(options.kv_dtype, KV_BF16);
    assert_int_equal(options.ranks, 6);
    assert_int_equal(options.heartbeat_ms, 70);
    assert_int_equal(options.collective_timeout_ms, 800);
    assert_int_equal(options.order_timeout_ms, 900);
    assert_int_equal(options.log_level, LOG_LEVEL_DEBUG);
    assert_true(options.plan);
}

static void test_environment_is_read_and_flags_win(void **state) {
    (void)state;
    struct error err;
    setenv("SUREFOOT_COORDINATOR", "ipc://from-environment", 1);
    setenv("SUREFOOT_KV_TOKENS", "123", 1);
    setenv("SUREFOOT_SLOTS", "7", 1);
    setenv("SUREFOOT_SCORER", "a=x,b=y", 1);
    assert_ok(parse("--policy p --slots 9", &err), &err);
    assert_string_equal(options.coordinator, "ipc://from-environment");
    assert_int_equal(options.kv_tokens, 123);
    assert_int_equal(options.slots, 9);
    assert_int_equal(options.n_scorers, 2);
    assert_string_equal(options.scorers[0].directory, "x");
    assert_string_equal(options.scorers[1].name, "b");
    assert_ok(parse("--policy p --scorer c=z", &err), &err);
    assert_int_equal(options.n_scorers, 1);
    assert_string_equal(options.scorers[0].name, "c");
    setenv("SUREFOOT_SLOTS", "many", 1);
    assert_status(STATUS_INVALID_ARGUMENT, parse("--policy p", &err));
    unsetenv("SUREFOOT_COORDINATOR");
    unsetenv("SUREFOOT_KV_TOKENS");
    unsetenv("SUREFOOT_SLOTS");
    unsetenv("SUREFOOT_SCORER");
}

static void test_bad_values_are_named(void **state) {
    (void)state;
    static const struct {
        const char *line;
        const char *field;
    } cases[] = {
        {"--coordinator tcp://10.0.0.1:5 --policy p", "coordinator"},
        {"--coordinator tcp://127.0.0.1:0 --policy p", "coordinator"},
        {"--coordinator here --policy p", "coordinator"},
        {"--coordinator ipc://e --policy p --slots 0", "slots"},
        {"--coordinator ipc://e --policy p --slots 4097", "slots"},
        {"--coordinator ipc://e --policy p --slots 1x", "slots"},
        {"--coordinator ipc://e --policy p --threads -1", "threads"},
        {"--coordinator ipc://e --policy p --threads 257", "threads"},
        {"--coordinator ipc://e --policy p --kv-tokens 99999999999999999999", "kv-tokens"},
        {"--coordinator ipc://e --policy p --comm tcp", "comm"},
        {"--coordinator ipc://e --policy p --ranks 2", "ranks"},
        {"--coordinator ipc://e --policy p --comm mpi --ranks 2", "ranks"},
        {"--coordinator ipc://e --policy p --comm local --ranks 65", "ranks"},
        {"--coordinator ipc://e --policy p --log-level loud", "log-level"},
        {"--coordinator ipc://e --policy p --precision int4", "precision"},
        {"--coordinator ipc://e --policy p --precision q8", "precision"},
        {"--coordinator ipc://e --policy p --kv-dtype f64", "kv-dtype"},
        {"--coordinator ipc://e --policy p --scorer reward", "scorer"},
        {"--coordinator ipc://e --policy p --scorer =dir", "scorer"},
        {"--coordinator ipc://e --policy p --scorer reward=", "scorer"},
        {"--coordinator ipc://e --policy p --scorer lexical=dir", "scorer"},
        {"--coordinator ipc://e --policy p --scorer a=1 --scorer a=2", "scorer"},
        {"--policy p", "coordinator"},
        {"--coordinator ipc://e", "policy"},
        {"--coordinator ipc://e --policy p --nonsense", "--nonsense"},
        {"--coordinator ipc://e --policy p extra", "extra"},
        {"--coordinator ipc://e --policy", "--policy"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct error err;
        assert_int_not_equal(parse(cases[i].line, &err), STATUS_OK);
        assert_string_equal(err.field, cases[i].field);
        assert_true(strlen(err.message) > 0);
    }
}

static void test_help_and_version_need_nothing_else(void **state) {
    (void)state;
    struct error err;
    assert_ok(parse("--help", &err), &err);
    assert_true(options.help);
    assert_ok(parse("--version", &err), &err);
    assert_true(options.version);
    assert_ok(parse("--plan --policy p", &err), &err);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults_are_as_documented),
        cmocka_unit_test(test_every_flag_is_read),
        cmocka_unit_test(test_environment_is_read_and_flags_win),
        cmocka_unit_test(test_bad_values_are_named),
        cmocka_unit_test(test_help_and_version_need_nothing_else),
    };
    return cmocka_run_group_tests_name("worker_options", tests, NULL, NULL);
}
