// The certificate that a job names (Certificate in client.proto): the job runs only as what was
// certified. The risk itself was measured by `surefoot certify`; nothing of it is measured here.
#ifndef COORDINATOR_CERTIFICATE_H
#define COORDINATOR_CERTIFICATE_H

#include "common/status.h"
#include "coordinator/model_set.h"
#include "proto/wire.h"

struct job_scorer;

// What can be told without models: STATUS_INVALID_ARGUMENT (field "spec.certificate...") unless the
// certificate is whole and the job's fields are the certified ones. A job without one passes.
MUST_CHECK enum status certificate_check(const Surefoot__JobSpec *spec, struct error *err);

// STATUS_INVALID_ARGUMENT unless the policy and the models among the job's scorers are those of the
// certificate, by name, weights and everything that is said of them.
MUST_CHECK enum status certificate_check_models(const Surefoot__JobSpec *spec,
                                                const struct job_scorer *scorers, size_t n_scorers,
                                                const struct model_set *models, struct error *err);

#endif
