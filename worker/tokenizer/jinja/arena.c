#include "worker/tokenizer/jinja/arena.h"

#include <stdalign.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

// Under the address sanitizer every piece is a block of its own, so that reading past it shows.
#if defined(__SANITIZE_ADDRESS__)
enum { BLOCK_BYTES = 0 };
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
enum { BLOCK_BYTES = 0 };
#else
enum { BLOCK_BYTES = 32 << 10 };
#endif
#else
enum { BLOCK_BYTES = 32 << 10 };
#endif

enum { ALIGNMENT = alignof(max_align_t) };

struct arena_block {
    struct arena_block *next;
    size_t bytes; // of data
    alignas(max_align_t) char data[];
};

static bool add_block(struct arena *arena, size_t bytes) {
    size_t data_bytes = bytes > BLOCK_BYTES ? bytes : BLOCK_BYTES;
    struct arena_block *block = malloc(sizeof *block + data_bytes);
    if (block == NULL) {
        return false;
    }
    block->bytes = data_bytes;
    block->next = arena->blocks;
    arena->blocks = block;
    arena->free_bytes = data_bytes;
    return true;
}

void *arena_alloc(struct arena *arena, size_t bytes) {
    if (bytes > arena->limit_bytes - arena->used_bytes) {
        arena->over_limit = true;
        return NULL;
    }
    size_t rounded = bytes == 0 ? ALIGNMENT : (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    size_t wanted = BLOCK_BYTES == 0 ? bytes : rounded; // exact where overruns are looked for
    if ((arena->blocks == NULL || BLOCK_BYTES == 0 || wanted > arena->free_bytes) &&
        !add_block(arena, wanted)) {
        return NULL;
    }
    char *piece = arena->blocks->data + (arena->blocks->bytes - arena->free_bytes);
    arena->free_bytes -= wanted;
    arena->used_bytes += rounded < arena->limit_bytes - arena->used_bytes ? rounded : bytes;
    memset(piece, 0, bytes);
    return piece;
}

void *arena_alloc_array(struct arena *arena, size_t count, size_t size) {
    if (size != 0 && count > SIZE_MAX / size) {
        arena->over_limit = true;
        return NULL;
    }
    return arena_alloc(arena, count * size);
}

void arena_finish(struct arena *arena) {
    while (arena->blocks != NULL) {
        struct arena_block *next = arena->blocks->next;
        free(arena->blocks);
        arena->blocks = next;
    }
    arena->free_bytes = 0;
    arena->used_bytes = 0;
}
