#include "worker/tokenizer/template_markers.h"

#include <stdlib.h>
#include <string.h>

#include "worker/tokenizer/utf8.h"

enum { MARKER_BYTES_MAX = 64 };

struct part {
    const char *text; // [bytes]
    size_t bytes;     // 0: none
};

static bool part_is(struct part part, const char *text) {
    return part.bytes == strlen(text) && memcmp(part.text, text, part.bytes) == 0;
}

static bool is_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

// Bytes up to the next white space; white space at the start is passed over.
static struct part next_word(const char **at, const char *end) {
    struct part word = {.text = *at};
    while (*at < end) {
        struct utf8_step step = utf8_next(*at, (size_t)(end - *at));
        bool is_space = utf8_is_space(step.code);
        if (is_space && word.bytes > 0) {
            break;
        }
        *at += step.bytes;
        word.bytes += is_space ? 0 : step.bytes;
        word.text = is_space ? *at : word.text;
    }
    return word;
}

// The bracketed part that `word` begins with, brackets included.
static struct part bracketed(struct part word) {
    char close = word.text[0] == '<' ? '>' : word.text[0] == '[' ? ']' : '\0';
    for (size_t i = 1; close != '\0' && i < word.bytes && i <= MARKER_BYTES_MAX + 1; i++) {
        if (word.text[i] == close) {
            return (struct part){word.text, i + 1};
        }
        if (strchr("<>[]", word.text[i]) != NULL) {
            break;
        }
    }
    return (struct part){0};
}

static bool is_marker(struct part tag) {
    static const char *const plain[] = {"<|system|>", "<|user|>", "<|assistant|>"};
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++) {
        if (part_is(tag, plain[i])) {
            return false;
        }
    }
    size_t n_letters = 0;
    size_t start = tag.bytes > 1 && tag.text[1] == '/' ? 2 : 1;
    for (size_t i = start; i + 1 < tag.bytes; i++) {
        n_letters += is_letter(tag.text[i]);
    }
    return part_is(tag, "<s>") || part_is(tag, "</s>") ||
           (n_letters > 0 && n_letters + start + 1 < tag.bytes);
}

static struct part find_marker(struct part word) {
    for (size_t i = 0; i < word.bytes; i++) {
        struct part tag = bracketed((struct part){word.text + i, word.bytes - i});
        if (tag.bytes > 0 && is_marker(tag)) {
            return tag;
        }
    }
    return (struct part){0};
}

struct id_list {
    int32_t *ids; // [count], owned
    size_t count;
};

static enum status encode(const struct tokenizer *tokenizer, struct part word, bool inert,
                          struct id_list *out, struct error *err) {
    const struct tokenizer_segment segment = {
        .text = word.text, .bytes = word.bytes, .parse_special = !inert, .inert = inert};
    enum status status = tokenizer_encode_segments(tokenizer, &segment, 1, TOKENIZER_CONTINUATION,
                                                   NULL, 0, &out->count, err);
    if (status != STATUS_LIMIT || out->count == 0) {
        return status;
    }
    out->ids = calloc(out->count, sizeof *out->ids);
    if (out->ids == NULL) {
        return error_set(err, STATUS_NO_MEMORY, "chat_template", "no memory for %zu ids",
                         out->count);
    }
    return tokenizer_encode_segments(tokenizer, &segment, 1, TOKENIZER_CONTINUATION, out->ids,
                                     out->count, &out->count, err);
}

// Whether a message that says the word would be encoded otherwise: it holds an added token.
static enum status is_protected(const struct tokenizer *tokenizer, struct part word, bool *out,
                                struct error *err) {
    struct id_list written = {0};
    struct id_list inert = {0};
    enum status status = encode(tokenizer, word, false, &written, err);
    if (status == STATUS_OK) {
        status = encode(tokenizer, word, true, &inert, err);
    }
    if (status == STATUS_OK) {
        *out = written.count != inert.count ||
               (inert.count > 0 &&
                memcmp(written.ids, inert.ids, inert.count * sizeof *inert.ids) != 0);
    }
    free(written.ids);
    free(inert.ids);
    return status;
}

// What stands between two messages or behind the last. White space is left out, runs of which are
// added tokens of some vocabularies.
static enum status check_border(const struct tokenizer *tokenizer,
                                const struct jinja_segment *border, struct error *err) {
    const char *at = border->text;
    struct part missing = {0};
    for (;;) {
        struct part word = next_word(&at, border->text + border->bytes);
        bool has_token = false;
        if (word.bytes == 0) {
            break;
        }
        enum status status = is_protected(tokenizer, word, &has_token, err);
        if (status != STATUS_OK || has_token) {
            return status;
        }
        missing = missing.bytes == 0 ? find_marker(word) : missing;
    }
    return missing.bytes == 0
               ? STATUS_OK
               : error_set(err, STATUS_INVALID_ARGUMENT, "chat_template",
                           "the vocabulary lacks the token %.*s with which the template keeps "
                           "turns apart",
                           (int)missing.bytes, missing.text);
}

enum status template_markers_check(const struct tokenizer *tokenizer,
                                   const struct jinja_output *output, struct error *err) {
    enum status status = STATUS_OK;
    bool after_message = false;
    for (size_t i = 0; status == STATUS_OK && i < output->n_segments; i++) {
        if (after_message && !output->segments[i].content) {
            status = check_border(tokenizer, &output->segments[i], err);
        }
        after_message = after_message || output->segments[i].content;
    }
    return status;
}
