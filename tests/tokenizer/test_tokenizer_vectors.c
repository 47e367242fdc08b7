// Real tokenizers against the vectors of llama.cpp (data tok/ggml). Needs the data folder's
// tokenizers. Those of Hugging Face are compared in test_tokenizer_parity.c.
#include "tests/tokenizer/fixture.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct source_file {
    const char *data; // path in the data folder
    const char *name; // in a model directory
};

// Opens a directory that links to the files; NULL, with a note, when one of them is absent.
static struct tokenizer *open_linked(const struct source_file *files, size_t n) {
    char *directory = testkit_make_directory();
    struct tokenizer *tokenizer = NULL;
    bool complete = true;
    for (size_t i = 0; i < n && complete; i++) {
        const char *path = testkit_data_path(files[i].data);
        complete = path != NULL;
        if (!complete) {
            testkit_note_missing(files[i].data);
            break;
        }
        char target[4096];
        char link[4200];
        assert_non_null(realpath(path, target));
        snprintf(link, sizeof link, "%s/%s", directory, files[i].name);
        assert_int_equal(symlink(target, link), 0);
    }
    if (complete) {
        struct error err = {0};
        assert_ok(tokenizer_open(directory, &tokenizer, &err), &err);
    }
    testkit_remove_tree(directory);
    return tokenizer;
}

static const struct source_file llama2[] = {{"tok/llama2_tokenizer.json", "tokenizer.json"}};
static const struct source_file llama3[] = {{"tok/llama3_tokenizer.model", "tokenizer.model"}};
static const struct source_file gpt2[] = {{"tok/gpt2_vocab.json", "vocab.json"},
                                          {"tok/gpt2_merges.txt", "merges.txt"}};
static const struct source_file qwen2[] = {
    {"tok/qwen2_vocab.json", "vocab.json"},
    {"tok/qwen2_merges.txt", "merges.txt"},
    {"tok/qwen2_tokenizer_config.json", "tokenizer_config.json"}};

static void check_round_trip(const struct tokenizer *t, const int32_t *ids, size_t count,
                             const char *text, size_t bytes) {
    char out[4096];
    size_t out_bytes;
    struct error err = {0};
    assert_ok(tokenizer_decode(t, ids, count, 0, out, sizeof out, &out_bytes, &err), &err);
    assert_int_equal(out_bytes, bytes);
    assert_memory_equal(out, text, bytes);
}

// One case of the file: a text and the line of its ids.
static void check_case(const struct tokenizer *t, const char *text, size_t bytes,
                       const char *line) {
    int32_t expected[1024];
    int32_t ids[1024];
    size_t n = 0;
    size_t count;
    struct error err = {0};
    for (char *end; n < 1023; line = end) {
        long id = strtol(line, &end, 10);
        if (end == line) {
            break;
        }
        expected[n++] = (int32_t)id;
    }
    expected[n] = -1;
    assert_ok(tokenizer_encode(t, text, bytes, 0, ids, 1024, &count, &err), &err);
    fixture_assert_ids(ids, count, expected, __FILE__, __LINE__);
    check_round_trip(t, ids, count, text, bytes);
}

static void check_ggml(const struct source_file *files, size_t n_files, const char *name) {
    static const char separator[] = "\n__ggml_vocab_test__\n";
    char in_name[128];
    char out_name[128];
    snprintf(in_name, sizeof in_name, "tok/ggml/ggml-vocab-%s.gguf.inp", name);
    snprintf(out_name, sizeof out_name, "tok/ggml/ggml-vocab-%s.gguf.out", name);
    struct tokenizer *t = open_linked(files, n_files);
    if (t == NULL || testkit_data_path(in_name) == NULL || testkit_data_path(out_name) == NULL) {
        tokenizer_close(t);
        testkit_note_missing(in_name);
        skip();
    }
    char *texts = testkit_read_file(testkit_data_path(in_name), NULL);
    char *lines = testkit_read_file(testkit_data_path(out_name), NULL);
    size_t cases = 0;
    char *line = lines;
    for (char *text = texts; *text != '\0' && line != NULL; cases++) {
        char *end = strstr(text, separator);
        if (end == NULL) {
            break;
        }
        char *next_line = strchr(line, '\n');
        if (next_line != NULL) {
            *next_line++ = '\0';
        }
        check_case(t, text, (size_t)(end - text), line);
        text = end + strlen(separator);
        line = next_line;
    }
    assert_int_equal(cases, 46);
    free(texts);
    free(lines);
    tokenizer_close(t);
}

static const struct source_file llama2_model[] = {
    {"tok/llama2_tokenizer.model", "tokenizer.model"}};

static void test_llama_2_gives_the_ids_of_llama_cpp(void **state) {
    (void)state;
    check_ggml(llama2, 1, "llama-spm");
}

static void test_llama_2_as_sentencepiece_gives_the_ids_of_llama_cpp(void **state) {
    (void)state;
    check_ggml(llama2_model, 1, "llama-spm");
}

static void test_gpt_2_gives_the_ids_of_llama_cpp(void **state) {
    (void)state;
    check_ggml(gpt2, 2, "gpt-2");
}

static void test_qwen_2_gives_the_ids_of_llama_cpp(void **state) {
    (void)state;
    check_ggml(qwen2, 3, "qwen2");
}

static void test_llama_3_gives_the_ids_of_llama_cpp(void **state) {
    (void)state;
    check_ggml(llama3, 1, "llama-bpe");
}

static void test_real_tokenizers_have_their_special_ids_and_normaliser(void **state) {
    (void)state;
    struct tokenizer *a = open_linked(llama3, 1);
    struct tokenizer *b = open_linked(qwen2, 3);
    if (a == NULL || b == NULL) {
        tokenizer_close(a);
        tokenizer_close(b);
        skip();
    }
    assert_int_equal(tokenizer_vocab_size(a), 128256);
    assert_int_equal(tokenizer_bos_id(a), 128000);
    assert_int_equal(tokenizer_eos_id(a), 128001);
    assert_int_equal(tokenizer_find(a, "<|eot_id|>"), 128009);
    assert_int_equal(tokenizer_find(a, "<|reserved_special_token_250|>"), 128255);
    assert_true(tokenizer_adds_bos(a));
    assert_int_equal(tokenizer_vocab_size(b), 151646);
    assert_int_equal(tokenizer_bos_id(b), -1);
    assert_int_equal(tokenizer_eos_id(b), 151645);
    assert_int_equal(tokenizer_pad_id(b), 151643);
    assert_false(tokenizer_adds_bos(b));
    assert_true(tokenizer_fingerprint(a) != tokenizer_fingerprint(b));
    // Qwen2 composes, Llama 3 does not.
    assert_encodes(b, "e\u0301", 0, tokenizer_find(b, "\u00C3\u00A9"));
    assert_encodes(a, "e\u0301", 0, tokenizer_find(a, "e"), tokenizer_find(a, "\u00CC\u0123"));
    tokenizer_close(a);
    tokenizer_close(b);
}

#if defined(__GLIBC__)
static size_t heap_bytes(void) {
    struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
}

// Arrays that grow are at most twice as long as what is in them.
static void test_bytes_follow_the_heap(void **state) {
    (void)state;
    size_t before = heap_bytes();
    struct tokenizer *t = open_linked(llama3, 1);
    double grown = (double)heap_bytes() - (double)before;
    if (t == NULL || grown == 0) {
        print_message("skipped: no tokenizer, or an allocator that does not count\n");
        tokenizer_close(t);
        skip();
    }
    assert_true((double)tokenizer_bytes(t) < grown);
    assert_true((double)tokenizer_bytes(t) > 0.7 * grown);
    tokenizer_close(t);
}
#endif

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_llama_2_gives_the_ids_of_llama_cpp),
        cmocka_unit_test(test_llama_2_as_sentencepiece_gives_the_ids_of_llama_cpp),
        cmocka_unit_test(test_gpt_2_gives_the_ids_of_llama_cpp),
        cmocka_unit_test(test_qwen_2_gives_the_ids_of_llama_cpp),
        cmocka_unit_test(test_llama_3_gives_the_ids_of_llama_cpp),
        cmocka_unit_test(test_real_tokenizers_have_their_special_ids_and_normaliser),
#if defined(__GLIBC__)
        cmocka_unit_test(test_bytes_follow_the_heap),
#endif
    };
    if (testkit_data_path("tok/llama2_tokenizer.json") == NULL) {
        testkit_note_missing("tok/llama2_tokenizer.json");
        return TESTKIT_SKIP;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
