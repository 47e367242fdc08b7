// Expressions, by the precedence that jinja2 gives them: inline if, or, and, not, comparisons,
// + -, ~, * / // %, **, unary + -, then what follows a value (attributes, calls, filters, tests).
#include <string.h>

#include "worker/tokenizer/jinja/native.h"
#include "worker/tokenizer/jinja/parser.h"

static enum status parse_unary(struct parser *p, bool with_filters, struct node **out);
static enum status parse_or(struct parser *p, struct node **out);

static void give_items(struct node *node, const struct node_list *list) {
    node->items = list->items;
    node->n_items = list->count;
}

// Makes a node of `kind` with `left` and what `parse` reads next, in place of left.
static enum status extend(struct parser *p, enum node_kind kind, enum operation operation,
                          enum status (*parse)(struct parser *p, struct node **out),
                          struct node **left) {
    struct node *node = NULL;
    enum status status = parser_node(p, kind, &node);
    if (status != STATUS_OK) {
        return status;
    }
    node->operation = operation;
    node->a = *left;
    node->line = (*left)->line;
    *left = node;
    return parse(p, &node->b);
}

struct binary_operator {
    const char *sign;
    enum operation operation;
};

static enum status parse_binary(struct parser *p, const struct binary_operator *operators,
                                size_t count,
                                enum status (*parse)(struct parser *p, struct node **out),
                                struct node **out) {
    enum status status = parse(p, out);
    while (status == STATUS_OK) {
        size_t i = 0;
        while (i < count && !parser_take_operator(p, operators[i].sign)) {
            i++;
        }
        if (i == count) {
            break;
        }
        status = extend(p, NODE_BINARY, operators[i].operation, parse, out);
    }
    return status;
}

static enum status parse_power_operand(struct parser *p, struct node **out) {
    return parse_unary(p, true, out);
}

static enum status parse_power(struct parser *p, struct node **out) {
    static const struct binary_operator operators[] = {{"**", OPERATION_POW}};
    return parse_binary(p, operators, 1, parse_power_operand, out);
}

static enum status parse_product(struct parser *p, struct node **out) {
    static const struct binary_operator operators[] = {{"*", OPERATION_MUL},
                                                       {"/", OPERATION_DIV},
                                                       {"//", OPERATION_FLOOR_DIV},
                                                       {"%", OPERATION_MOD}};
    return parse_binary(p, operators, sizeof operators / sizeof *operators, parse_power, out);
}

static enum status parse_concat(struct parser *p, struct node **out) {
    struct node_list list = {0};
    enum status status = parse_product(p, out);
    if (status != STATUS_OK || !parser_at_operator(p, "~")) {
        return status;
    }
    struct node *node = NULL;
    status = parser_node(p, NODE_CONCAT, &node);
    if (status == STATUS_OK) {
        status = parser_push(p, &list, *out);
    }
    while (status == STATUS_OK && parser_take_operator(p, "~")) {
        struct node *part = NULL;
        status = parse_product(p, &part);
        if (status == STATUS_OK) {
            status = parser_push(p, &list, part);
        }
    }
    if (status == STATUS_OK) {
        give_items(node, &list);
        *out = node;
    }
    return status;
}

static enum status parse_sum(struct parser *p, struct node **out) {
    static const struct binary_operator operators[] = {{"+", OPERATION_ADD}, {"-", OPERATION_SUB}};
    return parse_binary(p, operators, 2, parse_concat, out);
}

// Takes a comparison when one stands here.
static bool take_comparison(struct parser *p, enum operation *operation) {
    static const struct binary_operator operators[] = {{"==", OPERATION_EQ}, {"!=", OPERATION_NE},
                                                       {"<", OPERATION_LT},  {"<=", OPERATION_LE},
                                                       {">", OPERATION_GT},  {">=", OPERATION_GE}};
    for (size_t i = 0; i < sizeof operators / sizeof *operators; i++) {
        if (parser_take_operator(p, operators[i].sign)) {
            *operation = operators[i].operation;
            return true;
        }
    }
    if (parser_take_name(p, "in")) {
        *operation = OPERATION_IN;
        return true;
    }
    if (parser_at_name(p, "not") && parser_next_is_name(p, "in")) {
        parser_advance(p);
        parser_advance(p);
        *operation = OPERATION_NOT_IN;
        return true;
    }
    return false;
}

static enum status parse_compare(struct parser *p, struct node **out) {
    struct node_list list = {0};
    struct node *node = NULL;
    enum operation operation;
    enum status status = parse_sum(p, out);
    while (status == STATUS_OK && take_comparison(p, &operation)) {
        struct node *operand = NULL;
        if (node == NULL) {
            status = parser_node(p, NODE_COMPARE, &node);
        }
        if (status == STATUS_OK) {
            status = parser_node(p, NODE_OPERAND, &operand);
        }
        if (status == STATUS_OK) {
            operand->operation = operation;
            status = parse_sum(p, &operand->a);
        }
        if (status == STATUS_OK) {
            status = parser_push(p, &list, operand);
        }
    }
    if (status == STATUS_OK && node != NULL) {
        node->a = *out;
        give_items(node, &list);
        *out = node;
    }
    return status;
}

static enum status parse_not(struct parser *p, struct node **out) {
    if (!parser_at_name(p, "not")) {
        return parse_compare(p, out);
    }
    enum status status = parser_enter(p);
    if (status == STATUS_OK) {
        status = parser_node(p, NODE_NOT, out);
    }
    if (status == STATUS_OK) {
        parser_advance(p);
        status = parse_not(p, &(*out)->a);
    }
    parser_leave(p);
    return status;
}

static enum status parse_and(struct parser *p, struct node **out) {
    enum status status = parse_not(p, out);
    while (status == STATUS_OK && parser_take_name(p, "and")) {
        status = extend(p, NODE_AND, 0, parse_not, out);
    }
    return status;
}

static enum status parse_or(struct parser *p, struct node **out) {
    enum status status = parse_and(p, out);
    while (status == STATUS_OK && parser_take_name(p, "or")) {
        status = extend(p, NODE_OR, 0, parse_and, out);
    }
    return status;
}

static enum status parse_cond(struct parser *p, struct node **out) {
    enum status status = parse_or(p, out);
    while (status == STATUS_OK && parser_take_name(p, "if")) {
        struct node *node = NULL;
        status = parser_node(p, NODE_COND, &node);
        if (status == STATUS_OK) {
            node->b = *out;
            *out = node;
            status = parse_or(p, &node->a);
        }
        if (status == STATUS_OK && parser_take_name(p, "else")) {
            status = parse_expression(p, 0, &node->c);
        }
    }
    return status;
}

enum status parse_expression(struct parser *p, unsigned flags, struct node **out) {
    enum status status = parser_enter(p);
    if (status == STATUS_OK) {
        status = (flags & PARSE_NO_COND) != 0 ? parse_or(p, out) : parse_cond(p, out);
    }
    parser_leave(p);
    return status;
}

// Where a tuple without brackets can end; `in` ends the targets of a loop.
static bool at_tuple_end(const struct parser *p) {
    enum token_kind kind = parser_current(p)->kind;
    return kind == TOKEN_PRINT_END || kind == TOKEN_BLOCK_END || parser_at_operator(p, ")");
}

static enum status parse_primary(struct parser *p, bool members, struct node **out);

// Items with commas between them, made a tuple when there is a comma: expressions, or targets with
// or without members of namespaces among them.
static enum status parse_items(struct parser *p, unsigned flags, bool targets, bool members,
                               struct node **out) {
    struct node_list list = {0};
    struct node *tuple = NULL;
    bool is_tuple = false;
    enum status status = parser_node(p, NODE_TUPLE, &tuple);
    while (status == STATUS_OK) {
        struct node *item = NULL;
        if (at_tuple_end(p) || (targets && !members && parser_at_name(p, "in")) ||
            ((flags & PARSE_LOOP_ITEMS) != 0 && parser_at_name(p, "recursive"))) {
            break;
        }
        status = targets ? parse_primary(p, members, &item)
                         : parse_expression(p, flags & PARSE_NO_COND, &item);
        if (status == STATUS_OK) {
            status = parser_push(p, &list, item);
        }
        if (status != STATUS_OK || !parser_take_operator(p, ",")) {
            break;
        }
        is_tuple = true;
    }
    if (status != STATUS_OK) {
        return status;
    }
    if (!is_tuple && list.count == 1) {
        *out = list.items[0];
        return STATUS_OK;
    }
    if (!is_tuple && (flags & PARSE_EMPTY_TUPLE) == 0) {
        return parser_fail_expected(p, "an expression");
    }
    give_items(tuple, &list);
    *out = tuple;
    return STATUS_OK;
}

enum status parse_tuple(struct parser *p, unsigned flags, struct node **out) {
    return parse_items(p, flags, false, false, out);
}

// Whether what was read can be assigned to.
static bool is_target(const struct node *node, int depth) {
    if (node->kind == NODE_NAME || node->kind == NODE_MEMBER) {
        return true;
    }
    if (node->kind != NODE_TUPLE || depth == 0) {
        return false;
    }
    for (size_t i = 0; i < node->n_items; i++) {
        if (!is_target(node->items[i], depth - 1)) {
            return false;
        }
    }
    return true;
}

enum { TARGET_DEPTH_MAX = 16 };

enum status parse_target(struct parser *p, bool members, struct node **out) {
    enum status status = parse_items(p, 0, true, members, out);
    if (status == STATUS_OK && !is_target(*out, TARGET_DEPTH_MAX)) {
        return parser_fail(p, STATUS_MALFORMED, "cannot assign to this");
    }
    return status;
}

static enum status parse_keyword(struct parser *p, struct arguments *arguments, size_t *capacity) {
    if (arguments->n_keywords == *capacity) {
        size_t more = 2 * *capacity + 4;
        struct keyword *keywords = arena_alloc_array(p->arena, more, sizeof *keywords);
        if (keywords == NULL) {
            return parser_no_memory(p);
        }
        if (arguments->n_keywords > 0) {
            memcpy(keywords, arguments->keywords, arguments->n_keywords * sizeof *keywords);
        }
        arguments->keywords = keywords;
        *capacity = more;
    }
    struct keyword *keyword = &arguments->keywords[arguments->n_keywords++];
    keyword->name = parser_current(p)->text;
    for (size_t i = 0; i + 1 < arguments->n_keywords; i++) {
        if (text_equal(arguments->keywords[i].name, keyword->name)) {
            return parser_fail(p, STATUS_MALFORMED, "an argument is given twice");
        }
    }
    parser_advance(p);
    parser_advance(p); // =
    return parse_expression(p, 0, &keyword->value);
}

// What stands between the brackets of a call; the opening one is current.
static enum status parse_arguments(struct parser *p, struct arguments *arguments) {
    struct node_list list = {0};
    size_t capacity = 0;
    bool first = true;
    enum status status = parser_expect_operator(p, "(");
    while (status == STATUS_OK && !parser_at_operator(p, ")")) {
        if (!first) {
            status = parser_expect_operator(p, ",");
            if (status != STATUS_OK || parser_at_operator(p, ")")) {
                break;
            }
        }
        first = false;
        bool has_star = arguments->star != NULL || arguments->double_star != NULL;
        bool is_keyword = parser_current(p)->kind == TOKEN_NAME && parser_next_is_operator(p, "=");
        struct node *value = NULL;
        if (parser_at_operator(p, "**") && arguments->double_star == NULL) {
            parser_advance(p);
            status = parse_expression(p, 0, &arguments->double_star);
        } else if (parser_at_operator(p, "*") && !has_star) {
            parser_advance(p);
            status = parse_expression(p, 0, &arguments->star);
        } else if (is_keyword && arguments->double_star == NULL) {
            status = parse_keyword(p, arguments, &capacity);
        } else if (!has_star && arguments->n_keywords == 0) {
            status = parse_expression(p, 0, &value);
            if (status == STATUS_OK) {
                status = parser_push(p, &list, value);
            }
        } else {
            status = parser_fail(p, STATUS_MALFORMED, "an argument stands in the wrong place");
        }
    }
    parser_advance(p);
    arguments->positional = list.items;
    arguments->n_positional = list.count;
    return status;
}

static enum status parse_call(struct parser *p, struct node **node) {
    static const char *const refused[] = {"cycler", "joiner", "lipsum"};
    struct node *call = NULL;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        if ((*node)->kind == NODE_NAME && text_is((*node)->name, refused[i])) {
            return parser_fail(p, STATUS_UNSUPPORTED, "the function '%s' is not interpreted",
                               refused[i]);
        }
    }
    enum status status = parser_node(p, NODE_CALL, &call);
    if (status != STATUS_OK) {
        return status;
    }
    call->a = *node;
    *node = call;
    return parse_arguments(p, &call->arguments);
}

// A name with dots, as filters and tests may have.
static enum status parse_dotted_name(struct parser *p, const struct text **name) {
    enum status status = parser_expect_any_name(p, name);
    if (status == STATUS_OK && parser_at_operator(p, ".")) {
        return parser_fail(p, STATUS_UNSUPPORTED, "filters and tests with a dot in their name");
    }
    return status;
}

enum status parse_filters(struct parser *p, struct node *node, bool has_begun, struct node **out) {
    enum status status = STATUS_OK;
    *out = node;
    while (status == STATUS_OK && (has_begun || parser_take_operator(p, "|"))) {
        struct node *filter = NULL;
        has_begun = false;
        status = parser_node(p, NODE_FILTER, &filter);
        if (status != STATUS_OK) {
            return status;
        }
        status = parse_dotted_name(p, &filter->name);
        if (status != STATUS_OK) {
            return status;
        }
        filter->native = filter_find(filter->name);
        if (filter->native != NULL && filter->native->function == NULL) {
            return parser_fail(p, STATUS_UNSUPPORTED, "the filter '%s' is not interpreted",
                               filter->native->name);
        }
        filter->a = *out;
        *out = filter;
        if (parser_at_operator(p, "(")) {
            status = parse_arguments(p, &filter->arguments);
        }
    }
    return status;
}

// Whether a test's argument can stand here without brackets.
static bool at_test_argument(const struct parser *p) {
    switch (parser_current(p)->kind) {
    case TOKEN_NAME:
        return !parser_at_name(p, "else") && !parser_at_name(p, "or") && !parser_at_name(p, "and");
    case TOKEN_STRING:
    case TOKEN_INTEGER:
    case TOKEN_FLOAT:
        return true;
    default:
        return parser_at_operator(p, "[") || parser_at_operator(p, "{");
    }
}

static enum status parse_postfix(struct parser *p, struct node **node);

// The one argument that a test has without brackets.
static enum status parse_test_argument(struct parser *p, struct node *test) {
    struct node_list list = {0};
    struct node *argument = NULL;
    if (parser_at_name(p, "is")) {
        return parser_fail(p, STATUS_MALFORMED, "tests cannot follow each other with 'is'");
    }
    enum status status = parse_primary(p, false, &argument);
    if (status == STATUS_OK) {
        status = parse_postfix(p, &argument);
    }
    if (status == STATUS_OK) {
        status = parser_push(p, &list, argument);
    }
    test->arguments.positional = list.items;
    test->arguments.n_positional = list.count;
    return status;
}

static enum status parse_test(struct parser *p, struct node **node) {
    struct node *test = NULL;
    parser_advance(p); // is
    bool negated = parser_take_name(p, "not");
    enum status status = parser_node(p, NODE_TEST, &test);
    if (status == STATUS_OK) {
        status = parse_dotted_name(p, &test->name);
    }
    if (status != STATUS_OK) {
        return status;
    }
    test->a = *node;
    test->native = test_find(test->name);
    *node = test;
    if (parser_at_operator(p, "(")) {
        status = parse_arguments(p, &test->arguments);
    } else if (at_test_argument(p)) {
        status = parse_test_argument(p, test);
    }
    if (status == STATUS_OK && negated) {
        status = parser_node(p, NODE_NOT, node);
        if (status == STATUS_OK) {
            (*node)->a = test;
        }
    }
    return status;
}

// One part of a slice, up to a colon or the end; NULL when it is left out.
static enum status parse_slice_part(struct parser *p, struct node **out) {
    *out = NULL;
    if (parser_at_operator(p, ":") || parser_at_operator(p, "]") || parser_at_operator(p, ",")) {
        return STATUS_OK;
    }
    return parse_expression(p, 0, out);
}

// What stands in [ ] after `node`, as jinja2 reads it: an expression or a slice.
static enum status parse_subscript(struct parser *p, struct node **node) {
    struct node *parts[3] = {NULL, NULL, NULL};
    struct node *result = NULL;
    struct node_list list = {0};
    int colons = 0;
    parser_advance(p); // [
    enum status status = parser_node(p, NODE_ITEM, &result);
    for (int i = 0; status == STATUS_OK && i < 3; i++) {
        status = parse_slice_part(p, &parts[i]);
        if (status != STATUS_OK || i == 2 || !parser_take_operator(p, ":")) {
            break;
        }
        colons++;
    }
    if (status == STATUS_OK && parser_at_operator(p, ",")) {
        return parser_fail(p, STATUS_UNSUPPORTED, "several keys between brackets");
    }
    if (status == STATUS_OK && colons == 0 && parts[0] == NULL) {
        return parser_fail(p, STATUS_UNSUPPORTED, "empty brackets after a value");
    }
    for (int i = 0; status == STATUS_OK && colons > 0 && i < 3; i++) {
        status = parser_push(p, &list, parts[i]);
    }
    if (status != STATUS_OK) {
        return status;
    }
    result->a = *node;
    result->b = parts[0];
    if (colons > 0) {
        result->kind = NODE_SLICE;
        give_items(result, &list);
    }
    *node = result;
    return parser_expect_operator(p, "]");
}

static enum status parse_attribute(struct parser *p, struct node **node) {
    struct node *result = NULL;
    parser_advance(p); // .
    enum status status = parser_node(p, NODE_ATTRIBUTE, &result);
    if (status != STATUS_OK) {
        return status;
    }
    result->a = *node;
    const struct token *token = parser_current(p);
    if (token->kind == TOKEN_NAME) {
        result->name = token->text;
    } else if (token->kind == TOKEN_INTEGER) {
        result->kind = NODE_ITEM;
        status = parser_node(p, NODE_CONST, &result->b);
        if (status == STATUS_OK) {
            result->b->value = value_int(token->integer);
        }
    } else {
        return parser_fail_expected(p, "a name or a number");
    }
    parser_advance(p);
    *node = result;
    return status;
}

static enum status parse_postfix(struct parser *p, struct node **node) {
    enum status status = STATUS_OK;
    while (status == STATUS_OK) {
        if (parser_at_operator(p, ".")) {
            status = parse_attribute(p, node);
        } else if (parser_at_operator(p, "[")) {
            status = parse_subscript(p, node);
        } else if (parser_at_operator(p, "(")) {
            status = parse_call(p, node);
        } else {
            break;
        }
    }
    return status;
}

static enum status parse_after(struct parser *p, struct node **node) {
    enum status status = STATUS_OK;
    while (status == STATUS_OK) {
        if (parser_at_operator(p, "|")) {
            status = parse_filters(p, *node, false, node);
        } else if (parser_at_name(p, "is")) {
            status = parse_test(p, node);
        } else if (parser_at_operator(p, "(")) {
            status = parse_call(p, node);
        } else {
            break;
        }
    }
    return status;
}

static enum status parse_unary(struct parser *p, bool with_filters, struct node **out) {
    enum status status = STATUS_OK;
    if (parser_at_operator(p, "-") || parser_at_operator(p, "+")) {
        status = parser_enter(p);
        if (status == STATUS_OK) {
            status = parser_node(p, NODE_UNARY, out);
        }
        if (status == STATUS_OK) {
            (*out)->operation = parser_at_operator(p, "-") ? OPERATION_SUB : OPERATION_ADD;
            parser_advance(p);
            status = parse_unary(p, false, &(*out)->a);
        }
        parser_leave(p);
    } else {
        status = parse_primary(p, false, out);
    }
    if (status == STATUS_OK) {
        status = parse_postfix(p, out);
    }
    if (status == STATUS_OK && with_filters) {
        status = parse_after(p, out);
    }
    return status;
}

static enum status parse_list(struct parser *p, struct node **out) {
    struct node_list list = {0};
    enum status status = parser_node(p, NODE_LIST, out);
    parser_advance(p);
    while (status == STATUS_OK && !parser_at_operator(p, "]")) {
        struct node *item = NULL;
        if (list.count > 0) {
            status = parser_expect_operator(p, ",");
            if (status != STATUS_OK || parser_at_operator(p, "]")) {
                break;
            }
        }
        status = parse_expression(p, 0, &item);
        if (status == STATUS_OK) {
            status = parser_push(p, &list, item);
        }
    }
    if (status == STATUS_OK) {
        give_items(*out, &list);
        status = parser_expect_operator(p, "]");
    }
    return status;
}

static enum status parse_dict(struct parser *p, struct node **out) {
    struct node_list list = {0};
    enum status status = parser_node(p, NODE_DICT, out);
    parser_advance(p);
    while (status == STATUS_OK && !parser_at_operator(p, "}")) {
        struct node *key = NULL;
        struct node *value = NULL;
        if (list.count > 0) {
            status = parser_expect_operator(p, ",");
            if (status != STATUS_OK || parser_at_operator(p, "}")) {
                break;
            }
        }
        status = parse_expression(p, 0, &key);
        if (status == STATUS_OK) {
            status = parser_expect_operator(p, ":");
        }
        if (status == STATUS_OK) {
            status = parse_expression(p, 0, &value);
        }
        if (status == STATUS_OK) {
            status = parser_push(p, &list, key);
        }
        if (status == STATUS_OK) {
            status = parser_push(p, &list, value);
        }
    }
    if (status == STATUS_OK) {
        give_items(*out, &list);
        status = parser_expect_operator(p, "}");
    }
    return status;
}

// A name, a constant that is spelled as one, or a member where these are allowed.
static enum status parse_name(struct parser *p, bool members, struct node *node) {
    const struct text *name = parser_current(p)->text;
    parser_advance(p);
    if (text_is(name, "true") || text_is(name, "True") || text_is(name, "false") ||
        text_is(name, "False")) {
        node->kind = NODE_CONST;
        node->value = value_bool(text_is(name, "true") || text_is(name, "True"));
    } else if (text_is(name, "none") || text_is(name, "None")) {
        node->kind = NODE_CONST;
        node->value = value_none();
    } else {
        node->kind = NODE_NAME;
        node->name = name;
        if (members && parser_take_operator(p, ".")) {
            node->kind = NODE_MEMBER;
            return parser_expect_any_name(p, &node->attribute);
        }
    }
    return STATUS_OK;
}

// Strings that follow each other are one.
static enum status parse_strings(struct parser *p, struct node *node) {
    const struct text *text = parser_current(p)->text;
    parser_advance(p);
    if (parser_current(p)->kind == TOKEN_STRING) {
        struct text_builder b = {.arena = p->arena};
        builder_put_text(&b, text);
        while (parser_current(p)->kind == TOKEN_STRING) {
            builder_put_text(&b, parser_current(p)->text);
            parser_advance(p);
        }
        text = builder_finish(&b);
    }
    node->value = value_text(text);
    return text == NULL ? parser_no_memory(p) : STATUS_OK;
}

// A tuple in brackets is read as an expression, also where targets stand.
static enum status parse_brackets(struct parser *p, struct node **out) {
    parser_advance(p);
    enum status status = parse_items(p, PARSE_EMPTY_TUPLE, false, false, out);
    return status == STATUS_OK ? parser_expect_operator(p, ")") : status;
}

static enum status parse_primary(struct parser *p, bool members, struct node **out) {
    const struct token *token = parser_current(p);
    if (parser_at_operator(p, "(")) {
        return parse_brackets(p, out);
    }
    if (parser_at_operator(p, "[")) {
        return parse_list(p, out);
    }
    if (parser_at_operator(p, "{")) {
        return parse_dict(p, out);
    }
    enum status status = parser_node(p, NODE_CONST, out);
    if (status != STATUS_OK) {
        return status;
    }
    switch (token->kind) {
    case TOKEN_NAME:
        return parse_name(p, members, *out);
    case TOKEN_STRING:
        return parse_strings(p, *out);
    case TOKEN_INTEGER:
        (*out)->value = value_int(token->integer);
        break;
    case TOKEN_FLOAT:
        (*out)->value = value_float(token->real);
        break;
    default:
        return parser_fail_expected(p, "an expression");
    }
    parser_advance(p);
    return STATUS_OK;
}
