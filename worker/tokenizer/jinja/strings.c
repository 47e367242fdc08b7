#include "worker/tokenizer/jinja/strings.h"

#include <string.h>

#include "worker/tokenizer/jinja/characters.h"
#include "worker/tokenizer/utf8.h"

// Values that grow.
struct value_list {
    struct value *items;
    size_t count;
    size_t capacity;
};

static enum status push(struct run *run, struct value_list *list, const struct value *value) {
    if (list->count == list->capacity) {
        size_t capacity = 2 * list->capacity + 8;
        struct value *items = arena_alloc_array(&run->arena, capacity, sizeof *items);
        if (items == NULL) {
            return run_no_memory(run);
        }
        if (list->count > 0) {
            memcpy(items, list->items, list->count * sizeof *items);
        }
        list->items = items;
        list->capacity = capacity;
    }
    list->items[list->count++] = *value;
    return run_charge(run, 1);
}

static enum status push_slice(struct run *run, struct value_list *list, const struct text *text,
                              size_t start, size_t end) {
    struct value value;
    enum status status =
        run_give_text(run, text_slice(&run->arena, text, start, end - start), &value);
    return status == STATUS_OK ? push(run, list, &value) : status;
}

static enum status give_list(struct run *run, const struct value_list *list, struct value *out) {
    return list_make(run, VALUE_LIST, list->items, list->count, out);
}

// Length of the character at `at`, and whether it is to be stripped.
static size_t step_over(const struct text *text, size_t at, const struct text *characters,
                        bool *strips) {
    struct utf8_step step = utf8_next(text->bytes + at, text->length - at);
    if (characters == NULL) {
        *strips = character_is_space(step.code);
    } else {
        const struct text character = {.bytes = text->bytes + at, .length = step.bytes};
        *strips = text_find(characters, &character, 0) >= 0;
    }
    return step.bytes;
}

static size_t previous_start(const struct text *text, size_t at) {
    do {
        at--;
    } while (((uint8_t)text->bytes[at] & 0xC0) == 0x80);
    return at;
}

enum status string_strip(struct run *run, const struct text *text, const struct text *characters,
                         unsigned sides, struct value *out) {
    size_t start = 0;
    size_t end = text->length;
    bool strips = true;
    while ((sides & STRIP_LEFT) != 0 && start < end) {
        size_t bytes = step_over(text, start, characters, &strips);
        if (!strips) {
            break;
        }
        start += bytes;
    }
    while ((sides & STRIP_RIGHT) != 0 && end > start) {
        size_t previous = previous_start(text, end);
        (void)step_over(text, previous, characters, &strips);
        if (!strips) {
            break;
        }
        end = previous;
    }
    enum status status = run_give_text(run, text_slice(&run->arena, text, start, end - start), out);
    size_t work = (text->length - (end - start)) * (characters == NULL ? 1 : characters->length);
    return status == STATUS_OK ? run_charge_bytes(run, work) : status;
}

static enum status split_space(struct run *run, const struct text *text, int64_t splits,
                               struct value_list *list) {
    size_t at = 0;
    bool space;
    for (;;) {
        while (at < text->length) {
            size_t bytes = step_over(text, at, NULL, &space);
            if (!space) {
                break;
            }
            at += bytes;
        }
        if (at == text->length) {
            return STATUS_OK;
        }
        size_t end = at;
        if (splits >= 0 && (int64_t)list->count == splits) {
            for (end = text->length; end > at; end = previous_start(text, end)) {
                (void)step_over(text, previous_start(text, end), NULL, &space);
                if (!space) {
                    break;
                }
            }
            return push_slice(run, list, text, at, end);
        }
        for (space = false; end < text->length;) {
            size_t bytes = step_over(text, end, NULL, &space);
            if (space) {
                break;
            }
            end += bytes;
        }
        enum status status = push_slice(run, list, text, at, end);
        if (status != STATUS_OK) {
            return status;
        }
        at = end;
    }
}

static enum status split_at(struct run *run, const struct text *text, const struct text *separator,
                            int64_t splits, struct value_list *list) {
    size_t start = 0;
    enum status status = STATUS_OK;
    while (status == STATUS_OK && (splits < 0 || (int64_t)list->count < splits)) {
        ptrdiff_t at = text_find(text, separator, start);
        if (at < 0) {
            break;
        }
        status = push_slice(run, list, text, start, (size_t)at);
        start = (size_t)at + separator->length;
    }
    return status == STATUS_OK ? push_slice(run, list, text, start, text->length) : status;
}

static void reverse(struct value_list *list) {
    for (size_t i = 0; i < list->count / 2; i++) {
        struct value item = list->items[i];
        list->items[i] = list->items[list->count - 1 - i];
        list->items[list->count - 1 - i] = item;
    }
}

// Pieces are found from the right and then turned around.
static enum status split_at_from_right(struct run *run, const struct text *text,
                                       const struct text *separator, int64_t splits,
                                       struct value_list *list) {
    size_t end = text->length;
    enum status status = STATUS_OK;
    while (status == STATUS_OK && (splits < 0 || (int64_t)list->count < splits)) {
        ptrdiff_t at = text_find_last(text, separator, end);
        if (at < 0) {
            break;
        }
        status = push_slice(run, list, text, (size_t)at + separator->length, end);
        end = (size_t)at;
    }
    if (status == STATUS_OK) {
        status = push_slice(run, list, text, 0, end);
    }
    reverse(list);
    return status;
}

enum status string_split(struct run *run, const struct text *text, const struct text *separator,
                         int64_t splits, bool from_right, struct value *out) {
    struct value_list list = {0};
    enum status status = run_charge_bytes(run, 8 * text->length);
    if (status == STATUS_OK && from_right && separator == NULL && splits >= 0) {
        status = run_fail(run, STATUS_UNSUPPORTED, "rsplit at white space with a limit");
    } else if (status == STATUS_OK && separator == NULL) {
        status = split_space(run, text, splits, &list);
    } else if (status == STATUS_OK && from_right) {
        status = split_at_from_right(run, text, separator, splits, &list);
    } else if (status == STATUS_OK) {
        status = split_at(run, text, separator, splits, &list);
    }
    return status == STATUS_OK ? give_list(run, &list, out) : status;
}

enum status string_split_lines(struct run *run, const struct text *text, bool keep_ends,
                               struct value *out) {
    struct value_list list = {0};
    size_t start = 0;
    enum status status = run_charge_bytes(run, text->length);
    for (size_t at = 0; status == STATUS_OK && at < text->length;) {
        struct utf8_step step = utf8_next(text->bytes + at, text->length - at);
        size_t next = at + step.bytes;
        if (character_ends_line(step.code)) {
            next += step.code == '\r' && next < text->length && text->bytes[next] == '\n';
            status = push_slice(run, &list, text, start, keep_ends ? next : at);
            start = next;
        }
        at = next;
    }
    if (status == STATUS_OK && start < text->length) {
        status = push_slice(run, &list, text, start, text->length);
    }
    return status == STATUS_OK ? give_list(run, &list, out) : status;
}

// Replacing nothing puts `with` before every character and at the end.
static void replace_empty(struct text_builder *b, const struct text *text, const struct text *with,
                          int64_t count) {
    size_t at = 0;
    int64_t done = 0;
    while ((count < 0 || done < count) && at <= text->length && !b->failed) {
        builder_put_text(b, with);
        done++;
        if (at == text->length) {
            return;
        }
        size_t bytes = utf8_length(text->bytes[at]);
        builder_put_slice(b, text, at, bytes);
        at += bytes;
    }
    builder_put_slice(b, text, at, text->length - at);
}

enum status string_replace(struct run *run, const struct text *text, const struct text *old,
                           const struct text *with, int64_t count, struct value *out) {
    struct text_builder b = {.arena = &run->arena};
    if (text->markup || with->markup || old->markup) {
        return run_fail(run, STATUS_UNSUPPORTED, "replacing in escaped text");
    }
    if (old->length == 0) {
        replace_empty(&b, text, with, count);
    } else {
        size_t start = 0;
        for (int64_t done = 0; (count < 0 || done < count) && !b.failed; done++) {
            ptrdiff_t at = text_find(text, old, start);
            if (at < 0) {
                break;
            }
            builder_put_slice(&b, text, start, (size_t)at - start);
            builder_put_text(&b, with);
            start = (size_t)at + old->length;
        }
        builder_put_slice(&b, text, start, text->length - start);
    }
    enum status status = run_give_text(run, builder_finish(&b), out);
    return status == STATUS_OK ? run_charge_bytes(run, text->length + b.length) : status;
}

enum status string_join(struct run *run, const struct text *separator, const struct list *items,
                        struct value *out) {
    struct text_builder b = {.arena = &run->arena};
    enum status status = STATUS_OK;
    for (size_t i = 0; status == STATUS_OK && i < items->count; i++) {
        const struct text *text = NULL;
        status = value_to_text(run, &items->items[i], &text);
        if (status == STATUS_OK) {
            if (i > 0) {
                builder_put_text(&b, separator);
            }
            builder_put_text(&b, text);
            status = run_charge_bytes(run, 64 + text->length + separator->length);
        }
    }
    return status == STATUS_OK ? run_give_text(run, builder_finish(&b), out) : status;
}
