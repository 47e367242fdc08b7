// A service on this machine: one coordinator and its groups as child processes, their sockets,
// store and logs in one directory, and the state file there by which later commands find it.
#ifndef CLIENT_CLI_SERVICE_H
#define CLIENT_CLI_SERVICE_H

#include <stdint.h>

#include "client/cli/cli.h"
#include "client/cli/process.h"
#include "client/cli/service_settings.h"

enum {
    SERVICE_ENDPOINT_BYTES = 256,
    SERVICE_PROCESSES_MAX = SERVICE_GROUPS_MAX + 1,
};

struct service {
    char directory[SERVICE_PATH_BYTES];
    char client_endpoint[SERVICE_ENDPOINT_BYTES];
    char group_endpoint[SERVICE_ENDPOINT_BYTES];
    struct service_settings settings;
    struct process processes[SERVICE_PROCESSES_MAX]; // the coordinator first, group i + 1 at i
    int n_processes;
};

// "$XDG_RUNTIME_DIR/surefoot" or "/tmp/surefoot-<uid>", or `given` when that is not NULL. Makes it,
// mode 0700, and refuses one that others own or may enter.
MUST_CHECK enum status service_directory(const char *given, char out[SERVICE_PATH_BYTES],
                                         struct error *err);

// Starts everything in `directory` and waits until every group is registered. With `bound` the
// processes end when this one dies. On failure nothing is left running, and the end of the log that
// tells why has been printed on stderr.
MUST_CHECK enum status service_start(struct cli *cli, const struct service_flags *flags,
                                     const char *directory, bool bound, struct service *out,
                                     struct error *err);

// What service_mend() started.
struct service_mended {
    bool coordinator;
    uint32_t groups;
};

// Starts again what has died of a loaded service whose settings are known, and as many groups more
// as `groups` asks for; waits until every group is registered. What still runs goes on. On failure
// what was started is stopped again.
MUST_CHECK enum status service_mend(struct cli *cli, struct service *service, uint32_t groups,
                                    uint32_t start_timeout_ms, struct service_mended *out,
                                    struct error *err);

// Waits until the groups of `service` are registered, those with fresh[i] set anew, i from 0, after
// `since_ms` (monotonic). Ends early when a process ends or a signal comes; the end of the log that
// tells why is then printed on stderr. STATUS_DEADLINE after timeout_ms.
MUST_CHECK enum status service_wait_registered(struct cli *cli, const struct service *service,
                                               const bool fresh[SERVICE_GROUPS_MAX],
                                               int64_t since_ms, uint32_t timeout_ms,
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
