// Tokens to a tree: statements are here, expressions in parse_expression.c. What jinja2 knows and
// the interpreter does not is refused by name.
#ifndef WORKER_TOKENIZER_JINJA_PARSER_H
#define WORKER_TOKENIZER_JINJA_PARSER_H

#include "worker/tokenizer/jinja/ast.h"
#include "worker/tokenizer/jinja/lexer.h"

struct parser {
    struct arena *arena;
    struct token_list tokens;
    size_t at; // index of the current token
    struct error *err;
    int nesting;
    int loops; // that a break would leave, in the macro or template that is being parsed
};

// Nodes that grow while they are read.
struct node_list {
    struct node **items;
    size_t count;
    size_t capacity;
};

const struct token *parser_current(const struct parser *parser);
bool parser_at_name(const struct parser *parser, const char *name);
bool parser_at_operator(const struct parser *parser, const char *operator);
bool parser_next_is_name(const struct parser *parser, const char *name); // one after the current
bool parser_next_is_operator(const struct parser *parser, const char *operator);
// Takes the current token when it is this name or operator.
bool parser_take_name(struct parser *parser, const char *name);
bool parser_take_operator(struct parser *parser, const char *operator);
void parser_advance(struct parser *parser);
MUST_CHECK enum status parser_expect_operator(struct parser *parser, const char *operator);
MUST_CHECK enum status parser_expect_any_name(struct parser *parser, const struct text **name);

MUST_CHECK enum status parser_fail(const struct parser *parser, enum status status,
                                   const char *format, ...) __attribute__((format(printf, 3, 4)));
MUST_CHECK enum status parser_no_memory(const struct parser *parser);
// "expected X" at the current token.
MUST_CHECK enum status parser_fail_expected(const struct parser *parser, const char *expected);
// One level deeper in blocks or expressions; parser_leave undoes it also after a failure.
MUST_CHECK enum status parser_enter(struct parser *parser);
void parser_leave(struct parser *parser);

// A node at the current token.
MUST_CHECK enum status parser_node(struct parser *parser, enum node_kind kind, struct node **out);
MUST_CHECK enum status parser_push(struct parser *parser, struct node_list *list,
                                   struct node *node);

enum {
    PARSE_NO_COND = 1 << 0,     // without inline if
    PARSE_EMPTY_TUPLE = 1 << 1, // nothing at all is a tuple too
    PARSE_LOOP_ITEMS = 1 << 2,  // the word `recursive` ends it
};

// One expression.
MUST_CHECK enum status parse_expression(struct parser *parser, unsigned flags, struct node **out);
// An expression or several with commas, which make a tuple.
MUST_CHECK enum status parse_tuple(struct parser *parser, unsigned flags, struct node **out);
// What may be assigned to: a name, namespace.member where `members`, or a tuple of these.
MUST_CHECK enum status parse_target(struct parser *parser, bool members, struct node **out);
// The part after '|' and what follows of filters, applied to `node` (NULL: the body of a block).
MUST_CHECK enum status parse_filters(struct parser *parser, struct node *node, bool has_begun,
                                     struct node **out);

MUST_CHECK enum status parse_template(struct parser *parser, struct node **out);

// Finds the hidden names of every scope (see struct node) and refuses filters and tests that nobody
// knows. MALFORMED as jinja2 when it compiles; LIMIT: nested too deeply.
MUST_CHECK enum status scope_analyze(struct parser *parser, struct node *root,
                                     struct scope_reads *reads);

#endif
