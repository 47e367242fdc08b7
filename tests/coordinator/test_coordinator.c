// The whole coordinator over its sockets and store, with fake groups: determinism over layouts,
// faults of groups, ends of jobs, restarts, bad messages.
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/deadline.h"
#include "common/log.h"
#include "proto/limits.h"
#include "tests/coordinator/harness.h"
#include "tests/support/testkit.h"

static int setup(void **state) {
    struct harness *harness = harness_open();
    harness_start(harness);
    *state = harness;
    return 0;
}

static int teardown(void **state) {
    harness_close(*state);
    return 0;
}

static Surefoot__JobSpec make_spec(const char *method, const char *selection, uint64_t seed) {
    Surefoot__JobSpec spec = SUREFOOT__JOB_SPEC__INIT;
    spec.prompt = "Tell me something.";
    spec.method = (char *)method;
    spec.selection = (char *)selection;
    spec.has_n = strcmp(method, "sample") != 0;
    spec.n = 16;
    spec.has_block_tokens = true;
    spec.block_tokens = 8;
    spec.has_max_tokens = true;
    spec.max_tokens = 40;
    spec.has_seed = true;
    spec.seed = seed;
    return spec;
}

// Everything in a result that must not depend on layout or company, as text.
static char *describe(const Surefoot__JobResult *result) {
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    assert_non_null(out);
    fprintf(out, "%d %s %s %.17g %.17g %.17g %d %u %u %u %u %d %llu\n", (int)result->outcome,
            result->text != NULL ? result->text : "-", result->rule != NULL ? result->rule : "-",
            result->reward, result->cost, result->safety_state, result->over_budget,
            result->n_finished, result->n_admissible, result->n_repeats, result->tries_used,
            result->fallback_fired, (unsigned long long)result->tokens_sampled);
    for (size_t i = 0; i < result->n_token_ids; i++) {
        fprintf(out, "%u/%.9g ", result->token_ids[i], (double)result->token_logprobs[i]);
    }
    for (size_t i = 0; i < result->n_scorers; i++) {
        const Surefoot__ScorerResult *scorer = result->scorers[i];
        fprintf(out, "\n%s %s %.17g:", scorer->name, scorer->role, scorer->end_score);
        for (size_t t = 0; t < scorer->n_token_scores; t++) {
            fprintf(out, " %.9g", (double)scorer->token_scores[t]);
        }
    }
    for (size_t i = 0; i < result->n_candidates; i++) {
        const Surefoot__CandidateSummary *candidate = result->candidates[i];
        fprintf(out, "\n%llu<%llu %u %.17g %.17g %d %s %s",
                (unsigned long long)candidate->candidate_id,
                (unsigned long long)candidate->parent_id, candidate->n_tokens, candidate->reward,
                candidate->cost, candidate->admissible, candidate->fate, candidate->finish_reason);
    }
    fclose(out);
    return text;
}

static char *run_and_describe(struct harness *harness, const char *key,
                              const Surefoot__JobSpec *spec) {
    harness_accept(harness, key, spec);
    Surefoot__ClientReply *reply = harness_result(harness, key);
    char *text = describe(reply->result);
    harness_free(reply);
    return text;
}

static const struct {
    const char *method;
    const char *selection;
} methods[] = {
    {"sample", NULL},           {"best-of-n", "plain"},    {"best-of-n", "lagrangian"},
    {"best-of-n", "augmented"}, {"beam", "plain"},         {"beam", "lagrangian"},
    {"beam", "augmented"},      {"inference-guard", NULL},
};
enum { METHODS = sizeof methods / sizeof methods[0] };

static void expect_same(const char *what, const char *method, char *expected, char *text) {
    if (strcmp(expected, text) != 0) {
        print_error("expected:\n%s\ngot:\n%s\n", expected, text);
        fail_msg("%s: another result %s", method, what);
    }
    free(text);
}

static void test_results_do_not_depend_on_groups_rows_or_company(void **state) {
    struct harness *harness = *state;
    char *expected[METHODS];
    char key[64];
    harness_connect(harness, 0, 64);
    for (size_t m = 0; m < METHODS; m++) {
        Surefoot__JobSpec spec = make_spec(methods[m].method, methods[m].selection, 7);
        snprintf(key, sizeof key, "one-group-%zu", m);
        expected[m] = run_and_describe(harness, key, &spec);
        assert_non_null(strstr(expected[m], "text of"));
    }
    harness->groups[0].reverses_rows = true;
    harness_connect(harness, 1, 5);
    for (size_t m = 0; m < METHODS; m++) {
        Surefoot__JobSpec spec = make_spec(methods[m].method, methods[m].selection, 7);
        snprintf(key, sizeof key, "two-groups-%zu", m);
        expect_same("with two groups", methods[m].method, expected[m],
                    run_and_describe(harness, key, &spec));
    }
    assert_true(harness->groups[1].orders > 0);
    for (uint64_t i = 0; i < 20; i++) {
        Surefoot__JobSpec other =
            make_spec(methods[i % METHODS].method, methods[i % METHODS].selection, 100 + i);
        snprintf(key, sizeof key, "other-%u", (unsigned)i);
        harness_accept(harness, key, &other);
    }
    for (size_t m = 0; m < METHODS; m++) {
        Surefoot__JobSpec spec = make_spec(methods[m].method, methods[m].selection, 7);
        snprintf(key, sizeof key, "in-company-%zu", m);
        harness_accept(harness, key, &spec);
    }
    for (size_t m = 0; m < METHODS; m++) {
        snprintf(key, sizeof key, "in-company-%zu", m);
        Surefoot__ClientReply *reply = harness_result(harness, key);
        expect_same("in company", methods[m].method, expected[m], describe(reply->result));
        harness_free(reply);
        free(expected[m]);
    }
    assert_true(harness->groups[0].releases > 0);
    assert_int_equal(harness->groups[0].retold + harness->groups[1].retold, 0);
}

static void test_no_answer_of_a_safe_method_is_over_budget(void **state) {
    struct harness *harness = *state;
    harness_connect(harness, 0, 64);
    char key[64];
    int answered = 0;
    for (uint64_t seed = 0; seed < 40; seed++) {
        Surefoot__JobSpec spec = make_spec("inference-guard", NULL, seed);
        spec.has_budget = true;
        spec.budget = 1.5;
        snprintf(key, sizeof key, "seed-%u", (unsigned)seed);
        harness_accept(harness, key, &spec);
    }
    for (uint64_t seed = 0; seed < 40; seed++) {
        snprintf(key, sizeof key, "seed-%u", (unsigned)seed);
        Surefoot__ClientReply *reply = harness_result(harness, key);
        const Surefoot__JobResult *result = reply->result;
        if (result->outcome == SUREFOOT__OUTCOME__OUTCOME_COMPLETED) {
            answered++;
            double sum = 0;
            double weight = 1;
            for (size_t t = 0; t < result->scorers[1]->n_token_scores; t++) {
                sum += weight * (double)result->scorers[1]->token_scores[t];
                weight *= 0.999;
            }
            assert_true(sum <= 1.5);
            assert_true(result->cost == sum);
            assert_false(result->over_budget);
        } else {
            assert_int_equal(result->outcome, SUREFOOT__OUTCOME__OUTCOME_NO_SAFE_CANDIDATE);
            assert_null(result->text);
            assert_int_equal(result->n_token_ids, 0);
        }
        harness_free(reply);
    }
    assert_true(answered > 0);
}

static void test_nothing_safe_is_a_refusal_without_text(void **state) {
    struct harness *harness = *state;
    harness_connect(harness, 0, 64);
    Surefoot__JobSpec spec = make_spec("inference-guard", NULL, 1);
    spec.prompt = "costly";
    harness_accept(harness, "costly", &spec);
    Surefoot__ClientReply *reply = harness_result(harness, "costly");
    const Surefoot__JobResult *result = reply->result;
    assert_int_equal(result->outcome, SUREFOOT__OUTCOME__OUTCOME_NO_SAFE_CANDIDATE);
    assert_null(result->text);
    assert_int_equal(result->n_token_ids + result->n_scorers, 0);
    assert_true(result->fallback_fired && result->has_safety_state && result->safety_state < 0);
    assert_non_null(result->rule);
    assert_true(result->n_candidates >= 16);
    harness_free(reply);
}

static bool holds_order(void *context) {
    return ((struct fake_group *)context)->held != NULL;
}

// Submits a job and waits until `group` has an order of it, which it keeps.
static void run_held(struct harness *harness, struct fake_group *group, const char *key,
                     const Surefoot__JobSpec *spec) {
    group->holds_orders = true;
    harness_accept(harness, key, spec);
    harness_await(harness, holds_order, group);
}

static void test_lost_group_costs_no_job(void **state) {
    struct harness *harness = *state;
    harness_connect(harness, 0, 64);
    Surefoot__JobSpec spec = make_spec("inference-guard", NULL, 3);
    char *expected = run_and_describe(harness, "whole", &spec);
    struct fake_group *group = &harness->groups[0];
    run_held(harness, group, "broken", &spec);
    harness_connect(harness, 1, 8);
    group->is_mute = true; // silent from here on: declared dead, its candidates go to group 1
    Surefoot__ClientReply *reply = harness_result(harness, "broken");
    expect_same("after a lost group", "inference-guard", expected, describe(reply->result));
    harness_free(reply);
    // What it says afterwards is answered with a call to register again.
    group->is_mute = false;
    group->holds_orders = false;
    harness_answer_held(group);
    harness_accept(harness, "again", &spec);
    reply = harness_result(harness, "again");
    expect_same("after its return", "inference-guard", expected, describe(reply->result));
    harness_free(reply);
    free(expected);
}

static void test_group_that_forgot_a_job_is_told_again(void **state) {
    struct harness *harness = *state;
    struct fake_group *group = harness_connect(harness, 0, 64);
    group->forgets_jobs = true;
    Surefoot__JobSpec spec = make_spec("best-of-n", NULL, 3);
    harness_accept(harness, "job", &spec);
    Surefoot__ClientReply *reply = harness_result(harness, "job");
    assert_int_equal(reply->result->outcome, SUREFOOT__OUTCOME__OUTCOME_COMPLETED);
    harness_free(reply);
    assert_int_equal(group->n_jobs, 1);
}

static Surefoot__Outcome outcome_with_row(struct harness *harness, const char *key,
                                          enum status row_error, bool breaks_row) {
    struct fake_group *group = &harness->groups[0];
    group->row_error = row_error;
    group->breaks_row = breaks_row;
    Surefoot__JobSpec spec = make_spec("inference-guard", NULL, 3);
    harness_accept(harness, key, &spec);
    Surefoot__ClientReply *reply = harness_result(harness, key);
    Surefoot__Outcome outcome = reply->result->outcome;
    assert_true((outcome == SUREFOOT__OUTCOME__OUTCOME_COMPLETED) == (reply->result->text != NULL));
    assert_true((outcome == SUREFOOT__OUTCOME__OUTCOME_COMPLETED) ==
                (reply->result->error == NULL));
    if (row_error != STATUS_OK && reply->result->error != NULL) {
        assert_string_equal(reply->result->error->field, "spec.prompt");
    }
    if (outcome == SUREFOOT__OUTCOME__OUTCOME_REJECTED) {
        assert_int_equal(reply->result->n_candidates, 0);
        assert_false(reply->result->has_candidates_made);
    }
    harness_free(reply);
    return outcome;
}

static void test_errors_of_rows_end_their_job_only(void **state) {
    struct harness *harness = *state;
    harness_connect(harness, 0, 64);
    assert_int_equal(outcome_with_row(harness, "limit", STATUS_LIMIT, false),
                     SUREFOOT__OUTCOME__OUTCOME_REJECTED);
    assert_int_equal(outcome_with_row(harness, "device", STATUS_DEVICE, false),
                     SUREFOOT__OUTCOME__OUTCOME_FAILED);
    assert_int_equal(outcome_with_row(harness, "nan", STATUS_OK, true),
                     SUREFOOT__OUTCOME__OUTCOME_FAILED);
    assert_int_equal(outcome_with_row(harness, "busy", STATUS_UNAVAILABLE, false),
                     SUREFOOT__OUTCOME__OUTCOME_COMPLETED);
    assert_int_equal(outcome_with_row(harness, "good", STATUS_OK, false),
                     SUREFOOT__OUTCOME__OUTCOME_COMPLETED);
}

static void test_numbers_that_no_scorer_gave_are_absent(void **state) {
    struct harness *harness = *state;
    harness->groups[0].has_policy_alone = true;
    harness_connect(harness, 0, 64);
    Surefoot__JobSpec spec = make_spec("sample", NULL, 3);
    harness_accept(harness, "alone", &spec);
    Surefoot__ClientReply *reply = harness_result(harness, "alone");
    const Surefoot__JobResult *result = reply->result;
    assert_int_equal(result->outcome, SUREFOOT__OUTCOME__OUTCOME_COMPLETED);
    assert_false(result->has_reward || result->has_cost || result->has_safety_state);
    assert_int_equal(result->n_candidates, 1);
    const Surefoot__CandidateSummary *candidate = result->candidates[0];
    assert_false(candidate->has_reward || candidate->has_cost || candidate->has_safety_state);
    harness_free(reply);
}

static void test_method_without_its_scorers_is_told_what_to_do(void **state) {
    struct harness *harness = *state;
    harness->groups[0].has_policy_alone = true;
    harness_connect(harness, 0, 64);
    static const struct {
        const char *method;
        const char *models;
    } rows[] = {
        {"inference-guard", "surefoot up --reward NAME=DIR --cost NAME=DIR"},
        {"best-of-n", "surefoot up --reward NAME=DIR"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        Surefoot__JobSpec spec = make_spec(rows[i].method, NULL, 3);
        Surefoot__ClientReply *reply = harness_submit(harness, rows[i].method, &spec, false);
        assert_int_equal(reply->error->status, STATUS_INVALID_ARGUMENT);
        assert_string_equal(reply->error->field, "spec.scorers");
        assert_non_null(strstr(reply->error->message, "--method sample"));
        assert_non_null(strstr(reply->error->message, rows[i].models));
        harness_free(reply);
    }
}

static void test_candidate_that_never_comes_back_fails_its_job(void **state) {
    struct harness *harness = *state;
    harness_connect(harness, 0, 64)->repeats_error = true;
    assert_int_equal(outcome_with_row(harness, "stuck", STATUS_UNAVAILABLE, false),
                     SUREFOOT__OUTCOME__OUTCOME_FAILED);
    harness->groups[0].repeats_error = false;
    assert_int_equal(outcome_with_row(harness, "good", STATUS_OK, false),
                     SUREFOOT__OUTCOME__OUTCOME_COMPLETED);
}

static void expect_outcome(struct harness *harness, const char *key, Surefoot__Outcome outcome) {
    Surefoot__ClientReply *reply = harness_result(harness, key);
    if (reply->result->outcome != outcome) {
        fail_msg("%s: outcome %d, not %d: %s", key, reply->result->outcome, outcome,
                 reply->result->error != NULL ? reply->result->error->message : "no error");
    }
    harness_free(reply);
}

static Surefoot__ClientReply *get_status(struct harness *harness) {
    Surefoot__GetStatus get = SUREFOOT__GET_STATUS__INIT;
    Surefoot__ClientRequest request = SUREFOOT__CLIENT_REQUEST__INIT;
    request.status = &get;
    Surefoot__ClientReply *reply = harness_call(harness, &request);
    assert_non_null(reply->status);
    return reply;
}

// Jobs beside a group that breaks all its rows: another one does them.
static void run_beside_bad_group(struct harness *harness, int round, int n_jobs) {
    char key[32];
    harness_connect(harness, 0, 16)->breaks_rows = true;
    for (int i = 0; i < n_jobs; i++) {
        Surefoot__JobSpec spec = make_spec("inference-guard", NULL, (uint64_t)i);
        spec.has_budget = true;
        spec.budget = 50;
        snprintf(key, sizeof key, "job-%d-%d", round, i);
        harness_accept(harness, key, &spec);
    }
    for (int i = 0; i < n_jobs; i++) {
        snprintf(key, sizeof key, "job-%d-%d", round, i);
        expect_outcome(harness, key, SUREFOOT__OUTCOME__OUTCOME_COMPLETED);
    }
}

// A group that is started again as often as it is set aside.
static void test_what_groups_do_again_and_again_does_not_fill_the_log(void **state) {
    enum { ROUNDS = 30, JOBS = 6 };
    struct harness *harness = *state;
    char path[600];
    snprintf(path, sizeof path, "%s/log", harness->directory);
    harness_connect(harness, 1, 16);
    int64_t began_ms = clock_monotonic_ms();
    int stderr_fd = dup(STDERR_FILENO);
    int log_fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
    assert_true(stderr_fd >= 0 && dup2(log_fd, STDERR_FILENO) >= 0);
    for (int round = 0; round < ROUNDS; round++) {
        run_beside_bad_group(harness, round, JOBS);
        harness_disconnect(harness, 0);
    }
    fflush(stderr);
    assert_true(dup2(stderr_fd, STDERR_FILENO) >= 0);
    close(stderr_fd);
    close(log_fd);
    int64_t periods = 1 + (clock_monotonic_ms() - began_ms) / LOG_LIMIT_MS;
    char *log = testkit_read_file(path, NULL);
    int lines = 0;
    for (const char *at = log; (at = strstr(at, "is set aside until")) != NULL; at++) {
        lines++;
    }
    free(log);
    assert_in_range(lines, 1, (uint64_t)(LOG_LIMIT_LINES * periods));
}

static void test_group_that_answers_badly_is_set_aside_and_costs_no_job(void **state) {
    enum { JOBS = 20 };
    struct harness *harness = *state;
    harness_connect(harness, 1, 16);
    run_beside_bad_group(harness, 0, JOBS);
    Surefoot__ClientReply *reply = get_status(harness);
    for (size_t g = 0; g < 2; g++) {
        const Surefoot__GroupStatus *group = reply->status->groups[g];
        bool is_bad = strcmp(group->name, "group-0") == 0;
        assert_true(group->alive);
        assert_string_equal(group->condition, is_bad ? "set-aside" : "serving");
        assert_true(is_bad == (group->why != NULL));
        assert_true(is_bad == (group->bad_rows > 0));
    }
    harness_free(reply);
    // Started again, it is one like any other.
    harness_disconnect(harness, 0);
    harness_connect(harness, 0, 16);
    reply = get_status(harness);
    for (size_t g = 0; g < 2; g++) {
        assert_string_equal(reply->status->groups[g]->condition, "serving");
    }
    harness_free(reply);
}

struct stranger {
    struct harness *harness;
    struct channel *channel;
    uint8_t *bytes;
    size_t size;
};

static bool is_answered(void *context) {
    struct stranger *stranger = context;
    harness_free(harness_pump(stranger->harness));
    return channel_receive(stranger->channel, NULL, &stranger->bytes, &stranger->size) == STATUS_OK;
}

// Of a message that is so large nothing is looked at but its length.
static void test_what_is_no_group_says_hello_in_short(void **state) {
    struct harness *harness = *state;
    const struct channel_options options = {.message_bytes_max = LIMIT_GROUP_MESSAGE_BYTES};
    struct stranger stranger = {.harness = harness};
    struct error err;
    assert_ok(channel_connect(harness->context, harness->group_endpoint, &options,
                              &stranger.channel, &err),
              &err);
    uint8_t *large = calloc(1, LIMIT_GROUP_HELLO_BYTES + 1);
    assert_non_null(large);
    assert_ok(channel_send(stranger.channel, NULL, large, LIMIT_GROUP_HELLO_BYTES + 1), NULL);
    free(large);
    harness_await(harness, is_answered, &stranger);
    void *message = NULL;
    assert_ok(wire_unpack(WIRE_GROUP_COMMAND, stranger.bytes, stranger.size, &message, &err), &err);
    const Surefoot__GroupCommand *command = message;
    assert_non_null(command->reject);
    assert_int_equal(command->reject->status, STATUS_LIMIT);
    assert_non_null(strstr(command->reject->message, "no group yet, the limit is 1048576"));
    wire_free(WIRE_GROUP_COMMAND, message);
    free(stranger.bytes);
    channel_close(stranger.channel);
}

static void test_bad_row_is_tried_with_another_group(void **state) {
    struct harness *harness = *state;
    harness_connect(harness, 0, 64);
    harness_connect(harness, 1, 64);
    for (int g = 0; g < 2; g++) {
        harness->groups[g].row_error = STATUS_DEVICE;
        Surefoot__JobSpec spec = make_spec("best-of-n", "plain", 3);
        const char *key = g == 0 ? "first" : "second";
        harness_accept(harness, key, &spec);
        expect_outcome(harness, key, SUREFOOT__OUTCOME__OUTCOME_COMPLETED);
        assert_int_equal(harness->groups[g].row_error, STATUS_OK); // it happened
    }
}

// Waits until `group` is in `condition`.
static void await_condition(struct harness *harness, const char *group, const char *condition) {
    bool found = false;
    while (!found) {
        Surefoot__ClientReply *reply = get_status(harness);
        for (size_t g = 0; g < reply->status->n_groups; g++) {
            found = found || (strcmp(reply->status->groups[g]->name, group) == 0 &&
                              strcmp(reply->status->groups[g]->condition, condition) == 0);
        }
        harness_free(reply);
    }
}

static void test_stalled_group_is_replaced_by_others_or_waited_for(void **state) {
    struct harness *harness = *state;
    struct fake_group *group = harness_connect(harness, 0, 64);
    Surefoot__JobSpec spec = make_spec("inference-guard", NULL, 3);
    run_held(harness, group, "alone", &spec);
    group->is_stalled = true;
    await_condition(harness, "group-0", "stalled");
    group->is_stalled = group->holds_orders = false;
    harness_answer_held(group); // nobody else was there to do it
    expect_outcome(harness, "alone", SUREFOOT__OUTCOME__OUTCOME_COMPLETED);
    await_condition(harness, "group-0", "serving");

    run_held(harness, group, "helped", &spec);
    harness_connect(harness, 1, 64);
    group->is_stalled = true;
    expect_outcome(harness, "helped", SUREFOOT__OUTCOME__OUTCOME_COMPLETED);
    Surefoot__ClientReply *reply = get_status(harness);
    for (size_t g = 0; g < reply->status->n_groups; g++) {
        const Surefoot__GroupStatus *status = reply->status->groups[g];
        assert_true(status->alive);
        assert_true((status->why != NULL) == (strcmp(status->name, "group-0") == 0));
        assert_true(status->why == NULL || strstr(status->why, "rank 3") != NULL);
    }
    harness_free(reply);
    group->is_stalled = group->holds_orders = false;
    harness_answer_held(group); // too late
    await_condition(harness, "group-0", "serving");
    harness_disconnect(harness, 1);
    harness_accept(harness, "after", &spec);
    expect_outcome(harness, "after", SUREFOOT__OUTCOME__OUTCOME_COMPLETED);
}

static void test_silent_group_is_replaced_long_before_it_is_given_up(void **state) {
    struct harness *harness = *state;
    harness_stop(harness);
    harness->options.dead_after_ms = 3600000;
    harness_start(harness);
    struct fake_group *group = harness_connect(harness, 0, 64);
    Surefoot__JobSpec spec = make_spec("inference-guard", NULL, 3);
    run_held(harness, group, "job", &spec);
    harness_connect(harness, 1, 64);
    group->is_mute = true;
    expect_outcome(harness, "job", SUREFOOT__OUTCOME__OUTCOME_COMPLETED);
    await_condition(harness, "group-0", "stalled");
    group->is_mute = group->holds_orders = false;
    harness_answer_held(group);
    await_condition(harness, "group-0", "serving");
}

static void test_result_says_how_many_candidates_it_leaves_out(void **state) {
    struct harness *harness = *state;
    harness_connect(harness, 0, 64);
    Surefoot__JobSpec spec = make_spec("beam", "plain", 3);
    spec.n = 512;
    spec.max_tokens = 120;
    spec.has_survivors = true;
    spec.survivors = 128;
    spec.block_tokens = 4; // 12 tokens are the least that a lineage has
    harness_accept(harness, "job", &spec);
    Surefoot__ClientReply *reply = harness_result(harness, "job");
    const Surefoot__JobResult *result = reply->result;
    assert_int_equal(result->n_candidates, 4096);
    assert_true(result->candidates_made > 4096);
    uint32_t finished = 0;
    for (size_t i = 0; i < result->n_candidates; i++) {
        finished += result->candidates[i]->finish_reason[0] != '\0' ? 1 : 0;
    }
    uint32_t ended = result->n_finished + result->n_repeats;
    assert_int_equal(finished, ended < 4096 ? ended : 4096);
    harness_free(reply);
}

static void test_row_that_no_group_can_do_fails_its_job_only(void **state) {
    enum { JOBS = 12 };
    struct harness *harness = *state;
    harness_connect(harness, 0, 64);
    harness_connect(harness, 1, 64);
    char key[32];
    for (int i = 0; i < JOBS; i++) {
        Surefoot__JobSpec spec = make_spec("best-of-n", "plain", (uint64_t)i);
        spec.prompt = i % 2 == 0 ? "infinite" : "good";
        snprintf(key, sizeof key, "job-%d", i);
        harness_accept(harness, key, &spec);
    }
    for (int i = 0; i < JOBS; i++) {
        snprintf(key, sizeof key, "job-%d", i);
        expect_outcome(harness, key,
                       i % 2 == 0 ? SUREFOOT__OUTCOME__OUTCOME_FAILED
                                  : SUREFOOT__OUTCOME__OUTCOME_COMPLETED);
    }
    Surefoot__ClientReply *reply = get_status(harness);
    assert_string_equal(reply->status->groups[0]->condition, "serving");
    assert_string_equal(reply->status->groups[1]->condition, "serving");
    harness_free(reply);
}

static int deaths(const struct harness *harness) {
    int sum = 0;
    for (int g = 0; g < HARNESS_GROUPS; g++) {
        sum += harness->groups[g].deaths;
    }
    return sum;
}

static void test_job_that_kills_its_groups_ends_and_takes_no_other_along(void **state) {
    enum { JOBS = 12 };
    struct harness *harness = *state;
    char key[32];
    for (int i = 0; i < JOBS; i++) { // all are in the first orders
        Surefoot__JobSpec spec = make_spec("best-of-n", "plain", (uint64_t)i);
        spec.n = 4;
        spec.prompt = i == 5 ? "deadly" : "good";
        snprintf(key, sizeof key, "job-%d", i);
        harness_accept(harness, key, &spec);
    }
    for (int g = 0; g < HARNESS_GROUPS; g++) {
        harness->groups[g].deadly = "deadly";
        harness_greet(harness, g, 64);
    }
    for (int i = 0; i < JOBS; i++) {
        snprintf(key, sizeof key, "job-%d", i);
        expect_outcome(harness, key,
                       i == 5 ? SUREFOOT__OUTCOME__OUTCOME_FAILED
                              : SUREFOOT__OUTCOME__OUTCOME_COMPLETED);
    }
    Surefoot__ClientReply *reply = harness_result(harness, "job-5");
    assert_int_equal(reply->result->error->status, STATUS_PEER_LOST);
    assert_non_null(strstr(reply->result->error->message, "a rank died"));
    harness_free(reply);
    // Each group in company at first, then one with this job, two with its candidate alone.
    assert_in_range(deaths(harness), 3, HARNESS_GROUPS + 3);
}

static bool holds_two(void *context) {
    return ((struct fake_group *)context)->behind != NULL;
}

// Three jobs that fill an order each; the group is lost with two of them. Then one of them kills
// every group that comes: it ends, and the one behind it does not.
static void test_order_behind_another_is_given_out_again(void **state) {
    struct harness *harness = *state;
    struct fake_group *group = harness_connect(harness, 0, 8);
    group->holds_orders = true;
    char key[32];
    for (int i = 0; i < 3; i++) {
        Surefoot__JobSpec spec = make_spec("best-of-n", "plain", (uint64_t)i);
        spec.n = 8;
        spec.prompt = i == 0 ? "deadly" : "good";
        snprintf(key, sizeof key, "job-%d", i);
        harness_accept(harness, key, &spec);
    }
    harness_await(harness, holds_two, group);
    Surefoot__ClientReply *reply = get_status(harness);
    assert_int_equal(reply->status->groups[0]->slots_busy, 16);
    harness_free(reply);
    harness_disconnect(harness, 0);
    for (int g = 0; g < HARNESS_GROUPS; g++) {
        harness->groups[g].deadly = "deadly";
        harness_greet(harness, g, 8);
    }
    for (int i = 0; i < 3; i++) {
        snprintf(key, sizeof key, "job-%d", i);
        expect_outcome(harness, key,
                       i == 0 ? SUREFOOT__OUTCOME__OUTCOME_FAILED
                              : SUREFOOT__OUTCOME__OUTCOME_COMPLETED);
    }
}

static bool has_died(void *context) {
    return deaths(context) > 0;
}

// Groups die at random; whom it hits is not to blame. How often depends on how orders are cut: jobs
// follow until it was often enough to end one that would be blamed.
static void test_groups_that_die_by_chance_cost_no_job(void **state) {
    enum { JOBS = 10, DEATHS = 8, ROUNDS_MAX = 100 };
    struct harness *harness = *state;
    char key[32];
    int round = 0;
    for (; round < ROUNDS_MAX && deaths(harness) < DEATHS; round++) {
        for (int i = 0; i < JOBS; i++) {
            Surefoot__JobSpec spec = make_spec("best-of-n", "plain", (uint64_t)i);
            snprintf(key, sizeof key, "job-%d-%d", round, i);
            harness_accept(harness, key, &spec);
        }
        for (int g = 0; round == 0 && g < HARNESS_GROUPS; g++) {
            harness->groups[g].chance_items = 2; // short orders are not hit
            harness_greet(harness, g, 64);
        }
        for (int i = 0; i < JOBS; i++) {
            snprintf(key, sizeof key, "job-%d-%d", round, i);
            expect_outcome(harness, key, SUREFOOT__OUTCOME__OUTCOME_COMPLETED);
        }
    }
    assert_in_range(round, 1, ROUNDS_MAX - 1);
}

static void test_restart_does_not_forget_what_a_job_has_killed(void **state) {
    struct harness *harness = *state;
    struct fake_group *group = &harness->groups[0];
    group->deadly = "deadly";
    harness_connect(harness, 0, 64);
    Surefoot__JobSpec spec = make_spec("sample", NULL, 1);
    spec.prompt = "deadly";
    harness_accept(harness, "job", &spec);
    harness_await(harness, has_died, harness);
    harness_disconnect(harness, 0);
    Surefoot__ClientReply *reply = harness_fetch(harness, "job", 0);
    assert_non_null(reply->progress);
    harness_free(reply);
    harness_stop(harness);
    harness_start(harness);
    group->deadly = "deadly";
    harness_connect(harness, 0, 64);
    expect_outcome(harness, "job", SUREFOOT__OUTCOME__OUTCOME_FAILED);
    assert_int_equal(group->deaths, 1); // after the restart
}

// The answer's cost is derived anew from the stored scores: under every reading of them it must be
// what the search made of the rows.
static void test_answers_pass_the_recheck_under_every_cost_mode(void **state) {
    struct harness *harness = *state;
    harness_connect(harness, 0, 64);
    static const char *const modes[] = {"end_delta", "token_sum", "token_sum_pos", "block_end",
                                        "end_sign"};
    static const char *const units[] = {"token", "block"};
    char key[64];
    for (size_t i = 0; i < 20; i++) {
        Surefoot__JobSpec spec = make_spec("inference-guard", NULL, 11);
        spec.cost_mode = (char *)modes[i % 5];
        spec.discount_unit = (char *)units[i / 5 % 2];
        spec.admit_rule = i < 10 ? "terminal" : "prefix";
        spec.has_budget = true;
        spec.budget = 50;
        spec.has_discount = true;
        spec.discount = 0.9;
        snprintf(key, sizeof key, "mode-%zu", i);
        harness_accept(harness, key, &spec);
        Surefoot__ClientReply *reply = harness_result(harness, key);
        assert_int_equal(reply->result->outcome, SUREFOOT__OUTCOME__OUTCOME_COMPLETED);
        assert_true(reply->result->cost <= 50);
        harness_free(reply);
    }
}

static void test_cancelled_job_ends_without_text(void **state) {
    struct harness *harness = *state;
    struct fake_group *group = harness_connect(harness, 0, 64);
    Surefoot__JobSpec spec = make_spec("inference-guard", NULL, 3);
    run_held(harness, group, "job", &spec);
    for (int i = 0; i < 2; i++) {
        Surefoot__ClientReply *reply = harness_cancel(harness, "job");
        assert_non_null(reply->cancelled);
        assert_string_equal(reply->cancelled->job_key, "job");
        assert_true(reply->cancelled->duplicate == (i == 1));
        harness_free(reply);
    }
    Surefoot__ClientReply *reply = harness_result(harness, "job");
    assert_int_equal(reply->result->outcome, SUREFOOT__OUTCOME__OUTCOME_CANCELLED);
    assert_null(reply->result->text);
    harness_free(reply);
    // Its rows come back all the same, and the group goes on with other jobs.
    group->holds_orders = false;
    harness_answer_held(group);
    harness_accept(harness, "next", &spec);
    harness_free(harness_result(harness, "next"));
    reply = harness_cancel(harness, "unknown");
    assert_int_equal(reply->error->status, STATUS_NOT_FOUND);
    harness_free(reply);
}

static void test_deadline_ends_queued_and_running_jobs(void **state) {
    struct harness *harness = *state;
    Surefoot__JobSpec spec = make_spec("inference-guard", NULL, 3);
    spec.has_deadline_ms = true;
    spec.deadline_ms = 30;
    harness_accept(harness, "queued", &spec);
    Surefoot__ClientReply *reply = harness_result(harness, "queued");
    assert_int_equal(reply->result->outcome, SUREFOOT__OUTCOME__OUTCOME_DEADLINE_EXCEEDED);
    harness_free(reply);
    harness_connect(harness, 0, 64)->holds_orders = true;
    harness_accept(harness, "running", &spec);
    reply = harness_result(harness, "running");
    assert_int_equal(reply->result->outcome, SUREFOOT__OUTCOME__OUTCOME_DEADLINE_EXCEEDED);
    assert_null(reply->result->text);
    harness_free(reply);
}

static void test_same_key_is_the_same_job(void **state) {
    struct harness *harness = *state;
    harness_connect(harness, 0, 64);
    Surefoot__JobSpec spec = make_spec("best-of-n", NULL, 3);
    Surefoot__JobSpec other = make_spec("best-of-n", NULL, 4);
    harness_accept(harness, "job", &spec);
    Surefoot__JobSpec spelled = spec;
    spelled.has_tries = true;
    spelled.tries = 2; // the default
    for (int i = 0; i < 2; i++) {
        Surefoot__ClientReply *reply =
            harness_submit(harness, "job", i == 0 ? &spec : &spelled, false);
        assert_true(reply->accepted != NULL && reply->accepted->duplicate);
        harness_free(reply);
        reply = harness_submit(harness, "job", &other, false);
        assert_int_equal(reply->error->status, STATUS_ALREADY_EXISTS);
        assert_string_equal(reply->error->field, "job_key");
        harness_free(reply);
        harness_free(harness_result(harness, "job"));
    }
}

static void test_job_with_a_field_without_effect_is_refused(void **state) {
    struct harness *harness = *state;
    Surefoot__JobSpec spec = make_spec("best-of-n", NULL, 3);
    spec.has_tries = true;
    spec.tries = 3;
    Surefoot__ClientReply *reply = harness_submit(harness, "job", &spec, false);
    assert_non_null(reply->error);
    assert_int_equal(reply->error->status, STATUS_INVALID_ARGUMENT);
    assert_string_equal(reply->error->field, "spec.tries");
    assert_non_null(strstr(reply->error->message, "best-of-n"));
    harness_free(reply);
}

static void test_closed_job_is_gone(void **state) {
    struct harness *harness = *state;
    struct fake_group *group = harness_connect(harness, 0, 64);
    Surefoot__JobSpec spec = make_spec("best-of-n", NULL, 3);
    harness_accept(harness, "done", &spec);
    harness_free(harness_result(harness, "done"));
    run_held(harness, group, "running", &spec);
    const char *keys[] = {"done", "running"};
    for (int k = 0; k < 2; k++) {
        for (int i = 0; i < 2; i++) {
            Surefoot__ClientReply *reply = harness_close_job(harness, keys[k]);
            assert_non_null(reply->closed);
            assert_true(reply->closed->duplicate == (i == 1));
            harness_free(reply);
        }
        Surefoot__ClientReply *reply = harness_fetch(harness, keys[k], 0);
        assert_int_equal(reply->error->status, STATUS_NOT_FOUND);
        harness_free(reply);
    }
}

static void test_waiting_fetch_is_answered_with_progress_in_time(void **state) {
    struct harness *harness = *state;
    struct fake_group *group = harness_connect(harness, 0, 64);
    Surefoot__JobSpec spec = make_spec("best-of-n", NULL, 3);
    run_held(harness, group, "job", &spec);
    const uint32_t waits[] = {0, 60};
    for (int i = 0; i < 2; i++) {
        Surefoot__ClientReply *reply = harness_fetch(harness, "job", waits[i]);
        assert_non_null(reply->progress);
        assert_int_equal(reply->progress->state, SUREFOOT__JOB_STATE__JOB_STATE_RUNNING);
        assert_int_equal(reply->progress->live, 16);
        harness_free(reply);
    }
}

static bool has_result_push(void *context) {
    struct harness *harness = context;
    return harness->n_pushes > 0 && harness->pushes[harness->n_pushes - 1]->result != NULL;
}

static bool has_push(void *context) {
    return ((struct harness *)context)->n_pushes > 0;
}

static void test_stream_brings_progress_and_result(void **state) {
    struct harness *harness = *state;
    struct fake_group *group = harness_connect(harness, 0, 64);
    group->holds_orders = true;
    Surefoot__JobSpec spec = make_spec("inference-guard", NULL, 3);
    Surefoot__ClientReply *reply = harness_submit(harness, "job", &spec, true);
    assert_non_null(reply->accepted);
    harness_free(reply);
    harness_await(harness, has_push, harness);
    assert_non_null(harness->pushes[0]->progress);
    assert_string_equal(harness->pushes[0]->progress->job_key, "job");
    harness_await(harness, holds_order, group);
    group->holds_orders = false;
    harness_answer_held(group);
    harness_await(harness, has_result_push, harness);
    assert_string_equal(harness->pushes[harness->n_pushes - 1]->result->job_key, "job");
    // The same request for a job that is done brings its result at once.
    size_t before = harness->n_pushes;
    reply = harness_submit(harness, "job", &spec, true);
    assert_true(reply->accepted->duplicate);
    harness_free(reply);
    harness_await(harness, has_result_push, harness);
    while (harness->n_pushes == before) {
        assert_null(harness_pump(harness));
    }
}

static void test_followed_again_after_a_restart_a_job_streams(void **state) {
    struct harness *harness = *state;
    Surefoot__JobSpec spec = make_spec("inference-guard", NULL, 3);
    harness_free(harness_submit(harness, "job", &spec, true));
    harness_stop(harness);
    harness_start(harness);
    Surefoot__FetchJob fetch = SUREFOOT__FETCH_JOB__INIT;
    Surefoot__ClientRequest request = SUREFOOT__CLIENT_REQUEST__INIT;
    fetch.job_key = "job";
    fetch.has_stream = fetch.stream = true;
    request.fetch = &fetch;
    Surefoot__ClientReply *reply = harness_call(harness, &request);
    assert_int_equal(reply->progress->state, SUREFOOT__JOB_STATE__JOB_STATE_QUEUED);
    harness_free(reply);
    harness_connect(harness, 0, 64);
    harness_await(harness, has_result_push, harness);
}

static void test_waiting_fetch_is_answered_when_the_service_stops(void **state) {
    struct harness *harness = *state;
    Surefoot__JobSpec spec = make_spec("inference-guard", NULL, 3);
    harness_accept(harness, "job", &spec);
    Surefoot__FetchJob fetch = SUREFOOT__FETCH_JOB__INIT;
    Surefoot__ClientRequest request = SUREFOOT__CLIENT_REQUEST__INIT;
    fetch.job_key = "job";
    fetch.has_wait_ms = true;
    fetch.wait_ms = HARNESS_WAIT_MS;
    request.fetch = &fetch;
    request.has_schema_major = request.has_request_id = true;
    request.schema_major = WIRE_SCHEMA_MAJOR;
    request.request_id = 77;
    uint8_t *bytes;
    size_t size;
    assert_ok(wire_pack(WIRE_CLIENT_REQUEST, &request, &bytes, &size), NULL);
    assert_ok(channel_send(harness->client, NULL, bytes, size), NULL);
    free(bytes);
    harness_free(get_status(harness)); // so the fetch was read before
    harness_stop(harness);
    Surefoot__ClientReply *reply = NULL;
    while (reply == NULL) {
        reply = harness_pump(harness);
    }
    assert_int_equal(reply->request_id, 77);
    assert_non_null(reply->progress);
    harness_free(reply);
}

static bool said_hello_again(void *context) {
    const struct fake_group *group = context;
    return group->say_hellos > 0 && group->welcomes > 1;
}

static void test_restart_runs_unfinished_jobs_again(void **state) {
    struct harness *harness = *state;
    struct fake_group *group = harness_connect(harness, 0, 64);
    Surefoot__JobSpec spec = make_spec("inference-guard", NULL, 3);
    char *expected = run_and_describe(harness, "before", &spec);
    run_held(harness, group, "unfinished", &spec);
    harness_stop(harness);
    wire_free(WIRE_GROUP_COMMAND, group->held);
    group->held = NULL;
    group->holds_orders = false;
    harness_start(harness);
    // The group is not told of the restart: it finds out by the answer to its heartbeat.
    harness_await(harness, said_hello_again, group);
    const char *keys[] = {"before", "unfinished"};
    for (int i = 0; i < 2; i++) {
        Surefoot__ClientReply *reply = harness_result(harness, keys[i]);
        expect_same("after a restart", keys[i], expected, describe(reply->result));
        harness_free(reply);
    }
    free(expected);
}

static void test_job_of_an_unknown_scorer_is_rejected_when_groups_come(void **state) {
    struct harness *harness = *state;
    Surefoot__ScorerSpec scorers[2];
    Surefoot__ScorerSpec *list[2] = {&scorers[0], &scorers[1]};
    surefoot__scorer_spec__init(&scorers[0]);
    surefoot__scorer_spec__init(&scorers[1]);
    scorers[0].name = "reward";
    scorers[1].name = "nobody";
    Surefoot__JobSpec spec = make_spec("inference-guard", NULL, 3);
    spec.scorers = list;
    spec.n_scorers = 2;
    harness_accept(harness, "early", &spec);
    harness_connect(harness, 0, 64);
    Surefoot__ClientReply *reply = harness_result(harness, "early");
    assert_int_equal(reply->result->outcome, SUREFOOT__OUTCOME__OUTCOME_REJECTED);
    assert_string_equal(reply->result->error->field, "spec.scorers[1].name");
    harness_free(reply);
    reply = harness_submit(harness, "late", &spec, false);
    assert_int_equal(reply->error->status, STATUS_INVALID_ARGUMENT);
    assert_string_equal(reply->error->field, "spec.scorers[1].name");
    harness_free(reply);
}

static bool is_welcome(void *context) {
    return ((struct fake_group *)context)->welcomes > 0;
}

static bool is_rejected(void *context) {
    return ((struct fake_group *)context)->reject_status != 0;
}

static void test_group_of_an_older_schema_is_refused(void **state) {
    struct harness *harness = *state;
    harness->groups[0].newer = -1;
    struct fake_group *group = harness_greet(harness, 0, 64);
    harness_await(harness, is_rejected, group);
    assert_int_equal(group->reject_status, STATUS_VERSION);
    assert_int_equal(group->welcomes, 0);
    harness_disconnect(harness, 0);
    group->newer = 1;
    harness_greet(harness, 0, 64);
    harness_await(harness, is_welcome, group);
}

static void test_group_with_other_models_or_a_taken_name_is_refused(void **state) {
    struct harness *harness = *state;
    harness_connect(harness, 0, 64);
    harness->groups[1].policy_hash = "other";
    struct fake_group *group = harness_greet(harness, 1, 64);
    harness_await(harness, is_rejected, group);
    assert_int_equal(group->reject_status, STATUS_INVALID_ARGUMENT);
    harness_disconnect(harness, 1);
    group->policy_hash = NULL;
    group->precision = "int8";
    group->reject_status = 0;
    harness_greet(harness, 1, 64);
    harness_await(harness, is_rejected, group);
    assert_int_equal(group->reject_status, STATUS_INVALID_ARGUMENT);
    harness_disconnect(harness, 1);
    group->precision = NULL;
    group->kv_dtype = "bf16";
    group->reject_status = 0;
    harness_greet(harness, 1, 64);
    harness_await(harness, is_rejected, group);
    assert_int_equal(group->reject_status, STATUS_INVALID_ARGUMENT);
    struct fake_group *twin = &harness->groups[2];
    harness_greet(harness, 2, 64);
    harness_await(harness, is_welcome, twin);
    harness_disconnect(harness, 2);
    snprintf(twin->name, sizeof twin->name, "group-0");
    harness_greet(harness, 2, 64);
    harness_await(harness, is_rejected, twin);
    assert_int_equal(twin->reject_status, STATUS_ALREADY_EXISTS);
    assert_int_equal(twin->welcomes, 0);
}

static void expect_refusal(struct harness *harness, const void *bytes, size_t size,
                           enum status status, const char *field, uint64_t request_id) {
    Surefoot__ClientReply *reply = harness_call_bytes(harness, bytes, size);
    assert_non_null(reply->error);
    assert_int_equal(reply->error->status, status);
    assert_string_equal(reply->error->field, field);
    assert_int_equal(reply->request_id, request_id);
    assert_true(reply->error->message[0] != '\0');
    harness_free(reply);
}

static void test_bad_messages_are_refused_and_the_service_goes_on(void **state) {
    struct harness *harness = *state;
    harness_connect(harness, 0, 64);
    // Field numbers and wire types as in client.proto: 1 major, 3 request_id, 5 fetch.
    static const char junk[] = "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff";
    expect_refusal(harness, junk, sizeof junk - 1, STATUS_MALFORMED, "", 0);
    static const char no_version[] = "\x18\x05\x42\x00";
    expect_refusal(harness, no_version, sizeof no_version - 1, STATUS_VERSION, "schema_major", 5);
    static const char newer[] = "\x08\x02\x18\x06\x42\x00";
    expect_refusal(harness, newer, sizeof newer - 1, STATUS_VERSION, "schema_major", 6);
    static const char nothing[] = "\x08\x01\x18\x07";
    expect_refusal(harness, nothing, sizeof nothing - 1, STATUS_INVALID_ARGUMENT, "request", 7);
    static const char not_utf8[] = "\x08\x01\x18\x08\x2a\x03\x0a\x01\xff";
    expect_refusal(harness, not_utf8, sizeof not_utf8 - 1, STATUS_MALFORMED, "job_key", 8);
    static const char no_key[] = "\x08\x01\x18\x09\x2a\x00";
    expect_refusal(harness, no_key, sizeof no_key - 1, STATUS_INVALID_ARGUMENT, "job_key", 9);
    size_t size = LIMIT_CLIENT_MESSAGE_BYTES + 1;
    char *large = calloc(1, size);
    assert_non_null(large);
    memcpy(large, "\x08\x01\x18\x0a", 4);
    expect_refusal(harness, large, size, STATUS_LIMIT, "message", 10);
    free(large);
    Surefoot__JobSpec spec = make_spec("best-of-n", NULL, 3);
    spec.n = 0;
    Surefoot__ClientReply *reply = harness_submit(harness, "zero", &spec, false);
    assert_int_equal(reply->error->status, STATUS_INVALID_ARGUMENT);
    assert_string_equal(reply->error->field, "spec.n");
    harness_free(reply);
    spec.n = 4;
    harness_accept(harness, "good", &spec);
    harness_free(harness_result(harness, "good"));
}

static void test_status_counts_groups_and_jobs(void **state) {
    struct harness *harness = *state;
    harness_connect(harness, 0, 64);
    Surefoot__JobSpec spec = make_spec("best-of-n", NULL, 3);
    harness_accept(harness, "job", &spec);
    harness_free(harness_result(harness, "job"));
    Surefoot__GetStatus get = SUREFOOT__GET_STATUS__INIT;
    Surefoot__ClientRequest request = SUREFOOT__CLIENT_REQUEST__INIT;
    request.status = &get;
    Surefoot__ClientReply *reply = harness_call(harness, &request);
    const Surefoot__ServiceStatus *status = reply->status;
    assert_non_null(status);
    assert_int_equal(status->n_groups, 1);
    assert_string_equal(status->groups[0]->name, "group-0");
    assert_true(status->groups[0]->alive && status->groups[0]->tokens > 0);
    assert_int_equal(status->groups[0]->n_models, 3);
    assert_int_equal(status->jobs_done, 1);
    assert_int_equal(status->jobs_running + status->jobs_queued, 0);
    harness_free(reply);
}

static void test_status_tells_where_time_went(void **state) {
    struct harness *harness = *state;
    harness_connect(harness, 0, 64);
    Surefoot__JobSpec spec = make_spec("best-of-n", NULL, 3);
    harness_accept(harness, "job", &spec);
    Surefoot__ClientReply *done = harness_result(harness, "job");
    uint64_t rebuilt_tokens = done->result->rebuilt_tokens;
    uint64_t scored_tokens = done->result->scored_tokens;
    harness_free(done);
    Surefoot__GetStatus get = SUREFOOT__GET_STATUS__INIT;
    Surefoot__ClientRequest request = SUREFOOT__CLIENT_REQUEST__INIT;
    request.status = &get;
    Surefoot__ClientReply *reply = harness_call(harness, &request);
    const Surefoot__ServiceStatus *status = reply->status;
    const Surefoot__GroupStatus *group = status->groups[0];
    double n_orders = (double)group->orders_done;
    assert_true(n_orders > 0);
    assert_true(group->decode_ms == n_orders * HARNESS_DECODE_MS);
    assert_true(group->score_ms == n_orders * HARNESS_SCORE_MS);
    assert_true(group->order_ms == n_orders * HARNESS_ORDER_MS);
    assert_true(group->has_collective_ms && group->collective_ms == 0); // no time: left out
    assert_int_equal(group->rebuilt_tokens, group->orders_done * HARNESS_REBUILT_TOKENS);
    assert_int_equal(rebuilt_tokens, group->rebuilt_tokens); // the only job's
    assert_int_equal(scored_tokens, group->orders_done * HARNESS_SCORED_TOKENS);
    assert_true(group->has_joined_ms && group->joined_ms >= 0);
    assert_true(group->joined_ms <= status->uptime_ms);
    assert_true(status->busy_ms > 0 && status->busy_ms <= status->uptime_ms);
    harness_free(reply);
}

static void test_full_disk_refuses_new_jobs_and_keeps_the_old(void **state) {
    struct harness *harness = *state;
    harness_stop(harness);
    harness->options.store_pages_max = 40;
    harness->options.running_max = 1; // so that the first job's result is the one that waits
    harness_start(harness);
    static char prompt[30000];
    memset(prompt, 'p', sizeof prompt - 1);
    Surefoot__JobSpec spec = make_spec("best-of-n", NULL, 3);
    spec.prompt = prompt;
    spec.n = 256; // its result needs several pages
    char key[32];
    int stored = 0;
    enum status status = STATUS_OK;
    while (stored < 40 && status == STATUS_OK) {
        snprintf(key, sizeof key, "job-%d", stored);
        Surefoot__ClientReply *reply = harness_submit(harness, key, &spec, false);
        status = reply->error != NULL ? (enum status)reply->error->status : STATUS_OK;
        stored += status == STATUS_OK ? 1 : 0;
        harness_free(reply);
    }
    assert_int_equal(status, STATUS_DISK_FULL);
    assert_true(stored > 1);
    // Small jobs fill what is left to the last page, so that no result has room.
    spec.prompt = "small";
    status = STATUS_OK;
    for (int i = 0; i < 1000 && status == STATUS_OK; i++) {
        snprintf(key, sizeof key, "small-%d", i);
        Surefoot__ClientReply *reply = harness_submit(harness, key, &spec, false);
        status = reply->error != NULL ? (enum status)reply->error->status : STATUS_OK;
        harness_free(reply);
    }
    assert_int_equal(status, STATUS_DISK_FULL);
    harness_connect(harness, 0, 64);
    Surefoot__ClientReply *reply = harness_fetch(harness, "job-0", 300);
    assert_non_null(reply->progress); // searched, but not promised before it is stored
    harness_free(reply);
    reply = harness_close_job(harness, "job-1");
    assert_non_null(reply->closed);
    harness_free(reply);
    reply = harness_result(harness, "job-0");
    assert_int_equal(reply->result->outcome, SUREFOOT__OUTCOME__OUTCOME_COMPLETED);
    harness_free(reply);
}

static void test_job_limit_is_named(void **state) {
    struct harness *harness = *state;
    harness_stop(harness);
    harness->options.jobs_max = 1;
    harness_start(harness);
    Surefoot__JobSpec spec = make_spec("best-of-n", NULL, 3);
    harness_accept(harness, "first", &spec);
    Surefoot__ClientReply *reply = harness_submit(harness, "second", &spec, false);
    assert_int_equal(reply->error->status, STATUS_RESOURCE_EXHAUSTED);
    assert_string_equal(reply->error->field, "jobs");
    harness_free(reply);
    harness_free(harness_close_job(harness, "first"));
    harness_accept(harness, "second", &spec);
}

static void test_bytes_are_limited_and_the_refusal_names_them(void **state) {
    struct harness *harness = *state;
    harness_stop(harness);
    harness->options.bytes_max = 5000;
    harness_start(harness);
    static char prompt[3001];
    memset(prompt, 'p', sizeof prompt - 1);
    Surefoot__JobSpec spec = make_spec("best-of-n", NULL, 3);
    spec.prompt = prompt;
    harness_accept(harness, "first", &spec);
    Surefoot__ClientReply *state_reply = get_status(harness);
    assert_in_range(state_reply->status->stored_bytes, 3000, 3200);
    assert_int_equal(state_reply->status->stored_bytes_max, 5000);
    harness_free(state_reply);
    for (int i = 0; i < 2; i++) { // a restart counts what is there
        Surefoot__ClientReply *reply = harness_submit(harness, "second", &spec, false);
        assert_int_equal(reply->error->status, STATUS_RESOURCE_EXHAUSTED);
        assert_string_equal(reply->error->field, "bytes");
        assert_non_null(strstr(reply->error->message, "5000"));
        harness_free(reply);
        reply = harness_submit(harness, "first", &spec, false);
        assert_true(reply->accepted->duplicate); // needs no room
        harness_free(reply);
        harness_stop(harness);
        harness_start(harness);
    }
    harness_free(harness_close_job(harness, "first"));
    harness_accept(harness, "second", &spec);
    harness_connect(harness, 0, 64);
    harness_free(harness_result(harness, "second"));
    spec.prompt = "small"; // but there is a result now
    char key[32];
    enum status status = STATUS_OK;
    for (int i = 0; i < 100 && status == STATUS_OK; i++) {
        snprintf(key, sizeof key, "small-%d", i);
        Surefoot__ClientReply *reply = harness_submit(harness, key, &spec, false);
        status = reply->error != NULL ? (enum status)reply->error->status : STATUS_OK;
        harness_free(reply);
    }
    assert_int_equal(status, STATUS_RESOURCE_EXHAUSTED);
}

// Jobs that wait need no memory for their prompts.
static void test_unloaded_jobs_run_and_end_like_others(void **state) {
    enum { JOBS = 6 };
    struct harness *harness = *state;
    harness_connect(harness, 0, 64);
    Surefoot__JobSpec spec = make_spec("inference-guard", NULL, 3);
    char *expected = run_and_describe(harness, "loaded", &spec);
    harness_disconnect(harness, 0);
    harness_stop(harness);
    harness->options.loaded_bytes_max = 1;
    harness_start(harness);
    char key[32];
    for (int i = 0; i < JOBS; i++) {
        snprintf(key, sizeof key, "job-%d", i);
        harness_accept(harness, key, &spec);
        harness_free(harness_fetch(harness, key, 0));
    }
    harness_free(harness_cancel(harness, "job-0"));
    Surefoot__ClientReply *reply = harness_result(harness, "job-0");
    assert_int_equal(reply->result->outcome, SUREFOOT__OUTCOME__OUTCOME_CANCELLED);
    assert_int_equal(reply->result->seed, 3);
    assert_string_equal(reply->result->job_key, "job-0");
    harness_free(reply);
    harness_free(harness_close_job(harness, "job-1"));
    harness_stop(harness);
    harness_start(harness);
    harness_connect(harness, 0, 64);
    for (int i = 2; i < JOBS; i++) {
        snprintf(key, sizeof key, "job-%d", i);
        reply = harness_result(harness, key);
        expect_same("unloaded", key, expected, describe(reply->result));
        harness_free(reply);
    }
    free(expected);
}

static void test_queued_jobs_start_by_client_in_turn(void **state) {
    enum { BACKLOG = 12, LATE_SEED = 999 };
    struct harness *harness = *state;
    harness_stop(harness);
    harness->options.running_max = 1;
    harness_start(harness);
    Surefoot__JobSpec spec = make_spec("best-of-n", NULL, 3);
    char key[32];
    for (int i = 0; i < BACKLOG; i++) {
        snprintf(key, sizeof key, "backlog-%d", i);
        harness_accept(harness, key, &spec);
    }
    struct channel *first = harness->client;
    const struct channel_options options = {.message_bytes_max = LIMIT_CLIENT_MESSAGE_BYTES};
    struct error err;
    assert_ok(channel_connect(harness->context, harness->client_endpoint, &options,
                              &harness->client, &err),
              &err);
    spec.seed = LATE_SEED;
    harness_accept(harness, "late", &spec);
    struct fake_group *group = harness_connect(harness, 0, 64);
    harness_free(harness_result(harness, "late"));
    channel_close(harness->client);
    harness->client = first;
    for (int i = 0; i < BACKLOG; i++) {
        snprintf(key, sizeof key, "backlog-%d", i);
        harness_free(harness_result(harness, key));
    }
    size_t place = 0; // in which the late job was told to the group
    while (place < group->n_jobs && group->jobs[place].seed != LATE_SEED) {
        place++;
    }
    assert_int_equal(place, 1);
}

// `outcome` 0: of a job that has none yet.
static void expect_listed(const Surefoot__ListedJob *job, const char *key, uint32_t state,
                          int outcome) {
    assert_string_equal(job->job_key, key);
    assert_int_equal(job->state, state);
    assert_int_equal(job->has_outcome ? (int)job->outcome : 0, outcome);
    assert_true(job->accepted_ms > 0 && job->bytes > 0);
    assert_int_equal(job->has_done_ms, job->has_outcome);
    assert_true(!job->has_done_ms || job->done_ms >= job->accepted_ms);
}

static void test_jobs_are_listed_page_by_page(void **state) {
    struct harness *harness = *state;
    struct fake_group *group = harness_connect(harness, 0, 64);
    Surefoot__JobSpec spec = make_spec("best-of-n", NULL, 3);
    Surefoot__ClientReply *reply = harness_list(harness, 0, 0);
    assert_true(reply->listed->n_jobs == 0 && !reply->listed->has_next);
    harness_free(reply);
    harness_accept(harness, "done", &spec);
    harness_free(harness_result(harness, "done"));
    harness_accept(harness, "cancelled", &spec);
    harness_free(harness_cancel(harness, "cancelled"));
    run_held(harness, group, "running", &spec);
    reply = harness_list(harness, 0, 2);
    assert_int_equal(reply->listed->n_jobs, 2);
    expect_listed(reply->listed->jobs[0], "done", SUREFOOT__JOB_STATE__JOB_STATE_DONE,
                  SUREFOOT__OUTCOME__OUTCOME_COMPLETED);
    expect_listed(reply->listed->jobs[1], "cancelled", SUREFOOT__JOB_STATE__JOB_STATE_DONE,
                  SUREFOOT__OUTCOME__OUTCOME_CANCELLED);
    assert_true(reply->listed->has_next);
    uint64_t next = reply->listed->next;
    harness_free(reply);
    reply = harness_list(harness, next, 0);
    assert_true(reply->listed->n_jobs == 1 && !reply->listed->has_next);
    expect_listed(reply->listed->jobs[0], "running", SUREFOOT__JOB_STATE__JOB_STATE_RUNNING, 0);
    harness_free(reply);
}

static void expect_refused(Surefoot__ClientReply *reply, enum status status, const char *field,
                           const char *part) {
    assert_non_null(reply->error);
    assert_int_equal(reply->error->status, status);
    assert_string_equal(reply->error->field, field);
    assert_non_null(strstr(reply->error->message, part));
    harness_free(reply);
}

static void test_limits_of_lists_and_purges_are_named(void **state) {
    struct harness *harness = *state;
    expect_refused(harness_list(harness, 0, 1001), STATUS_INVALID_ARGUMENT, "limit", "1000");
    expect_refused(harness_list(harness, UINT64_MAX, 1), STATUS_INVALID_ARGUMENT, "after", "next");
    Surefoot__ListJobs list = SUREFOOT__LIST_JOBS__INIT;
    Surefoot__ClientRequest request = SUREFOOT__CLIENT_REQUEST__INIT;
    list.has_limit = true; // 0
    request.list = &list;
    expect_refused(harness_call(harness, &request), STATUS_INVALID_ARGUMENT, "limit", "0 is");
    expect_refused(harness_purge(harness, UINT64_MAX), STATUS_INVALID_ARGUMENT, "older_than_ms",
                   "4611686018427387903");
    Surefoot__PurgeJobs purge = SUREFOOT__PURGE_JOBS__INIT;
    request.list = NULL;
    request.purge = &purge;
    expect_refused(harness_call(harness, &request), STATUS_INVALID_ARGUMENT, "older_than_ms",
                   "must be given");
}

static void test_purge_drops_results_and_leaves_other_jobs(void **state) {
    struct harness *harness = *state;
    struct fake_group *group = harness_connect(harness, 0, 64);
    Surefoot__JobSpec spec = make_spec("best-of-n", NULL, 3);
    harness_accept(harness, "first", &spec);
    harness_accept(harness, "second", &spec);
    harness_free(harness_result(harness, "first"));
    harness_free(harness_result(harness, "second"));
    run_held(harness, group, "running", &spec);
    Surefoot__ClientReply *reply = harness_purge(harness, 3600 * 1000);
    assert_int_equal(reply->purged->purged, 0); // none is so old
    harness_free(reply);
    reply = harness_purge(harness, 0);
    assert_true(reply->purged->purged == 2 && !reply->purged->more);
    harness_free(reply);
    expect_refused(harness_fetch(harness, "first", 0), STATUS_NOT_FOUND, "job_key", "no such job");
    reply = harness_list(harness, 0, 0);
    assert_int_equal(reply->listed->n_jobs, 1);
    uint64_t bytes = reply->listed->jobs[0]->bytes;
    harness_free(reply);
    reply = get_status(harness);
    assert_int_equal(reply->status->stored_bytes, bytes);
    harness_free(reply);
    group->holds_orders = false;
    harness_answer_held(group);
    harness_free(harness_result(harness, "running"));
    harness_accept(harness, "first", &spec); // the key is free again
}

// Whoever may connect to a TCP address is not known; nobody learns the keys of others there.
static void test_strangers_neither_list_nor_purge(void **state) {
    struct harness *harness = *state;
    harness_stop(harness);
    harness->options.client_endpoint = "tcp://127.0.0.1:0";
    harness_start(harness);
    const struct channel_options options = {.message_bytes_max = LIMIT_CLIENT_MESSAGE_BYTES};
    struct error err;
    channel_close(harness->client);
    assert_ok(channel_connect(harness->context, coordinator_client_endpoint(harness->coordinator),
                              &options, &harness->client, &err),
              &err);
    harness_connect(harness, 0, 64);
    Surefoot__JobSpec spec = make_spec("best-of-n", NULL, 3);
    harness_accept(harness, "job", &spec);
    harness_free(harness_result(harness, "job"));
    expect_refused(harness_list(harness, 0, 0), STATUS_PERMISSION, "request", "ipc://");
    expect_refused(harness_purge(harness, 0), STATUS_PERMISSION, "request", "ipc://");
    harness_free(harness_result(harness, "job"));
}

static void send_request(struct channel *channel, uint64_t id, Surefoot__ClientRequest *request) {
    request->has_schema_major = request->has_request_id = true;
    request->schema_major = WIRE_SCHEMA_MAJOR;
    request->request_id = id;
    uint8_t *bytes = NULL;
    size_t size = 0;
    assert_ok(wire_pack(WIRE_CLIENT_REQUEST, request, &bytes, &size), NULL);
    assert_ok(channel_send(channel, NULL, bytes, size), NULL);
    free(bytes);
}

// The bytes of all messages that come before the answer to a question after the state, which is
// asked again while nothing comes: what has no room is dropped.
static size_t read_what_waits(struct harness *harness, struct channel *channel, uint64_t id) {
    Surefoot__GetStatus get = SUREFOOT__GET_STATUS__INIT;
    Surefoot__ClientRequest request = SUREFOOT__CLIENT_REQUEST__INIT;
    request.status = &get;
    size_t total = 0;
    int64_t deadline = deadline_after_ms(HARNESS_WAIT_MS);
    for (bool answered = false; !answered;) {
        assert_false(deadline_passed(deadline));
        uint8_t *bytes = NULL;
        size_t size = 0;
        void *reply = NULL;
        if (channel_receive(channel, NULL, &bytes, &size) != STATUS_OK) {
            send_request(channel, id, &request);
            assert_null(harness_pump(harness));
            continue;
        }
        assert_ok(wire_unpack(WIRE_CLIENT_REPLY, bytes, size, &reply, NULL), NULL);
        answered = ((Surefoot__ClientReply *)reply)->request_id == id;
        wire_free(WIRE_CLIENT_REPLY, reply);
        free(bytes);
        total += size;
    }
    return total;
}

static bool is_closed(void *context) {
    Surefoot__ClientReply *reply = harness_fetch(context, "last", 0);
    bool closed = reply->error != NULL;
    harness_free(reply);
    return closed;
}

static void test_client_that_does_not_read_costs_bounded_bytes(void **state) {
    enum { FETCHES = 200, SLACK_BYTES = 4 << 20, ASK_ID = 9999 };
    struct harness *harness = *state;
    harness_connect(harness, 0, 64);
    Surefoot__JobSpec spec = make_spec("best-of-n", NULL, 3);
    spec.n = 4096; // a result of many bytes
    harness_accept(harness, "large", &spec);
    Surefoot__ClientReply *reply = harness_result(harness, "large");
    uint8_t *bytes = NULL;
    size_t size = 0;
    assert_ok(wire_pack(WIRE_CLIENT_REPLY, reply, &bytes, &size), NULL);
    free(bytes);
    harness_free(reply);
    assert_true(FETCHES * size > LIMIT_CLIENT_UNSENT_BYTES + 2 * SLACK_BYTES);
    spec.n = 1;
    harness_accept(harness, "last", &spec);
    const struct channel_options options = {.message_bytes_max = LIMIT_CLIENT_MESSAGE_BYTES,
                                            .receive_depth_max = 1};
    struct error err;
    struct channel *idle = NULL;
    assert_ok(channel_connect(harness->context, harness->client_endpoint, &options, &idle, &err),
              &err);
    Surefoot__ClientRequest request = SUREFOOT__CLIENT_REQUEST__INIT;
    Surefoot__FetchJob fetch = SUREFOOT__FETCH_JOB__INIT;
    fetch.job_key = "large";
    request.fetch = &fetch;
    for (uint64_t i = 1; i <= FETCHES; i++) {
        send_request(idle, i, &request);
    }
    Surefoot__CloseJob close_job = SUREFOOT__CLOSE_JOB__INIT;
    close_job.job_key = "last";
    request.fetch = NULL;
    request.close = &close_job;
    send_request(idle, FETCHES + 1, &request);
    harness_await(harness, is_closed, harness); // then all before it are answered, or dropped
    size_t read = read_what_waits(harness, idle, ASK_ID);
    channel_close(idle);
    assert_in_range(read, LIMIT_CLIENT_UNSENT_BYTES - SLACK_BYTES,
                    LIMIT_CLIENT_UNSENT_BYTES + SLACK_BYTES);
}

static void test_results_that_nobody_closes_are_dropped_for_their_age(void **state) {
    enum { JOBS = 300 }; // more than one purge drops
    struct harness *harness = *state;
    Surefoot__JobSpec spec = make_spec("sample", NULL, 3);
    char key[32];
    for (int i = 0; i < JOBS; i++) {
        snprintf(key, sizeof key, "job-%d", i);
        harness_accept(harness, key, &spec);
        harness_free(harness_cancel(harness, key));
    }
    harness_accept(harness, "waits", &spec);
    harness_stop(harness);
    harness->options.retain_ms = 1;
    harness_start(harness);
    size_t left = JOBS + 1;
    int64_t deadline = deadline_after_ms(HARNESS_WAIT_MS);
    while (left > 1) {
        assert_false(deadline_passed(deadline));
        Surefoot__ClientReply *reply = harness_list(harness, 0, 1000);
        left = reply->listed->n_jobs;
        assert_string_equal(reply->listed->jobs[left - 1]->job_key, "waits");
        harness_free(reply);
    }
    Surefoot__ClientReply *reply = get_status(harness);
    assert_in_range(reply->status->stored_bytes, 1, 200);
    harness_free(reply);
}

int main(void) {
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(test_results_do_not_depend_on_groups_rows_or_company),
        CASE(test_no_answer_of_a_safe_method_is_over_budget),
        CASE(test_nothing_safe_is_a_refusal_without_text),
        CASE(test_lost_group_costs_no_job),
        CASE(test_group_that_forgot_a_job_is_told_again),
        CASE(test_errors_of_rows_end_their_job_only),
        CASE(test_numbers_that_no_scorer_gave_are_absent),
        CASE(test_method_without_its_scorers_is_told_what_to_do),
        CASE(test_candidate_that_never_comes_back_fails_its_job),
        CASE(test_group_that_answers_badly_is_set_aside_and_costs_no_job),
        CASE(test_what_groups_do_again_and_again_does_not_fill_the_log),
        CASE(test_what_is_no_group_says_hello_in_short),
        CASE(test_bad_row_is_tried_with_another_group),
        CASE(test_stalled_group_is_replaced_by_others_or_waited_for),
        CASE(test_silent_group_is_replaced_long_before_it_is_given_up),
        CASE(test_result_says_how_many_candidates_it_leaves_out),
        CASE(test_row_that_no_group_can_do_fails_its_job_only),
        CASE(test_job_that_kills_its_groups_ends_and_takes_no_other_along),
        CASE(test_order_behind_another_is_given_out_again),
        CASE(test_groups_that_die_by_chance_cost_no_job),
        CASE(test_restart_does_not_forget_what_a_job_has_killed),
        CASE(test_answers_pass_the_recheck_under_every_cost_mode),
        CASE(test_cancelled_job_ends_without_text),
        CASE(test_deadline_ends_queued_and_running_jobs),
        CASE(test_same_key_is_the_same_job),
        CASE(test_job_with_a_field_without_effect_is_refused),
        CASE(test_closed_job_is_gone),
        CASE(test_bytes_are_limited_and_the_refusal_names_them),
        CASE(test_unloaded_jobs_run_and_end_like_others),
        CASE(test_queued_jobs_start_by_client_in_turn),
        CASE(test_waiting_fetch_is_answered_with_progress_in_time),
        CASE(test_stream_brings_progress_and_result),
        CASE(test_followed_again_after_a_restart_a_job_streams),
        CASE(test_waiting_fetch_is_answered_when_the_service_stops),
        CASE(test_restart_runs_unfinished_jobs_again),
        CASE(test_group_of_an_older_schema_is_refused),
        CASE(test_job_of_an_unknown_scorer_is_rejected_when_groups_come),
        CASE(test_group_with_other_models_or_a_taken_name_is_refused),
        CASE(test_bad_messages_are_refused_and_the_service_goes_on),
        CASE(test_status_counts_groups_and_jobs),
        CASE(test_status_tells_where_time_went),
        CASE(test_full_disk_refuses_new_jobs_and_keeps_the_old),
        CASE(test_job_limit_is_named),
        CASE(test_jobs_are_listed_page_by_page),
        CASE(test_limits_of_lists_and_purges_are_named),
        CASE(test_purge_drops_results_and_leaves_other_jobs),
        CASE(test_strangers_neither_list_nor_purge),
        CASE(test_client_that_does_not_read_costs_bounded_bytes),
        CASE(test_results_that_nobody_closes_are_dropped_for_their_age),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
