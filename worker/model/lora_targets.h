// Which modules of its base an adapter changes, as adapter_config.json says: target_modules,
// exclude_modules, modules_to_save, layers_to_transform and layers_pattern, as PEFT reads them
// (check_target_module_exists of peft/tuners/tuners_utils.py). What is a regular expression there
// is refused. Any thread.
#ifndef WORKER_MODEL_LORA_TARGETS_H
#define WORKER_MODEL_LORA_TARGETS_H

#include <jansson.h>
#include <stdbool.h>

#include "common/status.h"

// Whether the fields can be followed. Errors name the field: MALFORMED, of a wrong type, absent
// targets among it; UNSUPPORTED, a regular expression.
MUST_CHECK enum status lora_targets_check(const json_t *config, struct error *err);

// Whether the adapter changes `module`, a name without ".weight". `config` has passed the check.
bool lora_targets_have(const json_t *config, const char *module);

// Whether `modules_to_save` names the module: PEFT trains it whole.
bool lora_targets_save(const json_t *config, const char *module);

#endif
