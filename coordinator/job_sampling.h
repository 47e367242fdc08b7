// How a job's tokens are drawn: what it says, what it leaves to the model's generation_config, and
// the service's own defaults, in this order. Part of job_spec, apart for its size.
#ifndef COORDINATOR_JOB_SAMPLING_H
#define COORDINATOR_JOB_SAMPLING_H

#include <stddef.h>
#include <stdint.h>

#include "common/status.h"
#include "coordinator/model_set.h"
#include "proto/wire.h"

enum { JOB_FROM_MODEL_MAX = 8 };

struct job_sampling {
    Surefoot__Sampling message;           // every number present; lists are borrowed from the job
    char *from_model[JOB_FROM_MODEL_MAX]; // static names of what generation_config gave
    size_t n_from_model;
    uint32_t max_tokens;
};

// STATUS_INVALID_ARGUMENT unless generation_defaults is absent, "model" or "none".
MUST_CHECK enum status job_sampling_check(const Surefoot__JobSpec *spec, struct error *err);

// Fills *out for a checked job under `policy`. A search over candidates samples whatever do_sample
// says; where it is false, a job of one candidate (`alone`) is greedy. max_new_tokens counts up to
// LIMIT_MAX_TOKENS and half of the context. STATUS_LIMIT: min_tokens is above what max_tokens
// becomes.
MUST_CHECK enum status job_sampling_resolve(const Surefoot__JobSpec *spec, bool alone,
                                            const struct model_description *policy,
                                            struct job_sampling *out, struct error *err);

#endif
