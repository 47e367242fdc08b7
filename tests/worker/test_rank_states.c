// Hidden states in rows: those that the policy has after the same tokens, and only where asked for.
#include <stdlib.h>
#include <string.h>

#include "tests/support/testkit.h"
#include "tests/worker/rank_fixture.h"
#include "tests/worker/tiny_models.h"
#include "worker/model/context.h"
#include "worker/model/element.h"
#include "worker/tokenizer/tokenizer.h"

static const char rendered[] = "BEGINNING OF CONVERSATION: USER: how are you ASSISTANT:";

enum { CANDIDATES = 12, TOKENS_MAX = 256 };

// o_t as little-endian bf16 after the rendered prompt and tokens [n], from the model itself.
static size_t policy_state(const char *directory, const uint32_t *tokens, size_t n, uint8_t *out) {
    const char *path = tiny_model_path(directory, "policy");
    struct backend *backend = NULL;
    struct model *model = NULL;
    struct tokenizer *tokenizer = NULL;
    struct model_context *context = NULL;
    struct error err = {0};
    int32_t ids[TOKENS_MAX];
    size_t count = 0;
    assert_ok(backend_create("cpu", 1, &backend, &err), &err);
    assert_ok(model_open(path, backend, PRECISION_STORED, &model, &err), &err);
    assert_ok(tokenizer_open(path, &tokenizer, &err), &err);
    assert_ok(tokenizer_encode(tokenizer, rendered, strlen(rendered), TOKENIZER_PARSE_SPECIAL, ids,
                               TOKENS_MAX, &count, &err),
              &err);
    for (size_t i = 0; i < n; i++) {
        ids[count++] = (int32_t)tokens[i];
    }
    const struct model_context_options options = {.n_kv_blocks = TOKENS_MAX / KV_BLOCK_TOKENS,
                                                  .n_sequences = 1,
                                                  .batch_rows = TOKENS_MAX,
                                                  .output_rows = 1,
                                                  .context_tokens = TOKENS_MAX};
    assert_ok(model_context_create(model, &options, &context, &err), &err);
    const struct forward_item item = {sequence_create(context), ids, (int32_t)count,
                                      FORWARD_OUTPUT_LAST};
    assert_ok(model_forward(context, &item, 1, &err), &err);
    const struct tensor *state = model_outputs(context);
    for (int32_t i = 0; i < state->cols; i++) {
        uint16_t bits = element_to_bf16(((const float *)state->data)[i]);
        out[2 * i] = (uint8_t)(bits & 0xFF);
        out[2 * i + 1] = (uint8_t)(bits >> 8);
    }
    size_t bytes = 2 * (size_t)state->cols;
    model_context_destroy(context);
    tokenizer_close(tokenizer);
    model_close(model);
    backend_destroy(backend);
    return bytes;
}

static Surefoot__GroupJob *add_job(struct order_fixture *order, bool states) {
    const struct order_job asked = {.id = 40, .prompt = "how are you", .max_tokens = 40, .seed = 3};
    Surefoot__GroupJob *job = order_add_job(order, &asked);
    job->rendered_prompt = (char *)rendered;
    job->has_states = job->states = states;
    return job;
}

static void assert_state(const char *directory, const Surefoot__Row *row, const uint32_t *tokens,
                         size_t n) {
    uint8_t want[8192];
    bool ended = row->finish != SUREFOOT__FINISH__FINISH_NONE;
    assert_int_equal(row->has_state, !ended);
    if (!ended) {
        assert_int_equal(row->state.len, policy_state(directory, tokens, n, want));
        assert_memory_equal(row->state.data, want, row->state.len);
    }
}

static void test_states_are_the_policys_held_and_rebuilt(void **state) {
    struct rank_fixture *fixture = *state;
    struct rank *other = rank_fixture_open(fixture->directory, 2, 4, 0);
    struct order_fixture *first = order_create();
    add_job(first, true);
    for (uint64_t i = 1; i <= CANDIDATES; i++) {
        order_add_item(first, 40, i, 0, NULL, 0, 3);
    }
    Surefoot__Gathered *rows = order_run(fixture->rank, first);
    struct order_fixture *held = order_create(), *rebuilt = order_create();
    add_job(held, true);
    add_job(rebuilt, true);
    size_t unfinished = 0;
    for (size_t i = 0; i < CANDIDATES; i++) {
        const Surefoot__Row *row = rows->rows[i];
        assert_state(fixture->directory, row, row->token_ids, row->n_token_ids);
        if (row->finish == SUREFOOT__FINISH__FINISH_NONE) {
            unfinished++;
            order_add_item(held, 40, i + 1, i + 1, row->token_ids, row->n_token_ids, 5);
            order_add_item(rebuilt, 40, i + 1, i + 1, row->token_ids, row->n_token_ids, 5);
        }
    }
    assert_true(unfinished > 0);
    Surefoot__Gathered *a = order_run(fixture->rank, held), *b = order_run(other, rebuilt);
    for (size_t i = 0; i < unfinished; i++) {
        const Surefoot__Row *before = rows->rows[a->rows[i]->candidate_id - 1];
        uint32_t tokens[8];
        memcpy(tokens, before->token_ids, before->n_token_ids * sizeof *tokens);
        memcpy(tokens + before->n_token_ids, a->rows[i]->token_ids,
               a->rows[i]->n_token_ids * sizeof *tokens);
        assert_state(fixture->directory, a->rows[i], tokens,
                     before->n_token_ids + a->rows[i]->n_token_ids);
        assert_int_equal(a->rows[i]->state.len, b->rows[i]->state.len);
        assert_memory_equal(a->rows[i]->state.data, b->rows[i]->state.data, a->rows[i]->state.len);
    }
    wire_free(WIRE_GATHERED, rows);
    wire_free(WIRE_GATHERED, a);
    wire_free(WIRE_GATHERED, b);
    order_destroy(first);
    order_destroy(held);
    order_destroy(rebuilt);
    rank_close(other);
}

static void test_rows_have_no_states_that_nobody_asked_for(void **state) {
    struct rank_fixture *fixture = *state;
    struct order_fixture *order = order_create();
    add_job(order, false)->job_id = 41;
    order_add_item(order, 41, 1, 0, NULL, 0, 3);
    Surefoot__Gathered *rows = order_run(fixture->rank, order);
    assert_null(rows->rows[0]->error);
    assert_false(rows->rows[0]->has_state);
    wire_free(WIRE_GATHERED, rows);
    order_destroy(order);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_states_are_the_policys_held_and_rebuilt),
        cmocka_unit_test(test_rows_have_no_states_that_nobody_asked_for),
    };
    return cmocka_run_group_tests(tests, rank_fixture_setup, rank_fixture_teardown);
}
