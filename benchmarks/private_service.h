// A service for one benchmark alone: a directory of its own, models of random weights where none
// are named, coordinator and groups as child processes that end with this one, and a client.
// Whatever happens, private_service_close leaves neither processes nor files.
#ifndef BENCHMARKS_PRIVATE_SERVICE_H
#define BENCHMARKS_PRIVATE_SERVICE_H

#include "benchmarks/random_model.h"
#include "client/cli/service.h"
#include "client/surefoot.h"

struct private_service {
    struct cli cli;
    char directory[SERVICE_PATH_BYTES];
    int lock;                                // of the directory, -1 none
    char models[3][SERVICE_PATH_BYTES + 32]; // as flags name those that were made
    bool started;
    struct service service;
    struct surefoot_client *client;
};

// Starts what `flags` describes and waits until every group is there. Where flags->policy is NULL,
// a policy, a reward model and a cost model of `shape` are made, and the flags name them then, as
// long as *out lives. Blocks. The members of *out are set in every case, so that
// private_service_close() may follow.
MUST_CHECK enum status private_service_open(struct service_flags *flags,
                                            const struct random_model_options *shape,
                                            struct private_service *out, struct error *err);
void private_service_close(struct private_service *service);

#endif
