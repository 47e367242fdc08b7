// Text to ids. The way of a text: added tokens are cut out of it as it comes; each part between
// them is normalised; added tokens that count only there are cut out; the pre-tokenizer cuts words;
// merging turns a word into ids.
#include <stdlib.h>
#include <string.h>

#include "worker/tokenizer/tokenizer_data.h"
#include "worker/tokenizer/utf8.h"
#include "worker/tokenizer/word_cache.h"

struct encoder {
    const struct tokenizer *tokenizer;
    unsigned flags;
    struct id_sink sink;
    struct bpe_scratch bpe;
    struct unigram_scratch unigram;
    struct text_buffer raw; // bytes of a spelled word
    struct word_cache cache;
    struct normalize_scratch normalize;
    struct pretokenize_scratch pretokenize;
    struct text_buffer normalized;       // of a part that several segments make
    struct added_span *part_spans;       // permissions of a part, [n_part_spans]
    size_t n_part_spans;                 // at most those of the whole text
    struct added_span *normalized_spans; // the same for the normalised part
    size_t n_normalized_spans;
    bool lost_start; // of the normalised part, as in normalize.h
};

// A word that the model takes at once.
static enum status encode_uncached(struct encoder *e, const char *word, size_t bytes,
                                   struct id_sink *sink) {
    const struct tokenizer *t = e->tokenizer;
    if (t->pretokenizer.spelled) {
        e->raw.bytes = 0;
        enum status status = text_buffer_append(&e->raw, word, bytes); // room for fewer bytes
        if (status != STATUS_OK || !byte_level_parse(word, bytes, e->raw.data, &bytes)) {
            return status != STATUS_OK ? status : STATUS_INTERNAL;
        }
        word = e->raw.data;
    }
    if (t->kind == MODEL_UNIGRAM) {
        return unigram_encode_word(&t->unigram, word, bytes, &e->unigram, sink);
    }
    return bpe_encode_word(&t->bpe, &t->vocabulary, word, bytes, &e->bpe, sink);
}

// A word has at most as many ids as bytes.
static enum status encode_word(struct encoder *e, const char *word, size_t bytes) {
    if (bytes > WORD_CACHE_WORD_BYTES_MAX) {
        return encode_uncached(e, word, bytes, &e->sink);
    }
    uint32_t hash = word_cache_hash(word, bytes);
    size_t n;
    const int32_t *ids = word_cache_find(&e->cache, word, bytes, hash, &n);
    int32_t own[WORD_CACHE_WORD_BYTES_MAX];
    if (ids == NULL) {
        struct id_sink sink = {.ids = own, .capacity = WORD_CACHE_WORD_BYTES_MAX};
        enum status status = encode_uncached(e, word, bytes, &sink);
        if (status != STATUS_OK) {
            return status;
        }
        ASSERT(sink.count <= sink.capacity);
        ids = own;
        n = sink.count;
        word_cache_add(&e->cache, word, bytes, hash, ids, n);
    }
    for (size_t i = 0; i < n; i++) {
        id_sink_put(&e->sink, ids[i]);
    }
    return STATUS_OK;
}

// Where no piece holds U+2581 behind another character, nothing is merged across that place: a
// word of SentencePiece, which may be a whole text, falls into words.
static enum status encode_marked(struct encoder *e, const char *text, size_t bytes) {
    enum status status = STATUS_OK;
    size_t start = 0;
    for (size_t at = 0; at < bytes && status == STATUS_OK;) {
        const char *found = memchr(text + at, '\xE2', bytes - at);
        at = found == NULL ? bytes : (size_t)(found - text);
        bool mark = at + 2 < bytes && memcmp(text + at, "\xE2\x96\x81", 3) == 0;
        bool after_mark = at >= 3 && memcmp(text + at - 3, "\xE2\x96\x81", 3) == 0;
        if (at == bytes || (mark && !after_mark && at > start)) {
            status = encode_word(e, text + start, at - start);
            start = at;
        }
        at += at < bytes ? 1 : 0;
    }
    return status;
}

// A normalised part without added tokens.
static enum status encode_words(struct encoder *e, const char *text, size_t bytes, bool starts_text,
                                bool continues) {
    const struct span_list *words;
    enum status status = pretokenizer_cut(&e->tokenizer->pretokenizer, text, bytes, starts_text,
                                          continues, &e->pretokenize, &text, &words);
    const struct tokenizer *t = e->tokenizer;
    bool splits = t->kind == MODEL_BPE
                      ? t->bpe.splits_at_mark
                      : status == STATUS_OK && words->count > 0 &&
                            unigram_splits(&t->unigram, words->spans[words->count - 1].end);
    for (size_t i = 0; status == STATUS_OK && i < words->count; i++) {
        struct span word = words->spans[i];
        status = splits ? encode_marked(e, text + word.start, word.end - word.start)
                        : encode_word(e, text + word.start, word.end - word.start);
    }
    return status;
}

// Cuts the added tokens of the normalised text out of it and encodes what is between them.
static enum status encode_normalized(struct encoder *e, const char *text, size_t bytes,
                                     const struct added_permission *permission, bool starts_text,
                                     bool continues) {
    enum status status = STATUS_OK;
    struct added_search search = {0};
    struct added_match match;
    while (status == STATUS_OK) {
        size_t done = search.done;
        bool found = added_tokens_next(&e->tokenizer->added_normalized, text, bytes, permission,
                                       &search, &match);
        size_t end = found ? match.start : bytes;
        if (end > done) {
            status = encode_words(e, text + done, end - done, starts_text && done == 0,
                                  continues && done == 0);
        }
        if (!found) {
            break;
        }
        id_sink_put(&e->sink, match.id);
    }
    return status;
}

// Normalises the spans of a part one by one, so that it stays known what came from where. A prefix
// goes before the first only.
static enum status normalize_spans(struct encoder *e, const char *text,
                                   const struct added_span *spans, size_t n, bool continues) {
    const struct tokenizer *t = e->tokenizer;
    e->normalized.bytes = 0;
    e->n_normalized_spans = 0;
    e->lost_start = false;
    enum status status = STATUS_OK;
    for (size_t i = 0; i < n && status == STATUS_OK; i++) {
        const char *changed;
        size_t bytes;
        size_t start = e->normalized.bytes;
        status =
            normalizer_apply(&t->normalizer, text + spans[i].start, spans[i].end - spans[i].start,
                             continues || i > 0, &e->normalize, &changed, &bytes);
        if (status == STATUS_OK) {
            status = text_buffer_append(&e->normalized, changed, bytes);
        }
        if (status == STATUS_OK && e->normalized.bytes > start) {
            e->normalized_spans[e->n_normalized_spans++] =
                (struct added_span){(uint32_t)start, (uint32_t)e->normalized.bytes, spans[i].scope};
        }
    }
    return status;
}

// A part start..end of the text between the added tokens of the text as it comes; `spans` [n] are
// the permissions that it touches, its own borders applied.
static enum status encode_part(struct encoder *e, const char *text, size_t start, size_t end,
                               const struct added_span *spans, size_t n) {
    const struct tokenizer *t = e->tokenizer;
    bool starts_text = start == 0; // of the text as it comes, as tokenizers takes it
    bool continues = starts_text && (e->flags & TOKENIZER_CONTINUATION) != 0;
    if (n > 1 && t->added_normalized.count > 0) {
        enum status status = normalize_spans(e, text, spans, n, continues);
        struct added_permission permission = {e->normalized_spans, e->n_normalized_spans};
        return status == STATUS_OK
                   ? encode_normalized(e, e->normalized.data, e->normalized.bytes, &permission,
                                       starts_text && !e->lost_start, continues)
                   : status;
    }
    const char *changed;
    size_t bytes;
    enum status status = normalizer_apply(&t->normalizer, text + start, end - start, continues,
                                          &e->normalize, &changed, &bytes);
    if (status != STATUS_OK) {
        return status;
    }
    struct added_span whole = {0, (uint32_t)bytes, spans[0].scope};
    struct added_permission permission = {&whole, 1};
    return encode_normalized(e, changed, bytes, &permission,
                             starts_text && !e->normalize.lost_start, continues);
}

// Collects the permissions of start..end; those before *first end before it.
static void clip_spans(struct encoder *e, const struct added_permission *permission, size_t *first,
                       size_t start, size_t end) {
    while (permission->spans[*first].end <= start) {
        ++*first;
    }
    e->n_part_spans = 0;
    for (size_t i = *first; i < permission->count && permission->spans[i].start < end; i++) {
        struct added_span span = permission->spans[i];
        span.start = span.start < start ? (uint32_t)start : span.start;
        span.end = span.end > end ? (uint32_t)end : span.end;
        e->part_spans[e->n_part_spans++] = span;
    }
}

static enum status encode_text(struct encoder *e, const char *text, size_t bytes,
                               const struct added_permission *permission) {
    enum status status = STATUS_OK;
    struct added_search search = {0};
    struct added_match match;
    size_t first = 0;
    while (status == STATUS_OK) {
        size_t done = search.done;
        bool found =
            added_tokens_next(&e->tokenizer->added, text, bytes, permission, &search, &match);
        size_t end = found ? match.start : bytes;
        if (end > done) {
            clip_spans(e, permission, &first, done, end);
            status = encode_part(e, text, done, end, e->part_spans, e->n_part_spans);
        }
        if (!found) {
            break;
        }
        id_sink_put(&e->sink, match.id);
    }
    return status;
}

static enum status encoder_init(struct encoder *e, const struct tokenizer *tokenizer,
                                unsigned flags, size_t n_spans, const struct id_sink *sink) {
    *e = (struct encoder){.tokenizer = tokenizer, .flags = flags, .sink = *sink};
    e->part_spans = malloc((n_spans + 1) * sizeof *e->part_spans);
    e->normalized_spans = malloc((n_spans + 1) * sizeof *e->normalized_spans);
    return e->part_spans == NULL || e->normalized_spans == NULL ? STATUS_NO_MEMORY : STATUS_OK;
}

static void encoder_finish(struct encoder *e) {
    bpe_scratch_finish(&e->bpe);
    unigram_scratch_finish(&e->unigram);
    text_buffer_finish(&e->raw);
    word_cache_finish(&e->cache);
    normalize_scratch_finish(&e->normalize);
    pretokenize_scratch_finish(&e->pretokenize);
    text_buffer_finish(&e->normalized);
    free(e->part_spans);
    free(e->normalized_spans);
}

static void put_before(struct encoder *e) {
    const struct tokenizer *t = e->tokenizer;
    if ((e->flags & TOKENIZER_ADD_BOS) == 0) {
        return;
    }
    for (size_t i = 0; i < t->frame.n_before; i++) {
        id_sink_put(&e->sink, t->frame.before[i]);
    }
    if (t->frame.n_before == 0 && t->bos_id >= 0) {
        id_sink_put(&e->sink, t->bos_id);
    }
}

// Checks and encodes one text; the sink counts also the ids that do not fit.
static enum status encode(const struct tokenizer *tokenizer, const char *text, size_t bytes,
                          const struct added_permission *permission, unsigned flags,
                          struct id_sink *sink, struct error *err) {
    if (bytes > TOKENIZER_TEXT_BYTES_MAX) {
        return error_set(err, STATUS_LIMIT, "text", "%zu bytes are above the limit %d", bytes,
                         TOKENIZER_TEXT_BYTES_MAX);
    }
    size_t offset;
    if (!utf8_validate(text, bytes, &offset)) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "text", "not UTF-8 at byte %zu", offset);
    }
    struct encoder encoder;
    enum status status = encoder_init(&encoder, tokenizer, flags, permission->count, sink);
    if (status == STATUS_OK) {
        put_before(&encoder);
        status = encode_text(&encoder, text, bytes, permission);
        *sink = encoder.sink;
    }
    encoder_finish(&encoder);
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
    bool special = (flags & TOKENIZER_PARSE_SPECIAL) != 0;
    struct added_span whole = {0, (uint32_t)(bytes <= TOKENIZER_TEXT_BYTES_MAX ? bytes : 0),
                               special ? ADDED_ALL : ADDED_NOT_SPECIAL};
    struct added_permission permission = {&whole, 1};
    struct id_sink sink = {.ids = ids, .capacity = capacity};
    enum status status = encode(tokenizer, text, bytes, &permission, flags, &sink, err);
    return status == STATUS_OK ? answer(&sink, count, err) : status;
}

// Joins the segments and notes which added tokens count where.
static enum status join_segments(const struct tokenizer_segment *segments, size_t n_segments,
                                 struct text_buffer *text, struct added_span *spans,
                                 size_t *n_spans) {
    enum status status = STATUS_OK;
    for (size_t i = 0; i < n_segments && status == STATUS_OK; i++) {
        size_t start = text->bytes;
        status = text_buffer_append(text, segments[i].text, segments[i].bytes);
        if (text->bytes > start) {
            enum added_scope scope = segments[i].inert           ? ADDED_NONE
                                     : segments[i].parse_special ? ADDED_ALL
                                                                 : ADDED_NOT_SPECIAL;
            spans[(*n_spans)++] =
                (struct added_span){(uint32_t)start, (uint32_t)text->bytes, scope};
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
    struct added_span *spans = malloc((n_segments + 1) * sizeof *spans);
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
