// What config.json and surefoot.json say about a model's head: a classifier's labels, safe-rlhf's
// score head, TRL's value head. Part of config.c, apart for its size.
#ifndef WORKER_MODEL_CONFIG_HEAD_H
#define WORKER_MODEL_CONFIG_HEAD_H

#include <jansson.h>

#include "worker/model/config.h"

// Completes the head that the class names. Errors name a field of config.json.
MUST_CHECK enum status config_head_read(const json_t *json, struct model_config *config,
                                        struct error *err);

// What the profile says about it, a role that it cannot have among that; `profile` NULL: there is
// none. Errors name a field of surefoot.json, but for labels that nobody chose between
// (num_labels).
MUST_CHECK enum status config_head_choose(const json_t *json, const json_t *profile,
                                          struct model_config *config, struct error *err);

#endif
