// The expressions that most byte-level models split by, written out: what split_regex.c finds with
// PCRE2 in each of them, several times as fast. They match everything, so that a text falls into
// matches without gaps. Pure; any thread.
#ifndef WORKER_TOKENIZER_SPLIT_FAST_H
#define WORKER_TOKENIZER_SPLIT_FAST_H

#include <stddef.h>

// End of the match that starts at `at`, at < bytes, in text [bytes] (well-formed UTF-8).
typedef size_t (*split_fast_fn)(const char *text, size_t bytes, size_t at);

// The function of an expression, NULL when it has none. pattern is NUL-terminated.
split_fast_fn split_fast_find(const char *pattern);

#endif
