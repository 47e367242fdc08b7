// The inside of a tokenizer, shared by its readers (tokenizer_json.c, tokenizer_files.c,
// special_ids.c), which fill it, and by the encoder and detokenizer, which only read it. No other
// folder includes this.
#ifndef WORKER_TOKENIZER_TOKENIZER_DATA_H
#define WORKER_TOKENIZER_TOKENIZER_DATA_H

#include <jansson.h>

#include "worker/tokenizer/added_tokens.h"
#include "worker/tokenizer/bpe.h"
#include "worker/tokenizer/normalize.h"
#include "worker/tokenizer/pretokenize.h"
#include "worker/tokenizer/tokenizer.h"
#include "worker/tokenizer/unigram.h"
#include "worker/tokenizer/vocabulary.h"

enum { TOKENIZER_END_IDS_MAX = 64, FRAME_IDS_MAX = 4 };

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
    bool fused;     // while it is read: the steps so far made one text of the tokens
    size_t n_steps; // of the file
};

// What the post-processor puts around a text.
struct frame {
    int32_t before[FRAME_IDS_MAX]; // [n_before]
    int32_t after[FRAME_IDS_MAX];  // [n_after]
    size_t n_before;
    size_t n_after;
};

enum model_kind { MODEL_BPE, MODEL_UNIGRAM };

struct tokenizer {
    struct vocabulary vocabulary;
    enum model_kind kind;
    struct bpe bpe;         // of MODEL_BPE
    struct unigram unigram; // of MODEL_UNIGRAM
    int32_t model_size;     // pieces of the model, added tokens left out
    int32_t added_end;      // one past the largest id of an added token
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
    struct frame frame;
    bool whole_file;          // tokenizer.json: the frame and the added tokens are the file's
    bool adds_bos_by_default; // without one, and when the configuration does not speak of it
    const struct class_token *class_tokens; // tokenizer_class.h; NULL: those of the source's roles
    json_t *padding;      // owned: text of the token that tokenizer.json pads with; or NULL
    bool class_adds_anew; // named tokens, with no flag but special
    json_t *names;        // owned: name to text, of the tokens that the files or the class name
    uint64_t fingerprint;
};

// Records an added token: gives it its id in the vocabulary, or marks the id that it has there. Of
// a token that was added before it replaces the flags, but what is special stays so. The rest as
// vocabulary_add and added_tokens_add. ALREADY_EXISTS: its id is another token's.
MUST_CHECK enum status tokenizer_add_token(struct tokenizer *tokenizer,
                                           const struct added_token *token);

// The id that the Hugging Face library gives an added token with this content, whatever id a file
// states: that of the vocabulary, else the next free one.
int32_t tokenizer_next_id(const struct tokenizer *tokenizer, const char *content, size_t bytes);

// The added token with this id, NULL when there is none.
const struct added_token *tokenizer_added(const struct tokenizer *tokenizer, int32_t id);

#endif
