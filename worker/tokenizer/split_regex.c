#include "worker/tokenizer/split_regex.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "worker/tokenizer/text_buffer.h"
#include "worker/tokenizer/unicode_newer.h"
#include "worker/tokenizer/utf8.h"

// Enough for one character class over the longest text, far below a pattern that never ends.
enum { MATCH_STEPS_MAX = 1 << 25 };

struct split_regex {
    pcre2_code *code;
    pcre2_match_context *limits;
};

struct split_regex_memory {
    pcre2_match_data *data;
};

// \s of Oniguruma is the property White_Space; that of PCRE2 adds U+180E. As the inside of a class.
static const char white_space[] = "\\t-\\r \\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}"
                                  "\\x{2029}\\x{202f}\\x{205f}\\x{3000}";
// \w of Oniguruma is Alphabetic, marks, decimal digits and connectors; that of PCRE2 10.42 is not.
// The ranges are the letters in circles and squares, which are alphabetic symbols.
static const char word[] = "\\p{L}\\p{M}\\p{Nl}\\p{Nd}\\p{Pc}\\x{24b6}-\\x{24e9}"
                           "\\x{1f130}-\\x{1f149}\\x{1f150}-\\x{1f169}\\x{1f170}-\\x{1f189}";
// The same as general categories, for characters that PCRE2 does not know yet.
static const char *const word_categories[] = {"L", "M", "Nl", "Nd", "Pc", NULL};

struct conversion {
    const char *pattern; // [bytes]
    size_t bytes;
    size_t at;
    bool in_class;
    struct text_buffer *out;
    struct error *err;
};

static enum status refuse(const struct conversion *c, size_t at) {
    return error_set(c->err, STATUS_UNSUPPORTED, NULL,
                     "regular expression construct at byte %zu is not supported: %.*s", at,
                     (int)(c->bytes - at), c->pattern + at);
}

static enum status emit(const struct conversion *c, const char *bytes, size_t count) {
    return text_buffer_append(c->out, bytes, count);
}

static bool category_matches(const char *category, const char *name) {
    return strncmp(category, name, strlen(name)) == 0;
}

// Adds the characters of the named categories that PCRE2 of Unicode 14 does not know.
static enum status emit_newer(const struct conversion *c, const char *const *names) {
    enum status status = STATUS_OK;
    for (size_t i = 0; i < unicode_newer_count && status == STATUS_OK; i++) {
        bool holds = false;
        for (size_t j = 0; names[j] != NULL; j++) {
            holds = holds || category_matches(unicode_newer[i].category, names[j]);
        }
        if (holds) {
            char range[32];
            int length = snprintf(range, sizeof range, "\\x{%x}-\\x{%x}", unicode_newer[i].first,
                                  unicode_newer[i].last);
            status = emit(c, range, (size_t)length);
        }
    }
    return status;
}

// A class escape as members of a class, or as a class of its own.
static enum status emit_class(const struct conversion *c, const char *members,
                              const char *const *categories, bool negated) {
    if (c->in_class && negated) {
        return refuse(c, c->at);
    }
    enum status status = STATUS_OK;
    if (!c->in_class) {
        status = emit(c, negated ? "[^" : "[", negated ? 2 : 1);
    }
    if (status == STATUS_OK) {
        status = emit(c, members, strlen(members));
    }
    if (status == STATUS_OK) {
        status = emit_newer(c, categories);
    }
    return status == STATUS_OK && !c->in_class ? emit(c, "]", 1) : status;
}

// Bytes of \p{..}, \P{..} or \x{..}, 0 when it is none.
static size_t braced_bytes(const struct conversion *c) {
    const char *start = c->pattern + c->at;
    const char *close = memchr(start, '}', c->bytes - c->at);
    return c->bytes - c->at < 4 || start[2] != '{' || close == NULL ? 0
                                                                    : (size_t)(close - start) + 1;
}

static enum status convert_code(struct conversion *c) {
    size_t length = braced_bytes(c);
    if (length == 0) {
        return refuse(c, c->at);
    }
    c->at += length;
    return emit(c, c->pattern + c->at - length, length);
}

// \p{..} and \P{..} mean the same in both, but for newer characters. Names of more than two letters
// are scripts.
static enum status convert_property(struct conversion *c) {
    size_t length = braced_bytes(c);
    const char *start = c->pattern + c->at;
    if (length == 0 || length > 40 || start[3] == '^') {
        return refuse(c, c->at);
    }
    char members[48];
    snprintf(members, sizeof members, "\\p%.*s", (int)(length - 2), start + 2);
    char name[3] = {0};
    if (length <= 6) {
        memcpy(name, start + 3, length - 4);
    }
    const char *const categories[] = {name[0] != '\0' ? name : NULL, NULL};
    enum status status = emit_class(c, members, categories, start[1] == 'P');
    c->at += length;
    return status;
}

static enum status convert_escape(struct conversion *c) {
    if (c->at + 1 >= c->bytes) {
        return refuse(c, c->at);
    }
    static const char *const none[] = {NULL};
    static const char *const digits[] = {"Nd", NULL};
    char escaped = c->pattern[c->at + 1];
    enum status status;
    switch (escaped) {
    case 's':
    case 'S':
        status = emit_class(c, white_space, none, escaped == 'S');
        break;
    case 'w':
    case 'W':
        status = emit_class(c, word, word_categories, escaped == 'W');
        break;
    case 'd':
        status = emit_class(c, "\\p{Nd}", digits, false);
        break;
    case 'p':
    case 'P':
        return convert_property(c);
    case 'x':
        return convert_code(c);
    case 'A':
    case 'z':
        if (c->in_class) {
            return refuse(c, c->at);
        }
        status = emit(c, c->pattern + c->at, 2);
        break;
    case 'r':
    case 'n':
    case 't':
        status = emit(c, c->pattern + c->at, 2);
        break;
    default:
        if (strchr("\\/|()[]{}^$*+?.-'\"!#%&,:;<=>@_`~ ", escaped) == NULL || escaped == '\0') {
            return refuse(c, c->at);
        }
        status = emit(c, c->pattern + c->at, 2);
    }
    c->at += 2;
    return status;
}

// Groups without a name or a condition: (..) and those of `openings`.
static enum status convert_group(struct conversion *c) {
    static const char *const openings[] = {"(?:", "(?i:", "(?>", "(?=", "(?!", "(?<=", "(?<!"};
    const char *start = c->pattern + c->at;
    size_t left = c->bytes - c->at;
    size_t length = left > 1 && (start[1] == '?' || start[1] == '*') ? 0 : 1;
    for (size_t i = 0; i < sizeof openings / sizeof *openings; i++) {
        size_t opening = strlen(openings[i]);
        if (left >= opening && memcmp(start, openings[i], opening) == 0) {
            length = opening;
        }
    }
    if (length == 0) {
        return refuse(c, c->at);
    }
    c->at += length;
    return emit(c, start, length);
}

static enum status convert_class_start(struct conversion *c) {
    const char *start = c->pattern + c->at;
    bool negated = c->at + 1 < c->bytes && start[1] == '^';
    size_t length = negated ? 2 : 1;
    if (c->at + length < c->bytes && start[length] == ']') {
        return refuse(c, c->at);
    }
    c->in_class = true;
    c->at += length;
    return emit(c, start, length);
}

// One construct of the pattern.
static enum status convert_next(struct conversion *c) {
    char next = c->pattern[c->at];
    if (next == '\\') {
        return convert_escape(c);
    }
    if (c->in_class) {
        // Nested sets and intersections are Oniguruma's own.
        bool intersection = next == '&' && c->at + 1 < c->bytes && c->pattern[c->at + 1] == '&';
        if (next == '[' || intersection) {
            return refuse(c, c->at);
        }
        c->in_class = next != ']';
    } else if (next == '[') {
        return convert_class_start(c);
    } else if (next == '(') {
        return convert_group(c);
    } else if (next == '}' && c->at + 1 < c->bytes && c->pattern[c->at + 1] == '+') {
        // {n,m}+ is possessive here and not there.
        return refuse(c, c->at);
    } else if (next == '^' || next == '$') {
        // Ruby's anchors work on lines.
        c->at++;
        return emit(c, next == '^' ? "(?m:^)" : "(?m:$)", 6);
    }
    size_t length = utf8_length(next);
    c->at += length;
    return emit(c, c->pattern + c->at - length, length);
}

static enum status compile(const struct text_buffer *pattern, struct split_regex *regex,
                           struct error *err) {
    int code = 0;
    PCRE2_SIZE offset = 0;
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    regex->limits = pcre2_match_context_create(NULL);
    if (context == NULL || regex->limits == NULL) {
        pcre2_compile_context_free(context);
        return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for a regular expression");
    }
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    pcre2_set_match_limit(regex->limits, MATCH_STEPS_MAX);
    regex->code = pcre2_compile((PCRE2_SPTR)pattern->data, pattern->bytes, PCRE2_UTF | PCRE2_UCP,
                                &code, &offset, context);
    pcre2_compile_context_free(context);
    if (regex->code == NULL) {
        PCRE2_UCHAR message[160] = "";
        pcre2_get_error_message(code, message, sizeof message);
        return error_set(err, STATUS_MALFORMED, NULL, "not a regular expression: %s",
                         (const char *)message);
    }
    uint32_t matches_nothing = 0;
    (void)pcre2_pattern_info(regex->code, PCRE2_INFO_MATCHEMPTY, &matches_nothing);
    if (matches_nothing != 0) {
        return error_set(err, STATUS_UNSUPPORTED, NULL,
                         "a regular expression that can match nothing is not supported");
    }
    // Without the compiler of the library matching is slower and otherwise the same.
    (void)pcre2_jit_compile(regex->code, PCRE2_JIT_COMPLETE);
    return STATUS_OK;
}

enum status split_regex_compile(const char *pattern, size_t bytes, struct split_regex **out,
                                struct error *err) {
    if (bytes == 0 || bytes > SPLIT_REGEX_BYTES_MAX) {
        return error_set(err, bytes == 0 ? STATUS_MALFORMED : STATUS_LIMIT, NULL,
                         "a regular expression has 1 to %d bytes, this one %zu",
                         SPLIT_REGEX_BYTES_MAX, bytes);
    }
    struct text_buffer converted = {0};
    struct conversion conversion = {
        .pattern = pattern, .bytes = bytes, .out = &converted, .err = err};
    enum status status = STATUS_OK;
    while (conversion.at < bytes && status == STATUS_OK) {
        status = convert_next(&conversion);
    }
    struct split_regex *regex = NULL;
    if (status == STATUS_OK) {
        regex = calloc(1, sizeof *regex);
        status = regex == NULL ? STATUS_NO_MEMORY : compile(&converted, regex, err);
    }
    text_buffer_finish(&converted);
    if (status != STATUS_OK) {
        split_regex_destroy(regex);
        return status;
    }
    *out = regex;
    return STATUS_OK;
}

void split_regex_destroy(struct split_regex *regex) {
    if (regex != NULL) {
        pcre2_code_free(regex->code);
        pcre2_match_context_free(regex->limits);
        free(regex);
    }
}

struct split_regex_memory *split_regex_memory_create(void) {
    struct split_regex_memory *memory = malloc(sizeof *memory);
    if (memory == NULL) {
        return NULL;
    }
    memory->data = pcre2_match_data_create(1, NULL);
    if (memory->data == NULL) {
        free(memory);
        return NULL;
    }
    return memory;
}

void split_regex_memory_destroy(struct split_regex_memory *memory) {
    if (memory != NULL) {
        pcre2_match_data_free(memory->data);
        free(memory);
    }
}

static enum status match(const struct split_regex *regex, struct split_regex_memory *memory,
                         const char *text, size_t bytes, size_t from, bool *found) {
    // The text was checked once; checking it at every match would make splitting quadratic.
    uint32_t options = PCRE2_NO_UTF_CHECK;
    int rc = pcre2_match(regex->code, (PCRE2_SPTR)text, bytes, from, options, memory->data,
                         regex->limits);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT) {
        rc = pcre2_match(regex->code, (PCRE2_SPTR)text, bytes, from, options | PCRE2_NO_JIT,
                         memory->data, regex->limits);
    }
    *found = rc >= 0;
    if (rc >= 0 || rc == PCRE2_ERROR_NOMATCH) {
        return STATUS_OK;
    }
    return rc == PCRE2_ERROR_NOMEMORY ? STATUS_NO_MEMORY : STATUS_LIMIT;
}

enum status split_regex_find(const struct split_regex *regex, struct split_regex_memory *memory,
                             const char *text, size_t bytes, size_t from, bool *found,
                             size_t *start, size_t *end) {
    *found = false;
    if (from == bytes) {
        return STATUS_OK;
    }
    enum status status = match(regex, memory, text, bytes, from, found);
    if (status == STATUS_OK && *found) {
        const PCRE2_SIZE *offsets = pcre2_get_ovector_pointer(memory->data);
        *start = offsets[0];
        *end = offsets[1];
    }
    return status;
}
