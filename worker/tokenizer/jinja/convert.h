// Values to text: Python's str, repr, json.dumps and the two ways to format a string.
#ifndef WORKER_TOKENIZER_JINJA_CONVERT_H
#define WORKER_TOKENIZER_JINJA_CONVERT_H

#include "worker/tokenizer/jinja/native.h"
#include "worker/tokenizer/jinja/run.h"

// str(value). UNSUPPORTED: it would show an address.
MUST_CHECK enum status value_to_text(struct run *run, const struct value *value,
                                     const struct text **text);
// repr(value), appended.
MUST_CHECK enum status value_put_repr(struct run *run, struct text_builder *b,
                                      const struct value *value);

enum { NUMBER_TEXT_BYTES = 40 };

// repr of a float: the shortest digits that read back as the same number.
void real_to_text(double real, char text[NUMBER_TEXT_BYTES]);

struct json_style {
    bool ensure_ascii;
    bool sort_keys;
    const struct text *indent; // NULL: one line
    const struct text *item_separator;
    const struct text *key_separator;
};

// json.dumps(value). INVALID_ARGUMENT: not made of what JSON has.
MUST_CHECK enum status value_to_json(struct run *run, const struct value *value,
                                     const struct json_style *style, struct value *out);

// HTML's special characters replaced, as markup; a text that is markup already stays as it is.
struct text *text_escape(struct arena *arena, const struct text *text);

// format % arguments. UNSUPPORTED: %a, %c of a number beyond ASCII, widths given by arguments.
MUST_CHECK enum status format_percent(struct run *run, const struct text *format,
                                      const struct value *arguments, struct value *out);
// format.format(...). UNSUPPORTED: a conversion, a format specification, or a member of an
// argument.
MUST_CHECK enum status format_braces(struct run *run, const struct text *format,
                                     const struct call *call, struct value *out);

#endif
