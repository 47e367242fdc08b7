// What a service on this machine is made of, from flags, and what its state file keeps of that, so
// that a later command can tell whether its own flags fit, and start what is missing.
#ifndef CLIENT_CLI_SERVICE_SETTINGS_H
#define CLIENT_CLI_SERVICE_SETTINGS_H

#include <stdint.h>

#include <jansson.h>

#include "client/cli/cli.h"
#include "client/cli/flags.h"
#include "proto/limits.h"

enum {
    SERVICE_GROUPS_MAX = 64,
    SERVICE_PATH_BYTES = 4096,
    SERVICE_FLAGS_COUNT = 15,
    SERVICE_MODEL_BYTES = SERVICE_PATH_BYTES + 2 * LIMIT_NAME_BYTES,
    SERVICE_NAME_BYTES = 16,
};

struct service_flags {
    struct flag table[SERVICE_FLAGS_COUNT]; // targets lie in this struct: it must not be moved
    int given[SERVICE_FLAGS_COUNT];         // [row of the table]
    uint32_t groups;
    uint32_t ranks;
    uint32_t threads;          // per rank, 0: the machine's cores shared among all ranks
    uint32_t slots;            // candidates of each rank, 0: the worker's default
    uint32_t start_timeout_ms; // until every group is registered
    const char *policy;
    const char *critic; // file
    const char *value;  // file
    const char *precision;
    const char *kv_dtype;
    struct flag_list rewards; // NAME=DIR
    struct flag_list costs;
    const char *comm; // "mpi", "local", NULL: mpi when there is an mpirun
};

void service_flags_init(struct service_flags *flags);

// The name of the first flag that was given and makes a difference to a service, or NULL.
const char *service_flags_given(const struct service_flags *flags);

struct service_models {
    int count;
    char items[LIMIT_SCORERS][SERVICE_MODEL_BYTES]; // NAME=DIR, DIR absolute
};

struct service_settings {
    uint32_t groups; // 0: not known
    uint32_t ranks;
    uint32_t threads;
    uint32_t slots;
    char precision[SERVICE_NAME_BYTES];
    char kv_dtype[SERVICE_NAME_BYTES];
    char comm[SERVICE_NAME_BYTES]; // "mpi", "local"
    char policy[SERVICE_MODEL_BYTES];
    char critic[SERVICE_MODEL_BYTES]; // file; "": none
    char value[SERVICE_MODEL_BYTES];  // file; "": none
    struct service_models rewards;
    struct service_models costs;
};

// The directory of the shipped models (policy, reward and cost in it): $SUREFOOT_MODELS, the source
// tree above build/bin, the installed share directory. STATUS_NOT_FOUND.
MUST_CHECK enum status service_find_models(const struct cli *cli, char out[SERVICE_PATH_BYTES],
                                           struct error *err);

// Everything that the flags leave open is filled in. STATUS_INVALID_ARGUMENT, STATUS_LIMIT,
// STATUS_NOT_FOUND: a model's directory.
MUST_CHECK enum status service_settings_make(const struct cli *cli,
                                             const struct service_flags *flags,
                                             struct service_settings *out, struct error *err);

// STATUS_INVALID_ARGUMENT unless every flag that was given says what `running` has; the message
// names both values. With `may_grow` more groups than there are is no contradiction.
MUST_CHECK enum status service_settings_check(const struct cli *cli,
                                              const struct service_settings *running,
                                              const struct service_flags *flags, bool may_grow,
                                              struct error *err);

// Owned object; NULL: no memory.
json_t *service_settings_json(const struct service_settings *settings);

// False when `value` is no settings; *out is then all zero: not known.
bool service_settings_read(const json_t *value, struct service_settings *out);

#endif
