// The two ways in which templates format strings: `format % arguments` and format.format(...).
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "worker/tokenizer/jinja/convert.h"
#include "worker/tokenizer/utf8.h"

// One conversion of a % format.
struct conversion {
    bool left;
    bool zero;
    bool plus;
    bool space;
    bool alternate;
    int width;
    int precision; // -1: none
    char kind;
};

enum { WIDTH_MAX = 1000 };

static enum status fail_format(struct run *run, const char *what) {
    return run_fail(run, STATUS_INVALID_ARGUMENT, "%s", what);
}

// Decimal digits at *at; 0 when there are none.
static enum status read_width(struct run *run, const struct text *format, size_t *at, int *width) {
    *width = 0;
    while (*at < format->length && format->bytes[*at] >= '0' && format->bytes[*at] <= '9') {
        *width = 10 * *width + (format->bytes[(*at)++] - '0');
        if (*width > WIDTH_MAX) {
            return run_fail(run, STATUS_LIMIT, "a width above %d in a format", WIDTH_MAX);
        }
    }
    return STATUS_OK;
}

static enum status read_conversion(struct run *run, const struct text *format, size_t *at,
                                   struct conversion *c) {
    *c = (struct conversion){.precision = -1};
    for (; *at < format->length; ++*at) {
        char flag = format->bytes[*at];
        if (flag == '-') {
            c->left = true;
        } else if (flag == '0') {
            c->zero = true;
        } else if (flag == '+') {
            c->plus = true;
        } else if (flag == ' ') {
            c->space = true;
        } else if (flag == '#') {
            c->alternate = true;
        } else {
            break;
        }
    }
    enum status status = read_width(run, format, at, &c->width);
    if (status == STATUS_OK && *at < format->length && format->bytes[*at] == '.') {
        ++*at;
        status = read_width(run, format, at, &c->precision);
    }
    while (*at < format->length && strchr("hlL", format->bytes[*at]) != NULL) {
        ++*at;
    }
    if (status == STATUS_OK && *at == format->length) {
        return fail_format(run, "incomplete format");
    }
    if (status == STATUS_OK) {
        c->kind = format->bytes[(*at)++];
    }
    return status;
}

static void put_padded(struct text_builder *b, const struct conversion *c,
                       const struct text *text) {
    size_t count = text_count(text);
    size_t padding = (size_t)c->width > count ? (size_t)c->width - count : 0;
    if (c->left) {
        builder_put_text(b, text);
    }
    for (size_t i = 0; i < padding; i++) {
        builder_put(b, " ", 1, false);
    }
    if (!c->left) {
        builder_put_text(b, text);
    }
}

static enum status convert_text(struct run *run, struct text_builder *b, const struct conversion *c,
                                const struct value *value) {
    const struct text *text = NULL;
    enum status status;
    if (c->kind == 's') {
        status = value_to_text(run, value, &text);
    } else {
        struct text_builder repr = {.arena = &run->arena};
        status = value_put_repr(run, &repr, value);
        text = builder_finish(&repr);
        if (status == STATUS_OK && text == NULL) {
            status = run_no_memory(run);
        }
    }
    if (status == STATUS_OK && text->markup) {
        status = run_fail(run, STATUS_UNSUPPORTED, "formatting escaped text");
    }
    if (status == STATUS_OK && c->precision >= 0) {
        text = text_slice(&run->arena, text, 0, text_offset(text, (size_t)c->precision));
        status = text == NULL ? run_no_memory(run) : STATUS_OK;
    }
    if (status == STATUS_OK) {
        put_padded(b, c, text);
    }
    return status;
}

// Sign, zeros and spaces around a number's digits.
static void put_padded_number(struct text_builder *b, const struct conversion *c, bool negative,
                              const char *digits, bool content) {
    const char *sign = negative ? "-" : (c->plus ? "+" : (c->space ? " " : ""));
    size_t length = strlen(sign) + strlen(digits);
    size_t padding = (size_t)c->width > length ? (size_t)c->width - length : 0;
    bool zeros = c->zero && !c->left;
    for (size_t i = 0; i < padding && !c->left && !zeros; i++) {
        builder_put(b, " ", 1, false);
    }
    builder_put(b, sign, strlen(sign), content);
    for (size_t i = 0; i < padding && zeros; i++) {
        builder_put(b, "0", 1, content);
    }
    builder_put(b, digits, strlen(digits), content);
    for (size_t i = 0; i < padding && c->left; i++) {
        builder_put(b, " ", 1, false);
    }
}

enum { DIGITS_BYTES = 400 + WIDTH_MAX };

static void real_digits(const struct conversion *c, double real, char digits[DIGITS_BYTES]) {
    int precision = c->precision < 0 ? 6 : c->precision;
    switch (c->kind) {
    case 'e':
        snprintf(digits, DIGITS_BYTES, "%.*e", precision, real);
        break;
    case 'E':
        snprintf(digits, DIGITS_BYTES, "%.*E", precision, real);
        break;
    case 'g':
        snprintf(digits, DIGITS_BYTES, "%.*g", precision, real);
        break;
    case 'G':
        snprintf(digits, DIGITS_BYTES, "%.*G", precision, real);
        break;
    case 'F':
        snprintf(digits, DIGITS_BYTES, "%.*F", precision, real);
        break;
    default:
        snprintf(digits, DIGITS_BYTES, "%.*f", precision, real);
        break;
    }
}

static void integer_digits(char kind, unsigned long long magnitude, char digits[DIGITS_BYTES]) {
    if (kind == 'x') {
        snprintf(digits, DIGITS_BYTES, "%llx", magnitude);
    } else if (kind == 'X') {
        snprintf(digits, DIGITS_BYTES, "%llX", magnitude);
    } else if (kind == 'o') {
        snprintf(digits, DIGITS_BYTES, "%llo", magnitude);
    } else {
        snprintf(digits, DIGITS_BYTES, "%llu", magnitude);
    }
}

static enum status convert_number(struct run *run, struct text_builder *b,
                                  const struct conversion *c, const struct value *value) {
    int64_t integer = 0;
    double real = 0;
    char digits[DIGITS_BYTES];
    enum value_kind kind = value_number(value, &integer, &real);
    if (kind == VALUE_ABSENT) {
        return run_fail_type(run, "a number's format", value);
    }
    bool is_real = strchr("fFeEgG", c->kind) != NULL;
    if (c->alternate || (!is_real && c->precision >= 0)) {
        return run_fail(run, STATUS_UNSUPPORTED, "'#' or the precision of an integer in a format");
    }
    if (is_real) {
        real_digits(c, signbit(real) ? -real : real, digits);
        put_padded_number(b, c, signbit(real) && !isnan(real), digits, value->content);
        return STATUS_OK;
    }
    if (kind == VALUE_FLOAT) {
        if (strchr("diu", c->kind) == NULL) {
            return fail_format(run, "an integer is required");
        }
        if (!(real > -0x1p63 && real < 0x1p63)) {
            return run_fail(run, STATUS_UNSUPPORTED, "an integer of more than 64 bits");
        }
        integer = (int64_t)real;
    }
    unsigned long long magnitude = (unsigned long long)integer;
    integer_digits(c->kind, integer < 0 ? 0 - magnitude : magnitude, digits);
    put_padded_number(b, c, integer < 0, digits, value->content);
    return STATUS_OK;
}

static enum status convert(struct run *run, struct text_builder *b, const struct conversion *c,
                           const struct value *value) {
    if (c->kind == 's' || c->kind == 'r') {
        return convert_text(run, b, c, value);
    }
    if (strchr("diuxXofFeEgG", c->kind) != NULL) {
        return convert_number(run, b, c, value);
    }
    if (c->kind == 'c' || c->kind == 'a') {
        return run_fail(run, STATUS_UNSUPPORTED, "the conversion %%%c", c->kind);
    }
    return fail_format(run, "an unknown conversion in a format");
}

// Arguments of a % format, taken one after the other or by name.
struct percent {
    const struct value *arguments;
    struct list items;
    size_t taken;
};

// The key in brackets at *at, if there is one, and the value that the conversion is for.
static enum status take_named(struct run *run, const struct text *format, size_t *at,
                              const struct percent *percent, const struct value **value) {
    size_t end = *at;
    while (end < format->length && format->bytes[end] != ')') {
        end++;
    }
    if (end == format->length) {
        return fail_format(run, "incomplete key in a format");
    }
    if (percent->arguments->kind != VALUE_DICT) {
        return fail_format(run, "a format with names requires a mapping");
    }
    const struct text key = {.bytes = format->bytes + *at + 1, .length = end - *at - 1};
    *value = dict_find_text(percent->arguments->dict, &key);
    *at = end + 1;
    return *value == NULL ? fail_format(run, "a name of the format has no value") : STATUS_OK;
}

static enum status put_conversion(struct run *run, const struct text *format, size_t *at,
                                  struct percent *percent, struct text_builder *b) {
    struct conversion c;
    const struct value *value = NULL;
    enum status status = STATUS_OK;
    if (*at < format->length && format->bytes[*at] == '(') {
        status = take_named(run, format, at, percent, &value);
    }
    if (status == STATUS_OK) {
        status = read_conversion(run, format, at, &c);
    }
    if (status != STATUS_OK) {
        return status;
    }
    if (c.kind == '%') {
        builder_put(b, "%", 1, false);
        return STATUS_OK;
    }
    if (c.kind == '*') {
        return run_fail(run, STATUS_UNSUPPORTED, "a width that is an argument");
    }
    if (value == NULL) {
        if (percent->taken == percent->items.count) {
            return fail_format(run, "not enough arguments for format string");
        }
        value = &percent->items.items[percent->taken++];
    }
    return convert(run, b, &c, value);
}

enum status format_percent(struct run *run, const struct text *format,
                           const struct value *arguments, struct value *out) {
    struct text_builder b = {.arena = &run->arena};
    struct value single = *arguments;
    struct percent percent = {.arguments = arguments, .items = {.items = &single, .count = 1}};
    enum status status = run_charge_bytes(run, format->length);
    if (format->markup) {
        return run_fail(run, STATUS_UNSUPPORTED, "formatting escaped text");
    }
    if (arguments->kind == VALUE_TUPLE) {
        percent.items = *arguments->list;
    }
    size_t plain = 0;
    for (size_t at = 0; status == STATUS_OK && at < format->length;) {
        if (format->bytes[at] != '%') {
            at++;
            continue;
        }
        builder_put_slice(&b, format, plain, at - plain);
        at++;
        status = put_conversion(run, format, &at, &percent, &b);
        plain = at;
    }
    if (status != STATUS_OK) {
        return status;
    }
    builder_put_slice(&b, format, plain, format->length - plain);
    bool may_be_left = arguments->kind == VALUE_DICT || arguments->kind == VALUE_LIST ||
                       arguments->kind == VALUE_NAMESPACE;
    if (percent.taken < percent.items.count && !may_be_left) {
        return fail_format(run, "not all arguments converted during string formatting");
    }
    return run_give_text(run, builder_finish(&b), out);
}

// The argument that `name` (the text between braces) stands for.
static enum status find_argument(struct run *run, const struct text *name, const struct call *call,
                                 size_t *next, const struct value **value) {
    *value = NULL;
    size_t index = 0;
    bool is_index = true;
    for (size_t i = 0; i < name->length; i++) {
        char c = name->bytes[i];
        is_index = is_index && c >= '0' && c <= '9' && i < 6;
        index = is_index ? 10 * index + (size_t)(c - '0') : 0;
        if (strchr("!:.[{", c) != NULL && c != '\0') {
            return run_fail(run, STATUS_UNSUPPORTED,
                            "conversions, specifications and members in a format");
        }
    }
    if (name->length == 0) {
        if (*next == SIZE_MAX) {
            return fail_format(run, "a format mixes numbered and automatic fields");
        }
        index = (*next)++;
    } else if (is_index) {
        if (*next != 0 && *next != SIZE_MAX) {
            return fail_format(run, "a format mixes numbered and automatic fields");
        }
        *next = SIZE_MAX;
    }
    if (name->length == 0 || is_index) {
        *value = index < call->n_positional ? &call->positional[index] : NULL;
    }
    for (size_t i = 0; !is_index && i < call->n_named; i++) {
        if (text_equal(call->named[i].name, name)) {
            *value = &call->named[i].value;
        }
    }
    return *value == NULL ? fail_format(run, "a field of the format has no argument") : STATUS_OK;
}

static enum status put_field(struct run *run, const struct text *format, size_t *at,
                             const struct call *call, size_t *next, struct text_builder *b) {
    size_t end = *at;
    while (end < format->length && format->bytes[end] != '}') {
        end++;
    }
    if (end == format->length) {
        return fail_format(run, "expected '}' before end of string");
    }
    const struct text name = {.bytes = format->bytes + *at, .length = end - *at};
    const struct value *value = NULL;
    const struct text *text = NULL;
    enum status status = find_argument(run, &name, call, next, &value);
    if (status == STATUS_OK) {
        status = value_to_text(run, value, &text);
    }
    if (status == STATUS_OK) {
        builder_put_text(b, text);
    }
    *at = end + 1;
    return status;
}

enum status format_braces(struct run *run, const struct text *format, const struct call *call,
                          struct value *out) {
    struct text_builder b = {.arena = &run->arena};
    size_t next = 0;
    enum status status = run_charge_bytes(run, format->length);
    if (format->markup) {
        return run_fail(run, STATUS_UNSUPPORTED, "formatting escaped text");
    }
    for (size_t at = 0; status == STATUS_OK && at < format->length;) {
        char c = format->bytes[at];
        bool is_double = at + 1 < format->length && format->bytes[at + 1] == c;
        if ((c == '{' || c == '}') && is_double) {
            builder_put_slice(&b, format, at, 1);
            at += 2;
        } else if (c == '{') {
            at++;
            status = put_field(run, format, &at, call, &next, &b);
        } else if (c == '}') {
            status = fail_format(run, "single '}' encountered in format string");
        } else {
            builder_put_slice(&b, format, at, 1);
            at++;
        }
    }
    return status == STATUS_OK ? run_give_text(run, builder_finish(&b), out) : status;
}
