// Which names a scope sets before it reads them. jinja2 decides when it compiles whether a name is
// a variable of the scope, of one around it, or the caller's; looking names up while rendering
// gives the same except in one case: a name that a scope sets (not only under a condition) and that
// no scope around it knows is never the caller's there, also not for a loop or macro inside that
// runs before it is set. Such names are the scope's hidden ones.
//
// On the way it collects the names that a template reads from its caller: those that are read where
// no scope has set them for certain, that is, not only in some branches of an if.
#include <string.h>

#include "worker/tokenizer/jinja/parser.h"
#include "worker/tokenizer/jinja/run.h"

enum { COMPARISONS_MAX = 50000000 };

struct scope {
    struct scope *parent;
    const struct text **names; // [count]
    size_t count;
    size_t capacity;
    const struct text **certain; // [n_certain] of names: set wherever the analysis is
    size_t n_certain;
    size_t certain_capacity;
    struct node_list inner; // nodes whose bodies are scopes in this one
    struct node *body;      // gets the hidden names
    size_t hidden_capacity;
};

struct analysis {
    struct parser *parser;
    struct scope *scope;
    size_t comparisons;
    struct scope_reads *reads;
    size_t reads_capacity;
    int depth;
    bool conditional; // under an if of this scope
    bool soft;        // an unknown filter here fails only when it is reached
};

static enum status fail(const struct analysis *a, const struct node *node, enum status status,
                        const char *what) {
    const struct parser *p = a->parser;
    if (node->name == NULL) {
        return lexer_fail(&p->tokens, node->offset, status, p->err, "%s", what);
    }
    return lexer_fail(&p->tokens, node->offset, status, p->err, "%s '%.*s'", what,
                      (int)(node->name->length < 40 ? node->name->length : 40), node->name->bytes);
}

static bool has_name(struct analysis *a, const struct text **names, size_t count,
                     const struct text *name) {
    a->comparisons += count;
    for (size_t i = 0; i < count; i++) {
        if (text_equal(names[i], name)) {
            return true;
        }
    }
    return false;
}

static bool knows(struct analysis *a, const struct scope *scope, const struct text *name) {
    return has_name(a, scope->names, scope->count, name);
}

static bool outer_knows(struct analysis *a, const struct text *name) {
    for (const struct scope *scope = a->scope->parent; scope != NULL; scope = scope->parent) {
        if (knows(a, scope, name)) {
            return true;
        }
    }
    return false;
}

static enum status push_name(struct analysis *a, const struct text ***names, size_t *count,
                             size_t *capacity, const struct text *name) {
    if (*count == *capacity) {
        size_t more = 2 * *capacity + 8;
        const struct text **grown = arena_alloc_array(a->parser->arena, more, sizeof *grown);
        if (grown == NULL) {
            return parser_no_memory(a->parser);
        }
        if (*count > 0) {
            memcpy(grown, *names, *count * sizeof *grown);
        }
        *names = grown;
        *capacity = more;
    }
    (*names)[(*count)++] = name;
    return STATUS_OK;
}

static enum status add_name(struct analysis *a, const struct text *name) {
    struct scope *scope = a->scope;
    return push_name(a, &scope->names, &scope->count, &scope->capacity, name);
}

static enum status add_certain(struct analysis *a, const struct text *name) {
    struct scope *scope = a->scope;
    return has_name(a, scope->certain, scope->n_certain, name)
               ? STATUS_OK
               : push_name(a, &scope->certain, &scope->n_certain, &scope->certain_capacity, name);
}

static enum status note_read(struct analysis *a, const struct text *name) {
    struct scope_reads *reads = a->reads;
    for (const struct scope *scope = a->scope; scope != NULL; scope = scope->parent) {
        if (has_name(a, scope->certain, scope->n_certain, name)) {
            return STATUS_OK;
        }
    }
    return has_name(a, reads->names, reads->count, name)
               ? STATUS_OK
               : push_name(a, &reads->names, &reads->count, &a->reads_capacity, name);
}

static enum status load(struct analysis *a, const struct text *name) {
    enum status status = note_read(a, name);
    if (status != STATUS_OK || knows(a, a->scope, name) || outer_knows(a, name)) {
        return status;
    }
    return add_name(a, name);
}

static enum status store(struct analysis *a, const struct text *name) {
    enum status status = add_certain(a, name);
    if (status != STATUS_OK || knows(a, a->scope, name)) {
        return status;
    }
    if (!a->conditional && !outer_knows(a, name)) {
        struct node *body = a->scope->body;
        status = push_name(a, &body->hidden, &body->n_hidden, &a->scope->hidden_capacity, name);
    }
    return status == STATUS_OK ? add_name(a, name) : status;
}

static enum status declare(struct analysis *a, const struct text *name) {
    enum status status = add_certain(a, name);
    return status != STATUS_OK || knows(a, a->scope, name) ? status : add_name(a, name);
}

// Applies `what` to every name of a target.
static enum status visit_target(struct analysis *a, const struct node *target,
                                enum status (*what)(struct analysis *, const struct text *)) {
    enum status status = STATUS_OK;
    if (target->kind == NODE_MEMBER) {
        return load(a, target->name);
    }
    if (target->kind == NODE_NAME) {
        return what(a, target->name);
    }
    for (size_t i = 0; status == STATUS_OK && i < target->n_items; i++) {
        status = visit_target(a, target->items[i], what);
    }
    return status;
}

static enum status visit(struct analysis *a, struct node *node);

static enum status visit_all(struct analysis *a, struct node **nodes, size_t count) {
    enum status status = STATUS_OK;
    for (size_t i = 0; status == STATUS_OK && i < count; i++) {
        status = visit(a, nodes[i]);
    }
    return status;
}

static enum status visit_arguments(struct analysis *a, const struct arguments *arguments) {
    enum status status = visit_all(a, arguments->positional, arguments->n_positional);
    for (size_t i = 0; status == STATUS_OK && i < arguments->n_keywords; i++) {
        status = visit(a, arguments->keywords[i].value);
    }
    if (status == STATUS_OK) {
        status = visit(a, arguments->star);
    }
    return status == STATUS_OK ? visit(a, arguments->double_star) : status;
}

// Names that were set in the branch that was visited last, from `first` on, and in those before.
static size_t intersect(struct analysis *a, const struct text **common, size_t count,
                        size_t first) {
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        if (has_name(a, a->scope->certain + first, a->scope->n_certain - first, common[i])) {
            common[kept++] = common[i];
        }
    }
    return kept;
}

// What every branch sets is certain behind them.
static enum status visit_branches(struct analysis *a, struct node *node) {
    struct scope *scope = a->scope;
    size_t first = scope->n_certain;
    const struct text **common = NULL;
    size_t n_common = 0;
    enum status status = STATUS_OK;
    for (size_t i = 0; status == STATUS_OK && i <= node->n_items; i += 2) {
        bool is_else = i == node->n_items;
        scope->n_certain = first;
        status = is_else ? visit(a, node->c) : visit_all(a, node->items + i, 2);
        if (status != STATUS_OK || i > 0 || scope->n_certain == first) {
            n_common = intersect(a, common, n_common, first);
            continue;
        }
        n_common = scope->n_certain - first;
        common = arena_alloc_array(a->parser->arena, n_common, sizeof *common);
        if (common == NULL) {
            return parser_no_memory(a->parser);
        }
        memcpy(common, scope->certain + first, n_common * sizeof *common);
    }
    scope->n_certain = first;
    for (size_t i = 0; status == STATUS_OK && i < n_common; i++) {
        status = add_certain(a, common[i]);
    }
    return status;
}

static enum status visit_if(struct analysis *a, struct node *node) {
    bool conditional = a->conditional;
    bool soft = a->soft;
    a->conditional = true;
    a->soft = true;
    enum status status = visit_branches(a, node);
    a->conditional = conditional;
    a->soft = soft;
    return status;
}

static enum status visit_cond(struct analysis *a, struct node *node) {
    bool soft = a->soft;
    a->soft = true;
    enum status status = visit(a, node->a);
    if (status == STATUS_OK) {
        status = visit(a, node->b);
    }
    if (status == STATUS_OK) {
        status = visit(a, node->c);
    }
    a->soft = soft;
    return status;
}

// The part of a statement with a scope of its own that belongs to the scope around it.
static enum status visit_scoped(struct analysis *a, struct node *node) {
    enum status status = STATUS_OK;
    switch (node->kind) {
    case NODE_FOR:
    case NODE_FILTER_BLOCK:
        status = visit(a, node->b);
        break;
    case NODE_CALL_BLOCK:
        status = visit(a, node->a);
        break;
    case NODE_MACRO:
        status = store(a, node->name);
        break;
    case NODE_SET_BLOCK:
        status = visit_target(a, node->a, store);
        break;
    case NODE_WITH:
        for (size_t i = 1; status == STATUS_OK && i < node->n_items; i += 2) {
            status = visit(a, node->items[i]);
        }
        break;
    default: // NODE_SCOPE
        break;
    }
    return status == STATUS_OK ? parser_push(a->parser, &a->scope->inner, node) : status;
}

static enum status visit_expression(struct analysis *a, struct node *node) {
    bool is_unknown =
        (node->kind == NODE_FILTER || node->kind == NODE_TEST) && node->native == NULL;
    if (is_unknown && !a->soft) {
        return fail(a, node, STATUS_MALFORMED,
                    node->kind == NODE_FILTER ? "there is no filter" : "there is no test");
    }
    enum status status = visit(a, node->a);
    if (status == STATUS_OK) {
        status = visit(a, node->b);
    }
    if (status == STATUS_OK) {
        status = visit_all(a, node->items, node->n_items);
    }
    if (status == STATUS_OK) {
        status = visit(a, node->c);
    }
    return status == STATUS_OK ? visit_arguments(a, &node->arguments) : status;
}

static enum status visit_kind(struct analysis *a, struct node *node) {
    enum status status;
    switch (node->kind) {
    case NODE_NAME:
        return load(a, node->name);
    case NODE_SET:
        status = visit(a, node->b);
        return status == STATUS_OK ? visit_target(a, node->a, store) : status;
    case NODE_IF:
        return visit_if(a, node);
    case NODE_COND:
        return visit_cond(a, node);
    case NODE_FOR:
    case NODE_MACRO:
    case NODE_CALL_BLOCK:
    case NODE_FILTER_BLOCK:
    case NODE_SET_BLOCK:
    case NODE_WITH:
    case NODE_SCOPE:
        return visit_scoped(a, node);
    default:
        return visit_expression(a, node);
    }
}

static enum status visit(struct analysis *a, struct node *node) {
    if (node == NULL) {
        return STATUS_OK;
    }
    a->depth++;
    enum status status;
    if (a->depth > JINJA_EVALUATION_DEPTH_MAX || a->comparisons > COMPARISONS_MAX) {
        const struct parser *p = a->parser;
        status =
            lexer_fail(&p->tokens, node->offset, STATUS_LIMIT, p->err,
                       a->comparisons > COMPARISONS_MAX ? "too many names" : "nested too deeply");
    } else {
        status = visit_kind(a, node);
    }
    a->depth--;
    return status;
}

// Which of the special names a macro's body reads without setting them first.
static void find_uses(const struct node *node, unsigned *open, unsigned *uses);

static void find_uses_all(struct node **nodes, size_t count, unsigned *open, unsigned *uses) {
    for (size_t i = 0; i < count; i++) {
        find_uses(nodes[i], open, uses);
    }
}

static unsigned special_name(const struct text *name) {
    if (text_is(name, "caller")) {
        return MACRO_USES_CALLER;
    }
    if (text_is(name, "kwargs")) {
        return MACRO_USES_KWARGS;
    }
    return text_is(name, "varargs") ? MACRO_USES_VARARGS : 0;
}

static void find_stores(const struct node *target, unsigned *open) {
    if (target->kind == NODE_NAME) {
        *open &= ~special_name(target->name);
    }
    for (size_t i = 0; i < target->n_items; i++) {
        find_stores(target->items[i], open);
    }
}

static void find_uses(const struct node *node, unsigned *open, unsigned *uses) {
    if (node == NULL) {
        return;
    }
    if (node->kind == NODE_NAME) {
        *uses |= special_name(node->name) & *open;
        return;
    }
    bool has_target =
        node->kind == NODE_FOR || node->kind == NODE_SET || node->kind == NODE_SET_BLOCK;
    bool has_parameters = node->kind == NODE_MACRO || node->kind == NODE_CALL_BLOCK;
    if (has_target) {
        find_stores(node->a, open);
    } else {
        find_uses(node->a, open, uses);
    }
    find_uses(node->b, open, uses);
    for (size_t i = 0; i < node->n_items; i++) {
        if (has_parameters || (node->kind == NODE_WITH && i % 2 == 0)) {
            find_stores(node->items[i], open);
        } else {
            find_uses(node->items[i], open, uses);
        }
    }
    find_uses_all(node->more, node->n_more, open, uses);
    find_uses(node->c, open, uses);
    find_uses_all(node->arguments.positional, node->arguments.n_positional, open, uses);
    for (size_t i = 0; i < node->arguments.n_keywords; i++) {
        find_uses(node->arguments.keywords[i].value, open, uses);
    }
    find_uses(node->arguments.star, open, uses);
    find_uses(node->arguments.double_star, open, uses);
}

static enum status analyze_scope(struct analysis *a, struct scope *parent, struct node *node,
                                 struct node *body);

static enum status declare_constant(struct analysis *a, const char *name) {
    const struct text *text = text_constant(a->parser->arena, name);
    return text == NULL ? parser_no_memory(a->parser) : declare(a, text);
}

// `loop` may not be set inside a loop (jinja2 refuses it when it compiles).
static bool sets_loop(const struct node *target) {
    bool sets = target->kind == NODE_NAME && text_is(target->name, "loop");
    for (size_t i = 0; !sets && i < target->n_items; i++) {
        sets = sets_loop(target->items[i]);
    }
    return sets;
}

// Parameters and what else stands in the scope of `node` beside its body.
static enum status enter_scope(struct analysis *a, struct node *node) {
    enum status status = STATUS_OK;
    switch (node->kind) {
    case NODE_FOR:
        if (sets_loop(node->a)) {
            return lexer_fail(&a->parser->tokens, node->offset, STATUS_MALFORMED, a->parser->err,
                              "the target of a loop cannot be 'loop'");
        }
        status = declare_constant(a, "loop");
        if (status == STATUS_OK) {
            status = visit_target(a, node->a, declare);
        }
        return status == STATUS_OK ? visit(a, node->c) : status;
    case NODE_MACRO:
    case NODE_CALL_BLOCK: {
        unsigned open = MACRO_USES_CALLER | MACRO_USES_KWARGS | MACRO_USES_VARARGS;
        for (size_t i = 0; status == STATUS_OK && i < node->n_items; i++) {
            unsigned special = special_name(node->items[i]->name);
            if (special != 0) {
                return lexer_fail(&a->parser->tokens, node->offset, STATUS_UNSUPPORTED,
                                  a->parser->err, "a parameter called caller, kwargs or varargs");
            }
            status = declare(a, node->items[i]->name);
        }
        find_uses(node->c, &open, &node->uses);
        return status == STATUS_OK ? visit_all(a, node->more, node->n_more) : status;
    }
    case NODE_FILTER_BLOCK:
    case NODE_SET_BLOCK:
        return visit(a, node->b);
    case NODE_WITH:
        for (size_t i = 0; status == STATUS_OK && i < node->n_items; i += 2) {
            status = visit_target(a, node->items[i], declare);
        }
        return status;
    default:
        return STATUS_OK;
    }
}

static enum status analyze_inner(struct analysis *a, struct scope *scope) {
    enum status status = STATUS_OK;
    for (size_t i = 0; status == STATUS_OK && i < scope->inner.count; i++) {
        struct node *node = scope->inner.items[i];
        if (node->kind != NODE_FOR) {
            status = analyze_scope(a, scope, node, node->c);
            continue;
        }
        status = analyze_scope(a, scope, node, node->items[0]);
        if (status == STATUS_OK && node->items[1] != NULL) {
            status = analyze_scope(a, scope, NULL, node->items[1]);
        }
    }
    return status;
}

static enum status analyze_scope(struct analysis *a, struct scope *parent, struct node *node,
                                 struct node *body) {
    struct scope scope = {.parent = parent, .body = body};
    struct analysis outer = *a;
    a->scope = &scope;
    a->conditional = false;
    a->soft = false;
    enum status status = node == NULL ? STATUS_OK : enter_scope(a, node);
    if (status == STATUS_OK) {
        status = visit(a, body);
    }
    if (status == STATUS_OK) {
        status = analyze_inner(a, &scope);
    }
    a->scope = outer.scope;
    a->conditional = outer.conditional;
    a->soft = outer.soft;
    return status;
}

enum status scope_analyze(struct parser *parser, struct node *root, struct scope_reads *reads) {
    struct analysis analysis = {.parser = parser, .reads = reads};
    return analyze_scope(&analysis, NULL, NULL, root);
}
