// Filters of texts and numbers.
#include <math.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "worker/tokenizer/jinja/characters.h"
#include "worker/tokenizer/jinja/eval.h"
#include "worker/tokenizer/jinja/filters.h"
#include "worker/tokenizer/utf8.h"

#define UNUSED(name) (void)name

static enum status refuse_markup(struct run *run, const struct text *text) {
    if (text->markup) {
        return run_fail(run, STATUS_UNSUPPORTED, "this filter on escaped text");
    }
    return STATUS_OK;
}

// soft_str: markup stays markup.
FILTER(filter_string) {
    UNUSED(argv);
    UNUSED(call);
    const struct text *text = NULL;
    enum status status = value_to_text(run, self, &text);
    return status == STATUS_OK ? run_give_text(run, text, out) : status;
}

static enum status change_case(struct run *run, const struct value *self, enum letter_case to,
                               struct value *out) {
    const struct text *text = NULL;
    enum status status = value_to_text(run, self, &text);
    if (status == STATUS_OK) {
        status = run_charge_bytes(run, text->length);
    }
    return status == STATUS_OK ? run_give_text(run, text_to_case(&run->arena, text, to), out)
                               : status;
}

FILTER(filter_upper) {
    UNUSED(argv);
    UNUSED(call);
    return change_case(run, self, CASE_UPPER, out);
}

FILTER(filter_lower) {
    UNUSED(argv);
    UNUSED(call);
    return change_case(run, self, CASE_LOWER, out);
}

FILTER(filter_capitalize) {
    UNUSED(argv);
    UNUSED(call);
    const struct text *text = NULL;
    enum status status = value_to_text(run, self, &text);
    return status == STATUS_OK ? run_give_text(run, text_capitalize(&run->arena, text), out)
                               : status;
}

// Where jinja2's title begins a word: after white space and some opening characters.
static bool begins_word(uint32_t code) {
    return character_is_space(code) ||
           (code < 0x80 && code != 0 && strchr("-({[<", (int)code) != NULL);
}

FILTER(filter_title) {
    UNUSED(argv);
    UNUSED(call);
    const struct text *text = NULL;
    struct text_builder b = {.arena = &run->arena};
    enum status status = value_to_text(run, self, &text);
    if (status == STATUS_OK) {
        status = refuse_markup(run, text);
    }
    // Words are changed each by itself: what a final sigma is depends on it.
    for (size_t at = 0; status == STATUS_OK && at < text->length && !b.failed;) {
        size_t end = at;
        struct utf8_step step = utf8_next(text->bytes + at, text->length - at);
        if (begins_word(step.code)) {
            builder_put_slice(&b, text, at, step.bytes);
            at += step.bytes;
            continue;
        }
        size_t first = step.bytes;
        while (end < text->length) {
            step = utf8_next(text->bytes + end, text->length - end);
            if (begins_word(step.code)) {
                break;
            }
            end += step.bytes;
        }
        const struct text *head = text_slice(&run->arena, text, at, first);
        const struct text *tail = text_slice(&run->arena, text, at + first, end - at - first);
        if (head == NULL || tail == NULL) {
            return run_no_memory(run);
        }
        builder_put_text(&b, text_to_case(&run->arena, head, CASE_UPPER));
        builder_put_text(&b, text_to_case(&run->arena, tail, CASE_LOWER));
        at = end;
    }
    return status == STATUS_OK ? run_give_text(run, builder_finish(&b), out) : status;
}

FILTER(filter_trim) {
    UNUSED(call);
    const struct text *text = NULL;
    const struct text *characters = NULL;
    if (argv[0].kind == VALUE_STRING) {
        characters = argv[0].text;
    } else if (argv[0].kind != VALUE_ABSENT && argv[0].kind != VALUE_NONE) {
        return run_fail_type(run, "trim", &argv[0]);
    }
    enum status status = value_to_text(run, self, &text);
    return status == STATUS_OK ? string_strip(run, text, characters, STRIP_LEFT | STRIP_RIGHT, out)
                               : status;
}

FILTER(filter_replace) {
    UNUSED(call);
    const struct text *texts[3];
    const struct value *values[] = {self, &argv[0], &argv[1]};
    enum status status = STATUS_OK;
    for (int i = 0; status == STATUS_OK && i < 3; i++) {
        status = value_to_text(run, values[i], &texts[i]);
    }
    if (status != STATUS_OK) {
        return status;
    }
    int64_t count = -1;
    if (argv[2].kind == VALUE_INT) {
        count = argv[2].integer;
    } else if (argv[2].kind != VALUE_ABSENT && argv[2].kind != VALUE_NONE) {
        return run_fail_type(run, "replace", &argv[2]);
    }
    return string_replace(run, texts[0], texts[1], texts[2], count, out);
}

FILTER(filter_escape) {
    UNUSED(argv);
    UNUSED(call);
    const struct text *text = NULL;
    enum status status = value_to_text(run, self, &text);
    return status == STATUS_OK ? run_give_text(run, text_escape(&run->arena, text), out) : status;
}

FILTER(filter_safe) {
    UNUSED(argv);
    UNUSED(call);
    const struct text *text = NULL;
    enum status status = value_to_text(run, self, &text);
    if (status != STATUS_OK) {
        return status;
    }
    struct text *markup = text_slice(&run->arena, text, 0, text->length);
    if (markup != NULL) {
        markup->markup = true;
    }
    return run_give_text(run, markup, out);
}

FILTER(filter_default) {
    UNUSED(call);
    bool replaces = self->kind == VALUE_UNDEFINED ||
                    (argv[1].kind != VALUE_ABSENT && value_truth(&argv[1]) && !value_truth(self));
    if (!replaces) {
        *out = *self;
        return STATUS_OK;
    }
    if (argv[0].kind != VALUE_ABSENT) {
        *out = argv[0];
        return STATUS_OK;
    }
    return run_give_text(run, text_constant(&run->arena, ""), out);
}

FILTER(filter_format) {
    UNUSED(argv);
    const struct text *text = NULL;
    struct value arguments;
    if (call->n_named > 0) {
        return run_fail(run, STATUS_UNSUPPORTED, "'format' with named arguments");
    }
    enum status status = value_to_text(run, self, &text);
    if (status == STATUS_OK) {
        status = list_make(run, VALUE_TUPLE, call->positional, call->n_positional, &arguments);
    }
    return status == STATUS_OK ? format_percent(run, text, &arguments, out) : status;
}

// What each line is indented by: so many spaces, or a text.
static enum status indention_of(struct run *run, const struct value *width,
                                const struct text **indention) {
    struct text_builder b = {.arena = &run->arena};
    int64_t count = width->kind == VALUE_ABSENT ? 4 : 0;
    if (width->kind == VALUE_STRING) {
        *indention = width->text;
        return STATUS_OK;
    }
    if (width->kind == VALUE_INT || width->kind == VALUE_BOOL) {
        count = width->kind == VALUE_INT ? width->integer : width->boolean;
    } else if (width->kind != VALUE_ABSENT) {
        return run_fail_type(run, "indent", width);
    }
    enum status status = run_charge(run, count > 0 ? (size_t)count : 0);
    for (int64_t i = 0; status == STATUS_OK && i < count; i++) {
        builder_put(&b, " ", 1, false);
    }
    if (status == STATUS_OK) {
        *indention = builder_finish(&b);
        status = *indention == NULL ? run_no_memory(run) : STATUS_OK;
    }
    return status;
}

FILTER(filter_indent) {
    UNUSED(call);
    const struct text *indention = NULL;
    struct text_builder b = {.arena = &run->arena};
    struct value lines;
    bool first = argv[1].kind != VALUE_ABSENT && value_truth(&argv[1]);
    bool blank = argv[2].kind != VALUE_ABSENT && value_truth(&argv[2]);
    if (self->kind != VALUE_STRING) {
        return run_fail_type(run, "indent", self);
    }
    enum status status = refuse_markup(run, self->text);
    if (status == STATUS_OK) {
        status = indention_of(run, &argv[0], &indention);
    }
    builder_put_text(&b, self->text);
    builder_put_string(&b, "\n");
    const struct text *text = builder_finish(&b);
    if (status == STATUS_OK && text == NULL) {
        status = run_no_memory(run);
    }
    if (status == STATUS_OK) {
        status = string_split_lines(run, text, false, &lines);
    }
    if (status != STATUS_OK) {
        return status;
    }
    b = (struct text_builder){.arena = &run->arena};
    for (size_t i = 0; i < lines.list->count; i++) {
        const struct text *line = lines.list->items[i].text;
        builder_put_string(&b, i > 0 ? "\n" : "");
        if (i == 0 ? first : (blank || line->length > 0)) {
            builder_put_text(&b, indention);
        }
        builder_put_text(&b, line);
    }
    return run_give_text(run, builder_finish(&b), out);
}

// Length in words as \w+ counts them.
FILTER(filter_wordcount) {
    UNUSED(argv);
    UNUSED(call);
    const struct text *text = NULL;
    int64_t count = 0;
    bool inside = false;
    enum status status = value_to_text(run, self, &text);
    for (size_t at = 0; status == STATUS_OK && at < text->length;) {
        struct utf8_step step = utf8_next(text->bytes + at, text->length - at);
        bool is_word = utf8_is_word(step.code);
        count += is_word && !inside;
        inside = is_word;
        at += step.bytes;
    }
    *out = value_int(count);
    return status;
}

// An integer parameter, or `otherwise` when none was given.
static enum status integer_of(struct run *run, const struct value *value, int64_t otherwise,
                              int64_t *out) {
    *out = otherwise;
    if (value->kind == VALUE_INT) {
        *out = value->integer;
    } else if (value->kind != VALUE_ABSENT && value->kind != VALUE_NONE) {
        return run_fail_type(run, "a parameter that is an integer", value);
    }
    return STATUS_OK;
}

FILTER(filter_center) {
    UNUSED(call);
    const struct text *text = NULL;
    struct text_builder b = {.arena = &run->arena};
    int64_t width = 0;
    enum status status = value_to_text(run, self, &text);
    if (status == STATUS_OK) {
        status = integer_of(run, &argv[0], 80, &width);
    }
    if (status != STATUS_OK) {
        return status;
    }
    int64_t length = (int64_t)text_count(text);
    int64_t padding = width > length ? width - length : 0;
    int64_t left = padding / 2 + (padding & width & 1); // as CPython divides an odd padding
    status = run_charge(run, (size_t)padding);
    for (int64_t i = 0; status == STATUS_OK && i < padding; i++) {
        if (i == left) {
            builder_put_text(&b, text);
        }
        builder_put(&b, " ", 1, false);
    }
    if (left == padding) {
        builder_put_text(&b, text);
    }
    return status == STATUS_OK ? run_give_text(run, builder_finish(&b), out) : status;
}

// The text's first characters without the last word that they cut, then the end.
static enum status truncated(struct run *run, const struct text *text, size_t count,
                             bool kill_words, const struct text *end, struct value *out) {
    struct text_builder b = {.arena = &run->arena};
    static const struct text space = {.bytes = " ", .length = 1};
    size_t cut = text_offset(text, count);
    ptrdiff_t at = kill_words ? -1 : text_find_last(text, &space, cut);
    builder_put_slice(&b, text, 0, at < 0 ? cut : (size_t)at);
    builder_put_text(&b, end);
    return run_give_text(run, builder_finish(&b), out);
}

FILTER(filter_truncate) {
    UNUSED(call);
    int64_t length = 0;
    int64_t leeway = 0;
    static const struct text dots = {.bytes = "...", .length = 3};
    const struct text *end = argv[2].kind == VALUE_STRING ? argv[2].text : &dots;
    if (self->kind == VALUE_UNDEFINED) { // has no length, and so is short enough
        *out = *self;
        return STATUS_OK;
    }
    if (self->kind != VALUE_STRING ||
        (argv[2].kind != VALUE_STRING && argv[2].kind != VALUE_ABSENT)) {
        return run_fail_type(run, "truncate", self->kind != VALUE_STRING ? self : &argv[2]);
    }
    enum status status = integer_of(run, &argv[0], 255, &length);
    if (status == STATUS_OK) {
        status = integer_of(run, &argv[3], 5, &leeway);
    }
    if (status == STATUS_OK && (leeway < 0 || length < (int64_t)text_count(end))) {
        status = run_fail(run, STATUS_INVALID_ARGUMENT, "truncate: wrong length or leeway");
    }
    if (status != STATUS_OK) {
        return status;
    }
    int64_t count = (int64_t)text_count(self->text);
    if (count <= length || count - length <= leeway) {
        *out = *self;
        return STATUS_OK;
    }
    bool kill_words = argv[1].kind != VALUE_ABSENT && value_truth(&argv[1]);
    return truncated(run, self->text, (size_t)length - text_count(end), kill_words, end, out);
}

FILTER(filter_abs) {
    UNUSED(argv);
    UNUSED(call);
    int64_t integer = 0;
    double real = 0;
    enum value_kind kind = value_number(self, &integer, &real);
    if (kind == VALUE_ABSENT) {
        return run_fail_type(run, "abs", self);
    }
    if (kind == VALUE_FLOAT) {
        *out = value_float(fabs(real));
    } else if (integer == INT64_MIN) {
        return run_fail(run, STATUS_UNSUPPORTED, "an integer of more than 64 bits");
    } else {
        *out = value_int(integer < 0 ? -integer : integer);
    }
    out->content = self->content;
    return STATUS_OK;
}

enum { NUMBER_BYTES_MAX = 400 };

// The text without white space around it and without single underscores between digits, as int()
// and float() read it; false when it cannot be a number.
static bool clean_number(const struct text *text, char number[NUMBER_BYTES_MAX]) {
    size_t start = 0;
    size_t end = text->length;
    while (start < end && character_is_space((uint8_t)text->bytes[start])) {
        start++;
    }
    while (end > start && character_is_space((uint8_t)text->bytes[end - 1])) {
        end--;
    }
    size_t n = 0;
    for (size_t i = start; i < end; i++) {
        char c = text->bytes[i];
        if ((uint8_t)c >= 0x80 || c == '\0' || n == NUMBER_BYTES_MAX - 1) {
            return false;
        }
        if (c == '_') {
            bool between = i > start && i + 1 < end && text->bytes[i - 1] >= '0' &&
                           text->bytes[i - 1] <= '9' && text->bytes[i + 1] >= '0' &&
                           text->bytes[i + 1] <= '9';
            if (!between) {
                return false;
            }
            continue;
        }
        number[n++] = c;
    }
    number[n] = '\0';
    return n > 0;
}

static bool text_to_real(const struct text *text, double *real) {
    char number[NUMBER_BYTES_MAX];
    char *end;
    if (!clean_number(text, number)) {
        return false;
    }
    const char *digits = number + (number[0] == '+' || number[0] == '-');
    bool is_word = strcasecmp(digits, "inf") == 0 || strcasecmp(digits, "infinity") == 0 ||
                   strcasecmp(digits, "nan") == 0;
    if (!is_word && strspn(digits, "0123456789.eE+-") != strlen(digits)) {
        return false; // strtod reads more than float() does
    }
    *real = strtod(number, &end);
    return *end == '\0' && end != number;
}

// *over: a number, but of more than 64 bits.
static bool text_to_integer(const struct text *text, int64_t *integer, bool *over) {
    char number[NUMBER_BYTES_MAX];
    *over = false;
    if (!clean_number(text, number)) {
        return false;
    }
    const char *digits = number + (number[0] == '+' || number[0] == '-');
    if (*digits == '\0' || strspn(digits, "0123456789") != strlen(digits)) {
        return false;
    }
    errno = 0;
    *integer = strtoll(number, NULL, 10);
    *over = errno == ERANGE;
    return true;
}

FILTER(filter_int) {
    UNUSED(call);
    int64_t integer = 0;
    double real = 0;
    bool over = false;
    bool content = self->content;
    if (self->kind == VALUE_UNDEFINED) {
        return run_fail_undefined(run, self);
    }
    if (argv[1].kind != VALUE_ABSENT && !(argv[1].kind == VALUE_INT && argv[1].integer == 10)) {
        return run_fail(run, STATUS_UNSUPPORTED, "'int' in a base other than ten");
    }
    enum value_kind kind = value_number(self, &integer, &real);
    if (self->kind == VALUE_STRING) {
        content = text_has_content(self->text);
        kind = text_to_integer(self->text, &integer, &over) ? VALUE_INT : VALUE_ABSENT;
        if (kind == VALUE_ABSENT && text_to_real(self->text, &real)) {
            kind = VALUE_FLOAT;
        }
    }
    if (kind == VALUE_FLOAT && isinf(real) && self->kind == VALUE_FLOAT) {
        kind = VALUE_ABSENT; // int() overflows, and so does float()
        return run_fail(run, STATUS_INVALID_ARGUMENT, "cannot convert infinity to an integer");
    }
    if (kind == VALUE_FLOAT && isfinite(real)) {
        over = !(real > -0x1p63 && real < 0x1p63);
        integer = over ? 0 : (int64_t)real;
    } else if (kind == VALUE_FLOAT) {
        kind = VALUE_ABSENT;
    }
    if (over) {
        return run_fail(run, STATUS_UNSUPPORTED, "an integer of more than 64 bits");
    }
    *out = value_int(integer);
    out->content = content;
    if (kind == VALUE_ABSENT) {
        *out = argv[0].kind == VALUE_ABSENT ? value_int(0) : argv[0];
    }
    return STATUS_OK;
}

FILTER(filter_float) {
    UNUSED(call);
    int64_t integer = 0;
    double real = 0;
    bool content = self->content;
    if (self->kind == VALUE_UNDEFINED) {
        return run_fail_undefined(run, self);
    }
    enum value_kind kind = value_number(self, &integer, &real);
    if (self->kind == VALUE_STRING) {
        content = text_has_content(self->text);
        kind = text_to_real(self->text, &real) ? VALUE_FLOAT : VALUE_ABSENT;
    }
    if (kind == VALUE_ABSENT) {
        *out = argv[0].kind == VALUE_ABSENT ? value_float(0) : argv[0];
        return STATUS_OK;
    }
    *out = value_float(real);
    out->content = content;
    return STATUS_OK;
}

// round() of Python for a number of digits: the nearest decimal, ties of the exact binary value to
// even, which is what printf does.
static double round_digits(double real, int64_t digits) {
    char text[NUMBER_BYTES_MAX];
    if (!isfinite(real) || digits > 300) {
        return real;
    }
    snprintf(text, sizeof text, "%.*f", (int)(digits > 60 ? 60 : digits), real);
    return strtod(text, NULL);
}

FILTER(filter_round) {
    UNUSED(call);
    int64_t integer = 0;
    double real = 0;
    int64_t digits = 0;
    enum value_kind kind = value_number(self, &integer, &real);
    if (kind == VALUE_ABSENT) {
        return run_fail_type(run, "round", self);
    }
    enum status status = integer_of(run, &argv[0], 0, &digits);
    if (status != STATUS_OK) {
        return status;
    }
    bool is_common = argv[1].kind == VALUE_ABSENT ||
                     (argv[1].kind == VALUE_STRING && text_is(argv[1].text, "common"));
    if (is_common && kind == VALUE_INT && digits >= 0) {
        *out = value_int(integer);
    } else if (is_common && kind == VALUE_FLOAT && digits >= 0) {
        *out = value_float(round_digits(real, digits));
    } else if (!is_common && argv[1].kind == VALUE_STRING && digits >= -300 && digits <= 300) {
        bool up = text_is(argv[1].text, "ceil");
        if (!up && !text_is(argv[1].text, "floor")) {
            return run_fail(run, STATUS_INVALID_ARGUMENT, "method must be common, ceil or floor");
        }
        double scale = pow(10, (double)digits);
        *out = value_float((up ? ceil(real * scale) : floor(real * scale)) / scale);
    } else {
        return run_fail(run, STATUS_UNSUPPORTED, "'round' with these arguments");
    }
    out->content = self->content;
    return STATUS_OK;
}

// A separator of tojson's pair; the defaults depend on whether lines are indented.
static enum status json_separators(struct run *run, const struct value *separators,
                                   struct json_style *style) {
    style->item_separator = text_constant(&run->arena, style->indent == NULL ? ", " : ",");
    style->key_separator = text_constant(&run->arena, ": ");
    if (style->item_separator == NULL || style->key_separator == NULL) {
        return run_no_memory(run);
    }
    if (separators->kind == VALUE_ABSENT || separators->kind == VALUE_NONE) {
        return STATUS_OK;
    }
    struct list pair;
    enum status status = value_items(run, separators, &pair);
    if (status == STATUS_OK && (pair.count != 2 || pair.items[0].kind != VALUE_STRING ||
                                pair.items[1].kind != VALUE_STRING)) {
        status = run_fail(run, STATUS_INVALID_ARGUMENT, "tojson: separators are two strings");
    }
    if (status == STATUS_OK) {
        style->item_separator = pair.items[0].text;
        style->key_separator = pair.items[1].text;
    }
    return status;
}

FILTER(filter_tojson) {
    UNUSED(call);
    struct json_style style = {.ensure_ascii =
                                   argv[0].kind != VALUE_ABSENT && value_truth(&argv[0]),
                               .sort_keys = argv[3].kind != VALUE_ABSENT && value_truth(&argv[3])};
    enum status status = STATUS_OK;
    if (argv[1].kind != VALUE_ABSENT && argv[1].kind != VALUE_NONE) {
        status = indention_of(run, &argv[1], &style.indent);
    }
    if (status == STATUS_OK) {
        status = json_separators(run, &argv[2], &style);
    }
    return status == STATUS_OK ? value_to_json(run, self, &style, out) : status;
}
