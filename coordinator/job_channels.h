// The cost channels of a job: checked as they came, then filled from the models that the groups
// run. Channels stand in this order: cost (of the job's own fields: models and whatever names it),
// those that the job declares, rules (scorers of words that name no other). Part of job_spec, apart
// for its size.
#ifndef COORDINATOR_JOB_CHANNELS_H
#define COORDINATOR_JOB_CHANNELS_H

#include "coordinator/job_spec.h"

// Checks the message's channels, and those that its scorers name, without models, after
// job_scorers_check. STATUS_INVALID_ARGUMENT, STATUS_LIMIT.
MUST_CHECK enum status job_channels_check(const Surefoot__JobSpec *spec, struct error *err);

// STATUS_INVALID_ARGUMENT when a rule of words of a checked message weighs nothing. For new jobs,
// as job_spec_check_unread.
MUST_CHECK enum status job_channels_check_unread(const Surefoot__JobSpec *spec, struct error *err);

// Fills scorers, channels and the reward's discount of spec->search, and cost_eos_append, for
// resolved scorers. STATUS_INVALID_ARGUMENT also where the job says something of channel cost and
// its cost scorers are in others; STATUS_LIMIT.
MUST_CHECK enum status job_channels_resolve(struct job_spec *spec, const struct model_set *models,
                                            struct error *err);

#endif
