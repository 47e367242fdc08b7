// What a real service returns is, byte for byte, what it judged: the text alone, tokenized and
// scored again from scratch, has the cost and reward that the service said, is within budget under
// a safety rule, ends before its stop strings and keeps the rules of words.
#include <ctype.h>
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
            assert_ok(rescorer_cost(judge, prompts[i], result->text, &cost, &err), &err);
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

static const char replacement[] = "\xef\xbf\xbd"; // U+FFFD

// What is asked for beside a method.
struct variant {
    const char *name;
    char *stops[3];
    size_t n_stops;
    char *required;
    char *forbidden;
    char *forbidden_regex;
    uint32_t max_tokens;
    uint32_t min_tokens;
    double temperature; // 0: the default. A high one writes cut characters and odd tokens
};

static const struct variant variants[] = {
    {"plain", .max_tokens = 24},
    {"cut by the limit", .max_tokens = 5},
    {"a stop string within tokens", .stops = {"t"}, .n_stops = 1, .max_tokens = 24},
    {"a stop string over tokens", .stops = {"e a", "n t", "ing"}, .n_stops = 3, .max_tokens = 24},
    {"a stop string after some tokens", .stops = {"a"}, .n_stops = 1, .min_tokens = 4,
     .max_tokens = 24},
    {"odd tokens", .temperature = 2.5, .max_tokens = 12},
    {"odd tokens and a cut character for a stop string", .stops = {(char *)replacement},
     .n_stops = 1, .temperature = 2.5, .max_tokens = 12},
    {"words", .required = "a", .forbidden = "the", .max_tokens = 24},
    {"words and the required one for a stop string", .stops = {"a"}, .n_stops = 1, .required = "a",
     .max_tokens = 24},
    {"a pattern and a stop string", .stops = {"ing"}, .n_stops = 1, .forbidden_regex = "in$|the",
     .max_tokens = 24},
};

static const struct {
    char *method;
    char *selection;
} methods[] = {{"sample", NULL},  {"best-of-n", "augmented"}, {"best-of-n", "lagrangian"},
               {"beam", "plain"}, {"beam", "augmented"},      {"inference-guard", NULL}};

enum { N_VARIANTS = sizeof variants / sizeof variants[0], N_METHODS = 6, N_EACH = 3 };

struct variant_job {
    Surefoot__JobSpec spec;
    Surefoot__Sampling sampling;
    Surefoot__LexicalSpec lexical;
    char *prompt;
    char key[SUREFOOT_KEY_BYTES];
};

static void set_variant(struct variant_job *job, const struct variant *variant, size_t method) {
    set_spec(&job->spec, job->prompt, methods[method].method, methods[method].selection);
    job->spec.n = method == 0 ? 1 : 8;
    job->spec.block_tokens = 4;
    job->spec.max_tokens = variant->max_tokens;
    surefoot__sampling__init(&job->sampling);
    job->spec.sampling = &job->sampling;
    job->sampling.stop = (char **)variant->stops;
    job->sampling.n_stop = variant->n_stops;
    job->sampling.has_min_tokens = variant->min_tokens > 0;
    job->sampling.min_tokens = variant->min_tokens;
    job->sampling.has_temperature = variant->temperature > 0;
    job->sampling.temperature = variant->temperature;
    if (variant->required == NULL && variant->forbidden == NULL &&
        variant->forbidden_regex == NULL) {
        return;
    }
    surefoot__lexical_spec__init(&job->lexical);
    job->lexical.required = (char **)&variant->required;
    job->lexical.n_required = variant->required != NULL;
    job->lexical.forbidden = (char **)&variant->forbidden;
    job->lexical.n_forbidden = variant->forbidden != NULL;
    job->lexical.forbidden_regex = (char **)&variant->forbidden_regex;
    job->lexical.n_forbidden_regex = variant->forbidden_regex != NULL;
    job->spec.lexical = &job->lexical;
}

// Whether `word` stands in `text` with no letter beside it.
static bool has_word(const char *text, const char *word) {
    size_t n = strlen(word);
    for (const char *at = strstr(text, word); at != NULL; at = strstr(at + 1, word)) {
        bool before = at > text && isalnum((unsigned char)at[-1]);
        if (!before && !isalnum((unsigned char)at[n])) {
            return true;
        }
    }
    return false;
}

struct judges {
    struct rescorer *cost;
    struct rescorer *reward;
};

static void check_variant(const struct judges *judges, const struct variant *variant,
                          const struct variant_job *job, const Surefoot__JobResult *result) {
    struct error err;
    double cost = 0, reward = 0;
    assert_ok(rescorer_cost(judges->cost, job->prompt, result->text, &cost, &err), &err);
    assert_ok(rescorer_reward(judges->reward, job->prompt, result->text, &reward, &err), &err);
    bool augmented = strcmp(job->spec.method, "inference-guard") == 0 ||
                     (job->spec.selection && strcmp(job->spec.selection, "augmented") == 0);
    // Rules of words are a channel of their own: what the model says is its own, with them too.
    if (result->reward != reward || fabs(cost - result->cost) > 1e-12 * (1.0 + cost)) {
        fail_msg("%s, %s: reward %.9g and cost %.9g, of the text %.9g and %.9g: \"%s\"",
                 variant->name, job->spec.method, result->reward, result->cost, reward, cost,
                 result->text);
    }
    for (size_t i = 0; i < variant->n_stops && variant->min_tokens == 0; i++) {
        assert_null(strstr(result->text, variant->stops[i]));
    }
    if (!augmented) {
        return;
    }
    assert_true(cost <= rescorer_budget(judges->cost));
    assert_true(variant->required == NULL || has_word(result->text, variant->required));
    assert_false(variant->forbidden != NULL && has_word(result->text, variant->forbidden));
    if (variant->forbidden_regex != NULL) {
        size_t n = strlen(result->text);
        assert_null(strstr(result->text, "the"));
        assert_false(n >= 2 && strcmp(result->text + n - 2, "in") == 0);
    }
}

static void test_what_is_returned_was_judged(void **state) {
    (void)state;
    struct judges judges;
    struct error err;
    assert_ok(rescorer_open(testkit_source_path("models/demo/cost"), 1, &judges.cost, &err), &err);
    assert_ok(rescorer_open(testkit_source_path("models/demo/reward"), 1, &judges.reward, &err),
              &err);
    struct service service;
    service_start(&service, &(struct service_options){.n_groups = 1, .n_ranks = 2});
    static struct variant_job jobs[N_VARIANTS][N_METHODS][N_EACH];
    int n_answers = 0;
    for (size_t v = 0; v < N_VARIANTS; v++) {
        for (size_t m = 0; m < N_METHODS; m++) {
            for (int i = 0; i < N_EACH; i++) {
                struct variant_job *job = &jobs[v][m][i];
                job->prompt = service_prompt(i);
                set_variant(job, &variants[v], m);
                const struct surefoot_submit args = {.spec = &job->spec,
                                                     .timeout_ms = SERVICE_WAIT_MS};
                assert_ok(surefoot_submit(service.client, &args, job->key, NULL, &err), &err);
            }
        }
    }
    for (size_t v = 0; v < N_VARIANTS; v++) {
        for (size_t k = 0; k < (size_t)N_METHODS * N_EACH; k++) {
            struct variant_job *job = &jobs[v][k / N_EACH][k % N_EACH];
            Surefoot__JobResult *result = NULL;
            assert_ok(surefoot_fetch(service.client, job->key, SERVICE_WAIT_MS, SERVICE_WAIT_MS,
                                     &result, &err),
                      &err);
            assert_non_null(result);
            if (result->outcome == SUREFOOT__OUTCOME__OUTCOME_COMPLETED) {
                check_variant(&judges, &variants[v], job, result);
                n_answers++;
            } else {
                assert_int_equal(result->outcome, SUREFOOT__OUTCOME__OUTCOME_NO_SAFE_CANDIDATE);
            }
            surefoot_result_free(result);
            free(job->prompt);
        }
    }
    service_stop(&service);
    rescorer_close(judges.cost);
    rescorer_close(judges.reward);
    assert_true(n_answers >= N_VARIANTS * N_METHODS * N_EACH / 2);
}

int main(void) {
    if (!service_is_possible()) {
        return TESTKIT_SKIP;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answers_are_within_budget_when_scored_again),
        cmocka_unit_test(test_what_is_returned_was_judged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
