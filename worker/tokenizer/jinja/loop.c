#include "worker/tokenizer/jinja/loop.h"

#include "worker/tokenizer/jinja/eval.h"

// Whether the loop's condition lets an item pass.
static enum status passes(struct run *run, const struct loop *loop, const struct value *item,
                          bool *pass) {
    struct value condition;
    struct frame *outer = run->frame;
    struct frame *frame = run_new_frame(run, loop->frame);
    if (frame == NULL) {
        return run_no_memory(run);
    }
    run->frame = frame;
    enum status status = eval_assign(run, loop->node->a, item);
    if (status == STATUS_OK) {
        status = eval_expression(run, loop->node->c, &condition);
    }
    run->frame = outer;
    if (status == STATUS_OK) {
        *pass = value_truth(&condition);
    }
    return status;
}

// The next item that passes; ABSENT at the end.
static enum status fetch(struct run *run, struct loop *loop, struct value *out) {
    *out = (struct value){.kind = VALUE_ABSENT};
    while (loop->next < loop->items.count) {
        const struct value *item = &loop->items.items[loop->next++];
        bool pass = true;
        if (loop->has_test) {
            enum status status = passes(run, loop, item, &pass);
            if (status != STATUS_OK) {
                return status;
            }
        }
        if (pass) {
            *out = *item;
            break;
        }
    }
    return STATUS_OK;
}

static enum status look_ahead(struct run *run, struct loop *loop) {
    return loop->after.kind != VALUE_ABSENT ? STATUS_OK : fetch(run, loop, &loop->after);
}

enum status loop_advance(struct run *run, struct loop *loop, bool *found) {
    enum status status = look_ahead(run, loop);
    if (status != STATUS_OK) {
        return status;
    }
    *found = loop->after.kind != VALUE_ABSENT;
    if (*found) {
        loop->index++;
        loop->before = loop->current;
        loop->current = loop->after;
        loop->after = (struct value){.kind = VALUE_ABSENT};
    }
    return STATUS_OK;
}

// Applies the condition to all items that are left.
static enum status drain(struct run *run, struct loop *loop) {
    struct list rest = {0};
    struct value item;
    rest.items = arena_alloc_array(&run->arena, loop->items.count - loop->next, sizeof *rest.items);
    if (rest.items == NULL) {
        return run_no_memory(run);
    }
    for (;;) {
        enum status status = fetch(run, loop, &item);
        if (status != STATUS_OK) {
            return status;
        }
        if (item.kind == VALUE_ABSENT) {
            break;
        }
        rest.items[rest.count++] = item;
    }
    loop->items = rest;
    loop->next = 0;
    loop->has_test = false;
    return STATUS_OK;
}

enum status loop_length(struct run *run, struct loop *loop, size_t *length) {
    enum status status = loop->has_test ? drain(run, loop) : STATUS_OK;
    if (status == STATUS_OK) {
        *length = (size_t)(loop->index + 1) + (loop->after.kind != VALUE_ABSENT) +
                  (loop->items.count - loop->next);
    }
    return status;
}

static enum status give_neighbour(struct run *run, const struct value *item, const char *hint,
                                  struct value *out) {
    if (item->kind == VALUE_ABSENT) {
        return run_give_undefined(run, (struct undefined){.hint = hint}, out);
    }
    *out = *item;
    return STATUS_OK;
}

static enum status cycle(struct run *run, const struct value *self, const struct value *argv,
                         const struct call *call, struct value *out) {
    (void)argv;
    if (call->n_positional == 0 || call->n_named > 0) {
        return run_fail(run, STATUS_INVALID_ARGUMENT, "no items for cycling given");
    }
    *out = call->positional[(size_t)self->loop->index % call->n_positional];
    return STATUS_OK;
}

static enum status changed(struct run *run, const struct value *self, const struct value *argv,
                           const struct call *call, struct value *out) {
    (void)argv;
    struct value now;
    struct loop *loop = self->loop;
    bool equal = false;
    enum status status = list_make(run, VALUE_TUPLE, call->positional, call->n_positional, &now);
    if (status == STATUS_OK) {
        status = value_equal(run, &loop->changed, &now, &equal);
    }
    if (status == STATUS_OK && !equal) {
        loop->changed = now;
    }
    *out = value_bool(!equal);
    return status;
}

static const struct native methods[] = {{"cycle", "*", cycle}, {"changed", "*", changed}};

enum status loop_attribute(struct run *run, const struct value *value, const struct text *name,
                           struct value *out, bool *known) {
    struct loop *loop = value->loop;
    size_t length = 0;
    bool counts =
        text_is(name, "length") || text_is(name, "revindex") || text_is(name, "revindex0");
    bool looks = text_is(name, "last") || text_is(name, "nextitem");
    enum status status = counts ? loop_length(run, loop, &length) : STATUS_OK;
    if (status == STATUS_OK && looks) {
        status = look_ahead(run, loop);
    }
    if (status != STATUS_OK) {
        return status;
    }
    *known = true;
    if (text_is(name, "index")) {
        *out = value_int(loop->index + 1);
    } else if (text_is(name, "index0")) {
        *out = value_int(loop->index);
    } else if (text_is(name, "first")) {
        *out = value_bool(loop->index == 0);
    } else if (text_is(name, "last")) {
        *out = value_bool(loop->after.kind == VALUE_ABSENT);
    } else if (text_is(name, "length")) {
        *out = value_int((int64_t)length);
    } else if (text_is(name, "revindex")) {
        *out = value_int((int64_t)length - loop->index);
    } else if (text_is(name, "revindex0")) {
        *out = value_int((int64_t)length - loop->index - 1);
    } else if (text_is(name, "depth")) {
        *out = value_int(1);
    } else if (text_is(name, "depth0")) {
        *out = value_int(0);
    } else if (text_is(name, "previtem")) {
        return give_neighbour(run, &loop->before, "there is no previous item", out);
    } else if (text_is(name, "nextitem")) {
        return give_neighbour(run, &loop->after, "there is no next item", out);
    } else {
        const struct native *method = native_find(methods, sizeof methods / sizeof *methods, name);
        *known = method != NULL;
        return method == NULL ? STATUS_OK : native_bind(run, method, value, out);
    }
    return STATUS_OK;
}
