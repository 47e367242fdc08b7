#include "client/cli/outfile.h"

#include <stdio.h>
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

static json_t *record(const char *key, const char *outcome) {
    return json_pack("{s:s, s:s}", "key", key, "outcome", outcome);
}

static void append(struct outfile *file, const char *key, const char *outcome) {
    struct error err;
    assert_ok(outfile_append(file, record(key, outcome), &err), &err);
}

static void open_file(const struct place *place, bool drop_failed, struct outfile *file) {
    struct error err;
    assert_ok(outfile_open(place->path, drop_failed, file, &err), &err);
}

static void test_records_are_found_again(void **state) {
    struct place *place = *state;
    struct outfile file;
    struct error err;
    open_file(place, false, &file);
    append(&file, "a", "COMPLETED");
    append(&file, "b", "FAILED");
    assert_ok(outfile_sync(&file, &err), &err);
    assert_string_equal(outfile_find(&file, "b"), "FAILED");
    outfile_close(&file);
    open_file(place, false, &file);
    assert_int_equal(json_object_size(file.records), 2);
    assert_string_equal(outfile_find(&file, "a"), "COMPLETED");
    assert_null(outfile_find(&file, "c"));
    outfile_close(&file);
}

// Every length of the file that a crash can leave.
static void test_torn_line_is_cut_off_wherever_it_ends(void **state) {
    struct place *place = *state;
    const char *first = "{\"key\":\"a\",\"outcome\":\"COMPLETED\"}\n";
    const char *second = "{\"key\":\"b\",\"outcome\":\"COMPLETED\"}\n";
    char whole[256];
    snprintf(whole, sizeof whole, "%s%s", first, second);
    for (size_t size = 0; size <= strlen(whole); size++) {
        testkit_write_file(place->path, whole, size);
        struct outfile file;
        open_file(place, false, &file);
        size_t lines = (size >= strlen(first)) + (size == strlen(whole));
        assert_int_equal(json_object_size(file.records), lines);
        append(&file, "c", "COMPLETED");
        outfile_close(&file);
        open_file(place, false, &file);
        assert_int_equal(json_object_size(file.records), lines + 1);
        assert_int_equal(file.torn_bytes, 0);
        outfile_close(&file);
    }
}

static void test_line_that_is_no_record_is_named(void **state) {
    struct place *place = *state;
    const char *text = "{\"key\":\"a\",\"outcome\":\"COMPLETED\"}\nnotes\n";
    testkit_write_file(place->path, text, strlen(text));
    struct outfile file;
    struct error err;
    assert_status(STATUS_MALFORMED, outfile_open(place->path, false, &file, &err));
    assert_string_equal(err.field, "--out line 2");
    outfile_close(&file);
}

static void test_second_writer_is_refused(void **state) {
    struct place *place = *state;
    struct outfile first;
    struct outfile second;
    struct error err;
    open_file(place, false, &first);
    assert_status(STATUS_ALREADY_EXISTS, outfile_open(place->path, false, &second, &err));
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
    assert_int_equal(json_object_size(file.records), 2);
    assert_null(outfile_find(&file, "b"));
    append(&file, "b", "COMPLETED");
    outfile_close(&file);
    open_file(place, true, &file);
    assert_int_equal(json_object_size(file.records), 3);
    assert_non_null(outfile_find(&file, "c"));
    outfile_close(&file);
}

int main(void) {
#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(test_records_are_found_again),
        CASE(test_torn_line_is_cut_off_wherever_it_ends),
        CASE(test_line_that_is_no_record_is_named),
        CASE(test_second_writer_is_refused),
        CASE(test_failed_records_are_dropped_on_request),
    };
#undef CASE
    return cmocka_run_group_tests(tests, NULL, NULL);
}
