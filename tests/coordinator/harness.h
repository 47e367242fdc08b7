// A coordinator on a thread of the test, a client, and worker groups that exist only as sockets:
// their rows are a formula of (seed, candidate, position), so that every run of a job must give the
// same. All waiting goes through harness_pump, which also lets the groups beat and answer.
#ifndef TESTS_COORDINATOR_HARNESS_H
#define TESTS_COORDINATOR_HARNESS_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "coordinator/coordinator.h"
#include "proto/channel.h"
#include "proto/wire.h"

enum {
    HARNESS_GROUPS = 3,
    HARNESS_JOBS = 1024,
    HARNESS_PUSHES = 256,
    HARNESS_WAIT_MS = 180000,
    HARNESS_BEAT_MS = 40,
    HARNESS_DECODE_MS = 3, // what a fake group says of every order
    HARNESS_SCORE_MS = 5,
    HARNESS_ORDER_MS = 9,
    HARNESS_REBUILT_TOKENS = 3,
    HARNESS_SCORED_TOKENS = 11,
};

struct fake_job {
    uint64_t id;
    uint64_t seed;
    uint32_t max_tokens;
    uint32_t n_scorers;
    bool is_costly;   // prompt "costly": every token costs more than any budget
    bool is_deadly;   // the group dies of it
    bool is_infinite; // prompt "infinite": every row says that its logits are not finite
};

struct fake_group {
    struct channel *channel; // NULL: not started
    char name[32];
    uint32_t slots;
    const char *policy_hash;
    const char *precision;
    const char *kv_dtype;
    int newer; // schema minors than the coordinator's
    bool has_policy_alone;
    bool is_mute;      // neither beats nor answers
    bool holds_orders; // beats, but keeps its order
    bool is_stalled;   // its beats say that a rank hangs
    bool reverses_rows;
    bool forgets_jobs;     // once: says that it knows no job of the next order
    enum status row_error; // of the next order's first row, once
    bool repeats_error;    // not once: always
    bool breaks_row;       // the next order's first row has a NaN score, once
    bool breaks_rows;      // every row has
    const char *deadly;    // dies of orders with a job of this prompt, and comes back
    size_t chance_items;   // not 0: dies of every other order, by chance, of at least so many items
    int deaths;
    bool is_dead; // of such an order, until the next pump
    int64_t beat_at_ms;
    int welcomes;
    int orders;
    int say_hellos;
    int retold; // descriptions of jobs that it knew
    size_t largest_order;
    uint64_t releases;
    uint32_t reject_status;         // 0 none
    Surefoot__GroupCommand *held;   // the order kept back
    Surefoot__GroupCommand *behind; // the next one, likewise
    struct fake_job jobs[HARNESS_JOBS];
    size_t n_jobs;
};

struct harness {
    char *directory;
    char store_path[512];
    struct coordinator_options options; // endpoints are ipc paths in the directory
    char client_endpoint[512];
    char group_endpoint[512];
    struct coordinator *coordinator;
    pthread_t thread;
    int stop_fd;
    struct channel_context *context;
    struct channel *client;
    uint64_t last_request;
    struct fake_group groups[HARNESS_GROUPS];
    Surefoot__ClientReply *pushes[HARNESS_PUSHES];
    size_t n_pushes;
};

// Prepares directory and client; the coordinator is started by harness_start, which tests may call
// again after harness_stop. harness_close ends all.
struct harness *harness_open(void);
void harness_start(struct harness *harness);
void harness_stop(struct harness *harness);
void harness_close(struct harness *harness);

// Connects group `index`, and waits until it is welcome.
struct fake_group *harness_connect(struct harness *harness, int index, uint32_t slots);
// The same without waiting.
struct fake_group *harness_greet(struct harness *harness, int index, uint32_t slots);
void harness_disconnect(struct harness *harness, int index);
// Answers the order that a group holds back.
void harness_answer_held(struct fake_group *group);

// One turn: groups beat and answer, the client's messages are read. Returns a reply other than a
// push, owned (wire_free), or NULL.
Surefoot__ClientReply *harness_pump(struct harness *harness);

// Pumps until `condition` holds; fails the test when it does not in time.
void harness_await(struct harness *harness, bool (*condition)(void *context), void *context);

// Sends a request, waits for its reply; owned (wire_free WIRE_CLIENT_REPLY).
Surefoot__ClientReply *harness_call(struct harness *harness, Surefoot__ClientRequest *request);
// Sends bytes as they are and waits for a reply.
Surefoot__ClientReply *harness_call_bytes(struct harness *harness, const uint8_t *bytes,
                                          size_t size);

Surefoot__ClientReply *harness_submit(struct harness *harness, const char *key,
                                      const Surefoot__JobSpec *spec, bool stream);
// Submits and fails the test unless the job is accepted as new.
void harness_accept(struct harness *harness, const char *key, const Surefoot__JobSpec *spec);
Surefoot__ClientReply *harness_fetch(struct harness *harness, const char *key, uint32_t wait_ms);
Surefoot__ClientReply *harness_cancel(struct harness *harness, const char *key);
Surefoot__ClientReply *harness_close_job(struct harness *harness, const char *key);
// Of jobs behind `after`, at most `limit`; 0: does not say.
Surefoot__ClientReply *harness_list(struct harness *harness, uint64_t after, uint32_t limit);
Surefoot__ClientReply *harness_purge(struct harness *harness, uint64_t older_than_ms);
// Waits until the job is done; owned reply whose result is set.
Surefoot__ClientReply *harness_result(struct harness *harness, const char *key);

void harness_free(Surefoot__ClientReply *reply);

#endif
