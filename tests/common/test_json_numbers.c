// Numbers above what the JSON parser takes.
#include <string.h>

#include "common/json_numbers.h"
#include "tests/support/testkit.h"

static void assert_becomes(const char *before, const char *after) {
    char text[256];
    size_t size = strlen(before);
    assert_int_equal(size, strlen(after)); // in place, at equal length
    memcpy(text, before, size + 1);
    json_numbers_bound(text, size);
    assert_string_equal(text, after);
}

static void test_an_integer_above_64_bits_becomes_a_real(void **state) {
    (void)state;
    assert_becomes("{\"n\": 1000000000000000019884624838656}",
                   "{\"n\": 1.000000000000e+30             }");
    assert_becomes("[9223372036854775808]", "[9.223372036855e+18 ]");
    assert_becomes("[-9223372036854775809]", "[-9.223372036855e+18 ]");
}

static void test_a_number_above_double_becomes_a_huge_one(void **state) {
    (void)state;
    assert_becomes("[1e309, -1e400,2.5E+999]", "[9e307, -9e307,9e307   ]");
}

static void test_everything_else_stays(void **state) {
    (void)state;
    static const char *const texts[] = {
        "[9223372036854775807, -9223372036854775808]",
        "[1.5e300, 1e-400, 0.000000000000000000000000001, 1e30]",
        "{\"99999999999999999999\": \"a\\\"99999999999999999999\"}",
        "\"\\",
        "\"9999999999999999999999",
        "--99999",
        "e99999",
        "",
        "+-.eE+-.eE",
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        assert_becomes(texts[i], texts[i]);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_integer_above_64_bits_becomes_a_real),
        cmocka_unit_test(test_a_number_above_double_becomes_a_huge_one),
        cmocka_unit_test(test_everything_else_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
