// Settings that papers published, by name: each stands for fields of a job that the caller gave no
// value for. Plain data; any thread. docs/methods/presets.md says where every number is from.
#ifndef CLIENT_CLI_PRESETS_H
#define CLIENT_CLI_PRESETS_H

#include <stddef.h>
#include <stdio.h>

#include "client/surefoot.h"

struct preset {
    const char *name;
    const char *source;
    const char *settings; // flags without dashes, NAME=VALUE, spaces between: method first
};

const struct preset *preset_get(size_t index); // NULL past the end

// STATUS_INVALID_ARGUMENT, naming `flag`: there is none of that name.
MUST_CHECK enum status preset_find(const char *name, const char *flag, const struct preset **out,
                                   struct error *err);

// Fills what `spec` and `sampling` leave absent. Options of draws that it has no value for are off,
// whatever the policy's generation_config says, unless the job names generation defaults itself.
void preset_apply(const struct preset *preset, Surefoot__JobSpec *spec,
                  Surefoot__Sampling *sampling);

void presets_print(FILE *out);

#endif
