// Tiny models of every architecture, rope kind, window, bias, tie and head count against what
// transformers computes from the same configuration and weights (tests/vectors/shapes.json, made by
// tests/parity/make_shape_vectors.py), for a prompt of 8 tokens and one of 600; and what is
// refused.
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/model/made_weights.h"
#include "tests/model/shape_model.h"
#include "tests/support/testkit.h"
#include "worker/model/context.h"

enum { PROMPT_MAX = 600, VECTORS_MIN = 150 };

// Relative to the largest logit of the row: transformers takes the angles of positions in float32.
static const double tolerance = 1e-4;

static json_t *load_vectors(void) {
    json_error_t where;
    json_t *all = json_load_file(testkit_source_path("tests/vectors/shapes.json"), 0, &where);
    if (all == NULL) {
        fail_msg("shapes.json, line %d: %s", where.line, where.text);
    }
    return all;
}

// The base with the members of `change`; "absent" removes one.
static json_t *merge(const json_t *base, const json_t *change) {
    json_t *config = json_deep_copy(base), *value;
    const char *key;
    json_object_foreach((json_t *)(uintptr_t)change, key, value) {
        bool absent = json_is_string(value) && strcmp(json_string_value(value), "absent") == 0;
        if (absent) {
            json_object_del(config, key);
        } else {
            json_object_set(config, key, value);
        }
    }
    return config;
}

static int integer(const json_t *object, const char *key) {
    return (int)json_integer_value(json_object_get(object, key));
}

struct engine {
    struct backend *backend;
    struct model *model;
    struct model_context *context;
};

// A context for texts of n tokens, no longer than where all results are those of transformers, or
// as long as the model allows.
static void context_open(struct engine *engine, int32_t n) {
    const struct model_config *config = model_get_config(engine->model);
    int32_t exact = model_config_default_context(config);
    const struct model_context_options options = {
        .n_kv_blocks = PROMPT_MAX / KV_BLOCK_TOKENS + 1,
        .n_sequences = 1,
        .batch_rows = 128,
        .output_rows = PROMPT_MAX,
        .context_tokens = n <= exact ? exact : config->context_length,
    };
    struct error err = {0};
    assert_ok(model_context_create(engine->model, &options, &engine->context, &err), &err);
}

static void run_prompt(struct engine *engine, int32_t n, int32_t vocab) {
    int32_t ids[PROMPT_MAX];
    struct error err = {0};
    for (int32_t i = 0; i < n; i++) {
        ids[i] = 2 + (int32_t)((made_weights_draw("tokens", (uint64_t)i) + 0.5) * (vocab - 2));
    }
    struct sequence *sequence = sequence_create(engine->context);
    const struct forward_item item = {sequence, ids, n, FORWARD_OUTPUT_ALL};
    assert_ok(model_forward(engine->context, &item, 1, &err), &err);
    sequence_destroy(engine->context, sequence);
}

static double check_logits(struct engine *engine, const json_t *run, const char *name) {
    struct tensor logits, states = *model_outputs(engine->context);
    int position = integer(run, "position");
    float row[512];
    states.data = (char *)states.data + (size_t)position * (size_t)states.cols * sizeof(float);
    states.rows = 1;
    assert_status(STATUS_OK, model_logits(engine->context, &states, &logits));
    assert_in_range(logits.cols, 1, 512);
    size_t bytes = (size_t)logits.cols * sizeof(float);
    assert_status(STATUS_OK,
                  engine->backend->ops->download(engine->backend, row, logits.data, bytes));
    const json_t *shown = json_object_get(run, "logits");
    int n_shown = (int)json_array_size(shown), step = logits.cols / n_shown;
    double squares = 0, largest = 0, worst = 0;
    for (int i = 0; i < logits.cols; i++) {
        squares += (double)row[i] * (double)row[i];
        largest = fmax(largest, fabs((double)row[i]));
    }
    for (int i = 0; i < n_shown; i++) {
        double want = json_number_value(json_array_get(shown, (size_t)i));
        worst = fmax(worst, fabs((double)row[i * step + (position + i) % step] - want));
    }
    double norm = json_number_value(json_object_get(run, "norm"));
    worst = fmax(worst / largest, fabs(sqrt(squares) - norm) / norm);
    if (!(worst <= tolerance)) {
        print_error("%s, %d tokens, position %d: off by %.2g of %g\n", name, integer(run, "n"),
                    position, worst, largest);
    }
    return worst;
}

static double check_score(struct engine *engine, const json_t *run, const char *name) {
    float scores[PROMPT_MAX];
    assert_status(STATUS_OK, model_score_outputs(engine->context, scores));
    double want = json_number_value(json_object_get(run, "score"));
    double off = fabs((double)scores[integer(run, "n") - 1] - want) / fmax(fabs(want), 1);
    if (!(off <= tolerance)) {
        print_error("%s, %d tokens: off by %.2g of %g\n", name, integer(run, "n"), off, want);
    }
    return off;
}

static double check_vector(struct engine *engine, const json_t *base, const json_t *vector) {
    const char *name = json_string_value(json_object_get(vector, "name"));
    json_t *config = merge(base, json_object_get(vector, "config"));
    char *directory = shape_model_make(config);
    struct error err = {0};
    enum status status =
        model_open(directory, engine->backend, PRECISION_STORED, &engine->model, &err);
    if (status != STATUS_OK) {
        fail_msg("%s: %s: %s", name, err.field, err.message);
    }
    const json_t *runs = json_object_get(vector, "runs");
    double worst = 0;
    int n = 0;
    for (size_t i = 0; i < json_array_size(runs); i++) {
        const json_t *run = json_array_get(runs, i);
        if (n != integer(run, "n")) {
            n = integer(run, "n");
            model_context_destroy(engine->context);
            context_open(engine, n);
            run_prompt(engine, n, integer(config, "vocab_size"));
        }
        bool scored = json_object_get(run, "score") != NULL;
        double off = scored ? check_score(engine, run, name) : check_logits(engine, run, name);
        worst = fmax(worst, off);
    }
    model_context_destroy(engine->context);
    engine->context = NULL;
    model_close(engine->model);
    testkit_remove_tree(directory);
    json_decref(config);
    return worst;
}

static void test_logits_equal_transformers(void **state) {
    (void)state;
    json_t *all = load_vectors();
    const json_t *vectors = json_object_get(all, "vectors");
    const json_t *base = json_object_get(all, "base");
    struct engine engine = {0};
    struct error err = {0};
    double worst = 0;
    int n_wrong = 0;
    assert_in_range(json_array_size(vectors), VECTORS_MIN, 10000);
    assert_ok(backend_create("cpu", 1, &engine.backend, &err), &err);
    for (size_t i = 0; i < json_array_size(vectors); i++) {
        double off = check_vector(&engine, base, json_array_get(vectors, i));
        n_wrong += !(off <= tolerance);
        worst = fmax(worst, off);
    }
    print_message("%zu configurations, furthest off by %.2g\n", json_array_size(vectors), worst);
    assert_int_equal(n_wrong, 0);
    backend_destroy(engine.backend);
    json_decref(all);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_logits_equal_transformers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
