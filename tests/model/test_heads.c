// Heads of tiny models against what transformers and safe-rlhf's form give for them
// (tests/vectors/heads.json, made by tests/parity/make_head_vectors.py), and the handed cases.
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/model/made_weights.h"
#include "tests/support/testkit.h"
#include "worker/model/context.h"

enum { TOKENS_MAX = 32, VOCAB_MAX = 512 };

// Relative to the largest value: f32 sums in another order than torch's.
static const double tolerance = 1e-4;

struct engine {
    struct backend *backend;
    struct model *model;
    struct model_context *context;
};

static void engine_open(struct engine *engine, const char *directory) {
    struct error err = {0};
    assert_ok(backend_create("cpu", 1, &engine->backend, &err), &err);
    assert_ok(model_open(directory, engine->backend, PRECISION_STORED, &engine->model, &err), &err);
    const struct model_context_options options = {.n_kv_blocks = TOKENS_MAX / KV_BLOCK_TOKENS,
                                                  .n_sequences = 1,
                                                  .batch_rows = TOKENS_MAX,
                                                  .output_rows = TOKENS_MAX,
                                                  .context_tokens = TOKENS_MAX};
    assert_ok(model_context_create(engine->model, &options, &engine->context, &err), &err);
}

static void engine_close(struct engine *engine) {
    model_context_destroy(engine->context);
    model_close(engine->model);
    backend_destroy(engine->backend);
}

static void run(struct engine *engine, const int32_t *ids, int n, enum forward_output output) {
    struct error err = {0};
    struct sequence *sequence = sequence_create(engine->context);
    const struct forward_item item = {sequence, ids, n, output};
    assert_ok(model_forward(engine->context, &item, 1, &err), &err);
    sequence_destroy(engine->context, sequence);
}

// values[n]: the score at every position, or the logits after the last one.
static void run_head(const char *directory, const int32_t *ids, int n, float *values) {
    struct engine engine;
    engine_open(&engine, directory);
    if (model_get_config(engine.model)->head == MODEL_HEAD_LM) {
        struct tensor logits;
        run(&engine, ids, n, FORWARD_OUTPUT_LAST);
        assert_status(STATUS_OK,
                      model_logits(engine.context, model_outputs(engine.context), &logits));
        assert_status(STATUS_OK,
                      engine.backend->ops->download(engine.backend, values, logits.data,
                                                    (size_t)logits.cols * sizeof *values));
    } else {
        run(&engine, ids, n, FORWARD_OUTPUT_ALL);
        assert_status(STATUS_OK, model_score_outputs(engine.context, values));
    }
    engine_close(&engine);
}

static void assert_near(const char *what, const float *got, const json_t *want) {
    double largest = 0;
    size_t n = json_array_size(want);
    assert_in_range(n, 1, VOCAB_MAX);
    for (size_t i = 0; i < n; i++) {
        largest = fmax(largest, fabs(json_number_value(json_array_get(want, i))));
    }
    for (size_t i = 0; i < n; i++) {
        double expected = json_number_value(json_array_get(want, i));
        if (!(fabs((double)got[i] - expected) <= tolerance * largest)) {
            fail_msg("%s, place %zu: %.6f instead of %.6f", what, i, (double)got[i], expected);
        }
    }
}

static void write_json(const char *directory, const char *name, const json_t *value) {
    char path[4200];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    assert_int_equal(json_dump_file(value, path, 0), 0);
}

// The directory that the case's vectors were computed from.
static char *make_directory(const json_t *vectors, const json_t *record) {
    char *directory = testkit_make_directory();
    const json_t *config = json_object_get(record, "config");
    const char *kind = json_string_value(json_object_get(config, "model_type"));
    json_t *shapes = json_copy(json_object_get(json_object_get(vectors, "bodies"), kind));
    const char *name;
    json_t *shape;
    json_object_foreach(json_object_get(record, "shapes"), name, shape) {
        if (json_is_null(shape)) {
            json_object_del(shapes, name);
        } else {
            json_object_set(shapes, name, shape);
        }
    }
    made_weights_write(directory, shapes, json_object_get(record, "made_as"), 1);
    json_decref(shapes);
    write_json(directory, "config.json", config);
    if (json_object_get(record, "profile") != NULL) {
        write_json(directory, "surefoot.json", json_object_get(record, "profile"));
    }
    return directory;
}

static json_t *load_vectors(void) {
    json_t *vectors = json_load_file(testkit_source_path("tests/vectors/heads.json"), 0, NULL);
    assert_non_null(vectors);
    assert_true(json_array_size(json_object_get(vectors, "cases")) > 0);
    return vectors;
}

static int read_ids(const json_t *array, int32_t *ids) {
    size_t n = json_array_size(array);
    assert_in_range(n, 1, TOKENS_MAX);
    for (size_t i = 0; i < n; i++) {
        ids[i] = (int32_t)json_integer_value(json_array_get(array, i));
    }
    return (int)n;
}

static void test_heads_give_what_their_libraries_give(void **state) {
    (void)state;
    json_t *vectors = load_vectors();
    size_t index;
    json_t *record;
    json_array_foreach(json_object_get(vectors, "cases"), index, record) {
        int32_t ids[TOKENS_MAX];
        float values[VOCAB_MAX];
        int n = read_ids(json_object_get(record, "ids"), ids);
        char *directory = make_directory(vectors, record);
        const json_t *logits = json_object_get(record, "logits");
        run_head(directory, ids, n, values);
        assert_near(json_string_value(json_object_get(record, "name")), values,
                    logits != NULL ? logits : json_object_get(record, "scores"));
        testkit_remove_tree(directory);
    }
    json_decref(vectors);
}

static void test_an_absent_do_normalize_is_false(void **state) {
    (void)state;
    const char *directory = testkit_case_path("06_beaver_cost_do_normalize_absent");
    if (directory == NULL) {
        skip();
    }
    const int32_t ids[] = {1, 5, 9, 33, 77, 200, 300, 4};
    float scores[8];
    run_head(directory, ids, 8, scores);
    assert_true(fabs((double)scores[7] - 14.0376) < 1e-3);
}

static void test_a_stored_head_wins_over_the_tied_flag(void **state) {
    (void)state;
    const char *directory = testkit_case_path("08_tied_flag_but_other_lm_head");
    if (directory == NULL) {
        skip();
    }
    const int32_t ids[] = {1, 5, 9, 33, 77, 200, 300, 4};
    float logits[VOCAB_MAX];
    run_head(directory, ids, 8, logits);
    // transformers 5.24
    static const float want[] = {3.0162f, -11.9642f, -5.0492f, -1.3081f,
                                 6.2565f, 6.6199f,   -0.1666f, 0.2849f};
    for (int i = 0; i < 8; i++) {
        assert_true(fabsf(logits[i] - want[i]) < 1e-3f);
    }
}

static const json_t *find_case(const json_t *vectors, const char *name) {
    size_t index;
    json_t *record;
    json_array_foreach(json_object_get(vectors, "cases"), index, record) {
        if (strcmp(json_string_value(json_object_get(record, "name")), name) == 0) {
            return record;
        }
    }
    fail_msg("no case %s", name);
    return NULL;
}

// transformers' classes have no bias there and leave a stored one out.
static void test_a_stored_bias_of_a_classifier_is_refused(void **state) {
    (void)state;
    json_t *vectors = load_vectors();
    const char *const kinds[] = {"Llama", "Mistral", "Qwen2", "Qwen3", "Phi3"};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        char wanted[64];
        snprintf(wanted, sizeof wanted, "%s, one label", kinds[i]);
        const json_t *record = find_case(vectors, wanted);
        json_object_set_new(json_object_get(record, "shapes"), "score.bias", json_pack("[i]", 1));
        char *directory = make_directory(vectors, record);
        struct backend *backend = NULL;
        struct model *model = NULL;
        struct error err = {0};
        assert_ok(backend_create("cpu", 1, &backend, &err), &err);
        assert_status(STATUS_UNSUPPORTED,
                      model_open(directory, backend, PRECISION_STORED, &model, &err));
        assert_string_equal(err.field, "score.bias");
        backend_destroy(backend);
        testkit_remove_tree(directory);
    }
    json_decref(vectors);
}

// What is tied is not kept twice: neither counted nor read from the copy.
static void test_an_equal_copy_stays_tied(void **state) {
    (void)state;
    json_t *vectors = load_vectors();
    static const struct {
        const char *name;
        bool tied;
    } cases[] = {{"Llama tied", true},
                 {"tied, an equal copy is stored", true},
                 {"tied, stored as the head", true},
                 {"tied, another head is stored", false}};
    int64_t counts[4];
    for (size_t i = 0; i < 4; i++) {
        struct engine engine;
        char *directory = make_directory(vectors, find_case(vectors, cases[i].name));
        engine_open(&engine, directory);
        counts[i] = model_parameter_count(engine.model);
        assert_int_equal(counts[i], counts[0] + (cases[i].tied ? 0 : 48 * 16));
        engine_close(&engine);
        testkit_remove_tree(directory);
    }
    json_decref(vectors);
}

static void test_an_untied_model_without_a_head_is_refused(void **state) {
    (void)state;
    json_t *vectors = load_vectors();
    char *directory = make_directory(vectors, find_case(vectors, "Llama tied"));
    json_t *config = json_copy(json_object_get(find_case(vectors, "Llama tied"), "config"));
    json_object_set_new(config, "tie_word_embeddings", json_false());
    write_json(directory, "config.json", config);
    struct backend *backend;
    struct model *model = NULL;
    struct error err = {0};
    assert_ok(backend_create("cpu", 1, &backend, &err), &err);
    assert_status(STATUS_NOT_FOUND, model_open(directory, backend, PRECISION_STORED, &model, &err));
    assert_string_equal(err.field, "lm_head.weight");
    backend_destroy(backend);
    json_decref(config);
    json_decref(vectors);
    testkit_remove_tree(directory);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_heads_give_what_their_libraries_give),
        cmocka_unit_test(test_a_stored_bias_of_a_classifier_is_refused),
        cmocka_unit_test(test_an_absent_do_normalize_is_false),
        cmocka_unit_test(test_a_stored_head_wins_over_the_tied_flag),
        cmocka_unit_test(test_an_equal_copy_stays_tied),
        cmocka_unit_test(test_an_untied_model_without_a_head_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
