#include "tests/worker/group_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/deadline.h"
#include "proto/limits.h"

static const struct channel_options channel_options = {.message_bytes_max =
                                                           LIMIT_GROUP_MESSAGE_BYTES};

void group_open(struct group_fixture *group, int n_ranks) {
    *group = (struct group_fixture){.n_ranks = n_ranks};
    fake_control_init(&group->control);
    struct error err;
    assert_ok(channel_context_create(&group->context), NULL);
    assert_ok(
        channel_bind(group->context, "tcp://127.0.0.1:*", &channel_options, &group->channel, &err),
        &err);
    snprintf(group->endpoint, sizeof group->endpoint, "%s", channel_endpoint(group->channel));
    assert_int_equal(pipe(group->stop_pipe), 0);
    struct comm *comms[GROUP_RANKS_MAX];
    assert_ok(comm_local_create(n_ranks, comms), NULL);
    for (int i = 0; i < n_ranks; i++) {
        group->members[i] = (struct group_member){
            .group = group, .comm = comms[i], .rank = fake_rank_create(&group->control)};
    }
    group->options = (struct leader_options){
        .endpoint = group->endpoint,
        .name = "test-group",
        .slots_per_rank = GROUP_SLOTS,
        .heartbeat_ms = 1000,
        .stop_fd = group->stop_pipe[0],
        .timeouts = {.collective_ms = GROUP_WAIT_MS, .order_ms = GROUP_WAIT_MS},
    };
}

static void *run_member(void *argument) {
    struct group_member *member = argument;
    const struct leader_options *options = &member->group->options;
    member->end = member->comm->rank == 0
                      ? leader_run(options, member->comm, member->rank, &member->err)
                      : follower_run(member->comm, member->rank, &options->timeouts, &member->err);
    if (member->end == GROUP_END_LOST) {
        comm_abort(member->comm, 1);
    }
    return NULL;
}

void group_start(struct group_fixture *group) {
    for (int i = 0; i < group->n_ranks; i++) {
        struct group_member *member = &group->members[i];
        assert_int_equal(pthread_create(&member->thread, NULL, run_member, member), 0);
    }
}

void group_join(struct group_fixture *group) {
    for (int i = 0; i < group->n_ranks; i++) {
        pthread_join(group->members[i].thread, NULL);
    }
}

void group_close(struct group_fixture *group) {
    for (int i = 0; i < group->n_ranks; i++) {
        comm_close(group->members[i].comm);
        rank_close(group->members[i].rank);
    }
    channel_close(group->channel);
    channel_context_destroy(group->context);
    close(group->stop_pipe[0]);
    close(group->stop_pipe[1]);
    fake_control_finish(&group->control);
}

Surefoot__GroupMessage *group_receive_any(struct group_fixture *group) {
    int64_t deadline_ms = deadline_after_ms(GROUP_WAIT_MS);
    uint8_t *bytes = NULL;
    size_t size = 0;
    while (channel_receive(group->channel, &group->peer, &bytes, &size) != STATUS_OK) {
        bool ready = false;
        assert_false(deadline_passed(deadline_ms));
        enum status status =
            channel_poll(&group->channel, 1, -1, deadline_left_ms(deadline_ms), &ready);
        assert_true(status == STATUS_OK || status == STATUS_DEADLINE);
    }
    void *message = NULL;
    struct error err;
    assert_ok(wire_unpack(WIRE_GROUP_MESSAGE, bytes, size, &message, &err), &err);
    free(bytes);
    return message;
}

Surefoot__GroupMessage *group_receive(struct group_fixture *group) {
    for (;;) {
        Surefoot__GroupMessage *message = group_receive_any(group);
        if (message->heartbeat == NULL) {
            return message;
        }
        wire_free(WIRE_GROUP_MESSAGE, message);
    }
}

void group_send_bytes(struct group_fixture *group, const void *bytes, size_t size) {
    assert_ok(channel_send(group->channel, &group->peer, bytes, size), NULL);
}

void group_send(struct group_fixture *group, Surefoot__GroupCommand *command) {
    command->has_schema_major = command->has_schema_minor = true;
    command->schema_major = WIRE_SCHEMA_MAJOR;
    command->schema_minor = WIRE_SCHEMA_MINOR;
    uint8_t *bytes = NULL;
    size_t size = 0;
    assert_ok(wire_pack(WIRE_GROUP_COMMAND, command, &bytes, &size), NULL);
    group_send_bytes(group, bytes, size);
    free(bytes);
}

void group_admit(struct group_fixture *group, uint32_t heartbeat_ms, uint32_t dead_after_ms) {
    Surefoot__GroupMessage *message = group_receive(group);
    assert_non_null(message->hello);
    assert_string_equal(message->hello->name, "test-group");
    assert_int_equal(message->hello->n_ranks, group->n_ranks);
    assert_int_equal(message->hello->slots, group->n_ranks * GROUP_SLOTS);
    assert_int_equal(message->hello->order_tokens_max, FAKE_BLOCK_TOKENS);
    assert_string_equal(message->hello->policy->name, "policy");
    wire_free(WIRE_GROUP_MESSAGE, message);
    Surefoot__GroupWelcome welcome = SUREFOOT__GROUP_WELCOME__INIT;
    welcome.has_heartbeat_ms = welcome.has_dead_after_ms = true;
    welcome.heartbeat_ms = heartbeat_ms;
    welcome.dead_after_ms = dead_after_ms;
    Surefoot__GroupCommand command = SUREFOOT__GROUP_COMMAND__INIT;
    command.welcome = &welcome;
    group_send(group, &command);
}

void group_unbind(struct group_fixture *group) {
    // With its context, so that the address is free when this returns.
    channel_close(group->channel);
    channel_context_destroy(group->context);
    group->channel = NULL;
    group->context = NULL;
}

void group_rebind(struct group_fixture *group) {
    struct error err;
    assert_ok(channel_context_create(&group->context), NULL);
    assert_ok(
        channel_bind(group->context, group->endpoint, &channel_options, &group->channel, &err),
        &err);
}
