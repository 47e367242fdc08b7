#include "common/sha256.h"

#include <stdio.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#endif

// FIPS 180-4, section 4.2.2.
static const uint32_t round_constants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static uint32_t rotate_right(uint32_t x, int n) {
    return x >> n | x << (32 - n);
}

static void compress_block(uint32_t state[8], const unsigned char *block) {
    uint32_t w[64];
    for (int i = 0; i < 16; i++) {
        w[i] = (uint32_t)block[4 * i] << 24 | (uint32_t)block[4 * i + 1] << 16 |
               (uint32_t)block[4 * i + 2] << 8 | block[4 * i + 3];
    }
    for (int i = 16; i < 64; i++) {
        uint32_t s0 = rotate_right(w[i - 15], 7) ^ rotate_right(w[i - 15], 18) ^ w[i - 15] >> 3;
        uint32_t s1 = rotate_right(w[i - 2], 17) ^ rotate_right(w[i - 2], 19) ^ w[i - 2] >> 10;
        w[i] = w[i - 16] + s0 + w[i - 7] + s1;
    }
    uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
    uint32_t e = state[4], f = state[5], g = state[6], h = state[7];
    for (int i = 0; i < 64; i++) {
        uint32_t s1 = rotate_right(e, 6) ^ rotate_right(e, 11) ^ rotate_right(e, 25);
        uint32_t t1 = h + s1 + ((e & f) ^ (~e & g)) + round_constants[i] + w[i];
        uint32_t s0 = rotate_right(a, 2) ^ rotate_right(a, 13) ^ rotate_right(a, 22);
        uint32_t t2 = s0 + ((a & b) ^ (a & c) ^ (b & c));
        h = g;
        g = f;
        f = e;
        e = d + t1;
        d = c;
        c = b;
        b = a;
        a = t1 + t2;
    }
    state[0] += a;
    state[1] += b;
    state[2] += c;
    state[3] += d;
    state[4] += e;
    state[5] += f;
    state[6] += g;
    state[7] += h;
}

static void compress_portable(uint32_t state[8], const unsigned char *blocks, size_t n) {
    for (size_t i = 0; i < n; i++) {
        compress_block(state, blocks + 64 * i);
    }
}

#if defined(__x86_64__)
// Weight files are many gigabytes: the CPU's own rounds are about six times as fast. The
// instructions keep the state as (a, b, e, f) and (c, d, g, h), highest lane first, and do two
// rounds at a time.
__attribute__((target("sha,sse4.1"))) static void
compress_x86(uint32_t state[8], const unsigned char *blocks, size_t n) {
    const __m128i swap = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
    __m128i abef = _mm_set_epi32((int)state[0], (int)state[1], (int)state[4], (int)state[5]);
    __m128i cdgh = _mm_set_epi32((int)state[2], (int)state[3], (int)state[6], (int)state[7]);
    for (size_t i = 0; i < n; i++) {
        __m128i before_abef = abef, before_cdgh = cdgh;
        __m128i w[4]; // the last 16 schedule words, oldest at index step % 4
        for (int k = 0; k < 4; k++) {
            const void *words = blocks + 64 * i + 16 * (size_t)k;
            w[k] = _mm_shuffle_epi8(_mm_loadu_si128(words), swap);
        }
        for (int step = 0; step < 16; step++) {
            __m128i *oldest = &w[step % 4];
            __m128i sum = _mm_add_epi32(
                *oldest, _mm_loadu_si128((const __m128i *)&round_constants[4 * step]));
            cdgh = _mm_sha256rnds2_epu32(cdgh, abef, sum);
            abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(sum, 0x0e));
            __m128i newest = w[(step + 3) % 4];
            __m128i next = _mm_sha256msg1_epu32(*oldest, w[(step + 1) % 4]);
            next = _mm_add_epi32(next, _mm_alignr_epi8(newest, w[(step + 2) % 4], 4));
            *oldest = _mm_sha256msg2_epu32(next, newest);
        }
        abef = _mm_add_epi32(abef, before_abef);
        cdgh = _mm_add_epi32(cdgh, before_cdgh);
    }
    uint32_t first[4], second[4];
    _mm_storeu_si128((__m128i *)first, abef);
    _mm_storeu_si128((__m128i *)second, cdgh);
    const uint32_t result[8] = {first[3], first[2], second[3], second[2],
                                first[1], first[0], second[1], second[0]};
    memcpy(state, result, sizeof result);
}
#endif

static sha256_compress_fn choose_compress(void) {
#if defined(__x86_64__)
    unsigned a, b, c, d;
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (b & bit_SHA) != 0 &&
        __builtin_cpu_supports("sse4.1")) {
        return compress_x86;
    }
#endif
    return compress_portable;
}

void sha256_init_portable(struct sha256 *sha) {
    *sha = (struct sha256){.compress = compress_portable,
                           .state = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f,
                                     0x9b05688c, 0x1f83d9ab, 0x5be0cd19}};
}

void sha256_init(struct sha256 *sha) {
    sha256_init_portable(sha);
    sha->compress = choose_compress();
}

void sha256_update(struct sha256 *sha, const void *bytes, size_t size) {
    const unsigned char *input = bytes;
    size_t waiting = sha->length % 64;
    sha->length += size;
    if (waiting > 0) {
        size_t take = size < 64 - waiting ? size : 64 - waiting;
        memcpy(sha->block + waiting, input, take);
        input += take;
        size -= take;
        if (waiting + take < 64) {
            return;
        }
        sha->compress(sha->state, sha->block, 1);
    }
    sha->compress(sha->state, input, size / 64);
    memcpy(sha->block, input + size / 64 * 64, size % 64);
}

void sha256_finish_hex(struct sha256 *sha, char hex[SHA256_HEX_BYTES]) {
    uint64_t bits = sha->length * 8;
    unsigned char tail[72] = {0x80};
    size_t zeros = (119 - sha->length % 64) % 64;
    for (int i = 0; i < 8; i++) {
        tail[1 + zeros + (size_t)i] = (unsigned char)(bits >> (56 - 8 * i));
    }
    sha256_update(sha, tail, 1 + zeros + 8);
    for (int i = 0; i < 8; i++) {
        snprintf(hex + 8 * i, 9, "%08x", sha->state[i]);
    }
}

void sha256_hex(const void *bytes, size_t size, char hex[SHA256_HEX_BYTES]) {
    struct sha256 sha;
    sha256_init(&sha);
    sha256_update(&sha, bytes, size);
    sha256_finish_hex(&sha, hex);
}
