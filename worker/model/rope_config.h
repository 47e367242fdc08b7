// What config.json says about rotary position embedding: rope_scaling, or the newer
// rope_parameters, with rope_theta, partial_rotary_factor and original_max_position_embeddings
// inside or beside it. Any thread; no state.
#ifndef WORKER_MODEL_ROPE_CONFIG_H
#define WORKER_MODEL_ROPE_CONFIG_H

#include <jansson.h>

#include "common/status.h"
#include "worker/model/config.h"

// Fills config->rope; architecture, head_dim and context_length are read already. Every key inside
// is followed, known to mean nothing, or refused by name.
MUST_CHECK enum status rope_config_read(const json_t *json, struct model_config *config,
                                        struct error *err);

#endif
