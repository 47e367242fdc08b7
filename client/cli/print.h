// Results as JSON and as text for people. Text for people never carries control characters of a
// model's output to the terminal, and hides answers that are over budget unless they are asked for.
#ifndef CLIENT_CLI_PRINT_H
#define CLIENT_CLI_PRINT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include <jansson.h>

#include "client/surefoot.h"

#define PRINT_MASK "[over budget: hidden, --show-unsafe shows it]"

// Owned object with the fields of the result that are set. With `details` token ids,
// log-probabilities, scorers and candidates as well. NULL: no memory.
json_t *print_result_json(const Surefoot__JobResult *result, bool details);

json_t *print_error_json(const struct error *err);

// Owned object {name: hash} over the models of a result or a group. NULL: no memory.
json_t *print_models_json(Surefoot__ModelInfo *const *models, size_t count);

json_t *print_status_json(const Surefoot__ServiceStatus *status);

// Writes the value and a line end, and takes it. STATUS_IO, STATUS_NO_MEMORY (value NULL).
MUST_CHECK enum status print_json_line(json_t *value, FILE *out);

void print_result(const Surefoot__JobResult *result, bool show_unsafe, FILE *out);
void print_service_status(const Surefoot__ServiceStatus *status, FILE *out);

// Writes `text` with control characters other than line end and tab as "?"; `line` turns these two
// into spaces as well. At most `columns_max` characters, 0: all, a cut shown by "...".
void print_text(const char *text, bool line, int columns_max, FILE *out);

// The ending of a word that `count` things are counted by: "" for one, else "s".
const char *print_plural(uint64_t count);

// The answer as people may see it: `text`, the mask, or "" when text is NULL. Borrowed.
const char *print_visible_text(const char *text, bool over_budget, bool show_unsafe);

#endif
