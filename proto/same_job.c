// tests/coordinator/test_job_spec.c goes through all of these defaults.
#include "proto/same_job.h"

#include <stdlib.h>
#include <string.h>

#include "proto/defaults.h"
#include "proto/job_fields.h"
#include "proto/limits.h"
#include "proto/wire.h"

// A copy of what can be at its default; the rest is borrowed from the message it was made of.
struct plain_job {
    Surefoot__SubmitJob submit;
    Surefoot__JobSpec spec;
    Surefoot__Sampling sampling;
    Surefoot__ScorerSpec scorers[LIMIT_SCORERS];
    Surefoot__ScorerSpec *scorer_list[LIMIT_SCORERS];
    Surefoot__ChannelSpec channels[LIMIT_CHANNELS];
    Surefoot__ChannelSpec *channel_list[LIMIT_CHANNELS];
    Surefoot__TemplateVariable *variables[LIMIT_TEMPLATE_VARIABLES];
};

static void plain_count(protobuf_c_boolean *has, uint32_t value, uint32_t fallback) {
    *has = *has && value != fallback;
}

static void plain_number(protobuf_c_boolean *has, double value, double fallback) {
    *has = *has && value != fallback;
}

static void plain_text(char **text, const char *fallback) {
    *text = *text != NULL && strcmp(*text, fallback) == 0 ? NULL : *text;
}

static bool is_empty(const Surefoot__Sampling *sampling) {
    return !sampling->has_temperature && !sampling->has_top_k && !sampling->has_top_p &&
           !sampling->has_repetition_penalty && !sampling->has_frequency_penalty &&
           !sampling->has_min_tokens && sampling->n_logit_bias == 0 && sampling->n_stop == 0 &&
           sampling->base.n_unknown_fields == 0;
}

static void plain_sampling(struct plain_job *job) {
    Surefoot__Sampling *sampling = &job->sampling;
    if (!job_asks_model(&job->spec)) {
        plain_number(&sampling->has_temperature, sampling->temperature, 1);
        plain_count(&sampling->has_top_k, sampling->top_k, 0);
        plain_number(&sampling->has_top_p, sampling->top_p, 1);
        plain_number(&sampling->has_repetition_penalty, sampling->repetition_penalty, 1);
    }
    plain_number(&sampling->has_frequency_penalty, sampling->frequency_penalty, 0);
    plain_count(&sampling->has_min_tokens, sampling->min_tokens, 0);
    job->spec.sampling = is_empty(sampling) ? NULL : sampling;
}

void same_job_drop_defaults(Surefoot__JobSpec *spec) {
    const Surefoot__JobSpec asked = *spec;
    for (enum job_field_index index = 0; index < JOB_FIELDS_COUNT; index++) {
        if (job_field_has_fallback(index, &asked) &&
            job_field_number(index, &asked) == job_field_fallback(index, &asked)) {
            job_field_clear(index, spec);
        }
    }
    plain_text(&spec->generation_defaults, "model");
    plain_text(&spec->content_tokens, "as-text");
    spec->has_continue_final_message =
        spec->has_continue_final_message && spec->continue_final_message;
    spec->has_seed = spec->has_seed && spec->seed != 0;
}

static void plain_scorers(struct plain_job *job) {
    if (job->spec.n_scorers > LIMIT_SCORERS) {
        return;
    }
    for (size_t i = 0; i < job->spec.n_scorers; i++) {
        job->scorers[i] = *job->spec.scorers[i];
        plain_number(&job->scorers[i].has_weight, job->scorers[i].weight, 1);
        job->scorer_list[i] = &job->scorers[i];
    }
    job->spec.scorers = job->scorer_list;
}

static void plain_channels(struct plain_job *job) {
    if (job->spec.n_channels > LIMIT_CHANNELS) {
        return;
    }
    for (size_t i = 0; i < job->spec.n_channels; i++) {
        Surefoot__JobSpec fields;
        job->channels[i] = *job->spec.channels[i];
        job_channel_fields(&job->channels[i], &fields);
        same_job_drop_defaults(&fields);
        job_channel_set_fields(&fields, &job->channels[i]);
        job->channel_list[i] = &job->channels[i];
    }
    job->spec.channels = job->channel_list;
}

static int compare_names(const void *a, const void *b) {
    const Surefoot__TemplateVariable *const *left = a;
    const Surefoot__TemplateVariable *const *right = b;
    return strcmp((*left)->name, (*right)->name);
}

// Their order means nothing.
static void plain_variables(struct plain_job *job) {
    size_t n = job->spec.n_template_variables;
    if (n == 0 || n > LIMIT_TEMPLATE_VARIABLES) {
        return;
    }
    for (size_t i = 0; i < n; i++) {
        job->variables[i] = job->spec.template_variables[i];
        if (job->variables[i]->name == NULL) {
            return;
        }
    }
    qsort(job->variables, n, sizeof *job->variables, compare_names);
    job->spec.template_variables = job->variables;
}

// Takes of `submit` what is not at its default; borrows the rest.
static void make_plain(const Surefoot__SubmitJob *submit, struct plain_job *job) {
    job->submit = *submit;
    if (submit->spec == NULL) {
        return;
    }
    job->spec = *submit->spec;
    job->submit.spec = &job->spec;
    same_job_drop_defaults(&job->spec);
    plain_scorers(job);
    plain_channels(job);
    plain_variables(job);
    if (job->spec.sampling != NULL) {
        job->sampling = *job->spec.sampling;
        plain_sampling(job);
    }
}

enum status same_job_fields_hash(const Surefoot__JobSpec *spec, char hex[SHA256_HEX_BYTES]) {
    Surefoot__SubmitJob submit = SUREFOOT__SUBMIT_JOB__INIT;
    Surefoot__JobSpec fields = *spec;
    fields.prompt = fields.rendered_prompt = fields.date = NULL;
    fields.n_messages = 0;
    fields.has_continue_final_message = fields.has_seed = fields.has_deadline_ms = 0;
    fields.certificate = NULL;
    submit.spec = &fields;
    struct plain_job job;
    make_plain(&submit, &job);
    uint8_t *bytes = NULL;
    size_t size = 0;
    enum status status = wire_pack(WIRE_SUBMIT_JOB, &job.submit, &bytes, &size);
    if (status == STATUS_OK) {
        sha256_hex(bytes, size, hex);
        free(bytes);
    }
    return status;
}

enum status same_job_model_hash(const Surefoot__ModelInfo *model, char hex[SHA256_HEX_BYTES]) {
    size_t size = surefoot__model_info__get_packed_size(model);
    uint8_t *bytes = malloc(size + 1);
    if (bytes == NULL) {
        return STATUS_NO_MEMORY;
    }
    surefoot__model_info__pack(model, bytes);
    sha256_hex(bytes, size, hex);
    free(bytes);
    return STATUS_OK;
}

// Packs the job without what is at its default.
static enum status pack_plain(const uint8_t *bytes, size_t size, uint8_t **plain,
                              size_t *plain_size) {
    void *message = NULL;
    struct error ignored;
    enum status status = wire_unpack(WIRE_SUBMIT_JOB, bytes, size, &message, &ignored);
    if (status != STATUS_OK) {
        return status;
    }
    struct plain_job job;
    make_plain(message, &job);
    status = wire_pack(WIRE_SUBMIT_JOB, &job.submit, plain, plain_size);
    wire_free(WIRE_SUBMIT_JOB, message);
    return status;
}

enum status same_job(const uint8_t *a, size_t a_size, const uint8_t *b, size_t b_size, bool *same) {
    uint8_t *plain_a = NULL;
    uint8_t *plain_b = NULL;
    size_t plain_a_size = 0;
    size_t plain_b_size = 0;
    enum status status = pack_plain(a, a_size, &plain_a, &plain_a_size);
    if (status == STATUS_OK) {
        status = pack_plain(b, b_size, &plain_b, &plain_b_size);
    }
    if (status == STATUS_OK) {
        *same = plain_a_size == plain_b_size && memcmp(plain_a, plain_b, plain_a_size) == 0;
    }
    free(plain_a);
    free(plain_b);
    return status;
}
