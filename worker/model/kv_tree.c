// A block is free, and on the free stack, exactly when its count is 0.
#include "worker/model/kv_tree.h"

#include <stdlib.h>

struct kv_tree {
    struct kv_tree_options options;
    int32_t *references; // [n_blocks], sequences that hold the block
    int32_t *growers;    // [n_blocks], zero between calls of kv_tree_blocks_needed
    int32_t *free_stack; // [n_blocks]
    int32_t n_free;
    int32_t n_alive;
    int32_t *tables;            // [n_sequences, blocks_per_sequence]
    struct sequence *sequences; // [n_sequences]
    struct sequence *first_free;
};

static int32_t blocks_for(int32_t n_tokens) {
    return n_tokens / KV_BLOCK_TOKENS + (n_tokens % KV_BLOCK_TOKENS != 0);
}

int32_t kv_tree_blocks_per_sequence(const struct kv_tree_options *options) {
    int32_t wanted = blocks_for(options->context_tokens);
    return wanted < options->n_blocks ? wanted : options->n_blocks;
}

size_t kv_tree_bytes(const struct kv_tree_options *options) {
    size_t table = (size_t)kv_tree_blocks_per_sequence(options) * sizeof(int32_t);
    return sizeof(struct kv_tree) + 3 * sizeof(int32_t) * (size_t)options->n_blocks +
           (size_t)options->n_sequences * (table + sizeof(struct sequence));
}

enum status kv_tree_create(const struct kv_tree_options *options, struct kv_tree **out) {
    ASSERT(options->n_blocks >= 1 && options->n_sequences >= 1 && options->context_tokens >= 1);
    struct kv_tree *tree = calloc(1, sizeof(*tree));
    if (tree == NULL) {
        return STATUS_NO_MEMORY;
    }
    size_t n_blocks = (size_t)options->n_blocks, n_sequences = (size_t)options->n_sequences;
    tree->options = *options;
    size_t table = (size_t)kv_tree_blocks_per_sequence(options);
    tree->references = calloc(n_blocks, sizeof(int32_t));
    tree->growers = calloc(n_blocks, sizeof(int32_t));
    tree->free_stack = calloc(n_blocks, sizeof(int32_t));
    tree->tables = calloc(n_sequences * table, sizeof(int32_t));
    tree->sequences = calloc(n_sequences, sizeof(struct sequence));
    if (tree->references == NULL || tree->growers == NULL || tree->free_stack == NULL ||
        tree->tables == NULL || tree->sequences == NULL) {
        kv_tree_destroy(tree);
        return STATUS_NO_MEMORY;
    }
    // Both pools hand out their lowest entry first.
    for (int32_t i = options->n_blocks; i-- > 0;) {
        tree->free_stack[tree->n_free++] = i;
    }
    for (int32_t i = options->n_sequences; i-- > 0;) {
        struct sequence *sequence = &tree->sequences[i];
        sequence->blocks = tree->tables + (size_t)i * table;
        sequence->next_free = tree->first_free;
        tree->first_free = sequence;
    }
    *out = tree;
    return STATUS_OK;
}

void kv_tree_destroy(struct kv_tree *tree) {
    if (tree == NULL) {
        return;
    }
    free(tree->references);
    free(tree->growers);
    free(tree->free_stack);
    free(tree->tables);
    free(tree->sequences);
    free(tree);
}

int32_t kv_tree_blocks_free(const struct kv_tree *tree) {
    return tree->n_free;
}

int32_t kv_tree_blocks_total(const struct kv_tree *tree) {
    return tree->options.n_blocks;
}

int32_t kv_tree_sequences_alive(const struct kv_tree *tree) {
    return tree->n_alive;
}

int32_t kv_tree_references(const struct kv_tree *tree, int32_t block) {
    ASSERT(block >= 0 && block < tree->options.n_blocks);
    return tree->references[block];
}

static int32_t take_block(struct kv_tree *tree) {
    ASSERT(tree->n_free > 0);
    int32_t block = tree->free_stack[--tree->n_free];
    ASSERT(tree->references[block] == 0);
    tree->references[block] = 1;
    return block;
}

static void drop_block(struct kv_tree *tree, int32_t block) {
    ASSERT(tree->references[block] > 0);
    if (--tree->references[block] == 0) {
        tree->free_stack[tree->n_free++] = block;
    }
}

struct sequence *kv_tree_sequence_create(struct kv_tree *tree) {
    struct sequence *sequence = tree->first_free;
    if (sequence == NULL) {
        return NULL;
    }
    tree->first_free = sequence->next_free;
    tree->n_alive += 1;
    sequence->next_free = NULL;
    sequence->alive = true;
    sequence->length = 0;
    return sequence;
}

// Of a sequence that holds nothing.
static void share(struct kv_tree *tree, struct sequence *sequence, const struct sequence *source,
                  int32_t length) {
    sequence->length = length;
    for (int32_t i = 0; i < blocks_for(length); ++i) {
        sequence->blocks[i] = source->blocks[i];
        tree->references[sequence->blocks[i]] += 1;
    }
}

struct sequence *kv_tree_sequence_fork(struct kv_tree *tree, const struct sequence *parent,
                                       int32_t length) {
    ASSERT(parent->alive && length >= 0 && length <= parent->length);
    struct sequence *child = kv_tree_sequence_create(tree);
    if (child != NULL) {
        share(tree, child, parent, length);
    }
    return child;
}

void kv_tree_sequence_assign(struct kv_tree *tree, struct sequence *sequence,
                             const struct sequence *source) {
    ASSERT(source->alive && sequence != source);
    kv_tree_sequence_truncate(tree, sequence, 0);
    share(tree, sequence, source, source->length);
}

void kv_tree_sequence_truncate(struct kv_tree *tree, struct sequence *sequence, int32_t length) {
    ASSERT(sequence->alive && length >= 0 && length <= sequence->length);
    for (int32_t i = blocks_for(length); i < blocks_for(sequence->length); ++i) {
        drop_block(tree, sequence->blocks[i]);
    }
    sequence->length = length;
}

void kv_tree_sequence_destroy(struct kv_tree *tree, struct sequence *sequence) {
    if (sequence == NULL) {
        return;
    }
    kv_tree_sequence_truncate(tree, sequence, 0);
    sequence->alive = false;
    sequence->next_free = tree->first_free;
    tree->first_free = sequence;
    tree->n_alive -= 1;
}

// The block that the sequence's next token goes into, if it is partly filled; otherwise -1.
static int32_t open_block(const struct sequence *sequence) {
    if (sequence->length % KV_BLOCK_TOKENS == 0) {
        return -1;
    }
    return sequence->blocks[sequence->length / KV_BLOCK_TOKENS];
}

int64_t kv_tree_blocks_needed(struct kv_tree *tree, const struct kv_growth *growths, int32_t n) {
    int64_t needed = 0;
    for (int32_t i = 0; i < n; ++i) {
        struct sequence *sequence = growths[i].sequence;
        ASSERT(sequence->alive && !sequence->growing && growths[i].n_tokens >= 1);
        ASSERT(growths[i].n_tokens <= tree->options.context_tokens - sequence->length);
        sequence->growing = true;
        needed += blocks_for(sequence->length + growths[i].n_tokens) - blocks_for(sequence->length);
        int32_t block = open_block(sequence);
        // Each grower of a shared open block copies it, except one that is its only holder by then.
        if (block >= 0 && ++tree->growers[block] < tree->references[block]) {
            needed += 1;
        }
    }
    for (int32_t i = 0; i < n; ++i) {
        int32_t block = open_block(growths[i].sequence);
        if (block >= 0) {
            tree->growers[block] = 0;
        }
        growths[i].sequence->growing = false;
    }
    return needed;
}

bool kv_tree_grow(struct kv_tree *tree, const struct kv_growth *growth,
                  struct kv_block_copy *copy) {
    struct sequence *sequence = growth->sequence;
    ASSERT(sequence->alive && growth->n_tokens >= 1);
    ASSERT(growth->n_tokens <= tree->options.context_tokens - sequence->length);
    bool copied = false;
    int32_t shared = open_block(sequence);
    if (shared >= 0 && tree->references[shared] > 1) {
        int32_t own = take_block(tree);
        drop_block(tree, shared);
        sequence->blocks[sequence->length / KV_BLOCK_TOKENS] = own;
        *copy = (struct kv_block_copy){own, shared};
        copied = true;
    }
    int32_t length = sequence->length + growth->n_tokens;
    for (int32_t i = blocks_for(sequence->length); i < blocks_for(length); ++i) {
        sequence->blocks[i] = take_block(tree);
    }
    sequence->length = length;
    return copied;
}
