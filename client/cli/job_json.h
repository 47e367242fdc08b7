// What a job is, as JSON for records: every field that decides its result, under the protocol's
// names, given or default.
#ifndef CLIENT_CLI_JOB_JSON_H
#define CLIENT_CLI_JOB_JSON_H

#include <jansson.h>

#include "client/surefoot.h"

// Owned object without prompt and messages. Fields whose default a model's profile decides are
// there only when they were given. NULL: no memory.
json_t *job_json(const Surefoot__JobSpec *spec);

// The same of what was given alone.
json_t *job_given_json(const Surefoot__JobSpec *spec);

// Owned object of the fields of a message that are set, without rewards of a calibration.
json_t *job_message_json(const ProtobufCMessage *message);

// Owned object {name: {every other field of its ModelInfo}} of the first group that is alive: what
// its files and its profile say, so that a job is complete with it. Every group of a service has
// the same models. NULL: no group is alive, or no memory.
json_t *job_models_json(const Surefoot__ServiceStatus *state);

#endif
