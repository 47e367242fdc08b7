#include "proto/unsent.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

struct account {
    struct channel_peer peer;
    atomic_size_t bytes;
    atomic_size_t holders; // the table, and each parcel
};

struct unsent {
    struct account **accounts; // [count]; those without bytes go when another is looked for
    size_t count;
    size_t capacity;
    size_t bytes_max;
};

enum status unsent_create(size_t bytes_max, struct unsent **out) {
    ASSERT(bytes_max > 0);
    struct unsent *unsent = calloc(1, sizeof *unsent);
    if (unsent == NULL) {
        return STATUS_NO_MEMORY;
    }
    unsent->bytes_max = bytes_max;
    *out = unsent;
    return STATUS_OK;
}

static void let_go(struct account *account) {
    if (atomic_fetch_sub(&account->holders, 1) == 1) {
        free(account);
    }
}

void unsent_destroy(struct unsent *unsent) {
    if (unsent == NULL) {
        return;
    }
    for (size_t i = 0; i < unsent->count; i++) {
        let_go(unsent->accounts[i]);
    }
    free(unsent->accounts);
    free(unsent);
}

static bool is_of(const struct account *account, const struct channel_peer *peer) {
    return account->peer.size == peer->size &&
           memcmp(account->peer.bytes, peer->bytes, peer->size) == 0;
}

// Few peers have unsent messages at a time, so that walking them is cheap.
static struct account *find(struct unsent *unsent, const struct channel_peer *peer) {
    for (size_t i = 0; i < unsent->count;) {
        struct account *account = unsent->accounts[i];
        if (is_of(account, peer)) {
            return account;
        }
        if (atomic_load(&account->bytes) == 0) {
            let_go(account);
            unsent->accounts[i] = unsent->accounts[--unsent->count];
        } else {
            i++;
        }
    }
    return NULL;
}

static struct account *add(struct unsent *unsent, const struct channel_peer *peer) {
    if (unsent->count == unsent->capacity) {
        size_t capacity = unsent->capacity == 0 ? 16 : 2 * unsent->capacity;
        struct account **grown = realloc(unsent->accounts, capacity * sizeof(struct account *));
        if (grown == NULL) {
            return NULL;
        }
        unsent->accounts = grown;
        unsent->capacity = capacity;
    }
    struct account *account = calloc(1, sizeof *account);
    if (account == NULL) {
        return NULL;
    }
    account->peer = *peer;
    atomic_init(&account->bytes, 0);
    atomic_init(&account->holders, 1);
    unsent->accounts[unsent->count++] = account;
    return account;
}

enum status unsent_pack(struct unsent *unsent, const struct channel_peer *peer,
                        const uint8_t *bytes, size_t size, struct parcel **out) {
    struct account *account = find(unsent, peer);
    size_t waiting = account != NULL ? atomic_load(&account->bytes) : 0;
    if (waiting > 0 && waiting + size > unsent->bytes_max) {
        return STATUS_UNAVAILABLE;
    }
    if (account == NULL) {
        account = add(unsent, peer);
    }
    struct parcel *parcel = account != NULL ? malloc(sizeof *parcel + size) : NULL;
    if (parcel == NULL) {
        return STATUS_NO_MEMORY;
    }
    parcel->account = account;
    parcel->size = size;
    if (size > 0) {
        memcpy(parcel->bytes, bytes, size);
    }
    atomic_fetch_add(&account->bytes, size);
    atomic_fetch_add(&account->holders, 1);
    *out = parcel;
    return STATUS_OK;
}

void unsent_release(void *bytes, void *parcel) {
    struct parcel *released = parcel;
    ASSERT(bytes == released->bytes);
    struct account *account = released->account;
    atomic_fetch_sub(&account->bytes, released->size);
    free(released);
    let_go(account);
}
