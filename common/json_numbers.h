// Numbers of JSON text: those that are larger than the parser's (Python writes integers of any size,
// transformers says "no limit" with int(1e30); jansson refuses what exceeds 64 bits), and how long
// real ones are written (jansson writes 17 digits).
#ifndef COMMON_JSON_NUMBERS_H
#define COMMON_JSON_NUMBERS_H

#include <stddef.h>

// Rewrites in place, at equal length, every integer of text[bytes] outside int64_t as the nearest
// real of 14 digits or more, and every number outside double as +-9e307: what reads it meets a
// number that is above (below) all its limits. Strings and all other bytes stay. Text that is not
// JSON stays that; nothing is read outside text[bytes].
void json_numbers_bound(char *text, size_t bytes);

// Rewrites in place every real number of the text, which ends with NUL, with the fewest digits that
// read back as the same double (IEEE 754-2008, section 5.12.2): 0.3, not 0.29999999999999999. The
// text gets no longer; integers, strings and all other bytes stay. Fixed notation from 1e-4 to below
// 1e17. Numbers that jansson writes, at most 24 bytes long; longer ones stay.
void json_numbers_shorten(char *text);

#endif
