// Channels over loopback: both ends are polled by one thread, so nothing here depends on timing.
#include "proto/channel.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zmq.h>

#include "common/deadline.h"
#include "tests/support/testkit.h"

enum { WAIT_MS = 120000, MESSAGE_MAX = 4096 };

static const struct channel_options plain = {.message_bytes_max = MESSAGE_MAX};

// The channels of one test, closed after it whether it passed or failed: an open one would keep the
// context from ending.
struct fixture {
    struct channel_context *context;
    struct channel *channels[8];
    int count;
};

static int set_up(void **state) {
    struct fixture *fixture = calloc(1, sizeof *fixture);
    assert_non_null(fixture);
    assert_ok(channel_context_create(&fixture->context), NULL);
    *state = fixture;
    return 0;
}

static int tear_down(void **state) {
    struct fixture *fixture = *state;
    for (int i = 0; i < fixture->count; i++) {
        channel_close(fixture->channels[i]);
    }
    channel_context_destroy(fixture->context);
    free(fixture);
    return 0;
}

static struct channel *keep(struct fixture *fixture, struct channel *channel) {
    assert_true(fixture->count < 8);
    fixture->channels[fixture->count++] = channel;
    return channel;
}

static void close_now(struct fixture *fixture, struct channel *channel) {
    for (int i = 0; i < fixture->count; i++) {
        if (fixture->channels[i] == channel) {
            fixture->channels[i] = fixture->channels[--fixture->count];
            channel_close(channel);
            return;
        }
    }
    fail_msg("not a channel of this test");
}

static struct channel *bind_free(struct fixture *fixture, const char *endpoint) {
    struct channel *channel = NULL;
    struct error err;
    assert_ok(channel_bind(fixture->context, endpoint, &plain, &channel, &err), &err);
    return keep(fixture, channel);
}

static struct channel *connect_with(struct fixture *fixture, const char *endpoint,
                                    const struct channel_options *options) {
    struct channel *channel = NULL;
    struct error err;
    assert_ok(channel_connect(fixture->context, endpoint, options, &channel, &err), &err);
    return keep(fixture, channel);
}

static struct channel *connect_to(struct fixture *fixture, const char *endpoint,
                                  const char *identity) {
    struct channel_options options = plain;
    options.identity = identity;
    return connect_with(fixture, endpoint, &options);
}

static void wait_ready(struct channel *channel) {
    bool ready = false;
    int64_t deadline = deadline_after_ms(WAIT_MS);
    while (!ready && !deadline_passed(deadline)) {
        enum status status = channel_poll(&channel, 1, -1, deadline_left_ms(deadline), &ready);
        assert_true(status == STATUS_OK || status == STATUS_DEADLINE);
    }
    assert_true(ready);
}

// Lets the channel's socket see what happened to its connections, for a moment at most.
static void poll_briefly(struct channel *channel) {
    bool ready = false;
    enum status status = channel_poll(&channel, 1, -1, 20, &ready);
    assert_true(status == STATUS_OK || status == STATUS_DEADLINE);
}

static void expect_message(struct channel *channel, struct channel_peer *peer, const char *text) {
    wait_ready(channel);
    uint8_t *bytes = NULL;
    size_t size = 0;
    assert_ok(channel_receive(channel, peer, &bytes, &size), NULL);
    assert_int_equal(size, strlen(text));
    assert_memory_equal(bytes, text, size);
    free(bytes);
}

static enum status send_text(struct channel *channel, const struct channel_peer *peer,
                             const char *text) {
    return channel_send(channel, peer, (const uint8_t *)text, strlen(text));
}

static void exchange(struct fixture *fixture, const char *bind_to) {
    struct channel *router = bind_free(fixture, bind_to);
    struct channel *dealer = connect_to(fixture, channel_endpoint(router), NULL);
    struct channel_peer peer;
    assert_ok(send_text(dealer, NULL, "question"), NULL);
    expect_message(router, &peer, "question");
    assert_ok(send_text(router, &peer, "answer"), NULL);
    expect_message(dealer, NULL, "answer");
    uint8_t *bytes = NULL;
    size_t size = 0;
    assert_status(STATUS_NOT_FOUND, channel_receive(dealer, NULL, &bytes, &size));
}

static void test_question_and_answer_over_tcp(void **state) {
    exchange(*state, "tcp://127.0.0.1:*");
    exchange(*state, "tcp://127.0.0.1:0");
}

static void test_question_and_answer_over_ipc(void **state) {
    char *directory = testkit_make_directory();
    char endpoint[256];
    snprintf(endpoint, sizeof endpoint, "ipc://%s/socket", directory);
    exchange(*state, endpoint);
    testkit_remove_tree(directory);
}

static void test_endpoint_is_the_bound_one(void **state) {
    struct channel *router = bind_free(*state, "tcp://127.0.0.1:*");
    assert_memory_equal(channel_endpoint(router), "tcp://127.0.0.1:", 16);
    assert_true(atoi(channel_endpoint(router) + 16) > 0);
}

static void test_empty_message_arrives_empty(void **state) {
    struct channel *router = bind_free(*state, "tcp://127.0.0.1:*");
    struct channel *dealer = connect_to(*state, channel_endpoint(router), NULL);
    struct channel_peer peer;
    assert_ok(send_text(dealer, NULL, ""), NULL);
    expect_message(router, &peer, "");
}

static void test_port_in_use_is_named(void **state) {
    struct channel *first = bind_free(*state, "tcp://127.0.0.1:*");
    struct channel *second = NULL;
    struct error err;
    assert_status(STATUS_ADDRESS_IN_USE,
                  channel_bind(((struct fixture *)*state)->context, channel_endpoint(first), &plain,
                               &second, &err));
    assert_string_equal(err.field, "endpoint");
    assert_null(second);
}

static void test_live_ipc_socket_and_plain_files_are_left_alone(void **state) {
    char *directory = testkit_make_directory();
    char endpoint[256];
    snprintf(endpoint, sizeof endpoint, "ipc://%s/socket", directory);
    struct channel *first = bind_free(*state, endpoint);
    struct channel *second = NULL;
    struct error err;
    assert_status(STATUS_ADDRESS_IN_USE, channel_bind(((struct fixture *)*state)->context, endpoint,
                                                      &plain, &second, &err));
    close_now(*state, first);
    snprintf(endpoint, sizeof endpoint, "ipc://%s/file", directory);
    testkit_write_file(endpoint + 6, "keep", 4);
    assert_status(STATUS_INVALID_ARGUMENT, channel_bind(((struct fixture *)*state)->context,
                                                        endpoint, &plain, &second, &err));
    assert_int_equal(access(endpoint + 6, F_OK), 0);
    testkit_remove_tree(directory);
}

static void expect_refused(struct fixture *fixture, const char *endpoint, enum status expected) {
    struct channel *channel = NULL;
    struct error err;
    assert_status(expected, channel_bind(fixture->context, endpoint, &plain, &channel, &err));
    assert_string_equal(err.field, "endpoint");
    assert_status(expected, channel_connect(fixture->context, endpoint, &plain, &channel, &err));
    assert_null(channel);
}

static void test_other_addresses_than_loopback_are_refused(void **state) {
    expect_refused(*state, "tcp://0.0.0.0:5555", STATUS_INVALID_ARGUMENT);
    expect_refused(*state, "tcp://*:5555", STATUS_INVALID_ARGUMENT);
    expect_refused(*state, "tcp://10.0.0.1:5555", STATUS_INVALID_ARGUMENT);
    expect_refused(*state, "tcp://localhost:5555", STATUS_INVALID_ARGUMENT);
    expect_refused(*state, "tcp://[::]:5555", STATUS_INVALID_ARGUMENT);
    expect_refused(*state, "tcp://127.0.0.1", STATUS_INVALID_ARGUMENT);
    expect_refused(*state, "tcp://127.0.0.1:70000", STATUS_INVALID_ARGUMENT);
    expect_refused(*state, "tcp://127.0.0.1:12a", STATUS_INVALID_ARGUMENT);
    expect_refused(*state, "udp://127.0.0.1:5555", STATUS_INVALID_ARGUMENT);
    expect_refused(*state, "inproc://here", STATUS_INVALID_ARGUMENT);
    expect_refused(*state, "ipc://", STATUS_INVALID_ARGUMENT);
    expect_refused(*state, "ipc://@abstract", STATUS_INVALID_ARGUMENT);
    char longer[200];
    memset(longer, 'x', sizeof longer);
    memcpy(longer, "ipc:///", 7);
    longer[199] = '\0';
    expect_refused(*state, longer, STATUS_LIMIT);
}

static void test_send_to_a_peer_that_left_reports_it(void **state) {
    struct channel *router = bind_free(*state, "tcp://127.0.0.1:*");
    struct channel *dealer = connect_to(*state, channel_endpoint(router), NULL);
    struct channel_peer peer;
    assert_ok(send_text(dealer, NULL, "hello"), NULL);
    expect_message(router, &peer, "hello");
    close_now(*state, dealer);
    int64_t deadline = deadline_after_ms(WAIT_MS);
    enum status status = STATUS_OK;
    while (status != STATUS_PEER_LOST && !deadline_passed(deadline)) {
        poll_briefly(router);
        status = send_text(router, &peer, "answer");
        assert_true(status == STATUS_OK || status == STATUS_PEER_LOST);
    }
    assert_status(STATUS_PEER_LOST, status);
    struct channel_peer unknown = {.size = 3, .bytes = "abc"};
    assert_status(STATUS_PEER_LOST, send_text(router, &unknown, "answer"));
}

static void test_full_queue_says_try_again(void **state) {
    struct channel_options options = plain;
    options.queue_depth_max = 4;
    // Nothing listens on port 1, so the queue only fills.
    struct channel *dealer = connect_with(*state, "tcp://127.0.0.1:1", &options);
    enum status status = STATUS_OK;
    int sent = 0;
    while (status == STATUS_OK && sent < 100) {
        status = send_text(dealer, NULL, "x");
        sent += status == STATUS_OK;
    }
    assert_status(STATUS_UNAVAILABLE, status);
    assert_int_equal(sent, 4);
}

// Sends numbered messages until one is refused; how many were taken.
static uint32_t send_until_refused(struct channel *router, const struct channel_peer *peer,
                                   size_t size) {
    uint8_t *bytes = calloc(1, size);
    assert_non_null(bytes);
    uint32_t count = 0;
    enum status status = STATUS_OK;
    while (status == STATUS_OK) {
        memcpy(bytes, &count, sizeof count);
        status = channel_send(router, peer, bytes, size);
        count += status == STATUS_OK ? 1 : 0;
    }
    assert_status(STATUS_UNAVAILABLE, status);
    free(bytes);
    return count;
}

static void test_peer_that_does_not_read_costs_bounded_bytes(void **state) {
    enum { SIZE = 16 << 10, UNSENT_MAX = 256 << 10, SYSTEM_MAX = 2 << 20 };
    char *directory = testkit_make_directory();
    char endpoint[256];
    snprintf(endpoint, sizeof endpoint, "ipc://%s/socket", directory);
    const struct channel_options bounded = {.message_bytes_max = SIZE,
                                            .unsent_bytes_max = UNSENT_MAX,
                                            .unsent_total_max = 4 * UNSENT_MAX};
    const struct channel_options narrow = {.message_bytes_max = SIZE, .receive_depth_max = 1};
    struct fixture *fixture = *state;
    struct channel *router = NULL;
    struct error err;
    assert_ok(channel_bind(fixture->context, endpoint, &bounded, &router, &err), &err);
    keep(fixture, router);
    struct channel *idle = connect_with(fixture, endpoint, &narrow);
    struct channel_peer idle_peer;
    assert_ok(send_text(idle, NULL, "hello"), NULL);
    expect_message(router, &idle_peer, "hello");
    uint32_t sent = send_until_refused(router, &idle_peer, SIZE);
    assert_in_range(sent, UNSENT_MAX / SIZE, (UNSENT_MAX + SYSTEM_MAX) / SIZE);
    // Others are served, and it is itself when it has read.
    struct channel *other = connect_with(fixture, endpoint, &narrow);
    struct channel_peer other_peer;
    assert_ok(send_text(other, NULL, "hello"), NULL);
    expect_message(router, &other_peer, "hello");
    assert_ok(send_text(router, &other_peer, "answer"), NULL);
    expect_message(other, NULL, "answer");
    for (uint32_t i = 0; i < sent; i++) {
        uint8_t *bytes = NULL;
        size_t size = 0;
        uint32_t number = 0;
        wait_ready(idle);
        assert_ok(channel_receive(idle, NULL, &bytes, &size), NULL);
        assert_int_equal(size, SIZE);
        memcpy(&number, bytes, sizeof number);
        assert_int_equal(number, i);
        free(bytes);
    }
    assert_ok(send_text(router, &idle_peer, "again"), NULL);
    expect_message(idle, NULL, "again");
    testkit_remove_tree(directory);
}

// However many they are; who reads is still answered, in short.
static void test_all_that_do_not_read_cost_bounded_bytes(void **state) {
    enum { SIZE = 128 << 10, TOTAL_MAX = 4 << 20, IDLE = 5, SYSTEM_MAX = IDLE << 20 };
    char *directory = testkit_make_directory();
    char endpoint[256];
    snprintf(endpoint, sizeof endpoint, "ipc://%s/socket", directory);
    const struct channel_options bounded = {
        .message_bytes_max = SIZE, .unsent_bytes_max = TOTAL_MAX, .unsent_total_max = TOTAL_MAX};
    const struct channel_options narrow = {.message_bytes_max = SIZE, .receive_depth_max = 1};
    struct fixture *fixture = *state;
    struct channel *router = NULL;
    struct channel_peer peer;
    struct error err;
    assert_ok(channel_bind(fixture->context, endpoint, &bounded, &router, &err), &err);
    keep(fixture, router);
    uint32_t sent = 0;
    for (int i = 0; i < IDLE; i++) {
        struct channel *idle = connect_with(fixture, endpoint, &narrow);
        assert_ok(send_text(idle, NULL, "hello"), NULL);
        expect_message(router, &peer, "hello");
        sent += send_until_refused(router, &peer, SIZE);
    }
    assert_in_range(sent, TOTAL_MAX / SIZE, (TOTAL_MAX + SYSTEM_MAX) / SIZE);
    struct channel *other = connect_with(fixture, endpoint, &narrow);
    assert_ok(send_text(other, NULL, "hello"), NULL);
    expect_message(router, &peer, "hello");
    for (int i = 0; i < 3; i++) {
        enum status status = STATUS_UNAVAILABLE; // until the one before is on its way
        for (int64_t end = deadline_after_ms(WAIT_MS);
             status == STATUS_UNAVAILABLE && !deadline_passed(end);) {
            status = send_text(router, &peer, "answer");
        }
        assert_ok(status, NULL);
        expect_message(other, NULL, "answer");
    }
    testkit_remove_tree(directory);
}

static void test_one_message_passes_whatever_its_size(void **state) {
    const struct channel_options tight = {
        .message_bytes_max = MESSAGE_MAX, .unsent_bytes_max = 1, .unsent_total_max = MESSAGE_MAX};
    struct fixture *fixture = *state;
    struct channel *router = NULL;
    struct error err;
    assert_ok(channel_bind(fixture->context, "tcp://127.0.0.1:*", &tight, &router, &err), &err);
    keep(fixture, router);
    struct channel *dealer = connect_to(fixture, channel_endpoint(router), NULL);
    struct channel_peer peer;
    assert_ok(send_text(dealer, NULL, "hello"), NULL);
    expect_message(router, &peer, "hello");
    assert_ok(send_text(router, &peer, "answer"), NULL);
    expect_message(dealer, NULL, "answer");
}

static void test_fixed_identity_survives_a_reconnect(void **state) {
    struct channel *router = bind_free(*state, "tcp://127.0.0.1:*");
    struct channel *dealer = connect_to(*state, channel_endpoint(router), "group-a");
    struct channel_peer peer;
    assert_ok(send_text(dealer, NULL, "one"), NULL);
    expect_message(router, &peer, "one");
    assert_int_equal(peer.size, 7);
    assert_memory_equal(peer.bytes, "group-a", 7);
    // A second connection under the same name takes over while the first still stands.
    struct channel *again = connect_to(*state, channel_endpoint(router), "group-a");
    assert_ok(send_text(again, NULL, "two"), NULL);
    expect_message(router, &peer, "two");
    assert_ok(send_text(router, &peer, "answer"), NULL);
    expect_message(again, NULL, "answer");
}

static void test_messages_of_more_frames_are_dropped_and_counted(void **state) {
    struct channel *router = bind_free(*state, "tcp://127.0.0.1:*");
    void *foreign = zmq_ctx_new();
    void *socket = zmq_socket(foreign, ZMQ_DEALER);
    assert_int_equal(zmq_connect(socket, channel_endpoint(router)), 0);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(zmq_send(socket, "", 0, ZMQ_SNDMORE), 0);
        assert_int_equal(zmq_send(socket, "junk", 4, 0), 4);
    }
    assert_int_equal(zmq_send(socket, "good", 4, 0), 4);
    struct channel_peer peer;
    uint8_t *bytes = NULL;
    size_t size = 0;
    enum status status = STATUS_NOT_FOUND;
    int64_t deadline = deadline_after_ms(WAIT_MS);
    while (status == STATUS_NOT_FOUND && !deadline_passed(deadline)) {
        wait_ready(router);
        status = channel_receive(router, &peer, &bytes, &size);
    }
    assert_ok(status, NULL);
    assert_int_equal(size, 4);
    assert_memory_equal(bytes, "good", 4);
    free(bytes);
    assert_int_equal(channel_dropped(router), 5);
    zmq_close(socket);
    zmq_ctx_term(foreign);
}

static void test_oversize_is_refused_by_sender_and_receiver(void **state) {
    struct channel *router = bind_free(*state, "tcp://127.0.0.1:*");
    struct channel_options generous = {.message_bytes_max = MESSAGE_MAX * 4};
    struct channel *dealer = connect_with(*state, channel_endpoint(router), &generous);
    uint8_t large[MESSAGE_MAX * 4 + 1] = {0};
    assert_status(STATUS_LIMIT, channel_send(dealer, NULL, large, sizeof large));
    assert_ok(channel_send(dealer, NULL, large, MESSAGE_MAX + 1), NULL);
    // The receiver drops the connection; after reconnecting, small messages pass. One of them may
    // have been lost with the connection, so send until one arrives.
    struct channel_peer peer;
    uint8_t *bytes = NULL;
    size_t size = 0;
    enum status status = STATUS_NOT_FOUND;
    int64_t deadline = deadline_after_ms(WAIT_MS);
    while (status == STATUS_NOT_FOUND && !deadline_passed(deadline)) {
        enum status sent = send_text(dealer, NULL, "small");
        assert_true(sent == STATUS_OK || sent == STATUS_UNAVAILABLE);
        poll_briefly(router);
        status = channel_receive(router, &peer, &bytes, &size);
    }
    assert_ok(status, NULL);
    assert_int_equal(size, 5);
    free(bytes);
}

// A peer that goes while more of it waits than may be received. With the heartbeats of libzmq 4.3
// the next of them would end the process: a timer writes to a connection that is gone (out_event of
// stream_engine_base.cpp), which only time shows.
static void test_peer_that_leaves_more_than_is_received_costs_nothing(void **state) {
    struct fixture *fixture = *state;
    enum { MESSAGES = 100, LONGER_THAN_HEARTBEATS_MS = 2500 };
    const struct channel_options one = {.message_bytes_max = MESSAGE_MAX, .receive_depth_max = 1};
    char *directory = testkit_make_directory();
    char endpoint[256];
    snprintf(endpoint, sizeof endpoint, "ipc://%s/socket", directory);
    struct error err;
    struct channel *router = NULL;
    assert_ok(channel_bind(fixture->context, endpoint, &one, &router, &err), &err);
    keep(fixture, router);
    struct channel *dealer = connect_to(fixture, endpoint, NULL);
    for (int i = 0; i < MESSAGES; i++) {
        assert_ok(send_text(dealer, NULL, "more"), NULL);
    }
    wait_ready(router);
    close_now(fixture, dealer);
    struct channel *quiet = connect_to(fixture, endpoint, "quiet");
    bool ready = false;
    assert_status(STATUS_DEADLINE, channel_poll(&quiet, 1, -1, LONGER_THAN_HEARTBEATS_MS, &ready));
    struct channel_peer peer;
    expect_message(router, &peer, "more");
    testkit_remove_tree(directory);
}

static void test_wake_descriptor_ends_the_wait(void **state) {
    struct channel *router = bind_free(*state, "tcp://127.0.0.1:*");
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    bool ready = true;
    assert_status(STATUS_DEADLINE, channel_poll(&router, 1, ends[0], 0, &ready));
    assert_false(ready);
    assert_int_equal(write(ends[1], "x", 1), 1);
    ready = true;
    assert_ok(channel_poll(&router, 1, ends[0], WAIT_MS, &ready), NULL);
    assert_false(ready);
    close(ends[0]);
    close(ends[1]);
}

int main(void) {
#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(test_question_and_answer_over_tcp),
        CASE(test_question_and_answer_over_ipc),
        CASE(test_endpoint_is_the_bound_one),
        CASE(test_empty_message_arrives_empty),
        CASE(test_port_in_use_is_named),
        CASE(test_live_ipc_socket_and_plain_files_are_left_alone),
        CASE(test_other_addresses_than_loopback_are_refused),
        CASE(test_send_to_a_peer_that_left_reports_it),
        CASE(test_full_queue_says_try_again),
        CASE(test_peer_that_does_not_read_costs_bounded_bytes),
        CASE(test_all_that_do_not_read_cost_bounded_bytes),
        CASE(test_one_message_passes_whatever_its_size),
        CASE(test_fixed_identity_survives_a_reconnect),
        CASE(test_messages_of_more_frames_are_dropped_and_counted),
        CASE(test_oversize_is_refused_by_sender_and_receiver),
        CASE(test_peer_that_leaves_more_than_is_received_costs_nothing),
        CASE(test_wake_descriptor_ends_the_wait),
    };
#undef CASE
    return cmocka_run_group_tests(tests, NULL, NULL);
}
