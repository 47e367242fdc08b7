// surefoot calibrate with a real service: a killed run goes on to the same file, jobs with it say
// what their answers are among its rewards, and are refused where they sample otherwise.
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/command.h"
#include "tests/support/process.h"
#include "tests/support/testkit.h"

enum { WAIT_MS = 180000, PATH_BYTES = 512 };

struct place {
    char *directory;
    char calibration[PATH_BYTES];
    char records[PATH_BYTES];
    char more[PATH_BYTES];
    struct command command;
    char models[3][PATH_BYTES]; // policy; reward, cost as NAME=DIR
};

static int set_up(void **state) {
    struct place *place = calloc(1, sizeof *place);
    assert_non_null(place);
    place->directory = testkit_make_directory();
    snprintf(place->calibration, PATH_BYTES, "%s/c.pb", place->directory);
    snprintf(place->records, PATH_BYTES, "%s/records.jsonl", place->directory);
    snprintf(place->more, PATH_BYTES, "%s/more.jsonl", place->directory);
    command_init(&place->command, place->directory, true);
    snprintf(place->models[0], PATH_BYTES, "%s", testkit_source_path("models/demo/policy"));
    snprintf(place->models[1], PATH_BYTES, "reward=%s", testkit_source_path("models/demo/reward"));
    snprintf(place->models[2], PATH_BYTES, "cost=%s", testkit_source_path("models/demo/cost"));
    *state = place;
    return 0;
}

#define EXPECT(expected, part, ...)                                                                \
    command_expect(&place->command, (expected), (part), (char *[]){__VA_ARGS__, NULL})

static int tear_down(void **state) {
    struct place *place = *state;
    EXPECT(0, "", "down");
    testkit_remove_tree(place->directory);
    free(place);
    return 0;
}

struct growth {
    const char *path;
    long wanted; // bytes
};

static bool has_grown(void *context) {
    const struct growth *growth = context;
    FILE *file = fopen(growth->path, "rb");
    long size = 0;
    if (file != NULL) {
        size = fseek(file, 0, SEEK_END) == 0 ? ftell(file) : 0;
        fclose(file);
    }
    return size >= growth->wanted;
}

#define CALIBRATE                                                                                  \
    "calibrate", prompts, "--out", place->calibration, "--limit", "6", "--rollouts", "32",         \
        "--max-tokens", "8", "--in-flight", "1"

static void test_a_calibration_is_gathered_and_used(void **state) {
    struct place *place = *state;
    char prompts[PATH_BYTES];
    snprintf(prompts, sizeof prompts, "%s", testkit_source_path("models/demo/prompts.jsonl"));
    EXPECT(0, "up: 1 group", "up", "--comm", "local", "--policy", place->models[0], "--reward",
           place->models[1], "--cost", place->models[2]);
    EXPECT(2, "--n: has no effect: calibrate", CALIBRATE, "--n", "4");
    EXPECT(2, "--budget: has no effect", CALIBRATE, "--budget", "3");
    EXPECT(2, "--block-tokens: has no effect", CALIBRATE, "--block-tokens", "8");
    EXPECT(2, "--forbid: has no effect", CALIBRATE, "--forbid", "cat");
    EXPECT(2, "--words-max: has no effect", CALIBRATE, "--words-max", "3");
    EXPECT(2, "--channel: has no effect", CALIBRATE, "--channel", "c:budget=1");
    EXPECT(2, "--preset: has no effect", CALIBRATE, "--preset", "paper/base");
    EXPECT(2, "--scorer cost: has no effect", CALIBRATE, "--scorer", "reward", "--scorer", "cost");
    EXPECT(2, "--sample-seed: has no effect without --sample", CALIBRATE, "--sample-seed", "2");
    EXPECT(2, "--rollouts", CALIBRATE, "--rollouts", "5000");
    EXPECT(0, "6 prompts, 6 of them new", CALIBRATE);
    size_t size = 0;
    char *whole = testkit_read_file(place->calibration, &size);
    remove(place->calibration);
    struct process process;
    command_start(&place->command, &process, (char *[]){CALIBRATE, NULL});
    struct growth growth = {.path = place->calibration, .wanted = (long)size / 3};
    assert_true(process_wait_until(has_grown, &growth, WAIT_MS));
    process_signal(&process, SIGKILL);
    process_stop(&process, WAIT_MS);
    EXPECT(0, "6 prompts", CALIBRATE);
    size_t again = 0;
    char *bytes = testkit_read_file(place->calibration, &again);
    assert_int_equal(size, again);
    assert_memory_equal(whole, bytes, size);
    free(whole);
    free(bytes);
    EXPECT(2, "--rollouts: 16", CALIBRATE, "--rollouts", "16");
    // Nothing is left to ask, and what would be asked otherwise is told all the same.
    EXPECT(2, "made with seed 0, now it is 9", CALIBRATE, "--seed", "9");
    EXPECT(2, "/c.pb was made otherwise: sampling.temperature: 1 was calibrated, the job has 0.5",
           CALIBRATE, "--temperature", "0.5");
    EXPECT(2, "max_tokens: 8 was calibrated, the job has 9", CALIBRATE, "--max-tokens", "9");
    EXPECT(2, "scorers[0].weight: 1 was calibrated, the job has 2", CALIBRATE, "--scorer",
           "reward:reward:2");
    EXPECT(2, "stop or logit_bias is not what was calibrated", CALIBRATE, "--logit-bias", "5=1");
    EXPECT(2, "stop or logit_bias is not what was calibrated", CALIBRATE, "--stop", "x");
    EXPECT(2, "policy.chat_template: ", CALIBRATE, "--chat-template", "raw");
    EXPECT(0, "6 prompts, 0 of them new", CALIBRATE);
    EXPECT(2, "date", CALIBRATE, "--date", "2001-02-03");
    EXPECT(0, "6 answered", "sweep", prompts, "--limit", "6", "--method", "best-of-n", "--n", "16",
           "--max-tokens", "8", "--budget", "1000", "--tilt", "exp", "--tilt-sampler", "rollouts",
           "--calibration", place->calibration, "--out", place->records);
    EXPECT(2, "which line 7 asks", "sweep", prompts, "--limit", "7", "--method", "best-of-n", "--n",
           "16", "--max-tokens", "8", "--calibration", place->calibration, "--out", place->more);
    EXPECT(2, "/c.pb was made otherwise: max_tokens: 8 was calibrated, the job has 9", "sweep",
           prompts, "--limit", "6", "--method", "best-of-n", "--n", "16", "--max-tokens", "9",
           "--calibration", place->calibration, "--out", place->more);
    EXPECT(0, "", "down");
    EXPECT(0, "up: 1 group", "up", "--comm", "local", "--policy", place->models[0], "--reward",
           place->models[1], "--cost", place->models[2], "--precision", "int8");
    EXPECT(2, "policy.precision: \"stored\" was calibrated, the job has \"int8\"", CALIBRATE);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_calibration_is_gathered_and_used, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
