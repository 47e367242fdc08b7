// What generation_config.json says about sampling; config.json's fields of the same names where
// there is no such file, as transformers and vLLM take them. Any thread; no state.
#ifndef WORKER_MODEL_GENERATION_H
#define WORKER_MODEL_GENERATION_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/status.h"

// Only what the file states: its absent fields have no default here.
struct model_generation {
    bool has_do_sample, has_temperature, has_top_k, has_top_p, has_repetition_penalty,
        has_max_new_tokens;
    bool do_sample;            // false: one answer is drawn greedily
    double temperature;        // [0, 100]
    int32_t top_k;             // 0 is off
    double top_p;              // (0, 1]
    double repetition_penalty; // (0, 100]
    int32_t max_new_tokens;    // > 0
};

// Reads one of the two files. In generation_config.json (`whole`) every field must be known; in
// config.json others are not looked at. STATUS_UNSUPPORTED names a field whose value changes what
// is drawn in a way that is not supported, or that is unknown; not those that `ignored` lists
// (array of names or NULL).
MUST_CHECK enum status generation_read(const json_t *json, bool whole, const json_t *ignored,
                                       struct model_generation *out, struct error *err);

// Whether `name` is a field of generation that config.json may hold too.
bool generation_field_known(const char *name);

#endif
