// Chat templates of models: an interpreter of the part of Jinja that they use, with the meaning
// that transformers gives it (jinja2's ImmutableSandboxedEnvironment with trim_blocks,
// lstrip_blocks, loop controls, `generation` blocks, raise_exception and strftime_now). A parsed
// template never changes and may be rendered by any number of threads at the same time. Templates
// are untrusted: what one may use of steps, depth, memory and output is bounded, and it reaches
// nothing but the values it is given.
//
// Not interpreted, and refused by name: extends, include, import, block, autoescape, recursive
// loops, cycler, joiner, lipsum, the filters attr, filesizeformat, forceescape, groupby, pprint,
// random, striptags, urlencode, urlize, wordwrap and xmlattr, names and integers beyond ASCII and
// 64 bits.
//
// Of every byte of the result the interpreter knows whether it comes from the template or from what
// the caller gave (content): what is cut, joined, replaced or changed in case keeps its origin, and
// what is made from content (a number's digits, JSON) is content.
#ifndef WORKER_TOKENIZER_JINJA_JINJA_H
#define WORKER_TOKENIZER_JINJA_JINJA_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "common/date.h"
#include "common/status.h"

enum {
    JINJA_TEMPLATE_BYTES_MAX = 1 << 20,
    JINJA_OUTPUT_BYTES_MAX = 1 << 22, // as TOKENIZER_TEXT_BYTES_MAX
    // Blocks and expressions inside each other in the text of a template.
    JINJA_NESTING_MAX = 150,
};

struct jinja_template;

struct jinja_inputs {
    // Objects whose members are the template's variables; borrowed during the call. A name that
    // both have is `trusted`'s.
    const json_t *trusted; // strings as of the template: bos_token, eos_token, ...; may be NULL
    const json_t *data;    // strings are content: messages, ...; may be NULL. A member "role" whose
                           // value is one of the usual ones (system, user, ...) is the template's
    struct date date;      // the present of strftime_now: the start of that day
};

struct jinja_segment {
    const char *text; // [bytes] of the output's text, well-formed UTF-8
    size_t bytes;
    bool content;
};

struct jinja_output {
    char *text; // [bytes], owned; not NUL-terminated
    size_t bytes;
    struct jinja_segment *segments; // [n_segments], owned; together the text; neighbours differ
    size_t n_segments;
};

// Parses `text` [bytes], which is not kept. MALFORMED: not UTF-8, or not a template; UNSUPPORTED: a
// construct that is not interpreted; both name line and column. LIMIT, NO_MEMORY. err->field is
// "chat_template".
MUST_CHECK enum status jinja_parse(const char *text, size_t bytes, struct jinja_template **out,
                                   struct error *err);

// Frees; NULL is allowed.
void jinja_close(struct jinja_template *template);

// Renders. INVALID_ARGUMENT: the template raised an error, by raise_exception (the message is its
// text) or by an operation that its values do not take; UNSUPPORTED: it came to something that is
// not interpreted; both name the line. LIMIT: steps, depth, memory or output. NO_MEMORY. *out is
// written on success only and goes to jinja_output_finish. Does not block.
MUST_CHECK enum status jinja_render(const struct jinja_template *template,
                                    const struct jinja_inputs *inputs, struct jinja_output *out,
                                    struct error *err);

void jinja_output_finish(struct jinja_output *output);

// Whether the template anywhere reads the variable `name` of its caller: one that it has not, on
// every way there, set itself.
bool jinja_reads(const struct jinja_template *template, const char *name);

#endif
