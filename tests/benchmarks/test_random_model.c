// Models of random weights: what the worker's own readers make of them, and that their bytes depend
// on nothing but the options.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "benchmarks/random_model.h"
#include "tests/support/testkit.h"
#include "worker/model/model.h"
#include "worker/model/safetensors.h"
#include "worker/tokenizer/tokenizer.h"

struct fixture {
    char *directory;
    struct backend *backend;
};

static struct random_model_options small_options(void) {
    struct random_model_options options;
    assert_true(random_model_preset("15m", &options));
    options.dim = 64;
    options.n_layers = 2;
    options.n_heads = 4;
    options.n_kv_heads = 2;
    options.hidden = 96;
    options.vocab_size = 1000;
    return options;
}

static int set_up(void **state) {
    struct fixture *fixture = calloc(1, sizeof *fixture);
    struct error err;
    assert_non_null(fixture);
    fixture->directory = testkit_make_directory();
    assert_ok(backend_create("cpu", 1, &fixture->backend, &err), &err);
    *state = fixture;
    return 0;
}

static int tear_down(void **state) {
    struct fixture *fixture = *state;
    backend_destroy(fixture->backend);
    testkit_remove_tree(fixture->directory);
    free(fixture);
    return 0;
}

// Writes the model to "<directory>/<name>" and opens it.
static struct model *write_and_open(struct fixture *fixture, const char *name,
                                    const struct random_model_options *options) {
    char path[4200];
    struct error err;
    struct model *model = NULL;
    snprintf(path, sizeof path, "%s/%s", fixture->directory, name);
    assert_ok(random_model_write(path, options, &err), &err);
    assert_ok(model_open(path, fixture->backend, PRECISION_STORED, &model, &err), &err);
    return model;
}

// Writes the model to "<directory>/<name>" and opens its weight files alone.
static struct safetensors *write_and_map(struct fixture *fixture, const char *name,
                                         const struct random_model_options *options) {
    char path[4200];
    struct error err;
    struct safetensors *files = NULL;
    snprintf(path, sizeof path, "%s/%s", fixture->directory, name);
    assert_ok(random_model_write(path, options, &err), &err);
    assert_ok(safetensors_open(path, &files, &err), &err);
    return files;
}

static struct tensor find(const struct safetensors *files, const char *name, enum dtype dtype) {
    const struct safetensors_tensor *tensor = safetensors_find(files, name);
    assert_non_null(tensor);
    return (struct tensor){.data = (void *)(uintptr_t)tensor->data,
                           .dtype = dtype,
                           .rows = (int32_t)tensor->shape[0],
                           .cols = (int32_t)tensor->shape[1]};
}

static float half_to_float(uint16_t code) {
    int exponent = code >> 10 & 31;
    int mantissa = code & 1023;
    float size = exponent == 0 ? ldexpf((float)mantissa, -24)
                               : ldexpf((float)(mantissa + 1024), exponent - 25);
    return code & 0x8000 ? -size : size;
}

static float element(const struct tensor *tensor, size_t index) {
    if (tensor->dtype == DTYPE_F32) {
        return ((const float *)tensor->data)[index];
    }
    uint16_t code = ((const uint16_t *)tensor->data)[index];
    if (tensor->dtype == DTYPE_F16) {
        return half_to_float(code);
    }
    uint32_t bits = (uint32_t)code << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static void test_every_family_head_and_dtype_loads(void **state) {
    for (int family = 0; family < 3; family++) {
        for (int head = 0; head < 3; head++) {
            for (int dtype = 0; dtype < 3; dtype++) {
                struct random_model_options options = small_options();
                options.architecture = (enum model_architecture)family;
                options.head = (enum model_head)head;
                options.dtype = (enum dtype)dtype;
                options.tied = family == 1;
                if (options.head == MODEL_HEAD_SCORE && family != 0) {
                    continue;
                }
                struct model *model = write_and_open(*state, "any", &options);
                const struct model_config *config = model_get_config(model);
                assert_int_equal(config->architecture, family);
                assert_int_equal(config->head, head);
                assert_int_equal(config->n_kv_heads, 2);
                assert_int_equal(config->vocab_size, 1000);
                assert_int_equal(model_get_weights(model)->embedding.dtype, dtype);
                static const char *const roles[] = {"policy", "reward", "cost"};
                assert_string_equal(model_get_profile(model)->role, roles[head]);
                model_close(model);
            }
        }
    }
}

static void test_matrices_are_normal_and_norms_are_one(void **state) {
    struct random_model_options options = small_options();
    struct model *model = write_and_open(*state, "any", &options);
    const struct tensor *embedding = &model_get_weights(model)->embedding;
    size_t n = (size_t)embedding->rows * (size_t)embedding->cols;
    double sum = 0, squares = 0, fourth = 0;
    for (size_t i = 0; i < n; i++) {
        double value = (double)element(embedding, i);
        sum += value;
        squares += value * value;
        fourth += value * value * value * value;
    }
    double variance = squares / (double)n;
    // Five standard errors of 64,000 draws; the fourth moment of a normal is 3 variances squared.
    assert_true(fabs(sum / (double)n) < 5 * 0.02 / sqrt((double)n));
    assert_true(fabs(sqrt(variance) / 0.02 - 1) < 5 / sqrt(2.0 * (double)n));
    assert_true(fabs(fourth / (double)n / (variance * variance) - 3) < 5 * sqrt(24.0 / (double)n));
    const struct tensor *norm = &model_get_weights(model)->final_norm;
    for (int32_t i = 0; i < norm->cols; i++) {
        assert_true(((const float *)norm->data)[i] == 1.0f);
    }
    model_close(model);
}

static void test_the_dtypes_round_the_same_values(void **state) {
    static const char name[] = "model.layers.1.mlp.down_proj.weight";
    struct random_model_options options = small_options();
    struct safetensors *exact = write_and_map(*state, "exact", &options);
    for (int dtype = DTYPE_F16; dtype <= DTYPE_BF16; dtype++) {
        options.dtype = (enum dtype)dtype;
        struct safetensors *rounded = write_and_map(*state, "rounded", &options);
        const struct tensor a = find(exact, name, DTYPE_F32);
        const struct tensor b = find(rounded, name, options.dtype);
        float step = dtype == DTYPE_F16 ? 0x1p-11f : 0x1p-8f; // half a unit in the last place
        for (size_t i = 0; i < (size_t)a.rows * (size_t)a.cols; i++) {
            float value = element(&a, i);
            // 2^-25 is half the distance of f16's smallest numbers.
            assert_true(fabsf(element(&b, i) - value) <= fmaxf(fabsf(value) * step, 0x1p-25f));
        }
        safetensors_close(rounded);
    }
    safetensors_close(exact);
}

static void test_bytes_depend_on_options_only(void **state) {
    struct random_model_options options = small_options();
    struct model *first = write_and_open(*state, "first", &options);
    struct model *second = write_and_open(*state, "second", &options);
    options.seed = 2;
    struct model *other = write_and_open(*state, "other", &options);
    assert_string_equal(model_get_hash(first), model_get_hash(second));
    assert_string_not_equal(model_get_hash(first), model_get_hash(other));
    model_close(first);
    model_close(second);
    model_close(other);
}

static void test_shards_hold_the_same_weights(void **state) {
    struct random_model_options options = small_options();
    struct safetensors *single = write_and_map(*state, "single", &options);
    // Over another model's single file, which must not be read in place of the shards.
    options.seed = 9;
    safetensors_close(write_and_map(*state, "sharded", &options));
    options.seed = 1;
    options.shard_bytes_max = 100000;
    struct safetensors *sharded = write_and_map(*state, "sharded", &options);
    assert_int_equal(safetensors_file_count(single), 1);
    assert_int_equal(safetensors_file_count(sharded), 5);
    assert_int_equal(safetensors_count(single), safetensors_count(sharded));
    static const char *const names[] = {"lm_head.weight", "model.layers.1.mlp.up_proj.weight"};
    for (int i = 0; i < 2; i++) {
        const struct safetensors_tensor *a = safetensors_find(single, names[i]);
        const struct safetensors_tensor *b = safetensors_find(sharded, names[i]);
        assert_int_equal(a->bytes, b->bytes);
        assert_memory_equal(a->data, b->data, a->bytes);
    }
    safetensors_close(single);
    safetensors_close(sharded);
}

static void test_tokenizer_has_a_token_for_every_row_and_byte(void **state) {
    struct fixture *fixture = *state;
    struct random_model_options options = small_options();
    char path[4200];
    struct error err;
    struct tokenizer *tokenizer = NULL;
    model_close(write_and_open(fixture, "any", &options));
    snprintf(path, sizeof path, "%s/any", fixture->directory);
    assert_ok(tokenizer_open(path, &tokenizer, &err), &err);
    assert_int_equal(tokenizer_vocab_size(tokenizer), 1000);
    assert_int_equal(tokenizer_bos_id(tokenizer), RANDOM_MODEL_BOS);
    assert_int_equal(tokenizer_eos_id(tokenizer), RANDOM_MODEL_EOS);
    static const char text[] = "a \xC3\xA9\n";
    int32_t ids[8];
    size_t n = 0;
    assert_ok(tokenizer_encode(tokenizer, text, sizeof text - 1, 0, ids, 8, &n, &err), &err);
    assert_int_equal(n, sizeof text - 1);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(ids[i], RANDOM_MODEL_BYTE + (uint8_t)text[i]);
    }
    for (int32_t id = RANDOM_MODEL_VOCAB_MIN; id < 1000; id++) {
        char shown[16];
        size_t bytes = 0;
        assert_ok(tokenizer_decode(tokenizer, &id, 1, TOKENIZER_CONTINUATION, shown, sizeof shown,
                                   &bytes, &err),
                  &err);
        char expected[16];
        snprintf(expected, sizeof expected, " %d", id);
        assert_int_equal(bytes, strlen(expected));
        assert_memory_equal(shown, expected, bytes);
    }
    tokenizer_close(tokenizer);
}

static void test_refusals_name_the_flag(void **state) {
    struct fixture *fixture = *state;
    struct random_model_options base = small_options(), wrong[4] = {base, base, base, base};
    static const char *const flags[] = {"--heads", "--kv-heads", "--vocab", "--head"};
    static const enum status expected[] = {STATUS_INVALID_ARGUMENT, STATUS_INVALID_ARGUMENT,
                                           STATUS_LIMIT, STATUS_UNSUPPORTED};
    char path[4200];
    snprintf(path, sizeof path, "%s/refused", fixture->directory);
    wrong[0].n_heads = 5;
    wrong[1].n_kv_heads = 3;
    wrong[2].vocab_size = RANDOM_MODEL_VOCAB_MIN - 1;
    wrong[3].head = MODEL_HEAD_SCORE;
    wrong[3].architecture = MODEL_ARCHITECTURE_QWEN2;
    for (int i = 0; i < 4; i++) {
        struct error err = {0};
        assert_status(expected[i], random_model_write(path, &wrong[i], &err));
        assert_string_equal(err.field, flags[i]);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_every_family_head_and_dtype_loads, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_matrices_are_normal_and_norms_are_one, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_the_dtypes_round_the_same_values, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bytes_depend_on_options_only, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_shards_hold_the_same_weights, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_tokenizer_has_a_token_for_every_row_and_byte, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_refusals_name_the_flag, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
