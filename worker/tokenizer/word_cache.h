// Words of one encode call and their ids: texts repeat words, and merging one again costs more than
// finding it. Grows with the text up to a fixed size, then keeps what it has.
#ifndef WORKER_TOKENIZER_WORD_CACHE_H
#define WORKER_TOKENIZER_WORD_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    WORD_CACHE_WORD_BYTES_MAX = 32,
    WORD_CACHE_WORDS_MAX = 1 << 15, // at about 100 bytes each
};

struct cached_word {
    uint32_t hash;
    uint32_t ids;  // index of the first
    uint8_t bytes; // 0 when the slot is free
    uint8_t n_ids;
    char text[WORD_CACHE_WORD_BYTES_MAX];
};

// Zero is the empty state.
struct word_cache {
    struct cached_word *slots; // [mask + 1], open addressing; owned
    size_t mask;
    size_t count;
    int32_t *ids; // [n_ids], owned
    size_t n_ids;
    size_t ids_capacity;
};

uint32_t word_cache_hash(const char *word, size_t bytes);

// The ids of a word of 1..WORD_CACHE_WORD_BYTES_MAX bytes with its hash, NULL when it is not there.
const int32_t *word_cache_find(const struct word_cache *cache, const char *word, size_t bytes,
                               uint32_t hash, size_t *n_ids);

// Keeps a word that is not there, if there is room and memory. n_ids is at most 255.
void word_cache_add(struct word_cache *cache, const char *word, size_t bytes, uint32_t hash,
                    const int32_t *ids, size_t n_ids);

void word_cache_finish(struct word_cache *cache);

#endif
