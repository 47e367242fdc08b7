#include "client/cli/field_flag.h"

#include <string.h>

void field_flag_name(enum job_field_index index, char out[FIELD_FLAG_NAME_BYTES]) {
    snprintf(out, FIELD_FLAG_NAME_BYTES, "%s", job_field_get(index)->name);
    for (char *c = strchr(out, '_'); c != NULL; c = strchr(c, '_')) {
        *c = '-';
    }
}

struct flag field_flag(enum job_field_index index, Surefoot__JobSpec *spec) {
    static const enum flag_kind kinds[] = {[JOB_FIELD_KIND_U32] = FLAG_U32,
                                           [JOB_FIELD_KIND_REAL] = FLAG_REAL,
                                           [JOB_FIELD_KIND_BOOL] = FLAG_SWITCH,
                                           [JOB_FIELD_KIND_CHOICE] = FLAG_TEXT};
    static const char *const values[] = {[JOB_FIELD_KIND_U32] = "N",
                                         [JOB_FIELD_KIND_REAL] = "X",
                                         [JOB_FIELD_KIND_BOOL] = NULL,
                                         [JOB_FIELD_KIND_CHOICE] = "NAME"};
    const struct job_field *field = job_field_get(index);
    return (struct flag){.name = field->name,
                         .kind = kinds[field->kind],
                         .target = job_field_place(index, spec),
                         .given = job_field_has_place(index, spec),
                         .min = field->low,
                         .max = field->high,
                         .above_min = field->above_low,
                         .value = values[field->kind]};
}
