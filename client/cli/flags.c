#include "client/cli/flags.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *program_of(const struct command_line *line) {
    return line->program != NULL ? line->program : "surefoot";
}

static const struct flag *find_flag(const struct command_line *line, const char *name,
                                    size_t length) {
    for (int i = 0; i < line->n_tables; i++) {
        for (const struct flag *flag = line->tables[i]; flag->name != NULL; flag++) {
            if (strlen(flag->name) == length && memcmp(flag->name, name, length) == 0) {
                return flag;
            }
        }
    }
    return NULL;
}

static enum status refuse(const struct flag *flag, enum status status, const char *text,
                          const char *wanted, struct error *err) {
    char name[ERROR_FIELD_BYTES];
    snprintf(name, sizeof name, "--%s", flag->name);
    return error_set(err, status, name, "\"%.80s\" is not %s", text, wanted);
}

static enum status read_u64(const struct flag *flag, const char *text, uint64_t *out,
                            struct error *err) {
    char *end = NULL;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    // strtoull would take a sign and leading space.
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0) {
        return refuse(flag, STATUS_INVALID_ARGUMENT, text, "a whole number", err);
    }
    *out = value;
    return STATUS_OK;
}

static enum status read_u32(const struct flag *flag, const char *text, struct error *err) {
    uint64_t value = 0;
    enum status status = read_u64(flag, text, &value, err);
    if (status == STATUS_OK && ((double)value < flag->min || (double)value > flag->max)) {
        char wanted[64];
        snprintf(wanted, sizeof wanted, "in [%.0f, %.0f]", flag->min, flag->max);
        return refuse(flag, STATUS_LIMIT, text, wanted, err);
    }
    if (status == STATUS_OK) {
        *(uint32_t *)flag->target = (uint32_t)value;
    }
    return status;
}

static enum status read_real(const struct flag *flag, const char *text, struct error *err) {
    char *end = NULL;
    double value = strtod(text, &end);
    if (end == text || *end != '\0' || !isfinite(value)) {
        return refuse(flag, STATUS_INVALID_ARGUMENT, text, "a finite number", err);
    }
    if (value < flag->min || value > flag->max || (flag->above_min && value == flag->min)) {
        char wanted[64];
        snprintf(wanted, sizeof wanted, "in %c%g, %g]", flag->above_min ? '(' : '[', flag->min,
                 flag->max);
        return refuse(flag, STATUS_LIMIT, text, wanted, err);
    }
    *(double *)flag->target = value;
    return STATUS_OK;
}

static enum status read_switch(const struct flag *flag, const char *text, struct error *err) {
    bool off = text != NULL && strcmp(text, "false") == 0;
    if (text != NULL && !off && strcmp(text, "true") != 0) {
        return refuse(flag, STATUS_INVALID_ARGUMENT, text, "true or false", err);
    }
    *(int *)flag->target = off ? 0 : 1;
    return STATUS_OK;
}

static enum status append(const struct flag *flag, const char *text, struct error *err) {
    struct flag_list *list = flag->target;
    if (list->count == FLAG_LIST_MAX) {
        return refuse(flag, STATUS_LIMIT, text, "among the first 1024", err);
    }
    list->items[list->count++] = text;
    return STATUS_OK;
}

enum status flags_read(const struct flag *flag, const char *text, struct error *err) {
    if (flag->given != NULL) {
        *flag->given = 1;
    }
    switch (flag->kind) {
    case FLAG_SWITCH:
        return read_switch(flag, text, err);
    case FLAG_TEXT:
        *(const char **)flag->target = text;
        return STATUS_OK;
    case FLAG_LIST:
        return append(flag, text, err);
    case FLAG_U32:
        return read_u32(flag, text, err);
    case FLAG_U64:
        return read_u64(flag, text, flag->target, err);
    case FLAG_REAL:
        return read_real(flag, text, err);
    case FLAG_RENAMED:
        break;
    }
    return STATUS_INTERNAL;
}

// Reads the flag at argv[*index] and its value, moving *index to the last argument used.
static enum status read_flag(const struct command_line *line, int argc, char **argv, int *index,
                             struct error *err) {
    const char *name = argv[*index] + 2;
    const char *equals = strchr(name, '=');
    size_t length = equals != NULL ? (size_t)(equals - name) : strlen(name);
    const struct flag *flag = find_flag(line, name, length);
    if (flag == NULL) {
        return error_set(err, STATUS_INVALID_ARGUMENT, argv[*index], "unknown flag; see --help");
    }
    if (flag->kind == FLAG_RENAMED) {
        char field[ERROR_FIELD_BYTES];
        snprintf(field, sizeof field, "--%s", flag->name);
        return error_set(err, STATUS_INVALID_ARGUMENT, field, "is %s now", flag->help);
    }
    const char *text = equals != NULL ? equals + 1 : NULL;
    if (text == NULL && flag->kind != FLAG_SWITCH) {
        if (*index + 1 >= argc) {
            return error_set(err, STATUS_INVALID_ARGUMENT, argv[*index], "needs a value: %s",
                             flag->value);
        }
        text = argv[++*index];
    }
    return flags_read(flag, text, err);
}

enum status flags_parse(const struct command_line *line, int argc, char **argv,
                        const char **positional, int *n_positional, bool *help, struct error *err) {
    *n_positional = 0;
    *help = false;
    bool flags_ended = false;
    for (int i = 0; i < argc; i++) {
        if (!flags_ended && (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)) {
            *help = true;
            return STATUS_OK;
        }
        if (!flags_ended && strcmp(argv[i], "--") == 0) {
            flags_ended = true;
        } else if (!flags_ended && argv[i][0] == '-' && argv[i][1] != '\0') {
            if (argv[i][1] != '-') {
                return error_set(err, STATUS_INVALID_ARGUMENT, argv[i], "unknown flag; see --help");
            }
            enum status status = read_flag(line, argc, argv, &i, err);
            if (status != STATUS_OK) {
                return status;
            }
        } else if (*n_positional == line->positional_max) {
            return error_set(err, STATUS_INVALID_ARGUMENT, argv[i],
                             "one argument too many; usage: %s %s", program_of(line), line->usage);
        } else {
            positional[(*n_positional)++] = argv[i];
        }
    }
    if (*n_positional < line->positional_min) {
        return error_set(err, STATUS_INVALID_ARGUMENT, NULL, "an argument is missing; usage: %s %s",
                         program_of(line), line->usage);
    }
    return STATUS_OK;
}

void flags_print_help(const struct command_line *line, FILE *out) {
    fprintf(out, "usage: %s %s\n\n%s\n", program_of(line), line->usage, line->about);
    for (int i = 0; i < line->n_tables; i++) {
        fputc('\n', out);
        for (const struct flag *flag = line->tables[i]; flag->name != NULL; flag++) {
            if (flag->kind == FLAG_RENAMED) {
                continue;
            }
            char left[64];
            snprintf(left, sizeof left, "--%s%s%s", flag->name, flag->value != NULL ? " " : "",
                     flag->value != NULL ? flag->value : "");
            fprintf(out, "  %-32s %s", left, flag->help);
            if (flag->kind == FLAG_SWITCH && strstr(flag->help, "default") == NULL) {
                fputs("; default off", out);
            }
            if (flag->kind == FLAG_U32 || flag->kind == FLAG_REAL) {
                fprintf(out, " %c%g, %.10g]", flag->above_min ? '(' : '[', flag->min, flag->max);
            }
            fputc('\n', out);
        }
    }
}
