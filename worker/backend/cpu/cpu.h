// The CPU backend: memory of the host, kernels by instruction set, each operation spread over a
// pool of threads. Operations run before they return, so that `download` has nothing to wait for.
#ifndef WORKER_BACKEND_CPU_CPU_H
#define WORKER_BACKEND_CPU_CPU_H

#include "worker/backend/backend.h"

// As backend_create("cpu", ...). STATUS_INVALID_ARGUMENT for a thread count outside 1..256 or an
// unknown SUREFOOT_CPU_ISA, STATUS_UNSUPPORTED when it names one that the CPU has not.
MUST_CHECK enum status cpu_backend_create(int n_threads, struct backend **out, struct error *err);

// "avx512", "avx2" or "generic".
const char *cpu_backend_isa(const struct backend *backend);

#endif
