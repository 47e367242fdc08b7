#include "tests/coordinator/harness.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/deadline.h"
#include "common/log.h"
#include "common/rng.h"
#include "proto/limits.h"
#include "tests/support/testkit.h"

struct harness *harness_open(void) {
    struct harness *harness = calloc(1, sizeof *harness);
    assert_non_null(harness);
    log_init("test", LOG_LEVEL_ERROR);
    harness->directory = testkit_make_directory();
    snprintf(harness->store_path, sizeof harness->store_path, "%s/store.db", harness->directory);
    snprintf(harness->client_endpoint, sizeof harness->client_endpoint, "ipc://%s/c",
             harness->directory);
    snprintf(harness->group_endpoint, sizeof harness->group_endpoint, "ipc://%s/g",
             harness->directory);
    harness->options = (struct coordinator_options){
        .client_endpoint = harness->client_endpoint,
        .group_endpoint = harness->group_endpoint,
        .store_path = harness->store_path,
        .heartbeat_ms = HARNESS_BEAT_MS,
        .dead_after_ms = 25 * HARNESS_BEAT_MS,
    };
    struct error err = {0};
    const struct channel_options options = {.message_bytes_max = 2 * LIMIT_CLIENT_MESSAGE_BYTES};
    assert_ok(channel_context_create(&harness->context), NULL);
    assert_ok(channel_connect(harness->context, harness->client_endpoint, &options,
                              &harness->client, &err),
              &err);
    return harness;
}

static void *run(void *context) {
    struct harness *harness = context;
    enum status status = coordinator_run(harness->coordinator, harness->stop_fd);
    return (void *)(uintptr_t)status;
}

void harness_start(struct harness *harness) {
    struct error err = {0};
    assert_ok(coordinator_open(&harness->options, &harness->coordinator, &err), &err);
    harness->stop_fd = eventfd(0, EFD_CLOEXEC);
    assert_true(harness->stop_fd >= 0);
    assert_int_equal(pthread_create(&harness->thread, NULL, run, harness), 0);
}

void harness_stop(struct harness *harness) {
    if (harness->coordinator == NULL) {
        return;
    }
    uint64_t one = 1;
    assert_int_equal(write(harness->stop_fd, &one, sizeof one), sizeof one);
    void *status = NULL;
    assert_int_equal(pthread_join(harness->thread, &status), 0);
    assert_int_equal((uintptr_t)status, STATUS_OK);
    close(harness->stop_fd);
    coordinator_close(harness->coordinator);
    harness->coordinator = NULL;
}

void harness_close(struct harness *harness) {
    harness_stop(harness);
    for (int g = 0; g < HARNESS_GROUPS; g++) {
        harness_disconnect(harness, g);
    }
    for (size_t i = 0; i < harness->n_pushes; i++) {
        harness_free(harness->pushes[i]);
    }
    channel_close(harness->client);
    channel_context_destroy(harness->context);
    testkit_remove_tree(harness->directory);
    free(harness);
}

void harness_free(Surefoot__ClientReply *reply) {
    wire_free(WIRE_CLIENT_REPLY, reply);
}

static void group_send(struct fake_group *group, Surefoot__GroupMessage *message) {
    message->has_schema_major = true;
    message->schema_major = WIRE_SCHEMA_MAJOR;
    message->has_schema_minor = true;
    message->schema_minor = (uint32_t)(WIRE_SCHEMA_MINOR + group->newer);
    uint8_t *bytes;
    size_t size;
    assert_ok(wire_pack(WIRE_GROUP_MESSAGE, message, &bytes, &size), NULL);
    assert_ok(channel_send(group->channel, NULL, bytes, size), NULL);
    free(bytes);
}

static void group_hello(struct fake_group *group) {
    Surefoot__ModelInfo models[3];
    for (int i = 0; i < 3; i++) {
        surefoot__model_info__init(&models[i]);
        models[i].hash = "abc";
    }
    models[0].name = "policy";
    models[0].role = "policy";
    models[0].hash = (char *)group->policy_hash;
    models[0].precision = (char *)group->precision;
    models[0].kv_dtype = (char *)group->kv_dtype;
    models[1].name = "reward";
    models[1].role = "reward";
    models[2].name = "cost";
    models[2].role = "cost";
    models[2].cost_mode = "token_sum_pos";
    models[2].has_budget = true;
    models[2].budget = 3;
    Surefoot__ModelInfo *scorers[2] = {&models[1], &models[2]};
    Surefoot__GroupHello hello = SUREFOOT__GROUP_HELLO__INIT;
    hello.name = group->name;
    hello.has_n_ranks = true;
    hello.n_ranks = 1;
    hello.has_slots = true;
    hello.slots = group->slots;
    hello.policy = &models[0];
    hello.scorers = scorers;
    hello.n_scorers = group->has_policy_alone ? 0 : 2;
    Surefoot__GroupMessage message = SUREFOOT__GROUP_MESSAGE__INIT;
    message.hello = &hello;
    group_send(group, &message);
}

static uint32_t draw(const struct fake_job *job, uint64_t candidate, uint32_t position,
                     uint32_t n) {
    return (uint32_t)(rng_uniform(job->seed, candidate, position, 0) * n);
}

static float token_cost(const struct fake_job *job, uint32_t token) {
    return job->is_costly ? 100.0f : token % 8 == 0 ? 0.75f : 0.03125f;
}

static double reward_of(const uint32_t *tokens, size_t n) {
    double reward = 0;
    for (size_t i = 0; i < n; i++) {
        reward += ((double)(tokens[i] * 2654435761u % 1000) - 500) / 1000;
    }
    return reward;
}

static const struct fake_job *find_job(const struct fake_group *group, uint64_t id) {
    for (size_t i = 0; i < group->n_jobs; i++) {
        if (group->jobs[i].id == id) {
            return &group->jobs[i];
        }
    }
    return NULL;
}

// A row with everything that it points to.
struct fake_row {
    Surefoot__Row row;
    Surefoot__ErrorInfo error;
    Surefoot__RowScore scores[2];
    Surefoot__RowScore *score_list[2];
    uint32_t tokens[1024]; // the whole response
    float logprobs[1024];
    float costs[1024];
    char text[64];
};

static void make_row(const struct fake_job *job, const Surefoot__OrderItem *item,
                     struct fake_row *out) {
    Surefoot__Row *row = &out->row;
    surefoot__row__init(row);
    row->has_job_id = row->has_candidate_id = row->has_finish = true;
    row->job_id = item->job_id;
    row->candidate_id = item->candidate_id;
    assert_true(item->n_tokens + item->grow_tokens <= 1024);
    for (size_t i = 0; i < item->n_tokens; i++) {
        out->tokens[i] = item->tokens[i];
    }
    uint32_t length = (uint32_t)item->n_tokens;
    uint32_t end = 12 + draw(job, item->candidate_id, 5000, 40); // where this lineage says EOS
    while (length < item->n_tokens + item->grow_tokens &&
           row->finish == SUREFOOT__FINISH__FINISH_NONE) {
        out->tokens[length] = draw(job, item->candidate_id, length, 64) + item->penalty_index;
        out->logprobs[length] = -1.0f - (float)length / 64;
        length++;
        row->finish = length >= job->max_tokens ? SUREFOOT__FINISH__FINISH_LENGTH
                      : length >= end           ? SUREFOOT__FINISH__FINISH_EOS
                                                : SUREFOOT__FINISH__FINISH_NONE;
    }
    row->token_ids = out->tokens + item->n_tokens;
    row->n_token_ids = length - item->n_tokens;
    row->logprobs = out->logprobs + item->n_tokens;
    row->n_logprobs = row->n_token_ids;
    for (uint32_t i = 0; i < length; i++) {
        out->costs[i] = token_cost(job, out->tokens[i]);
    }
    for (uint32_t k = 0; k < 2; k++) {
        Surefoot__RowScore *score = &out->scores[k];
        surefoot__row_score__init(score);
        score->has_scorer_index = score->has_end_score = score->has_prompt_score = true;
        score->has_scores_from = true;
        score->scorer_index = k;
        score->end_score = k == 0 ? (float)reward_of(out->tokens, length) : out->costs[length - 1];
        score->scores_from = (uint32_t)item->n_tokens;
        score->token_scores = out->costs + item->n_tokens;
        score->n_token_scores = row->n_token_ids;
        out->score_list[k] = score;
    }
    row->scores = out->score_list;
    row->n_scores = job->n_scorers;
    if (row->finish != SUREFOOT__FINISH__FINISH_NONE) {
        snprintf(out->text, sizeof out->text, "text of %u tokens ending in %u", length,
                 out->tokens[length - 1]);
        row->text = out->text;
    }
}

static void say_error(struct fake_row *row, enum status status) {
    surefoot__error_info__init(&row->error);
    row->error.has_status = true;
    row->error.status = status;
    row->error.field = "prompt";
    row->error.message = "as the test wants";
    row->row.error = &row->error;
}

static void spoil_first_row(struct fake_group *group, struct fake_row *first) {
    if (group->row_error != STATUS_OK) {
        say_error(first, group->row_error);
        group->row_error = group->repeats_error ? group->row_error : STATUS_OK;
    }
    if (group->breaks_row) {
        first->scores[1].end_score = NAN;
        group->breaks_row = false;
    }
}

static void answer_order(struct fake_group *group, const Surefoot__Order *order) {
    size_t n = order->n_items;
    struct fake_row *rows = calloc(n + 1, sizeof *rows);
    Surefoot__Row **list = calloc(n + 1, sizeof *list);
    uint64_t *unknown = calloc(n + 1, sizeof *unknown);
    assert_true(rows != NULL && list != NULL && unknown != NULL);
    Surefoot__Gathered gathered = SUREFOOT__GATHERED__INIT;
    gathered.has_order_id = true;
    gathered.order_id = order->order_id;
    for (size_t i = 0; i < n; i++) {
        const struct fake_job *job = find_job(group, order->items[i]->job_id);
        if (job == NULL) {
            unknown[gathered.n_unknown_jobs++] = order->items[i]->job_id;
            continue;
        }
        struct fake_row *row = &rows[gathered.n_rows];
        make_row(job, order->items[i], row);
        if (job->is_infinite) {
            say_error(row, STATUS_INTERNAL);
        }
        if (group->breaks_rows) {
            row->scores[1].end_score = NAN;
        }
        list[gathered.n_rows++] = &row->row;
    }
    if (gathered.n_rows > 0) {
        spoil_first_row(group, &rows[0]);
    }
    for (size_t i = 0; group->reverses_rows && i < gathered.n_rows / 2; i++) {
        Surefoot__Row *row = list[i];
        list[i] = list[gathered.n_rows - 1 - i];
        list[gathered.n_rows - 1 - i] = row;
    }
    gathered.rows = list;
    gathered.unknown_jobs = unknown;
    gathered.has_decode_ms = gathered.has_score_ms = gathered.has_collective_ms = true;
    gathered.decode_ms = HARNESS_DECODE_MS;
    gathered.score_ms = HARNESS_SCORE_MS;
    gathered.collective_ms = INFINITY; // what no group should say
    gathered.has_rebuilt_tokens = true;
    gathered.rebuilt_tokens = HARNESS_REBUILT_TOKENS;
    uint64_t rebuilt_job = order->n_items > 0 ? order->items[0]->job_id : 0;
    gathered.rebuilt_jobs = &rebuilt_job;
    gathered.n_rebuilt_jobs = 1;
    gathered.rebuilt_job_tokens = &gathered.rebuilt_tokens;
    gathered.n_rebuilt_job_tokens = 1;
    uint64_t scored_tokens = HARNESS_SCORED_TOKENS;
    gathered.scored_jobs = &rebuilt_job;
    gathered.n_scored_jobs = 1;
    gathered.scored_job_tokens = &scored_tokens;
    gathered.n_scored_job_tokens = 1;
    gathered.has_order_ms = true;
    gathered.order_ms = HARNESS_ORDER_MS;
    Surefoot__GroupMessage message = SUREFOOT__GROUP_MESSAGE__INIT;
    message.gathered = &gathered;
    group_send(group, &message);
    free(rows);
    free(list);
    free(unknown);
}

static void take_jobs(struct fake_group *group, const Surefoot__Order *order) {
    for (size_t i = 0; i < order->n_jobs; i++) {
        const Surefoot__GroupJob *job = order->jobs[i];
        if (find_job(group, job->job_id) != NULL) {
            group->retold++;
            continue;
        }
        assert_in_range(group->n_jobs, 0, HARNESS_JOBS - 1);
        group->jobs[group->n_jobs++] = (struct fake_job){
            .id = job->job_id,
            .seed = job->seed,
            .max_tokens = job->max_tokens,
            .n_scorers = (uint32_t)job->n_scorers,
            .is_costly = strcmp(job->prompt, "costly") == 0,
            .is_infinite = strcmp(job->prompt, "infinite") == 0,
            .is_deadly = group->deadly != NULL && strcmp(job->prompt, group->deadly) == 0,
        };
    }
}

void harness_answer_held(struct fake_group *group) {
    assert_non_null(group->held);
    answer_order(group, group->held->order);
    wire_free(WIRE_GROUP_COMMAND, group->held);
    group->held = group->behind;
    group->behind = NULL;
}

// Takes `command`.
static void on_order(struct fake_group *group, Surefoot__GroupCommand *command) {
    const Surefoot__Order *order = command->order;
    assert_null(group->behind); // two orders at a time
    assert_true(order->n_items <= group->slots);
    group->orders++;
    group->largest_order =
        order->n_items > group->largest_order ? order->n_items : group->largest_order;
    for (size_t i = 0; i < order->n_releases; i++) {
        group->releases += order->releases[i]->n_candidate_ids + order->releases[i]->whole_job;
    }
    take_jobs(group, order);
    if (group->forgets_jobs) {
        group->forgets_jobs = false;
        group->n_jobs = 0;
    }
    if (group->held == NULL) {
        group->held = command;
    } else {
        assert_true(group->held->order->n_items == group->slots); // which it leaves no room in
        group->behind = command;
    }
    for (size_t i = 0; i < order->n_items; i++) {
        const struct fake_job *job = find_job(group, order->items[i]->job_id);
        group->is_dead = group->is_dead || (job != NULL && job->is_deadly);
    }
    if (group->chance_items > 0 && order->n_items >= group->chance_items) {
        group->is_dead = group->is_dead || rng_uniform(99, order->order_id, 0, 0) < 0.5;
    }
    if (!group->holds_orders && !group->is_dead) {
        harness_answer_held(group);
    }
}

// A process of the same name takes the place of one that died with its order.
static void revive(struct harness *harness, struct fake_group *group) {
    Surefoot__GroupGoodbye goodbye = SUREFOOT__GROUP_GOODBYE__INIT;
    Surefoot__GroupMessage message = SUREFOOT__GROUP_MESSAGE__INIT;
    goodbye.reason = "a rank died";
    message.goodbye = &goodbye;
    group_send(group, &message);
    channel_close(group->channel);
    group->channel = NULL;
    wire_free(WIRE_GROUP_COMMAND, group->held);
    wire_free(WIRE_GROUP_COMMAND, group->behind);
    group->held = group->behind = NULL;
    group->n_jobs = 0;
    group->is_dead = false;
    group->deaths++;
    harness_greet(harness, (int)(group - harness->groups), group->slots);
}

static void pump_group(struct fake_group *group) {
    if (group->channel == NULL || group->is_mute) {
        return;
    }
    if (clock_monotonic_ms() >= group->beat_at_ms) {
        group->beat_at_ms = clock_monotonic_ms() + HARNESS_BEAT_MS;
        Surefoot__Heartbeat heartbeat = SUREFOOT__HEARTBEAT__INIT;
        Surefoot__GroupMessage message = SUREFOOT__GROUP_MESSAGE__INIT;
        heartbeat.has_stalled_rank = heartbeat.has_stalled_ms = group->is_stalled;
        heartbeat.stalled_rank = 3;
        heartbeat.stalled_ms = 4567;
        message.heartbeat = &heartbeat;
        group_send(group, &message);
    }
    uint8_t *bytes;
    size_t size;
    while (!group->is_mute && !group->is_dead &&
           channel_receive(group->channel, NULL, &bytes, &size) == STATUS_OK) {
        void *unpacked = NULL;
        struct error err = {0};
        assert_ok(wire_unpack(WIRE_GROUP_COMMAND, bytes, size, &unpacked, &err), &err);
        free(bytes);
        Surefoot__GroupCommand *command = unpacked;
        group->welcomes += command->welcome != NULL ? 1 : 0;
        if (command->reject != NULL) {
            group->reject_status = command->reject->status;
        }
        if (command->say_hello) {
            group->say_hellos++;
            group_hello(group);
        }
        if (command->order != NULL) {
            on_order(group, command);
        } else {
            wire_free(WIRE_GROUP_COMMAND, command);
        }
    }
}

Surefoot__ClientReply *harness_pump(struct harness *harness) {
    struct channel *channels[HARNESS_GROUPS + 1] = {harness->client};
    bool ready[HARNESS_GROUPS + 1];
    int n = 1;
    for (int g = 0; g < HARNESS_GROUPS; g++) {
        if (harness->groups[g].channel != NULL && !harness->groups[g].is_mute) {
            channels[n++] = harness->groups[g].channel;
        }
    }
    enum status status = channel_poll(channels, n, -1, 5, ready);
    assert_true(status == STATUS_OK || status == STATUS_DEADLINE);
    for (int g = 0; g < HARNESS_GROUPS; g++) {
        pump_group(&harness->groups[g]);
        if (harness->groups[g].is_dead) {
            revive(harness, &harness->groups[g]);
        }
    }
    uint8_t *bytes;
    size_t size;
    if (channel_receive(harness->client, NULL, &bytes, &size) != STATUS_OK) {
        return NULL;
    }
    void *unpacked = NULL;
    struct error err = {0};
    assert_ok(wire_unpack(WIRE_CLIENT_REPLY, bytes, size, &unpacked, &err), &err);
    free(bytes);
    Surefoot__ClientReply *reply = unpacked;
    if (reply->request_id == 0 && reply->error == NULL) {
        assert_in_range(harness->n_pushes, 0, HARNESS_PUSHES - 1);
        harness->pushes[harness->n_pushes++] = reply;
        return NULL;
    }
    return reply;
}

void harness_await(struct harness *harness, bool (*condition)(void *context), void *context) {
    int64_t deadline = deadline_after_ms(HARNESS_WAIT_MS);
    while (!condition(context)) {
        if (deadline_passed(deadline)) {
            fail_msg("a condition did not hold within %d ms", HARNESS_WAIT_MS);
        }
        assert_null(harness_pump(harness));
    }
}

static bool is_welcome(void *context) {
    const struct fake_group *group = context;
    return group->welcomes > 0;
}

struct fake_group *harness_greet(struct harness *harness, int index, uint32_t slots) {
    struct fake_group *group = &harness->groups[index];
    assert_null(group->channel);
    // Tests set name and hash beforehand where they matter.
    group->slots = slots;
    group->policy_hash = group->policy_hash != NULL ? group->policy_hash : "abc";
    if (group->name[0] == '\0') {
        snprintf(group->name, sizeof group->name, "group-%d", index);
    }
    const struct channel_options options = {.message_bytes_max = LIMIT_GROUP_MESSAGE_BYTES};
    struct error err = {0};
    assert_ok(
        channel_connect(harness->context, harness->group_endpoint, &options, &group->channel, &err),
        &err);
    group_hello(group);
    group->beat_at_ms = clock_monotonic_ms() + HARNESS_BEAT_MS;
    return group;
}

struct fake_group *harness_connect(struct harness *harness, int index, uint32_t slots) {
    struct fake_group *group = harness_greet(harness, index, slots);
    harness_await(harness, is_welcome, group);
    return group;
}

void harness_disconnect(struct harness *harness, int index) {
    struct fake_group *group = &harness->groups[index];
    wire_free(WIRE_GROUP_COMMAND, group->held);
    wire_free(WIRE_GROUP_COMMAND, group->behind);
    channel_close(group->channel);
    *group = (struct fake_group){.channel = NULL};
}

Surefoot__ClientReply *harness_call_bytes(struct harness *harness, const uint8_t *bytes,
                                          size_t size) {
    assert_ok(channel_send(harness->client, NULL, bytes, size), NULL);
    int64_t deadline = deadline_after_ms(HARNESS_WAIT_MS);
    Surefoot__ClientReply *reply = NULL;
    while (reply == NULL) {
        if (deadline_passed(deadline)) {
            fail_msg("no reply within %d ms", HARNESS_WAIT_MS);
        }
        reply = harness_pump(harness);
    }
    return reply;
}

Surefoot__ClientReply *harness_call(struct harness *harness, Surefoot__ClientRequest *request) {
    request->has_schema_major = true;
    request->schema_major = WIRE_SCHEMA_MAJOR;
    request->has_request_id = true;
    request->request_id = ++harness->last_request;
    uint8_t *bytes;
    size_t size;
    assert_ok(wire_pack(WIRE_CLIENT_REQUEST, request, &bytes, &size), NULL);
    Surefoot__ClientReply *reply = harness_call_bytes(harness, bytes, size);
    free(bytes);
    assert_int_equal(reply->request_id, request->request_id);
    return reply;
}

Surefoot__ClientReply *harness_submit(struct harness *harness, const char *key,
                                      const Surefoot__JobSpec *spec, bool stream) {
    Surefoot__SubmitJob submit = SUREFOOT__SUBMIT_JOB__INIT;
    Surefoot__ClientRequest request = SUREFOOT__CLIENT_REQUEST__INIT;
    submit.job_key = (char *)key;
    submit.spec = (Surefoot__JobSpec *)spec;
    submit.has_stream = stream;
    submit.stream = stream;
    request.submit = &submit;
    return harness_call(harness, &request);
}

void harness_accept(struct harness *harness, const char *key, const Surefoot__JobSpec *spec) {
    Surefoot__ClientReply *reply = harness_submit(harness, key, spec, false);
    if (reply->accepted == NULL) {
        fail_msg("not accepted: %s %s", reply->error->field, reply->error->message);
    }
    assert_string_equal(reply->accepted->job_key, key);
    assert_false(reply->accepted->duplicate);
    harness_free(reply);
}

Surefoot__ClientReply *harness_fetch(struct harness *harness, const char *key, uint32_t wait_ms) {
    Surefoot__FetchJob fetch = SUREFOOT__FETCH_JOB__INIT;
    Surefoot__ClientRequest request = SUREFOOT__CLIENT_REQUEST__INIT;
    fetch.job_key = (char *)key;
    fetch.has_wait_ms = wait_ms > 0;
    fetch.wait_ms = wait_ms;
    request.fetch = &fetch;
    return harness_call(harness, &request);
}

Surefoot__ClientReply *harness_cancel(struct harness *harness, const char *key) {
    Surefoot__CancelJob cancel = SUREFOOT__CANCEL_JOB__INIT;
    Surefoot__ClientRequest request = SUREFOOT__CLIENT_REQUEST__INIT;
    cancel.job_key = (char *)key;
    request.cancel = &cancel;
    return harness_call(harness, &request);
}

Surefoot__ClientReply *harness_close_job(struct harness *harness, const char *key) {
    Surefoot__CloseJob close_job = SUREFOOT__CLOSE_JOB__INIT;
    Surefoot__ClientRequest request = SUREFOOT__CLIENT_REQUEST__INIT;
    close_job.job_key = (char *)key;
    request.close = &close_job;
    return harness_call(harness, &request);
}

Surefoot__ClientReply *harness_list(struct harness *harness, uint64_t after, uint32_t limit) {
    Surefoot__ListJobs list = SUREFOOT__LIST_JOBS__INIT;
    Surefoot__ClientRequest request = SUREFOOT__CLIENT_REQUEST__INIT;
    list.has_after = true;
    list.after = after;
    list.has_limit = limit > 0;
    list.limit = limit;
    request.list = &list;
    return harness_call(harness, &request);
}

Surefoot__ClientReply *harness_purge(struct harness *harness, uint64_t older_than_ms) {
    Surefoot__PurgeJobs purge = SUREFOOT__PURGE_JOBS__INIT;
    Surefoot__ClientRequest request = SUREFOOT__CLIENT_REQUEST__INIT;
    purge.has_older_than_ms = true;
    purge.older_than_ms = older_than_ms;
    request.purge = &purge;
    return harness_call(harness, &request);
}

Surefoot__ClientReply *harness_result(struct harness *harness, const char *key) {
    Surefoot__ClientReply *reply = harness_fetch(harness, key, HARNESS_WAIT_MS - 5000);
    if (reply->result == NULL) {
        fail_msg("no result of %s: %s", key,
                 reply->error != NULL ? reply->error->message : "not done in time");
    }
    return reply;
}
