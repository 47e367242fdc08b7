// What the caller gives, as values.
#ifndef WORKER_TOKENIZER_JINJA_INPUTS_H
#define WORKER_TOKENIZER_JINJA_INPUTS_H

#include "worker/tokenizer/jinja/run.h"

// Makes run->variables of the inputs' two objects. INVALID_ARGUMENT: not objects; LIMIT: nested too
// deeply.
MUST_CHECK enum status inputs_read(struct run *run, const struct jinja_inputs *inputs);

#endif
