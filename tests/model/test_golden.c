// Two trained models, converted from llama2.c files, against what llama2.c itself computed: every
// step's logits, the greedy ids, and the text of longer continuations through the tokenizer.
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/llama2c.h"
#include "tests/support/testkit.h"
#include "worker/model/context.h"
#include "worker/tokenizer/tokenizer.h"

enum { MODELS = 2, PROMPTS = 4, VOCAB = 512, STEPS_MAX = 200, BOS = 1 };
static const char *const model_names[MODELS] = {"stories260K", "llama2xs_model"};

struct golden {
    struct backend *backend;
    char *directories[MODELS];
    struct model *models[MODELS];
    struct model_context *contexts[MODELS];
};

// The continuation of prompt 1..4: "json" step by step, "txt" as text.
static const char *golden_path(int model, int prompt, const char *ending) {
    char relative[128];
    snprintf(relative, sizeof relative, "weights/golden/%s_p%d.%s", model_names[model], prompt,
             ending);
    return testkit_data_path(relative);
}

static void open_model(struct golden *golden, int index) {
    struct error err = {0};
    char source[64];
    snprintf(source, sizeof source, "weights/%s.bin", model_names[index]);
    char *directory = testkit_make_directory();
    golden->directories[index] = directory;
    assert_ok(llama2c_convert_model(testkit_data_path(source), directory, &err), &err);
    assert_ok(
        llama2c_convert_tokenizer(testkit_data_path("weights/tok512.bin"), VOCAB, directory, &err),
        &err);
    assert_ok(
        model_open(directory, golden->backend, PRECISION_STORED, &golden->models[index], &err),
        &err);
    const struct model_context_options options = {.n_kv_blocks = 13,
                                                  .n_sequences = 1,
                                                  .batch_rows = 32,
                                                  .output_rows = 1,
                                                  .context_tokens = STEPS_MAX};
    assert_ok(model_context_create(golden->models[index], &options, &golden->contexts[index], &err),
              &err);
}

static int open_models(void **state) {
    struct golden *golden = calloc(1, sizeof *golden);
    struct error err = {0};
    assert_non_null(golden);
    *state = golden;
    assert_ok(backend_create("cpu", 1, &golden->backend, &err), &err);
    for (int i = 0; i < MODELS; i++) {
        open_model(golden, i);
    }
    return 0;
}

static int close_models(void **state) {
    struct golden *golden = *state;
    for (int i = 0; i < MODELS; i++) {
        model_context_destroy(golden->contexts[i]);
        model_close(golden->models[i]);
        testkit_remove_tree(golden->directories[i]);
    }
    backend_destroy(golden->backend);
    free(golden);
    return 0;
}

// Feeds n tokens; logits[VOCAB] after the last.
static void feed(struct model_context *context, struct sequence *sequence, const int32_t *ids,
                 int n, float *logits) {
    struct backend *backend = model_get_backend(model_context_model(context));
    struct error err = {0};
    const struct forward_item item = {sequence, ids, n, FORWARD_OUTPUT_LAST};
    assert_ok(model_forward(context, &item, 1, &err), &err);
    struct tensor result;
    assert_status(STATUS_OK, model_logits(context, model_outputs(context), &result));
    assert_int_equal(result.cols, VOCAB);
    assert_status(STATUS_OK,
                  backend->ops->download(backend, logits, result.data, VOCAB * sizeof *logits));
}

static int32_t argmax(const float *logits) {
    int32_t best = 0;
    for (int32_t id = 1; id < VOCAB; id++) {
        best = logits[id] > logits[best] ? id : best;
    }
    return best;
}

static void check_logits(const json_t *step, const float *logits) {
    const json_t *top = json_object_get(step, "top5");
    for (size_t i = 0; i < 5; i++) {
        const json_t *pair = json_array_get(top, i);
        json_int_t id = json_integer_value(json_array_get(pair, 0));
        double want = json_number_value(json_array_get(pair, 1));
        assert_in_range(id, 0, VOCAB - 1);
        if (!(fabs((double)logits[id] - want) <= 1e-3)) {
            fail_msg("logit %d is %.6f, golden is %.6f", (int)id, (double)logits[id], want);
        }
    }
    double sum = 0, sum_squares = 0, size = 0;
    for (int id = 0; id < VOCAB; id++) {
        sum += (double)logits[id];
        sum_squares += (double)logits[id] * (double)logits[id];
        size += fabs((double)logits[id]);
    }
    // What an error of 1e-4 in every logit could do to the sums, and their printed digits.
    assert_true(fabs(sum - json_number_value(json_object_get(step, "sum"))) <= VOCAB * 1e-4);
    assert_true(fabs(sum_squares - json_number_value(json_object_get(step, "sumsq"))) <=
                2e-4 * size);
}

static void check_steps(struct model_context *context, const char *path) {
    json_t *golden = json_load_file(path, 0, NULL);
    assert_non_null(golden);
    const json_t *steps = json_object_get(golden, "steps");
    size_t n_prompt = json_array_size(json_object_get(golden, "prompt_ids"));
    assert_int_equal(json_array_size(steps), 64);
    struct sequence *sequence = sequence_create(context);
    int32_t token = BOS;
    for (size_t i = 0; i < 64; i++) {
        const json_t *step = json_array_get(steps, i);
        int32_t next = (int32_t)json_integer_value(json_object_get(step, "next"));
        float logits[VOCAB];
        assert_int_equal(json_integer_value(json_object_get(step, "token")), token);
        feed(context, sequence, &token, 1, logits);
        check_logits(step, logits);
        // Within the prompt the next token is given, not chosen.
        token = i + 1 < n_prompt ? next : argmax(logits);
        assert_int_equal(token, next);
    }
    sequence_destroy(context, sequence);
    json_decref(golden);
}

static void test_every_step_equals_the_golden_logits(void **state) {
    const struct golden *golden = *state;
    for (int i = 0; i < MODELS; i++) {
        for (int prompt = 1; prompt <= PROMPTS; prompt++) {
            const char *path = golden_path(i, prompt, "json");
            assert_non_null(path);
            check_steps(golden->contexts[i], path);
        }
    }
}

// ids[n_steps + 1] starts with the n_prompt tokens of the prompt; the rest is filled in greedily.
static void continue_greedily(struct model_context *context, int32_t *ids, int n_prompt,
                              int n_steps) {
    struct sequence *sequence = sequence_create(context);
    float logits[VOCAB];
    feed(context, sequence, ids, n_prompt, logits);
    ids[n_prompt] = argmax(logits);
    for (int i = n_prompt; i < n_steps; i++) {
        feed(context, sequence, &ids[i], 1, logits);
        ids[i + 1] = argmax(logits);
        assert_int_not_equal(ids[i + 1], BOS);
    }
    sequence_destroy(context, sequence);
}

// llama2.c prints every token after BOS, then a line feed.
static void check_text(const struct tokenizer *tokenizer, const int32_t *ids, int n,
                       const char *path) {
    struct error err = {0};
    char text[8 * STEPS_MAX];
    size_t bytes = 0, size = 0;
    assert_ok(tokenizer_decode(tokenizer, ids, (size_t)n, 0, text, sizeof text - 1, &bytes, &err),
              &err);
    text[bytes] = '\n';
    char *want = testkit_read_file(path, &size);
    assert_int_equal(bytes + 1, size);
    assert_memory_equal(text, want, size);
    free(want);
}

static void test_longer_texts_equal_the_golden_ones(void **state) {
    const struct golden *golden = *state;
    struct error err = {0};
    for (int i = 0; i < MODELS; i++) {
        struct tokenizer *tokenizer = NULL;
        assert_ok(tokenizer_open(golden->directories[i], &tokenizer, &err), &err);
        for (int prompt = 1; prompt <= PROMPTS; prompt++) {
            json_t *json = json_load_file(golden_path(i, prompt, "json"), 0, NULL);
            const json_t *want = json_object_get(json, "prompt_ids");
            const char *text = json_string_value(json_object_get(json, "prompt"));
            int32_t ids[STEPS_MAX + 1];
            size_t n_prompt = 0;
            assert_ok(tokenizer_encode(tokenizer, text, strlen(text), TOKENIZER_ADD_BOS, ids,
                                       STEPS_MAX, &n_prompt, &err),
                      &err);
            assert_int_equal(n_prompt, json_array_size(want));
            for (size_t k = 0; k < n_prompt; k++) {
                assert_int_equal(ids[k], json_integer_value(json_array_get(want, k)));
            }
            json_decref(json);
            continue_greedily(golden->contexts[i], ids, (int)n_prompt, 128);
            check_text(tokenizer, ids, 129, golden_path(i, prompt, "txt"));
        }
        tokenizer_close(tokenizer);
    }
}

static void test_a_text_without_prompt_equals_the_golden_one(void **state) {
    const struct golden *golden = *state;
    struct tokenizer *tokenizer = NULL;
    struct error err = {0};
    assert_ok(tokenizer_open(golden->directories[0], &tokenizer, &err), &err);
    int32_t ids[STEPS_MAX + 1] = {BOS};
    continue_greedily(golden->contexts[0], ids, 1, STEPS_MAX);
    check_text(tokenizer, ids, STEPS_MAX + 1,
               testkit_data_path("weights/golden/stories260K_noprompt_t0_n200.txt"));
    tokenizer_close(tokenizer);
}

static void test_conversion_refuses_files_that_do_not_add_up(void **state) {
    (void)state;
    char *directory = testkit_make_directory();
    char path[4200];
    size_t size;
    struct error err = {0};
    snprintf(path, sizeof path, "%s/model.bin", directory);
    char *bytes = testkit_read_file(testkit_data_path("weights/stories260K.bin"), &size);
    testkit_write_file(path, bytes, size - 4);
    assert_status(STATUS_MALFORMED, llama2c_convert_model(path, directory, &err));
    const int32_t layers = -5;
    memcpy(bytes + 8, &layers, sizeof layers);
    testkit_write_file(path, bytes, size);
    assert_status(STATUS_LIMIT, llama2c_convert_model(path, directory, &err));
    assert_string_equal(err.field, "n_layers");
    testkit_write_file(path, bytes, 20);
    assert_status(STATUS_MALFORMED, llama2c_convert_model(path, directory, &err));
    assert_status(STATUS_MALFORMED, llama2c_convert_tokenizer(path, VOCAB, directory, &err));
    assert_status(STATUS_NOT_FOUND, llama2c_convert_model("/nowhere", directory, &err));
    free(bytes);
    testkit_remove_tree(directory);
}

int main(void) {
    if (testkit_data_path("weights/golden/stories260K_p1.json") == NULL) {
        testkit_note_missing("weights/golden");
        return TESTKIT_SKIP;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_step_equals_the_golden_logits),
        cmocka_unit_test(test_longer_texts_equal_the_golden_ones),
        cmocka_unit_test(test_a_text_without_prompt_equals_the_golden_one),
        cmocka_unit_test(test_conversion_refuses_files_that_do_not_add_up),
    };
    return cmocka_run_group_tests(tests, open_models, close_models);
}
