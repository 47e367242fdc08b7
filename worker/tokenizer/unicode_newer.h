// Where the Unicode of the Hugging Face tokenizers library differs from that of the libraries here:
// its expressions know characters that PCRE2 of Debian 12 does not, its normal forms do not know
// some that utf8proc does. Constant tables, sorted, without overlaps.
#ifndef WORKER_TOKENIZER_UNICODE_NEWER_H
#define WORKER_TOKENIZER_UNICODE_NEWER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct unicode_range {
    uint32_t first;
    uint32_t last;
};

// Characters newer than Unicode 14.
struct unicode_newer {
    uint32_t first;
    uint32_t last;
    char category[3]; // general category, as "Lo"
};

extern const struct unicode_newer unicode_newer[];
extern const size_t unicode_newer_count;

// Characters that no normal form decomposes, though Unicode 14 does.
extern const struct unicode_range unicode_undecomposed[];
extern const size_t unicode_undecomposed_count;

// Marks that canonical ordering takes for starters (combining class 0), though Unicode 14 does not.
extern const struct unicode_range unicode_unordered[];
extern const size_t unicode_unordered_count;

// Whether one of n ranges holds the code.
bool unicode_ranges_hold(const struct unicode_range *ranges, size_t n, uint32_t code);

// The category of a character newer than Unicode 14, NULL for any other code.
const char *unicode_newer_category(uint32_t code);

#endif
