// Finds where a prefix of the order (logit descending, id ascending) ends, without sorting: a list
// is split at pivots until few entries are left, and only those are sorted.
#ifndef WORKER_DECODE_SAMPLING_SELECT_H
#define WORKER_DECODE_SAMPLING_SELECT_H

#include <stddef.h>

#include "worker/decode/sampling_kernels.h"

struct sampling_selection {
    const struct sampling_kernels *kernels;
    struct sampling_list spare[2]; // as large as the list
    float *sums;                   // [ceil(n / SAMPLING_BLOCK)]
};

// The shortest prefix of `list` whose weights reach `target` > 0; at least one entry, the whole
// list when rounding keeps its sum just under the target. list->n > 0; all logits are in [from,
// largest].
struct sampling_cut sampling_select_prefix(struct sampling_selection *selection,
                                           const struct sampling_list *list, double target,
                                           float from, float largest);

// Sum of the weights of the entries with a logit >= from.
double sampling_select_mass(struct sampling_selection *selection, const struct sampling_list *list,
                            float from);

// Drops the entries outside the cut.
void sampling_select_keep(struct sampling_list *list, struct sampling_cut cut);

#endif
