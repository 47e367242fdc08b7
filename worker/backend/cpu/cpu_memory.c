// Memory and the key/value store of the CPU backend. A block holds its keys transposed, one row of
// 16 tokens per dimension, so that one vector is a dimension of all tokens; values go by token.
// attention kernels own what stands inside a block.
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

// Bytes of `width` columns of a block of one head. With 8 bits `n_scales` numbers of each token
// follow.
static size_t block_bytes(const struct kv_storage *storage, int32_t width, size_t n_scales) {
    switch (storage->dtype) {
    case KV_F32:
        return (size_t)width * KV_BLOCK_TOKENS * 4;
    case KV_F16:
    case KV_BF16:
        return (size_t)width * KV_BLOCK_TOKENS * 2;
    case KV_INT8:
        break;
    }
    return ((size_t)width + n_scales * sizeof(float)) * KV_BLOCK_TOKENS;
}

static size_t key_block_bytes(const struct kv_storage *storage) {
    // Whole words of four 8-bit numbers.
    int32_t width = storage->dtype == KV_INT8 ? (storage->head_dim + 3) / 4 * 4 : storage->head_dim;
    return block_bytes(storage, width, 1);
}

static size_t value_block_bytes(const struct kv_storage *storage) {
    return block_bytes(storage, attention_padded(storage->head_dim), 2);
}

// Parts of blocks, each of one layer and head.
static size_t count_parts(const struct kv_storage *storage, int32_t n_layers) {
    return (size_t)n_layers * (size_t)storage->n_kv_heads * (size_t)storage->n_blocks;
}

struct kv_layer cpu_kv_layer(const struct kv_storage *storage, int32_t layer) {
    size_t key_bytes = key_block_bytes(storage), value_bytes = value_block_bytes(storage);
    size_t before = count_parts(storage, layer);
    return (struct kv_layer){
        .keys = (char *)storage->keys + before * key_bytes,
        .values = (char *)storage->values + before * value_bytes,
        .key_bytes = key_bytes,
        .value_bytes = value_bytes,
        .n_blocks = (size_t)storage->n_blocks,
    };
}

size_t cpu_kv_bytes(const struct kv_storage *storage) {
    return count_parts(storage, storage->n_layers) *
               (key_block_bytes(storage) + value_block_bytes(storage)) +
           cpu_rope_bytes(storage);
}

enum status cpu_kv_create(struct backend *backend, struct kv_storage *storage) {
    size_t n_parts = count_parts(storage, storage->n_layers);
    storage->keys = cpu_alloc(backend, n_parts * key_block_bytes(storage));
    storage->values = cpu_alloc(backend, n_parts * value_block_bytes(storage));
    storage->angles = cpu_alloc(backend, cpu_rope_bytes(storage));
    if (storage->keys == NULL || storage->values == NULL || storage->angles == NULL) {
        cpu_kv_destroy(backend, storage);
        return STATUS_NO_MEMORY;
    }
    cpu_rope_fill(cpu_backend_from(backend), storage);
    return STATUS_OK;
}

void cpu_kv_destroy(struct backend *backend, struct kv_storage *storage) {
    cpu_release(backend, storage->keys);
    cpu_release(backend, storage->values);
    cpu_release(backend, storage->angles);
    storage->keys = NULL;
    storage->values = NULL;
    storage->angles = NULL;
}

void cpu_kv_copy(struct backend *backend, struct kv_storage *storage, int32_t destination,
                 int32_t source) {
    (void)backend;
    for (int32_t l = 0; l < storage->n_layers; ++l) {
        struct kv_layer layer = cpu_kv_layer(storage, l);
        for (int32_t head = 0; head < storage->n_kv_heads; ++head) {
            memcpy(kv_layer_keys(&layer, head, destination), kv_layer_keys(&layer, head, source),
                   layer.key_bytes);
            memcpy(kv_layer_values(&layer, head, destination),
                   kv_layer_values(&layer, head, source), layer.value_bytes);
        }
    }
}
