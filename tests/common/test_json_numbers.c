// Numbers above what the JSON parser takes, and the length of real ones.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
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

static void assert_shortens(const char *before, const char *after) {
    char text[512];
    snprintf(text, sizeof text, "%s", before);
    json_numbers_shorten(text);
    assert_string_equal(text, after);
}

static void test_a_real_is_written_with_the_digits_that_tell_it(void **state) {
    (void)state;
    assert_shortens("[0.29999999999999999,-0.10000000000000001]", "[0.3,-0.1]");
    assert_shortens("[0.30000000000000004]", "[0.30000000000000004]");
    assert_shortens("{\"a\":1.0,\"b\":-0.0,\"c\":100000.0,\"d\":1e300}",
                    "{\"a\":1.0,\"b\":-0.0,\"c\":100000.0,\"d\":1e300}");
    assert_shortens("[9.9999999999999995e-7,1.0000000000000001e-5]", "[1e-6,1e-5]");
    assert_shortens("[4.9406564584124654e-324,1.7976931348623157e308]",
                    "[5e-324,1.7976931348623157e308]");
    assert_shortens("{\"0.29999999999999999\":\"\\\"0.29999999999999999\"}",
                    "{\"0.29999999999999999\":\"\\\"0.29999999999999999\"}");
    assert_shortens("[12345678901234567890,-3,true,null]", "[12345678901234567890,-3,true,null]");
    assert_shortens("0.29999999999999999", "0.3");
    assert_shortens("", "");
}

// Every 17-digit form, as jansson writes it, of doubles of all sizes.
static void test_a_shortened_real_reads_back_as_the_same_double(void **state) {
    (void)state;
    uint64_t bits = 1;
    for (int i = 0; i < 20000; i++) {
        bits = bits * 6364136223846793005U + 1442695040888963407U;
        double value;
        memcpy(&value, &bits, sizeof value);
        if (!isfinite(value)) {
            continue;
        }
        char text[64];
        snprintf(text, sizeof text, "%.17g", value);
        if (strpbrk(text, ".e") == NULL) {
            strcat(text, ".0");
        }
        size_t length = strlen(text);
        json_numbers_shorten(text);
        assert_true(strtod(text, NULL) == value);
        assert_true(strlen(text) <= length);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_integer_above_64_bits_becomes_a_real),
        cmocka_unit_test(test_a_number_above_double_becomes_a_huge_one),
        cmocka_unit_test(test_everything_else_stays),
        cmocka_unit_test(test_a_real_is_written_with_the_digits_that_tell_it),
        cmocka_unit_test(test_a_shortened_real_reads_back_as_the_same_double),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
