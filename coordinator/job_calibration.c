#include "coordinator/job_calibration.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "coordinator/spec_check.h"

enum status job_calibration_check(const Surefoot__JobSpec *spec, struct error *err) {
    const Surefoot__Calibration *calibration = spec->calibration;
    if (calibration == NULL) {
        return STATUS_OK;
    }
    if (calibration->n_rewards == 0) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "spec.calibration.rewards", "are missing");
    }
    if (calibration->policy == NULL || calibration->sampling == NULL) {
        return error_set(err, STATUS_INVALID_ARGUMENT,
                         calibration->policy == NULL ? "spec.calibration.policy"
                                                     : "spec.calibration.sampling",
                         "is missing");
    }
    enum status status =
        check_list(calibration->n_rewards, LIMIT_ROLLOUTS, "spec.calibration.rewards", err);
    for (size_t i = 0; status == STATUS_OK && i < calibration->n_rewards; i++) {
        const float *reward = &calibration->rewards[i];
        if (!isfinite(*reward) || (i > 0 && *reward < reward[-1])) {
            char field[ERROR_FIELD_BYTES];
            snprintf(field, sizeof field, "spec.calibration.rewards[%zu]", i);
            status = error_set(err, STATUS_INVALID_ARGUMENT, field,
                               "%g is not a finite number from the one before on", (double)*reward);
        }
    }
    return status;
}

static void fill_model(const struct model_description *model, const char *chat_template,
                       Surefoot__CalibratedModel *out) {
    surefoot__calibrated_model__init(out);
    out->name = (char *)model->name;
    out->hash = (char *)model->hash;
    out->chat_template = (char *)(chat_template != NULL ? chat_template : model->chat_template);
    out->precision = (char *)model->precision;
    out->kv_dtype = (char *)model->kv_dtype;
}

void job_conditions_fill(const struct job_spec *spec, const struct model_set *models,
                         struct job_conditions *out) {
    surefoot__calibration__init(&out->message);
    fill_model(&models->policy, spec->submit->spec->chat_template, &out->policy);
    out->message.policy = &out->policy;
    for (size_t i = 0; i < spec->n_scorers; i++) {
        const struct job_scorer *scorer = &spec->scorers[i];
        if (scorer->role != SCORER_ROLE_REWARD) {
            continue;
        }
        Surefoot__CalibratedModel *made = &out->scorers[out->message.n_scorers];
        fill_model(model_set_find(models, scorer->name), scorer->chat_template, made);
        made->has_weight = true;
        made->weight = scorer->weight;
        out->scorer_list[out->message.n_scorers++] = made;
    }
    out->message.scorers = out->scorer_list;
    out->sampling = spec->sampling.message;
    out->message.sampling = &out->sampling;
    out->message.has_max_tokens = true;
    out->message.max_tokens = spec->sampling.max_tokens;
}

static enum status compare_texts(const char *field, const char *name, const char *of,
                                 const char *is, struct error *err) {
    of = of != NULL ? of : "";
    if (strcmp(of, is) == 0) {
        return STATUS_OK;
    }
    error_set(err, STATUS_INVALID_ARGUMENT, name, "\"%.80s\" was calibrated, the job has \"%.80s\"",
              of, is);
    error_prefix_field(err, field);
    error_prefix_field(err, "spec.calibration");
    return STATUS_INVALID_ARGUMENT;
}

// Rules of words have no hash: they may be others each time.
static enum status refuse_lexical(const struct job_spec *spec, struct error *err) {
    for (size_t i = 0; i < spec->n_scorers; i++) {
        if (spec->scorers[i].lexical != NULL && spec->scorers[i].role == SCORER_ROLE_REWARD) {
            return error_set(err, STATUS_INVALID_ARGUMENT, "spec.scorers",
                             "the reward of a lexical scorer cannot be calibrated");
        }
    }
    return STATUS_OK;
}

static enum status compare_models(const char *field, const Surefoot__CalibratedModel *of,
                                  const Surefoot__CalibratedModel *is, struct error *err) {
    enum status status = compare_texts(field, "hash", of->hash, is->hash, err);
    if (status == STATUS_OK) {
        status = compare_texts(field, "chat_template", of->chat_template, is->chat_template, err);
    }
    if (status == STATUS_OK) {
        status = compare_texts(field, "precision", of->precision, is->precision, err);
    }
    return status == STATUS_OK ? compare_texts(field, "kv_dtype", of->kv_dtype, is->kv_dtype, err)
                               : status;
}

static enum status compare_numbers(const char *name, double of, double is, struct error *err) {
    if (of == is) {
        return STATUS_OK;
    }
    error_set(err, STATUS_INVALID_ARGUMENT, name, "%g was calibrated, the job has %g", of, is);
    error_prefix_field(err, "spec.calibration");
    return STATUS_INVALID_ARGUMENT;
}

static bool are_same_lists(const Surefoot__Sampling *of, const Surefoot__Sampling *is) {
    bool same = of->n_stop == is->n_stop && of->n_logit_bias == is->n_logit_bias;
    for (size_t i = 0; same && i < is->n_stop; i++) {
        same = strcmp(of->stop[i], is->stop[i]) == 0;
    }
    for (size_t i = 0; same && i < is->n_logit_bias; i++) {
        same = of->logit_bias[i]->token_id == is->logit_bias[i]->token_id &&
               of->logit_bias[i]->bias == is->logit_bias[i]->bias;
    }
    return same;
}

static enum status compare_sampling(const Surefoot__Calibration *of,
                                    const Surefoot__Calibration *is, struct error *err) {
    const Surefoot__Sampling *a = of->sampling;
    const Surefoot__Sampling *b = is->sampling;
    const struct {
        const char *name;
        double of, is;
    } numbers[] = {
        {"sampling.temperature", a->temperature, b->temperature},
        {"sampling.top_k", a->top_k, b->top_k},
        {"sampling.top_p", a->top_p, b->top_p},
        {"sampling.repetition_penalty", a->repetition_penalty, b->repetition_penalty},
        {"sampling.frequency_penalty", a->frequency_penalty, b->frequency_penalty},
        {"sampling.min_tokens", a->min_tokens, b->min_tokens},
        {"max_tokens", of->max_tokens, is->max_tokens},
    };
    enum status status = STATUS_OK;
    for (size_t i = 0; status == STATUS_OK && i < sizeof numbers / sizeof numbers[0]; i++) {
        status = compare_numbers(numbers[i].name, numbers[i].of, numbers[i].is, err);
    }
    if (status == STATUS_OK && !are_same_lists(a, b)) {
        status = error_set(err, STATUS_INVALID_ARGUMENT, "spec.calibration.sampling",
                           "stop or logit_bias is not what was calibrated");
    }
    return status;
}

enum status job_calibration_resolve(struct job_spec *spec, const struct model_set *models,
                                    struct error *err) {
    const Surefoot__Calibration *of = spec->submit->spec->calibration;
    spec->search.rollouts = NULL;
    spec->search.n_rollouts = 0;
    bool calibrates = job_field_number(JOB_FIELD_CALIBRATE, spec->submit->spec) != 0;
    enum status status = of != NULL || calibrates ? refuse_lexical(spec, err) : STATUS_OK;
    if (of == NULL || status != STATUS_OK) {
        return status;
    }
    struct job_conditions is = {0};
    job_conditions_fill(spec, models, &is);
    status = compare_models("policy", of->policy, &is.policy, err);
    if (status == STATUS_OK && is.message.n_scorers == 0) {
        status = error_set(err, STATUS_INVALID_ARGUMENT, "spec.calibration",
                           "has rewards, and the job has no reward scorer");
    }
    if (status == STATUS_OK) {
        status =
            compare_numbers("scorers", (double)of->n_scorers, (double)is.message.n_scorers, err);
    }
    for (size_t i = 0; status == STATUS_OK && i < of->n_scorers; i++) {
        char field[ERROR_FIELD_BYTES];
        snprintf(field, sizeof field, "scorers[%zu]", i);
        status = compare_models(field, of->scorers[i], &is.scorers[i], err);
        if (status == STATUS_OK) {
            snprintf(field, sizeof field, "scorers[%zu].weight", i);
            status = compare_numbers(field, of->scorers[i]->weight, is.scorers[i].weight, err);
        }
    }
    if (status == STATUS_OK) {
        status = compare_sampling(of, &is.message, err);
    }
    if (status == STATUS_OK) {
        spec->search.rollouts = of->rewards;
        spec->search.n_rollouts = (uint32_t)of->n_rewards;
    }
    return status;
}
