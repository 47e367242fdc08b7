// Added tokens in a text: where they are looked for, what they take, and who may write them. The
// expected ids are those of Hugging Face tokenizers 0.23 for the same files.
#include "tests/tokenizer/fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// The SentencePiece fixture with the added tokens `list` (JSON objects) behind its own three.
static struct tokenizer *open_with(const char *list) {
    char to[2048];
    snprintf(to, sizeof to, "\"single_word\":false},%s],\"normalizer\"", list);
    char *json =
        fixture_replace(fixture_sentencepiece_json(), "\"single_word\":false}],\"normalizer\"", to);
    struct tokenizer *t = NULL;
    struct error err = {0};
    assert_ok(fixture_open(json, NULL, &t, &err), &err);
    return t;
}

// "<s>" is looked for as "\u2581<s>", which only the start of a part has.
static void test_normalized_special_token_is_found_in_the_normalized_text(void **state) {
    (void)state;
    char *json = fixture_sentencepiece_json();
    for (int i = 0; i < 3; i++) {
        json = fixture_replace(json, "\"normalized\":false", "\"normalized\":true");
    }
    struct tokenizer *t = NULL;
    struct error err = {0};
    assert_ok(fixture_open(json, NULL, &t, &err), &err);
    assert_encodes(t, "<s>a</s>b", TOKENIZER_PARSE_SPECIAL, PIECE_BOS, PIECE_A, PIECE_LESS,
                   PIECE_BYTES + '/', PIECE_S, PIECE_MORE, PIECE_B);
    assert_encodes(t, "<s>a", 0, PIECE_SPACE, PIECE_LESS_S, PIECE_MORE, PIECE_A);
    tokenizer_close(t);
}

static void test_case_05_gives_the_ids_of_tokenizers(void **state) {
    (void)state;
    const char *directory = testkit_case_path("05_normalized_special");
    if (directory == NULL) {
        skip();
    }
    struct tokenizer *t = NULL;
    struct error err = {0};
    assert_ok(tokenizer_open(directory, &t, &err), &err);
    assert_encodes(t, "<s>a</s>b", TOKENIZER_PARSE_SPECIAL, 1, 260, 312, 316, 278, 314, 261);
    tokenizer_close(t);
}

// The longest token at a place is the only candidate: when it does not count, nothing does.
static void test_token_that_does_not_count_is_skipped_whole(void **state) {
    (void)state;
    struct tokenizer *t = open_with("{\"id\":269,\"content\":\"cab\",\"special\":false},"
                                    "{\"id\":270,\"content\":\"cabb\",\"special\":true},"
                                    "{\"id\":271,\"content\":\"bac\",\"special\":false,"
                                    "\"single_word\":true},"
                                    "{\"id\":272,\"content\":\"ba\",\"special\":false}");
    assert_encodes(t, "cabb", TOKENIZER_PARSE_SPECIAL, 270);
    assert_encodes(t, "cabb", TOKENIZER_CONTINUATION, PIECE_C, PIECE_A, PIECE_B, PIECE_B);
    assert_encodes(t, "bacb", TOKENIZER_CONTINUATION, PIECE_B, PIECE_A, PIECE_C, PIECE_B);
    assert_encodes(t, "bac", TOKENIZER_CONTINUATION, 271);
    tokenizer_close(t);
}

// A token may begin in the white space that the one before took; both count.
static void test_token_inside_taken_white_space_counts(void **state) {
    (void)state;
    struct tokenizer *t = open_with("{\"id\":269,\"content\":\"X\",\"special\":false,"
                                    "\"rstrip\":true},"
                                    "{\"id\":270,\"content\":\"\\n\\n\",\"special\":false},"
                                    "{\"id\":271,\"content\":\"Y\",\"special\":false,"
                                    "\"lstrip\":true}");
    assert_encodes(t, "X\n\nb", 0, 269, 270, PIECE_SPACE, PIECE_B);
    assert_encodes(t, "X  Y", 0, 269, 271);
    assert_encodes(t, "b \t Yb", TOKENIZER_CONTINUATION, PIECE_B, 271, PIECE_SPACE, PIECE_B);
    tokenizer_close(t);
}

// Of white space that was taken nothing is left for a token that takes what is before it.
static void test_token_of_taken_white_space_counts_once(void **state) {
    (void)state;
    struct tokenizer *t = open_with("{\"id\":269,\"content\":\"  \",\"special\":false,"
                                    "\"lstrip\":true,\"rstrip\":true}");
    assert_encodes(t, "b     b", TOKENIZER_CONTINUATION, PIECE_B, 269, PIECE_SPACE, PIECE_B);
    tokenizer_close(t);
}

static void encode_segments(const struct tokenizer *t, const struct tokenizer_segment *segments,
                            size_t n, const int32_t *expected, int line) {
    int32_t ids[64];
    size_t count;
    struct error err = {0};
    assert_ok(
        tokenizer_encode_segments(t, segments, n, TOKENIZER_CONTINUATION, ids, 64, &count, &err),
        &err);
    fixture_assert_ids(ids, count, expected, __FILE__, line);
}
#define assert_segments(t, segments, ...)                                                          \
    encode_segments((t), (segments), sizeof(segments) / sizeof *(segments),                        \
                    (const int32_t[]){__VA_ARGS__, -1}, __LINE__)

// Special or not, in the text as it comes or in the normalised text: an inert segment has no
// tokens.
static void test_inert_segment_holds_no_token(void **state) {
    (void)state;
    struct tokenizer *t =
        open_with("{\"id\":269,\"content\":\"cab\",\"special\":false},"
                  "{\"id\":270,\"content\":\"bcb\",\"special\":true},"
                  "{\"id\":271,\"content\":\"cc\",\"special\":true,\"normalized\":true},"
                  "{\"id\":272,\"content\":\"aa\",\"special\":false,\"normalized\":true}");
    const struct tokenizer_segment inert[] = {
        {.text = "cab", .bytes = 3, .parse_special = true, .inert = true},
        {.text = "cab", .bytes = 3, .parse_special = true},
        {.text = "bcb", .bytes = 3, .inert = true},
        {.text = "bcb", .bytes = 3, .parse_special = true}};
    assert_segments(t, inert, PIECE_C, PIECE_A, PIECE_B, 269, PIECE_SPACE, PIECE_BC, PIECE_B, 270);
    const struct tokenizer_segment normalized[] = {
        {.text = "b a", .bytes = 3, .parse_special = true},
        {.text = "a", .bytes = 1, .inert = true},
        {.text = "b", .bytes = 1, .parse_special = true}};
    assert_segments(t, normalized, PIECE_B, PIECE_SPACE_A, PIECE_A, PIECE_B);
    tokenizer_close(t);
}

// Text before a marker that would join it to a longer token does not hide the marker.
static void test_inert_text_cannot_hide_the_marker_after_it(void **state) {
    (void)state;
    struct tokenizer *t = open_with("{\"id\":269,\"content\":\"ab\",\"special\":true},"
                                    "{\"id\":270,\"content\":\"cab\",\"special\":true},"
                                    "{\"id\":271,\"content\":\"bab\",\"special\":false}");
    const struct tokenizer_segment special[] = {{.text = "c", .bytes = 1, .inert = true},
                                                {.text = "ab", .bytes = 2, .parse_special = true}};
    assert_segments(t, special, PIECE_C, 269);
    const struct tokenizer_segment plain[] = {{.text = "b", .bytes = 1, .inert = true},
                                              {.text = "ab", .bytes = 2, .parse_special = true}};
    assert_segments(t, plain, PIECE_B, 269);
    tokenizer_close(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_normalized_special_token_is_found_in_the_normalized_text),
        cmocka_unit_test(test_case_05_gives_the_ids_of_tokenizers),
        cmocka_unit_test(test_token_that_does_not_count_is_skipped_whole),
        cmocka_unit_test(test_token_inside_taken_white_space_counts),
        cmocka_unit_test(test_token_of_taken_white_space_counts_once),
        cmocka_unit_test(test_inert_segment_holds_no_token),
        cmocka_unit_test(test_inert_text_cannot_hide_the_marker_after_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
