// --template-var NAME=VALUE: variables of a chat template's own.
#ifndef CLIENT_CLI_TEMPLATE_VAR_H
#define CLIENT_CLI_TEMPLATE_VAR_H

#include <jansson.h>

#include "client/cli/flags.h"
#include "client/surefoot.h"

struct template_vars {
    struct flag_list flags;
    size_t count;
    Surefoot__TemplateVariable rows[LIMIT_TEMPLATE_VARIABLES];
    Surefoot__TemplateVariable *list[LIMIT_TEMPLATE_VARIABLES];
    char *text[LIMIT_TEMPLATE_VARIABLES]; // owned: name and value, cut out of the flag
};

struct flag template_vars_flag(struct template_vars *vars);

// Reads the flags that were given: true, false, a whole number, else a text; in quotes, as JSON has
// them, any text. INVALID_ARGUMENT, LIMIT, NO_MEMORY.
MUST_CHECK enum status template_vars_finish(struct template_vars *vars, struct error *err);

void template_vars_destroy(struct template_vars *vars); // what finish allocated, not the struct

// An object of names and values; NULL when there are none.
json_t *template_vars_json(Surefoot__TemplateVariable *const *list, size_t count);

#endif
