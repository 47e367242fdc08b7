// The way back from records to messages: what job_json.h wrote as JSON. Foreign JSON is refused by
// the name of its first wrong field.
#ifndef CLIENT_CLI_JOB_PARSE_H
#define CLIENT_CLI_JOB_PARSE_H

#include <jansson.h>

#include "client/surefoot.h"
#include "common/sha256.h"

// Returns an owned specification with the fields of `job` (job_json()), without prompt.
// STATUS_MALFORMED: a field that a JobSpec has not, or a value that is none of its kind; `field` is
// the path before its name. Release with job_parse_free().
MUST_CHECK enum status job_parse(const json_t *job, const char *field, Surefoot__JobSpec **out,
                                 struct error *err);
void job_parse_free(Surefoot__JobSpec *spec); // NULL allowed

// The hash that certificates have for a model (proto/same_job.h): of `name` and its fields as
// job_models_json() has them.
MUST_CHECK enum status job_parse_model_hash(const char *name, const json_t *fields,
                                            const char *field, char hex[SHA256_HEX_BYTES],
                                            struct error *err);

#endif
