#include "worker/tokenizer/pretokenize.h"

#include <stdlib.h>
#include <string.h>

#include "worker/tokenizer/utf8.h"
#include "worker/tokenizer/vocabulary.h"

struct pretokenize_step *pretokenizer_add(struct pretokenizer *pretokenizer,
                                          enum pretokenize_kind kind) {
    if (pretokenizer->n_steps == PRETOKENIZER_STEPS_MAX) {
        return NULL;
    }
    struct pretokenize_step *step = &pretokenizer->steps[pretokenizer->n_steps++];
    *step = (struct pretokenize_step){.kind = kind};
    return step;
}

enum status pretokenizer_add_split(struct pretokenizer *pretokenizer, const char *pattern,
                                   size_t bytes, enum split_behavior behavior, bool invert,
                                   struct error *err) {
    struct pretokenize_step *step = pretokenizer_add(pretokenizer, PRETOKENIZE_SPLIT);
    if (step == NULL) {
        return error_set(err, STATUS_LIMIT, NULL, "more than %d steps", PRETOKENIZER_STEPS_MAX);
    }
    step->behavior = behavior;
    step->invert = invert;
    enum status status = split_regex_compile(pattern, bytes, &step->regex, err);
    if (status != STATUS_OK) {
        return status;
    }
    step->pattern = strndup(pattern, bytes);
    if (step->pattern == NULL) {
        return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for a pattern");
    }
    if (behavior == SPLIT_ISOLATED && !invert) {
        step->fast = split_fast_find(step->pattern);
    }
    return STATUS_OK;
}

static enum status put_span(struct span_list *list, size_t start, size_t end) {
    if (start == end) {
        return STATUS_OK;
    }
    if (list->count == list->capacity) {
        size_t capacity = 2 * list->capacity + 64;
        struct span *spans = realloc(list->spans, capacity * sizeof *spans);
        if (spans == NULL) {
            return STATUS_NO_MEMORY;
        }
        list->spans = spans;
        list->capacity = capacity;
    }
    list->spans[list->count++] = (struct span){(uint32_t)start, (uint32_t)end};
    return STATUS_OK;
}

// The pieces of one split: the last one is held back as long as the next may join it.
struct splitter {
    enum split_behavior behavior;
    bool held_matches; // the held piece ends with a match
    size_t held_start;
    size_t held_end; // equal to the start when nothing is held
    struct span_list *out;
};

static bool joins_held(const struct splitter *s, bool matches) {
    switch (s->behavior) {
    case SPLIT_MERGED_WITH_PREVIOUS:
        return matches && !s->held_matches;
    case SPLIT_MERGED_WITH_NEXT:
        return !matches && s->held_matches;
    case SPLIT_CONTIGUOUS:
        return matches == s->held_matches;
    default:
        return false;
    }
}

static enum status put_piece(struct splitter *s, size_t start, size_t end, bool matches) {
    if (start == end || (s->behavior == SPLIT_REMOVED && matches)) {
        return STATUS_OK;
    }
    if (s->held_end > s->held_start && joins_held(s, matches)) {
        s->held_end = end;
        s->held_matches = matches;
        return STATUS_OK;
    }
    enum status status = put_span(s->out, s->held_start, s->held_end);
    s->held_start = start;
    s->held_end = end;
    s->held_matches = matches;
    return status;
}

// Splits one span of the text; what a match sees of its surroundings ends at the span.
static enum status split_span(const struct pretokenize_step *step,
                              struct split_regex_memory *memory, const char *text, struct span span,
                              struct span_list *out) {
    size_t bytes = span.end - span.start;
    struct splitter splitter = {.behavior = step->behavior, .out = out};
    enum status status = STATUS_OK;
    for (size_t at = 0; at < bytes && status == STATUS_OK;) {
        bool found;
        size_t start, end;
        status = split_regex_find(step->regex, memory, text + span.start, bytes, at, &found, &start,
                                  &end);
        if (status != STATUS_OK) {
            return status;
        }
        if (!found) {
            start = end = bytes;
        }
        status = put_piece(&splitter, span.start + at, span.start + start, step->invert);
        if (status == STATUS_OK) {
            status = put_piece(&splitter, span.start + start, span.start + end, !step->invert);
        }
        at = end;
    }
    return status == STATUS_OK ? put_span(out, splitter.held_start, splitter.held_end) : status;
}

static enum status split_fast(const struct pretokenize_step *step, const char *text,
                              struct span span, struct span_list *out) {
    enum status status = STATUS_OK;
    size_t bytes = span.end - span.start;
    for (size_t at = 0; at < bytes && status == STATUS_OK;) {
        size_t end = step->fast(text + span.start, bytes, at);
        status = put_span(out, span.start + at, span.start + end);
        at = end;
    }
    return status;
}

static enum status split_at_tokens(const struct pretokenize_step *step, const char *text,
                                   struct span span, struct span_list *out) {
    size_t bytes = span.end - span.start;
    const struct added_span whole = {0, (uint32_t)bytes, ADDED_ALL};
    const struct added_permission permission = {&whole, 1};
    struct added_search search = {0};
    struct added_match match;
    enum status status = STATUS_OK;
    for (bool found = true; found && status == STATUS_OK;) {
        size_t done = search.done;
        found = added_tokens_next(&step->tokens, text + span.start, bytes, &permission, &search,
                                  &match);
        status = put_span(out, span.start + done, span.start + (found ? match.start : bytes));
        if (found && status == STATUS_OK) {
            status = put_span(out, span.start + match.start, span.start + match.end);
        }
    }
    return status;
}

static enum status split_by_length(const struct pretokenize_step *step, const char *text,
                                   struct span span, struct span_list *out) {
    enum status status = STATUS_OK;
    for (size_t at = span.start; at < span.end && status == STATUS_OK;) {
        size_t start = at;
        for (uint32_t i = 0; i < step->length && at < span.end; i++) {
            at += utf8_length(text[at]);
        }
        status = put_span(out, start, at);
    }
    return status;
}

// Appends one piece with its prefix and its spaces made visible, as far as the step asks for it.
static enum status put_prefixed(const struct pretokenize_step *step, const char *text, size_t bytes,
                                bool takes_prefix, struct text_buffer *buffer) {
    static const struct normalize_string space = {" ", 1};
    const struct normalize_string *prefix = &step->prefix;
    // A space at the start becomes the prefix where spaces are replaced, so it is one already.
    bool has_prefix = (step->replace_spaces && text[0] == ' ') ||
                      (bytes >= prefix->count && memcmp(text, prefix->bytes, prefix->count) == 0);
    enum status status = STATUS_OK;
    if (takes_prefix && !has_prefix) {
        status = text_buffer_append(buffer, prefix->bytes, prefix->count);
    }
    if (status != STATUS_OK) {
        return status;
    }
    return step->replace_spaces ? normalize_replace(text, bytes, &space, prefix, buffer)
                                : text_buffer_append(buffer, text, bytes);
}

static enum status put_spelled(const char *text, size_t bytes, struct text_buffer *buffer) {
    enum status status = STATUS_OK;
    for (size_t i = 0; i < bytes && status == STATUS_OK; i++) {
        char character[4];
        status = text_buffer_append(buffer, character, byte_level_spell(text + i, 1, character));
    }
    return status;
}

// Rewrites every piece into the buffer.
static enum status rewrite(const struct pretokenize_step *step, const char *text, bool starts_text,
                           bool continues, const struct span_list *in, struct span_list *out,
                           struct text_buffer *buffer) {
    enum status status = STATUS_OK;
    buffer->bytes = 0;
    for (size_t i = 0; i < in->count && status == STATUS_OK; i++) {
        struct span span = in->spans[i];
        size_t start = buffer->bytes;
        bool first = span.start == 0 && starts_text;
        if (step->kind == PRETOKENIZE_SPELL) {
            status = put_spelled(text + span.start, span.end - span.start, buffer);
        } else {
            bool takes =
                step->prefix_rule == PREFIX_ALWAYS || (step->prefix_rule == PREFIX_FIRST && first);
            status = put_prefixed(step, text + span.start, span.end - span.start,
                                  takes && !(span.start == 0 && continues), buffer);
        }
        if (status == STATUS_OK) {
            status = put_span(out, start, buffer->bytes);
        }
    }
    return status;
}

static enum status apply_split(const struct pretokenize_step *step, const char *text,
                               struct pretokenize_scratch *scratch, const struct span_list *in,
                               struct span_list *out) {
    enum status status = STATUS_OK;
    if (step->kind == PRETOKENIZE_SPLIT && scratch->memory == NULL) {
        scratch->memory = split_regex_memory_create();
        status = scratch->memory == NULL ? STATUS_NO_MEMORY : STATUS_OK;
    }
    for (size_t i = 0; i < in->count && status == STATUS_OK; i++) {
        switch (step->kind) {
        case PRETOKENIZE_TOKENS:
            status = split_at_tokens(step, text, in->spans[i], out);
            break;
        case PRETOKENIZE_LENGTH:
            status = split_by_length(step, text, in->spans[i], out);
            break;
        default:
            status = step->fast != NULL
                         ? split_fast(step, text, in->spans[i], out)
                         : split_span(step, scratch->memory, text, in->spans[i], out);
        }
    }
    return status;
}

enum status pretokenizer_cut(const struct pretokenizer *pretokenizer, const char *text,
                             size_t bytes, bool starts_text, bool continues,
                             struct pretokenize_scratch *scratch, const char **changed,
                             const struct span_list **words) {
    struct span_list *in = &scratch->lists[0];
    struct span_list *out = &scratch->lists[1];
    size_t next_text = 0;
    in->count = 0;
    enum status status = put_span(in, 0, bytes);
    for (size_t i = 0; i < pretokenizer->n_steps && status == STATUS_OK; i++) {
        const struct pretokenize_step *step = &pretokenizer->steps[i];
        out->count = 0;
        if (step->kind == PRETOKENIZE_PREFIX || step->kind == PRETOKENIZE_SPELL) {
            struct text_buffer *buffer = &scratch->texts[next_text];
            status = rewrite(step, text, starts_text, continues, in, out, buffer);
            text = buffer->data;
            next_text = 1 - next_text;
        } else {
            status = apply_split(step, text, scratch, in, out);
        }
        struct span_list *swap = in;
        in = out;
        out = swap;
    }
    *changed = text;
    *words = in;
    return status;
}

void pretokenize_scratch_finish(struct pretokenize_scratch *scratch) {
    for (size_t i = 0; i < 2; i++) {
        text_buffer_finish(&scratch->texts[i]);
        free(scratch->lists[i].spans);
    }
    split_regex_memory_destroy(scratch->memory);
    *scratch = (struct pretokenize_scratch){0};
}

void pretokenizer_finish(struct pretokenizer *pretokenizer) {
    for (size_t i = 0; i < pretokenizer->n_steps; i++) {
        struct pretokenize_step *step = &pretokenizer->steps[i];
        split_regex_destroy(step->regex);
        free(step->pattern);
        added_tokens_finish(&step->tokens);
    }
    *pretokenizer = (struct pretokenizer){0};
}
