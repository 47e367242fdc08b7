// The pre-tokenizer of a tokenizer file: cuts a normalised text into the words that merging works
// on. Every supported kind comes down to one change of the text (a prefix, spaces made visible)
// followed by splits with regular expressions.
#ifndef WORKER_TOKENIZER_PRETOKENIZE_H
#define WORKER_TOKENIZER_PRETOKENIZE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/status.h"
#include "worker/tokenizer/normalize.h"
#include "worker/tokenizer/split_regex.h"
#include "worker/tokenizer/text_buffer.h"

enum { PRETOKENIZER_SPLITS_MAX = 8 };

enum prefix_rule {
    PREFIX_NEVER,
    PREFIX_FIRST,  // before the part that starts the whole text
    PREFIX_ALWAYS, // before each part between added tokens
};

struct split {
    struct split_regex *regex; // owned
    char *pattern;             // as in the file, NUL-terminated; owned
    bool keep_matches;         // both: what matches and what lies between become words of their own
    bool keep_gaps;
};

struct pretokenizer {
    enum prefix_rule prefix_rule;
    struct normalize_string prefix; // put before a part that does not start with it
    bool replace_spaces;            // by the prefix (Metaspace)
    struct split splits[PRETOKENIZER_SPLITS_MAX];
    size_t n_splits;
    bool byte_level; // words are handed to the model as bytes
};

struct span {
    uint32_t start;
    uint32_t end;
};

struct span_list {
    struct span *spans; // [count], owned
    size_t count;
    size_t capacity;
};

// Memory of one encode call. Zero is the empty state.
struct pretokenize_scratch {
    struct text_buffer text;
    struct span_list lists[2];
    struct split_regex_memory *memory;
};

// Adds a split with pattern [bytes]. LIMIT: more than PRETOKENIZER_SPLITS_MAX. The rest as
// split_regex_compile.
MUST_CHECK enum status pretokenizer_add_split(struct pretokenizer *pretokenizer,
                                              const char *pattern, size_t bytes, bool keep_matches,
                                              bool keep_gaps, struct error *err);

// Cuts text [bytes], bytes >= 1, into *words over *changed, which is the text or lies in the
// scratch; both are good until the next call. `starts_text`: nothing was before it; `continues`: it
// takes no prefix. LIMIT, NO_MEMORY.
MUST_CHECK enum status pretokenizer_cut(const struct pretokenizer *pretokenizer, const char *text,
                                        size_t bytes, bool starts_text, bool continues,
                                        struct pretokenize_scratch *scratch, const char **changed,
                                        const struct span_list **words);

void pretokenize_scratch_finish(struct pretokenize_scratch *scratch);
void pretokenizer_finish(struct pretokenizer *pretokenizer);

#endif
