// Strings of the interpreter: UTF-8 that knows of every byte whether it comes from the template or
// from what the caller gave (a message's content). Texts never change; all memory is the arena's.
// A function that returns a text returns NULL where the arena has no more, and takes NULL for a
// text that failed before.
#ifndef WORKER_TOKENIZER_JINJA_TEXT_H
#define WORKER_TOKENIZER_JINJA_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "worker/tokenizer/jinja/arena.h"

struct text {
    const char *bytes; // [length], well-formed UTF-8, not NUL-terminated
    size_t length;
    const uint8_t *origins; // [length], 1 for a byte of content; NULL when all are as `content`
    bool content;           // origin of all bytes where origins is NULL
    bool markup;            // came out of `escape` or `safe`: adding escapes the other side
};

// A text that grows. Failures stick and show in builder_finish.
struct text_builder {
    struct arena *arena;
    char *bytes;
    uint8_t *origins; // NULL while all bytes are as `content`
    size_t length;
    size_t capacity;
    bool content;
    bool failed;
};

// Borrows `bytes`.
struct text *text_make(struct arena *arena, const char *bytes, size_t length, bool content);
// Of a NUL-terminated constant of the program; its origin is the template.
struct text *text_constant(struct arena *arena, const char *bytes);
// Bytes start .. start + length of `text`, shared with it.
struct text *text_slice(struct arena *arena, const struct text *text, size_t start, size_t length);
bool text_equal(const struct text *a, const struct text *b);
bool text_is(const struct text *text, const char *constant);
// By code point, as Python orders strings.
int text_compare(const struct text *a, const struct text *b);
// Origin of one byte.
bool text_is_content(const struct text *text, size_t at);
// Whether any byte is content.
bool text_has_content(const struct text *text);

// Code points in the text, and the byte at which code point `index` (<= count) starts.
size_t text_count(const struct text *text);
size_t text_offset(const struct text *text, size_t index);
// Byte of the first occurrence of `part` at or after `from`, or of the last that ends at or before
// `end`; -1 when there is none.
ptrdiff_t text_find(const struct text *text, const struct text *part, size_t from);
ptrdiff_t text_find_last(const struct text *text, const struct text *part, size_t end);

void builder_put(struct text_builder *builder, const char *bytes, size_t length, bool content);
void builder_put_text(struct text_builder *builder, const struct text *text);
void builder_put_slice(struct text_builder *builder, const struct text *text, size_t start,
                       size_t length);
void builder_put_string(struct text_builder *builder, const char *constant);
void builder_put_code(struct text_builder *builder, uint32_t code, bool content);
// The text built so far; the builder may go on, the text stays as it is.
struct text *builder_finish(struct text_builder *builder);

#endif
