// Every field of a job with values that cannot be, against a real service: each is answered with a
// typed error that names the field and the limit, and the service goes on.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/cluster/raw_client.h"

enum {
    PATH_BYTES = 96,
    PLACES_MAX = 128,
    CONTEXT_TOKENS = 1024, // of the shipped policy
    CANARY_BYTES = 8,
};

// What replaces a string's text; one byte of it is then changed in the packed message.
static const char canary[CANARY_BYTES + 1] = "ca?nary!";

// One member of the request, found by walking the message types.
struct place {
    const ProtobufCFieldDescriptor *field;
    void *value; // the member or the element of a list
    char path[PATH_BYTES];
};

struct places {
    struct place items[PLACES_MAX];
    size_t count;
};

static void find_places(ProtobufCMessage *message, const char *path, struct places *places) {
    for (unsigned i = 0; i < message->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &message->descriptor->fields[i];
        char *member = (char *)message + field->offset;
        bool list = field->label == PROTOBUF_C_LABEL_REPEATED;
        size_t n = 1;
        if (list) {
            memcpy(&n, (char *)message + field->quantifier_offset, sizeof n);
        }
        for (size_t k = 0; k < n; k++) {
            struct place place = {.field = field, .value = member};
            if (list) {
                place.value = *(char ***)member + k;
            }
            snprintf(place.path, sizeof place.path, list ? "%s%s%s[%zu]" : "%s%s%s", path,
                     path[0] != '\0' ? "." : "", field->name, k);
            if (field->type == PROTOBUF_C_TYPE_MESSAGE) {
                ProtobufCMessage *part = *(ProtobufCMessage **)place.value;
                if (part != NULL) {
                    find_places(part, place.path, places);
                }
                continue;
            }
            assert_in_range(places->count, 0, PLACES_MAX - 1);
            places->items[places->count++] = place;
        }
    }
}

static void find_submit_places(struct draft *draft, struct places *places) {
    places->count = 0;
    find_places(&draft->submit.base, "", places);
}

static void test_numbers_that_are_none(void **state) {
    struct raw_client *client = *state;
    static const double values[] = {NAN, INFINITY, -INFINITY};
    struct draft draft;
    struct places places;
    draft_init(client, &draft);
    find_submit_places(&draft, &places);
    int n_checked = 0;
    for (size_t i = 0; i < places.count; i++) {
        const struct place *place = &places.items[i];
        bool is_double = place->field->type == PROTOBUF_C_TYPE_DOUBLE;
        if (!is_double && place->field->type != PROTOBUF_C_TYPE_FLOAT) {
            continue;
        }
        for (size_t k = 0; k < sizeof values / sizeof values[0]; k++) {
            draft_init(client, &draft);
            // No default stands for it, so only a job that reads it can have one.
            draft.spec.has_reward_threshold = place->value == &draft.spec.reward_threshold;
            if (is_double) {
                *(double *)place->value = values[k];
            } else {
                *(float *)place->value = (float)values[k];
            }
            raw_expect_draft_refusal(client, &draft,
                                     &(struct expectation){.what = place->path,
                                                           .status = STATUS_INVALID_ARGUMENT,
                                                           .field = place->path,
                                                           .part = "is outside"});
            n_checked++;
        }
    }
    assert_in_range(n_checked, 30, 100);
    raw_assert_service_goes_on(client);
}

static bool has_no_upper_limit(const char *path) {
    return strstr(path, "lexical.words_max") != NULL;
}

static void test_counts_above_every_limit(void **state) {
    struct raw_client *client = *state;
    struct draft draft;
    struct places places;
    draft_init(client, &draft);
    find_submit_places(&draft, &places);
    int n_checked = 0;
    for (size_t i = 0; i < places.count; i++) {
        const struct place *place = &places.items[i];
        if (place->field->type != PROTOBUF_C_TYPE_UINT32 || has_no_upper_limit(place->path)) {
            continue;
        }
        draft_init(client, &draft);
        *(uint32_t *)place->value = UINT32_MAX;
        bool of_message =
            strstr(place->path, "words_min") == NULL && strstr(place->path, "token_id") == NULL;
        raw_expect_draft_refusal(
            client, &draft,
            &(struct expectation){.what = place->path,
                                  .status = of_message ? STATUS_LIMIT : STATUS_INVALID_ARGUMENT,
                                  .field = place->path,
                                  .part = "4294967295"});
        n_checked++;
    }
    assert_in_range(n_checked, 8, 100);
    raw_assert_service_goes_on(client);
}

// Text that is not UTF-8, or ends early for a C program, in every string of a job.
static void test_text_that_is_none(void **state) {
    struct raw_client *client = *state;
    static const uint8_t bad_bytes[] = {0xff, 0x00, 0xc0, 0xed};
    struct draft draft;
    struct places places;
    for (int with_messages = 0; with_messages < 2; with_messages++) {
        draft_init(client, &draft);
        if (with_messages) {
            draft_use_messages(&draft, 1);
        }
        find_submit_places(&draft, &places);
        for (size_t i = 0; i < places.count; i++) {
            const struct place *place = &places.items[i];
            if (place->field->type != PROTOBUF_C_TYPE_STRING) {
                continue;
            }
            for (size_t k = 0; k < sizeof bad_bytes; k++) {
                draft_init(client, &draft);
                if (with_messages) {
                    draft_use_messages(&draft, 1);
                }
                *(const char **)place->value = canary;
                size_t size;
                uint8_t *bytes = draft_pack(&draft, &size);
                uint8_t *text = memmem(bytes, size, canary, CANARY_BYTES);
                assert_non_null(text);
                text[2] = bad_bytes[k];
                raw_expect_refusal(client, bytes, size, draft.request.request_id,
                                   &(struct expectation){.what = place->path,
                                                         .status = STATUS_MALFORMED,
                                                         .field = place->path,
                                                         .part = "UTF-8"});
                free(bytes);
            }
        }
    }
    raw_assert_service_goes_on(client);
}

static void test_text_that_is_too_long(void **state) {
    struct raw_client *client = *state;
    struct draft draft;
    struct places places;
    draft_init(client, &draft);
    find_submit_places(&draft, &places);
    for (size_t i = 0; i < places.count; i++) {
        const struct place *place = &places.items[i];
        if (place->field->type != PROTOBUF_C_TYPE_STRING) {
            continue;
        }
        for (int empty = 0; empty < 2; empty++) {
            draft_init(client, &draft);
            *(const char **)place->value = empty ? "" : client->long_text;
            size_t size;
            uint8_t *bytes = draft_pack(&draft, &size);
            raw_send(client, bytes, size);
            free(bytes);
            Surefoot__ClientReply *reply = raw_await_reply(client);
            if (reply->error == NULL) {
                fail_msg("%s: %s text is taken", place->path, empty ? "empty" : "long");
            }
            assert_string_equal(reply->error->field, place->path);
            // Names are answered with those that exist, texts with the limit.
            bool named = strstr(reply->error->message, "one of") != NULL;
            if (!named && strpbrk(reply->error->message, "0123456789") == NULL) {
                fail_msg("%s: no limit in \"%s\"", place->path, reply->error->message);
            }
            wire_free(WIRE_CLIENT_REPLY, reply);
        }
    }
    raw_assert_service_goes_on(client);
}

typedef void (*edit_fn)(struct draft *draft);
struct bad_job {
    edit_fn edit;
    struct expectation expected;
};

#define EDIT(name, code)                                                                           \
    static void edit_##name(struct draft *d) {                                                     \
        code                                                                                       \
    }
EDIT(no_key, d->submit.job_key = NULL;)
EDIT(control_key, d->submit.job_key = "line\nline";)
EDIT(no_spec, d->submit.spec = NULL;)
EDIT(no_prompt, d->spec.prompt = NULL;)
EDIT(two_prompts, char *prompt = d->spec.prompt; draft_use_messages(d, 1); d->spec.prompt = prompt;)
EDIT(messages, draft_use_messages(d, LIMIT_MESSAGES + 1);)
EDIT(role, draft_use_messages(d, 1); d->message.role = "";)
EDIT(method, d->spec.method = "magic";)
EDIT(selection, d->spec.selection = "best";)
EDIT(template, d->spec.chat_template = "klingon";)
EDIT(scorer, d->scorers[1].name = "gpt-9";)
EDIT(scorer_role, d->scorers[1].role = "judge";)
EDIT(n_zero, d->spec.n = 0;)
EDIT(n_large, d->spec.n = LIMIT_CANDIDATES + 1;)
EDIT(survivors_zero, d->spec.survivors = 0;)
EDIT(survivors, d->spec.survivors = 5;)
EDIT(block_zero, d->spec.block_tokens = 0;)
EDIT(max_zero, d->spec.max_tokens = 0;)
EDIT(tries_zero, d->spec.tries = 0;)
EDIT(tries, d->spec.tries = LIMIT_TRIES + 1;)
EDIT(bound, d->spec.n = LIMIT_CANDIDATES; d->spec.block_tokens = 1; d->spec.max_tokens = 512;
     d->spec.method = "beam";)
EDIT(discount, d->spec.discount = -0.5;)
EDIT(lambda, d->spec.lagrangian_lambda = -1;)
EDIT(weight, d->scorers[0].weight = -1;)
EDIT(fallback_weight, d->spec.fallback_weight = -1;)
EDIT(fallback_cap, d->spec.fallback_cap = -1;)
EDIT(budget, d->spec.budget = -1;)
EDIT(temperature, d->sampling.temperature = -1;)
EDIT(top_p, d->sampling.top_p = 0;)
EDIT(min_tokens, d->sampling.min_tokens = 9;)
EDIT(stops, d->sampling.n_stop = LIMIT_STOP_STRINGS + 1;)
EDIT(biases, d->sampling.n_logit_bias = LIMIT_LOGIT_BIAS + 1;)
EDIT(bias_token, d->bias.token_id = 4096;)
EDIT(
    scorers, for (int i = 0; i < LIMIT_SCORERS + 1; i++) {
        d->scorer_list[i] = &d->scorers[2];
    } d->spec.n_scorers = LIMIT_SCORERS + 1;)
EDIT(entries, d->lexical.n_forbidden_regex = LIMIT_LEXICAL_ENTRIES + 1;)
EDIT(lexical_misplaced, d->scorers[0].lexical = &d->lexical;)
EDIT(lexical_missing, d->scorers[2].lexical = NULL;)
EDIT(context, d->spec.max_tokens = CONTEXT_TOKENS;)
EDIT(lexical_cost, d->scorers[1].name = "lexical"; d->scorers[1].chat_template = NULL;
     d->scorers[1].lexical = &d->lexical; d->scorers[1].channel = "cost"; d->spec.has_budget = 0;)
EDIT(rules_mode, d->scorers[1].name = "lexical"; d->scorers[1].chat_template = NULL;
     d->scorers[1].lexical = &d->lexical; d->spec.has_budget = 0;)
EDIT(channel_twice, d->spec.n_channels = 2;)
EDIT(channels, d->spec.n_channels = LIMIT_CHANNELS + 1;)
EDIT(channel_unknown, d->scorers[1].channel = "harm";)
EDIT(channel_empty, d->scorers[3].channel = NULL;)
EDIT(channel_of_reward, d->scorers[0].channel = "words";)
#undef EDIT

#define INVALID STATUS_INVALID_ARGUMENT
#define LIMIT STATUS_LIMIT
static const struct bad_job bad_jobs[] = {
    {edit_no_key, {"no key", INVALID, "job_key", "1..128"}},
    {edit_control_key, {"key of two lines", INVALID, "job_key", "control"}},
    {edit_no_spec, {"no spec", INVALID, "spec", "missing"}},
    {edit_no_prompt, {"no prompt", INVALID, "spec.prompt", "1..1048576"}},
    {edit_two_prompts, {"prompt and messages", INVALID, "spec.prompt", "both"}},
    {edit_messages, {"messages", LIMIT, "spec.messages", "256"}},
    {edit_role, {"role", INVALID, "spec.messages[0].role", "1..64"}},
    {edit_method, {"method", INVALID, "spec.method", "sample, best-of-n, beam"}},
    {edit_selection, {"selection", INVALID, "spec.selection", "plain, lagrangian, augmented"}},
    {edit_template, {"template", INVALID, "spec.chat_template", "llama-2"}},
    {edit_scorer, {"scorer", INVALID, "spec.scorers[1].name", "reward, cost, lexical"}},
    {edit_scorer_role, {"scorer's role", INVALID, "spec.scorers[1].role", "reward, cost"}},
    {edit_n_zero, {"n 0", INVALID, "spec.n", "1..4096"}},
    {edit_n_large, {"n 4097", LIMIT, "spec.n", "1..4096"}},
    {edit_survivors_zero, {"survivors 0", INVALID, "spec.survivors", "1..4"}},
    {edit_survivors, {"survivors 5 of 4", LIMIT, "spec.survivors", "1..4"}},
    {edit_block_zero, {"blocks of 0", INVALID, "spec.block_tokens", "1..1024"}},
    {edit_max_zero, {"no tokens", INVALID, "spec.max_tokens", "1..8192"}},
    {edit_tries_zero, {"tries 0", INVALID, "spec.tries", "1..16"}},
    {edit_tries, {"tries 17", LIMIT, "spec.tries", "1..16"}},
    {edit_bound, {"candidates in all", LIMIT, "spec.n", "262144"}},
    {edit_discount, {"discount", INVALID, "spec.discount", "(0, 1]"}},
    {edit_lambda, {"lambda", INVALID, "spec.lagrangian_lambda", "[0, 1e+06]"}},
    {edit_weight, {"weight", INVALID, "spec.scorers[0].weight", "[0, 1e+06]"}},
    {edit_fallback_weight, {"weight", INVALID, "spec.fallback_weight", "[0, 1e+06]"}},
    {edit_fallback_cap, {"cap", INVALID, "spec.fallback_cap", "[0, 1000]"}},
    {edit_budget, {"negative budget", INVALID, "spec.budget", "negative"}},
    {edit_temperature, {"temperature", INVALID, "spec.sampling.temperature", "[0, 100]"}},
    {edit_top_p, {"top_p", INVALID, "spec.sampling.top_p", "(0, 1]"}},
    {edit_min_tokens, {"min_tokens", LIMIT, "spec.sampling.min_tokens", "0..8"}},
    {edit_stops, {"stops", LIMIT, "spec.sampling.stop", "16"}},
    {edit_biases, {"biases", LIMIT, "spec.sampling.logit_bias", "1024"}},
    {edit_bias_token,
     {"bias of no token", INVALID, "spec.sampling.logit_bias[0].token_id", "4096 tokens"}},
    {edit_scorers, {"scorers", LIMIT, "spec.scorers", "8"}},
    {edit_entries, {"patterns", LIMIT, "spec.scorers[2].lexical.forbidden_regex", "256"}},
    {edit_lexical_misplaced, {"words of a model", INVALID, "spec.scorers[0].lexical", "lexical"}},
    {edit_lexical_missing, {"no words", INVALID, "spec.scorers[2].lexical", "missing"}},
    {edit_context, {"no room for a prompt", LIMIT, "spec.max_tokens", "1024"}},
    {edit_lexical_cost, {"cost without budget", INVALID, "spec.budget", "missing"}},
    {edit_rules_mode, {"mode of rules", INVALID, "spec.cost_mode", "channel cost"}},
    {edit_channel_twice, {"channel twice", INVALID, "spec.channels[1].name", "words"}},
    {edit_channels, {"channels", LIMIT, "spec.channels", "4"}},
    {edit_channel_unknown, {"unknown channel", INVALID, "spec.scorers[1].channel", "harm"}},
    {edit_channel_empty, {"empty channel", INVALID, "spec.channels[0]", "no scorer"}},
    {edit_channel_of_reward, {"reward's", INVALID, "spec.scorers[0].channel", "role reward"}},
};

static void test_jobs_that_cannot_be(void **state) {
    struct raw_client *client = *state;
    for (size_t i = 0; i < sizeof bad_jobs / sizeof bad_jobs[0]; i++) {
        struct draft draft;
        draft_init(client, &draft);
        bad_jobs[i].edit(&draft);
        raw_expect_draft_refusal(client, &draft, &bad_jobs[i].expected);
    }
    raw_assert_service_goes_on(client);
}

// What only the group can tell: accepted, then REJECTED.
static void test_jobs_that_the_group_refuses(void **state) {
    struct raw_client *client = *state;
    struct draft draft;
    draft_init(client, &draft);
    char *words = strndup(client->long_text, 20000);
    for (size_t i = 1; i < 20000; i += 2) {
        words[i] = ' ';
    }
    draft.spec.prompt = words;
    raw_expect_rejected(client, &draft,
                        &(struct expectation){"prompt above the context", LIMIT, "spec.prompt",
                                              "context of 1024 tokens"});
    draft_init(client, &draft);
    draft_use_messages(&draft, 1);
    draft.message.content = words;
    raw_expect_rejected(client, &draft,
                        &(struct expectation){"messages above the context", LIMIT, "spec.messages",
                                              "context of 1024 tokens"});
    free(words);

    static const struct {
        char *pattern;
        enum status status;
        const char *part;
    } patterns[] = {
        {"(", STATUS_INVALID_ARGUMENT, "at byte 1"},
        {"a{9,1}", STATUS_INVALID_ARGUMENT, "at byte"},
        {"\\C", STATUS_INVALID_ARGUMENT, "at byte"},
        {"((((a{0,999}){0,999}){0,999}){0,999})", STATUS_INVALID_ARGUMENT, "at byte"},
        {"^((\\w+)*\\W*)*(?!)", STATUS_LIMIT, "1048576"},
        {"^(.|\\n)*(.|\\n)*(.|\\n)*(.|\\n)*(?!)", STATUS_LIMIT, "1048576"},
    };
    for (size_t i = 0; i < sizeof patterns / sizeof patterns[0]; i++) {
        draft_init(client, &draft);
        SET(draft.spec, max_tokens, 128);
        SET(draft.spec, block_tokens, 32);
        draft.words[3][0] = patterns[i].pattern;
        raw_expect_rejected(client, &draft,
                            &(struct expectation){patterns[i].pattern, patterns[i].status,
                                                  "spec.scorers[2].lexical.forbidden_regex[0]",
                                                  patterns[i].part});
    }
    raw_assert_service_goes_on(client);
}

// Patterns that are each within the limits of one search: together they neither hold up the group
// until it counts as dead nor fill its memory.
static void test_many_slow_or_large_patterns(void **state) {
    struct raw_client *client = *state;
    static const struct {
        char *pattern;
        const char *field;
        const char *part;
    } rows[] = {
        {"^(.|\\n){0,40}(.|\\n){0,40}(.|\\n){0,30}(?!)", "forbidden_regex[", "1048576"},
        {"(?:a|b|c){0,400}", "_regex[", "4194304"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct draft draft;
        draft_init(client, &draft);
        SET(draft.spec, n, 64);
        draft.spec.has_survivors = draft.spec.has_n_min = draft.spec.has_block_tokens_max = 0;
        SET(draft.spec, max_tokens, 128);
        SET(draft.spec, block_tokens, 64);
        draft.lexical.n_required_regex = 0;
        draft.lexical.n_forbidden_regex = LIMIT_LEXICAL_ENTRIES;
        for (int k = 0; k < LIMIT_LEXICAL_ENTRIES; k++) {
            draft.words[3][k] = rows[i].pattern;
        }
        for (int k = 3; k < LIMIT_SCORERS; k++) {
            draft.scorer_list[k] = &draft.scorers[2];
        }
        draft.spec.n_channels = 0;
        draft.spec.n_scorers = LIMIT_SCORERS;
        Surefoot__ClientReply *reply = raw_run(client, &draft);
        assert_int_equal(reply->result->outcome, SUREFOOT__OUTCOME__OUTCOME_REJECTED);
        assert_int_equal(reply->result->error->status, STATUS_LIMIT);
        assert_non_null(strstr(reply->result->error->field, rows[i].field));
        assert_non_null(strstr(reply->result->error->message, rows[i].part));
        wire_free(WIRE_CLIENT_REPLY, reply);
    }
    raw_assert_service_goes_on(client);
}

static void test_keys_name_one_job(void **state) {
    struct raw_client *client = *state;
    struct draft draft;
    draft_init(client, &draft);
    wire_free(WIRE_CLIENT_REPLY, raw_run(client, &draft));
    draft.spec.seed = 8;
    raw_expect_draft_refusal(
        client, &draft,
        &(struct expectation){"a key taken", STATUS_ALREADY_EXISTS, "job_key", "another"});
    Surefoot__FetchJob fetch = SUREFOOT__FETCH_JOB__INIT;
    Surefoot__CancelJob cancel = SUREFOOT__CANCEL_JOB__INIT;
    Surefoot__CloseJob close = SUREFOOT__CLOSE_JOB__INIT;
    struct expectation expected = {"no key", INVALID, "job_key", "1..128"};
    draft.request.submit = NULL;
    draft.request.fetch = &fetch;
    raw_expect_draft_refusal(client, &draft, &expected);
    fetch.job_key = "nobody's";
    raw_expect_draft_refusal(
        client, &draft, &(struct expectation){"fetch", STATUS_NOT_FOUND, "job_key", "no such job"});
    draft.request.fetch = NULL;
    draft.request.cancel = &cancel;
    raw_expect_draft_refusal(client, &draft, &expected);
    cancel.job_key = "nobody's";
    raw_expect_draft_refusal(
        client, &draft,
        &(struct expectation){"cancel", STATUS_NOT_FOUND, "job_key", "no such job"});
    draft.request.cancel = NULL;
    draft.request.close = &close;
    raw_expect_draft_refusal(client, &draft, &expected);
    raw_assert_service_goes_on(client);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numbers_that_are_none),
        cmocka_unit_test(test_counts_above_every_limit),
        cmocka_unit_test(test_text_that_is_none),
        cmocka_unit_test(test_text_that_is_too_long),
        cmocka_unit_test(test_jobs_that_cannot_be),
        cmocka_unit_test(test_jobs_that_the_group_refuses),
        cmocka_unit_test(test_many_slow_or_large_patterns),
        cmocka_unit_test(test_keys_name_one_job),
    };
    return cmocka_run_group_tests(tests, raw_setup, raw_teardown);
}
