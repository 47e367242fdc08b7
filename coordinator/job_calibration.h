// Rewards of other answers to a job's prompt: what a job that carries them must have in common with
// what they were gathered under, and what a job that gathers them says of itself. Part of job_spec,
// apart for its size.
#ifndef COORDINATOR_JOB_CALIBRATION_H
#define COORDINATOR_JOB_CALIBRATION_H

#include "coordinator/job_spec.h"

// STATUS_INVALID_ARGUMENT or STATUS_LIMIT unless a calibration's rewards, if there is one, are 1 to
// LIMIT_ROLLOUTS finite numbers that ascend.
MUST_CHECK enum status job_calibration_check(const Surefoot__JobSpec *spec, struct error *err);

// What rewards of the job hold under; strings are borrowed from it and from the models.
struct job_conditions {
    Surefoot__Calibration message; // without rewards
    Surefoot__CalibratedModel policy;
    Surefoot__CalibratedModel scorers[LIMIT_SCORERS];
    Surefoot__CalibratedModel *scorer_list[LIMIT_SCORERS];
    Surefoot__Sampling sampling;
};
void job_conditions_fill(const struct job_spec *spec, const struct model_set *models,
                         struct job_conditions *out);

// Of a job whose scorers and sampling are resolved: gives the search its roll-outs.
// STATUS_INVALID_ARGUMENT: there is no reward, or a model, a weight, a template or the sampling is
// another than the calibration's; the field names which.
MUST_CHECK enum status job_calibration_resolve(struct job_spec *spec,
                                               const struct model_set *models, struct error *err);

#endif
