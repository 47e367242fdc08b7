// The tokens of a tokenizer: spelling in the file, bytes in a text, and the way from a spelling to
// the id. Filled while a tokenizer is opened and constant afterwards.
#ifndef WORKER_TOKENIZER_VOCABULARY_H
#define WORKER_TOKENIZER_VOCABULARY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/status.h"

struct token {
    uint32_t content_offset; // spelling in the file, in the arena
    uint32_t output_offset;  // bytes in a text, in the arena
    uint16_t content_bytes;
    uint16_t output_bytes;
    bool present; // ids may have gaps
    bool special;
    bool added; // in the list of added tokens, special or not
};

struct vocabulary {
    struct token *tokens; // [size], owned
    int32_t size;         // one past the largest id
    int32_t capacity;
    char *arena; // [arena_bytes], owned
    size_t arena_bytes;
    size_t arena_capacity;
    int32_t *index; // [index_mask + 1], open addressing by spelling: id, -1 when free; owned
    size_t index_mask;
    size_t count; // tokens present
};

// Adds a token of `bytes` >= 1 bytes. LIMIT: id or length above its maximum. ALREADY_EXISTS: the id
// or the spelling is taken. MALFORMED: a negative id or an empty spelling. NO_MEMORY.
MUST_CHECK enum status vocabulary_add(struct vocabulary *vocabulary, int64_t id,
                                      const char *content, size_t bytes);

// Sets the bytes that an existing id contributes to a text, at most TOKENIZER_PIECE_BYTES_MAX.
MUST_CHECK enum status vocabulary_set_output(struct vocabulary *vocabulary, int32_t id,
                                             const char *bytes, size_t count);

// Id by spelling, -1 when absent.
int32_t vocabulary_find(const struct vocabulary *vocabulary, const char *content, size_t bytes);

// Borrowed until the vocabulary changes; not NUL-terminated.
const char *vocabulary_content(const struct vocabulary *vocabulary, int32_t id, size_t *bytes);
const char *vocabulary_output(const struct vocabulary *vocabulary, int32_t id, size_t *bytes);

// Whether U+2581, which stands for a space, follows another character in the spelling of `id`.
bool vocabulary_has_inner_mark(const struct vocabulary *vocabulary, int32_t id);

void vocabulary_finish(struct vocabulary *vocabulary);

// Byte-level BPE spells a byte as one printable character (Radford et al. 2019, encoder.py of
// openai/gpt-2, bytes_to_unicode): printable Latin-1 stands for itself, the rest begins at U+0100.
uint32_t byte_level_character(uint8_t byte);

// The byte that such a character spells, -1 when it spells none.
int byte_level_byte(uint32_t character);

// Spells bytes [count]; out holds at least 2 * count. Returns the length.
size_t byte_level_spell(const char *bytes, size_t count, char *out);

// The opposite: content [bytes] to raw bytes, at most as many. False: a character spells none.
bool byte_level_parse(const char *content, size_t bytes, char *out, size_t *count);

#endif
