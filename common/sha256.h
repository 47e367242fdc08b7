// SHA-256 (FIPS 180-4). Incremental; no allocation; any thread, one per struct. Identifies weight
// files, certificates and calibrations: provenance, not authentication.
#ifndef COMMON_SHA256_H
#define COMMON_SHA256_H

#include <stddef.h>
#include <stdint.h>

enum { SHA256_HEX_BYTES = 65 }; // 64 digits and NUL

typedef void (*sha256_compress_fn)(uint32_t state[8], const unsigned char *blocks, size_t n);

struct sha256 {
    sha256_compress_fn compress; // chosen by what the CPU has
    uint32_t state[8];
    uint64_t length;         // bytes so far
    unsigned char block[64]; // [length % 64] waiting
};

void sha256_init(struct sha256 *sha);
void sha256_init_portable(struct sha256 *sha); // the same without special instructions
void sha256_update(struct sha256 *sha, const void *bytes, size_t size);
void sha256_finish_hex(struct sha256 *sha, char hex[SHA256_HEX_BYTES]);

// Of bytes that are all there.
void sha256_hex(const void *bytes, size_t size, char hex[SHA256_HEX_BYTES]);

#endif
