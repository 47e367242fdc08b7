// The groups' critic and value network as a job asks them. Part of job_spec, apart for its size.
#ifndef COORDINATOR_JOB_CRITIC_H
#define COORDINATOR_JOB_CRITIC_H

#include "coordinator/job_spec.h"

// Of a job whose scorers and channels are resolved: tells the search what rows will foretell.
// STATUS_INVALID_ARGUMENT: it asks for a critic and the groups have none, or one of another
// template, of other costs, modes or discounts, or of other rewards.
MUST_CHECK enum status job_critic_resolve(struct job_spec *spec, const struct model_set *models,
                                          struct error *err);

// Of a job whose method moves states along the groups' value network: says how.
// STATUS_INVALID_ARGUMENT: the groups have none, or one of another template, of other rewards than
// the job's, or of another R - lambda C than its selection goes by (R unless that is lagrangian).
MUST_CHECK enum status job_critic_resolve_value(struct job_spec *spec,
                                                const struct model_set *models, struct error *err);

// STATUS_MALFORMED: a row does not foretell what it should, or what it should not.
MUST_CHECK enum status job_critic_check_row(const struct job_spec *spec, const Surefoot__Row *row,
                                            struct error *err);

// What a checked row foretells: costs[n_critic_channels], and the reward of the text so far.
void job_critic_take_row(const struct job_spec *spec, const Surefoot__Row *row,
                         struct cost_to_go *costs, double *reward);

#endif
