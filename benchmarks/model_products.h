// The products of a forward pass with nothing between them: what the rest of a decoder can at most
// leave them.
#ifndef BENCHMARKS_MODEL_PRODUCTS_H
#define BENCHMARKS_MODEL_PRODUCTS_H

#include "worker/model/model.h"

struct model_products;

// Rows for products with a language model's matrices; the model is borrowed. STATUS_NO_MEMORY.
MUST_CHECK enum status model_products_create(const struct model *model, int32_t n_rows,
                                             struct model_products **out, struct error *err);
void model_products_destroy(struct model_products *products); // NULL allowed

// Seconds that one pass of the rows over all matrices takes, head included; weights come from
// memory as far as they do not fit into caches.
double model_products_pass(struct model_products *products);

#endif
