// The unigram language model of SentencePiece: the way through a word whose pieces have the highest
// sum of scores (Kudo 2018, section 3.2; Viterbi), with the sums and ties of Hugging Face
// tokenizers (models/unigram/model.rs, encode_optimized). Knows no special tokens or normalisation.
#ifndef WORKER_TOKENIZER_UNIGRAM_H
#define WORKER_TOKENIZER_UNIGRAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/status.h"
#include "worker/tokenizer/bpe.h"
#include "worker/tokenizer/vocabulary.h"

struct unigram {
    double *scores; // [n_scores], by id; owned
    size_t n_scores;
    uint64_t *children;    // [mask + 1], trie edges, open addressing: node, byte and child; owned
    int32_t *ids;          // [n_nodes], the piece that ends at a node, -1 for none; owned
    size_t n_nodes;        // the root is node 0
    size_t mask;           //
    double unk_score;      // of a character that is no piece
    int32_t unk_id;        // -1 for none: text with an unknown character is then an error
    int32_t byte_ids[256]; // pieces "<0xXX>", -1 for none
    bool byte_fallback;    // unknown characters become byte_ids
    bool splits_at_mark;   // no piece crosses from another character to U+2581; set by prepare
    double score_scale;    // a power of two by which every score is a whole number; 0 for none
    double score_max;      // largest magnitude of a score, that of an unknown character included
};

// Memory of one encode call. Zero is the empty state.
struct unigram_scratch {
    struct unigram_node *nodes;
    size_t capacity;
};

// Takes scores [n_scores] and builds the trie of all pieces of the vocabulary that are not special:
// ordinary text must never become one. LIMIT, NO_MEMORY.
MUST_CHECK enum status unigram_prepare(struct unigram *unigram,
                                       const struct vocabulary *vocabulary);

// Whether a text of `bytes` bytes may be cut before each U+2581 that follows another character and
// encoded word by word. No piece crosses such a place, so that all ways through the text meet
// there; and sums of scores are exact in a double up to that length, so that leaving out what came
// before changes no comparison.
bool unigram_splits(const struct unigram *unigram, size_t bytes);

// Encodes one word. UNSUPPORTED: an unknown character and no unk_id. NO_MEMORY.
MUST_CHECK enum status unigram_encode_word(const struct unigram *unigram, const char *word,
                                           size_t bytes, struct unigram_scratch *scratch,
                                           struct id_sink *sink);

void unigram_scratch_finish(struct unigram_scratch *scratch);
void unigram_finish(struct unigram *unigram);

#endif
