#include "tests/support/testkit.h"

#include <stdio.h>
#include <string.h>

#include "worker/tokenizer/split_regex.h"

// All matches of the pattern, joined by '|'.
static void find_all(const char *pattern, const char *text, char *out) {
    struct split_regex *regex = NULL;
    struct error err = {0};
    assert_ok(split_regex_compile(pattern, strlen(pattern), &regex, &err), &err);
    struct split_regex_memory *memory = split_regex_memory_create();
    assert_non_null(memory);
    size_t at = 0, start, end;
    bool found = true;
    *out = '\0';
    while (found) {
        assert_ok(split_regex_find(regex, memory, text, strlen(text), at, &found, &start, &end),
                  NULL);
        if (found) {
            out += sprintf(out, "%.*s|", (int)(end - start), text + start);
            at = end;
        }
    }
    split_regex_memory_destroy(memory);
    split_regex_destroy(regex);
}

static void check_refused(const char *pattern, enum status expected) {
    struct split_regex *regex = NULL;
    struct error err = {0};
    enum status status = split_regex_compile(pattern, strlen(pattern), &regex, &err);
    if (status != expected) {
        print_error("pattern %s\n", pattern);
    }
    assert_status(expected, status);
    assert_true(err.message[0] != '\0');
}

static void test_space_class_is_the_unicode_property(void **state) {
    (void)state;
    char out[256];
    // U+0085 and U+3000 are white space, U+180E is not.
    find_all("\\S+",
             "a\xC2\x85"
             "b\xE3\x80\x80"
             "c\xE1\xA0\x8E"
             "d",
             out);
    assert_string_equal("a|b|c\xE1\xA0\x8E"
                        "d|",
                        out);
}

static void test_word_class_counts_marks_and_alphabetic_symbols(void **state) {
    (void)state;
    char out[256];
    find_all("\\w+", "e\u0301_1 \u20AC \u2168\u24B6x", out);
    assert_string_equal("e\u0301_1|\u2168\u24B6x|", out);
}

static void test_anchors_work_on_lines(void **state) {
    (void)state;
    char out[256];
    find_all("^a$", "a\nb\na", out);
    assert_string_equal("a|a|", out);
}

static void test_case_insensitive_group_ends_with_the_group(void **state) {
    (void)state;
    char out[256];
    find_all("(?i:'ll)|b", "'LL'lLBb", out);
    assert_string_equal("'LL|'lL|b|", out);
}

static void test_refuses_what_would_mean_something_else(void **state) {
    (void)state;
    static const char *const patterns[] = {"(*UCP)a", "(?R)", "(?C1)",   "(?<n>a)", "(?i)a", "\\h",
                                           "\\K",     "\\1",  "[a[bc]]", "[a&&b]",  "[\\S]", "[]a]",
                                           "a{2,3}+", "\\",   "a*",      "(?=a)",   "[\\A]"};
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++) {
        check_refused(patterns[i], STATUS_UNSUPPORTED);
    }
    check_refused("(a", STATUS_MALFORMED);
    check_refused("", STATUS_MALFORMED);
}

static void test_endless_backtracking_ends_with_a_limit(void **state) {
    (void)state;
    char text[64];
    memset(text, 'a', sizeof text);
    struct split_regex *regex = NULL;
    struct error err = {0};
    assert_ok(split_regex_compile("(a+)+(a+)+(a+)+b", 16, &regex, &err), &err);
    struct split_regex_memory *memory = split_regex_memory_create();
    bool found;
    size_t start, end;
    text[sizeof text - 1] = 'b';
    text[sizeof text - 2] = 'c';
    assert_status(STATUS_LIMIT,
                  split_regex_find(regex, memory, text, sizeof text, 0, &found, &start, &end));
    split_regex_memory_destroy(memory);
    split_regex_destroy(regex);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_space_class_is_the_unicode_property),
        cmocka_unit_test(test_word_class_counts_marks_and_alphabetic_symbols),
        cmocka_unit_test(test_anchors_work_on_lines),
        cmocka_unit_test(test_case_insensitive_group_ends_with_the_group),
        cmocka_unit_test(test_refuses_what_would_mean_something_else),
        cmocka_unit_test(test_endless_backtracking_ends_with_a_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
