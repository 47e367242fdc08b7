#include "proto/unsent.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

// Of all peers.
struct total {
    atomic_size_t bytes;
    atomic_size_t holders; // the table, and each account
};

struct account {
    struct total *total;
    struct channel_peer peer;
    atomic_size_t bytes;
    atomic_size_t holders; // the table, and each parcel
};

struct unsent {
    struct account **accounts; // [count]; those without bytes go when another is looked for
    size_t count;
    size_t capacity;
    struct total *total;
    size_t bytes_max;
    size_t total_max;
};

enum status unsent_create(size_t bytes_max, size_t total_max, struct unsent **out) {
    ASSERT(bytes_max > 0 && total_max > 0);
    struct unsent *unsent = calloc(1, sizeof *unsent);
    struct total *total = calloc(1, sizeof *total);
    if (unsent == NULL || total == NULL) {
        free(unsent);
        free(total);
        return STATUS_NO_MEMORY;
    }
    atomic_init(&total->bytes, 0);
    atomic_init(&total->holders, 1);
    unsent->total = total;
    unsent->bytes_max = bytes_max;
    unsent->total_max = total_max;
    *out = unsent;
    return STATUS_OK;
}

static void let_go_total(struct total *total) {
    if (atomic_fetch_sub(&total->holders, 1) == 1) {
        free(total);
    }
}

static void let_go(struct account *account) {
    if (atomic_fetch_sub(&account->holders, 1) == 1) {
        let_go_total(account->total);
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
    let_go_total(unsent->total);
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
    account->total = unsent->total;
    atomic_fetch_add(&unsent->total->holders, 1);
    atomic_init(&account->bytes, 0);
    atomic_init(&account->holders, 1);
    unsent->accounts[unsent->count++] = account;
    return account;
}

enum status unsent_pack(struct unsent *unsent, const struct channel_peer *peer,
                        const uint8_t *bytes, size_t size, struct parcel **out) {
    struct account *account = find(unsent, peer);
    size_t waiting = account != NULL ? atomic_load(&account->bytes) : 0;
    bool fits = waiting == 0 || waiting + size <= unsent->bytes_max;
    bool fits_total = atomic_load(&unsent->total->bytes) + size <= unsent->total_max;
    if (!fits || (!fits_total && (waiting > 0 || size > UNSENT_SHORT_BYTES))) {
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
    atomic_fetch_add(&account->total->bytes, size);
    atomic_fetch_add(&account->holders, 1);
    *out = parcel;
    return STATUS_OK;
}

void unsent_release(void *bytes, void *parcel) {
    struct parcel *released = parcel;
    ASSERT(bytes == released->bytes);
    struct account *account = released->account;
    atomic_fetch_sub(&account->bytes, released->size);
    atomic_fetch_sub(&account->total->bytes, released->size);
    free(released);
    let_go(account);
}
