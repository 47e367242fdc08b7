// The result of a job: the last check of the answer against the budget, and the JobResult message
// with everything that justifies it. Part of job, apart for its size.
#ifndef COORDINATOR_JOB_RESULT_H
#define COORDINATOR_JOB_RESULT_H

#include "coordinator/job.h"

// Candidates that a result describes; of more, the finished ones first.
enum { RESULT_CANDIDATES_MAX = 4096 };

// Derives the chosen candidate's safety state anew from the scores as they came. STATUS_INTERNAL:
// it is not what the search says, or over budget under a method with a safety rule; the text must
// not go out.
MUST_CHECK enum status job_check_answer(const struct job *job, const struct search_answer *answer,
                                        struct error *err);

struct job_ending {
    Surefoot__Outcome outcome;
    const struct error *why;        // REJECTED, FAILED; else NULL
    const struct model_set *models; // NULL unknown
};

// Packs the JobResult; returns owned bytes, free(). Text stands in it for COMPLETED only.
MUST_CHECK enum status job_result_pack(const struct job *job, const struct job_ending *ending,
                                       uint8_t **bytes, size_t *size);

#endif
