// The pre-tokenizer of a tokenizer file: cuts a normalised text into the words that merging works
// on, step by step. A step splits every piece that the step before left, or rewrites it.
#ifndef WORKER_TOKENIZER_PRETOKENIZE_H
#define WORKER_TOKENIZER_PRETOKENIZE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/status.h"
#include "worker/tokenizer/added_tokens.h"
#include "worker/tokenizer/normalize.h"
#include "worker/tokenizer/split_fast.h"
#include "worker/tokenizer/split_regex.h"
#include "worker/tokenizer/text_buffer.h"

enum { PRETOKENIZER_STEPS_MAX = 16 };

enum prefix_rule {
    PREFIX_NEVER,
    PREFIX_FIRST,  // before the piece that starts the whole text
    PREFIX_ALWAYS, // before each piece
};

// What becomes of what matches and of the gaps between (normalizer.rs, SplitDelimiterBehavior).
enum split_behavior {
    SPLIT_ISOLATED,             // both are pieces
    SPLIT_REMOVED,              // gaps are pieces, what matches is dropped
    SPLIT_MERGED_WITH_PREVIOUS, // a match joins the gap before it
    SPLIT_MERGED_WITH_NEXT,     // a match joins the gap after it
    SPLIT_CONTIGUOUS,           // matches without a gap between are one piece, gaps too
};

enum pretokenize_kind {
    PRETOKENIZE_SPLIT,  // at matches of an expression
    PRETOKENIZE_TOKENS, // at the longest of some strings; both are pieces
    PRETOKENIZE_PREFIX, // puts a prefix before a piece, makes spaces visible
    PRETOKENIZE_SPELL,  // spells bytes as characters (vocabulary.h), for the steps after it
    PRETOKENIZE_LENGTH, // into pieces of a number of characters
};

struct pretokenize_step {
    enum pretokenize_kind kind;
    struct split_regex *regex; // SPLIT; owned
    char *pattern;             // SPLIT: as in the file, NUL-terminated; owned
    enum split_behavior behavior;
    split_fast_fn fast;             // SPLIT: finds what the regex does, NULL when there is none
    bool invert;                    // SPLIT: what matches and what does not change places
    struct added_tokens tokens;     // TOKENS; owned
    enum prefix_rule prefix_rule;   // PREFIX
    struct normalize_string prefix; // PREFIX: put before a piece that does not start with it
    bool replace_spaces;            // PREFIX: by the prefix (Metaspace)
    uint32_t length;                // LENGTH: characters, at least 1
};

struct pretokenizer {
    struct pretokenize_step steps[PRETOKENIZER_STEPS_MAX];
    size_t n_steps;
    bool byte_level; // words are handed to the model as bytes
    bool spelled;    // they come spelled as characters
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
    struct text_buffer texts[2];
    struct span_list lists[2];
    struct split_regex_memory *memory;
};

// Appends a step and gives it, zero but for its kind; NULL when there are PRETOKENIZER_STEPS_MAX.
struct pretokenize_step *pretokenizer_add(struct pretokenizer *pretokenizer,
                                          enum pretokenize_kind kind);

// Appends a split with pattern [bytes]. LIMIT: more than PRETOKENIZER_STEPS_MAX. UNSUPPORTED: the
// pattern can match nothing. The rest as split_regex_compile.
MUST_CHECK enum status pretokenizer_add_split(struct pretokenizer *pretokenizer,
                                              const char *pattern, size_t bytes,
                                              enum split_behavior behavior, bool invert,
                                              struct error *err);

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
