// coordinator/job.c: what rows say of finished texts, which can be read in other tokens than they
// were written in, and what scorers may pay for.
#include <stdlib.h>
#include <string.h>

#include "coordinator/job.h"
#include "tests/support/testkit.h"

enum { MAX_TOKENS = 4, BLOCK = 2, N_SCORERS = 3, HIDDEN = 3 };

static struct model_set models(void) {
    return (struct model_set){
        .policy = {.name = "policy",
                   .role = "policy",
                   .hash = "p",
                   .context_length = 512,
                   .vocab_size = 1000,
                   .hidden_dim = HIDDEN},
        .scorers = {{.name = "reward", .role = "reward"},
                    {.name = "cost",
                     .role = "cost",
                     .cost_mode = "token_sum_pos",
                     .has_budget = true,
                     .budget = 3,
                     .has_discount = true,
                     .discount = 1}},
        .n_scorers = 2,
        .block_tokens_max = 64,
    };
}

// One sample under the augmented rule, scored by reward, cost and the rule not to say "no".
static void fill_spec(Surefoot__JobSpec *spec) {
    static char *forbidden = "no";
    static Surefoot__LexicalSpec lexical = SUREFOOT__LEXICAL_SPEC__INIT;
    lexical.forbidden = &forbidden;
    lexical.n_forbidden = 1;
    spec->prompt = "say yes";
    spec->method = "best-of-n";
    spec->selection = "augmented";
    spec->has_n = spec->has_max_tokens = spec->has_block_tokens = true;
    spec->n = 1;
    spec->max_tokens = MAX_TOKENS;
    spec->block_tokens = BLOCK;
    spec->lexical = &lexical;
}

static struct tilt_cache tilts;

static enum status start_spec(const struct model_set *set, Surefoot__JobSpec *spec,
                              struct job **out, struct error *err) {
    Surefoot__SubmitJob submit = SUREFOOT__SUBMIT_JOB__INIT;
    submit.job_key = "job";
    submit.spec = spec;
    uint8_t *bytes = NULL;
    size_t size = 0;
    void *message = NULL;
    struct job_spec *checked = NULL;
    assert_ok(wire_pack(WIRE_SUBMIT_JOB, &submit, &bytes, &size), NULL);
    assert_ok(wire_unpack(WIRE_SUBMIT_JOB, bytes, size, &message, err), err);
    free(bytes);
    assert_ok(job_spec_create(message, &checked, err), err);
    assert_ok(job_create(1, checked, size, 0, 0, out), NULL);
    return job_start(*out, set, &tilts, err);
}

// That sample, or one that asks for states, or one with a tilt.
static struct job *start_job_with(const struct model_set *set, bool states, char *tilt) {
    Surefoot__JobSpec spec = SUREFOOT__JOB_SPEC__INIT;
    fill_spec(&spec);
    spec.method = states ? "sample" : spec.method;
    spec.selection = states ? NULL : spec.selection;
    spec.has_states = spec.states = states;
    spec.tilt = tilt;
    struct job *job = NULL;
    struct error err = {0};
    assert_ok(start_spec(set, &spec, &job, &err), &err);
    return job;
}

static struct job *start_job(const struct model_set *set) {
    return start_job_with(set, false, NULL);
}

// A row with room for other scores than one a token.
struct draft {
    Surefoot__Row row;
    Surefoot__RowScore scores[N_SCORERS];
    Surefoot__RowScore *score_list[N_SCORERS];
    uint32_t token_ids[BLOCK];
    float logprobs[BLOCK];
    uint32_t read_ids[16];
    float token_scores[N_SCORERS][16];
};

// `n_scores` places are scored from `from` on; the model says -1 of each, the words nothing.
static void draft_row(struct draft *draft, Surefoot__Finish finish, uint32_t from,
                      size_t n_scores) {
    memset(draft, 0, sizeof *draft);
    surefoot__row__init(&draft->row);
    draft->row.candidate_id = 1;
    draft->row.token_ids = draft->token_ids;
    draft->row.logprobs = draft->logprobs;
    draft->row.n_token_ids = draft->row.n_logprobs = BLOCK;
    draft->row.finish = finish;
    draft->row.text = finish != SUREFOOT__FINISH__FINISH_NONE ? "yes" : NULL;
    draft->row.read_ids = draft->read_ids;
    draft->row.scores = draft->score_list;
    draft->row.n_scores = N_SCORERS;
    for (uint32_t i = 0; i < N_SCORERS; i++) {
        draft->score_list[i] = &draft->scores[i];
        surefoot__row_score__init(&draft->scores[i]);
        draft->scores[i].scorer_index = i;
        draft->scores[i].scores_from = from;
        draft->scores[i].token_scores = draft->token_scores[i];
        draft->scores[i].n_token_scores = i == 0 ? 0 : n_scores;
        for (size_t t = 0; t < 16; t++) {
            draft->token_scores[i][t] = i == 1 ? -1 : 0;
        }
    }
}

static void read_otherwise(struct draft *draft, uint32_t from, size_t n_ids) {
    draft->row.has_read_from = true;
    draft->row.read_from = from;
    draft->row.n_read_ids = n_ids;
}

static void grow_first_block(struct job *job) {
    struct search_grow grow;
    struct error err = {0};
    struct draft draft;
    assert_true(job_next(job, &grow));
    draft_row(&draft, SUREFOOT__FINISH__FINISH_NONE, 0, BLOCK);
    assert_ok(job_on_row(job, &draft.row, &err), &err);
    assert_true(job_next(job, &grow));
}

static void test_a_row_lacks_no_score(void **state) {
    (void)state;
    struct model_set set = models();
    struct job *job = start_job(&set);
    struct search_grow grow;
    assert_true(job_next(job, &grow));
    for (int lacking = 1; lacking <= N_SCORERS; lacking++) {
        struct error err = {0};
        struct draft draft;
        draft_row(&draft, SUREFOOT__FINISH__FINISH_NONE, 0, BLOCK);
        draft.row.n_scores = (size_t)(N_SCORERS - lacking);
        draft.row.scores = lacking == N_SCORERS ? NULL : draft.row.scores;
        assert_status(STATUS_MALFORMED, job_on_row(job, &draft.row, &err));
        assert_string_equal(err.field, "row.scores");
    }
    job_destroy(job);
}

static Surefoot__JobResult *finish(struct job *job, const struct model_set *set) {
    void *result = NULL;
    struct error err = {0};
    uint64_t released[4];
    while (job_take_released(job, released, 4) > 0) {
    }
    assert_true(search_is_done(job->search));
    job_finish(job, set);
    assert_ok(wire_unpack(WIRE_JOB_RESULT, job->result, job->result_size, &result, &err), &err);
    return result;
}

static void test_reading_can_be_longer_than_the_response(void **state) {
    (void)state;
    struct model_set set = models();
    struct job *job = start_job(&set);
    struct error err = {0};
    struct draft draft;
    grow_first_block(job);
    // Tokens 0 and, instead of the other three, seven of the tokenizer's.
    draft_row(&draft, SUREFOOT__FINISH__FINISH_STOP, 1, 7);
    read_otherwise(&draft, 1, 7);
    draft.read_ids[6] = 77;
    draft.token_scores[1][0] = 0.5F;
    draft.token_scores[1][6] = 2;
    assert_ok(job_on_row(job, &draft.row, &err), &err);
    Surefoot__JobResult *result = finish(job, &set);
    assert_int_equal(result->outcome, SUREFOOT__OUTCOME__OUTCOME_COMPLETED);
    assert_true(result->cost == 2.5);
    assert_int_equal(result->n_token_ids, 2 * BLOCK);
    assert_true(result->has_read_from);
    assert_int_equal(result->read_from, 1);
    assert_int_equal(result->n_read_ids, 7);
    assert_int_equal(result->read_ids[6], 77);
    assert_int_equal(result->scorers[1]->n_token_scores, 8);
    assert_true(result->scorers[1]->token_scores[0] == -1);
    assert_true(result->scorers[1]->token_scores[1] == 0.5F);
    assert_true(result->scorers[1]->token_scores[7] == 2);
    wire_free(WIRE_JOB_RESULT, result);
    job_destroy(job);
}

static void test_empty_text_has_one_place(void **state) {
    (void)state;
    struct model_set set = models();
    struct job *job = start_job(&set);
    struct error err = {0};
    struct draft draft;
    grow_first_block(job);
    draft_row(&draft, SUREFOOT__FINISH__FINISH_STOP, 0, 1);
    read_otherwise(&draft, 0, 0);
    draft.token_scores[1][0] = 0;
    assert_ok(job_on_row(job, &draft.row, &err), &err);
    Surefoot__JobResult *result = finish(job, &set);
    assert_int_equal(result->outcome, SUREFOOT__OUTCOME__OUTCOME_COMPLETED);
    assert_true(result->has_read_from && result->read_from == 0 && result->n_read_ids == 0);
    assert_int_equal(result->scorers[1]->n_token_scores, 1);
    wire_free(WIRE_JOB_RESULT, result);
    job_destroy(job);
}

static void test_readings_that_contradict_the_row_are_refused(void **state) {
    (void)state;
    struct model_set set = models();
    struct job *job = start_job(&set);
    struct error err = {0};
    struct draft drafts[5];
    grow_first_block(job);
    draft_row(&drafts[0], SUREFOOT__FINISH__FINISH_NONE, 1, 3); // of a text that goes on
    read_otherwise(&drafts[0], 1, 3);
    draft_row(&drafts[1], SUREFOOT__FINISH__FINISH_STOP, 2, 4); // more than was written
    read_otherwise(&drafts[1], 5, 1);
    draft_row(&drafts[2], SUREFOOT__FINISH__FINISH_STOP, 1, 3); // not as many scores
    read_otherwise(&drafts[2], 1, 7);
    draft_row(&drafts[3], SUREFOOT__FINISH__FINISH_STOP, 1, 2); // no token
    read_otherwise(&drafts[3], 1, 2);
    drafts[3].read_ids[1] = LIMIT_VOCAB;
    draft_row(&drafts[4], SUREFOOT__FINISH__FINISH_STOP, 2, 0); // from behind the reading's end
    read_otherwise(&drafts[4], 1, 0);
    static const char *const fields[] = {"row.read_from", "row.read_from", "row.scores",
                                         "row.read_ids", "row.scores"};
    for (size_t i = 0; i < 5; i++) {
        assert_status(STATUS_MALFORMED, job_on_row(job, &drafts[i].row, &err));
        assert_string_equal(err.field, fields[i]);
    }
    job_destroy(job);
}

// What the model finds good (-1 a token) does not pay for the forbidden word, nor does a budget
// of 3.
static void test_nothing_pays_for_a_broken_rule(void **state) {
    (void)state;
    struct model_set set = models();
    struct job *job = start_job(&set);
    struct error err = {0};
    struct draft draft;
    grow_first_block(job);
    draft_row(&draft, SUREFOOT__FINISH__FINISH_EOS, 2, 2);
    draft.token_scores[2][1] = 1;
    draft.scores[2].end_score = 1;
    assert_ok(job_on_row(job, &draft.row, &err), &err);
    Surefoot__JobResult *result = finish(job, &set);
    assert_int_equal(result->outcome, SUREFOOT__OUTCOME__OUTCOME_NO_SAFE_CANDIDATE);
    assert_null(result->text);
    assert_true(result->cost == 0 && result->budget == 3); // the model's
    assert_true(result->safety_state == -1);
    // Each channel says its part, of the refused too.
    assert_int_equal(result->n_channels, 2);
    const Surefoot__ChannelResult *model = result->channels[0];
    const Surefoot__ChannelResult *rules = result->channels[1];
    assert_string_equal(model->name, "cost");
    assert_true(model->budget == 3 && model->cost == 0 && model->safety_state == 3);
    assert_true(model->has_admissible && model->admissible);
    assert_string_equal(rules->name, "rules");
    assert_true(rules->budget == 0 && rules->cost == 1 && rules->safety_state == -1);
    assert_true(rules->has_admissible && !rules->admissible);
    assert_int_equal(result->n_candidates, 1);
    assert_false(result->candidates[0]->admissible);
    assert_int_equal(result->candidates[0]->n_channels, 2);
    assert_true(result->candidates[0]->channels[1]->safety_state == -1);
    wire_free(WIRE_JOB_RESULT, result);
    job_destroy(job);
}

static void give_state(struct draft *draft, uint8_t *bytes, size_t size) {
    draft->row.has_state = true;
    draft->row.state = (ProtobufCBinaryData){.len = size, .data = bytes};
}

static void test_states_of_blocks_come_with_the_result(void **state) {
    (void)state;
    struct model_set set = models();
    struct job *job = start_job_with(&set, true, NULL);
    struct error err = {0};
    struct search_grow grow;
    struct draft draft;
    uint8_t bytes[2 * HIDDEN + 2] = {1, 2, 3, 4, 5, 6};
    uint8_t no_number[2 * HIDDEN] = {0, 0, 0x80, 0x7F, 0, 0};
    assert_true(job_next(job, &grow));
    draft_row(&draft, SUREFOOT__FINISH__FINISH_NONE, 0, BLOCK);
    assert_status(STATUS_MALFORMED, job_on_row(job, &draft.row, &err));
    assert_string_equal(err.field, "row.state");
    give_state(&draft, bytes, sizeof bytes);
    assert_status(STATUS_MALFORMED, job_on_row(job, &draft.row, &err));
    give_state(&draft, no_number, sizeof no_number);
    assert_status(STATUS_MALFORMED, job_on_row(job, &draft.row, &err));
    give_state(&draft, bytes, 2 * HIDDEN);
    assert_ok(job_on_row(job, &draft.row, &err), &err);
    assert_true(job_next(job, &grow));
    draft_row(&draft, SUREFOOT__FINISH__FINISH_EOS, BLOCK, BLOCK);
    give_state(&draft, bytes, 2 * HIDDEN); // of a text that has ended
    assert_status(STATUS_MALFORMED, job_on_row(job, &draft.row, &err));
    draft.row.has_state = false;
    assert_ok(job_on_row(job, &draft.row, &err), &err);
    Surefoot__JobResult *result = finish(job, &set);
    assert_int_equal(result->outcome, SUREFOOT__OUTCOME__OUTCOME_COMPLETED);
    assert_int_equal(result->n_state_tokens, 1);
    assert_int_equal(result->state_tokens[0], BLOCK);
    assert_int_equal(result->states.len, 2 * HIDDEN);
    assert_memory_equal(result->states.data, bytes, 2 * HIDDEN);
    wire_free(WIRE_JOB_RESULT, result);
    job_destroy(job);
}

// A job of one candidate in two blocks whose reward is `reward`; NULL when it does not start.
static Surefoot__JobResult *run_with(const struct model_set *set, Surefoot__JobSpec *spec,
                                     struct error *err) {
    struct job *job = NULL;
    if (start_spec(set, spec, &job, err) != STATUS_OK) {
        job_destroy(job);
        return NULL;
    }
    struct draft draft;
    grow_first_block(job);
    draft_row(&draft, SUREFOOT__FINISH__FINISH_STOP, 2, 2);
    draft.scores[0].end_score = 1.5F;
    assert_ok(job_on_row(job, &draft.row, err), err);
    Surefoot__JobResult *result = finish(job, set);
    job_destroy(job);
    return result;
}

static void test_rewards_of_one_job_calibrate_another(void **state) {
    (void)state;
    struct model_set set = models();
    struct error err = {0};
    Surefoot__JobSpec spec = SUREFOOT__JOB_SPEC__INIT;
    fill_spec(&spec);
    spec.selection = "plain";
    spec.has_calibrate = spec.calibrate = true;
    Surefoot__JobResult *made = run_with(&set, &spec, &err);
    assert_non_null(made);
    assert_non_null(made->calibration);
    assert_int_equal(made->calibration->n_rewards, 1);
    assert_true(made->calibration->rewards[0] == 1.5F);
    assert_string_equal(made->calibration->policy->hash, "p");
    assert_int_equal(made->calibration->n_scorers, 1);
    assert_int_equal(made->calibration->max_tokens, MAX_TOKENS);
    float rewards[] = {-1, 1.5F, 1.5F, 2};
    spec.calibration = made->calibration;
    free(spec.calibration->rewards);
    spec.calibration->rewards = rewards;
    spec.calibration->n_rewards = 4;
    spec.has_calibrate = false;
    spec.tilt = "identity";
    spec.tilt_sampler = "rollouts";
    Surefoot__JobResult *tilted = run_with(&set, &spec, &err);
    assert_non_null(tilted);
    assert_true(tilted->has_calibrated_reward && tilted->calibrated_reward == 0.5);
    assert_string_equal(tilted->tilt->sampler, "rollouts");
    assert_int_equal(tilted->tilt->ranked, 4);
    assert_true(!tilted->tilt->has_rank && tilted->tilt->calibrated_reward == 0.5);
    wire_free(WIRE_JOB_RESULT, tilted);
    spec.calibration->rewards = NULL;
    spec.calibration->n_rewards = 0;
    wire_free(WIRE_JOB_RESULT, made);
}

static void set_text(char **text, const char *value) {
    free(*text);
    *text = strdup(value);
    assert_non_null(*text);
}

static void change_policy(Surefoot__Calibration *calibration) {
    set_text(&calibration->policy->hash, "other");
}

static void change_template(Surefoot__Calibration *calibration) {
    set_text(&calibration->policy->chat_template, "raw");
}

static void change_reward(Surefoot__Calibration *calibration) {
    set_text(&calibration->scorers[0]->hash, "other");
}

static void change_precision(Surefoot__Calibration *calibration) {
    set_text(&calibration->scorers[0]->precision, "int8");
}

static void change_weight(Surefoot__Calibration *calibration) {
    calibration->scorers[0]->weight = 2;
}

static void change_temperature(Surefoot__Calibration *calibration) {
    calibration->sampling->temperature = 0.7;
}

static void change_length(Surefoot__Calibration *calibration) {
    calibration->max_tokens++;
}

static void test_a_calibration_of_something_else_is_refused(void **state) {
    (void)state;
    static const struct {
        void (*change)(Surefoot__Calibration *calibration);
        const char *field;
    } cases[] = {{change_policy, "spec.calibration.policy.hash"},
                 {change_template, "spec.calibration.policy.chat_template"},
                 {change_reward, "spec.calibration.scorers[0].hash"},
                 {change_precision, "spec.calibration.scorers[0].precision"},
                 {change_weight, "spec.calibration.scorers[0].weight"},
                 {change_temperature, "spec.calibration.sampling.temperature"},
                 {change_length, "spec.calibration.max_tokens"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct model_set set = models();
        struct error err = {0};
        Surefoot__JobSpec spec = SUREFOOT__JOB_SPEC__INIT;
        fill_spec(&spec);
        spec.selection = "plain";
        spec.has_calibrate = spec.calibrate = true;
        Surefoot__JobResult *made = run_with(&set, &spec, &err);
        assert_non_null(made);
        spec.has_calibrate = false;
        spec.calibration = made->calibration;
        cases[i].change(made->calibration);
        assert_null(run_with(&set, &spec, &err));
        assert_string_equal(cases[i].field, err.field);
        wire_free(WIRE_JOB_RESULT, made);
    }
}

static void test_a_tilt_says_how_it_chose(void **state) {
    (void)state;
    struct model_set set = models();
    struct job *job = start_job_with(&set, false, "exp");
    struct error err = {0};
    struct draft draft;
    grow_first_block(job);
    draft_row(&draft, SUREFOOT__FINISH__FINISH_STOP, 2, 2);
    assert_ok(job_on_row(job, &draft.row, &err), &err);
    Surefoot__JobResult *result = finish(job, &set);
    assert_int_equal(result->outcome, SUREFOOT__OUTCOME__OUTCOME_COMPLETED);
    const Surefoot__TiltResult *tilt = result->tilt;
    assert_non_null(tilt);
    assert_string_equal(tilt->tilt, "exp");
    assert_true(tilt->has_t && tilt->t == 10 && tilt->n == 4);
    // One draw is as far from the policy as nothing is.
    assert_true(tilt->has_beta && tilt->beta == 0 && !tilt->has_rejection_draws);
    assert_true(tilt->draws == 1 && tilt->ranked == 1 && tilt->rank == 1);
    assert_true(tilt->calibrated_reward == 0.5 && tilt->log_inverse_share == 0);
    assert_true(tilt->has_kl && tilt->kl == 0 && tilt->win_rate == 0.5);
    wire_free(WIRE_JOB_RESULT, result);
    job_destroy(job);
}

static void test_states_that_nobody_asked_for_are_refused(void **state) {
    (void)state;
    struct model_set set = models();
    struct job *job = start_job(&set);
    struct error err = {0};
    struct search_grow grow;
    struct draft draft;
    uint8_t bytes[2 * HIDDEN] = {0};
    assert_true(job_next(job, &grow));
    draft_row(&draft, SUREFOOT__FINISH__FINISH_NONE, 0, BLOCK);
    give_state(&draft, bytes, sizeof bytes);
    assert_status(STATUS_MALFORMED, job_on_row(job, &draft.row, &err));
    assert_string_equal(err.field, "row.state");
    job_destroy(job);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_row_lacks_no_score),
        cmocka_unit_test(test_a_tilt_says_how_it_chose),
        cmocka_unit_test(test_rewards_of_one_job_calibrate_another),
        cmocka_unit_test(test_a_calibration_of_something_else_is_refused),
        cmocka_unit_test(test_reading_can_be_longer_than_the_response),
        cmocka_unit_test(test_empty_text_has_one_place),
        cmocka_unit_test(test_readings_that_contradict_the_row_are_refused),
        cmocka_unit_test(test_states_of_blocks_come_with_the_result),
        cmocka_unit_test(test_states_that_nobody_asked_for_are_refused),
        cmocka_unit_test(test_nothing_pays_for_a_broken_rule),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
