// Adapters and directories over a base: what PEFT merges (tests/parity/make_lora_vectors.py), own
// tensors before the base's, and what does not fit the base or is not followed.
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/testkit.h"
#include "worker/model/context.h"
#include "worker/model/model_path.h"
#include "worker/model/weight_files.h"

enum { VOCAB = 40, HIDDEN = 32, IDS_MAX = 32 };

static struct backend *open_backend(void) {
    struct backend *backend = NULL;
    struct error err = {0};
    assert_ok(backend_create("cpu", 1, &backend, &err), &err);
    return backend;
}

// The last position's logits, or the one score; returns how many.
static int32_t read_last(struct backend *backend, const char *path, const int32_t *ids, int32_t n,
                         float *values) {
    struct error err = {0};
    struct model *model = NULL;
    struct model_context *context = NULL;
    assert_ok(model_open(path, backend, PRECISION_STORED, &model, &err), &err);
    const struct model_context_options options = {.n_kv_blocks = 4,
                                                  .n_sequences = 1,
                                                  .batch_rows = 32,
                                                  .output_rows = 1,
                                                  .context_tokens = 64};
    assert_ok(model_context_create(model, &options, &context, &err), &err);
    struct sequence *sequence = sequence_create(context);
    const struct forward_item item = {sequence, ids, n, FORWARD_OUTPUT_LAST};
    assert_ok(model_forward(context, &item, 1, &err), &err);
    int32_t count = 1;
    if (model_get_config(model)->head == MODEL_HEAD_LM) {
        struct tensor result;
        assert_status(STATUS_OK, model_logits(context, model_outputs(context), &result));
        count = result.cols;
        assert_int_equal(count, VOCAB);
        assert_status(STATUS_OK,
                      backend->ops->download(backend, values, result.data, VOCAB * sizeof *values));
    } else {
        assert_status(STATUS_OK, model_score_outputs(context, values));
    }
    sequence_destroy(context, sequence);
    model_context_destroy(context);
    model_close(model);
    return count;
}

static void check_case(struct backend *backend, const json_t *one) {
    const char *name = json_string_value(json_object_get(one, "directory"));
    const json_t *list = json_object_get(one, "ids");
    const json_t *want = json_object_get(one, "values");
    int32_t ids[IDS_MAX];
    size_t n = json_array_size(list);
    assert_in_range(n, 1, IDS_MAX);
    for (size_t i = 0; i < n; i++) {
        ids[i] = (int32_t)json_integer_value(json_array_get(list, i));
    }
    char relative[128];
    float values[VOCAB];
    snprintf(relative, sizeof relative, "tests/vectors/lora/%s", name);
    int32_t count = read_last(backend, testkit_source_path(relative), ids, (int32_t)n, values);
    assert_int_equal(count, json_array_size(want));
    for (int32_t i = 0; i < count; i++) {
        double expected = json_number_value(json_array_get(want, (size_t)i));
        if (!(fabs((double)values[i] - expected) <= 1e-4)) {
            fail_msg("%s: value %d is %.6f, the reference has %.6f", name, i, (double)values[i],
                     expected);
        }
    }
}

static void test_merged_adapters_equal_those_of_peft(void **state) {
    (void)state;
    struct backend *backend = open_backend();
    json_t *cases = json_load_file(testkit_source_path("tests/vectors/lora/cases.json"), 0, NULL);
    assert_int_equal(json_array_size(cases), 3);
    for (size_t i = 0; i < json_array_size(cases); i++) {
        check_case(backend, json_array_get(cases, i));
    }
    json_decref(cases);
    backend_destroy(backend);
}

// Directories that the cases below write.

static void put(const char *directory, const char *name, const char *text) {
    char path[4200];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    testkit_write_file(path, text, strlen(text));
}

// Writes a profile that names a base of the source tree.
static void put_base(const char *directory, const char *base, const char *more) {
    char *whole = realpath(testkit_source_path(base), NULL);
    char text[4300];
    snprintf(text, sizeof text, "{\"schema\": 1, \"base\": \"%s\"%s}", whole, more);
    put(directory, "surefoot.json", text);
    free(whole);
}

static char *over_base(const char *more) {
    char *directory = testkit_make_directory();
    put_base(directory, "tests/vectors/gguf/llama.gguf", more);
    return directory;
}

// A safetensors file of one f32 tensor whose values all are `value`.
static void put_tensor(const char *directory, const char *file, const char *name, int rows,
                       int cols, float value) {
    char path[4200], header[512];
    size_t n = (size_t)(rows > 0 ? rows : 1) * (size_t)cols;
    char shape[64];
    if (rows > 0) {
        snprintf(shape, sizeof shape, "%d, %d", rows, cols);
    } else {
        snprintf(shape, sizeof shape, "%d", cols);
    }
    int length = snprintf(header, sizeof header,
                          "{\"%s\": {\"dtype\": \"F32\", \"shape\": [%s], "
                          "\"data_offsets\": [0, %zu]}}",
                          name, shape, n * sizeof(float));
    while (length % 8 != 0) {
        header[length++] = ' ';
    }
    char *bytes = calloc(1, 8 + (size_t)length + n * sizeof(float));
    bytes[0] = (char)length;
    bytes[1] = (char)(length >> 8);
    memcpy(bytes + 8, header, (size_t)length);
    for (size_t i = 0; i < n; i++) {
        memcpy(bytes + 8 + length + i * sizeof value, &value, sizeof value);
    }
    snprintf(path, sizeof path, "%s/%s", directory, file);
    testkit_write_file(path, bytes, 8 + (size_t)length + n * sizeof(float));
    free(bytes);
}

static void test_own_tensors_come_before_those_of_the_base(void **state) {
    (void)state;
    char *directory = over_base("");
    put_tensor(directory, "model.safetensors", "model.norm.weight", 0, HIDDEN, 2);
    struct weight_files *files = NULL;
    struct error err = {0};
    struct tensor norm, other;
    assert_ok(weight_files_open(directory, &files, &err), &err);
    assert_ok(weight_files_get(files, "model.norm.weight", 1, HIDDEN, &norm, &err), &err);
    assert_true(((const float *)norm.data)[HIDDEN - 1] == 2);
    assert_ok(
        weight_files_get(files, "model.layers.0.input_layernorm.weight", 1, HIDDEN, &other, &err),
        &err);
    assert_true(((const float *)other.data)[0] != 2);
    weight_files_close(files);
    testkit_remove_tree(directory);
}

static void test_a_head_over_a_base_scores(void **state) {
    (void)state;
    char *directory = over_base(", \"role\": \"cost\", \"cost_mode\": \"token_sum\"");
    put_tensor(directory, "model.safetensors", "score_head.weight", 1, HIDDEN, 0);
    put(directory, "config.json", "{\"architectures\": [\"LlamaForScore\"], \"mean\": 1}");
    struct backend *backend = open_backend();
    const int32_t ids[] = {1, 2, 3};
    float score = 7;
    assert_int_equal(read_last(backend, directory, ids, 3, &score), 1);
    assert_true(score == 0);
    backend_destroy(backend);
    testkit_remove_tree(directory);
}

static void read_hash(struct backend *backend, const char *directory, char hash[80]) {
    struct model *model = NULL;
    struct error err = {0};
    assert_ok(model_open(directory, backend, PRECISION_STORED, &model, &err), &err);
    snprintf(hash, 80, "%s", model_get_hash(model));
    model_close(model);
}

static void test_the_hash_covers_base_adapter_and_settings(void **state) {
    (void)state;
    struct backend *backend = open_backend();
    char base[80], adapter[80], other[80], alone[80];
    read_hash(backend, testkit_source_path("tests/vectors/gguf/llama.gguf"), base);
    read_hash(backend, testkit_source_path("tests/vectors/lora/causal"), adapter);
    read_hash(backend, testkit_source_path("tests/vectors/lora/rslora"), other);
    char *directory = over_base("");
    put_tensor(directory, "model.safetensors", "model.norm.weight", 0, HIDDEN, 2);
    read_hash(backend, directory, alone);
    assert_string_not_equal(base, adapter);
    assert_string_not_equal(base, alone);
    assert_string_not_equal(adapter, other);
    testkit_remove_tree(directory);
    backend_destroy(backend);
}

static void expect_refusal(const char *directory, enum status expected, const char *field) {
    struct weight_files *files = NULL;
    struct error err = {0};
    enum status status = weight_files_open(directory, &files, &err);
    if (status != expected || strcmp(err.field, field) != 0) {
        fail_msg("%s in \"%s\" (%s), expected %s in \"%s\"", status_name(status), err.field,
                 err.message, status_name(expected), field);
    }
}

static void test_tensors_of_another_model_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *name;
        int rows, cols;
        enum status status;
    } cases[] = {
        {"model.norm.weight", 0, HIDDEN + 1, STATUS_SHAPE},
        {"model.layers.0.self_attn.q_proj.weight", HIDDEN, HIDDEN / 2, STATUS_SHAPE},
        {"model.layers.9.self_attn.q_proj.weight", HIDDEN, HIDDEN, STATUS_NOT_FOUND},
        {"transformer.h.0.attn.weight", HIDDEN, HIDDEN, STATUS_NOT_FOUND},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *directory = over_base("");
        put_tensor(directory, "model.safetensors", cases[i].name, cases[i].rows, cases[i].cols, 1);
        expect_refusal(directory, cases[i].status, cases[i].name);
        testkit_remove_tree(directory);
    }
}

static void test_what_an_adapter_may_not_do_is_refused_by_name(void **state) {
    (void)state;
    static const char start[] = "{\"peft_type\": \"LORA\", \"r\": 2, \"lora_alpha\": 4,"
                                " \"target_modules\": [\"q_proj\"]";
    static const struct {
        const char *more; // fields after `start`
        const char *tensor;
        int rows, cols;
        enum status status;
        const char *field;
    } cases[] = {
        {", \"use_dora\": true}", NULL, 0, 0, STATUS_UNSUPPORTED, "adapter_config.json.use_dora"},
        {", \"bias\": \"all\"}", NULL, 0, 0, STATUS_UNSUPPORTED, "adapter_config.json.bias"},
        {", \"rank_pattern\": {\"q_proj\": 4}}", NULL, 0, 0, STATUS_UNSUPPORTED,
         "adapter_config.json.rank_pattern"},
        {", \"init_lora_weights\": \"pissa\"}", NULL, 0, 0, STATUS_UNSUPPORTED,
         "adapter_config.json.init_lora_weights"},
        {", \"of_tomorrow\": 1}", NULL, 0, 0, STATUS_UNSUPPORTED,
         "adapter_config.json.of_tomorrow"},
        {"}", "base_model.model.model.embed_tokens.weight", VOCAB, HIDDEN, STATUS_UNSUPPORTED,
         "adapter_model.safetensors.base_model.model.model.embed_tokens"},
        {"}", "model.norm.weight", 0, HIDDEN, STATUS_MALFORMED,
         "adapter_model.safetensors.model.norm.weight"},
        {"}", "base_model.model.lm_head.lora_A.weight", 2, HIDDEN, STATUS_MALFORMED,
         "adapter_model.safetensors.lm_head.weight"},
        {"}", "base_model.model.score.weight", 1, HIDDEN, STATUS_NOT_FOUND,
         "model.layers.0.self_attn.q_proj.weight"}, // nothing for what it targets
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *directory = over_base("");
        char config[512];
        snprintf(config, sizeof config, "%s%s", start, cases[i].more);
        put(directory, "adapter_config.json", config);
        const char *name = cases[i].tensor;
        put_tensor(directory, "adapter_model.safetensors",
                   name != NULL ? name : "base_model.model.score.weight",
                   name != NULL ? cases[i].rows : 1, name != NULL ? cases[i].cols : HIDDEN, 1);
        struct weight_files *files = NULL;
        struct error err = {0};
        enum status status = weight_files_open(directory, &files, &err);
        // A field is cut at its limit.
        if (status != cases[i].status ||
            strncmp(err.field, cases[i].field, ERROR_FIELD_BYTES - 4) != 0) {
            fail_msg("case %zu: %s in \"%s\" (%s)", i, status_name(status), err.field, err.message);
        }
        weight_files_close(files);
        testkit_remove_tree(directory);
    }
}

// The stored adapter (pairs in every layer beside q_proj and v_proj) with other settings.
static void expect_settings(const char *change, enum status expected, const char *field) {
    char *directory = over_base("");
    size_t size = 0;
    char path[4200];
    char *bytes = testkit_read_file(
        testkit_source_path("tests/vectors/lora/rslora/adapter_model.safetensors"), &size);
    snprintf(path, sizeof path, "%s/adapter_model.safetensors", directory);
    testkit_write_file(path, bytes, size);
    free(bytes);
    json_t *config = json_load_file(
        testkit_source_path("tests/vectors/lora/rslora/adapter_config.json"), 0, NULL);
    json_t *other = json_loads(change, 0, NULL);
    assert_non_null(config);
    assert_non_null(other);
    assert_int_equal(json_object_update(config, other), 0);
    snprintf(path, sizeof path, "%s/adapter_config.json", directory);
    assert_int_equal(json_dump_file(config, path, 0), 0);
    json_decref(config);
    json_decref(other);
    struct weight_files *files = NULL;
    struct error err = {0};
    enum status status = weight_files_open(directory, &files, &err);
    if (status != expected || strncmp(err.field, field, ERROR_FIELD_BYTES - 8) != 0) {
        fail_msg("%s: %s in \"%s\" (%s)", change, status_name(status), err.field, err.message);
    }
    weight_files_close(files);
    testkit_remove_tree(directory);
}

static void test_only_what_the_settings_target_is_merged(void **state) {
    (void)state;
    static const char q0[] = "adapter_model.safetensors.model.layers.0.self_attn.q_proj.weight";
    static const char q1[] = "adapter_model.safetensors.model.layers.1.self_attn.q_proj.weight";
    static const struct {
        const char *change;
        enum status status;
        const char *field;
    } cases[] = {
        {"{}", STATUS_OK, ""},
        {"{\"layers_to_transform\": [0, 1]}", STATUS_OK, ""},
        {"{\"layers_to_transform\": [0, 1], \"layers_pattern\": \"layers\"}", STATUS_OK, ""},
        {"{\"layers_to_transform\": []}", STATUS_OK, ""},
        {"{\"target_modules\": [\"self_attn.q_proj\", \"v_proj\", \"query\"]}", STATUS_OK, ""},
        {"{\"layers_to_transform\": [0]}", STATUS_UNSUPPORTED, q1},
        {"{\"layers_to_transform\": 1}", STATUS_UNSUPPORTED, q0},
        {"{\"layers_to_transform\": \"0\"}", STATUS_MALFORMED,
         "adapter_config.json.layers_to_transform"},
        {"{\"layers_to_transform\": [0, 1], \"layers_pattern\": \"blocks\"}", STATUS_UNSUPPORTED,
         "adapter_config.json.layers_pattern"},
        {"{\"target_modules\": [\"v_proj\"]}", STATUS_UNSUPPORTED, q0},
        {"{\"target_modules\": [\"_proj\"]}", STATUS_UNSUPPORTED, q0},
        {"{\"target_modules\": [\"model.layers.0.self_attn.q_proj\", \"v_proj\"]}",
         STATUS_UNSUPPORTED, q1},
        {"{\"exclude_modules\": [\"q_proj\"]}", STATUS_UNSUPPORTED, q0},
        {"{\"exclude_modules\": \".*q_proj\"}", STATUS_UNSUPPORTED,
         "adapter_config.json.exclude_modules"},
        {"{\"modules_to_save\": [\"self_attn\"]}", STATUS_UNSUPPORTED, q0},
        {"{\"modules_to_save\": [\"norm\"]}", STATUS_NOT_FOUND, "model.norm.weight"},
        {"{\"modules_to_save\": [\"classifier\"]}", STATUS_OK, ""}, // of no module
        {"{\"target_modules\": null}", STATUS_MALFORMED, "adapter_config.json.target_modules"},
        {"{\"target_modules\": []}", STATUS_MALFORMED, "adapter_config.json.target_modules"},
        {"{\"target_modules\": \".*_proj\"}", STATUS_UNSUPPORTED,
         "adapter_config.json.target_modules"},
        {"{\"target_modules\": [\"q_proj\", \"v_proj\", \"k_proj\"]}", STATUS_NOT_FOUND,
         "model.layers.0.self_attn.k_proj.weight"},
        {"{\"target_modules\": \"all-linear\"}", STATUS_NOT_FOUND,
         "model.layers.0.self_attn.k_proj.weight"},
        {"{\"peft_type\": null}", STATUS_MALFORMED, "adapter_config.json.peft_type"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        expect_settings(cases[i].change, cases[i].status, cases[i].field);
    }
}

static void test_other_kinds_of_adapters_are_refused(void **state) {
    (void)state;
    char *directory = over_base("");
    put(directory, "adapter_config.json", "{\"peft_type\": \"IA3\"}");
    expect_refusal(directory, STATUS_UNSUPPORTED, "adapter_config.json.peft_type");
    testkit_remove_tree(directory);
}

static void test_a_base_that_cannot_be_one_is_named(void **state) {
    (void)state;
    char *directory = testkit_make_directory();
    put(directory, "surefoot.json", "{\"schema\": 1, \"base\": \"nowhere\"}");
    expect_refusal(directory, STATUS_NOT_FOUND, "surefoot.json.base");
    put(directory, "surefoot.json", "{\"schema\": 1, \"base\": 3}");
    expect_refusal(directory, STATUS_MALFORMED, "surefoot.json.base");
    put_base(directory, "tests/vectors/lora/causal", "");
    expect_refusal(directory, STATUS_UNSUPPORTED, "base");
    testkit_remove_tree(directory);
    directory = testkit_make_directory();
    put(directory, "adapter_config.json", "{\"peft_type\": \"LORA\"}");
    expect_refusal(directory, STATUS_MALFORMED, "adapter_config.json");
    put(directory, "adapter_config.json",
        "{\"peft_type\": \"LORA\", \"base_model_name_or_path\": \"of/a-hub\"}");
    expect_refusal(directory, STATUS_NOT_FOUND, "adapter_config.json.base_model_name_or_path");
    testkit_remove_tree(directory);
}

static void expect_message(const char *directory, enum status expected, const char *part) {
    struct weight_files *files = NULL;
    struct error err = {0};
    enum status status = weight_files_open(directory, &files, &err);
    if (status != expected || strstr(err.message, part) == NULL) {
        fail_msg("%s, \"%s\": expected %s, \"%s\"", status_name(status), err.message,
                 status_name(expected), part);
    }
}

static void test_an_absent_base_is_named_with_what_gets_it(void **state) {
    (void)state;
    char *directory = testkit_make_directory();
    put(directory, "surefoot.json",
        "{\"schema\": 1, \"base\": \"../none/far.gguf\", \"base_hint\": \"fetch far\"}");
    expect_message(directory, STATUS_NOT_FOUND, "/../none/far.gguf is not there: fetch far");
    char text[2200], name[2001] = "";
    memset(name, 'n', sizeof name - 10);
    for (size_t i = 100; i < sizeof name - 10; i += 100) {
        name[i] = '/';
    }
    snprintf(text, sizeof text, "{\"schema\": 1, \"base\": \"%s/far.gguf\"}", name);
    put(directory, "surefoot.json", text);
    expect_message(directory, STATUS_NOT_FOUND, "/far.gguf is not there"); // its end is kept
    testkit_remove_tree(directory);
}

static void test_a_hint_that_cannot_be_shown_is_refused(void **state) {
    (void)state;
    static const char *const hints[] = {"\"a\\u001b[2Jb\"", "\"\"", "3", "\"\u00fc\""};
    char *directory = testkit_make_directory();
    char text[512], most[202];
    for (size_t i = 0; i < sizeof hints / sizeof hints[0]; i++) {
        snprintf(text, sizeof text, "{\"schema\": 1, \"base\": \"x\", \"base_hint\": %s}",
                 hints[i]);
        put(directory, "surefoot.json", text);
        expect_refusal(directory, STATUS_MALFORMED, "surefoot.json.base_hint");
    }
    memset(most, 'h', sizeof most - 1);
    most[sizeof most - 1] = '\0';
    snprintf(text, sizeof text, "{\"schema\": 1, \"base\": \"x\", \"base_hint\": \"%s\"}", most);
    put(directory, "surefoot.json", text);
    expect_refusal(directory, STATUS_MALFORMED, "surefoot.json.base_hint");
    put(directory, "surefoot.json", "{\"schema\": 1, \"base_hint\": \"of nothing\"}");
    expect_refusal(directory, STATUS_MALFORMED, "surefoot.json.base_hint");
    testkit_remove_tree(directory);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_merged_adapters_equal_those_of_peft),
        cmocka_unit_test(test_own_tensors_come_before_those_of_the_base),
        cmocka_unit_test(test_a_head_over_a_base_scores),
        cmocka_unit_test(test_the_hash_covers_base_adapter_and_settings),
        cmocka_unit_test(test_tensors_of_another_model_are_refused),
        cmocka_unit_test(test_what_an_adapter_may_not_do_is_refused_by_name),
        cmocka_unit_test(test_only_what_the_settings_target_is_merged),
        cmocka_unit_test(test_other_kinds_of_adapters_are_refused),
        cmocka_unit_test(test_a_base_that_cannot_be_one_is_named),
        cmocka_unit_test(test_an_absent_base_is_named_with_what_gets_it),
        cmocka_unit_test(test_a_hint_that_cannot_be_shown_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
