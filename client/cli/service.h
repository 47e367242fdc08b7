// A service on this machine: one coordinator and its groups as child processes, their sockets,
// store and logs in one directory, and the state file there by which later commands find it.
#ifndef CLIENT_CLI_SERVICE_H
#define CLIENT_CLI_SERVICE_H

#include <stdint.h>

#include "client/cli/cli.h"
#include "client/cli/flags.h"
#include "client/cli/process.h"

enum {
    SERVICE_GROUPS_MAX = 64,
    SERVICE_PATH_BYTES = 4096,
    SERVICE_ENDPOINT_BYTES = 256,
    SERVICE_PROCESSES_MAX = SERVICE_GROUPS_MAX + 1,
    SERVICE_FLAGS_COUNT = 14,
};

struct service_flags {
    struct flag table[SERVICE_FLAGS_COUNT]; // targets lie in this struct: it must not be moved
    uint32_t groups;
    uint32_t ranks;
    uint32_t threads;   // per rank, 0: the machine's cores shared among all ranks
    uint32_t slots;     // candidates of each rank, 0: the worker's default
    uint32_t timeout_s; // until every group is registered
    const char *policy;
    const char *precision;    // NULL: the worker's default
    const char *kv_dtype;     // likewise
    struct flag_list rewards; // NAME=DIR
    struct flag_list costs;
    const char *comm; // "mpi", "local", NULL: mpi when there is an mpirun
};

void service_flags_init(struct service_flags *flags);

struct service {
    char directory[SERVICE_PATH_BYTES];
    char client_endpoint[SERVICE_ENDPOINT_BYTES];
    char group_endpoint[SERVICE_ENDPOINT_BYTES];
    struct process processes[SERVICE_PROCESSES_MAX]; // the coordinator first
    int n_processes;
};

// "$XDG_RUNTIME_DIR/surefoot" or "/tmp/surefoot-<uid>", or `given` when that is not NULL. Makes it,
// mode 0700, and refuses one that others own or may enter.
MUST_CHECK enum status service_directory(const char *given, char out[SERVICE_PATH_BYTES],
                                         struct error *err);

// The directory of the shipped models (policy, reward and cost in it): $SUREFOOT_MODELS, the source
// tree above build/bin, the installed share directory. STATUS_NOT_FOUND.
MUST_CHECK enum status service_find_models(const struct cli *cli, char out[SERVICE_PATH_BYTES],
                                           struct error *err);

// Starts everything in `directory` and waits until every group is registered. With `bound` the
// processes end when this one dies. On failure nothing is left running, and the end of the log that
// tells why has been printed on stderr.
MUST_CHECK enum status service_start(struct cli *cli, const struct service_flags *flags,
                                     const char *directory, bool bound, struct service *out,
                                     struct error *err);

// Ends all processes. STATUS_INTERNAL: some process could not be ended.
MUST_CHECK enum status service_stop(const struct service *service, struct error *err);

// True while the coordinator runs.
bool service_alive(const struct service *service);

// The state file. Loading: STATUS_NOT_FOUND when there is none, STATUS_MALFORMED.
MUST_CHECK enum status service_save(const struct service *service, struct error *err);
MUST_CHECK enum status service_load(const char *directory, struct service *out, struct error *err);
void service_forget(const struct service *service);

// Makes a directory below `directory` for a service of this process alone. Returns the descriptor
// of its lock, which marks it as in use until it is closed or the process ends; -1: err is filled.
int service_make_private(const char *directory, char out[SERVICE_PATH_BYTES], struct error *err);

// Removes the private directories below `directory` whose process has ended without doing so.
void service_remove_stale(const char *directory);

// Removes a directory that service_start filled and nothing else uses.
void service_remove_directory(const char *directory);

#endif
