// Records of roll-outs become samples: what each state has still to pay and to get, worked out by
// hand; and what no critic could learn from is refused by line and field.
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/testkit.h"
#include "worker/critic/records.h"

enum { LINES_MAX = 8 };

// Two states of two numbers: 1, 2 and 3, -4 as bf16.
static const char states[] = "gD8AQEBAgMA=";

static json_t *make_record(const char *id, int seed) {
    char hash[65];
    memset(hash, 'a', 64);
    hash[64] = '\0';
    json_t *record = json_pack(
        "{s:s, s:s, s:i, s:i, s:f, s:f, s:s, s:[i, i], s:[f, f], s:[{s:s, s:s, s:f, s:[]}, {s:s, "
        "s:s, s:f, s:[f, f, f, f, f]}], s:{s:{s:b, s:i, s:s, s:s, s:i}, s:{s:{s:s, s:s, s:i, s:s}, "
        "s:{s:s, "
        "s:s}, s:{s:s, s:s, s:s, s:f, s:f}}}}",
        "id", id, "outcome", "COMPLETED", "n_tokens", 5, "seed", seed, "cost", 2.25, "reward", 8.0,
        "states", states, "state_tokens", 2, 4, "state_rewards", 5.0, -6.0, "scorers", "name",
        "reward", "role", "reward", "end_score", 8.0, "token_scores", "name", "cost", "role",
        "cost", "end_score", 4.0, "token_scores", 1.0, -2.0, 5.0, -1.0, 0.0, "settings", "job",
        "states", 1, "seed", seed, "admit_rule", "terminal", "discount_unit", "token",
        "block_tokens", 2, "models", "policy", "role", "policy", "hash", hash, "hidden_dim", 2,
        "chat_template", "beaver", "reward", "role", "reward", "hash", hash, "cost", "role", "cost",
        "hash", hash, "cost_mode", "token_sum_pos", "discount", 0.5, "budget", 3.0);
    assert_non_null(record);
    return record;
}

struct lines {
    json_t *records[LINES_MAX]; // owned
    size_t n;
};

static enum status read_lines(struct lines *lines, struct critic_records *out, struct error *err) {
    char *directory = testkit_make_directory();
    char path[4200];
    snprintf(path, sizeof path, "%s/records.jsonl", directory);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    for (size_t i = 0; i < lines->n; i++) {
        json_dumpf(lines->records[i], file, 0);
        putc('\n', file);
        json_decref(lines->records[i]);
    }
    fclose(file);
    const struct critic_wanted wanted = {.n_parts = 3};
    enum status status = critic_records_read(path, &wanted, out, err);
    testkit_remove_tree(directory);
    return status;
}

static void assert_close(float got, double want) {
    if (!(fabs((double)got - want) < 1e-6)) {
        fail_msg("%g instead of %g", (double)got, want);
    }
}

static void test_samples_say_what_is_still_to_come(void **state) {
    (void)state;
    struct lines lines = {.records = {make_record("b", 1), make_record("a", 2), make_record("a", 1),
                                      make_record("c", 1)},
                          .n = 4};
    json_array_set_new(json_object_get(lines.records[1], "state_rewards"), 1, json_real(16));
    json_object_set_new(lines.records[3], "outcome", json_string("FAILED"));
    struct critic_records records;
    struct error err = {0};
    assert_ok(read_lines(&lines, &records, &err), &err);
    const struct critic_samples *samples = &records.samples;
    assert_int_equal(samples->n, 6);
    assert_int_equal(samples->n_prompts, 2);
    assert_int_equal(records.n_trajectories, 3);
    assert_int_equal(records.n_passed_over, 1);
    assert_true(records.budgets[0] == 3);
    static const uint32_t prompts[] = {0, 0, 0, 0, 1, 1};
    static const double rewards[] = {-6, 16, -6}; // the second: of a, seed 2
    for (size_t i = 0; i < 6; i += 2) {
        // Costs 1, 0, 5, 0, 0 at gamma 0.5: S_2 = 1, R_2 = 5; S_4 = 1 + 5/4, R_4 = 0.
        assert_close(samples->costs[i], 5);
        assert_close(samples->spent[i], 1);
        assert_close(samples->weights[i], 0.25);
        assert_close(samples->places[i], 0.4);
        assert_close(samples->rewards[i], 5);
        assert_close(samples->costs[i + 1], 0);
        assert_close(samples->spent[i + 1], 2.25);
        assert_close(samples->weights[i + 1], 1.0 / 16);
        assert_close(samples->rewards[i + 1], rewards[i / 2]);
        assert_int_equal(samples->prompts[i], prompts[i]);
        assert_int_equal(samples->trajectories[i + 1], i / 2);
        static const uint16_t bits[] = {0x3F80, 0x4000, 0x4040, 0xC080};
        assert_memory_equal(samples->states + 2 * i, bits, sizeof bits);
    }
    assert_string_equal(records.terms.channels[0].scorer.name, "cost");
    assert_int_equal(records.terms.channels[0].cost_mode, COST_MODE_TOKEN_SUM_POS);
    assert_int_equal(records.terms.channels[0].block_tokens, 0);
    assert_int_equal(records.terms.n_rewards, 1);
    assert_string_equal(records.terms.chat_template, "beaver");
    critic_records_close(&records);
}

static void test_states_behind_another_reading_do_not_count(void **state) {
    (void)state;
    struct lines lines = {.records = {make_record("a", 1)}, .n = 1};
    json_object_set_new(lines.records[0], "read_from", json_integer(3));
    struct critic_records records;
    struct error err = {0};
    assert_ok(read_lines(&lines, &records, &err), &err);
    assert_int_equal(records.samples.n, 1);
    critic_records_close(&records);
}

static void test_prefix_and_the_jobs_own_words_count(void **state) {
    (void)state;
    struct lines lines = {.records = {make_record("a", 1)}, .n = 1};
    json_t *job = json_object_get(json_object_get(lines.records[0], "settings"), "job");
    json_object_set_new(job, "admit_rule", json_string("prefix"));
    json_object_set_new(job, "cost_mode", json_string("token_sum"));
    json_object_set_new(job, "discount", json_integer(1));
    json_object_set_new(job, "budget", json_real(7));
    json_object_set_new(lines.records[0], "cost", json_real(3)); // 1 - 2 + 5 - 1 + 0
    struct critic_records records;
    struct error err = {0};
    assert_ok(read_lines(&lines, &records, &err), &err);
    assert_close(records.samples.costs[0], 5);  // the highest of 5, 4, 4
    assert_close(records.samples.spent[0], -1); // 3 - (5 - 1 + 0)
    assert_close(records.samples.rewards[1], -6);
    assert_true(records.budgets[0] == 7);
    assert_int_equal(records.terms.channels[0].admit_rule, ADMIT_RULE_PREFIX);
    critic_records_close(&records);
}

static json_t *job_of(json_t *record) {
    return json_object_get(json_object_get(record, "settings"), "job");
}

static void drop_states(json_t *record) {
    json_object_set_new(job_of(record), "states", json_false());
}

static void cut_states(json_t *record) {
    json_object_set_new(record, "states", json_string("gD8AQA=="));
}

static void use_channel_without_scorer(json_t *record) {
    json_object_set_new(job_of(record), "channels", json_pack("[{s:s}]", "name", "tone"));
}

static void cut_rewards(json_t *record) {
    json_array_remove(json_object_get(record, "state_rewards"), 1);
}

static void use_no_reward(json_t *record) {
    json_array_set_new(json_object_get(record, "state_rewards"), 1, json_null());
}

static void use_words(json_t *record) {
    json_object_set_new(job_of(record), "lexical", json_object());
}

static void use_other_block(json_t *record) {
    json_object_set_new(job_of(record), "block_tokens", json_integer(3));
}

static void falsify_cost(json_t *record) {
    json_object_set_new(record, "cost", json_real(2.5));
}

static void use_no_number(json_t *record) {
    json_t *cost = json_array_get(json_object_get(record, "scorers"), 1);
    json_array_set_new(json_object_get(cost, "token_scores"), 2, json_null());
}

static void use_second_cost(json_t *record) {
    json_t *scorers = json_object_get(record, "scorers");
    json_array_append_new(scorers, json_deep_copy(json_array_get(scorers, 1)));
}

static void turn_tokens(json_t *record) {
    json_t *tokens = json_object_get(record, "state_tokens");
    json_array_set_new(tokens, 0, json_integer(4));
}

static void use_appended_end(json_t *record) {
    json_object_set_new(job_of(record), "cost_mode", json_string("end_sign"));
    json_object_set_new(job_of(record), "cost_eos", json_string("append"));
}

static void test_what_teaches_nothing_is_refused_by_line_and_field(void **state) {
    (void)state;
    static const struct {
        void (*edit)(json_t *record);
        bool of_all; // not the second record alone
        enum status status;
        const char *field;
    } cases[] = {
        {drop_states, false, STATUS_INVALID_ARGUMENT, "line 2.states"},
        {cut_states, false, STATUS_MALFORMED, "line 2.states"},
        {use_other_block, false, STATUS_INVALID_ARGUMENT, "line 2.settings"},
        {falsify_cost, false, STATUS_MALFORMED, "line 2.cost"},
        {use_no_number, false, STATUS_MALFORMED, "line 2.token_scores"},
        {turn_tokens, false, STATUS_MALFORMED, "line 2.state_tokens"},
        {cut_rewards, false, STATUS_MALFORMED, "line 2.state_rewards"},
        {use_no_reward, false, STATUS_MALFORMED, "line 2.state_rewards"},
        {use_channel_without_scorer, true, STATUS_INVALID_ARGUMENT, "line 1.channels"},
        {use_words, true, STATUS_INVALID_ARGUMENT, "line 1.lexical"},
        {use_second_cost, true, STATUS_INVALID_ARGUMENT, "line 1.scorers"},
        {use_appended_end, true, STATUS_INVALID_ARGUMENT, "line 1.cost_eos"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct lines lines = {.records = {make_record("a", 1), make_record("b", 1)}, .n = 2};
        cases[i].edit(lines.records[1]);
        if (cases[i].of_all) {
            cases[i].edit(lines.records[0]);
        }
        struct critic_records records;
        struct error err = {0};
        enum status status = read_lines(&lines, &records, &err);
        critic_records_close(&records);
        if (status != cases[i].status || strcmp(err.field, cases[i].field) != 0) {
            fail_msg("case %zu: %s %s: %s", i, status_name(status), err.field, err.message);
        }
    }
}

// A second cost model in a channel of its own, which the job declares: its score at the end of
// each block, times its weight, undiscounted.
static void test_each_channel_has_its_own_cost_to_go(void **state) {
    (void)state;
    struct lines lines = {.records = {make_record("a", 1), make_record("b", 1)}, .n = 2};
    for (size_t i = 0; i < 2; i++) {
        json_t *record = lines.records[i];
        json_t *models = json_object_get(json_object_get(record, "settings"), "models");
        json_object_set_new(
            models, "tone",
            json_pack("{s:s, s:s, s:s, s:f}", "role", "cost", "hash",
                      "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
                      "cost_mode", "end_sign", "budget", 9.0));
        json_object_set_new(job_of(record), "channels",
                            json_pack("[{s:s, s:s, s:f, s:f}]", "name", "voice", "cost_mode",
                                      "block_end", "discount", 1.0, "budget", 4.0));
        json_object_set_new(job_of(record), "scorers",
                            json_pack("[{s:s}, {s:s}, {s:s, s:s, s:f}]", "name", "reward", "name",
                                      "cost", "name", "tone", "channel", "voice", "weight", 2.0));
        json_array_append_new(json_object_get(record, "scorers"),
                              json_pack("{s:s, s:s, s:f, s:[f, f, f, f, f]}", "name", "tone",
                                        "role", "cost", "end_score", 1.5, "token_scores", 7.0, 0.5,
                                        7.0, -1.0, 1.0));
        json_object_set_new(record, "channels",
                            json_pack("[{s:f}, {s:f}]", "cost", 2.25, "cost", 2.0));
    }
    struct critic_records records;
    struct error err = {0};
    assert_ok(read_lines(&lines, &records, &err), &err);
    const struct critic_terms *terms = &records.terms;
    assert_int_equal(terms->n_channels, 2);
    assert_string_equal(terms->channels[1].scorer.name, "tone");
    assert_int_equal(terms->channels[1].cost_mode, COST_MODE_BLOCK_END);
    assert_int_equal(terms->channels[1].block_tokens, 2);
    assert_true(terms->channels[1].discount == 1 && terms->channels[0].discount == 0.5);
    assert_true(records.budgets[0] == 3 && records.budgets[1] == 4);
    const struct critic_samples *samples = &records.samples;
    assert_int_equal(samples->n, 4);
    for (size_t i = 0; i < 4; i += 2) {
        // Costs 1, 0, 5, 0, 0 at gamma 0.5, and 0, 1, 0, -2, 3.
        assert_close(samples->costs[2 * i], 5);
        assert_close(samples->spent[2 * i], 1);
        assert_close(samples->weights[2 * i], 0.25);
        assert_close(samples->costs[2 * i + 1], 1);
        assert_close(samples->spent[2 * i + 1], 1);
        assert_close(samples->weights[2 * i + 1], 1);
        assert_close(samples->costs[2 * i + 2], 0);
        assert_close(samples->costs[2 * i + 3], 3);
        assert_close(samples->spent[2 * i + 3], -1);
    }
    critic_records_close(&records);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_samples_say_what_is_still_to_come),
        cmocka_unit_test(test_states_behind_another_reading_do_not_count),
        cmocka_unit_test(test_prefix_and_the_jobs_own_words_count),
        cmocka_unit_test(test_each_channel_has_its_own_cost_to_go),
        cmocka_unit_test(test_what_teaches_nothing_is_refused_by_line_and_field),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
