#include "tests/tokenizer/fixture.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void test_byte_level_merges_inside_words(void **state) {
    (void)state;
    struct tokenizer *t = fixture_byte_level();
    assert_encodes(t, "hello world", 0, BYTE_HELLO, BYTE_SPACE_W, 'o', 'r', 'l', 'd');
    assert_encodes(t, "hell\xC3\xA9", 0, BYTE_HELL, 0xC3, 0xA9);
    assert_encodes(t, "", 0, -1);
    tokenizer_close(t);
}

static void test_sentencepiece_prefixes_and_falls_back_to_bytes(void **state) {
    (void)state;
    struct tokenizer *t = fixture_sentencepiece();
    assert_encodes(t, "a bc", 0, PIECE_SPACE_A, PIECE_SPACE, PIECE_BC);
    assert_encodes(t, "\xC3\xA9", 0, PIECE_SPACE, PIECE_BYTES + 0xC3, PIECE_BYTES + 0xA9);
    assert_encodes(t, "", 0, -1);
    tokenizer_close(t);
}

static void test_unknown_characters_fuse_only_when_asked(void **state) {
    (void)state;
    for (int fuse = 0; fuse < 2; fuse++) {
        char *json = fixture_replace(fixture_sentencepiece_json(), "\"fuse_unk\":true",
                                     fuse ? "\"fuse_unk\":true" : "\"fuse_unk\":false");
        json = fixture_replace(json, "\"byte_fallback\":true", "\"byte_fallback\":false");
        struct tokenizer *t = NULL;
        struct error err = {0};
        assert_ok(fixture_open(json, NULL, &t, &err), &err);
        if (fuse) {
            assert_encodes(t, "axyb", 0, PIECE_SPACE_A, PIECE_UNK, PIECE_B);
        } else {
            assert_encodes(t, "axyb", 0, PIECE_SPACE_A, PIECE_UNK, PIECE_UNK, PIECE_B);
        }
        tokenizer_close(t);
    }
}

// "Removed" drops what matches; inverted, it drops what lies between.
static void test_removed_split_drops_borders(void **state) {
    (void)state;
    for (int invert = 0; invert < 2; invert++) {
        char *json = fixture_replace(
            fixture_byte_level_json(), "{\"type\":\"ByteLevel\",\"add_prefix_space\"",
            "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":"
            "{\"Regex\":\"[xl]+\"},\"behavior\":\"Removed\",\"invert\":false},"
            "{\"type\":\"ByteLevel\",\"add_prefix_space\"");
        json = fixture_replace(json, "\"use_regex\":true}", "\"use_regex\":false}]}");
        if (invert) {
            json = fixture_replace(json, "\"invert\":false", "\"invert\":true");
        }
        struct tokenizer *t = NULL;
        struct error err = {0};
        assert_ok(fixture_open(json, NULL, &t, &err), &err);
        if (invert) {
            assert_encodes(t, "hexllo", 0, 'x', BYTE_LL);
        } else {
            assert_encodes(t, "hexllo", 0, BYTE_HE, 'o');
        }
        tokenizer_close(t);
    }
}

static void test_continuation_takes_no_prefix(void **state) {
    (void)state;
    struct tokenizer *t = fixture_sentencepiece();
    assert_encodes(t, "a a", TOKENIZER_CONTINUATION, PIECE_A, PIECE_SPACE_A);
    tokenizer_close(t);
}

static void test_metaspace_prefixes_the_first_part_only(void **state) {
    (void)state;
    char *json = fixture_replace(fixture_sentencepiece_json(), "\"pre_tokenizer\":null",
                                 "\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":"
                                 "\"\u2581\",\"prepend_scheme\":\"first\",\"split\":false}");
    json = fixture_replace(json, "{\"type\":\"Prepend\",\"prepend\":\"\u2581\"},", "");
    struct tokenizer *t = NULL;
    struct error err = {0};
    assert_ok(fixture_open(json, NULL, &t, &err), &err);
    assert_encodes(t, "a</s>a", TOKENIZER_PARSE_SPECIAL, PIECE_SPACE_A, PIECE_EOS, PIECE_A);
    assert_encodes(t, "a", TOKENIZER_CONTINUATION, PIECE_A);
    tokenizer_close(t);
}

static void test_prepend_prefixes_every_part(void **state) {
    (void)state;
    struct tokenizer *t = fixture_sentencepiece();
    assert_encodes(t, "a</s>a", TOKENIZER_PARSE_SPECIAL, PIECE_SPACE_A, PIECE_EOS, PIECE_SPACE_A);
    tokenizer_close(t);
}

static void test_special_text_is_ordinary_unless_parsed(void **state) {
    (void)state;
    struct tokenizer *t = fixture_byte_level();
    assert_encodes(t, "<|eot_id|>", TOKENIZER_PARSE_SPECIAL, BYTE_EOT);
    assert_encodes(t, "<|eot_id|>", 0, '<', '|', 'e', 'o', 't', '_', 'i', 'd', '|', '>');
    assert_encodes(t, "aTOOLa", 0, 'a', BYTE_TOOL, 'a');
    tokenizer_close(t);
}

// The fixture has merges "<" "s" and "<s" ">": the second would make BOS out of ordinary text.
static void test_merges_never_spell_a_special_token(void **state) {
    (void)state;
    struct tokenizer *t = fixture_sentencepiece();
    assert_encodes(t, "<s>", TOKENIZER_CONTINUATION, PIECE_LESS_S, PIECE_MORE);
    tokenizer_close(t);
}

static void test_whole_words_never_spell_a_special_token(void **state) {
    (void)state;
    char *json = fixture_replace(fixture_sentencepiece_json(), "\"fuse_unk\":true",
                                 "\"fuse_unk\":true,\"ignore_merges\":true");
    json = fixture_replace(json, "{\"type\":\"Prepend\",\"prepend\":\"\u2581\"},", "");
    struct tokenizer *t = NULL;
    struct error err = {0};
    assert_ok(fixture_open(json, NULL, &t, &err), &err);
    assert_encodes(t, "<s>", 0, PIECE_LESS_S, PIECE_MORE);
    assert_encodes(t, "bc", 0, PIECE_BC);
    tokenizer_close(t);
}

static void test_segments_join_words_but_not_special_tokens(void **state) {
    (void)state;
    struct tokenizer *t = fixture_byte_level();
    const struct tokenizer_segment segments[] = {
        {"<|eot_id|>", 10, true}, {"hel", 3, true},          {"lo<|eot", 7, false},
        {"_id|>", 5, true},       {"<|eot_id|>", 10, false},
    };
    static const int32_t expected[] = {BYTE_EOT, BYTE_HELLO, '<', '|', 'e', 'o', 't', '_',
                                       'i',      'd',        '|', '>', '<', '|', 'e', 'o',
                                       't',      '_',        'i', 'd', '|', '>', -1};
    int32_t ids[64];
    size_t count;
    struct error err = {0};
    assert_ok(tokenizer_encode_segments(t, segments, 5, 0, ids, 64, &count, &err), &err);
    // GPT-2's expression takes "|><|" as one word, in which nothing merges.
    fixture_assert_ids(ids, count, expected, __FILE__, __LINE__);
    // A user cannot complete what the format began either.
    const struct tokenizer_segment completed[] = {{"<|eot", 5, true}, {"_id|>", 5, false}};
    assert_ok(tokenizer_encode_segments(t, completed, 2, 0, ids, 64, &count, &err), &err);
    assert_int_equal(count, 10);
    assert_int_equal(ids[0], '<');
    assert_ok(tokenizer_encode_segments(t, NULL, 0, TOKENIZER_ADD_BOS, ids, 64, &count, &err),
              &err);
    assert_int_equal(count, 1);
    assert_int_equal(ids[0], BYTE_BOS);
    tokenizer_close(t);
}

static void test_added_token_flags(void **state) {
    (void)state;
    char *json = fixture_replace(
        fixture_byte_level_json(),
        "{\"id\":268,\"content\":\"TOOL\",\"special\":false,\"normalized\":false,\"lstrip\":false,"
        "\"rstrip\":false,\"single_word\":false}",
        "{\"id\":268,\"content\":\"TOOL\",\"special\":false,\"normalized\":true,\"lstrip\":true,"
        "\"rstrip\":true,\"single_word\":true},"
        "{\"id\":269,\"content\":\"TOOLBOX\",\"special\":false,\"normalized\":true}");
    struct tokenizer *t = NULL;
    struct error err = {0};
    assert_ok(fixture_open(json, NULL, &t, &err), &err);
    assert_encodes(t, "a \nTOOL\u3000 b", 0, 'a', BYTE_TOOL, 'b');
    assert_encodes(t, "aTOOL", 0, 'a', 'T', 'O', 'O', 'L');
    assert_encodes(t, "aTOOLBOX", 0, 'a', 269);
    tokenizer_close(t);
}

static void test_canonical_composition_orders_a_long_run_of_marks(void **state) {
    (void)state;
    char *json = fixture_replace(fixture_byte_level_json(), "\"normalizer\":null",
                                 "\"normalizer\":{\"type\":\"NFC\"}");
    struct tokenizer *t = NULL;
    struct error err = {0};
    assert_ok(fixture_open(json, NULL, &t, &err), &err);
    assert_encodes(t, "e\u0301", 0, 0xC3, 0xA9);
    assert_encodes(t, "o\u0301\u0323", 0, 0xE1, 0xBB, 0x8D, 0xCC, 0x81);
    // Twenty times class 230 and class 220: sorted, the first dot below composes with the letter.
    char text[1 + 20 * 4 + 1] = "o";
    for (int i = 0; i < 20; i++) {
        strcat(text, "\u0301\u0323");
    }
    int32_t ids[128];
    size_t count;
    assert_ok(tokenizer_encode(t, text, strlen(text), 0, ids, 128, &count, &err), &err);
    assert_int_equal(count, 3 + 19 * 2 + 20 * 2);
    assert_int_equal(ids[1], 0xBB);
    assert_int_equal(ids[2], 0x8D);
    assert_int_equal(ids[4], 0xA3);
    assert_int_equal(ids[3 + 19 * 2 + 1], 0x81);
    tokenizer_close(t);
}

static void test_invalid_utf8_is_refused_with_its_offset(void **state) {
    (void)state;
    static const struct {
        const char *text;
        const char *offset;
    } cases[] = {{"ab\xFF", "byte 2"},           {"\xC3", "byte 0"},
                 {"a\xC0\x80", "byte 1"},        {"\xED\xA0\x80", "byte 0"},
                 {"\xF4\x90\x80\x80", "byte 0"}, {"\xE2\x82", "byte 0"}};
    struct tokenizer *t = fixture_byte_level();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int32_t ids[16];
        size_t count = 99;
        struct error err = {0};
        assert_status(
            STATUS_INVALID_ARGUMENT,
            tokenizer_encode(t, cases[i].text, strlen(cases[i].text), 0, ids, 16, &count, &err));
        assert_non_null(strstr(err.message, cases[i].offset));
        assert_int_equal(count, 99);
    }
    tokenizer_close(t);
}

static void test_too_little_room_tells_the_need(void **state) {
    (void)state;
    struct tokenizer *t = fixture_byte_level();
    int32_t ids[6];
    size_t count = 0;
    struct error err = {0};
    assert_status(STATUS_LIMIT, tokenizer_encode(t, "hello world", 11, 0, NULL, 0, &count, &err));
    assert_int_equal(count, 6);
    assert_ok(tokenizer_encode(t, "hello world", 11, 0, ids, count, &count, &err), &err);
    char text[16];
    size_t bytes = 0;
    assert_status(STATUS_LIMIT, tokenizer_decode(t, ids, count, 0, text, 10, &bytes, &err));
    assert_int_equal(bytes, 11);
    assert_ok(tokenizer_decode(t, ids, count, 0, text, 11, &bytes, &err), &err);
    assert_memory_equal(text, "hello world", 11);
    tokenizer_close(t);
}

static void test_text_above_the_limit_is_refused(void **state) {
    (void)state;
    struct tokenizer *t = fixture_byte_level();
    char *text = calloc(1, TOKENIZER_TEXT_BYTES_MAX + 1);
    assert_non_null(text);
    size_t count = 0;
    struct error err = {0};
    assert_status(STATUS_LIMIT, tokenizer_encode(t, text, TOKENIZER_TEXT_BYTES_MAX + 1, 0, NULL, 0,
                                                 &count, &err));
    assert_int_equal(count, 0);
    free(text);
    tokenizer_close(t);
}

static void test_decoding_hides_special_tokens_and_repairs_bytes(void **state) {
    (void)state;
    struct tokenizer *t = fixture_byte_level();
    const int32_t ids[] = {BYTE_BOS, BYTE_HELLO, 0xC3, BYTE_EOT, '!'};
    char text[64];
    size_t bytes;
    struct error err = {0};
    assert_ok(tokenizer_decode(t, ids, 5, 0, text, sizeof text, &bytes, &err), &err);
    assert_int_equal(bytes, 9);
    assert_memory_equal(text, "hello\xEF\xBF\xBD!", 9);
    assert_ok(tokenizer_decode(t, ids, 2, TOKENIZER_KEEP_SPECIAL, text, sizeof text, &bytes, &err),
              &err);
    assert_memory_equal(text, "<|begin_of_text|>hello", bytes);
    const int32_t outside = BYTE_COUNT;
    assert_status(STATUS_INVALID_ARGUMENT,
                  tokenizer_decode(t, &outside, 1, 0, text, sizeof text, &bytes, &err));
    tokenizer_close(t);
}

static void test_special_ids_by_spelling_configuration_and_template(void **state) {
    (void)state;
    struct tokenizer *t = fixture_sentencepiece();
    assert_int_equal(tokenizer_vocab_size(t), PIECE_COUNT);
    assert_int_equal(tokenizer_bos_id(t), PIECE_BOS);
    assert_int_equal(tokenizer_eos_id(t), PIECE_EOS);
    assert_int_equal(tokenizer_unk_id(t), PIECE_UNK);
    assert_int_equal(tokenizer_pad_id(t), -1);
    assert_true(tokenizer_adds_bos(t));
    assert_true(tokenizer_is_end(t, PIECE_EOS));
    assert_false(tokenizer_is_end(t, PIECE_BOS));
    assert_true(tokenizer_is_special(t, PIECE_BOS));
    assert_false(tokenizer_is_special(t, PIECE_A));
    assert_false(tokenizer_is_special(t, -1));
    assert_encodes(t, "a", TOKENIZER_ADD_BOS, PIECE_BOS, PIECE_SPACE_A);
    tokenizer_close(t);
    struct error err = {0};
    assert_ok(fixture_open(fixture_sentencepiece_json(),
                           "{\"bos_token\":null,\"eos_token\":{\"content\":\"a\"},"
                           "\"pad_token\":\"</s>\"}",
                           &t, &err),
              &err);
    assert_int_equal(tokenizer_bos_id(t), -1);
    assert_int_equal(tokenizer_eos_id(t), PIECE_A);
    assert_int_equal(tokenizer_pad_id(t), PIECE_EOS);
    assert_true(tokenizer_is_special(t, PIECE_A));
    tokenizer_close(t);
    assert_ok(fixture_open(fixture_sentencepiece_json(), "{\"add_bos_token\":false}", &t, &err),
              &err);
    assert_int_equal(tokenizer_bos_id(t), PIECE_BOS);
    // transformers 5 reads add_bos_token only where there is no tokenizer.json.
    assert_true(tokenizer_adds_bos(t));
    tokenizer_close(t);
}

static void test_llama_tokenizer_over_a_file_that_says_byte_level_is_the_file(void **state) {
    (void)state;
    static const char frame[] = "{\"type\":\"TemplateProcessing\",\"single\":["
                                "{\"SpecialToken\":{\"id\":\"<s>\",\"type_id\":0}},"
                                "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}],\"special_tokens\":"
                                "{\"<s>\":{\"id\":\"<s>\",\"ids\":[1],\"tokens\":[\"<s>\"]}}}";
    static const char config[] = "{\"tokenizer_class\":\"LlamaTokenizer\"}";
    struct tokenizer *t = NULL;
    struct error err = {0};
    assert_ok(fixture_open(fixture_sentencepiece_json(), config, &t, &err), &err);
    assert_encodes(t, "a</s>a", TOKENIZER_PARSE_SPECIAL, PIECE_SPACE_A, PIECE_EOS, PIECE_A);
    tokenizer_close(t);
    char *json = fixture_replace(fixture_sentencepiece_json(), frame, "{\"type\":\"ByteLevel\"}");
    assert_ok(fixture_open(json, config, &t, &err), &err);
    assert_encodes(t, "a</s>a", TOKENIZER_PARSE_SPECIAL, PIECE_SPACE_A, PIECE_EOS, PIECE_SPACE_A);
    tokenizer_close(t);
}

static void test_frame_is_that_of_tokenizer_json_or_none(void **state) {
    (void)state;
    struct tokenizer *t = NULL;
    struct error err = {0};
    char *json = fixture_replace(fixture_byte_level_json(), ",\"post_processor\":null", "");
    assert_ok(fixture_open(json, "{\"add_bos_token\":true,\"bos_token\":\"<|begin_of_text|>\"}", &t,
                           &err),
              &err);
    assert_int_equal(tokenizer_bos_id(t), BYTE_BOS);
    assert_false(tokenizer_adds_bos(t));
    tokenizer_close(t);
}

// What a class names gets its id before further tokens, as in transformers.
static void test_tokens_of_the_class_are_added_before_further_ones(void **state) {
    (void)state;
    struct tokenizer *t = NULL;
    struct error err = {0};
    assert_ok(
        fixture_open(fixture_byte_level_json(),
                     "{\"tokenizer_class\":\"Qwen2Tokenizer\",\"extra_special_tokens\":[\"NEW\"]}",
                     &t, &err),
        &err);
    int32_t end = tokenizer_find(t, "<|endoftext|>");
    assert_int_equal(end, BYTE_TOOL + 1);
    assert_int_equal(tokenizer_find(t, "NEW"), end + 1);
    assert_int_equal(tokenizer_eos_id(t), end);
    assert_int_equal(tokenizer_pad_id(t), end);
    assert_encodes(t, "<|endoftext|>", TOKENIZER_PARSE_SPECIAL, end);
    tokenizer_close(t);
}

// A file that lists a token has the say about it; Qwen2Tokenizer adds what is named anew.
static void test_flags_of_a_listed_token_stay_when_it_is_named(void **state) {
    (void)state;
    static const char listed[] = "\"content\":\"TOOL\",\"special\":false,\"normalized\":false,"
                                 "\"lstrip\":false,\"rstrip\":false,\"single_word\":false";
    static const char alone[] = "\"content\":\"TOOL\",\"special\":false,\"normalized\":false,"
                                "\"lstrip\":false,\"rstrip\":false,\"single_word\":true";
    static const struct {
        const char *config;
        const char *added;
        bool anew;
    } rows[] = {{"{\"extra_special_tokens\":[\"TOOL\"]}", "{}", false},
                {"{}", "{\"TOOL\":268}", false},
                {"{\"tokenizer_class\":\"Qwen2Tokenizer\",\"extra_special_tokens\":[\"TOOL\"]}",
                 "{}", true}};
    assert_int_equal(BYTE_TOOL, 268);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char *json = fixture_replace(fixture_byte_level_json(), listed, alone);
        const struct fixture_file files[] = {{"tokenizer.json", json},
                                             {"tokenizer_config.json", rows[i].config},
                                             {"added_tokens.json", rows[i].added}};
        struct tokenizer *t = NULL;
        struct error err = {0};
        assert_ok(fixture_open_files(files, 3, &t, &err), &err);
        assert_int_equal(tokenizer_is_special(t, BYTE_TOOL), rows[i].anew);
        if (rows[i].anew) {
            assert_encodes(t, "aTOOLa", TOKENIZER_PARSE_SPECIAL, 'a', BYTE_TOOL, 'a');
        } else {
            assert_encodes(t, "aTOOLa", TOKENIZER_PARSE_SPECIAL, 'a', 'T', 'O', 'O', 'L', 'a');
        }
        tokenizer_close(t);
        free(json);
    }
}

static void test_fingerprint_tells_tokenizers_apart(void **state) {
    (void)state;
    struct tokenizer *a = fixture_byte_level();
    struct tokenizer *b = fixture_byte_level();
    assert_true(tokenizer_fingerprint(a) == tokenizer_fingerprint(b));
    tokenizer_close(b);
    static const char *const changes[][2] = {
        {"\"h e\",\"l l\",", "\"l l\",\"h e\","},
        {"\"normalizer\":null", "\"normalizer\":{\"type\":\"NFC\"}"},
        {"\"use_regex\":true", "\"use_regex\":false"},
        {"\"content\":\"TOOL\"", "\"content\":\"TOOLS\""},
        {"\"special\":false,\"normalized\":false,\"lstrip\":false",
         "\"special\":false,\"normalized\":false,\"lstrip\":true"},
    };
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        struct error err = {0};
        char *json = fixture_replace(fixture_byte_level_json(), changes[i][0], changes[i][1]);
        assert_ok(fixture_open(json, NULL, &b, &err), &err);
        assert_true(tokenizer_fingerprint(a) != tokenizer_fingerprint(b));
        tokenizer_close(b);
    }
    tokenizer_close(a);
}

// Encodes again and again; returns NULL when the ids were right every time.
static void *encode_repeatedly(void *argument) {
    const struct tokenizer *t = argument;
    static const int32_t expected[] = {BYTE_HELLO, BYTE_SPACE_W, 'o', 'r', 'l', 'd'};
    for (int i = 0; i < 500; i++) {
        int32_t ids[8];
        size_t count = 0;
        if (tokenizer_encode(t, "hello world", 11, 0, ids, 8, &count, NULL) != STATUS_OK ||
            count != 6 || memcmp(ids, expected, sizeof expected) != 0) {
            return argument;
        }
    }
    return NULL;
}

static void test_threads_share_one_tokenizer(void **state) {
    (void)state;
    struct tokenizer *t = fixture_byte_level();
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, encode_repeatedly, t), 0);
    }
    for (int i = 0; i < 4; i++) {
        void *wrong = t;
        assert_int_equal(pthread_join(threads[i], &wrong), 0);
        assert_null(wrong);
    }
    tokenizer_close(t);
}

struct bad_file {
    const char *from;
    const char *to;
    enum status status;
    const char *field;
};

// Every change breaks the file in one place; the error must name it.
static const struct bad_file bad_files[] = {
    {"\"type\":\"BPE\"", "\"type\":\"WordPiece\"", STATUS_UNSUPPORTED, "model.type"},
    {"\"type\":\"BPE\"", "\"type\":\"Unigram\"", STATUS_MALFORMED, "model.vocab"},
    {"\"normalizer\":null", "\"normalizer\":{\"type\":\"Nmt\"}", STATUS_UNSUPPORTED, "normalizer"},
    {"\"normalizer\":null",
     "\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":"
     "\"////fwAA\"}",
     STATUS_MALFORMED, "normalizer"},
    {"\"normalizer\":null",
     "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"},"
     "{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"a*\"},\"content\":\"b\"}]}",
     STATUS_UNSUPPORTED, "normalizer.normalizers[1]"},
    {"{\"type\":\"ByteLevel\",", "{\"type\":\"BertPreTokenizer\",", STATUS_UNSUPPORTED,
     "pre_tokenizer"},
    {"\"decoder\":{\"type\":\"ByteLevel\"}", "\"decoder\":{\"type\":\"WordPiece\"}",
     STATUS_UNSUPPORTED, "decoder"},
    {"\"decoder\":{\"type\":\"ByteLevel\"}", "\"decoder\":null", STATUS_UNSUPPORTED, "decoder"},
    {"\"post_processor\":null", "\"post_processor\":{\"type\":\"RobertaProcessing\"}",
     STATUS_UNSUPPORTED, "post_processor"},
    {"\"type\":\"BPE\"", "\"type\":\"BPE\",\"end_of_word_suffix\":\"</w>\"", STATUS_UNSUPPORTED,
     "model.end_of_word_suffix"},
    {"\"type\":\"BPE\"", "\"type\":\"BPE\",\"unk_token\":\"absent\"", STATUS_MALFORMED,
     "model.unk_token"},
    {"\"use_regex\":true", "\"use_regex\":1", STATUS_MALFORMED, "pre_tokenizer"},
    {"\"hello\":259", "\"hello\":258", STATUS_MALFORMED, "model.vocab"},
    {"\"hello\":259", "\"hello\":-1", STATUS_MALFORMED, "model.vocab"},
    {"\"hello\":259", "\"hello\":1048576", STATUS_LIMIT, "model.vocab"},
    {"\"hello\":259", "\"hello\":\"259\"", STATUS_MALFORMED, "model.vocab"},
    {"\"hello\":259", "\"hell\":259", STATUS_MALFORMED, "tokenizer.json"},
    {"\"l l\"", "\"l lz\"", STATUS_MALFORMED, "model.merges[1]"},
    {"\"l l\"", "\"l  l\"", STATUS_MALFORMED, "model.merges[1]"},
    {"\"l l\"", "7", STATUS_MALFORMED, "model.merges[1]"},
    {"\"merges\":[", "\"merges\":7,\"other\":[", STATUS_MALFORMED, "model.merges"},
    {"\"id\":262", "\"id\":-3", STATUS_MALFORMED, "added_tokens[1]"},
    {"\"id\":262", "\"id\":9999999", STATUS_LIMIT, "added_tokens[1]"},
    {"\"id\":262", "\"id\":261", STATUS_MALFORMED, "added_tokens[1]"},
    {"\"content\":\"TOOL\"", "\"content\":\"hello\"", STATUS_MALFORMED, "added_tokens[7]"},
    {"\"id\":262", "\"id\":262,\"id\":262", STATUS_MALFORMED, "tokenizer.json"},
    {"\"merges\":[", "\"merges\":{", STATUS_MALFORMED, "tokenizer.json"},
};

static void test_bad_file_is_refused_and_its_field_named(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof bad_files / sizeof *bad_files; i++) {
        const struct bad_file *bad = &bad_files[i];
        char *json = fixture_replace(fixture_byte_level_json(), bad->from, bad->to);
        struct tokenizer *t = NULL;
        struct error err = {0};
        enum status status = fixture_open(json, NULL, &t, &err);
        if (status != bad->status || strstr(err.field, bad->field) == NULL) {
            print_error("%s: %s %s: %s\n", bad->to, status_name(status), err.field, err.message);
        }
        assert_status(bad->status, status);
        assert_non_null(strstr(err.field, bad->field));
        assert_null(t);
    }
}

static void test_bad_configuration_is_refused_and_its_field_named(void **state) {
    (void)state;
    static const char *const configs[][2] = {
        {"{\"bos_token\":7}", "tokenizer_config.json:bos_token"},
        {"[]", "tokenizer_config.json"},
        {"{", "tokenizer_config.json"},
    };
    for (size_t i = 0; i < sizeof configs / sizeof *configs; i++) {
        struct tokenizer *t = NULL;
        struct error err = {0};
        assert_status(STATUS_MALFORMED,
                      fixture_open(fixture_byte_level_json(), configs[i][0], &t, &err));
        assert_string_equal(configs[i][1], err.field);
    }
}

// transformers tidies decoded text of unigram models then, and leaves that of BPE alone.
static void test_tidying_of_decoded_text_is_refused_where_it_would_count(void **state) {
    (void)state;
    static const char config[] = "{\"clean_up_tokenization_spaces\":true}";
    static const char unigram[] =
        "{\"model\":{\"type\":\"Unigram\",\"unk_id\":0,\"vocab\":[[\"<unk>\",0],[\"a\",-1.5]]},"
        "\"decoder\":{\"type\":\"Metaspace\",\"replacement\":\"\u2581\"}}";
    struct tokenizer *t = NULL;
    struct error err = {0};
    assert_status(STATUS_UNSUPPORTED, fixture_open(strdup(unigram), config, &t, &err));
    assert_string_equal("tokenizer_config.json:clean_up_tokenization_spaces", err.field);
    assert_ok(fixture_open(strdup(unigram), NULL, &t, &err), &err);
    assert_encodes(t, "aa", 0, 1, 1);
    tokenizer_close(t);
    assert_ok(fixture_open(fixture_byte_level_json(), config, &t, &err), &err);
    tokenizer_close(t);
}

// What the tokenizers library cannot read is no default here.
static void test_values_of_the_wrong_kind_are_refused_by_name(void **state) {
    (void)state;
    static const struct {
        const char *from; // in the byte-level fixture
        const char *to;
        const char *field;
    } rows[] = {
        {"\"BPE\",", "\"BPE\",\"continuing_subword_prefix\":7,", "model.continuing_subword_prefix"},
        {"\"BPE\",", "\"BPE\",\"end_of_word_suffix\":false,", "model.end_of_word_suffix"},
        {"\"BPE\",", "\"BPE\",\"dropout\":\"0.1\",", "model.dropout"},
        {"\"BPE\",", "\"BPE\",\"dropout\":false,", "model.dropout"},
        {"\"BPE\",", "\"BPE\",\"fuse_unk\":0,", "model"},
        {"\"use_regex\":true", "\"use_regex\":null", "pre_tokenizer"},
        {"\"use_regex\":true", "\"use_regex\":true,\"trim_offsets\":1", "pre_tokenizer"},
        {"\"decoder\":{", "\"decoder\":{\"use_regex\":[],", "decoder"},
        {"\"normalizer\":null", "\"normalizer\":null,\"version\":1", "version"},
        {"\"normalizer\":null", "\"normalizer\":null,\"version\":\"2.0\"", "version"},
        {"\"normalizer\":null", "\"normalizer\":false", "normalizer"},
        {"\"normalizer\":null", "\"normalizer\":null,\"truncation\":false", "truncation"},
        {"\"normalizer\":null", "\"normalizer\":null,\"truncation\":{}", "truncation"},
        {"\"normalizer\":null",
         "\"normalizer\":null,\"truncation\":{\"max_length\":\"9\",\"stride\":0,\"strategy\":"
         "\"OnlyFirst\"}",
         "truncation"},
        {"\"normalizer\":null", "\"normalizer\":null,\"padding\":7", "padding"},
        {"\"normalizer\":null",
         "\"normalizer\":null,\"padding\":{\"strategy\":{\"Fixed\":-1},\"pad_id\":0,\"pad_type_"
         "id\":0,"
         "\"pad_token\":\"a\"}",
         "padding"},
        {"\"post_processor\":null",
         "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"Sequence\":{\"id\":"
         "\"B\"}}],\"special_tokens\":{}}",
         "post_processor"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct tokenizer *t = NULL;
        struct error err = {0};
        char field[64];
        char *json = fixture_replace(fixture_byte_level_json(), rows[i].from, rows[i].to);
        snprintf(field, sizeof field, "tokenizer.json:%s", rows[i].field);
        if (fixture_open(json, NULL, &t, &err) == STATUS_OK) {
            fail_msg("%s is taken", rows[i].to);
        }
        assert_string_equal(err.field, field);
    }
}

static void test_options_of_the_wrong_kind_are_refused_by_name(void **state) {
    (void)state;
    static const struct {
        const char *config; // tokenizer_config.json
        const char *key;
    } rows[] = {
        {"{\"tokenizer_class\":7}", "tokenizer_class"},
        {"{\"add_bos_token\":\"true\"}", "add_bos_token"},
        {"{\"add_eos_token\":1}", "add_eos_token"},
        {"{\"split_special_tokens\":\"yes\"}", "split_special_tokens"},
        {"{\"fast_tokenizer_files\":[\"tokenizer.json\",\"tokenizer.4.0.0.json\"]}",
         "fast_tokenizer_files"},
        {"{\"added_tokens_decoder\":{\"268\":{\"content\":\"TOOL\",\"special\":1}}}",
         "added_tokens_decoder"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct tokenizer *t = NULL;
        struct error err = {0};
        if (fixture_open(fixture_byte_level_json(), rows[i].config, &t, &err) == STATUS_OK) {
            fail_msg("%s is taken", rows[i].config);
        }
        assert_memory_equal(err.field, "tokenizer_config.json:", 22);
        assert_non_null(strstr(err.field, rows[i].key));
    }
}

// As transformers, which sets both for each call from its arguments.
static void test_truncation_and_padding_of_the_file_change_nothing(void **state) {
    (void)state;
    struct tokenizer *t = NULL;
    struct error err = {0};
    char *json = fixture_replace(
        fixture_byte_level_json(), "\"normalizer\":null",
        "\"normalizer\":null,\"truncation\":{\"direction\":\"Right\",\"max_length\":1,\"strategy\":"
        "\"LongestFirst\",\"stride\":0},\"padding\":{\"strategy\":{\"Fixed\":8},\"direction\":"
        "\"Left\","
        "\"pad_to_multiple_of\":null,\"pad_id\":0,\"pad_type_id\":0,\"pad_token\":\"a\"}");
    assert_ok(fixture_open(json, NULL, &t, &err), &err);
    assert_encodes(t, "abc", 0, 'a', 'b', 'c');
    tokenizer_close(t);
}

static void test_rank_file_merges_by_the_rank_of_the_join(void **state) {
    (void)state;
    // a b c, then "bc" before "ab": ranks decide, and the specials of Llama 3 follow.
    const struct fixture_file file = {"tokenizer.model",
                                      "YQ== 0\nYg== 1\nYw== 2\nYmM= 3\nYWI= 4\n"};
    struct tokenizer *t = NULL;
    struct error err = {0};
    assert_ok(fixture_open_files(&file, 1, &t, &err), &err);
    assert_int_equal(tokenizer_vocab_size(t), 5 + 256);
    assert_int_equal(tokenizer_bos_id(t), 5);
    assert_encodes(t, "abc", 0, 0, 3);
    assert_encodes(t, "ab", 0, 4);
    tokenizer_close(t);
}

static void test_ranks_are_read_where_the_configuration_says_whose_they_are(void **state) {
    (void)state;
    static const char ranks[] = "YQ== 0\nYg== 1\nYw== 2\nYmM= 3\nYWI= 4\n";
    static const struct {
        const char *file;
        const char *class; // tokenizer_config.json
        const char *model; // config.json
        enum status status;
        const char *message;
    } rows[] = {
        {"tokenizer.model", "{\"tokenizer_class\":\"LlamaTokenizerFast\"}",
         "{\"model_type\":\"llama\"}", STATUS_OK, NULL},
        {"tokenizer.model", "{\"tokenizer_class\":\"PreTrainedTokenizerFast\"}", NULL, STATUS_OK,
         NULL},
        {"tokenizer.model", "{\"tokenizer_class\":\"ChatGLM4Tokenizer\"}", NULL, STATUS_UNSUPPORTED,
         "tokenizer_class ChatGLM4Tokenizer"},
        {"tokenizer.model", NULL, "{\"model_type\":\"chatglm\"}", STATUS_UNSUPPORTED,
         "model_type chatglm"},
        {"tokenizer.model", "{\"split_special_tokens\":true}", NULL, STATUS_UNSUPPORTED, "true"},
        {"qwen.tiktoken", "{\"tokenizer_class\":\"QWenTokenizer\"}", NULL, STATUS_MALFORMED,
         "151643"},
        {"qwen.tiktoken", NULL, "{\"model_type\":\"qwen\"}", STATUS_MALFORMED, "151643"},
        {"qwen.tiktoken", NULL, NULL, STATUS_UNSUPPORTED, "tokenizer_class none"},
        {"qwen.tiktoken", "{\"tokenizer_class\":\"Qwen2Tokenizer\"}", NULL, STATUS_UNSUPPORTED,
         "Qwen2Tokenizer"},
        {"hy.tiktoken", "{\"tokenizer_class\":\"HYTokenizer\"}", NULL, STATUS_UNSUPPORTED,
         "expression"},
        {"tiktoken.model", NULL, NULL, STATUS_UNSUPPORTED, "expression"},
        {"ranks", NULL, NULL, STATUS_NOT_FOUND, "none of"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct fixture_file files[] = {{rows[i].file, ranks},
                                             {"tokenizer_config.json", rows[i].class},
                                             {"config.json", rows[i].model}};
        struct tokenizer *t = NULL;
        struct error err = {0};
        enum status status = fixture_open_files(files, 3, &t, &err);
        assert_int_equal(rows[i].status, status);
        if (status == STATUS_OK) {
            tokenizer_close(t);
        } else if (strstr(err.message, rows[i].message) == NULL) {
            fail_msg("%s %s", err.field, err.message);
        }
        if (status == STATUS_UNSUPPORTED && strcmp(rows[i].message, "true") != 0) {
            assert_string_equal(err.field, rows[i].file);
        }
    }
}

// As that of Qwen has one.
static void test_piece_that_is_spelled_as_an_end_token_is_text(void **state) {
    (void)state;
    const struct fixture_file file = {"tokenizer.model", "YQ== 0\nPC9zPg== 1\n"}; // a, </s>
    struct tokenizer *t = NULL;
    struct error err = {0};
    assert_ok(fixture_open_files(&file, 1, &t, &err), &err);
    assert_false(tokenizer_is_special(t, 1));
    assert_int_equal(tokenizer_eos_id(t), tokenizer_find(t, "<|end_of_text|>"));
    tokenizer_close(t);
}

static void test_bad_rank_file_is_refused_by_line(void **state) {
    (void)state;
    static const struct {
        const char *text;
        enum status status;
        const char *message;
    } cases[] = {
        {"\n\x0F", STATUS_MALFORMED, "the model is cut"},
        {"?\n", STATUS_MALFORMED, "line 1"},
        {"YQ== 0\nYQ== 1\n", STATUS_MALFORMED, "line 2"},
        {"YQ== 0\nYg== 0\n", STATUS_MALFORMED, "line 2"},
        {"YQ== 0\nYg= 1\n", STATUS_MALFORMED, "line 2"},
        {"YQ== 0\nY*== 1\n", STATUS_MALFORMED, "line 2"},
        {"YQ== 0\nYg== -1\n", STATUS_MALFORMED, "line 2"},
        {"YQ== 0\nYg==\n", STATUS_MALFORMED, "line 2"},
        {"YQ== 0\nYg== 99999999999999999999\n", STATUS_LIMIT, "line 2"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct fixture_file file = {"tokenizer.model", cases[i].text};
        struct tokenizer *t = NULL;
        struct error err = {0};
        assert_status(cases[i].status, fixture_open_files(&file, 1, &t, &err));
        assert_string_equal("tokenizer.model", err.field);
        assert_non_null(strstr(err.message, cases[i].message));
    }
}

// a b c, then "bc" before "ab", behind three special tokens of which one has no name; the last
// piece is above the size.
static const char tekken[] =
    "{\"config\":{\"pattern\":\"[a-z]+|[^a-z]+\",\"default_vocab_size\":8,"
    "\"default_num_special_tokens\":3},\"special_tokens\":[{\"rank\":0,\"token_str\":\"<unk>\"},"
    "{\"rank\":1,\"token_str\":\"<s>\"}],\"vocab\":[{\"rank\":0,\"token_bytes\":\"YQ==\","
    "\"token_str\":\"\\u0000\"},{\"rank\":1,\"token_bytes\":\"Yg==\"},{\"rank\":2,\"token_bytes\":"
    "\"Yw==\"},{\"rank\":3,\"token_bytes\":\"YmM=\"},{\"rank\":4,\"token_bytes\":\"YWI=\"},"
    "{\"rank\":5,\"token_bytes\":\"YWJj\"}]}";

static void test_tekken_file_merges_by_rank_behind_its_special_tokens(void **state) {
    (void)state;
    const struct fixture_file file = {"tekken.json", tekken};
    struct tokenizer *t = NULL;
    struct error err = {0};
    assert_ok(fixture_open_files(&file, 1, &t, &err), &err);
    assert_int_equal(tokenizer_vocab_size(t), 8);
    assert_int_equal(tokenizer_bos_id(t), 1);
    assert_int_equal(tokenizer_find(t, "<SPECIAL_2>"), 2);
    assert_encodes(t, "abc", 0, 3, 6);
    assert_encodes(t, "<s>ab", TOKENIZER_PARSE_SPECIAL, 1, 7);
    tokenizer_close(t);
}

static void test_bad_tekken_file_is_refused_and_its_field_named(void **state) {
    (void)state;
    static const struct {
        const char *from;
        const char *to;
        const char *field;
    } cases[] = {
        {"\"pattern\"", "\"other\"", "config.pattern"},
        {"[a-z]+|", "[a-z]*|", "config.pattern"},
        {"\"default_vocab_size\":8", "\"default_vocab_size\":99", "vocab"},
        {"\"default_vocab_size\":8", "\"default_vocab_size\":-1", "config.default_vocab_size"},
        {"\"default_num_special_tokens\":3", "\"default_num_special_tokens\":1", "vocab"},
        {"\"<s>\"", "\"<unk>\"", "special_tokens"},
        {"{\"rank\":1,\"token_str\"", "{\"rank\":5,\"token_str\"", "special_tokens"},
        {"Yg==", "YQ==", "vocab[1]"},
        {"Yg==", "Y!==", "vocab[1]"},
        {"{\"rank\":2", "{\"rank\":3", "vocab[2]"},
        {"]}", "]", "tekken.json"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *text = fixture_replace(strdup(tekken), cases[i].from, cases[i].to);
        const struct fixture_file file = {"tekken.json", text};
        struct tokenizer *t = NULL;
        struct error err = {0};
        enum status status = fixture_open_files(&file, 1, &t, &err);
        free(text);
        assert_true(status != STATUS_OK);
        if (strstr(err.field, cases[i].field) == NULL) {
            fail_msg("%s: %s: %s", cases[i].to, err.field, err.message);
        }
    }
}

static void test_vocabulary_and_merges_need_each_other(void **state) {
    (void)state;
    static const struct {
        const char *merges;
        const char *config;
        enum status status;
        const char *field;
    } cases[] = {
        {"#version: 0.2\na b\n", NULL, STATUS_OK, ""},
        {NULL, NULL, STATUS_NOT_FOUND, "merges.txt"},
        {"#version: 0.2\na c\n", NULL, STATUS_MALFORMED, "merges.txt"},
        {"ab\n", NULL, STATUS_MALFORMED, "merges.txt"},
        {"a b\n", "{\"tokenizer_class\":\"T5Tokenizer\"}", STATUS_UNSUPPORTED,
         "tokenizer_config.json:tokenizer_class"},
        {"a b\n", "{\"added_tokens_decoder\":{\"x\":{\"content\":\"c\"}}}", STATUS_MALFORMED,
         "tokenizer_config.json:added_tokens_decoder"},
        {"a b\n", "{\"added_tokens_decoder\":{\"2\":{\"content\":\"c\"}}}", STATUS_MALFORMED,
         "tokenizer_config.json:added_tokens_decoder"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct fixture_file files[] = {{"vocab.json", "{\"a\":0,\"b\":1,\"ab\":2}"},
                                             {"merges.txt", cases[i].merges},
                                             {"tokenizer_config.json", cases[i].config}};
        struct tokenizer *t = NULL;
        struct error err = {0};
        assert_status(cases[i].status, fixture_open_files(files, 3, &t, &err));
        assert_string_equal(cases[i].field, err.field);
        tokenizer_close(t);
    }
}

static void test_empty_directory_has_no_tokenizer(void **state) {
    (void)state;
    struct tokenizer *t = NULL;
    struct error err = {0};
    assert_status(STATUS_NOT_FOUND, fixture_open(NULL, NULL, &t, &err));
    tokenizer_close(NULL);
}

// Cut anywhere, a file is an error and nothing worse.
static void test_cut_file_is_malformed_at_every_length(void **state) {
    (void)state;
    char *whole = fixture_byte_level_json();
    size_t bytes = strlen(whole);
    for (size_t length = 0; length < bytes; length += 97) {
        struct tokenizer *t = NULL;
        struct error err = {0};
        assert_status(STATUS_MALFORMED, fixture_open(strndup(whole, length), NULL, &t, &err));
    }
    free(whole);
}

static void test_a_length_above_64_bits_is_no_limit(void **state) {
    (void)state;
    struct tokenizer *t = NULL;
    struct error err = {0};
    assert_ok(fixture_open(fixture_sentencepiece_json(),
                           "{\"model_max_length\": 1000000000000000019884624838656}", &t, &err),
              &err);
    assert_encodes(t, "a bc", 0, PIECE_SPACE_A, PIECE_SPACE, PIECE_BC);
    tokenizer_close(t);
    const char *directory = testkit_case_path("01_bigint_model_max_length");
    if (directory != NULL) {
        assert_ok(tokenizer_open(directory, &t, &err), &err);
        tokenizer_close(t);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_length_above_64_bits_is_no_limit),
        cmocka_unit_test(test_byte_level_merges_inside_words),
        cmocka_unit_test(test_sentencepiece_prefixes_and_falls_back_to_bytes),
        cmocka_unit_test(test_unknown_characters_fuse_only_when_asked),
        cmocka_unit_test(test_removed_split_drops_borders),
        cmocka_unit_test(test_continuation_takes_no_prefix),
        cmocka_unit_test(test_metaspace_prefixes_the_first_part_only),
        cmocka_unit_test(test_prepend_prefixes_every_part),
        cmocka_unit_test(test_special_text_is_ordinary_unless_parsed),
        cmocka_unit_test(test_merges_never_spell_a_special_token),
        cmocka_unit_test(test_whole_words_never_spell_a_special_token),
        cmocka_unit_test(test_segments_join_words_but_not_special_tokens),
        cmocka_unit_test(test_added_token_flags),
        cmocka_unit_test(test_canonical_composition_orders_a_long_run_of_marks),
        cmocka_unit_test(test_invalid_utf8_is_refused_with_its_offset),
        cmocka_unit_test(test_too_little_room_tells_the_need),
        cmocka_unit_test(test_text_above_the_limit_is_refused),
        cmocka_unit_test(test_decoding_hides_special_tokens_and_repairs_bytes),
        cmocka_unit_test(test_special_ids_by_spelling_configuration_and_template),
        cmocka_unit_test(test_llama_tokenizer_over_a_file_that_says_byte_level_is_the_file),
        cmocka_unit_test(test_frame_is_that_of_tokenizer_json_or_none),
        cmocka_unit_test(test_tokens_of_the_class_are_added_before_further_ones),
        cmocka_unit_test(test_flags_of_a_listed_token_stay_when_it_is_named),
        cmocka_unit_test(test_fingerprint_tells_tokenizers_apart),
        cmocka_unit_test(test_threads_share_one_tokenizer),
        cmocka_unit_test(test_bad_file_is_refused_and_its_field_named),
        cmocka_unit_test(test_bad_configuration_is_refused_and_its_field_named),
        cmocka_unit_test(test_tidying_of_decoded_text_is_refused_where_it_would_count),
        cmocka_unit_test(test_values_of_the_wrong_kind_are_refused_by_name),
        cmocka_unit_test(test_options_of_the_wrong_kind_are_refused_by_name),
        cmocka_unit_test(test_truncation_and_padding_of_the_file_change_nothing),
        cmocka_unit_test(test_rank_file_merges_by_the_rank_of_the_join),
        cmocka_unit_test(test_ranks_are_read_where_the_configuration_says_whose_they_are),
        cmocka_unit_test(test_piece_that_is_spelled_as_an_end_token_is_text),
        cmocka_unit_test(test_bad_rank_file_is_refused_by_line),
        cmocka_unit_test(test_tekken_file_merges_by_rank_behind_its_special_tokens),
        cmocka_unit_test(test_bad_tekken_file_is_refused_and_its_field_named),
        cmocka_unit_test(test_vocabulary_and_merges_need_each_other),
        cmocka_unit_test(test_empty_directory_has_no_tokenizer),
        cmocka_unit_test(test_cut_file_is_malformed_at_every_length),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
