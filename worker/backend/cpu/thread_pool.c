// Dispatch is two words: `generation`, which the caller advances and the workers wait on, and
// `unfinished`, which the workers count down and the caller waits on. `meetings` is advanced by the
// last to arrive at a meeting. All three are futexes. A waiter looks for a while before it sleeps,
// because the next operation of a forward pass usually follows soon.
#include "worker/backend/cpu/thread_pool.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/deadline.h"

// A sleeper takes tens of microseconds to wake, as long as many an operation lasts, so a waiter
// first spins for about 5 us and then, for 100 us more, offers its core to whoever else wants it
// each time it looks again. Where somebody takes it, the offer lasts a slice of the scheduler's,
// milliseconds: hence a time and no number of offers, and then sleep, from which a wake comes soon
// because a sleeper has used less than its share. An idle pool sleeps.
enum { SPIN_ROUNDS = 150, YIELD_NS = 100 * 1000 };

struct worker {
    struct thread_pool *pool;
    pthread_t thread;
    int index; // 1 .. n_threads - 1
};

// Items [begin, end) that nobody has taken: end in the upper half.
struct share {
    _Alignas(64) _Atomic uint64_t left;
};

struct thread_pool {
    _Alignas(64) _Atomic uint32_t generation;
    _Atomic uint32_t sleepers; // workers in the kernel, or about to be
    _Alignas(64) _Atomic uint32_t unfinished;
    _Atomic uint32_t caller_sleeps;
    _Alignas(64) _Atomic uint32_t meetings; // that have ended
    _Atomic uint32_t arrived;               // at the next
    _Atomic uint32_t meeting_sleepers;
    // Written by the caller before it advances `generation`, read by the workers after.
    thread_pool_fn run;
    void *argument;
    int count;
    bool stop;
    int n_threads;
    int n_started; // workers that exist
    int n_shares;
    struct share *shares; // [n_threads]
    struct worker workers[];
};

static void futex_wait(_Atomic uint32_t *word, uint32_t expected) {
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, NULL, NULL, 0);
}

static void futex_wake(_Atomic uint32_t *word, int n) {
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, n, NULL, NULL, 0);
}

static void spin_pause(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

// Returns once *word differs from `value`; `sleepers` tells the writer that a wake is needed.
static void wait_for_change(_Atomic uint32_t *word, uint32_t value, _Atomic uint32_t *sleepers) {
    for (int i = 0; i < SPIN_ROUNDS; ++i) {
        if (atomic_load_explicit(word, memory_order_acquire) != value) {
            return;
        }
        spin_pause();
    }
    for (int64_t end = clock_monotonic_ns() + YIELD_NS; clock_monotonic_ns() < end;) {
        if (atomic_load_explicit(word, memory_order_acquire) != value) {
            return;
        }
        sched_yield();
    }
    // Sequentially consistent on both words: either the writer sees the sleeper or this thread sees
    // the new value.
    atomic_fetch_add(sleepers, 1);
    while (atomic_load(word) == value) {
        futex_wait(word, value);
    }
    atomic_fetch_sub(sleepers, 1);
}

static void finish_part(struct thread_pool *pool) {
    if (atomic_fetch_sub(&pool->unfinished, 1) == 1 && atomic_load(&pool->caller_sleeps) != 0) {
        futex_wake(&pool->unfinished, 1);
    }
}

static void *worker_main(void *argument) {
    struct worker *worker = argument;
    struct thread_pool *pool = worker->pool;
    uint32_t seen = 0;
    for (;;) {
        wait_for_change(&pool->generation, seen, &pool->sleepers);
        seen += 1;
        if (pool->stop) {
            return NULL;
        }
        if (worker->index < pool->count) {
            pool->run(pool->argument, worker->index, pool->count);
        }
        finish_part(pool);
    }
}

// Every worker takes part in every generation, if only to say that it has nothing to do: none can
// then still be reading the previous call's fields when the caller writes the next one's.
static void start_generation(struct thread_pool *pool) {
    atomic_store(&pool->unfinished, (uint32_t)pool->n_started);
    atomic_fetch_add(&pool->generation, 1);
    if (atomic_load(&pool->sleepers) != 0) {
        futex_wake(&pool->generation, THREAD_POOL_THREADS_MAX);
    }
}

static void wait_for_workers(struct thread_pool *pool) {
    for (;;) {
        uint32_t left = atomic_load_explicit(&pool->unfinished, memory_order_acquire);
        if (left == 0) {
            return;
        }
        wait_for_change(&pool->unfinished, left, &pool->caller_sleeps);
    }
}

void thread_pool_run(struct thread_pool *pool, thread_pool_fn run, void *argument, int count) {
    ASSERT(count >= 1 && count <= pool->n_threads);
    if (count == 1) {
        run(argument, 0, 1);
        return;
    }
    pool->run = run;
    pool->argument = argument;
    pool->count = count;
    start_generation(pool);
    run(argument, 0, count);
    wait_for_workers(pool);
}

void thread_pool_meet(struct thread_pool *pool, int count) {
    // The meeting cannot end before this thread has arrived, so that the number is its own.
    uint32_t meeting = atomic_load(&pool->meetings);
    if (atomic_fetch_add(&pool->arrived, 1) + 1 < (uint32_t)count) {
        wait_for_change(&pool->meetings, meeting, &pool->meeting_sleepers);
        return;
    }
    atomic_store(&pool->arrived, 0);
    atomic_fetch_add(&pool->meetings, 1);
    if (atomic_load(&pool->meeting_sleepers) != 0) {
        futex_wake(&pool->meetings, THREAD_POOL_THREADS_MAX);
    }
}

void thread_pool_share(struct thread_pool *pool, int32_t n_items, int count) {
    ASSERT(count >= 1 && count <= pool->n_threads);
    pool->n_shares = count;
    for (int i = 0; i < count; ++i) {
        long begin, end;
        thread_pool_range(n_items, 1, i, count, &begin, &end);
        atomic_store_explicit(&pool->shares[i].left, (uint64_t)end << 32 | (uint64_t)begin,
                              memory_order_relaxed);
    }
}

// The first item of a share, or its last. Whatever an item needs was written before the run began
// or before a meeting, so the order of other accesses does not matter.
static bool take_from(struct share *share, bool first, int32_t *item) {
    uint64_t left = atomic_load_explicit(&share->left, memory_order_relaxed), rest;
    do {
        uint32_t begin = (uint32_t)left, end = (uint32_t)(left >> 32);
        if (begin == end) {
            return false;
        }
        *item = (int32_t)(first ? begin : end - 1);
        rest = first ? left + 1 : left - ((uint64_t)1 << 32);
    } while (!atomic_compare_exchange_weak_explicit(&share->left, &left, rest, memory_order_relaxed,
                                                    memory_order_relaxed));
    return true;
}

bool thread_pool_take(struct thread_pool *pool, int index, int32_t *item) {
    if (take_from(&pool->shares[index], true, item)) {
        return true;
    }
    for (int i = 1; i < pool->n_shares; ++i) {
        if (take_from(&pool->shares[(index + i) % pool->n_shares], false, item)) {
            return true;
        }
    }
    return false;
}

int thread_pool_size(const struct thread_pool *pool) {
    return pool->n_threads;
}

void thread_pool_range(long n, long unit, int index, int count, long *begin, long *end) {
    long n_units = (n + unit - 1) / unit;
    long first = n_units * index / count * unit;
    long last = n_units * (index + 1) / count * unit;
    *begin = first < n ? first : n;
    *end = last < n ? last : n;
}

enum status thread_pool_create(int n_threads, struct thread_pool **out, struct error *err) {
    if (n_threads < 1 || n_threads > THREAD_POOL_THREADS_MAX) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "threads", "%d is not in 1..%d", n_threads,
                         THREAD_POOL_THREADS_MAX);
    }
    size_t size = sizeof(struct thread_pool) + (size_t)n_threads * sizeof(struct worker);
    size = (size + 63) / 64 * 64;
    struct thread_pool *pool = aligned_alloc(64, size);
    if (pool == NULL) {
        return error_set(err, STATUS_NO_MEMORY, "threads", "no memory for %d threads", n_threads);
    }
    *pool = (struct thread_pool){.n_threads = n_threads};
    pool->shares = aligned_alloc(64, (size_t)n_threads * sizeof(struct share));
    if (pool->shares == NULL) {
        free(pool);
        return error_set(err, STATUS_NO_MEMORY, "threads", "no memory for %d threads", n_threads);
    }
    for (int i = 1; i < n_threads; ++i) {
        struct worker *worker = &pool->workers[i - 1];
        *worker = (struct worker){.pool = pool, .index = i};
        if (pthread_create(&worker->thread, NULL, worker_main, worker) != 0) {
            thread_pool_destroy(pool);
            return error_set(err, STATUS_NO_MEMORY, "threads", "thread %d of %d cannot be started",
                             i + 1, n_threads);
        }
        pool->n_started += 1;
    }
    *out = pool;
    return STATUS_OK;
}

void thread_pool_destroy(struct thread_pool *pool) {
    if (pool == NULL) {
        return;
    }
    pool->stop = true;
    start_generation(pool);
    for (int i = 0; i < pool->n_started; ++i) {
        pthread_join(pool->workers[i].thread, NULL);
    }
    free(pool->shares);
    free(pool);
}
