// What a real service returns under a safety rule is within budget when the text is scored again
// from scratch, and costs what the service said.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "benchmarks/rescore.h"
#include "tests/support/service.h"
#include "tests/support/testkit.h"

enum { N_PROMPTS = 40 };

static void set_spec(Surefoot__JobSpec *spec, char *prompt, char *method, char *selection) {
    surefoot__job_spec__init(spec);
    spec->prompt = prompt;
    spec->method = method;
    spec->selection = selection;
    spec->has_n = strcmp(method, "sample") != 0;
    spec->n = 16;
    spec->has_seed = 1;
    spec->seed = 11;
    spec->has_block_tokens = 1;
    spec->block_tokens = 8;
    spec->has_max_tokens = 1;
    spec->max_tokens = 48;
}

struct counts {
    int answered;
    int over_budget;
};

static struct counts run_method(struct service *service, struct rescorer *judge, char *method,
                                char *selection) {
    struct counts counts = {.answered = 0};
    char keys[N_PROMPTS][SUREFOOT_KEY_BYTES];
    char *prompts[N_PROMPTS];
    struct error err;
    for (int i = 0; i < N_PROMPTS; i++) {
        Surefoot__JobSpec spec;
        prompts[i] = service_prompt(i);
        set_spec(&spec, prompts[i], method, selection);
        const struct surefoot_submit args = {.spec = &spec, .timeout_ms = SERVICE_WAIT_MS};
        assert_ok(surefoot_submit(service->client, &args, keys[i], NULL, &err), &err);
    }
    for (int i = 0; i < N_PROMPTS; i++) {
        Surefoot__JobResult *result = NULL;
        assert_ok(surefoot_fetch(service->client, keys[i], SERVICE_WAIT_MS, SERVICE_WAIT_MS,
                                 &result, &err),
                  &err);
        assert_non_null(result);
        if (result->outcome == SUREFOOT__OUTCOME__OUTCOME_COMPLETED) {
            double cost;
            assert_ok(rescorer_cost(judge, prompts[i], result->token_ids, result->n_token_ids,
                                    &cost, &err),
                      &err);
            assert_true(fabs(cost - result->cost) <= 1e-12 * (1.0 + cost));
            assert_int_equal(result->over_budget, cost > rescorer_budget(judge));
            counts.answered++;
            counts.over_budget += cost > rescorer_budget(judge) ? 1 : 0;
        } else {
            assert_int_equal(result->outcome, SUREFOOT__OUTCOME__OUTCOME_NO_SAFE_CANDIDATE);
            assert_null(result->text);
            assert_int_equal(result->n_token_ids, 0);
        }
        surefoot_result_free(result);
        free(prompts[i]);
    }
    return counts;
}

static void test_answers_are_within_budget_when_scored_again(void **state) {
    (void)state;
    struct rescorer *judge = NULL;
    struct error err;
    assert_ok(rescorer_open(testkit_source_path("models/demo/cost"), 1, &judge, &err), &err);
    struct service service;
    service_start(&service, &(struct service_options){.n_groups = 1, .n_ranks = 2});
    struct counts sample = run_method(&service, judge, "sample", NULL);
    struct counts best_of_n = run_method(&service, judge, "best-of-n", "augmented");
    struct counts guard = run_method(&service, judge, "inference-guard", NULL);
    service_stop(&service);
    rescorer_close(judge);
    // Without a rule some texts are over budget, or the test shows nothing.
    assert_int_equal(sample.answered, N_PROMPTS);
    assert_true(sample.over_budget >= N_PROMPTS / 8);
    assert_int_equal(best_of_n.over_budget, 0);
    assert_int_equal(guard.over_budget, 0);
    assert_true(guard.answered >= N_PROMPTS * 95 / 100);
}

int main(void) {
    if (!service_is_possible()) {
        return TESTKIT_SKIP;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answers_are_within_budget_when_scored_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
