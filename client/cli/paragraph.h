// Text in lines of a terminal, for people: broken between words, any white space one space, control
// characters and bytes that are no UTF-8 "?". What terminals show in two columns (East Asian wide
// characters, emoji) counts as two, what joins the character before it as none.
#ifndef CLIENT_CLI_PARAGRAPH_H
#define CLIENT_CLI_PARAGRAPH_H

#include <stdio.h>

struct paragraph {
    int indent;    // spaces before every line but the first, which begins where the caller stands
    int columns;   // of a line's text, the indent not counted; at least 8
    int lines_max; // what is beyond is cut, which "..." at the end shows; at least 1
};

// Writes `text` and a line end.
void paragraph_print(const char *text, const struct paragraph *shape, FILE *out);

#endif
