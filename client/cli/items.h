// The prompts of a sweep: the rows of a file, of each its id and what is asked, read and checked as
// a whole before any work starts. Every error names the line.
#ifndef CLIENT_CLI_ITEMS_H
#define CLIENT_CLI_ITEMS_H

#include <stddef.h>
#include <stdio.h>

#include <jansson.h>

#include "client/cli/turns.h"
#include "client/surefoot.h"

enum { ITEMS_NAME_BYTES = 128 };

struct item {
    json_t *id;             // owned; a text, or a whole number
    json_t *source;         // owned object: all its fields but "id"
    char *joined;           // owned: a prompt that is no field by itself, or NULL
    const char *prompt;     // in source or joined; NULL when it has messages
    const json_t *messages; // in source; NULL when it has a prompt
    size_t line;            // in the file, from 1
};

struct items {
    struct item *rows; // [count]
    size_t count;
    const char *form;             // of the file: "CSV", "JSON lines", ...; static
    const char *benchmark;        // what the file was recognised as, or NULL; static
    char asked[ITEMS_NAME_BYTES]; // the column that is asked, or the columns joined: "a + b"
};

// What the caller says about a file; NULL: found out.
struct items_choice {
    const char *prompt_column; // asked alone, whatever the file was recognised as
    const char *id_column;
    struct turns turns; // what goes around every item; borrowed while the items live
};

// Reads `path` (client/benchmarks/rows.h), picks the column that is asked
// (client/benchmarks/benchmark.h) and the ids: of the benchmark's column, of "id", or the numbers
// of the items from 1. Every row must have both fields, a prompt that is more than white space, and
// an id of its own. Release with items_finish(), on failure too. STATUS_NOT_FOUND,
// STATUS_MALFORMED, STATUS_INVALID_ARGUMENT (which column?), STATUS_UNSUPPORTED, STATUS_LIMIT,
// STATUS_NO_MEMORY, STATUS_IO.
MUST_CHECK enum status items_read(const char *path, const struct items_choice *choice,
                                  struct items *out, struct error *err);

// Drops all but the first `limit`; 0 keeps all.
void items_keep_first(struct items *items, size_t limit);
void items_finish(struct items *items);

// Says what was recognised and what is asked: "JailbreakBench, CSV, 100 rows, asking Goal".
void items_describe(const struct items *items, FILE *out);

// Puts the prompt or messages of `item`, with what goes around them, into spec. `rows` and `list`
// hold the messages, LIMIT_MESSAGES each; everything is borrowed.
void item_set_prompt(const struct item *item, const struct turns *turns, Surefoot__JobSpec *spec,
                     Surefoot__ChatMessage *rows, Surefoot__ChatMessage **list);

#endif
