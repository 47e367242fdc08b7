#include "common/number_text.h"

#include <math.h>

#include "tests/support/testkit.h"

static void test_number_is_short_and_never_another(void **state) {
    (void)state;
    const struct {
        double value;
        const char *text;
    } rows[] = {
        {100, "100"},
        {0.1, "0.1"},
        {100.00000000000001, "100.00000000000001"},
        {1.0 / 3, "0.3333333333333333"},
        {-0.25, "-0.25"},
        {0, "0"},
        {1e300, "1e+300"},
        {4096, "4096"},
        {(double)INFINITY, "inf"},
        {(double)NAN, "nan"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char text[NUMBER_TEXT_BYTES];
        assert_string_equal(number_text(rows[i].value, text), rows[i].text);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_number_is_short_and_never_another),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
