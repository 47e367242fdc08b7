// Flag tables, and the job that flags make.
#include "client/cli/flags.h"

#include <string.h>

#include "client/cli/job_flags.h"
#include "tests/support/testkit.h"

static enum status parse_job(struct job_flags *flags, int argc, char **argv, struct error *err) {
    job_flags_init(flags);
    const struct command_line line = {.usage = "test PROMPT",
                                      .about = "",
                                      .tables = {flags->table},
                                      .n_tables = 1,
                                      .positional_max = 1};
    const char *positional = NULL;
    int n_positional = 0;
    bool help = false;
    enum status status = flags_parse(&line, argc, argv, &positional, &n_positional, &help, err);
    if (status == STATUS_OK) {
        status = job_flags_finish(flags, err);
    }
    if (status == STATUS_OK && n_positional == 1) {
        job_flags_set_prompt(flags, positional);
    }
    return status;
}

#define PARSE(flags, err, ...)                                                                     \
    parse_job((flags), (int)(sizeof((char *[]){__VA_ARGS__}) / sizeof(char *)),                    \
              (char *[]){__VA_ARGS__}, (err))

static void test_only_named_fields_are_present(void **state) {
    (void)state;
    struct job_flags flags;
    struct error err;
    assert_ok(PARSE(&flags, &err, "--n", "8", "hello", "--budget=0", "--early-stop=false"), &err);
    assert_true(flags.spec.has_n);
    assert_int_equal(flags.spec.n, 8);
    assert_true(flags.spec.has_budget && flags.spec.budget == 0);
    assert_true(flags.spec.has_early_stop && !flags.spec.early_stop);
    assert_false(flags.spec.has_tries);
    assert_false(flags.spec.has_seed);
    assert_null(flags.spec.method);
    assert_string_equal(flags.spec.prompt, "hello");
    job_flags_destroy(&flags);
}

static void test_lists_and_scorers_are_built(void **state) {
    (void)state;
    struct job_flags flags;
    struct error err;
    assert_ok(PARSE(&flags, &err, "--logit-bias", "12=-2.5", "--logit-bias", "3=1", "--stop", "END",
                    "--scorer", "reward", "--scorer", "lexical:cost:0.5", "--forbid", "bad",
                    "--system", "be kind", "--seed", "18446744073709551615", "hello"),
              &err);
    assert_int_equal(flags.spec.sampling->n_logit_bias, 2);
    assert_int_equal(flags.spec.sampling->logit_bias[0]->token_id, 12);
    assert_true(flags.spec.sampling->logit_bias[0]->bias == -2.5F);
    assert_string_equal(flags.spec.sampling->stop[0], "END");
    assert_int_equal(flags.spec.n_scorers, 2);
    assert_null(flags.spec.scorers[0]->role);
    assert_null(flags.spec.scorers[0]->lexical);
    assert_string_equal(flags.spec.scorers[1]->name, "lexical");
    assert_string_equal(flags.spec.scorers[1]->role, "cost");
    assert_true(flags.spec.scorers[1]->weight == 0.5);
    assert_string_equal(flags.spec.scorers[1]->lexical->forbidden[0], "bad");
    assert_int_equal(flags.spec.n_messages, 2);
    assert_string_equal(flags.spec.messages[0]->role, "system");
    assert_string_equal(flags.spec.messages[1]->content, "hello");
    assert_null(flags.spec.prompt);
    assert_true(flags.spec.seed == UINT64_MAX);
    job_flags_destroy(&flags);
}

// Rules of words without a scorer of theirs are the job's own.
static void test_rules_of_words_never_go_unread(void **state) {
    (void)state;
    struct job_flags flags;
    struct error err;
    assert_ok(PARSE(&flags, &err, "--forbid", "bad", "--words-max", "9", "hello"), &err);
    assert_int_equal(flags.spec.n_scorers, 0);
    assert_non_null(flags.spec.lexical);
    assert_string_equal(flags.spec.lexical->forbidden[0], "bad");
    assert_int_equal(flags.spec.lexical->words_max, 9);
    job_flags_destroy(&flags);
    assert_ok(PARSE(&flags, &err, "--scorer", "lexical:cost", "--forbid", "bad", "hello"), &err);
    assert_null(flags.spec.lexical);
    assert_non_null(flags.spec.scorers[0]->lexical);
    job_flags_destroy(&flags);
    assert_ok(PARSE(&flags, &err, "--n", "2", "hello"), &err);
    assert_null(flags.spec.lexical);
    job_flags_destroy(&flags);
}

static void test_channels_are_built_of_a_jobs_fields(void **state) {
    (void)state;
    struct job_flags flags;
    struct error err;
    assert_ok(PARSE(&flags, &err, "--scorer", "harm:cost:2:harm", "--scorer", "lexical:cost::tone",
                    "--scorer", "reward", "--forbid", "bad", "--channel",
                    "harm:budget=-2.5,discount=0.5,discount-unit=block,cost-mode=token_sum,"
                    "admit-rule=prefix,cost-min=-1",
                    "--channel", "tone", "--budget", "3", "hello"),
              &err);
    assert_int_equal(flags.spec.n_scorers, 3);
    assert_true(flags.spec.scorers[0]->weight == 2);
    assert_string_equal(flags.spec.scorers[0]->channel, "harm");
    assert_false(flags.spec.scorers[1]->has_weight);
    assert_string_equal(flags.spec.scorers[1]->role, "cost");
    assert_string_equal(flags.spec.scorers[1]->channel, "tone");
    assert_null(flags.spec.scorers[2]->channel);
    assert_int_equal(flags.spec.n_channels, 2);
    const Surefoot__ChannelSpec *harm = flags.spec.channels[0];
    const Surefoot__ChannelSpec *tone = flags.spec.channels[1];
    assert_string_equal(harm->name, "harm");
    assert_true(harm->has_budget && harm->budget == -2.5);
    assert_true(harm->has_discount && harm->discount == 0.5);
    assert_true(harm->has_cost_min && harm->cost_min == -1);
    assert_string_equal(harm->discount_unit, "block");
    assert_string_equal(harm->cost_mode, "token_sum");
    assert_string_equal(harm->admit_rule, "prefix");
    assert_string_equal(tone->name, "tone");
    assert_false(tone->has_budget || tone->has_discount || tone->has_cost_min);
    assert_null(tone->cost_mode);
    assert_true(flags.spec.has_budget && flags.spec.budget == 3); // the job's own
    job_flags_destroy(&flags);
}

static void expect_refused(enum status expected, const char *field, const char *limit, char *name,
                           char *value) {
    struct job_flags flags;
    struct error err = {0};
    assert_status(expected, PARSE(&flags, &err, name, value));
    assert_string_equal(err.field, field);
    assert_non_null(strstr(err.message, limit));
    job_flags_destroy(&flags);
}

static void test_bad_values_name_the_flag_and_the_limit(void **state) {
    (void)state;
    expect_refused(STATUS_LIMIT, "--n", "[1, 4096]", "--n", "0");
    expect_refused(STATUS_LIMIT, "--n", "[1, 4096]", "--n", "4097");
    expect_refused(STATUS_INVALID_ARGUMENT, "--n", "whole number", "--n", "-1");
    expect_refused(STATUS_INVALID_ARGUMENT, "--n", "whole number", "--n", "8x");
    expect_refused(STATUS_INVALID_ARGUMENT, "--n", "whole number", "--n", "");
    expect_refused(STATUS_INVALID_ARGUMENT, "--channel", "budget, discount, discount-unit",
                   "--channel", "harm:budget");
    expect_refused(STATUS_INVALID_ARGUMENT, "--channel", "\"n\" is not", "--channel", "harm:n=2");
    expect_refused(STATUS_INVALID_ARGUMENT, "--channel", "twice", "--channel",
                   "harm:budget=1,budget=2");
    expect_refused(STATUS_INVALID_ARGUMENT, "--channel.budget", "finite", "--channel",
                   "harm:budget=1x");
    expect_refused(STATUS_LIMIT, "--channel.discount", "(0, 1]", "--channel", "harm:discount=0");
    expect_refused(STATUS_INVALID_ARGUMENT, "--budget", "finite", "--budget", "nan");
    expect_refused(STATUS_INVALID_ARGUMENT, "--budget", "finite", "--budget", "inf");
    expect_refused(STATUS_LIMIT, "--top-p", "(0, 1]", "--top-p", "0");
    expect_refused(STATUS_LIMIT, "--discount", "(0, 1]", "--discount", "1.0000001");
    expect_refused(STATUS_LIMIT, "--repetition-penalty", "(0, 100]", "--repetition-penalty", "0");
    expect_refused(STATUS_LIMIT, "--budget", "[-1e+09, 1e+09]", "--budget", "1e10");
    expect_refused(STATUS_LIMIT, "--temperature", "[0, 100]", "--temperature", "-0.1");
    expect_refused(STATUS_INVALID_ARGUMENT, "--early-stop", "true or false", "--early-stop=no",
                   "x");
    expect_refused(STATUS_INVALID_ARGUMENT, "--seed", "whole", "--seed", "18446744073709551616");
    expect_refused(STATUS_INVALID_ARGUMENT, "--logit-bias", "TOKEN=X", "--logit-bias", "a=1");
    expect_refused(STATUS_INVALID_ARGUMENT, "--logit-bias", "token id", "--logit-bias",
                   "32768000=1");
    expect_refused(STATUS_INVALID_ARGUMENT, "--logit-bias",
                   "the bias of \"1=nan\" is not a finite number", "--logit-bias", "1=nan");
    expect_refused(STATUS_INVALID_ARGUMENT, "--logit-bias", "the bias of \"1=\"", "--logit-bias",
                   "1=");
    expect_refused(STATUS_INVALID_ARGUMENT, "--logit-bias", "the bias of \"1=2x\"", "--logit-bias",
                   "1=2x");
    expect_refused(STATUS_INVALID_ARGUMENT, "--logit-bias", "the bias of \"1=1e39\"",
                   "--logit-bias", "1=1e39");
    expect_refused(STATUS_INVALID_ARGUMENT, "--scorer", "weight", "--scorer", "cost:cost:much");
}

static void test_unknown_flags_and_missing_values_are_refused(void **state) {
    (void)state;
    expect_refused(STATUS_INVALID_ARGUMENT, "--nn", "unknown", "--nn", "1");
    expect_refused(STATUS_INVALID_ARGUMENT, "-n", "unknown", "-n", "1");
    expect_refused(STATUS_INVALID_ARGUMENT, "b", "too many", "a", "b");
    struct job_flags flags;
    struct error err;
    assert_status(STATUS_INVALID_ARGUMENT, PARSE(&flags, &err, "--n"));
    assert_string_equal(err.field, "--n");
    job_flags_destroy(&flags);
}

static void test_two_dashes_end_the_flags(void **state) {
    (void)state;
    struct job_flags flags;
    struct error err;
    assert_ok(PARSE(&flags, &err, "--", "--n"), &err);
    assert_string_equal(flags.spec.prompt, "--n");
    job_flags_destroy(&flags);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_only_named_fields_are_present),
        cmocka_unit_test(test_lists_and_scorers_are_built),
        cmocka_unit_test(test_channels_are_built_of_a_jobs_fields),
        cmocka_unit_test(test_rules_of_words_never_go_unread),
        cmocka_unit_test(test_bad_values_name_the_flag_and_the_limit),
        cmocka_unit_test(test_unknown_flags_and_missing_values_are_refused),
        cmocka_unit_test(test_two_dashes_end_the_flags),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
