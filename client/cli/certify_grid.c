#include "client/cli/certify_grid.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/field_flag.h"

// Reads "--flag=value" as the command line would. Borrows `text` where the field is a name.
static enum status set_field(enum job_field_index index, char *text, Surefoot__JobSpec *spec,
                             struct error *err) {
    char flag[FIELD_FLAG_NAME_BYTES];
    field_flag_name(index, flag);
    struct flag table[] = {field_flag(index, spec), {.name = NULL}};
    table[0].name = flag;
    const struct command_line line = {.usage = "certify", .tables = {table}, .n_tables = 1};
    const char *none = NULL;
    int n_positional = 0;
    bool help = false;
    enum status status = flags_parse(&line, 1, &text, &none, &n_positional, &help, err);
    const char *name = strchr(text, '=') + 1;
    if (status == STATUS_OK && job_field_get(index)->kind == JOB_FIELD_KIND_CHOICE &&
        job_choice_parse(index, name) == 0) {
        char choices[JOB_FIELD_TEXT_BYTES];
        job_choices_text(index, choices);
        return error_set(err, STATUS_INVALID_ARGUMENT, "--grid", "unknown %s \"%.60s\"; one of %s",
                         job_field_get(index)->name, name, choices);
    }
    return status;
}

// The field of "FIELD=A,B,..", named as its flag or as the protocol has it.
static enum status find_field(const char *grid, enum job_field_index *out, struct error *err) {
    size_t length = strcspn(grid, "=");
    for (enum job_field_index i = 0; i < JOB_FIELDS_COUNT; i++) {
        char flag[FIELD_FLAG_NAME_BYTES];
        const char *name = job_field_get(i)->name;
        field_flag_name(i, flag);
        if (grid[length] == '=' && strlen(name) == length &&
            (strncmp(grid, name, length) == 0 || strncmp(grid, flag, length) == 0)) {
            *out = i;
            return STATUS_OK;
        }
    }
    return error_set(err, STATUS_INVALID_ARGUMENT, "--grid",
                     "\"%.80s\" is not FIELD=A,B,.. with a field of the search", grid);
}

static int count_values(const char *grid) {
    int n = 1;
    for (const char *at = strchr(grid, '='); at != NULL && *at != '\0'; at++) {
        n += *at == ',';
    }
    return n;
}

// Writes "--flag=value" with the value of number `index` of a grid to `text`; returns its length.
static size_t write_flag(enum job_field_index field, const char *grid, int index, char *text,
                         size_t bytes) {
    char flag[FIELD_FLAG_NAME_BYTES];
    const char *at = strchr(grid, '=') + 1;
    for (int i = 0; i < index; i++) {
        at += strcspn(at, ",") + 1;
    }
    field_flag_name(field, flag);
    return (size_t)snprintf(text, bytes, "--%s=%.*s", flag, (int)strcspn(at, ","), at);
}

static enum status make_setting(const struct flag_list *grids, int number, int total,
                                Surefoot__JobSpec *spec, struct certify_grid *out,
                                struct error *err) {
    size_t bytes = 1;
    for (int i = 0; i < grids->count; i++) {
        bytes += strlen(grids->items[i]) + sizeof "--,";
    }
    size_t at = 0; // of `bytes`, written to `values`
    char *values = calloc(1, bytes);
    char *label = calloc(1, bytes);
    out->values[out->n] = values;
    out->labels[out->n++] = label;
    if (values == NULL || label == NULL) {
        return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for the settings");
    }
    for (int i = 0; i < grids->count; i++) {
        enum job_field_index index = 0;
        enum status status = find_field(grids->items[i], &index, err);
        if (status != STATUS_OK) {
            return status;
        }
        total /= count_values(grids->items[i]);
        size_t length = write_flag(index, grids->items[i], number / total, values, bytes - at);
        number %= total;
        status = set_field(index, values, spec, err);
        if (status != STATUS_OK) {
            return status;
        }
        size_t used = strlen(label);
        snprintf(label + used, bytes - used, "%s%s%s", used > 0 ? "," : "",
                 job_field_get(index)->name, strchr(values, '='));
        values += length + 1;
        at += length + 1;
    }
    return STATUS_OK;
}

static enum status check_read(const struct flag_list *grids, const Surefoot__JobSpec *spec,
                              const char *label, struct error *err) {
    for (int i = 0; i < grids->count; i++) {
        enum job_field_index index = 0;
        enum status status = find_field(grids->items[i], &index, err);
        if (status == STATUS_OK && !job_field_is_read(index, spec)) {
            status = error_set(err, STATUS_INVALID_ARGUMENT, "--grid",
                               "%s has no effect on the setting %.100s", job_field_get(index)->name,
                               label);
        }
        if (status != STATUS_OK) {
            return status;
        }
    }
    return STATUS_OK;
}

enum status certify_grid_make(const struct flag_list *grids, const Surefoot__JobSpec *base, int max,
                              struct study_method *methods, struct certify_grid *out,
                              struct error *err) {
    int total = 1;
    *out = (struct certify_grid){0};
    for (int i = 0; i < grids->count; i++) {
        enum job_field_index index = 0;
        enum status status = find_field(grids->items[i], &index, err);
        if (status == STATUS_OK && job_field_is_set(index, base)) {
            status = error_set(err, STATUS_INVALID_ARGUMENT, "--grid",
                               "%s has a flag of its own already", job_field_get(index)->name);
        }
        if (status != STATUS_OK) {
            return status;
        }
        for (int j = 0; j < i; j++) {
            enum job_field_index other = 0;
            if (find_field(grids->items[j], &other, err) == STATUS_OK && other == index) {
                return error_set(err, STATUS_INVALID_ARGUMENT, "--grid", "%s is there twice",
                                 job_field_get(index)->name);
            }
        }
        total *= count_values(grids->items[i]);
        if (total > max) {
            return error_set(err, STATUS_LIMIT, "--grid", "more than %d settings", max);
        }
    }
    for (int i = 0; i < total; i++) {
        Surefoot__JobSpec spec = *base;
        enum status status = make_setting(grids, i, total, &spec, out, err);
        const char *label = out->labels[i];
        if (status == STATUS_OK) {
            status = check_read(grids, &spec, label, err);
        }
        if (status != STATUS_OK) {
            return status;
        }
        methods[i] = (struct study_method){.label = label[0] != '\0' ? label : "job", .spec = spec};
    }
    return STATUS_OK;
}

void certify_grid_finish(struct certify_grid *grid) {
    for (int i = 0; i < grid->n; i++) {
        free(grid->labels[i]);
        free(grid->values[i]);
    }
}
