#include "worker/tokenizer/pretokenize.h"

#include <stdlib.h>
#include <string.h>

enum status pretokenizer_add_split(struct pretokenizer *pretokenizer, const char *pattern,
                                   size_t bytes, bool keep_matches, bool keep_gaps,
                                   struct error *err) {
    if (pretokenizer->n_splits == PRETOKENIZER_SPLITS_MAX) {
        return error_set(err, STATUS_LIMIT, NULL, "more than %d splits", PRETOKENIZER_SPLITS_MAX);
    }
    struct split *split = &pretokenizer->splits[pretokenizer->n_splits];
    *split = (struct split){.keep_matches = keep_matches, .keep_gaps = keep_gaps};
    enum status status = split_regex_compile(pattern, bytes, &split->regex, err);
    if (status != STATUS_OK) {
        return status;
    }
    split->pattern = strndup(pattern, bytes);
    if (split->pattern == NULL) {
        split_regex_destroy(split->regex);
        return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for a pattern");
    }
    pretokenizer->n_splits++;
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

// Splits one span of the text; what a word sees of its surroundings ends at the span.
static enum status split_span(const struct split *split, struct split_regex_memory *memory,
                              const char *text, struct span span, struct span_list *out) {
    size_t bytes = span.end - span.start;
    for (size_t at = 0; at < bytes;) {
        bool found;
        size_t start, end;
        enum status status = split_regex_find(split->regex, memory, text + span.start, bytes, at,
                                              &found, &start, &end);
        if (status == STATUS_OK && !found) {
            start = end = bytes;
        }
        if (status == STATUS_OK && split->keep_gaps) {
            status = put_span(out, span.start + at, span.start + start);
        }
        if (status == STATUS_OK && split->keep_matches) {
            status = put_span(out, span.start + start, span.start + end);
        }
        if (status != STATUS_OK) {
            return status;
        }
        at = end;
    }
    return STATUS_OK;
}

static bool needs_prefix(const struct pretokenizer *p, const char *text, size_t bytes,
                         bool starts_text, bool continues) {
    if (p->prefix_rule == PREFIX_NEVER || continues ||
        (p->prefix_rule == PREFIX_FIRST && !starts_text)) {
        return false;
    }
    return bytes < p->prefix.count || memcmp(text, p->prefix.bytes, p->prefix.count) != 0;
}

// Puts the prefix before the text and makes its spaces visible, as far as the file asks for it.
static enum status change_text(const struct pretokenizer *p, const char **text, size_t *bytes,
                               bool starts_text, bool continues, struct text_buffer *buffer) {
    static const struct normalize_string space = {" ", 1};
    // A space at the start becomes the prefix where spaces are replaced, so it is one already.
    bool starts_with_space = p->replace_spaces && (*text)[0] == ' ';
    bool prefix = !starts_with_space && needs_prefix(p, *text, *bytes, starts_text, continues);
    if (!prefix && !p->replace_spaces) {
        return STATUS_OK;
    }
    buffer->bytes = 0;
    enum status status = STATUS_OK;
    if (prefix) {
        status = text_buffer_append(buffer, p->prefix.bytes, p->prefix.count);
    }
    if (status == STATUS_OK && p->replace_spaces) {
        status = normalize_replace(*text, *bytes, &space, &p->prefix, buffer);
    } else if (status == STATUS_OK) {
        status = text_buffer_append(buffer, *text, *bytes);
    }
    *text = buffer->data;
    *bytes = buffer->bytes;
    return status;
}

enum status pretokenizer_cut(const struct pretokenizer *pretokenizer, const char *text,
                             size_t bytes, bool starts_text, bool continues,
                             struct pretokenize_scratch *scratch, const char **changed,
                             const struct span_list **words) {
    enum status status =
        change_text(pretokenizer, &text, &bytes, starts_text, continues, &scratch->text);
    if (status == STATUS_OK && scratch->memory == NULL && pretokenizer->n_splits > 0) {
        scratch->memory = split_regex_memory_create();
        status = scratch->memory == NULL ? STATUS_NO_MEMORY : STATUS_OK;
    }
    struct span_list *in = &scratch->lists[0];
    struct span_list *out = &scratch->lists[1];
    in->count = 0;
    if (status == STATUS_OK) {
        status = put_span(in, 0, bytes);
    }
    for (size_t i = 0; i < pretokenizer->n_splits && status == STATUS_OK; i++) {
        out->count = 0;
        for (size_t j = 0; j < in->count && status == STATUS_OK; j++) {
            status = split_span(&pretokenizer->splits[i], scratch->memory, text, in->spans[j], out);
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
    text_buffer_finish(&scratch->text);
    free(scratch->lists[0].spans);
    free(scratch->lists[1].spans);
    split_regex_memory_destroy(scratch->memory);
    *scratch = (struct pretokenize_scratch){0};
}

void pretokenizer_finish(struct pretokenizer *pretokenizer) {
    for (size_t i = 0; i < pretokenizer->n_splits; i++) {
        split_regex_destroy(pretokenizer->splits[i].regex);
        free(pretokenizer->splits[i].pattern);
    }
    *pretokenizer = (struct pretokenizer){0};
}
