// The regular expressions of pre-tokenizers. The files are written for Oniguruma in its Ruby
// syntax; the subset that language models use is converted to PCRE2, where the two differ (\s, \w,
// ^, $), and the rest is refused. The only user of PCRE2 here. A compiled expression is constant
// and may be used by any number of threads, each with its own match memory.
#ifndef WORKER_TOKENIZER_SPLIT_REGEX_H
#define WORKER_TOKENIZER_SPLIT_REGEX_H

#include <stdbool.h>
#include <stddef.h>

#include "common/status.h"

enum { SPLIT_REGEX_BYTES_MAX = 4096 };

struct split_regex;
struct split_regex_memory;

// Compiles pattern [bytes] and returns it owned. UNSUPPORTED: a construct outside the subset,
// or it can match nothing. MALFORMED: not a pattern. LIMIT: longer than SPLIT_REGEX_BYTES_MAX.
// NO_MEMORY. err->field is left to the caller.
MUST_CHECK enum status split_regex_compile(const char *pattern, size_t bytes,
                                           struct split_regex **out, struct error *err);
void split_regex_destroy(struct split_regex *regex);

// Returns owned, NULL when out of memory.
struct split_regex_memory *split_regex_memory_create(void);
void split_regex_memory_destroy(struct split_regex_memory *memory);

// Finds the first match at or after `from` in text [bytes] (well-formed UTF-8); *found is false
// when there is none; a match has at least one byte. LIMIT: the pattern backtracks
// without bound on this text. NO_MEMORY.
MUST_CHECK enum status split_regex_find(const struct split_regex *regex,
                                        struct split_regex_memory *memory, const char *text,
                                        size_t bytes, size_t from, bool *found, size_t *start,
                                        size_t *end);

#endif
