#include "worker/tokenizer/jinja/text.h"

#include <string.h>

#include "worker/tokenizer/utf8.h"

struct text *text_make(struct arena *arena, const char *bytes, size_t length, bool content) {
    struct text *text = arena_alloc(arena, sizeof *text);
    if (text != NULL) {
        *text = (struct text){.bytes = bytes, .length = length, .content = content};
    }
    return text;
}

struct text *text_constant(struct arena *arena, const char *bytes) {
    return text_make(arena, bytes, strlen(bytes), false);
}

struct text *text_slice(struct arena *arena, const struct text *text, size_t start, size_t length) {
    struct text *part = arena_alloc(arena, sizeof *part);
    if (part != NULL) {
        *part = *text;
        part->bytes += start;
        part->length = length;
        if (text->origins != NULL) {
            part->origins += start;
        }
    }
    return part;
}

bool text_equal(const struct text *a, const struct text *b) {
    return a->length == b->length && (a->length == 0 || memcmp(a->bytes, b->bytes, a->length) == 0);
}

bool text_is(const struct text *text, const char *constant) {
    size_t length = strlen(constant);
    return text->length == length && (length == 0 || memcmp(text->bytes, constant, length) == 0);
}

int text_compare(const struct text *a, const struct text *b) {
    size_t shared = a->length < b->length ? a->length : b->length;
    int order = shared == 0 ? 0 : memcmp(a->bytes, b->bytes, shared);
    if (order != 0) {
        return order;
    }
    return a->length < b->length ? -1 : a->length > b->length;
}

bool text_is_content(const struct text *text, size_t at) {
    return text->origins != NULL ? text->origins[at] != 0 : text->content;
}

bool text_has_content(const struct text *text) {
    if (text->origins == NULL || text->length == 0) {
        return text->content;
    }
    return memchr(text->origins, 1, text->length) != NULL;
}

size_t text_count(const struct text *text) {
    size_t count = 0;
    for (size_t i = 0; i < text->length; i++) {
        count += ((uint8_t)text->bytes[i] & 0xC0) != 0x80;
    }
    return count;
}

size_t text_offset(const struct text *text, size_t index) {
    size_t at = 0;
    while (index > 0 && at < text->length) {
        at += utf8_length(text->bytes[at]);
        index--;
    }
    return at;
}

ptrdiff_t text_find(const struct text *text, const struct text *part, size_t from) {
    if (part->length == 0) {
        return (ptrdiff_t)from;
    }
    if (part->length > text->length - from) {
        return -1;
    }
    const char *found = memmem(text->bytes + from, text->length - from, part->bytes, part->length);
    return found == NULL ? -1 : found - text->bytes;
}

ptrdiff_t text_find_last(const struct text *text, const struct text *part, size_t end) {
    if (part->length > end) {
        return -1;
    }
    for (size_t at = end - part->length + 1; at > 0; at--) {
        if (part->length == 0 || memcmp(text->bytes + at - 1, part->bytes, part->length) == 0) {
            return (ptrdiff_t)at - 1;
        }
    }
    return -1;
}

// Room for `more` bytes and, once origins differ, for their origins.
static bool grow(struct text_builder *b, size_t more) {
    if (b->failed) {
        return false;
    }
    if (more <= b->capacity - b->length) {
        return true;
    }
    if (more > b->arena->limit_bytes) {
        b->arena->over_limit = true;
        b->failed = true;
        return false;
    }
    size_t capacity = 2 * b->length + more + 32;
    char *bytes = arena_alloc(b->arena, capacity);
    uint8_t *origins = b->origins == NULL ? NULL : arena_alloc(b->arena, capacity);
    if (bytes == NULL || (b->origins != NULL && origins == NULL)) {
        b->failed = true;
        return false;
    }
    if (b->length > 0) {
        memcpy(bytes, b->bytes, b->length);
        if (origins != NULL) {
            memcpy(origins, b->origins, b->length);
        }
    }
    b->bytes = bytes;
    b->origins = origins;
    b->capacity = capacity;
    return true;
}

// From here on every byte has an origin of its own.
static bool mix_origins(struct text_builder *b) {
    b->origins = arena_alloc(b->arena, b->capacity);
    if (b->origins == NULL) {
        b->failed = true;
        return false;
    }
    memset(b->origins, b->content, b->length);
    return true;
}

void builder_put(struct text_builder *b, const char *bytes, size_t length, bool content) {
    if (length == 0 || !grow(b, length)) {
        return;
    }
    if (b->length == 0 && b->origins == NULL) {
        b->content = content;
    }
    if (b->origins == NULL && b->content != content && !mix_origins(b)) {
        return;
    }
    memcpy(b->bytes + b->length, bytes, length);
    if (b->origins != NULL) {
        memset(b->origins + b->length, content, length);
    }
    b->length += length;
}

void builder_put_slice(struct text_builder *b, const struct text *text, size_t start,
                       size_t length) {
    if (text->origins == NULL) {
        builder_put(b, text->bytes + start, length, text->content);
        return;
    }
    for (size_t end = start + length, at = start; at < end;) {
        size_t stop = at + 1;
        while (stop < end && text->origins[stop] == text->origins[at]) {
            stop++;
        }
        builder_put(b, text->bytes + at, stop - at, text->origins[at] != 0);
        at = stop;
    }
}

void builder_put_text(struct text_builder *b, const struct text *text) {
    if (text == NULL) {
        b->failed = true;
        return;
    }
    builder_put_slice(b, text, 0, text->length);
}

void builder_put_string(struct text_builder *b, const char *constant) {
    builder_put(b, constant, strlen(constant), false);
}

void builder_put_code(struct text_builder *b, uint32_t code, bool content) {
    char bytes[4];
    builder_put(b, bytes, utf8_encode(code, bytes), content);
}

struct text *builder_finish(struct text_builder *b) {
    if (b->failed) {
        return NULL;
    }
    struct text *text = text_make(b->arena, b->length > 0 ? b->bytes : "", b->length, b->content);
    if (text != NULL) {
        text->origins = b->origins;
    }
    return text;
}
