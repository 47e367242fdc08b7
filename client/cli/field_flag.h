// A field of a job as a flag: name, kind and range from its row in proto/job_fields.h.
#ifndef CLIENT_CLI_FIELD_FLAG_H
#define CLIENT_CLI_FIELD_FLAG_H

#include "client/cli/flags.h"
#include "proto/job_fields.h"

enum { FIELD_FLAG_NAME_BYTES = 32 };

// The name of a field's flag, without "--": the field's with hyphens.
void field_flag_name(enum job_field_index index, char out[FIELD_FLAG_NAME_BYTES]);

// A flag that sets the field of `spec`, under the field's own name and without help: static
// storage.
struct flag field_flag(enum job_field_index index, Surefoot__JobSpec *spec);

#endif
