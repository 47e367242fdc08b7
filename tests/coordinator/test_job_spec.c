// coordinator/job_spec.c: every bad input is refused with its field and limit; defaults are those
// of docs/protocol.md; profiles fill what a job leaves open.
#include <math.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>

#include "coordinator/job_spec.h"
#include "proto/same_job.h"
#include "tests/support/testkit.h"

// A spec that tests edit before it is packed: everything lies in this struct.
struct draft {
    Surefoot__SubmitJob submit;
    Surefoot__JobSpec spec;
    Surefoot__Sampling sampling;
    Surefoot__ScorerSpec scorers[10];
    Surefoot__ScorerSpec *scorer_list[10];
    Surefoot__LexicalSpec lexical;
    Surefoot__ChatMessage messages[3];
    Surefoot__ChatMessage *message_list[300];
    Surefoot__LogitBias bias;
    Surefoot__LogitBias *bias_list[1];
    char *words[300];
    Surefoot__ChannelSpec channels[LIMIT_CHANNELS + 1];
    Surefoot__ChannelSpec *channel_list[LIMIT_CHANNELS + 1];
    Surefoot__TemplateVariable variables[LIMIT_TEMPLATE_VARIABLES + 1];
    Surefoot__TemplateVariable *variable_list[LIMIT_TEMPLATE_VARIABLES + 1];
};

static void draft_init(struct draft *draft) {
    memset(draft, 0, sizeof *draft);
    surefoot__submit_job__init(&draft->submit);
    surefoot__job_spec__init(&draft->spec);
    surefoot__sampling__init(&draft->sampling);
    surefoot__lexical_spec__init(&draft->lexical);
    surefoot__logit_bias__init(&draft->bias);
    draft->submit.job_key = "job-1";
    draft->submit.spec = &draft->spec;
    draft->spec.prompt = "Tell me a story.";
    for (size_t i = 0; i < 10; i++) {
        surefoot__scorer_spec__init(&draft->scorers[i]);
        draft->scorer_list[i] = &draft->scorers[i];
    }
    for (size_t i = 0; i < 3; i++) {
        surefoot__chat_message__init(&draft->messages[i]);
    }
    draft->bias_list[0] = &draft->bias;
}

static void use_sampling(struct draft *draft) {
    draft->spec.sampling = &draft->sampling;
}

static void use_scorers(struct draft *draft, size_t n) {
    draft->spec.scorers = draft->scorer_list;
    draft->spec.n_scorers = n;
    draft->scorers[0].name = "demo-reward";
    draft->scorers[1].name = "demo-cost";
}

static void use_cards(struct draft *draft) {
    draft->spec.method = "cards";
    draft->spec.has_reward_threshold = true;
    draft->spec.reward_threshold = 3;
}

static void use_lexical(struct draft *draft) {
    use_scorers(draft, 1);
    draft->scorers[0].name = "lexical";
    draft->scorers[0].role = "cost";
    draft->scorers[0].lexical = &draft->lexical;
    draft->words[0] = "please";
    draft->lexical.required = draft->words;
    draft->lexical.n_required = 1;
}

// Reward and cost model, and a scorer of words in a channel "words" of budget 2.
static void use_channel(struct draft *draft) {
    use_scorers(draft, 3);
    draft->scorers[2].name = "lexical";
    draft->scorers[2].role = "cost";
    draft->scorers[2].lexical = &draft->lexical;
    draft->scorers[2].channel = "words";
    draft->words[0] = "please";
    draft->lexical.forbidden = draft->words;
    draft->lexical.n_forbidden = 1;
    static char *const names[] = {"words", "b", "c", "d", "e"};
    for (size_t i = 0; i < LIMIT_CHANNELS + 1; i++) {
        surefoot__channel_spec__init(&draft->channels[i]);
        draft->channels[i].name = names[i];
        draft->channels[i].cost_mode = "token_sum";
        draft->channels[i].has_budget = true;
        draft->channels[i].budget = 2;
        draft->channel_list[i] = &draft->channels[i];
    }
    draft->spec.channels = draft->channel_list;
    draft->spec.n_channels = 1;
}

static void use_variable(struct draft *draft, char *name, char *text) {
    size_t i = draft->spec.n_template_variables++;
    surefoot__template_variable__init(&draft->variables[i]);
    draft->variables[i].name = name;
    draft->variables[i].text = text;
    draft->variable_list[i] = &draft->variables[i];
    draft->spec.template_variables = draft->variable_list;
}

static void use_message(struct draft *draft, char *role, char *content) {
    draft->spec.prompt = NULL;
    draft->messages[0].role = role;
    draft->messages[0].content = content;
    draft->message_list[0] = &draft->messages[0];
    draft->spec.messages = draft->message_list;
    draft->spec.n_messages = 1;
}

// A last message of the assistant's, to be continued, after that of use_message().
static void use_answer(struct draft *draft) {
    draft->messages[1].role = "assistant";
    draft->messages[1].content = "Well, ";
    draft->message_list[1] = &draft->messages[1];
    draft->spec.n_messages = 2;
    draft->spec.has_continue_final_message = true;
    draft->spec.continue_final_message = true;
}

static struct model_set demo_models(void) {
    struct model_set models = {
        .policy = {.name = "demo-policy",
                   .role = "policy",
                   .context_length = 512,
                   .vocab_size = 1000},
        .scorers = {{.name = "demo-reward", .role = "reward"},
                    {.name = "demo-cost",
                     .role = "cost",
                     .cost_mode = "token_sum_pos",
                     .cost_eos = "append",
                     .has_budget = true,
                     .budget = 4,
                     .has_discount = true,
                     .discount = 0.99}},
        .n_scorers = 2,
        .block_tokens_max = 64,
        .exempt_ids = {0, 1, 2},
        .n_exempt = 3,
    };
    return models;
}

// Packs and unpacks, so that the spec owns what it was made of, as in the service.
static enum status create(const struct draft *draft, struct job_spec **out, struct error *err) {
    uint8_t *bytes;
    size_t size;
    assert_ok(wire_pack(WIRE_SUBMIT_JOB, &draft->submit, &bytes, &size), NULL);
    void *submit;
    assert_ok(wire_unpack(WIRE_SUBMIT_JOB, bytes, size, &submit, err), err);
    free(bytes);
    enum status status = job_spec_create(submit, out, err);
    if (status != STATUS_OK) {
        wire_free(WIRE_SUBMIT_JOB, submit);
    }
    return status;
}

static void expect_error(const struct draft *draft, const struct model_set *models,
                         enum status expected, const char *field, const char *part) {
    struct error err = {0};
    struct job_spec *spec = NULL;
    enum status status = create(draft, &spec, &err);
    if (status == STATUS_OK && models != NULL) {
        status = job_spec_resolve(spec, models, &err);
    }
    job_spec_destroy(spec);
    if (status != expected || strcmp(err.field, field) != 0 || strstr(err.message, part) == NULL) {
        fail_msg("expected %s %s \"...%s...\", got %s %s \"%s\"", status_name(expected), field,
                 part, status_name(status), err.field, err.message);
    }
}

typedef void (*edit_fn)(struct draft *draft);
struct bad_input {
    edit_fn edit;
    enum status status;
    const char *field;
    const char *part; // of the message
};

static char long_text[LIMIT_PROMPT_BYTES + 2];

#define EDIT(name, code)                                                                           \
    static void edit_##name(struct draft *d) {                                                     \
        code                                                                                       \
    }
EDIT(no_key, d->submit.job_key = NULL;)
EDIT(long_key, d->submit.job_key = long_text + sizeof long_text - 1 - 129;)
EDIT(control_key, d->submit.job_key = "a\nb";)
EDIT(no_spec, d->submit.spec = NULL;)
EDIT(no_prompt, d->spec.prompt = NULL;)
EDIT(empty_prompt, d->spec.prompt = "";)
EDIT(white_prompt, d->spec.prompt = " \t\r\n\v\f";)
EDIT(white_rendered, d->spec.prompt = NULL; d->spec.rendered_prompt = "\n";)
EDIT(white_message, use_message(d, "user", " \n");)
EDIT(white_before_answer, use_message(d, "user", " "); use_answer(d);)
EDIT(long_prompt, d->spec.prompt = long_text;)
EDIT(both, use_message(d, "user", "hi"); d->spec.prompt = "hi";)
EDIT(long_role,
     use_message(d, "a role of more than sixty-four bytes, which is more than names may have",
                 "hi");)
EDIT(no_role, use_message(d, NULL, "hi");)
EDIT(no_content, use_message(d, "user", NULL);)
EDIT(last_role, use_message(d, "assistant", "hi");)
EDIT(
    messages, use_message(d, "user", "hi"); for (int i = 0; i < 300; i++) {
        d->message_list[i] = &d->messages[0];
    } d->spec.n_messages = 257;)
EDIT(continue_user, use_message(d, "user", "hi"); d->spec.has_continue_final_message = true;
     d->spec.continue_final_message = true;)
EDIT(continue_prompt, d->spec.has_continue_final_message = true;
     d->spec.continue_final_message = true;)
EDIT(content_tokens, d->spec.content_tokens = "as-is";)
EDIT(date, d->spec.date = "2026-02-30";)
EDIT(rendered_empty, d->spec.rendered_prompt = "";)
EDIT(rendered_template, d->spec.rendered_prompt = "x"; d->spec.chat_template = "raw";)
EDIT(template, d->spec.chat_template = "klingon";)
EDIT(variable_rendered, d->spec.prompt = NULL; d->spec.rendered_prompt = "x";
     use_variable(d, "v", "x");)
EDIT(variable_no_name, use_variable(d, NULL, "x");)
EDIT(variable_name, use_variable(d, "a", "x"); use_variable(d, "enable-thinking", "x");)
EDIT(variable_digit, use_variable(d, "1v", "x");)
EDIT(variable_long_name, use_variable(d, long_text + sizeof long_text - 1 - 65, "x");)
EDIT(variable_reserved, use_variable(d, "messages", "x");)
EDIT(variable_token, use_variable(d, "bos_token", "x");)
EDIT(variable_no_value, use_variable(d, "v", NULL);)
EDIT(variable_two_values, use_variable(d, "v", "x"); d->variables[0].has_truth = true;)
EDIT(variable_long,
     use_variable(d, "v", long_text + sizeof long_text - 2 - LIMIT_TEMPLATE_TEXT_BYTES);)
EDIT(variable_twice, use_variable(d, "v", "x"); use_variable(d, "w", "x");
     use_variable(d, "v", "y");)
EDIT(
    variables,
    for (size_t i = 0; i <= LIMIT_TEMPLATE_VARIABLES; i++) { use_variable(d, "v", "x"); })
EDIT(method, d->spec.method = "magic";)
EDIT(selection, d->spec.method = "beam"; d->spec.selection = "magic";)
EDIT(sample_selection, d->spec.method = "sample"; d->spec.selection = "lagrangian";)
EDIT(guard_selection, d->spec.selection = "plain";)
EDIT(n_zero, d->spec.has_n = true;)
EDIT(n_large, d->spec.has_n = true; d->spec.n = LIMIT_CANDIDATES + 1;)
EDIT(n_sample, d->spec.method = "sample"; d->spec.has_n = true; d->spec.n = 2;)
EDIT(survivors_zero, d->spec.has_survivors = true;)
EDIT(survivors, d->spec.has_survivors = true; d->spec.survivors = 33;)
EDIT(block_zero, d->spec.has_block_tokens = true;)
EDIT(block, d->spec.has_block_tokens = true; d->spec.block_tokens = LIMIT_BLOCK_TOKENS + 1;)
EDIT(growth_small, d->spec.has_block_growth = true; d->spec.block_growth = 0.5;)
EDIT(growth_nan, d->spec.has_block_growth = true; d->spec.block_growth = NAN;)
EDIT(longest_zero, d->spec.has_block_tokens_max = true;)
EDIT(longest_short, d->spec.has_block_tokens = d->spec.has_block_tokens_max = true;
     d->spec.block_tokens = 9; d->spec.block_tokens_max = 8;)
EDIT(n_min, d->spec.has_n_min = true; d->spec.n_min = 33;)
EDIT(patience, d->spec.has_patience = true; d->spec.patience = LIMIT_MAX_TOKENS + 1;)
EDIT(abort, d->spec.has_abort_tokens = true; d->spec.abort_tokens = LIMIT_BLOCK_TOKENS + 1;)
EDIT(hot, d->spec.has_fallback_temperature = true; d->spec.fallback_temperature = 101;)
static char *prefix_texts[LIMIT_FALLBACK_PREFIXES + 1] = {"No.", "Well,", "",  "No.", "No.",
                                                         "a",   "b",     "c", "d"};
EDIT(prefix_empty, d->spec.fallback_prefixes = prefix_texts; d->spec.n_fallback_prefixes = 3;)
EDIT(prefix_twice, d->spec.fallback_prefixes = prefix_texts + 3;
     d->spec.n_fallback_prefixes = 2;)
EDIT(prefixes, d->spec.fallback_prefixes = prefix_texts;
     d->spec.n_fallback_prefixes = LIMIT_FALLBACK_PREFIXES + 1;)
EDIT(prefix_method, d->spec.fallback_prefixes = prefix_texts; d->spec.n_fallback_prefixes = 1;
     d->spec.method = "best-of-n";)
EDIT(max_zero, d->spec.has_max_tokens = true;)
EDIT(max, d->spec.has_max_tokens = true; d->spec.max_tokens = LIMIT_MAX_TOKENS + 1;)
EDIT(tries_zero, d->spec.has_tries = true;)
EDIT(tries, d->spec.has_tries = true; d->spec.tries = LIMIT_TRIES + 1;)
EDIT(too_many, d->spec.has_n = true; d->spec.n = LIMIT_CANDIDATES; d->spec.has_block_tokens = true;
     d->spec.block_tokens = 1; d->spec.has_block_growth = true; d->spec.block_growth = 1;)
EDIT(budget_nan, d->spec.has_budget = true; d->spec.budget = NAN;)
EDIT(budget_inf, d->spec.has_budget = true; d->spec.budget = INFINITY;)
EDIT(discount_zero, d->spec.has_discount = true;)
EDIT(discount_nan, d->spec.has_discount = true; d->spec.discount = NAN;)
EDIT(discount, d->spec.has_discount = true; d->spec.discount = 1.5;)
EDIT(unit, d->spec.discount_unit = "page";)
EDIT(cost_mode, d->spec.cost_mode = "sum";)
EDIT(admit, d->spec.admit_rule = "always";)
EDIT(cost_eos, d->spec.cost_eos = "maybe";)
EDIT(alpha, d->spec.has_rejection_alpha = true; d->spec.rejection_alpha = 1;)
EDIT(no_threshold, d->spec.method = "cards";)
EDIT(args_block, d->spec.method = "args"; d->spec.has_block_tokens = true;
     d->spec.block_tokens = 4;)
EDIT(steps, d->spec.has_steps = true; d->spec.steps = 1001;)
EDIT(step_size, d->spec.has_alpha = true; d->spec.alpha = -1;)
EDIT(omega, d->spec.has_omega = true; d->spec.omega = -1;)
EDIT(entropy, d->spec.has_entropy_threshold = true; d->spec.entropy_threshold = NAN;)
EDIT(segment_min, d->spec.has_segment_tokens_min = true;)
EDIT(threshold, d->spec.has_reward_threshold = true; d->spec.reward_threshold = INFINITY;)
EDIT(threshold_start, d->spec.has_threshold_start = true; d->spec.threshold_start = 1.5;)
EDIT(accept_temperature, d->spec.has_accept_temperature = true; d->spec.accept_temperature = -0.1;)
EDIT(args_many, d->spec.method = "args"; d->spec.has_n = true; d->spec.n = 4096;)
EDIT(tilt, d->spec.tilt = "square";)
EDIT(tilt_t, d->spec.has_tilt_t = true;)
EDIT(tilt_n, d->spec.has_tilt_n = true; d->spec.tilt_n = LIMIT_TILT_N + 1;)
EDIT(tilt_kl, d->spec.has_tilt_kl = true; d->spec.tilt_kl = NAN;)
EDIT(tilt_beta, d->spec.has_tilt_beta = true; d->spec.tilt_beta = -1;)
EDIT(tilt_rank_set, d->spec.tilt_rank_set = "some";)
EDIT(tilt_twice, d->spec.has_tilt_kl = d->spec.has_tilt_beta = true; d->spec.tilt_kl = 1;
     d->spec.tilt_beta = 0.1;)
static float bad_rewards[] = {1, NAN, 3, 2};
static Surefoot__CalibratedModel any_model = SUREFOOT__CALIBRATED_MODEL__INIT;
static Surefoot__Sampling any_sampling = SUREFOOT__SAMPLING__INIT;
static Surefoot__Calibration calibration = SUREFOOT__CALIBRATION__INIT;

// A calibration of `count` of the rewards from `from` on.
static void use_rewards(struct draft *draft, size_t from, size_t count) {
    calibration.policy = &any_model;
    calibration.sampling = &any_sampling;
    calibration.rewards = bad_rewards + from;
    calibration.n_rewards = count;
    draft->spec.calibration = &calibration;
}
EDIT(tilt_default_twice, d->spec.has_tilt_kl = d->spec.has_tilt_beta = true; d->spec.tilt_kl = 0.5;
     d->spec.tilt_beta = 1;)
EDIT(segments_of_blocks, use_cards(d); d->spec.has_block_tokens = true; d->spec.block_tokens = 4;)
EDIT(segments_above_blocks, use_cards(d); d->spec.has_segment_tokens_min = true;
     d->spec.segment_tokens_min = 64;)
EDIT(segments_unread, use_cards(d); d->spec.has_segment_tokens_min = true;
     d->spec.segment_tokens_min = 5; d->spec.has_entropy_threshold = true;)
EDIT(rewards_none, use_rewards(d, 0, 0);)
EDIT(rewards_nan, use_rewards(d, 0, 2);)
EDIT(rewards_fall, use_rewards(d, 2, 2);)
EDIT(rollouts_none, d->spec.tilt_sampler = "rollouts";)
EDIT(rollouts_ranked, use_rewards(d, 0, 1); d->spec.tilt_sampler = "rollouts";
     d->spec.tilt_rank_set = "all";)
EDIT(tilt_stop, d->spec.tilt_rank_set = "all"; d->spec.has_early_stop = d->spec.early_stop = true;)
EDIT(rejection_selection, d->spec.method = "rejection"; d->spec.selection = "plain";)
EDIT(lambda, d->spec.has_lagrangian_lambda = true; d->spec.lagrangian_lambda = -1;)
EDIT(penalty, d->spec.fallback_penalty = "square";)
EDIT(fallback_weight, d->spec.has_fallback_weight = true; d->spec.fallback_weight = -0.5;)
EDIT(fallback_cap, d->spec.has_fallback_cap = true; d->spec.fallback_cap = INFINITY;)
EDIT(cost_min, d->spec.has_cost_min = true; d->spec.cost_min = -INFINITY;)
EDIT(deadline, d->spec.has_deadline_ms = true; d->spec.deadline_ms = LIMIT_DEADLINE_MS + 1u;)
EDIT(temperature, use_sampling(d); d->sampling.has_temperature = true;
     d->sampling.temperature = -0.1;)
EDIT(temperature_nan, use_sampling(d); d->sampling.has_temperature = true;
     d->sampling.temperature = NAN;)
EDIT(top_k, use_sampling(d); d->sampling.has_top_k = true; d->sampling.top_k = LIMIT_TOP_K + 1;)
EDIT(top_p_zero, use_sampling(d); d->sampling.has_top_p = true;)
EDIT(top_p_rounds_to_zero, use_sampling(d); d->sampling.has_top_p = true;
     d->sampling.top_p = 1e-50;)
EDIT(temperature_above, use_sampling(d); d->sampling.has_temperature = true;
     d->sampling.temperature = 100.00001;)
EDIT(top_p, use_sampling(d); d->sampling.has_top_p = true; d->sampling.top_p = 1.01;)
EDIT(repetition, use_sampling(d); d->sampling.has_repetition_penalty = true;)
EDIT(frequency, use_sampling(d); d->sampling.has_frequency_penalty = true;
     d->sampling.frequency_penalty = 101;)
EDIT(min_tokens, use_sampling(d); d->sampling.has_min_tokens = true; d->sampling.min_tokens = 129;)
EDIT(bias, use_sampling(d); d->sampling.logit_bias = d->bias_list; d->sampling.n_logit_bias = 1;
     d->bias.has_bias = true; d->bias.bias = NAN;)
EDIT(stop_empty, use_sampling(d); d->words[0] = ""; d->sampling.stop = d->words;
     d->sampling.n_stop = 1;)
EDIT(stop_long, use_sampling(d); d->words[0] = long_text + sizeof long_text - 1 - 257;
     d->sampling.stop = d->words; d->sampling.n_stop = 1;)
EDIT(
    stops, use_sampling(d);
    for (int i = 0; i < 17; i++) { d->words[i] = "x"; } d->sampling.stop = d->words;
    d->sampling.n_stop = 17;)
EDIT(
    scorers, use_scorers(d, 9); for (int i = 0; i < 9; i++) { d->scorers[i].name = "x"; })
EDIT(scorer_unnamed, use_scorers(d, 3);)
EDIT(scorer_role, use_scorers(d, 2); d->scorers[1].role = "judge";)
EDIT(weight_negative, use_scorers(d, 2); d->scorers[1].has_weight = true;
     d->scorers[1].weight = -1;)
EDIT(weight_nan, use_scorers(d, 2); d->scorers[1].has_weight = true; d->scorers[1].weight = NAN;)
EDIT(scorer_twice, use_scorers(d, 2); d->scorers[1].name = "demo-reward";)
EDIT(scorer_template, use_scorers(d, 2); d->scorers[0].chat_template = "klingon";)
EDIT(lexical_misplaced, use_scorers(d, 1); d->scorers[0].lexical = &d->lexical;)
EDIT(lexical_missing, use_lexical(d); d->scorers[0].lexical = NULL;)
EDIT(lexical_role, use_lexical(d); d->scorers[0].role = NULL;)
EDIT(lexical_empty, use_lexical(d); d->lexical.n_required = 0;)
EDIT(lexical_entry, use_lexical(d); d->words[0] = "";)
EDIT(
    lexical_entries, use_lexical(d);
    for (int i = 0; i < 257; i++) { d->words[i] = "x"; } d->lexical.n_required = 257;)
EDIT(rules_empty, d->spec.lexical = &d->lexical;)
EDIT(lexical_words, use_lexical(d); d->lexical.has_words_min = true; d->lexical.words_min = 5;
     d->lexical.has_words_max = true; d->lexical.words_max = 4;)

EDIT(channels, use_channel(d); d->spec.n_channels = 5;)
EDIT(channel_unnamed, use_channel(d); d->channels[0].name = "";)
EDIT(channel_cost, use_channel(d); d->channels[0].name = "cost";)
EDIT(channel_rules, use_channel(d); d->channels[0].name = "rules";)
EDIT(channel_twice, use_channel(d); d->spec.n_channels = 2; d->channels[1].name = "words";)
EDIT(channel_empty, use_channel(d); d->spec.n_channels = 2;)
EDIT(channel_models, use_channel(d); d->spec.n_scorers = 0;)
EDIT(channel_unknown, use_channel(d); d->scorers[1].channel = "word";)
EDIT(channel_of_reward, use_channel(d); d->scorers[0].role = "reward";
     d->scorers[0].channel = "words";)
EDIT(rules_of_model, use_channel(d); d->scorers[1].channel = "rules";)
EDIT(channel_mode, use_channel(d); d->channels[0].cost_mode = "total";)
EDIT(channel_budget, use_channel(d); d->channels[0].budget = NAN;)
EDIT(channel_discount, use_channel(d); d->channels[0].has_discount = true;
     d->channels[0].discount = 0;)
EDIT(channel_unit, use_channel(d); d->channels[0].discount_unit = "text";)
EDIT(channel_rule, use_channel(d); d->channels[0].admit_rule = "sometimes";)
EDIT(channel_cost_min, use_channel(d); d->channels[0].has_cost_min = true;
     d->channels[0].cost_min = -2e9;)

// Refused only once the models are known.
EDIT(channel_no_mode, use_channel(d); d->channels[0].cost_mode = NULL;)
EDIT(channel_no_budget, use_channel(d); d->channels[0].has_budget = false;)
EDIT(channel_negative, use_channel(d); d->channels[0].cost_mode = "token_sum_pos";
     d->channels[0].budget = -1;)
EDIT(channel_min_unused, use_channel(d); d->channels[0].cost_mode = "end_sign";
     d->channels[0].has_cost_min = true;)
EDIT(channel_of_reward_model, use_channel(d); d->scorers[0].channel = "words";)
EDIT(channel_without_cost, use_channel(d); d->scorers[2].channel = NULL;
     d->scorers[0].channel = "words";)
EDIT(
    channels_too_many, use_channel(d); d->spec.n_scorers = 6; d->spec.n_channels = 3;
    for (size_t i = 3; i < 6; i++) {
        d->scorers[i] = d->scorers[2];
        d->scorers[i].channel = i < 5 ? d->channels[i - 2].name : NULL;
    })
EDIT(unknown_scorer, use_scorers(d, 2); d->scorers[1].name = "gpt-9";)
EDIT(cost_min_of_clamped, d->spec.has_cost_min = true; d->spec.cost_min = 5;
     d->spec.cost_mode = "token_sum_pos"; d->spec.has_budget = true;)
EDIT(cost_min_unused, d->spec.has_cost_min = true; d->spec.cost_mode = "end_sign";
     d->spec.has_budget = true;)
EDIT(
    rules_too_many, use_scorers(d, 8); for (size_t i = 2; i < 8; i++) {
        d->scorers[i].name = "lexical";
        d->scorers[i].role = "cost";
        d->scorers[i].lexical = &d->lexical;
    } d->lexical.has_words_max = true;
    d->spec.lexical = &d->lexical;)
EDIT(no_reward, use_scorers(d, 1); d->scorers[0].name = "demo-cost";)
EDIT(no_cost, use_scorers(d, 1);)
EDIT(budget_of_nothing, use_scorers(d, 1); d->spec.method = "best-of-n"; d->spec.has_budget = true;
     d->spec.budget = 1;)
EDIT(weightless, use_scorers(d, 2); d->scorers[1].has_weight = true; d->scorers[1].weight = 0;)
EDIT(weightless_channel, use_channel(d); d->scorers[2].has_weight = true; d->scorers[2].weight = 0;)
EDIT(rule_of_nothing, use_scorers(d, 1); d->spec.method = "beam"; d->spec.admit_rule = "prefix";)
EDIT(no_cost_lagrangian, use_scorers(d, 1); d->spec.method = "beam";
     d->spec.selection = "lagrangian";)
EDIT(no_cost_augmented, use_scorers(d, 1); d->spec.method = "best-of-n";
     d->spec.selection = "augmented";)
EDIT(block_group, d->spec.has_block_tokens = true; d->spec.block_tokens = 65;)
EDIT(longest_group, d->spec.has_block_tokens_max = true; d->spec.block_tokens_max = 65;)
EDIT(context, d->spec.has_max_tokens = true; d->spec.max_tokens = 512;)
EDIT(bias_vocab, use_sampling(d); d->sampling.logit_bias = d->bias_list;
     d->sampling.n_logit_bias = 1; d->bias.has_token_id = true; d->bias.token_id = 1000;)
EDIT(args_vocab, d->spec.method = "args"; d->spec.has_n = true; d->spec.n = 1001;
     d->spec.has_max_tokens = true; d->spec.max_tokens = 8;)
EDIT(budget_negative, d->spec.has_budget = true; d->spec.budget = -0.5;)
#undef EDIT

#define INVALID STATUS_INVALID_ARGUMENT
#define LIMIT STATUS_LIMIT
static const struct bad_input bad_messages[] = {
    {edit_no_key, INVALID, "job_key", "128"},
    {edit_long_key, LIMIT, "job_key", "128"},
    {edit_control_key, INVALID, "job_key", "control"},
    {edit_no_spec, INVALID, "spec", "missing"},
    {edit_no_prompt, INVALID, "spec.prompt", "empty"},
    {edit_empty_prompt, INVALID, "spec.prompt", "empty"},
    {edit_white_prompt, INVALID, "spec.prompt", "white space"},
    {edit_white_rendered, INVALID, "spec.rendered_prompt", "white space"},
    {edit_white_message, INVALID, "spec.messages[0].content", "white space"},
    {edit_white_before_answer, INVALID, "spec.messages[0].content", "white space"},
    {edit_long_prompt, LIMIT, "spec.prompt", "1048576"},
    {edit_both, INVALID, "spec.prompt", "messages"},
    {edit_long_role, LIMIT, "spec.messages[0].role", "64"},
    {edit_no_role, INVALID, "spec.messages[0].role", "64"},
    {edit_no_content, INVALID, "spec.messages[0].content", "empty"},
    {edit_last_role, INVALID, "spec.messages", "continue_final_message"},
    {edit_continue_user, INVALID, "spec.continue_final_message", "assistant"},
    {edit_continue_prompt, INVALID, "spec.continue_final_message", "assistant"},
    {edit_content_tokens, INVALID, "spec.content_tokens", "as-written"},
    {edit_date, INVALID, "spec.date", "9999-12-31"},
    {edit_rendered_empty, INVALID, "spec.rendered_prompt", "1048576"},
    {edit_rendered_template, INVALID, "spec.chat_template", "rendered_prompt"},
    {edit_messages, LIMIT, "spec.messages", "256"},
    {edit_template, INVALID, "spec.chat_template", "chatml"},
    {edit_variable_rendered, INVALID, "spec.template_variables", "rendered_prompt"},
    {edit_variable_no_name, INVALID, "spec.template_variables[0]", "64"},
    {edit_variable_name, INVALID, "spec.template_variables[1]", "enable-thinking"},
    {edit_variable_digit, INVALID, "spec.template_variables[0]", "1v"},
    {edit_variable_long_name, INVALID, "spec.template_variables[0]", "64"},
    {edit_variable_reserved, INVALID, "spec.template_variables[0]", "messages"},
    {edit_variable_token, INVALID, "spec.template_variables[0]", "bos_token"},
    {edit_variable_no_value, INVALID, "spec.template_variables[0]", "exactly one"},
    {edit_variable_two_values, INVALID, "spec.template_variables[0]", "exactly one"},
    {edit_variable_long, LIMIT, "spec.template_variables[0]", "4096"},
    {edit_variable_twice, INVALID, "spec.template_variables[2]", "twice"},
    {edit_variables, LIMIT, "spec.template_variables", "16"},
    {edit_method, INVALID, "spec.method", "inference-guard"},
    {edit_selection, INVALID, "spec.selection", "augmented"},
    {edit_sample_selection, INVALID, "spec.selection", "sample"},
    {edit_guard_selection, INVALID, "spec.selection", "inference-guard"},
    {edit_n_zero, INVALID, "spec.n", "1..4096"},
    {edit_n_large, LIMIT, "spec.n", "1..4096"},
    {edit_n_sample, INVALID, "spec.n", "sample"},
    {edit_survivors_zero, INVALID, "spec.survivors", "1..32"},
    {edit_survivors, LIMIT, "spec.survivors", "1..32"},
    {edit_block_zero, INVALID, "spec.block_tokens", "1..1024"},
    {edit_block, LIMIT, "spec.block_tokens", "1..1024"},
    {edit_growth_small, INVALID, "spec.block_growth", "[1, 16]"},
    {edit_growth_nan, INVALID, "spec.block_growth", "[1, 16]"},
    {edit_longest_zero, INVALID, "spec.block_tokens_max", "1..1024"},
    {edit_longest_short, INVALID, "spec.block_tokens_max", "block_tokens 9"},
    {edit_n_min, LIMIT, "spec.n_min", "0..32"},
    {edit_patience, LIMIT, "spec.patience", "0..8192"},
    {edit_abort, LIMIT, "spec.abort_tokens", "0..1024"},
    {edit_hot, INVALID, "spec.fallback_temperature", "[0, 100]"},
    {edit_prefix_empty, INVALID, "spec.fallback_prefixes[2]", "256"},
    {edit_prefix_twice, INVALID, "spec.fallback_prefixes[1]", "twice"},
    {edit_prefixes, LIMIT, "spec.fallback_prefixes", "8"},
    {edit_prefix_method, INVALID, "spec.fallback_prefixes", "best-of-n"},
    {edit_max_zero, INVALID, "spec.max_tokens", "1..8192"},
    {edit_max, LIMIT, "spec.max_tokens", "1..8192"},
    {edit_tries_zero, INVALID, "spec.tries", "1..16"},
    {edit_tries, LIMIT, "spec.tries", "1..16"},
    {edit_too_many, LIMIT, "spec.n", "262144"},
    {edit_budget_nan, INVALID, "spec.budget", "nan"},
    {edit_budget_inf, INVALID, "spec.budget", "inf"},
    {edit_discount_zero, INVALID, "spec.discount", "(0, 1]"},
    {edit_discount_nan, INVALID, "spec.discount", "(0, 1]"},
    {edit_discount, INVALID, "spec.discount", "(0, 1]"},
    {edit_unit, INVALID, "spec.discount_unit", "token, block"},
    {edit_cost_mode, INVALID, "spec.cost_mode", "token_sum_pos"},
    {edit_admit, INVALID, "spec.admit_rule", "terminal, prefix"},
    {edit_cost_eos, INVALID, "spec.cost_eos", "none, append"},
    {edit_alpha, INVALID, "spec.rejection_alpha", "[0, 0.99]"},
    {edit_no_threshold, INVALID, "spec.reward_threshold", "cards has no default"},
    {edit_args_block, INVALID, "spec.block_tokens", "args takes 1 only"},
    {edit_omega, INVALID, "spec.omega", "[0, 1e+06]"},
    {edit_steps, LIMIT, "spec.steps", "1000"},
    {edit_step_size, INVALID, "spec.alpha", "[0, 1e+06]"},
    {edit_entropy, INVALID, "spec.entropy_threshold", "nan"},
    {edit_segment_min, INVALID, "spec.segment_tokens_min", "1..1024"},
    {edit_threshold, INVALID, "spec.reward_threshold", "inf"},
    {edit_threshold_start, INVALID, "spec.threshold_start", "[0, 1]"},
    {edit_accept_temperature, INVALID, "spec.accept_temperature", "[0, 1e+06]"},
    {edit_args_many, LIMIT, "spec.n", "262144"},
    {edit_tilt, INVALID, "spec.tilt", "none, identity, log, exp, exp_neg, optimal_bon"},
    {edit_tilt_t, INVALID, "spec.tilt_t", "(0, 500]"},
    {edit_tilt_n, LIMIT, "spec.tilt_n", "1024"},
    {edit_tilt_kl, INVALID, "spec.tilt_kl", "(0, 8]"},
    {edit_tilt_beta, INVALID, "spec.tilt_beta", "[0, 1e+300]"},
    {edit_tilt_rank_set, INVALID, "spec.tilt_rank_set", "admissible, all"},
    {edit_tilt_twice, INVALID, "spec.tilt_kl", "tilt_beta"},
    {edit_tilt_default_twice, INVALID, "spec.tilt_kl", "0.5, and tilt_beta 1"},
    {edit_segments_of_blocks, INVALID, "spec.segment_tokens_min", "4, and block_tokens 4"},
    {edit_segments_above_blocks, INVALID, "spec.segment_tokens_min", "64, and block_tokens 64"},
    {edit_segments_unread, INVALID, "spec.segment_tokens_min", "5 has no effect"},
    {edit_rewards_none, INVALID, "spec.calibration.rewards", "missing"},
    {edit_rewards_nan, INVALID, "spec.calibration.rewards[1]", "nan"},
    {edit_rewards_fall, INVALID, "spec.calibration.rewards[1]", "2 is not"},
    {edit_rollouts_none, INVALID, "spec.calibration", "rollouts"},
    {edit_rollouts_ranked, INVALID, "spec.tilt_rank_set", "rollouts"},
    {edit_tilt_stop, INVALID, "spec.early_stop", "tilt_rank_set all"},
    {edit_rejection_selection, INVALID, "spec.selection", "rejection is always augmented"},
    {edit_lambda, INVALID, "spec.lagrangian_lambda", "[0, 1e+06]"},
    {edit_penalty, INVALID, "spec.fallback_penalty", "log1p"},
    {edit_fallback_weight, INVALID, "spec.fallback_weight", "[0, 1e+06]"},
    {edit_fallback_cap, INVALID, "spec.fallback_cap", "[0, 1000]"},
    {edit_cost_min, INVALID, "spec.cost_min", "-inf"},
    {edit_deadline, LIMIT, "spec.deadline_ms", "604800000"},
    {edit_temperature, INVALID, "spec.sampling.temperature", "[0, 100]"},
    {edit_temperature_nan, INVALID, "spec.sampling.temperature", "[0, 100]"},
    {edit_top_k, LIMIT, "spec.sampling.top_k", "1048576"},
    {edit_top_p_zero, INVALID, "spec.sampling.top_p", "(0, 1]"},
    {edit_top_p_rounds_to_zero, INVALID, "spec.sampling.top_p",
     "1e-50 is outside (0, 1] in single precision"},
    {edit_temperature_above, INVALID, "spec.sampling.temperature", "100.00001 is outside [0, 100]"},
    {edit_top_p, INVALID, "spec.sampling.top_p", "(0, 1]"},
    {edit_repetition, INVALID, "spec.sampling.repetition_penalty", "(0, 100]"},
    {edit_frequency, INVALID, "spec.sampling.frequency_penalty", "[-100, 100]"},
    {edit_min_tokens, LIMIT, "spec.sampling.min_tokens", "0..128"},
    {edit_bias, INVALID, "spec.sampling.logit_bias[0].bias", "[-100, 100]"},
    {edit_stop_empty, INVALID, "spec.sampling.stop[0]", "empty"},
    {edit_stop_long, LIMIT, "spec.sampling.stop[0]", "256"},
    {edit_stops, LIMIT, "spec.sampling.stop", "16"},
    {edit_scorers, LIMIT, "spec.scorers", "8"},
    {edit_scorer_unnamed, INVALID, "spec.scorers[2].name", "64"},
    {edit_scorer_role, INVALID, "spec.scorers[1].role", "reward, cost"},
    {edit_weight_negative, INVALID, "spec.scorers[1].weight", "[0, 1e+06]"},
    {edit_weight_nan, INVALID, "spec.scorers[1].weight", "[0, 1e+06]"},
    {edit_scorer_twice, INVALID, "spec.scorers[1]", "demo-reward"},
    {edit_scorer_template, INVALID, "spec.scorers[0].chat_template", "chatml"},
    {edit_lexical_misplaced, INVALID, "spec.scorers[0].lexical", "only"},
    {edit_lexical_missing, INVALID, "spec.scorers[0].lexical", "missing"},
    {edit_lexical_role, INVALID, "spec.scorers[0].role", "missing"},
    {edit_lexical_empty, INVALID, "spec.scorers[0].lexical", "no rule"},
    {edit_lexical_entry, INVALID, "spec.scorers[0].lexical.required[0]", "512"},
    {edit_lexical_entries, LIMIT, "spec.scorers[0].lexical.required", "256"},
    {edit_rules_empty, INVALID, "spec.lexical", "no rule"},
    {edit_lexical_words, INVALID, "spec.scorers[0].lexical.words_min", "words_max"},
    {edit_channels, LIMIT, "spec.channels", "4"},
    {edit_channel_unnamed, INVALID, "spec.channels[0].name", "empty"},
    {edit_channel_cost, INVALID, "spec.channels[0].name", "of its own"},
    {edit_channel_rules, INVALID, "spec.channels[0].name", "of its own"},
    {edit_channel_twice, INVALID, "spec.channels[1].name", "a second channel named words"},
    {edit_channel_empty, INVALID, "spec.channels[1]", "no scorer is in channel b"},
    {edit_channel_models, INVALID, "spec.channels[0]", "no scorer is in channel words"},
    {edit_channel_unknown, INVALID, "spec.scorers[1].channel", "unknown channel \"word\""},
    {edit_channel_of_reward, INVALID, "spec.scorers[0].channel", "role reward"},
    {edit_rules_of_model, INVALID, "spec.scorers[1].channel", "rules of words alone"},
    {edit_channel_mode, INVALID, "spec.channels[0].cost_mode", "end_sign"},
    {edit_channel_budget, INVALID, "spec.channels[0].budget", "[-1e+09, 1e+09]"},
    {edit_channel_discount, INVALID, "spec.channels[0].discount", "(0, 1]"},
    {edit_channel_unit, INVALID, "spec.channels[0].discount_unit", "token, block"},
    {edit_channel_rule, INVALID, "spec.channels[0].admit_rule", "terminal, prefix"},
    {edit_channel_cost_min, INVALID, "spec.channels[0].cost_min", "[-1e+09, 1e+09]"},
};

static const struct bad_input bad_for_models[] = {
    {edit_unknown_scorer, INVALID, "spec.scorers[1].name", "demo-reward, demo-cost, lexical"},
    {edit_cost_min_unused, INVALID, "spec.cost_min", "end_sign"},
    {edit_cost_min_of_clamped, INVALID, "spec.cost_min", "0 under cost_mode token_sum_pos"},
    {edit_rules_too_many, LIMIT, "spec.lexical", "8"},
    {edit_channel_no_mode, INVALID, "spec.channels[0].cost_mode", "is missing"},
    {edit_channel_no_budget, INVALID, "spec.channels[0].budget", "is missing"},
    {edit_channel_negative, INVALID, "spec.channels[0].budget", "negative"},
    {edit_channel_min_unused, INVALID, "spec.channels[0].cost_min", "end_sign"},
    {edit_channel_of_reward_model, INVALID, "spec.scorers[0].channel", "role reward"},
    {edit_channel_without_cost, INVALID, "spec.channels[0]", "no cost scorer is in channel words"},
    {edit_channels_too_many, LIMIT, "spec.channels", "5 with those of the job"},
    {edit_no_reward, INVALID, "spec.scorers", "reward"},
    {edit_no_cost, INVALID, "spec.scorers", "cost"},
    {edit_no_cost_lagrangian, INVALID, "spec.scorers", "cost"},
    {edit_no_cost_augmented, INVALID, "spec.scorers", "cost"},
    {edit_block_group, LIMIT, "spec.block_tokens", "64"},
    {edit_longest_group, LIMIT, "spec.block_tokens_max", "64"},
    {edit_context, LIMIT, "spec.max_tokens", "512"},
    {edit_args_vocab, INVALID, "spec.n", "1000 tokens"},
    {edit_bias_vocab, INVALID, "spec.sampling.logit_bias[0].token_id", "1000"},
    {edit_budget_negative, INVALID, "spec.budget", "negative"},
    {edit_budget_of_nothing, INVALID, "spec.budget", "no scorer of role cost"},
    {edit_weightless, INVALID, "spec.scorers", "all those of channel cost have weight 0"},
    {edit_weightless_channel, INVALID, "spec.scorers", "weight"},
    {edit_rule_of_nothing, INVALID, "spec.admit_rule", "no scorer of role cost"},
};

static void test_bad_fields_are_refused_by_name_and_limit(void **state) {
    (void)state;
    memset(long_text, 'a', sizeof long_text - 1);
    for (size_t i = 0; i < sizeof bad_messages / sizeof bad_messages[0]; i++) {
        struct draft draft;
        draft_init(&draft);
        bad_messages[i].edit(&draft);
        expect_error(&draft, NULL, bad_messages[i].status, bad_messages[i].field,
                     bad_messages[i].part);
    }
}

static void set_early_stop(Surefoot__JobSpec *spec) {
    spec->has_early_stop = true;
}

static void set_alpha(Surefoot__JobSpec *spec) {
    spec->has_rejection_alpha = true;
    spec->rejection_alpha = 0.25;
}

static void set_start(Surefoot__JobSpec *spec) {
    spec->has_threshold_start = true;
    spec->threshold_start = 0.25;
}

static void set_steps(Surefoot__JobSpec *spec) {
    spec->has_steps = true;
    spec->steps = 7;
}
static void set_omega(Surefoot__JobSpec *spec) {
    spec->has_omega = true;
    spec->omega = 1;
}

static void set_tilt(Surefoot__JobSpec *spec) {
    spec->tilt = "log";
}

static void set_tries(Surefoot__JobSpec *spec) {
    spec->has_tries = true;
    spec->tries = 3;
}

static void set_survivors(Surefoot__JobSpec *spec) {
    spec->has_survivors = true;
    spec->survivors = 3;
}

static void set_lambda(Surefoot__JobSpec *spec) {
    spec->has_lagrangian_lambda = true;
    spec->lagrangian_lambda = 2;
}

static void set_growth(Surefoot__JobSpec *spec) {
    spec->has_block_growth = true;
    spec->block_growth = 3;
}

static void set_n_min(Surefoot__JobSpec *spec) {
    spec->has_n_min = true;
    spec->n_min = 1;
}

static void set_patience(Surefoot__JobSpec *spec) {
    spec->has_patience = true;
    spec->patience = 5;
}

static void set_discount_reward(Surefoot__JobSpec *spec) {
    spec->has_discount_reward = true;
}

static void set_penalty(Surefoot__JobSpec *spec) {
    spec->fallback_penalty = "binary";
}

static void set_weight(Surefoot__JobSpec *spec) {
    spec->has_fallback_weight = true;
    spec->fallback_weight = 1;
}

static void set_cap(Surefoot__JobSpec *spec) {
    spec->has_fallback_cap = true;
    spec->fallback_cap = 1;
}

// Method and selection by row, field by column: whether the job reads it.
static void test_field_that_the_method_does_not_read_is_refused(void **state) {
    (void)state;
    static const struct {
        const char *field;
        void (*set)(Surefoot__JobSpec *spec);
    } fields[] = {
        {"spec.survivors", set_survivors},
        {"spec.block_growth", set_growth},
        {"spec.n_min", set_n_min},
        {"spec.patience", set_patience},
        {"spec.tries", set_tries},
        {"spec.fallback_penalty", set_penalty},
        {"spec.fallback_weight", set_weight},
        {"spec.fallback_cap", set_cap},
        {"spec.discount_reward", set_discount_reward},
        {"spec.lagrangian_lambda", set_lambda},
        {"spec.early_stop", set_early_stop},
        {"spec.rejection_alpha", set_alpha},
        {"spec.threshold_start", set_start},
        {"spec.omega", set_omega},
        {"spec.tilt", set_tilt},
        {"spec.steps", set_steps},
    };
    static const struct {
        char *method;
        char *selection;
        const char *read; // 'x': by the field of that index
    } methods[] = {
        {"sample", NULL, "----------------"},
        {"best-of-n", NULL, "--------------x-"},
        {"best-of-n", "lagrangian", "---------x------"},
        {"best-of-n", "augmented", "----------x---x-"},
        {"beam", NULL, "x---------------"},
        {"beam", "lagrangian", "x--------x------"},
        {"beam", "augmented", "x-------x-------"},
        {NULL, NULL, "xxxxxxxxx-------"},
        {"inference-guard", "augmented", "xxxxxxxxx-------"},
        {"rejection", NULL, "----------x-----"},
        {"speculative-rejection", NULL, "-----------x----"},
        {"speculative-rejection", "lagrangian", "---------x-x----"},
        {"speculative-rejection", "augmented", "-----------x----"},
        {"args", NULL, "-------------x--"},
        {"args", "lagrangian", "---------x---x--"},
        {"re-control", NULL, "---------------x"},
        {"re-control", "lagrangian", "---------x-----x"},
        {"re-control", "augmented", "----------x----x"},
    };
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++) {
        for (size_t j = 0; j < sizeof fields / sizeof fields[0]; j++) {
            struct draft draft;
            struct job_spec *spec = NULL;
            struct error err = {0};
            bool alone = i == 0 || (methods[i].method != NULL &&
                                    strcmp(methods[i].method, "re-control") == 0);
            if (alone && (fields[j].set == set_survivors || fields[j].set == set_n_min)) {
                continue; // of one candidate there is one survivor, the default
            }
            draft_init(&draft);
            draft.spec.method = methods[i].method;
            draft.spec.selection = methods[i].selection;
            fields[j].set(&draft.spec);
            assert_ok(create(&draft, &spec, &err), &err); // as a stored one is read
            enum status status = job_spec_check_unread(spec, &err);
            if (methods[i].read[j] == 'x') {
                assert_ok(status, &err);
            } else {
                assert_int_equal(status, INVALID);
                assert_string_equal(err.field, fields[j].field);
                assert_non_null(
                    strstr(err.message, methods[i].method != NULL ? methods[i].method : "guard"));
            }
            job_spec_destroy(spec);
        }
    }
}

static void test_options_of_a_draw_are_refused_where_nothing_is_drawn(void **state) {
    (void)state;
    static const char *const fields[] = {
        "temperature", "top_k", "top_p", "repetition_penalty", "frequency_penalty", "logit_bias"};
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        struct draft draft;
        struct job_spec *spec = NULL;
        struct error err = {0};
        char expected[64];
        draft_init(&draft);
        use_sampling(&draft);
        draft.spec.method = "args";
        draft.sampling.has_temperature = true;
        draft.sampling.temperature = i == 0 ? 0 : 1;
        draft.sampling.has_top_k = i == 1;
        draft.sampling.top_k = 5;
        draft.sampling.has_top_p = i == 2;
        draft.sampling.top_p = 0.5;
        draft.sampling.has_repetition_penalty = i == 3;
        draft.sampling.repetition_penalty = 2;
        draft.sampling.has_frequency_penalty = i == 4;
        draft.sampling.frequency_penalty = 1;
        draft.bias.has_token_id = draft.bias.has_bias = true;
        draft.sampling.logit_bias = draft.bias_list;
        draft.sampling.n_logit_bias = i == 5 ? 1 : 0;
        assert_ok(create(&draft, &spec, &err), &err);
        assert_int_equal(job_spec_check_unread(spec, &err), INVALID);
        snprintf(expected, sizeof expected, "spec.sampling.%s", fields[i]);
        assert_string_equal(err.field, expected);
        assert_non_null(strstr(err.message, "args"));
        job_spec_destroy(spec);
    }
}

static void test_fallback_of_a_step_with_one_try_is_refused(void **state) {
    (void)state;
    static void (*const sets[])(Surefoot__JobSpec *) = {set_penalty, set_weight, set_cap};
    static const char *const fields[] = {"spec.fallback_penalty", "spec.fallback_weight",
                                         "spec.fallback_cap"};
    for (size_t i = 0; i < 3; i++) {
        struct draft draft;
        struct job_spec *spec = NULL;
        struct error err = {0};
        draft_init(&draft);
        draft.spec.has_tries = true;
        draft.spec.tries = 1;
        sets[i](&draft.spec);
        assert_ok(create(&draft, &spec, &err), &err);
        assert_int_equal(job_spec_check_unread(spec, &err), INVALID);
        assert_string_equal(err.field, fields[i]);
        assert_non_null(strstr(err.message, "tries 1"));
        job_spec_destroy(spec);
    }
}

static void set_tilt_t(Surefoot__JobSpec *spec) {
    spec->has_tilt_t = true;
    spec->tilt_t = 5;
}

static void set_tilt_n(Surefoot__JobSpec *spec) {
    spec->has_tilt_n = true;
    spec->tilt_n = 2;
}

static void set_tilt_kl(Surefoot__JobSpec *spec) {
    spec->has_tilt_kl = true;
    spec->tilt_kl = 1;
}

static void set_tilt_beta(Surefoot__JobSpec *spec) {
    spec->has_tilt_beta = true;
    spec->tilt_beta = 1;
}

static void set_tilt_rank_set(Surefoot__JobSpec *spec) {
    spec->tilt_rank_set = "all";
}

static void test_fields_of_a_tilt_that_is_not_there_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *field;
        void (*set)(Surefoot__JobSpec *spec);
    } fields[] = {{"spec.tilt_t", set_tilt_t},
                  {"spec.tilt_n", set_tilt_n},
                  {"spec.tilt_kl", set_tilt_kl},
                  {"spec.tilt_beta", set_tilt_beta},
                  {"spec.tilt_rank_set", set_tilt_rank_set}};
    static const struct {
        char *tilt;
        const char *read;
    } tilts[] = {{NULL, "-----"},         {"identity", "-xxxx"}, {"log", "-xxxx"},
                 {"exp", "xxxxx"},        {"exp_neg", "xxxxx"},  {"optimal_bon", "-xxxx"},
                 {"optimal_won", "-xxxx"}};
    for (size_t i = 0; i < sizeof tilts / sizeof tilts[0]; i++) {
        for (size_t j = 0; j < sizeof fields / sizeof fields[0]; j++) {
            struct draft draft;
            struct job_spec *spec = NULL;
            struct error err = {0};
            draft_init(&draft);
            draft.spec.method = "best-of-n";
            draft.spec.tilt = tilts[i].tilt;
            fields[j].set(&draft.spec);
            assert_ok(create(&draft, &spec, &err), &err);
            enum status status = job_spec_check_unread(spec, &err);
            if (tilts[i].read[j] == 'x') {
                assert_ok(status, &err);
            } else {
                assert_int_equal(status, INVALID);
                assert_string_equal(err.field, fields[j].field);
                assert_non_null(
                    strstr(err.message, tilts[i].tilt != NULL ? tilts[i].tilt : "none"));
            }
            job_spec_destroy(spec);
        }
    }
}

static void test_what_the_models_lack_is_refused(void **state) {
    (void)state;
    struct model_set models = demo_models();
    for (size_t i = 0; i < sizeof bad_for_models / sizeof bad_for_models[0]; i++) {
        struct draft draft;
        draft_init(&draft);
        bad_for_models[i].edit(&draft);
        expect_error(&draft, &models, bad_for_models[i].status, bad_for_models[i].field,
                     bad_for_models[i].part);
    }
}

static void test_states_that_could_not_be_sent_are_refused(void **state) {
    (void)state;
    struct model_set models = demo_models();
    struct draft draft;
    draft_init(&draft);
    draft.spec.method = "sample";
    draft.spec.has_states = draft.spec.states = true;
    draft.spec.has_max_tokens = draft.spec.has_block_tokens = true;
    draft.spec.max_tokens = 256;
    draft.spec.block_tokens = 1;
    expect_error(&draft, &models, STATUS_UNSUPPORTED, "spec.states", "how large");
    models.policy.hidden_dim = 4096; // 256 states of 8 KiB are 2 MiB
    draft.spec.max_tokens = 257;
    expect_error(&draft, &models, STATUS_LIMIT, "spec.states", "257");
    draft.spec.max_tokens = 256;
    struct job_spec *spec = NULL;
    struct error err = {0};
    assert_ok(create(&draft, &spec, &err), &err);
    assert_ok(job_spec_resolve(spec, &models, &err), &err);
    assert_int_equal(spec->state_bytes, 8192);
    job_spec_destroy(spec);
    draft.spec.method = "best-of-n";
    assert_ok(create(&draft, &spec, &err), &err);
    assert_int_equal(job_spec_check_unread(spec, &err), INVALID);
    assert_string_equal(err.field, "spec.states");
    job_spec_destroy(spec);
}

static void test_cost_mode_and_budget_have_no_silent_default(void **state) {
    (void)state;
    struct model_set models = demo_models();
    struct draft draft;
    draft_init(&draft);
    models.scorers[1].cost_mode[0] = '\0';
    expect_error(&draft, &models, INVALID, "spec.cost_mode", "token_sum_pos");
    models = demo_models();
    models.scorers[1].has_budget = false;
    expect_error(&draft, &models, INVALID, "spec.budget", "missing");
    models = demo_models();
    draft.spec.cost_mode = "end_sign"; // the profile's budget is for token_sum_pos
    expect_error(&draft, &models, INVALID, "spec.budget", "end_sign");
}

static void test_defaults_come_from_the_method_and_the_profile(void **state) {
    (void)state;
    struct model_set models = demo_models();
    struct draft draft;
    draft_init(&draft);
    struct error err = {0};
    struct job_spec *spec;
    assert_ok(create(&draft, &spec, &err), &err);
    assert_ok(job_spec_resolve(spec, &models, &err), &err);
    const struct search_spec *search = &spec->search;
    assert_int_equal(search->method, SEARCH_METHOD_INFERENCE_GUARD);
    assert_int_equal(search->selection, SEARCH_SELECTION_AUGMENTED);
    assert_int_equal(search->n, 32);
    assert_int_equal(search->survivors, 8);
    assert_true(search->block_tokens == 2 && search->block_growth == 1.1);
    assert_true(search->block_tokens_max == 32 && search->n_min == 8 && search->patience == 4);
    assert_int_equal(search->abort_tokens, 8);
    assert_true(search->fallback_temperature == 1.5);
    assert_int_equal(search->max_tokens, 128);
    assert_int_equal(search->tries, 2);
    assert_true(search->n_channels == 1 && search->channels[0].has_cost_min && search->early_stop);
    assert_true(search->channels[0].budget == 4 && search->discount == 0.99 &&
                search->channels[0].cost_min == 0);
    assert_int_equal(search->channels[0].cost_mode, COST_MODE_TOKEN_SUM_POS);
    assert_int_equal(search->channels[0].admit_rule, ADMIT_RULE_TERMINAL);
    assert_int_equal(search->discount_unit, DISCOUNT_UNIT_TOKEN);
    assert_true(search->lagrangian_lambda == 5 && search->fallback_weight == 3);
    assert_true(search->fallback_cap == 10 && search->discount_reward);
    assert_int_equal(search->fallback_penalty, FALLBACK_PENALTY_LOG1P);
    assert_int_equal(search->n_exempt, 3);
    assert_int_equal(search->exempt_ids[2], 2);
    assert_true(spec->cost_eos_append);
    assert_int_equal(spec->n_scorers, 2);
    assert_string_equal(spec->scorers[1].name, "demo-cost");
    assert_int_equal(spec->scorers[1].role, SCORER_ROLE_COST);
    assert_true(spec->scorers[1].weight == 1);
    job_spec_destroy(spec);
}

static struct model_set models_with_generation(void) {
    struct model_set models = demo_models();
    models.policy.has_generation = true;
    surefoot__generation_defaults__init(&models.policy.generation);
    Surefoot__GenerationDefaults *generation = &models.policy.generation;
    generation->has_temperature = generation->has_top_k = generation->has_top_p = true;
    generation->has_repetition_penalty = generation->has_max_new_tokens = true;
    generation->temperature = 0.6;
    generation->top_k = 20;
    generation->top_p = 0.9;
    generation->repetition_penalty = 1.1;
    generation->max_new_tokens = 100;
    return models;
}

static struct job_spec *resolve(const struct draft *draft, const struct model_set *models) {
    struct error err = {0};
    struct job_spec *spec;
    assert_ok(create(draft, &spec, &err), &err);
    assert_ok(job_spec_resolve(spec, models, &err), &err);
    return spec;
}

static void test_absent_sampling_is_the_models_own(void **state) {
    (void)state;
    struct model_set models = models_with_generation();
    struct draft draft;
    draft_init(&draft);
    struct job_spec *spec = resolve(&draft, &models);
    const Surefoot__Sampling *sampling = &spec->sampling.message;
    assert_true(sampling->temperature == 0.6 && sampling->top_p == 0.9);
    assert_true(sampling->top_k == 20 && sampling->repetition_penalty == 1.1);
    assert_true(sampling->has_frequency_penalty && sampling->frequency_penalty == 0);
    assert_int_equal(spec->search.max_tokens, 100);
    static const char *const names[] = {"temperature", "top_k", "top_p", "repetition_penalty",
                                        "max_tokens"};
    assert_int_equal(spec->sampling.n_from_model, 5);
    for (size_t i = 0; i < 5; i++) {
        assert_string_equal(spec->sampling.from_model[i], names[i]);
    }
    job_spec_destroy(spec);
    // What the job names, its default included, is what it gets.
    use_sampling(&draft);
    draft.sampling.has_temperature = draft.sampling.has_top_k = draft.spec.has_max_tokens = true;
    draft.sampling.temperature = 1;
    draft.spec.max_tokens = 300;
    spec = resolve(&draft, &models);
    sampling = &spec->sampling.message;
    assert_true(sampling->temperature == 1 && sampling->top_k == 0 && sampling->top_p == 0.9);
    assert_int_equal(spec->search.max_tokens, 300);
    assert_int_equal(spec->sampling.n_from_model, 2);
    job_spec_destroy(spec);
    // Switched off.
    draft_init(&draft);
    draft.spec.generation_defaults = "none";
    spec = resolve(&draft, &models);
    sampling = &spec->sampling.message;
    assert_true(sampling->temperature == 1 && sampling->top_k == 0 && sampling->top_p == 1);
    assert_true(sampling->repetition_penalty == 1);
    assert_int_equal(spec->search.max_tokens, 128);
    assert_int_equal(spec->sampling.n_from_model, 0);
    job_spec_destroy(spec);
}

// One answer is drawn greedily where the model says so; a search over candidates needs different
// ones.
static void test_do_sample_false_is_followed_by_single_samples(void **state) {
    (void)state;
    struct model_set models = models_with_generation();
    models.policy.generation.has_do_sample = true;
    struct draft draft;
    draft_init(&draft);
    struct job_spec *spec = resolve(&draft, &models);
    assert_true(spec->sampling.message.temperature == 0.6);
    job_spec_destroy(spec);
    draft.spec.method = "sample";
    spec = resolve(&draft, &models);
    assert_true(spec->sampling.message.temperature == 0);
    assert_string_equal(spec->sampling.from_model[0], "do_sample");
    job_spec_destroy(spec);
    use_sampling(&draft);
    draft.sampling.has_temperature = true;
    draft.sampling.temperature = 0.3;
    spec = resolve(&draft, &models);
    assert_true(spec->sampling.message.temperature == 0.3);
    job_spec_destroy(spec);
}

static void test_the_models_length_keeps_to_the_limits(void **state) {
    (void)state;
    struct model_set models = models_with_generation();
    models.policy.generation.max_new_tokens = 2147483647;
    struct draft draft;
    draft_init(&draft);
    struct job_spec *spec = resolve(&draft, &models);
    assert_int_equal(spec->search.max_tokens, 256); // half of the context
    job_spec_destroy(spec);
    models.policy.context_length = 100000;
    spec = resolve(&draft, &models);
    assert_int_equal(spec->search.max_tokens, LIMIT_MAX_TOKENS);
    job_spec_destroy(spec);
    models.policy.generation.max_new_tokens = 48;
    use_sampling(&draft);
    draft.sampling.has_min_tokens = true;
    draft.sampling.min_tokens = 60;
    expect_error(&draft, &models, STATUS_LIMIT, "spec.sampling.min_tokens", "48");
    models.policy.generation.max_new_tokens = 8000;
    draft.sampling.min_tokens = 0;
    draft.spec.has_n = true;
    draft.spec.n = 4096;
    draft.spec.method = "beam";
    expect_error(&draft, &models, STATUS_LIMIT, "spec.n", "candidates");
    draft_init(&draft);
    draft.spec.generation_defaults = "library";
    expect_error(&draft, NULL, INVALID, "spec.generation_defaults", "model, none");
}

static void test_groups_must_agree_about_generation(void **state) {
    (void)state;
    struct model_set ours = models_with_generation(), other = ours;
    struct error err = {0};
    assert_ok(model_set_agree(&ours, &other, &err), &err);
    other.policy.generation.top_p = 0.8;
    assert_status(INVALID, model_set_agree(&ours, &other, &err));
    assert_non_null(strstr(err.message, "generation_config"));
}

static void test_a_groups_generation_is_refused_by_its_own_number(void **state) {
    (void)state;
    static const struct {
        double temperature, top_p;
        const char *field, *message;
    } cases[] = {
        {100.00001, 1, "policy.generation.temperature", "100.00001 is outside [0, 100]"},
        {1, 1e-50, "policy.generation.top_p", "1e-50 is outside (0, 1] in single precision"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct model_set models = models_with_generation();
        Surefoot__GenerationDefaults generation = models.policy.generation;
        generation.temperature = cases[i].temperature;
        generation.top_p = cases[i].top_p;
        Surefoot__ModelInfo policy = SUREFOOT__MODEL_INFO__INIT;
        policy.name = "policy";
        policy.generation = &generation;
        Surefoot__GroupHello hello = SUREFOOT__GROUP_HELLO__INIT;
        hello.policy = &policy;
        struct model_set read;
        struct error err = {0};
        assert_status(INVALID, model_set_read(&hello, &read, &err));
        assert_string_equal(err.field, cases[i].field);
        assert_string_equal(err.message, cases[i].message);
    }
}

static void test_job_fields_override_the_profile(void **state) {
    (void)state;
    struct model_set models = demo_models();
    models.scorers[1].has_cost_min = true;
    models.scorers[1].cost_min = -2;
    struct draft draft;
    draft_init(&draft);
    use_scorers(&draft, 2);
    draft.scorers[1].has_weight = true;
    draft.scorers[1].weight = 3;
    draft.spec.cost_mode = "token_sum";
    draft.spec.cost_eos = "none";
    draft.spec.has_discount = true;
    draft.spec.discount = 1;
    draft.spec.has_budget = true;
    draft.spec.budget = -1;
    struct error err = {0};
    struct job_spec *spec;
    assert_ok(create(&draft, &spec, &err), &err);
    assert_ok(job_spec_resolve(spec, &models, &err), &err);
    assert_int_equal(spec->search.channels[0].cost_mode, COST_MODE_TOKEN_SUM);
    assert_true(spec->search.discount == 1 && spec->search.channels[0].budget == -1);
    assert_false(spec->cost_eos_append);
    // The profile's smallest token cost was meant for its own mode.
    assert_false(spec->search.channels[0].has_cost_min);
    job_spec_destroy(spec);
    // In its own mode it counts, and the one of a weighted scorer is weighted too.
    snprintf(models.scorers[1].cost_mode, sizeof models.scorers[1].cost_mode, "token_sum");
    assert_ok(create(&draft, &spec, &err), &err);
    assert_ok(job_spec_resolve(spec, &models, &err), &err);
    assert_true(spec->search.channels[0].has_cost_min && spec->search.channels[0].cost_min == -6);
    job_spec_destroy(spec);
}

// The job's rules of words are a cost scorer beside the models' or beside those that it names.
static void test_rules_of_words_are_a_scorer_beside_the_others(void **state) {
    (void)state;
    struct model_set models = demo_models();
    struct error err = {0};
    for (size_t n = 0; n <= 2; n += 2) {
        struct draft draft;
        draft_init(&draft);
        if (n > 0) {
            use_scorers(&draft, n);
        }
        draft.spec.lexical = &draft.lexical;
        draft.words[0] = "please";
        draft.lexical.forbidden = draft.words;
        draft.lexical.n_forbidden = 1;
        struct job_spec *spec;
        assert_ok(create(&draft, &spec, &err), &err);
        assert_ok(job_spec_resolve(spec, &models, &err), &err);
        assert_int_equal(spec->n_scorers, 3);
        assert_string_equal(spec->scorers[2].name, "lexical");
        assert_int_equal(spec->scorers[2].role, SCORER_ROLE_COST);
        assert_true(spec->scorers[2].weight == 1);
        assert_string_equal(spec->scorers[2].lexical->forbidden[0], "please");
        assert_int_equal(spec->search.channels[0].cost_mode, COST_MODE_TOKEN_SUM_POS);
        job_spec_destroy(spec);
    }
}

static struct job_spec *resolved(const struct draft *draft) {
    struct model_set models = demo_models();
    struct error err = {0};
    struct job_spec *spec = NULL;
    assert_ok(create(draft, &spec, &err), &err);
    assert_ok(job_spec_check_unread(spec, &err), &err);
    assert_ok(job_spec_resolve(spec, &models, &err), &err);
    return spec;
}

static void test_channels_stand_in_order_with_fields_of_their_own(void **state) {
    (void)state;
    struct draft draft;
    draft_init(&draft);
    use_channel(&draft);
    draft.spec.lexical = &draft.lexical; // in rules, beside the one in words
    draft.channels[0].admit_rule = "prefix";
    draft.channels[0].has_discount = true;
    draft.channels[0].discount = 0.5;
    draft.channels[0].discount_unit = "block";
    draft.channels[0].has_cost_min = true;
    draft.channels[0].cost_min = -3;
    struct job_spec *spec = resolved(&draft);
    assert_int_equal(spec->n_channels, 3);
    assert_string_equal(spec->channels[0], "cost");
    assert_string_equal(spec->channels[1], "words");
    assert_string_equal(spec->channels[2], "rules");
    const struct search_spec *search = &spec->search;
    assert_int_equal(search->n_channels, 3);
    assert_true(search->scorers[1].is_cost && search->scorers[1].channel == 0);
    assert_true(search->scorers[2].is_cost && search->scorers[2].channel == 1);
    assert_true(search->scorers[3].is_cost && search->scorers[3].channel == 2);
    assert_true(search->channels[0].budget == 4 && search->channels[0].discount == 0.99);
    assert_true(search->discount == 0.99);
    const struct search_channel *words = &search->channels[1];
    assert_int_equal(words->cost_mode, COST_MODE_TOKEN_SUM);
    assert_int_equal(words->admit_rule, ADMIT_RULE_PREFIX);
    assert_int_equal(words->discount_unit, DISCOUNT_UNIT_BLOCK);
    assert_true(words->budget == 2 && words->discount == 0.5);
    assert_true(words->has_cost_min && words->cost_min == -3);
    const struct search_channel *rules = &search->channels[2];
    assert_int_equal(rules->cost_mode, COST_MODE_TOKEN_SUM_POS);
    assert_true(rules->budget == 0 && rules->discount == 1);
    job_spec_destroy(spec);
    // A model's profile speaks for the channel that it is in; nothing is left in cost then.
    draft.scorers[1].channel = "words";
    draft.channels[0] = draft.channels[1];
    draft.channels[0].name = "words";
    draft.channels[0].cost_mode = NULL;
    draft.channels[0].has_budget = false;
    spec = resolved(&draft);
    assert_int_equal(spec->n_channels, 2);
    assert_string_equal(spec->channels[0], "words");
    assert_int_equal(spec->search.channels[0].cost_mode, COST_MODE_TOKEN_SUM_POS);
    assert_true(spec->search.channels[0].budget == 4);
    assert_true(spec->search.channels[0].discount == 0.99 && spec->search.discount == 0.999);
    job_spec_destroy(spec);
    // Words can be costs among others, if they say so.
    draft.spec.n_channels = 0;
    draft.scorers[1].channel = NULL;
    draft.scorers[2].channel = "cost";
    draft.spec.lexical = NULL;
    spec = resolved(&draft);
    assert_int_equal(spec->n_channels, 1);
    assert_true(spec->search.scorers[2].channel == 0);
    job_spec_destroy(spec);
}

// Rules need no budget and no mode, and take none.
static void test_rules_of_words_alone_are_a_whole_job(void **state) {
    (void)state;
    struct draft draft;
    draft_init(&draft);
    use_lexical(&draft);
    draft.spec.n_scorers = 2;
    draft.scorers[1].name = "demo-reward";
    struct job_spec *spec = resolved(&draft);
    assert_int_equal(spec->n_channels, 1);
    assert_string_equal(spec->channels[0], "rules");
    job_spec_destroy(spec);
    static const char *const fields[] = {"spec.budget", "spec.cost_mode", "spec.admit_rule",
                                         "spec.cost_min", "spec.scorers[0].weight"};
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        struct draft other = draft;
        struct error err = {0};
        other.submit.spec = &other.spec;
        other.scorer_list[0] = &other.scorers[0];
        other.spec.scorers = other.scorer_list;
        other.spec.has_budget = i == 0;
        other.spec.cost_mode = i == 1 ? "token_sum" : NULL;
        other.spec.admit_rule = i == 2 ? "prefix" : NULL;
        other.spec.has_cost_min = i == 3;
        other.scorers[0].has_weight = i == 4;
        other.scorers[0].weight = 0;
        struct model_set models = demo_models();
        assert_ok(create(&other, &spec, &err), &err); // as a stored one is read
        enum status status = job_spec_check_unread(spec, &err);
        assert_int_equal(status, i == 4 ? INVALID : STATUS_OK);
        assert_status(INVALID, i == 4 ? status : job_spec_resolve(spec, &models, &err));
        assert_string_equal(err.field, fields[i]);
        job_spec_destroy(spec);
    }
}

static void test_stored_bytes_ignore_streaming(void **state) {
    (void)state;
    struct draft draft;
    draft_init(&draft);
    uint8_t *bytes[2];
    size_t sizes[2];
    for (int i = 0; i < 2; i++) {
        struct error err = {0};
        struct job_spec *spec;
        draft.submit.has_stream = i == 1;
        draft.submit.stream = i == 1;
        assert_ok(create(&draft, &spec, &err), &err);
        assert_ok(job_spec_pack(spec, &bytes[i], &sizes[i]), NULL);
        job_spec_destroy(spec);
    }
    assert_int_equal(sizes[0], sizes[1]);
    assert_memory_equal(bytes[0], bytes[1], sizes[0]);
    free(bytes[0]);
    free(bytes[1]);
}

static bool drafts_agree(const struct draft *a, const struct draft *b) {
    uint8_t *bytes[2] = {NULL, NULL};
    size_t sizes[2];
    bool same = false;
    assert_ok(wire_pack(WIRE_SUBMIT_JOB, &a->submit, &bytes[0], &sizes[0]), NULL);
    assert_ok(wire_pack(WIRE_SUBMIT_JOB, &b->submit, &bytes[1], &sizes[1]), NULL);
    assert_ok(same_job(bytes[0], sizes[0], bytes[1], sizes[1], &same), NULL);
    free(bytes[0]);
    free(bytes[1]);
    return same;
}

// Gives every field its default, as docs/protocol.md has it.
static void spell_defaults(struct draft *draft, const char *method) {
    Surefoot__JobSpec *spec = &draft->spec;
    bool sample = strcmp(method, "sample") == 0 || strcmp(method, "re-control") == 0;
    spec->method = (char *)method;
    bool augmented = strcmp(method, "inference-guard") == 0 || strcmp(method, "rejection") == 0;
    spec->selection = augmented ? "augmented" : "plain";
    spec->has_n = spec->has_survivors = spec->has_block_tokens = spec->has_max_tokens = true;
    spec->n = sample ? 1 : 32;
    spec->survivors = sample ? 1 : 8;
    spec->block_tokens = strcmp(method, "args") == 0 ? 1 : augmented && method[0] == 'i' ? 2 : 4;
    spec->has_block_growth = spec->has_block_tokens_max = true;
    spec->has_n_min = spec->has_patience = true;
    spec->block_growth = 1.1;
    spec->block_tokens_max = 32;
    spec->n_min = sample ? 1 : 8;
    spec->patience = 4;
    spec->has_abort_tokens = true;
    spec->abort_tokens = 8;
    spec->has_fallback_temperature = true;
    spec->fallback_temperature = 1.5;
    spec->max_tokens = 128;
    spec->content_tokens = "as-text";
    spec->has_continue_final_message = true;
    spec->has_tries = spec->has_discount_reward = spec->has_early_stop = spec->has_seed = true;
    spec->tries = 2;
    spec->discount_reward = spec->early_stop = true;
    spec->discount_unit = "token";
    spec->admit_rule = "terminal";
    spec->fallback_penalty = "log1p";
    spec->has_lagrangian_lambda = spec->has_fallback_weight = spec->has_fallback_cap = true;
    spec->lagrangian_lambda = 5;
    spec->fallback_weight = 3;
    spec->fallback_cap = 10;
    spec->has_rejection_alpha = true;
    spec->rejection_alpha = 0.5;
    spec->has_threshold_start = spec->has_accept_temperature = spec->has_entropy_threshold = true;
    spec->threshold_start = 0.5;
    spec->accept_temperature = 0.7;
    spec->entropy_threshold = 3;
    spec->has_segment_tokens_min = spec->has_omega = true;
    spec->segment_tokens_min = 4;
    spec->omega = 2.5;
    spec->has_steps = spec->has_alpha = true;
    spec->steps = 30;
    spec->alpha = 0.5;
    spec->tilt = "none";
    spec->has_tilt_t = spec->has_tilt_n = spec->has_tilt_kl = spec->has_tilt_beta = true;
    spec->tilt_t = 10;
    spec->tilt_n = 4;
    spec->tilt_kl = 0.5;
    spec->tilt_sampler = "ranks";
    spec->tilt_rank_set = "admissible";
    spec->has_calibrate = true;
    spec->has_deadline_ms = true;
    spec->sampling = &draft->sampling;
    draft->sampling.has_temperature = draft->sampling.has_top_k = draft->sampling.has_top_p = true;
    draft->sampling.temperature = draft->sampling.top_p = 1;
    draft->sampling.has_repetition_penalty = draft->sampling.has_frequency_penalty = true;
    draft->sampling.repetition_penalty = 1;
    draft->sampling.has_min_tokens = true;
}

static void test_variables_in_another_order_are_the_same_job(void **state) {
    (void)state;
    struct draft a;
    struct draft b;
    draft_init(&a);
    draft_init(&b);
    use_variable(&a, "enable_thinking", "x");
    use_variable(&a, "effort", "high");
    use_variable(&b, "effort", "high");
    assert_false(drafts_agree(&a, &b));
    use_variable(&b, "enable_thinking", "x");
    assert_true(drafts_agree(&a, &b));
    b.variables[0].text = "low";
    assert_false(drafts_agree(&a, &b));
}

static void test_defaults_of_a_channel_make_no_other_job(void **state) {
    (void)state;
    struct draft a;
    struct draft b;
    draft_init(&a);
    draft_init(&b);
    use_channel(&a);
    use_channel(&b);
    b.channels[0].admit_rule = "terminal";
    b.channels[0].discount_unit = "token";
    assert_true(drafts_agree(&a, &b));
    b.channels[0].admit_rule = "prefix";
    assert_false(drafts_agree(&a, &b));
    b.channels[0].admit_rule = NULL;
    b.channels[0].has_discount = true; // a model may have a default for it
    b.channels[0].discount = 0.999;
    assert_false(drafts_agree(&a, &b));
}

static void test_default_given_is_the_same_job_as_default_left_out(void **state) {
    (void)state;
    static const char *const names[] = {
        "inference-guard",       "best-of-n", "beam",      "sample", "rejection",
        "speculative-rejection", "args",      "re-control"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct draft absent;
        struct draft given;
        draft_init(&absent);
        draft_init(&given);
        absent.spec.method = i > 0 ? (char *)names[i] : NULL;
        spell_defaults(&given, names[i]);
        // What a model may give is not known: only without it its defaults are those written down.
        assert_false(drafts_agree(&absent, &given));
        absent.spec.generation_defaults = given.spec.generation_defaults = "none";
        // What the model may have a default for is another job where it is asked.
        given.spec.generation_defaults = "model";
        assert_false(drafts_agree(&absent, &given));
        given.spec.generation_defaults = absent.spec.generation_defaults = "none";
        assert_true(drafts_agree(&absent, &given));
        // The defaults above are those that a job takes.
        struct job_spec *specs[2];
        struct draft *drafts[2] = {&absent, &given};
        for (int k = 0; k < 2; k++) {
            uint8_t *bytes;
            size_t size;
            void *message;
            struct error err;
            assert_ok(wire_pack(WIRE_SUBMIT_JOB, &drafts[k]->submit, &bytes, &size), NULL);
            assert_ok(wire_unpack(WIRE_SUBMIT_JOB, bytes, size, &message, &err), &err);
            assert_ok(job_spec_create(message, &specs[k], &err), &err);
            assert_ok(job_spec_check_unread(specs[k], &err), &err);
            free(bytes);
        }
        assert_memory_equal(&specs[0]->search, &specs[1]->search, sizeof specs[0]->search);
        assert_true(specs[0]->seed == specs[1]->seed);
        assert_int_equal(specs[0]->deadline_ms, specs[1]->deadline_ms);
        job_spec_destroy(specs[0]);
        job_spec_destroy(specs[1]);
        given.spec.tries = 3;
        assert_false(drafts_agree(&absent, &given));
        given.spec.tries = 2;
        given.sampling.top_k = 5;
        assert_false(drafts_agree(&absent, &given));
        given.sampling.top_k = 0;
        given.spec.early_stop = false;
        assert_false(drafts_agree(&absent, &given));
        given.spec.early_stop = true;
        given.spec.prompt = "Another story.";
        assert_false(drafts_agree(&absent, &given));
    }
}

// Models whose groups have a value network of the reward, or of reward - lambda cost.
static struct model_set models_with_value(double lambda) {
    struct model_set models = demo_models();
    snprintf(models.scorers[0].hash, sizeof models.scorers[0].hash, "reward-hash");
    snprintf(models.scorers[1].hash, sizeof models.scorers[1].hash, "cost-hash");
    snprintf(models.policy.chat_template, sizeof models.policy.chat_template, "beaver");
    models.value = (struct critic_description){.hash = "value-hash",
                                               .chat_template = "beaver",
                                               .n_rewards = 1,
                                               .rewards = {{.hash = "reward-hash", .weight = 1}},
                                               .lambda = lambda};
    if (lambda > 0) {
        models.value.n_channels = 1;
        models.value.channels[0] =
            (struct critic_channel_description){.scorer = {.hash = "cost-hash", .weight = 1},
                                                .cost_mode = COST_MODE_TOKEN_SUM_POS,
                                                .cost_eos = COST_EOS_APPEND,
                                                .admit_rule = ADMIT_RULE_TERMINAL,
                                                .discount = 0.99,
                                                .discount_unit = DISCOUNT_UNIT_TOKEN};
    }
    return models;
}

static void test_re_control_moves_states_along_a_value_that_fits(void **state) {
    (void)state;
    static const struct {
        char *selection;
        double lambda; // of the value
    } cases[] = {{NULL, 0}, {"lagrangian", 5}, {"augmented", 0}, {"cost", 0}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct model_set models = models_with_value(cases[i].lambda);
        struct draft draft;
        draft_init(&draft);
        draft.spec.method = "re-control";
        draft.spec.selection = cases[i].selection;
        draft.spec.has_alpha = true;
        draft.spec.alpha = 0.25;
        struct job_spec *spec = resolve(&draft, &models);
        assert_int_equal(spec->search.n, 1);
        assert_int_equal(spec->value_steps, 30);
        assert_true(spec->value_step == 0.25);
        job_spec_destroy(spec);
        draft.spec.method = "best-of-n";
        draft.spec.has_alpha = false;
        spec = resolve(&draft, &models);
        assert_int_equal(spec->value_steps, 0);
        job_spec_destroy(spec);
    }
}

static void test_re_control_without_a_value_that_fits_is_refused_by_name(void **state) {
    (void)state;
    struct draft draft;
    draft_init(&draft);
    draft.spec.method = "re-control";
    struct model_set models = demo_models();
    expect_error(&draft, &models, INVALID, "spec.method", "no value network");
    models = models_with_value(0);
    models.value.chat_template[0] = 'B';
    expect_error(&draft, &models, INVALID, "spec.method", "for chat template Beaver, the job has");
    models = models_with_value(0);
    models.value.rewards[0].hash[0] = 'R';
    expect_error(&draft, &models, INVALID, "spec.method", "a scorer with hash Reward-hash");
    models = models_with_value(0);
    models.value.rewards[0].weight = 2;
    expect_error(&draft, &models, INVALID, "spec.method", "a scorer's weight 2, the job has 1");
    models = models_with_value(5);
    expect_error(&draft, &models, INVALID, "spec.method", "lambda 5, the job has 0");
    draft.spec.selection = "lagrangian";
    models = models_with_value(0);
    expect_error(&draft, &models, INVALID, "spec.method", "lambda 0, the job has 5");
    models = models_with_value(5);
    models.value.channels[0].discount = 0.5;
    expect_error(&draft, &models, INVALID, "spec.method", "discount 0.5, the job has 0.99");
}

static void test_what_a_hello_says_of_a_value_is_checked(void **state) {
    (void)state;
    for (int i = 0; i < 7; i++) {
        Surefoot__CriticReward reward = SUREFOOT__CRITIC_REWARD__INIT;
        Surefoot__CriticReward *rewards[] = {&reward};
        Surefoot__CriticInfo info = SUREFOOT__CRITIC_INFO__INIT;
        info.hash = "h";
        info.rewards = rewards;
        info.n_rewards = 1;
        reward.scorer_hash = "r";
        reward.weight = 1;
        static const char *const fields[] = {NULL,     "hash",     "n_parts", "lambda",
                                             "lambda", "channels", "rewards"};
        info.hash = i == 1 ? NULL : info.hash;
        info.n_parts = i == 2 ? 1 : 0;
        info.lambda = i == 3 ? -1 : i == 4 ? NAN : i == 5 ? 5 : 0;
        info.n_rewards = i == 6 ? 0 : 1;
        struct critic_description out;
        struct error err = {0};
        enum status status = critic_description_read(&info, true, &out, &err);
        if (i == 0) {
            assert_ok(status, &err);
        } else {
            assert_true(status != STATUS_OK);
            assert_string_equal(err.field, fields[i]);
        }
    }
    struct model_set ours = models_with_value(0), other = models_with_value(0);
    struct error err = {0};
    assert_ok(model_set_agree(&ours, &other, &err), &err);
    other.value.hash[0] = 'V';
    assert_status(INVALID, model_set_agree(&ours, &other, &err));
    assert_string_equal(err.field, "value");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad_fields_are_refused_by_name_and_limit),
        cmocka_unit_test(test_field_that_the_method_does_not_read_is_refused),
        cmocka_unit_test(test_options_of_a_draw_are_refused_where_nothing_is_drawn),
        cmocka_unit_test(test_fallback_of_a_step_with_one_try_is_refused),
        cmocka_unit_test(test_fields_of_a_tilt_that_is_not_there_are_refused),
        cmocka_unit_test(test_what_the_models_lack_is_refused),
        cmocka_unit_test(test_states_that_could_not_be_sent_are_refused),
        cmocka_unit_test(test_cost_mode_and_budget_have_no_silent_default),
        cmocka_unit_test(test_defaults_come_from_the_method_and_the_profile),
        cmocka_unit_test(test_absent_sampling_is_the_models_own),
        cmocka_unit_test(test_do_sample_false_is_followed_by_single_samples),
        cmocka_unit_test(test_the_models_length_keeps_to_the_limits),
        cmocka_unit_test(test_groups_must_agree_about_generation),
        cmocka_unit_test(test_a_groups_generation_is_refused_by_its_own_number),
        cmocka_unit_test(test_job_fields_override_the_profile),
        cmocka_unit_test(test_rules_of_words_are_a_scorer_beside_the_others),
        cmocka_unit_test(test_channels_stand_in_order_with_fields_of_their_own),
        cmocka_unit_test(test_rules_of_words_alone_are_a_whole_job),
        cmocka_unit_test(test_stored_bytes_ignore_streaming),
        cmocka_unit_test(test_defaults_of_a_channel_make_no_other_job),
        cmocka_unit_test(test_variables_in_another_order_are_the_same_job),
        cmocka_unit_test(test_default_given_is_the_same_job_as_default_left_out),
        cmocka_unit_test(test_re_control_moves_states_along_a_value_that_fits),
        cmocka_unit_test(test_re_control_without_a_value_that_fits_is_refused_by_name),
        cmocka_unit_test(test_what_a_hello_says_of_a_value_is_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
