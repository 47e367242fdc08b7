// The rows of a job's fields: what an absent field is, and that docs/protocol.md says what they
// say.
#include "proto/job_fields.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/testkit.h"

enum { LINE_BYTES = 256 };

static void range_text(enum job_field_index index, char out[LINE_BYTES]) {
    const struct job_field *field = job_field_get(index);
    char choices[JOB_FIELD_TEXT_BYTES];
    switch (field->kind) {
    case JOB_FIELD_KIND_U32:
        snprintf(out, LINE_BYTES, "%.0f to %.0f", field->low, field->high);
        return;
    case JOB_FIELD_KIND_REAL:
        snprintf(out, LINE_BYTES, "%c%.10g, %.10g]", field->above_low ? '(' : '[', field->low,
                 field->high);
        return;
    case JOB_FIELD_KIND_BOOL:
        snprintf(out, LINE_BYTES, "true, false");
        return;
    case JOB_FIELD_KIND_CHOICE:
        job_choices_text(index, choices);
        snprintf(out, LINE_BYTES, "%s", choices);
        return;
    }
}

// "beam, inference-guard under augmented"
static void readers_text(enum job_field_index index, char out[LINE_BYTES]) {
    const struct job_field *field = job_field_get(index);
    const char *name = NULL;
    int n = 0;
    int n_under = 0;
    for (int i = 1; (name = job_choice_name(JOB_FIELD_METHOD, i)) != NULL; i++) {
        if ((field->methods & 1U << i) != 0) {
            n += snprintf(out + n, LINE_BYTES - (size_t)n, "%s%s", n > 0 ? ", " : "", name);
        }
    }
    for (int i = 1; (name = job_choice_name(JOB_FIELD_SELECTION, i)) != NULL; i++) {
        if ((field->selections & 1U << i) != 0) {
            n += snprintf(out + n, LINE_BYTES - (size_t)n, "%s %s", n_under > 0 ? " or" : " under",
                          name);
            n_under++;
        }
    }
    for (int i = 1, n_with = 0; (name = job_choice_name(JOB_FIELD_TILT, i)) != NULL; i++) {
        if ((field->tilts & 1U << i) != 0) {
            n += snprintf(out + n, LINE_BYTES - (size_t)n, "%s %s",
                          n_with > 0 ? "," : " with `tilt`", name);
            n_with++;
        }
    }
    snprintf(out + n, LINE_BYTES - (size_t)n, "%s",
             field->of_retries   ? " with `tries` above 1"
             : field->of_sharing ? " with `critic` latent+cost"
                                 : "");
}

static void expect_line(const char *document, const char *beginning) {
    const char *at = strstr(document, beginning);
    size_t n = strlen(beginning);
    if (at == NULL || (strncmp(at + n, " |", 2) != 0 && at[n] != ';')) {
        fail_msg("docs/protocol.md has no row %s", beginning);
    }
}

static void test_documents_say_what_the_rows_say(void **state) {
    (void)state;
    char *document = testkit_read_file(testkit_source_path("docs/protocol.md"), NULL);
    for (enum job_field_index i = 0; i < JOB_FIELDS_COUNT; i++) {
        const struct job_field *field = job_field_get(i);
        char range[LINE_BYTES], fallback[JOB_FIELD_TEXT_BYTES], line[2 * LINE_BYTES];
        range_text(i, range);
        job_field_default_text(i, fallback);
        snprintf(line, sizeof line, "| `%s` | %s | %s", field->name, fallback, range);
        expect_line(document, line);
        if (field->methods != 0) {
            char readers[LINE_BYTES];
            readers_text(i, readers);
            snprintf(line, sizeof line, "| `%s` | %s", field->name, readers);
            expect_line(document, line);
        }
    }
    free(document);
}

static void test_an_absent_field_follows_the_method(void **state) {
    (void)state;
    Surefoot__JobSpec spec = SUREFOOT__JOB_SPEC__INIT;
    assert_true(job_field_number(JOB_FIELD_METHOD, &spec) == SEARCH_METHOD_INFERENCE_GUARD);
    assert_true(job_field_number(JOB_FIELD_SELECTION, &spec) == SEARCH_SELECTION_AUGMENTED);
    assert_true(job_field_number(JOB_FIELD_N, &spec) == 32);
    assert_true(job_field_number(JOB_FIELD_SURVIVORS, &spec) == 8);
    spec.method = "sample";
    assert_true(job_field_number(JOB_FIELD_SELECTION, &spec) == SEARCH_SELECTION_PLAIN);
    assert_true(job_field_number(JOB_FIELD_N, &spec) == 1);
    spec.method = "beam";
    spec.has_n = true;
    spec.n = 3;
    assert_true(job_field_number(JOB_FIELD_SURVIVORS, &spec) == 1);
    assert_false(job_field_has_fallback(JOB_FIELD_MAX_TOKENS, &spec));
    spec.generation_defaults = "none";
    assert_true(job_field_has_fallback(JOB_FIELD_MAX_TOKENS, &spec));
    assert_false(job_field_has_fallback(JOB_FIELD_DISCOUNT, &spec));
}

static void test_a_field_is_read_where_its_row_says(void **state) {
    (void)state;
    Surefoot__JobSpec spec = SUREFOOT__JOB_SPEC__INIT;
    assert_true(job_field_is_read(JOB_FIELD_FALLBACK_CAP, &spec));
    spec.has_tries = true;
    spec.tries = 1;
    assert_false(job_field_is_read(JOB_FIELD_FALLBACK_CAP, &spec));
    assert_false(job_field_is_read(JOB_FIELD_LAGRANGIAN_LAMBDA, &spec));
    spec.method = "best-of-n";
    assert_false(job_field_is_read(JOB_FIELD_LAGRANGIAN_LAMBDA, &spec));
    spec.selection = "lagrangian";
    assert_true(job_field_is_read(JOB_FIELD_LAGRANGIAN_LAMBDA, &spec));
    spec.selection = "unknown"; // refused elsewhere
    assert_true(job_field_is_read(JOB_FIELD_EARLY_STOP, &spec));
}

static void test_a_cleared_field_is_absent(void **state) {
    (void)state;
    Surefoot__JobSpec spec = SUREFOOT__JOB_SPEC__INIT;
    spec.has_early_stop = true;
    spec.early_stop = false;
    spec.admit_rule = "prefix";
    assert_true(job_field_number(JOB_FIELD_EARLY_STOP, &spec) == 0);
    assert_true(job_field_number(JOB_FIELD_ADMIT_RULE, &spec) == ADMIT_RULE_PREFIX);
    job_field_clear(JOB_FIELD_EARLY_STOP, &spec);
    job_field_clear(JOB_FIELD_ADMIT_RULE, &spec);
    assert_false(spec.has_early_stop);
    assert_null(spec.admit_rule);
    assert_true(job_field_number(JOB_FIELD_EARLY_STOP, &spec) == 1);
    assert_true(job_field_number(JOB_FIELD_ADMIT_RULE, &spec) == ADMIT_RULE_TERMINAL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_documents_say_what_the_rows_say),
        cmocka_unit_test(test_an_absent_field_follows_the_method),
        cmocka_unit_test(test_a_field_is_read_where_its_row_says),
        cmocka_unit_test(test_a_cleared_field_is_absent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
