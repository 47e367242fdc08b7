// surefoot critic: the real programs over the shipped models. The same critic comes out on one rank
// and on two, whole or interrupted; it predicts better than the safety state; bad input is refused.
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/process.h"
#include "tests/support/testkit.h"

enum { WAIT_MS = 240000, PROMPTS = 30, ARGUMENTS_MAX = 40, PATH_BYTES = 4200 };

struct place {
    char *directory;
    char prompts[PATH_BYTES];
};

static int set_up(void **state) {
    struct place *place = calloc(1, sizeof *place);
    place->directory = testkit_make_directory();
    snprintf(place->prompts, sizeof place->prompts, "%s/prompts.jsonl", place->directory);
    char *all = testkit_read_file(testkit_source_path("models/demo/prompts.jsonl"), NULL);
    char *end = all;
    for (int i = 0; i < PROMPTS; i++) {
        end = strchr(end, '\n') + 1;
    }
    testkit_write_file(place->prompts, all, (size_t)(end - all));
    free(all);
    *state = place;
    return 0;
}

static int tear_down(void **state) {
    struct place *place = *state;
    testkit_remove_tree(place->directory);
    free(place);
    return 0;
}

static void start(struct process *process, const struct place *place, const char *out,
                  const char *const *more) {
    static char program[PATH_BYTES], state_dir[PATH_BYTES];
    char log_path[PATH_BYTES];
    snprintf(program, sizeof program, "%s", testkit_binary_path("bin/surefoot"));
    snprintf(state_dir, sizeof state_dir, "%s/none", place->directory);
    snprintf(log_path, sizeof log_path, "%s.log", out);
    unlink(log_path);
    const char *argv[ARGUMENTS_MAX] = {program,  "critic", "train",    place->prompts, "--out",
                                       out,      "--dir",  state_dir,  "--rollouts",   "2",
                                       "--seed", "3",      "--epochs", "12",           "--json"};
    int n = 15;
    for (int i = 0; more[i] != NULL; i++) {
        argv[n++] = more[i];
    }
    process_start(process, log_path, (char *const *)(uintptr_t)argv);
}

// The JSON that it printed in the end; owned.
static json_t *run(const struct place *place, const char *out, const char *const *more,
                   int wanted) {
    struct process process = {.pid = 0};
    int code = -1;
    start(&process, place, out, more);
    assert_true(process_wait(&process, WAIT_MS, &code));
    char *log = testkit_read_file(process.log_path, NULL);
    if (code != wanted) {
        fail_msg("code %d, not %d:\n%s", code, wanted, log);
    }
    char *line = strstr(log, "\n{");
    json_t *report = line != NULL ? json_loads(line, JSON_DISABLE_EOF_CHECK, NULL) : NULL;
    free(log);
    return report;
}

static void assert_equal_files(const char *a, const char *b) {
    size_t size_a, size_b;
    char *bytes_a = testkit_read_file(a, &size_a), *bytes_b = testkit_read_file(b, &size_b);
    assert_int_equal(size_a, size_b);
    assert_memory_equal(bytes_a, bytes_b, size_a);
    free(bytes_a);
    free(bytes_b);
}

static bool has_checkpoint(void *context) {
    return access(context, F_OK) == 0;
}

static void test_one_critic_on_any_ranks_whole_or_interrupted(void **state) {
    const struct place *place = *state;
    char one[PATH_BYTES], two[PATH_BYTES], checkpoint[PATH_BYTES + 16];
    snprintf(one, sizeof one, "%s/one", place->directory);
    snprintf(two, sizeof two, "%s/two", place->directory);
    snprintf(checkpoint, sizeof checkpoint, "%s.training", two);
    json_t *whole = run(place, one, (const char *const[]){"--ranks", "1", NULL}, 0);
    assert_non_null(whole);
    assert_int_equal(json_integer_value(json_object_get(whole, "prompts")), PROMPTS);
    const json_t *budget = json_array_get(json_object_get(whole, "budgets"), 0);
    assert_true(json_number_value(json_object_get(budget, "budget")) == 1); // the profile's
    assert_int_equal(json_array_size(json_object_get(budget, "at")), 3);

    // Two ranks; ended once while it trains, and gone on with.
    static const char *const ranks[] = {"--ranks", "2", NULL};
    struct process process = {.pid = 0};
    start(&process, place, two, ranks);
    assert_true(process_wait_until(has_checkpoint, checkpoint, WAIT_MS) || access(two, F_OK) == 0);
    process_signal(&process, SIGTERM);
    int code = -1;
    assert_true(process_wait(&process, WAIT_MS, &code));
    assert_true(code == 0 || code == 5);
    json_t *parts = run(place, two, ranks, 0);
    assert_equal_files(one, two);
    assert_int_equal(access(checkpoint, F_OK), -1);
    json_object_del(whole, "out");
    json_object_del(parts, "out");
    assert_true(json_equal(whole, parts));
    json_decref(whole);
    json_decref(parts);

    // What is there and no critic stays, whoever trains.
    char records[PATH_BYTES + 32], program[PATH_BYTES], log_path[PATH_BYTES + 16];
    snprintf(records, sizeof records, "%s.rollouts.jsonl", one);
    snprintf(program, sizeof program, "%s", testkit_binary_path("bin/surefoot-critic"));
    snprintf(log_path, sizeof log_path, "%s.log", one);
    char *before = testkit_read_file(place->prompts, NULL);
    process_start(&process, log_path,
                  (char *[]){program, "train", "--records", records, "--out",
                             (char *)place->prompts, "--epochs", "1", NULL});
    assert_true(process_wait(&process, WAIT_MS, &code));
    assert_int_equal(code, 2);
    char *after = testkit_read_file(place->prompts, NULL);
    assert_string_equal(before, after);
    free(before);
    free(after);
}

static void test_what_is_there_and_no_critic_stays(void **state) {
    const struct place *place = *state;
    char records[PATH_BYTES + 32];
    snprintf(records, sizeof records, "%s.rollouts.jsonl", place->prompts);
    char *before = testkit_read_file(place->prompts, NULL);
    json_t *report = run(place, place->prompts, (const char *const[]){NULL}, 2);
    const json_t *error = json_object_get(report, "error");
    assert_string_equal(json_string_value(json_object_get(error, "field")), "--out");
    json_decref(report);
    char *after = testkit_read_file(place->prompts, NULL);
    assert_string_equal(before, after);
    assert_int_equal(access(records, F_OK), -1); // nothing was asked
    free(before);
    free(after);
}

static void test_what_is_no_roll_out_is_refused(void **state) {
    const struct place *place = *state;
    char out[PATH_BYTES], log_path[PATH_BYTES + 32], records[PATH_BYTES + 32];
    snprintf(out, sizeof out, "%s/bad", place->directory);
    snprintf(records, sizeof records, "%s.rollouts.jsonl", out);
    snprintf(log_path, sizeof log_path, "%s.log", out);
    json_t *report = run(place, out, (const char *const[]){"--method", "beam", NULL}, 2);
    const json_t *error = json_object_get(report, "error");
    assert_string_equal(json_string_value(json_object_get(error, "field")), "--method");
    json_decref(report);
    report = run(place, out, (const char *const[]){"--forbid", "dog", NULL}, 2);
    char *log = testkit_read_file(log_path, NULL);
    assert_non_null(strstr(log, "lexical"));
    free(log);
    json_decref(report);
    unlink(records);
    // What the training would refuse is refused before anything is asked.
    static const char *const bad[][2] = {
        {"--parts", "9"}, {"--width", "-1"}, {"--learning-rate", "0"}, {"--stop-after", "many"}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        json_decref(run(place, out, (const char *const[]){bad[i][0], bad[i][1], NULL}, 2));
        log = testkit_read_file(log_path, NULL);
        assert_non_null(strstr(log, bad[i][0] + 2));
        free(log);
        assert_int_equal(access(records, F_OK), -1);
    }
    assert_int_equal(access(out, F_OK), -1);
}

// Runs surefoot with these arguments, which NULL ends; returns its log, owned.
static char *call(const struct place *place, const char *const *arguments, int wanted) {
    char program[PATH_BYTES], none[PATH_BYTES], log_path[PATH_BYTES];
    snprintf(program, sizeof program, "%s", testkit_binary_path("bin/surefoot"));
    snprintf(none, sizeof none, "%s/none", place->directory);
    snprintf(log_path, sizeof log_path, "%s/call.log", place->directory);
    unlink(log_path);
    const char *argv[ARGUMENTS_MAX] = {program};
    int n = 1;
    for (int i = 0; arguments[i] != NULL; i++) {
        argv[n++] = arguments[i];
    }
    argv[n++] = "--dir";
    argv[n++] = none;
    argv[n++] = "--json";
    struct process process = {.pid = 0};
    int code = -1;
    process_start(&process, log_path, (char *const *)(uintptr_t)argv);
    assert_true(process_wait(&process, WAIT_MS, &code));
    char *log = testkit_read_file(log_path, NULL);
    if (code != wanted) {
        fail_msg("code %d, not %d:\n%s", code, wanted, log);
    }
    return log;
}

#define ASK "run", "Write a sentence with the words: dog, cat", "--n", "8", "--seed", "5"

static double number(const json_t *result, const char *key) {
    assert_true(json_is_number(json_object_get(result, key)));
    return json_number_value(json_object_get(result, key));
}

static void assert_same_on_any_ranks(const struct place *place, const char *use) {
    char critic[PATH_BYTES];
    snprintf(critic, sizeof critic, "%s", testkit_source_path("models/demo/critic.safetensors"));
    json_t *results[2];
    for (int i = 0; i < 2; i++) {
        char *log = call(place,
                         (const char *const[]){ASK, "--critic", use, "--latent-critic", critic,
                                               "--ranks", i == 0 ? "1" : "2", NULL},
                         0);
        char *line = strstr(log, "{\"");
        assert_non_null(line);
        results[i] = json_loads(line, JSON_DISABLE_EOF_CHECK, NULL);
        assert_string_equal(json_string_value(json_object_get(results[i], "outcome")), "COMPLETED");
        const char *hash = json_string_value(json_object_get(results[i], "critic_hash"));
        assert_true(hash != NULL && strlen(hash) == 64);
        free(log);
    }
    static const char *const same[] = {"text", "reward", "cost", "tokens_sampled", "critic_hash"};
    for (size_t i = 0; i < sizeof same / sizeof same[0]; i++) {
        assert_true(
            json_equal(json_object_get(results[0], same[i]), json_object_get(results[1], same[i])));
    }
    if (strcmp(use, "latent+cost") == 0) {
        assert_true(number(results[0], "n_unscored") > 0);
        assert_true(json_equal(json_object_get(results[0], "n_unscored"),
                               json_object_get(results[1], "n_unscored")));
    }
    assert_true(number(results[0], "scored_tokens") > 0);
    json_decref(results[0]);
    json_decref(results[1]);
}

static void test_jobs_are_ordered_by_the_shipped_critic_on_any_ranks(void **state) {
    assert_same_on_any_ranks(*state, "latent");
    assert_same_on_any_ranks(*state, "latent+cost");
}

// Where scorers read all that the critic could leave out, the search is that without a critic.
static void test_a_share_of_one_changes_nothing(void **state) {
    const struct place *place = *state;
    char critic[PATH_BYTES];
    snprintf(critic, sizeof critic, "%s", testkit_source_path("models/demo/critic.safetensors"));
    json_t *results[2];
    for (int i = 0; i < 2; i++) {
        char *log = call(place,
                         (const char *const[]){ASK, "--critic", i == 0 ? "off" : "latent+cost",
                                               "--latent-critic", critic,
                                               i == 0 ? NULL : "--critic-keep", "1", NULL},
                         0);
        results[i] = json_loads(strstr(log, "{\""), JSON_DISABLE_EOF_CHECK, NULL);
        free(log);
    }
    static const char *const same[] = {"text",       "reward",       "cost",      "tokens_sampled",
                                       "n_finished", "n_admissible", "n_repeats", "tries_used"};
    for (size_t i = 0; i < sizeof same / sizeof same[0]; i++) {
        assert_true(
            json_equal(json_object_get(results[0], same[i]), json_object_get(results[1], same[i])));
    }
    json_decref(results[0]);
    json_decref(results[1]);
}

static void test_critics_of_other_jobs_and_broken_ones_are_refused(void **state) {
    const struct place *place = *state;
    char critic[PATH_BYTES], broken[PATH_BYTES];
    snprintf(critic, sizeof critic, "%s", testkit_source_path("models/demo/critic.safetensors"));
    snprintf(broken, sizeof broken, "%s/broken.safetensors", place->directory);
    size_t size = 0;
    char *bytes = testkit_read_file(critic, &size);
    testkit_write_file(broken, bytes, size / 2);
    free(bytes);
    const struct {
        const char *arguments[16];
        const char *said;
    } cases[] = {
        {{ASK, "--critic", "latent", NULL}, "the groups have no critic"},
        {{ASK, "--critic", "latent", "--latent-critic", critic, "--discount", "0.9", NULL},
         "the critic was trained for discount 0.999, the job has 0.9"},
        {{ASK, "--critic", "latent", "--latent-critic", broken, NULL}, "broken.safetensors"},
        {{ASK, "--latent-critic", place->directory, NULL}, "--latent-critic"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *log = call(place, cases[i].arguments, 2);
        if (strstr(log, cases[i].said) == NULL) {
            fail_msg("\"%s\" is not in:\n%s", cases[i].said, log);
        }
        free(log);
    }
}

#define WRITE "run", "Write a sentence with the words: dog, cat", "--seed", "5", "--details"

// The result of a call that is answered; owned.
static json_t *answer(const struct place *place, const char *const *arguments) {
    char *log = call(place, arguments, 0);
    char *line = strstr(log, "{\"");
    assert_non_null(line);
    json_t *result = json_loads(line, JSON_DISABLE_EOF_CHECK, NULL);
    assert_string_equal(json_string_value(json_object_get(result, "outcome")), "COMPLETED");
    free(log);
    return result;
}

static bool same_texts(const json_t *a, const json_t *b) {
    static const char *const same[] = {"text", "token_ids", "token_logprobs", "reward", "cost"};
    bool equal = true;
    for (size_t i = 0; i < sizeof same / sizeof same[0]; i++) {
        assert_non_null(json_object_get(a, same[i]));
        equal = equal && json_equal(json_object_get(a, same[i]), json_object_get(b, same[i]));
    }
    return equal;
}

static void test_a_value_is_trained_and_followed_on_any_ranks(void **state) {
    const struct place *place = *state;
    char value[PATH_BYTES];
    snprintf(value, sizeof value, "%s/value", place->directory);
    json_t *report = run(place, value,
                         (const char *const[]){"--network", "value", "--width", "32", "--batch", "8",
                                               "--learning-rate", "0.001", "--epochs", "8", NULL},
                         0);
    const json_t *terms = json_object_get(report, "terms");
    assert_string_equal(json_string_value(json_object_get(terms, "form")), "value");
    assert_int_equal(json_array_size(json_object_get(terms, "channels")), 0);
    assert_int_equal(json_array_size(json_object_get(report, "at")), 3);
    json_decref(report);

    json_t *sample = answer(place, (const char *const[]){WRITE, "--method", "sample", NULL});
    json_t *still = answer(place, (const char *const[]){WRITE, "--method", "re-control", "--alpha",
                                                        "0", "--value", value, NULL});
    json_t *moved[2];
    for (int i = 0; i < 2; i++) {
        moved[i] =
            answer(place, (const char *const[]){WRITE, "--method", "re-control", "--value", value,
                                                "--ranks", i == 0 ? "1" : "2", "--n", "3", NULL});
    }
    assert_true(same_texts(sample, still));
    assert_true(same_texts(moved[0], moved[1]));
    assert_false(same_texts(sample, moved[0]));
    const char *hash = json_string_value(json_object_get(moved[0], "value_hash"));
    assert_true(hash != NULL && strlen(hash) == 64);
    assert_null(json_object_get(sample, "value_hash"));
    json_decref(sample);
    json_decref(still);
    json_decref(moved[0]);
    json_decref(moved[1]);

    char critic[PATH_BYTES];
    snprintf(critic, sizeof critic, "%s", testkit_source_path("models/demo/critic.safetensors"));
    const struct {
        const char *arguments[20];
        const char *said;
    } cases[] = {
        {{WRITE, "--method", "re-control", NULL}, "the groups have no value network"},
        {{WRITE, "--method", "re-control", "--selection", "lagrangian", "--value", value, NULL},
         "the value network was trained for R - lambda C with lambda 0, the job has 5"},
        {{WRITE, "--method", "re-control", "--chat-template", "raw", "--value", value, NULL},
         "the value network was trained for chat template"},
        {{WRITE, "--method", "re-control", "--value", critic, NULL}, "its form is latent"},
        {{WRITE, "--critic", "latent", "--latent-critic", value, NULL}, "its form is value"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *log = call(place, cases[i].arguments, 2);
        if (strstr(log, cases[i].said) == NULL) {
            fail_msg("\"%s\" is not in:\n%s", cases[i].said, log);
        }
        free(log);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_one_critic_on_any_ranks_whole_or_interrupted, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_what_is_there_and_no_critic_stays, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_is_no_roll_out_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_jobs_are_ordered_by_the_shipped_critic_on_any_ranks,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_share_of_one_changes_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_critics_of_other_jobs_and_broken_ones_are_refused,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_value_is_trained_and_followed_on_any_ranks, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
