#include "client/cli/digest.h"

#include <stdio.h>

void digest_init(struct digest *digest) {
    // The 128-bit offset basis.
    *digest = (struct digest){.high = 0x6C62272E07BB0142, .low = 0x62B821756295C58D};
}

static void add_bytes(struct digest *digest, const uint8_t *bytes, size_t size) {
    unsigned __int128 prime = ((unsigned __int128)1 << 88) + 0x13B;
    unsigned __int128 hash = (unsigned __int128)digest->high << 64 | digest->low;
    for (size_t i = 0; i < size; i++) {
        hash = (hash ^ bytes[i]) * prime;
    }
    *digest = (struct digest){.high = (uint64_t)(hash >> 64), .low = (uint64_t)hash};
}

void digest_add(struct digest *digest, const void *bytes, size_t size) {
    uint8_t length[8];
    for (int i = 0; i < 8; i++) {
        length[i] = (uint8_t)((uint64_t)size >> (8 * i));
    }
    add_bytes(digest, length, sizeof length);
    add_bytes(digest, bytes, size);
}

void digest_hex(const struct digest *digest, char out[DIGEST_HEX_BYTES]) {
    snprintf(out, DIGEST_HEX_BYTES, "%016llx%016llx", (unsigned long long)digest->high,
             (unsigned long long)digest->low);
}
