#include "coordinator/spec_check.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/number_text.h"

enum status check_count(bool present, uint32_t value, uint32_t low, uint32_t high,
                        const char *field, uint32_t *out, struct error *err) {
    if (!present) {
        return STATUS_OK;
    }
    if (value < low || value > high) {
        return error_set(err, value < low ? STATUS_INVALID_ARGUMENT : STATUS_LIMIT, field,
                         "%u is outside %u..%u", value, low, high);
    }
    *out = value;
    return STATUS_OK;
}

static bool is_inside(double value, struct number_range range) {
    return isfinite(value) && value <= range.high &&
           (range.above_low ? value > range.low : value >= range.low);
}

enum status check_number(bool present, double value, struct number_range range, const char *field,
                         double *out, struct error *err) {
    if (!present) {
        return STATUS_OK;
    }
    bool rounds_out = range.single && !is_inside((double)(float)value, range);
    if (!is_inside(value, range) || rounds_out) {
        char text[NUMBER_TEXT_BYTES];
        return error_set(err, STATUS_INVALID_ARGUMENT, field, "%s is outside %c%g, %g]%s",
                         number_text(value, text), range.above_low ? '(' : '[', range.low,
                         range.high, is_inside(value, range) ? " in single precision" : "");
    }
    *out = value;
    return STATUS_OK;
}

enum status check_text(const char *text, size_t bytes_max, const char *field, struct error *err) {
    size_t length = text != NULL ? strlen(text) : 0;
    if (length == 0) {
        return error_set(err, STATUS_INVALID_ARGUMENT, field, "is empty; 1..%zu bytes", bytes_max);
    }
    if (length > bytes_max) {
        return error_set(err, STATUS_LIMIT, field, "%zu bytes, the limit is %zu", length,
                         bytes_max);
    }
    return STATUS_OK;
}

enum status check_question(const char *text, size_t bytes_max, const char *field,
                           struct error *err) {
    enum status status = check_text(text, bytes_max, field, err);
    if (status == STATUS_OK && text[strspn(text, " \t\r\n\v\f")] == '\0') {
        return error_set(err, STATUS_INVALID_ARGUMENT, field, "is white space alone");
    }
    return status;
}

enum status check_list(size_t count, size_t max, const char *field, struct error *err) {
    if (count > max) {
        return error_set(err, STATUS_LIMIT, field, "%zu entries, the limit is %zu", count, max);
    }
    return STATUS_OK;
}

enum status check_choice(const char *text, int (*parse)(const char *name), const char *choices,
                         const char *field, int *out, struct error *err) {
    if (text == NULL) {
        return STATUS_OK;
    }
    int number = parse(text);
    if (number == 0) {
        return error_set(err, STATUS_INVALID_ARGUMENT, field, "unknown \"%.64s\"; one of %s", text,
                         choices);
    }
    *out = number;
    return STATUS_OK;
}

// Names as in worker/tokenizer/template.h, which this program does not link.
static const char *const template_list[] = {"model",  "raw",    "llama-2", "llama-3",
                                            "chatml", "alpaca", "vicuna",  "beaver"};

enum status check_template(const char *name, const char *field, struct error *err) {
    if (name == NULL) {
        return STATUS_OK;
    }
    for (size_t i = 0; i < sizeof template_list / sizeof template_list[0]; i++) {
        if (strcmp(template_list[i], name) == 0) {
            return STATUS_OK;
        }
    }
    return error_set(
        err, STATUS_INVALID_ARGUMENT, field,
        "unknown \"%.64s\"; one of model, raw, llama-2, llama-3, chatml, alpaca, vicuna, beaver",
        name);
}

static enum status check_known(enum job_field_index index, const Surefoot__JobSpec *spec,
                               const char *field, struct error *err) {
    if (job_field_number(index, spec) != 0 || !job_field_is_set(index, spec)) {
        return STATUS_OK;
    }
    char choices[JOB_FIELD_TEXT_BYTES];
    job_choices_text(index, choices);
    return error_set(err, STATUS_INVALID_ARGUMENT, field, "unknown \"%.64s\"; one of %s",
                     job_field_text(index, spec), choices);
}

enum status check_job_field(enum job_field_index index, const Surefoot__JobSpec *spec,
                            const char *message, struct error *err) {
    const struct job_field *row = job_field_get(index);
    bool present = job_field_is_set(index, spec);
    double value = job_field_number(index, spec);
    char field[ERROR_FIELD_BYTES];
    snprintf(field, sizeof field, "%s.%s", message, row->name);
    switch (row->kind) {
    case JOB_FIELD_KIND_U32: {
        uint32_t ignored = 0;
        double high = row->up_to_n ? job_field_number(JOB_FIELD_N, spec) : row->high;
        return check_count(present, (uint32_t)value, (uint32_t)row->low, (uint32_t)high, field,
                           &ignored, err);
    }
    case JOB_FIELD_KIND_REAL: {
        double ignored = 0;
        const struct number_range range = {
            .low = row->low, .high = row->high, .above_low = row->above_low};
        return check_number(present, value, range, field, &ignored, err);
    }
    case JOB_FIELD_KIND_CHOICE:
        return check_known(index, spec, field, err);
    case JOB_FIELD_KIND_BOOL:
        break;
    }
    return STATUS_OK;
}
