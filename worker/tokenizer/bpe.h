// Byte pair encoding of one word: starts from bytes (byte-level) or characters, then joins the pair
// of lowest rank, leftmost first, until none is left (Sennrich et al. 2016, algorithm 1, as read by
// the Hugging Face format). A heap keeps this at O(n log n), so that a word may be a whole text, as
// it is for SentencePiece-style models. Knows no special tokens, normalisation or word borders.
#ifndef WORKER_TOKENIZER_BPE_H
#define WORKER_TOKENIZER_BPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/status.h"
#include "worker/tokenizer/vocabulary.h"

enum { BPE_MERGES_MAX = 1 << 22 };

struct merge {
    uint64_t key;  // left id << 32 | right id; UINT64_MAX when the slot is free
    uint32_t rank; // lower is joined first
    int32_t id;    // of the joined piece, -1 when forgotten
};

struct bpe {
    struct merge *merges; // [mask + 1], open addressing; owned
    size_t mask;
    size_t count;
    int32_t byte_ids[256]; // piece of a byte (byte-level) or its fallback "<0xXX>"; -1 for none
    int32_t unk_id;        // -1 for none: unknown characters vanish
    bool byte_level;       // words are bytes, not characters
    bool byte_fallback;    // unknown characters become byte_ids
    bool fuse_unk;         // neighbouring unknown characters become one unk_id
    bool ignore_merges;    // a word that is itself a piece is taken whole
    bool splits_at_mark;   // no merge crosses from another character to U+2581; set by bpe_prepare
};

// Where ids go. Counts on when full, so that the caller learns what it needs.
struct id_sink {
    int32_t *ids; // [capacity], borrowed
    size_t capacity;
    size_t count;
};

// Memory of one encode call, reused for all its words. Zero is the empty state.
struct bpe_scratch {
    struct bpe_symbol *symbols;
    size_t symbols_capacity;
    struct bpe_candidate *heap;
    size_t heap_count;
    size_t heap_capacity;
    size_t heap_pops; // work done so far, for tests
};

// Makes room for n merges. LIMIT, NO_MEMORY.
MUST_CHECK enum status bpe_reserve(struct bpe *bpe, size_t n_merges);

// Adds left+right -> id; the last of equal pairs counts. At most the reserved number.
void bpe_add_merge(struct bpe *bpe, int32_t left, int32_t right, uint32_t rank, int32_t id);

// Once all merges are added. Forgets every merge that ends in a special token: ordinary text must
// never become one, whatever the merges of the file say.
void bpe_prepare(struct bpe *bpe, const struct vocabulary *vocabulary);

// Hash of the merges in their order. Neighbours in the order that join to the same piece count as
// equal in rank: whether a file ranks them one by one or by their piece makes no difference.
// NO_MEMORY.
MUST_CHECK enum status bpe_fingerprint(const struct bpe *bpe, uint64_t *out);

// Encodes one word (valid UTF-8 unless byte-level). NO_MEMORY.
MUST_CHECK enum status bpe_encode_word(const struct bpe *bpe, const struct vocabulary *vocabulary,
                                       const char *word, size_t bytes, struct bpe_scratch *scratch,
                                       struct id_sink *sink);

void id_sink_put(struct id_sink *sink, int32_t id);
void bpe_scratch_finish(struct bpe_scratch *scratch);
void bpe_finish(struct bpe *bpe);

#endif
