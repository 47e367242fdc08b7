// The normaliser of a tokenizer file: rewrites text before it is split. Implemented are the four
// Unicode normal forms (Unicode Standard Annex 15), Prepend, Replace, Lowercase, Strip
// and the precompiled map of SentencePiece.
#ifndef WORKER_TOKENIZER_NORMALIZE_H
#define WORKER_TOKENIZER_NORMALIZE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/status.h"
#include "worker/tokenizer/charsmap.h"
#include "worker/tokenizer/split_regex.h"
#include "worker/tokenizer/text_buffer.h"

enum { NORMALIZER_STEPS_MAX = 8, NORMALIZER_STRING_BYTES_MAX = 64 };

enum normalize_kind {
    NORMALIZE_NFC,
    NORMALIZE_NFD,
    NORMALIZE_NFKC,
    NORMALIZE_NFKD,
    NORMALIZE_PREPEND,       // `content` before a text that is not empty
    NORMALIZE_REPLACE,       // `pattern` by `content`, everywhere
    NORMALIZE_REPLACE_REGEX, // what `regex` matches by `content`, everywhere
    NORMALIZE_LOWERCASE,     // character by character, without context
    NORMALIZE_STRIP_LEFT,    // white space at the start
    NORMALIZE_STRIP_RIGHT,   // white space at the end
    NORMALIZE_CHARSMAP,      // SentencePiece's map
};

struct normalize_string {
    char bytes[NORMALIZER_STRING_BYTES_MAX];
    size_t count;
};

struct normalize_step {
    enum normalize_kind kind;
    struct normalize_string pattern; // at least one byte
    struct normalize_string content;
    struct split_regex *regex; // owned
    char *expression;          // that of the regex as in the file, NUL-terminated; owned
    struct charsmap map;       // owned
};

struct normalizer {
    struct normalize_step steps[NORMALIZER_STEPS_MAX];
    size_t n_steps;
};

// Memory of one encode call. Zero is the empty state.
struct normalize_scratch {
    struct text_buffer buffers[2];
    int32_t *codes; // code points of a text, [codes_capacity]
    size_t codes_capacity;
    struct split_regex_memory *memory;
    bool lost_start; // the last text lost its first character without another in its place
};

// Sets a step to replace what pattern [bytes] matches. UNSUPPORTED: it can match nothing. The rest
// as split_regex_compile.
MUST_CHECK enum status normalize_step_set_regex(struct normalize_step *step, const char *pattern,
                                                size_t bytes, struct error *err);

// Normalises text [bytes] (well-formed UTF-8). The result lies in the scratch, or is the text
// itself when nothing changes; it is good until the next call. `continues` leaves Prepend out.
// LIMIT: above TEXT_BUFFER_BYTES_MAX. NO_MEMORY.
MUST_CHECK enum status normalizer_apply(const struct normalizer *normalizer, const char *text,
                                        size_t bytes, bool continues,
                                        struct normalize_scratch *scratch, const char **out,
                                        size_t *out_bytes);

// Replaces a fixed string everywhere, appending the result to `out`. LIMIT, NO_MEMORY.
MUST_CHECK enum status normalize_replace(const char *text, size_t bytes,
                                         const struct normalize_string *pattern,
                                         const struct normalize_string *content,
                                         struct text_buffer *out);

void normalize_scratch_finish(struct normalize_scratch *scratch);
void normalizer_finish(struct normalizer *normalizer);

#endif
