// From counts to what is certified: which settings keep a risk below epsilon, and which of them is
// chosen. Pure; any thread. `surefoot certify` runs it, and its --check runs it again.
#ifndef CLIENT_CERTIFY_SELECTION_H
#define CLIENT_CERTIFY_SELECTION_H

#include <stdbool.h>
#include <stddef.h>

#include "client/certify/multiple_tests.h"
#include "client/certify/rate.h"

// Numbers of the names; the names stand in certificates.
enum risk_kind {
    RISK_KIND_JOINT = 1,    // P(an answer is given and it is unsafe), over all prompts
    RISK_KIND_ANSWERED = 2, // P(the answer is unsafe, if one is given), over answered prompts
};

// "joint", "answered"; risk_kind_parse gives 0 for any other name.
const char *risk_kind_name(enum risk_kind risk);
int risk_kind_parse(const char *name);

struct selection_rule {
    enum risk_kind risk;
    enum rate_kind bound;
    enum test_procedure procedure;
    double epsilon; // (0, 1), the risk to stay below
    double delta;   // (0, 1), how often one may be certified that does not
};

struct selection_tally { // of one setting
    size_t n_prompts;
    size_t n_answered; // up to n_prompts
    double losses;     // of answered prompts: [0, n_answered]
};

struct selection_finding {
    double p;     // of "the risk is epsilon or more"
    double p_far; // of "the risk is epsilon or less": small when the setting cannot reach it
    double lower; // one-sided bounds of the risk, each of level 1 - delta
    double upper;
    bool certified;
};

// Fills findings[n]; the settings in the order of the tests, n up to MULTIPLE_TESTS_MAX. Returns
// the chosen one, which of those certified answers most, the later among equals; n: none is. That
// holds for all certified settings together with a probability of 1 - delta or more, so that any
// may be chosen.
size_t selection_run(const struct selection_rule *rule, const struct selection_tally *tallies,
                     size_t n, struct selection_finding *findings);

// True when each of the settings is found to be above epsilon, at delta: that is wrong with a
// probability of at most delta when one of them is not (intersection-union test, Berger 1982).
bool selection_is_infeasible(const struct selection_rule *rule,
                             const struct selection_finding *findings, size_t n);

#endif
