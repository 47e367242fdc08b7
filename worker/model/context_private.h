// What context.c sets up and forward.c works with.
#ifndef WORKER_MODEL_CONTEXT_PRIVATE_H
#define WORKER_MODEL_CONTEXT_PRIVATE_H

#include "worker/model/context.h"
#include "worker/model/kv_tree.h"

// Activations of one batch, device memory; B is batch_rows.
struct activations {
    struct tensor residual;      // [B, hidden], the stream that layers add to
    struct tensor kept_residual; // [B, hidden], rows of it that are wanted; likewise kept_heads
    struct tensor normed;        // [B, hidden]
    struct tensor qkv;           // [B, (n_heads + 2 * n_kv_heads) * head_dim]
    struct tensor heads;         // [B, n_heads * head_dim], attention's result
    struct tensor kept_heads;    // [B, n_heads * head_dim]
    struct tensor gated;         // [B, ffn]
    struct tensor outputs;       // [output_rows, hidden]
    struct tensor result;        // [output_rows, vocab] logits, or [output_rows, 1] scores
};

enum { ACTIVATION_COUNT = sizeof(struct activations) / sizeof(struct tensor) };

// Part of an item that is in the current batch.
struct batch_piece {
    const struct sequence *sequence;
    int32_t first_position;
    int32_t first_row;
    int32_t n_rows;
};

// Memory of one list of visits.
struct visit_arrays {
    struct kv_visit *visits; // [visits_rows_max, n_blocks at most]
    int32_t *rows;           // [visits_rows_max]
};

// Index arrays of one batch, host memory.
struct batch_arrays {
    int32_t *token_ids;           // [B]
    int32_t *positions;           // [B]
    int32_t *kv_block;            // [B]
    int32_t *output_rows;         // [B], rows whose state is wanted
    struct batch_piece *pieces;   // [B]
    struct visit_arrays visits;   // of layers that look back all the way
    struct visit_arrays windowed; // of layers with a window; NULL members where none has
    int32_t *visit_of_block;      // [n_blocks], the visit that ends with the block
    float *labels;                // [output_rows, model_config_score_rows]
    struct kv_growth *growths;    // [n_sequences]
    int32_t *old_lengths;         // [n_sequences]
};

struct model_context {
    const struct model *model;
    struct backend *backend;
    struct model_context_options options;
    struct kv_tree *tree;
    struct kv_storage kv;
    struct activations act;
    struct tensor outputs; // [n kept by the last forward, hidden], the start of act.outputs
    struct batch_arrays arrays;
    char *array_memory;
    model_progress_fn progress; // NULL: none
    void *progress_caller;
};

#endif
