// The status table, the error record and the conversion of errno.
#include <errno.h>
#include <string.h>

#include "common/status.h"
#include "tests/support/testkit.h"

static void test_numbers_are_frozen(void **state) {
    (void)state;
    assert_int_equal(STATUS_OK, 0);
    assert_int_equal(STATUS_MALFORMED, 8);
    assert_int_equal(STATUS_INTERNAL, 18);
    assert_int_equal(STATUS_RESOURCE_EXHAUSTED, 19);
    assert_int_equal(STATUS_PERMISSION, 20);
    assert_true(status_is_known(0));
    assert_true(status_is_known(18));
    assert_false(status_is_known(-1));
    assert_false(status_is_known(1 << 20));
}

static void test_every_status_has_name_and_text(void **state) {
    (void)state;
    for (int number = 0; status_is_known(number); number++) {
        assert_string_not_equal(status_name((enum status)number), "UNKNOWN");
        assert_true(status_text((enum status)number)[0] != '\0');
    }
    assert_string_equal(status_name((enum status)9999), "UNKNOWN");
    assert_string_equal(status_name(STATUS_SHAPE), "SHAPE");
}

static void test_errno_becomes_a_status(void **state) {
    (void)state;
    assert_status(STATUS_OK, status_from_errno(0));
    assert_status(STATUS_NOT_FOUND, status_from_errno(ENOENT));
    assert_status(STATUS_NO_MEMORY, status_from_errno(ENOMEM));
    assert_status(STATUS_DISK_FULL, status_from_errno(ENOSPC));
    assert_status(STATUS_ADDRESS_IN_USE, status_from_errno(EADDRINUSE));
    assert_status(STATUS_IO, status_from_errno(EPIPE));
}

static void test_error_keeps_field_and_message(void **state) {
    (void)state;
    struct error err;
    assert_status(STATUS_LIMIT, error_set(&err, STATUS_LIMIT, "n", "%d is above %d", 9, 8));
    assert_int_equal(err.status, STATUS_LIMIT);
    assert_string_equal(err.field, "n");
    assert_string_equal(err.message, "9 is above 8");
    error_prefix_field(&err, "job");
    assert_string_equal(err.field, "job.n");
    assert_status(STATUS_IO, error_set(&err, STATUS_IO, NULL, "x"));
    assert_string_equal(err.field, "");
    error_prefix_field(&err, "file");
    assert_string_equal(err.field, "file");
    assert_status(STATUS_IO, error_set(NULL, STATUS_IO, "f", "x"));
    error_prefix_field(NULL, "file");
}

static void test_error_cuts_text_between_characters(void **state) {
    (void)state;
    char text[2 * ERROR_MESSAGE_BYTES + 2] = "x";
    for (size_t i = 0; i < ERROR_MESSAGE_BYTES; i++) {
        memcpy(text + 1 + 2 * i, "\xc3\xa4", 2);
    }
    struct error err;
    for (int shift = 0; shift < 2; shift++) {
        error_set(&err, STATUS_IO, text + shift, "%s", text + shift);
        assert_int_equal(strlen(err.message) % 2, 1 - shift);
        assert_true(strlen(err.message) > ERROR_MESSAGE_BYTES - 4);
        assert_int_equal(strlen(err.field) % 2, 1 - shift);
        assert_true(strlen(err.field) > ERROR_FIELD_BYTES - 4);
        error_prefix_field(&err, "p");
        assert_int_equal(strlen(err.field) % 2, 1 - shift);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numbers_are_frozen),
        cmocka_unit_test(test_every_status_has_name_and_text),
        cmocka_unit_test(test_errno_becomes_a_status),
        cmocka_unit_test(test_error_keeps_field_and_message),
        cmocka_unit_test(test_error_cuts_text_between_characters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
