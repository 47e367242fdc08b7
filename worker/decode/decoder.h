// Block decoding: grows many candidates of many jobs together, one token a step for all of them,
// until each has grown its block or is finished. Between blocks a candidate is a sequence (its keys
// and values), a response, and o_t: the final hidden state of its newest token, from which the next
// token is drawn. The decoder keeps o_t in numbered rows of one tensor, so that a fork, a retry
// with penalties or a continuation starts without running the model again. Random numbers are keyed
// by (seed, lineage, position) and every row of a batch is computed alone, so that what a candidate
// writes does not depend on its company. For the same reason tasks of one job that stand at the
// same tokens, as children of one parent do at first, are read by the model as one until they
// differ. Engine thread only.
#ifndef WORKER_DECODE_DECODER_H
#define WORKER_DECODE_DECODER_H

#include <stdint.h>

#include "common/status.h"
#include "worker/decode/response.h"
#include "worker/decode/sampling.h"
#include "worker/model/context.h"

enum { DECODE_STOPS_MAX = 16 };

struct decode_stop {
    const char *text; // [bytes], UTF-8, borrowed
    int32_t bytes;    // > 0
};

// How o_t is moved before a token is drawn from it: what is kept of it stays. What it is moved
// along is the proposal's; the plain one takes steps 0 alone.
struct decode_move {
    int32_t steps;
    float size;
};

// How one job is decoded; borrowed by the tasks.
struct decode_params {
    struct sampling_params sampling;
    struct decode_stop stops[DECODE_STOPS_MAX];
    int32_t n_stops;
    int32_t min_tokens; // tokens before an end token; no stop string ends a shorter response
    int32_t max_tokens;
    struct decode_move move;
    uint64_t seed;
    const int32_t *prompt_ids; // [n_prompt]
    int32_t n_prompt;
};

// How the next tokens are drawn: the seam for draft-and-verify and steered proposals. `draw` fills
// token_id and logprob of rows[n] from o_t, states[n, hidden], which it may overwrite; one token a
// row.
struct proposal;
struct proposal_ops {
    const char *name;
    enum status (*draw)(struct proposal *proposal, struct model_context *context,
                        struct tensor *states, const struct decode_move *moves,
                        struct sampling_row *rows, int32_t n);
};

// Embedded first in each implementation's struct.
struct proposal {
    const struct proposal_ops *ops;
};

// Samples from the policy's own distribution: logits = lm_head o_t, then worker/decode/sampling.h.
extern const struct proposal_ops proposal_plain_ops;

struct decoder_options {
    int32_t n_states;   // rows of o_t
    int32_t batch_rows; // most candidates in one step, at most the context's output_rows
};

struct decoder;

// What a decoder has done since it was created.
struct decoder_counts {
    int64_t prefill_tokens; // given to decoder_prefill
    int64_t steps;          // of decoder_grow
    int64_t sampled_tokens; // by these steps: rows drawn
    int64_t read_tokens;    // by these steps: rows that the model ran
};

// Borrows context, tokenizer and proposal until destroy; NULL proposal: the plain one. All device
// memory is taken here, the backend's for sampling included. STATUS_NO_MEMORY.
MUST_CHECK enum status decoder_create(struct model_context *context,
                                      const struct tokenizer *tokenizer, struct proposal *proposal,
                                      const struct decoder_options *options, struct decoder **out);
void decoder_destroy(struct decoder *decoder); // NULL allowed

// Bytes of the o_t rows, the batch copy and the arrays of a step.
size_t decoder_bytes(const struct model_context *context, const struct decoder_options *options);

void decoder_get_counts(const struct decoder *decoder, struct decoder_counts *counts);

// Takes a free row for o_t, -1 when all are in use; gives it back (-1 allowed).
int32_t decoder_state_acquire(struct decoder *decoder);
void decoder_state_release(struct decoder *decoder, int32_t state);

// The rows themselves, [n_states, hidden], on the device; the decoder's.
const struct tensor *decoder_states(const struct decoder *decoder);

// Copies rows: states[to[i]] = states[from[i]] for n pairs; no row is both read and written.
void decoder_state_copy(struct decoder *decoder, const int32_t *from, const int32_t *to, int32_t n);

// Brings one row to the host: out[hidden]. Waits. STATUS_DEVICE.
MUST_CHECK enum status decoder_state_read(const struct decoder *decoder, int32_t state, float *out);

// Whether `token_id` ends a text: an end token of the policy's configuration or of its tokenizer.
bool decoder_is_end(const struct decoder *decoder, int32_t token_id);

struct decode_prefill {
    struct sequence *sequence; // grows by the tokens
    const int32_t *token_ids;  // [n_tokens]
    int32_t n_tokens;          // > 0
    int32_t state;             // row that takes o_t of the last token
};

// Runs given tokens through the model: prompts, and responses that are rebuilt. STATUS_LIMIT: the
// KV does not suffice; some of the sequences may have grown.
MUST_CHECK enum status decoder_prefill(struct decoder *decoder, const struct decode_prefill *items,
                                       int32_t n, struct error *err);

struct decode_task {
    const struct decode_params *params;
    // Prompt and response; grows. Of no use but for being dropped once the response is finished.
    struct sequence *sequence;
    struct response *response; // grows
    int32_t state; // row of o_t: of the newest token before and, of an unfinished response, after
    int32_t grow_tokens;                    // > 0
    struct token_values penalty;            // subtracted from the logits of every step
    const struct sampling_params *sampling; // in place of the params', NULL: those
    uint64_t lineage;
    // 0 draws; else every token is the one of this place by raw logit: no option but min_tokens
    // says which can be taken.
    int32_t rank;
    const int32_t *given; // [grow_tokens] the tokens that it grows by, no end tokens; NULL: none
    // Above 0: the block ends before a token whose distribution, by raw logits at temperature 1,
    // has so many nats of entropy or more, once it has entropy_after > 0 tokens.
    float entropy_stop;
    int32_t entropy_after;
    bool cut; // out: it did
    // Out: STATUS_OK, or why no next token could be drawn (STATUS_DEVICE): the task grew no
    // further, and its sequence and response are of no use but for being dropped. No other task is
    // touched.
    struct error error;
};

// Grows each task by at most grow_tokens tokens, fewer where entropy ends its block. At most
// batch_rows grow at once; the next task takes the place of one that is done in the step after. A
// response finishes with an end token (EOS, kept as its last token); when a stop string appears in
// its text (STOP: tokens up to the one that completed it are kept, shown_bytes ends before the
// earliest match); or at max_tokens (LENGTH). An end token or the limit that leaves a character
// incomplete makes it U+FFFD, and a stop string that this completes stops the text. STATUS_LIMIT:
// the KV does not suffice; the tasks are then of no use but for being dropped. The same holds for
// STATUS_NO_MEMORY and STATUS_DEVICE.
MUST_CHECK enum status decoder_grow(struct decoder *decoder, struct decode_task *tasks, int32_t n,
                                    struct error *err);

#endif
