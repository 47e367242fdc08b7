// A client of a real service that sends what the client library would not: jobs that use every
// field, for tests to damage, and raw bytes. Expectations fail the test with what differed.
#ifndef TESTS_CLUSTER_RAW_CLIENT_H
#define TESTS_CLUSTER_RAW_CLIENT_H

#include "proto/channel.h"
#include "proto/wire.h"
#include "tests/support/service.h"
#include "tests/support/testkit.h"

enum { RAW_ANSWER_MS = 240000 };

struct raw_client {
    struct service service;
    struct channel_context *context;
    struct channel *channel; // a client without the checks of the library
    uint64_t request_id;
    pid_t coordinator;
    char *prompt;
    char *long_text; // LIMIT_PROMPT_BYTES + 1 bytes
};

// A job that uses every field; all of it lies in this struct.
struct draft {
    Surefoot__ClientRequest request;
    Surefoot__SubmitJob submit;
    Surefoot__JobSpec spec;
    Surefoot__Sampling sampling;
    Surefoot__ScorerSpec scorers[4];
    Surefoot__ScorerSpec *scorer_list[LIMIT_SCORERS + 1];
    Surefoot__LexicalSpec lexical;
    Surefoot__LexicalSpec costly_words; // of scorer 3, in `channel`
    char *costly_word[1];
    Surefoot__ChannelSpec channel;
    Surefoot__ChannelSpec *channel_list[LIMIT_CHANNELS + 1];
    Surefoot__LogitBias bias;
    Surefoot__LogitBias *bias_list[LIMIT_LOGIT_BIAS + 1];
    Surefoot__ChatMessage message;
    Surefoot__ChatMessage *message_list[LIMIT_MESSAGES + 1];
    char *stops[LIMIT_STOP_STRINGS + 1];
    char *words[4][LIMIT_LEXICAL_ENTRIES + 1];
    char key[64];
};

#define SET(message, member, value) ((message).has_##member = 1, (message).member = (value))

// cmocka's group fixtures: start and stop a service of one group with two ranks; *state is a
// struct raw_client.
int raw_setup(void **state);
int raw_teardown(void **state);

// A good job under a new key and request id, and the same with n times the draft's message.
void draft_init(struct raw_client *client, struct draft *draft);
void draft_use_messages(struct draft *draft, size_t n);
uint8_t *draft_pack(const struct draft *draft, size_t *size); // owned; checks nothing

void raw_send(struct raw_client *client, const uint8_t *bytes, size_t size);
// The next answer, which must come; release with wire_free.
Surefoot__ClientReply *raw_await_reply(struct raw_client *client);
// After the service has closed the connection.
void raw_await_new_connection(struct raw_client *client);

struct expectation {
    const char *what; // for a person
    enum status status;
    const char *field;
    const char *part; // of the message
};

// Sends, and expects an answer with this request id and error.
void raw_expect_refusal(struct raw_client *client, const uint8_t *bytes, size_t size,
                        uint64_t request_id, const struct expectation *expected);
void raw_expect_draft_refusal(struct raw_client *client, const struct draft *draft,
                              const struct expectation *expected);

// Submits what the coordinator takes, and returns what became of it; release with wire_free.
Surefoot__ClientReply *raw_run(struct raw_client *client, struct draft *draft);
void raw_expect_rejected(struct raw_client *client, struct draft *draft,
                         const struct expectation *expected);

// The service goes on: same coordinator, same group, and a good job is answered.
void raw_assert_service_goes_on(struct raw_client *client);

#endif
