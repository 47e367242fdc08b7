#include "common/date.h"
#include "tests/support/testkit.h"

static void test_days_that_do_not_exist_are_refused(void **state) {
    (void)state;
    static const char *const wrong[] = {"",           "2026-11-31", "2026-13-01",  "2026-00-10",
                                        "2025-02-29", "26-11-28",   "2026-11-28 ", "0000-01-01",
                                        "2026/11/28", "2026-11-00", "1900-02-29",  "x026-11-28"};
    struct date date = {.year = 7};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_false(date_parse(wrong[i], &date));
    }
    assert_int_equal(date.year, 7);
}

static void test_days_of_the_calendar_are_read(void **state) {
    (void)state;
    struct date date;
    assert_true(date_parse("2024-02-29", &date));
    assert_int_equal(date.year, 2024);
    assert_int_equal(date.month, 2);
    assert_int_equal(date.day, 29);
    assert_true(date_parse("2000-02-29", &date));
    assert_true(date_parse("9999-12-31", &date));
}

static void test_the_day_of_a_time_is_that_of_utc(void **state) {
    (void)state;
    char text[DATE_TEXT_BYTES];
    date_of_realtime_ms(0, text);
    assert_string_equal("1970-01-01", text);
    date_of_realtime_ms(1795910399999, text);
    assert_string_equal("2026-11-28", text);
    date_of_realtime_ms(1795910400000, text);
    assert_string_equal("2026-11-29", text);
    date_of_realtime_ms(INT64_MAX, text);
    assert_string_equal("1970-01-01", text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_days_that_do_not_exist_are_refused),
        cmocka_unit_test(test_days_of_the_calendar_are_read),
        cmocka_unit_test(test_the_day_of_a_time_is_that_of_utc),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
