// Checks the message of a row before anything of it is taken. Part of job, apart for its size.
#ifndef COORDINATOR_JOB_ROW_H
#define COORDINATOR_JOB_ROW_H

#include "coordinator/job_spec.h"
#include "proto/wire.h"

// A row without an error for a candidate that had `before` tokens: what the message says beyond
// what the search checks of its candidate. *n_places: how many have token scores after it, one a
// token of the response or of a finished text's reading, then at least 1. STATUS_MALFORMED names
// the field: out of range, or it contradicts itself.
MUST_CHECK enum status job_row_check(const struct job_spec *spec, const Surefoot__Row *row,
                                     uint32_t before, uint32_t *n_places, struct error *err);

#endif
