// Deadlines: saturation at both ends. The clock is compared with itself only.
#include "common/deadline.h"
#include "tests/support/testkit.h"

static void test_clock_never_goes_back(void **state) {
    (void)state;
    int64_t last = clock_monotonic_ns();
    for (int i = 0; i < 1000; i++) {
        int64_t now = clock_monotonic_ns();
        assert_true(now >= last);
        last = now;
    }
    assert_true(clock_realtime_ms() > INT64_C(1600000000000));
}

static void test_a_deadline_in_the_past_has_nothing_left(void **state) {
    (void)state;
    int64_t now = clock_monotonic_ms();
    assert_true(deadline_passed(now - 1));
    assert_int_equal(deadline_left_ms(now - 1), 0);
    assert_int_equal(deadline_left_ms(INT64_MIN), 0);
}

static void test_a_far_deadline_saturates(void **state) {
    (void)state;
    int64_t never = deadline_after_ms(INT64_MAX);
    assert_true(never > clock_monotonic_ms());
    assert_false(deadline_passed(never));
    assert_int_equal(deadline_left_ms(never), INT32_MAX);
    int64_t hour = deadline_after_ms(3600000);
    int left = deadline_left_ms(hour);
    assert_true(left > 0 && left <= 3600000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_clock_never_goes_back),
        cmocka_unit_test(test_a_deadline_in_the_past_has_nothing_left),
        cmocka_unit_test(test_a_far_deadline_saturates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
