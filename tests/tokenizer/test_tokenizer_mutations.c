// Seeded damage to tokenizer files: a file with a few bytes changed, cut or doubled is a tokenizer
// or a typed error, and what opens encodes and decodes.
#include "tests/tokenizer/fixture.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base64.h"

enum { MUTATIONS = 600, CHANGES_MAX = 4, IDS_MAX = 256, TEXT_BYTES_MAX = 16384 };

static uint32_t next_random(uint64_t *state) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 33);
}

// Changes a copy of bytes [n] in place; returns its length, at most 2n.
static size_t mutate(char *bytes, size_t n, uint64_t *state) {
    static const char marks[] = "\"{}[],:0-9\\ \n\xFF\x00\x80\x0A";
    for (uint32_t i = 1 + next_random(state) % CHANGES_MAX; i > 0 && n > 1; i--) {
        size_t at = next_random(state) % n;
        size_t length = 1 + next_random(state) % (n - at < 40 ? n - at : 40);
        switch (next_random(state) % 5) {
        case 0:
            bytes[at] = (char)next_random(state);
            break;
        case 1:
            bytes[at] = marks[next_random(state) % (sizeof marks - 1)];
            break;
        case 2: // taken out
            memmove(bytes + at, bytes + at + length, n - at - length);
            n -= length;
            break;
        case 3: // moved over another place
            memmove(bytes + next_random(state) % (n - length + 1), bytes + at, length);
            break;
        default:
            n = next_random(state) % 16 == 0 ? at + 1 : n;
        }
    }
    return n;
}

static void use(const struct tokenizer *t) {
    static const char text[] =
        "Hello <s>a</s> world\n\n  1234 \u00e9\u4e2d\U0001F600 TOOL <|eot_id|>";
    int32_t ids[IDS_MAX];
    char decoded[TEXT_BYTES_MAX];
    size_t count, bytes;
    struct error err = {0};
    enum status status = tokenizer_encode(t, text, sizeof text - 1, TOKENIZER_PARSE_SPECIAL, ids,
                                          IDS_MAX, &count, &err);
    if (status == STATUS_OK) {
        assert_ok(tokenizer_decode(t, ids, count, 0, decoded, sizeof decoded, &bytes, &err), &err);
    } else {
        assert_true(err.message[0] != '\0');
    }
}

static void check_file(const char *name, const char *original, size_t n) {
    uint64_t state = 7;
    char *directory = testkit_make_directory();
    char path[4200];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    char *bytes = malloc(n);
    assert_non_null(bytes);
    size_t opened = 0;
    for (int i = 0; i < MUTATIONS; i++) {
        memcpy(bytes, original, n);
        size_t length = mutate(bytes, n, &state);
        testkit_write_file(path, bytes, length);
        struct tokenizer *t = NULL;
        struct error err = {0};
        if (tokenizer_open(directory, &t, &err) == STATUS_OK) {
            use(t);
            opened++;
        } else {
            assert_true(err.message[0] != '\0' && err.field[0] != '\0');
        }
        tokenizer_close(t);
    }
    print_message("%s: %zu of %d open\n", name, opened, MUTATIONS);
    free(bytes);
    testkit_remove_tree(directory);
}

static void test_damaged_tokenizer_json(void **state) {
    (void)state;
    char *json = fixture_sentencepiece_json();
    check_file("tokenizer.json", json, strlen(json));
    free(json);
    json = fixture_byte_level_json();
    check_file("tokenizer.json", json, strlen(json));
    free(json);
}

static void test_damaged_ranks(void **state) {
    (void)state;
    static const char ranks[] = "YQ== 0\nYg== 1\nYw== 2\nYmM= 3\nYWI= 4\nYWJj 5\n";
    check_file("tokenizer.model", ranks, sizeof ranks - 1);
}

static void test_damaged_sentencepiece_models(void **state) {
    (void)state;
    json_t *root = json_load_file(testkit_source_path("tests/vectors/tokenizer/spm.json"),
                                  JSON_ALLOW_NUL, NULL);
    assert_non_null(root);
    json_t *list = json_object_get(root, "tokenizers");
    // One with user-defined pieces and a map, one unigram model.
    for (size_t i = 3; i <= 8; i += 5) {
        json_t *model = json_object_get(json_array_get(list, i), "model");
        size_t bytes = json_string_length(model);
        char *raw = malloc(bytes);
        size_t count = 0;
        assert_true(base64_decode(json_string_value(model), bytes, raw, bytes, &count));
        check_file("tokenizer.model", raw, count);
        free(raw);
    }
    json_decref(root);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_damaged_tokenizer_json),
        cmocka_unit_test(test_damaged_ranks),
        cmocka_unit_test(test_damaged_sentencepiece_models),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
