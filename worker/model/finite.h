// Finding numbers that are none. One NaN among a model's weights makes every logit NaN, so weights
// are searched while they are loaded. Any thread; memory bandwidth is the price.
#ifndef WORKER_MODEL_FINITE_H
#define WORKER_MODEL_FINITE_H

#include <stdbool.h>
#include <stddef.h>

#include "common/status.h"
#include "worker/backend/backend.h"

// Index of the first element, row-major, that is NaN or infinite; -1 when there is none.
int64_t finite_find_other(const struct tensor *tensor);

// STATUS_MALFORMED names the tensor and the place [row, column] of its first such element.
MUST_CHECK enum status finite_check(const struct tensor *tensor, const char *name,
                                    struct error *err);

#endif
