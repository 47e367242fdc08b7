// The memory of a worker follows the plan that it printed at load, and many candidates of a long
// prompt hold its keys and values once.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/service.h"
#include "tests/support/testkit.h"

// 256 candidates of a 512-token prompt fit these KV tokens only if the prompt is held once: apart
// they would need 256 * 512 tokens for the prompts alone.
enum { N_CANDIDATES = 256, PROMPT_TOKENS = 512, NEW_TOKENS = 48, KV_TOKENS = 24576 };
_Static_assert(N_CANDIDATES *PROMPT_TOKENS > 4 * KV_TOKENS, "the prompt must not fit unshared");

static const double mib = 1 << 20;

// Sum of the "plan: total" line of a worker's log, in bytes.
static double read_plan(const char *log_path) {
    size_t size;
    char *text = testkit_read_file(log_path, &size);
    double weights, kv, scratch;
    char *line = strstr(text, "plan: total");
    assert_non_null(line);
    assert_int_equal(sscanf(line, "plan: total weights %lf MiB, KV %lf MiB, scratch %lf MiB",
                            &weights, &kv, &scratch),
                     3);
    free(text);
    return (weights + kv + scratch) * mib;
}

// A field of /proc/<pid>/status that is given in KiB, in bytes.
static double read_memory(pid_t pid, const char *field) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    char line[256];
    double kib = -1.0;
    while (fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, field, strlen(field)) == 0) {
            kib = strtod(line + strlen(field) + 1, NULL);
        }
    }
    fclose(file);
    assert_true(kib >= 0.0);
    return kib * 1024.0;
}

// The shipped prompt's words over and over, about `n_tokens` tokens long.
static char *long_prompt(int n_tokens) {
    static const char words[] = " dog park run tree"; // one token each
    char *prompt = calloc(1, (size_t)n_tokens * sizeof words);
    assert_non_null(prompt);
    for (int i = 0; i < n_tokens / 4; i++) {
        strcat(prompt, words);
    }
    return prompt;
}

static void test_memory_follows_the_plan(void **state) {
    (void)state;
    struct service service;
    service_start(&service,
                  &(struct service_options){
                      .n_groups = 1, .n_ranks = 1, .slots = N_CANDIDATES, .kv_tokens = KV_TOKENS});
    double plan = read_plan(service.groups[0].log_path);
    char *prompt = long_prompt(PROMPT_TOKENS);
    Surefoot__JobSpec spec;
    surefoot__job_spec__init(&spec);
    spec.prompt = prompt;
    spec.method = "best-of-n";
    spec.selection = "plain";
    spec.has_n = 1;
    spec.n = N_CANDIDATES;
    spec.has_max_tokens = 1;
    spec.max_tokens = NEW_TOKENS;
    spec.has_block_tokens = 1;
    spec.block_tokens = 16;
    Surefoot__JobResult *result = service_run(&service, &spec);
    if (result->error != NULL) {
        print_message("%s: %s\n", result->error->field, result->error->message);
    }
    assert_int_equal(result->outcome, SUREFOOT__OUTCOME__OUTCOME_COMPLETED);
    assert_int_equal(result->n_candidates, N_CANDIDATES);
    assert_in_range(result->prompt_tokens, PROMPT_TOKENS, PROMPT_TOKENS + 64);
    // The program and its libraries, which are not in the plan, have to fit into the tenth as well.
    double peak = read_memory(service.groups[0].pid, "VmHWM:");
    print_message("plan %.1f MiB, peak resident %.1f MiB\n", plan / mib, peak / mib);
    assert_true(peak < 1.1 * plan);
    assert_true(peak > 0.9 * plan);
    surefoot_result_free(result);
    service_stop(&service);
    free(prompt);
}

int main(void) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    print_message("skipped: sanitizers take memory of their own\n");
    return TESTKIT_SKIP;
#endif
    if (!service_is_possible()) {
        return TESTKIT_SKIP;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory_follows_the_plan),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
