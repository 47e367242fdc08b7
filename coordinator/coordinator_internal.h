// The coordinator's state and what its parts call of each other: coordinator.c the loop and the
// ends of jobs, server.c clients, leaders.c groups, writes.c what must be committed.
#ifndef COORDINATOR_COORDINATOR_INTERNAL_H
#define COORDINATOR_COORDINATOR_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/log.h"
#include "coordinator/coordinator.h"
#include "coordinator/groups.h"
#include "coordinator/job_table.h"
#include "coordinator/scheduler.h"
#include "coordinator/store.h"
#include "coordinator/watchers.h"
#include "proto/channel.h"
#include "proto/limits.h"

enum write_kind { WRITE_JOB, WRITE_RESULT, WRITE_LOSSES, WRITE_CLOSE, WRITE_PURGE };

// One change that waits for the turn's commit, and whom to answer after it.
struct write {
    enum write_kind kind;
    bool has_peer;
    struct channel_peer peer;
    uint64_t request_id;
    bool stream;           // WRITE_JOB: the client wants to follow the job
    struct job_spec *spec; // WRITE_JOB: owned
    uint8_t *bytes;        // WRITE_JOB: [size] packed spec, owned
    size_t size;           // WRITE_RESULT too
    int64_t accepted_ms;   // WRITE_JOB: since 1970
    char key[LIMIT_JOB_KEY_BYTES + 1];
    uint64_t job_id;            // WRITE_RESULT, WRITE_LOSSES; set by the commit of WRITE_JOB
    struct store_losses losses; // WRITE_LOSSES
    enum status status;
    struct error err;
    bool is_new;                  // WRITE_JOB, WRITE_RESULT: not in the store before
    int64_t done_before_ms;       // WRITE_PURGE: since 1970
    struct store_removed removed; // WRITE_CLOSE, WRITE_PURGE
};

struct coordinator {
    struct coordinator_options options; // strings are not used after opening
    struct channel_context *context;
    struct channel *client_channel;
    struct channel *group_channel;
    struct store *store;
    struct groups *groups;
    struct scheduler *scheduler;
    struct job_table *jobs; // accepted, and not both finished and stored
    struct watchers *watchers;
    struct tilt_cache tilts;
    struct write *writes; // [n_writes] of this turn
    size_t n_writes;
    size_t write_capacity;
    size_t write_bytes;    // of jobs among the turn's writes
    uint64_t stored_bytes; // of jobs and results in the store
    size_t loaded_bytes;   // of the specifications in memory, packed
    uint64_t n_stored;     // jobs in the store
    uint64_t n_results;    // of them finished
    uint32_t n_running;
    int64_t started_ms;
    int64_t busy_ns; // in turns, since then
    int64_t next_beat_ms;
    int64_t next_deadline_ms; // no job's deadline is earlier
    int64_t next_progress_ms; // when streams are looked at again
    int64_t next_reserve_ms;  // when the store's reserve is looked after
    int64_t next_expiry_ms;   // when results that are too old are dropped
    int64_t retry_ms;         // when results that could not be stored are tried again
    int64_t retry_delay_ms;   // 0 while the store works
    struct log_limit groups_log;
    struct log_limit rows_log;
    struct log_limit jobs_log;
    struct log_limit clients_log;
    bool more;                // the next turn has work already, from a socket or a commit
    bool clients_are_trusted; // nobody but this service's own user reaches the clients' address
};

// coordinator.c
// Ends a job; its result is in this turn's writes. `why` for REJECTED and FAILED.
void coordinator_stop_job(struct coordinator *coordinator, struct job *job,
                          Surefoot__Outcome outcome, const struct error *why);
// Ends a job whose search is done.
void coordinator_finish_job(struct coordinator *coordinator, struct job *job);
// Drops a job without a result (it was closed).
void coordinator_abandon_job(struct coordinator *coordinator, struct job *job);
// Takes a job out of the table and destroys it.
void coordinator_drop_job(struct coordinator *coordinator, struct job *job);
// Adds an accepted job of `peer` (NULL: of an earlier process), stored in `spec_bytes`. Takes spec.
MUST_CHECK enum status coordinator_add_job(struct coordinator *coordinator, uint64_t job_id,
                                           struct job_spec *spec, size_t spec_bytes,
                                           int64_t accepted_realtime_ms,
                                           const struct channel_peer *peer, struct job **out);

// server.c
void server_on_message(struct coordinator *coordinator, const struct channel_peer *peer,
                       const uint8_t *bytes, size_t size);
// Pushes progress and answers overdue fetches.
void server_tick(struct coordinator *coordinator, int64_t now_ms);
// Answers waiting fetches before the process ends.
void server_stop(struct coordinator *coordinator);
// Answers what a write was for, once it is committed or has failed.
void server_on_written(struct coordinator *coordinator, struct write *write);

// faults.c
// A group was lost, or failed one of its orders, or stalled while it had these `n`: the jobs in
// them become suspects, or end when that is proved.
void faults_on_lost_orders(struct coordinator *coordinator,
                           const struct scheduler_order *const *orders, size_t n,
                           const struct error *cause);
// Item `index` of a finished order came back as a row that nobody can use. `malformed`: as one that
// no group may send; otherwise the group itself says what it could not do. The item is tried once
// with another group if there is one; otherwise its job fails.
void faults_on_bad_row(struct coordinator *coordinator, struct scheduler_order *order, size_t index,
                       bool malformed, const struct error *err);
// A job of an earlier process, and any job when its search has started.
void faults_remember(struct job *job, const struct store_losses *losses);
void faults_on_start(struct coordinator *coordinator, const struct job *job);
// Item of `group` came back as a good row, which its job has taken.
void faults_on_good_row(struct coordinator *coordinator, struct job *job,
                        struct scheduler_item *item, int group);
// Sets aside the groups whose answers were bad too often.
void faults_judge(struct coordinator *coordinator);

// leaders.c
void leaders_on_message(struct coordinator *coordinator, const struct channel_peer *peer,
                        const uint8_t *bytes, size_t size);
void leaders_tick(struct coordinator *coordinator, int64_t now_ms);
// Sends the scheduler's new orders.
void leaders_dispatch(struct coordinator *coordinator);

// writes.c
// A zeroed entry of this turn's writes, or NULL when there is no memory.
struct write *writes_add(struct coordinator *coordinator, enum write_kind kind, const char *key);
// Adds the write of a DONE job's result; without memory it is added again later. Returns the write.
struct write *writes_add_result(struct coordinator *coordinator, struct job *job);
// Adds the write of a job's losses; without memory they are kept in memory only.
void writes_add_losses(struct coordinator *coordinator, const struct job *job);
// Drops results that are older than the options allow, when it is time, with the turn's writes.
void writes_expire(struct coordinator *coordinator, int64_t now_ms);
// Commits the turn's writes and answers for each.
void writes_flush(struct coordinator *coordinator);
// Adds the results that an earlier turn could not store, when it is time.
void writes_retry(struct coordinator *coordinator, int64_t now_ms);

#endif
