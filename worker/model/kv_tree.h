// Which KV blocks hold which sequence: a pool of counted blocks of KV_BLOCK_TOKENS positions and a
// pool of sequences over them. A block always stands at the same, block-aligned position of all
// sequences that hold it, so that forked sequences form a tree that shares its stems. Knows no
// device memory: it says which block must be copied, the caller copies. Nothing is allocated after
// creation. Misuse (a sequence used after destroy, more growth than blocks) is a programmer error.
#ifndef WORKER_MODEL_KV_TREE_H
#define WORKER_MODEL_KV_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/status.h"
#include "worker/backend/backend.h"

struct sequence {
    int32_t length;  // tokens
    int32_t *blocks; // [blocks per sequence]; the first ceil(length / KV_BLOCK_TOKENS) are held
    bool alive;
    bool growing;               // mentioned in the growth that is being prepared
    struct sequence *next_free; // while not alive
};

struct kv_tree_options {
    int32_t n_blocks;
    int32_t n_sequences;
    int32_t context_tokens; // longest sequence
};

struct kv_tree;

struct kv_growth {
    struct sequence *sequence;
    int32_t n_tokens; // >= 1
};

// Copy `source` to `destination` before writing to it.
struct kv_block_copy {
    int32_t destination;
    int32_t source;
};

// Blocks that the longest sequence can have: those of context_tokens, n_blocks at most.
int32_t kv_tree_blocks_per_sequence(const struct kv_tree_options *options);

size_t kv_tree_bytes(const struct kv_tree_options *options);
MUST_CHECK enum status kv_tree_create(const struct kv_tree_options *options, struct kv_tree **out);
void kv_tree_destroy(struct kv_tree *tree); // NULL allowed

int32_t kv_tree_blocks_free(const struct kv_tree *tree);
int32_t kv_tree_blocks_total(const struct kv_tree *tree);
int32_t kv_tree_sequences_alive(const struct kv_tree *tree);
// How many sequences hold `block`.
int32_t kv_tree_references(const struct kv_tree *tree, int32_t block);

struct sequence *kv_tree_sequence_create(struct kv_tree *tree); // NULL when all are in use
// Shares the first `length` tokens of `parent`, length <= its length. NULL when all are in use.
struct sequence *kv_tree_sequence_fork(struct kv_tree *tree, const struct sequence *parent,
                                       int32_t length);
// `sequence` gives up what it holds and shares all of `source`.
void kv_tree_sequence_assign(struct kv_tree *tree, struct sequence *sequence,
                             const struct sequence *source);
void kv_tree_sequence_truncate(struct kv_tree *tree, struct sequence *sequence, int32_t length);
void kv_tree_sequence_destroy(struct kv_tree *tree, struct sequence *sequence); // NULL allowed

// Blocks that growing all these sequences, each mentioned once, will take from the free ones,
// exactly: the last of several growing holders of a partly filled block keeps it and needs no copy.
int64_t kv_tree_blocks_needed(struct kv_tree *tree, const struct kv_growth *growths, int32_t n);

// Lengthens the sequence; its new positions are in blocks that it alone holds. Returns true when
// `copy` must be carried out first. The blocks must be free: see kv_tree_blocks_needed.
bool kv_tree_grow(struct kv_tree *tree, const struct kv_growth *growth, struct kv_block_copy *copy);

#endif
