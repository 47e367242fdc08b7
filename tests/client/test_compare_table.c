// What people see of a comparison: every line fits a terminal of 100 columns, answers are whole
// where they are short enough, and what is over budget is hidden unless it is asked for.
#include "client/cli/compare_table.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/testkit.h"

enum { PROMPTS = 2, METHODS = 3, COLUMNS = 100 };

struct fixture {
    struct item rows[PROMPTS];
    struct items items;
    json_t *results[METHODS][PROMPTS]; // owned
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
            fixture->results[i][j] =
                json_pack("{s:s, s:s, s:f, s:f, s:f}", "outcome", "COMPLETED", "text", " an answer",
                          "reward", 1.5 + i, "cost", 0.25, "budget", 0.75);
        }
        fixture->columns[i] = (struct compare_column){
            .label = labels[i], .wall_ms = 1000, .results = fixture->results[i]};
    }
    fixture->table = (struct compare_table){
        .items = &fixture->items, .columns = fixture->columns, .n_columns = METHODS};
    *state = fixture;
    return 0;
}

static int tear_down(void **state) {
    struct fixture *fixture = *state;
    for (int i = 0; i < METHODS; i++) {
        for (int j = 0; j < PROMPTS; j++) {
            json_decref(fixture->results[i][j]);
        }
    }
    free(fixture);
    return 0;
}

static void set_text(json_t *result, const char *name, const char *text) {
    assert_int_equal(json_object_set_new(result, name, json_string(text)), 0);
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
    set_text(fixture->results[0][0], "text", text);
    fixture->columns[1].label = "inference-guard:lagrangian";
    json_object_set_new(fixture->results[1][0], "reward", json_real(-123456.75));
    set_text(fixture->results[2][0], "outcome", "NO_SAFE_CANDIDATE");
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
    set_text(fixture->results[0][0], "text", text);
    expect(fixture, " last.\n");
}

static void test_answers_over_budget_are_hidden(void **state) {
    struct fixture *fixture = *state;
    set_text(fixture->results[0][0], "text", "something bad");
    json_object_set_new(fixture->results[0][0], "over_budget", json_true());
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
    json_t *refused = fixture->results[2][0], *failed = fixture->results[2][1];
    set_text(refused, "outcome", "NO_SAFE_CANDIDATE");
    set_text(refused, "rule", "nothing is within budget");
    json_object_del(refused, "text");
    set_text(failed, "outcome", "FAILED");
    json_object_set_new(failed, "error", json_pack("{s:s}", "message", "a rank is lost"));
    json_object_del(failed, "text");
    json_object_del(failed, "reward");
    json_object_del(failed, "cost");
    expect(fixture, "    inference-guard  reward    3.500  cost    0.250  refused ");
    expect(fixture, "    inference-guard  [nothing is within budget]\n");
    expect(fixture, "    inference-guard  reward        -  cost        -  FAILED ");
    expect(fixture, "    inference-guard  [a rank is lost]\n");
    expect(fixture, "means over the 0 prompts that every method answered, 2 left out;");
}

// What an earlier run began has no time of this one.
static void test_unknown_times_are_said_to_be(void **state) {
    struct fixture *fixture = *state;
    expect(fixture, "sample                1.500     0.250           0         2/2        0       "
                    "0      1.0\n");
    fixture->columns[0].wall_ms = (double)NAN;
    expect(fixture, "sample                1.500     0.250           0         2/2        0       "
                    "0        -\n");
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
            json_object_del(fixture->results[i][j], "budget");
            json_object_del(fixture->results[i][j], "cost");
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
        CASE(test_unknown_times_are_said_to_be),
        CASE(test_one_prompt_is_no_plural),
        CASE(test_a_comparison_without_costs_has_no_budget),
    };
#undef CASE
    return cmocka_run_group_tests(tests, NULL, NULL);
}
