// Command line and environment of surefoot-worker. Every flag --some-flag may also come from
// SUREFOOT_SOME_FLAG; the command line wins. docs/operations.md lists them.
#ifndef WORKER_OPTIONS_H
#define WORKER_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "common/log.h"
#include "common/status.h"
#include "proto/limits.h"
#include "worker/backend/precision.h"
#include "worker/group/rank.h"

enum { WORKER_LOCAL_RANKS_MAX = 64, WORKER_TEXT_BYTES = 4096, WORKER_RENDER_BYTES = 1 << 17 };

enum worker_comm { WORKER_COMM_AUTO, WORKER_COMM_LOCAL, WORKER_COMM_MPI };

struct worker_scorer {
    char name[LIMIT_NAME_BYTES + 1];
    char directory[WORKER_TEXT_BYTES];
};

struct worker_options {
    char coordinator[256];           // endpoint for groups
    char name[LIMIT_NAME_BYTES + 1]; // "" : host and process make one
    char policy[WORKER_TEXT_BYTES];  // directory
    char critic[WORKER_TEXT_BYTES];  // file; "": none
    char value[WORKER_TEXT_BYTES];   // file; "": none
    struct worker_scorer scorers[RANK_SCORERS_MAX];
    int n_scorers;
    char backend[16];         // "cpu"
    enum precision precision; // default PRECISION_STORED
    enum kv_dtype kv_dtype;   // default KV_F32
    int64_t threads;          // 1..256; 0: the cores, shared by the ranks of this host
    int64_t slots;            // per rank, 1..4096, default 64
    int64_t kv_tokens;        // per rank and model; 0: from the slots
    int64_t context_tokens;   // 0: the smallest of the models'
    enum worker_comm comm;
    int64_t ranks;                 // threads with comm local, 1..WORKER_LOCAL_RANKS_MAX
    int64_t heartbeat_ms;          // 1..60000, default 1000
    int64_t collective_timeout_ms; // 100..3600000, default 30000
    int64_t order_timeout_ms;      // 100..86400000, default 600000
    enum log_level log_level;
    bool plan;                        // print the memory plan and end
    char render[WORKER_RENDER_BYTES]; // "", or a request of worker/render.h: answer it and end
    bool version;
    bool help;
};

// Reads the environment, then argv. err names the flag and its range. STATUS_INVALID_ARGUMENT,
// STATUS_LIMIT.
MUST_CHECK enum status worker_options_parse(int argc, char **argv, struct worker_options *out,
                                            struct error *err);

void worker_options_print_help(FILE *stream);

#endif
