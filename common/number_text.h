// A number as text for messages: short, and never rounded to another number, so that what is
// refused does not read as what is allowed.
#ifndef COMMON_NUMBER_TEXT_H
#define COMMON_NUMBER_TEXT_H

enum { NUMBER_TEXT_BYTES = 32 };

// Six digits, or as many more, up to 17, as it takes to read back as `value`. Returns `out`.
const char *number_text(double value, char out[NUMBER_TEXT_BYTES]);

#endif
