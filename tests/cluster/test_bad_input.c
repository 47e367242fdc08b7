// Messages that are none, against a real service: each is answered with a typed error or closes its
// own connection, and the service goes on.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/rng.h"
#include "tests/cluster/raw_client.h"

#define INVALID STATUS_INVALID_ARGUMENT
#define LIMIT STATUS_LIMIT

static void test_envelopes_that_cannot_be(void **state) {
    struct raw_client *client = *state;
    struct draft draft;
    draft_init(client, &draft);
    draft.request.schema_major = WIRE_SCHEMA_MAJOR + 1;
    raw_expect_draft_refusal(
        client, &draft, &(struct expectation){"next major", STATUS_VERSION, "schema_major", "1"});
    draft.request.has_schema_major = 0;
    raw_expect_draft_refusal(
        client, &draft, &(struct expectation){"no major", STATUS_VERSION, "schema_major", "1"});
    draft_init(client, &draft);
    draft.request.submit = NULL;
    raw_expect_draft_refusal(
        client, &draft, &(struct expectation){"no member", INVALID, "request", "one of submit"});
    Surefoot__GetStatus status = SUREFOOT__GET_STATUS__INIT;
    draft.request.submit = &draft.submit;
    draft.request.status = &status;
    raw_expect_draft_refusal(client, &draft,
                             &(struct expectation){"two members", INVALID, "request", "2 members"});
    raw_expect_refusal(client, (const uint8_t *)"", 0, 0,
                       &(struct expectation){"nothing", STATUS_VERSION, "schema_major", "1"});
    raw_assert_service_goes_on(client);
}

// Every way to cut a request short, and one changed byte at every place: each is answered, whatever
// it reads as.
static void test_damaged_messages(void **state) {
    struct raw_client *client = *state;
    struct draft draft;
    draft_init(client, &draft);
    draft.submit.job_key = NULL; // nothing of this becomes a job
    size_t size;
    uint8_t *bytes = draft_pack(&draft, &size);
    uint8_t *damaged = malloc(size);
    assert_non_null(damaged);
    for (size_t cut = 0; cut < size; cut++) {
        raw_send(client, bytes, cut);
        Surefoot__ClientReply *reply = raw_await_reply(client);
        assert_non_null(reply->error);
        wire_free(WIRE_CLIENT_REPLY, reply);
        memcpy(damaged, bytes, size);
        damaged[cut] ^= 0x55;
        raw_send(client, damaged, size);
        reply = raw_await_reply(client);
        assert_non_null(reply->error);
        assert_true(reply->error->message != NULL && reply->error->message[0] != '\0');
        wire_free(WIRE_CLIENT_REPLY, reply);
    }
    free(damaged);
    free(bytes);
    raw_assert_service_goes_on(client);
}

static void test_random_messages(void **state) {
    struct raw_client *client = *state;
    uint8_t bytes[512];
    for (uint32_t i = 0; i < 500; i++) {
        size_t size = 1 + i % sizeof bytes;
        for (size_t k = 0; k < size; k++) {
            bytes[k] = (uint8_t)(rng_uniform(7, i, (uint32_t)k, 0) * 256);
        }
        raw_send(client, bytes, size);
        Surefoot__ClientReply *reply = raw_await_reply(client);
        assert_non_null(reply->error);
        wire_free(WIRE_CLIENT_REPLY, reply);
    }
    raw_assert_service_goes_on(client);
}

static void test_oversize_messages(void **state) {
    struct raw_client *client = *state;
    const size_t answered = 5 << 20;
    const size_t unread = 2 * LIMIT_CLIENT_MESSAGE_BYTES + 1;
    uint8_t *bytes = calloc(1, unread);
    assert_non_null(bytes);
    raw_expect_refusal(client, bytes, answered, 0,
                       &(struct expectation){"5 MiB", LIMIT, "message", "4194304"});
    // Below the limit, but of very many parts.
    for (size_t i = 0; i < LIMIT_CLIENT_MESSAGE_BYTES; i += 2) {
        bytes[i] = 4 << 3 | 2; // an empty `submit`
        bytes[i + 1] = 0;
    }
    raw_expect_refusal(
        client, bytes, LIMIT_CLIENT_MESSAGE_BYTES, 0,
        &(struct expectation){"empty parts", LIMIT, "message", "131072 allocations"});
    // Far above it, the connection is closed; the socket makes a new one.
    raw_send(client, bytes, unread);
    raw_await_new_connection(client);
    free(bytes);
    raw_assert_service_goes_on(client);
}

static void test_library_sends_nothing_oversize(void **state) {
    struct raw_client *client = *state;
    size_t size = 5 << 20;
    char *text = malloc(size + 1);
    assert_non_null(text);
    memset(text, 'a', size);
    text[size] = '\0';
    Surefoot__JobSpec spec = SUREFOOT__JOB_SPEC__INIT;
    spec.prompt = text;
    const struct surefoot_submit args = {.spec = &spec, .timeout_ms = RAW_ANSWER_MS};
    char key[SUREFOOT_KEY_BYTES];
    struct error err;
    assert_status(LIMIT, surefoot_submit(client->service.client, &args, key, NULL, &err));
    assert_non_null(strstr(err.message, "4194304"));
    free(text);
    raw_assert_service_goes_on(client);
}

// Bytes that are not ZeroMQ's, on both sockets.
static void send_noise(const char *endpoint, uint32_t stream) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", endpoint + strlen("ipc://"));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    uint8_t bytes[4096];
    for (uint32_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = (uint8_t)(rng_uniform(9, stream, i, 0) * 256);
    }
    if (stream % 2 == 1) {
        memcpy(bytes, "\xff\0\0\0\0\0\0\0\1\x7f\3", 11); // how a peer begins
    }
    // The peer may hang up before it has read all.
    (void)!send(fd, bytes, sizeof bytes, MSG_NOSIGNAL);
    close(fd);
}

static void test_noise_on_the_sockets(void **state) {
    struct raw_client *client = *state;
    for (uint32_t i = 0; i < 50; i++) {
        send_noise(client->service.client_endpoint, i);
        send_noise(client->service.group_endpoint, i);
    }
    raw_assert_service_goes_on(client);
}

// A stranger on the groups' socket: what it says is refused and the real group stays.
static void test_noise_of_a_false_group(void **state) {
    struct raw_client *client = *state;
    const struct channel_options options = {.message_bytes_max = LIMIT_GROUP_MESSAGE_BYTES};
    struct channel *channel = NULL;
    struct error err;
    assert_ok(
        channel_connect(client->context, client->service.group_endpoint, &options, &channel, &err),
        &err);
    Surefoot__GroupMessage message = SUREFOOT__GROUP_MESSAGE__INIT;
    Surefoot__GroupHello hello = SUREFOOT__GROUP_HELLO__INIT;
    Surefoot__Gathered gathered = SUREFOOT__GATHERED__INIT;
    SET(message, schema_major, WIRE_SCHEMA_MAJOR);
    SET(hello, n_ranks, 0);
    hello.name = "group0";
    SET(gathered, order_id, 1);
    for (int i = 0; i < 4; i++) {
        uint8_t *bytes = NULL;
        size_t size = 0;
        message.hello = i == 1 || i == 2 ? &hello : NULL;
        message.gathered = i == 0 ? &gathered : NULL;
        SET(hello, slots, i == 2 ? UINT32_MAX : 0);
        assert_ok(wire_pack(WIRE_GROUP_MESSAGE, &message, &bytes, &size), NULL);
        assert_ok(channel_send(channel, NULL, bytes, size), NULL);
        assert_ok(channel_send(channel, NULL, bytes, size / 2), NULL);
        free(bytes);
    }
    raw_assert_service_goes_on(client);
    channel_close(channel);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_envelopes_that_cannot_be),
        cmocka_unit_test(test_damaged_messages),
        cmocka_unit_test(test_random_messages),
        cmocka_unit_test(test_oversize_messages),
        cmocka_unit_test(test_library_sends_nothing_oversize),
        cmocka_unit_test(test_noise_on_the_sockets),
        cmocka_unit_test(test_noise_of_a_false_group),
    };
    return cmocka_run_group_tests(tests, raw_setup, raw_teardown);
}
