// A ZeroMQ socket with every option set that must be (size limit, high-water marks, linger,
// handshake interval, TCP keepalive): a ROUTER that answers many peers, or a DEALER that talks to
// one. The only place that includes zmq.h. A channel belongs to one thread. Whole messages of one
// frame (plus the peer's identity on a ROUTER); anything else is dropped and counted. Without CURVE
// keys only loopback (tcp://127.0.0.1, tcp://[::1]) and ipc:// addresses are accepted.
#ifndef PROTO_CHANNEL_H
#define PROTO_CHANNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/status.h"

struct channel_context; // one per process
struct channel;

enum { CHANNEL_PEER_BYTES = 64 };

// Identity of a peer of a ROUTER channel; copy freely.
struct channel_peer {
    uint8_t size;
    uint8_t bytes[CHANNEL_PEER_BYTES];
};

struct channel_options {
    size_t message_bytes_max; // larger ones are dropped by the socket; from proto/limits.h
    int queue_depth_max;      // high-water mark each way, messages; 0: 1000
    int receive_depth_max;    // of what comes from one peer; 0: queue_depth_max
    size_t unsent_bytes_max;  // ROUTER: of messages that wait for one peer; 0: only their number
    size_t unsent_total_max;  // of those that wait for all, with unsent_bytes_max
    const char *identity;     // DEALER: fixed identity, or NULL for a random one
};

MUST_CHECK enum status channel_context_create(struct channel_context **out);
void channel_context_destroy(struct channel_context *context); // after its channels; NULL allowed

// Whether an address can be connected to, or bound, as far as its text says; channel_bind and
// channel_connect check the same. STATUS_INVALID_ARGUMENT, STATUS_LIMIT.
MUST_CHECK enum status channel_check_endpoint(const char *endpoint, bool may_bind,
                                              struct error *err);

// Binds a ROUTER. `endpoint` may end in ":*" or ":0" to take a free port. STATUS_ADDRESS_IN_USE,
// STATUS_INVALID_ARGUMENT (bad or non-loopback address), each with err filled.
MUST_CHECK enum status channel_bind(struct channel_context *context, const char *endpoint,
                                    const struct channel_options *options, struct channel **out,
                                    struct error *err);

// Connects a DEALER. Does not wait for the peer: libzmq reconnects by itself.
MUST_CHECK enum status channel_connect(struct channel_context *context, const char *endpoint,
                                       const struct channel_options *options, struct channel **out,
                                       struct error *err);

void channel_close(struct channel *channel); // drops what is unsent after 1 s; NULL allowed

// The address actually bound, e.g. "tcp://127.0.0.1:40123"; owned by the channel.
const char *channel_endpoint(const struct channel *channel);

// Messages thrown away so far because they had more than one frame, or an identity above
// CHANNEL_PEER_BYTES.
uint64_t channel_dropped(const struct channel *channel);

// Sends one message; never blocks. `peer` is required on a ROUTER, NULL on a DEALER. Borrows bytes.
// STATUS_UNAVAILABLE: queue full, try again; STATUS_PEER_LOST: no such peer any more; STATUS_LIMIT:
// above message_bytes_max. A DEALER queues while its peer is away.
MUST_CHECK enum status channel_send(struct channel *channel, const struct channel_peer *peer,
                                    const uint8_t *bytes, size_t size);

// Takes one waiting message without blocking. Returns owned bytes (free()). `peer` is filled on a
// ROUTER and may be NULL on a DEALER. STATUS_NOT_FOUND: nothing is waiting.
MUST_CHECK enum status channel_receive(struct channel *channel, struct channel_peer *peer,
                                       uint8_t **bytes, size_t *size);

// Waits until a channel has a message, or `wake_fd` (>= 0) is readable, or timeout_ms passed.
// ready[i] tells for channels[i]. Returns STATUS_OK when anything is ready, STATUS_DEADLINE when
// not; a signal counts as STATUS_DEADLINE.
MUST_CHECK enum status channel_poll(struct channel *const *channels, int n_channels, int wake_fd,
                                    int timeout_ms, bool *ready);

#endif
