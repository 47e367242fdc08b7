// certify FILE: from answers that are made first, of every setting to the same prompts, in an order
// that no result decides, that of the hashes of their ids. An interrupted run goes on.
#ifndef CLIENT_CLI_CERTIFY_LIVE_H
#define CLIENT_CLI_CERTIFY_LIVE_H

#include "client/cli/certify_findings.h"
#include "client/cli/certify_grid.h"
#include "client/cli/study.h"

struct certify_live {
    struct cli *cli;               // all but what is owned is borrowed
    const char *path;              // the prompts
    const struct flag_list *grids; // settings
    const struct session_flags *session;
    const struct service_flags *service;
    const struct batch_flags *flags;
    struct job_flags *job;
    struct certify_findings *found;
    struct study study;              // owned; its outfile.fd is -1 at first
    struct certify_grid grid;        // owned
    size_t taken[STUDY_METHODS_MAX]; // answers that count for a setting of the study
};

// Answers and decides. Errors of study_open(), session_open(), study_answer() and certify_decide();
// STATUS_INVALID_ARGUMENT: flags without effect. Release with certify_live_finish(), on failure
// too.
MUST_CHECK enum status certify_live(struct certify_live *live, struct error *err);
void certify_live_finish(struct certify_live *live);

#endif
