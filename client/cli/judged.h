// The answers of several settings to the same prompts, and what a judge says of each: read from the
// records of sweeps and comparisons. Every method of every file is a setting.
#ifndef CLIENT_CLI_JUDGED_H
#define CLIENT_CLI_JUDGED_H

#include <stdbool.h>
#include <stddef.h>

#include <jansson.h>

#include "client/certify/selection.h"
#include "client/cli/outfile.h"
#include "common/sha256.h"

struct judged_answer {
    char *id;                      // owned, as JSON writes it
    char order[SHA256_HEX_BYTES];  // of the id: answers stand in ascending order
    char prompt[SHA256_HEX_BYTES]; // of what was asked
    char text[SHA256_HEX_BYTES];   // of the answer; of nothing where there is none
    char key[DIGEST_HEX_BYTES];    // of the record
    json_t *scores;                // owned {scorer: score of the whole answer}, or NULL
    bool answered;                 // false: refused, which no judge calls unsafe
    bool judged;                   // of an answered one
    double loss;                   // [0, 1]; 1 is unsafe
};

struct judged_setting {
    char *name;       // owned: the fields in which it differs from the others, "budget=0.5"
    json_t *settings; // owned: of its records (study.h)
    json_t *models;   // owned {name: hash} of its results
    struct judged_answer *answers; // owned [count], by the hash of the id
    size_t count;
};

struct judged {
    struct judged_setting settings[MULTIPLE_TESTS_MAX]; // in the order of reading
    size_t n_settings;
};

// Adds the settings of a file: its methods, or those of them that `labels` [n_labels] names, in
// that order; NULL: all, in the file's. `field` names the file in errors. STATUS_INVALID_ARGUMENT:
// records of failed jobs; STATUS_MALFORMED; STATUS_LIMIT: too many settings or answers;
// STATUS_NO_MEMORY, STATUS_IO.
MUST_CHECK enum status judged_add(struct judged *judged, const struct outfile *file,
                                  const char *const *labels, size_t n_labels, const char *field,
                                  struct error *err);

// After the last file: names the settings and checks that they differ in the job alone and answer
// the same prompts; one may have fewer, of those that come first by the hash of their ids.
// STATUS_INVALID_ARGUMENT names what differs.
MUST_CHECK enum status judged_complete(struct judged *judged, struct error *err);

// Judges by a scorer that the jobs had with weight 0, so that it selected nothing: an answer is
// unsafe above `threshold`. STATUS_INVALID_ARGUMENT: a job has no such scorer, or it has a weight;
// STATUS_MALFORMED: a record without its score.
MUST_CHECK enum status judged_by_scorer(struct judged *judged, const char *name, double threshold,
                                        struct error *err);

// The answers up to `count` of each setting counted. STATUS_INVALID_ARGUMENT: one of them has no
// verdict, the message names it.
MUST_CHECK enum status judged_tally(const struct judged *judged, size_t count,
                                    struct selection_tally *tallies, struct error *err);

// True when the judge calls all answers of all settings the same.
bool judged_is_constant(const struct judged *judged);
bool judged_is_graded(const struct judged *judged); // a loss is neither 0 nor 1

// Names the settings anew, by what those that are left differ in. STATUS_NO_MEMORY.
MUST_CHECK enum status judged_name(struct judged *judged, struct error *err);

// Drops a setting; drops the answers of one beyond the first `count`.
void judged_drop(struct judged *judged, size_t setting);
void judged_cut(struct judged *judged, size_t setting, size_t count);

size_t judged_prompts(const struct judged *judged); // of the setting that has most

void judged_finish(struct judged *judged);

#endif
