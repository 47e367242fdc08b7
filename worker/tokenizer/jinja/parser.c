#include "worker/tokenizer/jinja/parser.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "worker/tokenizer/jinja/jinja.h"

const struct token *parser_current(const struct parser *p) {
    return &p->tokens.tokens[p->at];
}

static const struct token *following(const struct parser *p) {
    return &p->tokens.tokens[p->at + 1 < p->tokens.count ? p->at + 1 : p->at];
}

static bool is_name(const struct token *token, const char *name) {
    return token->kind == TOKEN_NAME && text_is(token->text, name);
}

static bool is_operator(const struct token *token, const char *operator) {
    return token->kind == TOKEN_OPERATOR && text_is(token->text, operator);
}

bool parser_at_name(const struct parser *p, const char *name) {
    return is_name(parser_current(p), name);
}

bool parser_at_operator(const struct parser *p, const char *operator) {
    return is_operator(parser_current(p), operator);
}

bool parser_next_is_name(const struct parser *p, const char *name) {
    return is_name(following(p), name);
}

bool parser_next_is_operator(const struct parser *p, const char *operator) {
    return is_operator(following(p), operator);
}

void parser_advance(struct parser *p) {
    if (p->at + 1 < p->tokens.count) {
        p->at++;
    }
}

bool parser_take_name(struct parser *p, const char *name) {
    bool there = parser_at_name(p, name);
    if (there) {
        parser_advance(p);
    }
    return there;
}

bool parser_take_operator(struct parser *p, const char *operator) {
    bool there = parser_at_operator(p, operator);
    if (there) {
        parser_advance(p);
    }
    return there;
}

enum status parser_fail(const struct parser *p, enum status status, const char *format, ...) {
    char message[ERROR_MESSAGE_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    return lexer_fail(&p->tokens, parser_current(p)->offset, status, p->err, "%s", message);
}

enum status parser_no_memory(const struct parser *p) {
    return error_set(p->err, p->arena->over_limit ? STATUS_LIMIT : STATUS_NO_MEMORY,
                     "chat_template", "no memory for the template's tree");
}

enum { TOKEN_BYTES_SHOWN = 40 };

enum status parser_fail_expected(const struct parser *p, const char *expected) {
    const struct token *token = parser_current(p);
    static const char *const kinds[] = {
        [TOKEN_END] = "the end of the template",
        [TOKEN_DATA] = "text",
        [TOKEN_PRINT_BEGIN] = "{{",
        [TOKEN_PRINT_END] = "}}",
        [TOKEN_BLOCK_BEGIN] = "{%",
        [TOKEN_BLOCK_END] = "%}",
        [TOKEN_STRING] = "a string",
        [TOKEN_INTEGER] = "a number",
        [TOKEN_FLOAT] = "a number",
    };
    if (token->kind == TOKEN_NAME || token->kind == TOKEN_OPERATOR) {
        size_t length = token->text->length;
        return parser_fail(p, STATUS_MALFORMED, "expected %s, not '%.*s'", expected,
                           (int)(length < TOKEN_BYTES_SHOWN ? length : TOKEN_BYTES_SHOWN),
                           token->text->bytes);
    }
    return parser_fail(p, STATUS_MALFORMED, "expected %s, not %s", expected, kinds[token->kind]);
}

enum status parser_expect_operator(struct parser *p, const char *operator) {
    if (parser_take_operator(p, operator)) {
        return STATUS_OK;
    }
    char expected[8];
    snprintf(expected, sizeof expected, "'%s'", operator);
    return parser_fail_expected(p, expected);
}

enum status parser_expect_any_name(struct parser *p, const struct text **name) {
    if (parser_current(p)->kind != TOKEN_NAME) {
        return parser_fail_expected(p, "a name");
    }
    *name = parser_current(p)->text;
    parser_advance(p);
    return STATUS_OK;
}

enum status parser_enter(struct parser *p) {
    p->nesting++;
    if (p->nesting > JINJA_NESTING_MAX) {
        return parser_fail(p, STATUS_LIMIT, "nested more than %d deep", JINJA_NESTING_MAX);
    }
    return STATUS_OK;
}

void parser_leave(struct parser *p) {
    p->nesting--;
}

enum status parser_node(struct parser *p, enum node_kind kind, struct node **out) {
    struct node *node = arena_alloc(p->arena, sizeof *node);
    if (node == NULL) {
        return parser_no_memory(p);
    }
    node->kind = kind;
    node->line = parser_current(p)->line;
    node->offset = parser_current(p)->offset;
    *out = node;
    return STATUS_OK;
}

enum status parser_push(struct parser *p, struct node_list *list, struct node *node) {
    if (list->count == list->capacity) {
        size_t capacity = 2 * list->capacity + 4;
        struct node **items = arena_alloc_array(p->arena, capacity, sizeof *items);
        if (items == NULL) {
            return parser_no_memory(p);
        }
        if (list->count > 0) {
            memcpy(items, list->items, list->count * sizeof *items);
        }
        list->items = items;
        list->capacity = capacity;
    }
    list->items[list->count++] = node;
    return STATUS_OK;
}

static void give_items(struct node *node, const struct node_list *list) {
    node->items = list->items;
    node->n_items = list->count;
}

static enum status expect_block_end(struct parser *p) {
    if (parser_current(p)->kind != TOKEN_BLOCK_END) {
        return parser_fail_expected(p, "'%}'");
    }
    parser_advance(p);
    return STATUS_OK;
}

static enum status parse_statement(struct parser *p, struct node_list *list);

// Whether the tag begun at the current token is one of the space-separated names in `ends`.
static bool at_end_tag(const struct parser *p, const char *ends) {
    const struct token *token = parser_current(p);
    if (token->kind != TOKEN_NAME) {
        return false;
    }
    for (const char *at = ends; *at != '\0';) {
        size_t length = strcspn(at, " ");
        if (token->text->length == length && memcmp(token->text->bytes, at, length) == 0) {
            return true;
        }
        at += length + (at[length] == ' ');
    }
    return false;
}

static enum status parse_print(struct parser *p, struct node_list *list) {
    struct node *node = NULL;
    enum status status = parser_node(p, NODE_PRINT, &node);
    parser_advance(p);
    if (status == STATUS_OK) {
        status = parse_tuple(p, 0, &node->a);
    }
    if (status == STATUS_OK && parser_current(p)->kind != TOKEN_PRINT_END) {
        status = parser_fail_expected(p, "'}}'");
    }
    parser_advance(p);
    return status == STATUS_OK ? parser_push(p, list, node) : status;
}

static enum status parse_text(struct parser *p, struct node_list *list) {
    struct node *node = NULL;
    enum status status = parser_node(p, NODE_TEXT, &node);
    if (status != STATUS_OK) {
        return status;
    }
    node->name = parser_current(p)->text;
    parser_advance(p);
    return parser_push(p, list, node);
}

// Statements up to a tag of `ends` (NULL: the end of the template), whose name becomes current.
static enum status parse_until(struct parser *p, const char *ends, struct node **out) {
    struct node_list list = {0};
    enum status status = parser_node(p, NODE_BLOCK, out);
    while (status == STATUS_OK) {
        switch (parser_current(p)->kind) {
        case TOKEN_DATA:
            status = parse_text(p, &list);
            break;
        case TOKEN_PRINT_BEGIN:
            status = parse_print(p, &list);
            break;
        case TOKEN_BLOCK_BEGIN:
            parser_advance(p);
            if (ends != NULL && at_end_tag(p, ends)) {
                give_items(*out, &list);
                return STATUS_OK;
            }
            status = parse_statement(p, &list);
            break;
        default:
            if (ends != NULL) {
                return parser_fail(p, STATUS_MALFORMED,
                                   "the template ends where one of these tags is awaited: %s",
                                   ends);
            }
            give_items(*out, &list);
            return STATUS_OK;
        }
    }
    return status;
}

// The body of a statement whose tag is read up to its end mark. With `closes` the closing tag's
// name is taken too.
static enum status parse_body(struct parser *p, const char *ends, bool closes, struct node **out) {
    parser_take_operator(p, ":");
    enum status status = expect_block_end(p);
    if (status == STATUS_OK) {
        status = parse_until(p, ends, out);
    }
    if (status == STATUS_OK && closes) {
        parser_advance(p);
    }
    return status;
}

static enum status parse_if(struct parser *p, struct node *node) {
    struct node_list list = {0};
    enum status status;
    do {
        struct node *condition = NULL;
        struct node *body = NULL;
        parser_advance(p); // if, elif
        status = parse_tuple(p, PARSE_NO_COND, &condition);
        if (status == STATUS_OK) {
            status = parse_body(p, "elif else endif", false, &body);
        }
        if (status == STATUS_OK) {
            status = parser_push(p, &list, condition);
        }
        if (status == STATUS_OK) {
            status = parser_push(p, &list, body);
        }
    } while (status == STATUS_OK && parser_at_name(p, "elif"));
    node->kind = NODE_IF;
    give_items(node, &list);
    if (status == STATUS_OK && parser_take_name(p, "else")) {
        return parse_body(p, "endif", true, &node->c);
    }
    parser_advance(p); // endif
    return status;
}

// Body and else of a loop.
static enum status parse_for_bodies(struct parser *p, struct node *node) {
    struct node_list list = {0};
    struct node *body = NULL;
    struct node *otherwise = NULL;
    p->loops++;
    enum status status = parse_body(p, "endfor else", false, &body);
    p->loops--;
    if (status == STATUS_OK && parser_take_name(p, "else")) {
        status = parse_body(p, "endfor", true, &otherwise);
    } else {
        parser_advance(p); // endfor
    }
    if (status == STATUS_OK) {
        status = parser_push(p, &list, body);
    }
    if (status == STATUS_OK) {
        status = parser_push(p, &list, otherwise);
    }
    give_items(node, &list);
    return status;
}

static enum status parse_for(struct parser *p, struct node *node) {
    node->kind = NODE_FOR;
    parser_advance(p);
    enum status status = parse_target(p, false, &node->a);
    if (status == STATUS_OK && !parser_take_name(p, "in")) {
        status = parser_fail_expected(p, "'in'");
    }
    if (status == STATUS_OK) {
        status = parse_tuple(p, PARSE_NO_COND | PARSE_LOOP_ITEMS, &node->b);
    }
    if (status == STATUS_OK && parser_take_name(p, "if")) {
        status = parse_expression(p, 0, &node->c);
    }
    if (status == STATUS_OK && parser_at_name(p, "recursive")) {
        status = parser_fail(p, STATUS_UNSUPPORTED, "recursive loops are not interpreted");
    }
    return status == STATUS_OK ? parse_for_bodies(p, node) : status;
}

static enum status parse_set(struct parser *p, struct node *node) {
    parser_advance(p);
    enum status status = parse_target(p, true, &node->a);
    if (status != STATUS_OK) {
        return status;
    }
    if (parser_take_operator(p, "=")) {
        node->kind = NODE_SET;
        return parse_tuple(p, 0, &node->b);
    }
    node->kind = NODE_SET_BLOCK;
    if (parser_at_operator(p, "|")) {
        status = parse_filters(p, NULL, false, &node->b);
    }
    return status == STATUS_OK ? parse_body(p, "endset", true, &node->c) : status;
}

static bool is_constant_name(const struct text *name) {
    static const char *const names[] = {"true", "false", "none", "True", "False", "None"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (text_is(name, names[i])) {
            return true;
        }
    }
    return false;
}

static enum status parse_parameter(struct parser *p, struct node_list *names,
                                   struct node_list *defaults) {
    struct node *name = NULL;
    struct node *value = NULL;
    enum status status = parser_node(p, NODE_NAME, &name);
    if (status == STATUS_OK) {
        status = parser_expect_any_name(p, &name->name);
    }
    if (status == STATUS_OK && is_constant_name(name->name)) {
        status = parser_fail(p, STATUS_MALFORMED, "cannot assign to a constant");
    }
    if (status == STATUS_OK && parser_take_operator(p, "=")) {
        status = parse_expression(p, 0, &value);
        if (status == STATUS_OK) {
            status = parser_push(p, defaults, value);
        }
    } else if (status == STATUS_OK && defaults->count > 0) {
        status = parser_fail(p, STATUS_MALFORMED,
                             "a parameter without default follows one with a default");
    }
    return status == STATUS_OK ? parser_push(p, names, name) : status;
}

static enum status parse_parameters(struct parser *p, struct node *node) {
    struct node_list names = {0};
    struct node_list defaults = {0};
    enum status status = parser_expect_operator(p, "(");
    while (status == STATUS_OK && !parser_at_operator(p, ")")) {
        if (names.count > 0) {
            status = parser_expect_operator(p, ",");
        }
        if (status == STATUS_OK) {
            status = parse_parameter(p, &names, &defaults);
        }
    }
    parser_advance(p);
    give_items(node, &names);
    node->more = defaults.items;
    node->n_more = defaults.count;
    return status;
}

// A body that runs as a function of its own: no loop outside can be left from it.
static enum status parse_function_body(struct parser *p, const char *end, struct node **out) {
    int loops = p->loops;
    p->loops = 0;
    enum status status = parse_body(p, end, true, out);
    p->loops = loops;
    return status;
}

static enum status parse_macro(struct parser *p, struct node *node) {
    node->kind = NODE_MACRO;
    parser_advance(p);
    enum status status = parser_expect_any_name(p, &node->name);
    if (status == STATUS_OK && is_constant_name(node->name)) {
        status = parser_fail(p, STATUS_MALFORMED, "cannot assign to a constant");
    }
    if (status == STATUS_OK) {
        status = parse_parameters(p, node);
    }
    return status == STATUS_OK ? parse_function_body(p, "endmacro", &node->c) : status;
}

static enum status parse_call_block(struct parser *p, struct node *node) {
    node->kind = NODE_CALL_BLOCK;
    parser_advance(p);
    enum status status = STATUS_OK;
    if (parser_at_operator(p, "(")) {
        status = parse_parameters(p, node);
    }
    if (status == STATUS_OK) {
        status = parse_expression(p, 0, &node->a);
    }
    if (status == STATUS_OK && node->a->kind != NODE_CALL) {
        status = parser_fail(p, STATUS_MALFORMED, "expected a call");
    }
    return status == STATUS_OK ? parse_function_body(p, "endcall", &node->c) : status;
}

static enum status parse_filter_block(struct parser *p, struct node *node) {
    node->kind = NODE_FILTER_BLOCK;
    parser_advance(p);
    enum status status = parse_filters(p, NULL, true, &node->b);
    return status == STATUS_OK ? parse_body(p, "endfilter", true, &node->c) : status;
}

static enum status parse_with(struct parser *p, struct node *node) {
    struct node_list list = {0};
    node->kind = NODE_WITH;
    parser_advance(p);
    enum status status = STATUS_OK;
    while (status == STATUS_OK && parser_current(p)->kind != TOKEN_BLOCK_END) {
        struct node *target = NULL;
        struct node *value = NULL;
        if (list.count > 0) {
            status = parser_expect_operator(p, ",");
        }
        if (status == STATUS_OK) {
            status = parse_target(p, false, &target);
        }
        if (status == STATUS_OK) {
            status = parser_expect_operator(p, "=");
        }
        if (status == STATUS_OK) {
            status = parse_expression(p, 0, &value);
        }
        if (status == STATUS_OK) {
            status = parser_push(p, &list, target);
        }
        if (status == STATUS_OK) {
            status = parser_push(p, &list, value);
        }
    }
    give_items(node, &list);
    return status == STATUS_OK ? parse_body(p, "endwith", true, &node->c) : status;
}

static enum status parse_generation(struct parser *p, struct node *node) {
    node->kind = NODE_SCOPE;
    parser_advance(p);
    return parse_function_body(p, "endgeneration", &node->c);
}

static enum status parse_loop_control(struct parser *p, struct node *node) {
    bool is_break = parser_at_name(p, "break");
    node->kind = is_break ? NODE_BREAK : NODE_CONTINUE;
    if (p->loops == 0) {
        return parser_fail(p, STATUS_MALFORMED, "'%s' outside of a loop",
                           is_break ? "break" : "continue");
    }
    parser_advance(p);
    return STATUS_OK;
}

// {% print a, b %}
static enum status parse_print_tag(struct parser *p, struct node *node) {
    struct node_list list = {0};
    node->kind = NODE_BLOCK;
    parser_advance(p);
    enum status status = STATUS_OK;
    while (status == STATUS_OK && parser_current(p)->kind != TOKEN_BLOCK_END) {
        struct node *print = NULL;
        if (list.count > 0) {
            status = parser_expect_operator(p, ",");
        }
        if (status == STATUS_OK) {
            status = parser_node(p, NODE_PRINT, &print);
        }
        if (status == STATUS_OK) {
            status = parse_expression(p, 0, &print->a);
        }
        if (status == STATUS_OK) {
            status = parser_push(p, &list, print);
        }
    }
    give_items(node, &list);
    return status;
}

static const struct {
    const char *tag;
    enum status (*parse)(struct parser *p, struct node *node); // NULL: refused
} statements[] = {
    {"if", parse_if},
    {"for", parse_for},
    {"set", parse_set},
    {"macro", parse_macro},
    {"call", parse_call_block},
    {"filter", parse_filter_block},
    {"with", parse_with},
    {"generation", parse_generation},
    {"break", parse_loop_control},
    {"continue", parse_loop_control},
    {"print", parse_print_tag},
    {"block", NULL},
    {"extends", NULL},
    {"include", NULL},
    {"import", NULL},
    {"from", NULL},
    {"autoescape", NULL},
};

// A statement whose tag's name is current, up to and with the end mark.
static enum status parse_statement(struct parser *p, struct node_list *list) {
    struct node *node = NULL;
    const struct token *token = parser_current(p);
    if (token->kind != TOKEN_NAME) {
        return parser_fail_expected(p, "the name of a tag");
    }
    size_t i = 0;
    while (i < sizeof statements / sizeof *statements && !is_name(token, statements[i].tag)) {
        i++;
    }
    if (i == sizeof statements / sizeof *statements) {
        return parser_fail_expected(p, "a tag that is known here");
    }
    if (statements[i].parse == NULL) {
        return parser_fail(p, STATUS_UNSUPPORTED, "the tag '%s' is not interpreted",
                           statements[i].tag);
    }
    enum status status = parser_enter(p);
    if (status == STATUS_OK) {
        status = parser_node(p, NODE_BLOCK, &node);
    }
    if (status == STATUS_OK) {
        status = statements[i].parse(p, node);
    }
    parser_leave(p);
    if (status == STATUS_OK) {
        status = expect_block_end(p);
    }
    return status == STATUS_OK ? parser_push(p, list, node) : status;
}

enum status parse_template(struct parser *p, struct node **out) {
    return parse_until(p, NULL, out);
}
