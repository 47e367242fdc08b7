// What a candidate has written so far: token ids, their log-probabilities and the text they make.
// The text holds whole characters only: a token that ends inside a character shows nothing until a
// later token completes it. NUL, which no message can hold, becomes U+FFFD. End tokens add no text.
// Plain data owned by the candidate; one thread.
//
// A finished response has a reading: the tokens of the text that is returned, as the tokenizer
// writes that text, and the end token if the policy wrote one. Judges read it in place of the
// policy's own tokens, which can spell the same text otherwise, hold tokens without text, or go on
// after the start of a stop string: a verdict on an answer is a verdict on its text.
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
    // The reading; NULL and 0 before response_read.
    int32_t *read_ids;  // [n_read], owned
    int32_t *read_ends; // [n_read], at least one: as text_ends, the last is shown_bytes; owned
    int32_t n_read;     // 0: the empty text without an end token
    int32_t read_from;  // so many ids at the beginning are token_ids's
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

// Makes an incomplete character at the end of the text U+FFFD; nothing may be appended after it.
// Memory or size as for append.
MUST_CHECK enum status response_flush(struct response *response);

// Marks the flushed response as finished. `shown_bytes` < 0: all of the text is returned.
void response_end(struct response *response, enum decode_finish finish, int32_t shown_bytes);

// Makes the reading of a finished response. STATUS_NO_MEMORY; STATUS_LIMIT: the text is above what
// a tokenizer takes.
MUST_CHECK enum status response_read(struct response *response, struct error *err);

// Whether the reading is the policy's own tokens.
bool response_reads_as_written(const struct response *response);

#endif
