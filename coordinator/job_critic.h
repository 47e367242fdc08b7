// The groups' critic as a job asks it. Part of job_spec, apart for its size.
#ifndef COORDINATOR_JOB_CRITIC_H
#define COORDINATOR_JOB_CRITIC_H

#include "coordinator/job_spec.h"

// Of a job whose scorers and channels are resolved: tells the search what rows will foretell.
// STATUS_INVALID_ARGUMENT: it asks for a critic and the groups have none, or one of another
// template, of other costs, modes or discounts, or of other rewards.
MUST_CHECK enum status job_critic_resolve(struct job_spec *spec, const struct model_set *models,
                                          struct error *err);

// STATUS_MALFORMED: a row does not foretell what it should, or what it should not.
MUST_CHECK enum status job_critic_check_row(const struct job_spec *spec, const Surefoot__Row *row,
                                            struct error *err);

// What a checked row foretells: costs[n_critic_channels], and the reward of the text so far.
void job_critic_take_row(const struct job_spec *spec, const Surefoot__Row *row,
                         struct cost_to_go *costs, double *reward);

#endif
