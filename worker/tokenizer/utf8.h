// UTF-8 by the rules of the Unicode Standard, section 3.9: stepping, checking and the few character
// classes that the tokenizer asks for itself. Pure functions; any thread.
#ifndef WORKER_TOKENIZER_UTF8_H
#define WORKER_TOKENIZER_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum utf8_kind {
    UTF8_WELL_FORMED, // a character
    UTF8_INCOMPLETE,  // the text ends inside a character that more bytes could complete
    UTF8_ILL_FORMED,  // cannot become a character whatever follows
};

struct utf8_step {
    enum utf8_kind kind;
    uint8_t bytes; // 1..4 of the character, or of the maximal ill-formed part (one U+FFFD stands
                   // for it)
    uint32_t code; // code point when well formed
};

// Looks at the start of text [bytes], bytes >= 1.
struct utf8_step utf8_next(const char *text, size_t bytes);

// Length of a character by its first byte; the text must be well formed.
size_t utf8_length(char first);

// Writes 1..4 bytes of a valid code point and returns how many.
size_t utf8_encode(uint32_t code, char out[4]);

// True when text [bytes] is well formed; else *offset is that of the first wrong byte.
bool utf8_validate(const char *text, size_t bytes, size_t *offset);

// The Unicode property White_Space.
bool utf8_is_space(uint32_t code);

enum utf8_class { UTF8_OTHER, UTF8_LETTER, UTF8_NUMBER, UTF8_SPACE };

// White_Space, else general category L or N, else other; of the Unicode version of the tokenizers
// library.
enum utf8_class utf8_class(uint32_t code);

// Alphabetic, a mark, decimal digit, connector punctuation or join control (Unicode Technical
// Standard 18, annex C, \w).
bool utf8_is_word(uint32_t code);

#endif
