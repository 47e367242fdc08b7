// Statements of a template.
#include "worker/tokenizer/jinja/convert.h"
#include "worker/tokenizer/jinja/eval.h"
#include "worker/tokenizer/jinja/loop.h"

enum status eval_enter(struct run *run, const struct node *node) {
    run->depth++;
    run->line = node->line;
    if (run->depth > JINJA_EVALUATION_DEPTH_MAX) {
        return run_fail(run, STATUS_LIMIT, "the evaluation nests more than %d deep",
                        JINJA_EVALUATION_DEPTH_MAX);
    }
    return run_charge(run, 1);
}

void eval_leave(struct run *run) {
    run->depth--;
}

static enum status hide_names(struct run *run, struct frame *frame, const struct node *body) {
    static const struct value absent = {.kind = VALUE_ABSENT};
    enum status status = STATUS_OK;
    for (size_t i = 0; status == STATUS_OK && i < body->n_hidden; i++) {
        status = frame_set(run, frame, body->hidden[i], &absent);
    }
    return status;
}

enum status eval_new_scope(struct run *run, struct frame *parent, const struct node *body,
                           struct frame **out) {
    struct frame *frame = run_new_frame(run, parent);
    if (frame == NULL) {
        return run_no_memory(run);
    }
    *out = frame;
    return hide_names(run, frame, body);
}

static enum status put(struct run *run, const struct text *text) {
    builder_put_text(run->out, text);
    if (run->out->failed) {
        return run_no_memory(run);
    }
    if (run->out->length > JINJA_OUTPUT_BYTES_MAX) {
        return run_fail(run, STATUS_LIMIT, "the output is more than %d bytes",
                        JINJA_OUTPUT_BYTES_MAX);
    }
    return run_charge_bytes(run, text->length);
}

static enum status eval_print(struct run *run, const struct node *node) {
    struct value value;
    const struct text *text = NULL;
    enum status status = eval_expression(run, node->a, &value);
    if (status == STATUS_OK) {
        status = value_to_text(run, &value, &text);
    }
    return status == STATUS_OK ? put(run, text) : status;
}

static enum status eval_if(struct run *run, const struct node *node) {
    for (size_t i = 0; i + 1 < node->n_items; i += 2) {
        struct value condition;
        enum status status = eval_expression(run, node->items[i], &condition);
        if (status != STATUS_OK) {
            return status;
        }
        if (value_truth(&condition)) {
            return eval_body(run, node->items[i + 1]);
        }
    }
    return node->c == NULL ? STATUS_OK : eval_body(run, node->c);
}

static enum status assign_items(struct run *run, const struct node *target,
                                const struct value *value) {
    struct list items;
    enum status status = value_items(run, value, &items);
    if (status == STATUS_OK && items.count != target->n_items) {
        status = run_fail(run, STATUS_INVALID_ARGUMENT, "%zu values cannot be given to %zu names",
                          items.count, target->n_items);
    }
    for (size_t i = 0; status == STATUS_OK && i < items.count; i++) {
        status = eval_assign(run, target->items[i], &items.items[i]);
    }
    return status;
}

static enum status assign_member(struct run *run, const struct node *target,
                                 const struct value *value) {
    struct value object;
    enum status status = run_lookup(run, target->name, &object);
    if (status != STATUS_OK) {
        return status;
    }
    if (object.kind != VALUE_NAMESPACE) {
        return run_fail(run, STATUS_INVALID_ARGUMENT,
                        "cannot assign attribute on non-namespace object");
    }
    if (target->attribute->bytes[0] == '_') {
        return run_fail(run, STATUS_INVALID_ARGUMENT,
                        "a namespace cannot have members that begin with an underscore");
    }
    const struct value key = value_text(target->attribute);
    return dict_set(run, object.dict, &key, value);
}

enum status eval_assign(struct run *run, const struct node *target, const struct value *value) {
    switch (target->kind) {
    case NODE_NAME:
        return frame_set(run, run->frame, target->name, value);
    case NODE_MEMBER:
        return assign_member(run, target, value);
    default:
        return assign_items(run, target, value);
    }
}

// jinja2 looks at the namespaces of a target before it evaluates the value.
static enum status check_members(struct run *run, const struct node *target) {
    enum status status = STATUS_OK;
    if (target->kind == NODE_MEMBER) {
        struct value object;
        status = run_lookup(run, target->name, &object);
        if (status == STATUS_OK && object.kind != VALUE_NAMESPACE) {
            status = run_fail(run, STATUS_INVALID_ARGUMENT,
                              "cannot assign attribute on non-namespace object");
        }
    }
    for (size_t i = 0; status == STATUS_OK && i < target->n_items; i++) {
        status = check_members(run, target->items[i]);
    }
    return status;
}

static enum status eval_set(struct run *run, const struct node *node) {
    struct value value;
    enum status status = check_members(run, node->a);
    if (status == STATUS_OK) {
        status = eval_expression(run, node->b, &value);
    }
    return status == STATUS_OK ? eval_assign(run, node->a, &value) : status;
}

enum status eval_captured(struct run *run, struct frame *frame, const struct node *body,
                          struct value *out) {
    struct frame *outer_frame = run->frame;
    struct text_builder *outer_out = run->out;
    struct text_builder captured = {.arena = &run->arena};
    run->frame = frame;
    run->out = &captured;
    enum status status = eval_body(run, body);
    run->frame = outer_frame;
    run->out = outer_out;
    return status == STATUS_OK ? run_give_text(run, builder_finish(&captured), out) : status;
}

// A body in a scope of its own, then the filter of the block, if any.
static enum status eval_filtered(struct run *run, const struct node *node, struct value *value) {
    struct frame *frame = NULL;
    enum status status = eval_new_scope(run, run->frame, node->c, &frame);
    if (status == STATUS_OK) {
        status = eval_captured(run, frame, node->c, value);
    }
    if (status != STATUS_OK || run->flow != FLOW_NEXT || node->b == NULL) {
        return status;
    }
    struct frame *outer = run->frame;
    const struct value input = *value;
    run->frame = frame;
    status = eval_block_filter(run, node->b, &input, value);
    run->frame = outer;
    return status;
}

static enum status eval_set_block(struct run *run, const struct node *node) {
    struct value value;
    enum status status = eval_filtered(run, node, &value);
    if (status != STATUS_OK || run->flow != FLOW_NEXT) {
        return status;
    }
    return eval_assign(run, node->a, &value);
}

static enum status print_value(struct run *run, const struct value *value) {
    const struct text *text = NULL;
    enum status status = value_to_text(run, value, &text);
    return status == STATUS_OK ? put(run, text) : status;
}

static enum status eval_filter_block(struct run *run, const struct node *node) {
    struct value value;
    enum status status = eval_filtered(run, node, &value);
    if (status != STATUS_OK || run->flow != FLOW_NEXT) {
        return status;
    }
    return print_value(run, &value);
}

static enum status make_macro(struct run *run, const struct node *node, struct value *out) {
    struct macro *macro = arena_alloc(&run->arena, sizeof *macro);
    if (macro == NULL) {
        return run_no_memory(run);
    }
    *macro = (struct macro){.node = node, .definition = run->frame};
    for (struct frame *frame = run->frame; frame != NULL; frame = frame->parent) {
        frame->is_kept = true;
    }
    *out = (struct value){.kind = VALUE_MACRO, .macro = macro};
    return STATUS_OK;
}

static enum status eval_macro(struct run *run, const struct node *node) {
    struct value macro;
    enum status status = make_macro(run, node, &macro);
    return status == STATUS_OK ? frame_set(run, run->frame, node->name, &macro) : status;
}

static enum status eval_call_block(struct run *run, const struct node *node) {
    struct value caller;
    struct value callee;
    struct value result;
    struct call call;
    enum status status = make_macro(run, node, &caller);
    if (status == STATUS_OK) {
        status = eval_expression(run, node->a->a, &callee);
    }
    if (status == STATUS_OK) {
        status = eval_arguments(run, &node->a->arguments, &caller, &call);
    }
    if (status == STATUS_OK) {
        status = eval_call(run, &callee, &call, &result);
    }
    return status == STATUS_OK ? print_value(run, &result) : status;
}

// A body in a new scope with the output going on.
static enum status eval_in_scope(struct run *run, struct frame *frame, const struct node *body) {
    struct frame *outer = run->frame;
    run->frame = frame;
    enum status status = eval_body(run, body);
    run->frame = outer;
    return status;
}

static enum status eval_with(struct run *run, const struct node *node) {
    struct frame *frame = NULL;
    struct frame *outer = run->frame;
    enum status status = eval_new_scope(run, outer, node->c, &frame);
    for (size_t i = 0; status == STATUS_OK && i + 1 < node->n_items; i += 2) {
        struct value value;
        status = eval_expression(run, node->items[i + 1], &value);
        if (status == STATUS_OK) {
            run->frame = frame;
            status = eval_assign(run, node->items[i], &value);
            run->frame = outer;
        }
    }
    return status == STATUS_OK ? eval_in_scope(run, frame, node->c) : status;
}

static enum status eval_scope(struct run *run, const struct node *node) {
    struct frame *frame = NULL;
    enum status status = eval_new_scope(run, run->frame, node->c, &frame);
    return status == STATUS_OK ? eval_in_scope(run, frame, node->c) : status;
}

// A scope for one more iteration: that of the last one, emptied, unless somebody keeps it.
static enum status iteration_scope(struct run *run, const struct node *body, struct frame **frame) {
    if (*frame == NULL || (*frame)->is_kept) {
        return eval_new_scope(run, run->frame, body, frame);
    }
    (*frame)->count = 0;
    return hide_names(run, *frame, body);
}

static enum status eval_iteration(struct run *run, struct loop *loop, const struct text *name,
                                  struct frame **frame) {
    const struct node *node = loop->node;
    struct frame *outer = run->frame;
    const struct value value = {.kind = VALUE_LOOP, .loop = loop};
    enum status status = iteration_scope(run, node->items[0], frame);
    if (status == STATUS_OK) {
        status = frame_set(run, *frame, name, &value);
    }
    if (status == STATUS_OK) {
        run->frame = *frame;
        status = eval_assign(run, node->a, &loop->current);
        if (status == STATUS_OK) {
            status = eval_body(run, node->items[0]);
        }
        run->frame = outer;
    }
    return status;
}

// As in jinja2 the else is for loops in which no iteration came to the end of the body: also for
// those in which every one was left by continue or break.
static enum status eval_for(struct run *run, const struct node *node) {
    struct value iterated;
    struct loop *loop = arena_alloc(&run->arena, sizeof *loop);
    const struct text *name = text_constant(&run->arena, "loop");
    if (loop == NULL || name == NULL) {
        return run_no_memory(run);
    }
    *loop =
        (struct loop){.node = node, .frame = run->frame, .has_test = node->c != NULL, .index = -1};
    enum status status = eval_expression(run, node->b, &iterated);
    if (status == STATUS_OK) {
        status = value_items(run, &iterated, &loop->items);
    }
    bool completed = false;
    struct frame *frame = NULL;
    while (status == STATUS_OK) {
        bool found = false;
        status = loop_advance(run, loop, &found);
        if (status != STATUS_OK || !found) {
            break;
        }
        status = eval_iteration(run, loop, name, &frame);
        enum flow flow = run->flow;
        run->flow = FLOW_NEXT;
        completed = completed || flow == FLOW_NEXT;
        if (flow == FLOW_BREAK) {
            break;
        }
    }
    if (status != STATUS_OK || completed || node->items[1] == NULL) {
        return status;
    }
    status = eval_new_scope(run, run->frame, node->items[1], &frame);
    return status == STATUS_OK ? eval_in_scope(run, frame, node->items[1]) : status;
}

static enum status eval_statement(struct run *run, const struct node *node) {
    switch (node->kind) {
    case NODE_BLOCK:
        return eval_body(run, node);
    case NODE_TEXT:
        return put(run, node->name);
    case NODE_PRINT:
        return eval_print(run, node);
    case NODE_IF:
        return eval_if(run, node);
    case NODE_FOR:
        return eval_for(run, node);
    case NODE_SET:
        return eval_set(run, node);
    case NODE_SET_BLOCK:
        return eval_set_block(run, node);
    case NODE_MACRO:
        return eval_macro(run, node);
    case NODE_CALL_BLOCK:
        return eval_call_block(run, node);
    case NODE_FILTER_BLOCK:
        return eval_filter_block(run, node);
    case NODE_WITH:
        return eval_with(run, node);
    case NODE_SCOPE:
        return eval_scope(run, node);
    case NODE_BREAK:
        run->flow = FLOW_BREAK;
        return STATUS_OK;
    case NODE_CONTINUE:
        run->flow = FLOW_CONTINUE;
        return STATUS_OK;
    default:
        return run_fail(run, STATUS_INTERNAL, "not a statement");
    }
}

enum status eval_body(struct run *run, const struct node *body) {
    enum status status = eval_enter(run, body);
    for (size_t i = 0; status == STATUS_OK && run->flow == FLOW_NEXT && i < body->n_items; i++) {
        run->line = body->items[i]->line;
        status = eval_statement(run, body->items[i]);
    }
    eval_leave(run);
    return status;
}
