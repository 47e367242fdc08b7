#include "client/cli/outfile.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/testkit.h"

struct place {
    char *directory;
    char path[512];
};

static int set_up(void **state) {
    struct place *place = calloc(1, sizeof *place);
    assert_non_null(place);
    place->directory = testkit_make_directory();
    snprintf(place->path, sizeof place->path, "%s/out.jsonl", place->directory);
    *state = place;
    return 0;
}

static int tear_down(void **state) {
    struct place *place = *state;
    testkit_remove_tree(place->directory);
    free(place);
    return 0;
}

// A record of the item `id`, made with the settings {"n":1}.
#define RECORD_AS(id, outcome)                                                                     \
    "{\"surefoot_sweep\":1,\"id\":\"" id "\",\"key\":\"k-" id "\",\"outcome\":\"" outcome          \
    "\",\"settings\":{\"n\":1}}\n"
#define RECORD(id) RECORD_AS(id, "COMPLETED")

static json_t *record(const char *id, const char *outcome) {
    char key[DIGEST_HEX_BYTES];
    snprintf(key, sizeof key, "k-%s", id);
    return json_pack("{s:s, s:s, s:s, s:{s:s}}", "id", id, "key", key, "outcome", outcome, "input",
                     "tag", id);
}

static void append(struct outfile *file, const char *key, const char *outcome) {
    struct error err;
    assert_ok(outfile_append(file, record(key, outcome), &err), &err);
}

static void open_file(const struct place *place, bool drop_failed, struct outfile *file) {
    struct error err;
    json_t *settings = json_pack("{s:{s:i}}", "", "n", 1);
    assert_ok(outfile_open(place->path, NULL, OUTFILE_SWEEP, file, &err), &err);
    assert_ok(outfile_start(file, settings, drop_failed, &err), &err);
    json_decref(settings);
}

// The outcome recorded for an item, or NULL.
static const char *find(const struct outfile *file, const char *id) {
    json_t *value = json_string(id);
    const struct outfile_record *row = outfile_find(file, value, "");
    json_decref(value);
    return row == NULL ? NULL : row->outcome;
}

static void test_records_are_found_again(void **state) {
    struct place *place = *state;
    struct outfile file;
    struct error err;
    open_file(place, false, &file);
    append(&file, "a", "COMPLETED");
    append(&file, "b", "FAILED");
    assert_ok(outfile_sync(&file, &err), &err);
    assert_string_equal(find(&file, "b"), "FAILED");
    outfile_close(&file);
    open_file(place, false, &file);
    assert_int_equal(file.count, 2);
    assert_string_equal(find(&file, "a"), "COMPLETED");
    assert_null(find(&file, "c"));
    outfile_close(&file);
}

static void test_a_number_is_recorded_with_no_more_digits_than_it_has(void **state) {
    struct place *place = *state;
    struct outfile file;
    struct error err;
    open_file(place, false, &file);
    json_t *row = record("a", "COMPLETED");
    json_object_set_new(row, "cost", json_real(0.3));
    assert_ok(outfile_append(&file, row, &err), &err);
    outfile_close(&file);
    char *text = testkit_read_file(place->path, NULL);
    assert_non_null(strstr(text, "\"cost\":0.3,"));
    free(text);
}

// Every length of the file that a crash can leave; a whole record without its line end is kept.
static void test_torn_line_is_cut_off_wherever_it_ends(void **state) {
    struct place *place = *state;
    const char *first = RECORD("a");
    const char *whole = RECORD("a") RECORD("b");
    for (size_t size = 0; size <= strlen(whole); size++) {
        testkit_write_file(place->path, whole, size);
        struct outfile file;
        open_file(place, false, &file);
        size_t lines = (size + 1 >= strlen(first)) + (size + 1 >= strlen(whole));
        assert_int_equal(file.count, lines);
        append(&file, "c", "COMPLETED");
        outfile_close(&file);
        open_file(place, false, &file);
        assert_int_equal(file.count, lines + 1);
        assert_int_equal(file.torn_bytes, 0);
        outfile_close(&file);
    }
}

// Opens a file with `text`, expects a refusal that names `field`, and that no byte has changed.
static void expect_untouched(const struct place *place, const char *text, const char *field) {
    testkit_write_file(place->path, text, strlen(text));
    struct outfile file;
    struct error err;
    assert_status(STATUS_MALFORMED, outfile_open(place->path, NULL, OUTFILE_SWEEP, &file, &err));
    assert_string_equal(err.field, field);
    outfile_close(&file);
    char *left = testkit_read_file(place->path, NULL);
    assert_string_equal(left, text);
    free(left);
}

static void test_foreign_file_is_refused_untouched(void **state) {
    expect_untouched(*state, RECORD("a") "notes\n", "--out line 2");
    expect_untouched(*state, RECORD("a") "notes", "--out line 2");
    expect_untouched(*state, "one note without a line end", "--out line 1");
    expect_untouched(*state, "{\"id\":1,\"prompt\":\"the input itself\"}", "--out line 1");
    expect_untouched(*state, "{\"id\":1,\"prompt\":\"torn by ano", "--out line 1");
    expect_untouched(*state, "{\"key\":\"a\",\"outcome\":\"another tool's\"}\n", "--out line 1");
    expect_untouched(*state,
                     "{\"surefoot_sweep\":2,\"id\":1,\"key\":\"a\",\"outcome\":\"COMPLETED\"}\n",
                     "--out line 1");
    expect_untouched(*state,
                     "{\"surefoot_sweep\":1,\"id\":1,\"key\":\"a\",\"outcome\":\"GREAT\"}\n",
                     "--out line 1");
    expect_untouched(*state, "\n", "--out line 1");
    expect_untouched(*state, RECORD("a") "\n" RECORD("b"), "--out line 2");
    expect_untouched(*state, RECORD("a") RECORD("b") RECORD("a"), "--out line 3");
    expect_untouched(*state,
                     RECORD("a") "{\"surefoot_sweep\":1,\"id\":2,\"key\":\"k\",\"outcome\":"
                                 "\"COMPLETED\",\"settings\":{\"n\":2}}\n",
                     "--out line 2");
}

#define COMPARED(id, method, rest)                                                                 \
    "{\"surefoot_compare\":1,\"id\":" id ",\"method\":\"" method                                   \
    "\",\"key\":\"k\",\"outcome\":\"COMPLETED\",\"settings\":{\"asked\":\"x\"," rest "}}\n"
#define SAMPLE(id) COMPARED(id, "sample", "\"job\":{\"n\":1}")
#define BEAM(id) COMPARED(id, "beam", "\"job\":{\"n\":8}")

static void expect_comparison_untouched(const struct place *place, const char *text,
                                        const char *field, const char *part) {
    testkit_write_file(place->path, text, strlen(text));
    struct outfile file;
    struct error err;
    assert_status(STATUS_MALFORMED,
                  outfile_open(place->path, NULL, OUTFILE_COMPARISON, &file, &err));
    assert_string_equal(err.field, field);
    if (strstr(err.message, part) == NULL) {
        fail_msg("\"%s\" is not in \"%s\"", part, err.message);
    }
    outfile_close(&file);
    char *left = testkit_read_file(place->path, NULL);
    assert_string_equal(left, text);
    free(left);
}

// A record of a comparison is one of an item and a method; settings of methods differ in the job.
static void test_records_of_a_comparison_have_a_method(void **state) {
    const struct place *place = *state;
    expect_comparison_untouched(place, RECORD("a"), "--out line 1", "a comparison");
    expect_comparison_untouched(place, SAMPLE("1") BEAM("1") SAMPLE("1"), "--out line 3",
                                "of this method above");
    expect_comparison_untouched(place,
                                SAMPLE("1") BEAM("1") COMPARED("2", "beam", "\"job\":{\"n\":9}"),
                                "--out line 3", "settings.job.n is 9, and 8 in line 2");
    expect_comparison_untouched(place, SAMPLE("1") COMPARED("1", "beam", "\"system\":7"),
                                "--out line 2", "settings.system is 7, and nothing in line 1");
    const char *text = SAMPLE("1") BEAM("1") SAMPLE("\"1\"");
    testkit_write_file(place->path, text, strlen(text));
    struct outfile file;
    struct error err;
    assert_ok(outfile_open(place->path, NULL, OUTFILE_COMPARISON, &file, &err), &err);
    assert_int_equal(file.count, 3);
    assert_int_equal(file.n_methods, 2);
    json_t *id = json_integer(1);
    assert_int_equal(outfile_find(&file, id, "beam")->line, 2);
    assert_null(outfile_find(&file, id, "best-of-n"));
    json_decref(id);
    id = json_string("1");
    assert_null(outfile_find(&file, id, "beam"));
    json_decref(id);
    outfile_close(&file);
}

static void expect_out_refused(const char *path, const char *input, const char *part) {
    struct outfile file;
    struct error err;
    assert_status(STATUS_INVALID_ARGUMENT, outfile_open(path, input, OUTFILE_SWEEP, &file, &err));
    assert_string_equal(err.field, "--out");
    assert_non_null(strstr(err.message, part));
    outfile_close(&file);
}

// Empty files: their content alone would let them pass.
static void test_input_and_what_is_no_file_are_refused(void **state) {
    struct place *place = *state;
    char input[600];
    snprintf(input, sizeof input, "%s/input.jsonl", place->directory);
    testkit_write_file(input, "", 0);
    expect_out_refused(input, input, "input");
    assert_int_equal(link(input, place->path), 0);
    expect_out_refused(place->path, input, "input");
    assert_int_equal(unlink(place->path), 0);
    assert_int_equal(symlink("input.jsonl", place->path), 0);
    expect_out_refused(place->path, input, "input");
    expect_out_refused("/dev/null", input, "regular");
}

static void test_foreign_file_beside_is_not_overwritten(void **state) {
    struct place *place = *state;
    struct outfile file;
    open_file(place, false, &file);
    append(&file, "a", "FAILED");
    outfile_close(&file);
    char part[600];
    snprintf(part, sizeof part, "%s.part", place->path);
    testkit_write_file(part, "notes", 5);
    struct error err;
    assert_ok(outfile_open(place->path, NULL, OUTFILE_SWEEP, &file, &err), &err);
    json_t *settings = json_pack("{s:{s:i}}", "", "n", 1);
    assert_status(STATUS_MALFORMED, outfile_start(&file, settings, true, &err));
    json_decref(settings);
    assert_non_null(strstr(err.message, ".part"));
    outfile_close(&file);
    char *left = testkit_read_file(part, NULL);
    assert_string_equal(left, "notes");
    free(left);
    // One that a killed run left is taken again.
    testkit_write_file(part, RECORD("b") "{\"sure", strlen(RECORD("b")) + 6);
    open_file(place, true, &file);
    assert_int_equal(file.count, 0);
    outfile_close(&file);
    assert_int_not_equal(access(part, F_OK), 0);
}

static void test_second_writer_is_refused(void **state) {
    struct place *place = *state;
    struct outfile first;
    struct outfile second;
    struct error err;
    open_file(place, false, &first);
    assert_status(STATUS_ALREADY_EXISTS,
                  outfile_open(place->path, NULL, OUTFILE_SWEEP, &second, &err));
    outfile_close(&second);
    outfile_close(&first);
}

static void test_failed_records_are_dropped_on_request(void **state) {
    struct place *place = *state;
    struct outfile file;
    open_file(place, false, &file);
    append(&file, "a", "COMPLETED");
    append(&file, "b", "FAILED");
    append(&file, "c", "NO_SAFE_CANDIDATE");
    append(&file, "d", "REJECTED");
    outfile_close(&file);
    open_file(place, true, &file);
    assert_int_equal(file.count, 2);
    assert_null(find(&file, "b"));
    append(&file, "b", "COMPLETED");
    outfile_close(&file);
    open_file(place, true, &file);
    assert_int_equal(file.count, 3);
    assert_non_null(find(&file, "c"));
    outfile_close(&file);
}

static void test_other_settings_are_refused_by_the_first_difference(void **state) {
    struct place *place = *state;
    const char *text = RECORD("a") RECORD_AS("b", "FAILED") "{\"surefoot_sweep";
    testkit_write_file(place->path, text, strlen(text));
    struct outfile file;
    struct error err;
    json_t *settings = json_pack("{s:{s:i}}", "", "n", 2);
    for (int drop_failed = 0; drop_failed < 2; drop_failed++) {
        assert_ok(outfile_open(place->path, NULL, OUTFILE_SWEEP, &file, &err), &err);
        assert_status(STATUS_INVALID_ARGUMENT, outfile_start(&file, settings, drop_failed, &err));
        assert_non_null(strstr(err.message, "n is 1 there and 2 now"));
        outfile_close(&file);
        char *left = testkit_read_file(place->path, NULL);
        assert_string_equal(left, text);
        free(left);
    }
    // Records that go need not fit.
    testkit_write_file(place->path, RECORD_AS("b", "FAILED"), strlen(RECORD_AS("b", "FAILED")));
    assert_ok(outfile_open(place->path, NULL, OUTFILE_SWEEP, &file, &err), &err);
    assert_ok(outfile_start(&file, settings, true, &err), &err);
    assert_int_equal(file.count, 0);
    append(&file, "b", "COMPLETED");
    json_decref(settings);
    outfile_close(&file);
    assert_ok(outfile_open(place->path, NULL, OUTFILE_SWEEP, &file, &err), &err);
    assert_int_equal(json_integer_value(json_object_get(file.methods[0].settings, "n")), 2);
    outfile_close(&file);
}

static void test_link_to_the_records_stays_a_link(void **state) {
    struct place *place = *state;
    char link_path[600];
    snprintf(link_path, sizeof link_path, "%s/link.jsonl", place->directory);
    testkit_write_file(place->path, RECORD_AS("a", "FAILED"), strlen(RECORD_AS("a", "FAILED")));
    assert_int_equal(symlink("out.jsonl", link_path), 0);
    struct outfile file;
    struct error err;
    json_t *settings = json_pack("{s:{s:i}}", "", "n", 1);
    assert_ok(outfile_open(link_path, NULL, OUTFILE_SWEEP, &file, &err), &err);
    assert_ok(outfile_start(&file, settings, true, &err), &err);
    json_decref(settings);
    append(&file, "b", "COMPLETED");
    outfile_close(&file);
    open_file(place, false, &file);
    assert_string_equal(find(&file, "b"), "COMPLETED");
    assert_int_equal(file.count, 1);
    outfile_close(&file);
}

int main(void) {
#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(test_records_are_found_again),
        CASE(test_a_number_is_recorded_with_no_more_digits_than_it_has),
        CASE(test_torn_line_is_cut_off_wherever_it_ends),
        CASE(test_foreign_file_is_refused_untouched),
        CASE(test_records_of_a_comparison_have_a_method),
        CASE(test_input_and_what_is_no_file_are_refused),
        CASE(test_foreign_file_beside_is_not_overwritten),
        CASE(test_other_settings_are_refused_by_the_first_difference),
        CASE(test_link_to_the_records_stays_a_link),
        CASE(test_second_writer_is_refused),
        CASE(test_failed_records_are_dropped_on_request),
    };
#undef CASE
    return cmocka_run_group_tests(tests, NULL, NULL);
}
