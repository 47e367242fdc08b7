// A whole service in a test: the real coordinator and worker groups on ipc sockets in a directory
// of their own, with the shipped models. Parts can be killed and started again.
#ifndef TESTS_SUPPORT_SERVICE_H
#define TESTS_SUPPORT_SERVICE_H

#include <stdbool.h>

#include "client/surefoot.h"
#include "tests/support/process.h"

enum { SERVICE_GROUPS_MAX = 4, SERVICE_WAIT_MS = 240000 };

struct service_options {
    int n_groups;
    int n_ranks;   // of each group
    bool mpi;      // ranks are processes under mpirun; otherwise threads of one process
    int slots;     // of each rank; 0: the program's default
    int kv_tokens; // of each rank; 0: the program's default
};

struct service {
    struct service_options options;
    char *directory; // scratch: sockets, store, logs
    char client_endpoint[256];
    char group_endpoint[256];
    struct process coordinator;
    struct process groups[SERVICE_GROUPS_MAX];
    struct surefoot_client *client; // for the test's own requests
};

// True when the shipped models and the built programs are there; otherwise prints what is missing.
bool service_is_possible(void);

// Starts everything and waits until all groups are registered; fails the test at the deadline.
void service_start(struct service *service, const struct service_options *options);
void service_stop(struct service *service);

void service_start_coordinator(struct service *service);
void service_start_group(struct service *service, int index);

// Waits until `count` groups are alive.
void service_await_groups(struct service *service, int count);

// The prompt of line `index` of the shipped prompts; caller frees.
char *service_prompt(int index);

// Submits and waits for the result; fails the test on any error.
Surefoot__JobResult *service_run(struct service *service, const Surefoot__JobSpec *spec);

#endif
