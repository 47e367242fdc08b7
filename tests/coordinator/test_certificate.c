// coordinator/certificate.c: a job that names a certificate is taken only with the certified fields
// and models.
#include "coordinator/certificate.h"

#include <stdio.h>
#include <string.h>

#include "coordinator/job_spec.h"
#include "proto/same_job.h"
#include "tests/support/testkit.h"

struct draft {
    Surefoot__JobSpec spec;
    Surefoot__Sampling sampling;
    Surefoot__Certificate certificate;
    Surefoot__CertifiedModel models[3];
    Surefoot__CertifiedModel *model_list[3];
    char fields[SHA256_HEX_BYTES];
    char info[3][SHA256_HEX_BYTES];
    struct model_set set;
    struct job_scorer scorers[2];
};

static void describe(struct model_description *model, const char *name, const char *role) {
    snprintf(model->name, sizeof model->name, "%s", name);
    snprintf(model->role, sizeof model->role, "%s", role);
    snprintf(model->hash, sizeof model->hash, "%s-weights", name);
    snprintf(model->precision, sizeof model->precision, "stored");
    model->context_length = 1024;
}

static void certify_model(struct draft *draft, int index, const struct model_description *model) {
    Surefoot__ModelInfo info;
    model_description_fill(model, &info);
    assert_ok(same_job_model_hash(&info, draft->info[index]), NULL);
    surefoot__certified_model__init(&draft->models[index]);
    draft->models[index].name = (char *)model->name;
    draft->models[index].hash = (char *)model->hash;
    draft->models[index].info = draft->info[index];
    draft->model_list[index] = &draft->models[index];
}

// A job of a policy, a reward and a cost model that is what its certificate says.
static void draft_init(struct draft *draft) {
    memset(draft, 0, sizeof *draft);
    surefoot__job_spec__init(&draft->spec);
    surefoot__sampling__init(&draft->sampling);
    surefoot__certificate__init(&draft->certificate);
    draft->spec.prompt = "Tell me a story.";
    draft->spec.has_budget = true;
    draft->spec.budget = 0.5;
    draft->spec.sampling = &draft->sampling;
    describe(&draft->set.policy, "policy", "policy");
    describe(&draft->set.scorers[0], "reward", "reward");
    describe(&draft->set.scorers[1], "cost", "cost");
    draft->set.n_scorers = 2;
    for (int i = 0; i < 2; i++) {
        memcpy(draft->scorers[i].name, draft->set.scorers[i].name, sizeof draft->scorers[i].name);
        certify_model(draft, i + 1, &draft->set.scorers[i]);
    }
    certify_model(draft, 0, &draft->set.policy);
    assert_ok(same_job_fields_hash(&draft->spec, draft->fields), NULL);
    draft->certificate.id = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    draft->certificate.fields = draft->fields;
    draft->certificate.models = draft->model_list;
    draft->certificate.n_models = 3;
    draft->certificate.has_epsilon = draft->certificate.has_delta = true;
    draft->certificate.has_bound = true;
    draft->certificate.epsilon = 0.1;
    draft->certificate.delta = 0.05;
    draft->certificate.bound = 0.07;
    draft->spec.certificate = &draft->certificate;
}

static void expect(const struct draft *draft, const char *field, const char *part) {
    struct error err;
    assert_status(STATUS_INVALID_ARGUMENT, certificate_check(&draft->spec, &err));
    assert_string_equal(err.field, field);
    assert_non_null(strstr(err.message, part));
}

static enum status check_models(const struct draft *draft, size_t n_scorers, struct error *err) {
    return certificate_check_models(&draft->spec, draft->scorers, n_scorers, &draft->set, err);
}

static void expect_models(const struct draft *draft, size_t n_scorers, const char *part) {
    struct error err;
    assert_status(STATUS_INVALID_ARGUMENT, check_models(draft, n_scorers, &err));
    assert_string_equal(err.field, "spec.certificate.models");
    if (strstr(err.message, part) == NULL) {
        print_error("wanted \"%s\" in: %s\n", part, err.message);
        fail();
    }
}

static void test_the_certified_job_is_taken(void **state) {
    (void)state;
    struct draft draft;
    struct error err;
    draft_init(&draft);
    assert_ok(certificate_check(&draft.spec, &err), &err);
    assert_ok(check_models(&draft, 2, &err), &err);
    // Another prompt, seed, day and deadline are the same job to a certificate; so is a default
    // that is given.
    draft.spec.prompt = "Another one.";
    draft.spec.has_seed = draft.spec.has_deadline_ms = true;
    draft.spec.seed = 7;
    draft.spec.deadline_ms = 1000;
    draft.spec.date = "2026-11-29";
    draft.spec.method = "inference-guard";
    draft.sampling.has_min_tokens = true;
    assert_ok(certificate_check(&draft.spec, &err), &err);
}

static void test_a_job_with_other_fields_is_refused(void **state) {
    (void)state;
    struct draft draft;
    draft_init(&draft);
    draft.spec.budget = 0.6;
    expect(&draft, "spec.certificate.fields", "not those that certificate 0123456789ab certifies");
    draft_init(&draft);
    draft.spec.has_n = true;
    draft.spec.n = 8;
    expect(&draft, "spec.certificate.fields", "certifies");
    draft_init(&draft);
    draft.sampling.has_temperature = true;
    draft.sampling.temperature = 0.5;
    expect(&draft, "spec.certificate.fields", "certifies");
}

static void test_a_certificate_that_is_not_whole_is_refused(void **state) {
    (void)state;
    struct draft draft;
    draft_init(&draft);
    draft.certificate.id = "abc";
    expect(&draft, "spec.certificate.id", "not a SHA-256");
    draft_init(&draft);
    draft.certificate.fields = NULL;
    expect(&draft, "spec.certificate.fields", "not a SHA-256");
    draft_init(&draft);
    draft.certificate.epsilon = 0.0 / 0.0;
    expect(&draft, "spec.certificate.epsilon", "not in (0, 1)");
    draft_init(&draft);
    draft.certificate.has_delta = false;
    expect(&draft, "spec.certificate.delta", "not in (0, 1)");
    draft_init(&draft);
    draft.certificate.bound = 0.2;
    expect(&draft, "spec.certificate.bound", "above epsilon");
    draft_init(&draft);
    draft.models[1].info = "short";
    expect(&draft, "spec.certificate.models[1].info", "not a SHA-256");
    draft_init(&draft);
    draft.models[2].name = NULL;
    expect(&draft, "spec.certificate.models[2].name", "empty");
}

static void test_other_models_are_refused_by_what_differs(void **state) {
    (void)state;
    struct draft draft;
    draft_init(&draft);
    snprintf(draft.set.scorers[1].hash, sizeof draft.set.scorers[1].hash, "other-weights");
    draft.models[2].hash = "cost-weights";
    expect_models(&draft, 2, "cost has the weights other-weight here and had cost-weights");
    draft_init(&draft);
    snprintf(draft.set.policy.precision, sizeof draft.set.policy.precision, "int8");
    expect_models(&draft, 2, "policy is served with another precision");
    draft_init(&draft);
    draft.set.scorers[1].has_budget = true;
    draft.set.scorers[1].budget = 3;
    expect_models(&draft, 2, "cost is served with another precision, role, context length or");
    draft_init(&draft);
    expect_models(&draft, 1, "are 3, and 2 take part");
    draft_init(&draft);
    draft.models[2].name = "judge";
    expect_models(&draft, 2, "lack cost");
}

static void test_a_job_without_a_certificate_passes(void **state) {
    (void)state;
    struct draft draft;
    struct error err;
    draft_init(&draft);
    draft.spec.certificate = NULL;
    draft.spec.budget = 9;
    assert_ok(certificate_check(&draft.spec, &err), &err);
    draft.set.n_scorers = 0;
    assert_ok(check_models(&draft, 0, &err), &err);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_certified_job_is_taken),
        cmocka_unit_test(test_a_job_with_other_fields_is_refused),
        cmocka_unit_test(test_a_certificate_that_is_not_whole_is_refused),
        cmocka_unit_test(test_other_models_are_refused_by_what_differs),
        cmocka_unit_test(test_a_job_without_a_certificate_passes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
