// Who waits for which job: fetches that are answered when the job is done or their time is up, and
// streams that get progress and the result unasked. Plain bookkeeping.
#ifndef COORDINATOR_WATCHERS_H
#define COORDINATOR_WATCHERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/status.h"
#include "proto/channel.h"

enum { WATCHERS_MAX = 65536 };

struct watcher {
    struct channel_peer peer;
    uint64_t request_id; // 0 for streams
    uint64_t job_id;
    bool stream;
    int64_t deadline_ms; // of a fetch; INT64_MAX for streams
    uint64_t shown;      // what the stream's last progress showed, to tell whether it changed
};

struct watchers;

MUST_CHECK enum status watchers_create(struct watchers **out);
void watchers_destroy(struct watchers *watchers); // NULL allowed

// Adds a watcher, or refreshes the one that the same peer has on the same job (a request sent
// again). STATUS_LIMIT: WATCHERS_MAX wait already; STATUS_NO_MEMORY.
MUST_CHECK enum status watchers_add(struct watchers *watchers, const struct watcher *watcher);

size_t watchers_count(const struct watchers *watchers);
struct watcher *watchers_get(struct watchers *watchers, size_t index);
// The last one takes the place of the removed one.
void watchers_remove(struct watchers *watchers, size_t index);

#endif
