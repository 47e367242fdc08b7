// The weight files of a random model: which tensors its shape has, their places in one or several
// safetensors files, and their values. Part of random_model.c.
#ifndef BENCHMARKS_RANDOM_WEIGHTS_H
#define BENCHMARKS_RANDOM_WEIGHTS_H

#include "benchmarks/random_model.h"

// Writes model.safetensors, or shards and model.safetensors.index.json, over what is there. The
// options must have been checked. Errors as random_model_write.
MUST_CHECK enum status random_weights_write(const char *directory,
                                            const struct random_model_options *options,
                                            struct error *err);

#endif
