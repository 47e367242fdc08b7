// The same job gives the same tokens, scores and choice whatever the layout of the service and
// whatever else it works on: 1, 2, 3 ranks, threads or MPI processes, 1 or 2 groups, alone or
// beside 20 jobs.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/service.h"
#include "tests/support/testkit.h"

enum { N_CANDIDATES = 32, N_SPECS = 17, N_NEIGHBOURS = 20, REJECTION_SPEC = 9 };

// Every method and selection, seed 7, N = 32, blocks of 16.
struct spec_set {
    Surefoot__JobSpec specs[N_SPECS];
    Surefoot__LexicalSpec lexical;
    char *prompt;
};

static void set_spec(Surefoot__JobSpec *spec, char *prompt, char *method, char *selection) {
    surefoot__job_spec__init(spec);
    spec->prompt = prompt;
    spec->method = method;
    spec->selection = selection;
    if (strcmp(method, "sample") != 0) {
        spec->has_n = 1;
        spec->n = N_CANDIDATES;
    }
    spec->has_seed = 1;
    spec->seed = 7;
    spec->has_block_tokens = 1;
    spec->block_tokens = 16;
    spec->has_max_tokens = 1;
    spec->max_tokens = 48;
}

static void make_specs(struct spec_set *set, int prompt_index) {
    static char *words[] = {"the", "and"};
    char *prompt = service_prompt(prompt_index);
    set->prompt = prompt;
    set_spec(&set->specs[0], prompt, "sample", NULL);
    set_spec(&set->specs[1], prompt, "best-of-n", "plain");
    set_spec(&set->specs[2], prompt, "best-of-n", "lagrangian");
    set_spec(&set->specs[3], prompt, "best-of-n", "augmented");
    set_spec(&set->specs[4], prompt, "beam", "plain");
    set_spec(&set->specs[5], prompt, "beam", "lagrangian");
    set_spec(&set->specs[6], prompt, "beam", "augmented");
    set_spec(&set->specs[7], prompt, "inference-guard", NULL);
    // A budget that nothing meets, with costs that could in theory sink: the fallback fires in
    // every step and the search goes on with the candidates nearest to the budget.
    set_spec(&set->specs[8], prompt, "inference-guard", NULL);
    set->specs[8].has_budget = 1;
    set->specs[8].budget = -1000.0;
    set->specs[8].cost_mode = "token_sum";
    set->specs[8].has_tries = 1;
    set->specs[8].tries = 3;
    // Rules that a few of the draws keep.
    set_spec(&set->specs[REJECTION_SPEC], prompt, "rejection", NULL);
    surefoot__lexical_spec__init(&set->lexical);
    set->lexical.required = words;
    set->lexical.n_required = sizeof words / sizeof words[0];
    set->specs[REJECTION_SPEC].lexical = &set->lexical;
    set_spec(&set->specs[10], prompt, "speculative-rejection", "plain");
    set_spec(&set->specs[11], prompt, "speculative-rejection", "augmented");
    set->specs[11].block_tokens = 4;
    // Of the first segments some pass, of the last ones few.
    set_spec(&set->specs[12], prompt, "cards", "plain");
    set_spec(&set->specs[13], prompt, "cards", "augmented");
    for (int i = 12; i < 14; i++) {
        set->specs[i].has_reward_threshold = 1;
        set->specs[i].reward_threshold = 5.0;
        set->specs[i].has_entropy_threshold = 1;
        set->specs[i].entropy_threshold = 1.5;
    }
    set_spec(&set->specs[14], prompt, "args", "plain");
    set_spec(&set->specs[15], prompt, "args", "cost");
    set_spec(&set->specs[16], prompt, "args", "augmented");
    for (int i = 14; i < 17; i++) {
        set->specs[i].block_tokens = 1;
    }
}

struct result_set {
    Surefoot__JobResult *results[N_SPECS];
};

static void free_results(struct result_set *set) {
    for (int i = 0; i < N_SPECS; i++) {
        surefoot_result_free(set->results[i]);
    }
}

static void assert_same_bits(const void *a, const void *b, size_t size) {
    if (size > 0) {
        assert_memory_equal(a, b, size);
    }
}

static void assert_same_result(const Surefoot__JobResult *a, const Surefoot__JobResult *b) {
    assert_int_equal(a->outcome, b->outcome);
    assert_int_equal(a->text == NULL, b->text == NULL);
    if (a->text != NULL) {
        assert_string_equal(a->text, b->text);
    }
    assert_int_equal(a->n_token_ids, b->n_token_ids);
    assert_same_bits(a->token_ids, b->token_ids, a->n_token_ids * sizeof *a->token_ids);
    assert_int_equal(a->n_token_logprobs, b->n_token_logprobs);
    assert_same_bits(a->token_logprobs, b->token_logprobs,
                     a->n_token_logprobs * sizeof *a->token_logprobs);
    assert_same_bits(&a->reward, &b->reward, sizeof a->reward);
    assert_same_bits(&a->cost, &b->cost, sizeof a->cost);
    assert_same_bits(&a->safety_state, &b->safety_state, sizeof a->safety_state);
    assert_int_equal(a->tokens_sampled, b->tokens_sampled);
    assert_int_equal(a->tokens_after_choice, b->tokens_after_choice);
    assert_int_equal(a->n_channels, b->n_channels);
    for (size_t i = 0; i < a->n_channels; i++) {
        assert_string_equal(a->channels[i]->name, b->channels[i]->name);
        assert_same_bits(&a->channels[i]->cost, &b->channels[i]->cost, sizeof(double));
        assert_same_bits(&a->channels[i]->safety_state, &b->channels[i]->safety_state,
                         sizeof(double));
    }
    assert_int_equal(a->n_candidates, b->n_candidates);
    for (size_t i = 0; i < a->n_candidates; i++) {
        const Surefoot__CandidateSummary *x = a->candidates[i];
        const Surefoot__CandidateSummary *y = b->candidates[i];
        assert_int_equal(x->candidate_id, y->candidate_id);
        assert_int_equal(x->n_tokens, y->n_tokens);
        assert_same_bits(&x->reward, &y->reward, sizeof x->reward);
        assert_same_bits(&x->cost, &y->cost, sizeof x->cost);
        assert_string_equal(x->fate, y->fate);
    }
    assert_int_equal(a->n_scorers, b->n_scorers);
    for (size_t i = 0; i < a->n_scorers; i++) {
        assert_int_equal(a->scorers[i]->n_token_scores, b->scorers[i]->n_token_scores);
        assert_same_bits(a->scorers[i]->token_scores, b->scorers[i]->token_scores,
                         a->scorers[i]->n_token_scores * sizeof(float));
    }
}

// All specs at once, beside `n_neighbours` other jobs that were submitted before them.
static void run_specs(struct service *service, struct spec_set *specs, int n_neighbours,
                      struct result_set *out) {
    struct error err;
    char neighbour_keys[N_NEIGHBOURS][SUREFOOT_KEY_BYTES];
    for (int i = 0; i < n_neighbours; i++) {
        Surefoot__JobSpec spec;
        char *prompt = service_prompt(10 + i);
        set_spec(&spec, prompt, i % 2 ? "best-of-n" : "inference-guard", NULL);
        spec.n = (uint32_t)(5 + i);
        spec.seed = (uint64_t)i;
        const struct surefoot_submit args = {.spec = &spec, .timeout_ms = SERVICE_WAIT_MS};
        assert_ok(surefoot_submit(service->client, &args, neighbour_keys[i], NULL, &err), &err);
        free(prompt);
    }
    char keys[N_SPECS][SUREFOOT_KEY_BYTES];
    for (int i = 0; i < N_SPECS; i++) {
        const struct surefoot_submit args = {.spec = &specs->specs[i],
                                             .timeout_ms = SERVICE_WAIT_MS};
        assert_ok(surefoot_submit(service->client, &args, keys[i], NULL, &err), &err);
    }
    for (int i = 0; i < N_SPECS; i++) {
        assert_ok(surefoot_fetch(service->client, keys[i], SERVICE_WAIT_MS, SERVICE_WAIT_MS,
                                 &out->results[i], &err),
                  &err);
        assert_non_null(out->results[i]);
    }
    for (int i = 0; i < n_neighbours; i++) {
        assert_ok(surefoot_cancel(service->client, neighbour_keys[i], SERVICE_WAIT_MS, &err), &err);
    }
}

struct layout {
    const char *name;
    struct service_options options;
    int n_neighbours;
};

static const struct layout layouts[] = {
    {"1 group of 2 ranks (threads)", {.n_groups = 1, .n_ranks = 2}, 0},
    {"1 group of 3 ranks (threads)", {.n_groups = 1, .n_ranks = 3}, 0},
    {"2 groups of 1 rank, small KV, beside others",
     {.n_groups = 2, .n_ranks = 1, .slots = 8, .kv_tokens = 1536},
     N_NEIGHBOURS},
    {"1 group of 2 ranks (MPI), beside others",
     {.n_groups = 1, .n_ranks = 2, .mpi = true},
     N_NEIGHBOURS},
};

static bool draws_until(const Surefoot__JobSpec *spec) {
    return strcmp(spec->method, "rejection") == 0 || strcmp(spec->method, "cards") == 0;
}

static void test_layout_and_neighbours_change_nothing(void **state) {
    (void)state;
    struct spec_set specs;
    make_specs(&specs, 3);
    struct result_set reference;
    struct service service;
    service_start(&service, &(struct service_options){.n_groups = 1, .n_ranks = 1});
    run_specs(&service, &specs, 0, &reference);
    service_stop(&service);
    // Every method did its work: candidates were made, fewer by those that draw until they have
    // one, and the tight budget fired the fallback.
    for (int i = 1; i < N_SPECS; i++) {
        assert_true(reference.results[i]->n_candidates >=
                    (draws_until(&specs.specs[i]) ? 8 : N_CANDIDATES));
    }
    assert_true(reference.results[8]->fallback_fired);
    for (size_t i = 0; i < sizeof layouts / sizeof layouts[0]; i++) {
        print_message("layout: %s\n", layouts[i].name);
        struct result_set results;
        service_start(&service, &layouts[i].options);
        run_specs(&service, &specs, layouts[i].n_neighbours, &results);
        service_stop(&service);
        for (int s = 0; s < N_SPECS; s++) {
            assert_same_result(reference.results[s], results.results[s]);
        }
        free_results(&results);
    }
    free_results(&reference);
    free(specs.prompt);
}

int main(void) {
    if (!service_is_possible()) {
        return TESTKIT_SKIP;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layout_and_neighbours_change_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
