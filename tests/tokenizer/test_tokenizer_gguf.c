// Tokenizers out of GGUF files: a small one that gguf's writer made, and ones that do not fit.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/model/gguf_builder.h"
#include "tests/support/testkit.h"
#include "worker/tokenizer/tokenizer.h"
#include "worker/tokenizer/tokenizer_gguf.h"

static const char small[] = "tests/vectors/gguf/llama.gguf";

// Ids of that file: letters from LETTER_A on.
enum { IM_START, IM_END, TOOL, SPACE = 4, ONE, TWO, LETTER_A, TH = LETTER_A + 26, THE, SPACE_THE };

static void expect_ids(const struct tokenizer *t, const char *text, unsigned flags, size_t n,
                       const int32_t *want) {
    int32_t ids[64];
    size_t count = 0;
    struct error err = {0};
    assert_ok(tokenizer_encode(t, text, strlen(text), flags, ids, 64, &count, &err), &err);
    assert_int_equal(count, n);
    assert_memory_equal(ids, want, n * sizeof *want);
}

static void test_a_file_brings_its_tokenizer(void **state) {
    (void)state;
    struct tokenizer *t = NULL;
    struct error err = {0};
    assert_ok(tokenizer_open(testkit_source_path(small), &t, &err), &err);
    assert_int_equal(tokenizer_bos_id(t), IM_START);
    assert_int_equal(tokenizer_eos_id(t), IM_END);
    assert_int_equal(tokenizer_pad_id(t), IM_END);
    assert_false(tokenizer_adds_bos(t));
    assert_true(tokenizer_is_end(t, IM_END));
    assert_true(tokenizer_is_special(t, IM_START));
    assert_false(tokenizer_is_special(t, TOOL));
    assert_int_equal(tokenizer_find(t, "[PAD3]"), -1); // of type unused: no text has it
    const int32_t words[] = {THE, SPACE_THE, SPACE, ONE, TWO, LETTER_A, TH};
    expect_ids(t, "the the 12ath", 0, 7, words);
    const int32_t turn[] = {IM_START, LETTER_A, IM_END, TOOL};
    expect_ids(t, "<|im_start|>a<|im_end|><tool>", TOKENIZER_PARSE_SPECIAL, 4, turn);
    tokenizer_close(t);
}

static void test_the_template_stands_in_the_configuration(void **state) {
    (void)state;
    json_t *json = NULL;
    struct error err = {0};
    assert_ok(
        tokenizer_gguf_document(testkit_source_path(small), "tokenizer_config.json", &json, &err),
        &err);
    assert_string_equal(json_string_value(json_object_get(json, "chat_template")),
                        "{{ messages[0]['content'] }}");
    assert_string_equal(json_string_value(json_object_get(json, "bos_token")), "<|im_start|>");
    assert_true(json_is_null(json_object_get(json, "unk_token")));
    json_decref(json);
    assert_status(STATUS_NOT_FOUND,
                  tokenizer_gguf_document(testkit_source_path(small), "special_tokens_map.json",
                                          &json, &err));
}

// A vocabulary of three tokens in a file, with one thing that the case changes.
struct draft {
    const char *model;
    const char *pre;
    const char *tokens[3];
    int32_t types[3];
    size_t n_types;
    const char *merge;
    const char *more_key; // a bool, true
    uint32_t eos;
};

static const struct draft good = {"gpt2", "gpt-2", {"a", "b", "ab"}, {1, 1, 1},
                                  3,      "a b",   "general.flag",   0};

static enum status open_draft(const struct draft *draft, struct error *err) {
    struct gguf_builder file = {0};
    gguf_put_header(&file, 3, 0, 7);
    gguf_put_text(&file, "tokenizer.ggml.model", draft->model);
    gguf_put_text(&file, "tokenizer.ggml.pre", draft->pre);
    gguf_put_texts(&file, "tokenizer.ggml.tokens", draft->tokens, 3);
    gguf_put_numbers(&file, "tokenizer.ggml.token_type", draft->types, draft->n_types);
    gguf_put_texts(&file, "tokenizer.ggml.merges", &draft->merge, 1);
    gguf_put_bool(&file, draft->more_key, 1);
    gguf_put_number(&file, "tokenizer.ggml.eos_token_id", draft->eos);
    char *directory = testkit_make_directory();
    char path[4200];
    snprintf(path, sizeof path, "%s/m.gguf", directory);
    testkit_write_file(path, file.bytes, file.size);
    gguf_builder_finish(&file);
    struct tokenizer *t = NULL;
    enum status status = tokenizer_open(path, &t, err);
    tokenizer_close(t);
    testkit_remove_tree(directory);
    return status;
}

static void expect_refusal(const struct draft *draft, enum status expected, const char *field) {
    struct error err = {0};
    enum status status = open_draft(draft, &err);
    char full[64];
    snprintf(full, sizeof full, "m.gguf.%s", field);
    if (status != expected || strcmp(err.field, full) != 0) {
        fail_msg("%s in \"%s\" (%s), expected %s in \"%s\"", status_name(status), err.field,
                 err.message, status_name(expected), full);
    }
}

static void test_vocabularies_that_do_not_fit_are_refused_by_key(void **state) {
    (void)state;
    struct error err = {0};
    assert_ok(open_draft(&good, &err), &err);
    struct draft draft = good;
    draft.model = "bert";
    expect_refusal(&draft, STATUS_UNSUPPORTED, "tokenizer.ggml.model");
    draft = good;
    draft.pre = "default";
    expect_refusal(&draft, STATUS_UNSUPPORTED, "tokenizer.ggml.pre");
    draft = good;
    draft.tokens[2] = "a";
    expect_refusal(&draft, STATUS_MALFORMED, "tokenizer.ggml.tokens");
    draft = good;
    draft.tokens[2] = "";
    expect_refusal(&draft, STATUS_MALFORMED, "tokenizer.ggml.tokens");
    draft = good;
    draft.tokens[2] = "\xff";
    expect_refusal(&draft, STATUS_MALFORMED, "tokenizer.ggml.tokens");
    draft = good;
    draft.n_types = 2;
    expect_refusal(&draft, STATUS_MALFORMED, "tokenizer.ggml.token_type");
    draft = good;
    draft.types[1] = 6;
    expect_refusal(&draft, STATUS_UNSUPPORTED, "tokenizer.ggml.token_type");
    draft = good;
    draft.merge = "a \xff";
    expect_refusal(&draft, STATUS_MALFORMED, "tokenizer.ggml.merges");
    draft = good;
    draft.more_key = "tokenizer.ggml.add_eos_token";
    expect_refusal(&draft, STATUS_UNSUPPORTED, "tokenizer.ggml.add_eos_token");
    draft = good;
    draft.more_key = "tokenizer.ggml.lowercase";
    expect_refusal(&draft, STATUS_UNSUPPORTED, "tokenizer.ggml.lowercase");
    draft = good;
    draft.eos = 3;
    expect_refusal(&draft, STATUS_MALFORMED, "tokenizer.ggml.eos_token_id");
}

static void test_known_pre_tokenizers_open(void **state) {
    (void)state;
    static const char *const names[] = {"gpt-2", "phi-2",     "smollm", "starcoder", "refact",
                                        "qwen2", "llama-bpe", "llama3", "llama-v3",  "tekken"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct draft draft = good;
        struct error err = {0};
        draft.pre = names[i];
        assert_ok(open_draft(&draft, &err), &err);
    }
}

// A SentencePiece vocabulary; `architecture` and the number of scores are the case's.
static enum status open_pieces(const char *architecture, size_t n_scores, struct tokenizer **out,
                               struct error *err) {
    static const char *const pieces[] = {"<unk>",
                                         "<s>",
                                         "</s>",
                                         "\xE2\x96\x81",
                                         "a",
                                         "b",
                                         "ab",
                                         "\xE2\x96\x81"
                                         "ab"};
    static const int32_t types[] = {2, 3, 3, 1, 1, 1, 1, 1};
    static const float scores[] = {0, 0, 0, -4, -5, -6, -1, -2};
    struct gguf_builder file = {0};
    gguf_put_header(&file, 3, 0, 8);
    gguf_put_text(&file, "general.architecture", architecture);
    gguf_put_text(&file, "tokenizer.ggml.model", "llama");
    gguf_put_texts(&file, "tokenizer.ggml.tokens", pieces, 8);
    gguf_put_numbers(&file, "tokenizer.ggml.token_type", types, 8);
    gguf_put_reals(&file, "tokenizer.ggml.scores", scores, n_scores);
    gguf_put_number(&file, "tokenizer.ggml.unknown_token_id", 0);
    gguf_put_number(&file, "tokenizer.ggml.bos_token_id", 1);
    gguf_put_number(&file, "tokenizer.ggml.eos_token_id", 2);
    char *directory = testkit_make_directory();
    char path[4200];
    snprintf(path, sizeof path, "%s/m.gguf", directory);
    testkit_write_file(path, file.bytes, file.size);
    gguf_builder_finish(&file);
    enum status status = tokenizer_open(path, out, err);
    testkit_remove_tree(directory);
    return status;
}

static void test_pieces_are_joined_by_score(void **state) {
    (void)state;
    struct tokenizer *t = NULL;
    struct error err = {0};
    assert_ok(open_pieces("llama", 8, &t, &err), &err);
    assert_true(tokenizer_adds_bos(t));
    assert_int_equal(tokenizer_eos_id(t), 2);
    const int32_t plain[] = {7, 3, 4}; // a space goes before the text
    expect_ids(t, "ab a", 0, 3, plain);
    const int32_t turn[] = {7, 2, 7}; // and before what follows a special token
    expect_ids(t, "ab</s>ab", TOKENIZER_PARSE_SPECIAL, 3, turn);
    tokenizer_close(t);
    t = NULL;
    assert_status(STATUS_MALFORMED, open_pieces("llama", 7, &t, &err));
    assert_string_equal(err.field, "m.gguf.tokenizer.ggml.tokens");
    assert_status(STATUS_UNSUPPORTED, open_pieces("phi3", 8, &t, &err));
    assert_string_equal(err.field, "m.gguf.general.architecture");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_file_brings_its_tokenizer),
        cmocka_unit_test(test_the_template_stands_in_the_configuration),
        cmocka_unit_test(test_known_pre_tokenizers_open),
        cmocka_unit_test(test_pieces_are_joined_by_score),
        cmocka_unit_test(test_vocabularies_that_do_not_fit_are_refused_by_key),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
