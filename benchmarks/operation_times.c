#include "benchmarks/operation_times.h"

#include <string.h>

#include "common/deadline.h"

static const struct backend_ops *timed; // the backend's own operations
static struct backend_ops with_clock;   // the same with clocks
static int64_t spent_ns[OPERATION_KINDS];

#define TIMED(kind, call)                                                                          \
    do {                                                                                           \
        int64_t begin = clock_monotonic_ns();                                                      \
        call;                                                                                      \
        spent_ns[kind] += clock_monotonic_ns() - begin;                                            \
    } while (0)

static void rms_norm(struct backend *backend, struct tensor *out, const struct tensor *x,
                     const struct tensor *weight, float eps) {
    TIMED(OPERATION_NORM, timed->rms_norm(backend, out, x, weight, eps));
}

static void linear(struct backend *backend, struct tensor *out, const struct tensor *x,
                   const struct weight *weight) {
    TIMED(OPERATION_PRODUCT, timed->linear(backend, out, x, weight));
}

static void linear_add(struct backend *backend, struct tensor *out, const struct tensor *x,
                       const struct weight *weight) {
    TIMED(OPERATION_PRODUCT, timed->linear_add(backend, out, x, weight));
}

static void linear_gated(struct backend *backend, struct tensor *out, const struct tensor *x,
                         const struct weight *weight) {
    TIMED(OPERATION_PRODUCT, timed->linear_gated(backend, out, x, weight));
}

static void rope_store(struct backend *backend, struct tensor *qkv, struct kv_storage *storage,
                       const struct attention_layer *layer) {
    TIMED(OPERATION_STORE, timed->rope_store(backend, qkv, storage, layer));
}

static void attention(struct backend *backend, struct tensor *out, const struct tensor *qkv,
                      const struct kv_storage *storage, const struct attention_layer *layer) {
    TIMED(OPERATION_ATTENTION, timed->attention(backend, out, qkv, storage, layer));
}

static enum status sample(struct backend *backend, struct tensor *logits, struct sampling_row *rows,
                          int32_t n) {
    enum status status;
    TIMED(OPERATION_SAMPLE, status = timed->sample(backend, logits, rows, n));
    return status;
}

void operation_times_begin(struct backend *backend) {
    timed = backend->ops;
    with_clock = *timed;
    with_clock.rms_norm = rms_norm;
    with_clock.linear = linear;
    with_clock.linear_add = linear_add;
    with_clock.linear_gated = linear_gated;
    with_clock.rope_store = rope_store;
    with_clock.attention = attention;
    with_clock.sample = sample;
    backend->ops = &with_clock;
}

void operation_times_end(struct backend *backend) {
    backend->ops = timed;
}

void operation_times_take(double seconds[OPERATION_KINDS]) {
    for (int i = 0; i < OPERATION_KINDS; i++) {
        seconds[i] = (double)spent_ns[i] * 1e-9;
    }
    memset(spent_ns, 0, sizeof(spent_ns));
}
