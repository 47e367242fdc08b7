// Checks a row of a group before anything of it is taken. Part of job, apart for its size.
#ifndef COORDINATOR_JOB_ROW_H
#define COORDINATOR_JOB_ROW_H

#include "coordinator/job_spec.h"
#include "proto/wire.h"

// A row without an error for a candidate that had `before` tokens and was to grow by `asked`.
// *length: how many places have token scores after it, one a token of the response or of a finished
// text's reading, at least 1. STATUS_MALFORMED names the field: not what was asked for, contradicts
// itself, or not finite.
MUST_CHECK enum status job_row_check(const struct job_spec *spec, const Surefoot__Row *row,
                                     uint32_t before, uint32_t asked, uint32_t *length,
                                     struct error *err);

#endif
