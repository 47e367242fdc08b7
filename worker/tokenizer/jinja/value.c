#include "worker/tokenizer/jinja/value.h"

#include <math.h>
#include <string.h>

#include "worker/tokenizer/jinja/loop.h"
#include "worker/tokenizer/jinja/run.h"

const char *value_type(const struct value *value) {
    static const char *const names[] = {
        [VALUE_ABSENT] = "nothing",
        [VALUE_UNDEFINED] = "undefined",
        [VALUE_NONE] = "None",
        [VALUE_BOOL] = "bool object",
        [VALUE_INT] = "int object",
        [VALUE_FLOAT] = "float object",
        [VALUE_STRING] = "str object",
        [VALUE_LIST] = "list object",
        [VALUE_TUPLE] = "tuple object",
        [VALUE_DICT] = "dict object",
        [VALUE_VIEW] = "dict view object",
        [VALUE_RANGE] = "range object",
        [VALUE_GENERATOR] = "generator object",
        [VALUE_NAMESPACE] = "namespace object",
        [VALUE_LOOP] = "loop object",
        [VALUE_MACRO] = "macro object",
        [VALUE_NATIVE] = "function object",
    };
    return names[value->kind];
}

bool value_truth(const struct value *value) {
    switch (value->kind) {
    case VALUE_ABSENT:
    case VALUE_UNDEFINED:
    case VALUE_NONE:
        return false;
    case VALUE_BOOL:
        return value->boolean;
    case VALUE_INT:
        return value->integer != 0;
    case VALUE_FLOAT:
        return value->real != 0;
    case VALUE_STRING:
        return value->text->length > 0;
    case VALUE_LIST:
    case VALUE_TUPLE:
        return value->list->count > 0;
    case VALUE_DICT:
        return value->dict->count > 0;
    case VALUE_VIEW:
        return value->view->dict->count > 0;
    case VALUE_RANGE:
        return value->range->count > 0;
    default:
        return true;
    }
}

enum value_kind value_number(const struct value *value, int64_t *integer, double *real) {
    switch (value->kind) {
    case VALUE_BOOL:
        *integer = value->boolean;
        *real = value->boolean;
        return VALUE_INT;
    case VALUE_INT:
        *integer = value->integer;
        *real = (double)value->integer;
        return VALUE_INT;
    case VALUE_FLOAT:
        *real = value->real;
        return VALUE_FLOAT;
    default:
        return VALUE_ABSENT;
    }
}

// Order of an integer and a real without the rounding of a conversion; `real` is not NaN.
static int compare_mixed(int64_t integer, double real) {
    if (real >= 0x1p63) {
        return -1;
    }
    if (real < -0x1p63) {
        return 1;
    }
    int64_t whole = (int64_t)real;
    if (integer != whole) {
        return integer < whole ? -1 : 1;
    }
    double rest = real - (double)whole;
    return rest > 0 ? -1 : rest < 0;
}

// false when either is NaN.
static bool compare_numbers(const struct value *a, const struct value *b, int *order) {
    int64_t i = 0;
    int64_t j = 0;
    double x = 0;
    double y = 0;
    enum value_kind left = value_number(a, &i, &x);
    enum value_kind right = value_number(b, &j, &y);
    if (isnan(x) || isnan(y)) {
        return false;
    }
    if (left == VALUE_INT && right == VALUE_INT) {
        *order = i < j ? -1 : i > j;
    } else if (left == VALUE_INT) {
        *order = compare_mixed(i, y);
    } else if (right == VALUE_INT) {
        *order = -compare_mixed(j, x);
    } else {
        *order = x < y ? -1 : x > y;
    }
    return true;
}

static bool is_number(const struct value *value) {
    return value->kind == VALUE_BOOL || value->kind == VALUE_INT || value->kind == VALUE_FLOAT;
}

static enum status equal_lists(struct run *run, const struct list *a, const struct list *b,
                               bool *equal) {
    *equal = a->count == b->count;
    enum status status = STATUS_OK;
    for (size_t i = 0; status == STATUS_OK && *equal && i < a->count; i++) {
        status = value_equal(run, &a->items[i], &b->items[i], equal);
    }
    return status;
}

static enum status equal_dicts(struct run *run, const struct dict *a, const struct dict *b,
                               bool *equal) {
    *equal = a->count == b->count;
    enum status status = STATUS_OK;
    for (size_t i = 0; status == STATUS_OK && *equal && i < a->count; i++) {
        struct value *other = NULL;
        status = dict_find(run, b, &a->entries[i].key, &other);
        if (status == STATUS_OK && other == NULL) {
            *equal = false;
        } else if (status == STATUS_OK) {
            status = value_equal(run, &a->entries[i].value, other, equal);
        }
    }
    return status;
}

static enum status equal_same_kind(struct run *run, const struct value *a, const struct value *b,
                                   bool *equal) {
    enum status status = STATUS_OK;
    switch (a->kind) {
    case VALUE_UNDEFINED:
    case VALUE_NONE:
        *equal = true;
        break;
    case VALUE_STRING:
        status = run_charge_bytes(run, a->text->length);
        *equal = text_equal(a->text, b->text);
        break;
    case VALUE_LIST:
    case VALUE_TUPLE:
        status = equal_lists(run, a->list, b->list, equal);
        break;
    case VALUE_DICT:
        status = equal_dicts(run, a->dict, b->dict, equal);
        break;
    case VALUE_RANGE:
        *equal =
            a->range->count == b->range->count &&
            (a->range->count == 0 || (a->range->start == b->range->start &&
                                      (a->range->count == 1 || a->range->step == b->range->step)));
        break;
    case VALUE_VIEW:
        if (a->view->kind != VIEW_VALUES && b->view->kind != VIEW_VALUES) {
            return run_fail(run, STATUS_UNSUPPORTED, "comparing the keys or items of dicts");
        }
        *equal = a->view == b->view;
        break;
    case VALUE_NATIVE:
        *equal = a->native->native == b->native->native && a->native->self.kind == VALUE_ABSENT &&
                 b->native->self.kind == VALUE_ABSENT;
        break;
    default: // compared by identity
        *equal = a->list == b->list;
        break;
    }
    return status;
}

enum status value_equal(struct run *run, const struct value *a, const struct value *b,
                        bool *equal) {
    if (is_number(a) && is_number(b)) {
        int order = 1;
        *equal = compare_numbers(a, b, &order) && order == 0;
        return STATUS_OK;
    }
    if (a->kind != b->kind) {
        *equal = false;
        return STATUS_OK;
    }
    enum status status = run_enter(run);
    if (status == STATUS_OK) {
        status = equal_same_kind(run, a, b, equal);
    }
    run_leave(run);
    return status;
}

static enum status compare_lists(struct run *run, const struct list *a, const struct list *b,
                                 int *order) {
    for (size_t i = 0; i < a->count && i < b->count; i++) {
        bool equal = false;
        enum status status = value_equal(run, &a->items[i], &b->items[i], &equal);
        if (status != STATUS_OK) {
            return status;
        }
        if (!equal) {
            return value_compare(run, &a->items[i], &b->items[i], order);
        }
    }
    *order = a->count < b->count ? -1 : a->count > b->count;
    return STATUS_OK;
}

enum status value_compare(struct run *run, const struct value *a, const struct value *b,
                          int *order) {
    if (is_number(a) && is_number(b)) {
        if (!compare_numbers(a, b, order)) {
            return run_fail(run, STATUS_UNSUPPORTED, "ordering values that are not a number");
        }
        return STATUS_OK;
    }
    if (a->kind == VALUE_UNDEFINED || b->kind == VALUE_UNDEFINED) {
        return run_fail_undefined(run, a->kind == VALUE_UNDEFINED ? a : b);
    }
    if (a->kind == VALUE_STRING && b->kind == VALUE_STRING) {
        *order = text_compare(a->text, b->text);
        return run_charge_bytes(run, a->text->length);
    }
    if (value_is_sequence(a) && a->kind == b->kind) {
        enum status status = run_enter(run);
        if (status == STATUS_OK) {
            status = compare_lists(run, a->list, b->list, order);
        }
        run_leave(run);
        return status;
    }
    return run_fail(run, STATUS_INVALID_ARGUMENT, "%s and %s have no order", value_type(a),
                    value_type(b));
}

static enum status contains_item(struct run *run, const struct value *haystack,
                                 const struct value *needle, bool *contains) {
    struct list items;
    enum status status = value_items(run, haystack, &items);
    *contains = false;
    for (size_t i = 0; status == STATUS_OK && !*contains && i < items.count; i++) {
        status = run_charge(run, 1);
        if (status == STATUS_OK) {
            status = value_equal(run, needle, &items.items[i], contains);
        }
    }
    return status;
}

enum status value_contains(struct run *run, const struct value *haystack,
                           const struct value *needle, bool *contains) {
    struct value *found = NULL;
    enum status status;
    switch (haystack->kind) {
    case VALUE_STRING:
        if (needle->kind != VALUE_STRING) {
            return run_fail_type(run, "'in' of a string", needle);
        }
        *contains = text_find(haystack->text, needle->text, 0) >= 0;
        return run_charge_bytes(run, haystack->text->length);
    case VALUE_DICT:
        status = dict_find(run, haystack->dict, needle, &found);
        *contains = found != NULL;
        return status;
    case VALUE_UNDEFINED:
        *contains = false;
        return STATUS_OK;
    default:
        return contains_item(run, haystack, needle, contains);
    }
}

enum status value_length(struct run *run, const struct value *value, size_t *length) {
    switch (value->kind) {
    case VALUE_UNDEFINED:
        *length = 0;
        return STATUS_OK;
    case VALUE_STRING:
        *length = text_count(value->text);
        return run_charge_bytes(run, value->text->length);
    case VALUE_LIST:
    case VALUE_TUPLE:
        *length = value->list->count;
        return STATUS_OK;
    case VALUE_DICT:
        *length = value->dict->count;
        return STATUS_OK;
    case VALUE_VIEW:
        *length = value->view->dict->count;
        return STATUS_OK;
    case VALUE_RANGE:
        *length = value->range->count;
        return STATUS_OK;
    case VALUE_LOOP:
        return loop_length(run, value->loop, length);
    default:
        return run_fail_type(run, "length", value);
    }
}

// Room for n items.
static enum status items_alloc(struct run *run, size_t n, struct list *items) {
    items->items = arena_alloc_array(&run->arena, n, sizeof *items->items);
    items->count = n;
    return items->items == NULL ? run_no_memory(run) : run_charge(run, n);
}

static enum status characters_of(struct run *run, const struct text *text, struct list *items) {
    enum status status = items_alloc(run, text_count(text), items);
    size_t at = 0;
    for (size_t i = 0; status == STATUS_OK && i < items->count; i++) {
        size_t next =
            at +
            text_offset(&(struct text){.bytes = text->bytes + at, .length = text->length - at}, 1);
        status = run_give_text(run, text_slice(&run->arena, text, at, next - at), &items->items[i]);
        at = next;
    }
    return status;
}

static enum status view_items(struct run *run, enum view_kind kind, const struct dict *dict,
                              struct list *items) {
    enum status status = items_alloc(run, dict->count, items);
    for (size_t i = 0; status == STATUS_OK && i < dict->count; i++) {
        const struct dict_entry *entry = &dict->entries[i];
        if (kind == VIEW_ITEMS) {
            const struct value pair[] = {entry->key, entry->value};
            status = list_make(run, VALUE_TUPLE, pair, 2, &items->items[i]);
        } else {
            items->items[i] = kind == VIEW_KEYS ? entry->key : entry->value;
        }
    }
    return status;
}

enum status value_items(struct run *run, const struct value *value, struct list *items) {
    enum status status;
    *items = (struct list){0};
    switch (value->kind) {
    case VALUE_UNDEFINED:
        return STATUS_OK;
    case VALUE_LIST:
    case VALUE_TUPLE:
        *items = *value->list;
        return STATUS_OK;
    case VALUE_STRING:
        return characters_of(run, value->text, items);
    case VALUE_DICT:
        return view_items(run, VIEW_KEYS, value->dict, items);
    case VALUE_VIEW:
        return view_items(run, value->view->kind, value->view->dict, items);
    case VALUE_RANGE:
        status = items_alloc(run, value->range->count, items);
        for (size_t i = 0; status == STATUS_OK && i < items->count; i++) {
            items->items[i] = value_int(value->range->start + (int64_t)i * value->range->step);
        }
        return status;
    case VALUE_GENERATOR:
        items->items = value->generator->items.items + value->generator->at;
        items->count = value->generator->items.count - value->generator->at;
        value->generator->at = value->generator->items.count;
        return STATUS_OK;
    case VALUE_LOOP:
        return run_fail(run, STATUS_UNSUPPORTED, "iterating over 'loop'");
    default:
        return run_fail_type(run, "iteration", value);
    }
}

// What can be a key, as Python hashes it.
static enum status check_hashable(struct run *run, const struct value *key) {
    switch (key->kind) {
    case VALUE_LIST:
    case VALUE_DICT:
    case VALUE_VIEW:
        return run_fail_type(run, "a key", key);
    case VALUE_TUPLE: {
        enum status status = run_enter(run);
        for (size_t i = 0; status == STATUS_OK && i < key->list->count; i++) {
            status = check_hashable(run, &key->list->items[i]);
        }
        run_leave(run);
        return status;
    }
    default:
        return STATUS_OK;
    }
}

struct value *dict_find_text(const struct dict *dict, const struct text *key) {
    for (size_t i = 0; i < dict->count; i++) {
        const struct value *candidate = &dict->entries[i].key;
        if (candidate->kind == VALUE_STRING && text_equal(candidate->text, key)) {
            return &dict->entries[i].value;
        }
    }
    return NULL;
}

enum status dict_find(struct run *run, const struct dict *dict, const struct value *key,
                      struct value **value) {
    *value = NULL;
    enum status status = check_hashable(run, key);
    if (status == STATUS_OK) {
        status = run_charge(run, 1 + dict->count / 16);
    }
    if (status == STATUS_OK && key->kind == VALUE_STRING) {
        *value = dict_find_text(dict, key->text);
        return STATUS_OK;
    }
    for (size_t i = 0; status == STATUS_OK && *value == NULL && i < dict->count; i++) {
        bool equal = false;
        status = value_equal(run, key, &dict->entries[i].key, &equal);
        if (status == STATUS_OK && equal) {
            *value = &dict->entries[i].value;
        }
    }
    return status;
}

enum status dict_set(struct run *run, struct dict *dict, const struct value *key,
                     const struct value *value) {
    struct value *found = NULL;
    enum status status = dict_find(run, dict, key, &found);
    if (status != STATUS_OK) {
        return status;
    }
    if (found != NULL) {
        *found = *value;
        return STATUS_OK;
    }
    if (dict->count == dict->capacity) {
        size_t capacity = 2 * dict->capacity + 4;
        struct dict_entry *entries = arena_alloc_array(&run->arena, capacity, sizeof *entries);
        if (entries == NULL) {
            return run_no_memory(run);
        }
        if (dict->count > 0) {
            memcpy(entries, dict->entries, dict->count * sizeof *entries);
        }
        dict->entries = entries;
        dict->capacity = capacity;
    }
    dict->entries[dict->count++] = (struct dict_entry){.key = *key, .value = *value};
    return STATUS_OK;
}

enum status list_make(struct run *run, enum value_kind kind, const struct value *items,
                      size_t count, struct value *out) {
    struct list *list = arena_alloc(&run->arena, sizeof *list);
    struct value *copy = arena_alloc_array(&run->arena, count, sizeof *copy);
    if (list == NULL || copy == NULL) {
        return run_no_memory(run);
    }
    if (count > 0) {
        memcpy(copy, items, count * sizeof *copy);
    }
    *list = (struct list){.items = copy, .count = count};
    *out = (struct value){.kind = kind, .list = list};
    return run_charge(run, count / 16);
}
