// A model's tokenizer: text to token ids and back, as the Hugging Face files beside the weights
// define it. Supported are byte-level BPE (GPT-2, GPT-NeoX, Qwen2, Llama 3, DeepSeek and others),
// SentencePiece-style BPE with byte fallback (Llama 2, Mistral, Gemma) and unigram models. A
// tokenizer never changes after open: any number of threads may use one at the same time, each call
// brings its own scratch. The files are untrusted input: whatever is unknown or inconsistent is
// refused, with the field that is wrong. Chat formats are in template.h, streamed decoding is in
// detokenizer.h.
#ifndef WORKER_TOKENIZER_TOKENIZER_H
#define WORKER_TOKENIZER_TOKENIZER_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/status.h"

struct tokenizer;

enum {
    TOKENIZER_VOCAB_MAX = 1 << 20,       // ids are below this
    TOKENIZER_PIECE_BYTES_MAX = 1024,    // bytes that one token stands for
    TOKENIZER_TEXT_BYTES_MAX = 1 << 22,  // text of one encode call
    TOKENIZER_FILE_BYTES_MAX = 64 << 20, // any one file of the directory
    TOKENIZER_SEGMENTS_MAX = 1 << 16,
};

// Flags of encode and decode; each names the calls that it applies to.
enum {
    // encode: put first what the tokenizer puts before a text; the BOS id, when it has one, where
    // it
    // puts nothing itself.
    TOKENIZER_ADD_BOS = 1 << 0,
    // encode: special tokens written in the text become their ids. Without it they are ordinary
    // text. Added tokens that are not special match in either case; only a segment can keep those
    // out too.
    TOKENIZER_PARSE_SPECIAL = 1 << 1,
    // encode, decode, detokenizer: the text continues an earlier text. Encoding adds no prefix
    // space to its start, decoding removes none.
    TOKENIZER_CONTINUATION = 1 << 2,
    // decode, detokenizer: special tokens appear as their text instead of as nothing.
    TOKENIZER_KEEP_SPECIAL = 1 << 3,
};

// A stretch of text with its own answer to which added tokens are recognised in it.
struct tokenizer_segment {
    const char *text; // valid UTF-8, need not end with NUL
    size_t bytes;
    bool parse_special; // a special token is recognised when it lies wholly in one such segment
    bool inert;         // no added token is recognised that touches it, special or not, whatever
                        // parse_special says: for what a user writes, which must never become a
                        // turn marker, also where a model's markers are not special
};

// What a tokenizer.json may consist of: the model BPE without dropout, prefix or suffix, or Unigram;
// the normalisers NFC, NFD, NFKC, NFKD, Lowercase, Strip, Prepend, Replace and Precompiled; the
// pre-tokenizers ByteLevel, Split, Digits, Punctuation, Whitespace, WhitespaceSplit,
// CharDelimiterSplit, FixedLength and Metaspace; the decoders ByteLevel, Metaspace, Replace,
// ByteFallback, Fuse and Strip of one space; the post-processors TemplateProcessing and ByteLevel;
// and sequences of these. The classes of transformers that build a pipeline of their own are
// followed (tokenizer_class.h). Truncation and padding are those of a caller and left out, as
// transformers does. Ids and text are those of the library but for this: special tokens are never
// spelled by ordinary text, whatever merges or pieces say; they are hidden in a decoded text also
// when they are `normalized`; bytes that are not UTF-8 become U+FFFD per ill-formed part.
// Character classes follow the library's Unicode version (unicode_newer.h); scripts as \p{Han} and
// lower case follow that of PCRE2 and libutf8proc.
//
// Opens the tokenizer of the model at `path` (worker/model/model_path.h) and returns it owned. A
// GGUF file holds its own (tokenizer_gguf.h). In a directory the first source found is read:
// tokenizer.json; vocab.json with merges.txt (GPT-2, or what tokenizer_config.json names);
// tokenizer.model of SentencePiece, or the ranks of Llama 3 (a line each: base64 bytes, rank);
// tekken.json; qwen.tiktoken, the ranks of the first Qwen. Ranks are read where the configuration
// says whose they are (rank_file.c). Special tokens come from tokenizer_config.json, special_tokens_map.json and
// added_tokens.json as in transformers, ids that these do not name from generation_config.json and
// config.json. Blocks on files. NOT_FOUND: no source there. UNSUPPORTED: a
// model kind, normaliser, pre-tokenizer or decoder that is not implemented. MALFORMED, LIMIT: the
// file is wrong or too large. IO, NO_MEMORY. err->field is the file and the path in it, as
// "tokenizer.json:model.type".
MUST_CHECK enum status tokenizer_open(const char *path, struct tokenizer **out, struct error *err);

// Frees; NULL is allowed.
void tokenizer_close(struct tokenizer *tokenizer);

// One past the largest id. A model may have more rows than this in its embedding, never fewer.
int32_t tokenizer_vocab_size(const struct tokenizer *tokenizer);

// -1 when the tokenizer has none.
int32_t tokenizer_bos_id(const struct tokenizer *tokenizer);
int32_t tokenizer_eos_id(const struct tokenizer *tokenizer);
int32_t tokenizer_pad_id(const struct tokenizer *tokenizer);
int32_t tokenizer_unk_id(const struct tokenizer *tokenizer);

// Whether a plain text (not a chat) is meant to start with BOS: what the post-processor of
// tokenizer.json says, nothing where it has none; for other files add_bos_token of the
// configuration. Callers then pass TOKENIZER_ADD_BOS.
bool tokenizer_adds_bos(const struct tokenizer *tokenizer);

// Whether `id` is a special token; false for an id outside the vocabulary.
bool tokenizer_is_special(const struct tokenizer *tokenizer, int32_t id);

// Whether `id` ends a generation: EOS, or one of generation_config.json's eos_token_id.
bool tokenizer_is_end(const struct tokenizer *tokenizer, int32_t id);

// Id of the token spelled exactly `content` in the file (an added token or a vocabulary entry), -1
// when there is none. For tests and configuration, not for encoding.
int32_t tokenizer_find(const struct tokenizer *tokenizer, const char *content);

// The tokens that the configuration or the class of transformers names, by names as "bos_token":
// texts, or null where it is said that there is none. Borrowed until close. They are all that
// transformers knows where `tokenizer_names_all`; else the source of the tokenizer has its own.
const json_t *tokenizer_names(const struct tokenizer *tokenizer);
bool tokenizer_names_all(const struct tokenizer *tokenizer);

// Bytes of memory that the tokenizer holds, its compiled expressions left out.
size_t tokenizer_bytes(const struct tokenizer *tokenizer);

// Equal for two tokenizers exactly when ids of one may be handed to a model of the other: a hash
// over every (id, bytes), merges, normaliser, pre-tokenizer and special tokens. Which of the
// special tokens is BOS, EOS or padding does not enter. Not cryptographic.
uint64_t tokenizer_fingerprint(const struct tokenizer *tokenizer);

// Encodes `text` (`bytes` bytes of UTF-8, borrowed during the call) with the TOKENIZER_* `flags`;
// writes ids [*count] and the count. Time is O(bytes log bytes). INVALID_ARGUMENT: not UTF-8, the
// message has the byte offset. LIMIT: the text is above TOKENIZER_TEXT_BYTES_MAX (*count
// untouched), or more than `capacity` ids are needed: *count is then the needed count and `ids`
// holds nothing of use. NO_MEMORY. ids may be NULL when capacity is 0, to ask for the count.
MUST_CHECK enum status tokenizer_encode(const struct tokenizer *tokenizer, const char *text,
                                        size_t bytes, unsigned flags, int32_t *ids, size_t capacity,
                                        size_t *count, struct error *err);

// Encodes the concatenation of n_segments (>= 0, at most TOKENIZER_SEGMENTS_MAX) segments as one
// text: words form across their borders as if it had been written in one piece, special tokens do
// not. Flags and errors as above, except that each segment decides about added tokens itself. A
// character must not be cut by a border. Where a tokenizer looks for tokens in the normalised text
// and segments differ, each segment is normalised alone.
MUST_CHECK enum status tokenizer_encode_segments(const struct tokenizer *tokenizer,
                                                 const struct tokenizer_segment *segments,
                                                 size_t n_segments, unsigned flags, int32_t *ids,
                                                 size_t capacity, size_t *count, struct error *err);

// The bytes that `id` contributes to a text, borrowed until close: not NUL-terminated, possibly a
// part of a UTF-8 character, empty for an id without a token. Special tokens give nothing unless
// flags has TOKENIZER_KEEP_SPECIAL. The rule about the space at the start of a text is the
// detokenizer's and is not applied. INVALID_ARGUMENT: id outside the vocabulary.
MUST_CHECK enum status tokenizer_token_bytes(const struct tokenizer *tokenizer, int32_t id,
                                             unsigned flags, const char **bytes, size_t *count);

// Decodes ids [n] into `text` (not NUL-terminated) and writes its length. Invalid UTF-8 becomes
// U+FFFD, one per maximal ill-formed part. INVALID_ARGUMENT: an id outside the vocabulary. LIMIT:
// more than `capacity` bytes are needed; *bytes is then the needed count. text may be NULL when
// capacity is 0.
MUST_CHECK enum status tokenizer_decode(const struct tokenizer *tokenizer, const int32_t *ids,
                                        size_t n, unsigned flags, char *text, size_t capacity,
                                        size_t *bytes, struct error *err);

#endif
