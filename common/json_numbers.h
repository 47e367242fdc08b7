// Numbers of JSON text that are larger than the parser's. Python writes integers of any size
// (transformers says "no limit" with int(1e30)); jansson refuses what exceeds 64 bits.
#ifndef COMMON_JSON_NUMBERS_H
#define COMMON_JSON_NUMBERS_H

#include <stddef.h>

// Rewrites in place, at equal length, every integer of text[bytes] outside int64_t as the nearest
// real of 14 digits or more, and every number outside double as +-9e307: what reads it meets a
// number that is above (below) all its limits. Strings and all other bytes stay. Text that is not
// JSON stays that; nothing is read outside text[bytes].
void json_numbers_bound(char *text, size_t bytes);

#endif
