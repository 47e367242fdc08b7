// FNV-1a with 128 bits (Fowler, Noll, Vo; draft-eastlake-fnv): names things by their content.
// Accidental collisions are out of reach; a collision made on purpose is caught by the service,
// which refuses another job under a known key.
#ifndef CLIENT_CLI_DIGEST_H
#define CLIENT_CLI_DIGEST_H

#include <stddef.h>
#include <stdint.h>

enum { DIGEST_HEX_BYTES = 33 };

struct digest {
    uint64_t high;
    uint64_t low;
};

void digest_init(struct digest *digest);

// Adds a part: its length first, so that ("ab", "c") and ("a", "bc") differ.
void digest_add(struct digest *digest, const void *bytes, size_t size);

// 32 hexadecimal digits and NUL.
void digest_hex(const struct digest *digest, char out[DIGEST_HEX_BYTES]);

#endif
