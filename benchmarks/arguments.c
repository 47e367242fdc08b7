#include "benchmarks/arguments.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int arguments_parse(const struct command_line *line, int argc, char **argv,
                    const char **positional) {
    struct error err = {0};
    int n_positional = 0;
    bool help = false;
    enum status status = flags_parse(line, argc, argv, positional, &n_positional, &help, &err);
    if (status != STATUS_OK) {
        return arguments_fail(line->program, &err);
    }
    if (help) {
        flags_print_help(line, stdout);
        return 0;
    }
    return -1;
}

enum status arguments_choice(const char *flag, const char *text, const char *const *names, int n,
                             int *out, struct error *err) {
    char list[128] = "";
    size_t used = 0;
    for (int i = 0; i < n; i++) {
        if (strcmp(names[i], text) == 0) {
            *out = i;
            return STATUS_OK;
        }
        if (used < sizeof list) {
            used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", i > 0 ? ", " : "",
                                     names[i]);
        }
    }
    return error_set(err, STATUS_INVALID_ARGUMENT, flag, "\"%.80s\" is not one of %s", text, list);
}

enum status arguments_numbers(const char *flag, const char *text, uint32_t min, uint32_t max,
                              struct number_list *out, struct error *err) {
    struct number_list list = {.count = 0};
    const char *from = text;
    for (;;) {
        char *end = NULL;
        errno = 0;
        unsigned long value = strtoul(from, &end, 10);
        bool number = from[0] >= '0' && from[0] <= '9' && errno == 0;
        if (!number || (*end != '\0' && *end != ',')) {
            return error_set(err, STATUS_INVALID_ARGUMENT, flag,
                             "\"%.80s\" is not a list of numbers like 1,8,32", text);
        }
        if (value < min || value > max || list.count == ARGUMENTS_LIST_MAX) {
            return error_set(err, STATUS_LIMIT, flag,
                             "\"%.80s\" is not at most %d numbers in [%u, %u]", text,
                             ARGUMENTS_LIST_MAX, min, max);
        }
        list.items[list.count++] = (uint32_t)value;
        if (*end == '\0') {
            *out = list;
            return STATUS_OK;
        }
        from = end + 1;
    }
}

int arguments_fail(const char *program, const struct error *err) {
    fprintf(stderr, "%s: %s%s%s\n", program, err->field, err->field[0] != '\0' ? ": " : "",
            err->message);
    bool argument = err->status == STATUS_INVALID_ARGUMENT || err->status == STATUS_LIMIT ||
                    err->status == STATUS_UNSUPPORTED;
    return argument ? 2 : 1;
}
