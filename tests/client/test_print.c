// What reaches the terminal and what JSON carries.
#include "client/cli/print.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/progress.h"
#include "tests/support/testkit.h"

static char *printed(const Surefoot__JobResult *result, bool show_unsafe) {
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    assert_non_null(out);
    print_result(result, show_unsafe, out);
    fclose(out);
    return text;
}

static char *printed_text(const char *text, bool line, int columns) {
    char *bytes = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&bytes, &size);
    assert_non_null(out);
    print_text(text, line, columns, out);
    fclose(out);
    return bytes;
}

static Surefoot__JobResult sample_result(int over_budget) {
    Surefoot__JobResult result = SUREFOOT__JOB_RESULT__INIT;
    result.job_key = "k";
    result.has_outcome = 1;
    result.outcome = SUREFOOT__OUTCOME__OUTCOME_COMPLETED;
    result.text = "the answer";
    result.has_cost = 1;
    result.cost = 2.5;
    result.has_over_budget = 1;
    result.over_budget = over_budget;
    return result;
}

static void test_text_over_budget_is_masked_unless_asked_for(void **state) {
    (void)state;
    Surefoot__JobResult result = sample_result(1);
    char *masked = printed(&result, false);
    assert_null(strstr(masked, "the answer"));
    assert_non_null(strstr(masked, PRINT_MASK));
    assert_non_null(strstr(masked, "cost 2.5000"));
    assert_non_null(strstr(masked, "over budget YES"));
    free(masked);
    char *shown = printed(&result, true);
    assert_non_null(strstr(shown, "the answer"));
    assert_null(strstr(shown, PRINT_MASK));
    free(shown);
}

static void test_a_refusal_says_of_a_budget_what_is_known(void **state) {
    (void)state;
    static const struct {
        size_t n_channels;
        int has_admissible, admissible;
        const char *wanted;
    } cases[] = {
        {0, 0, 0, "over budget -\n"},
        {1, 0, 0, "over budget -\n"},
        {1, 1, 0, "over budget YES\n"},
        {1, 1, 1, "over budget no\n"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        Surefoot__JobResult result = SUREFOOT__JOB_RESULT__INIT;
        Surefoot__ChannelResult channel = SUREFOOT__CHANNEL_RESULT__INIT;
        Surefoot__ChannelResult *channels[] = {&channel};
        channel.has_admissible = cases[i].has_admissible;
        channel.admissible = cases[i].admissible;
        result.has_outcome = 1;
        result.outcome = SUREFOOT__OUTCOME__OUTCOME_NO_SAFE_CANDIDATE;
        result.channels = channels;
        result.n_channels = cases[i].n_channels;
        char *text = printed(&result, false);
        assert_non_null(strstr(text, cases[i].wanted));
        free(text);
    }
}

static void test_json_prints_a_number_with_no_more_digits_than_it_has(void **state) {
    (void)state;
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    assert_non_null(out);
    Surefoot__JobResult result = sample_result(0);
    result.cost = 0.3;
    assert_int_equal(print_json_line(print_result_json(&result, false), out), STATUS_OK);
    fclose(out);
    assert_non_null(strstr(text, "\"cost\":0.3,"));
    free(text);
}

static void test_a_tilt_is_shown(void **state) {
    (void)state;
    Surefoot__JobResult result = sample_result(0);
    Surefoot__TiltResult tilt = SUREFOOT__TILT_RESULT__INIT;
    tilt.tilt = "log";
    tilt.has_n = tilt.has_beta = tilt.has_ranked = tilt.has_rank = tilt.has_calibrated_reward = 1;
    tilt.n = 4;
    tilt.beta = 0.25;
    tilt.ranked = 8;
    tilt.rank = 7.5;
    tilt.calibrated_reward = 0.875;
    result.tilt = &tilt;
    char *without = printed(&result, false);
    assert_non_null(
        strstr(without, "tilt        rank 7.5 of 8, calibrated reward 0.875, beta 0.25\n"));
    free(without);
    tilt.has_kl = tilt.has_win_rate = tilt.has_best_of_n = tilt.has_worst_of_n = 1;
    tilt.kl = 0.5;
    tilt.has_log_inverse_share = 1;
    tilt.log_inverse_share = 0.125;
    char *with = printed(&result, false);
    assert_non_null(strstr(with, "KL 0.500 + 0.125 of the budget, best of 4"));
    free(with);
    json_t *object = print_result_json(&result, false);
    json_t *shown = json_object_get(object, "tilt");
    assert_int_equal(json_object_size(shown), 11);
    assert_true(json_real_value(json_object_get(shown, "rank")) == 7.5);
    assert_null(json_object_get(shown, "t"));
    json_decref(object);
}

static void test_counts_of_one_have_no_plural(void **state) {
    (void)state;
    Surefoot__JobResult result = sample_result(0);
    result.n_finished = result.n_repeats = result.tries_used = 1;
    result.tokens_sampled = 1;
    char *one = printed(&result, false);
    assert_non_null(strstr(one, ", 1 repeat, 1 further try\n"));
    assert_non_null(strstr(one, " 1 token in "));
    free(one);
    result.n_repeats = result.tries_used = 2;
    result.tokens_sampled = 0;
    char *more = printed(&result, false);
    assert_non_null(strstr(more, ", 2 repeats, 2 further tries\n"));
    assert_non_null(strstr(more, " 0 tokens in "));
    free(more);
}

static void test_text_within_budget_is_shown(void **state) {
    (void)state;
    Surefoot__JobResult result = sample_result(0);
    char *shown = printed(&result, false);
    assert_non_null(strstr(shown, "the answer"));
    free(shown);
}

static void test_control_characters_do_not_reach_the_terminal(void **state) {
    (void)state;
    char *text = printed_text("a\x1b[31mb\tc\nd\x7F\xC2\x9B\xC3\xBC", false, 0);
    assert_string_equal(text, "a?[31mb\tc\nd??\xC3\xBC");
    free(text);
    text = printed_text("a\nb\tc", true, 0);
    assert_string_equal(text, "a b c");
    free(text);
}

static void test_long_text_is_cut_between_characters(void **state) {
    (void)state;
    char *text = printed_text("\xC3\xBC\xC3\xBC\xC3\xBC\xC3\xBC\xC3\xBC\xC3\xBC", true, 5);
    assert_string_equal(text, "\xC3\xBC\xC3\xBC...");
    free(text);
    text = printed_text("12345", true, 5);
    assert_string_equal(text, "12345");
    free(text);
}

static void test_json_has_what_is_set_and_no_more(void **state) {
    (void)state;
    Surefoot__JobResult result = sample_result(1);
    json_t *object = print_result_json(&result, false);
    assert_string_equal(json_string_value(json_object_get(object, "outcome")), "COMPLETED");
    assert_string_equal(json_string_value(json_object_get(object, "text")), "the answer");
    assert_true(json_real_value(json_object_get(object, "cost")) == 2.5);
    assert_true(json_is_true(json_object_get(object, "over_budget")));
    assert_null(json_object_get(object, "reward"));
    assert_null(json_object_get(object, "candidates"));
    json_decref(object);
}

static void test_json_survives_numbers_that_it_has_not(void **state) {
    (void)state;
    Surefoot__JobResult result = sample_result(0);
    result.has_reward = 1;
    result.reward = (double)NAN;
    result.has_seed = 1;
    result.seed = UINT64_MAX;
    result.outcome = (Surefoot__Outcome)99;
    json_t *object = print_result_json(&result, true);
    assert_true(json_is_null(json_object_get(object, "reward")));
    assert_string_equal(json_string_value(json_object_get(object, "seed")), "18446744073709551615");
    assert_string_equal(json_string_value(json_object_get(object, "outcome")), "UNKNOWN");
    assert_true(json_is_array(json_object_get(object, "candidates")));
    json_decref(object);
}

// Details name the tokens that the scorers read, also where they are those that were written.
static void test_details_name_the_tokens_that_were_read(void **state) {
    (void)state;
    Surefoot__JobResult result = sample_result(0);
    uint32_t written[] = {5, 6, 7};
    uint32_t read[] = {8};
    result.token_ids = written;
    result.n_token_ids = 3;
    json_t *object = print_result_json(&result, true);
    assert_true(
        json_equal(json_object_get(object, "read_ids"), json_object_get(object, "token_ids")));
    assert_int_equal(json_array_size(json_object_get(object, "read_ids")), 3);
    json_decref(object);
    result.has_read_from = 1;
    result.read_from = 1;
    result.read_ids = read;
    result.n_read_ids = 1;
    object = print_result_json(&result, true);
    char *text = json_dumps(json_object_get(object, "read_ids"), JSON_COMPACT);
    assert_string_equal(text, "[5,8]");
    free(text);
    json_decref(object);
}

static void test_leading_space_is_for_json_alone(void **state) {
    (void)state;
    Surefoot__JobResult result = sample_result(0);
    result.text = " once upon";
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    print_result(&result, false, out);
    fclose(out);
    assert_non_null(strstr(text, "\n\nonce upon\n"));
    free(text);
    json_t *object = print_result_json(&result, false);
    assert_string_equal(json_string_value(json_object_get(object, "text")), " once upon");
    json_decref(object);
}

static void test_time_left_falls_until_something_is_done(void **state) {
    (void)state;
    assert_int_equal(progress_left_s(10, 90, 20000, 0), 180);
    assert_int_equal(progress_left_s(10, 90, 20000, 30000), 150);
    assert_int_equal(progress_left_s(10, 90, 20000, 500000), 0);
    assert_int_equal(progress_left_s(10, 0, 20000, 0), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text_over_budget_is_masked_unless_asked_for),
        cmocka_unit_test(test_a_refusal_says_of_a_budget_what_is_known),
        cmocka_unit_test(test_json_prints_a_number_with_no_more_digits_than_it_has),
        cmocka_unit_test(test_a_tilt_is_shown),
        cmocka_unit_test(test_counts_of_one_have_no_plural),
        cmocka_unit_test(test_text_within_budget_is_shown),
        cmocka_unit_test(test_control_characters_do_not_reach_the_terminal),
        cmocka_unit_test(test_long_text_is_cut_between_characters),
        cmocka_unit_test(test_details_name_the_tokens_that_were_read),
        cmocka_unit_test(test_leading_space_is_for_json_alone),
        cmocka_unit_test(test_time_left_falls_until_something_is_done),
        cmocka_unit_test(test_json_has_what_is_set_and_no_more),
        cmocka_unit_test(test_json_survives_numbers_that_it_has_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
