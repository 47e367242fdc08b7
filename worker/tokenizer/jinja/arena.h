// Memory of one parsed template or of one rendering: handed out piece by piece, never given back
// before the end, and bounded, so that a template that builds without end is stopped here.
#ifndef WORKER_TOKENIZER_JINJA_ARENA_H
#define WORKER_TOKENIZER_JINJA_ARENA_H

#include <stdbool.h>
#include <stddef.h>

struct arena_block;

struct arena {
    struct arena_block *blocks; // newest first, owned
    size_t free_bytes;          // left in the newest block
    size_t used_bytes;          // handed out so far
    size_t limit_bytes;
    bool over_limit; // the last failure was the limit and not the system's memory
};

// `bytes` bytes (0 is allowed) aligned for any type, zeroed; NULL beyond the limit or without
// memory.
void *arena_alloc(struct arena *arena, size_t bytes);

// The same for count * size bytes, checked for overflow.
void *arena_alloc_array(struct arena *arena, size_t count, size_t size);

// Frees everything; the arena is empty afterwards.
void arena_finish(struct arena *arena);

#endif
