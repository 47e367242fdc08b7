#include "worker/tokenizer/jinja/convert.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/tokenizer/jinja/ast.h"
#include "worker/tokenizer/jinja/characters.h"
#include "worker/tokenizer/jinja/loop.h"
#include "worker/tokenizer/utf8.h"

// Digits without a decimal point and the exponent of the first, of a finite number above 0.
static int shortest_digits(double real, char digits[NUMBER_TEXT_BYTES]) {
    char text[NUMBER_TEXT_BYTES];
    for (int precision = 0; precision < 17; precision++) {
        snprintf(text, sizeof text, "%.*e", precision, real);
        if (strtod(text, NULL) == real) {
            break;
        }
    }
    size_t n = 0;
    char *at = text;
    for (; *at != 'e'; at++) {
        if (*at != '.') {
            digits[n++] = *at;
        }
    }
    while (n > 1 && digits[n - 1] == '0') {
        n--;
    }
    digits[n] = '\0';
    return (int)strtol(at + 1, NULL, 10);
}

void real_to_text(double real, char text[NUMBER_TEXT_BYTES]) {
    char digits[NUMBER_TEXT_BYTES];
    const char *sign = signbit(real) && !isnan(real) ? "-" : "";
    if (isnan(real) || isinf(real)) {
        snprintf(text, NUMBER_TEXT_BYTES, "%s%s", sign, isnan(real) ? "nan" : "inf");
        return;
    }
    if (real == 0) {
        snprintf(text, NUMBER_TEXT_BYTES, "%s0.0", sign);
        return;
    }
    int exponent = shortest_digits(fabs(real), digits);
    int n = (int)strlen(digits);
    if (exponent < -4 || exponent >= 16) {
        snprintf(text, NUMBER_TEXT_BYTES, "%s%c%s%.20se%c%02d", sign, digits[0], n > 1 ? "." : "",
                 digits + 1, exponent < 0 ? '-' : '+', abs(exponent));
    } else if (exponent < 0) {
        snprintf(text, NUMBER_TEXT_BYTES, "%s0.%.*s%.20s", sign, -exponent - 1, "0000", digits);
    } else if (n <= exponent + 1) {
        snprintf(text, NUMBER_TEXT_BYTES, "%s%.20s%.*s.0", sign, digits, exponent + 1 - n,
                 "0000000000000000");
    } else {
        snprintf(text, NUMBER_TEXT_BYTES, "%s%.*s.%.20s", sign, exponent + 1, digits,
                 digits + exponent + 1);
    }
}

static void put_escape(struct text_builder *b, uint32_t code, bool content) {
    char text[16];
    int n = snprintf(text, sizeof text,
                     code < 0x100 ? "\\x%02x" : (code < 0x10000 ? "\\u%04x" : "\\U%08x"),
                     (unsigned)code);
    builder_put(b, text, (size_t)n, content);
}

static void put_string_repr(struct text_builder *b, const struct text *text) {
    bool has_single = text->length > 0 && memchr(text->bytes, '\'', text->length) != NULL;
    bool has_double = text->length > 0 && memchr(text->bytes, '"', text->length) != NULL;
    const char *quote = has_single && !has_double ? "\"" : "'";
    bool content = text_has_content(text);
    builder_put(b, quote, 1, content);
    for (size_t at = 0; at < text->length;) {
        struct utf8_step step = utf8_next(text->bytes + at, text->length - at);
        bool of_content = text_is_content(text, at);
        static const char short_escapes[][2] = {
            {'\n', 'n'}, {'\r', 'r'}, {'\t', 't'}, {'\\', '\\'}, {'\'', '\''}};
        size_t i = 0;
        while (i < 5 && (uint32_t)short_escapes[i][0] != step.code) {
            i++;
        }
        if (i < 4 || (i == 4 && quote[0] == '\'')) {
            const char escaped[] = {'\\', short_escapes[i][1]};
            builder_put(b, escaped, 2, of_content);
        } else if (!character_is_printable(step.code)) {
            put_escape(b, step.code, of_content);
        } else {
            builder_put_slice(b, text, at, step.bytes);
        }
        at += step.bytes;
    }
    builder_put(b, quote, 1, content);
}

static enum status put_items_repr(struct run *run, struct text_builder *b,
                                  const struct list *list) {
    enum status status = STATUS_OK;
    for (size_t i = 0; status == STATUS_OK && i < list->count; i++) {
        builder_put_string(b, i > 0 ? ", " : "");
        status = value_put_repr(run, b, &list->items[i]);
    }
    return status;
}

static enum status put_dict_repr(struct run *run, struct text_builder *b, const struct dict *dict) {
    enum status status = STATUS_OK;
    builder_put_string(b, "{");
    for (size_t i = 0; status == STATUS_OK && i < dict->count; i++) {
        builder_put_string(b, i > 0 ? ", " : "");
        status = value_put_repr(run, b, &dict->entries[i].key);
        builder_put_string(b, ": ");
        if (status == STATUS_OK) {
            status = value_put_repr(run, b, &dict->entries[i].value);
        }
    }
    builder_put_string(b, "}");
    return status;
}

static enum status put_view_repr(struct run *run, struct text_builder *b,
                                 const struct value *value) {
    static const char *const names[] = {"dict_keys([", "dict_values([", "dict_items(["};
    struct list items;
    enum status status = value_items(run, value, &items);
    builder_put_string(b, names[value->view->kind]);
    if (status == STATUS_OK) {
        status = put_items_repr(run, b, &items);
    }
    builder_put_string(b, "])");
    return status;
}

static void put_range_repr(struct text_builder *b, const struct range *range, int64_t stop) {
    char text[96];
    int n = snprintf(text, sizeof text, "range(%" PRId64 ", %" PRId64, range->start, stop);
    if (range->step != 1) {
        n += snprintf(text + n, sizeof text - (size_t)n, ", %" PRId64, range->step);
    }
    builder_put(b, text, (size_t)n, false);
    builder_put_string(b, ")");
}

static void put_number(struct text_builder *b, const struct value *value) {
    char text[NUMBER_TEXT_BYTES];
    if (value->kind == VALUE_INT) {
        snprintf(text, sizeof text, "%" PRId64, value->integer);
    } else if (value->kind == VALUE_FLOAT) {
        real_to_text(value->real, text);
    } else {
        snprintf(text, sizeof text, "%s", value->boolean ? "True" : "False");
    }
    builder_put(b, text, strlen(text), value->content);
}

static enum status put_repr(struct run *run, struct text_builder *b, const struct value *value) {
    enum status status = STATUS_OK;
    switch (value->kind) {
    case VALUE_UNDEFINED:
        builder_put_string(b, "Undefined");
        break;
    case VALUE_NONE:
        builder_put_string(b, "None");
        break;
    case VALUE_BOOL:
    case VALUE_INT:
    case VALUE_FLOAT:
        put_number(b, value);
        break;
    case VALUE_STRING:
        if (value->text->markup) {
            return run_fail(run, STATUS_UNSUPPORTED, "the representation of escaped text");
        }
        put_string_repr(b, value->text);
        return run_charge_bytes(run, value->text->length);
    case VALUE_LIST:
    case VALUE_TUPLE:
        builder_put_string(b, value->kind == VALUE_LIST ? "[" : "(");
        status = put_items_repr(run, b, value->list);
        builder_put_string(b, value->kind == VALUE_LIST ? "]"
                                                        : (value->list->count == 1 ? ",)" : ")"));
        break;
    case VALUE_DICT:
        return put_dict_repr(run, b, value->dict);
    case VALUE_NAMESPACE:
        builder_put_string(b, "<Namespace ");
        status = put_dict_repr(run, b, value->dict);
        builder_put_string(b, ">");
        break;
    case VALUE_VIEW:
        return put_view_repr(run, b, value);
    case VALUE_RANGE:
        put_range_repr(b, value->range, value->range->stop);
        break;
    case VALUE_MACRO:
        if (value->macro->node->kind == NODE_MACRO) {
            builder_put_string(b, "<Macro '");
            builder_put_text(b, value->macro->node->name);
            builder_put_string(b, "'>");
        } else {
            builder_put_string(b, "<Macro anonymous>");
        }
        break;
    default:
        return run_fail(run, STATUS_UNSUPPORTED, "a value of type %s has no text",
                        value_type(value));
    }
    return status;
}

enum status value_put_repr(struct run *run, struct text_builder *b, const struct value *value) {
    enum status status = run_enter(run);
    if (status == STATUS_OK) {
        status = put_repr(run, b, value);
    }
    run_leave(run);
    return status;
}

enum status value_to_text(struct run *run, const struct value *value, const struct text **text) {
    if (value->kind == VALUE_STRING) {
        *text = value->text;
        return STATUS_OK;
    }
    struct text_builder b = {.arena = &run->arena};
    enum status status = STATUS_OK;
    if (value->kind != VALUE_UNDEFINED) {
        status = value_put_repr(run, &b, value);
    }
    if (status != STATUS_OK) {
        return status;
    }
    *text = builder_finish(&b);
    return *text == NULL ? run_no_memory(run) : STATUS_OK;
}

struct text *text_escape(struct arena *arena, const struct text *text) {
    static const struct {
        char character;
        const char *entity;
    } entities[] = {{'&', "&amp;"}, {'<', "&lt;"}, {'>', "&gt;"}, {'"', "&#34;"}, {'\'', "&#39;"}};
    struct text_builder b = {.arena = arena};
    if (text->markup) {
        return text_slice(arena, text, 0, text->length);
    }
    for (size_t at = 0; at < text->length; at++) {
        size_t i = 0;
        while (i < 5 && entities[i].character != text->bytes[at]) {
            i++;
        }
        if (i < 5) {
            builder_put(&b, entities[i].entity, strlen(entities[i].entity),
                        text_is_content(text, at));
        } else {
            builder_put_slice(&b, text, at, 1);
        }
    }
    struct text *result = builder_finish(&b);
    if (result != NULL) {
        result->markup = true;
    }
    return result;
}
