// Whether a service that has been silent for a while can be waited for: asks it for its groups,
// says on stderr what is waited for, and ends the wait when nothing could have worked for too long.
#ifndef CLIENT_CLI_WATCH_H
#define CLIENT_CLI_WATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "client/cli/flags.h"
#include "client/surefoot.h"

enum { WATCH_REASON_BYTES = 200 };

struct watch {
    struct surefoot_client *client; // borrowed
    int32_t timeout_ms;             // of one question
    int64_t patience_ms;
    int64_t good_ms; // monotonic: when work was last seen or a group was last alive
    int64_t look_ms; // when to ask next
    int64_t say_ms;  // when to say next what is waited for
    bool said;
};

// The flag --patience-ms, whose target holds the default already.
struct flag watch_flag(uint32_t *patience_ms);

// The old spelling of it.
struct flag watch_renamed_flag(void);

void watch_init(struct watch *watch, struct surefoot_client *client, int32_t timeout_ms,
                uint32_t patience_ms);

// A result has come.
void watch_note_work(struct watch *watch);

// Call often while waiting. STATUS_UNAVAILABLE: for patience_ms the service has not answered or
// none of its groups was alive; STATUS_CANCELLED; STATUS_VERSION.
MUST_CHECK enum status watch_look(struct watch *watch, struct error *err);

// How long a request may wait for its answer so that the patience is kept: [1, timeout_ms].
int32_t watch_timeout(const struct watch *watch);

#endif
