// The registry of methods: a row each.
#include "coordinator/search/search_internal.h"

static const struct search_method_ops *const methods[] = {
    [SEARCH_METHOD_SAMPLE] = &search_sample_ops,
    [SEARCH_METHOD_BEST_OF_N] = &search_best_of_n_ops,
    [SEARCH_METHOD_BEAM] = &search_beam_ops,
    [SEARCH_METHOD_INFERENCE_GUARD] = &search_inference_guard_ops,
    [SEARCH_METHOD_REJECTION] = &search_rejection_ops,
    [SEARCH_METHOD_SPECULATIVE_REJECTION] = &search_speculative_rejection_ops,
    [SEARCH_METHOD_CARDS] = &search_cards_ops,
    [SEARCH_METHOD_ARGS] = &search_args_ops,
    [SEARCH_METHOD_RE_CONTROL] = &search_re_control_ops,
};

const struct search_method_ops *search_method_find(enum search_method method) {
    ASSERT((size_t)method < sizeof methods / sizeof methods[0] && methods[method] != NULL);
    return methods[method];
}
