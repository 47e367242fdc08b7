#include "coordinator/job_sampling.h"

#include <string.h>

#include "proto/defaults.h"
#include "proto/job_fields.h"
#include "proto/limits.h"

enum status job_sampling_check(const Surefoot__JobSpec *spec, struct error *err) {
    const char *from = spec->generation_defaults;
    if (from == NULL || strcmp(from, "model") == 0 || strcmp(from, "none") == 0) {
        return STATUS_OK;
    }
    return error_set(err, STATUS_INVALID_ARGUMENT, "spec.generation_defaults",
                     "unknown \"%.64s\"; one of model, none", from);
}

static void take(struct job_sampling *out, const char *name) {
    ASSERT(out->n_from_model < JOB_FROM_MODEL_MAX);
    out->from_model[out->n_from_model++] = (char *)name;
}

// What the job says, or the service's default.
static void fill_own(const Surefoot__Sampling *asked, Surefoot__Sampling *message) {
    static const Surefoot__Sampling nothing = SUREFOOT__SAMPLING__INIT;
    asked = asked != NULL ? asked : &nothing;
    surefoot__sampling__init(message);
    message->temperature = asked->has_temperature ? asked->temperature : DEFAULT_TEMPERATURE;
    message->top_k = asked->has_top_k ? asked->top_k : 0;
    message->top_p = asked->has_top_p ? asked->top_p : DEFAULT_TOP_P;
    message->repetition_penalty =
        asked->has_repetition_penalty ? asked->repetition_penalty : DEFAULT_REPETITION_PENALTY;
    message->frequency_penalty = asked->has_frequency_penalty ? asked->frequency_penalty : 0;
    message->min_tokens = asked->has_min_tokens ? asked->min_tokens : 0;
    message->has_temperature = message->has_top_k = message->has_top_p = true;
    message->has_repetition_penalty = message->has_frequency_penalty = true;
    message->has_min_tokens = true;
    message->logit_bias = asked->logit_bias;
    message->n_logit_bias = asked->n_logit_bias;
    message->stop = asked->stop;
    message->n_stop = asked->n_stop;
}

// What the model says where the job says nothing.
static void fill_absent(const Surefoot__Sampling *asked, bool alone,
                        const Surefoot__GenerationDefaults *model, struct job_sampling *out) {
    Surefoot__Sampling *message = &out->message;
    bool greedy = alone && model->has_do_sample && !model->do_sample;
    if (asked == NULL || !asked->has_temperature) {
        if (greedy) {
            message->temperature = 0;
            take(out, "do_sample");
        } else if (model->has_temperature) {
            message->temperature = model->temperature;
            take(out, "temperature");
        }
    }
    if (model->has_top_k && (asked == NULL || !asked->has_top_k)) {
        message->top_k = model->top_k;
        take(out, "top_k");
    }
    if (model->has_top_p && (asked == NULL || !asked->has_top_p)) {
        message->top_p = model->top_p;
        take(out, "top_p");
    }
    if (model->has_repetition_penalty && (asked == NULL || !asked->has_repetition_penalty)) {
        message->repetition_penalty = model->repetition_penalty;
        take(out, "repetition_penalty");
    }
}

static uint32_t longest_default(const struct model_description *policy) {
    uint32_t most = LIMIT_MAX_TOKENS;
    if (policy->context_length > 1 && policy->context_length / 2 < most) {
        most = policy->context_length / 2;
    }
    uint32_t wanted = policy->generation.max_new_tokens;
    return wanted < most ? wanted : most;
}

enum status job_sampling_resolve(const Surefoot__JobSpec *spec, bool alone,
                                 const struct model_description *policy, struct job_sampling *out,
                                 struct error *err) {
    const Surefoot__Sampling *asked = spec->sampling;
    bool none = spec->generation_defaults != NULL && strcmp(spec->generation_defaults, "none") == 0;
    *out =
        (struct job_sampling){.max_tokens = (uint32_t)job_field_number(JOB_FIELD_MAX_TOKENS, spec)};
    fill_own(asked, &out->message);
    if (none || !policy->has_generation) {
        return STATUS_OK;
    }
    fill_absent(asked, alone, &policy->generation, out);
    if (!spec->has_max_tokens && policy->generation.has_max_new_tokens) {
        out->max_tokens = longest_default(policy);
        take(out, "max_tokens");
    }
    if (out->message.min_tokens > out->max_tokens) {
        return error_set(err, STATUS_LIMIT, "spec.sampling.min_tokens",
                         "%u is above max_tokens %u, which the model's generation_config names",
                         out->message.min_tokens, out->max_tokens);
    }
    return STATUS_OK;
}
