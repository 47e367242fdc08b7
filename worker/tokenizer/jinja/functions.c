#include "worker/tokenizer/jinja/functions.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "worker/tokenizer/jinja/convert.h"

static enum status fill_pairs(struct run *run, const struct value *from, struct dict *dict) {
    struct list pairs;
    enum status status = value_items(run, from, &pairs);
    for (size_t i = 0; status == STATUS_OK && i < pairs.count; i++) {
        struct list pair;
        status = value_items(run, &pairs.items[i], &pair);
        if (status == STATUS_OK && pair.count != 2) {
            status = run_fail(run, STATUS_INVALID_ARGUMENT,
                              "a dict is made of pairs, not of %zu values", pair.count);
        }
        if (status == STATUS_OK) {
            status = dict_set(run, dict, &pair.items[0], &pair.items[1]);
        }
    }
    return status;
}

enum status function_make_dict(struct run *run, const struct call *call, struct dict **out) {
    struct dict *dict = arena_alloc(&run->arena, sizeof *dict);
    enum status status = STATUS_OK;
    if (dict == NULL) {
        return run_no_memory(run);
    }
    if (call->n_positional > 1) {
        return run_fail(run, STATUS_INVALID_ARGUMENT, "a dict is made of at most one value");
    }
    if (call->n_positional == 1 && call->positional[0].kind == VALUE_UNDEFINED) {
        return run_fail_undefined(run, &call->positional[0]);
    }
    if (call->n_positional == 1 && call->positional[0].kind == VALUE_DICT) {
        const struct dict *from = call->positional[0].dict;
        for (size_t i = 0; status == STATUS_OK && i < from->count; i++) {
            status = dict_set(run, dict, &from->entries[i].key, &from->entries[i].value);
        }
    } else if (call->n_positional == 1) {
        status = fill_pairs(run, &call->positional[0], dict);
    }
    for (size_t i = 0; status == STATUS_OK && i < call->n_named; i++) {
        const struct value key = value_text(call->named[i].name);
        status = dict_set(run, dict, &key, &call->named[i].value);
    }
    *out = dict;
    return status;
}

static enum status call_dict(struct run *run, const struct value *self, const struct value *argv,
                             const struct call *call, struct value *out) {
    (void)self;
    (void)argv;
    struct dict *dict = NULL;
    enum status status = function_make_dict(run, call, &dict);
    if (status == STATUS_OK) {
        *out = (struct value){.kind = VALUE_DICT, .dict = dict};
    }
    return status;
}

static enum status call_namespace(struct run *run, const struct value *self,
                                  const struct value *argv, const struct call *call,
                                  struct value *out) {
    (void)self;
    (void)argv;
    struct dict *dict = NULL;
    enum status status = function_make_dict(run, call, &dict);
    for (size_t i = 0; status == STATUS_OK && i < dict->count; i++) {
        const struct value *key = &dict->entries[i].key;
        if (key->kind == VALUE_STRING && key->text->length > 0 && key->text->bytes[0] == '_') {
            status = run_fail(run, STATUS_INVALID_ARGUMENT,
                              "a namespace cannot have members that begin with an underscore");
        }
    }
    if (status == STATUS_OK) {
        *out = (struct value){.kind = VALUE_NAMESPACE, .dict = dict};
    }
    return status;
}

// Number of integers from start towards stop.
static uint64_t range_count(int64_t start, int64_t stop, int64_t step) {
    if (step > 0 ? start >= stop : start <= stop) {
        return 0;
    }
    uint64_t distance =
        step > 0 ? (uint64_t)stop - (uint64_t)start : (uint64_t)start - (uint64_t)stop;
    uint64_t stride = step > 0 ? (uint64_t)step : 0 - (uint64_t)step;
    return (distance - 1) / stride + 1;
}

static enum status call_range(struct run *run, const struct value *self, const struct value *argv,
                              const struct call *call, struct value *out) {
    (void)self;
    (void)argv;
    int64_t bounds[3] = {0, 0, 1};
    size_t n = call->n_positional;
    if (n < 1 || n > 3 || call->n_named > 0) {
        return run_fail(run, STATUS_INVALID_ARGUMENT, "range takes one to three integers");
    }
    for (size_t i = 0; i < n; i++) {
        const struct value *value = &call->positional[i];
        if (value->kind != VALUE_INT && value->kind != VALUE_BOOL) {
            return run_fail_type(run, "range", value);
        }
        bounds[n == 1 ? 1 : i] = value->kind == VALUE_INT ? value->integer : value->boolean;
    }
    if (bounds[2] == 0) {
        return run_fail(run, STATUS_INVALID_ARGUMENT, "the step of a range cannot be zero");
    }
    uint64_t count = range_count(bounds[0], bounds[1], bounds[2]);
    if (count > JINJA_RANGE_MAX) {
        return run_fail(run, STATUS_INVALID_ARGUMENT, "a range of more than %d integers",
                        JINJA_RANGE_MAX);
    }
    struct range *range = arena_alloc(&run->arena, sizeof *range);
    if (range == NULL) {
        return run_no_memory(run);
    }
    *range = (struct range){
        .start = bounds[0], .stop = bounds[1], .step = bounds[2], .count = (size_t)count};
    *out = (struct value){.kind = VALUE_RANGE, .range = range};
    return STATUS_OK;
}

static enum status call_raise_exception(struct run *run, const struct value *self,
                                        const struct value *argv, const struct call *call,
                                        struct value *out) {
    (void)self;
    (void)call;
    (void)out;
    const struct text *text = NULL;
    enum status status = value_to_text(run, &argv[0], &text);
    if (status != STATUS_OK) {
        return status;
    }
    size_t shown = text->length < ERROR_MESSAGE_BYTES ? text->length : ERROR_MESSAGE_BYTES;
    return run_fail(run, STATUS_INVALID_ARGUMENT, "the template refuses the messages: %.*s",
                    (int)shown, text->bytes);
}

// Day of the week from 0, Sunday (Sakamoto's method), and of the year from 0.
static void complete_date(struct tm *tm) {
    static const int month_offset[] = {0, 3, 2, 5, 0, 3, 5, 1, 4, 6, 2, 4};
    static const int days_before[] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334};
    int year = tm->tm_year + 1900;
    bool is_leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    tm->tm_yday = days_before[tm->tm_mon] + tm->tm_mday - 1 + (is_leap && tm->tm_mon > 1);
    int shifted = year - (tm->tm_mon < 2);
    tm->tm_wday = (shifted + shifted / 4 - shifted / 100 + shifted / 400 +
                   month_offset[tm->tm_mon] + tm->tm_mday) %
                  7;
}

enum { DATE_BYTES_MAX = 128 };

// One directive of strftime_now, in the C locale; the time of day is midnight.
static enum status put_directive(struct run *run, struct text_builder *b, const struct tm *tm,
                                 bool no_padding, char directive) {
    char text[DATE_BYTES_MAX];
    char format[] = {'%', directive, '\0'};
    if (directive == '\0' || strchr("aAbBdmyYHIMSpjUWeFDTRwuhGgVCnt%", directive) == NULL) {
        return run_fail(run, STATUS_UNSUPPORTED, "the directive %%%c of strftime_now", directive);
    }
    // The format is one of the directives above.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    size_t n = strftime(text, sizeof text, format, tm);
#pragma GCC diagnostic pop
    size_t start = 0;
    while (no_padding && start + 1 < n && (text[start] == '0' || text[start] == ' ')) {
        start++;
    }
    builder_put(b, text + start, n - start, false);
    return STATUS_OK;
}

static enum status call_strftime_now(struct run *run, const struct value *self,
                                     const struct value *argv, const struct call *call,
                                     struct value *out) {
    (void)self;
    (void)call;
    struct text_builder b = {.arena = &run->arena};
    struct tm tm = {
        .tm_year = run->date.year - 1900, .tm_mon = run->date.month - 1, .tm_mday = run->date.day};
    if (argv[0].kind != VALUE_STRING) {
        return run_fail_type(run, "strftime_now", &argv[0]);
    }
    complete_date(&tm);
    const struct text *format = argv[0].text;
    enum status status = run_charge(run, format->length);
    for (size_t at = 0; status == STATUS_OK && at < format->length; at++) {
        if (format->bytes[at] != '%') {
            builder_put_slice(&b, format, at, 1);
            continue;
        }
        at++;
        bool no_padding = at < format->length && format->bytes[at] == '-';
        at += no_padding;
        status =
            put_directive(run, &b, &tm, no_padding, at < format->length ? format->bytes[at] : '\0');
    }
    return status == STATUS_OK ? run_give_text(run, builder_finish(&b), out) : status;
}

static const struct native functions[] = {
    {"range", "*", call_range},
    {"dict", "*", call_dict},
    {"namespace", "*", call_namespace},
    {"raise_exception", "message", call_raise_exception},
    {"strftime_now", "format", call_strftime_now},
    {"cycler", "*", NULL},
    {"joiner", "*", NULL},
    {"lipsum", "*", NULL},
    {"self", "*", NULL},
};

enum status function_find(struct run *run, const struct text *name, struct value *out) {
    const struct native *function =
        native_find(functions, sizeof functions / sizeof *functions, name);
    if (function == NULL) {
        return run_give_undefined(run, (struct undefined){.name = name}, out);
    }
    return native_bind(run, function, NULL, out);
}
