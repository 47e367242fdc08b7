// What compare shows in the end: for each prompt the scores of the methods and their answers, then
// each method's means; as text for people, or as JSON lines. Nothing here talks to a service.
#ifndef CLIENT_CLI_COMPARE_TABLE_H
#define CLIENT_CLI_COMPARE_TABLE_H

#include <stdbool.h>
#include <stdio.h>

#include "client/cli/items.h"

// What one method did.
struct compare_column {
    const char *label;      // NAME or NAME:SELECTION; borrowed
    double wall_ms;         // for all prompts together; NaN: unknown
    json_t *const *results; // [items->count], records without input and settings; borrowed
};

struct compare_table {
    const struct items *items;            // borrowed, count >= 1
    const struct compare_column *columns; // [n_columns]; borrowed
    int n_columns;                        // >= 1
};

void compare_table_print(const struct compare_table *table, bool show_unsafe, FILE *out);

// A line for each prompt and method, then one for each method. STATUS_IO, STATUS_NO_MEMORY.
MUST_CHECK enum status compare_table_print_json(const struct compare_table *table, FILE *out);

#endif
