// The GGUF reader on files that are right and on files that lie.
#include "worker/model/gguf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/rng.h"
#include "tests/model/gguf_builder.h"
#include "tests/support/testkit.h"

static const char *const tokens[] = {"a", "bc", ""};
static const int32_t kinds[] = {1, -3, 6};

enum { N_VALUES = 6, N_TENSORS = 3, KEYS_BEGIN = 24 };

// A file with a value of every shape and three tensors; *infos is where the tensor infos begin.
static struct gguf_builder small_file(size_t *infos) {
    struct gguf_builder file = {0};
    gguf_put_header(&file, 3, N_TENSORS, N_VALUES);
    gguf_put_text(&file, "general.architecture", "llama");
    gguf_put_number(&file, "llama.block_count", 30);
    gguf_put_real(&file, "llama.rope.freq_base", 1e5f);
    gguf_put_bool(&file, "tokenizer.ggml.add_bos_token", 1);
    gguf_put_texts(&file, "tokenizer.ggml.tokens", tokens, 3);
    gguf_put_numbers(&file, "tokenizer.ggml.token_type", kinds, 3);
    *infos = file.size;
    gguf_put_tensor(&file, "b", 32, 2, 3, 64); // Q4_1: 40 bytes
    gguf_put_tensor(&file, "a", 4, 0, 0, 0);   // F32: 16 bytes
    gguf_put_tensor(&file, "c", 3, 5, 1, 128); // F16: 30 bytes
    gguf_put_padding(&file, 32);
    for (int i = 0; i < 128 + 30; i++) {
        unsigned char byte = (unsigned char)i;
        gguf_put(&file, &byte, 1);
    }
    return file;
}

static void test_values_and_tensors_are_found(void **state) {
    (void)state;
    size_t infos;
    struct gguf_builder file = small_file(&infos);
    struct gguf *gguf;
    struct error err;
    assert_ok(gguf_parse(file.bytes, file.size, &gguf, &err), &err);
    int64_t number;
    double real;
    assert_true(gguf_integer(gguf_find(gguf, "llama.block_count"), 0, &number));
    assert_int_equal(number, 30);
    assert_true(gguf_integer(gguf_find(gguf, "tokenizer.ggml.token_type"), 1, &number));
    assert_int_equal(number, -3);
    assert_true(gguf_real(gguf_find(gguf, "llama.rope.freq_base"), 0, &real));
    assert_true(real == 1e5);
    assert_false(gguf_real(gguf_find(gguf, "llama.block_count"), 0, &real));
    assert_false(gguf_integer(gguf_find(gguf, "llama.rope.freq_base"), 0, &number));
    assert_null(gguf_find(gguf, "llama.block"));
    const struct gguf_value *list = gguf_find(gguf, "tokenizer.ggml.tokens");
    const unsigned char *at = list->data;
    struct gguf_string text;
    for (size_t i = 0; i < 3; i++) {
        assert_true(gguf_next_string(list, &at, &text));
        assert_int_equal(text.count, strlen(tokens[i]));
        assert_memory_equal(text.bytes, tokens[i], text.count);
    }
    assert_false(gguf_next_string(list, &at, &text));
    const struct gguf_tensor *tensor = gguf_find_tensor(gguf, "b");
    assert_string_equal(tensor->type->name, "Q4_1");
    assert_int_equal(tensor->extents[0], 32);
    assert_int_equal(tensor->extents[1], 2);
    assert_int_equal(tensor->bytes, 40);
    assert_int_equal(*(const unsigned char *)tensor->data, 64);
    assert_string_equal(gguf_tensor_at(gguf, 0)->name, "a");
    assert_int_equal(gguf_tensor_count(gguf), 3);
    gguf_close(gguf);
    gguf_builder_finish(&file);
}

static enum status parse(const void *bytes, size_t size, struct error *err) {
    // Exactly as many bytes as the reader may touch, so that the sanitizer sees one more.
    void *copy = malloc(size > 0 ? size : 1);
    memcpy(copy, bytes, size);
    struct gguf *gguf = NULL;
    enum status status = gguf_parse(copy, size, &gguf, err);
    if (status == STATUS_OK) {
        gguf_close(gguf);
    }
    free(copy);
    return status;
}

static void test_a_file_cut_anywhere_is_malformed(void **state) {
    (void)state;
    size_t infos;
    struct gguf_builder file = small_file(&infos);
    for (size_t size = 0; size < file.size; size++) {
        struct error err = {0};
        assert_status(STATUS_MALFORMED, parse(file.bytes, size, &err));
        assert_string_not_equal(err.field, "");
    }
    gguf_builder_finish(&file);
}

// A lie of `count` bytes at `at` and what it must give.
struct lie {
    const char *what;
    size_t at;
    uint64_t value;
    size_t count;
    enum status status;
    const char *field;
};

static size_t place_of(const struct gguf_builder *file, const char *text) {
    const unsigned char *found = memmem(file->bytes, file->size, text, strlen(text));
    assert_non_null(found);
    return (size_t)(found - file->bytes);
}

static void expect_lie(const struct gguf_builder *file, const struct lie *lie) {
    unsigned char *copy = malloc(file->size);
    memcpy(copy, file->bytes, file->size);
    for (size_t i = 0; i < lie->count; i++) {
        copy[lie->at + i] = (unsigned char)(lie->value >> 8 * i);
    }
    struct error err = {0};
    enum status status = parse(copy, file->size, &err);
    if (status != lie->status || strcmp(err.field, lie->field) != 0) {
        fail_msg("%s: %s in \"%s\" (%s)", lie->what, status_name(status), err.field, err.message);
    }
    free(copy);
}

static void test_a_lie_is_told_by_field(void **state) {
    (void)state;
    size_t infos;
    struct gguf_builder file = small_file(&infos);
    // After a key come its type (4 bytes), for arrays the item type (4) and the length (8).
    size_t architecture = place_of(&file, "general.architecture") + 20;
    size_t add_bos = place_of(&file, "tokenizer.ggml.add_bos_token") + 28;
    size_t list = place_of(&file, "tokenizer.ggml.tokens") + 21;
    size_t types = place_of(&file, "tokenizer.ggml.token_type") + 25;
    // Infos of "b", 2 dimensions, 41 bytes, "a", 1 dimension, 33, and "c".
    size_t b = infos, a = infos + 41, c = a + 33;
    const struct lie lies[] = {
        {"no magic", 0, 'X', 1, STATUS_MALFORMED, "magic"},
        {"version 1", 4, 1, 4, STATUS_VERSION, "version"},
        {"version 4", 4, 4, 4, STATUS_VERSION, "version"},
        {"version 0", 4, 0, 4, STATUS_VERSION, "version"},
        {"big-endian", 4, 0x03000000, 4, STATUS_UNSUPPORTED, "version"},
        {"tensors above the limit", 8, GGUF_TENSORS_MAX + 1, 8, STATUS_LIMIT, "tensor_count"},
        {"all tensors", 8, UINT64_MAX, 8, STATUS_LIMIT, "tensor_count"},
        {"tensors above the file", 8, 60000, 8, STATUS_MALFORMED, "tensor_count"},
        {"keys above the limit", 16, GGUF_KEYS_MAX + 1, 8, STATUS_LIMIT, "metadata_kv_count"},
        {"keys above the file", 16, 60000, 8, STATUS_MALFORMED, "metadata_kv_count"},
        {"key above the limit", KEYS_BEGIN, 257, 8, STATUS_LIMIT, "metadata[0]"},
        {"endless key", KEYS_BEGIN, UINT64_MAX, 8, STATUS_LIMIT, "metadata[0]"},
        {"empty key", KEYS_BEGIN, 0, 8, STATUS_MALFORMED, "metadata[0]"},
        {"zero in a key", KEYS_BEGIN + 9, 0, 1, STATUS_MALFORMED, "metadata[0]"},
        {"value type 13", architecture, 13, 4, STATUS_MALFORMED, "general.architecture"},
        {"string above the limit", architecture + 4, GGUF_STRING_BYTES_MAX + 1, 8, STATUS_LIMIT,
         "general.architecture"},
        {"string above the file", architecture + 4, 5000, 8, STATUS_MALFORMED,
         "general.architecture"},
        {"bool 2", add_bos + 4, 2, 1, STATUS_MALFORMED, "tokenizer.ggml.add_bos_token"},
        {"array of arrays", list + 4, GGUF_ARRAY, 4, STATUS_UNSUPPORTED, "tokenizer.ggml.tokens"},
        {"item type 13", list + 4, 13, 4, STATUS_MALFORMED, "tokenizer.ggml.tokens"},
        {"array above the limit", list + 8, GGUF_ARRAY_ITEMS_MAX + 1, 8, STATUS_LIMIT,
         "tokenizer.ggml.tokens"},
        {"strings above the file", list + 8, 1000000, 8, STATUS_LIMIT, "tokenizer.ggml.tokens"},
        {"numbers above the file", types + 8, 100000, 8, STATUS_MALFORMED,
         "tokenizer.ggml.token_type"},
        {"no dimension", b + 9, 0, 4, STATUS_LIMIT, "b"},
        {"5 dimensions", b + 9, 5, 4, STATUS_LIMIT, "b"},
        {"extent 0", b + 13, 0, 8, STATUS_LIMIT, "b"},
        {"extent -1", b + 13, UINT64_MAX, 8, STATUS_LIMIT, "b"},
        {"more values than 2^64", b + 21, (uint64_t)1 << 60, 8, STATUS_LIMIT, "b"},
        {"more bytes than 2^64", a + 13, INT64_MAX, 8, STATUS_LIMIT, "a"},
        {"a row that is no whole block", b + 13, 33, 8, STATUS_MALFORMED, "b"},
        {"tensor type 99", b + 29, 99, 4, STATUS_UNSUPPORTED, "b"},
        {"Q2_K", b + 29, 10, 4, STATUS_UNSUPPORTED, "b"},
        {"unaligned", b + 33, 65, 8, STATUS_MALFORMED, "b"},
        {"outside the file", b + 33, 1 << 20, 8, STATUS_MALFORMED, "b"},
        {"far outside", b + 33, UINT64_MAX - 31, 8, STATUS_MALFORMED, "b"},
        {"overlap", b + 33, 0, 8, STATUS_MALFORMED, "a"},
        {"overlap of the end", c + 33, 96, 8, STATUS_MALFORMED, "c"},
        {"too large", c + 21, 50, 8, STATUS_MALFORMED, "c"},
        {"the same name", a + 8, 'b', 1, STATUS_MALFORMED, "b"},
    };
    for (size_t i = 0; i < sizeof lies / sizeof lies[0]; i++) {
        expect_lie(&file, &lies[i]);
    }
    gguf_builder_finish(&file);
}

static void expect_header(const struct gguf_builder *file, enum status expected,
                          const char *field) {
    struct error err = {0};
    assert_status(expected, parse(file->bytes, file->size, &err));
    assert_string_equal(err.field, field);
}

static void test_repeated_keys_bad_alignment_and_parts_are_refused(void **state) {
    (void)state;
    struct gguf_builder twice = {0};
    gguf_put_header(&twice, 3, 0, 2);
    gguf_put_number(&twice, "x", 1);
    gguf_put_number(&twice, "x", 1);
    expect_header(&twice, STATUS_MALFORMED, "x");
    gguf_builder_finish(&twice);
    static const uint32_t alignments[] = {0, 1, 4, 24, 1u << 21, UINT32_MAX};
    for (size_t i = 0; i < sizeof alignments / sizeof alignments[0]; i++) {
        struct gguf_builder file = {0};
        gguf_put_header(&file, 3, 0, 1);
        gguf_put_number(&file, "general.alignment", alignments[i]);
        expect_header(&file, STATUS_LIMIT, "general.alignment");
        gguf_builder_finish(&file);
    }
    struct gguf_builder text = {0};
    gguf_put_header(&text, 3, 0, 1);
    gguf_put_text(&text, "general.alignment", "32");
    expect_header(&text, STATUS_MALFORMED, "general.alignment");
    gguf_builder_finish(&text);
    struct gguf_builder part = {0};
    gguf_put_header(&part, 3, 0, 1);
    gguf_put_number(&part, "split.count", 2);
    expect_header(&part, STATUS_UNSUPPORTED, "split.count");
    gguf_builder_finish(&part);
}

static void test_the_file_and_the_field_are_named(void **state) {
    (void)state;
    char *directory = testkit_make_directory();
    char path[4200];
    snprintf(path, sizeof path, "%s/m.gguf", directory);
    struct gguf *gguf = NULL;
    struct error err;
    assert_status(STATUS_NOT_FOUND, gguf_open(path, &gguf, &err));
    assert_string_equal(err.field, "");
    testkit_write_file(path, "", 0);
    assert_status(STATUS_MALFORMED, gguf_open(path, &gguf, &err));
    testkit_write_file(path, "GGUF\1\0\0\0\0\0\0\0", 12);
    assert_status(STATUS_VERSION, gguf_open(path, &gguf, &err));
    assert_string_equal(err.field, "version");
    assert_status(STATUS_IO, gguf_open(directory, &gguf, &err));
    testkit_remove_tree(directory);
}

static void test_blocks_have_the_values_of_the_reference(void **state) {
    (void)state;
    size_t size;
    char *bytes = testkit_read_file(testkit_source_path("tests/vectors/gguf/blocks.bin"), &size);
    size_t at = 0;
    int n_types = 0;
    for (; at < size; n_types++) {
        uint32_t head[3]; // type, blocks, values
        memcpy(head, bytes + at, sizeof head);
        at += sizeof head;
        const struct gguf_block_type *type = gguf_block_type_find(head[0]);
        assert_non_null(type);
        assert_int_equal(head[2], head[1] * (uint32_t)type->values);
        const char *expected = bytes + at + (size_t)head[1] * (size_t)type->bytes;
        for (uint32_t i = 0; i < head[1] && type->widen != NULL; i++) {
            float values[GGUF_BLOCK_VALUES_MAX];
            type->widen((const unsigned char *)bytes + at + i * (size_t)type->bytes, values);
            size_t n = (size_t)type->values * sizeof(float);
            assert_memory_equal(values, expected + i * n, n);
        }
        at = (size_t)(expected - bytes) + (size_t)head[2] * sizeof(float);
    }
    assert_int_equal(n_types, 11);
    free(bytes);
}

// Q4_0 as Q4_1: every scale there is, with every value.
static void test_four_bits_without_a_minimum_get_one(void **state) {
    (void)state;
    const struct gguf_block_type *from = gguf_block_type_find(2), *to = gguf_block_type_find(3);
    unsigned char block[18] = {0}, rewritten[20];
    for (int i = 0; i < 16; i++) {
        block[2 + i] = (unsigned char)(i | (15 - i) << 4);
    }
    for (int scale = 0; scale < 1 << 16; scale++) {
        block[0] = (unsigned char)(scale & 255);
        block[1] = (unsigned char)(scale >> 8);
        bool small = (scale >> 10 & 31) < 13 + 15; // below 2^13
        assert_int_equal(from->to_q4_1(block, rewritten), small);
        if (small) {
            float expected[32], got[32];
            from->widen(block, expected);
            to->widen(rewritten, got);
            for (int i = 0; i < 32; i++) {
                assert_true(expected[i] == got[i]);
            }
        }
    }
}

static void draw(uint32_t round, uint32_t stream, uint32_t out[4]) {
    const uint32_t counter[4] = {round, stream, 0, 0}, key[2] = {8, 0};
    rng_philox4x32(counter, key, out);
}

// Seeded, so that a failure comes again: bytes of the small file are changed, moved and cut.
static void test_mutated_files_are_read_or_refused(void **state) {
    (void)state;
    size_t infos;
    struct gguf_builder file = small_file(&infos);
    unsigned char *copy = malloc(file.size);
    for (uint32_t round = 0; round < 20000; round++) {
        uint32_t drawn[4];
        draw(round, 0, drawn);
        memcpy(copy, file.bytes, file.size);
        size_t size = drawn[0] % 8 == 0 ? drawn[1] % file.size : file.size;
        for (uint32_t i = 0; i <= drawn[0] % 3; i++) {
            uint32_t more[4];
            draw(round, 1 + i, more);
            static const unsigned char edges[] = {0, 1, 0x7f, 0x80, 0xff};
            copy[more[0] % file.size] =
                more[1] % 2 == 0 ? edges[more[2] % sizeof edges] : (unsigned char)more[2];
        }
        struct error err = {0};
        enum status status = parse(copy, size, &err);
        assert_true(status == STATUS_OK || err.message[0] != '\0');
    }
    free(copy);
    gguf_builder_finish(&file);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values_and_tensors_are_found),
        cmocka_unit_test(test_a_file_cut_anywhere_is_malformed),
        cmocka_unit_test(test_a_lie_is_told_by_field),
        cmocka_unit_test(test_repeated_keys_bad_alignment_and_parts_are_refused),
        cmocka_unit_test(test_the_file_and_the_field_are_named),
        cmocka_unit_test(test_blocks_have_the_values_of_the_reference),
        cmocka_unit_test(test_four_bits_without_a_minimum_get_one),
        cmocka_unit_test(test_mutated_files_are_read_or_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
