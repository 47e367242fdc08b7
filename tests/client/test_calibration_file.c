// Calibrations on disk: what was written is read, what is cut goes on, what is damaged is refused.
#include "client/cli/calibration_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/testkit.h"

static const float rewards[] = {-1.5F, 0, 0, 2};
static const char *const hashes[] = {
    "0000000000000000000000000000000000000000000000000000000000000001",
    "000000000000000000000000000000000000000000000000000000000000000f",
};

struct place {
    char *directory;
    char path[512];
};

static int set_up(void **state) {
    struct place *place = calloc(1, sizeof *place);
    assert_non_null(place);
    place->directory = testkit_make_directory();
    snprintf(place->path, sizeof place->path, "%s/c.pb", place->directory);
    *state = place;
    return 0;
}

static int tear_down(void **state) {
    struct place *place = *state;
    testkit_remove_tree(place->directory);
    free(place);
    return 0;
}

static enum status begin(struct calibration_file *file, double temperature, struct error *err) {
    Surefoot__CalibrationHeader header = SUREFOOT__CALIBRATION_HEADER__INIT;
    Surefoot__Calibration conditions = SUREFOOT__CALIBRATION__INIT;
    Surefoot__CalibratedModel policy = SUREFOOT__CALIBRATED_MODEL__INIT;
    Surefoot__Sampling sampling = SUREFOOT__SAMPLING__INIT;
    policy.hash = "abc";
    sampling.has_temperature = 1;
    sampling.temperature = temperature;
    conditions.policy = &policy;
    conditions.sampling = &sampling;
    header.has_schema = header.has_rollouts = 1;
    header.schema = 1;
    header.rollouts = 4;
    header.conditions = &conditions;
    return calibration_begin(file, &header, err);
}

// Both records and the trailer, as far as they are not there.
static void write_rest(struct calibration_file *file) {
    struct error err = {0};
    assert_ok(begin(file, 1, &err), &err);
    for (int i = 0; i < 2; i++) {
        if (calibration_find(file, hashes[i]) == NULL) {
            assert_ok(calibration_append(file, hashes[i], rewards, 4, &err), &err);
        }
    }
    assert_ok(calibration_finish(file, &err), &err);
}

static char *make_file(const struct place *place, size_t *size) {
    struct calibration_file file;
    struct error err = {0};
    remove(place->path);
    assert_ok(calibration_open(place->path, true, "--out", &file, &err), &err);
    write_rest(&file);
    calibration_close(&file);
    return testkit_read_file(place->path, size);
}

static void test_what_was_written_is_read(void **state) {
    const struct place *place = *state;
    size_t size = 0;
    free(make_file(place, &size));
    struct calibration_file file;
    struct error err = {0};
    assert_ok(calibration_open(place->path, false, "--calibration", &file, &err), &err);
    assert_int_equal(file.count, 2);
    const Surefoot__CalibrationRecord *record = calibration_find(&file, hashes[1]);
    assert_non_null(record);
    assert_memory_equal(record->rewards, rewards, sizeof rewards);
    assert_int_equal(record->ties, 1);
    assert_string_equal(file.header->header->conditions->policy->hash, "abc");
    assert_null(calibration_find(&file, "no hash"));
    calibration_close(&file);
}

static void test_a_file_cut_anywhere_goes_on_to_the_same_bytes(void **state) {
    const struct place *place = *state;
    size_t size = 0;
    char *whole = make_file(place, &size);
    for (size_t cut = 0; cut < size; cut++) {
        struct calibration_file file;
        struct error err = {0};
        testkit_write_file(place->path, whole, cut);
        assert_status(STATUS_MALFORMED,
                      calibration_open(place->path, false, "--calibration", &file, &err));
        assert_string_equal("--calibration", err.field);
        calibration_close(&file);
        enum status status = calibration_open(place->path, true, "--out", &file, &err);
        if (status == STATUS_MALFORMED) { // within the header: it might be anything
            assert_true(cut > 0 && file.header == NULL);
            calibration_close(&file);
            continue;
        }
        assert_ok(status, &err);
        write_rest(&file);
        calibration_close(&file);
        size_t again = 0;
        char *bytes = testkit_read_file(place->path, &again);
        assert_int_equal(size, again);
        assert_memory_equal(whole, bytes, size);
        free(bytes);
    }
    free(whole);
}

static void test_a_changed_byte_is_refused(void **state) {
    const struct place *place = *state;
    size_t size = 0;
    char *whole = make_file(place, &size);
    for (size_t at = 0; at < size; at++) {
        struct calibration_file file;
        struct error err = {0};
        whole[at] ^= 4;
        testkit_write_file(place->path, whole, size);
        assert_status(STATUS_MALFORMED,
                      calibration_open(place->path, false, "--calibration", &file, &err));
        calibration_close(&file);
        whole[at] ^= 4;
    }
    free(whole);
}

static void test_other_conditions_are_refused_by_name(void **state) {
    const struct place *place = *state;
    size_t size = 0;
    free(make_file(place, &size));
    struct calibration_file file;
    struct calibration_file other;
    struct error err = {0};
    assert_ok(calibration_open(place->path, true, "--out", &file, &err), &err);
    assert_status(STATUS_INVALID_ARGUMENT, begin(&file, 0.5, &err));
    assert_non_null(strstr(err.message, "conditions.sampling.temperature 1.0, now it is 0.5"));
    assert_non_null(strstr(err.message, place->path));
    assert_status(STATUS_ALREADY_EXISTS,
                  calibration_open(place->path, true, "--out", &other, &err));
    calibration_close(&other);
    const float falling[] = {2, 1, 3, 4};
    assert_status(STATUS_MALFORMED, calibration_append(&file, hashes[0], falling, 4, &err));
    assert_status(STATUS_MALFORMED, calibration_append(&file, hashes[0], rewards, 3, &err));
    calibration_close(&file);
}

static void test_what_is_no_calibration_is_said_with_its_name(void **state) {
    const struct place *place = *state;
    static const char *const foreign[] = {"", "{\"prompt\":\"hello\"}\n", "\x02\x08\x01"};
    for (size_t i = 0; i < sizeof foreign / sizeof foreign[0]; i++) {
        struct calibration_file file;
        struct error err = {0};
        testkit_write_file(place->path, foreign[i], strlen(foreign[i]));
        assert_status(STATUS_MALFORMED,
                      calibration_open(place->path, false, "--calibration", &file, &err));
        assert_non_null(strstr(err.message, place->path));
        assert_null(strstr(err.message, "not finished"));
        calibration_close(&file);
    }
}

static void test_a_prompt_is_known_by_what_it_is_made_of(void **state) {
    (void)state;
    Surefoot__JobSpec a = SUREFOOT__JOB_SPEC__INIT;
    char first[SHA256_HEX_BYTES], second[SHA256_HEX_BYTES];
    a.prompt = "hello";
    assert_ok(calibration_prompt_hash(&a, first, NULL), NULL);
    Surefoot__JobSpec b = a;
    b.has_seed = b.has_n = 1;
    b.method = "beam";
    b.date = "2026-01-01";
    b.content_tokens = "as-text";
    assert_ok(calibration_prompt_hash(&b, second, NULL), NULL);
    assert_string_equal(first, second);
    b.content_tokens = "as-written";
    assert_ok(calibration_prompt_hash(&b, second, NULL), NULL);
    assert_string_not_equal(first, second);
    b = a;
    b.prompt = "hello ";
    assert_ok(calibration_prompt_hash(&b, second, NULL), NULL);
    assert_string_not_equal(first, second);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_what_was_written_is_read, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_file_cut_anywhere_goes_on_to_the_same_bytes, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_changed_byte_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_other_conditions_are_refused_by_name, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_what_is_no_calibration_is_said_with_its_name, set_up,
                                        tear_down),
        cmocka_unit_test(test_a_prompt_is_known_by_what_it_is_made_of),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
