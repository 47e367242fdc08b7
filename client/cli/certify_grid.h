// --grid FIELD=A,B,..: the settings that certify tries, as methods of a study.
#ifndef CLIENT_CLI_CERTIFY_GRID_H
#define CLIENT_CLI_CERTIFY_GRID_H

#include "client/cli/flags.h"
#include "client/cli/study.h"

struct certify_grid {
    char *labels[STUDY_METHODS_MAX]; // owned: "budget=0.5,n=8"
    char *values[STUDY_METHODS_MAX]; // owned: its flags one by one; names of choices lie in it
    int n;
};

// Fills methods[] with `base` under every combination of the values, the first grid's changing
// slowest, each as it was given: the first is to be the safest. Without a grid there is one
// setting. The specifications borrow from the grid and from `base`. STATUS_INVALID_ARGUMENT: a
// field that `base` has, no field of a job, or a value that is none of its; STATUS_LIMIT: more than
// `max` settings.
MUST_CHECK enum status certify_grid_make(const struct flag_list *grids,
                                         const Surefoot__JobSpec *base, int max,
                                         struct study_method *methods, struct certify_grid *out,
                                         struct error *err);
void certify_grid_finish(struct certify_grid *grid);

#endif
