#include "tests/cluster/raw_client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/deadline.h"

static void draft_init_numbers(struct draft *draft) {
    Surefoot__JobSpec *spec = &draft->spec;
    SET(*spec, n, 4);
    SET(*spec, survivors, 1);
    SET(*spec, block_tokens, 4);
    SET(*spec, block_growth, 1.1);
    SET(*spec, block_tokens_max, 32);
    SET(*spec, n_min, 1);
    SET(*spec, patience, 4);
    SET(*spec, abort_tokens, 8);
    SET(*spec, max_tokens, 8);
    SET(*spec, tries, 2);
    SET(*spec, budget, 4);
    SET(*spec, discount, 0.99);
    SET(*spec, discount_reward, 1);
    SET(*spec, lagrangian_lambda, 5);
    SET(*spec, fallback_weight, 3);
    SET(*spec, fallback_cap, 10);
    SET(*spec, fallback_temperature, 1.5);
    SET(*spec, cost_min, 0);
    SET(*spec, seed, 7);
    SET(*spec, deadline_ms, 0);
    SET(*spec, early_stop, 1);
    SET(*spec, rejection_alpha, 0.5);
    SET(*spec, threshold_start, 0.5);
    SET(*spec, accept_temperature, 0.7);
    SET(*spec, entropy_threshold, 3);
    SET(*spec, segment_tokens_min, 4);
    SET(*spec, omega, 2.5);
    SET(*spec, critic_keep, 0.7);
    SET(*spec, steps, 30);
    SET(*spec, alpha, 0.5);
    SET(*spec, tilt_t, 10);
    SET(*spec, tilt_n, 4);
    SET(*spec, tilt_kl, 0.5);
    SET(*spec, tilt_beta, 0);
    Surefoot__Sampling *sampling = &draft->sampling;
    SET(*sampling, temperature, 1);
    SET(*sampling, top_k, 0);
    SET(*sampling, top_p, 1);
    SET(*sampling, repetition_penalty, 1);
    SET(*sampling, frequency_penalty, 0);
    SET(*sampling, min_tokens, 0);
    SET(draft->bias, token_id, 5);
    SET(draft->bias, bias, 0);
    SET(draft->lexical, words_min, 0);
    SET(draft->lexical, words_max, 1000);
    for (int i = 0; i < 4; i++) {
        SET(draft->scorers[i], weight, 1);
    }
    SET(draft->costly_words, words_min, 0);
    SET(draft->costly_words, words_max, 1000);
    SET(draft->channel, budget, 50);
    SET(draft->channel, discount, 1);
    SET(draft->channel, cost_min, 0);
}

static void draft_init_texts(struct draft *draft) {
    static char *const scorers[4][2] = {
        {"reward", "reward"}, {"cost", "cost"}, {"lexical", "reward"}, {"lexical", "cost"}};
    draft->spec.chat_template = "beaver";
    draft->spec.method = "best-of-n";
    draft->spec.selection = "augmented";
    draft->spec.discount_unit = "token";
    draft->spec.tilt = "exp";
    draft->spec.tilt_rank_set = "admissible";
    draft->spec.cost_mode = "token_sum_pos";
    draft->spec.admit_rule = "terminal";
    draft->spec.cost_eos = "append";
    draft->spec.fallback_penalty = "log1p";
    for (int i = 0; i < 4; i++) {
        draft->scorers[i].name = scorers[i][0];
        draft->scorers[i].role = scorers[i][1];
    }
    draft->scorers[3].channel = draft->channel.name = "words";
    draft->channel.cost_mode = "token_sum";
    draft->channel.discount_unit = "block";
    draft->channel.admit_rule = "prefix";
    draft->scorers[0].chat_template = "beaver";
    draft->scorers[1].chat_template = "beaver";
    for (int i = 0; i < LIMIT_LEXICAL_ENTRIES + 1; i++) {
        draft->words[0][i] = "please";
        draft->words[1][i] = "knife";
        draft->words[2][i] = "[a-z]";
        draft->words[3][i] = "[0-9]{9}";
    }
    for (int i = 0; i < LIMIT_STOP_STRINGS + 1; i++) {
        draft->stops[i] = "\n\n";
    }
    draft->message.role = "user";
    draft->message.content = "Hello.";
}

void draft_init(struct raw_client *client, struct draft *draft) {
    memset(draft, 0, sizeof *draft);
    surefoot__client_request__init(&draft->request);
    surefoot__submit_job__init(&draft->submit);
    surefoot__job_spec__init(&draft->spec);
    surefoot__sampling__init(&draft->sampling);
    surefoot__lexical_spec__init(&draft->lexical);
    surefoot__logit_bias__init(&draft->bias);
    surefoot__chat_message__init(&draft->message);
    surefoot__lexical_spec__init(&draft->costly_words);
    surefoot__channel_spec__init(&draft->channel);
    for (int i = 0; i < LIMIT_CHANNELS + 1; i++) {
        draft->channel_list[i] = &draft->channel;
    }
    draft->spec.channels = draft->channel_list;
    draft->spec.n_channels = 1;
    for (int i = 0; i < 4; i++) {
        surefoot__scorer_spec__init(&draft->scorers[i]);
        draft->scorer_list[i] = &draft->scorers[i];
    }
    SET(draft->request, schema_major, WIRE_SCHEMA_MAJOR);
    SET(draft->request, schema_minor, WIRE_SCHEMA_MINOR);
    SET(draft->request, request_id, ++client->request_id);
    draft->request.submit = &draft->submit;
    snprintf(draft->key, sizeof draft->key, "key-%llu", (unsigned long long)client->request_id);
    draft->submit.job_key = draft->key;
    draft->submit.spec = &draft->spec;
    draft->spec.prompt = client->prompt;
    draft->spec.sampling = &draft->sampling;
    draft->spec.scorers = draft->scorer_list;
    draft->spec.n_scorers = 4;
    draft->sampling.logit_bias = draft->bias_list;
    draft->sampling.n_logit_bias = 1;
    for (int i = 0; i < LIMIT_LOGIT_BIAS + 1; i++) {
        draft->bias_list[i] = &draft->bias;
    }
    for (int i = 0; i < LIMIT_MESSAGES + 1; i++) {
        draft->message_list[i] = &draft->message;
    }
    draft->sampling.stop = draft->stops;
    draft->sampling.n_stop = 1;
    draft->scorers[2].lexical = &draft->lexical;
    draft->scorers[3].lexical = &draft->costly_words;
    draft->costly_word[0] = "blade";
    draft->costly_words.forbidden = draft->costly_word;
    draft->costly_words.n_forbidden = 1;
    draft->lexical.required = draft->words[0];
    draft->lexical.n_required = 1;
    draft->lexical.forbidden = draft->words[1];
    draft->lexical.n_forbidden = 1;
    draft->lexical.required_regex = draft->words[2];
    draft->lexical.n_required_regex = 1;
    draft->lexical.forbidden_regex = draft->words[3];
    draft->lexical.n_forbidden_regex = 1;
    draft_init_numbers(draft);
    draft_init_texts(draft);
}

void draft_use_messages(struct draft *draft, size_t n) {
    draft->spec.prompt = NULL;
    draft->spec.messages = draft->message_list;
    draft->spec.n_messages = n;
}

static void connect_raw(struct raw_client *client) {
    const struct channel_options options = {.message_bytes_max = 4 * LIMIT_CLIENT_MESSAGE_BYTES};
    struct error err;
    assert_ok(channel_connect(client->context, client->service.client_endpoint, &options,
                              &client->channel, &err),
              &err);
}

void raw_send(struct raw_client *client, const uint8_t *bytes, size_t size) {
    assert_ok(channel_send(client->channel, NULL, bytes, size), NULL);
}

Surefoot__ClientReply *raw_await_reply(struct raw_client *client) {
    int64_t deadline = deadline_after_ms(RAW_ANSWER_MS);
    for (;;) {
        bool ready = false;
        uint8_t *bytes = NULL;
        size_t size = 0;
        enum status status =
            channel_poll(&client->channel, 1, -1, deadline_left_ms(deadline), &ready);
        if (status != STATUS_OK && deadline_passed(deadline)) {
            process_print_log(&client->service.coordinator);
            fail_msg("no answer within %d ms", RAW_ANSWER_MS);
        }
        if (channel_receive(client->channel, NULL, &bytes, &size) != STATUS_OK) {
            continue;
        }
        struct error err;
        void *reply = NULL;
        assert_ok(wire_unpack(WIRE_CLIENT_REPLY, bytes, size, &reply, &err), &err);
        free(bytes);
        return reply;
    }
}

// A message that finds its connection closed is lost: asks for the status until it is answered.
static bool is_answered(void *context) {
    struct raw_client *client = context;
    Surefoot__ClientRequest request = SUREFOOT__CLIENT_REQUEST__INIT;
    Surefoot__GetStatus status = SUREFOOT__GET_STATUS__INIT;
    SET(request, schema_major, WIRE_SCHEMA_MAJOR);
    request.status = &status;
    uint8_t *bytes = NULL;
    size_t size = 0;
    assert_ok(wire_pack(WIRE_CLIENT_REQUEST, &request, &bytes, &size), NULL);
    raw_send(client, bytes, size);
    free(bytes);
    bool ready = false;
    return channel_poll(&client->channel, 1, -1, 1000, &ready) == STATUS_OK;
}

void raw_await_new_connection(struct raw_client *client) {
    assert_true(process_wait_until(is_answered, client, RAW_ANSWER_MS));
    channel_close(client->channel);
    connect_raw(client);
}

static void check_error(const Surefoot__ErrorInfo *info, const struct expectation *expected) {
    struct error err = {.status = STATUS_OK};
    wire_error_read(info, &err);
    if (err.status != expected->status || strcmp(err.field, expected->field) != 0 ||
        strstr(err.message, expected->part) == NULL) {
        fail_msg("%s: expected %s %s \"...%s...\", got %s %s \"%s\"", expected->what,
                 status_name(expected->status), expected->field, expected->part,
                 status_name(err.status), err.field, err.message);
    }
}

void raw_expect_refusal(struct raw_client *client, const uint8_t *bytes, size_t size,
                        uint64_t request_id, const struct expectation *expected) {
    raw_send(client, bytes, size);
    Surefoot__ClientReply *reply = raw_await_reply(client);
    if (reply->error == NULL) {
        fail_msg("%s: is no error to the service", expected->what);
    }
    assert_int_equal(reply->request_id, request_id);
    check_error(reply->error, expected);
    wire_free(WIRE_CLIENT_REPLY, reply);
}

uint8_t *draft_pack(const struct draft *draft, size_t *size) {
    *size = surefoot__client_request__get_packed_size(&draft->request);
    uint8_t *bytes = malloc(*size);
    assert_non_null(bytes);
    surefoot__client_request__pack(&draft->request, bytes);
    return bytes;
}

void raw_expect_draft_refusal(struct raw_client *client, const struct draft *draft,
                              const struct expectation *expected) {
    size_t size;
    uint8_t *bytes = draft_pack(draft, &size);
    raw_expect_refusal(client, bytes, size, draft->request.request_id, expected);
    free(bytes);
}

Surefoot__ClientReply *raw_run(struct raw_client *client, struct draft *draft) {
    size_t size;
    uint8_t *bytes = draft_pack(draft, &size);
    raw_send(client, bytes, size);
    free(bytes);
    Surefoot__ClientReply *reply = raw_await_reply(client);
    if (reply->error != NULL) {
        fail_msg("%s: %s", reply->error->field, reply->error->message);
    }
    assert_non_null(reply->accepted);
    wire_free(WIRE_CLIENT_REPLY, reply);
    Surefoot__FetchJob fetch = SUREFOOT__FETCH_JOB__INIT;
    fetch.job_key = draft->submit.job_key;
    SET(fetch, wait_ms, RAW_ANSWER_MS);
    draft->request.submit = NULL;
    draft->request.fetch = &fetch;
    bytes = draft_pack(draft, &size);
    draft->request.submit = &draft->submit;
    draft->request.fetch = NULL;
    raw_send(client, bytes, size);
    free(bytes);
    reply = raw_await_reply(client);
    if (reply->result == NULL) {
        fail_msg("job %s has not ended", draft->submit.job_key);
    }
    return reply;
}

void raw_expect_rejected(struct raw_client *client, struct draft *draft,
                         const struct expectation *expected) {
    Surefoot__ClientReply *reply = raw_run(client, draft);
    if (reply->result->outcome != SUREFOOT__OUTCOME__OUTCOME_REJECTED) {
        fail_msg("%s: ended as %s", expected->what, surefoot_outcome_name(reply->result->outcome));
    }
    check_error(reply->result->error, expected);
    wire_free(WIRE_CLIENT_REPLY, reply);
}

void raw_assert_service_goes_on(struct raw_client *client) {
    struct service *service = &client->service;
    assert_int_equal(service->coordinator.pid, client->coordinator);
    assert_false(process_wait(&service->coordinator, 0, NULL));
    assert_false(process_wait(&service->groups[0], 0, NULL));
    service_await_groups(service, 1);
    struct draft draft;
    draft_init(client, &draft);
    Surefoot__ClientReply *reply = raw_run(client, &draft);
    Surefoot__Outcome outcome = reply->result->outcome;
    if (outcome != SUREFOOT__OUTCOME__OUTCOME_COMPLETED &&
        outcome != SUREFOOT__OUTCOME__OUTCOME_NO_SAFE_CANDIDATE) {
        fail_msg("a good job ended as %s: %s", surefoot_outcome_name(outcome),
                 reply->result->error != NULL ? reply->result->error->message : "");
    }
    wire_free(WIRE_CLIENT_REPLY, reply);
}

int raw_setup(void **state) {
    if (!service_is_possible()) {
        exit(TESTKIT_SKIP);
    }
    struct raw_client *client = calloc(1, sizeof *client);
    client->prompt = service_prompt(0);
    client->long_text = malloc(LIMIT_PROMPT_BYTES + 2);
    memset(client->long_text, 'a', LIMIT_PROMPT_BYTES + 1);
    client->long_text[LIMIT_PROMPT_BYTES + 1] = '\0';
    service_start(&client->service, &(struct service_options){.n_groups = 1, .n_ranks = 2});
    client->coordinator = client->service.coordinator.pid;
    assert_ok(channel_context_create(&client->context), NULL);
    connect_raw(client);
    *state = client;
    return 0;
}

int raw_teardown(void **state) {
    struct raw_client *client = *state;
    channel_close(client->channel);
    channel_context_destroy(client->context);
    service_stop(&client->service);
    free(client->prompt);
    free(client->long_text);
    free(client);
    return 0;
}
