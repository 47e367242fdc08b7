// Calls of macros, and of the bodies of call blocks.
#include "worker/tokenizer/jinja/eval.h"

#include <string.h>

// Takes a named argument out of the call; NULL when it has none of that name.
static const struct value *take_named(struct call *call, const struct text *name) {
    for (size_t i = 0; i < call->n_named; i++) {
        if (call->named[i].name != NULL && text_equal(call->named[i].name, name)) {
            call->named[i].name = NULL;
            return &call->named[i].value;
        }
    }
    return NULL;
}

// Value of parameter i: given by place, by name, its default, or undefined.
static enum status bind_parameter(struct run *run, const struct node *node, struct frame *frame,
                                  struct call *call, size_t i) {
    const struct text *name = node->items[i]->name;
    const struct value *given =
        i < call->n_positional ? &call->positional[i] : take_named(call, name);
    if (given != NULL) {
        return frame_set(run, frame, name, given);
    }
    size_t first_default = node->n_items - node->n_more;
    struct value value;
    enum status status;
    if (i >= first_default) {
        struct frame *outer = run->frame;
        run->frame = frame;
        status = eval_expression(run, node->more[i - first_default], &value);
        run->frame = outer;
    } else {
        status = run_give_undefined(run, (struct undefined){.name = name}, &value);
    }
    return status == STATUS_OK ? frame_set(run, frame, name, &value) : status;
}

static enum status set_special(struct run *run, struct frame *frame, const char *name,
                               const struct value *value) {
    const struct text *text = text_constant(&run->arena, name);
    return text == NULL ? run_no_memory(run) : frame_set(run, frame, text, value);
}

static enum status bind_caller(struct run *run, struct frame *frame, struct call *call) {
    const struct text *name = text_constant(&run->arena, "caller");
    if (name == NULL) {
        return run_no_memory(run);
    }
    const struct value *given = take_named(call, name);
    if (given != NULL) {
        return frame_set(run, frame, name, given);
    }
    struct value undefined;
    enum status status =
        run_give_undefined(run, (struct undefined){.hint = "No caller defined"}, &undefined);
    return status == STATUS_OK ? frame_set(run, frame, name, &undefined) : status;
}

static enum status bind_kwargs(struct run *run, struct frame *frame, struct call *call) {
    struct dict *dict = arena_alloc(&run->arena, sizeof *dict);
    if (dict == NULL) {
        return run_no_memory(run);
    }
    enum status status = STATUS_OK;
    for (size_t i = 0; status == STATUS_OK && i < call->n_named; i++) {
        if (call->named[i].name != NULL) {
            const struct value key = value_text(call->named[i].name);
            status = dict_set(run, dict, &key, &call->named[i].value);
            call->named[i].name = NULL;
        }
    }
    const struct value value = {.kind = VALUE_DICT, .dict = dict};
    return status == STATUS_OK ? set_special(run, frame, "kwargs", &value) : status;
}

static enum status bind_varargs(struct run *run, struct frame *frame, const struct call *call,
                                size_t n_parameters) {
    struct value value;
    size_t more = call->n_positional > n_parameters ? call->n_positional - n_parameters : 0;
    enum status status =
        list_make(run, VALUE_TUPLE, call->positional + (call->n_positional - more), more, &value);
    return status == STATUS_OK ? set_special(run, frame, "varargs", &value) : status;
}

static enum status check_all_taken(struct run *run, const struct node *node,
                                   const struct call *call) {
    for (size_t i = 0; i < call->n_named; i++) {
        const struct text *name = call->named[i].name;
        if (name != NULL) {
            return run_fail(run, STATUS_INVALID_ARGUMENT,
                            "the macro takes no argument of the name '%.*s'",
                            (int)(name->length < 40 ? name->length : 40), name->bytes);
        }
    }
    if (call->n_positional > node->n_items && (node->uses & MACRO_USES_VARARGS) == 0) {
        return run_fail(run, STATUS_INVALID_ARGUMENT, "the macro takes at most %zu arguments",
                        node->n_items);
    }
    return STATUS_OK;
}

static enum status bind(struct run *run, const struct node *node, struct frame *frame,
                        const struct call *given) {
    struct call call = *given;
    call.named = arena_alloc_array(&run->arena, given->n_named, sizeof *call.named);
    if (call.named == NULL) {
        return run_no_memory(run);
    }
    if (given->n_named > 0) {
        memcpy(call.named, given->named, given->n_named * sizeof *call.named);
    }
    enum status status = STATUS_OK;
    for (size_t i = 0; status == STATUS_OK && i < node->n_items; i++) {
        status = bind_parameter(run, node, frame, &call, i);
    }
    if (status == STATUS_OK && (node->uses & MACRO_USES_CALLER) != 0) {
        status = bind_caller(run, frame, &call);
    }
    if (status == STATUS_OK && (node->uses & MACRO_USES_KWARGS) != 0) {
        status = bind_kwargs(run, frame, &call);
    }
    if (status == STATUS_OK && (node->uses & MACRO_USES_VARARGS) != 0) {
        status = bind_varargs(run, frame, &call, node->n_items);
    }
    return status == STATUS_OK ? check_all_taken(run, node, &call) : status;
}

enum status macro_call(struct run *run, const struct macro *macro, const struct call *call,
                       struct value *out) {
    const struct node *node = macro->node;
    struct frame *frame = NULL;
    enum status status = eval_enter(run, node);
    if (status == STATUS_OK) {
        status = eval_new_scope(run, macro->definition, node->c, &frame);
    }
    if (status == STATUS_OK) {
        status = bind(run, node, frame, call);
    }
    if (status == STATUS_OK) {
        status = eval_captured(run, frame, node->c, out);
    }
    eval_leave(run);
    return status;
}
