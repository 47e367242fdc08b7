// Tiny tokenizers of every convention, and the real ones of the data folder, against Hugging Face
// tokenizers and transformers: tests/parity/make_tokenizer_vectors.py made the files and says what
// the hashes in them are of.
#include "tests/tokenizer/tokenizer_hash.h"
#include "tests/tokenizer/fixture.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base64.h"

static json_t *load(const char *name) {
    char path[128];
    snprintf(path, sizeof path, "tests/vectors/tokenizer/%s", name);
    json_error_t reason;
    json_t *root = json_load_file(testkit_source_path(path), JSON_ALLOW_NUL, &reason);
    if (root == NULL) {
        fail_msg("%s: line %d: %s", path, reason.line, reason.text);
    }
    return root;
}

static void write_file(const char *directory, const char *name, json_t *content) {
    char path[4200];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    assert_int_equal(json_dump_file(content, path, JSON_COMPACT), 0);
}

// A directory of the variant: its base with some keys of tokenizer.json replaced.
static char *make_directory(json_t *bases, json_t *variant) {
    char *directory = testkit_make_directory();
    json_t *base = json_object_get(bases, json_string_value(json_object_get(variant, "base")));
    json_t *root = json_deep_copy(base);
    const char *key;
    json_t *value;
    json_object_foreach(json_object_get(variant, "set"), key, value) {
        if (strcmp(key, "model") == 0) {
            json_object_update(json_object_get(root, key), value);
        } else {
            json_object_set(root, key, value);
        }
    }
    write_file(directory, "tokenizer.json", root);
    static const char *const files[][2] = {{"config", "tokenizer_config.json"},
                                           {"model", "config.json"}};
    for (size_t i = 0; i < 2; i++) {
        json_t *content = json_object_get(variant, files[i][0]);
        if (json_is_object(content)) {
            write_file(directory, files[i][1], content);
        }
    }
    json_decref(root);
    return directory;
}

// Compares every text with its hashes; returns how many differ, and prints the first.
static size_t count_differences(const struct tokenizer *t, const char *name, json_t *texts,
                                const char *hashes) {
    size_t n = strlen(hashes) / TOKENIZER_HASHES_BYTES;
    size_t differ = 0;
    for (size_t i = 0; i < n; i++) {
        json_t *text = json_array_get(texts, i);
        char own[TOKENIZER_HASHES_BYTES + 1] = "";
        struct error err = {0};
        enum status status =
            tokenizer_hash(t, json_string_value(text), json_string_length(text), own, &err);
        const char *expected = hashes + i * TOKENIZER_HASHES_BYTES;
        if (status != STATUS_OK || memcmp(own, expected, TOKENIZER_HASHES_BYTES) != 0) {
            if (differ++ == 0) {
                print_error("%s: text %zu %s: got %s%s, not %.24s\n", name, i,
                            json_string_value(text), own, err.message, expected);
            }
        }
    }
    return differ;
}

static void test_tiny_tokenizers_give_the_ids_of_hugging_face(void **state) {
    (void)state;
    json_t *hard = load("hard_texts.json");
    json_t *tiny = load("tiny.json");
    size_t differ = 0;
    size_t i;
    json_t *variant;
    json_array_foreach(json_object_get(tiny, "variants"), i, variant) {
        const char *name = json_string_value(json_object_get(variant, "name"));
        char *directory = make_directory(json_object_get(tiny, "bases"), variant);
        struct tokenizer *t = NULL;
        struct error err = {0};
        if (tokenizer_open(directory, &t, &err) != STATUS_OK) {
            print_error("%s: %s: %s\n", name, err.field, err.message);
            differ++;
        } else {
            differ += count_differences(t, name, json_object_get(hard, "texts"),
                                        json_string_value(json_object_get(variant, "hashes")));
        }
        tokenizer_close(t);
        testkit_remove_tree(directory);
    }
    assert_true(i >= 100);
    assert_int_equal(differ, 0);
    json_decref(tiny);
    json_decref(hard);
}

// A directory of a line of spm.json; returns owned.
static char *make_sentencepiece(json_t *line) {
    json_t *model = json_object_get(line, "model");
    size_t bytes = json_string_length(model);
    char *raw = malloc(bytes);
    size_t count = 0;
    assert_true(base64_decode(json_string_value(model), bytes, raw, bytes, &count));
    char *directory = testkit_make_directory();
    char path[4200];
    snprintf(path, sizeof path, "%s/tokenizer.model", directory);
    testkit_write_file(path, raw, count);
    free(raw);
    if (json_is_object(json_object_get(line, "config"))) {
        write_file(directory, "tokenizer_config.json", json_object_get(line, "config"));
    }
    return directory;
}

// LlamaTokenizer would pass the pieces over.
static void test_user_defined_pieces_beside_a_list_of_special_tokens_are_refused(void **state) {
    (void)state;
    json_t *spm = load("spm.json");
    size_t i;
    json_t *line;
    bool found = false;
    json_array_foreach(json_object_get(spm, "tokenizers"), i, line) {
        if (strcmp(json_string_value(json_object_get(line, "name")), "bpe llama") != 0) {
            continue;
        }
        found = true;
        json_object_set_new(json_object_get(line, "config"), "additional_special_tokens",
                            json_pack("[s]", "<s>"));
        char *directory = make_sentencepiece(line);
        struct tokenizer *t = NULL;
        struct error err = {0};
        assert_status(STATUS_UNSUPPORTED, tokenizer_open(directory, &t, &err));
        assert_string_equal(err.field, "tokenizer_config.json:additional_special_tokens");
        testkit_remove_tree(directory);
    }
    assert_true(found);
    json_decref(spm);
}

static void test_sentencepiece_models_give_the_ids_of_transformers(void **state) {
    (void)state;
    json_t *hard = load("hard_texts.json");
    json_t *spm = load("spm.json");
    size_t differ = 0;
    size_t i;
    json_t *line;
    json_array_foreach(json_object_get(spm, "tokenizers"), i, line) {
        char *directory = make_sentencepiece(line);
        const char *name = json_string_value(json_object_get(line, "name"));
        struct tokenizer *t = NULL;
        struct error err = {0};
        assert_ok(tokenizer_open(directory, &t, &err), &err);
        differ += count_differences(t, name, json_object_get(hard, "texts"),
                                    json_string_value(json_object_get(line, "hashes")));
        tokenizer_close(t);
        testkit_remove_tree(directory);
    }
    json_decref(spm);
    json_decref(hard);
    assert_int_equal(i, 10);
    assert_int_equal(differ, 0);
}

// Links the data folder's files into a directory; NULL when one is absent.
static char *link_files(json_t *files) {
    char *directory = testkit_make_directory();
    size_t i;
    json_t *pair;
    json_array_foreach(files, i, pair) {
        char data[256];
        char target[4096];
        char link[4200];
        snprintf(data, sizeof data, "tok/%s", json_string_value(json_array_get(pair, 0)));
        const char *path = testkit_data_path(data);
        if (path == NULL || realpath(path, target) == NULL) {
            testkit_note_missing(data);
            testkit_remove_tree(directory);
            return NULL;
        }
        snprintf(link, sizeof link, "%s/%s", directory, json_string_value(json_array_get(pair, 1)));
        assert_int_equal(symlink(target, link), 0);
    }
    return directory;
}

static void test_real_tokenizers_give_the_ids_of_hugging_face(void **state) {
    (void)state;
    json_t *hard = load("hard_texts.json");
    json_t *real = load("real.json");
    size_t differ = 0;
    size_t opened = 0;
    size_t i;
    json_t *line;
    json_array_foreach(json_object_get(real, "tokenizers"), i, line) {
        const char *name = json_string_value(json_object_get(line, "name"));
        char *directory = link_files(json_object_get(line, "files"));
        if (directory == NULL) {
            continue;
        }
        struct tokenizer *t = NULL;
        struct error err = {0};
        assert_ok(tokenizer_open(directory, &t, &err), &err);
        opened++;
        differ += count_differences(t, name, json_object_get(hard, "texts"),
                                    json_string_value(json_object_get(line, "hashes")));
        tokenizer_close(t);
        testkit_remove_tree(directory);
    }
    json_decref(real);
    json_decref(hard);
    assert_int_equal(differ, 0);
    if (opened == 0) {
        skip();
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tiny_tokenizers_give_the_ids_of_hugging_face),
        cmocka_unit_test(test_sentencepiece_models_give_the_ids_of_transformers),
        cmocka_unit_test(test_user_defined_pieces_beside_a_list_of_special_tokens_are_refused),
        cmocka_unit_test(test_real_tokenizers_give_the_ids_of_hugging_face),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
