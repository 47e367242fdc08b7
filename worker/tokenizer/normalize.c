#include "worker/tokenizer/normalize.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "worker/tokenizer/unicode_newer.h"
#include "worker/tokenizer/utf8.h"

// Code points that one character decomposes into, at most (U+FDFA, compatibility).
enum { DECOMPOSED_MAX = 18, SHORT_RUN = 16 };

static bool is_ascii(const char *text, size_t bytes) {
    for (size_t i = 0; i < bytes; i++) {
        if ((uint8_t)text[i] >= 0x80) {
            return false;
        }
    }
    return true;
}

static enum status reserve_codes(struct normalize_scratch *scratch, size_t n) {
    if (n <= scratch->codes_capacity) {
        return STATUS_OK;
    }
    if (n > TEXT_BUFFER_BYTES_MAX) {
        return STATUS_LIMIT;
    }
    int32_t *codes = realloc(scratch->codes, 2 * n * sizeof *codes);
    if (codes == NULL) {
        return STATUS_NO_MEMORY;
    }
    scratch->codes = codes;
    scratch->codes_capacity = 2 * n;
    return STATUS_OK;
}

static int combining_class(int32_t code) {
    int class = (int)utf8proc_get_property(code)->combining_class;
    bool starter = class != 0 &&
                   unicode_ranges_hold(unicode_unordered, unicode_unordered_count, (uint32_t)code);
    return starter ? 0 : class;
}

// Sorts marks by combining class, stable and in linear time: a text may be one run.
static void sort_long_run(int32_t *codes, size_t n, int32_t *room) {
    size_t starts[257] = {0};
    for (size_t i = 0; i < n; i++) {
        starts[combining_class(codes[i]) + 1]++;
    }
    for (size_t class = 1; class < 257; class ++) {
        starts[class] += starts[class - 1];
    }
    for (size_t i = 0; i < n; i++) {
        room[starts[combining_class(codes[i])]++] = codes[i];
    }
    memcpy(codes, room, n * sizeof *codes);
}

static void sort_short_run(int32_t *codes, size_t n) {
    for (size_t i = 1; i < n; i++) {
        int32_t code = codes[i];
        size_t at = i;
        for (; at > 0 && combining_class(codes[at - 1]) > combining_class(code); at--) {
            codes[at] = codes[at - 1];
        }
        codes[at] = code;
    }
}

// The Canonical Ordering Algorithm (The Unicode Standard, section 3.11, D109). room [n].
static void sort_marks(int32_t *codes, size_t n, int32_t *room) {
    for (size_t i = 0; i < n;) {
        if (combining_class(codes[i]) == 0) {
            i++;
            continue;
        }
        size_t end = i + 1;
        while (end < n && combining_class(codes[end]) != 0) {
            end++;
        }
        if (end - i <= SHORT_RUN) {
            sort_short_run(codes + i, end - i);
        } else {
            sort_long_run(codes + i, end - i, room);
        }
        i = end;
    }
}

static enum status apply_unicode_form(enum normalize_kind kind, const char *text, size_t bytes,
                                      struct normalize_scratch *scratch, struct text_buffer *out) {
    bool compatible = kind == NORMALIZE_NFKC || kind == NORMALIZE_NFKD;
    bool compose = kind == NORMALIZE_NFC || kind == NORMALIZE_NFKC;
    utf8proc_option_t options = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE;
    options = compatible ? options | UTF8PROC_COMPAT : options;
    size_t n = 0;
    for (size_t i = 0; i < bytes;) {
        enum status status = reserve_codes(scratch, n + DECOMPOSED_MAX);
        if (status != STATUS_OK) {
            return status;
        }
        struct utf8_step step = utf8_next(text + i, bytes - i);
        i += step.bytes;
        if (unicode_ranges_hold(unicode_undecomposed, unicode_undecomposed_count, step.code)) {
            scratch->codes[n++] = (int32_t)step.code;
            continue;
        }
        int boundary = 0;
        n += (size_t)utf8proc_decompose_char((utf8proc_int32_t)step.code, scratch->codes + n,
                                             DECOMPOSED_MAX, options, &boundary);
    }
    enum status status = reserve_codes(scratch, 2 * n);
    if (status != STATUS_OK) {
        return status;
    }
    sort_marks(scratch->codes, n, scratch->codes + n);
    if (compose) {
        n = (size_t)utf8proc_normalize_utf32(scratch->codes, (utf8proc_ssize_t)n,
                                             UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    }
    for (size_t i = 0; i < n && status == STATUS_OK; i++) {
        char character[4];
        size_t length = utf8_encode((uint32_t)scratch->codes[i], character);
        status = text_buffer_append(out, character, length);
    }
    return status;
}

enum status normalize_replace(const char *text, size_t bytes,
                              const struct normalize_string *pattern,
                              const struct normalize_string *content, struct text_buffer *out) {
    const char *end = text + bytes;
    enum status status = STATUS_OK;
    while (status == STATUS_OK) {
        const char *found = memmem(text, (size_t)(end - text), pattern->bytes, pattern->count);
        status = text_buffer_append(out, text, (size_t)((found != NULL ? found : end) - text));
        if (found == NULL || status != STATUS_OK) {
            break;
        }
        status = text_buffer_append(out, content->bytes, content->count);
        text = found + pattern->count;
    }
    return status;
}

enum status normalize_step_set_regex(struct normalize_step *step, const char *pattern, size_t bytes,
                                     struct error *err) {
    step->kind = NORMALIZE_REPLACE_REGEX;
    enum status status = split_regex_compile(pattern, bytes, &step->regex, err);
    if (status != STATUS_OK) {
        return status;
    }
    step->expression = strndup(pattern, bytes);
    return step->expression != NULL
               ? STATUS_OK
               : error_set(err, STATUS_NO_MEMORY, NULL, "no memory for a pattern");
}

static enum status replace_matches(const struct normalize_step *step, const char *text,
                                   size_t bytes, struct normalize_scratch *scratch,
                                   struct text_buffer *out) {
    if (scratch->memory == NULL) {
        scratch->memory = split_regex_memory_create();
        if (scratch->memory == NULL) {
            return STATUS_NO_MEMORY;
        }
    }
    enum status status = STATUS_OK;
    for (size_t at = 0; at < bytes && status == STATUS_OK;) {
        bool found;
        size_t start = bytes, end = bytes;
        status =
            split_regex_find(step->regex, scratch->memory, text, bytes, at, &found, &start, &end);
        if (status == STATUS_OK) {
            status = text_buffer_append(out, text + at, (found ? start : bytes) - at);
        }
        if (status == STATUS_OK && found) {
            status = text_buffer_append(out, step->content.bytes, step->content.count);
            scratch->lost_start |= start == 0 && step->content.count == 0;
        }
        at = found ? end : bytes;
    }
    return status;
}

static enum status lower_characters(const char *text, size_t bytes, struct text_buffer *out) {
    enum status status = STATUS_OK;
    for (size_t at = 0; at < bytes && status == STATUS_OK;) {
        struct utf8_step step = utf8_next(text + at, bytes - at);
        at += step.bytes;
        if (step.code == 0x130) {
            // The one character whose lower case is two (Unicode's SpecialCasing.txt).
            status = text_buffer_append(out, "i\xCC\x87", 3);
            continue;
        }
        char character[4];
        int32_t lower = utf8proc_tolower((utf8proc_int32_t)step.code);
        status = text_buffer_append(out, character, utf8_encode((uint32_t)lower, character));
    }
    return status;
}

static enum status strip(enum normalize_kind kind, const char *text, size_t bytes,
                         struct text_buffer *out) {
    size_t start = 0;
    size_t last = 0; // one past the last character that is no space
    for (size_t at = 0; at < bytes;) {
        struct utf8_step step = utf8_next(text + at, bytes - at);
        bool space = utf8_is_space(step.code);
        if (space && start == at) {
            start += step.bytes;
        }
        at += step.bytes;
        last = space ? last : at;
    }
    if (kind == NORMALIZE_STRIP_LEFT) {
        return text_buffer_append(out, text + start, bytes - start);
    }
    return text_buffer_append(out, text, last);
}

// Appends the changed text to `out`; *changed is false when the step leaves the text as it is.
static enum status apply_step(const struct normalize_step *step, const char *text, size_t bytes,
                              bool continues, struct normalize_scratch *scratch,
                              struct text_buffer *out, bool *changed) {
    *changed = true;
    enum status status;
    switch (step->kind) {
    case NORMALIZE_PREPEND:
        *changed = !continues;
        status = text_buffer_append(out, step->content.bytes, step->content.count);
        return status == STATUS_OK ? text_buffer_append(out, text, bytes) : status;
    case NORMALIZE_REPLACE:
        scratch->lost_start |= step->content.count == 0 && bytes >= step->pattern.count &&
                               memcmp(text, step->pattern.bytes, step->pattern.count) == 0;
        return normalize_replace(text, bytes, &step->pattern, &step->content, out);
    case NORMALIZE_REPLACE_REGEX:
        return replace_matches(step, text, bytes, scratch, out);
    case NORMALIZE_LOWERCASE:
        return lower_characters(text, bytes, out);
    case NORMALIZE_STRIP_LEFT:
    case NORMALIZE_STRIP_RIGHT:
        status = strip(step->kind, text, bytes, out);
        scratch->lost_start |= step->kind == NORMALIZE_STRIP_LEFT && out->bytes < bytes;
        return status;
    case NORMALIZE_CHARSMAP:
        return charsmap_apply(&step->map, text, bytes, out);
    default:
        *changed = !is_ascii(text, bytes);
        return *changed ? apply_unicode_form(step->kind, text, bytes, scratch, out) : STATUS_OK;
    }
}

enum status normalizer_apply(const struct normalizer *normalizer, const char *text, size_t bytes,
                             bool continues, struct normalize_scratch *scratch, const char **out,
                             size_t *out_bytes) {
    size_t next = 0;
    scratch->lost_start = false;
    for (size_t i = 0; i < normalizer->n_steps && bytes > 0; i++) {
        struct text_buffer *buffer = &scratch->buffers[next];
        buffer->bytes = 0;
        bool changed;
        enum status status =
            apply_step(&normalizer->steps[i], text, bytes, continues, scratch, buffer, &changed);
        if (status != STATUS_OK) {
            return status;
        }
        if (changed) {
            text = buffer->data;
            bytes = buffer->bytes;
            next = 1 - next;
        }
    }
    *out = text;
    *out_bytes = bytes;
    return STATUS_OK;
}

void normalize_scratch_finish(struct normalize_scratch *scratch) {
    text_buffer_finish(&scratch->buffers[0]);
    text_buffer_finish(&scratch->buffers[1]);
    free(scratch->codes);
    split_regex_memory_destroy(scratch->memory);
    *scratch = (struct normalize_scratch){0};
}

void normalizer_finish(struct normalizer *normalizer) {
    for (size_t i = 0; i < normalizer->n_steps; i++) {
        split_regex_destroy(normalizer->steps[i].regex);
        free(normalizer->steps[i].expression);
        charsmap_finish(&normalizer->steps[i].map);
    }
    *normalizer = (struct normalizer){0};
}
