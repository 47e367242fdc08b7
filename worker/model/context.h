// The mutable side of a model on one rank: a pool of KV blocks, the sequences over them (a tree:
// forked sequences share their blocks), and scratch memory for one batch. All memory is taken at
// creation; steady-state work allocates nothing. Engine thread only.
#ifndef WORKER_MODEL_CONTEXT_H
#define WORKER_MODEL_CONTEXT_H

#include <stddef.h>
#include <stdint.h>

#include "common/status.h"
#include "worker/model/model.h"

struct model_context;
struct sequence; // one timeline: block table and length; in a context's fixed pool

struct model_context_options {
    int32_t n_kv_blocks;    // blocks of KV_BLOCK_TOKENS positions
    int32_t n_sequences;    // most sequences alive at once
    int32_t batch_rows;     // most rows computed at once; larger work is cut into such pieces
    int32_t output_rows;    // most rows whose result one forward call may ask for
    int32_t context_tokens; // longest sequence; at most the model's context length; may decide how
                            // positions are embedded (rope_is_long)
    enum kv_dtype kv_dtype; // default KV_F32; the others take half or a quarter of the memory
};

// Bytes that a context will take; printed as the plan at load.
struct model_context_plan {
    size_t kv_bytes;
    size_t scratch_bytes; // activations, outputs, logits, index arrays, block tables
};

void model_context_plan(const struct model *model, const struct model_context_options *options,
                        struct model_context_plan *plan);

// Borrows `model` until destroy.
MUST_CHECK enum status model_context_create(const struct model *model,
                                            const struct model_context_options *options,
                                            struct model_context **out, struct error *err);
void model_context_destroy(struct model_context *context); // NULL allowed

// `progress` is called after every layer of a forward pass, so that a caller who must show signs of
// life can do so during a long prefill; NULL for none. Must not use the context.
typedef void (*model_progress_fn)(void *caller);
void model_context_set_progress(struct model_context *context, model_progress_fn progress,
                                void *caller);

const struct model *model_context_model(const struct model_context *context);
int32_t model_context_blocks_free(const struct model_context *context);
int32_t model_context_blocks_total(const struct model_context *context);

// An empty sequence. NULL when all n_sequences are in use.
struct sequence *sequence_create(struct model_context *context);

// A second timeline that shares the first `length` tokens of `parent`; copies no keys and values
// (the first write into a shared, partly filled block copies that block). NULL when none is free.
struct sequence *sequence_fork(struct model_context *context, const struct sequence *parent,
                               int32_t length);

// `sequence` gives up what it holds for all of `source`, shared as by a fork.
void sequence_assign(struct model_context *context, struct sequence *sequence,
                     const struct sequence *source);

// Forgets everything from `length` on; blocks that nobody else holds are free at once.
void sequence_truncate(struct model_context *context, struct sequence *sequence, int32_t length);

// Frees the sequence and every block that nobody else holds. NULL allowed.
void sequence_destroy(struct model_context *context, struct sequence *sequence);

int32_t sequence_length(const struct sequence *sequence);

enum forward_output { FORWARD_OUTPUT_NONE, FORWARD_OUTPUT_LAST, FORWARD_OUTPUT_ALL };

struct forward_item {
    struct sequence *sequence; // grows by n_tokens; a sequence appears at most once in a call
    const int32_t *token_ids;  // [n_tokens], host
    int32_t n_tokens;
    enum forward_output output; // which of the new positions' final hidden states are wanted
};

// Runs the new tokens of all items through the layers, in batches of at most batch_rows rows, and
// keeps the wanted positions' states after the final norm (o_t), in item and position order, for
// the calls below. Either all sequences have grown or none has: STATUS_LIMIT when the KV blocks,
// the context length or output_rows do not suffice.
MUST_CHECK enum status model_forward(struct model_context *context,
                                     const struct forward_item *items, int32_t n_items,
                                     struct error *err);

// How many output rows the last forward kept, and their states [n, hidden] f32 on the device; valid
// until the next forward.
int32_t model_output_count(const struct model_context *context);
const struct tensor *model_outputs(const struct model_context *context);

// Scores of the kept rows through the CLASS or SCORE head, normaliser applied: scores[n], host.
MUST_CHECK enum status model_score_outputs(struct model_context *context, float *scores);

// logits[n, vocab] (device, f32) = states[n, hidden] lm_head^T. Returned tensor belongs to the
// context and is valid until the next call; n is at most output_rows.
MUST_CHECK enum status model_logits(struct model_context *context, const struct tensor *states,
                                    struct tensor *logits);

#endif
