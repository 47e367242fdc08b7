// json.dumps as chat templates call it through `tojson`.
#include "worker/tokenizer/jinja/convert.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/tokenizer/jinja/sort.h"
#include "worker/tokenizer/utf8.h"

struct writer {
    struct run *run;
    struct text_builder b;
    const struct json_style *style;
    size_t depth;
};

static void put_unicode_escape(struct text_builder *b, uint32_t code, bool content) {
    char text[16];
    int n;
    if (code >= 0x10000) {
        code -= 0x10000;
        n = snprintf(text, sizeof text, "\\u%04x\\u%04x", 0xD800 + (unsigned)(code >> 10),
                     0xDC00 + (unsigned)(code & 0x3FF));
    } else {
        n = snprintf(text, sizeof text, "\\u%04x", (unsigned)code);
    }
    builder_put(b, text, (size_t)n, content);
}

static void put_string(struct writer *w, const struct text *text) {
    static const char escapes[][2] = {{'"', '"'},  {'\\', '\\'}, {'\n', 'n'}, {'\r', 'r'},
                                      {'\t', 't'}, {'\f', 'f'},  {'\b', 'b'}};
    bool content = text_has_content(text);
    builder_put(&w->b, "\"", 1, content);
    for (size_t at = 0; at < text->length;) {
        struct utf8_step step = utf8_next(text->bytes + at, text->length - at);
        bool of_content = text_is_content(text, at);
        size_t i = 0;
        while (i < sizeof escapes / sizeof *escapes && (uint32_t)escapes[i][0] != step.code) {
            i++;
        }
        if (i < sizeof escapes / sizeof *escapes) {
            const char escaped[] = {'\\', escapes[i][1]};
            builder_put(&w->b, escaped, 2, of_content);
        } else if (step.code < 0x20 || (w->style->ensure_ascii && step.code > 0x7E)) {
            put_unicode_escape(&w->b, step.code, of_content);
        } else {
            builder_put_slice(&w->b, text, at, step.bytes);
        }
        at += step.bytes;
    }
    builder_put(&w->b, "\"", 1, content);
}

static const char *constant_text(const struct value *value) {
    if (value->kind == VALUE_NONE) {
        return "null";
    }
    return value->boolean ? "true" : "false";
}

static enum status put_number(struct writer *w, const struct value *value) {
    char text[NUMBER_TEXT_BYTES];
    if (value->kind == VALUE_INT) {
        snprintf(text, sizeof text, "%lld", (long long)value->integer);
    } else if (isfinite(value->real)) {
        real_to_text(value->real, text);
    } else {
        snprintf(text, sizeof text, "%s",
                 isnan(value->real) ? "NaN" : (value->real > 0 ? "Infinity" : "-Infinity"));
    }
    builder_put(&w->b, text, strlen(text), value->content);
    return STATUS_OK;
}

static void put_line(struct writer *w) {
    if (w->style->indent != NULL) {
        builder_put_string(&w->b, "\n");
        for (size_t i = 0; i < w->depth; i++) {
            builder_put_text(&w->b, w->style->indent);
        }
    }
}

static enum status put_value(struct writer *w, const struct value *value);

static enum status put_list(struct writer *w, const struct list *list) {
    enum status status = STATUS_OK;
    builder_put_string(&w->b, "[");
    w->depth++;
    for (size_t i = 0; status == STATUS_OK && i < list->count; i++) {
        if (i > 0) {
            builder_put_text(&w->b, w->style->item_separator);
        }
        put_line(w);
        status = put_value(w, &list->items[i]);
    }
    w->depth--;
    if (list->count > 0) {
        put_line(w);
    }
    builder_put_string(&w->b, "]");
    return status;
}

// Keys that are no strings become strings.
static enum status put_key(struct writer *w, const struct value *key) {
    switch (key->kind) {
    case VALUE_STRING:
        put_string(w, key->text);
        return STATUS_OK;
    case VALUE_NONE:
    case VALUE_BOOL:
        builder_put_string(&w->b, "\"");
        builder_put(&w->b, constant_text(key), strlen(constant_text(key)), key->content);
        builder_put_string(&w->b, "\"");
        return STATUS_OK;
    case VALUE_INT:
    case VALUE_FLOAT: {
        builder_put_string(&w->b, "\"");
        enum status status = put_number(w, key);
        builder_put_string(&w->b, "\"");
        return status;
    }
    default:
        return run_fail_type(w->run, "a key of JSON", key);
    }
}

static enum status put_dict(struct writer *w, const struct dict *dict) {
    const struct dict_entry **order;
    enum status status = sort_entries(w->run, dict, w->style->sort_keys, &order);
    builder_put_string(&w->b, "{");
    w->depth++;
    for (size_t i = 0; status == STATUS_OK && i < dict->count; i++) {
        if (i > 0) {
            builder_put_text(&w->b, w->style->item_separator);
        }
        put_line(w);
        status = put_key(w, &order[i]->key);
        builder_put_text(&w->b, w->style->key_separator);
        if (status == STATUS_OK) {
            status = put_value(w, &order[i]->value);
        }
    }
    w->depth--;
    if (dict->count > 0) {
        put_line(w);
    }
    builder_put_string(&w->b, "}");
    return status;
}

static enum status put_kind(struct writer *w, const struct value *value) {
    switch (value->kind) {
    case VALUE_NONE:
    case VALUE_BOOL:
        builder_put(&w->b, constant_text(value), strlen(constant_text(value)), value->content);
        return STATUS_OK;
    case VALUE_INT:
    case VALUE_FLOAT:
        return put_number(w, value);
    case VALUE_STRING:
        put_string(w, value->text);
        return run_charge_bytes(w->run, value->text->length);
    case VALUE_LIST:
    case VALUE_TUPLE:
        return put_list(w, value->list);
    case VALUE_DICT:
        return put_dict(w, value->dict);
    default:
        return run_fail(w->run, STATUS_INVALID_ARGUMENT,
                        "a value of type %s cannot be written as JSON", value_type(value));
    }
}

static enum status put_value(struct writer *w, const struct value *value) {
    enum status status = run_enter(w->run);
    if (status == STATUS_OK) {
        status = put_kind(w, value);
    }
    if (status == STATUS_OK && w->b.failed) {
        status = run_no_memory(w->run);
    }
    run_leave(w->run);
    return status;
}

enum status value_to_json(struct run *run, const struct value *value,
                          const struct json_style *style, struct value *out) {
    struct writer w = {.run = run, .b = {.arena = &run->arena}, .style = style};
    enum status status = put_value(&w, value);
    return status == STATUS_OK ? run_give_text(run, builder_finish(&w.b), out) : status;
}
