// Opening whole model directories: what a good one yields, how each broken one is refused, and that
// randomly damaged files are either opened or refused, never a crash.
#include "worker/model/model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/model/model_files.h"
#include "tests/support/testkit.h"
#include "worker/model/context.h"
#include "worker/model/finite.h"
#include "common/sha256.h"

static const char weights_name[] = "model.safetensors";

static int open_backend(void **state) {
    struct backend *backend = NULL;
    struct error err = {0};
    assert_ok(backend_create("cpu", 1, &backend, &err), &err);
    *state = backend;
    return 0;
}

static int close_backend(void **state) {
    backend_destroy(*state);
    return 0;
}

static enum status open_directory(const char *directory, struct backend *backend,
                                  struct error *err) {
    struct model *model = NULL;
    *err = (struct error){0};
    enum status status = model_open(directory, backend, PRECISION_STORED, &model, err);
    model_close(model);
    return status;
}

static void test_a_good_directory_yields_its_weights(void **state) {
    char *directory = model_files_make(&small_llama, 1, -1);
    struct model *model = NULL;
    struct error err = {0};
    assert_ok(model_open(directory, *state, PRECISION_STORED, &model, &err), &err);
    const struct model_weights *weights = model_get_weights(model);
    assert_string_equal(model_get_directory(model), directory);
    assert_ptr_equal(model_get_backend(model), *state);
    assert_int_equal(model_get_config(model)->n_layers, 2);
    assert_false(model_get_profile(model)->present);
    assert_int_equal(weights->embedding.rows, 40);
    assert_int_equal(weights->embedding.cols, 32);
    assert_int_equal(weights->layers[1].qkv.rows, 32 + 2 * 16);
    assert_int_equal(weights->layers[1].down.cols, 48);
    assert_true(weights->layers[1].gate_up.gated);
    assert_false(weights->layers[0].qkv.has_bias);
    assert_null(weights->score.data);
    // 2 matrices of the vocabulary, 2 layers, 5 norms.
    int64_t parameters = 2 * 40 * 32 + 2 * (2 * 32 * 32 + 2 * 16 * 32 + 3 * 48 * 32) + 5 * 32;
    assert_int_equal(model_parameter_count(model), parameters);
    assert_in_range(model_weight_bytes(model), 4 * parameters, 8 * parameters); // packing may pad
    model_close(model);
    testkit_remove_tree(directory);
}

static void test_vectors_are_f32_and_the_head_may_be_tied(void **state) {
    struct reference_shape shape = small_llama;
    shape.architecture = "Qwen2ForCausalLM";
    shape.dtype = REFERENCE_BF16;
    shape.qkv_bias = shape.tied = true;
    char *directory = model_files_make(&shape, 1, -1);
    struct model *model = NULL;
    struct error err = {0};
    assert_ok(model_open(directory, *state, PRECISION_STORED, &model, &err), &err);
    const struct model_weights *weights = model_get_weights(model);
    assert_int_equal(weights->embedding.dtype, DTYPE_BF16);
    assert_int_equal(weights->layers[0].qkv.dtype, DTYPE_BF16);
    assert_true(weights->layers[0].qkv.has_bias);
    assert_int_equal(weights->layers[1].ffn_norm.dtype, DTYPE_F32);
    assert_int_equal(weights->final_norm.dtype, DTYPE_F32);
    assert_int_equal(weights->lm_head.rows, weights->embedding.rows);
    model_close(model);
    testkit_remove_tree(directory);
}

static void get_hash(const char *directory, struct backend *backend, char hash[SHA256_HEX_BYTES]) {
    struct model *model = NULL;
    struct error err = {0};
    assert_ok(model_open(directory, backend, PRECISION_STORED, &model, &err), &err);
    memcpy(hash, model_get_hash(model), SHA256_HEX_BYTES);
    assert_int_equal(strlen(hash), 64);
    model_close(model);
}

static void test_the_hash_follows_every_file(void **state) {
    char *directory = model_files_make(&small_llama, 2, -1);
    char *twin = model_files_make(&small_llama, 2, -1);
    char first[SHA256_HEX_BYTES], second[SHA256_HEX_BYTES], path[4200];
    get_hash(directory, *state, first);
    get_hash(twin, *state, second);
    assert_string_equal(first, second);
    snprintf(path, sizeof path, "%s/model-00002-of-00002.safetensors", twin);
    size_t size;
    char *bytes = testkit_read_file(path, &size);
    bytes[size - 1] ^= 1;
    testkit_write_file(path, bytes, size);
    free(bytes);
    get_hash(twin, *state, second);
    assert_string_not_equal(first, second);
    model_files_change_json(directory, "config.json", "{\"rms_norm_eps\": 1e-6}");
    get_hash(directory, *state, second);
    assert_string_not_equal(first, second);
    testkit_remove_tree(directory);
    testkit_remove_tree(twin);
}

static void test_sha256_gives_the_published_answers(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int repeat;
        const char *hex;
    } cases[] = {
        {"", 1, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {"abc", 1, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
        {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 1,
         "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
        {"a", 1000000, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct sha256 native, portable;
        char hex[SHA256_HEX_BYTES];
        sha256_init(&native);
        sha256_init_portable(&portable);
        for (int k = 0; k < cases[i].repeat; k++) {
            sha256_update(&native, cases[i].text, strlen(cases[i].text));
            sha256_update(&portable, cases[i].text, strlen(cases[i].text));
        }
        sha256_finish_hex(&native, hex);
        assert_string_equal(hex, cases[i].hex);
        sha256_finish_hex(&portable, hex);
        assert_string_equal(hex, cases[i].hex);
    }
}

struct refusal {
    const char *change; // of the weight header
    enum status status;
    const char *field;
};

static void check_refusals(const struct reference_shape *shape, const struct refusal *cases,
                           size_t n_cases, struct backend *backend) {
    for (size_t i = 0; i < n_cases; i++) {
        char *directory = model_files_make(shape, 1, -1);
        struct error err;
        model_files_change_header(directory, weights_name, cases[i].change);
        enum status status = open_directory(directory, backend, &err);
        if (status != cases[i].status || strcmp(err.field, cases[i].field) != 0) {
            fail_msg("%s: got %s at %s: %s", cases[i].change, status_name(status), err.field,
                     err.message);
        }
        testkit_remove_tree(directory);
    }
}

static void test_refuses_tensors_that_do_not_fit_the_configuration(void **state) {
    static const struct refusal cases[] = {
        {"{\"model.norm.weight\": null}", STATUS_NOT_FOUND, "model.norm.weight"},
        {"{\"model.embed_tokens.weight\": null}", STATUS_NOT_FOUND, "model.embed_tokens.weight"},
        {"{\"lm_head.weight\": null}", STATUS_NOT_FOUND, "lm_head.weight"},
        {"{\"model.layers.1.mlp.up_proj.weight\": null}", STATUS_NOT_FOUND,
         "model.layers.1.mlp.up_proj.weight"},
        {"{\"model.layers.0.self_attn.k_proj.weight\": {\"shape\": [32, 16]}}", STATUS_SHAPE,
         "model.layers.0.self_attn.k_proj.weight"},
        {"{\"model.layers.0.mlp.down_proj.weight\": {\"shape\": [1536]}}", STATUS_SHAPE,
         "model.layers.0.mlp.down_proj.weight"},
        {"{\"model.norm.weight\": {\"shape\": [32, 1]}}", STATUS_SHAPE, "model.norm.weight"},
        {"{\"model.norm.weight\": {\"shape\": [2, 16]}}", STATUS_SHAPE, "model.norm.weight"},
        {"{\"model.norm.weight\": {\"dtype\": \"I32\"}}", STATUS_UNSUPPORTED, "model.norm.weight"},
        {"{\"lm_head.weight\": {\"dtype\": \"U32\"}}", STATUS_UNSUPPORTED, "lm_head.weight"},
        {"{\"lm_head.weight\": {\"dtype\": \"F16\"}}", STATUS_MALFORMED, "lm_head.weight"},
        {"{\"lm_head.weight\": {\"dtype\": \"F4\"}}", STATUS_UNSUPPORTED, "lm_head.weight"},
        {"{\"norm.weight\": {\"dtype\": \"F32\", \"shape\": [0], \"data_offsets\": [0, 0]}}",
         STATUS_MALFORMED, "model.norm.weight"},
    };
    check_refusals(&small_llama, cases, sizeof cases / sizeof cases[0], *state);
}

static void test_refuses_score_heads_that_do_not_fit(void **state) {
    struct reference_shape shape = small_llama;
    shape.architecture = "LlamaModelForScore";
    shape.score_type = "cost";
    shape.score_bias = shape.do_normalize = true;
    static const struct refusal cases[] = {
        {"{\"score_head.weight\": null}", STATUS_NOT_FOUND, "score_head.weight"},
        {"{\"score_head.weight\": {\"shape\": [2, 16]}}", STATUS_SHAPE, "score_head.weight"},
        {"{\"normalizer.var\": {\"shape\": [1, 1, 1]}}", STATUS_SHAPE, "normalizer.var"},
        {"{\"score_head.bias\": {\"dtype\": \"I32\"}}", STATUS_UNSUPPORTED, "score_head.bias"},
    };
    check_refusals(&shape, cases, sizeof cases / sizeof cases[0], *state);
    shape.architecture = "LlamaForSequenceClassification";
    static const struct refusal class_cases[] = {
        {"{\"score.weight\": null}", STATUS_NOT_FOUND, "score.weight"},
        {"{\"score.weight\": {\"shape\": [32, 1]}}", STATUS_SHAPE, "score.weight"},
    };
    check_refusals(&shape, class_cases, sizeof class_cases / sizeof class_cases[0], *state);
}

static void test_refuses_a_truncated_file(void **state) {
    char *directory = model_files_make(&small_llama, 1, -1);
    char path[4200];
    struct error err;
    snprintf(path, sizeof path, "%s/%s", directory, weights_name);
    size_t size;
    char *bytes = testkit_read_file(path, &size);
    testkit_write_file(path, bytes, size - 1);
    assert_status(STATUS_MALFORMED, open_directory(directory, *state, &err));
    assert_string_equal(err.field, "lm_head.weight");
    testkit_write_file(path, bytes, 100);
    assert_status(STATUS_MALFORMED, open_directory(directory, *state, &err));
    assert_string_equal(err.field, weights_name);
    free(bytes);
    testkit_remove_tree(directory);
}

static void test_refuses_a_configuration_larger_than_the_weights(void **state) {
    static const struct {
        const char *change;
        enum status status;
        const char *field;
    } cases[] = {
        {"{\"num_hidden_layers\": 3}", STATUS_NOT_FOUND, "model.layers.2.input_layernorm.weight"},
        {"{\"vocab_size\": 41}", STATUS_SHAPE, "model.embed_tokens.weight"},
        {"{\"num_key_value_heads\": 4}", STATUS_SHAPE, "model.layers.0.self_attn.k_proj.weight"},
        {"{\"head_dim\": 1024}", STATUS_SHAPE, "model.layers.0.self_attn.q_proj.weight"},
        {"{\"architectures\": [\"Qwen2ForCausalLM\"]}", STATUS_NOT_FOUND,
         "model.layers.0.self_attn.q_proj.bias"},
        {"{\"architectures\": [\"BertModel\"]}", STATUS_UNSUPPORTED, "config.json.architectures"},
        {"{\"num_hidden_layers\": 0}", STATUS_LIMIT, "config.json.num_hidden_layers"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *directory = model_files_make(&small_llama, 1, -1);
        struct error err;
        model_files_change_json(directory, "config.json", cases[i].change);
        assert_status(cases[i].status, open_directory(directory, *state, &err));
        assert_string_equal(err.field, cases[i].field);
        testkit_remove_tree(directory);
    }
    struct error err;
    assert_status(STATUS_NOT_FOUND, open_directory("/nowhere", *state, &err));
    assert_string_equal(err.field, "config.json");
}

struct other_number {
    enum reference_dtype dtype;
    uint32_t bits;
};

static const struct other_number other_numbers[] = {
    {REFERENCE_F32, 0x7fc00000}, {REFERENCE_F32, 0x7f800000}, {REFERENCE_F32, 0xff800000},
    {REFERENCE_F32, 0xff800001}, {REFERENCE_F16, 0x7c00},     {REFERENCE_F16, 0xfc00},
    {REFERENCE_F16, 0x7e01},     {REFERENCE_BF16, 0x7f80},    {REFERENCE_BF16, 0xff80},
    {REFERENCE_BF16, 0xffc0},
};

// One element of one tensor; the message tells its place.
static void check_other_number(const char *directory, const char *name, size_t index,
                               const char *place, const struct other_number *number,
                               struct backend *backend) {
    size_t width = number->dtype == REFERENCE_F32 ? 4 : 2;
    uint32_t old, ignored;
    model_files_exchange_element(directory, name, index, width, &number->bits, &old);
    struct error err;
    enum status status = open_directory(directory, backend, &err);
    if (status != STATUS_MALFORMED || strcmp(err.field, name) != 0 ||
        strstr(err.message, place) == NULL) {
        fail_msg("%s, bits %x: %s at %s: %s", name, number->bits, status_name(status), err.field,
                 err.message);
    }
    model_files_exchange_element(directory, name, index, width, &old, &ignored);
}

static void check_every_tensor(const struct reference_shape *shape, struct backend *backend) {
    static const struct {
        const char *name;
        size_t index;
        const char *place;
    } elements[] = {
        {"model.embed_tokens.weight", 40 * 32 - 1, "[39, 31]"},
        {"lm_head.weight", 33, "[1, 1]"},
        {"score.weight", 7, "[0, 7]"},
        {"score_head.weight", 31, "[0, 31]"},
        {"score_head.bias", 0, "[0, 0]"},
        {"normalizer.mean", 0, "[0, 0]"},
        {"normalizer.var", 0, "[0, 0]"},
        {"model.norm.weight", 0, "[0, 0]"},
        {"model.layers.0.input_layernorm.weight", 3, "[0, 3]"},
        {"model.layers.1.post_attention_layernorm.weight", 31, "[0, 31]"},
        {"model.layers.0.self_attn.q_proj.weight", 0, "[0, 0]"},
        {"model.layers.0.self_attn.q_proj.bias", 31, "[0, 31]"},
        {"model.layers.1.self_attn.k_proj.weight", 100, "[3, 4]"},
        {"model.layers.1.self_attn.v_proj.bias", 15, "[0, 15]"},
        {"model.layers.0.self_attn.o_proj.weight", 1023, "[31, 31]"},
        {"model.layers.0.mlp.gate_proj.weight", 5, "[0, 5]"},
        {"model.layers.1.mlp.down_proj.weight", 48, "[1, 0]"},
    };
    char *directory = model_files_make(shape, 1, -1);
    struct error err;
    assert_ok(open_directory(directory, backend, &err), &err);
    char path[4200];
    snprintf(path, sizeof path, "%s/%s", directory, weights_name);
    int n_checked = 0;
    for (size_t i = 0; i < sizeof elements / sizeof elements[0]; i++) {
        char *bytes = testkit_read_file(path, NULL);
        char key[128];
        snprintf(key, sizeof key, "\"%s\"", elements[i].name);
        bool stored = strstr(bytes + 8, key) != NULL;
        free(bytes);
        for (size_t k = 0; stored && k < sizeof other_numbers / sizeof other_numbers[0]; k++) {
            if (other_numbers[k].dtype == shape->dtype) {
                check_other_number(directory, elements[i].name, elements[i].index,
                                   elements[i].place, &other_numbers[k], backend);
                n_checked++;
            }
        }
    }
    assert_true(n_checked >= 30);
    assert_ok(open_directory(directory, backend, &err), &err);
    testkit_remove_tree(directory);
}

static void test_refuses_weights_that_are_not_finite(void **state) {
    static const enum reference_dtype dtypes[] = {REFERENCE_F32, REFERENCE_F16, REFERENCE_BF16};
    for (size_t i = 0; i < 3; i++) {
        struct reference_shape shape = small_llama;
        shape.dtype = dtypes[i];
        check_every_tensor(&shape, *state);
        shape.architecture = "Qwen2ForSequenceClassification";
        shape.qkv_bias = true;
        check_every_tensor(&shape, *state);
        shape.architecture = "LlamaForScore";
        shape.qkv_bias = false;
        shape.score_type = "cost";
        shape.score_bias = shape.do_normalize = true;
        check_every_tensor(&shape, *state);
    }
    const char *directory = testkit_case_path("10_nan_policy");
    if (directory != NULL) {
        struct error err;
        assert_status(STATUS_MALFORMED, open_directory(directory, *state, &err));
        print_message("%s: %s\n", err.field, err.message);
    }
}

// The first one, wherever the search is cut into pieces.
static void test_the_first_of_several_is_named(void **state) {
    (void)state;
    enum { COUNT = 10000 };
    float values[COUNT] = {0};
    const struct tensor tensor = {.data = values, .dtype = DTYPE_F32, .rows = 100, .cols = 100};
    assert_int_equal(finite_find_other(&tensor), -1);
    for (int i = COUNT - 1; i >= 0; i -= 37) {
        values[i] = i % 2 == 0 ? INFINITY : NAN;
        assert_int_equal(finite_find_other(&tensor), i);
    }
}

static uint32_t next_random(uint64_t *state) {
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(*state >> 33);
}

// Overwrites some bytes among the first `reach`, or cuts the file; returns the new size.
static size_t damage(char *bytes, size_t size, size_t reach, uint64_t *random) {
    if (next_random(random) % 8 == 0) {
        return next_random(random) % size;
    }
    static const char likely[] = "0123456789-,:[]{}\"e. \\";
    int edits = 1 + (int)(next_random(random) % 3);
    for (int i = 0; i < edits; i++) {
        char *place = &bytes[next_random(random) % (reach < size ? reach : size)];
        *place = next_random(random) % 2 == 0 ? likely[next_random(random) % (sizeof likely - 1)]
                                              : (char)next_random(random);
    }
    return size;
}

// A directory that still opens must also run: what the header says is then what the engine reads.
static void run_one_token(const char *directory, struct backend *backend) {
    struct model *model = NULL;
    struct model_context *context = NULL;
    struct error err = {0};
    assert_ok(model_open(directory, backend, PRECISION_STORED, &model, &err), &err);
    const struct model_context_options options = {
        .n_kv_blocks = 1, .n_sequences = 1, .batch_rows = 1, .output_rows = 1, .context_tokens = 1};
    if (model_context_create(model, &options, &context, &err) == STATUS_OK) {
        const int32_t token = 0;
        const struct forward_item item = {sequence_create(context), &token, 1, FORWARD_OUTPUT_LAST};
        assert_ok(model_forward(context, &item, 1, &err), &err);
        model_context_destroy(context);
    }
    model_close(model);
}

static void check_damage(const char *name, int rounds, uint64_t seed, struct backend *backend) {
    char *directory = model_files_make(&small_llama, 1, -1);
    char path[4200];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    size_t size;
    char *original = testkit_read_file(path, &size);
    char *bytes = malloc(size);
    assert_non_null(bytes);
    uint64_t header = size;
    if (strcmp(name, weights_name) == 0) {
        memcpy(&header, original, sizeof header);
    }
    int opened = 0, refused = 0;
    for (int i = 0; i < rounds; i++) {
        struct error err;
        memcpy(bytes, original, size);
        testkit_write_file(path, bytes, damage(bytes, size, (size_t)header + 8, &seed));
        enum status status = open_directory(directory, backend, &err);
        if (status == STATUS_OK) {
            opened++;
            run_one_token(directory, backend);
        } else {
            refused++;
            assert_int_equal(err.status, status);
            assert_true(err.message[0] != '\0');
        }
    }
    assert_true(refused > rounds / 4);
    assert_true(opened > 0);
    free(original);
    free(bytes);
    testkit_remove_tree(directory);
}

static void test_damaged_files_are_opened_or_refused(void **state) {
    check_damage(weights_name, 500, 1, *state);
    check_damage("config.json", 300, 2, *state);
}

// A model that others published: 4 layers, bf16.
static void test_opens_and_runs_a_published_directory(void **state) {
    const char *data = testkit_data_path("weights/verl_digit_llama");
    if (data == NULL) {
        testkit_note_missing("weights/verl_digit_llama");
        skip();
    }
    struct backend *backend = *state;
    struct model *model = NULL;
    struct model_context *context = NULL;
    struct error err = {0};
    assert_ok(model_open(data, backend, PRECISION_STORED, &model, &err), &err);
    assert_int_equal(model_get_config(model)->vocab_size, 16);
    assert_int_equal(model_get_weights(model)->layers[3].gate_up.dtype, DTYPE_BF16);
    const struct model_context_options options = {.n_kv_blocks = 2,
                                                  .n_sequences = 1,
                                                  .batch_rows = 8,
                                                  .output_rows = 4,
                                                  .context_tokens = 20};
    assert_ok(model_context_create(model, &options, &context, &err), &err);
    const int32_t ids[] = {3, 1, 4, 1};
    const struct forward_item item = {sequence_create(context), ids, 4, FORWARD_OUTPUT_LAST};
    assert_ok(model_forward(context, &item, 1, &err), &err);
    struct tensor logits;
    float values[16];
    assert_status(STATUS_OK, model_logits(context, model_outputs(context), &logits));
    assert_status(STATUS_OK, backend->ops->download(backend, values, logits.data, sizeof values));
    for (int i = 0; i < 16; i++) {
        assert_true(isfinite(values[i]));
    }
    model_context_destroy(context);
    model_close(model);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_good_directory_yields_its_weights),
        cmocka_unit_test(test_vectors_are_f32_and_the_head_may_be_tied),
        cmocka_unit_test(test_the_hash_follows_every_file),
        cmocka_unit_test(test_sha256_gives_the_published_answers),
        cmocka_unit_test(test_refuses_tensors_that_do_not_fit_the_configuration),
        cmocka_unit_test(test_refuses_score_heads_that_do_not_fit),
        cmocka_unit_test(test_refuses_weights_that_are_not_finite),
        cmocka_unit_test(test_the_first_of_several_is_named),
        cmocka_unit_test(test_refuses_a_truncated_file),
        cmocka_unit_test(test_refuses_a_configuration_larger_than_the_weights),
        cmocka_unit_test(test_damaged_files_are_opened_or_refused),
        cmocka_unit_test(test_opens_and_runs_a_published_directory),
    };
    return cmocka_run_group_tests(tests, open_backend, close_backend);
}
