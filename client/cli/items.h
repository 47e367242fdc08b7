// The prompts of a sweep: JSON lines, or CSV with a header, read and checked as a whole before any
// work starts. Every error names the line.
#ifndef CLIENT_CLI_ITEMS_H
#define CLIENT_CLI_ITEMS_H

#include <stddef.h>

#include <jansson.h>

#include "client/surefoot.h"

enum { ITEMS_MAX = 10000000, ITEMS_LINE_BYTES_MAX = 4 << 20 };

struct item {
    json_t *id;         // owned; its "id", or the number of the item, from 1
    json_t *source;     // owned object: all its fields but the id
    const char *prompt; // in source; NULL when it has messages
    size_t line;        // in the file, from 1
};

struct items {
    struct item *rows; // [count]
    size_t count;
};

// Reads `path`: CSV when it ends in ".csv", else JSON lines. The prompt is in the field
// `prompt_column`, or when that is NULL in the first there is of prompt, Behavior, Goal, goal,
// forbidden_prompt; a JSON item may have "messages" [{role, content}] instead. Release with
// items_finish(), on failure too. STATUS_NOT_FOUND, STATUS_MALFORMED, STATUS_LIMIT,
// STATUS_NO_MEMORY, STATUS_IO.
MUST_CHECK enum status items_read(const char *path, const char *prompt_column, struct items *out,
                                  struct error *err);
void items_finish(struct items *items);

// Puts the prompt or messages of `item` into spec. `rows` and `list` hold the messages,
// LIMIT_MESSAGES each; everything is borrowed from the item.
void item_set_prompt(const struct item *item, Surefoot__JobSpec *spec, Surefoot__ChatMessage *rows,
                     Surefoot__ChatMessage **list);

#endif
