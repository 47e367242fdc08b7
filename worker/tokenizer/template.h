// Chat formats by name: messages to the prompt that a model was trained on, with the opening of the
// answer at its end. Markers that the template writes may be special tokens; what a message says
// never is, so that a user cannot write a turn marker as one. Formats whose markers are plain text
// (llama-2's [INST], alpaca, vicuna, beaver) cannot be protected like this: a marker in a message
// reads the same. No state; any thread.
#ifndef WORKER_TOKENIZER_TEMPLATE_H
#define WORKER_TOKENIZER_TEMPLATE_H

#include <stddef.h>
#include <stdint.h>

#include "common/status.h"
#include "worker/tokenizer/tokenizer.h"

// The numbers are indices of the program only; names are what travels.
enum template_id {
    TEMPLATE_RAW,     // one user message, as it is
    TEMPLATE_LLAMA_2, // [INST] with an optional <<SYS>> block
    TEMPLATE_LLAMA_3, // header and eot tokens
    TEMPLATE_CHATML,  // im_start and im_end tokens
    TEMPLATE_ALPACA,  // ### Instruction: and ### Response:
    TEMPLATE_VICUNA,  // USER: and ASSISTANT:
    TEMPLATE_BEAVER,  // BEGINNING OF CONVERSATION: as in PKU-Alignment/safe-rlhf
    TEMPLATE_COUNT,
};

enum { TEMPLATE_MESSAGES_MAX = 4096 };

struct chat_message {
    const char *role;    // "system", "user" or "assistant"; borrowed, NUL-terminated
    const char *content; // UTF-8; borrowed, NUL-terminated
};

// Name to id ("llama-2", "llama-3", "chatml", "alpaca", "vicuna", "beaver", "raw"). NOT_FOUND: *err
// lists the names.
MUST_CHECK enum status template_find(const char *name, enum template_id *out, struct error *err);

// Name of an id, static storage.
const char *template_name(enum template_id id);

// All names separated by ", ", for messages; static storage.
const char *template_names(void);

// Encodes n messages (>= 1) as a prompt: BOS exactly where the format has it, the messages, the
// opening of the answer. An optional system message comes first, then user and assistant alternate,
// and the last is the user's. INVALID_ARGUMENT: an unknown role, a wrong order, a system message in
// a format without one (beaver, raw), invalid UTF-8; err->field is "messages[i].role" or
// "messages[i].content". UNSUPPORTED: the format ends an answer with EOS and the tokenizer has
// none. LIMIT and the rest as tokenizer_encode.
MUST_CHECK enum status template_encode(const struct tokenizer *tokenizer, enum template_id id,
                                       const struct chat_message *messages, size_t n, int32_t *ids,
                                       size_t capacity, size_t *count, struct error *err);

// The text that template_encode encodes, special tokens spelled out; not NUL-terminated. For tests
// and for a person to read. LIMIT: more than `capacity` bytes are needed, *bytes of them.
MUST_CHECK enum status template_text(const struct tokenizer *tokenizer, enum template_id id,
                                     const struct chat_message *messages, size_t n, char *text,
                                     size_t capacity, size_t *bytes, struct error *err);

#endif
