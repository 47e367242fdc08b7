// A job's specification as the service runs it: every field range-checked and defaulted. Checking
// comes in two halves, because a job may arrive before any group has connected: job_spec_create
// needs nothing but the message; job_spec_resolve needs the models (which scorers exist, the cost
// model's profile) and completes the search parameters. Errors name the field
// ("spec.scorers[1].weight") and the limit.
#ifndef COORDINATOR_JOB_SPEC_H
#define COORDINATOR_JOB_SPEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/status.h"
#include "coordinator/job_sampling.h"
#include "coordinator/model_set.h"
#include "coordinator/search/search.h"
#include "proto/limits.h"
#include "proto/wire.h"

enum scorer_role { SCORER_ROLE_REWARD = 1, SCORER_ROLE_COST = 2 };

const char *scorer_role_name(enum scorer_role role);

struct job_scorer {
    char name[LIMIT_NAME_BYTES + 1]; // a model of the groups, or "lexical"
    enum scorer_role role;
    double weight;                        // [0, 1e6]
    const char *chat_template;            // NULL: the model's profile; in job_spec.submit
    const Surefoot__LexicalSpec *lexical; // NULL for models; in job_spec.submit
    const char *channel;                  // that it names, or NULL; in job_spec.submit
};

struct job_spec {
    Surefoot__SubmitJob *submit; // owned: key, prompt or messages, sampling as they came
    bool resolved;               // the members below that depend on models are set
    struct job_scorer scorers[LIMIT_SCORERS];
    size_t n_scorers;
    // When resolved: names, by search.channels; there is room for more than are allowed.
    const char *channels[LIMIT_CHANNELS + 2];
    uint32_t n_channels;
    struct search_spec search;
    bool has_reward;              // when resolved: a scorer gives one
    struct job_sampling sampling; // when resolved
    int32_t *exempt_ids;          // owned; of search
    bool cost_eos_append;
    size_t state_bytes;   // when resolved: of each hidden state that rows carry, 0 none
    uint32_t value_steps; // when resolved: along the groups' value before each token, 0 none
    double value_step;    // how far each goes
    bool control_tokens_as_written; // content_tokens is as-written
    uint64_t seed;
    uint32_t deadline_ms; // 0 none
};

// Checks everything that can be checked without models. Takes `submit` on success only and clears
// its `stream`, which is not part of the job. STATUS_INVALID_ARGUMENT, STATUS_LIMIT,
// STATUS_NO_MEMORY.
MUST_CHECK enum status job_spec_create(Surefoot__SubmitJob *submit, struct job_spec **out,
                                       struct error *err);
void job_spec_destroy(struct job_spec *spec); // NULL allowed

// STATUS_INVALID_ARGUMENT when a field differs from its default that the job's method never reads.
// For new jobs: stored ones of older versions may have such fields.
MUST_CHECK enum status job_spec_check_unread(const struct job_spec *spec, struct error *err);

// Checks scorers, vocabulary and context against the models, takes the defaults that models carry.
// May be called again after a failure.
MUST_CHECK enum status job_spec_resolve(struct job_spec *spec, const struct model_set *models,
                                        struct error *err);

const char *job_spec_key(const struct job_spec *spec);

// STATUS_INVALID_ARGUMENT or STATUS_LIMIT (field "job_key") unless `key` can name a job; NULL is
// refused.
MUST_CHECK enum status job_key_check(const char *key, struct error *err);

// The job's bytes as stored: equal specifications give equal bytes. Returns owned bytes, free().
MUST_CHECK enum status job_spec_pack(const struct job_spec *spec, uint8_t **bytes, size_t *size);

#endif
