// Many jobs of one client at once: keeps a number of them in flight, follows them, hands over each
// result, waits out a service that is busy or restarting.
#ifndef CLIENT_CLI_BATCH_H
#define CLIENT_CLI_BATCH_H

#include <stddef.h>

#include "client/cli/watch.h"
#include "client/surefoot.h"

struct batch_ops {
    // Fills in job `index`: its specification and key, borrowed until the next call.
    void (*describe)(void *user, size_t index, const Surefoot__JobSpec **spec, const char **key);
    // The job ended. Borrows the result. An error ends the batch.
    enum status (*done)(void *user, size_t index, const Surefoot__JobResult *result,
                        struct error *err);
    // A chance to write and to show progress, a few times a second.
    enum status (*tick)(void *user, struct error *err);
};

struct batch {
    struct surefoot_client *client;
    struct watch *watch; // borrowed; tells when to give up
    int wake_fd;         // readable: the batch ends with STATUS_CANCELLED
    int in_flight;       // [1, SUREFOOT_STREAMS_MAX]
    const struct batch_ops *ops;
    void *user;
};

// Runs the jobs indexes[0..count). A job that the service refuses because of its prompt ends as
// REJECTED; any other refusal ends the batch, because it would meet every job. Errors of
// watch_look(), and STATUS_CANCELLED. Jobs in flight then go on at the service.
MUST_CHECK enum status batch_run(const struct batch *batch, const size_t *indexes, size_t count,
                                 struct error *err);

#endif
