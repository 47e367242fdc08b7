// Finds added tokens in a text: those that the file lists beside the model and that match before
// words are formed, in the way of the Hugging Face tokenizers library (added_vocabulary.rs): from
// left to right the longest that starts at a place; one that may not count there is skipped whole.
#ifndef WORKER_TOKENIZER_ADDED_TOKENS_H
#define WORKER_TOKENIZER_ADDED_TOKENS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/status.h"

enum { ADDED_TOKENS_MAX = 1 << 16, ADDED_TOKEN_BYTES_MAX = 1024 };

struct added_token {
    const char *content; // [bytes], borrowed from the set's text
    uint16_t bytes;
    int32_t id;
    bool special;
    bool lstrip; // takes the white space before it too
    bool rstrip;
    bool single_word; // only where no word character touches it
    bool normalized;  // looked for in the normalised text
};

struct added_tokens {
    struct added_token *tokens; // [count], sorted by content once ready; contents are owned
    size_t count;
    size_t capacity;
    uint32_t first[257]; // tokens that start with byte b are first[b] .. first[b + 1]
};

// Which added tokens count in a stretch of text.
enum added_scope {
    ADDED_NONE,        // none: the stretch is plain text, whatever it spells
    ADDED_NOT_SPECIAL, // those that are not special
    ADDED_ALL,         // all; a special one only when it lies wholly in the stretch
};

struct added_span {
    uint32_t start;
    uint32_t end;
    enum added_scope scope;
};

// Answers for a whole text: spans that follow one another without a gap and cover it.
struct added_permission {
    const struct added_span *spans; // [count], borrowed
    size_t count;
};

// The state of one search through a text. Zero starts it.
struct added_search {
    size_t at;   // where the next token may begin
    size_t done; // end of what was handed out; white space that a token took is included
    size_t span; // spans before this one end before `at`
};

struct added_match {
    size_t start; // white space that the token takes included; at least the search's `done` before
                  // the call, except for a token that begins in white space which the last one took
    size_t end;
    int32_t id;
};

// Copies the content. LIMIT, NO_MEMORY.
MUST_CHECK enum status added_tokens_add(struct added_tokens *set, const struct added_token *token);

// Sorts; the set is constant afterwards. ALREADY_EXISTS: two tokens share a content.
MUST_CHECK enum status added_tokens_prepare(struct added_tokens *set);

// Finds the next token of text [bytes] and moves the search behind it; false, with the search
// unchanged in `done`, when none is left.
bool added_tokens_next(const struct added_tokens *set, const char *text, size_t bytes,
                       const struct added_permission *permission, struct added_search *search,
                       struct added_match *match);

void added_tokens_finish(struct added_tokens *set);

#endif
