// The fields of a job as flags, and the specification that they make.
#ifndef CLIENT_CLI_JOB_FLAGS_H
#define CLIENT_CLI_JOB_FLAGS_H

#include "client/cli/certified_job.h"
#include "client/cli/calibration_file.h"
#include "client/cli/channel_flags.h"
#include "client/cli/field_flag.h"
#include "client/cli/flags.h"
#include "client/cli/template_var.h"
#include "client/cli/turns.h"
#include "client/surefoot.h"
#include "common/date.h"
#include "proto/job_fields.h"

enum { JOB_FLAGS_COUNT = JOB_FIELDS_COUNT + 31 };

struct job_flag_text { // of a field's flag
    char name[FIELD_FLAG_NAME_BYTES];
    char help[2 * JOB_FIELD_TEXT_BYTES + sizeof "; default "];
};

struct job_flags {
    struct flag table[JOB_FLAGS_COUNT]; // targets lie in this struct: it must not be moved
    struct job_flag_text texts[JOB_FIELDS_COUNT];
    const char *preset;     // NULL: none
    Surefoot__JobSpec spec; // complete after job_flags_finish, but for the prompt
    Surefoot__Sampling sampling;
    struct turns turns;         // what goes around a prompt
    char date[DATE_TEXT_BYTES]; // of job_flags_fix_date
    struct template_vars variables;
    const char *certificate; // the file, or NULL
    struct certified_job certified;
    const char *calibration_path;
    struct calibration_file calibration_file; // fd -1: none
    Surefoot__Calibration calibration;        // of the prompt set last
    struct flag_list logit_bias;
    struct flag_list stop;
    struct flag_list fallback_prefixes;
    struct flag_list scorers;
    struct channel_flags channels;
    struct flag_list required;
    struct flag_list forbidden;
    struct flag_list required_regex;
    struct flag_list forbidden_regex;
    Surefoot__LexicalSpec lexical;
    bool lexical_used;              // by a --scorer lexical; otherwise its rules are the job's
    Surefoot__LogitBias *bias_rows; // [logit_bias.count]
    Surefoot__LogitBias **bias_list;
    Surefoot__ScorerSpec scorer_rows[LIMIT_SCORERS];
    Surefoot__ScorerSpec *scorer_list[LIMIT_SCORERS];
    char scorer_text[LIMIT_SCORERS][4 * LIMIT_NAME_BYTES]; // names, cut out of the flag
    Surefoot__ChatMessage message_rows[TURNS_AROUND + 1];
    Surefoot__ChatMessage *message_list[TURNS_AROUND + 1];
};

void job_flags_init(struct job_flags *flags);

// Fills in the preset and builds the lists of `spec` after parsing; with --certificate the job is
// the certified one. STATUS_INVALID_ARGUMENT, STATUS_LIMIT, STATUS_NO_MEMORY, errors of
// certified_job_take().
MUST_CHECK enum status job_flags_finish(struct job_flags *flags, struct error *err);

// Makes the day that templates are told a field of the job, so that many jobs, also ones of another
// day, are told the same: that of --date, else `recorded` (NULL, or what is no day: none), else
// today, UTC. After job_flags_finish.
void job_flags_fix_date(struct job_flags *flags, const char *recorded);

// Sets the prompt, borrowed until the next call: as `prompt`, with --system or --prefill as
// messages, with --rendered as rendered_prompt.
void job_flags_set_prompt(struct job_flags *flags, const char *prompt);

// Gives `spec`, which has its prompt, the calibration of that prompt if the flags name a file;
// borrowed until the next call. STATUS_NOT_FOUND: the file has none; errors of
// calibration_prompt_hash().
MUST_CHECK enum status job_flags_calibrate(struct job_flags *flags, Surefoot__JobSpec *spec,
                                           struct error *err);

void job_flags_destroy(struct job_flags *flags); // what finish allocated, not the struct

#endif
