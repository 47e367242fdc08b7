// Stable sorting of values in Python's order.
#ifndef WORKER_TOKENIZER_JINJA_SORT_H
#define WORKER_TOKENIZER_JINJA_SORT_H

#include "worker/tokenizer/jinja/value.h"

struct sort_item {
    struct value key;
    const void *payload;
};

// Sorts items [count] by key. INVALID_ARGUMENT: two keys have no order.
MUST_CHECK enum status sort_items(struct run *run, struct sort_item *items, size_t count,
                                  bool reverse);

// The entries of a dict, by key when `sorted`; *order is the arena's.
MUST_CHECK enum status sort_entries(struct run *run, const struct dict *dict, bool sorted,
                                    const struct dict_entry ***order);

#endif
