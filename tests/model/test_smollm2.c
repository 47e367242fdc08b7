// SmolLM2-135M-Instruct from its GGUF file (cluster/models.sh smollm2 fetches it) against
// transformers on the dequantised weights: ids of texts, and 64 greedy tokens after each. What
// int8 costs is measured on a text of ../shared/data.
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/testkit.h"
#include "worker/model/context.h"
#include "worker/tokenizer/tokenizer.h"

enum { CASES = 20, STEPS = 64, IDS_MAX = 256, VOCAB = 49152, WINDOWS = 4, WINDOW = 512 };
static const char model_name[] = "models/smollm2/SmolLM2-135M-Instruct.Q4_1.gguf";
static const char text_name[] = "text/exl2_cal_wiki.utf8";

struct fixture {
    struct backend *backend;
    struct tokenizer *tokenizer;
    json_t *cases;
};

static int open_fixture(void **state) {
    struct fixture *fixture = calloc(1, sizeof *fixture);
    struct error err = {0};
    *state = fixture;
    assert_ok(backend_create("cpu", 2, &fixture->backend, &err), &err);
    assert_ok(tokenizer_open(testkit_source_path(model_name), &fixture->tokenizer, &err), &err);
    fixture->cases =
        json_load_file(testkit_source_path("tests/vectors/gguf/smollm2.json"), 0, NULL);
    assert_int_equal(json_array_size(fixture->cases), CASES);
    return 0;
}

static int close_fixture(void **state) {
    struct fixture *fixture = *state;
    json_decref(fixture->cases);
    tokenizer_close(fixture->tokenizer);
    backend_destroy(fixture->backend);
    free(fixture);
    return 0;
}

static size_t ids_of(const json_t *array, int32_t *ids) {
    size_t n = json_array_size(array);
    assert_in_range(n, 1, IDS_MAX);
    for (size_t i = 0; i < n; i++) {
        ids[i] = (int32_t)json_integer_value(json_array_get(array, i));
    }
    return n;
}

static void test_texts_have_the_ids_of_the_reference(void **state) {
    const struct fixture *fixture = *state;
    assert_false(tokenizer_adds_bos(fixture->tokenizer));
    assert_int_equal(tokenizer_eos_id(fixture->tokenizer), 2);
    for (size_t i = 0; i < CASES; i++) {
        const json_t *one = json_array_get(fixture->cases, i);
        const char *text = json_string_value(json_object_get(one, "text"));
        int32_t want[IDS_MAX], got[IDS_MAX];
        size_t n_want = ids_of(json_object_get(one, "ids"), want), n_got = 0;
        struct error err = {0};
        assert_ok(tokenizer_encode(fixture->tokenizer, text, strlen(text), TOKENIZER_PARSE_SPECIAL,
                                   got, IDS_MAX, &n_got, &err),
                  &err);
        assert_int_equal(n_got, n_want);
        assert_memory_equal(got, want, n_want * sizeof *want);
    }
}

// Makes one step with all sequences and takes the likeliest token of each.
static void step(struct model_context *context, const struct forward_item *items, int32_t *next,
                 float *logits) {
    struct backend *backend = model_get_backend(model_context_model(context));
    struct error err = {0};
    struct tensor result;
    assert_ok(model_forward(context, items, CASES, &err), &err);
    assert_status(STATUS_OK, model_logits(context, model_outputs(context), &result));
    size_t bytes = (size_t)CASES * VOCAB * sizeof *logits;
    assert_status(STATUS_OK, backend->ops->download(backend, logits, result.data, bytes));
    for (size_t i = 0; i < CASES; i++) {
        const float *row = logits + i * VOCAB;
        next[i] = 0;
        for (int32_t id = 1; id < VOCAB; id++) {
            next[i] = row[id] > row[next[i]] ? id : next[i];
        }
    }
}

static struct model_context *open_context(const struct fixture *fixture, enum precision precision,
                                          struct model **model) {
    struct error err = {0};
    struct model_context *context = NULL;
    assert_ok(model_open(testkit_source_path(model_name), fixture->backend, precision, model, &err),
              &err);
    const struct model_context_options options = {.n_kv_blocks = CASES * 12,
                                                  .n_sequences = CASES,
                                                  .batch_rows = 64,
                                                  .output_rows = WINDOW,
                                                  .context_tokens = WINDOW};
    assert_ok(model_context_create(*model, &options, &context, &err), &err);
    return context;
}

static void test_greedy_tokens_equal_the_reference(void **state) {
    const struct fixture *fixture = *state;
    struct model *model = NULL;
    struct model_context *context = open_context(fixture, PRECISION_STORED, &model);
    static int32_t prompts[CASES][IDS_MAX];
    int32_t next[CASES];
    struct forward_item items[CASES];
    float *logits = malloc((size_t)CASES * VOCAB * sizeof *logits);
    for (size_t i = 0; i < CASES; i++) {
        size_t n = ids_of(json_object_get(json_array_get(fixture->cases, i), "ids"), prompts[i]);
        items[i] = (struct forward_item){sequence_create(context), prompts[i], (int32_t)n,
                                         FORWARD_OUTPUT_LAST};
    }
    for (size_t k = 0; k < STEPS; k++) {
        step(context, items, next, logits);
        for (size_t i = 0; i < CASES; i++) {
            const json_t *want = json_object_get(json_array_get(fixture->cases, i), "next");
            int32_t id = (int32_t)json_integer_value(json_array_get(want, k));
            if (next[i] != id) {
                fail_msg("case %zu, step %zu: %d, the reference has %d", i, k, next[i], id);
            }
            items[i].token_ids = &next[i];
            items[i].n_tokens = 1;
        }
    }
    for (size_t i = 0; i < CASES; i++) {
        sequence_destroy(context, items[i].sequence);
    }
    free(logits);
    model_context_destroy(context);
    model_close(model);
}

static double cross_entropy(const float *row, int32_t id) {
    double highest = -INFINITY, sum = 0;
    for (int32_t i = 0; i < VOCAB; i++) {
        highest = fmax(highest, (double)row[i]);
    }
    for (int32_t i = 0; i < VOCAB; i++) {
        sum += exp((double)row[i] - highest);
    }
    return log(sum) + highest - (double)row[id];
}

// Nats a token over the windows, each read from its first token on.
static double read_windows(const struct fixture *fixture, enum precision precision,
                           const int32_t *ids) {
    struct model *model = NULL;
    struct model_context *context = open_context(fixture, precision, &model);
    float *logits = malloc((size_t)WINDOW * VOCAB * sizeof *logits);
    struct error err = {0};
    double sum = 0;
    for (int w = 0; w < WINDOWS; w++) {
        struct sequence *sequence = sequence_create(context);
        const struct forward_item item = {sequence, ids + w * WINDOW, WINDOW, FORWARD_OUTPUT_ALL};
        struct tensor result;
        assert_ok(model_forward(context, &item, 1, &err), &err);
        assert_status(STATUS_OK, model_logits(context, model_outputs(context), &result));
        size_t bytes = (size_t)WINDOW * VOCAB * sizeof *logits;
        assert_status(STATUS_OK, fixture->backend->ops->download(fixture->backend, logits,
                                                                 result.data, bytes));
        for (int i = 0; i + 1 < WINDOW; i++) {
            sum += cross_entropy(logits + (size_t)i * VOCAB, ids[w * WINDOW + i + 1]);
        }
        sequence_destroy(context, sequence);
    }
    free(logits);
    model_context_destroy(context);
    model_close(model);
    return sum / (WINDOWS * (WINDOW - 1));
}

static void test_rounding_costs_less_than_half_a_percent_of_perplexity(void **state) {
    const struct fixture *fixture = *state;
    const char *path = testkit_data_path(text_name);
    if (path == NULL) {
        testkit_note_missing(text_name);
        skip();
    }
    size_t size, n = 0;
    char *text = testkit_read_file(path, &size);
    enum { TEXT_BYTES = WINDOWS * WINDOW * 8 };
    size = size < TEXT_BYTES ? size : TEXT_BYTES;
    while (size > 0 && ((unsigned char)text[size] & 0xc0) == 0x80) {
        size--; // not within a character
    }
    int32_t *ids = malloc(TEXT_BYTES * sizeof *ids);
    struct error err = {0};
    assert_ok(tokenizer_encode(fixture->tokenizer, text, size, 0, ids, TEXT_BYTES, &n, &err), &err);
    assert_true(n >= WINDOWS * WINDOW);
    double exact = read_windows(fixture, PRECISION_STORED, ids);
    double rounded = read_windows(fixture, PRECISION_INT8, ids);
    double own_bits = read_windows(fixture, PRECISION_Q4, ids);
    print_message("perplexity %.4f at f32, %.4f at int8, %.4f at q4\n", exp(exact), exp(rounded),
                  exp(own_bits));
    assert_true(exp(rounded - exact) < 1.005); // docs/results/gguf.md
    assert_true(exp(own_bits - exact) < 1.005);
    free(ids);
    free(text);
}

int main(void) {
    FILE *file = fopen(testkit_source_path(model_name), "rb");
    if (file == NULL) {
        print_message("skipped: %s is not there; cluster/models.sh smollm2 fetches it\n",
                      model_name);
        return TESTKIT_SKIP;
    }
    fclose(file);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_texts_have_the_ids_of_the_reference),
        cmocka_unit_test(test_greedy_tokens_equal_the_reference),
        cmocka_unit_test(test_rounding_costs_less_than_half_a_percent_of_perplexity),
    };
    return cmocka_run_group_tests(tests, open_fixture, close_fixture);
}
