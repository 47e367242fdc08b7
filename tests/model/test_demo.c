// The shipped models against the vectors that the transformers library computed from the same files
// (tests/vectors/demo, made by models/train/golden.py).
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/support/testkit.h"
#include "worker/model/context.h"

// f32 sums in another order than torch's; the vectors have six digits after the point.
static const double tolerance = 5e-5;

enum { TOKENS_MAX = 256 };

struct engine {
    json_t *vectors;
    struct backend *backend;
    struct model *model;
    struct model_context *context;
    struct sequence *sequence; // of the case in progress
};

static void engine_open(struct engine *engine, const char *name) {
    struct error err = {0};
    char path[64];
    snprintf(path, sizeof path, "tests/vectors/demo/%s.json", name);
    engine->vectors = json_load_file(testkit_source_path(path), 0, NULL);
    assert_non_null(engine->vectors);
    assert_true(json_array_size(json_object_get(engine->vectors, "cases")) > 0);
    snprintf(path, sizeof path, "models/demo/%s", name);
    assert_ok(backend_create("cpu", 2, &engine->backend, &err), &err);
    assert_ok(model_open(testkit_source_path(path), engine->backend, PRECISION_STORED,
                         &engine->model, &err),
              &err);
    const struct model_context_options options = {.n_kv_blocks = TOKENS_MAX / KV_BLOCK_TOKENS,
                                                  .n_sequences = 1,
                                                  .batch_rows = 64,
                                                  .output_rows = TOKENS_MAX,
                                                  .context_tokens = TOKENS_MAX};
    assert_ok(model_context_create(engine->model, &options, &engine->context, &err), &err);
}

static void engine_close(struct engine *engine) {
    model_context_destroy(engine->context);
    model_close(engine->model);
    backend_destroy(engine->backend);
    json_decref(engine->vectors);
}

static const json_t *case_at(const struct engine *engine, size_t index) {
    return json_array_get(json_object_get(engine->vectors, "cases"), index);
}

static int read_ids(const json_t *array, int32_t *ids) {
    size_t n = json_array_size(array);
    assert_in_range(n, 1, TOKENS_MAX);
    for (size_t i = 0; i < n; i++) {
        ids[i] = (int32_t)json_integer_value(json_array_get(array, i));
    }
    return (int)n;
}

static void feed(struct engine *engine, const int32_t *ids, int n, enum forward_output output) {
    struct error err = {0};
    const struct forward_item item = {engine->sequence, ids, n, output};
    assert_ok(model_forward(engine->context, &item, 1, &err), &err);
}

static void assert_near(double got, double want, const char *what, size_t number, size_t place) {
    if (!(fabs(got - want) <= tolerance)) {
        fail_msg("%s, case %zu, place %zu: %.6f instead of %.6f", what, number, place, got, want);
    }
}

// One greedy step: the named logits, and the largest is the next id.
static void check_step(struct engine *engine, const json_t *top, int32_t next, size_t number,
                       size_t place) {
    int32_t vocab = model_get_config(engine->model)->vocab_size;
    float *values = calloc((size_t)vocab, sizeof *values);
    struct tensor logits;
    assert_non_null(values);
    assert_status(STATUS_OK,
                  model_logits(engine->context, model_outputs(engine->context), &logits));
    assert_status(STATUS_OK, engine->backend->ops->download(engine->backend, values, logits.data,
                                                            (size_t)vocab * sizeof *values));
    for (size_t i = 0; i < json_array_size(top); i++) {
        const json_t *pair = json_array_get(top, i);
        json_int_t id = json_integer_value(json_array_get(pair, 0));
        assert_in_range(id, 0, vocab - 1);
        assert_near((double)values[id], json_number_value(json_array_get(pair, 1)), "policy",
                    number, place);
    }
    int32_t best = 0;
    for (int32_t id = 1; id < vocab; id++) {
        best = values[id] > values[best] ? id : best;
    }
    assert_int_equal(best, next);
    free(values);
}

static void test_policy_continues_as_in_transformers(void **state) {
    (void)state;
    struct engine engine;
    engine_open(&engine, "policy");
    for (size_t number = 0; case_at(&engine, number) != NULL; number++) {
        const json_t *steps = json_object_get(case_at(&engine, number), "steps");
        int32_t prompt[TOKENS_MAX], next[TOKENS_MAX];
        int n_prompt = read_ids(json_object_get(case_at(&engine, number), "prompt_ids"), prompt);
        int n_next = read_ids(json_object_get(case_at(&engine, number), "next_ids"), next);
        assert_int_equal(json_array_size(steps), n_next);
        engine.sequence = sequence_create(engine.context);
        for (int i = 0; i < n_next; i++) {
            feed(&engine, i == 0 ? prompt : &next[i - 1], i == 0 ? n_prompt : 1,
                 FORWARD_OUTPUT_LAST);
            check_step(&engine, json_array_get(steps, (size_t)i), next[i], number, (size_t)i);
        }
        sequence_destroy(engine.context, engine.sequence);
    }
    engine_close(&engine);
}

static void test_cost_scores_every_position_as_in_transformers(void **state) {
    (void)state;
    struct engine engine;
    engine_open(&engine, "cost");
    for (size_t number = 0; case_at(&engine, number) != NULL; number++) {
        const json_t *want = json_object_get(case_at(&engine, number), "scores");
        int32_t ids[TOKENS_MAX];
        float scores[TOKENS_MAX];
        int n = read_ids(json_object_get(case_at(&engine, number), "ids"), ids);
        assert_int_equal(json_array_size(want), n);
        engine.sequence = sequence_create(engine.context);
        feed(&engine, ids, n, FORWARD_OUTPUT_ALL);
        assert_status(STATUS_OK, model_score_outputs(engine.context, scores));
        for (int i = 0; i < n; i++) {
            assert_near((double)scores[i], json_number_value(json_array_get(want, (size_t)i)),
                        "cost", number, (size_t)i);
        }
        sequence_destroy(engine.context, engine.sequence);
    }
    engine_close(&engine);
}

static void test_reward_scores_the_last_position_as_in_transformers(void **state) {
    (void)state;
    struct engine engine;
    engine_open(&engine, "reward");
    for (size_t number = 0; case_at(&engine, number) != NULL; number++) {
        int32_t ids[TOKENS_MAX];
        float score;
        int n = read_ids(json_object_get(case_at(&engine, number), "ids"), ids);
        engine.sequence = sequence_create(engine.context);
        feed(&engine, ids, n, FORWARD_OUTPUT_LAST);
        assert_status(STATUS_OK, model_score_outputs(engine.context, &score));
        assert_near((double)score,
                    json_number_value(json_object_get(case_at(&engine, number), "score")), "reward",
                    number, (size_t)n - 1);
        sequence_destroy(engine.context, engine.sequence);
    }
    engine_close(&engine);
}

int main(void) {
    if (access(testkit_source_path("tests/vectors/demo/policy.json"), R_OK) != 0) {
        print_message("skipped: models/train/golden.py has not made tests/vectors/demo\n");
        return TESTKIT_SKIP;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_policy_continues_as_in_transformers),
        cmocka_unit_test(test_cost_scores_every_position_as_in_transformers),
        cmocka_unit_test(test_reward_scores_the_last_position_as_in_transformers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
