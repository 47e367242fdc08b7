// Filters of lists, dicts and what else can be iterated.
#include <string.h>

#include "worker/tokenizer/jinja/characters.h"
#include "worker/tokenizer/jinja/eval.h"
#include "worker/tokenizer/jinja/filters.h"
#include "worker/tokenizer/jinja/sort.h"
#include "worker/tokenizer/utf8.h"

#define UNUSED(name) (void)name

static bool is_given(const struct value *value) {
    return value->kind != VALUE_ABSENT && value->kind != VALUE_NONE;
}

static bool is_true(const struct value *value) {
    return value->kind != VALUE_ABSENT && value_truth(value);
}

static enum status give_generator(struct run *run, struct list items, struct value *out) {
    struct generator *generator = arena_alloc(&run->arena, sizeof *generator);
    if (generator == NULL) {
        return run_no_memory(run);
    }
    generator->items = items;
    *out = (struct value){.kind = VALUE_GENERATOR, .generator = generator};
    return STATUS_OK;
}

// Room for as many items as there are.
static enum status new_items(struct run *run, size_t count, struct list *items) {
    *items = (struct list){.items = arena_alloc_array(&run->arena, count, sizeof *items->items)};
    return items->items == NULL ? run_no_memory(run) : run_charge(run, count);
}

// An integer when the part is made of digits only, else a string.
static enum status path_part(struct run *run, const struct text *path, size_t start, size_t end,
                             struct value *out) {
    bool is_index = end > start && end - start < 10;
    int64_t index = 0;
    for (size_t i = start; i < end; i++) {
        is_index = is_index && path->bytes[i] >= '0' && path->bytes[i] <= '9';
        index = is_index ? 10 * index + (path->bytes[i] - '0') : 0;
    }
    if (is_index) {
        *out = value_int(index);
        return STATUS_OK;
    }
    return run_give_text(run, text_slice(&run->arena, path, start, end - start), out);
}

// What lies behind `path`, a name with dots or an index; `otherwise` (ABSENT: nothing) stands for
// what is undefined on the way.
static enum status follow(struct run *run, const struct value *item, const struct value *path,
                          const struct value *otherwise, struct value *out) {
    struct value current = *item;
    enum status status = STATUS_OK;
    *out = current;
    if (!is_given(path)) {
        return STATUS_OK;
    }
    if (path->kind != VALUE_STRING) {
        status = lookup_item(run, &current, path, out);
    }
    for (size_t at = 0; status == STATUS_OK && path->kind == VALUE_STRING;) {
        struct value part;
        size_t end = at;
        while (end < path->text->length && path->text->bytes[end] != '.') {
            end++;
        }
        status = path_part(run, path->text, at, end, &part);
        if (status == STATUS_OK) {
            status = lookup_item(run, &current, &part, out);
        }
        if (status == STATUS_OK && out->kind == VALUE_UNDEFINED && is_given(otherwise)) {
            *out = *otherwise;
        }
        current = *out;
        if (end == path->text->length) {
            break;
        }
        at = end + 1;
    }
    if (status == STATUS_OK && out->kind == VALUE_UNDEFINED && is_given(otherwise)) {
        *out = *otherwise;
    }
    return status == STATUS_OK ? run_charge(run, 1) : status;
}

// A string in lower case where case does not count, anything else as it is.
static enum status fold(struct run *run, bool case_sensitive, struct value *value) {
    if (case_sensitive || value->kind != VALUE_STRING) {
        return STATUS_OK;
    }
    return run_give_text(run, text_to_case(&run->arena, value->text, CASE_LOWER), value);
}

FILTER(filter_length) {
    UNUSED(argv);
    UNUSED(call);
    size_t length = 0;
    enum status status = value_length(run, self, &length);
    *out = value_int((int64_t)length);
    return status;
}

FILTER(filter_list) {
    UNUSED(argv);
    UNUSED(call);
    struct list items;
    enum status status = value_items(run, self, &items);
    return status == STATUS_OK ? list_make(run, VALUE_LIST, items.items, items.count, out) : status;
}

FILTER(filter_first) {
    UNUSED(argv);
    UNUSED(call);
    struct list items;
    if (self->kind == VALUE_GENERATOR) {
        items.items = self->generator->items.items + self->generator->at;
        items.count = self->generator->items.count - self->generator->at;
        self->generator->at += items.count > 0;
    } else {
        enum status status = value_items(run, self, &items);
        if (status != STATUS_OK) {
            return status;
        }
    }
    if (items.count == 0) {
        static const char hint[] = "No first item, sequence was empty.";
        return run_give_undefined(run, (struct undefined){.hint = hint}, out);
    }
    *out = items.items[0];
    return STATUS_OK;
}

FILTER(filter_last) {
    UNUSED(argv);
    UNUSED(call);
    struct list items;
    if (self->kind == VALUE_GENERATOR) {
        return run_fail_type(run, "last", self);
    }
    enum status status = value_items(run, self, &items);
    if (status == STATUS_OK && items.count == 0) {
        static const char hint[] = "No last item, sequence was empty.";
        return run_give_undefined(run, (struct undefined){.hint = hint}, out);
    }
    if (status == STATUS_OK) {
        *out = items.items[items.count - 1];
    }
    return status;
}

static enum status reverse_text(struct run *run, const struct text *text, struct value *out) {
    struct text_builder b = {.arena = &run->arena};
    for (size_t end = text->length; end > 0;) {
        size_t start = end;
        do {
            start--;
        } while (((uint8_t)text->bytes[start] & 0xC0) == 0x80);
        builder_put_slice(&b, text, start, end - start);
        end = start;
    }
    struct text *result = builder_finish(&b);
    if (result != NULL) {
        result->markup = text->markup;
    }
    enum status status = run_give_text(run, result, out);
    return status == STATUS_OK ? run_charge(run, text->length / 8) : status;
}

FILTER(filter_reverse) {
    UNUSED(argv);
    UNUSED(call);
    struct list items;
    struct list reversed;
    if (self->kind == VALUE_STRING) {
        return reverse_text(run, self->text, out);
    }
    enum status status = value_items(run, self, &items);
    if (status == STATUS_OK) {
        status = new_items(run, items.count, &reversed);
    }
    if (status != STATUS_OK) {
        return status;
    }
    for (; reversed.count < items.count; reversed.count++) {
        reversed.items[reversed.count] = items.items[items.count - 1 - reversed.count];
    }
    return self->kind == VALUE_GENERATOR
               ? list_make(run, VALUE_LIST, reversed.items, reversed.count, out)
               : give_generator(run, reversed, out);
}

FILTER(filter_items) {
    UNUSED(argv);
    UNUSED(call);
    struct list items = {0};
    enum status status = STATUS_OK;
    if (self->kind == VALUE_DICT) {
        const struct view view = {.kind = VIEW_ITEMS, .dict = self->dict};
        const struct value value = {.kind = VALUE_VIEW, .view = &view};
        status = value_items(run, &value, &items);
    } else if (self->kind != VALUE_UNDEFINED) {
        return run_fail_type(run, "items", self);
    }
    return status == STATUS_OK ? give_generator(run, items, out) : status;
}

FILTER(filter_join) {
    UNUSED(call);
    struct list items;
    struct list parts;
    const struct text *separator = NULL;
    enum status status = value_items(run, self, &items);
    if (status == STATUS_OK && argv[0].kind != VALUE_ABSENT) {
        status = value_to_text(run, &argv[0], &separator);
    } else if (status == STATUS_OK) {
        separator = text_constant(&run->arena, "");
        status = separator == NULL ? run_no_memory(run) : STATUS_OK;
    }
    if (status == STATUS_OK) {
        status = new_items(run, items.count, &parts);
    }
    const struct value none = {.kind = VALUE_ABSENT};
    for (; status == STATUS_OK && parts.count < items.count; parts.count++) {
        status = follow(run, &items.items[parts.count], &argv[1], &none, &parts.items[parts.count]);
    }
    return status == STATUS_OK ? string_join(run, separator, &parts, out) : status;
}

// Arguments from the n-th on.
static struct call rest_of(const struct call *call, size_t n) {
    struct call rest = *call;
    rest.positional += n;
    rest.n_positional -= n;
    return rest;
}

static const struct value *named(const struct call *call, const char *name) {
    static const struct value absent = {.kind = VALUE_ABSENT};
    for (size_t i = 0; i < call->n_named; i++) {
        if (text_is(call->named[i].name, name)) {
            return &call->named[i].value;
        }
    }
    return &absent;
}

// One item of `map`: an attribute, or a filter by its name.
static enum status map_item(struct run *run, const struct value *item, const struct call *call,
                            struct value *out) {
    if (call->n_positional == 0) {
        return follow(run, item, named(call, "attribute"), named(call, "default"), out);
    }
    const struct call rest = rest_of(call, 1);
    return filter_apply(run, call->positional[0].text, item, &rest, out);
}

static enum status check_map(struct run *run, const struct call *call) {
    if (call->n_positional > 0) {
        return call->positional[0].kind == VALUE_STRING
                   ? STATUS_OK
                   : run_fail_type(run, "map", &call->positional[0]);
    }
    size_t known = (named(call, "attribute")->kind != VALUE_ABSENT) +
                   (named(call, "default")->kind != VALUE_ABSENT);
    if (named(call, "attribute")->kind == VALUE_ABSENT || known != call->n_named) {
        return run_fail(run, STATUS_INVALID_ARGUMENT,
                        "map takes a filter, or an attribute and a default");
    }
    return STATUS_OK;
}

FILTER(filter_map) {
    UNUSED(argv);
    struct list items = {0};
    struct list mapped = {0};
    if (!value_truth(self)) {
        return give_generator(run, mapped, out);
    }
    enum status status = check_map(run, call);
    if (status == STATUS_OK) {
        status = value_items(run, self, &items);
    }
    if (status == STATUS_OK) {
        status = new_items(run, items.count, &mapped);
    }
    for (; status == STATUS_OK && mapped.count < items.count; mapped.count++) {
        status = map_item(run, &items.items[mapped.count], call, &mapped.items[mapped.count]);
    }
    return status == STATUS_OK ? give_generator(run, mapped, out) : status;
}

// Whether an item, or its attribute, passes the test that the call names (none: is true).
static enum status passes(struct run *run, const struct value *item, const struct call *call,
                          bool by_attribute, bool *pass) {
    struct value tested = *item;
    struct value result;
    size_t n = by_attribute ? 1 : 0;
    enum status status = STATUS_OK;
    if (by_attribute) {
        const struct value none = {.kind = VALUE_ABSENT};
        status = follow(run, item, &call->positional[0], &none, &tested);
    }
    result = tested;
    if (status == STATUS_OK && call->n_positional > n) {
        if (call->positional[n].kind != VALUE_STRING) {
            return run_fail_type(run, "the name of a test", &call->positional[n]);
        }
        const struct call rest = rest_of(call, n + 1);
        status = test_apply(run, call->positional[n].text, &tested, &rest, &result);
    }
    *pass = value_truth(&result);
    return status == STATUS_OK ? run_charge(run, 1) : status;
}

static enum status filter_by_test(struct run *run, const struct value *self,
                                  const struct call *call, bool by_attribute, bool wanted,
                                  struct value *out) {
    struct list items = {0};
    struct list kept = {0};
    enum status status = STATUS_OK;
    if (!value_truth(self)) {
        return give_generator(run, kept, out);
    }
    if (by_attribute && call->n_positional == 0) {
        return run_fail(run, STATUS_INVALID_ARGUMENT, "Missing parameter for attribute name");
    }
    status = value_items(run, self, &items);
    if (status == STATUS_OK) {
        status = new_items(run, items.count, &kept);
    }
    for (size_t i = 0; status == STATUS_OK && i < items.count; i++) {
        bool pass = false;
        status = passes(run, &items.items[i], call, by_attribute, &pass);
        if (status == STATUS_OK && pass == wanted) {
            kept.items[kept.count++] = items.items[i];
        }
    }
    return status == STATUS_OK ? give_generator(run, kept, out) : status;
}

FILTER(filter_select) {
    UNUSED(argv);
    return filter_by_test(run, self, call, false, true, out);
}

FILTER(filter_reject) {
    UNUSED(argv);
    return filter_by_test(run, self, call, false, false, out);
}

FILTER(filter_selectattr) {
    UNUSED(argv);
    return filter_by_test(run, self, call, true, true, out);
}

FILTER(filter_rejectattr) {
    UNUSED(argv);
    return filter_by_test(run, self, call, true, false, out);
}

// What an item is sorted by: one attribute, or the item itself.
static enum status sort_key(struct run *run, const struct value *item, const struct value *path,
                            bool case_sensitive, struct value *out) {
    const struct value none = {.kind = VALUE_ABSENT};
    enum status status = follow(run, item, path, &none, out);
    return status == STATUS_OK ? fold(run, case_sensitive, out) : status;
}

enum { SORT_ATTRIBUTES_MAX = 16 };

// The keys of one or several attributes (with commas between them) as a list, which also lets equal
// keys pass that have no order.
static enum status sort_keys(struct run *run, const struct value *item, const struct value *paths,
                             bool case_sensitive, struct value *out) {
    struct value keys[SORT_ATTRIBUTES_MAX];
    size_t count = 0;
    size_t start = 0;
    enum status status = STATUS_OK;
    bool is_text = paths->kind == VALUE_STRING;
    for (bool more = true; status == STATUS_OK && more && count < SORT_ATTRIBUTES_MAX; count++) {
        struct value path = *paths;
        size_t end = start;
        while (is_text && end < paths->text->length && paths->text->bytes[end] != ',') {
            end++;
        }
        if (is_text) {
            status =
                run_give_text(run, text_slice(&run->arena, paths->text, start, end - start), &path);
        }
        more = is_text && end < paths->text->length;
        start = end + 1;
        if (status == STATUS_OK) {
            status = sort_key(run, item, &path, case_sensitive, &keys[count]);
        }
    }
    return status == STATUS_OK ? list_make(run, VALUE_LIST, keys, count, out) : status;
}

typedef enum status (*key_fn)(struct run *run, const struct value *item, const struct value *path,
                              bool case_sensitive, struct value *out);

static enum status sorted(struct run *run, const struct list *items, key_fn key_of,
                          const struct value *path, bool case_sensitive, bool reverse,
                          struct value *out) {
    struct sort_item *keys = arena_alloc_array(&run->arena, items->count, sizeof *keys);
    struct list result;
    enum status status = new_items(run, items->count, &result);
    if (keys == NULL) {
        return run_no_memory(run);
    }
    for (size_t i = 0; status == STATUS_OK && i < items->count; i++) {
        keys[i].payload = &items->items[i];
        status = key_of(run, &items->items[i], path, case_sensitive, &keys[i].key);
    }
    if (status == STATUS_OK) {
        status = sort_items(run, keys, items->count, reverse);
    }
    for (; status == STATUS_OK && result.count < items->count; result.count++) {
        result.items[result.count] = *(const struct value *)keys[result.count].payload;
    }
    return status == STATUS_OK ? list_make(run, VALUE_LIST, result.items, result.count, out)
                               : status;
}

// Python's sorted takes integers for its `reverse` only.
static enum status read_reverse(struct run *run, const struct value *value, bool *reverse) {
    bool fits =
        value->kind == VALUE_ABSENT || value->kind == VALUE_BOOL || value->kind == VALUE_INT;
    *reverse = fits && is_true(value);
    return fits ? STATUS_OK : run_fail_type(run, "reverse", value);
}

FILTER(filter_sort) {
    UNUSED(call);
    struct list items;
    bool reverse;
    enum status status = read_reverse(run, &argv[0], &reverse);
    if (status == STATUS_OK) {
        status = value_items(run, self, &items);
    }
    return status == STATUS_OK
               ? sorted(run, &items, sort_keys, &argv[2], is_true(&argv[1]), reverse, out)
               : status;
}

FILTER(filter_dictsort) {
    UNUSED(call);
    struct list items;
    bool by_value = argv[1].kind == VALUE_STRING && text_is(argv[1].text, "value");
    bool by_key = argv[1].kind == VALUE_ABSENT ||
                  (argv[1].kind == VALUE_STRING && text_is(argv[1].text, "key"));
    if (self->kind != VALUE_DICT) {
        return run_fail_type(run, "dictsort", self);
    }
    if (!by_value && !by_key) {
        return run_fail(run, STATUS_INVALID_ARGUMENT,
                        "You can only sort by either \"key\" or \"value\"");
    }
    const struct view view = {.kind = VIEW_ITEMS, .dict = self->dict};
    const struct value pairs = {.kind = VALUE_VIEW, .view = &view};
    const struct value index = value_int(by_value ? 1 : 0);
    bool reverse;
    enum status status = read_reverse(run, &argv[2], &reverse);
    if (status == STATUS_OK) {
        status = value_items(run, &pairs, &items);
    }
    return status == STATUS_OK
               ? sorted(run, &items, sort_key, &index, is_true(&argv[0]), reverse, out)
               : status;
}

// The least or greatest item, the first of equal ones.
static enum status extreme(struct run *run, const struct value *self, const struct value *argv,
                           bool greatest, struct value *out) {
    struct list items;
    struct value best = value_none();
    enum status status = value_items(run, self, &items);
    if (status == STATUS_OK && items.count == 0) {
        static const char hint[] = "No aggregated item, sequence was empty.";
        return run_give_undefined(run, (struct undefined){.hint = hint}, out);
    }
    for (size_t i = 0; status == STATUS_OK && i < items.count; i++) {
        struct value key;
        int order = 0;
        status = sort_key(run, &items.items[i], &argv[1], is_true(&argv[0]), &key);
        if (status == STATUS_OK && i > 0) {
            status = value_compare(run, &key, &best, &order);
        }
        if (status == STATUS_OK && (i == 0 || (greatest ? order > 0 : order < 0))) {
            best = key;
            *out = items.items[i];
        }
    }
    return status;
}

FILTER(filter_min) {
    UNUSED(call);
    return extreme(run, self, argv, false, out);
}

FILTER(filter_max) {
    UNUSED(call);
    return extreme(run, self, argv, true, out);
}

FILTER(filter_sum) {
    UNUSED(call);
    struct list items;
    const struct value none = {.kind = VALUE_ABSENT};
    struct value total = argv[1].kind == VALUE_ABSENT ? value_int(0) : argv[1];
    enum status status = value_items(run, self, &items);
    if (status == STATUS_OK && total.kind == VALUE_STRING) {
        status = run_fail_type(run, "sum", &total);
    }
    for (size_t i = 0; status == STATUS_OK && i < items.count; i++) {
        struct value item;
        struct value sum;
        status = follow(run, &items.items[i], &argv[0], &none, &item);
        if (status == STATUS_OK) {
            status = operate(run, OPERATION_ADD, &total, &item, &sum);
            total = sum;
        }
    }
    *out = total;
    return status;
}

FILTER(filter_unique) {
    UNUSED(call);
    struct list items;
    struct list kept = {0};
    const struct value none = {.kind = VALUE_ABSENT};
    const struct value seen_value = value_none();
    struct dict *seen = arena_alloc(&run->arena, sizeof *seen);
    if (seen == NULL) {
        return run_no_memory(run);
    }
    enum status status = value_items(run, self, &items);
    if (status == STATUS_OK) {
        status = new_items(run, items.count, &kept);
    }
    for (size_t i = 0; status == STATUS_OK && i < items.count; i++) {
        struct value key;
        struct value *known = NULL;
        status = follow(run, &items.items[i], &argv[1], &none, &key);
        if (status == STATUS_OK) {
            status = fold(run, is_true(&argv[0]), &key);
        }
        if (status == STATUS_OK) {
            status = dict_find(run, seen, &key, &known);
        }
        if (status == STATUS_OK && known == NULL) {
            status = dict_set(run, seen, &key, &seen_value);
            kept.items[kept.count++] = items.items[i];
        }
    }
    return status == STATUS_OK ? give_generator(run, kept, out) : status;
}

// A positive integer parameter.
static enum status count_of(struct run *run, const struct value *value, size_t *count) {
    if (value->kind != VALUE_INT || value->integer < 1 || value->integer > JINJA_RANGE_MAX) {
        return run_fail(run, STATUS_UNSUPPORTED, "slice and batch with other than 1 to %d parts",
                        JINJA_RANGE_MAX);
    }
    *count = (size_t)value->integer;
    return STATUS_OK;
}

// Adds items [count] and `padding` times the filler as one list.
static enum status push_part(struct run *run, struct list *parts, const struct value *items,
                             size_t count, size_t padding, const struct value *filler) {
    struct list part;
    enum status status = new_items(run, count + padding, &part);
    if (status != STATUS_OK) {
        return status;
    }
    if (count > 0) {
        memcpy(part.items, items, count * sizeof *items);
    }
    for (size_t i = 0; i < padding; i++) {
        part.items[count + i] = *filler;
    }
    return list_make(run, VALUE_LIST, part.items, count + padding, &parts->items[parts->count++]);
}

FILTER(filter_batch) {
    UNUSED(call);
    struct list items;
    struct list parts;
    size_t size = 1;
    enum status status = value_items(run, self, &items);
    if (status == STATUS_OK) {
        status = count_of(run, &argv[0], &size);
    }
    if (status == STATUS_OK) {
        status = new_items(run, items.count / size + 1, &parts);
    }
    for (size_t at = 0; status == STATUS_OK && at < items.count; at += size) {
        size_t count = items.count - at < size ? items.count - at : size;
        status = push_part(run, &parts, items.items + at, count,
                           is_given(&argv[1]) ? size - count : 0, &argv[1]);
    }
    return status == STATUS_OK ? give_generator(run, parts, out) : status;
}

FILTER(filter_slice) {
    UNUSED(call);
    struct list items;
    struct list parts;
    size_t slices = 1;
    size_t at = 0;
    enum status status = value_items(run, self, &items);
    if (status == STATUS_OK) {
        status = count_of(run, &argv[0], &slices);
    }
    if (status == STATUS_OK) {
        status = new_items(run, slices, &parts);
    }
    for (size_t i = 0; status == STATUS_OK && i < slices; i++) {
        bool has_extra = i < items.count % slices;
        size_t count = items.count / slices + has_extra;
        status = push_part(run, &parts, items.items + at, count,
                           is_given(&argv[1]) && !has_extra ? 1 : 0, &argv[1]);
        at += count;
    }
    return status == STATUS_OK ? give_generator(run, parts, out) : status;
}
