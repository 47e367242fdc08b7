// The engine against the float64 reference: the same random weights, written as a Hugging Face
// directory, opened and run on the CPU backend. Weights are exact on both sides whatever their
// dtype, so one tolerance covers all: what is left is the engine's f32 arithmetic.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/model/model_files.h"
#include "tests/support/testkit.h"
#include "worker/model/context.h"

// Relative to the largest value of the row; f32 sums of up to 200 terms through 3 layers.
static const double tolerance = 1e-5;

enum { PROMPT = 53, BATCH_ROWS = 20 }; // over three KV blocks, cut into three batches

// Head size and theta give pairs in all three ranges of the llama3 rule.
static const struct reference_shape llama3_shape = {.architecture = "LlamaForCausalLM",
                                                    .vocab_size = 97,
                                                    .hidden_dim = 64,
                                                    .ffn_dim = 172,
                                                    .n_layers = 3,
                                                    .n_heads = 8,
                                                    .n_kv_heads = 2,
                                                    .context_length = 128,
                                                    .norm_eps = 1e-5,
                                                    .head_dim = 16,
                                                    .rope_theta = 1000,
                                                    .llama3_scaling = true};
static const struct reference_shape mistral_shape = {.architecture = "MistralForCausalLM",
                                                     .vocab_size = 101,
                                                     .hidden_dim = 48,
                                                     .ffn_dim = 130,
                                                     .n_layers = 2,
                                                     .n_heads = 4,
                                                     .n_kv_heads = 4,
                                                     .head_dim = 20,
                                                     .context_length = 96,
                                                     .norm_eps = 1e-6,
                                                     .rope_theta = 1000000};
static const struct reference_shape qwen2_shape = {.architecture = "Qwen2ForCausalLM",
                                                   .vocab_size = 130,
                                                   .hidden_dim = 56,
                                                   .ffn_dim = 100,
                                                   .n_layers = 3,
                                                   .n_heads = 7,
                                                   .n_kv_heads = 1,
                                                   .context_length = 64,
                                                   .norm_eps = 1e-6,
                                                   .rope_theta = 10000,
                                                   .qkv_bias = true,
                                                   .tied = true};

struct engine {
    struct backend *backend;
    struct model *model;
    struct model_context *context;
};

static void engine_open(struct engine *engine, const char *directory) {
    struct error err = {0};
    assert_ok(backend_create("cpu", 2, &engine->backend, &err), &err);
    assert_ok(model_open(directory, engine->backend, PRECISION_STORED, &engine->model, &err), &err);
    const struct model_context_options options = {.n_kv_blocks = 16,
                                                  .n_sequences = 4,
                                                  .batch_rows = BATCH_ROWS,
                                                  .output_rows = PROMPT,
                                                  .context_tokens = 64};
    assert_ok(model_context_create(engine->model, &options, &engine->context, &err), &err);
}

static void engine_close(struct engine *engine) {
    model_context_destroy(engine->context);
    model_close(engine->model);
    backend_destroy(engine->backend);
}

static void run_tokens(struct engine *engine, struct sequence *sequence, const int32_t *ids,
                       int n) {
    struct error err = {0};
    const struct forward_item item = {sequence, ids, n, FORWARD_OUTPUT_ALL};
    assert_ok(model_forward(engine->context, &item, 1, &err), &err);
    assert_int_equal(model_output_count(engine->context), n);
}

// Logits of the kept rows [n, vocab].
static void get_logits(struct engine *engine, float *out, int n) {
    struct tensor logits;
    assert_status(STATUS_OK,
                  model_logits(engine->context, model_outputs(engine->context), &logits));
    assert_int_equal(logits.rows, n);
    size_t bytes = (size_t)n * (size_t)logits.cols * sizeof *out;
    assert_status(STATUS_OK,
                  engine->backend->ops->download(engine->backend, out, logits.data, bytes));
}

static void assert_row_near(const float *got, const double *want, int n, const char *what,
                            int row) {
    double largest = 0, worst = 0;
    for (int i = 0; i < n; i++) {
        largest = fmax(largest, fabs(want[i]));
        worst = fmax(worst, fabs((double)got[i] - want[i]));
    }
    if (!(worst <= tolerance * largest)) {
        fail_msg("%s, row %d: off by %g, the largest value is %g", what, row, worst, largest);
    }
}

static void random_ids(int32_t *ids, int n, int vocab) {
    uint32_t state = 12345;
    for (int i = 0; i < n; i++) {
        state = state * 1664525 + 1013904223;
        ids[i] = (int32_t)((state >> 8) % (uint32_t)vocab);
    }
}

// One prefill and one token at a time: near the reference, and equal to each other bit for bit.
static void check_logits(const struct reference_shape *shape, enum reference_dtype dtype,
                         int n_shards) {
    struct reference_shape wanted = *shape;
    wanted.dtype = dtype;
    struct reference_model *reference = reference_model_create(&wanted, 3);
    char *directory = testkit_make_directory();
    reference_model_write(reference, directory, n_shards, -1);
    struct engine engine;
    engine_open(&engine, directory);
    assert_int_equal(model_parameter_count(engine.model), reference_model_parameters(reference));

    int vocab = shape->vocab_size;
    int32_t ids[PROMPT];
    random_ids(ids, PROMPT, vocab);
    double *hidden = calloc((size_t)(PROMPT * shape->hidden_dim), sizeof *hidden);
    double *want = calloc((size_t)vocab, sizeof *want);
    float *prefill = calloc((size_t)(PROMPT * vocab), sizeof *prefill);
    float *step = calloc((size_t)vocab, sizeof *step);
    reference_model_forward(reference, ids, PROMPT, hidden);

    struct sequence *whole = sequence_create(engine.context);
    run_tokens(&engine, whole, ids, PROMPT);
    get_logits(&engine, prefill, PROMPT);
    struct sequence *stepwise = sequence_create(engine.context);
    for (int t = 0; t < PROMPT; t++) {
        reference_model_logits(reference, hidden + t * shape->hidden_dim, want);
        assert_row_near(prefill + t * vocab, want, vocab, shape->architecture, t);
        run_tokens(&engine, stepwise, ids + t, 1);
        get_logits(&engine, step, 1);
        assert_memory_equal(step, prefill + t * vocab, (size_t)vocab * sizeof *step);
    }
    sequence_destroy(engine.context, whole);
    sequence_destroy(engine.context, stepwise);
    free(hidden);
    free(want);
    free(prefill);
    free(step);
    engine_close(&engine);
    testkit_remove_tree(directory);
    reference_model_destroy(reference);
}

static void test_llama3_equals_the_reference(void **state) {
    (void)state;
    check_logits(&llama3_shape, REFERENCE_F32, 1);
    check_logits(&llama3_shape, REFERENCE_F16, 1);
    check_logits(&llama3_shape, REFERENCE_BF16, 3);
}

static void test_mistral_equals_the_reference(void **state) {
    (void)state;
    check_logits(&mistral_shape, REFERENCE_F32, 2);
    check_logits(&mistral_shape, REFERENCE_F16, 1);
    check_logits(&mistral_shape, REFERENCE_BF16, 1);
}

static void test_qwen2_equals_the_reference(void **state) {
    (void)state;
    check_logits(&qwen2_shape, REFERENCE_F32, 1);
    check_logits(&qwen2_shape, REFERENCE_F16, 4);
    check_logits(&qwen2_shape, REFERENCE_BF16, 1);
}

static void check_scores(const struct reference_shape *shape) {
    struct reference_model *reference = reference_model_create(shape, 4);
    char *directory = testkit_make_directory();
    reference_model_write(reference, directory, 1, -1);
    struct engine engine;
    engine_open(&engine, directory);
    int32_t ids[PROMPT];
    random_ids(ids, PROMPT, shape->vocab_size);
    double *hidden = calloc((size_t)(PROMPT * shape->hidden_dim), sizeof *hidden);
    reference_model_forward(reference, ids, PROMPT, hidden);
    struct sequence *sequence = sequence_create(engine.context);
    run_tokens(&engine, sequence, ids, PROMPT);
    float scores[PROMPT];
    double want[PROMPT];
    assert_status(STATUS_OK, model_score_outputs(engine.context, scores));
    for (int t = 0; t < PROMPT; t++) {
        want[t] = reference_model_score(reference, hidden + t * shape->hidden_dim);
    }
    assert_row_near(scores, want, PROMPT, shape->architecture, 0);
    sequence_destroy(engine.context, sequence);
    free(hidden);
    engine_close(&engine);
    testkit_remove_tree(directory);
    reference_model_destroy(reference);
}

static void test_scores_equal_the_reference(void **state) {
    (void)state;
    struct reference_shape shape = llama3_shape;
    static const char *const classes[] = {"LlamaForSequenceClassification",
                                          "MistralForSequenceClassification"};
    for (int i = 0; i < 2; i++) {
        shape.architecture = classes[i];
        shape.dtype = i == 0 ? REFERENCE_F32 : REFERENCE_BF16;
        check_scores(&shape);
    }
    static const char *const types[] = {"cost", "reward", "critic"};
    for (int i = 0; i < 12; i++) {
        shape.architecture = i % 2 == 0 ? "LlamaForScore" : "LlamaModelForScore";
        shape.dtype = (enum reference_dtype)(i % 3);
        shape.score_type = types[i / 4];
        shape.do_normalize = i / 2 % 2 == 0;
        shape.score_bias = i % 2 == 0;
        check_scores(&shape);
    }
    shape = qwen2_shape;
    shape.architecture = "Qwen2ForSequenceClassification";
    check_scores(&shape);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_llama3_equals_the_reference),
        cmocka_unit_test(test_mistral_equals_the_reference),
        cmocka_unit_test(test_qwen2_equals_the_reference),
        cmocka_unit_test(test_scores_equal_the_reference),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
