#include "benchmarks/machine.h"

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/deadline.h"

enum { WINDOWS = 5, READ_BYTES = 128 << 20, FMA_ROUNDS = 2000000, CHAINS = 12 };

struct gauge {
    void (*run)(struct gauge *gauge); // one window
    pthread_barrier_t *barrier;
    const uint64_t *buffer; // READ_BYTES, for reading
    volatile double sink;   // keeps the results alive
    int64_t elapsed_ns;     // of the last window, by this thread's own watch
};

typedef float vector_16f __attribute__((vector_size(64)));
typedef uint64_t vector_8u __attribute__((vector_size(64)));

// Twelve independent chains cover the latency of both fused multiply-add units. The contraction of
// the product and the sum is what is measured here, so it is allowed.
#define FMA_BODY                                                                                   \
    vector_16f a[CHAINS], b = {0}, c = {0};                                                        \
    b += 0.999f;                                                                                   \
    c += 0.001f;                                                                                   \
    for (int i = 0; i < CHAINS; ++i) {                                                             \
        a[i] = c * (float)i;                                                                       \
    }                                                                                              \
    for (int round = 0; round < FMA_ROUNDS; ++round) {                                             \
        _Pragma("GCC unroll 12") for (int i = 0; i < CHAINS; ++i) {                                \
            a[i] = a[i] * b + c;                                                                   \
        }                                                                                          \
    }                                                                                              \
    for (int i = 1; i < CHAINS; ++i) {                                                             \
        a[0] += a[i];                                                                              \
    }                                                                                              \
    gauge->sink = (double)a[0][0]

#if defined(__x86_64__)
__attribute__((target("avx512f"), optimize("fp-contract=fast"))) static void
fma_avx512(struct gauge *gauge) {
    FMA_BODY;
}

__attribute__((target("avx2,fma"), optimize("fp-contract=fast"))) static void
fma_avx2(struct gauge *gauge) {
    FMA_BODY;
}
#endif

static void fma_portable(struct gauge *gauge) {
    FMA_BODY;
}

static void read_buffer(struct gauge *gauge) {
    vector_8u sums[4] = {0};
    const vector_8u *from = (const vector_8u *)gauge->buffer;
    for (size_t i = 0; i < READ_BYTES / sizeof(vector_8u); i += 4) {
        for (int k = 0; k < 4; ++k) {
            sums[k] ^= from[i + (size_t)k];
        }
    }
    sums[0] ^= sums[1] ^ sums[2] ^ sums[3];
    gauge->sink = (double)sums[0][0];
}

static void *gauge_main(void *argument) {
    struct gauge *gauge = argument;
    for (int i = 0; i < 2 * WINDOWS; ++i) {
        pthread_barrier_wait(gauge->barrier);
        if (i % 2 == 0) {
            int64_t begin = clock_monotonic_ns();
            gauge->run(gauge);
            gauge->elapsed_ns = clock_monotonic_ns() - begin;
        }
    }
    return NULL;
}

// Seconds of the fastest window, which lasts as long as its slowest thread.
static double fastest_window(void (*run)(struct gauge *), int n_threads, const uint64_t *buffers) {
    pthread_barrier_t barrier;
    pthread_t threads[256];
    struct gauge gauges[256];
    double best = 1e9;
    pthread_barrier_init(&barrier, NULL, (unsigned)n_threads + 1);
    for (int i = 0; i < n_threads; ++i) {
        const uint64_t *own =
            buffers != NULL ? buffers + (size_t)i * (READ_BYTES / sizeof(uint64_t)) : NULL;
        gauges[i] = (struct gauge){.run = run, .barrier = &barrier, .buffer = own};
        if (pthread_create(&threads[i], NULL, gauge_main, &gauges[i]) != 0) {
            abort();
        }
    }
    for (int window = 0; window < WINDOWS; ++window) {
        pthread_barrier_wait(&barrier);
        pthread_barrier_wait(&barrier);
        int64_t slowest = 0;
        for (int i = 0; i < n_threads; ++i) {
            slowest = gauges[i].elapsed_ns > slowest ? gauges[i].elapsed_ns : slowest;
        }
        best = (double)slowest * 1e-9 < best ? (double)slowest * 1e-9 : best;
    }
    for (int i = 0; i < n_threads; ++i) {
        pthread_join(threads[i], NULL);
    }
    pthread_barrier_destroy(&barrier);
    return best;
}

double machine_fma_flops(int n_threads) {
    void (*run)(struct gauge *) = fma_portable;
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f")) {
        run = fma_avx512;
    } else if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
        run = fma_avx2;
    }
#endif
    return 2.0 * 16 * CHAINS * FMA_ROUNDS * n_threads / fastest_window(run, n_threads, NULL);
}

double machine_read_bytes(int n_threads) {
    size_t size = (size_t)n_threads * READ_BYTES;
    uint64_t *buffers = aligned_alloc(64, size);
    if (buffers == NULL) {
        return 0;
    }
    memset(buffers, 1, size);
    double seconds = fastest_window(read_buffer, n_threads, buffers);
    free(buffers);
    return (double)size / seconds;
}
