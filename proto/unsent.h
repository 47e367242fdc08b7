// How many bytes a socket holds for each of its peers: a message is counted when it is given away
// and until it is sent, or dropped with its connection. So a peer that does not read costs no more
// than a limit in bytes, beside the socket's limit in messages, and all of them no more than
// another, beyond which a peer that reads still gets what is short, one message at a time. One
// thread adds; the transport's threads release. The counts outlive the table, as messages may.
#ifndef PROTO_UNSENT_H
#define PROTO_UNSENT_H

#include <stddef.h>
#include <stdint.h>

#include "common/status.h"
#include "proto/channel.h"

struct unsent;

// A message on its way.
struct parcel {
    struct account *account; // of its peer
    size_t size;
    uint8_t bytes[]; // [size]
};

enum { UNSENT_SHORT_BYTES = 64 << 10 };

// Of each peer at most bytes_max wait, and of all at most total_max, both above 0.
MUST_CHECK enum status unsent_create(size_t bytes_max, size_t total_max, struct unsent **out);
void unsent_destroy(struct unsent *unsent); // parcels may be left; NULL allowed

// Copies and counts a message. STATUS_UNAVAILABLE: with it more than a limit would wait; one
// message of a peer is taken at any size that the total has room for, and a short one always.
// STATUS_NO_MEMORY.
MUST_CHECK enum status unsent_pack(struct unsent *unsent, const struct channel_peer *peer,
                                   const uint8_t *bytes, size_t size, struct parcel **out);

// Frees a parcel; `bytes` is its own. Any thread.
void unsent_release(void *bytes, void *parcel);

#endif
