#include "worker/tokenizer/detokenizer.h"

#include <string.h>

#include "worker/tokenizer/tokenizer_data.h"
#include "worker/tokenizer/utf8.h"

static const char replacement[] = "\xEF\xBF\xBD"; // U+FFFD

// Output that counts on when full, so that the caller learns what it needs.
struct text_sink {
    char *out; // [capacity], borrowed
    size_t capacity;
    size_t count;
};

static void put(struct text_sink *sink, const char *bytes, size_t count) {
    if (sink->count + count <= sink->capacity && count > 0) {
        memcpy(sink->out + sink->count, bytes, count);
    }
    sink->count += count;
}

void detokenizer_init(struct detokenizer *detokenizer, const struct tokenizer *tokenizer,
                      unsigned flags) {
    *detokenizer = (struct detokenizer){
        .tokenizer = tokenizer,
        .flags = flags,
        .started = (flags & TOKENIZER_CONTINUATION) != 0,
    };
}

// Takes off what the start of a text loses.
static void apply_start_rule(struct detokenizer *d, const char **bytes, size_t *count) {
    enum start_rule rule = d->tokenizer->decoder.start_rule;
    size_t limit = rule == START_LOSES_SPACE ? 1 : rule == START_LOSES_SPACES ? *count : 0;
    d->started = *count > 0;
    for (size_t i = 0; i<limit && * count> 0 && **bytes == ' '; i++) {
        ++*bytes;
        --*count;
    }
}

// Puts the whole characters of text [bytes]; returns the bytes of the unfinished one at its end.
static size_t put_characters(struct text_sink *sink, const char *text, size_t bytes) {
    size_t at = 0;
    while (at < bytes) {
        struct utf8_step step = utf8_next(text + at, bytes - at);
        if (step.kind == UTF8_INCOMPLETE) {
            break;
        }
        bool good = step.kind == UTF8_WELL_FORMED;
        put(sink, good ? text + at : replacement, good ? step.bytes : 3);
        at += step.bytes;
    }
    return bytes - at;
}

enum status detokenizer_push(struct detokenizer *detokenizer, int32_t id, char *out,
                             size_t capacity, size_t *bytes) {
    struct detokenizer next = *detokenizer;
    const char *token;
    size_t count;
    enum status status = tokenizer_token_bytes(next.tokenizer, id, next.flags, &token, &count);
    if (status != STATUS_OK) {
        return status;
    }
    if (!next.started) {
        apply_start_rule(&next, &token, &count);
    }
    char text[sizeof next.pending + TOKENIZER_PIECE_BYTES_MAX];
    size_t text_bytes = next.pending_bytes + count;
    memcpy(text, next.pending, next.pending_bytes);
    memcpy(text + next.pending_bytes, token, count);
    struct text_sink sink = {.out = out, .capacity = capacity};
    next.pending_bytes = (uint8_t)put_characters(&sink, text, text_bytes);
    ASSERT(next.pending_bytes < sizeof next.pending);
    memcpy(next.pending, text + text_bytes - next.pending_bytes, next.pending_bytes);
    *bytes = sink.count;
    if (sink.count > capacity) {
        return STATUS_LIMIT;
    }
    *detokenizer = next;
    return STATUS_OK;
}

enum status detokenizer_finish(struct detokenizer *detokenizer, char *out, size_t capacity,
                               size_t *bytes) {
    struct text_sink sink = {.out = out, .capacity = capacity};
    put(&sink, replacement, detokenizer->pending_bytes > 0 ? 3 : 0);
    *bytes = sink.count;
    if (sink.count > capacity) {
        return STATUS_LIMIT;
    }
    detokenizer->pending_bytes = 0;
    detokenizer->started = true;
    return STATUS_OK;
}
