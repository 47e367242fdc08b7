// The written-out expressions find what PCRE2 finds, over seeded random texts.
#include "tests/support/testkit.h"

#include <stdio.h>
#include <string.h>

#include "worker/tokenizer/split_fast.h"
#include "worker/tokenizer/split_regex.h"
#include "worker/tokenizer/tokenizer_source.h"
#include "worker/tokenizer/utf8.h"

enum { TEXTS = 20000, TEXT_CHARACTERS = 24, TEXT_BYTES = 4 * TEXT_CHARACTERS };

static uint32_t next_random(uint64_t *state) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 33);
}

// Mostly characters on which the expressions turn, else any code point.
static uint32_t random_code(uint64_t *state) {
    static const uint32_t turning[] = {
        ' ',    ' ',    ' ',     '\n',   '\r',  '\t',    '\'',    '\'',   's',  'S',
        't',    'r',    'e',     'v',    'V',   'l',     'L',     'd',    'M',  'a',
        'Z',    '0',    '9',     '.',    '!',   '_',     0x17F,   0x212A, 0xA0, 0x3000,
        0x2028, 0x85,   0x0B,    0x1C,   0x301, 0xE9,    0x4E00,  0x663,  0xB2, 0x2460,
        0x20AC, 0x200D, 0x1F600, 0x2581, 0x378, 0x1F1E6, 0x31350, 0};
    if (next_random(state) % 8 != 0) {
        return turning[next_random(state) % (sizeof turning / sizeof *turning)];
    }
    uint32_t code = next_random(state) % 0x110000;
    return code >= 0xD800 && code <= 0xDFFF ? 'x' : code;
}

static void check_pattern(const char *pattern) {
    split_fast_fn fast = split_fast_find(pattern);
    assert_non_null(fast);
    struct split_regex *regex = NULL;
    struct error err = {0};
    assert_ok(split_regex_compile(pattern, strlen(pattern), &regex, &err), &err);
    struct split_regex_memory *memory = split_regex_memory_create();
    assert_non_null(memory);
    uint64_t state = 20;
    for (int i = 0; i < TEXTS; i++) {
        char text[TEXT_BYTES];
        size_t bytes = 0;
        for (uint32_t n = 1 + next_random(&state) % TEXT_CHARACTERS; n > 0; n--) {
            bytes += utf8_encode(random_code(&state), text + bytes);
        }
        for (size_t at = 0; at < bytes;) {
            bool found;
            size_t start, end;
            assert_ok(split_regex_find(regex, memory, text, bytes, at, &found, &start, &end), NULL);
            assert_true(found && start == at);
            size_t own = fast(text, bytes, at);
            if (own != end) {
                print_error("text %d of \"%s\": at %zu to %zu, not %zu\n", i, pattern, at, own,
                            end);
            }
            assert_int_equal(own, end);
            at = end;
        }
    }
    split_regex_memory_destroy(memory);
    split_regex_destroy(regex);
}

static void test_gpt_2_as_the_expression(void **state) {
    (void)state;
    check_pattern(tokenizer_gpt2_pattern);
}

static void test_qwen_2_as_the_expression(void **state) {
    (void)state;
    check_pattern(tokenizer_qwen2_pattern);
}

static void test_llama_3_as_the_expression(void **state) {
    (void)state;
    check_pattern(tokenizer_llama3_pattern);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gpt_2_as_the_expression),
        cmocka_unit_test(test_qwen_2_as_the_expression),
        cmocka_unit_test(test_llama_3_as_the_expression),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
