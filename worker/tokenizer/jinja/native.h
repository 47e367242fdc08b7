// What the interpreter itself brings: filters, tests, methods and functions are rows of tables, and
// one function binds what a template passes to the parameters that a row names.
#ifndef WORKER_TOKENIZER_JINJA_NATIVE_H
#define WORKER_TOKENIZER_JINJA_NATIVE_H

#include "worker/tokenizer/jinja/value.h"

enum { NATIVE_PARAMETERS_MAX = 6 };

struct named_value {
    const struct text *name;
    struct value value;
};

// Evaluated arguments of a call.
struct call {
    struct value *positional; // [n_positional]
    size_t n_positional;
    struct named_value *named; // [n_named]
    size_t n_named;
};

// `self` is what a filter or test is applied to, or the object of a method; ABSENT for functions.
// argv holds one value per parameter of the row, ABSENT where none was given; `call` is what stood
// there, for rows that take any arguments.
typedef enum status (*native_fn)(struct run *run, const struct value *self,
                                 const struct value *argv, const struct call *call,
                                 struct value *out);

struct native {
    const char *name;
    // Names of the parameters, separated by spaces, at most NATIVE_PARAMETERS_MAX. A name after '='
    // may be left out. A first '/' says that none may be given by name, "*" that the function takes
    // what it likes.
    const char *parameters;
    native_fn function; // NULL: exists in Python or jinja2, and is refused
};

// Binds and calls. INVALID_ARGUMENT: the arguments do not fit; UNSUPPORTED: the row is refused.
MUST_CHECK enum status native_call(struct run *run, const struct native *native,
                                   const struct value *self, const struct call *call,
                                   struct value *out);

// *out = the function as a value, a method of `self` unless that is NULL.
MUST_CHECK enum status native_bind(struct run *run, const struct native *native,
                                   const struct value *self, struct value *out);

// Row of that name; NULL when there is none.
const struct native *native_find(const struct native *table, size_t count, const struct text *name);

const struct native *filter_find(const struct text *name);
const struct native *test_find(const struct text *name);
// Method of a value's type; what Python has and the sandbox or the interpreter refuses included.
const struct native *method_find(const struct value *value, const struct text *name, bool *unsafe);

// Applies a filter or test by its name, as `map` and `select` do.
MUST_CHECK enum status filter_apply(struct run *run, const struct text *name,
                                    const struct value *value, const struct call *call,
                                    struct value *out);
MUST_CHECK enum status test_apply(struct run *run, const struct text *name,
                                  const struct value *value, const struct call *call,
                                  struct value *out);

#endif
