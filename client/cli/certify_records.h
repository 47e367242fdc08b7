// certify --records: from answers that are there, of sweeps and comparisons that have ended.
#ifndef CLIENT_CLI_CERTIFY_RECORDS_H
#define CLIENT_CLI_CERTIFY_RECORDS_H

#include "client/cli/certify_findings.h"
#include "client/cli/flags.h"

// Reads the files and decides. `asked`: how many prompts the sweeps were of, NULL: not given, which
// is refused. Errors of outfile_open(), judged_add() and certify_decide(), named by --records.
MUST_CHECK enum status certify_records(struct certify_findings *found,
                                       const struct flag_list *records, const uint32_t *asked,
                                       struct error *err);

#endif
