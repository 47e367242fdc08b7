#include "worker/tokenizer/jinja/sort.h"

#include <string.h>

#include "worker/tokenizer/jinja/run.h"

// Joins two sorted halves. Equal items keep their order, also when it is reversed, as in Python.
static enum status merge(struct run *run, const struct sort_item *from, size_t middle, size_t count,
                         bool reverse, struct sort_item *to) {
    size_t a = 0;
    size_t b = middle;
    for (size_t i = 0; i < count; i++) {
        bool take_second = a == middle;
        if (a < middle && b < count) {
            int order = 0;
            enum status status = value_compare(run, &from[b].key, &from[a].key, &order);
            if (status == STATUS_OK) {
                status = run_charge(run, 1);
            }
            if (status != STATUS_OK) {
                return status;
            }
            take_second = reverse ? order > 0 : order < 0;
        }
        to[i] = from[take_second ? b++ : a++];
    }
    return STATUS_OK;
}

enum status sort_items(struct run *run, struct sort_item *items, size_t count, bool reverse) {
    struct sort_item *other = arena_alloc_array(&run->arena, count, sizeof *other);
    if (other == NULL) {
        return run_no_memory(run);
    }
    for (size_t width = 1; width < count; width *= 2) {
        for (size_t start = 0; start < count; start += 2 * width) {
            size_t left = count - start;
            enum status status = merge(run, items + start, width < left ? width : left,
                                       2 * width < left ? 2 * width : left, reverse, other + start);
            if (status != STATUS_OK) {
                return status;
            }
        }
        memcpy(items, other, count * sizeof *items);
    }
    return STATUS_OK;
}

enum status sort_entries(struct run *run, const struct dict *dict, bool sorted,
                         const struct dict_entry ***order) {
    const struct dict_entry **entries =
        arena_alloc_array(&run->arena, dict->count, sizeof *entries);
    struct sort_item *items = arena_alloc_array(&run->arena, dict->count, sizeof *items);
    if (entries == NULL || items == NULL) {
        return run_no_memory(run);
    }
    for (size_t i = 0; i < dict->count; i++) {
        items[i] = (struct sort_item){.key = dict->entries[i].key, .payload = &dict->entries[i]};
    }
    enum status status = sorted ? sort_items(run, items, dict->count, false) : STATUS_OK;
    for (size_t i = 0; i < dict->count; i++) {
        entries[i] = items[i].payload;
    }
    *order = entries;
    return status;
}
