// Finds added tokens in a text: those that the file lists beside the model and that match before
// words are formed. At a place the longest permitted one is taken, from left to right.
#ifndef WORKER_TOKENIZER_ADDED_TOKENS_H
#define WORKER_TOKENIZER_ADDED_TOKENS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/status.h"
#include "worker/tokenizer/pretokenize.h"

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

struct added_match {
    size_t start; // white space that the token takes included
    size_t end;
    int32_t id;
};

// Where special tokens count: sorted spans that do not overlap.
struct added_permission {
    const struct span *spans; // [count], borrowed
    size_t count;
    size_t at; // spans before this end before the place of the search
};

// Copies the content. LIMIT, NO_MEMORY.
MUST_CHECK enum status added_tokens_add(struct added_tokens *set, const struct added_token *token);

// Sorts; the set is constant afterwards. ALREADY_EXISTS: two tokens share a content.
MUST_CHECK enum status added_tokens_prepare(struct added_tokens *set);

// Finds the first token at or after `from` in text [bytes]. A special token counts only inside one
// of the permission's spans; calls that share a permission go from left to right.
bool added_tokens_find(const struct added_tokens *set, const char *text, size_t bytes, size_t from,
                       struct added_permission *permission, struct added_match *match);

void added_tokens_finish(struct added_tokens *set);

#endif
