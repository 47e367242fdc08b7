// The reader of weight files: what it hands out, and that every way in which a file can lie about
// itself is refused by name.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/model/model_files.h"
#include "tests/support/testkit.h"
#include "worker/model/safetensors.h"

static const char single[] = "model.safetensors";

static enum status open_directory(const char *directory, struct error *err) {
    struct safetensors *weights = NULL;
    *err = (struct error){0};
    enum status status = safetensors_open(directory, &weights, err);
    safetensors_close(weights);
    return status;
}

static void test_hands_out_tensors_by_name(void **state) {
    (void)state;
    char *directory = testkit_make_directory();
    struct safetensors *weights = NULL;
    struct error err = {0};
    static const char header[] =
        "{\"__metadata__\":{\"a\":\"b\"},\"m\":{\"dtype\":\"F32\",\"shape\":[2,3],"
        "\"data_offsets\":[0,24]},\"empty\":{\"dtype\":\"I8\",\"shape\":[0],\"data_offsets\":[24,"
        "24]},"
        "\"one\":{\"dtype\":\"BF16\",\"shape\":[],\"data_offsets\":[24,26]}}";
    model_files_write_raw(directory, single, strlen(header), header, 26);
    assert_ok(safetensors_open(directory, &weights, &err), &err);
    assert_int_equal(safetensors_count(weights), 3);
    const struct safetensors_tensor *tensor = safetensors_find(weights, "m");
    assert_non_null(tensor);
    assert_string_equal(tensor->dtype, "F32");
    assert_int_equal(tensor->n_dims, 2);
    assert_int_equal(tensor->shape[0], 2);
    assert_int_equal(tensor->shape[1], 3);
    assert_int_equal(tensor->bytes, 24);
    assert_int_equal(safetensors_find(weights, "one")->bytes, 2);
    assert_int_equal(safetensors_find(weights, "empty")->bytes, 0);
    assert_null(safetensors_find(weights, "__metadata__"));
    assert_null(safetensors_find(weights, "n"));
    size_t size;
    assert_int_equal(safetensors_file_count(weights), 1);
    assert_non_null(safetensors_file_bytes(weights, 0, &size));
    assert_int_equal(size, 8 + strlen(header) + 26);
    safetensors_close(weights);
    testkit_remove_tree(directory);
}

static void test_shards_hold_the_same_tensors_as_one_file(void **state) {
    (void)state;
    char *whole = model_files_make(&small_llama, 1, -1);
    char *sharded = model_files_make(&small_llama, 3, -1);
    struct safetensors *a = NULL, *b = NULL;
    struct error err = {0};
    assert_ok(safetensors_open(whole, &a, &err), &err);
    assert_ok(safetensors_open(sharded, &b, &err), &err);
    assert_int_equal(safetensors_count(a), safetensors_count(b));
    assert_int_equal(safetensors_file_count(b), 3);
    static const char *const names[] = {"model.norm.weight", "lm_head.weight",
                                        "model.layers.1.mlp.up_proj.weight"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const struct safetensors_tensor *left = safetensors_find(a, names[i]);
        const struct safetensors_tensor *right = safetensors_find(b, names[i]);
        assert_int_equal(left->bytes, right->bytes);
        assert_memory_equal(left->data, right->data, left->bytes);
    }
    safetensors_close(a);
    safetensors_close(b);
    testkit_remove_tree(whole);
    testkit_remove_tree(sharded);
}

static void test_unaligned_tensors_are_copied_to_alignment(void **state) {
    (void)state;
    char *directory = testkit_make_directory();
    static const char header[] = "{\"m\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}";
    for (size_t spaces = 0; spaces < 8; spaces++) {
        char padded[128];
        size_t length = (size_t)snprintf(padded, sizeof padded, "%s%*s", header, (int)spaces, "");
        model_files_write_raw(directory, single, length, padded, 8);
        struct safetensors *weights = NULL;
        struct error err = {0};
        assert_ok(safetensors_open(directory, &weights, &err), &err);
        const struct safetensors_tensor *tensor = safetensors_find(weights, "m");
        assert_int_equal((uintptr_t)tensor->data % 4, 0);
        assert_true(((const float *)tensor->data)[1] == 0);
        safetensors_close(weights);
    }
    testkit_remove_tree(directory);
}

static void test_refuses_headers_that_cannot_be(void **state) {
    (void)state;
    char *directory = testkit_make_directory();
    char path[4200];
    snprintf(path, sizeof path, "%s/%s", directory, single);
    struct error err;
    assert_status(STATUS_NOT_FOUND, open_directory(directory, &err));
    assert_string_equal(err.field, single);
    static const struct {
        uint64_t length;
        const char *header;
        enum status status;
    } cases[] = {
        {UINT64_MAX, "{}", STATUS_LIMIT},
        {UINT64_C(1) << 63, "{}", STATUS_LIMIT},
        {SAFETENSORS_HEADER_BYTES_MAX + 1, "{}", STATUS_LIMIT},
        {SAFETENSORS_HEADER_BYTES_MAX, "{}", STATUS_MALFORMED},
        {3, "{}", STATUS_MALFORMED},
        {0, "{}", STATUS_MALFORMED},
        {2, "[]", STATUS_MALFORMED},
        {1, "{}", STATUS_MALFORMED},
        {8, "{\"a\": \xff}", STATUS_MALFORMED},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        model_files_write_raw(directory, single, cases[i].length, cases[i].header, 0);
        assert_status(cases[i].status, open_directory(directory, &err));
        assert_string_equal(err.field, single);
    }
    testkit_write_file(path, "1234567", 7);
    assert_status(STATUS_MALFORMED, open_directory(directory, &err));
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_status(STATUS_IO, open_directory(directory, &err));
    testkit_remove_tree(directory);
}

static void test_refuses_tensors_that_contradict_themselves(void **state) {
    (void)state;
    static const struct {
        const char *entry; // of the tensor "t"; 64 data bytes
        enum status status;
    } cases[] = {
        {"{\"dtype\":\"F32\",\"shape\":[4,4],\"data_offsets\":[0,64]}", STATUS_OK},
        {"7", STATUS_MALFORMED},
        {"{}", STATUS_MALFORMED},
        {"{\"dtype\":4,\"shape\":[16],\"data_offsets\":[0,64]}", STATUS_MALFORMED},
        {"{\"dtype\":\"F31\",\"shape\":[16],\"data_offsets\":[0,64]}", STATUS_UNSUPPORTED},
        {"{\"dtype\":\"F32\",\"data_offsets\":[0,64]}", STATUS_MALFORMED},
        {"{\"dtype\":\"F32\",\"shape\":16,\"data_offsets\":[0,64]}", STATUS_MALFORMED},
        {"{\"dtype\":\"F32\",\"shape\":[-16],\"data_offsets\":[0,64]}", STATUS_MALFORMED},
        {"{\"dtype\":\"F32\",\"shape\":[16.0],\"data_offsets\":[0,64]}", STATUS_MALFORMED},
        {"{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,16],\"data_offsets\":[0,64]}",
         STATUS_MALFORMED},
        {"{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,64]}",
         STATUS_LIMIT},
        // 2^62 elements of 4 bytes are 2^64 bytes: 0 when the product wraps.
        {"{\"dtype\":\"F32\",\"shape\":[4611686018427387904],\"data_offsets\":[0,0]}",
         STATUS_LIMIT},
        {"{\"dtype\":\"F32\",\"shape\":[16]}", STATUS_MALFORMED},
        {"{\"dtype\":\"F32\",\"shape\":[16],\"data_offsets\":[0,64,128]}", STATUS_MALFORMED},
        {"{\"dtype\":\"F32\",\"shape\":[16],\"data_offsets\":[\"0\",64]}", STATUS_MALFORMED},
        {"{\"dtype\":\"F32\",\"shape\":[16],\"data_offsets\":[-64,0]}", STATUS_MALFORMED},
        {"{\"dtype\":\"F32\",\"shape\":[16],\"data_offsets\":[64,0]}", STATUS_MALFORMED},
        {"{\"dtype\":\"F32\",\"shape\":[16],\"data_offsets\":[4,68]}", STATUS_MALFORMED},
        {"{\"dtype\":\"F32\",\"shape\":[16],\"data_offsets\":[0,9223372036854775807]}",
         STATUS_MALFORMED},
        {"{\"dtype\":\"F32\",\"shape\":[15],\"data_offsets\":[0,64]}", STATUS_MALFORMED},
        {"{\"dtype\":\"F16\",\"shape\":[16],\"data_offsets\":[0,64]}", STATUS_MALFORMED},
    };
    char *directory = testkit_make_directory();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char header[256];
        struct error err;
        snprintf(header, sizeof header, "{\"t\":%s}", cases[i].entry);
        model_files_write_raw(directory, single, strlen(header), header, 64);
        enum status status = open_directory(directory, &err);
        if (status != cases[i].status || (status != STATUS_OK && strcmp(err.field, "t") != 0)) {
            fail_msg("%s: got %s at %s", cases[i].entry, status_name(status), err.field);
        }
    }
    testkit_remove_tree(directory);
}

// Of 16 bytes.
static void test_refuses_overlap_gaps_and_repetition(void **state) {
    (void)state;
    static const struct {
        const char *header;
        enum status status;
        const char *field;
    } cases[] = {
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[8],\"data_offsets\":[0,8]},"
         "\"b\":{\"dtype\":\"U8\",\"shape\":[8],\"data_offsets\":[7,15]}}",
         STATUS_MALFORMED, "b"},
        {"{\"b\":{\"dtype\":\"U8\",\"shape\":[16],\"data_offsets\":[0,16]},"
         "\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[4,8]}}",
         STATUS_MALFORMED, "a"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[8],\"data_offsets\":[0,8]},"
         "\"a\":{\"dtype\":\"U8\",\"shape\":[8],\"data_offsets\":[8,16]}}",
         STATUS_MALFORMED, single},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[12,16]},"
         "\"b\":{\"dtype\":\"U8\",\"shape\":[8],\"data_offsets\":[0,8]}}",
         STATUS_MALFORMED, "a"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[12],\"data_offsets\":[4,16]}}", STATUS_MALFORMED,
         "a"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[12],\"data_offsets\":[0,12]}}", STATUS_MALFORMED,
         single},
        {"{}", STATUS_MALFORMED, single},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[16],\"data_offsets\":[0,16]},"
         "\"c\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[4,4]}}",
         STATUS_MALFORMED, "c"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[12],\"data_offsets\":[4,16]},"
         "\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
         "\"c\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[4,4]}}",
         STATUS_OK, ""},
    };
    char *directory = testkit_make_directory();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct error err = {0};
        model_files_write_raw(directory, single, strlen(cases[i].header), cases[i].header, 16);
        enum status status = open_directory(directory, &err);
        if (status != cases[i].status || strcmp(err.field, cases[i].field) != 0) {
            fail_msg("%s: got %s at %s", cases[i].header, status_name(status), err.field);
        }
    }
    testkit_remove_tree(directory);
}

static void test_refuses_an_index_that_does_not_hold(void **state) {
    (void)state;
    static const char index[] = "model.safetensors.index.json";
    static const struct {
        const char *change;
        enum status status;
        const char *field;
    } cases[] = {
        {"{}", STATUS_OK, ""},
        {"{\"weight_map\": null}", STATUS_MALFORMED, "weight_map"},
        {"{\"weight_map\": 3}", STATUS_MALFORMED, "weight_map"},
        {"{\"weight_map\": {\"x\": \"../model.safetensors\"}}", STATUS_MALFORMED, "x"},
        {"{\"weight_map\": {\"x\": \"/etc/passwd\"}}", STATUS_MALFORMED, "x"},
        {"{\"weight_map\": {\"x\": \"..\"}}", STATUS_MALFORMED, "x"},
        {"{\"weight_map\": {\"x\": \"\"}}", STATUS_MALFORMED, "x"},
        {"{\"weight_map\": {\"x\": 1}}", STATUS_MALFORMED, "x"},
        {"{\"weight_map\": {\"x\": \"absent.safetensors\"}}", STATUS_NOT_FOUND,
         "absent.safetensors"},
        {"{\"weight_map\": {\"x\": \"model-00001-of-00002.safetensors\"}}", STATUS_NOT_FOUND, "x"},
        {"{\"weight_map\": {\"lm_head.weight\": \"model-00001-of-00002.safetensors\","
         " \"model.embed_tokens.weight\": \"model-00002-of-00002.safetensors\"}}",
         STATUS_NOT_FOUND, NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *directory = model_files_make(&small_llama, 2, -1);
        struct error err;
        model_files_change_json(directory, index, cases[i].change);
        enum status status = open_directory(directory, &err);
        if (status != cases[i].status ||
            (cases[i].field != NULL && strcmp(err.field, cases[i].field) != 0)) {
            fail_msg("%s: got %s at %s", cases[i].change, status_name(status), err.field);
        }
        testkit_remove_tree(directory);
    }
}

static void test_refuses_a_tensor_in_two_shards(void **state) {
    (void)state;
    char *directory = model_files_make(&small_llama, 2, -1);
    struct error err;
    for (int shard = 1; shard <= 2; shard++) {
        char name[64];
        snprintf(name, sizeof name, "model-%05d-of-00002.safetensors", shard);
        model_files_change_header(directory, name,
                                  "{\"twice\": {\"dtype\": \"F32\", \"shape\": [0],"
                                  " \"data_offsets\": [0, 0]}}");
    }
    assert_status(STATUS_MALFORMED, open_directory(directory, &err));
    assert_string_equal(err.field, "twice");
    testkit_remove_tree(directory);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hands_out_tensors_by_name),
        cmocka_unit_test(test_shards_hold_the_same_tensors_as_one_file),
        cmocka_unit_test(test_unaligned_tensors_are_copied_to_alignment),
        cmocka_unit_test(test_refuses_headers_that_cannot_be),
        cmocka_unit_test(test_refuses_tensors_that_contradict_themselves),
        cmocka_unit_test(test_refuses_overlap_gaps_and_repetition),
        cmocka_unit_test(test_refuses_an_index_that_does_not_hold),
        cmocka_unit_test(test_refuses_a_tensor_in_two_shards),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
