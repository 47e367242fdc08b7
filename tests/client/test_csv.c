#include "client/benchmarks/csv.h"

#include <string.h>

#include "tests/support/testkit.h"

static struct csv_reader reader_of(const char *text) {
    struct csv_reader reader;
    csv_init(&reader, text, strlen(text), ',');
    return reader;
}

static void expect_row(struct csv_reader *reader, size_t line, size_t count,
                       const char *const *fields) {
    struct csv_row row;
    struct error err;
    assert_ok(csv_next(reader, &row, &err), &err);
    assert_int_equal(row.count, count);
    for (size_t i = 0; i < count; i++) {
        assert_string_equal(row.fields[i], fields[i]);
    }
    assert_int_equal(row.line, line);
    csv_row_destroy(&row);
}

static void expect_end(struct csv_reader *reader) {
    struct csv_row row;
    assert_status(STATUS_NOT_FOUND, csv_next(reader, &row, NULL));
}

static void test_plain_rows_with_either_line_end(void **state) {
    (void)state;
    struct csv_reader reader = reader_of("a,b\r\n1,2\n3,\n");
    expect_row(&reader, 1, 2, (const char *[]){"a", "b"});
    expect_row(&reader, 2, 2, (const char *[]){"1", "2"});
    expect_row(&reader, 3, 2, (const char *[]){"3", ""});
    expect_end(&reader);
}

static void test_last_line_needs_no_end(void **state) {
    (void)state;
    struct csv_reader reader = reader_of("a,b");
    expect_row(&reader, 1, 2, (const char *[]){"a", "b"});
    expect_end(&reader);
    reader = reader_of("a,");
    expect_row(&reader, 1, 2, (const char *[]){"a", ""});
    expect_end(&reader);
    reader = reader_of("");
    expect_end(&reader);
}

static void test_quoted_fields_hold_anything(void **state) {
    (void)state;
    struct csv_reader reader =
        reader_of("\"a,b\",\"say \"\"hi\"\"\",\"two\r\nlines\"\n\"\",\"\"\"\",\"\"\"x\"\"\"\n");
    expect_row(&reader, 1, 3, (const char *[]){"a,b", "say \"hi\"", "two\r\nlines"});
    expect_row(&reader, 3, 3, (const char *[]){"", "\"", "\"x\""});
    expect_end(&reader);
}

static void test_byte_order_mark_and_empty_lines_are_skipped(void **state) {
    (void)state;
    struct csv_reader reader = reader_of("\xEF\xBB\xBFprompt\r\n\r\n\nx\n\n");
    expect_row(&reader, 1, 1, (const char *[]){"prompt"});
    expect_row(&reader, 4, 1, (const char *[]){"x"});
    expect_end(&reader);
}

static void test_carriage_return_inside_a_field_stays(void **state) {
    (void)state;
    struct csv_reader reader = reader_of("a\rb,c\r");
    expect_row(&reader, 1, 2, (const char *[]){"a\rb", "c\r"});
    expect_end(&reader);
}

static void expect_malformed(const char *bytes, size_t size, const char *what) {
    struct csv_reader reader;
    csv_init(&reader, bytes, size, ',');
    struct csv_row row;
    struct error err;
    assert_status(STATUS_MALFORMED, csv_next(&reader, &row, &err));
    assert_non_null(strstr(err.message, what));
}

static void test_broken_quotes_are_refused_with_the_line(void **state) {
    (void)state;
    expect_malformed("\"open\nto the end", 16, "line 2");
    expect_malformed("\"a\"b,c\n", 7, "line 1");
    expect_malformed("a\"b,c\n", 6, "line 1");
    expect_malformed("a\0b,c\n", 6, "NUL");
    expect_malformed("\"a\0b\",c\n", 8, "NUL");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain_rows_with_either_line_end),
        cmocka_unit_test(test_last_line_needs_no_end),
        cmocka_unit_test(test_quoted_fields_hold_anything),
        cmocka_unit_test(test_byte_order_mark_and_empty_lines_are_skipped),
        cmocka_unit_test(test_carriage_return_inside_a_field_stays),
        cmocka_unit_test(test_broken_quotes_are_refused_with_the_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
