// Where lines of text for people break, and what of it does not fit.
#include "client/cli/paragraph.h"

#include <stdlib.h>

#include "tests/support/testkit.h"

static void expect(const char *text, int columns, int lines_max, const char *expected) {
    char *bytes = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&bytes, &size);
    const struct paragraph shape = {.indent = 2, .columns = columns, .lines_max = lines_max};
    assert_non_null(out);
    paragraph_print(text, &shape, out);
    fclose(out);
    assert_string_equal(bytes, expected);
    free(bytes);
}

static void test_lines_break_between_words(void **state) {
    (void)state;
    expect("one two three", 20, 3, "one two three\n");
    expect("one two three four", 13, 3, "one two three\n  four\n");
    expect("one two three four", 12, 3, "one two\n  three four\n");
}

static void test_white_space_is_one_space(void **state) {
    (void)state;
    expect(" \n one\n\n\ttwo \r\n three \n", 20, 3, "one two three\n");
    expect("one\n\n\ntwo", 8, 1, "one two\n");
    expect("", 8, 1, "\n");
    expect(" \n ", 8, 1, "\n");
}

static void test_what_does_not_fit_is_cut_and_shown_so(void **state) {
    (void)state;
    expect("one two three four", 10, 1, "one two...\n");
    expect("one two three four", 9, 1, "one...\n");
    expect("one two three four five", 10, 2, "one two\n  three...\n");
    expect("one two three four", 10, 2, "one two\n  three four\n"); // nothing is left to cut
    expect("one two   \n", 8, 1, "one two\n");
}

static void test_a_word_longer_than_a_line_is_broken(void **state) {
    (void)state;
    expect("abcdefghijkl", 8, 3, "abcdefgh\n  ijkl\n");
    expect("a bcdefghijklm", 8, 3, "a\n  bcdefghi\n  jklm\n");
    expect("abcdefghijkl", 8, 1, "abcde...\n");
}

static void test_columns_are_those_of_a_terminal(void **state) {
    (void)state;
    // Ideographs take two columns, combining marks none, umlauts one.
    expect("\xE4\xB8\xAD\xE4\xB8\xAD\xE4\xB8\xAD\xE4\xB8\xAD\xE4\xB8\xAD", 8, 2,
           "\xE4\xB8\xAD\xE4\xB8\xAD\xE4\xB8\xAD\xE4\xB8\xAD\n  \xE4\xB8\xAD\n");
    expect("e\xCC\x81"
           "e\xCC\x81"
           "e\xCC\x81"
           "e\xCC\x81 abc",
           8, 1,
           "e\xCC\x81"
           "e\xCC\x81"
           "e\xCC\x81"
           "e\xCC\x81 abc\n");
    expect("\xC3\xBC\xC3\xBC\xC3\xBC\xC3\xBC \xC3\xBC\xC3\xBC\xC3\xBC", 8, 1,
           "\xC3\xBC\xC3\xBC\xC3\xBC\xC3\xBC \xC3\xBC\xC3\xBC\xC3\xBC\n");
}

static void test_control_characters_and_bytes_that_are_no_text_do_no_harm(void **state) {
    (void)state;
    expect("a\x1b[2J b\x7F\xC2\x9B", 20, 1, "a?[2J b??\n");
    expect("\xFF\xFE\xFD\xFF\xFF\xFF\xFF\xFF\xFF", 8, 2, "????????\n  ?\n");
    expect("ab\xE4\xB8", 8, 1, "ab??\n"); // the text ends inside a character
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines_break_between_words),
        cmocka_unit_test(test_white_space_is_one_space),
        cmocka_unit_test(test_what_does_not_fit_is_cut_and_shown_so),
        cmocka_unit_test(test_a_word_longer_than_a_line_is_broken),
        cmocka_unit_test(test_columns_are_those_of_a_terminal),
        cmocka_unit_test(test_control_characters_and_bytes_that_are_no_text_do_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
