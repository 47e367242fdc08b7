// A row's result is the same bit for bit whatever stands beside it: other rows, the size of the
// batch, prefill or single tokens, shared or own blocks, threads. Whole models; test_linear.c has
// products alone.
#include "tests/support/testkit.h"

#include <stdlib.h>
#include <string.h>

#include "common/rng.h"
#include "tests/backend/reference.h"
#include "tests/model/model_files.h"
#include "tests/model/shape_model.h"
#include "worker/model/context.h"

enum { THREADS_MAX = 4 };

// A model and the final states of one text, computed token by token by one thread.
enum { TEXT = 90, VOCAB_USED = 60, HIDDEN_MAX = 128 };

struct subject {
    char *directory;
    enum precision precision;
    enum kv_dtype kv_dtype;
    int32_t text[TEXT];
    float expected[TEXT * HIDDEN_MAX];
    size_t row_bytes;
};

struct engine {
    struct backend *backend;
    struct model *model;
    struct model_context *context;
};

static bool engine_open(struct engine *engine, const struct subject *subject, const char *isa,
                        int n_threads, int32_t batch_rows) {
    const struct model_context_options options = {.n_kv_blocks = 64,
                                                  .n_sequences = 40,
                                                  .batch_rows = batch_rows,
                                                  .output_rows = 128,
                                                  .context_tokens = TEXT + 6,
                                                  .kv_dtype = subject->kv_dtype};
    struct error err = {0};
    engine->backend = reference_backend(isa, n_threads);
    if (engine->backend == NULL) {
        return false;
    }
    assert_ok(
        model_open(subject->directory, engine->backend, subject->precision, &engine->model, &err),
        &err);
    assert_ok(model_context_create(engine->model, &options, &engine->context, &err), &err);
    return true;
}

static void engine_close(struct engine *engine) {
    assert_int_equal(64, model_context_blocks_free(engine->context));
    model_context_destroy(engine->context);
    model_close(engine->model);
    backend_destroy(engine->backend);
}

static void run(struct engine *engine, const struct forward_item *items, int32_t n) {
    struct error err = {0};
    assert_ok(model_forward(engine->context, items, n, &err), &err);
}

// The kept states from row `at` on are those of positions [first, first + n) of the text.
static void assert_states(struct engine *engine, const struct subject *subject, int32_t at,
                          int32_t first, int32_t n) {
    const char *states = model_outputs(engine->context)->data;
    assert_in_range(at + n, 1, model_output_count(engine->context));
    assert_memory_equal((const char *)subject->expected + (size_t)first * subject->row_bytes,
                        states + (size_t)at * subject->row_bytes, (size_t)n * subject->row_bytes);
}

static void compute_expected(struct subject *subject, const char *isa) {
    struct engine engine;
    assert_true(engine_open(&engine, subject, isa, 1, 1));
    struct sequence *sequence = sequence_create(engine.context);
    subject->row_bytes = (size_t)model_get_config(engine.model)->hidden_dim * sizeof(float);
    for (int32_t t = 0; t < TEXT; ++t) {
        run(&engine, &(struct forward_item){sequence, &subject->text[t], 1, FORWARD_OUTPUT_LAST},
            1);
        memcpy((char *)subject->expected + (size_t)t * subject->row_bytes,
               model_outputs(engine.context)->data, subject->row_bytes);
    }
    sequence_destroy(engine.context, sequence);
    engine_close(&engine);
}

static void check_prefill(const struct subject *subject, const char *isa) {
    for (int threads = 1; threads <= THREADS_MAX; ++threads) {
        for (int32_t rows = 1; rows <= TEXT; rows = rows * 2 + 3) {
            struct engine engine;
            assert_true(engine_open(&engine, subject, isa, threads, rows));
            struct sequence *sequence = sequence_create(engine.context);
            run(&engine, &(struct forward_item){sequence, subject->text, TEXT, FORWARD_OUTPUT_ALL},
                1);
            assert_states(&engine, subject, 0, 0, TEXT);
            // Again from the middle of a block, wanting the last only.
            sequence_truncate(engine.context, sequence, 37);
            run(&engine,
                &(struct forward_item){sequence, subject->text + 37, TEXT - 37,
                                       FORWARD_OUTPUT_LAST},
                1);
            assert_states(&engine, subject, 0, TEXT - 1, 1);
            sequence_destroy(engine.context, sequence);
            engine_close(&engine);
        }
    }
}

// Sequences that share stems, diverge and follow the text at different places, one batch after
// another, beside noise that follows another text.
static void check_mixed(const struct subject *subject, const char *isa, int threads) {
    enum { FORKS = 20 };
    struct engine engine;
    assert_true(engine_open(&engine, subject, isa, threads, 33));
    struct sequence *stem = sequence_create(engine.context), *forks[FORKS];
    struct forward_item items[FORKS];
    run(&engine, &(struct forward_item){stem, subject->text, 41, FORWARD_OUTPUT_NONE}, 1);
    assert_int_equal(0, model_output_count(engine.context));
    for (int i = 0; i < FORKS; ++i) {
        forks[i] = sequence_fork(engine.context, stem, 41 - i);
    }
    sequence_destroy(engine.context, stem);
    int32_t noise[TEXT];
    for (int32_t t = 0; t < TEXT; ++t) {
        noise[t] = (subject->text[t] + 1) % VOCAB_USED;
    }
    uint64_t draws = 0;
    for (int round = 0; round < 12; ++round) {
        int32_t n = 0, first[FORKS], wanted[FORKS];
        for (int i = 0; i < FORKS; ++i) {
            int32_t length = sequence_length(forks[i]);
            int32_t n_tokens = 1 + (int32_t)(rng_uniform(9, draws++, 0, 0) * 5);
            if (length + n_tokens > TEXT || rng_uniform(9, draws++, 0, 0) < 0.2) {
                continue;
            }
            bool noisy = i % 4 == 3;
            first[n] = noisy ? -1 : length;
            wanted[n] = round % 2 ? n_tokens : 1;
            items[n] =
                (struct forward_item){forks[i], (noisy ? noise : subject->text) + length, n_tokens,
                                      round % 2 ? FORWARD_OUTPUT_ALL : FORWARD_OUTPUT_LAST};
            n += 1;
        }
        run(&engine, items, n);
        for (int32_t i = 0, at = 0; i < n; at += wanted[i], ++i) {
            if (first[i] >= 0) {
                assert_states(&engine, subject, at, first[i] + items[i].n_tokens - wanted[i],
                              wanted[i]);
            }
        }
    }
    for (int i = 0; i < FORKS; ++i) {
        sequence_destroy(engine.context, forks[i]);
    }
    engine_close(&engine);
}

// Takes directory.
static void check_directory(char *directory, enum precision precision, enum kv_dtype kv_dtype) {
    struct subject *subject = calloc(1, sizeof(*subject));
    subject->precision = precision;
    subject->kv_dtype = kv_dtype;
    subject->directory = directory;
    for (int32_t t = 0; t < TEXT; ++t) {
        subject->text[t] = (int32_t)(rng_uniform(5, (uint64_t)t, 0, 0) * VOCAB_USED);
    }
    for (int i = 0; i < REFERENCE_ISAS; ++i) {
        struct backend *probe = reference_backend(reference_isas[i], 1);
        if (probe == NULL) {
            continue;
        }
        backend_destroy(probe);
        compute_expected(subject, reference_isas[i]);
        check_prefill(subject, reference_isas[i]);
        for (int threads = 1; threads <= THREADS_MAX; ++threads) {
            check_mixed(subject, reference_isas[i], threads);
        }
    }
    testkit_remove_tree(subject->directory);
    free(subject);
}

static void check_model(const struct reference_shape *shape, enum precision precision,
                        enum kv_dtype kv_dtype) {
    check_directory(model_files_make(shape, 1, -1), precision, kv_dtype);
}

// Large enough that the operations do spread over threads, odd enough that no dimension is a
// multiple of a tile.
static struct reference_shape odd_shape(void) {
    struct reference_shape shape = small_llama;
    shape.vocab_size = 67;
    shape.hidden_dim = 108;
    shape.ffn_dim = 301;
    shape.n_layers = 2;
    shape.n_heads = 6;
    shape.n_kv_heads = 3;
    shape.head_dim = 18;
    shape.context_length = 128;
    return shape;
}

static void test_model_states_do_not_depend_on_the_batch(void **state) {
    (void)state;
    struct reference_shape shape = odd_shape();
    // PRECISION_Q4 takes no weights but a GGUF file's: test_linear_q4.
    for (int i = 0; i < PRECISION_Q4; ++i) {
        check_model(&shape, (enum precision)i, KV_F32);
    }
}

static void test_states_over_every_kv_format_do_not_depend_on_the_batch(void **state) {
    (void)state;
    struct reference_shape shape = odd_shape();
    for (int i = 0; i < KV_DTYPES; ++i) {
        check_model(&shape, PRECISION_INT8, (enum kv_dtype)i);
    }
}

static void test_half_precision_model_states_do_not_depend_on_the_batch(void **state) {
    (void)state;
    struct reference_shape shape = odd_shape();
    shape.dtype = REFERENCE_BF16;
    shape.architecture = "Qwen2ForCausalLM";
    shape.qkv_bias = true;
    check_model(&shape, PRECISION_STORED, KV_F32);
}

// Windows that end inside blocks and spans, norms of heads, biases on every product, fused tensors,
// partial rotation and scaled cosines.
static void test_states_of_every_shape_do_not_depend_on_the_batch(void **state) {
    (void)state;
    static const char base[] =
        "{\"vocab_size\": 67, \"hidden_size\": 108, \"intermediate_size\": 301,"
        " \"num_hidden_layers\": 2, \"num_attention_heads\": 6, \"num_key_value_heads\": 3,"
        " \"max_position_embeddings\": 128, \"tie_word_embeddings\": true}";
    static const struct {
        const char *change;
        enum precision precision;
        enum kv_dtype kv_dtype;
    } cases[] = {
        {"{\"architectures\": [\"Qwen3ForCausalLM\"], \"model_type\": \"qwen3\", \"head_dim\": 18,"
         " \"attention_bias\": true, \"use_sliding_window\": true, \"sliding_window\": 21,"
         " \"max_window_layers\": 1, \"rope_scaling\": {\"type\": \"yarn\", \"factor\": 4}}",
         PRECISION_STORED, KV_F32},
        {"{\"architectures\": [\"Qwen3ForCausalLM\"], \"model_type\": \"qwen3\", \"head_dim\": 18,"
         " \"use_sliding_window\": true, \"sliding_window\": 65, \"max_window_layers\": 0}",
         PRECISION_BF16, KV_BF16},
        {"{\"architectures\": [\"LlamaForCausalLM\"], \"model_type\": \"llama\", \"head_dim\": 18,"
         " \"attention_bias\": true, \"mlp_bias\": true}",
         PRECISION_INT8, KV_F16},
        {"{\"architectures\": [\"Phi3ForCausalLM\"], \"model_type\": \"phi3\","
         " \"sliding_window\": 30, \"partial_rotary_factor\": 0.34, \"rope_scaling\": {"
         "\"type\": \"longrope\", \"attention_factor\": 1.2, \"short_factor\": [1, 2, 3],"
         " \"long_factor\": [2, 3, 4]}}",
         PRECISION_INT8, KV_INT8},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); ++i) {
        json_t *config = json_loads(base, 0, NULL), *change = json_loads(cases[i].change, 0, NULL);
        assert_non_null(config);
        assert_non_null(change);
        json_object_update(config, change);
        check_directory(shape_model_make(config), cases[i].precision, cases[i].kv_dtype);
        json_decref(config);
        json_decref(change);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_model_states_do_not_depend_on_the_batch),
        cmocka_unit_test(test_states_over_every_kv_format_do_not_depend_on_the_batch),
        cmocka_unit_test(test_half_precision_model_states_do_not_depend_on_the_batch),
        cmocka_unit_test(test_states_of_every_shape_do_not_depend_on_the_batch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
