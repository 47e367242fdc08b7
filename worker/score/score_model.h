// A scorer that is a model: a reward or cost model with a CLASS or SCORE head, reading the prompt
// in its own chat template and then the response. Both heads are evaluated at every new position,
// so that token scores exist for either form; a CLASS head is trained at the last position only.
//
// What it reads of the response. When the tokenizer equals the policy's (tokenizer_fingerprint) and
// the vocabulary suffices, the token ids as they are given. Otherwise the response's text,
// tokenized anew at every extension as a continuation of the prompt, plus the scorer's own end
// token when the policy wrote one. The ids are compared with those already read: the common
// beginning stays in the KV, the rest is read again. So each extension equals reading that text
// from scratch; the border between prompt and response is always a border between tokens.
//
// Token scores are per policy token. With ids handed over, token i has the head's score after i.
// With text, the policy token in whose text a scorer token's last byte falls gets that score; a
// policy token with several gets their sum, one with none gets 0: every scorer token counts exactly
// once, as sums over tokens need it. (A tokenizer that changes the length of the text it normalises
// moves scores by as many bytes.) end_score is the score after the last scorer token.
//
// A CLASS head pools as transformers' *ForSequenceClassification does: the score of a text is that
// of its rightmost token that is not config.json's pad_token_id, so padding has the score of what
// stands before it, wherever it stands. Where that is not meant (the end token pads too, and the
// model was trained to be read there) the profile says pooling "last".
//
// An end token is not part of the text: it has no token score (0 at its place), and what the model
// says after it is the end_score. One that is not part of the response is read, scored and
// forgotten: for a finished text without one when the model's profile says append_eos, and for any
// text without one, the prompt included, when the job appends it for costs (cost_eos). A profile's
// score_after, what the model's template writes behind an answer, is read and forgotten in the same
// way: behind every text, the prompt included, and in the place of the response's end token.
// What texts of a job share is read once, where it can be: those of one call wait for one another,
// and finished ones are kept for a while (readings.h). Scores are the same with and without.
#ifndef WORKER_SCORE_SCORE_MODEL_H
#define WORKER_SCORE_SCORE_MODEL_H

#include "worker/model/context.h"
#include "worker/score/scorer.h"

struct score_model_options {
    struct model_context *context;
    const struct tokenizer *tokenizer; // the model's own
    const struct tokenizer *policy_tokenizer;
    int32_t output_rows;    // as the context was created with
    int32_t context_tokens; // likewise
    int32_t kept_readings;  // finished texts kept, each a sequence of the context's; 0 none
};

// Borrows what `options` points to until scorer_close. STATUS_UNSUPPORTED: an LM head, or the
// profile asks for an end token and the model has none, or skips it.
MUST_CHECK enum status score_model_open(const struct score_model_options *options,
                                        struct scorer **out, struct error *err);

// Whether token ids are handed over.
bool score_model_shares_ids(const struct scorer *scorer);

#endif
