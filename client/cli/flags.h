// Command-line flags from tables. A value is checked where it is read; the error names the flag and
// its limit. "--flag value" and "--flag=value" are the same; "--" ends the flags.
#ifndef CLIENT_CLI_FLAGS_H
#define CLIENT_CLI_FLAGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "common/status.h"

enum flag_kind {
    FLAG_SWITCH,  // int: 1 when named alone; --flag=true and --flag=false too
    FLAG_TEXT,    // const char *, borrowed from argv
    FLAG_LIST,    // struct flag_list: each time the flag is named adds one
    FLAG_U32,     // uint32_t in [min, max]
    FLAG_U64,     // uint64_t, any
    FLAG_REAL,    // double, in [min, max], or (min, max] with above_min
    FLAG_RENAMED, // refused; help says what it is now
};

enum { FLAG_LIST_MAX = 1024, FLAG_TABLES_MAX = 5 };

struct flag_list {
    const char *items[FLAG_LIST_MAX]; // borrowed from argv
    int count;
};

struct flag {
    const char *name; // without dashes; NULL ends a table
    enum flag_kind kind;
    void *target;
    int *given; // set to 1 when the flag is named; may be NULL
    double min;
    double max;
    bool above_min;    // min itself is outside
    const char *value; // name of the value in the help, NULL for switches
    const char *help;
};

struct command_line {
    const char *program; // NULL: surefoot
    const char *usage;   // first line of the help, without the program's name
    const char *about;   // paragraphs of the help after it
    const struct flag *tables[FLAG_TABLES_MAX]; // each ends with a NULL name
    int n_tables;
    int positional_min;
    int positional_max;
};

// Reads argv. Positional arguments go to positional[positional_max]. *help is set when --help was
// named; nothing else is checked then. STATUS_INVALID_ARGUMENT, STATUS_LIMIT.
MUST_CHECK enum status flags_parse(const struct command_line *line, int argc, char **argv,
                                   const char **positional, int *n_positional, bool *help,
                                   struct error *err);

// Reads a value as if the flag had been named; not of FLAG_RENAMED. STATUS_INVALID_ARGUMENT,
// STATUS_LIMIT.
MUST_CHECK enum status flags_read(const struct flag *flag, const char *text, struct error *err);

void flags_print_help(const struct command_line *line, FILE *out);

#endif
