// What the benchmark programs share of their command lines: choices by name, lists of numbers, and
// the way a program ends on --help or a wrong flag.
#ifndef BENCHMARKS_ARGUMENTS_H
#define BENCHMARKS_ARGUMENTS_H

#include <stdint.h>

#include "client/cli/flags.h"

enum { ARGUMENTS_LIST_MAX = 64 };

struct number_list {
    uint32_t items[ARGUMENTS_LIST_MAX];
    int count;
};

// Flags of the common kinds, for a table. `value` names the value in the help; min and max are
// allowed themselves.
static inline struct flag flag_text(const char *name, const char **target, const char *value,
                                    const char *help) {
    return (struct flag){
        .name = name, .kind = FLAG_TEXT, .target = target, .value = value, .help = help};
}

static inline struct flag flag_u32(const char *name, uint32_t *target, uint32_t min, uint32_t max,
                                   const char *value, const char *help) {
    return (struct flag){.name = name,
                         .kind = FLAG_U32,
                         .target = target,
                         .min = min,
                         .max = max,
                         .value = value,
                         .help = help};
}

static inline struct flag flag_real(const char *name, double *target, double min, double max,
                                    const char *value, const char *help) {
    return (struct flag){.name = name,
                         .kind = FLAG_REAL,
                         .target = target,
                         .min = min,
                         .max = max,
                         .value = value,
                         .help = help};
}

// Parses argv (without the program's name) by `line`. Returns -1 to go on; otherwise the program's
// exit code: 0 after --help, 2 after printing what is wrong.
MUST_CHECK int arguments_parse(const struct command_line *line, int argc, char **argv,
                               const char **positional);

// Index of `text` in names[n]; the error names the flag and the choices.
MUST_CHECK enum status arguments_choice(const char *flag, const char *text,
                                        const char *const *names, int n, int *out,
                                        struct error *err);

// "1,8,32": numbers in [min, max]; the error names the flag and the limit.
MUST_CHECK enum status arguments_numbers(const char *flag, const char *text, uint32_t min,
                                         uint32_t max, struct number_list *out, struct error *err);

// Prints the error as "program: field: message" and returns the exit code 2 for an argument,
// else 1.
int arguments_fail(const char *program, const struct error *err);

#endif
