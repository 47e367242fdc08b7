// What `surefoot certify` prints: a row a setting, or one JSON object.
#ifndef CLIENT_CLI_CERTIFY_REPORT_H
#define CLIENT_CLI_CERTIFY_REPORT_H

#include <stdio.h>

#include <jansson.h>

#include "client/cli/judged.h"

// What was found out; all borrowed.
struct certify_report {
    const struct judged *judged;
    const struct selection_rule *rule;
    const struct selection_tally *tallies;    // [n_settings]
    const struct selection_finding *findings; // [n_settings]
    const struct selection_tally *base;       // of plain answers, or NULL
    size_t chosen;                            // n_settings: none is certified
    bool infeasible;                          // no setting can reach the target
    size_t pilot;                             // prompts that this was told from; 0: from all
    const json_t *certificate;                // NULL: there is none
    const char *path;                         // of the certificate, or NULL
};

MUST_CHECK enum status certify_report_print(const struct certify_report *report, bool json,
                                            FILE *out);

// What a certificate that was read and computed again says.
MUST_CHECK enum status certify_report_checked(const json_t *certificate, bool json, FILE *out);

#endif
