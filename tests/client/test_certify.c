// surefoot certify on records that are there: what it certifies, what it refuses by name, and that
// a certificate which was altered is no certificate.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include "tests/support/command.h"
#include "tests/support/testkit.h"

enum { PATH_BYTES = 512, ITEMS = 100 };

struct place {
    char *directory;
    char safe[PATH_BYTES];  // records of budget 0
    char loose[PATH_BYTES]; // of budget 1
    char verdicts[PATH_BYTES];
    char certificate[PATH_BYTES];
    struct command command;
};

static int set_up(void **state) {
    struct place *place = calloc(1, sizeof *place);
    assert_non_null(place);
    place->directory = testkit_make_directory();
    snprintf(place->safe, PATH_BYTES, "%s/safe.jsonl", place->directory);
    snprintf(place->loose, PATH_BYTES, "%s/loose.jsonl", place->directory);
    snprintf(place->verdicts, PATH_BYTES, "%s/verdicts.jsonl", place->directory);
    snprintf(place->certificate, PATH_BYTES, "%s/cert.json", place->directory);
    command_init(&place->command, place->directory, false);
    *state = place;
    return 0;
}

static int tear_down(void **state) {
    struct place *place = *state;
    testkit_remove_tree(place->directory);
    free(place);
    return 0;
}

// Every `every`th answer is unsafe, 0: none; every twentieth item is refused.
struct records {
    const char *budget;
    int every;
    const char *weight;  // of the judge in the job
    const char *outcome; // of item 7
    const char *prompt;  // of item 7
    const char *hash;    // of the policy
    int count;
};

static struct records records_of(const char *budget, int every) {
    return (struct records){.budget = budget,
                            .every = every,
                            .weight = "0.0",
                            .outcome = "COMPLETED",
                            .prompt = "p7",
                            .hash = "h1",
                            .count = ITEMS};
}

static bool is_refused(int item) {
    return item % 20 == 3;
}

static bool is_unsafe(const struct records *records, int item) {
    return records->every > 0 && item % records->every == 0 && !is_refused(item);
}

static void write_records(const char *path, struct records records) {
    FILE *out = fopen(path, "w");
    assert_non_null(out);
    for (int i = 0; i < records.count; i++) {
        const char *outcome = i == 7          ? records.outcome
                              : is_refused(i) ? "NO_SAFE_CANDIDATE"
                                              : "COMPLETED";
        char text[64] = "";
        if (strcmp(outcome, "COMPLETED") == 0) {
            snprintf(text, sizeof text, "\"text\":\"answer %d\",\"scores\":{\"judge\":%s},", i,
                     is_unsafe(&records, i) ? "1.5" : "-0.25");
        }
        fprintf(out,
                "{\"surefoot_sweep\":1,\"id\":%d,\"outcome\":\"%s\",%s\"key\":\"k-%s-%d\","
                "\"models\":{\"policy\":\"%s\"},\"input\":{\"prompt\":\"%s\"},\"settings\":{"
                "\"benchmark\":null,\"asked\":\"prompt\",\"system\":null,\"prefill\":null,"
                "\"rendered\":false,\"job\":{\"method\":\"inference-guard\",\"budget\":%s,"
                "\"sampling\":{\"min_tokens\":0},\"scorers\":[{\"name\":\"judge\",\"role\":"
                "\"reward\",\"weight\":%s}]},\"models\":{\"policy\":{\"role\":\"policy\",\"hash\":"
                "\"h1\",\"context_length\":64}}}}\n",
                i, outcome, text, records.budget, i, records.hash, i == 7 ? records.prompt : "p",
                records.budget, records.weight);
    }
    fclose(out);
}

// One row for each answer of both files.
static void write_verdicts(const struct place *place, int every_safe, int every_loose) {
    FILE *out = fopen(place->verdicts, "w");
    assert_non_null(out);
    for (int i = 0; i < ITEMS; i++) {
        const struct records safe = records_of("0.0", every_safe);
        const struct records loose = records_of("1.0", every_loose);
        fprintf(out, "{\"id\":%d,\"key\":\"k-0.0-%d\",\"unsafe\":%s}\n", i, i,
                is_unsafe(&safe, i) ? "true" : "false");
        fprintf(out, "{\"id\":%d,\"key\":\"k-1.0-%d\",\"unsafe\":%s}\n", i, i,
                is_unsafe(&loose, i) ? "true" : "false");
    }
    fclose(out);
}

#define EXPECT(expected, part, ...)                                                                \
    command_expect(&place->command, (expected), (part), (char *[]){"certify", __VA_ARGS__, NULL})

// Both settings under the judge's scores.
#define SCORED                                                                                     \
    "--records", (char *)place->safe, "--records", (char *)place->loose, "--judge", "judge:0",     \
        "--asked", "100"
#define JUDGED                                                                                     \
    "--records", (char *)place->safe, "--records", (char *)place->loose, "--verdicts",             \
        (char *)place->verdicts, "--asked", "100"

static void expect_no_certificate(const struct place *place) {
    char part[PATH_BYTES + 8];
    snprintf(part, sizeof part, "%s.part", place->certificate);
    assert_int_not_equal(access(place->certificate, F_OK), 0);
    assert_int_not_equal(access(part, F_OK), 0);
}

// A certificate with these bytes in the place of those is refused by the field.
static void expect_altered(const struct place *place, const char *before, const char *after,
                           const char *field) {
    char *text = testkit_read_file(place->certificate, NULL);
    char *at = strstr(text, before);
    char altered[PATH_BYTES];
    snprintf(altered, sizeof altered, "%s/altered.json", place->directory);
    assert_non_null(at);
    FILE *out = fopen(altered, "w");
    assert_non_null(out);
    fprintf(out, "%.*s%s%s", (int)(at - text), text, after, at + strlen(before));
    fclose(out);
    free(text);
    EXPECT(2, field, "--check", altered);
}

static void test_the_loosest_setting_that_passes_is_certified(void **state) {
    const struct place *place = *state;
    write_records(place->safe, records_of("0.0", 0));
    write_records(place->loose, records_of("1.0", 50)); // items 0 and 50
    EXPECT(0, "certified: budget=1.0; an answer is given and unsafe in at most 0.1", SCORED,
           "--epsilon", "0.1", "--write", (char *)place->certificate);
    json_t *certificate = json_load_file(place->certificate, 0, NULL);
    const json_t *settings = json_object_get(certificate, "settings");
    const json_t *chosen = json_array_get(settings, 1);
    assert_int_equal(json_array_size(settings), 2);
    assert_int_equal(json_integer_value(json_object_get(chosen, "prompts")), ITEMS);
    assert_int_equal(json_integer_value(json_object_get(chosen, "answered")), 95);
    assert_true(json_real_value(json_object_get(chosen, "losses")) == 2);
    assert_null(json_object_get(json_object_get(certificate, "job"), "seed"));
    json_decref(certificate);
    EXPECT(0, "holds: budget=1.0, joint risk at most 0.1, confidence 0.95", "--check",
           (char *)place->certificate);
    // Of the answers that were given the share is larger, and four of 95 are too many for 0.08.
    write_records(place->loose, records_of("1.0", 25)); // items 0, 25, 50, 75
    EXPECT(0, "certified: budget=0.0; an answer that is given is unsafe in at most 0.08", SCORED,
           "--epsilon", "0.08", "--risk", "answered");
}

static void test_the_same_findings_give_the_same_bytes(void **state) {
    const struct place *place = *state;
    write_records(place->safe, records_of("0.0", 0));
    write_records(place->loose, records_of("1.0", 50));
    EXPECT(0, "certified", SCORED, "--epsilon", "0.1", "--write", (char *)place->certificate);
    char *first = testkit_read_file(place->certificate, NULL);
    EXPECT(0, "certified", SCORED, "--epsilon", "0.1", "--write", (char *)place->certificate);
    char *second = testkit_read_file(place->certificate, NULL);
    assert_string_equal(first, second);
    assert_null(strstr(first, "0.29999999999999999"));
    free(first);
    free(second);
    // Another target is another certificate, and nothing is overwritten.
    EXPECT(2, "holds something else; name another file", SCORED, "--epsilon", "0.2", "--write",
           (char *)place->certificate);
    EXPECT(0, "joint risk at most 0.1", "--check", (char *)place->certificate);
}

static void test_an_altered_certificate_is_refused_by_its_field(void **state) {
    const struct place *place = *state;
    write_records(place->safe, records_of("0.0", 0));
    write_records(place->loose, records_of("1.0", 50));
    EXPECT(0, "certified", SCORED, "--epsilon", "0.1", "--write", (char *)place->certificate);
    expect_altered(place, "\"epsilon\": 0.1", "\"epsilon\": 0.05", "settings[0]: its p, upper");
    expect_altered(place, "\"epsilon\": 0.1", "\"epsilon\": NaN", "no certificate, or not all");
    expect_altered(place, "\"epsilon\": 0.1", "\"epsilon\": 2.0", "rule: epsilon and delta");
    expect_altered(place, "\"losses\": 2.0", "\"losses\": 1.0", "settings[1]: its p, upper");
    expect_altered(place, "\"losses\": 2.0", "\"losses\": 2.5", "settings[1]: its counts");
    expect_altered(place, "\"answered\": 95", "\"answered\": 950", "settings[0]: its counts");
    expect_altered(place, "\"chosen\": 1", "\"chosen\": 0", "chosen: does not follow");
    expect_altered(place, "\"bound\": 0.0", "\"bound\": 0.01", "bound: does not follow");
    expect_altered(place, "\"budget\": 1.0", "\"budget\": 1.5", "fields: is not the hash of job");
    expect_altered(place, "\"method\": \"inf", "\"methods\": \"inf", "job.methods: is no field");
    expect_altered(place, "\"threshold\": 0.0", "\"threshold\": 9.0", "id: is not the hash");
    expect_altered(place, "\"context_length\": 64", "\"context_length\": 65", "id: is not the");
    expect_altered(place, "\"context_length\": 64", "\"context_length\": \"long\"",
                   "context_length: is not a whole number");
    expect_altered(place, "\"surefoot_certificate\": 1", "\"surefoot_certificate\": 2",
                   "surefoot_certificate: is 2");
    expect_altered(place, "\"surefoot_certificate\": 1", "\"another\": 1",
                   "this is no certificate");
    expect_altered(place, "\"exact\"", "\"rough\"", "rule: names a risk, bound or procedure");
    char *text = testkit_read_file(place->certificate, NULL);
    for (size_t size = 0; size + 2 < strlen(text); size += strlen(text) / 12) {
        char torn[PATH_BYTES];
        snprintf(torn, sizeof torn, "%s/torn.json", place->directory);
        testkit_write_file(torn, text, size);
        EXPECT(2, "is no certificate, or not all of one", "--check", torn);
    }
    free(text);
    EXPECT(2, "cannot read", "--check", "/nowhere/cert.json");
}

static void test_verdicts_of_a_judge_outside_are_joined(void **state) {
    const struct place *place = *state;
    write_records(place->safe, records_of("0.0", 0));
    write_records(place->loose, records_of("1.0", 0));
    write_verdicts(place, 0, 50);
    EXPECT(0, "certified: budget=1.0", JUDGED, "--epsilon", "0.1", "--write",
           (char *)place->certificate);
    EXPECT(0, "holds", "--check", (char *)place->certificate);
    // Of one setting the id says enough, also as a table has it.
    FILE *out = fopen(place->verdicts, "w");
    for (int i = 0; i < ITEMS; i++) {
        fprintf(out, "{\"id\":\"%d\",\"unsafe\":%s}\n", i, i == 4 ? "0.25" : "0");
    }
    fclose(out);
    EXPECT(2, "--bound: verdicts between 0 and 1 need hoeffding-bentkus", "--records",
           (char *)place->safe, "--verdicts", (char *)place->verdicts, "--epsilon", "0.1",
           "--asked", "100");
    EXPECT(0, "certified: method=inference-guard", "--records", (char *)place->safe, "--verdicts",
           (char *)place->verdicts, "--epsilon", "0.1", "--bound", "hoeffding-bentkus", "--asked",
           "100");
}

// The verdicts with this in the place of that.
static void expect_verdicts(const struct place *place, const char *before, const char *after,
                            const char *part) {
    write_verdicts(place, 0, 50);
    char *text = testkit_read_file(place->verdicts, NULL);
    char *at = strstr(text, before);
    assert_non_null(at);
    FILE *out = fopen(place->verdicts, "w");
    assert_non_null(out);
    fprintf(out, "%.*s%s%s", (int)(at - text), text, after, at + strlen(before));
    fclose(out);
    free(text);
    EXPECT(2, part, JUDGED, "--epsilon", "0.1", "--write", (char *)place->certificate);
    expect_no_certificate(place);
}

static void test_bad_verdicts_are_refused_by_line(void **state) {
    const struct place *place = *state;
    write_records(place->safe, records_of("0.0", 0));
    write_records(place->loose, records_of("1.0", 0));
    expect_verdicts(place, "{\"id\":1,", "{\"id\":1000,",
                    "--verdicts.line 3: no record has its id");
    expect_verdicts(place, "{\"id\":1,", "{\"name\":1,", "--verdicts.line 3: no id");
    expect_verdicts(place, "\"k-0.0-1\"", "\"k-0.0-2\"", "line 3: no record of its id has the key");
    expect_verdicts(place, "\"key\":\"k-0.0-1\",", "", "line 3: no key: with 2 settings");
    expect_verdicts(place, "\"k-0.0-1\"", "1", "line 3: key is no text");
    expect_verdicts(place, "{\"id\":1,\"key\":\"k-1.0-1\"", "{\"id\":1,\"key\":\"k-0.0-1\"",
                    "line 4: a second verdict on the same answer");
    expect_verdicts(place, "k-0.0-1\",\"unsafe\":false", "k-0.0-1\",\"unsafe\":\"nan\"",
                    "line 3: unsafe is not true, false or a number in [0, 1]");
    expect_verdicts(place, "k-0.0-1\",\"unsafe\":false", "k-0.0-1\",\"unsafe\":1.5",
                    "line 3: unsafe is not");
    expect_verdicts(place, "k-0.0-1\",\"unsafe\":false", "k-0.0-1\",\"unsafe\":NaN", "--verdicts");
    expect_verdicts(place, "k-0.0-1\",\"unsafe\":false", "k-0.0-1\",\"safe\":true",
                    "line 3: no field unsafe");
    expect_verdicts(place, "k-0.0-3\",\"unsafe\":false", "k-0.0-3\",\"unsafe\":true",
                    "line 7: unsafe, and the item was refused");
    expect_verdicts(place, "{\"id\":1,\"key\":\"k-0.0-1\",\"unsafe\":false}\n", "",
                    "none for the answer to item 1 under budget=0.0, key k-0.0-1");
}

// Of an interrupted sweep the short answers are there.
static void test_records_must_be_of_all_prompts(void **state) {
    const struct place *place = *state;
    struct records some = records_of("0.0", 0);
    some.count = 60;
    write_records(place->safe, some);
#define SAFE "--records", (char *)place->safe, "--judge", "judge:0", "--epsilon", "0.1"
    EXPECT(2, "--asked: required with --records", SAFE);
    EXPECT(2, "--asked: 100 prompts, and the records hold 60", SAFE, "--asked", "100");
    EXPECT(2, "--asked: goes with --records alone", "--check", "cert.json", "--asked", "100");
    expect_no_certificate(place);
}

static void test_bad_records_are_refused_by_name(void **state) {
    const struct place *place = *state;
    struct records loose = records_of("1.0", 50);
    write_records(place->safe, records_of("0.0", 0));
    loose.outcome = "FAILED";
    write_records(place->loose, loose);
    EXPECT(2, "item 7 ended FAILED", SCORED, "--epsilon", "0.1");
    loose = records_of("1.0", 50);
    loose.prompt = "another";
    write_records(place->loose, loose);
    EXPECT(2, "item 7 asks one thing under budget=0.0 and another", SCORED, "--epsilon", "0.1");
    loose = records_of("1.0", 50);
    loose.hash = "h2";
    write_records(place->loose, loose);
    EXPECT(2, "settings.models lack a model that answered", SCORED, "--epsilon", "0.1");
    loose = records_of("1.0", 50);
    loose.weight = "1.0";
    write_records(place->loose, loose);
    EXPECT(2, "--judge: judge has a weight in budget=1.0", SCORED, "--epsilon", "0.1");
    loose = records_of("1.0", 50);
    loose.count = 90;
    write_records(place->loose, loose);
    EXPECT(2, "has a record under budget=0.0 and none under budget=1.0", SCORED, "--epsilon",
           "0.1");
    write_records(place->loose, records_of("0.0", 50));
    EXPECT(2, "two settings are the same job", SCORED, "--epsilon", "0.1");
    EXPECT(2, "does not name other among its scorers", "--records", (char *)place->safe, "--judge",
           "other:0", "--epsilon", "0.1");
    EXPECT(2, "--records: cannot read /nowhere", "--records", "/nowhere", "--judge", "judge:0",
           "--epsilon", "0.1");
    testkit_write_file(place->loose, "{\"prompt\":1}\n", 13);
    EXPECT(2, "--records line 1", SCORED, "--epsilon", "0.1");
    expect_no_certificate(place);
}

static void test_a_target_out_of_reach_is_told_from_the_pilot(void **state) {
    const struct place *place = *state;
    write_records(place->safe, records_of("0.0", 2));
    write_records(place->loose, records_of("1.0", 2));
    EXPECT(3, "no setting can reach it: each is above 0.05 with confidence 0.95, told from 20",
           SCORED, "--epsilon", "0.05", "--write", (char *)place->certificate);
    expect_no_certificate(place);
    // Just not certified is not out of reach.
    write_records(place->safe, records_of("0.0", 20));
    EXPECT(3, "nothing is certified", SCORED, "--epsilon", "0.05");
    EXPECT(2, "prompts: 100 are too few: 299 safe answers", SCORED, "--epsilon", "0.01");
}

// Told before any file is read: what is made for it may take hours.
static void test_a_certificate_that_cannot_be_written_is_told_first(void **state) {
    const struct place *place = *state;
    char path[PATH_BYTES];
#define LATE "--records", "/nowhere", "--judge", "judge:0", "--asked", "100", "--epsilon", "0.1"
    EXPECT(2, "--records: cannot read /nowhere", LATE, "--write", (char *)place->certificate);
    expect_no_certificate(place);
    EXPECT(2, "--write: cannot write /nowhere/cert.json", LATE, "--write", "/nowhere/cert.json");
    EXPECT(2, "holds something else", LATE, "--write", (char *)place->directory);
    snprintf(path, sizeof path, "%s/note.txt", place->directory);
    testkit_write_file(path, "{}", 2);
    EXPECT(2, "--write: ", LATE, "--write", path);
#undef LATE
}

static void test_a_judge_that_says_the_same_of_all_is_not_trusted(void **state) {
    const struct place *place = *state;
    write_records(place->safe, records_of("0.0", 0));
    write_records(place->loose, records_of("1.0", 0));
    EXPECT(2, "--judge: every answer is called the same", SCORED, "--epsilon", "0.1", "--write",
           (char *)place->certificate);
    expect_no_certificate(place);
    EXPECT(0, "certified: budget=1.0", SCORED, "--epsilon", "0.1", "--trust-constant-judge");
}

static void test_bad_flags_are_refused_by_name(void **state) {
    const struct place *place = *state;
    write_records(place->safe, records_of("0.0", 0));
    char *safe = (char *)place->safe;
    EXPECT(2, "--epsilon: required", "--records", safe, "--judge", "judge:0");
    EXPECT(2, "--judge: one judge", "--records", safe, "--epsilon", "0.1");
    EXPECT(2, "is not NAME:X", "--records", safe, "--epsilon", "0.1", "--judge", "judge");
    EXPECT(2, "is not NAME:X", "--records", safe, "--epsilon", "0.1", "--judge", "judge:nan");
    EXPECT(2, "--bound: unknown", "--records", safe, "--epsilon", "0.1", "--judge", "j:0",
           "--bound", "x");
    EXPECT(2, "--epsilon: \"1\" is not in", "--records", safe, "--epsilon", "1", "--judge", "j:0");
    EXPECT(2, "one of FILE, --records, --check", "--epsilon", "0.1", "--judge", "j:0");
    EXPECT(2, "--budget: has no effect without FILE", "--records", safe, "--epsilon", "0.1",
           "--judge", "j:0", "--budget", "3");
    EXPECT(2, "--grid: has no effect without FILE", "--records", safe, "--epsilon", "0.1",
           "--judge", "j:0", "--grid", "n=3");
    EXPECT(2, "--check: stands alone; --epsilon", "--check", safe, "--epsilon", "0.1");
    EXPECT(2, "--check: stands alone; --delta", "--check", safe, "--delta", "0.1");
    EXPECT(2, "--check: stands alone; --base", "--check", safe, "--base");
    char prompts[PATH_BYTES];
    snprintf(prompts, sizeof prompts, "%s", testkit_source_path("models/demo/prompts.jsonl"));
    EXPECT(2, "--block-growth: \"0.5\" is not in [1, 16]", prompts, "--out", (char *)place->loose,
           "--epsilon", "0.1", "--judge", "j:0", "--grid", "block_growth=0.5");
    EXPECT(2, "--grid: n is there twice", prompts, "--out", (char *)place->loose, "--epsilon",
           "0.1", "--judge", "j:0", "--grid", "n=1,2", "--grid", "n=3");
    EXPECT(2, "--out: required", safe, "--epsilon", "0.1", "--judge", "j:0");
}

int main(void) {
#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(test_the_loosest_setting_that_passes_is_certified),
        CASE(test_the_same_findings_give_the_same_bytes),
        CASE(test_an_altered_certificate_is_refused_by_its_field),
        CASE(test_verdicts_of_a_judge_outside_are_joined),
        CASE(test_bad_verdicts_are_refused_by_line),
        CASE(test_records_must_be_of_all_prompts),
        CASE(test_bad_records_are_refused_by_name),
        CASE(test_a_target_out_of_reach_is_told_from_the_pilot),
        CASE(test_a_certificate_that_cannot_be_written_is_told_first),
        CASE(test_a_judge_that_says_the_same_of_all_is_not_trusted),
        CASE(test_bad_flags_are_refused_by_name),
    };
#undef CASE
    return cmocka_run_group_tests(tests, NULL, NULL);
}
