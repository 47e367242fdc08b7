// The durable state: jobs from before their acknowledgement until they are closed or purged, and
// their results. SQLite, write-ahead log, synchronous=FULL; the only file that knows SQL. One
// thread.
//
// Every verb is a transaction of its own unless it stands between store_begin and store_commit,
// which make many of them durable with one fsync. Nothing may be told to anybody before the commit.
// Errors of all verbs: STATUS_DISK_FULL (no space; nothing of the transaction happened, the store
// stays usable), STATUS_MALFORMED (the file is damaged), STATUS_IO.
#ifndef COORDINATOR_STORE_H
#define COORDINATOR_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/status.h"

struct store;

struct store_options {
    const char *path;  // created when absent
    int64_t pages_max; // of 4096 bytes; 0: as many as the disk holds
    // Kept in a file beside, PATH-reserve, so that jobs can be closed when the disk is full; 0
    // none. Twice what one transaction and the log between two of its checkpoints (4 MiB) take.
    int64_t reserve_bytes;
};

// Opens the file for this process alone and migrates it forward. STATUS_UNAVAILABLE: another
// process has it open; STATUS_MALFORMED: damaged, or not a store of this service; STATUS_VERSION:
// written by a newer version; STATUS_NOT_FOUND, STATUS_IO: the path cannot be used.
MUST_CHECK enum status store_open(const struct store_options *options, struct store **out,
                                  struct error *err);
void store_close(struct store *store); // NULL allowed; an open transaction is rolled back

MUST_CHECK enum status store_begin(struct store *store, struct error *err);
MUST_CHECK enum status store_commit(struct store *store, struct error *err);
void store_rollback(struct store *store); // also after a failed verb; without a transaction nothing

// Stores a job. The same key with the same bytes is the same job: *duplicate is set and *job_id is
// the known one. STATUS_ALREADY_EXISTS (field "job_key"): the key names a job with other bytes. Job
// ids grow, are not reused, and differ between stores made at different times.
MUST_CHECK enum status store_put_job(struct store *store, const char *job_key, const uint8_t *spec,
                                     size_t size, int64_t accepted_ms, uint64_t *job_id,
                                     bool *is_new, struct error *err);

// Stores the result of a job; a second result for the same job is ignored (the first was promised)
// and leaves *is_new false. STATUS_NOT_FOUND: the job was closed.
struct store_result {
    const uint8_t *bytes; // [size]
    size_t size;
    int outcome;     // for lists, as it stands in the bytes; 0: not known
    int64_t done_ms; // since 1970
};
MUST_CHECK enum status store_put_result(struct store *store, uint64_t job_id,
                                        const struct store_result *result, bool *is_new,
                                        struct error *err);

// What a job has cost: groups lost while they worked on it alone, and which of its candidates was
// alone in the last order lost, 0 none.
struct store_losses {
    uint32_t count;
    uint64_t key;
};

// Keeps a job's losses; a job that was closed is fine.
MUST_CHECK enum status store_put_losses(struct store *store, uint64_t job_id,
                                        const struct store_losses *losses, struct error *err);

struct store_job {
    uint64_t job_id;
    int64_t accepted_ms; // since 1970
    struct store_losses losses;
    uint8_t *spec;       // [spec_size], owned
    size_t spec_size;
    uint8_t *result; // [result_size], owned; NULL while unfinished
    size_t result_size;
};

// Looks a job up by its key. STATUS_NOT_FOUND. Release with store_job_release.
MUST_CHECK enum status store_get_job(struct store *store, const char *job_key,
                                     struct store_job *out, struct error *err);
void store_job_release(struct store_job *job);

// STATUS_NOT_FOUND unless a job of this key is stored.
MUST_CHECK enum status store_find_job(struct store *store, const char *job_key, struct error *err);

// The packed specification of a job, owned. STATUS_NOT_FOUND.
MUST_CHECK enum status store_get_spec(struct store *store, uint64_t job_id, uint8_t **spec,
                                      size_t *size, struct error *err);

// What was dropped.
struct store_removed {
    uint64_t jobs;
    uint64_t results;
    uint64_t bytes; // of specifications and results
    bool more;      // of a purge: there may be others
};

// Drops a job and its result; unknown keys are fine. By itself, not between begin and commit, it
// uses the reserve when the disk is full; until that is there again the file does not grow, so that
// nothing but what closed jobs leave free is given away.
MUST_CHECK enum status store_close_job(struct store *store, const char *job_key,
                                       struct store_removed *removed, struct error *err);

// Drops jobs whose result was stored at done_before_ms (since 1970) or earlier, the oldest first,
// at most `limit` of them and not many more than 64 MiB. Uses the reserve as store_close_job does.
MUST_CHECK enum status store_purge(struct store *store, int64_t done_before_ms, uint32_t limit,
                                   struct store_removed *removed, struct error *err);

// Takes the reserve again once there is room, after it was used; else does nothing.
void store_restore_reserve(struct store *store);

// Calls `visit` for every job without a result, oldest first; `job` is borrowed during the call.
// Stops at the first status other than STATUS_OK and returns it. `visit` must not call the store.
typedef enum status (*store_visit_fn)(void *context, const struct store_job *job);
MUST_CHECK enum status store_load_unfinished(struct store *store, store_visit_fn visit,
                                             void *context, struct error *err);

// Calls `visit` for at most `limit` jobs with ids above after_id, by id; `job` is borrowed during
// the call, which must not call the store.
struct store_listed {
    uint64_t job_id;
    const char *job_key;
    int64_t accepted_ms; // since 1970
    uint64_t bytes;      // of specification and result
    bool is_done;
    int outcome;     // 0: not known
    int64_t done_ms; // since 1970, of a job that is done
};
typedef void (*store_list_fn)(void *context, const struct store_listed *job);
MUST_CHECK enum status store_list(struct store *store, uint64_t after_id, uint32_t limit,
                                  store_list_fn visit, void *context, struct error *err);

struct store_counts {
    uint64_t jobs;    // not yet closed
    uint64_t results; // of them finished
    uint64_t bytes;   // of specifications and results
};
MUST_CHECK enum status store_get_counts(struct store *store, struct store_counts *out,
                                        struct error *err);

#endif
