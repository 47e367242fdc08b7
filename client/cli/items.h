// The prompts of a sweep: the rows of a file, of each its id and what is asked, read and checked as
// a whole before any work starts. Every error names the line.
#ifndef CLIENT_CLI_ITEMS_H
#define CLIENT_CLI_ITEMS_H

#include <stddef.h>
#include <stdio.h>

#include <jansson.h>

#include "client/cli/flags.h"
#include "client/cli/turns.h"
#include "client/surefoot.h"

enum { ITEMS_NAME_BYTES = 128 };

#define ITEMS_JOINED " + " // between the names of columns that are asked together

struct item {
    json_t *id;             // owned; a text, or a whole number
    json_t *source;         // owned object: all its fields but "id"
    char *joined;           // owned: a prompt that is no field by itself, or NULL
    json_t *turned;         // owned: messages that are no field by themselves, or NULL
    const char *prompt;     // in source or joined; NULL when it has messages
    const json_t *messages; // in source or turned; NULL when it has a prompt
    size_t line;            // in the file, from 1
};

// Which items are asked: those that pass the filters, of them a sample, of it the first.
struct selection {
    const struct flag_list *filters; // FIELD=VALUE each; one of the values of every field
    uint32_t sample;                 // 0: all
    uint64_t sample_seed;
    uint32_t limit; // 0: all
};

struct items {
    struct item *rows; // [count]
    size_t count;
    size_t n_read;     // rows of the file
    size_t n_filtered; // of them those that passed the filters
    bool from_stdin;
    const char *form;             // of the file: "CSV", "JSON lines", ...; static
    const char *benchmark;        // what the file was recognised as, or NULL; static
    char asked[ITEMS_NAME_BYTES]; // the column that is asked, or the columns joined: "a + b"
};

// What the caller says about a file; NULL: found out.
struct items_choice {
    const char *prompt_column; // asked alone, whatever the file was recognised as
    const char *id_column;
    const char *form;   // ROWS_FORMS
    struct turns turns; // what goes around every item; borrowed while the items live
};

// What a record of a study asked, borrowed: its own prompt or messages, else the field that its
// settings name; of columns that were to be joined the only one that is not empty. NULL: it holds
// none.
const json_t *items_asked_of(const json_t *record);

// Reads `path` (client/benchmarks/rows.h), picks the column that is asked
// (client/benchmarks/benchmark.h) and the ids: of the benchmark's column, of "id", or the numbers
// of the items from 1. Every row must have both fields, a prompt that is more than white space, and
// an id of its own. Release with items_finish(), on failure too. STATUS_NOT_FOUND,
// STATUS_MALFORMED, STATUS_INVALID_ARGUMENT (which column?), STATUS_UNSUPPORTED, STATUS_LIMIT,
// STATUS_NO_MEMORY, STATUS_IO.
MUST_CHECK enum status items_read(const char *path, const struct items_choice *choice,
                                  struct items *out, struct error *err);

// Drops what is not selected; what stays keeps its order and its id. Filters compare texts as they
// are and numbers, true, false and null as JSON writes them; "id" is the item's id, "a.b" the
// member b of the field a. Whether an item is in the sample depends on the seed and the ids alone,
// and a larger sample holds a smaller one. STATUS_INVALID_ARGUMENT: no FIELD=VALUE, no row has the
// field, or none is left; STATUS_MALFORMED: a field that is a list or an object.
MUST_CHECK enum status items_select(struct items *items, const struct selection *selection,
                                    struct error *err);
void items_finish(struct items *items);
void item_finish(struct item *item); // releases what one item owns

// The value in `column` of a row, borrowed, NULL when there is none; "body.messages" is the field
// of an object.
const json_t *items_column(const json_t *fields, const char *column);

// Says what was recognised, what is asked and what was selected: "JailbreakBench, CSV, 100 rows,
// asking Goal; 20 selected by --sample 20 --sample-seed 1".
void items_describe(const struct items *items, const struct selection *selection, FILE *out);

// Puts the prompt or messages of `item`, with what goes around them, into spec. `rows` and `list`
// hold the messages, LIMIT_MESSAGES each; everything is borrowed.
void item_set_prompt(const struct item *item, const struct turns *turns, Surefoot__JobSpec *spec,
                     Surefoot__ChatMessage *rows, Surefoot__ChatMessage **list);

#endif
