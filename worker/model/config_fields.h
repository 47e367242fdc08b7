// Which fields of config.json are known: those that are followed (or refused) where they are read,
// and those that change nothing here. Any other field may change what the model computes, and is
// refused by name. Any thread; no state.
#ifndef WORKER_MODEL_CONFIG_FIELDS_H
#define WORKER_MODEL_CONFIG_FIELDS_H

#include <jansson.h>

#include "common/status.h"

// `ignored`: array of names that the profile's ignore_fields lists, or NULL. A field that is null,
// false, 0 or empty says nothing and passes. STATUS_UNSUPPORTED names the first unknown one, and
// one in `ignored` that is followed: it cannot be ignored.
MUST_CHECK enum status config_fields_check(const json_t *config, const json_t *ignored,
                                           struct error *err);

#endif
