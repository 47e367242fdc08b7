#include "tests/tokenizer/fixture.h"

#include <string.h>

#include "worker/tokenizer/detokenizer.h"

// Pushes one id and compares what comes out.
static void check_push(struct detokenizer *stream, int32_t id, const char *expected) {
    char out[DETOKENIZER_OUT_BYTES_MAX + 1];
    size_t bytes;
    assert_ok(detokenizer_push(stream, id, out, sizeof out - 1, &bytes), NULL);
    out[bytes] = '\0';
    assert_string_equal(expected, out);
}

static void check_finish(struct detokenizer *stream, const char *expected) {
    char out[8];
    size_t bytes;
    assert_ok(detokenizer_finish(stream, out, sizeof out - 1, &bytes), NULL);
    out[bytes] = '\0';
    assert_string_equal(expected, out);
}

static void test_emoji_comes_out_when_its_last_byte_does(void **state) {
    (void)state;
    struct tokenizer *t = fixture_byte_level();
    struct detokenizer stream;
    detokenizer_init(&stream, t, 0);
    check_push(&stream, 'a', "a");
    check_push(&stream, 0xF0, "");
    check_push(&stream, 0x9F, "");
    check_push(&stream, 0x98, "");
    check_push(&stream, 0x80, "\xF0\x9F\x98\x80");
    check_finish(&stream, "");
    tokenizer_close(t);
}

static void test_copy_forks_an_unfinished_character(void **state) {
    (void)state;
    struct tokenizer *t = fixture_byte_level();
    struct detokenizer stream;
    detokenizer_init(&stream, t, 0);
    check_push(&stream, 0xC3, "");
    struct detokenizer fork = stream;
    check_push(&stream, 0xA9, "\xC3\xA9");
    check_push(&fork, 0xA8, "\xC3\xA8");
    tokenizer_close(t);
}

static void test_unfinished_character_becomes_a_replacement(void **state) {
    (void)state;
    struct tokenizer *t = fixture_byte_level();
    struct detokenizer stream;
    detokenizer_init(&stream, t, 0);
    check_push(&stream, 0xE2, "");
    check_push(&stream, 0x82, "");
    check_push(&stream, 'a',
               "\xEF\xBF\xBD"
               "a");
    check_push(&stream, 0xFF, "\xEF\xBF\xBD");
    check_push(&stream, 0xE2, "");
    check_finish(&stream, "\xEF\xBF\xBD");
    check_finish(&stream, "");
    tokenizer_close(t);
}

static void test_start_of_text_loses_one_space(void **state) {
    (void)state;
    struct tokenizer *t = fixture_sentencepiece();
    struct detokenizer stream;
    detokenizer_init(&stream, t, 0);
    check_push(&stream, PIECE_BOS, "");
    check_push(&stream, PIECE_SPACE, "");
    check_push(&stream, PIECE_SPACE_A, " a");
    detokenizer_init(&stream, t, TOKENIZER_CONTINUATION);
    check_push(&stream, PIECE_SPACE_A, " a");
    detokenizer_init(&stream, t, TOKENIZER_KEEP_SPECIAL);
    check_push(&stream, PIECE_BOS, "<s>");
    check_push(&stream, PIECE_SPACE_A, " a");
    tokenizer_close(t);
}

static void test_byte_fallback_joins_into_characters(void **state) {
    (void)state;
    struct tokenizer *t = fixture_sentencepiece();
    struct detokenizer stream;
    detokenizer_init(&stream, t, 0);
    check_push(&stream, PIECE_BYTES + 0xE2, "");
    check_push(&stream, PIECE_BYTES + 0x82, "");
    check_push(&stream, PIECE_BYTES + 0xAC, "\xE2\x82\xAC");
    tokenizer_close(t);
}

static void test_failed_push_leaves_the_stream_as_it_was(void **state) {
    (void)state;
    struct tokenizer *t = fixture_byte_level();
    struct detokenizer stream;
    char out[4];
    size_t bytes;
    detokenizer_init(&stream, t, 0);
    check_push(&stream, 0xC3, "");
    assert_status(STATUS_LIMIT, detokenizer_push(&stream, 0xA9, out, 1, &bytes));
    assert_int_equal(bytes, 2);
    assert_status(STATUS_INVALID_ARGUMENT,
                  detokenizer_push(&stream, BYTE_COUNT, out, sizeof out, &bytes));
    assert_status(STATUS_INVALID_ARGUMENT, detokenizer_push(&stream, -1, out, sizeof out, &bytes));
    check_push(&stream, 0xA9, "\xC3\xA9");
    tokenizer_close(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_emoji_comes_out_when_its_last_byte_does),
        cmocka_unit_test(test_copy_forks_an_unfinished_character),
        cmocka_unit_test(test_unfinished_character_becomes_a_replacement),
        cmocka_unit_test(test_start_of_text_loses_one_space),
        cmocka_unit_test(test_byte_fallback_joins_into_characters),
        cmocka_unit_test(test_failed_push_leaves_the_stream_as_it_was),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
