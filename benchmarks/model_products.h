// The products of a forward pass with nothing between them: what the rest of a decoder can at most
// leave them.
#ifndef BENCHMARKS_MODEL_PRODUCTS_H
#define BENCHMARKS_MODEL_PRODUCTS_H

#include "worker/model/model.h"

// Median seconds that one pass of n_rows rows over all matrices of a language model takes, head
// included; weights come from memory as far as they do not fit into caches. STATUS_NO_MEMORY.
MUST_CHECK enum status model_products_measure(const struct model *model, int32_t n_rows,
                                              double *seconds, struct error *err);

#endif
