#include "coordinator/certificate.h"

#include <stdio.h>
#include <string.h>

#include "common/sha256.h"
#include "coordinator/job_spec.h"
#include "coordinator/spec_check.h"
#include "proto/same_job.h"

static enum status check_hash(const char *text, const char *field, struct error *err) {
    if (text == NULL || strlen(text) != SHA256_HEX_BYTES - 1 ||
        strspn(text, "0123456789abcdef") != SHA256_HEX_BYTES - 1) {
        return error_set(err, STATUS_INVALID_ARGUMENT, field, "is not a SHA-256 of %d digits",
                         SHA256_HEX_BYTES - 1);
    }
    return STATUS_OK;
}

static enum status check_numbers(const Surefoot__Certificate *certificate, struct error *err) {
    const struct {
        bool has;
        double value;
        const char *field;
    } numbers[] = {
        {certificate->has_epsilon, certificate->epsilon, "spec.certificate.epsilon"},
        {certificate->has_delta, certificate->delta, "spec.certificate.delta"},
        {certificate->has_bound, certificate->bound, "spec.certificate.bound"},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        if (!numbers[i].has || !(numbers[i].value > 0 && numbers[i].value < 1)) {
            return error_set(err, STATUS_INVALID_ARGUMENT, numbers[i].field, "is not in (0, 1)");
        }
    }
    return certificate->bound <= certificate->epsilon
               ? STATUS_OK
               : error_set(err, STATUS_INVALID_ARGUMENT, "spec.certificate.bound",
                           "%g is above epsilon %g: nothing was certified", certificate->bound,
                           certificate->epsilon);
}

static enum status check_model_list(const Surefoot__Certificate *certificate, struct error *err) {
    enum status status =
        check_list(certificate->n_models, LIMIT_SCORERS + 1, "spec.certificate.models", err);
    for (size_t i = 0; status == STATUS_OK && i < certificate->n_models; i++) {
        char field[ERROR_FIELD_BYTES];
        snprintf(field, sizeof field, "spec.certificate.models[%zu].name", i);
        status = check_text(certificate->models[i]->name, LIMIT_NAME_BYTES, field, err);
        if (status == STATUS_OK) {
            snprintf(field, sizeof field, "spec.certificate.models[%zu].info", i);
            status = check_hash(certificate->models[i]->info, field, err);
        }
        if (status == STATUS_OK) {
            snprintf(field, sizeof field, "spec.certificate.models[%zu].hash", i);
            status = check_text(certificate->models[i]->hash, MODEL_HASH_BYTES, field, err);
        }
    }
    return status;
}

enum status certificate_check(const Surefoot__JobSpec *spec, struct error *err) {
    const Surefoot__Certificate *certificate = spec->certificate;
    if (certificate == NULL) {
        return STATUS_OK;
    }
    enum status status = check_hash(certificate->id, "spec.certificate.id", err);
    if (status == STATUS_OK) {
        status = check_hash(certificate->fields, "spec.certificate.fields", err);
    }
    if (status == STATUS_OK) {
        status = check_numbers(certificate, err);
    }
    if (status == STATUS_OK) {
        status = check_model_list(certificate, err);
    }
    if (status != STATUS_OK) {
        return status;
    }
    char hex[SHA256_HEX_BYTES];
    status = same_job_fields_hash(spec, hex);
    if (status != STATUS_OK) {
        return error_set(err, status, "spec", "cannot be packed: %s", status_text(status));
    }
    return strcmp(hex, certificate->fields) == 0
               ? STATUS_OK
               : error_set(err, STATUS_INVALID_ARGUMENT, "spec.certificate.fields",
                           "the job's fields are not those that certificate %.12s certifies",
                           certificate->id);
}

static enum status check_model(const Surefoot__Certificate *certificate,
                               const struct model_description *model, struct error *err) {
    const Surefoot__CertifiedModel *certified = NULL;
    for (size_t i = 0; certified == NULL && i < certificate->n_models; i++) {
        if (strcmp(certificate->models[i]->name, model->name) == 0) {
            certified = certificate->models[i];
        }
    }
    if (certified == NULL) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "spec.certificate.models",
                         "lack %s, which takes part in the job", model->name);
    }
    if (strcmp(certified->hash, model->hash) != 0) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "spec.certificate.models",
                         "%s has the weights %.12s here and had %.12s when it was certified",
                         model->name, model->hash, certified->hash);
    }
    Surefoot__ModelInfo info;
    char hex[SHA256_HEX_BYTES];
    model_description_fill(model, &info);
    if (same_job_model_hash(&info, hex) != STATUS_OK) {
        return error_set(err, STATUS_NO_MEMORY, NULL, "no memory to check the certificate");
    }
    return strcmp(hex, certified->info) == 0
               ? STATUS_OK
               : error_set(err, STATUS_INVALID_ARGUMENT, "spec.certificate.models",
                           "%s is served with another precision, role, context length or profile "
                           "than it was certified with",
                           model->name);
}

enum status certificate_check_models(const Surefoot__JobSpec *spec,
                                     const struct job_scorer *scorers, size_t n_scorers,
                                     const struct model_set *models, struct error *err) {
    const Surefoot__Certificate *certificate = spec->certificate;
    if (certificate == NULL) {
        return STATUS_OK;
    }
    enum status status = check_model(certificate, &models->policy, err);
    size_t n_models = 1;
    for (size_t i = 0; status == STATUS_OK && i < n_scorers; i++) {
        if (scorers[i].lexical == NULL) {
            status = check_model(certificate, model_set_find(models, scorers[i].name), err);
            n_models++;
        }
    }
    if (status == STATUS_OK && certificate->n_models != n_models) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "spec.certificate.models",
                         "are %zu, and %zu take part in the job", certificate->n_models, n_models);
    }
    return status;
}
