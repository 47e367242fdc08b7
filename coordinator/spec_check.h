// Range checks of single fields, each giving a typed error that names the field and the limit.
#ifndef COORDINATOR_SPEC_CHECK_H
#define COORDINATOR_SPEC_CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/status.h"
#include "proto/job_fields.h"

// A closed range, or one that excludes its lower end.
struct number_range {
    double low;
    double high;
    bool above_low; // low itself is outside
    bool single;    // the ranks take it in single precision: that must be inside too
};

// `*out` holds the default on entry and stays when the field is absent. Below: INVALID_ARGUMENT,
// above: LIMIT; NaN and infinities are outside every range.
MUST_CHECK enum status check_count(bool present, uint32_t value, uint32_t low, uint32_t high,
                                   const char *field, uint32_t *out, struct error *err);
MUST_CHECK enum status check_number(bool present, double value, struct number_range range,
                                    const char *field, double *out, struct error *err);

// A text of at least one and at most `bytes_max` bytes.
MUST_CHECK enum status check_text(const char *text, size_t bytes_max, const char *field,
                                  struct error *err);

// The same of what is asked, which is also not white space alone.
MUST_CHECK enum status check_question(const char *text, size_t bytes_max, const char *field,
                                      struct error *err);

// At most `max` entries of a list.
MUST_CHECK enum status check_list(size_t count, size_t max, const char *field, struct error *err);

// Parses a name by `parse` (0 is unknown) when `text` is not NULL. `choices` is for the message.
MUST_CHECK enum status check_choice(const char *text, int (*parse)(const char *name),
                                    const char *choices, const char *field, int *out,
                                    struct error *err);

// NULL, or one of the chat formats that the workers have.
MUST_CHECK enum status check_template(const char *name, const char *field, struct error *err);

// A field of proto/job_fields.h, of `message` ("spec", "spec.channels[0]").
MUST_CHECK enum status check_job_field(enum job_field_index index, const Surefoot__JobSpec *spec,
                                       const char *message, struct error *err);

#endif
