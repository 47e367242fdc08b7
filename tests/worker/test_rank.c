// A rank's rows are a function of the order's items alone: whatever else is in the order, held,
// evicted or rebuilt, they are the same bit for bit. Models have random weights.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/testkit.h"
#include "tests/worker/rank_fixture.h"
#include "tests/worker/tiny_models.h"

static void test_candidate_alone_equals_among_others(void **state) {
    struct rank_fixture *fixture = *state;
    enum { N = 40 };
    struct order_fixture *order = order_create();
    order_add_job(order, &rank_fixture_jobs[0]);
    order_add_job(order, &rank_fixture_jobs[1]);
    for (uint64_t i = 1; i <= N / 2; i++) {
        order_add_item(order, 1, i, 0, NULL, 0, FIXTURE_BLOCK);
        order_add_item(order, 2, i, 0, NULL, 0, FIXTURE_BLOCK + 3);
    }
    Surefoot__Gathered *together = order_run(fixture->rank, order);
    order_destroy(order);
    assert_int_equal(together->n_rows, N);
    struct rank *other = rank_fixture_open(fixture->directory, 1, 4, 0);
    for (uint64_t i = 1; i <= N / 2; i += 7) {
        struct order_fixture *alone = order_create();
        order_add_job(alone, &rank_fixture_jobs[1]);
        order_add_item(alone, 2, i, 0, NULL, 0, FIXTURE_BLOCK + 3);
        Surefoot__Gathered *row = order_run(other, alone);
        assert_rows_equal(row->rows[0], order_find_row(together, 2, i));
        assert_int_equal(row->rows[0]->n_scores, 4);
        order_destroy(alone);
        wire_free(WIRE_GATHERED, row);
    }
    wire_free(WIRE_GATHERED, together);
    rank_close(other);
}

static void test_candidates_of_one_prompt_differ(void **state) {
    struct rank_fixture *fixture = *state;
    Surefoot__Gathered *rows = NULL;
    struct grown *grown = grow_first(fixture->rank, &rank_fixture_jobs[0], 8, &rows);
    for (size_t i = 1; i < 8; i++) {
        size_t n = grown[i].n_tokens < grown[0].n_tokens ? grown[i].n_tokens : grown[0].n_tokens;
        assert_memory_not_equal(grown[0].tokens, grown[i].tokens, n * sizeof(uint32_t));
    }
    free(grown);
    wire_free(WIRE_GATHERED, rows);
}

// Tokens of job `id` with candidate 1, whose key of random numbers is the same for every job.
static Surefoot__Gathered *run_prompt(struct rank *rank, struct order_fixture *order,
                                      Surefoot__GroupJob *job) {
    order_add_item(order, job->job_id, 1, 0, NULL, 0, FIXTURE_BLOCK);
    return order_run(rank, order);
}

static void test_rendered_prompt_and_continued_message_are_the_same_tokens(void **state) {
    struct rank_fixture *fixture = *state;
    static const char rendered[] = "BEGINNING OF CONVERSATION: USER: how are you ASSISTANT:I am ";
    const struct order_job asked = {.id = 900, .prompt = "how are you", .max_tokens = 40};
    Surefoot__ChatMessage rows[] = {SUREFOOT__CHAT_MESSAGE__INIT, SUREFOOT__CHAT_MESSAGE__INIT};
    Surefoot__ChatMessage *list[] = {&rows[0], &rows[1]};
    rows[0].role = (char *)"user";
    rows[0].content = (char *)"how are you";
    rows[1].role = (char *)"assistant";
    rows[1].content = (char *)"I am ";
    struct order_fixture *first = order_create();
    Surefoot__GroupJob *job = order_add_job(first, &asked);
    job->prompt = NULL;
    job->messages = list;
    job->n_messages = 2;
    job->has_continue_final_message = job->continue_final_message = true;
    Surefoot__Gathered *continued = run_prompt(fixture->rank, first, job);
    struct order_fixture *second = order_create();
    struct order_job again = asked;
    again.id = 901;
    job = order_add_job(second, &again);
    job->prompt = NULL;
    job->rendered_prompt = (char *)rendered;
    Surefoot__Gathered *read = run_prompt(fixture->rank, second, job);
    const Surefoot__Row *a = order_find_row(continued, 900, 1);
    const Surefoot__Row *b = order_find_row(read, 901, 1);
    assert_null(a->error);
    assert_null(b->error);
    assert_int_equal(a->prompt_tokens, b->prompt_tokens);
    assert_int_equal(a->n_token_ids, b->n_token_ids);
    assert_memory_equal(a->token_ids, b->token_ids, a->n_token_ids * sizeof(uint32_t));
    order_destroy(first);
    order_destroy(second);
    wire_free(WIRE_GATHERED, continued);
    wire_free(WIRE_GATHERED, read);
}

// "</s>" in a message is four bytes, and one token for a job that says so.
static void test_control_tokens_in_messages_count_on_request_only(void **state) {
    struct rank_fixture *fixture = *state;
    uint32_t prompt_tokens[2];
    for (int written = 0; written < 2; written++) {
        const struct order_job asked = {
            .id = 910 + (uint64_t)written, .prompt = "a</s>b", .max_tokens = 40};
        struct order_fixture *order = order_create();
        Surefoot__GroupJob *job = order_add_job(order, &asked);
        job->has_control_tokens_as_written = true;
        job->control_tokens_as_written = written;
        Surefoot__Gathered *gathered = run_prompt(fixture->rank, order, job);
        const Surefoot__Row *row = order_find_row(gathered, asked.id, 1);
        assert_null(row->error);
        prompt_tokens[written] = row->prompt_tokens;
        order_destroy(order);
        wire_free(WIRE_GATHERED, gathered);
    }
    assert_int_equal(prompt_tokens[0], prompt_tokens[1] + 3);
}

// The policy's own template reads a variable; the scorers', which are formats, do not.
static void test_variables_go_to_the_policys_template(void **state) {
    struct rank_fixture *fixture = *state;
    static const char template[] =
        "{% if long %}{{ 'a' * times }}{% endif %}{{ messages[0].content }}";
    static char *const names[] = {"long", "longer"};
    char path[4200];
    snprintf(path, sizeof path, "%s/chat_template.jinja",
             tiny_model_path(fixture->directory, "policy"));
    testkit_write_file(path, template, strlen(template));
    struct rank *rank = rank_fixture_open(fixture->directory, 1, 4, 0);
    assert_int_equal(remove(path), 0);
    uint32_t prompt_tokens[3] = {0};
    for (size_t i = 0; i < 4; i++) { // neither, times alone, both, one that is never read
        const struct order_job asked = {.id = 920 + i,
                                        .prompt = "b",
                                        .max_tokens = 40,
                                        .scorers = rank_fixture_jobs[0].scorers};
        Surefoot__TemplateVariable times = SUREFOOT__TEMPLATE_VARIABLE__INIT;
        Surefoot__TemplateVariable truth = SUREFOOT__TEMPLATE_VARIABLE__INIT;
        Surefoot__TemplateVariable *list[] = {&times, &truth};
        times.name = "times";
        times.has_number = true;
        times.number = 5;
        truth.name = names[i == 3];
        truth.has_truth = truth.truth = true;
        struct order_fixture *order = order_create();
        Surefoot__GroupJob *job = order_add_job(order, &asked);
        job->chat_template = "model";
        job->template_variables = list;
        job->n_template_variables = i < 2 ? i : 2;
        Surefoot__Gathered *gathered = run_prompt(rank, order, job);
        const Surefoot__Row *row = order_find_row(gathered, asked.id, 1);
        if (i < 3) {
            assert_null(row->error);
            prompt_tokens[i] = row->prompt_tokens;
        } else {
            assert_string_equal(row->error->field, "template_variables");
            assert_non_null(strstr(row->error->message, "longer"));
        }
        order_destroy(order);
        wire_free(WIRE_GATHERED, gathered);
    }
    assert_int_equal(prompt_tokens[1], prompt_tokens[0]);
    assert_true(prompt_tokens[2] > prompt_tokens[0]);
    rank_close(rank);
}

static void test_rebuilt_candidates_equal_held_ones(void **state) {
    struct rank_fixture *fixture = *state;
    enum { N = 12 };
    for (int j = 0; j < 2; j++) {
        Surefoot__Gathered *first = NULL;
        struct grown *grown = grow_first(fixture->rank, &rank_fixture_jobs[j], N, &first);
        size_t n_held = 0;
        for (size_t i = 0; i < N; i++) {
            n_held += !grown[i].finished;
        }
        assert_true(n_held > 0);
        struct order_fixture *order = second_order(&rank_fixture_jobs[j], grown, N, false);
        Surefoot__Gathered *held = order_run(fixture->rank, order);
        order_destroy(order);

        order = second_order(&rank_fixture_jobs[j], grown, N, true);
        order_add_release(order, rank_fixture_jobs[j].id, 0, true);
        Surefoot__Gathered *rebuilt = order_run(fixture->rank, order);
        order_destroy(order);
        assert_int_equal(held->n_rows, 3 * n_held);
        assert_int_equal(held->rebuilt_tokens, 0);
        assert_true(rebuilt->rebuilt_tokens > 0);
        assert_int_equal(held->n_rebuilt_jobs, 0);
        assert_int_equal(rebuilt->n_rebuilt_jobs, 1);
        assert_int_equal(rebuilt->rebuilt_jobs[0], rank_fixture_jobs[j].id);
        assert_int_equal(rebuilt->n_rebuilt_job_tokens, 1);
        assert_int_equal(rebuilt->rebuilt_job_tokens[0], rebuilt->rebuilt_tokens);
        assert_gathered_equal(held, rebuilt);
        wire_free(WIRE_GATHERED, first);
        wire_free(WIRE_GATHERED, held);
        wire_free(WIRE_GATHERED, rebuilt);
        free(grown);
    }
}

// One slot after another, and so little KV that parents and prompts are evicted all the time.
static void test_waves_and_evictions_change_no_row(void **state) {
    struct rank_fixture *fixture = *state;
    enum { N = 16 };
    const struct {
        int slots;
        int64_t kv_tokens;
    } sizes[] = {{1, 0}, {3, 0}, {64, 400}, {8, 200}};
    Surefoot__Gathered *first = NULL;
    struct grown *grown = grow_first(fixture->rank, &rank_fixture_jobs[0], N, &first);
    struct order_fixture *order = second_order(&rank_fixture_jobs[0], grown, N, true);
    Surefoot__Gathered *second = order_run(fixture->rank, order);
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        struct rank *small =
            rank_fixture_open(fixture->directory, 1, sizes[s].slots, sizes[s].kv_tokens);
        Surefoot__Gathered *rows = NULL;
        struct grown *again = grow_first(small, &rank_fixture_jobs[0], N, &rows);
        assert_gathered_equal(first, rows);
        wire_free(WIRE_GATHERED, rows);
        rows = order_run(small, order);
        assert_gathered_equal(second, rows);
        wire_free(WIRE_GATHERED, rows);
        free(again);
        rank_close(small);
    }
    order_destroy(order);
    free(grown);
    wire_free(WIRE_GATHERED, first);
    wire_free(WIRE_GATHERED, second);
}

static void test_penalty_changes_only_its_item(void **state) {
    struct rank_fixture *fixture = *state;
    Surefoot__Gathered *plain = NULL;
    struct grown *grown = grow_first(fixture->rank, &rank_fixture_jobs[0], 6, &plain);
    uint32_t ids[FIXTURE_BLOCK];
    float values[FIXTURE_BLOCK];
    size_t n = grown[2].n_tokens;
    for (size_t i = 0; i < n; i++) {
        ids[i] = grown[2].tokens[i];
        values[i] = 60;
    }
    struct order_fixture *order = order_create();
    uint32_t index = order_add_penalty(order, ids, values, n);
    for (size_t i = 0; i < 6; i++) {
        Surefoot__OrderItem *item = order_add_item(order, 1, i + 1, 0, NULL, 0, FIXTURE_BLOCK);
        item->penalty_index = i == 2 ? index : 0;
    }
    Surefoot__Gathered *rows = order_run(fixture->rank, order);
    for (size_t i = 0; i < 6; i++) {
        if (i != 2) {
            assert_rows_equal(plain->rows[i], rows->rows[i]);
        }
    }
    for (size_t i = 0; i < rows->rows[2]->n_token_ids; i++) {
        for (size_t k = 0; k < n; k++) {
            assert_int_not_equal(rows->rows[2]->token_ids[i], ids[k]);
        }
    }
    order_destroy(order);
    free(grown);
    wire_free(WIRE_GATHERED, plain);
    wire_free(WIRE_GATHERED, rows);
}

// An item that names a temperature is drawn as a job of that temperature would have it.
static void test_an_items_temperature_is_in_place_of_the_jobs(void **state) {
    struct rank_fixture *fixture = *state;
    Surefoot__Sampling cold = SUREFOOT__SAMPLING__INIT;
    cold.has_temperature = cold.has_top_k = true;
    cold.temperature = 0.25;
    cold.top_k = 9;
    Surefoot__Sampling hot = cold;
    hot.temperature = 4;
    const Surefoot__Sampling *samplings[] = {&cold, &hot};
    struct order_fixture *order = order_create();
    for (uint64_t id = 1; id <= 2; id++) {
        struct order_job job = rank_fixture_jobs[0];
        job.id = 20 + id;
        job.sampling = samplings[id - 1];
        order_add_job(order, &job);
        for (uint64_t candidate = 1; candidate <= 4; candidate++) {
            order_add_item(order, job.id, candidate, 0, NULL, 0, FIXTURE_BLOCK);
        }
    }
    for (uint64_t candidate = 5; candidate <= 6; candidate++) {
        order_add_item(order, 22, candidate, 0, NULL, 0, FIXTURE_BLOCK);
        Surefoot__OrderItem *item = order_add_item(order, 21, candidate, 0, NULL, 0, FIXTURE_BLOCK);
        item->has_temperature = true;
        item->temperature = 4;
    }
    Surefoot__Gathered *rows = order_run(fixture->rank, order);
    bool differ = false;
    for (uint64_t candidate = 1; candidate <= 6; candidate++) {
        const Surefoot__Row *own = order_find_row(rows, 21, candidate);
        const Surefoot__Row *other = order_find_row(rows, 22, candidate);
        if (candidate >= 5) {
            assert_rows_equal(own, other);
        }
        differ = differ || own->n_token_ids != other->n_token_ids ||
                 memcmp(own->token_ids, other->token_ids,
                        own->n_token_ids * sizeof *own->token_ids) != 0;
    }
    assert_true(differ);
    order_destroy(order);
    wire_free(WIRE_GATHERED, rows);
}

// A prefix is a block of its own: its tokens and their log-probabilities, as a candidate has them
// that happened to draw it; children go on behind it.
static void test_a_prefix_is_a_given_block(void **state) {
    struct rank_fixture *fixture = *state;
    char *texts[] = {"a b", "b a"};
    struct order_fixture *order = order_create();
    struct order_job job = rank_fixture_jobs[0];
    job.id = 41;
    Surefoot__GroupJob *message = order_add_job(order, &job);
    message->prefixes = texts;
    message->n_prefixes = 2;
    for (uint64_t candidate = 1; candidate <= 3; candidate++) {
        Surefoot__OrderItem *item = order_add_item(order, 41, candidate, 0, NULL, 0, FIXTURE_BLOCK);
        item->has_prefix_index = true;
        item->prefix_index = candidate < 3 ? 2 : 1;
    }
    Surefoot__Gathered *rows = order_run(fixture->rank, order);
    const Surefoot__Row *row = order_find_row(rows, 41, 1);
    const Surefoot__Row *again = order_find_row(rows, 41, 2);
    assert_null(row->error);
    assert_in_range(row->n_token_ids, 1, FIXTURE_BLOCK);
    assert_int_equal(row->finish, 0);
    assert_int_equal(row->n_scores, again->n_scores);
    assert_memory_equal(row->token_ids, again->token_ids,
                        row->n_token_ids * sizeof *row->token_ids);
    assert_memory_equal(row->logprobs, again->logprobs, row->n_token_ids * sizeof *row->logprobs);
    const Surefoot__Row *other = order_find_row(rows, 41, 3);
    assert_true(
        row->n_token_ids != other->n_token_ids ||
        memcmp(row->token_ids, other->token_ids, row->n_token_ids * sizeof *row->token_ids) != 0);
    order_destroy(order);
    order = order_create();
    order_add_item(order, 41, 4, 1, row->token_ids, row->n_token_ids, FIXTURE_BLOCK);
    Surefoot__OrderItem *bad = order_add_item(order, 41, 5, 0, NULL, 0, FIXTURE_BLOCK);
    bad->has_prefix_index = true;
    bad->prefix_index = 3;
    Surefoot__Gathered *next = order_run(fixture->rank, order);
    assert_null(order_find_row(next, 41, 4)->error);
    assert_non_null(order_find_row(next, 41, 5)->error);
    assert_string_equal(order_find_row(next, 41, 5)->error->field, "prefix_index");
    order_destroy(order);
    wire_free(WIRE_GATHERED, rows);
    wire_free(WIRE_GATHERED, next);
}

static void test_finished_rows_have_text_and_nothing_held(void **state) {
    struct rank_fixture *fixture = *state;
    struct order_job job = rank_fixture_jobs[0];
    job.id = 31;
    job.max_tokens = FIXTURE_BLOCK;
    Surefoot__Gathered *rows = NULL;
    struct grown *grown = grow_first(fixture->rank, &job, 4, &rows);
    for (size_t i = 0; i < 4; i++) {
        const Surefoot__Row *row = rows->rows[i];
        assert_int_not_equal(row->finish, SUREFOOT__FINISH__FINISH_NONE);
        assert_non_null(row->text);
        assert_true(row->prompt_tokens > 10);
        size_t n_read = row->has_read_from ? row->read_from + row->n_read_ids : row->n_token_ids;
        assert_int_equal(row->scores[1]->n_token_scores, n_read);
        assert_int_equal(row->scores[0]->n_token_scores, 0);
    }
    free(grown);
    wire_free(WIRE_GATHERED, rows);
}

// Penalties under which only `drawn` is drawn; returns the penalty's index.
static uint32_t add_only(struct order_fixture *order, uint32_t drawn, uint32_t *ids,
                         float *values) {
    size_t n = 0;
    for (uint32_t id = 0; id < TINY_VOCAB; id++) {
        ids[n] = id;
        values[n] = 200;
        n += id != drawn;
    }
    return order_add_penalty(order, ids, values, n);
}

// The scorers' last word is on the text before the stop string.
static void test_stop_string_and_lexical_scorer_reach_the_row(void **state) {
    struct rank_fixture *fixture = *state;
    static const char *const scorers[] = {"lexical", "cost", NULL};
    Surefoot__Sampling sampling = SUREFOOT__SAMPLING__INIT;
    char *stop = (char *)"eeee";
    sampling.stop = &stop;
    sampling.n_stop = 1;
    sampling.has_min_tokens = true;
    sampling.min_tokens = 6;
    struct order_fixture *order = order_create();
    const struct order_job job = {
        .id = 51, .prompt = "a", .max_tokens = 20, .scorers = scorers, .sampling = &sampling};
    Surefoot__GroupJob *message = order_add_job(order, &job);
    Surefoot__LexicalSpec lexical = SUREFOOT__LEXICAL_SPEC__INIT;
    char *forbidden = (char *)"ee";
    lexical.forbidden_regex = &forbidden;
    lexical.n_forbidden_regex = 1;
    message->scorers[0]->lexical = &lexical;
    message->scorers[0]->role = (char *)"cost";
    uint32_t ids[TINY_VOCAB];
    float values[TINY_VOCAB];
    order_add_item(order, 51, 1, 0, NULL, 0, 20)->penalty_index = add_only(order, 'e', ids, values);
    Surefoot__Gathered *rows = order_run(fixture->rank, order);
    const Surefoot__Row *row = rows->rows[0];
    assert_null(row->error);
    assert_int_equal(row->finish, SUREFOOT__FINISH__FINISH_STOP);
    assert_int_equal(row->n_token_ids, 6);
    assert_string_equal(row->text, "ee");
    assert_true(row->has_read_from);
    assert_int_equal(row->read_from, 2);
    assert_int_equal(row->n_read_ids, 0);
    const float expected[] = {0, 1};
    assert_int_equal(row->scores[0]->n_token_scores, 2);
    assert_memory_equal(row->scores[0]->token_scores, expected, sizeof expected);
    assert_true(row->scores[0]->end_score == 1);
    assert_int_equal(row->scores[1]->n_token_scores, 2);
    order_destroy(order);
    wire_free(WIRE_GATHERED, rows);
}

// A character that the limit cuts becomes U+FFFD, and a stop string of U+FFFD does not let it pass.
// What is left is the empty text: no token, one place for the verdict on its end.
static void test_stop_string_finds_a_cut_character(void **state) {
    struct rank_fixture *fixture = *state;
    static const char *const scorers[] = {"lexical", "cost", NULL};
    Surefoot__Sampling sampling = SUREFOOT__SAMPLING__INIT;
    char *stop = (char *)"\ufffd";
    sampling.stop = &stop;
    sampling.n_stop = 1;
    struct order_fixture *order = order_create();
    const struct order_job job = {
        .id = 52, .prompt = "a", .max_tokens = 1, .scorers = scorers, .sampling = &sampling};
    Surefoot__GroupJob *message = order_add_job(order, &job);
    Surefoot__LexicalSpec lexical = SUREFOOT__LEXICAL_SPEC__INIT;
    char *required = (char *)"dog";
    lexical.required = &required;
    lexical.n_required = 1;
    message->scorers[0]->lexical = &lexical;
    message->scorers[0]->role = (char *)"cost";
    uint32_t ids[TINY_VOCAB];
    float values[TINY_VOCAB];
    order_add_item(order, 52, 1, 0, NULL, 0, 1)->penalty_index = add_only(order, 0xE2, ids, values);
    Surefoot__Gathered *rows = order_run(fixture->rank, order);
    const Surefoot__Row *row = rows->rows[0];
    assert_null(row->error);
    assert_int_equal(row->finish, SUREFOOT__FINISH__FINISH_STOP);
    assert_string_equal(row->text, "");
    assert_int_equal(row->n_token_ids, 1);
    assert_true(row->has_read_from && row->read_from == 0 && row->n_read_ids == 0);
    assert_int_equal(row->scores[0]->n_token_scores, 1);
    assert_true(row->scores[0]->token_scores[0] == 1); // "dog" is missing
    assert_int_equal(row->scores[1]->n_token_scores, 1);
    assert_true(row->scores[1]->token_scores[0] == 0);
    assert_true(row->scores[1]->end_score == row->scores[1]->prompt_score);
    order_destroy(order);
    wire_free(WIRE_GATHERED, rows);
}

static void test_text_of_any_bytes_is_a_wire_string(void **state) {
    struct rank_fixture *fixture = *state;
    const struct {
        uint32_t drawn;
        const char *text;
    } cases[] = {{0, "\ufffd\ufffd\ufffd"}, {0xE2, "\ufffd\ufffd\ufffd"}, {'\n', "\n\n\n"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct order_fixture *order = order_create();
        const struct order_job job = {.id = 60 + i, .prompt = "a", .max_tokens = 3};
        order_add_job(order, &job);
        uint32_t ids[TINY_VOCAB];
        float values[TINY_VOCAB];
        order_add_item(order, job.id, 1, 0, NULL, 0, 3)->penalty_index =
            add_only(order, cases[i].drawn, ids, values);
        Surefoot__Gathered *rows = order_run(fixture->rank, order);
        assert_string_equal(rows->rows[0]->text, cases[i].text);
        uint8_t *bytes = NULL;
        size_t size = 0;
        struct error error = {0};
        assert_ok(wire_pack(WIRE_GATHERED, rows, &bytes, &size), NULL);
        assert_ok(wire_check(WIRE_GATHERED, bytes, size, &error), &error);
        free(bytes);
        order_destroy(order);
        wire_free(WIRE_GATHERED, rows);
    }
}

static void test_candidates_share_the_kv_of_their_prompt(void **state) {
    struct rank_fixture *fixture = *state;
    struct rank *rank = rank_fixture_open(fixture->directory, 1, 64, 0);
    char text[161];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    const struct order_job job = {.id = 1, .prompt = text, .max_tokens = 20};
    int32_t before = rank_kv_blocks_free(rank);
    struct order_fixture *order = order_create();
    order_add_job(order, &job);
    for (uint64_t i = 1; i <= 64; i++) {
        order_add_item(order, 1, i, 0, NULL, 0, 2);
    }
    Surefoot__Gathered *rows = order_run(rank, order);
    int32_t prompt_blocks = (int32_t)(rows->rows[0]->prompt_tokens + 15) / 16;
    assert_true(prompt_blocks > 10);
    // Each candidate has at most the prompt's last block and one more of its own.
    assert_true(before - rank_kv_blocks_free(rank) <= prompt_blocks + 2 * 64);
    order_destroy(order);
    wire_free(WIRE_GATHERED, rows);
    rank_close(rank);
}

// A rank that took over from another one: siblings of a parent that it never had.
static void test_lost_parent_is_read_once_for_all_its_children(void **state) {
    struct rank_fixture *fixture = *state;
    struct rank *rank = rank_fixture_open(fixture->directory, 1, 16, 0);
    uint32_t tokens[36];
    for (size_t i = 0; i < 36; i++) {
        tokens[i] = 'a' + (uint32_t)i % 26;
    }
    int32_t before = rank_kv_blocks_free(rank);
    struct order_fixture *order = order_create();
    const struct order_job job = {.id = 1, .prompt = "a", .max_tokens = FIXTURE_MAX_TOKENS};
    order_add_job(order, &job);
    for (uint64_t i = 1; i <= 16; i++) {
        order_add_item(order, 1, 100 + i, 7, tokens, 36, 2);
    }
    Surefoot__Gathered *rows = order_run(rank, order);
    int32_t given_blocks = (int32_t)(rows->rows[0]->prompt_tokens + 36 + 15) / 16;
    assert_true(given_blocks > 3);
    assert_true(before - rank_kv_blocks_free(rank) <= given_blocks + 2 * 16);
    order_destroy(order);
    wire_free(WIRE_GATHERED, rows);
    rank_close(rank);
}

static void test_candidate_ordered_again_replaces_the_held_one(void **state) {
    struct rank_fixture *fixture = *state;
    struct order_job job = rank_fixture_jobs[0];
    job.id = 72;
    Surefoot__Gathered *first = NULL;
    Surefoot__Gathered *again = NULL;
    struct grown *grown = grow_first(fixture->rank, &job, 3, &first);
    int32_t free_blocks = rank_kv_blocks_free(fixture->rank);
    free(grow_first(fixture->rank, &job, 3, &again));
    assert_gathered_equal(first, again);
    assert_int_equal(rank_kv_blocks_free(fixture->rank), free_blocks);
    free(grown);
    wire_free(WIRE_GATHERED, first);
    wire_free(WIRE_GATHERED, again);
}

static void test_item_given_twice_has_two_equal_rows(void **state) {
    struct rank_fixture *fixture = *state;
    struct order_fixture *order = order_create();
    struct order_job job = rank_fixture_jobs[0];
    job.id = 71;
    order_add_job(order, &job);
    order_add_item(order, 71, 1, 0, NULL, 0, FIXTURE_BLOCK);
    order_add_item(order, 71, 2, 0, NULL, 0, FIXTURE_BLOCK);
    order_add_item(order, 71, 1, 0, NULL, 0, FIXTURE_BLOCK);
    Surefoot__Gathered *rows = order_run(fixture->rank, order);
    assert_int_equal(rows->n_rows, 3);
    assert_rows_equal(rows->rows[0], rows->rows[2]);
    order_destroy(order);
    wire_free(WIRE_GATHERED, rows);
}

static void test_releases_free_the_kv(void **state) {
    struct rank_fixture *fixture = *state;
    struct rank *rank = rank_fixture_open(fixture->directory, 1, 16, 0);
    int32_t free_before = rank_kv_blocks_free(rank);
    Surefoot__Gathered *rows = NULL;
    struct grown *grown = grow_first(rank, &rank_fixture_jobs[0], 6, &rows);
    int32_t free_grown = rank_kv_blocks_free(rank);
    assert_true(free_grown < free_before);
    struct order_fixture *order = order_create();
    for (size_t i = 0; i < 5; i++) {
        order_add_release(order, 1, grown[i].candidate_id, false);
    }
    wire_free(WIRE_GATHERED, order_run(rank, order));
    order_destroy(order);
    assert_true(rank_kv_blocks_free(rank) > free_grown);
    order = order_create();
    order_add_release(order, 1, 0, true);
    wire_free(WIRE_GATHERED, order_run(rank, order));
    order_destroy(order);
    assert_int_equal(rank_kv_blocks_free(rank), free_before);
    free(grown);
    wire_free(WIRE_GATHERED, rows);
    rank_close(rank);
}

static void count_progress(void *context, uint64_t progress) {
    uint64_t *last = context;
    assert_true(progress > *last);
    *last = progress;
}

static void test_describes_itself_and_reports_progress(void **state) {
    struct rank_fixture *fixture = *state;
    Surefoot__GroupHello hello = SUREFOOT__GROUP_HELLO__INIT;
    rank_describe(fixture->rank, &hello);
    assert_string_equal(hello.policy->name, "policy");
    assert_string_equal(hello.policy->role, "policy");
    assert_int_equal(strlen(hello.policy->hash), 64);
    assert_int_equal(hello.policy->vocab_size, TINY_VOCAB);
    assert_int_equal(hello.n_scorers, FIXTURE_SCORERS);
    assert_string_equal(hello.scorers[2]->role, "cost");
    assert_string_equal(hello.scorers[2]->cost_mode, "token_sum_pos");
    assert_true(hello.n_exempt_ids >= 2);
    struct rank_plan plan;
    rank_get_plan(fixture->rank, &plan);
    assert_true(plan.weight_bytes > 0 && plan.kv_bytes > 0 && plan.scratch_bytes > 0);
    uint64_t last = 0;
    rank_set_progress(fixture->rank, count_progress, &last);
    Surefoot__Gathered *rows = NULL;
    free(grow_first(fixture->rank, &rank_fixture_jobs[0], 2, &rows));
    rank_set_progress(fixture->rank, NULL, NULL);
    assert_true(last >= FIXTURE_BLOCK);
    wire_free(WIRE_GATHERED, rows);
}

static void test_describes_what_generation_config_states(void **state) {
    (void)state;
    char *directory = tiny_models_make();
    char path[4400];
    snprintf(path, sizeof path, "%s/generation_config.json", tiny_model_path(directory, "policy"));
    static const char text[] = "{\"temperature\": 0.7, \"top_k\": 40, \"max_new_tokens\": 99}";
    testkit_write_file(path, text, strlen(text));
    struct rank *rank = rank_fixture_open(directory, 1, 4, 0);
    Surefoot__GroupHello hello = SUREFOOT__GROUP_HELLO__INIT;
    rank_describe(rank, &hello);
    const Surefoot__GenerationDefaults *generation = hello.policy->generation;
    assert_non_null(generation);
    assert_true(generation->has_temperature && generation->temperature == 0.7);
    assert_true(generation->has_top_k && generation->top_k == 40);
    assert_true(generation->has_max_new_tokens && generation->max_new_tokens == 99);
    assert_false(generation->has_top_p || generation->has_repetition_penalty);
    assert_false(generation->has_do_sample);
    assert_null(hello.scorers[0]->generation);
    rank_close(rank);
    testkit_remove_tree(directory);
}

static struct rank *open_demo(int slots, int64_t kv_tokens) {
    static const char *const names[] = {"reward", "cost"};
    char directories[3][4096];
    static const char *const folders[] = {"models/demo/policy", "models/demo/reward",
                                          "models/demo/cost"};
    for (int i = 0; i < 3; i++) {
        snprintf(directories[i], sizeof directories[i], "%s", testkit_source_path(folders[i]));
    }
    struct rank_options options = {.policy_directory = directories[0],
                                   .backend = "cpu",
                                   .threads = 2,
                                   .slots = slots,
                                   .kv_tokens = kv_tokens,
                                   .n_scorers = 2};
    for (int i = 0; i < 2; i++) {
        options.scorers[i] =
            (struct rank_scorer_options){.name = names[i], .directory = directories[i + 1]};
    }
    struct rank *rank = NULL;
    struct error error = {0};
    assert_ok(rank_open(&options, &rank, &error), &error);
    return rank;
}

// The shipped models: one block of a candidate at a time in a small rank, against all at once.
static void test_shipped_models_are_deterministic(void **state) {
    (void)state;
    if (access(testkit_source_path("models/demo/policy/model.safetensors"), R_OK) != 0) {
        print_message("skipped: models/demo has no weights here\n");
        skip();
    }
    static const char *const scorers[] = {"reward", "cost", NULL};
    const struct order_job job = {.id = 1,
                                  .prompt = "How do I get rid of a noisy neighbour?",
                                  .max_tokens = FIXTURE_MAX_TOKENS,
                                  .seed = 7,
                                  .scorers = scorers};
    enum { N = 8 };
    struct rank *large = open_demo(N, 0);
    struct rank *small = open_demo(1, 300);
    Surefoot__Gathered *first = NULL;
    struct grown *grown = grow_first(large, &job, N, &first);
    struct order_fixture *order = second_order(&job, grown, N, true);
    Surefoot__Gathered *held = order_run(large, order);
    Surefoot__Gathered *rebuilt = order_run(small, order);
    assert_true(held->n_rows > 0);
    assert_gathered_equal(held, rebuilt);
    order_destroy(order);
    free(grown);
    wire_free(WIRE_GATHERED, first);
    wire_free(WIRE_GATHERED, held);
    wire_free(WIRE_GATHERED, rebuilt);
    rank_close(large);
    rank_close(small);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_candidate_alone_equals_among_others),
        cmocka_unit_test(test_candidates_of_one_prompt_differ),
        cmocka_unit_test(test_rendered_prompt_and_continued_message_are_the_same_tokens),
        cmocka_unit_test(test_control_tokens_in_messages_count_on_request_only),
        cmocka_unit_test(test_variables_go_to_the_policys_template),
        cmocka_unit_test(test_rebuilt_candidates_equal_held_ones),
        cmocka_unit_test(test_waves_and_evictions_change_no_row),
        cmocka_unit_test(test_penalty_changes_only_its_item),
        cmocka_unit_test(test_a_prefix_is_a_given_block),
        cmocka_unit_test(test_an_items_temperature_is_in_place_of_the_jobs),
        cmocka_unit_test(test_finished_rows_have_text_and_nothing_held),
        cmocka_unit_test(test_stop_string_and_lexical_scorer_reach_the_row),
        cmocka_unit_test(test_stop_string_finds_a_cut_character),
        cmocka_unit_test(test_text_of_any_bytes_is_a_wire_string),
        cmocka_unit_test(test_candidates_share_the_kv_of_their_prompt),
        cmocka_unit_test(test_lost_parent_is_read_once_for_all_its_children),
        cmocka_unit_test(test_candidate_ordered_again_replaces_the_held_one),
        cmocka_unit_test(test_item_given_twice_has_two_equal_rows),
        cmocka_unit_test(test_releases_free_the_kv),
        cmocka_unit_test(test_describes_itself_and_reports_progress),
        cmocka_unit_test(test_describes_what_generation_config_states),
        cmocka_unit_test(test_shipped_models_are_deterministic),
    };
    return cmocka_run_group_tests(tests, rank_fixture_setup, rank_fixture_teardown);
}
