// Memory and the key/value store of the CPU backend. A block holds its keys transposed, one row of
// 16 tokens per dimension, so that one vector is a dimension of all tokens; values go by token.
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "worker/backend/cpu/cpu_private.h"

enum { HUGE_PAGE_BYTES = 2 << 20 };

// Zeroing touches every page here, so that memory that was promised is there before work starts.
void *cpu_alloc(struct backend *backend, size_t size) {
    (void)backend;
    size_t alignment = size >= HUGE_PAGE_BYTES ? HUGE_PAGE_BYTES : 64;
    void *memory = NULL;
    if (posix_memalign(&memory, alignment, size > 0 ? size : 1) != 0) {
        return NULL;
    }
    if (size >= HUGE_PAGE_BYTES) {
        // Only advice: without huge pages everything works, somewhat slower.
        (void)madvise(memory, size / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES, MADV_HUGEPAGE);
    }
    return memset(memory, 0, size);
}

void cpu_release(struct backend *backend, void *memory) {
    (void)backend;
    free(memory);
}

void *cpu_import_table(struct backend *backend, const void *host, size_t size) {
    (void)backend;
    (void)size;
    return (void *)(uintptr_t)host; // tensors are void *; no operation writes to a weight
}

void cpu_release_table(struct backend *backend, void *memory) {
    (void)backend;
    (void)memory;
}

void cpu_upload(struct backend *backend, void *destination, const void *source, size_t size) {
    (void)backend;
    memcpy(destination, source, size);
}

enum status cpu_download(struct backend *backend, void *destination, const void *source,
                         size_t size) {
    (void)backend;
    memcpy(destination, source, size);
    return STATUS_OK;
}

// Floats of one block of one KV head.
static size_t block_size(const struct kv_storage *storage) {
    return (size_t)storage->head_dim * KV_BLOCK_TOKENS;
}

static size_t block_offset(const struct kv_storage *storage, int32_t layer, int32_t block,
                           int32_t kv_head) {
    size_t blocks = (size_t)layer * storage->n_blocks + block;
    return (blocks * storage->n_kv_heads + kv_head) * block_size(storage);
}

size_t cpu_kv_bytes(const struct kv_storage *storage) {
    return 2 * sizeof(float) * block_offset(storage, storage->n_layers, 0, 0);
}

enum status cpu_kv_create(struct backend *backend, struct kv_storage *storage) {
    struct cpu_backend *cpu = cpu_backend_from(backend);
    size_t half = cpu_kv_bytes(storage) / 2;
    storage->keys = cpu_alloc(backend, half);
    storage->values = cpu_alloc(backend, half);
    if (storage->keys == NULL || storage->values == NULL) {
        cpu_kv_destroy(backend, storage);
        return STATUS_NO_MEMORY;
    }
    if (storage->head_dim > cpu->head_dim_max) {
        cpu->head_dim_max = storage->head_dim;
    }
    return STATUS_OK;
}

void cpu_kv_destroy(struct backend *backend, struct kv_storage *storage) {
    cpu_release(backend, storage->keys);
    cpu_release(backend, storage->values);
    storage->keys = NULL;
    storage->values = NULL;
}

void cpu_kv_copy(struct backend *backend, struct kv_storage *storage, int32_t destination,
                 int32_t source, int32_t n_tokens) {
    (void)backend;
    ASSERT(n_tokens >= 0 && n_tokens <= KV_BLOCK_TOKENS);
    float *keys = storage->keys, *values = storage->values;
    for (int32_t layer = 0; layer < storage->n_layers; ++layer) {
        for (int32_t head = 0; head < storage->n_kv_heads; ++head) {
            size_t to = block_offset(storage, layer, destination, head);
            size_t from = block_offset(storage, layer, source, head);
            // Tokens past n_tokens come along in the keys; they are written before they are read.
            memcpy(keys + to, keys + from, block_size(storage) * sizeof(float));
            memcpy(values + to, values + from,
                   (size_t)n_tokens * storage->head_dim * sizeof(float));
        }
    }
}

void cpu_kv_store_row(const struct batch_plan *plan, const struct kv_storage *storage,
                      int32_t layer, int32_t row, const float *keys, const float *values) {
    int32_t head_dim = storage->head_dim, token = plan->positions[row] % KV_BLOCK_TOKENS;
    for (int32_t head = 0; head < storage->n_kv_heads; ++head) {
        size_t at = block_offset(storage, layer, plan->kv_block[row], head);
        const float *k = keys + (size_t)head * head_dim, *v = values + (size_t)head * head_dim;
        float *to = (float *)storage->keys + at + token;
        for (int32_t d = 0; d < head_dim; ++d) {
            to[(size_t)d * KV_BLOCK_TOKENS] = k[d];
        }
        memcpy((float *)storage->values + at + (size_t)token * head_dim, v,
               (size_t)head_dim * sizeof(float));
    }
}
