// Records of sweeps and comparisons in the forms of other tools, byte for byte.
#include "client/cli/exports.h"

#include <stdlib.h>
#include <string.h>

#include "tests/support/testkit.h"

struct place {
    char *directory;
    char path[512];
};

static int set_up(void **state) {
    struct place *place = calloc(1, sizeof *place);
    assert_non_null(place);
    place->directory = testkit_make_directory();
    snprintf(place->path, sizeof place->path, "%s/records.jsonl", place->directory);
    *state = place;
    return 0;
}

static int tear_down(void **state) {
    struct place *place = *state;
    testkit_remove_tree(place->directory);
    free(place);
    return 0;
}

#define SETTINGS ",\"settings\":{\"asked\":\"Behavior\"}}\n"

// An answer cut at its length, whose item has a name of ours among its fields; one refused; one
// whose context was joined.
static const char sweep[] =
    "{\"surefoot_sweep\":1,\"id\":\"a\",\"key\":\"k1\",\"outcome\":\"COMPLETED\",\"text\":\"Yes, "
    "\\\"so\\\"\\nit is\",\"reward\":0.30000000000000004,\"cost\":-1.5,\"over_budget\":false,"
    "\"finish_reason\":\"length\",\"date\":\"2026-11-29\",\"models\":{\"policy\":\"beef\"},"
    "\"input\":{\"Behavior\":\"Say yes\",\"cost\":7,\"tags\":[\"x\",1]}" SETTINGS
    "{\"surefoot_sweep\":1,\"id\":\"b\",\"key\":\"k2\",\"outcome\":\"NO_SAFE_CANDIDATE\","
    "\"date\":\"2026-11-29\",\"input\":{\"Behavior\":\"Say no\",\"more\":null}" SETTINGS
    "{\"surefoot_sweep\":1,\"id\":\"c/2\",\"key\":\"k3\",\"outcome\":\"COMPLETED\",\"text\":\"ok\","
    "\"finish_reason\":\"eos\",\"prompt\":\"first\\nsecond\",\"input\":{\"behavior_id\":\"c\","
    "\"Behavior\":\"second\"}" SETTINGS;

// Exports the records; owned, NULL when it fails with *err.
static char *write(const struct place *place, const char *records,
                   const struct exports_options *options, struct exports_counts *counts,
                   struct error *err) {
    testkit_write_file(place->path, records, strlen(records));
    struct outfile file = {.fd = -1};
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    enum status status = outfile_open_records(place->path, "RECORDS", &file, err);
    if (status == STATUS_OK) {
        status = exports_write(&file, options, out, counts, err);
    }
    outfile_close(&file);
    fclose(out);
    if (status != STATUS_OK) {
        free(text);
        text = NULL;
    }
    return text;
}

static void expect(const struct place *place, const char *records,
                   const struct exports_options *options, const char *expected) {
    struct exports_counts counts;
    struct error err;
    char *text = write(place, records, options, &counts, &err);
    assert_non_null(text);
    assert_string_equal(text, expected);
    free(text);
}

static void expect_refused(const struct place *place, const char *records,
                           const struct exports_options *options, const char *field,
                           const char *what) {
    struct exports_counts counts;
    struct error err = {0};
    assert_null(write(place, records, options, &counts, &err));
    assert_string_equal(err.field, field);
    assert_non_null(strstr(err.message, what));
}

static void test_harmbench_gets_test_cases_and_generations(void **state) {
    const struct exports_options options = {.form = "harmbench", .refusal = "I cannot."};
    expect(*state, sweep, &options,
           "{\n"
           "    \"a\": [\n"
           "        {\n"
           "            \"test_case\": \"Say yes\",\n"
           "            \"generation\": \"Yes, \\\"so\\\"\\nit is\"\n"
           "        }\n"
           "    ],\n"
           "    \"b\": [\n"
           "        {\n"
           "            \"test_case\": \"Say no\",\n"
           "            \"generation\": \"I cannot.\"\n"
           "        }\n"
           "    ],\n"
           "    \"c\": [\n"
           "        {\n"
           "            \"test_case\": \"first\\nsecond\",\n"
           "            \"generation\": \"ok\"\n"
           "        }\n"
           "    ]\n"
           "}\n");
}

static void test_csv_holds_the_items_and_what_the_records_say(void **state) {
    const struct exports_options options = {.form = "csv", .refusal = ""};
    expect(*state, sweep, &options,
           "id,Behavior,input.cost,tags,more,behavior_id,completion,outcome,reward,cost,"
           "safety_state,budget,over_budget,finish_reason,rule,tokens_sampled,run_ms,key\r\n"
           "a,Say yes,7,\"[\"\"x\"\",1]\",,,\"Yes, \"\"so\"\"\nit is\",COMPLETED,"
           "0.30000000000000004,-1.5,,,false,length,,,,k1\r\n"
           "b,Say no,,,,,,NO_SAFE_CANDIDATE,,,,,,,,,,k2\r\n"
           "c/2,second,,,,c,ok,COMPLETED,,,,,,eos,,,,k3\r\n");
}

static void test_xstest_and_strongreject_have_the_text_alone(void **state) {
    const struct exports_options xstest = {.form = "xstest", .refusal = ""};
    expect(*state, sweep, &xstest,
           "id,Behavior,cost,tags,more,behavior_id,completion\r\n"
           "a,Say yes,7,\"[\"\"x\"\",1]\",,,\"Yes, \"\"so\"\"\nit is\"\r\n"
           "b,Say no,,,,,\r\n"
           "c/2,second,,,,c,ok\r\n");
    const struct exports_options strongreject = {.form = "strongreject", .refusal = "No."};
    expect(*state, sweep, &strongreject,
           "id,Behavior,cost,tags,more,behavior_id,response\r\n"
           "a,Say yes,7,\"[\"\"x\"\",1]\",,,\"Yes, \"\"so\"\"\nit is\"\r\n"
           "b,Say no,,,,,No.\r\n"
           "c/2,second,,,,c,ok\r\n");
}

// A context that is empty joins nothing: what was asked is the other column.
static void test_what_was_asked_is_found_where_nothing_was_joined(void **state) {
    static const char records[] =
        "{\"surefoot_sweep\":1,\"id\":\"a\",\"key\":\"k1\",\"outcome\":\"COMPLETED\",\"text\":"
        "\"x\","
        "\"input\":{\"Behavior\":\"p\",\"ContextString\":\"\"},\"settings\":{\"asked\":"
        "\"ContextString + Behavior\"}}\n";
    const struct exports_options options = {.form = "harmbench", .refusal = ""};
    expect(*state, records, &options,
           "{\n    \"a\": [\n        {\n            \"test_case\": \"p\",\n            "
           "\"generation\": \"x\"\n        }\n    ]\n}\n");
}

static void test_columns_of_one_name_are_refused(void **state) {
    static const char records[] =
        "{\"surefoot_sweep\":1,\"id\":\"a\",\"key\":\"k1\",\"outcome\":\"COMPLETED\",\"text\":"
        "\"x\","
        "\"input\":{\"Behavior\":\"p\",\"key\":1,\"input.key\":2}" SETTINGS;
    const struct exports_options options = {.form = "csv", .refusal = ""};
    expect_refused(*state, records, &options, "RECORDS", "key and input.key");
}

// Midnight of 2026-11-29, UTC, is 1795910400.
static void test_batch_lines_are_chat_completions(void **state) {
    static const char failed[] =
        "{\"surefoot_sweep\":1,\"id\":7,\"key\":\"k4\",\"outcome\":\"FAILED\",\"input\":"
        "{\"Behavior\":\"Say no\"}" SETTINGS;
    char records[sizeof sweep + sizeof failed];
    snprintf(records, sizeof records, "%s%s", sweep, failed);
    const struct exports_options options = {.form = "openai-batch", .refusal = "No."};
    expect(*state, records, &options,
           "{\"id\":\"batch_req_k1\",\"custom_id\":\"a\",\"response\":{\"status_code\":200,"
           "\"request_id\":\"k1\",\"body\":{\"id\":\"chatcmpl-k1\",\"object\":\"chat.completion\","
           "\"created\":1795910400,\"model\":\"beef\",\"choices\":[{\"index\":0,\"message\":"
           "{\"role\":\"assistant\",\"content\":\"Yes, \\\"so\\\"\\nit is\",\"refusal\":null},"
           "\"logprobs\":null,\"finish_reason\":\"length\"}]}},\"error\":null}\n"
           "{\"id\":\"batch_req_k2\",\"custom_id\":\"b\",\"response\":{\"status_code\":200,"
           "\"request_id\":\"k2\",\"body\":{\"id\":\"chatcmpl-k2\",\"object\":\"chat.completion\","
           "\"created\":1795910400,\"model\":\"unknown\",\"choices\":[{\"index\":0,\"message\":"
           "{\"role\":\"assistant\",\"content\":\"No.\",\"refusal\":\"No.\"},"
           "\"logprobs\":null,\"finish_reason\":\"content_filter\"}]}},\"error\":null}\n"
           "{\"id\":\"batch_req_k3\",\"custom_id\":\"c/2\",\"response\":{\"status_code\":200,"
           "\"request_id\":\"k3\",\"body\":{\"id\":\"chatcmpl-k3\",\"object\":\"chat.completion\","
           "\"created\":0,\"model\":\"unknown\",\"choices\":[{\"index\":0,\"message\":"
           "{\"role\":\"assistant\",\"content\":\"ok\",\"refusal\":null},"
           "\"logprobs\":null,\"finish_reason\":\"stop\"}]}},\"error\":null}\n"
           "{\"id\":\"batch_req_k4\",\"custom_id\":\"7\",\"response\":null,\"error\":"
           "{\"code\":\"FAILED\",\"message\":\"the job gave no answer\"}}\n");
}

static void test_failed_items_are_not_left_out_in_silence(void **state) {
    static const char records[] =
        "{\"surefoot_sweep\":1,\"id\":\"a\",\"key\":\"k1\",\"outcome\":\"COMPLETED\",\"text\":"
        "\"x\",\"input\":{\"Behavior\":\"p\"}" SETTINGS
        "{\"surefoot_sweep\":1,\"id\":\"b\",\"key\":\"k2\",\"outcome\":\"FAILED\",\"input\":"
        "{\"Behavior\":\"q\"}" SETTINGS;
    struct exports_options options = {.form = "xstest", .refusal = ""};
    expect_refused(*state, records, &options, "line 2", "ended FAILED");
    options.skips_failed = true;
    struct exports_counts counts;
    struct error err;
    char *text = write(*state, records, &options, &counts, &err);
    assert_string_equal(text, "id,Behavior,completion\r\na,p,x\r\n");
    assert_int_equal(counts.written, 1);
    assert_int_equal(counts.skipped, 1);
    assert_int_equal(counts.refused, 0);
    free(text);
    options = (struct exports_options){.form = "csv", .refusal = ""};
    text = write(*state, records, &options, &counts, &err);
    assert_non_null(strstr(text, "b,q,,FAILED,"));
    assert_int_equal(counts.written, 2);
    assert_int_equal(counts.failed, 1);
    free(text);
}

static void test_a_comparison_is_exported_by_method(void **state) {
    static const char records[] =
        "{\"surefoot_compare\":1,\"id\":\"a\",\"method\":\"sample\",\"key\":\"k1\",\"outcome\":"
        "\"COMPLETED\",\"text\":\"x\",\"input\":{\"Behavior\":\"p\"}" SETTINGS
        "{\"surefoot_compare\":1,\"id\":\"a\",\"method\":\"beam\",\"key\":\"k2\",\"outcome\":"
        "\"COMPLETED\",\"text\":\"y\",\"input\":{\"Behavior\":\"p\"}" SETTINGS;
    struct exports_options options = {.form = "xstest", .refusal = ""};
    expect_refused(*state, records, &options, "--method", "sample, beam");
    options.method = "cards";
    expect_refused(*state, records, &options, "--method", "none is cards");
    options.method = "beam";
    expect(*state, records, &options, "id,Behavior,completion\r\na,p,y\r\n");
    options.form = "csv";
    struct exports_counts counts;
    struct error err;
    char *text = write(*state, records, &options, &counts, &err);
    assert_non_null(strstr(text, "completion,method,outcome"));
    assert_non_null(strstr(text, "a,p,y,beam,COMPLETED"));
    free(text);
    expect_refused(*state, sweep, &options, "--method", "a sweep's");
}

static void test_what_a_form_cannot_hold_is_refused_by_line(void **state) {
    static const char numbered[] =
        "{\"surefoot_sweep\":1,\"id\":1,\"key\":\"k1\",\"outcome\":\"COMPLETED\",\"text\":\"x\","
        "\"input\":{\"Behavior\":\"p\"}" SETTINGS;
    static const char messages[] =
        "{\"surefoot_sweep\":1,\"id\":\"a\",\"key\":\"k1\",\"outcome\":\"COMPLETED\",\"text\":"
        "\"x\","
        "\"input\":{\"Behavior\":[{\"role\":\"user\",\"content\":\"p\"}]}" SETTINGS;
    static const char textless[] =
        "{\"surefoot_sweep\":1,\"id\":\"a\",\"key\":\"k1\",\"outcome\":\"COMPLETED\","
        "\"input\":{\"Behavior\":\"p\"}" SETTINGS;
    struct exports_options options = {.form = "harmbench", .refusal = ""};
    expect_refused(*state, numbered, &options, "line 1", "its id is no text");
    expect_refused(*state, messages, &options, "line 1", "asked with messages");
    expect_refused(*state, textless, &options, "line 1", "without a text");
    expect_refused(*state, "a note\n", &options, "RECORDS line 1", "records.jsonl");
    options.form = "word";
    expect_refused(*state, numbered, &options, "--to", "word is none of harmbench, ");
    struct outfile file = {.fd = -1};
    struct error err;
    assert_status(STATUS_NOT_FOUND, outfile_open_records("/nowhere/x", "RECORDS", &file, &err));
    assert_string_equal(err.field, "RECORDS");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_harmbench_gets_test_cases_and_generations, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_csv_holds_the_items_and_what_the_records_say, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_xstest_and_strongreject_have_the_text_alone, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_what_was_asked_is_found_where_nothing_was_joined,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_columns_of_one_name_are_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_batch_lines_are_chat_completions, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_failed_items_are_not_left_out_in_silence, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_comparison_is_exported_by_method, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_a_form_cannot_hold_is_refused_by_line, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests_name("exports", tests, NULL, NULL);
}
