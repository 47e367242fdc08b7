// The inside of a tokenizer, shared by its readers (tokenizer_json.c, tokenizer_files.c,
// special_ids.c), which fill it, and by the encoder and detokenizer, which only read it. No other
// folder includes this.
#ifndef WORKER_TOKENIZER_TOKENIZER_DATA_H
#define WORKER_TOKENIZER_TOKENIZER_DATA_H

#include "worker/tokenizer/added_tokens.h"
#include "worker/tokenizer/bpe.h"
#include "worker/tokenizer/normalize.h"
#include "worker/tokenizer/pretokenize.h"
#include "worker/tokenizer/tokenizer.h"
#include "worker/tokenizer/vocabulary.h"

enum { TOKENIZER_END_IDS_MAX = 64 };

// What a decoded text loses at its start.
enum start_rule {
    START_KEEPS,
    START_LOSES_SPACE,  // one space (SentencePiece's dummy prefix)
    START_LOSES_SPACES, // every leading space of the first token (Metaspace decoder)
};

// How a piece becomes bytes.
struct decoder {
    bool byte_level;
    bool byte_fallback; // "<0xXX>" is a byte
    bool replaces;      // pattern by content, in every piece
    struct normalize_string pattern;
    struct normalize_string content;
    enum start_rule start_rule;
};

struct tokenizer {
    struct vocabulary vocabulary;
    struct bpe bpe;
    struct normalizer normalizer;
    struct pretokenizer pretokenizer;
    struct decoder decoder;
    struct added_tokens added;            // looked for in the text as it comes
    struct added_tokens added_normalized; // looked for in the normalised text
    int32_t bos_id;
    int32_t eos_id;
    int32_t pad_id;
    int32_t end_ids[TOKENIZER_END_IDS_MAX]; // [n_end_ids]
    size_t n_end_ids;
    bool adds_bos;
    uint64_t fingerprint;
};

// Records an added token and gives it its id in the vocabulary, or marks the id that it has there.
// ALREADY_EXISTS: id or content means something else already. The rest as vocabulary_add and
// added_tokens_add.
MUST_CHECK enum status tokenizer_add_token(struct tokenizer *tokenizer,
                                           const struct added_token *token);

#endif
