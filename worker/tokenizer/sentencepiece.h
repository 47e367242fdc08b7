// A SentencePiece model as arrays of pieces, scores and types, however they were stored (a
// tokenizer.model, a GGUF file), and the tokenizer that it makes. What comes out encodes as
// SentencePiece itself does, in the form in which transformers 5 builds it
// (convert_slow_tokenizer.py, build_tokenizer_from_spm_proto).
#ifndef WORKER_TOKENIZER_SENTENCEPIECE_H
#define WORKER_TOKENIZER_SENTENCEPIECE_H

#include <stdbool.h>
#include <stddef.h>

#include "common/status.h"
#include "worker/tokenizer/tokenizer_data.h"

// Frozen by sentencepiece_model.proto; GGUF uses the same numbers.
enum sentencepiece_type {
    SENTENCEPIECE_NORMAL = 1,
    SENTENCEPIECE_UNKNOWN = 2,
    SENTENCEPIECE_CONTROL = 3,      // a special token
    SENTENCEPIECE_USER_DEFINED = 4, // always whole, never merged
    SENTENCEPIECE_UNUSED = 5,       // an id that no text has
    SENTENCEPIECE_BYTE = 6,         // "<0xXX>"
};

struct sentencepiece_piece {
    const char *text; // [bytes], UTF-8
    size_t bytes;
    float score; // BPE: higher is joined first; unigram: a log probability
    enum sentencepiece_type type;
};

// All pointers are borrowed during the call.
struct sentencepiece_model {
    const char *file;                         // for errors
    const struct sentencepiece_piece *pieces; // [n_pieces], a piece's place is its id
    size_t n_pieces;
    bool unigram;                  // else BPE
    bool byte_fallback;            // unknown characters become their bytes' pieces
    bool add_dummy_prefix;         // a space goes before the text
    bool every_part_has_prefix;    // and before each part between added tokens
    bool remove_extra_whitespaces; // spaces at either end, and all but one of a run
    bool escape_whitespaces;       // spaces become U+2581
    const void *charsmap;          // [charsmap_bytes], the precompiled map; may be none
    size_t charsmap_bytes;
    int32_t unk_id; // these are -1 for none
    int32_t bos_id;
    int32_t eos_id;
    int32_t pad_id;
};

// Fills an empty tokenizer: vocabulary, model, normaliser, pre-tokenizer, decoder, added tokens and
// the ids above. MALFORMED: a piece is empty, not UTF-8 or occurs twice, an id is no piece, a type
// is none. LIMIT, NO_MEMORY. After a failure the tokenizer can be closed.
MUST_CHECK enum status sentencepiece_fill(const struct sentencepiece_model *model,
                                          struct tokenizer *tokenizer, struct error *err);

// The same for pieces of BPE alone, of which a class of transformers makes the rest
// (tokenizer_class.h): every piece may be a part of a merge, in the order of ids, and control and
// user-defined pieces are added tokens.
MUST_CHECK enum status sentencepiece_fill_pieces(const struct sentencepiece_model *model,
                                                 struct tokenizer *tokenizer, struct error *err);

#endif
