#include "worker/tokenizer/jinja/lexer.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/tokenizer/jinja/characters.h"
#include "worker/tokenizer/utf8.h"

enum { BRACKETS_MAX = 1000, NUMBER_BYTES_MAX = 64 };

struct lexer {
    struct arena *arena;
    struct token_list *list;
    struct error *err;
    const char *source; // [length]
    size_t length;
    size_t at;
    size_t counted; // lines are counted up to here
    int line;
    bool line_starts;            // the last tag ended with a line end, or the text begins
    char brackets[BRACKETS_MAX]; // closing characters that are awaited
    size_t n_brackets;
};

enum status lexer_fail(const struct token_list *tokens, size_t offset, enum status status,
                       struct error *err, const char *format, ...) {
    char message[ERROR_MESSAGE_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    size_t line = 1;
    size_t column = 1;
    for (size_t i = 0; i < offset && i < tokens->source->length; i++) {
        uint8_t byte = (uint8_t)tokens->source->bytes[i];
        line += byte == '\n';
        column = byte == '\n' ? 1 : column + ((byte & 0xC0) != 0x80);
    }
    return error_set(err, status, "chat_template", "line %zu, column %zu: %s", line, column,
                     message);
}

static enum status fail(const struct lexer *x, enum status status, const char *what) {
    return lexer_fail(x->list, x->at, status, x->err, "%s", what);
}

static enum status no_memory(const struct lexer *x) {
    return error_set(x->err, x->arena->over_limit ? STATUS_LIMIT : STATUS_NO_MEMORY,
                     "chat_template", "no memory for the template");
}

static bool starts(const struct lexer *x, size_t at, const char *with) {
    size_t length = strlen(with);
    return length <= x->length - at && memcmp(x->source + at, with, length) == 0;
}

static char char_at(const struct lexer *x, size_t at) {
    return at < x->length ? x->source[at] : '\0';
}

// End of the white space at `at`.
static size_t skip_space(const struct lexer *x, size_t at) {
    while (at < x->length) {
        struct utf8_step step = utf8_next(x->source + at, x->length - at);
        if (!character_is_space(step.code)) {
            break;
        }
        at += step.bytes;
    }
    return at;
}

// Start of the white space that ends at `end`, not before `start`.
static size_t trim_space(const struct lexer *x, size_t start, size_t end) {
    while (end > start) {
        size_t previous = end;
        do {
            previous--;
        } while (((uint8_t)x->source[previous] & 0xC0) == 0x80);
        if (!character_is_space(utf8_next(x->source + previous, end - previous).code)) {
            break;
        }
        end = previous;
    }
    return end;
}

static struct token *add(struct lexer *x, enum token_kind kind, size_t offset, size_t length) {
    struct token_list *list = x->list;
    if (list->count == list->capacity) {
        size_t capacity = 2 * list->capacity + 64;
        struct token *tokens = arena_alloc_array(x->arena, capacity, sizeof *tokens);
        if (tokens == NULL) {
            return NULL;
        }
        if (list->count > 0) {
            memcpy(tokens, list->tokens, list->count * sizeof *tokens);
        }
        list->tokens = tokens;
        list->capacity = capacity;
    }
    for (; x->counted < offset; x->counted++) {
        x->line += x->source[x->counted] == '\n';
    }
    struct token *token = &list->tokens[list->count++];
    *token = (struct token){.kind = kind, .line = x->line, .offset = offset};
    if (length > 0) {
        token->text = text_make(x->arena, x->source + offset, length, false);
        if (token->text == NULL) {
            return NULL;
        }
    }
    return token;
}

// Text before a tag that starts at `tag` with the sign `sign` ('-', '+' or another character).
static enum status add_data(struct lexer *x, size_t tag, char sign, bool is_print) {
    size_t start = x->at;
    size_t end = tag;
    if (sign == '-') {
        end = trim_space(x, start, end);
    } else if (sign != '+' && !is_print) {
        size_t line = end;
        while (line > start && x->source[line - 1] != '\n') {
            line--;
        }
        if ((line > start || x->line_starts) && trim_space(x, line, end) == line) {
            end = line;
        }
    }
    if (end > start && add(x, TOKEN_DATA, start, end - start) == NULL) {
        return no_memory(x);
    }
    return STATUS_OK;
}

// After a tag's end: everything up to `at` is read.
static void go_on(struct lexer *x, size_t at) {
    x->line_starts = at > 0 && x->source[at - 1] == '\n';
    x->at = at;
}

// End of a block-like tag whose end mark stands at `at`, after its white space control; 0 when
// there is no end mark.
static size_t tag_end(const struct lexer *x, size_t at, const char *mark) {
    if (char_at(x, at) == '-' && starts(x, at + 1, mark)) {
        return skip_space(x, at + 3);
    }
    if (char_at(x, at) == '+' && starts(x, at + 1, mark)) {
        return at + 3;
    }
    if (starts(x, at, mark)) {
        return char_at(x, at + 2) == '\n' ? at + 3 : at + 2;
    }
    return 0;
}

static enum status read_comment(struct lexer *x) {
    for (size_t at = x->at; at < x->length; at++) {
        size_t end = tag_end(x, at, "#}");
        if (end > 0) {
            go_on(x, end);
            return STATUS_OK;
        }
    }
    if (x->at < x->length) {
        return fail(x, STATUS_MALFORMED, "the comment does not end");
    }
    return STATUS_OK;
}

// End of `{%- raw -%}` at `at` when one stands there, else 0. Its end takes no line end along.
static size_t raw_begin_end(const struct lexer *x, size_t at) {
    at += 2;
    if (char_at(x, at) == '-' || char_at(x, at) == '+') {
        at++;
    }
    at = skip_space(x, at);
    if (!starts(x, at, "raw")) {
        return 0;
    }
    at = skip_space(x, at + 3);
    if (starts(x, at, "-%}")) {
        return skip_space(x, at + 3);
    }
    return starts(x, at, "%}") ? at + 2 : 0;
}

static enum status read_raw(struct lexer *x) {
    for (size_t tag = x->at; tag < x->length; tag++) {
        if (!starts(x, tag, "{%")) {
            continue;
        }
        char sign = char_at(x, tag + 2);
        size_t at = skip_space(x, sign == '-' || sign == '+' ? tag + 3 : tag + 2);
        if (!starts(x, at, "endraw")) {
            continue;
        }
        size_t end = tag_end(x, skip_space(x, at + 6), "%}");
        if (end > 0) {
            enum status status = add_data(x, tag, sign, false);
            go_on(x, end);
            return status;
        }
    }
    if (x->at < x->length) {
        return fail(x, STATUS_MALFORMED, "the raw block does not end");
    }
    return STATUS_OK;
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static bool is_hex(char c) {
    return is_digit(c) || ((c | 0x20) >= 'a' && (c | 0x20) <= 'f');
}

static bool is_octal(char c) {
    return c >= '0' && c <= '7';
}

static bool is_binary(char c) {
    return c == '0' || c == '1';
}

// End of digits with single underscores between them; `at` when there is none.
static size_t skip_digits(const struct lexer *x, size_t at, bool (*is_one)(char)) {
    if (!is_one(char_at(x, at))) {
        return at;
    }
    while (is_one(char_at(x, at)) || (char_at(x, at) == '_' && is_one(char_at(x, at + 1)))) {
        at++;
    }
    return at;
}

// End of a floating point number at `at`, 0 when none stands there.
static size_t float_end(const struct lexer *x, size_t at) {
    if (at > 0 && x->source[at - 1] == '.') {
        return 0;
    }
    size_t whole = skip_digits(x, at, is_digit);
    if (whole == at) {
        return 0;
    }
    size_t end = whole;
    if (char_at(x, end) == '.') {
        size_t fraction = skip_digits(x, end + 1, is_digit);
        end = fraction > end + 1 ? fraction : end;
    }
    if ((char_at(x, end) | 0x20) == 'e') {
        size_t digits = end + 1;
        if (char_at(x, digits) == '+' || char_at(x, digits) == '-') {
            digits++;
        }
        size_t exponent = skip_digits(x, digits, is_digit);
        end = exponent > digits ? exponent : end;
    }
    return end > whole ? end : 0;
}

// End of an integer at `at`; *base is its base. There is a digit at `at`.
static size_t integer_end(const struct lexer *x, size_t at, int *base) {
    static const struct {
        char letter;
        int base;
        bool (*is_one)(char);
    } prefixes[] = {{'b', 2, is_binary}, {'o', 8, is_octal}, {'x', 16, is_hex}};
    *base = 10;
    if (x->source[at] != '0') {
        return skip_digits(x, at, is_digit);
    }
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++) {
        size_t digits = at + 2;
        if ((char_at(x, at + 1) | 0x20) == prefixes[i].letter) {
            digits += char_at(x, digits) == '_';
            size_t end = skip_digits(x, digits, prefixes[i].is_one);
            if (end > digits) {
                *base = prefixes[i].base;
                return end;
            }
        }
    }
    while (char_at(x, at) == '0' || (char_at(x, at) == '_' && char_at(x, at + 1) == '0')) {
        at++;
    }
    return at;
}

// The number's characters without underscores; false when there are too many.
static bool copy_number(const struct lexer *x, size_t end, char number[NUMBER_BYTES_MAX]) {
    size_t n = 0;
    for (size_t i = x->at; i < end; i++) {
        if (x->source[i] != '_') {
            if (n == NUMBER_BYTES_MAX - 1) {
                return false;
            }
            number[n++] = x->source[i];
        }
    }
    number[n] = '\0';
    return true;
}

static enum status read_number(struct lexer *x) {
    char number[NUMBER_BYTES_MAX];
    int base = 10;
    size_t end = float_end(x, x->at);
    bool is_float = end > 0;
    if (!is_float) {
        end = integer_end(x, x->at, &base);
    }
    if (!copy_number(x, end, number)) {
        return fail(x, STATUS_UNSUPPORTED, "a number with more than 63 characters");
    }
    struct token *token = add(x, is_float ? TOKEN_FLOAT : TOKEN_INTEGER, x->at, 0);
    if (token == NULL) {
        return no_memory(x);
    }
    errno = 0;
    if (is_float) {
        token->real = strtod(number, NULL);
    } else {
        token->integer = strtoll(base == 10 ? number : number + 2, NULL, base);
        if (errno == ERANGE) {
            return fail(x, STATUS_UNSUPPORTED, "an integer of more than 64 bits");
        }
    }
    x->at = end;
    return STATUS_OK;
}

// Value of `digits` hexadecimal digits at `at`; -1 when they are not there.
static int64_t read_hex(const struct lexer *x, size_t at, size_t end, int digits) {
    int64_t value = 0;
    for (int i = 0; i < digits; i++, at++) {
        if (at >= end || !is_hex(x->source[at])) {
            return -1;
        }
        char c = x->source[at];
        value = 16 * value + (is_digit(c) ? c - '0' : (c | 0x20) - 'a' + 10);
    }
    return value;
}

static enum status put_code(struct lexer *x, struct text_builder *b, int64_t code) {
    if (code < 0 || code > 0x10FFFF) {
        return fail(x, STATUS_MALFORMED, "a wrong escape sequence in a string");
    }
    if (code >= 0xD800 && code < 0xE000) {
        return fail(x, STATUS_UNSUPPORTED, "half of a surrogate pair in a string");
    }
    builder_put_code(b, (uint32_t)code, false);
    return STATUS_OK;
}

// jinja2 writes what is beyond ASCII as an escape before it reads escapes, so that a backslash
// before such a character escapes the backslash of that and leaves its digits.
static size_t put_escaped_wide(const struct lexer *x, struct text_builder *b, size_t at) {
    struct utf8_step step = utf8_next(x->source + at, x->length - at);
    char text[16];
    int n = snprintf(text, sizeof text,
                     step.code < 0x100 ? "\\x%02x" : (step.code < 0x10000 ? "\\u%04x" : "\\U%08x"),
                     (unsigned)step.code);
    builder_put(b, text, (size_t)n, false);
    return at + step.bytes;
}

// The escape sequence whose character after the backslash is at *at.
static enum status read_escape(struct lexer *x, size_t *at, size_t end, struct text_builder *b) {
    static const char plain[][2] = {{'\\', '\\'}, {'\'', '\''}, {'"', '"'},  {'a', '\a'},
                                    {'b', '\b'},  {'f', '\f'},  {'n', '\n'}, {'r', '\r'},
                                    {'t', '\t'},  {'v', '\v'}};
    char c = x->source[*at];
    if ((uint8_t)c >= 0x80) {
        *at = put_escaped_wide(x, b, *at);
        return STATUS_OK;
    }
    ++*at;
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++) {
        if (plain[i][0] == c) {
            builder_put(b, &plain[i][1], 1, false);
            return STATUS_OK;
        }
    }
    if (c == '\n') {
        return STATUS_OK;
    }
    if (c == 'N') {
        return fail(x, STATUS_UNSUPPORTED, "a character by its name in a string");
    }
    if (is_octal(c)) {
        int64_t code = c - '0';
        for (int i = 0; i < 2 && *at < end && is_octal(x->source[*at]); i++) {
            code = 8 * code + (x->source[(*at)++] - '0');
        }
        return put_code(x, b, code);
    }
    int digits = c == 'x' ? 2 : (c == 'u' ? 4 : (c == 'U' ? 8 : 0));
    if (digits == 0) {
        const char kept[] = {'\\', c};
        builder_put(b, kept, 2, false);
        return STATUS_OK;
    }
    int64_t code = read_hex(x, *at, end, digits);
    *at += (size_t)digits;
    return put_code(x, b, code);
}

static enum status read_string(struct lexer *x) {
    char quote = x->source[x->at];
    size_t end = x->at + 1;
    while (end < x->length && x->source[end] != quote) {
        end += x->source[end] == '\\' ? 2 : 1;
    }
    if (end >= x->length) {
        return fail(x, STATUS_MALFORMED, "the string does not end");
    }
    struct token *token = add(x, TOKEN_STRING, x->at, 0);
    struct text_builder b = {.arena = x->arena};
    enum status status = STATUS_OK;
    for (size_t at = x->at + 1; at < end && status == STATUS_OK;) {
        if (x->source[at] == '\\') {
            at++;
            status = read_escape(x, &at, end, &b);
        } else {
            builder_put(&b, x->source + at, 1, false);
            at++;
        }
    }
    if (status != STATUS_OK) {
        return status;
    }
    const struct text *text = builder_finish(&b);
    if (token == NULL || text == NULL) {
        return no_memory(x);
    }
    token->text = text;
    x->at = end + 1;
    return STATUS_OK;
}

static bool is_name(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || is_digit(c);
}

static enum status balance(struct lexer *x, char c) {
    static const char pairs[][2] = {{'(', ')'}, {'[', ']'}, {'{', '}'}};
    for (size_t i = 0; i < 3; i++) {
        if (c == pairs[i][0]) {
            if (x->n_brackets == BRACKETS_MAX) {
                return fail(x, STATUS_LIMIT, "too many open brackets");
            }
            x->brackets[x->n_brackets++] = pairs[i][1];
        } else if (c == pairs[i][1]) {
            if (x->n_brackets == 0 || x->brackets[--x->n_brackets] != c) {
                return fail(x, STATUS_MALFORMED, "a bracket closes that is not open");
            }
        }
    }
    return STATUS_OK;
}

static enum status read_operator(struct lexer *x) {
    static const char *const pairs[] = {"**", "//", "==", "!=", ">=", "<="};
    size_t length = 0;
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        if (starts(x, x->at, pairs[i])) {
            length = 2;
        }
    }
    char c = x->source[x->at];
    if (length == 0) {
        if (c == '\0' || strchr("+-/*%~[](){}><=.:|,;", c) == NULL) {
            return fail(x, STATUS_MALFORMED, "an unexpected character");
        }
        length = 1;
        enum status status = balance(x, c);
        if (status != STATUS_OK) {
            return status;
        }
    }
    if (add(x, TOKEN_OPERATOR, x->at, length) == NULL) {
        return no_memory(x);
    }
    x->at += length;
    return STATUS_OK;
}

static enum status read_inside(struct lexer *x) {
    char c = x->source[x->at];
    if (c == '"' || c == '\'') {
        return read_string(x);
    }
    if (is_digit(c)) {
        return read_number(x);
    }
    if ((uint8_t)c >= 0x80) {
        return fail(x, STATUS_UNSUPPORTED, "a name beyond ASCII");
    }
    if (!is_name(c)) {
        return read_operator(x);
    }
    size_t end = x->at;
    while (is_name(char_at(x, end))) {
        end++;
    }
    if ((uint8_t)char_at(x, end) >= 0x80) {
        return fail(x, STATUS_UNSUPPORTED, "a name beyond ASCII");
    }
    if (add(x, TOKEN_NAME, x->at, end - x->at) == NULL) {
        return no_memory(x);
    }
    x->at = end;
    return STATUS_OK;
}

// What stands between the begin mark, already read, and the end mark of a tag.
static enum status read_tag(struct lexer *x, bool is_print) {
    enum status status = STATUS_OK;
    x->n_brackets = 0;
    while (status == STATUS_OK && x->at < x->length) {
        size_t end = 0;
        if (x->n_brackets == 0 && is_print) {
            end = starts(x, x->at, "-}}") ? skip_space(x, x->at + 3)
                                          : (starts(x, x->at, "}}") ? x->at + 2 : 0);
        } else if (x->n_brackets == 0) {
            end = tag_end(x, x->at, "%}");
        }
        if (end > 0) {
            if (add(x, is_print ? TOKEN_PRINT_END : TOKEN_BLOCK_END, x->at, 0) == NULL) {
                return no_memory(x);
            }
            go_on(x, end);
            return STATUS_OK;
        }
        size_t space = skip_space(x, x->at);
        if (space > x->at) {
            x->at = space;
        } else {
            status = read_inside(x);
        }
    }
    return status;
}

// Text up to the next tag, and the tag.
static enum status read_next(struct lexer *x) {
    size_t tag = x->at;
    while (tag < x->length && !starts(x, tag, "{{") && !starts(x, tag, "{%") &&
           !starts(x, tag, "{#")) {
        tag++;
    }
    if (tag == x->length) {
        enum status status = add_data(x, tag, '+', true);
        x->at = tag;
        return status;
    }
    bool is_print = x->source[tag + 1] == '{';
    char sign = char_at(x, tag + 2);
    enum status status = add_data(x, tag, sign, is_print);
    if (status != STATUS_OK) {
        return status;
    }
    size_t raw = x->source[tag + 1] == '%' ? raw_begin_end(x, tag) : 0;
    if (raw > 0) {
        go_on(x, raw);
        return read_raw(x);
    }
    x->at = sign == '-' || sign == '+' ? tag + 3 : tag + 2;
    if (x->source[tag + 1] == '#') {
        return read_comment(x);
    }
    if (add(x, is_print ? TOKEN_PRINT_BEGIN : TOKEN_BLOCK_BEGIN, tag, 0) == NULL) {
        return no_memory(x);
    }
    return read_tag(x, is_print);
}

// The text with \n for \r\n and \r, and without one line end at its end.
static const struct text *normalize(struct arena *arena, const char *text, size_t bytes) {
    char *copy = arena_alloc(arena, bytes);
    if (copy == NULL) {
        return NULL;
    }
    size_t length = 0;
    for (size_t i = 0; i < bytes; i++) {
        if (text[i] != '\r') {
            copy[length++] = text[i];
        } else if (i + 1 == bytes || text[i + 1] != '\n') {
            copy[length++] = '\n';
        }
    }
    if (length > 0 && copy[length - 1] == '\n') {
        length--;
    }
    return text_make(arena, copy, length, false);
}

enum status lexer_run(struct arena *arena, const char *text, size_t bytes,
                      struct token_list *tokens, struct error *err) {
    *tokens = (struct token_list){.source = normalize(arena, text, bytes)};
    struct lexer *x = arena_alloc(arena, sizeof *x);
    if (tokens->source == NULL || x == NULL) {
        return error_set(err, STATUS_NO_MEMORY, "chat_template", "no memory for the template");
    }
    *x = (struct lexer){.arena = arena,
                        .list = tokens,
                        .err = err,
                        .source = tokens->source->bytes,
                        .length = tokens->source->length,
                        .line = 1,
                        .line_starts = true};
    size_t offset = 0;
    if (!utf8_validate(x->source, x->length, &offset)) {
        return lexer_fail(tokens, offset, STATUS_MALFORMED, err, "not UTF-8");
    }
    enum status status = STATUS_OK;
    while (status == STATUS_OK && x->at < x->length) {
        status = read_next(x);
    }
    if (status == STATUS_OK && add(x, TOKEN_END, x->length, 0) == NULL) {
        return no_memory(x);
    }
    return status;
}
