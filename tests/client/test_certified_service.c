// surefoot certify with a real service: what it certifies is the same after a kill, jobs that name
// the certificate run, and are refused where fields or models are others.
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "tests/support/command.h"
#include "tests/support/process.h"
#include "tests/support/service.h"
#include "tests/support/testkit.h"

enum { WAIT_MS = 180000, PATH_BYTES = 512, KILL_AT = 10 };

struct place {
    char *directory;
    char prompts[PATH_BYTES];
    char records[PATH_BYTES];
    char certificate[PATH_BYTES];
    struct command command;
    char models[4][PATH_BYTES]; // policy; reward, cost and judge as NAME=DIR
};

static int set_up(void **state) {
    struct place *place = calloc(1, sizeof *place);
    assert_non_null(place);
    place->directory = testkit_make_directory();
    snprintf(place->prompts, PATH_BYTES, "%s", testkit_source_path("models/demo/prompts.jsonl"));
    snprintf(place->records, PATH_BYTES, "%s/records.jsonl", place->directory);
    snprintf(place->certificate, PATH_BYTES, "%s/cert.json", place->directory);
    command_init(&place->command, place->directory, true);
    snprintf(place->models[0], PATH_BYTES, "%s", testkit_source_path("models/demo/policy"));
    snprintf(place->models[1], PATH_BYTES, "reward=%s", testkit_source_path("models/demo/reward"));
    snprintf(place->models[2], PATH_BYTES, "cost=%s", testkit_source_path("models/demo/cost"));
    snprintf(place->models[3], PATH_BYTES, "judge=%s", testkit_source_path("models/demo/cost"));
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

static void serve(struct place *place, char *precision) {
    EXPECT(0, "up: 1 group", "up", "--comm", "local", "--policy", place->models[0], "--reward",
           place->models[1], "--cost", place->models[2], "--reward", place->models[3],
           "--precision", precision);
}

#define CERTIFY(records, certificate, bound)                                                       \
    "certify", place->prompts, "--limit", "24", "--out", (records), "--write", (certificate),      \
        "--bound", (bound), "--epsilon", "0.6", "--delta", "0.2", "--grid", "budget=0.5,1", "--n", \
        "2", "--max-tokens", "12", "--scorer", "reward", "--scorer", "cost", "--scorer",           \
        "judge:reward:0", "--judge", "judge:0", "--trust-constant-judge", "--quiet"

static bool has_records(void *context) {
    FILE *file = fopen(((const struct place *)context)->records, "r");
    int lines = 0;
    for (int c = 0; file != NULL && (c = fgetc(file)) != EOF;) {
        lines += c == '\n';
    }
    if (file != NULL) {
        fclose(file);
    }
    return lines >= KILL_AT;
}

static void expect_same_after_kill(struct place *place, char *bound) {
    char records[PATH_BYTES];
    char certificate[PATH_BYTES];
    snprintf(records, sizeof records, "%s/whole-%s.jsonl", place->directory, bound);
    snprintf(certificate, sizeof certificate, "%s/whole-%s.json", place->directory, bound);
    remove(place->records);
    remove(place->certificate);
    struct process process;
    command_start(&place->command, &process,
                  (char *[]){CERTIFY(place->records, place->certificate, bound), NULL});
    assert_true(process_wait_until(has_records, place, WAIT_MS));
    process_signal(&process, SIGKILL);
    int code = 0;
    assert_true(process_wait(&process, WAIT_MS, &code));
    EXPECT(0, "certified: budget=1", CERTIFY(place->records, place->certificate, bound));
    EXPECT(0, "certified: budget=1", CERTIFY(records, certificate, bound));
    char *first = testkit_read_file(place->certificate, NULL);
    char *second = testkit_read_file(certificate, NULL);
    assert_string_equal(first, second);
    free(first);
    free(second);
}

static void test_a_kill_changes_nothing_in_the_certificate(void **state) {
    struct place *place = *state;
    serve(place, "stored");
    expect_same_after_kill(place, "anytime");
    expect_same_after_kill(place, "exact");
    // Records of answers that did not count before do not count now.
    char anytime[PATH_BYTES];
    snprintf(anytime, sizeof anytime, "%s/whole-anytime.json", place->directory);
    EXPECT(0, "certified: budget=1", CERTIFY(place->records, anytime, "anytime"));
    // The records alone give the same.
    EXPECT(0, "certified: budget=1", "certify", "--records", place->records, "--judge", "judge:0",
           "--epsilon", "0.6", "--delta", "0.2", "--trust-constant-judge", "--write",
           place->certificate, "--asked", "24");
}

static void test_bad_jobs_are_refused_before_they_are_asked(void **state) {
    struct place *place = *state;
    serve(place, "stored");
    EXPECT(2, "--judge: budget=0.5 does not name other among its scorers",
           CERTIFY(place->records, place->certificate, "exact"), "--judge", "other:0");
    EXPECT(2, "--judge: cost has a weight in budget=0.5",
           CERTIFY(place->records, place->certificate, "exact"), "--judge", "cost:0");
    EXPECT(2, "--grid: budget=0.5,discount=1 and budget=0.5,discount=1.0 are the same",
           CERTIFY(place->records, place->certificate, "exact"), "--grid", "discount=1,1.0");
    size_t size = 0;
    free(testkit_read_file(place->records, &size));
    assert_int_equal(size, 0);
}

static void test_a_job_runs_as_certified_or_not_at_all(void **state) {
    struct place *place = *state;
    char *prompt = "Write a sentence with the words: dog, park, run";
    char *certificate = place->certificate;
    serve(place, "stored");
    EXPECT(0, "certified: budget=1", CERTIFY(place->records, certificate, "exact"));
    json_t *written = json_load_file(certificate, 0, NULL);
    char line[128];
    snprintf(line, sizeof line, "certificate %s",
             json_string_value(json_object_get(written, "id")));
    json_decref(written);
    EXPECT(0, line, "run", prompt, "--certificate", certificate, "--seed", "3");
    EXPECT(0, line, "run", prompt, "--certificate", certificate, "--budget", "1", "--n", "2");
    EXPECT(2, "--budget: 2.0, and the certificate says 1.0", "run", prompt, "--certificate",
           certificate, "--budget", "2");
    EXPECT(2, "--temperature: 0.5, and the certificate says nothing of it", "run", prompt,
           "--certificate", certificate, "--temperature", "0.5");
    EXPECT(2, "--system: \"Be brief.\", and the certificate says null", "run", prompt,
           "--certificate", certificate, "--system", "Be brief.");
    EXPECT(2, "--certificate: cannot read", "run", prompt, "--certificate", "/nowhere");
    char out[PATH_BYTES];
    snprintf(out, sizeof out, "%s/sweep.jsonl", place->directory);
    EXPECT(0, "2 answered", "sweep", place->prompts, "--limit", "2", "--out", out, "--certificate",
           certificate, "--quiet");
    char *records = testkit_read_file(out, NULL);
    assert_non_null(strstr(records, "\"certificate\":\""));
    free(records);
    EXPECT(0, "inference-guard", "compare", place->prompts, "--limit", "1", "--methods",
           "sample,inference-guard", "--certificate", certificate, "--quiet");
    EXPECT(2, "inference-guard is not among them, which --certificate certifies", "compare",
           place->prompts, "--methods", "sample", "--certificate", certificate);
    EXPECT(0, "", "down");
    serve(place, "bf16");
    EXPECT(2, "is served with another precision", "run", prompt, "--certificate", certificate);
    snprintf(out, sizeof out, "%s/refused.jsonl", place->directory);
    EXPECT(2, "is served with another precision", "sweep", place->prompts, "--limit", "2", "--out",
           out, "--certificate", certificate, "--quiet");
    EXPECT(0, "", "down");
    snprintf(place->models[3], PATH_BYTES, "judge=%s", testkit_source_path("models/demo/reward"));
    serve(place, "stored");
    EXPECT(2, "judge has the weights", "run", prompt, "--certificate", certificate);
}

int main(void) {
    if (!service_is_possible()) {
        return TESTKIT_SKIP;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_kill_changes_nothing_in_the_certificate, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_bad_jobs_are_refused_before_they_are_asked, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_job_runs_as_certified_or_not_at_all, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
