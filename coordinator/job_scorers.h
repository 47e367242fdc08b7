// The scorers of a job: checked as they came, then against the models that the groups run. Part of
// job_spec, apart for its size.
#ifndef COORDINATOR_JOB_SCORERS_H
#define COORDINATOR_JOB_SCORERS_H

#include "coordinator/job_spec.h"

// Checks the message's scorers without models. STATUS_INVALID_ARGUMENT, STATUS_LIMIT.
MUST_CHECK enum status job_scorers_check(const Surefoot__JobSpec *spec, struct error *err);

// Fills spec->scorers from the message, or from the models by role when it names none.
MUST_CHECK enum status job_scorers_resolve(struct job_spec *spec, const struct model_set *models,
                                           struct error *err);

#endif
