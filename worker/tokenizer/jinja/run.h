// One rendering: its memory, limits, variables and the place that messages name.
#ifndef WORKER_TOKENIZER_JINJA_RUN_H
#define WORKER_TOKENIZER_JINJA_RUN_H

#include "worker/tokenizer/jinja/jinja.h"
#include "worker/tokenizer/jinja/value.h"

enum {
    // Pieces of work: a node visited, an item or 64 bytes of text handled.
    JINJA_STEPS_MAX = 10000000,
    // Nodes inside each other while rendering, macros followed.
    JINJA_EVALUATION_DEPTH_MAX = 600,
    // Lists and dicts inside each other when they are compared, printed or written as JSON.
    JINJA_VALUE_DEPTH_MAX = 100,
    JINJA_MEMORY_BYTES_MAX = 256 << 20,
    JINJA_RANGE_MAX = 100000, // as jinja2's sandbox
};

struct binding {
    const struct text *name;
    struct value value; // ABSENT: hides the variable of the caller, but is not set yet
};

// Names that were set in one scope; loops, macros and blocks have one each.
struct frame {
    struct frame *parent;
    struct binding *bindings; // [count]
    size_t count;
    size_t capacity;
    bool is_kept; // a macro was defined in it or inside it, and looks names up here later
};

enum flow { FLOW_NEXT, FLOW_BREAK, FLOW_CONTINUE };

struct run {
    struct arena arena;
    struct error *err;
    const struct dict *variables; // what the caller gave
    struct date date;
    struct frame *frame;      // innermost scope
    struct text_builder *out; // where text goes
    enum flow flow;           // a loop control on its way to its loop
    uint64_t steps;
    int depth;
    int value_depth;
    int line; // of the template, being evaluated
};

// Fills the error with "line N: ..." and returns `status`.
MUST_CHECK enum status run_fail(struct run *run, enum status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
// The arena gave nothing: LIMIT or NO_MEMORY.
MUST_CHECK enum status run_no_memory(struct run *run);
// Counts work. LIMIT: too much.
MUST_CHECK enum status run_charge(struct run *run, size_t steps);
MUST_CHECK enum status run_charge_bytes(struct run *run, size_t bytes);
// Enters one more level of nested values; run_leave undoes it also after a failure.
MUST_CHECK enum status run_enter(struct run *run);
void run_leave(struct run *run);

// *out = text; NULL is the arena's failure.
MUST_CHECK enum status run_give_text(struct run *run, const struct text *text, struct value *out);
// An undefined value with the whole message, or one that lacks a name.
MUST_CHECK enum status run_give_undefined(struct run *run, struct undefined undefined,
                                          struct value *out);
// Fails with the message of an undefined value.
MUST_CHECK enum status run_fail_undefined(struct run *run, const struct value *value);
// Fails with "<operation> does not take <type>", or with the undefined value's message.
MUST_CHECK enum status run_fail_type(struct run *run, const char *operation,
                                     const struct value *value);

struct frame *run_new_frame(struct run *run, struct frame *parent); // NULL: the arena's failure
MUST_CHECK enum status frame_set(struct run *run, struct frame *frame, const struct text *name,
                                 const struct value *value);
// Value of a name: the nearest scope's, else the caller's, else a function of the interpreter, else
// undefined.
MUST_CHECK enum status run_lookup(struct run *run, const struct text *name, struct value *out);

#endif
