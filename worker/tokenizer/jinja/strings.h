// What filters and methods of strings share. Origins of bytes are kept.
#ifndef WORKER_TOKENIZER_JINJA_STRINGS_H
#define WORKER_TOKENIZER_JINJA_STRINGS_H

#include "worker/tokenizer/jinja/convert.h"

enum { STRIP_LEFT = 1 << 0, STRIP_RIGHT = 1 << 1 };

// Without the characters (NULL: white space) at the given sides.
MUST_CHECK enum status string_strip(struct run *run, const struct text *text,
                                    const struct text *characters, unsigned sides,
                                    struct value *out);
// str.split and str.rsplit: at most `splits` cuts, any number when negative; a NULL separator is
// runs of white space.
MUST_CHECK enum status string_split(struct run *run, const struct text *text,
                                    const struct text *separator, int64_t splits, bool from_right,
                                    struct value *out);
MUST_CHECK enum status string_split_lines(struct run *run, const struct text *text, bool keep_ends,
                                          struct value *out);
// At most `count` replacements, all when negative.
MUST_CHECK enum status string_replace(struct run *run, const struct text *text,
                                      const struct text *old, const struct text *with,
                                      int64_t count, struct value *out);
// The items' texts (str of each) with the separator between them.
MUST_CHECK enum status string_join(struct run *run, const struct text *separator,
                                   const struct list *items, struct value *out);

#endif
