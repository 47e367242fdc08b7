// The state of one for statement, which templates see as `loop`. Items are taken one by one, so
// that a condition sees what the body changed before it; asking for the length takes them all.
#ifndef WORKER_TOKENIZER_JINJA_LOOP_H
#define WORKER_TOKENIZER_JINJA_LOOP_H

#include "worker/tokenizer/jinja/value.h"

struct loop {
    const struct node *node; // the for
    struct frame *frame;     // scope around it, in which the condition is evaluated
    struct list items;
    size_t next;   // index of the first item that was not looked at
    bool has_test; // items may still fail the condition
    int64_t index; // of the current item, from 0; -1 before the first
    struct value current;
    struct value before;  // ABSENT at the first
    struct value after;   // looked ahead; ABSENT when not
    struct value changed; // tuple of the last call of loop.changed; ABSENT before
};

// Takes the next item; *found is false at the end.
MUST_CHECK enum status loop_advance(struct run *run, struct loop *loop, bool *found);
MUST_CHECK enum status loop_length(struct run *run, struct loop *loop, size_t *length);
// A member of `loop`; *known is false when it has none of that name.
MUST_CHECK enum status loop_attribute(struct run *run, const struct value *loop,
                                      const struct text *name, struct value *out, bool *known);

#endif
