// Sampling: rows are independent, each thread draws its share with scratch of its own.
#include <stdlib.h>

#include "worker/backend/cpu/cpu_private.h"
#include "worker/decode/sampling.h"

struct sample_call {
    const struct cpu_backend *cpu;
    const struct tensor *logits;
    struct sampling_row *rows;
    int32_t n;
};

static void sample_part(void *argument, int index, int count) {
    struct sample_call *call = argument;
    const struct tensor *logits = call->logits;
    void *scratch = call->cpu->sample_scratch + (size_t)index * call->cpu->sample_stride;
    long begin, end;
    thread_pool_range(call->n, 1, index, count, &begin, &end);
    for (long i = begin; i < end; ++i) {
        float *row = (float *)logits->data + (size_t)i * logits->cols;
        sampling_draw(call->cpu->kernels->sampling, row, logits->cols, &call->rows[i], scratch);
    }
}

static enum status reserve_scratch(struct cpu_backend *cpu, int32_t vocab_size) {
    size_t stride = (sampling_scratch_bytes(vocab_size) + 63) / 64 * 64;
    if (stride <= cpu->sample_stride) {
        return STATUS_OK;
    }
    char *scratch = aligned_alloc(64, stride * (size_t)thread_pool_size(cpu->pools[0]));
    if (scratch == NULL) {
        return STATUS_NO_MEMORY;
    }
    free(cpu->sample_scratch);
    cpu->sample_scratch = scratch;
    cpu->sample_stride = stride;
    return STATUS_OK;
}

enum status cpu_sample(struct backend *backend, struct tensor *logits, struct sampling_row *rows,
                       int32_t n) {
    struct cpu_backend *cpu = cpu_backend_from(backend);
    ASSERT(n >= 0 && n <= logits->rows);
    enum status status = reserve_scratch(cpu, logits->cols);
    if (status != STATUS_OK || n == 0) {
        return status;
    }
    struct sample_call call = {.cpu = cpu, .logits = logits, .rows = rows, .n = n};
    thread_pool_run(cpu->pool, sample_part, &call, cpu_threads_for(cpu, 10.0 * n * logits->cols));
    return STATUS_OK;
}
