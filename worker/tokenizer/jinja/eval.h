// Evaluates the tree. Statements are in statement.c, expressions in expression.c, operators in
// operators.c, what lies inside a value in lookup.c.
#ifndef WORKER_TOKENIZER_JINJA_EVAL_H
#define WORKER_TOKENIZER_JINJA_EVAL_H

#include "worker/tokenizer/jinja/ast.h"
#include "worker/tokenizer/jinja/native.h"
#include "worker/tokenizer/jinja/run.h"

// Counts one node and one level; eval_leave undoes the level also after a failure.
MUST_CHECK enum status eval_enter(struct run *run, const struct node *node);
void eval_leave(struct run *run);

MUST_CHECK enum status eval_expression(struct run *run, const struct node *node, struct value *out);
// A body in the current scope; run->flow tells how it ended.
MUST_CHECK enum status eval_body(struct run *run, const struct node *body);
// A body in a new scope inside the current one, its output as a text.
MUST_CHECK enum status eval_captured(struct run *run, struct frame *frame, const struct node *body,
                                     struct value *out);
// A filter whose input is given, for blocks.
MUST_CHECK enum status eval_block_filter(struct run *run, const struct node *filter,
                                         const struct value *input, struct value *out);
// Sets a target in the current scope.
MUST_CHECK enum status eval_assign(struct run *run, const struct node *target,
                                   const struct value *value);
// A scope for `body` inside `parent`, its hidden names hidden.
MUST_CHECK enum status eval_new_scope(struct run *run, struct frame *parent,
                                      const struct node *body, struct frame **out);
MUST_CHECK enum status eval_call(struct run *run, const struct value *callee,
                                 const struct call *call, struct value *out);
MUST_CHECK enum status macro_call(struct run *run, const struct macro *macro,
                                  const struct call *call, struct value *out);
// Evaluated arguments; `caller` (NULL: none) is added by that name.
MUST_CHECK enum status eval_arguments(struct run *run, const struct arguments *arguments,
                                      const struct value *caller, struct call *call);

MUST_CHECK enum status operate(struct run *run, enum operation operation, const struct value *a,
                               const struct value *b, struct value *out);
MUST_CHECK enum status operate_unary(struct run *run, enum operation operation,
                                     const struct value *a, struct value *out);

// object.name and object[key] with jinja2's order of attribute and item.
MUST_CHECK enum status lookup_attribute(struct run *run, const struct value *object,
                                        const struct text *name, struct value *out);
MUST_CHECK enum status lookup_item(struct run *run, const struct value *object,
                                   const struct value *key, struct value *out);
// object[start:stop:step]; bounds may be none.
MUST_CHECK enum status lookup_slice(struct run *run, const struct value *object,
                                    const struct value bounds[3], struct value *out);

#endif
