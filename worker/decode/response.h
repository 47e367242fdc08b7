// What a candidate has written so far: token ids, their log-probabilities and the text they make.
// The text holds whole characters only: a token that ends inside a character shows nothing until a
// later token completes it. End tokens add no text. Plain data owned by the candidate; one thread.
#ifndef WORKER_DECODE_RESPONSE_H
#define WORKER_DECODE_RESPONSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/status.h"
#include "worker/tokenizer/detokenizer.h"

enum decode_finish { // as Finish in group.proto
    DECODE_FINISH_NONE = 0,
    DECODE_FINISH_EOS = 1,
    DECODE_FINISH_STOP = 2,
    DECODE_FINISH_LENGTH = 3,
};

struct response {
    int32_t *token_ids; // [capacity], owned
    float *logprobs;    // [capacity], nats, owned; 0 for tokens that were given, not sampled
    int32_t *text_ends; // [capacity], bytes of text that are complete after each token; owned
    int32_t n_tokens;
    int32_t capacity; // tokens
    char *text;       // [text_bytes], valid UTF-8, owned; not NUL-terminated
    int32_t text_bytes;
    int32_t text_capacity;
    int32_t shown_bytes; // text that is returned: all of it, or up to the stop string
    enum decode_finish finish;
    struct detokenizer detokenizer;
};

// An empty response with room for `capacity` >= 1 tokens. Borrows `tokenizer` until finish.
// STATUS_NO_MEMORY: nothing to release.
MUST_CHECK enum status response_init(struct response *response, const struct tokenizer *tokenizer,
                                     int32_t capacity);

// Releases the memory; a zeroed struct is allowed.
void response_finish(struct response *response);

// Initialises `out` as a copy of an unfinished response.
MUST_CHECK enum status response_fork(struct response *out, const struct response *parent);

// Adds one token; `is_end` tells that it ends the text and shows nothing. STATUS_LIMIT: capacity
// used up. STATUS_INVALID_ARGUMENT: id outside the tokenizer's vocabulary. STATUS_NO_MEMORY. The
// response is unchanged then.
MUST_CHECK enum status response_append(struct response *response, int32_t token_id, float logprob,
                                       bool is_end);

// Marks the response as finished: an incomplete character at its end becomes U+FFFD (unless a stop
// string cut it). `shown_bytes` < 0: all of the text is returned.
MUST_CHECK enum status response_end(struct response *response, enum decode_finish finish,
                                    int32_t shown_bytes);

#endif
