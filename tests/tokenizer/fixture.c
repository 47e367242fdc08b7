#include "tests/tokenizer/fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/tokenizer/utf8.h"
#include "worker/tokenizer/vocabulary.h"

static void put_piece(FILE *out, const char *piece, int id) {
    fprintf(out, "%s\"%s\":%d", id == 0 ? "" : ",", piece, id);
}

// Writes the array of added tokens: n of them from id `first` on, the last one special or not.
static void put_added(FILE *out, const char *const *contents, int n, int first, bool last_special) {
    fputs("\"added_tokens\":[", out);
    for (int i = 0; i < n; i++) {
        fprintf(out,
                "%s{\"id\":%d,\"content\":\"%s\",\"special\":%s,\"normalized\":false,"
                "\"lstrip\":false,\"rstrip\":false,\"single_word\":false}",
                i == 0 ? "" : ",", first + i, contents[i],
                i < n - 1 || last_special ? "true" : "false");
    }
    fputs("],", out);
}

char *fixture_byte_level_json(void) {
    static const char *const added[] = {"<|im_start|>",      "<|im_end|>", "<|start_header_id|>",
                                        "<|end_header_id|>", "<|eot_id|>", "<|begin_of_text|>",
                                        "<|end_of_text|>",   "TOOL"};
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    assert_non_null(out);
    fputs("{\"model\":{\"type\":\"BPE\",\"vocab\":{", out);
    for (unsigned byte = 0; byte < 256; byte++) {
        char character[5] = {0};
        utf8_encode(byte_level_character((uint8_t)byte), character);
        put_piece(out, byte == '"' ? "\\\"" : byte == '\\' ? "\\\\" : character, (int)byte);
    }
    put_piece(out, "he", BYTE_HE);
    put_piece(out, "ll", BYTE_LL);
    put_piece(out, "hell", BYTE_HELL);
    put_piece(out, "hello", BYTE_HELLO);
    put_piece(out, "\u0120w", BYTE_SPACE_W);
    fputs("},\"merges\":[\"h e\",\"l l\",[\"he\",\"ll\"],\"hell o\",\"\u0120 w\"]},", out);
    put_added(out, added, 8, BYTE_IM_START, false);
    fputs("\"normalizer\":null,\"pre_tokenizer\":{\"type\":\"ByteLevel\","
          "\"add_prefix_space\":false,\"use_regex\":true},\"decoder\":{\"type\":\"ByteLevel\"},"
          "\"post_processor\":null}",
          out);
    fclose(out);
    return text;
}

char *fixture_sentencepiece_json(void) {
    static const char *const added[] = {"<unk>", "<s>", "</s>"};
    static const char *const pieces[] = {"\u2581", "a", "b", "c", "\u2581a",
                                         "bc",     "<", "s", ">", "<s"};
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    assert_non_null(out);
    fputs("{\"model\":{\"type\":\"BPE\",\"unk_token\":\"<unk>\",\"fuse_unk\":true,"
          "\"byte_fallback\":true,\"vocab\":{",
          out);
    put_piece(out, "<unk>", PIECE_UNK);
    put_piece(out, "<s>", PIECE_BOS);
    put_piece(out, "</s>", PIECE_EOS);
    for (int byte = 0; byte < 256; byte++) {
        char piece[8];
        snprintf(piece, sizeof piece, "<0x%02X>", (unsigned)byte);
        put_piece(out, piece, PIECE_BYTES + byte);
    }
    for (int i = 0; i < PIECE_COUNT - PIECE_SPACE; i++) {
        put_piece(out, pieces[i], PIECE_SPACE + i);
    }
    fputs("},\"merges\":[\"b c\",\"\u2581 a\",\"< s\",\"<s >\"]},", out);
    put_added(out, added, 3, PIECE_UNK, true);
    fputs("\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":["
          "{\"type\":\"Prepend\",\"prepend\":\"\u2581\"},"
          "{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"\u2581\"}]},"
          "\"pre_tokenizer\":null,\"decoder\":{\"type\":\"Sequence\",\"decoders\":["
          "{\"type\":\"Replace\",\"pattern\":{\"String\":\"\u2581\"},\"content\":\" \"},"
          "{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"},"
          "{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}]},"
          "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":["
          "{\"SpecialToken\":{\"id\":\"<s>\",\"type_id\":0}},"
          "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}],\"special_tokens\":"
          "{\"<s>\":{\"id\":\"<s>\",\"ids\":[1],\"tokens\":[\"<s>\"]}}}}",
          out);
    fclose(out);
    return text;
}

char *fixture_replace(char *text, const char *from, const char *to) {
    char *found = strstr(text, from);
    if (found == NULL) {
        fail_msg("the fixture has no %s", from);
    }
    char *result = malloc(strlen(text) + strlen(to) + 1);
    assert_non_null(result);
    sprintf(result, "%.*s%s%s", (int)(found - text), text, to, found + strlen(from));
    free(text);
    return result;
}

enum status fixture_open_files(const struct fixture_file *files, size_t n,
                               struct tokenizer **tokenizer, struct error *err) {
    char *directory = testkit_make_directory();
    for (size_t i = 0; i < n; i++) {
        char path[4200];
        snprintf(path, sizeof path, "%s/%s", directory, files[i].name);
        if (files[i].text != NULL) {
            testkit_write_file(path, files[i].text, strlen(files[i].text));
        }
    }
    enum status status = tokenizer_open(directory, tokenizer, err);
    testkit_remove_tree(directory);
    return status;
}

enum status fixture_open(char *tokenizer_json, const char *tokenizer_config,
                         struct tokenizer **tokenizer, struct error *err) {
    const struct fixture_file files[] = {{"tokenizer.json", tokenizer_json},
                                         {"tokenizer_config.json", tokenizer_config}};
    enum status status = fixture_open_files(files, 2, tokenizer, err);
    free(tokenizer_json);
    return status;
}

static struct tokenizer *open_or_fail(char *tokenizer_json) {
    struct tokenizer *tokenizer = NULL;
    struct error err = {0};
    assert_ok(fixture_open(tokenizer_json, NULL, &tokenizer, &err), &err);
    return tokenizer;
}

struct tokenizer *fixture_byte_level(void) {
    return open_or_fail(fixture_byte_level_json());
}

struct tokenizer *fixture_sentencepiece(void) {
    return open_or_fail(fixture_sentencepiece_json());
}

void fixture_assert_ids(const int32_t *ids, size_t count, const int32_t *expected, const char *file,
                        int line) {
    size_t i = 0;
    while (i < count && expected[i] == ids[i]) {
        i++;
    }
    if (i == count && expected[i] == -1) {
        return;
    }
    print_error("ids differ at %zu; got:", i);
    for (size_t j = 0; j < count; j++) {
        print_error(" %d", ids[j]);
    }
    print_error("\nexpected:");
    for (size_t j = 0; expected[j] != -1; j++) {
        print_error(" %d", expected[j]);
    }
    print_error("\n");
    _fail(file, line);
}

void fixture_assert_encodes(const struct tokenizer *tokenizer, const char *text, unsigned flags,
                            const int32_t *expected, const char *file, int line) {
    int32_t ids[4096];
    size_t count;
    struct error err = {0};
    assert_ok(tokenizer_encode(tokenizer, text, strlen(text), flags, ids, 4096, &count, &err),
              &err);
    fixture_assert_ids(ids, count, expected, file, line);
}
