// A sequence whose numbers overflow is its own trouble: no other one's bits change, neither beside
// it nor in the KV that it leaves behind, in any precision and KV format.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/model/model_files.h"
#include "tests/support/testkit.h"
#include "worker/model/context.h"

enum { N_TOKENS = 2 * KV_BLOCK_TOKENS - 5, OVERFLOWS = 7, VOCAB = 40 };

struct engine {
    struct backend *backend;
    struct model *model;
    struct model_context *context;
};

static void engine_open(struct engine *engine, const char *directory, enum precision precision,
                        enum kv_dtype kv_dtype) {
    struct error err = {0};
    assert_ok(backend_create("cpu", 1, &engine->backend, &err), &err);
    assert_ok(model_open(directory, engine->backend, precision, &engine->model, &err), &err);
    const struct model_context_options options = {.n_kv_blocks = 4,
                                                  .n_sequences = 2,
                                                  .batch_rows = 24,
                                                  .output_rows = 2,
                                                  .context_tokens = 2 * KV_BLOCK_TOKENS,
                                                  .kv_dtype = kv_dtype};
    assert_ok(model_context_create(engine->model, &options, &engine->context, &err), &err);
}

static void engine_close(struct engine *engine) {
    model_context_destroy(engine->context);
    model_close(engine->model);
    backend_destroy(engine->backend);
}

// logits[n, VOCAB] after the last token of each.
static void run(struct engine *engine, const int32_t (*ids)[N_TOKENS], int n, float *logits) {
    struct error err = {0};
    struct forward_item items[2];
    for (int i = 0; i < n; i++) {
        items[i] = (struct forward_item){sequence_create(engine->context), ids[i], N_TOKENS,
                                         FORWARD_OUTPUT_LAST};
    }
    assert_ok(model_forward(engine->context, items, n, &err), &err);
    struct tensor result;
    assert_status(STATUS_OK,
                  model_logits(engine->context, model_outputs(engine->context), &result));
    assert_status(STATUS_OK, engine->backend->ops->download(engine->backend, logits, result.data,
                                                            (size_t)n * VOCAB * sizeof *logits));
    for (int i = 0; i < n; i++) {
        sequence_destroy(engine->context, items[i].sequence);
    }
}

static void check(const char *directory, enum precision precision, enum kv_dtype kv_dtype) {
    int32_t ids[2][N_TOKENS];
    float alone[VOCAB], again[VOCAB], both[2 * VOCAB];
    for (int i = 0; i < N_TOKENS; i++) {
        ids[0][i] = 8 + i % 30;
        ids[1][i] = i == 3 ? OVERFLOWS : ids[0][i];
    }
    struct engine engine;
    engine_open(&engine, directory, precision, kv_dtype);
    run(&engine, ids, 1, alone);
    assert_true(isfinite(alone[0]));
    run(&engine, ids, 2, both);
    assert_false(isfinite(both[VOCAB]));
    assert_memory_equal(both, alone, sizeof alone);
    for (int turn = 0; turn < 4; turn++) { // whichever blocks it gets
        run(&engine, &ids[1], 1, again);
        assert_false(isfinite(again[0]));
        run(&engine, ids, 1, again);
        assert_memory_equal(again, alone, sizeof alone);
    }
    engine_close(&engine);
}

static void test_overflow_stays_in_its_sequence(void **state) {
    (void)state;
    char *directory = model_files_make(&small_llama, 1, -1);
    model_files_overflow_after(directory, VOCAB, small_llama.hidden_dim, OVERFLOWS);
    static const enum precision precisions[] = {PRECISION_STORED, PRECISION_BF16, PRECISION_INT8};
    static const enum kv_dtype kv_dtypes[] = {KV_F32, KV_F16, KV_BF16, KV_INT8};
    for (size_t i = 0; i < sizeof precisions / sizeof precisions[0]; i++) {
        for (size_t k = 0; k < sizeof kv_dtypes / sizeof kv_dtypes[0]; k++) {
            print_message("precision %d, KV %d\n", (int)precisions[i], (int)kv_dtypes[k]);
            check(directory, precisions[i], kv_dtypes[k]);
        }
    }
    testkit_remove_tree(directory);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_overflow_stays_in_its_sequence)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
