// The functions that every template may call: range, dict, namespace, raise_exception,
// strftime_now.
#ifndef WORKER_TOKENIZER_JINJA_FUNCTIONS_H
#define WORKER_TOKENIZER_JINJA_FUNCTIONS_H

#include "worker/tokenizer/jinja/native.h"
#include "worker/tokenizer/jinja/run.h"

// *out = the function of that name, or an undefined value. UNSUPPORTED: jinja2 has it and the
// interpreter does not.
MUST_CHECK enum status function_find(struct run *run, const struct text *name, struct value *out);

// A dict from an optional mapping or iterable of pairs and the named arguments.
MUST_CHECK enum status function_make_dict(struct run *run, const struct call *call,
                                          struct dict **out);

#endif
