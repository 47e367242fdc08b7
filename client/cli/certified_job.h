// --certificate FILE: the job is the certified one, and says so to the service.
#ifndef CLIENT_CLI_CERTIFIED_JOB_H
#define CLIENT_CLI_CERTIFIED_JOB_H

#include <jansson.h>

#include "client/cli/certificate.h"
#include "client/cli/turns.h"

// Zero before certified_job_take.
struct certified_job {
    json_t *certificate;     // owned
    Surefoot__JobSpec *spec; // owned: the certified fields
    struct certificate_claim claim;
};

// Reads the certificate and puts its fields and the claim into `spec`, what goes around a prompt
// into `turns`; both then borrow from `out`, which must not be moved. Prompt, seed, date and
// deadline stay. STATUS_INVALID_ARGUMENT: a field that is given contradicts the certificate,
// `field` is its flag; errors of certificate_read().
MUST_CHECK enum status certified_job_take(const char *path, Surefoot__JobSpec *spec,
                                          struct turns *turns, struct certified_job *out,
                                          struct error *err);
void certified_job_finish(struct certified_job *job);

#endif
