#include "tests/tokenizer/tokenizer_hash.h"

#include <stdint.h>
#include <stdio.h>

enum { IDS_MAX = 8192, TEXT_BYTES_MAX = 1 << 16 };

static uint32_t mix(uint32_t hash, uint8_t byte) {
    return (hash ^ byte) * 0x01000193u;
}

static uint32_t hash_ids(const int32_t *ids, size_t n) {
    uint32_t hash = 0x811C9DC5u;
    for (size_t i = 0; i < n; i++) {
        for (int shift = 0; shift < 32; shift += 8) {
            hash = mix(hash, (uint8_t)((uint32_t)ids[i] >> shift));
        }
    }
    return hash;
}

enum status tokenizer_hash(const struct tokenizer *tokenizer, const char *text, size_t bytes,
                           char hashes[TOKENIZER_HASHES_BYTES + 1], struct error *err) {
    int32_t ids[IDS_MAX];
    char decoded[TEXT_BYTES_MAX];
    size_t count;
    size_t decoded_bytes;
    enum status status = tokenizer_encode(tokenizer, text, bytes, 0, ids, IDS_MAX, &count, err);
    uint32_t plain = status == STATUS_OK ? hash_ids(ids, count) : 0;
    if (status == STATUS_OK) {
        status = tokenizer_encode(tokenizer, text, bytes, TOKENIZER_PARSE_SPECIAL, ids, IDS_MAX,
                                  &count, err);
    }
    if (status == STATUS_OK) {
        status = tokenizer_decode(tokenizer, ids, count, TOKENIZER_KEEP_SPECIAL, decoded,
                                  sizeof decoded, &decoded_bytes, err);
    }
    if (status != STATUS_OK) {
        return status;
    }
    uint32_t hash = 0x811C9DC5u;
    for (size_t i = 0; i < decoded_bytes; i++) {
        hash = mix(hash, (uint8_t)decoded[i]);
    }
    snprintf(hashes, TOKENIZER_HASHES_BYTES + 1, "%08x%08x%08x", hash_ids(ids, count), plain, hash);
    return STATUS_OK;
}
