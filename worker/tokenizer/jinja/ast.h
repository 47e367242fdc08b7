// The tree of a parsed template. It never changes after parsing.
#ifndef WORKER_TOKENIZER_JINJA_AST_H
#define WORKER_TOKENIZER_JINJA_AST_H

#include "worker/tokenizer/jinja/value.h"

enum node_kind {
    // Statements. A body is a NODE_BLOCK.
    NODE_BLOCK,        // items: statements
    NODE_TEXT,         // name: the text
    NODE_PRINT,        // a: what is printed
    NODE_IF,           // items: condition, body, condition, body, ...; c: body of else or NULL
    NODE_FOR,          // a: target, b: what is iterated, c: condition or NULL,
                       // items: body, body of else or NULL
    NODE_SET,          // a: target, b: value
    NODE_SET_BLOCK,    // a: target, b: filter or NULL, c: body
    NODE_MACRO,        // name, items: parameters (NODE_NAME), more: defaults of the last ones,
                       // c: body, uses
    NODE_CALL_BLOCK,   // a: the call; items, more, c, uses as a macro's
    NODE_FILTER_BLOCK, // b: filter, c: body
    NODE_WITH,         // items: target, value, target, value, ...; c: body
    NODE_SCOPE,        // c: body (generation)
    NODE_BREAK,
    NODE_CONTINUE,
    // Targets.
    NODE_MEMBER, // name.attribute of a namespace
    // Expressions. Names and tuples are targets too.
    NODE_CONST,     // value
    NODE_NAME,      // name
    NODE_TUPLE,     // items
    NODE_LIST,      // items
    NODE_DICT,      // items: key, value, key, value, ...
    NODE_COND,      // a: condition, b: then, c: else or NULL
    NODE_OR,        // a, b
    NODE_AND,       // a, b
    NODE_NOT,       // a
    NODE_COMPARE,   // a, items: operands (NODE_OPERAND)
    NODE_OPERAND,   // operation, a
    NODE_BINARY,    // operation, a, b
    NODE_UNARY,     // operation, a
    NODE_CONCAT,    // items
    NODE_ATTRIBUTE, // a, name
    NODE_ITEM,      // a, b: key
    NODE_SLICE,     // a, items: start, stop, step, each may be NULL
    NODE_CALL,      // a, arguments
    NODE_FILTER,    // a (NULL in the filter of a block: its body), name, arguments, native
    NODE_TEST,      // a, name, arguments, native
};

enum operation {
    OPERATION_ADD,
    OPERATION_SUB,
    OPERATION_MUL,
    OPERATION_DIV,
    OPERATION_FLOOR_DIV,
    OPERATION_MOD,
    OPERATION_POW,
    OPERATION_EQ,
    OPERATION_NE,
    OPERATION_LT,
    OPERATION_LE,
    OPERATION_GT,
    OPERATION_GE,
    OPERATION_IN,
    OPERATION_NOT_IN,
};

// Special names that the body of a macro reads.
enum { MACRO_USES_CALLER = 1 << 0, MACRO_USES_KWARGS = 1 << 1, MACRO_USES_VARARGS = 1 << 2 };

struct keyword {
    const struct text *name;
    struct node *value;
};

struct arguments {
    struct node **positional; // [n_positional]
    size_t n_positional;
    struct keyword *keywords; // [n_keywords]
    size_t n_keywords;
    struct node *star;        // *args, NULL when there is none
    struct node *double_star; // **kwargs
};

struct node {
    enum node_kind kind;
    int line;
    size_t offset; // in the source, for messages at parse time
    enum operation operation;
    unsigned uses;
    struct node *a;
    struct node *b;
    struct node *c;
    struct node **items; // [n_items]
    size_t n_items;
    struct node **more; // [n_more]
    size_t n_more;
    const struct text *name;
    const struct text *attribute;
    struct value value;
    struct arguments arguments;
    const struct native *native; // of a filter or test; NULL: jinja2 knows none of this name either
    // Of a body that is a scope: names that it sets before any use, which hide the caller's
    // variable of that name from inner scopes (jinja2 decides this when it compiles).
    const struct text **hidden; // [n_hidden]
    size_t n_hidden;
};

struct token;

// Names that a template reads from its caller.
struct scope_reads {
    const struct text **names; // [count]
    size_t count;
};

struct jinja_template {
    struct arena arena; // holds all of it
    struct node *root;  // NODE_BLOCK
    struct scope_reads reads;
    const struct text *source;
    const struct token *tokens; // [n_tokens]
    size_t n_tokens;
};

#endif
