// Classes and cases of characters as Python's str has them, over libutf8proc. Pure functions.
#ifndef WORKER_TOKENIZER_JINJA_CHARACTERS_H
#define WORKER_TOKENIZER_JINJA_CHARACTERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "worker/tokenizer/jinja/text.h"

enum { CASE_CODES_MAX = 3 };

bool character_is_space(uint32_t code);     // str.isspace, and \s of Python's re
bool character_ends_line(uint32_t code);    // where str.splitlines cuts; \r\n is one cut
bool character_is_printable(uint32_t code); // what repr leaves as it is
bool character_is_alpha(uint32_t code);
bool character_is_digit(uint32_t code); // str.isdigit without the digits that are no decimals
bool character_is_upper(uint32_t code);
bool character_is_lower(uint32_t code);
bool character_is_cased(uint32_t code); // upper, lower or title

enum letter_case { CASE_UPPER, CASE_LOWER, CASE_TITLE };

// The text with every character in upper, lower or title case; full mappings of one character to
// several and the final sigma included (Unicode Standard, section 3.13). NULL as in text.h.
struct text *text_to_case(struct arena *arena, const struct text *text, enum letter_case to);
// First character in title case, the others in lower case (str.capitalize).
struct text *text_capitalize(struct arena *arena, const struct text *text);
// Each run of cased characters capitalised (str.title).
struct text *text_title(struct arena *arena, const struct text *text);

#endif
