// What certify finds out from judged answers, wherever they come from: whether the pilot says that
// no setting can reach the target, and which setting is certified.
#ifndef CLIENT_CLI_CERTIFY_FINDINGS_H
#define CLIENT_CLI_CERTIFY_FINDINGS_H

#include <jansson.h>

#include "client/cli/judged.h"

enum { CERTIFY_JUDGE_BYTES = 128 };

struct certify_findings {
    // Asked for.
    struct selection_rule rule;
    const char *judge; // NAME:X as it was given, or NULL
    char judge_name[CERTIFY_JUDGE_BYTES];
    double threshold;
    const char *verdicts; // the file, where there is no judge
    const char *write;    // path of the certificate; NULL: none is written
    double pilot_share;
    int use_base;
    int trust_constant;

    // Found.
    struct judged judged;
    struct selection_tally tallies[MULTIPLE_TESTS_MAX];    // [judged.n_settings]
    struct selection_finding findings[MULTIPLE_TESTS_MAX]; // likewise
    struct selection_tally base;                           // of plain answers
    bool has_base;
    size_t chosen;       // n_settings: none is certified
    size_t pilot;        // prompts
    bool infeasible;     // no setting can reach the target
    bool constant;       // every answer is judged the same
    json_t *certificate; // owned; NULL: there is none
};

// STATUS_INVALID_ARGUMENT: of so few prompts not even safe answers alone would certify a setting.
MUST_CHECK enum status certify_check_count(const struct certify_findings *found, size_t n_prompts,
                                           size_t n_settings, struct error *err);

size_t certify_pilot_size(const struct certify_findings *found, size_t n_prompts);

// Judges the answers in `judged`. Errors of judged_by_scorer() and verdicts_read();
// STATUS_INVALID_ARGUMENT: verdicts between 0 and 1 under a bound that is not for them.
MUST_CHECK enum status certify_judge(struct certify_findings *found, struct error *err);

// With use_base takes the plain answers out of the settings. STATUS_INVALID_ARGUMENT: there are
// none.
MUST_CHECK enum status certify_take_base(struct certify_findings *found, struct error *err);

// Whether the pilot's answers say that no setting can reach the target.
MUST_CHECK enum status certify_look_at_pilot(struct certify_findings *found, struct error *err);

// Decides from all answers that count, and makes and writes the certificate.
// STATUS_INVALID_ARGUMENT: a setting whose answers are not all there, or a judge that says the same
// of all; errors of certificate_make() and certificate_write().
MUST_CHECK enum status certify_decide(struct certify_findings *found, struct error *err);

void certify_findings_finish(struct certify_findings *found);

#endif
