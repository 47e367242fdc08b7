// surefoot up and the commands beside it, with a real service: what died is started again, what
// runs goes on, and flags that do not fit what runs are refused.
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "tests/support/command.h"
#include "tests/support/process.h"
#include "tests/support/service.h"
#include "tests/support/testkit.h"

enum { WAIT_MS = 180000, PIDS_MAX = 8 };

struct place {
    char *directory;
    struct command command;
    char state[512];
};

static int set_up(void **state) {
    struct place *place = calloc(1, sizeof *place);
    assert_non_null(place);
    place->directory = testkit_make_directory();
    command_init(&place->command, place->directory, true);
    snprintf(place->state, sizeof place->state, "%s/state.json", place->directory);
    *state = place;
    return 0;
}

static int tear_down(void **state) {
    struct place *place = *state;
    char *output = NULL;
    command_run(&place->command, &output, (char *[]){"down", NULL});
    free(output);
    testkit_remove_tree(place->directory);
    free(place);
    return 0;
}

#define EXPECT(expected, part, ...)                                                                \
    command_expect(&place->command, (expected), (part), (char *[]){__VA_ARGS__, NULL})

// The process ids of the state file, the coordinator's first; returns how many.
static int read_pids(const struct place *place, pid_t pids[PIDS_MAX]) {
    json_t *state = json_load_file(place->state, 0, NULL);
    json_t *processes = json_object_get(state, "processes");
    int count = (int)json_array_size(processes);
    assert_in_range(count, 1, PIDS_MAX);
    for (int i = 0; i < count; i++) {
        json_t *row = json_array_get(processes, (size_t)i);
        pids[i] = (pid_t)json_integer_value(json_object_get(row, "pid"));
    }
    json_decref(state);
    return count;
}

// True when the process has ended, reaped or not.
static bool has_ended(void *context) {
    char path[64];
    char state = 'Z';
    snprintf(path, sizeof path, "/proc/%d/stat", (int)*(const pid_t *)context);
    FILE *file = fopen(path, "r");
    if (file != NULL && fscanf(file, "%*d (%*[^)]) %c", &state) != 1) {
        state = 'Z';
    }
    if (file != NULL) {
        fclose(file);
    }
    return state == 'Z' || state == 'X';
}

// Kills process `index` and waits for its end.
static void kill_process(const struct place *place, int index, pid_t pids[PIDS_MAX]) {
    assert_true(read_pids(place, pids) > index);
    assert_int_equal(kill(pids[index], SIGKILL), 0);
    assert_true(process_wait_until(has_ended, &pids[index], WAIT_MS));
}

// Which of the processes of `before` are the same now, as a text of "=" and "x".
static void expect_kept(const struct place *place, const pid_t *before, const char *wanted) {
    pid_t now[PIDS_MAX];
    char kept[PIDS_MAX + 1] = "";
    int count = read_pids(place, now);
    for (int i = 0; i < count; i++) {
        kept[i] = i < (int)strlen(wanted) && wanted[i] != '+' && now[i] == before[i] ? '=' : 'x';
        kept[i] = wanted[i] == '+' ? '+' : kept[i];
    }
    assert_string_equal(kept, wanted);
}

static void test_up_starts_what_is_missing_and_no_more(void **state) {
    const struct place *place = *state;
    pid_t before[PIDS_MAX];
    EXPECT(0, "up: 2 groups of 1 rank", "up", "--comm", "local", "--groups", "2");
    kill_process(place, 1, before);
    EXPECT(0, "started now: 1 group;", "up");
    expect_kept(place, before, "=x=");
    EXPECT(0, "all of it was up already", "up");
    expect_kept(place, before, "=x=");
    kill_process(place, 0, before);
    EXPECT(4, "surefoot up", "run", "Write a sentence with the words: dog, park, run");
    EXPECT(0, "started now: the coordinator, 0 groups;", "up");
    expect_kept(place, before, "x==");
    EXPECT(0, "started now: 1 group;", "up", "--groups", "3");
    expect_kept(place, before, "x==+");
    EXPECT(0, "COMPLETED", "run", "Write a sentence with the words: dog, park, run", "--method",
           "sample", "--max-tokens", "4");
}

static void test_flags_that_the_service_has_not_are_refused(void **state) {
    const struct place *place = *state;
    char *prompt = "Write a sentence with the words: dog, park, run";
    EXPECT(0, "up: 1 group of 1 rank", "up", "--comm", "local", "--slots", "8");
    EXPECT(2, "--precision: the service that is up has stored, not int8", "run", prompt,
           "--precision", "int8");
    EXPECT(2, "--precision: the service that is up has stored, not int8", "up", "--precision",
           "int8");
    EXPECT(2, "--slots: the service that is up has 8, not 9", "run", prompt, "--slots", "9");
    EXPECT(2, "--groups: the service that is up has 1, not 2", "run", prompt, "--groups", "2");
    char policy[600];
    snprintf(policy, sizeof policy, "%s", testkit_source_path("models/demo/cost"));
    EXPECT(2, "--policy: the service that is up has", "run", prompt, "--policy", policy);
    snprintf(policy, sizeof policy, "%s", testkit_source_path("models/../models/demo/policy"));
    EXPECT(0, "COMPLETED", "run", prompt, "--method", "sample", "--max-tokens", "4", "--precision",
           "stored", "--slots", "8", "--policy", policy);
    EXPECT(2, "--kv-dtype: has no effect on the service at", "run", prompt, "--kv-dtype", "f16",
           "--endpoint", "tcp://127.0.0.1:1");
}

int main(void) {
    if (!service_is_possible()) {
        return TESTKIT_SKIP;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_up_starts_what_is_missing_and_no_more, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_flags_that_the_service_has_not_are_refused, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
