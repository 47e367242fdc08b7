// Values of a rendering, with the semantics that Python gives them under jinja2's immutable
// sandbox. A value is copied freely; what it points to is the arena's and, but for namespaces,
// generators and loops, never changes.
#ifndef WORKER_TOKENIZER_JINJA_VALUE_H
#define WORKER_TOKENIZER_JINJA_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/status.h"
#include "worker/tokenizer/jinja/text.h"

struct run;
struct node;
struct frame;
struct native;
struct call;

enum value_kind {
    VALUE_ABSENT, // an argument that was not given; no expression has it
    VALUE_UNDEFINED,
    VALUE_NONE,
    VALUE_BOOL,
    VALUE_INT,
    VALUE_FLOAT,
    VALUE_STRING,
    VALUE_LIST,
    VALUE_TUPLE,
    VALUE_DICT,
    VALUE_VIEW,      // items, keys or values of a dict
    VALUE_RANGE,     // of integers
    VALUE_GENERATOR, // items that can be taken once, as filters like `select` give them
    VALUE_NAMESPACE, // the one object that a template may change
    VALUE_LOOP,      // `loop` inside a for
    VALUE_MACRO,
    VALUE_NATIVE, // a function of the interpreter, or a method with the value it belongs to
};

struct value {
    enum value_kind kind;
    bool content; // of a number or boolean: it was made from what the caller gave
    union {
        bool boolean;
        int64_t integer;
        double real;
        const struct text *text;
        const struct list *list; // also of tuples
        struct dict *dict;       // also of namespaces
        const struct view *view;
        const struct range *range;
        struct generator *generator;
        struct loop *loop;
        const struct macro *macro;
        const struct bound_native *native;
        const struct undefined *undefined;
    };
};

struct list {
    struct value *items; // [count]
    size_t count;
};

struct dict_entry {
    struct value key;
    struct value value;
};

struct dict {
    struct dict_entry *entries; // [count] in the order of insertion
    size_t count;
    size_t capacity;
};

enum view_kind { VIEW_KEYS, VIEW_VALUES, VIEW_ITEMS };

struct view {
    enum view_kind kind;
    const struct dict *dict;
};

struct range {
    int64_t start;
    int64_t stop; // as it was given
    int64_t step;
    size_t count;
};

struct generator {
    struct list items;
    size_t at;         // items before it were taken
    const char *label; // what made it, for messages
};

struct bound_native {
    const struct native *native;
    struct value self; // ABSENT for a function
};

struct macro {
    const struct node *node;  // macro or call block
    struct frame *definition; // where its free names are looked up
};

// Why a value is undefined, for the message of the operation that does not take it.
struct undefined {
    const char *hint;        // the whole message; NULL: made from what follows
    const char *owner;       // kind of the object that lacks `name`; NULL: a variable
    const struct text *name; // NULL where the hint says it all
    bool unsafe;             // the sandbox refused it
};

static inline struct value value_none(void) {
    return (struct value){.kind = VALUE_NONE};
}

static inline struct value value_bool(bool boolean) {
    return (struct value){.kind = VALUE_BOOL, .boolean = boolean};
}

static inline struct value value_int(int64_t integer) {
    return (struct value){.kind = VALUE_INT, .integer = integer};
}

static inline struct value value_float(double real) {
    return (struct value){.kind = VALUE_FLOAT, .real = real};
}

static inline struct value value_text(const struct text *text) {
    return (struct value){.kind = VALUE_STRING, .text = text};
}

static inline bool value_is_sequence(const struct value *value) {
    return value->kind == VALUE_LIST || value->kind == VALUE_TUPLE;
}

// Name of the value's type as jinja2's messages have it ("dict object").
const char *value_type(const struct value *value);

// Python's bool(value).
bool value_truth(const struct value *value);

// Whether it is a number (booleans are), and which: *real is set in either case, *integer when the
// return is VALUE_INT. VALUE_ABSENT: not a number.
enum value_kind value_number(const struct value *value, int64_t *integer, double *real);

// Python's ==. LIMIT: nested too deeply, or too many steps.
MUST_CHECK enum status value_equal(struct run *run, const struct value *a, const struct value *b,
                                   bool *equal);

// Python's order: *order is < 0, 0 or > 0. INVALID_ARGUMENT: these two have none.
MUST_CHECK enum status value_compare(struct run *run, const struct value *a, const struct value *b,
                                     int *order);

// Python's `needle in haystack`.
MUST_CHECK enum status value_contains(struct run *run, const struct value *haystack,
                                      const struct value *needle, bool *contains);

// len(value). INVALID_ARGUMENT: it has none.
MUST_CHECK enum status value_length(struct run *run, const struct value *value, size_t *length);

// The items that iterating gives; generators are used up. INVALID_ARGUMENT: cannot be iterated.
MUST_CHECK enum status value_items(struct run *run, const struct value *value, struct list *items);

// Value of `key` in the dict, NULL when it has none.
MUST_CHECK enum status dict_find(struct run *run, const struct dict *dict, const struct value *key,
                                 struct value **value);
// The same for a key that is a constant of the program or a name of the template.
struct value *dict_find_text(const struct dict *dict, const struct text *key);
// Adds or replaces. INVALID_ARGUMENT: the key cannot be hashed.
MUST_CHECK enum status dict_set(struct run *run, struct dict *dict, const struct value *key,
                                const struct value *value);

MUST_CHECK enum status list_make(struct run *run, enum value_kind kind, const struct value *items,
                                 size_t count, struct value *out);

#endif
