// Whether two specifications ask for the same: a field that is given with its default and one that
// is absent are no difference. Defaults that come from models are: they are not known for good.
// Beside it the names that certificates have for a job's fields and for models.
#ifndef PROTO_SAME_JOB_H
#define PROTO_SAME_JOB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/sha256.h"
#include "common/status.h"
#include "proto/wire.h"

// Removes what is at its default from a shallow copy of a specification; what models have defaults
// for stays.
void same_job_drop_defaults(Surefoot__JobSpec *spec);

// Both are packed SubmitJobs whose keys are equal. STATUS_NO_MEMORY; STATUS_MALFORMED: one cannot
// be read.
MUST_CHECK enum status same_job(const uint8_t *a, size_t a_size, const uint8_t *b, size_t b_size,
                                bool *same);

// The name of what a job asks for whatever its text: equal for specifications that are the same but
// for prompt or messages, seed, date, deadline and certificate. STATUS_NO_MEMORY, STATUS_LIMIT.
MUST_CHECK enum status same_job_fields_hash(const Surefoot__JobSpec *spec,
                                            char hex[SHA256_HEX_BYTES]);

// The name of everything that is said of a model. STATUS_NO_MEMORY.
MUST_CHECK enum status same_job_model_hash(const Surefoot__ModelInfo *model,
                                           char hex[SHA256_HEX_BYTES]);

#endif
