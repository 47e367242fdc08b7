// The shipped critic is one of the shipped policy, cost and reward models.
#include "tests/support/testkit.h"
#include "worker/critic/critic_file.h"
#include "worker/model/model.h"

static void assert_hash(const char *directory, const char *want, int32_t *hidden_dim) {
    struct backend *backend = NULL;
    struct model *model = NULL;
    struct error err = {0};
    assert_ok(backend_create("cpu", 1, &backend, &err), &err);
    assert_ok(model_open(testkit_source_path(directory), backend, PRECISION_STORED, &model, &err),
              &err);
    assert_string_equal(model_get_hash(model), want);
    *hidden_dim = model_get_config(model)->hidden_dim;
    model_close(model);
    backend_destroy(backend);
}

static void test_the_shipped_critic_fits_the_shipped_models(void **state) {
    (void)state;
    struct critic_file file;
    struct error err = {0};
    int32_t hidden_dim = 0;
    assert_ok(critic_file_open(testkit_source_path("models/demo/critic.safetensors"), &file, &err),
              &err);
    assert_hash("models/demo/cost", file.terms.channels[0].scorer.hash, &hidden_dim);
    assert_hash("models/demo/reward", file.terms.rewards[0].hash, &hidden_dim);
    assert_hash("models/demo/policy", file.terms.policy_hash, &hidden_dim);
    assert_int_equal(file.terms.hidden_dim, hidden_dim);
    assert_int_equal(file.terms.channels[0].cost_mode, COST_MODE_TOKEN_SUM_POS);
    critic_file_close(&file);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_shipped_critic_fits_the_shipped_models),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
