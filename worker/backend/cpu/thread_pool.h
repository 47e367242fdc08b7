// A fixed set of threads that run one function together: n_threads - 1 workers and the caller.
// Between calls the workers sleep in the kernel after a short spin, so that they leave the cores to
// others. One caller at a time.
#ifndef WORKER_BACKEND_CPU_THREAD_POOL_H
#define WORKER_BACKEND_CPU_THREAD_POOL_H

#include <stdbool.h>
#include <stdint.h>

#include "common/status.h"

enum { THREAD_POOL_THREADS_MAX = 256 };

struct thread_pool;

// One part of the work: `index` of `count`. Which part is done where changes no result.
typedef void (*thread_pool_fn)(void *argument, int index, int count);

// STATUS_INVALID_ARGUMENT for n_threads outside 1..THREAD_POOL_THREADS_MAX, STATUS_NO_MEMORY when
// memory or threads cannot be had.
MUST_CHECK enum status thread_pool_create(int n_threads, struct thread_pool **out,
                                          struct error *err);
void thread_pool_destroy(struct thread_pool *pool); // NULL allowed

int thread_pool_size(const struct thread_pool *pool);

// Calls run(argument, i, count) once for each i below count, count <= the pool's size, on different
// threads (0 on the caller's), and returns when all have. Allocates nothing, takes no lock.
void thread_pool_run(struct thread_pool *pool, thread_pool_fn run, void *argument, int count);

// Called by every part of a run of `count` parts: returns when all have called, so that each sees
// what the others wrote before. No part may leave it out.
void thread_pool_meet(struct thread_pool *pool, int count);

// Before a run of `count` parts: each gets a contiguous share of the items 0 .. n_items - 1.
void thread_pool_share(struct thread_pool *pool, int32_t n_items, int count);

// Within the run: the next item of part `index`'s share from its beginning, or, when that is used
// up, one from the end of another's, so that a thread whose core others use is not waited for.
// False when none is left. Every item is taken once.
bool thread_pool_take(struct thread_pool *pool, int index, int32_t *item);

// Part `index` of `count` of the range [0, n) in units of `unit`: [*begin, *end), possibly empty.
void thread_pool_range(long n, long unit, int index, int count, long *begin, long *end);

#endif
