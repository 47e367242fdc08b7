// Small tokenizers written for the tests: a model directory is made, opened and removed.
#ifndef TESTS_TOKENIZER_FIXTURE_H
#define TESTS_TOKENIZER_FIXTURE_H

#include "tests/support/testkit.h"
#include "worker/tokenizer/tokenizer.h"

// Ids of the byte-level fixture; a single byte is its own id.
enum {
    BYTE_HE = 256,
    BYTE_LL,
    BYTE_HELL,
    BYTE_HELLO,
    BYTE_SPACE_W,
    BYTE_IM_START,
    BYTE_IM_END,
    BYTE_START_HEADER,
    BYTE_END_HEADER,
    BYTE_EOT,
    BYTE_BOS,
    BYTE_EOS,
    BYTE_TOOL, // an added token that is not special
    BYTE_COUNT,
};

// Ids of the SentencePiece-style fixture; byte b is PIECE_BYTES + b.
enum {
    PIECE_UNK = 0,
    PIECE_BOS,
    PIECE_EOS,
    PIECE_BYTES,
    PIECE_SPACE = PIECE_BYTES + 256, // U+2581
    PIECE_A,
    PIECE_B,
    PIECE_C,
    PIECE_SPACE_A,
    PIECE_BC,
    PIECE_LESS,
    PIECE_S,
    PIECE_MORE,
    PIECE_LESS_S,
    PIECE_COUNT,
};

// Texts of tokenizer.json; the caller frees. The SentencePiece fixture has merges that would spell
// "<s>" out of ordinary text.
char *fixture_byte_level_json(void);
char *fixture_sentencepiece_json(void);

// The text with the first `from` replaced by `to`; takes text, returns owned. Fails without one.
char *fixture_replace(char *text, const char *from, const char *to);

struct fixture_file {
    const char *name;
    const char *text; // NULL leaves the file out
};

// Opens a directory that holds only these files.
enum status fixture_open_files(const struct fixture_file *files, size_t n,
                               struct tokenizer **tokenizer, struct error *err);

// The same for tokenizer.json, which is taken, and tokenizer_config.json; either may be NULL.
enum status fixture_open(char *tokenizer_json, const char *tokenizer_config,
                         struct tokenizer **tokenizer, struct error *err);

// Opened fixtures; fail the test when they do not open.
struct tokenizer *fixture_byte_level(void);
struct tokenizer *fixture_sentencepiece(void);

// Encodes a NUL-terminated text and compares; the list ends with -1.
#define assert_encodes(tokenizer, text, flags, ...)                                                \
    fixture_assert_encodes((tokenizer), (text), (flags), (const int32_t[]){__VA_ARGS__, -1},       \
                           __FILE__, __LINE__)
void fixture_assert_encodes(const struct tokenizer *tokenizer, const char *text, unsigned flags,
                            const int32_t *expected, const char *file, int line);

// Compares ids [count] with a list that ends with -1 and prints both when they differ.
void fixture_assert_ids(const int32_t *ids, size_t count, const int32_t *expected, const char *file,
                        int line);

#endif
