// What people see of a comparison: every line fits a terminal of 100 columns, answers are whole
// where they are short enough, and what is over budget is hidden unless it is asked for.
#include "client/cli/compare_table.h"

#include <stdlib.h>
#include <string.h>

#include "tests/support/testkit.h"

enum { PROMPTS = 2, METHODS = 3, COLUMNS = 100 };

struct fixture {
    struct item rows[PROMPTS];
    struct items items;
    Surefoot__JobResult results[METHODS][PROMPTS];
    Surefoot__JobResult *pointers[METHODS][PROMPTS];
    struct compare_column columns[METHODS];
    struct compare_table table;
};

static const char *const labels[METHODS] = {"sample", "best-of-n", "inference-guard"};

static int set_up(void **state) {
    struct fixture *fixture = calloc(1, sizeof *fixture);
    assert_non_null(fixture);
    fixture->rows[0].prompt = "first prompt";
    fixture->rows[1].prompt = "second prompt";
    fixture->items = (struct items){.rows = fixture->rows, .count = PROMPTS};
    for (int i = 0; i < METHODS; i++) {
        for (int j = 0; j < PROMPTS; j++) {
            Surefoot__JobResult *result = &fixture->results[i][j];
            surefoot__job_result__init(result);
            result->outcome = SUREFOOT__OUTCOME__OUTCOME_COMPLETED;
            result->text = " an answer";
            result->has_reward = result->has_cost = result->has_budget = 1;
            result->reward = 1.5 + i;
            result->cost = 0.25;
            result->budget = 0.75;
            fixture->pointers[i][j] = result;
        }
        fixture->columns[i] = (struct compare_column){
            .label = labels[i], .wall_ms = 1000, .results = fixture->pointers[i]};
    }
    fixture->table = (struct compare_table){
        .items = &fixture->items, .columns = fixture->columns, .n_columns = METHODS};
    *state = fixture;
    return 0;
}

static int tear_down(void **state) {
    free(*state);
    return 0;
}

static char *printed(const struct fixture *fixture, bool show_unsafe) {
    char *bytes = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&bytes, &size);
    assert_non_null(out);
    compare_table_print(&fixture->table, show_unsafe, out);
    fclose(out);
    return bytes;
}

static void expect(const struct fixture *fixture, const char *part) {
    char *text = printed(fixture, false);
    if (strstr(text, part) == NULL) {
        fail_msg("\"%s\" is not in:\n%s", part, text);
    }
    free(text);
}

static void test_scores_stand_side_by_side_and_answers_below(void **state) {
    const struct fixture *fixture = *state;
    expect(fixture,
           " 1. first prompt\n"
           "    sample           reward    1.500  cost    0.250  answered              0.00 s\n"
           "    best-of-n        reward    2.500  cost    0.250  answered              0.00 s\n"
           "    inference-guard  reward    3.500  cost    0.250  answered              0.00 s\n"
           "    sample           an answer\n"
           "    best-of-n        an answer\n"
           "    inference-guard  an answer\n"
           "\n"
           " 2. second prompt\n");
    expect(fixture, "\nmeans over the 2 prompts that every method answered, 0 left out; "
                    "the budget is 0.75\n");
}

static void test_long_texts_stay_within_a_hundred_columns(void **state) {
    struct fixture *fixture = *state;
    char text[2000];
    for (size_t i = 0; i < sizeof text; i++) {
        text[i] = i % 7 == 6 ? ' ' : 'w';
    }
    text[sizeof text - 1] = '\0';
    fixture->rows[0].prompt = text;
    fixture->results[0][0].text = text;
    fixture->columns[1].label = "inference-guard:lagrangian";
    fixture->results[1][0].reward = -123456.75;
    fixture->results[2][0].outcome = SUREFOOT__OUTCOME__OUTCOME_NO_SAFE_CANDIDATE;
    char *output = printed(fixture, false);
    for (const char *line = output; *line != '\0'; line = strchr(line, '\n') + 1) {
        if (strcspn(line, "\n") > COLUMNS) {
            fail_msg("%zu columns: %.*s", strcspn(line, "\n"), (int)strcspn(line, "\n"), line);
        }
    }
    assert_non_null(strstr(output, "...\n"));
    free(output);
}

static void test_an_answer_of_sixty_tokens_is_whole(void **state) {
    struct fixture *fixture = *state;
    char text[321];
    memset(text, 'w', sizeof text);
    for (size_t i = 5; i < sizeof text; i += 6) {
        text[i] = ' ';
    }
    memcpy(text + sizeof text - 7, " last.", 7);
    fixture->results[0][0].text = text;
    expect(fixture, " last.\n");
}

static void test_answers_over_budget_are_hidden(void **state) {
    struct fixture *fixture = *state;
    fixture->results[0][0].text = "something bad";
    fixture->results[0][0].has_over_budget = 1;
    fixture->results[0][0].over_budget = 1;
    char *hidden = printed(fixture, false);
    char *shown = printed(fixture, true);
    assert_null(strstr(hidden, "something bad"));
    assert_non_null(strstr(hidden, "OVER BUDGET"));
    assert_non_null(strstr(hidden, "    sample           [over budget: hidden, --show-unsafe"));
    assert_non_null(strstr(shown, "    sample           something bad\n"));
    free(hidden);
    free(shown);
}

static void test_what_was_not_answered_says_why(void **state) {
    struct fixture *fixture = *state;
    Surefoot__ErrorInfo error = SUREFOOT__ERROR_INFO__INIT;
    error.message = "a rank is lost";
    Surefoot__JobResult *refused = &fixture->results[2][0], *failed = &fixture->results[2][1];
    refused->outcome = SUREFOOT__OUTCOME__OUTCOME_NO_SAFE_CANDIDATE;
    refused->text = NULL;
    refused->rule = "nothing is within budget";
    failed->outcome = SUREFOOT__OUTCOME__OUTCOME_FAILED;
    failed->text = NULL;
    failed->error = &error;
    failed->has_reward = failed->has_cost = 0;
    expect(fixture, "    inference-guard  reward    3.500  cost    0.250  refused ");
    expect(fixture, "    inference-guard  [nothing is within budget]\n");
    expect(fixture, "    inference-guard  reward        -  cost        -  FAILED ");
    expect(fixture, "    inference-guard  [a rank is lost]\n");
    expect(fixture, "means over the 0 prompts that every method answered, 2 left out;");
}

static void test_one_prompt_is_no_plural(void **state) {
    struct fixture *fixture = *state;
    fixture->items.count = 1;
    expect(fixture, "\nmeans over the 1 prompt that every method answered, 0 left out;");
}

static void test_a_comparison_without_costs_has_no_budget(void **state) {
    struct fixture *fixture = *state;
    for (int i = 0; i < METHODS; i++) {
        for (int j = 0; j < PROMPTS; j++) {
            fixture->results[i][j].has_budget = fixture->results[i][j].has_cost = 0;
        }
    }
    expect(fixture, "reward    1.500  cost        -  answered");
    expect(fixture, "answered, 0 left out\n");
}

int main(void) {
#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(test_scores_stand_side_by_side_and_answers_below),
        CASE(test_long_texts_stay_within_a_hundred_columns),
        CASE(test_an_answer_of_sixty_tokens_is_whole),
        CASE(test_answers_over_budget_are_hidden),
        CASE(test_what_was_not_answered_says_why),
        CASE(test_one_prompt_is_no_plural),
        CASE(test_a_comparison_without_costs_has_no_budget),
    };
#undef CASE
    return cmocka_run_group_tests(tests, NULL, NULL);
}
