// Block decoding. Texts are scripted where the end of a text is at stake; where randomness is, the
// policy has random weights.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/testkit.h"
#include "tests/worker/tiny_models.h"
#include "worker/decode/decoder.h"

enum { MAX_TOKENS = 40, STATES = 64, BATCH_ROWS = 7 };

// Draws what its script says: the byte at the row's position, '$' for the end token.
struct scripted {
    struct proposal base;
    const char *script;
    uint64_t broken_lineage; // whose logits are no numbers at broken_position; 0: nobody's
    uint32_t broken_position;
    bool ended_too_early;  // drew the end token although it was forbidden
    const char *entropies; // the nats at each position, a digit; NULL: none is asked for
};

static enum status draw_script(struct proposal *proposal, struct model_context *context,
                               struct tensor *states, const struct decode_move *moves,
                               struct sampling_row *rows, int32_t n) {
    (void)context, (void)states;
    (void)moves;
    struct scripted *scripted = (struct scripted *)proposal;
    for (int32_t i = 0; i < n; i++) {
        assert_true(rows[i].position < strlen(scripted->script));
        char c = scripted->script[rows[i].position];
        rows[i].token_id = c == '$' ? TINY_EOS : (unsigned char)c;
        rows[i].logprob = -1;
        if (scripted->entropies != NULL) {
            assert_true(rows[i].wants_entropy);
            rows[i].entropy = (float)(scripted->entropies[rows[i].position] - '0');
        }
        rows[i].not_finite = scripted->broken_lineage > 0 &&
                             rows[i].lineage == scripted->broken_lineage &&
                             rows[i].position == scripted->broken_position;
        if (rows[i].not_finite) {
            rows[i].token_id = -1;
        }
        for (int32_t k = 0; k < rows[i].n_forbidden; k++) {
            scripted->ended_too_early |= rows[i].forbidden_ids[k] == rows[i].token_id;
        }
    }
    return STATUS_OK;
}

static const struct proposal_ops scripted_ops = {.name = "scripted", .draw = draw_script};

struct world {
    char *directory;
    struct backend *backend;
    struct model *model;
    struct tokenizer *tokenizer;
    struct model_context *context;
    struct scripted script;
    struct decoder *scripted; // over the same context as `decoder`
    struct decoder *decoder;
};

static int setup(void **state) {
    struct world *world = calloc(1, sizeof *world);
    struct error error = {0};
    world->directory = tiny_models_make();
    const char *path = tiny_model_path(world->directory, "policy");
    assert_ok(backend_create("cpu", 1, &world->backend, &error), &error);
    assert_ok(model_open(path, world->backend, PRECISION_STORED, &world->model, &error), &error);
    assert_ok(tokenizer_open(path, &world->tokenizer, &error), &error);
    const struct model_context_options options = {.n_kv_blocks = 400,
                                                  .n_sequences = 64,
                                                  .batch_rows = 16,
                                                  .output_rows = BATCH_ROWS,
                                                  .context_tokens = 128};
    assert_ok(model_context_create(world->model, &options, &world->context, &error), &error);
    const struct decoder_options decoder = {.n_states = STATES, .batch_rows = BATCH_ROWS};
    assert_ok(decoder_create(world->context, world->tokenizer, NULL, &decoder, &world->decoder),
              NULL);
    world->script.base.ops = &scripted_ops;
    assert_ok(decoder_create(world->context, world->tokenizer, &world->script.base, &decoder,
                             &world->scripted),
              NULL);
    *state = world;
    return 0;
}

static int teardown(void **state) {
    struct world *world = *state;
    decoder_destroy(world->decoder);
    decoder_destroy(world->scripted);
    model_context_destroy(world->context);
    tokenizer_close(world->tokenizer);
    model_close(world->model);
    backend_destroy(world->backend);
    testkit_remove_tree(world->directory);
    free(world);
    return 0;
}

static const int32_t prompt[] = {TINY_BOS, 'h', 'o', 'w', ' ', 't', 'o'};
enum { N_PROMPT = sizeof prompt / sizeof prompt[0] };

static struct decode_params make_params(int32_t max_tokens) {
    return (struct decode_params){
        .sampling = {.temperature = 1, .top_p = 1, .repetition_penalty = 1},
        .max_tokens = max_tokens,
        .seed = 3,
        .prompt_ids = prompt,
        .n_prompt = N_PROMPT,
    };
}

static void add_stop(struct decode_params *params, const char *text) {
    params->stops[params->n_stops++] =
        (struct decode_stop){.text = text, .bytes = (int32_t)strlen(text)};
}

struct candidate {
    struct sequence *sequence;
    struct response response;
    int32_t state;
};

// A candidate at the end of the prompt, read on its own.
static struct candidate start(struct world *world, struct decoder *decoder,
                              const struct decode_params *params) {
    struct candidate candidate = {.sequence = sequence_create(world->context),
                                  .state = decoder_state_acquire(decoder)};
    assert_non_null(candidate.sequence);
    assert_ok(response_init(&candidate.response, world->tokenizer, params->max_tokens), NULL);
    const struct decode_prefill prefill = {.sequence = candidate.sequence,
                                           .token_ids = prompt,
                                           .n_tokens = N_PROMPT,
                                           .state = candidate.state};
    struct error error = {0};
    assert_ok(decoder_prefill(decoder, &prefill, 1, &error), &error);
    return candidate;
}

static void drop(struct world *world, struct decoder *decoder, struct candidate *candidate) {
    sequence_destroy(world->context, candidate->sequence);
    decoder_state_release(decoder, candidate->state);
    response_finish(&candidate->response);
}

static void grow(struct decoder *decoder, const struct decode_params *params,
                 struct candidate *candidates, int32_t n, int32_t grow_tokens) {
    struct decode_task tasks[STATES];
    for (int32_t i = 0; i < n; i++) {
        tasks[i] = (struct decode_task){.params = params,
                                        .sequence = candidates[i].sequence,
                                        .response = &candidates[i].response,
                                        .state = candidates[i].state,
                                        .grow_tokens = grow_tokens + i % 3,
                                        .lineage = (uint64_t)i + 1};
    }
    struct error error = {0};
    assert_ok(decoder_grow(decoder, tasks, n, &error), &error);
    for (int32_t i = 0; i < n; i++) {
        assert_ok(tasks[i].error.status, &tasks[i].error);
    }
}

static void assert_same_response(const struct response *a, const struct response *b) {
    assert_int_equal(a->n_tokens, b->n_tokens);
    size_t n = (size_t)a->n_tokens;
    assert_memory_equal(a->token_ids, b->token_ids, n * sizeof *a->token_ids);
    assert_memory_equal(a->logprobs, b->logprobs, n * sizeof *a->logprobs);
    assert_int_equal(a->finish, b->finish);
    assert_int_equal(a->text_bytes, b->text_bytes);
    assert_memory_equal(a->text, b->text, (size_t)a->text_bytes);
}

static void test_candidate_alone_equals_among_forty(void **state) {
    struct world *world = *state;
    struct decode_params params = make_params(MAX_TOKENS);
    enum { N = 41 };
    struct candidate all[N];
    for (int i = 0; i < N; i++) {
        all[i] = start(world, world->decoder, &params);
    }
    grow(world->decoder, &params, all, N, 20);
    for (int i = 0; i < N; i += 8) {
        struct candidate alone = start(world, world->decoder, &params);
        struct decode_task task = {.params = &params,
                                   .sequence = alone.sequence,
                                   .response = &alone.response,
                                   .state = alone.state,
                                   .grow_tokens = 20 + i % 3,
                                   .lineage = (uint64_t)i + 1};
        struct error error = {0};
        assert_ok(decoder_grow(world->decoder, &task, 1, &error), &error);
        assert_same_response(&alone.response, &all[i].response);
        drop(world, world->decoder, &alone);
    }
    for (int i = 0; i < N; i++) {
        drop(world, world->decoder, &all[i]);
    }
}

// Six of seven tasks are done after three tokens: others take their places beside the long one.
// Whether an earlier response begins with the same n tokens.
static bool is_shared(const struct candidate *candidates, int32_t index, int32_t n) {
    for (int32_t i = 0; i < index; i++) {
        if (candidates[i].response.n_tokens >= n &&
            memcmp(candidates[i].response.token_ids, candidates[index].response.token_ids,
                   (size_t)n * sizeof(int32_t)) == 0) {
            return true;
        }
    }
    return false;
}

// Grows equal candidates by 3 to 6 tokens, the first of them least or most, in blocks that entropy
// may end, and then each by itself: the model reads every beginning once, and each candidate goes
// on as if it had been alone.
static void check_equal_tasks(struct world *world, float temperature, bool first_leaves_first,
                              float entropy_stop) {
    struct decode_params params = make_params(MAX_TOKENS);
    params.sampling.temperature = temperature;
    struct candidate all[BATCH_ROWS];
    struct decode_task tasks[BATCH_ROWS];
    for (int32_t i = 0; i < BATCH_ROWS; i++) {
        all[i] = start(world, world->decoder, &params);
        tasks[i] = (struct decode_task){.params = &params,
                                        .sequence = all[i].sequence,
                                        .response = &all[i].response,
                                        .state = all[i].state,
                                        .grow_tokens = first_leaves_first ? 3 + i / 2 : 6 - i / 2,
                                        .entropy_stop = entropy_stop,
                                        .entropy_after = 2,
                                        .lineage = (uint64_t)i + 1};
    }
    struct decoder_counts before, after;
    decoder_get_counts(world->decoder, &before);
    struct error error = {0};
    assert_ok(decoder_grow(world->decoder, tasks, BATCH_ROWS, &error), &error);
    decoder_get_counts(world->decoder, &after);
    int64_t beginnings = 0;
    bool cut = false;
    for (int32_t i = 0; i < BATCH_ROWS; i++) {
        cut = cut || tasks[i].cut;
        const struct response *response = &all[i].response;
        bool finished = response->finish != DECODE_FINISH_NONE;
        for (int32_t n = 1; n <= response->n_tokens - (finished ? 1 : 0); n++) {
            beginnings += is_shared(all, i, n) ? 0 : 1;
        }
    }
    assert_int_equal(after.read_tokens - before.read_tokens, beginnings);
    assert_true(beginnings < after.sampled_tokens - before.sampled_tokens);
    assert_true(cut == (entropy_stop > 0));
    for (int32_t i = BATCH_ROWS - 1; i >= 0; i--) {
        struct candidate alone = start(world, world->decoder, &params);
        struct decode_task task = tasks[i];
        task.sequence = alone.sequence;
        task.response = &alone.response;
        task.state = alone.state;
        task.grow_tokens = 5;
        task.entropy_stop = tasks[i].entropy_stop = 0;
        if (all[i].response.finish == DECODE_FINISH_NONE) {
            task.grow_tokens += all[i].response.n_tokens;
        }
        assert_ok(decoder_grow(world->decoder, &task, 1, &error), &error);
        tasks[i].grow_tokens = 5;
        if (all[i].response.finish == DECODE_FINISH_NONE) {
            assert_ok(decoder_grow(world->decoder, &tasks[i], 1, &error), &error);
        }
        assert_same_response(&alone.response, &all[i].response);
        drop(world, world->decoder, &alone);
    }
    for (int32_t i = 0; i < BATCH_ROWS; i++) {
        drop(world, world->decoder, &all[i]);
    }
}

static void test_tasks_with_equal_tokens_are_read_once(void **state) {
    for (int first_leaves_first = 0; first_leaves_first < 2; first_leaves_first++) {
        check_equal_tasks(*state, 0, first_leaves_first == 1, 0);
        check_equal_tasks(*state, 0.3f, first_leaves_first == 1, 0);
        check_equal_tasks(*state, 1, first_leaves_first == 1, 0);
        check_equal_tasks(*state, 0.3f, first_leaves_first == 1, 0.5f);
    }
}

static void test_place_of_a_finished_task_is_filled_in_the_same_block(void **state) {
    struct world *world = *state;
    struct decode_params params = make_params(MAX_TOKENS);
    enum { N = 2 * BATCH_ROWS };
    struct candidate all[N];
    struct decode_task tasks[N];
    world->script.script = "abcdefghijklmnop";
    for (int i = 0; i < N; i++) {
        all[i] = start(world, world->scripted, &params);
        tasks[i] = (struct decode_task){.params = &params,
                                        .sequence = all[i].sequence,
                                        .response = &all[i].response,
                                        .state = all[i].state,
                                        .grow_tokens = i == 3 ? 12 : 3};
    }
    struct decoder_counts before, after;
    decoder_get_counts(world->scripted, &before);
    struct error error = {0};
    assert_ok(decoder_grow(world->scripted, tasks, N, &error), &error);
    decoder_get_counts(world->scripted, &after);
    assert_int_equal(after.sampled_tokens - before.sampled_tokens, 12 + 3 * (N - 1));
    assert_int_equal(after.steps - before.steps, 12);
    for (int i = 0; i < N; i++) {
        assert_int_equal(all[i].response.n_tokens, i == 3 ? 12 : 3);
        drop(world, world->scripted, &all[i]);
    }
}

// A task without a next token ends with its reason; those beside it go on, and others take its
// place.
static void test_task_without_a_next_token_fails_alone(void **state) {
    struct world *world = *state;
    struct decode_params params = make_params(MAX_TOKENS);
    enum { N = BATCH_ROWS + 2 };
    struct candidate all[N];
    struct decode_task tasks[N];
    world->script.script = "abcdefgh";
    for (int i = 0; i < N; i++) {
        all[i] = start(world, world->scripted, &params);
        tasks[i] = (struct decode_task){.params = &params,
                                        .sequence = all[i].sequence,
                                        .response = &all[i].response,
                                        .state = all[i].state,
                                        .grow_tokens = 5,
                                        .lineage = (uint64_t)i + 1};
    }
    world->script.broken_lineage = 3;
    world->script.broken_position = 2;
    struct error error = {0};
    assert_ok(decoder_grow(world->scripted, tasks, N, &error), &error);
    world->script.broken_lineage = 0;
    for (int i = 0; i < N; i++) {
        bool broken = i == 2;
        assert_status(broken ? STATUS_DEVICE : STATUS_OK, tasks[i].error.status);
        assert_int_equal(all[i].response.n_tokens, broken ? 2 : 5);
        drop(world, world->scripted, &all[i]);
    }
    assert_non_null(strstr(tasks[2].error.message, "after 2 tokens"));
    assert_non_null(strstr(tasks[2].error.message, "NaN"));
}

// Two blocks, a block from a copied state and one from re-read tokens give what a long one gives.
static void test_where_a_block_is_cut_changes_nothing(void **state) {
    struct world *world = *state;
    struct decode_params params = make_params(MAX_TOKENS);
    struct error error = {0};
    struct candidate whole = start(world, world->decoder, &params);
    grow(world->decoder, &params, &whole, 1, 24);
    struct candidate held = start(world, world->decoder, &params);
    grow(world->decoder, &params, &held, 1, 10);
    assert_int_equal(held.response.n_tokens, 10);

    struct candidate forked = {.state = decoder_state_acquire(world->decoder)};
    forked.sequence = sequence_fork(world->context, held.sequence, sequence_length(held.sequence));
    assert_ok(response_fork(&forked.response, &held.response), NULL);
    decoder_state_copy(world->decoder, &held.state, &forked.state, 1);

    struct candidate rebuilt = start(world, world->decoder, &params);
    const struct decode_prefill prefill = {.sequence = rebuilt.sequence,
                                           .token_ids = held.response.token_ids,
                                           .n_tokens = 10,
                                           .state = rebuilt.state};
    assert_ok(decoder_prefill(world->decoder, &prefill, 1, &error), &error);
    response_finish(&rebuilt.response);
    assert_ok(response_fork(&rebuilt.response, &held.response), NULL);

    struct candidate *parts[] = {&held, &forked, &rebuilt};
    for (int i = 0; i < 3; i++) {
        grow(world->decoder, &params, parts[i], 1, 14);
        assert_same_response(&whole.response, &parts[i]->response);
        drop(world, world->decoder, parts[i]);
    }
    drop(world, world->decoder, &whole);
}

// Grows the candidate's next segment; returns how many tokens it had.
static int32_t grow_segment(struct world *world, const struct decode_params *params,
                            struct candidate *candidate, int32_t grow_tokens, bool *cut) {
    int32_t before = candidate->response.n_tokens;
    struct decode_task task = {.params = params,
                               .sequence = candidate->sequence,
                               .response = &candidate->response,
                               .state = candidate->state,
                               .grow_tokens = grow_tokens,
                               .lineage = 1,
                               .entropy_stop = 3,
                               .entropy_after = 2};
    struct error error = {0};
    assert_ok(decoder_grow(world->scripted, &task, 1, &error), &error);
    assert_ok(task.error.status, &task.error);
    *cut = task.cut;
    return candidate->response.n_tokens - before;
}

static void test_entropy_ends_a_block_before_its_token(void **state) {
    struct world *world = *state;
    struct decode_params params = make_params(11);
    world->script = (struct scripted){
        .base = world->script.base, .script = "one two thr", .entropies = "99024131199"};
    struct candidate candidate = start(world, world->scripted, &params);
    bool cut;
    assert_int_equal(grow_segment(world, &params, &candidate, 8, &cut), 4); // before the 4, not 9
    assert_true(cut);
    assert_int_equal(candidate.response.finish, DECODE_FINISH_NONE);
    assert_int_equal(grow_segment(world, &params, &candidate, 8, &cut), 2); // 3 is at the border
    assert_true(cut);
    assert_int_equal(grow_segment(world, &params, &candidate, 2, &cut), 2);
    assert_false(cut);
    // The last tokens have their entropy, but the first two are always taken.
    assert_int_equal(grow_segment(world, &params, &candidate, 8, &cut), 2);
    assert_true(cut);
    assert_int_equal(grow_segment(world, &params, &candidate, 8, &cut), 1);
    assert_false(cut);
    assert_int_equal(candidate.response.finish, DECODE_FINISH_LENGTH);
    assert_memory_equal(candidate.response.text, "one two thr", 11);
    drop(world, world->scripted, &candidate);
    world->script.entropies = NULL;
}

// Segments of the policy itself: what is drawn does not depend on where entropy cuts.
static void test_segments_join_to_what_a_long_block_gives(void **state) {
    struct world *world = *state;
    struct decode_params params = make_params(MAX_TOKENS);
    struct candidate whole = start(world, world->decoder, &params);
    grow(world->decoder, &params, &whole, 1, MAX_TOKENS);
    struct candidate parts = start(world, world->decoder, &params);
    int n_cuts = 0;
    while (parts.response.finish == DECODE_FINISH_NONE) {
        struct decode_task task = {.params = &params,
                                   .sequence = parts.sequence,
                                   .response = &parts.response,
                                   .state = parts.state,
                                   .grow_tokens = MAX_TOKENS,
                                   .lineage = 1,
                                   .entropy_stop = 1,
                                   .entropy_after = 3};
        struct error error = {0};
        assert_ok(decoder_grow(world->decoder, &task, 1, &error), &error);
        n_cuts += task.cut ? 1 : 0;
    }
    assert_true(n_cuts > 1);
    assert_same_response(&whole.response, &parts.response);
    drop(world, world->decoder, &parts);
    drop(world, world->decoder, &whole);
}

static void test_rank_one_is_greedy_whatever_the_options(void **state) {
    struct world *world = *state;
    struct decode_params greedy = make_params(MAX_TOKENS);
    greedy.sampling.temperature = 0;
    struct candidate expected = start(world, world->decoder, &greedy);
    grow(world->decoder, &greedy, &expected, 1, MAX_TOKENS);
    struct decode_params options = make_params(MAX_TOKENS);
    options.sampling.repetition_penalty = 5;
    options.sampling.top_k = 3;
    struct candidate ranked = start(world, world->decoder, &options);
    struct decode_task task = {.params = &options,
                               .sequence = ranked.sequence,
                               .response = &ranked.response,
                               .state = ranked.state,
                               .grow_tokens = MAX_TOKENS,
                               .lineage = 9,
                               .rank = 1};
    struct error error = {0};
    assert_ok(decoder_grow(world->decoder, &task, 1, &error), &error);
    assert_same_response(&expected.response, &ranked.response);
    drop(world, world->decoder, &ranked);
    struct candidate beyond = start(world, world->decoder, &options);
    task.sequence = beyond.sequence;
    task.response = &beyond.response;
    task.state = beyond.state;
    task.rank = 100000;
    assert_ok(decoder_grow(world->decoder, &task, 1, &error), &error);
    assert_status(STATUS_DEVICE, task.error.status);
    assert_non_null(strstr(task.error.message, "rank"));
    drop(world, world->decoder, &beyond);
    drop(world, world->decoder, &expected);
}

// Scripts spell one byte a token, so that a stop string or character spans many.
static void run_script(struct world *world, const char *script, struct decode_params *params,
                       struct candidate *candidate) {
    world->script.script = script;
    world->script.ended_too_early = false;
    *candidate = start(world, world->scripted, params);
    grow(world->scripted, params, candidate, 1, params->max_tokens);
}

static void test_ends_of_texts(void **state) {
    struct world *world = *state;
    const struct {
        const char *script;
        const char *stops[2];
        int32_t min_tokens, max_tokens;
        enum decode_finish finish;
        int32_t n_tokens;
        const char *shown;
    } cases[] = {
        {"ab$cd", {NULL}, 0, 20, DECODE_FINISH_EOS, 3, "ab"},
        {"$", {NULL}, 0, 20, DECODE_FINISH_EOS, 1, ""},
        {"abcdef", {NULL}, 0, 4, DECODE_FINISH_LENGTH, 4, "abcd"},
        {"abc$", {NULL}, 0, 4, DECODE_FINISH_EOS, 4, "abc"},
        {"one STOP two", {"STOP"}, 0, 20, DECODE_FINISH_STOP, 8, "one "},
        {"STOP", {"STOP"}, 0, 20, DECODE_FINISH_STOP, 4, ""},
        {"a SSTOP", {"STOP"}, 0, 20, DECODE_FINISH_STOP, 7, "a S"},
        {"abcabd", {"abd", "cab"}, 0, 20, DECODE_FINISH_STOP, 5, "ab"},
        // Two end with the same token: the text ends before the one that begins first.
        {"xabcd", {"bcd", "abcd"}, 0, 20, DECODE_FINISH_STOP, 5, "x"},
        {"abSTOPcdSTOP", {"STOP"}, 8, 20, DECODE_FINISH_STOP, 12, "abSTOPcd"},
        {"abST", {"STOP"}, 0, 4, DECODE_FINISH_LENGTH, 4, "abST"},
        {"a\xc3\xa9$", {"\u00e9"}, 0, 20, DECODE_FINISH_STOP, 3, "a"},
        // A character that is never completed, and one that is.
        {"a\xc3$", {NULL}, 0, 20, DECODE_FINISH_EOS, 3, "a\ufffd"},
        {"a\xe2\x82", {NULL}, 0, 3, DECODE_FINISH_LENGTH, 3, "a\ufffd"},
        {"\xe2\x82\xac", {NULL}, 0, 3, DECODE_FINISH_LENGTH, 3, "\u20ac"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct decode_params params = make_params(cases[i].max_tokens);
        params.min_tokens = cases[i].min_tokens;
        for (int k = 0; k < 2 && cases[i].stops[k] != NULL; k++) {
            add_stop(&params, cases[i].stops[k]);
        }
        struct candidate candidate;
        run_script(world, cases[i].script, &params, &candidate);
        const struct response *response = &candidate.response;
        if (response->finish != cases[i].finish || response->n_tokens != cases[i].n_tokens ||
            (size_t)response->shown_bytes != strlen(cases[i].shown) ||
            memcmp(response->text, cases[i].shown, (size_t)response->shown_bytes) != 0) {
            fail_msg("case %zu \"%s\": finish %d after %d tokens: \"%.*s\"", i, cases[i].script,
                     response->finish, response->n_tokens, response->shown_bytes, response->text);
        }
        assert_int_equal(response->text_ends[response->n_tokens - 1], response->text_bytes);
        drop(world, world->scripted, &candidate);
    }
}

// Bytes are shown by the token that completes their character.
static void test_text_ends_fall_between_characters(void **state) {
    struct world *world = *state;
    struct decode_params params = make_params(6);
    struct candidate candidate;
    run_script(world, "a\xe2\x82\xac\xc3\xa9", &params, &candidate);
    const int32_t expected[] = {1, 1, 1, 4, 4, 6};
    assert_memory_equal(candidate.response.text_ends, expected, sizeof expected);
    drop(world, world->scripted, &candidate);
}

// The script ends at once; the rows' forbidden ids hold the end token until min_tokens.
static void test_end_tokens_are_forbidden_before_min_tokens(void **state) {
    struct world *world = *state;
    struct decode_params params = make_params(MAX_TOKENS);
    struct candidate candidate;
    params.min_tokens = 2;
    run_script(world, "ab$", &params, &candidate);
    assert_false(world->script.ended_too_early);
    drop(world, world->scripted, &candidate);
    params.min_tokens = 3;
    run_script(world, "ab$", &params, &candidate);
    assert_true(world->script.ended_too_early);
    drop(world, world->scripted, &candidate);
}

static void test_sampled_texts_keep_min_tokens(void **state) {
    struct world *world = *state;
    struct decode_params params = make_params(MAX_TOKENS);
    // Nothing but an end token would be drawn.
    const int32_t ids[] = {TINY_EOS};
    const float values[] = {100};
    params.sampling.bias = (struct token_values){.token_ids = ids, .values = values, .n = 1};
    params.min_tokens = 1;
    struct candidate shortest = start(world, world->decoder, &params);
    grow(world->decoder, &params, &shortest, 1, MAX_TOKENS);
    assert_int_equal(shortest.response.n_tokens, 2); // not empty
    drop(world, world->decoder, &shortest);
    params.min_tokens = 9;
    struct candidate candidate = start(world, world->decoder, &params);
    grow(world->decoder, &params, &candidate, 1, MAX_TOKENS);
    assert_int_equal(candidate.response.finish, DECODE_FINISH_EOS);
    assert_int_equal(candidate.response.n_tokens, 10);
    assert_int_equal(candidate.response.token_ids[9], TINY_EOS);
    drop(world, world->decoder, &candidate);
}

static void test_finished_text_reads_no_more(void **state) {
    struct world *world = *state;
    struct decode_params params = make_params(MAX_TOKENS);
    struct candidate candidate;
    run_script(world, "abc$", &params, &candidate);
    // The prompt, a, b and c were read; the end token was not.
    assert_int_equal(sequence_length(candidate.sequence), N_PROMPT + 3);
    drop(world, world->scripted, &candidate);
}

static void count_layers(void *context) {
    ++*(int *)context;
}

static void test_progress_is_reported_after_each_layer(void **state) {
    struct world *world = *state;
    struct decode_params params = make_params(MAX_TOKENS);
    world->script.script = "abcdefghij";
    struct candidate candidates[2];
    struct decode_task tasks[2];
    for (int i = 0; i < 2; i++) {
        candidates[i] = start(world, world->scripted, &params);
        tasks[i] = (struct decode_task){.params = &params,
                                        .sequence = candidates[i].sequence,
                                        .response = &candidates[i].response,
                                        .state = candidates[i].state,
                                        .grow_tokens = 3 + 4 * i};
    }
    int layers = 0;
    struct error error = {0};
    model_context_set_progress(world->context, count_layers, &layers);
    assert_ok(decoder_grow(world->scripted, tasks, 2, &error), &error);
    model_context_set_progress(world->context, NULL, NULL);
    // Seven steps; both candidates of a step share its forward pass.
    assert_int_equal(layers, 7 * model_get_config(world->model)->n_layers);
    assert_int_equal(candidates[0].response.n_tokens, 3);
    assert_int_equal(candidates[1].response.n_tokens, 7);
    drop(world, world->scripted, &candidates[0]);
    drop(world, world->scripted, &candidates[1]);
}

static void test_states_are_counted(void **state) {
    struct world *world = *state;
    int32_t states[STATES];
    for (int i = 0; i < STATES; i++) {
        states[i] = decoder_state_acquire(world->decoder);
        assert_in_range(states[i], 0, STATES - 1);
    }
    assert_int_equal(decoder_state_acquire(world->decoder), -1);
    for (int i = 0; i < STATES; i++) {
        decoder_state_release(world->decoder, states[i]);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_candidate_alone_equals_among_forty),
        cmocka_unit_test(test_tasks_with_equal_tokens_are_read_once),
        cmocka_unit_test(test_place_of_a_finished_task_is_filled_in_the_same_block),
        cmocka_unit_test(test_task_without_a_next_token_fails_alone),
        cmocka_unit_test(test_where_a_block_is_cut_changes_nothing),
        cmocka_unit_test(test_entropy_ends_a_block_before_its_token),
        cmocka_unit_test(test_segments_join_to_what_a_long_block_gives),
        cmocka_unit_test(test_rank_one_is_greedy_whatever_the_options),
        cmocka_unit_test(test_ends_of_texts),
        cmocka_unit_test(test_text_ends_fall_between_characters),
        cmocka_unit_test(test_end_tokens_are_forbidden_before_min_tokens),
        cmocka_unit_test(test_sampled_texts_keep_min_tokens),
        cmocka_unit_test(test_finished_text_reads_no_more),
        cmocka_unit_test(test_progress_is_reported_after_each_layer),
        cmocka_unit_test(test_states_are_counted),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
