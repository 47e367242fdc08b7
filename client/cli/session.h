// A client of the service that a command is to use: the one at --endpoint or $SUREFOOT_ENDPOINT,
// the one that `surefoot up` started, or a private one for this command alone.
#ifndef CLIENT_CLI_SESSION_H
#define CLIENT_CLI_SESSION_H

#include "client/cli/service.h"
#include "client/surefoot.h"

enum { SESSION_FLAGS_COUNT = 5 };

struct session_flags {
    struct flag table[SESSION_FLAGS_COUNT]; // targets lie in this struct: it must not be moved
    const char *endpoint;
    const char *directory;
    uint32_t timeout_ms; // of one request
    int json;
};

void session_flags_init(struct session_flags *flags);

struct session {
    struct surefoot_client *client;
    int32_t timeout_ms;
    int private_lock; // of the private service's directory
    bool private_service;
    struct service service; // valid when private
};

// `start` may be NULL: then a command without a service fails with STATUS_UNAVAILABLE. The members
// of *out are set in every case, so that session_close() may follow.
MUST_CHECK enum status session_open(struct cli *cli, const struct session_flags *flags,
                                    const struct service_flags *start, struct session *out,
                                    struct error *err);

// Ends a private service, and tells on stderr when that fails.
void session_close(struct session *session);

#endif
