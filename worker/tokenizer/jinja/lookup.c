// Attributes, items and slices of values. Python's attributes come first for object.name, items
// first for object[key], as in jinja2.
#include <string.h>

#include "worker/tokenizer/jinja/eval.h"
#include "worker/tokenizer/jinja/loop.h"
#include "worker/tokenizer/utf8.h"

static enum status give_missing(struct run *run, const struct value *object,
                                const struct text *name, struct value *out) {
    return run_give_undefined(run, (struct undefined){.owner = value_type(object), .name = name},
                              out);
}

// A method or other attribute that Python gives the value; *known is false when it has none.
static enum status find_attribute(struct run *run, const struct value *object,
                                  const struct text *name, struct value *out, bool *known) {
    bool unsafe = false;
    if (object->kind == VALUE_LOOP) {
        return loop_attribute(run, object, name, out, known);
    }
    if (object->kind == VALUE_NAMESPACE) {
        struct value *found = dict_find_text(object->dict, name);
        *known = found != NULL;
        if (found != NULL) {
            *out = *found;
        }
        return run_charge(run, object->dict->count / 16);
    }
    if (object->kind == VALUE_MACRO || object->kind == VALUE_NATIVE) {
        return run_fail(run, STATUS_UNSUPPORTED, "attributes of functions and macros");
    }
    const struct native *method = method_find(object, name, &unsafe);
    *known = method != NULL || unsafe;
    if (unsafe) {
        return run_give_undefined(
            run, (struct undefined){.owner = value_type(object), .name = name, .unsafe = true},
            out);
    }
    return method == NULL ? STATUS_OK : native_bind(run, method, object, out);
}

enum status lookup_attribute(struct run *run, const struct value *object, const struct text *name,
                             struct value *out) {
    bool known = false;
    if (object->kind == VALUE_UNDEFINED && !text_is(name, "__class__")) {
        return run_fail_undefined(run, object);
    }
    enum status status = find_attribute(run, object, name, out, &known);
    if (status != STATUS_OK || known) {
        return status;
    }
    if (object->kind == VALUE_DICT) {
        const struct value *found = dict_find_text(object->dict, name);
        if (found != NULL) {
            *out = *found;
            return run_charge(run, object->dict->count / 16);
        }
    }
    return give_missing(run, object, name, out);
}

// Index of an item from a possibly negative one; false when there is none.
static bool find_index(int64_t index, size_t count, size_t *at) {
    if (index < 0) {
        index += (int64_t)count;
    }
    *at = (size_t)index;
    return index >= 0 && index < (int64_t)count;
}

// One character. Counting from the end needs the count, from the start only the way there.
static enum status item_of_text(struct run *run, const struct text *text, int64_t index,
                                struct value *out, bool *found) {
    size_t at = 0;
    *found = find_index(index, text_count(text), &at);
    if (!*found) {
        return run_charge_bytes(run, text->length);
    }
    size_t start = text_offset(text, at);
    enum status status = run_charge_bytes(run, text->length + start);
    if (status != STATUS_OK) {
        return status;
    }
    return run_give_text(run, text_slice(&run->arena, text, start, utf8_length(text->bytes[start])),
                         out);
}

static enum status item_by_index(struct run *run, const struct value *object, int64_t index,
                                 struct value *out, bool *found) {
    size_t at = 0;
    switch (object->kind) {
    case VALUE_STRING:
        return item_of_text(run, object->text, index, out, found);
    case VALUE_LIST:
    case VALUE_TUPLE:
        *found = find_index(index, object->list->count, &at);
        if (*found) {
            *out = object->list->items[at];
        }
        return STATUS_OK;
    case VALUE_RANGE:
        *found = find_index(index, object->range->count, &at);
        if (*found) {
            *out = value_int(object->range->start + (int64_t)at * object->range->step);
        }
        return STATUS_OK;
    default:
        *found = false;
        return STATUS_OK;
    }
}

static bool is_hashable(const struct value *key) {
    if (key->kind == VALUE_TUPLE) {
        bool hashable = true;
        for (size_t i = 0; hashable && i < key->list->count; i++) {
            hashable = key->list->items[i].kind != VALUE_TUPLE && is_hashable(&key->list->items[i]);
        }
        return hashable;
    }
    return key->kind != VALUE_LIST && key->kind != VALUE_DICT && key->kind != VALUE_VIEW;
}

enum status lookup_item(struct run *run, const struct value *object, const struct value *key,
                        struct value *out) {
    bool found = false;
    enum status status = STATUS_OK;
    if (object->kind == VALUE_UNDEFINED) {
        return run_fail_undefined(run, object);
    }
    if (object->kind == VALUE_DICT && is_hashable(key)) {
        struct value *value = NULL;
        status = dict_find(run, object->dict, key, &value);
        found = value != NULL;
        if (found) {
            *out = *value;
        }
    } else if (key->kind == VALUE_INT || key->kind == VALUE_BOOL) {
        status = item_by_index(run, object, key->kind == VALUE_INT ? key->integer : key->boolean,
                               out, &found);
    }
    if (status == STATUS_OK && !found && key->kind == VALUE_STRING) {
        status = find_attribute(run, object, key->text, out, &found);
    }
    if (status != STATUS_OK || found) {
        return status;
    }
    if (key->kind == VALUE_STRING) {
        return give_missing(run, object, key->text, out);
    }
    return run_give_undefined(run, (struct undefined){.hint = "the value has no such element"},
                              out);
}

// Which items a slice takes: count of them from start, step apart.
struct slice {
    int64_t start;
    int64_t step;
    size_t count;
};

static enum status read_bound(struct run *run, const struct value *bound, int64_t otherwise,
                              int64_t *out) {
    if (bound->kind == VALUE_NONE) {
        *out = otherwise;
    } else if (bound->kind == VALUE_INT) {
        *out = bound->integer;
    } else if (bound->kind == VALUE_BOOL) {
        *out = bound->boolean;
    } else {
        return run_fail_type(run, "a slice", bound);
    }
    return STATUS_OK;
}

// As PySlice_AdjustIndices.
static int64_t adjust(int64_t bound, int64_t length, int64_t step) {
    if (bound < 0) {
        bound += length;
        return bound < 0 ? (step < 0 ? -1 : 0) : bound;
    }
    return bound >= length ? (step < 0 ? length - 1 : length) : bound;
}

static enum status read_slice(struct run *run, const struct value bounds[3], size_t length,
                              struct slice *slice) {
    int64_t n = (int64_t)length;
    int64_t step = 1;
    int64_t start = 0;
    int64_t stop = 0;
    enum status status = read_bound(run, &bounds[2], 1, &step);
    if (status == STATUS_OK && step == 0) {
        status = run_fail(run, STATUS_INVALID_ARGUMENT, "the step of a slice cannot be zero");
    }
    if (status != STATUS_OK) {
        return status;
    }
    step = step < -INT64_MAX ? -INT64_MAX : step;
    status = read_bound(run, &bounds[0], step < 0 ? INT64_MAX : 0, &start);
    if (status == STATUS_OK) {
        status = read_bound(run, &bounds[1], step < 0 ? INT64_MIN : INT64_MAX, &stop);
    }
    if (status != STATUS_OK) {
        return status;
    }
    start = adjust(start, n, step);
    stop = stop == INT64_MIN ? -1 : adjust(stop, n, step);
    *slice = (struct slice){.start = start, .step = step};
    if (step > 0 && start < stop) {
        slice->count = (size_t)((stop - start - 1) / step + 1);
    } else if (step < 0 && stop < start) {
        slice->count = (size_t)((start - stop - 1) / -step + 1);
    }
    return STATUS_OK;
}

static enum status slice_text(struct run *run, const struct text *text, const struct slice *slice,
                              struct value *out) {
    enum status status = run_charge_bytes(run, 2 * text->length);
    if (status != STATUS_OK) {
        return status;
    }
    if (slice->step == 1 || slice->count == 0) {
        size_t start = slice->count == 0 ? 0 : text_offset(text, (size_t)slice->start);
        const struct text rest = {.bytes = text->bytes + start, .length = text->length - start};
        return run_give_text(
            run, text_slice(&run->arena, text, start, text_offset(&rest, slice->count)), out);
    }
    struct text_builder b = {.arena = &run->arena};
    int64_t at = slice->start;
    size_t offset = text_offset(text, (size_t)at);
    for (size_t i = 0; i < slice->count; i++) {
        int64_t wanted = slice->start + (int64_t)i * slice->step;
        for (; at < wanted; at++) {
            offset += utf8_length(text->bytes[offset]);
        }
        for (; at > wanted; at--) {
            do {
                offset--;
            } while (((uint8_t)text->bytes[offset] & 0xC0) == 0x80);
        }
        builder_put_slice(&b, text, offset, utf8_length(text->bytes[offset]));
    }
    struct text *result = builder_finish(&b);
    if (result != NULL) {
        result->markup = text->markup;
    }
    return run_give_text(run, result, out);
}

enum status lookup_slice(struct run *run, const struct value *object, const struct value bounds[3],
                         struct value *out) {
    size_t length = 0;
    struct slice slice;
    if (object->kind != VALUE_STRING && !value_is_sequence(object)) {
        return object->kind == VALUE_RANGE ? run_fail(run, STATUS_UNSUPPORTED, "slices of a range")
                                           : run_fail_type(run, "a slice", object);
    }
    enum status status = value_length(run, object, &length);
    if (status == STATUS_OK) {
        status = read_slice(run, bounds, length, &slice);
    }
    if (status != STATUS_OK) {
        return status;
    }
    if (object->kind == VALUE_STRING) {
        return slice_text(run, object->text, &slice, out);
    }
    struct value *items = arena_alloc_array(&run->arena, slice.count, sizeof *items);
    if (items == NULL) {
        return run_no_memory(run);
    }
    for (size_t i = 0; i < slice.count; i++) {
        items[i] = object->list->items[slice.start + (int64_t)i * slice.step];
    }
    return list_make(run, object->kind, items, slice.count, out);
}
