// sample, best-of-n and re-control: N candidates that know nothing of each other, each grown block
// by block until it ends; what re-control does besides is the groups' work. Under the augmented
// rule a candidate that can no longer become admissible is stopped early (early_stop): the answer
// is the same without it, only later.
#include "coordinator/search/search_internal.h"

static enum status start(struct search *search) {
    for (uint32_t i = 0; i < search->spec.n; i++) {
        struct candidate *candidate;
        enum status status = search_add_candidate(search, NULL, &candidate);
        if (status != STATUS_OK) {
            return status;
        }
    }
    return STATUS_OK;
}

static enum status on_grown(struct search *search, struct candidate *candidate) {
    if (candidate->finish != SEARCH_FINISH_NONE) {
        return search_finish_candidate(search, candidate);
    }
    if (search->spec.early_stop && search->spec.selection == SEARCH_SELECTION_AUGMENTED &&
        candidate->safety.certain_loss) {
        return search_drop_candidate(search, candidate, CANDIDATE_FATE_PRUNED_SOUND);
    }
    return search_mark_ready(search, candidate);
}

static uint64_t candidates_bound(const struct search_spec *spec) {
    return spec->n;
}

const struct search_method_ops search_sample_ops = {
    .candidates_bound = candidates_bound,
    .start = start,
    .on_grown = on_grown,
    .choosing_rule = "the one sample",
};

const struct search_method_ops search_best_of_n_ops = {
    .candidates_bound = candidates_bound,
    .start = start,
    .on_grown = on_grown,
};

const struct search_method_ops search_re_control_ops = {
    .candidates_bound = candidates_bound,
    .start = start,
    .on_grown = on_grown,
};
