// One rank of a group: policy, scorers, the jobs and candidates it holds, and the execution of its
// slice of an order: fork or rebuild, decode at most grow_tokens tokens each, score the new tokens.
// Knows no sockets and no collectives; the loops of leader and followers call it. One thread.
#ifndef WORKER_GROUP_RANK_H
#define WORKER_GROUP_RANK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "common/status.h"
#include "proto/wire.h"
#include "worker/backend/precision.h"
#include "worker/score/scorer.h"

enum { RANK_SCORERS_MAX = 8 };

struct rank_scorer_options {
    const char *name;      // as jobs name it
    const char *directory; // Hugging Face directory with a CLASS or SCORE head
};

struct rank_options {
    const char *policy_directory;
    const char *critic_path; // of a latent critic of the policy; NULL: none
    const char *value_path;  // of a value network of the policy; NULL: none
    struct rank_scorer_options scorers[RANK_SCORERS_MAX];
    int n_scorers;
    const char *backend;      // "cpu"
    int threads;              // of the backend, 1..256
    enum precision precision; // of all models' products
    enum kv_dtype kv_dtype;   // of all models' keys and values
    int slots;                // candidates grown at once on this rank, 1..4096, default 64
    int64_t kv_tokens;        // KV capacity of every model, in tokens; 0 takes slots * 256 + 4096
    int context_tokens; // longest prompt + response; 0 takes the smallest of the models' contexts
};

struct rank;

// Called after every layer of a forward pass, so that the leader can beat while work goes on.
typedef void (*rank_progress_fn)(void *context, uint64_t progress);

MUST_CHECK enum status rank_open(const struct rank_options *options, struct rank **out,
                                 struct error *err);
void rank_close(struct rank *rank); // NULL allowed

void rank_set_progress(struct rank *rank, rank_progress_fn progress, void *context);

// The memory plan of the engine, per model and in total; one line each. Scratch is all that is
// neither weights nor KV blocks: activations, logits, index arrays, o_t, tokenizers, and what the
// backend takes for itself. The program, its libraries and the texts of candidates (about 20 bytes
// a token) are not in it.
struct rank_plan {
    size_t weight_bytes;
    size_t kv_bytes;
    size_t scratch_bytes;
};
void rank_get_plan(const struct rank *rank, struct rank_plan *plan);
void rank_print_plan(const struct rank *rank, FILE *stream);

// Fills policy, scorers, backend and order_tokens_max of `hello`; strings are borrowed from the
// rank, the repeated array is owned by the rank too.
void rank_describe(struct rank *rank, Surefoot__GroupHello *hello);

// What the rank has computed since it was opened.
struct rank_counts {
    int64_t orders;
    int64_t sampled_tokens;
    int64_t decode_steps;   // forward passes and draws of the policy that sampled them
    int64_t prefill_tokens; // read by the policy: prompts, and responses that nobody held any more
    int64_t rebuilt_tokens; // of them, responses
    int64_t decode_ns;      // of the orders' time
    int64_t score_ns;
    int64_t paired_runs;                            // times that two scorers worked side by side
    struct scorer_counts scorers[RANK_SCORERS_MAX]; // in the order of the options
};
void rank_get_counts(const struct rank *rank, struct rank_counts *counts);

// Number of KV blocks free in the fullest model.
int32_t rank_kv_blocks_free(const struct rank *rank);

// Carries out the order's releases and new jobs, then the items whose entry in order->ranks equals
// `rank_index` (all of them when order->n_ranks is 0). Returns the rows of those items, in item
// order, as a Gathered of its own (wire_free(WIRE_GATHERED, ...)). A fault of one job or item is
// that row's error; only loss of the device or of memory fails the call.
MUST_CHECK enum status rank_execute(struct rank *rank, const Surefoot__Order *order, int rank_index,
                                    Surefoot__Gathered **out, struct error *err);

#endif
