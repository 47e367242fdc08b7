// Where the time of a forward pass goes: a backend's operations, timed one by one. Each operation of
// the CPU backend has ended when it returns, so that wall time around the call is its own. Costs two
// readings of the clock a call, about 0.1 us. For one backend at a time, from one thread.
#ifndef BENCHMARKS_OPERATION_TIMES_H
#define BENCHMARKS_OPERATION_TIMES_H

#include "worker/backend/backend.h"

enum operation_kind {
    OPERATION_PRODUCT,   // linear, linear_add, linear_gated
    OPERATION_ATTENTION, // over the KV tree
    OPERATION_STORE,     // rotation, and keys and values on their way into the KV blocks
    OPERATION_NORM,
    OPERATION_SAMPLE,
    OPERATION_KINDS
};

// Puts clocks around the operations of `backend`, which it borrows until operation_times_end.
void operation_times_begin(struct backend *backend);
void operation_times_end(struct backend *backend);

// Seconds since the last call, by kind; forgets them.
void operation_times_take(double seconds[OPERATION_KINDS]);

#endif
