#include "client/cli/paragraph.h"

#include <string.h>

#include <utf8proc.h>

#include "client/cli/print.h"

static const char spaces[] = " \t\n\v\f\r";
static const char cut_mark[] = "...";

static bool is_space(char byte) {
    return byte != '\0' && strchr(spaces, byte) != NULL;
}

// The end of the character at `at`, which is not the text's end, and its columns. A byte that is no
// UTF-8 is a character.
static const char *next_character(const char *at, int *width) {
    utf8proc_int32_t code = 0;
    utf8proc_ssize_t size = utf8proc_iterate((const utf8proc_uint8_t *)at, -1, &code);
    bool control = size <= 0 || utf8proc_category(code) == UTF8PROC_CATEGORY_CC;
    *width = control ? 1 : utf8proc_charwidth(code);
    return at + (size > 0 ? size : 1);
}

static const char *word_end(const char *at, int *width) {
    *width = 0;
    while (*at != '\0' && !is_space(*at)) {
        int columns = 0;
        at = next_character(at, &columns);
        *width += columns;
    }
    return at;
}

// As much of a word as fits, at least one character.
static const char *cut_word(const char *at, int width) {
    int used = 0;
    const char *end = at;
    while (*end != '\0' && !is_space(*end)) {
        int columns = 0;
        const char *next = next_character(end, &columns);
        used += columns;
        if (used > width && end != at) {
            break;
        }
        end = next;
    }
    return end;
}

// The end of the words from `at` on, which is no space, that fit into a line.
static const char *line_end(const char *at, int width) {
    const char *end = at;
    int used = 0;
    for (const char *word = at; *word != '\0'; word = end + strspn(end, spaces)) {
        int columns = 0;
        const char *after = word_end(word, &columns);
        used += (end != at) + columns;
        if (used > width) {
            break;
        }
        end = after;
    }
    return end != at ? end : cut_word(at, width);
}

static void print_line(const char *at, const char *end, FILE *out) {
    while (at < end) {
        char character[8] = " ";
        int columns = 0;
        const char *next = at + strspn(at, spaces);
        if (next == at) {
            next = next_character(at, &columns);
            bool is_text = next - at > 1 || (unsigned char)*at < 0x80;
            snprintf(character, sizeof character, "%.*s", (int)(next - at), is_text ? at : "?");
        }
        print_text(character, true, 0, out);
        at = next;
    }
}

void paragraph_print(const char *text, const struct paragraph *shape, FILE *out) {
    const char *at = text + strspn(text, spaces);
    for (int line = 1; *at != '\0'; line++) {
        const char *end = line_end(at, shape->columns);
        bool cut = line == shape->lines_max && end[strspn(end, spaces)] != '\0';
        if (cut) {
            end = line_end(at, shape->columns - (int)strlen(cut_mark));
        }
        print_line(at, end, out);
        at = cut ? "" : end + strspn(end, spaces);
        fputs(cut ? cut_mark : "", out);
        if (*at != '\0') {
            fprintf(out, "\n%*s", shape->indent, "");
        }
    }
    fputc('\n', out);
}
