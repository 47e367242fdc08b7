// The coordinator: accepts jobs from clients, stores them, searches them on the worker groups,
// stores and delivers the results. One thread, one event loop over two sockets; every turn of the
// loop handles what came, hands out work and then makes all that changed durable with one commit,
// before anybody is told.
#ifndef COORDINATOR_COORDINATOR_H
#define COORDINATOR_COORDINATOR_H

#include <stddef.h>
#include <stdint.h>

#include "common/status.h"

enum {
    COORDINATOR_HEARTBEAT_MS = 1000,
    COORDINATOR_BEATS_MISSED = 5, // then a group counts as dead
    COORDINATOR_RUNNING_MAX = 64,
    COORDINATOR_LOADED_MAX = 32 << 20, // what is above stays in the store until its job starts
};

#define COORDINATOR_BYTES_MAX (UINT64_C(16) << 30)
#define COORDINATOR_RETAIN_MS (INT64_C(720) * 3600 * 1000)

struct coordinator_options {
    const char *client_endpoint; // bound; may end in ":0" for a free port
    const char *group_endpoint;
    const char *store_path;
    int64_t store_pages_max; // of 4096 bytes; 0: as many as the disk holds
    int heartbeat_ms;        // [10, 60000]; 0: COORDINATOR_HEARTBEAT_MS
    int dead_after_ms;       // [heartbeat_ms, 3600000]; 0: COORDINATOR_BEATS_MISSED heartbeats
    uint64_t bytes_max; // of jobs and results stored and not yet closed; 0: COORDINATOR_BYTES_MAX
    size_t loaded_bytes_max; // of queued jobs' specifications in memory; 0: COORDINATOR_LOADED_MAX
    uint64_t jobs_max;       // stored and not yet closed; 0: LIMIT_JOBS_STORED
    int64_t retain_ms;       // results are dropped so long after they were stored; 0:
                             // COORDINATOR_RETAIN_MS; -1: when they are closed
    uint32_t running_max;    // jobs searched at once, [1, 4096]; 0: COORDINATOR_RUNNING_MAX
};

struct coordinator;

// Opens the store, takes up its unfinished jobs and binds both sockets. Errors: as store_open
// (field "store"), as channel_bind (field "client" or "group"), INVALID_ARGUMENT naming an option.
MUST_CHECK enum status coordinator_open(const struct coordinator_options *options,
                                        struct coordinator **out, struct error *err);
void coordinator_close(struct coordinator *coordinator); // NULL allowed

// Runs until `stop_fd` is readable. What was accepted is in the store when it returns. Fails only
// when the sockets do.
MUST_CHECK enum status coordinator_run(struct coordinator *coordinator, int stop_fd);

// The addresses actually bound; owned by the coordinator.
const char *coordinator_client_endpoint(const struct coordinator *coordinator);
const char *coordinator_group_endpoint(const struct coordinator *coordinator);

#endif
