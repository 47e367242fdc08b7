// Typed, range-checked reading of one JSON object's fields, for the files of a model directory.
// Every failure names the field and the limit. Any thread; no state.
#ifndef WORKER_MODEL_JSON_FIELDS_H
#define WORKER_MODEL_JSON_FIELDS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/status.h"

enum { JSON_FILE_BYTES_MAX = 64 << 20 }; // config.json is a few KB, a shard index a few MB

// Reads directory/name, whose top level must be an object; *out is owned by the caller
// (json_decref). STATUS_NOT_FOUND without *err's field when there is no such file, STATUS_LIMIT
// above JSON_FILE_BYTES_MAX, STATUS_MALFORMED with line and column for bad JSON or a repeated key.
// Integers above 64 bits are reals of the object (common/json_numbers.h).
MUST_CHECK enum status json_object_read(const char *directory, const char *name, json_t **out,
                                        struct error *err);

// The getters leave *out untouched when the field is absent or null, so that the caller sets the
// default first; with `required`, absence is STATUS_MALFORMED. A wrong type is STATUS_MALFORMED, a
// number outside [min, max] STATUS_LIMIT.
MUST_CHECK enum status json_int_get(const json_t *object, const char *key, bool required,
                                    int64_t min, int64_t max, int32_t *out, struct error *err);
// A number that limits something: above `max`, integer or real, it limits nothing, and *out is
// `max`.
MUST_CHECK enum status json_limit_get(const json_t *object, const char *key, bool required,
                                      int64_t min, int32_t max, int32_t *out, struct error *err);
MUST_CHECK enum status json_number_get(const json_t *object, const char *key, bool required,
                                       double min, double max, double *out, struct error *err);
MUST_CHECK enum status json_bool_get(const json_t *object, const char *key, bool *out,
                                     struct error *err);
// Copies at most capacity - 1 bytes; a longer string is STATUS_LIMIT.
MUST_CHECK enum status json_string_get(const json_t *object, const char *key, char *out,
                                       size_t capacity, struct error *err);

// An array of strings, shared; *out, owned by the caller, stays NULL when the field is absent.
// STATUS_MALFORMED for anything else.
MUST_CHECK enum status json_strings_get(const json_t *object, const char *key, json_t **out,
                                        struct error *err);

// Whether a value is null, false, 0 or empty: what a field holds that says nothing.
bool json_says_nothing(const json_t *value);

// The value, or NULL when absent or JSON null.
const json_t *json_value_find(const json_t *object, const char *key);

#endif
