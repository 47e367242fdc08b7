#include "worker/tokenizer/split_fast.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "worker/tokenizer/tokenizer_source.h"
#include "worker/tokenizer/utf8.h"

#define O UTF8_OTHER
#define L UTF8_LETTER
#define N UTF8_NUMBER
#define S UTF8_SPACE

// Classes of ASCII.
static const uint8_t ascii_classes[128] = {
    O, O, O, O, O, O, O, O, O, S, S, S, S, S, O, O, O, O, O, O, O, O, O, O, O, O, O, O, O, O, O, O,
    S, O, O, O, O, O, O, O, O, O, O, O, O, O, O, O, N, N, N, N, N, N, N, N, N, N, O, O, O, O, O, O,
    O, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, O, O, O, O, O,
    O, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, O, O, O, O, O,
};

#undef O
#undef L
#undef N
#undef S

// The class and length of the character at `at`; past the end there is one of no class.
struct character {
    int class;
    size_t bytes;
};

enum { NO_CHARACTER = -1 };

static struct character character_at(const char *text, size_t bytes, size_t at) {
    if (at >= bytes) {
        return (struct character){NO_CHARACTER, 0};
    }
    uint8_t first = (uint8_t)text[at];
    if (first < 0x80) {
        return (struct character){ascii_classes[first], 1};
    }
    struct utf8_step step = utf8_next(text + at, bytes - at);
    return (struct character){(int)utf8_class(step.code), step.bytes};
}

// End of the run of characters of one class from `at` on.
static size_t run_end(const char *text, size_t bytes, size_t at, int class) {
    struct character next = character_at(text, bytes, at);
    while (next.class == class) {
        at += next.bytes;
        next = character_at(text, bytes, at);
    }
    return at;
}

static bool is_line_end(const char *text, size_t bytes, size_t at) {
    return at < bytes && (text[at] == '\r' || text[at] == '\n');
}

// \s+(?!\S)|\s+ : white space, all of a run at the end of the text, else all but its last
// character.
static size_t space_end(const char *text, size_t bytes, size_t at) {
    size_t last = at;
    size_t end = at;
    for (struct character next = character_at(text, bytes, at); next.class == UTF8_SPACE;
         next = character_at(text, bytes, end)) {
        last = end;
        end += next.bytes;
    }
    return end == bytes || last == at ? end : last;
}

// Bytes of 's, 't, 're, 've, 'm, 'll or 'd at `at`, where an apostrophe stands; 0 for none. Without
// case the long s counts as s (Unicode's simple case folding).
static size_t contraction_bytes(const char *text, size_t bytes, size_t at, bool any_case) {
    char letters[2] = {0};
    for (size_t i = 0; i < 2 && at + 1 + i < bytes; i++) {
        char c = text[at + 1 + i];
        letters[i] = any_case && c >= 'A' && c <= 'Z' ? (char)(c + 'a' - 'A') : c;
    }
    if (letters[0] == 's' || letters[0] == 't' || letters[0] == 'm' || letters[0] == 'd') {
        return 2;
    }
    if ((letters[1] == 'e' && (letters[0] == 'r' || letters[0] == 'v')) ||
        (letters[0] == 'l' && letters[1] == 'l')) {
        return 3;
    }
    return any_case && letters[0] == '\xC5' && letters[1] == '\xBF' ? 3 : 0;
}

static size_t gpt2(const char *text, size_t bytes, size_t at) {
    if (text[at] == '\'') {
        size_t contraction = contraction_bytes(text, bytes, at, false);
        if (contraction > 0) {
            return at + contraction;
        }
    }
    // A space joins the run of another class after it.
    size_t start = text[at] == ' ' ? at + 1 : at;
    struct character first = character_at(text, bytes, start);
    if (first.class == NO_CHARACTER || first.class == UTF8_SPACE) {
        return space_end(text, bytes, at);
    }
    return run_end(text, bytes, start + first.bytes, first.class);
}

// Qwen2's and Llama 3's expressions, which differ in how many digits make a word.
static size_t split_lines(const char *text, size_t bytes, size_t at, int digits_max) {
    if (text[at] == '\'') {
        size_t contraction = contraction_bytes(text, bytes, at, true);
        if (contraction > 0) {
            return at + contraction;
        }
    }
    struct character first = character_at(text, bytes, at);
    struct character second = character_at(text, bytes, at + first.bytes);
    // [^\r\n\p{L}\p{N}]?\p{L}+
    if (first.class == UTF8_LETTER) {
        return run_end(text, bytes, at + first.bytes, UTF8_LETTER);
    }
    if (second.class == UTF8_LETTER && first.class != UTF8_NUMBER &&
        !is_line_end(text, bytes, at)) {
        return run_end(text, bytes, at + first.bytes + second.bytes, UTF8_LETTER);
    }
    // \p{N} or \p{N}{1,3}
    if (first.class == UTF8_NUMBER) {
        at += first.bytes;
        for (int i = 1; i < digits_max; i++) {
            struct character next = character_at(text, bytes, at);
            if (next.class != UTF8_NUMBER) {
                break;
            }
            at += next.bytes;
        }
        return at;
    }
    //  ?[^\s\p{L}\p{N}]+[\r\n]*
    bool joins = text[at] == ' ' && second.class == UTF8_OTHER;
    if (joins || first.class == UTF8_OTHER) {
        at = run_end(text, bytes, at + (joins ? 1 : 0), UTF8_OTHER);
        while (is_line_end(text, bytes, at)) {
            at++;
        }
        return at;
    }
    // \s*[\r\n]+ : to the last line end of the run of white space
    size_t end = run_end(text, bytes, at, UTF8_SPACE);
    for (size_t i = end; i > at; i--) {
        if (is_line_end(text, bytes, i - 1)) {
            return i;
        }
    }
    return space_end(text, bytes, at);
}

static size_t qwen2(const char *text, size_t bytes, size_t at) {
    return split_lines(text, bytes, at, 1);
}

static size_t llama3(const char *text, size_t bytes, size_t at) {
    return split_lines(text, bytes, at, 3);
}

split_fast_fn split_fast_find(const char *pattern) {
    static const struct {
        const char *pattern;
        split_fast_fn next;
    } table[] = {{tokenizer_gpt2_pattern, gpt2},
                 {tokenizer_qwen2_pattern, qwen2},
                 {tokenizer_llama3_pattern, llama3}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        if (strcmp(pattern, table[i].pattern) == 0) {
            return table[i].next;
        }
    }
    return NULL;
}
