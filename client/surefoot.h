// The C client of a Surefoot service: submit prompts, wait for or follow their results, cancel,
// close, ask for the service's state. It reconnects by itself and sends a request again until it is
// answered: every request is safe to repeat, because a job is named by its job_key. Every call has
// a deadline. One client belongs to one thread; several clients in one process are fine. Requests
// and results are the protobuf structs of proto/client.proto (client.pb-c.h), which documents each
// field.
#ifndef CLIENT_SUREFOOT_H
#define CLIENT_SUREFOOT_H

#include <stdbool.h>
#include <stdint.h>

#include "client.pb-c.h" // IWYU pragma: export
#include "common/status.h"
#include "proto/limits.h"

struct surefoot_client;

enum {
    SUREFOOT_KEY_BYTES = LIMIT_JOB_KEY_BYTES + 1, // room for any job_key and its NUL
    SUREFOOT_STREAMS_MAX = 4096,                  // jobs followed at once by one client
};

struct surefoot_options {
    int32_t resend_ms; // [10, 60000], an unanswered request is sent again after this; 0: 2000
    int32_t ask_ms;    // [10, 600000], a followed job silent for this long is asked after; 0: 5000
    int wake_fd;       // when readable, every wait ends with STATUS_CANCELLED; -1: none. Borrowed.
};

// `endpoint` is the service's client address, such as "tcp://127.0.0.1:7700" or "ipc:///run/x".
// Does not wait for the service. `options` may be NULL. STATUS_INVALID_ARGUMENT: bad endpoint or
// option.
MUST_CHECK enum status surefoot_client_open(const char *endpoint,
                                            const struct surefoot_options *options,
                                            struct surefoot_client **out, struct error *err);

// Releases the client; jobs go on. NULL is allowed.
void surefoot_client_close(struct surefoot_client *client);

// Errors of every call below, besides its own: STATUS_DEADLINE, no answer within timeout_ms;
// STATUS_CANCELLED, wake_fd became readable; STATUS_MALFORMED or STATUS_LIMIT, the request has text
// that is not UTF-8 or is too large and was not sent; STATUS_VERSION, the service speaks another
// schema; and whatever the service answers, with err->field naming the offending field.

// Writes 32 hexadecimal digits from 128 random bits.
void surefoot_make_key(char job_key[SUREFOOT_KEY_BYTES]);

struct surefoot_submit {
    const Surefoot__JobSpec *spec; // borrowed during the call
    const char *job_key;           // the same key again is the same job; NULL: a fresh one
    bool follow;                   // deliver the job's events through surefoot_next_event
    int32_t timeout_ms;
};

// Stores a job at the service. On return job_key_out holds the key, on failure too: after
// STATUS_DEADLINE the job may exist, and submitting the same key again is safe. *duplicate (may be
// NULL) tells whether the service knew the key. STATUS_LIMIT: SUREFOOT_STREAMS_MAX jobs are
// followed.
MUST_CHECK enum status surefoot_submit(struct surefoot_client *client,
                                       const struct surefoot_submit *args,
                                       char job_key_out[SUREFOOT_KEY_BYTES], bool *duplicate,
                                       struct error *err);

// Waits up to wait_ms for a job to end and at most timeout_ms longer for the service to answer.
// Sets *result to an owned result, released with surefoot_result_free(), or to NULL when the job
// has not ended. STATUS_NOT_FOUND: no such job.
MUST_CHECK enum status surefoot_fetch(struct surefoot_client *client, const char *job_key,
                                      int64_t wait_ms, int32_t timeout_ms,
                                      Surefoot__JobResult **result, struct error *err);

// Ends a job with outcome CANCELLED unless it has ended already. STATUS_NOT_FOUND: no such job.
MUST_CHECK enum status surefoot_cancel(struct surefoot_client *client, const char *job_key,
                                       int32_t timeout_ms, struct error *err);

// Drops the stored result of a job, whose key is then free again. Safe to repeat.
MUST_CHECK enum status surefoot_close_job(struct surefoot_client *client, const char *job_key,
                                          int32_t timeout_ms, struct error *err);

// Owned state of the service, released with surefoot_status_free().
MUST_CHECK enum status surefoot_status(struct surefoot_client *client, int32_t timeout_ms,
                                       Surefoot__ServiceStatus **out, struct error *err);

// Owned list of stored jobs by acceptance, at most `limit` of those after the page whose `next` is
// `after` (0: from the first), released with surefoot_list_free(). STATUS_PERMISSION: the service
// does not take this client for an administrator, here and below.
MUST_CHECK enum status surefoot_list(struct surefoot_client *client, uint64_t after, uint32_t limit,
                                     int32_t timeout_ms, Surefoot__JobList **out,
                                     struct error *err);

// Drops up to LIMIT_JOBS_PURGED results that are at least older_than_ms old, with their jobs.
// *purged is how many there were, *more that there may be others.
MUST_CHECK enum status surefoot_purge(struct surefoot_client *client, uint64_t older_than_ms,
                                      int32_t timeout_ms, uint32_t *purged, bool *more,
                                      struct error *err);

enum surefoot_event_kind {
    SUREFOOT_EVENT_PROGRESS, // `progress` is set; older news of the same job may have been skipped
    SUREFOOT_EVENT_RESULT,   // `result` is set; the job is followed no longer
    SUREFOOT_EVENT_LOST,     // the service does not know the job any more; followed no longer
};

struct surefoot_event {
    enum surefoot_event_kind kind;
    char job_key[SUREFOOT_KEY_BYTES];
    Surefoot__JobProgress *progress; // owned, NULL unless PROGRESS
    Surefoot__JobResult *result;     // owned, NULL unless RESULT
};

// Waits for news of any followed job. Release with surefoot_event_free(). STATUS_DEADLINE: none
// within timeout_ms; STATUS_NOT_FOUND: no job is followed.
MUST_CHECK enum status surefoot_next_event(struct surefoot_client *client, int32_t timeout_ms,
                                           struct surefoot_event *event, struct error *err);

// Jobs followed now.
int surefoot_followed_count(const struct surefoot_client *client);

// Each allows NULL.
void surefoot_result_free(Surefoot__JobResult *result);
void surefoot_status_free(Surefoot__ServiceStatus *status);
void surefoot_list_free(Surefoot__JobList *list);
void surefoot_event_free(struct surefoot_event *event); // frees what the event owns, not the struct

// "COMPLETED", ...; "UNKNOWN" for a number that this build does not know. Static storage.
const char *surefoot_outcome_name(Surefoot__Outcome outcome);

#endif
