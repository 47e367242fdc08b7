// Expressions of a template, calls included.
#include "worker/tokenizer/jinja/convert.h"
#include "worker/tokenizer/jinja/eval.h"

#include <string.h>

static enum status eval_items(struct run *run, const struct node *node, struct value **items) {
    *items = arena_alloc_array(&run->arena, node->n_items, sizeof **items);
    if (*items == NULL) {
        return run_no_memory(run);
    }
    enum status status = STATUS_OK;
    for (size_t i = 0; status == STATUS_OK && i < node->n_items; i++) {
        status = eval_expression(run, node->items[i], &(*items)[i]);
    }
    return status;
}

static enum status eval_list(struct run *run, const struct node *node, struct value *out) {
    struct value *items = NULL;
    enum status status = eval_items(run, node, &items);
    if (status != STATUS_OK) {
        return status;
    }
    return list_make(run, node->kind == NODE_LIST ? VALUE_LIST : VALUE_TUPLE, items, node->n_items,
                     out);
}

static enum status eval_dict(struct run *run, const struct node *node, struct value *out) {
    struct dict *dict = arena_alloc(&run->arena, sizeof *dict);
    struct value *items = NULL;
    if (dict == NULL) {
        return run_no_memory(run);
    }
    enum status status = eval_items(run, node, &items);
    for (size_t i = 0; status == STATUS_OK && i + 1 < node->n_items; i += 2) {
        status = dict_set(run, dict, &items[i], &items[i + 1]);
    }
    *out = (struct value){.kind = VALUE_DICT, .dict = dict};
    return status;
}

static enum status eval_cond(struct run *run, const struct node *node, struct value *out) {
    struct value condition;
    enum status status = eval_expression(run, node->a, &condition);
    if (status != STATUS_OK) {
        return status;
    }
    if (value_truth(&condition)) {
        return eval_expression(run, node->b, out);
    }
    if (node->c != NULL) {
        return eval_expression(run, node->c, out);
    }
    static const char hint[] = "an inline if was false and has no else";
    return run_give_undefined(run, (struct undefined){.hint = hint}, out);
}

static enum status eval_logic(struct run *run, const struct node *node, struct value *out) {
    enum status status = eval_expression(run, node->a, out);
    if (status != STATUS_OK || value_truth(out) == (node->kind == NODE_OR)) {
        return status;
    }
    return eval_expression(run, node->b, out);
}

static enum status eval_not(struct run *run, const struct node *node, struct value *out) {
    struct value value;
    enum status status = eval_expression(run, node->a, &value);
    *out = value_bool(!value_truth(&value));
    return status;
}

static enum status eval_compare(struct run *run, const struct node *node, struct value *out) {
    struct value left;
    enum status status = eval_expression(run, node->a, &left);
    *out = value_bool(true);
    for (size_t i = 0; status == STATUS_OK && out->boolean && i < node->n_items; i++) {
        struct value right;
        status = eval_expression(run, node->items[i]->a, &right);
        if (status == STATUS_OK) {
            status = operate(run, node->items[i]->operation, &left, &right, out);
        }
        left = right;
    }
    return status;
}

static enum status eval_binary(struct run *run, const struct node *node, struct value *out) {
    struct value a;
    struct value b;
    enum status status = eval_expression(run, node->a, &a);
    if (status == STATUS_OK) {
        status = eval_expression(run, node->b, &b);
    }
    run->line = node->line;
    return status == STATUS_OK ? operate(run, node->operation, &a, &b, out) : status;
}

static enum status eval_unary(struct run *run, const struct node *node, struct value *out) {
    struct value a;
    enum status status = eval_expression(run, node->a, &a);
    return status == STATUS_OK ? operate_unary(run, node->operation, &a, out) : status;
}

static enum status eval_concat(struct run *run, const struct node *node, struct value *out) {
    struct text_builder b = {.arena = &run->arena};
    enum status status = STATUS_OK;
    for (size_t i = 0; status == STATUS_OK && i < node->n_items; i++) {
        struct value value;
        const struct text *text = NULL;
        status = eval_expression(run, node->items[i], &value);
        if (status == STATUS_OK) {
            status = value_to_text(run, &value, &text);
        }
        if (status == STATUS_OK) {
            builder_put_text(&b, text);
            status = run_charge_bytes(run, text->length);
        }
    }
    return status == STATUS_OK ? run_give_text(run, builder_finish(&b), out) : status;
}

static enum status eval_attribute(struct run *run, const struct node *node, struct value *out) {
    struct value object;
    enum status status = eval_expression(run, node->a, &object);
    run->line = node->line;
    return status == STATUS_OK ? lookup_attribute(run, &object, node->name, out) : status;
}

static enum status eval_item(struct run *run, const struct node *node, struct value *out) {
    struct value object;
    struct value key;
    enum status status = eval_expression(run, node->a, &object);
    if (status == STATUS_OK) {
        status = eval_expression(run, node->b, &key);
    }
    run->line = node->line;
    return status == STATUS_OK ? lookup_item(run, &object, &key, out) : status;
}

static enum status eval_slice(struct run *run, const struct node *node, struct value *out) {
    struct value object;
    struct value bounds[3];
    enum status status = eval_expression(run, node->a, &object);
    for (int i = 0; status == STATUS_OK && i < 3; i++) {
        bounds[i] = value_none();
        if (node->items[i] != NULL) {
            status = eval_expression(run, node->items[i], &bounds[i]);
        }
    }
    run->line = node->line;
    return status == STATUS_OK ? lookup_slice(run, &object, bounds, out) : status;
}

static enum status give_named(struct run *run, struct call *call, const struct text *name,
                              const struct value *value) {
    for (size_t i = 0; i < call->n_named; i++) {
        if (text_equal(call->named[i].name, name)) {
            return run_fail(run, STATUS_INVALID_ARGUMENT, "an argument is given twice");
        }
    }
    call->named[call->n_named++] = (struct named_value){.name = name, .value = *value};
    return run_charge(run, 1 + call->n_named / 16);
}

// Members of a **dict as named arguments, for which there is room.
static enum status give_members(struct run *run, struct call *call, const struct dict *dict) {
    enum status status = STATUS_OK;
    for (size_t i = 0; status == STATUS_OK && i < dict->count; i++) {
        const struct value *key = &dict->entries[i].key;
        if (key->kind != VALUE_STRING) {
            return run_fail_type(run, "the name of an argument", key);
        }
        status = give_named(run, call, key->text, &dict->entries[i].value);
    }
    return status;
}

// The values behind * and **, nothing where there is none.
static enum status eval_stars(struct run *run, const struct arguments *arguments, struct list *more,
                              struct value *members) {
    struct value star;
    enum status status = STATUS_OK;
    *more = (struct list){0};
    *members = value_none();
    if (arguments->star != NULL) {
        status = eval_expression(run, arguments->star, &star);
        if (status == STATUS_OK) {
            status = value_items(run, &star, more);
        }
    }
    if (status == STATUS_OK && arguments->double_star != NULL) {
        status = eval_expression(run, arguments->double_star, members);
        if (status == STATUS_OK && members->kind != VALUE_DICT) {
            status = run_fail_type(run, "**", members);
        }
    }
    return status;
}

enum status eval_arguments(struct run *run, const struct arguments *arguments,
                           const struct value *caller, struct call *call) {
    struct list more;
    struct value members;
    enum status status = eval_stars(run, arguments, &more, &members);
    if (status != STATUS_OK) {
        return status;
    }
    size_t n_members = members.kind == VALUE_DICT ? members.dict->count : 0;
    *call = (struct call){0};
    call->positional = arena_alloc_array(&run->arena, arguments->n_positional + more.count,
                                         sizeof *call->positional);
    call->named =
        arena_alloc_array(&run->arena, arguments->n_keywords + n_members + 1, sizeof *call->named);
    if (call->positional == NULL || call->named == NULL) {
        return run_no_memory(run);
    }
    for (size_t i = 0; status == STATUS_OK && i < arguments->n_positional; i++) {
        status =
            eval_expression(run, arguments->positional[i], &call->positional[call->n_positional++]);
    }
    if (more.count > 0) {
        memcpy(call->positional + call->n_positional, more.items, more.count * sizeof *more.items);
        call->n_positional += more.count;
    }
    for (size_t i = 0; status == STATUS_OK && i < arguments->n_keywords; i++) {
        struct value value;
        status = eval_expression(run, arguments->keywords[i].value, &value);
        if (status == STATUS_OK) {
            status = give_named(run, call, arguments->keywords[i].name, &value);
        }
    }
    if (status == STATUS_OK && n_members > 0) {
        status = give_members(run, call, members.dict);
    }
    if (status == STATUS_OK && caller != NULL) {
        const struct text *name = text_constant(&run->arena, "caller");
        status = name == NULL ? run_no_memory(run) : give_named(run, call, name, caller);
    }
    return status;
}

enum status eval_call(struct run *run, const struct value *callee, const struct call *call,
                      struct value *out) {
    switch (callee->kind) {
    case VALUE_MACRO:
        return macro_call(run, callee->macro, call, out);
    case VALUE_NATIVE:
        return native_call(run, callee->native->native, &callee->native->self, call, out);
    case VALUE_UNDEFINED:
        return run_fail_undefined(run, callee);
    default:
        return run_fail(run, STATUS_INVALID_ARGUMENT, "a value of type %s cannot be called",
                        value_type(callee));
    }
}

static enum status eval_call_node(struct run *run, const struct node *node, struct value *out) {
    struct value callee;
    struct call call;
    enum status status = eval_expression(run, node->a, &callee);
    if (status == STATUS_OK) {
        status = eval_arguments(run, &node->arguments, NULL, &call);
    }
    run->line = node->line;
    return status == STATUS_OK ? eval_call(run, &callee, &call, out) : status;
}

// A filter or test applied to `input`.
static enum status apply(struct run *run, const struct node *node, const struct value *input,
                         struct value *out) {
    struct call call;
    if (node->native == NULL) {
        return run_fail(run, STATUS_INVALID_ARGUMENT, "there is no %s '%.*s'",
                        node->kind == NODE_FILTER ? "filter" : "test", (int)node->name->length,
                        node->name->bytes);
    }
    enum status status = eval_arguments(run, &node->arguments, NULL, &call);
    run->line = node->line;
    return status == STATUS_OK ? native_call(run, node->native, input, &call, out) : status;
}

static enum status eval_apply(struct run *run, const struct node *node, struct value *out) {
    struct value input;
    enum status status = eval_expression(run, node->a, &input);
    return status == STATUS_OK ? apply(run, node, &input, out) : status;
}

enum status eval_block_filter(struct run *run, const struct node *filter, const struct value *input,
                              struct value *out) {
    struct value inner = *input;
    enum status status = eval_enter(run, filter);
    if (status == STATUS_OK && filter->a != NULL) {
        status = eval_block_filter(run, filter->a, input, &inner);
    }
    if (status == STATUS_OK) {
        status = apply(run, filter, &inner, out);
    }
    eval_leave(run);
    return status;
}

static enum status eval_kind(struct run *run, const struct node *node, struct value *out) {
    switch (node->kind) {
    case NODE_CONST:
        *out = node->value;
        return STATUS_OK;
    case NODE_NAME:
        return run_lookup(run, node->name, out);
    case NODE_LIST:
    case NODE_TUPLE:
        return eval_list(run, node, out);
    case NODE_DICT:
        return eval_dict(run, node, out);
    case NODE_COND:
        return eval_cond(run, node, out);
    case NODE_OR:
    case NODE_AND:
        return eval_logic(run, node, out);
    case NODE_NOT:
        return eval_not(run, node, out);
    case NODE_COMPARE:
        return eval_compare(run, node, out);
    case NODE_BINARY:
        return eval_binary(run, node, out);
    case NODE_UNARY:
        return eval_unary(run, node, out);
    case NODE_CONCAT:
        return eval_concat(run, node, out);
    case NODE_ATTRIBUTE:
        return eval_attribute(run, node, out);
    case NODE_ITEM:
        return eval_item(run, node, out);
    case NODE_SLICE:
        return eval_slice(run, node, out);
    case NODE_CALL:
        return eval_call_node(run, node, out);
    case NODE_FILTER:
    case NODE_TEST:
        return eval_apply(run, node, out);
    default:
        return run_fail(run, STATUS_INTERNAL, "not an expression");
    }
}

enum status eval_expression(struct run *run, const struct node *node, struct value *out) {
    *out = value_none();
    enum status status = eval_enter(run, node);
    if (status == STATUS_OK) {
        status = eval_kind(run, node, out);
    }
    eval_leave(run);
    return status;
}
