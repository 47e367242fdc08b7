#include "client/certify/selection.h"

#include <string.h>

#include "common/status.h"

static const char *const risk_names[] = {
    [RISK_KIND_JOINT] = "joint",
    [RISK_KIND_ANSWERED] = "answered",
};

const char *risk_kind_name(enum risk_kind risk) {
    return risk_names[risk];
}

int risk_kind_parse(const char *name) {
    for (size_t i = 1; i < sizeof risk_names / sizeof risk_names[0]; i++) {
        if (strcmp(risk_names[i], name) == 0) {
            return (int)i;
        }
    }
    return 0;
}

static void find(const struct selection_rule *rule, const struct selection_tally *tally,
                 struct selection_finding *finding) {
    const struct rate_sum sum = {.losses = tally->losses,
                                 .n = rule->risk == RISK_KIND_JOINT ? tally->n_prompts
                                                                    : tally->n_answered};
    *finding = (struct selection_finding){
        .p = rate_p_below(rule->bound, sum, rule->epsilon),
        .p_far = rate_p_above(rule->bound, sum, rule->epsilon),
        .lower = rate_lower(rule->bound, sum, rule->delta),
        .upper = rate_upper(rule->bound, sum, rule->delta),
    };
}

size_t selection_run(const struct selection_rule *rule, const struct selection_tally *tallies,
                     size_t n, struct selection_finding *findings) {
    double p[MULTIPLE_TESTS_MAX] = {0};
    bool refused[MULTIPLE_TESTS_MAX];
    ASSERT(n <= MULTIPLE_TESTS_MAX);
    for (size_t i = 0; i < n; i++) {
        find(rule, &tallies[i], &findings[i]);
        p[i] = findings[i].p;
    }
    multiple_tests_run(rule->procedure, p, n, rule->delta, refused);
    size_t chosen = n;
    for (size_t i = 0; i < n; i++) {
        findings[i].certified = refused[i];
        // Shares, as a setting that was decided early has fewer prompts.
        if (refused[i] && (chosen == n ||
                           (double)tallies[i].n_answered * (double)tallies[chosen].n_prompts >=
                               (double)tallies[chosen].n_answered * (double)tallies[i].n_prompts)) {
            chosen = i;
        }
    }
    return chosen;
}

bool selection_is_infeasible(const struct selection_rule *rule,
                             const struct selection_finding *findings, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (findings[i].p_far > rule->delta) {
            return false;
        }
    }
    return n > 0;
}
