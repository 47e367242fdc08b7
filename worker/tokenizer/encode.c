// Text to ids. The way of a text: added tokens are cut out of it as it comes; each part between
// them is normalised; added tokens that count only there are cut out; the pre-tokenizer cuts words;
// merging turns a word into ids.
#include <stdlib.h>

#include "worker/tokenizer/tokenizer_data.h"
#include "worker/tokenizer/utf8.h"

struct encoder {
    const struct tokenizer *tokenizer;
    unsigned flags;
    struct id_sink sink;
    struct bpe_scratch bpe;
    struct normalize_scratch normalize;
    struct pretokenize_scratch pretokenize;
};

// A normalised part without added tokens.
static enum status encode_words(struct encoder *e, const char *text, size_t bytes,
                                bool starts_text) {
    if (bytes == 0) {
        return STATUS_OK;
    }
    const struct tokenizer *t = e->tokenizer;
    const struct span_list *words;
    bool continues = starts_text && (e->flags & TOKENIZER_CONTINUATION) != 0;
    enum status status = pretokenizer_cut(&t->pretokenizer, text, bytes, starts_text, continues,
                                          &e->pretokenize, &text, &words);
    for (size_t i = 0; status == STATUS_OK && i < words->count; i++) {
        struct span word = words->spans[i];
        status = bpe_encode_word(&t->bpe, &t->vocabulary, text + word.start, word.end - word.start,
                                 &e->bpe, &e->sink);
    }
    return status;
}

// A part of the text between the added tokens of the text as it comes.
static enum status encode_part(struct encoder *e, const char *text, size_t bytes,
                               bool starts_text) {
    const struct tokenizer *t = e->tokenizer;
    bool continues = starts_text && (e->flags & TOKENIZER_CONTINUATION) != 0;
    enum status status =
        normalizer_apply(&t->normalizer, text, bytes, continues, &e->normalize, &text, &bytes);
    struct added_permission none = {0};
    size_t at = 0;
    while (status == STATUS_OK && at < bytes) {
        struct added_match match = {.start = bytes, .end = bytes, .id = -1};
        added_tokens_find(&t->added_normalized, text, bytes, at, &none, &match);
        status = encode_words(e, text + at, match.start - at, starts_text && at == 0);
        if (match.id >= 0) {
            id_sink_put(&e->sink, match.id);
        }
        at = match.end;
    }
    return status;
}

static enum status encode_text(struct encoder *e, const char *text, size_t bytes,
                               struct added_permission *permission) {
    enum status status = STATUS_OK;
    size_t at = 0;
    while (status == STATUS_OK && at < bytes) {
        struct added_match match = {.start = bytes, .end = bytes, .id = -1};
        added_tokens_find(&e->tokenizer->added, text, bytes, at, permission, &match);
        status = encode_part(e, text + at, match.start - at, at == 0);
        if (match.id >= 0) {
            id_sink_put(&e->sink, match.id);
        }
        at = match.end;
    }
    return status;
}

// Checks and encodes one text; the sink counts also the ids that do not fit.
static enum status encode(const struct tokenizer *tokenizer, const char *text, size_t bytes,
                          struct added_permission *permission, unsigned flags, struct id_sink *sink,
                          struct error *err) {
    if (bytes > TOKENIZER_TEXT_BYTES_MAX) {
        return error_set(err, STATUS_LIMIT, "text", "%zu bytes are above the limit %d", bytes,
                         TOKENIZER_TEXT_BYTES_MAX);
    }
    size_t offset;
    if (!utf8_validate(text, bytes, &offset)) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "text", "not UTF-8 at byte %zu", offset);
    }
    struct encoder encoder = {.tokenizer = tokenizer, .flags = flags, .sink = *sink};
    if ((flags & TOKENIZER_ADD_BOS) != 0 && tokenizer->bos_id >= 0) {
        id_sink_put(&encoder.sink, tokenizer->bos_id);
    }
    enum status status = encode_text(&encoder, text, bytes, permission);
    *sink = encoder.sink;
    bpe_scratch_finish(&encoder.bpe);
    normalize_scratch_finish(&encoder.normalize);
    pretokenize_scratch_finish(&encoder.pretokenize);
    if (status != STATUS_OK) {
        return error_set(err, status, "text", "cannot encode: %s",
                         status == STATUS_LIMIT ? "the text grows or backtracks beyond bounds"
                                                : status_text(status));
    }
    return STATUS_OK;
}

// Turns what the sink counted into the answer.
static enum status answer(const struct id_sink *sink, size_t *count, struct error *err) {
    *count = sink->count;
    if (sink->count > sink->capacity) {
        return error_set(err, STATUS_LIMIT, "ids", "%zu ids are needed, there is room for %zu",
                         sink->count, sink->capacity);
    }
    return STATUS_OK;
}

enum status tokenizer_encode(const struct tokenizer *tokenizer, const char *text, size_t bytes,
                             unsigned flags, int32_t *ids, size_t capacity, size_t *count,
                             struct error *err) {
    struct span whole = {0, (uint32_t)(bytes <= TOKENIZER_TEXT_BYTES_MAX ? bytes : 0)};
    struct added_permission permission = {.spans = &whole,
                                          .count = (flags & TOKENIZER_PARSE_SPECIAL) != 0 ? 1 : 0};
    struct id_sink sink = {.ids = ids, .capacity = capacity};
    enum status status = encode(tokenizer, text, bytes, &permission, flags, &sink, err);
    return status == STATUS_OK ? answer(&sink, count, err) : status;
}

// Joins the segments and notes where special tokens count.
static enum status join_segments(const struct tokenizer_segment *segments, size_t n_segments,
                                 struct text_buffer *text, struct span *spans, size_t *n_spans) {
    enum status status = STATUS_OK;
    for (size_t i = 0; i < n_segments && status == STATUS_OK; i++) {
        size_t start = text->bytes;
        status = text_buffer_append(text, segments[i].text, segments[i].bytes);
        if (segments[i].parse_special) {
            spans[(*n_spans)++] = (struct span){(uint32_t)start, (uint32_t)text->bytes};
        }
    }
    return status;
}

enum status tokenizer_encode_segments(const struct tokenizer *tokenizer,
                                      const struct tokenizer_segment *segments, size_t n_segments,
                                      unsigned flags, int32_t *ids, size_t capacity, size_t *count,
                                      struct error *err) {
    if (n_segments > TOKENIZER_SEGMENTS_MAX) {
        return error_set(err, STATUS_LIMIT, "text", "%zu segments are above the limit %d",
                         n_segments, TOKENIZER_SEGMENTS_MAX);
    }
    struct text_buffer text = {0};
    struct id_sink sink = {.ids = ids, .capacity = capacity};
    struct added_permission permission = {0};
    struct span *spans = malloc((n_segments + 1) * sizeof *spans);
    enum status status = spans == NULL
                             ? STATUS_NO_MEMORY
                             : join_segments(segments, n_segments, &text, spans, &permission.count);
    if (status != STATUS_OK) {
        error_set(err, status, "text", "cannot join the segments: %s", status_text(status));
    } else {
        permission.spans = spans;
        status = encode(tokenizer, text.data, text.bytes, &permission, flags, &sink, err);
    }
    text_buffer_finish(&text);
    free(spans);
    return status == STATUS_OK ? answer(&sink, count, err) : status;
}
