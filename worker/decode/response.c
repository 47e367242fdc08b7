#include "worker/decode/response.h"

#include <stdlib.h>
#include <string.h>

enum {
    TEXT_BYTES_PER_TOKEN = 8, // first guess; the text grows beyond it
    TEXT_BYTES_MAX = 1 << 28,
};

enum status response_init(struct response *response, const struct tokenizer *tokenizer,
                          int32_t capacity) {
    ASSERT(capacity > 0 && capacity <= TEXT_BYTES_MAX / TEXT_BYTES_PER_TOKEN);
    *response = (struct response){.capacity = capacity};
    size_t n = (size_t)capacity;
    response->token_ids = malloc(n * sizeof *response->token_ids);
    response->logprobs = malloc(n * sizeof *response->logprobs);
    response->text_ends = malloc(n * sizeof *response->text_ends);
    response->text_capacity = (int32_t)n * TEXT_BYTES_PER_TOKEN;
    response->text = malloc((size_t)response->text_capacity);
    if (response->token_ids == NULL || response->logprobs == NULL || response->text_ends == NULL ||
        response->text == NULL) {
        response_finish(response);
        return STATUS_NO_MEMORY;
    }
    detokenizer_init(&response->detokenizer, tokenizer, TOKENIZER_CONTINUATION);
    return STATUS_OK;
}

void response_finish(struct response *response) {
    free(response->token_ids);
    free(response->logprobs);
    free(response->text_ends);
    free(response->text);
    free(response->read_ids);
    free(response->read_ends);
    *response = (struct response){0};
}

static enum status reserve_text(struct response *response, int32_t bytes) {
    int32_t needed = response->text_bytes + bytes;
    if (needed <= response->text_capacity) {
        return STATUS_OK;
    }
    if (needed > TEXT_BYTES_MAX / 2) {
        return STATUS_LIMIT;
    }
    char *text = realloc(response->text, 2 * (size_t)needed);
    if (text == NULL) {
        return STATUS_NO_MEMORY;
    }
    response->text = text;
    response->text_capacity = 2 * needed;
    return STATUS_OK;
}

enum status response_fork(struct response *out, const struct response *parent) {
    ASSERT(parent->finish == DECODE_FINISH_NONE);
    enum status status = response_init(out, parent->detokenizer.tokenizer, parent->capacity);
    if (status != STATUS_OK) {
        return status;
    }
    status = reserve_text(out, parent->text_bytes);
    if (status != STATUS_OK) {
        response_finish(out);
        return status;
    }
    size_t n = (size_t)parent->n_tokens;
    memcpy(out->token_ids, parent->token_ids, n * sizeof *out->token_ids);
    memcpy(out->logprobs, parent->logprobs, n * sizeof *out->logprobs);
    memcpy(out->text_ends, parent->text_ends, n * sizeof *out->text_ends);
    memcpy(out->text, parent->text, (size_t)parent->text_bytes);
    out->n_tokens = parent->n_tokens;
    out->text_bytes = parent->text_bytes;
    out->detokenizer = parent->detokenizer;
    return STATUS_OK;
}

static enum status append_text(struct response *response, const char *bytes, size_t count) {
    static const char replacement[] = "\xEF\xBF\xBD";
    enum { REPLACEMENT_BYTES = sizeof replacement - 1 };
    enum status status = reserve_text(response, (int32_t)count * REPLACEMENT_BYTES);
    if (status != STATUS_OK) {
        return status;
    }
    char *end = response->text + response->text_bytes;
    for (size_t i = 0; i < count; i++) {
        if (bytes[i] != '\0') {
            *end++ = bytes[i];
        } else {
            memcpy(end, replacement, REPLACEMENT_BYTES);
            end += REPLACEMENT_BYTES;
        }
    }
    response->text_bytes = (int32_t)(end - response->text);
    return STATUS_OK;
}

enum status response_append(struct response *response, int32_t token_id, float logprob,
                            bool is_end) {
    ASSERT(response->finish == DECODE_FINISH_NONE);
    if (response->n_tokens == response->capacity) {
        return STATUS_LIMIT;
    }
    if (!is_end) {
        char piece[DETOKENIZER_OUT_BYTES_MAX];
        size_t bytes = 0;
        struct detokenizer before = response->detokenizer;
        enum status status =
            detokenizer_push(&response->detokenizer, token_id, piece, sizeof piece, &bytes);
        if (status == STATUS_OK) {
            status = append_text(response, piece, bytes);
        }
        if (status != STATUS_OK) {
            response->detokenizer = before;
            return status;
        }
    }
    int32_t index = response->n_tokens++;
    response->token_ids[index] = token_id;
    response->logprobs[index] = logprob;
    response->text_ends[index] = response->text_bytes;
    return STATUS_OK;
}

enum status response_flush(struct response *response) {
    ASSERT(response->n_tokens > 0 && response->finish == DECODE_FINISH_NONE);
    char piece[DETOKENIZER_OUT_BYTES_MAX];
    size_t bytes = 0;
    enum status status = detokenizer_finish(&response->detokenizer, piece, sizeof piece, &bytes);
    if (status == STATUS_OK) {
        status = append_text(response, piece, bytes);
    }
    response->text_ends[response->n_tokens - 1] = response->text_bytes;
    return status;
}

void response_end(struct response *response, enum decode_finish finish, int32_t shown_bytes) {
    ASSERT(response->n_tokens > 0 && finish != DECODE_FINISH_NONE);
    ASSERT(shown_bytes <= response->text_bytes);
    response->shown_bytes = shown_bytes < 0 ? response->text_bytes : shown_bytes;
    response->finish = finish;
}

// The ids of the text that is returned, and room for one more. A tokenizer that lengthens its text
// needs more ids than the text has bytes.
static enum status encode_shown(struct response *response, struct error *err) {
    size_t capacity = (size_t)response->shown_bytes + 1;
    size_t count = 0;
    for (;;) {
        int32_t *ids = realloc(response->read_ids, (capacity + 1) * sizeof *ids);
        if (ids == NULL) {
            return error_set(err, STATUS_NO_MEMORY, NULL, "no memory to read a text");
        }
        response->read_ids = ids;
        enum status status = tokenizer_encode(response->detokenizer.tokenizer, response->text,
                                              (size_t)response->shown_bytes, TOKENIZER_CONTINUATION,
                                              ids, capacity, &count, err);
        if (status == STATUS_LIMIT && count > capacity) {
            capacity = count;
            continue;
        }
        response->n_read = (int32_t)count;
        return status;
    }
}

// Where in the text each id of the reading ends. Ids that the policy wrote end where they did then.
static enum status find_ends(struct response *response) {
    struct detokenizer detokenizer;
    detokenizer_init(&detokenizer, response->detokenizer.tokenizer, TOKENIZER_CONTINUATION);
    int64_t end = 0;
    for (int32_t i = 0; i < response->n_read; i++) {
        char piece[DETOKENIZER_OUT_BYTES_MAX];
        size_t bytes = 0;
        enum status status =
            detokenizer_push(&detokenizer, response->read_ids[i], piece, sizeof piece, &bytes);
        if (status != STATUS_OK) {
            return status;
        }
        end += (int64_t)bytes;
        response->read_ends[i] = end < response->shown_bytes ? (int32_t)end : response->shown_bytes;
    }
    response->read_ends[response->n_read > 0 ? response->n_read - 1 : 0] = response->shown_bytes;
    return STATUS_OK;
}

enum status response_read(struct response *response, struct error *err) {
    ASSERT(response->finish != DECODE_FINISH_NONE && response->read_ids == NULL);
    enum status status = encode_shown(response, err);
    if (status != STATUS_OK) {
        return status;
    }
    if (response->finish == DECODE_FINISH_EOS) {
        response->read_ids[response->n_read++] = response->token_ids[response->n_tokens - 1];
    }
    response->read_ends = malloc(((size_t)response->n_read + 1) * sizeof *response->read_ends);
    status = response->read_ends != NULL ? find_ends(response) : STATUS_NO_MEMORY;
    if (status != STATUS_OK) {
        return error_set(err, status, NULL, "a text could not be read again");
    }
    int32_t from = 0;
    while (from < response->n_read && from < response->n_tokens &&
           response->read_ids[from] == response->token_ids[from]) {
        from++;
    }
    response->read_from = from;
    return STATUS_OK;
}

bool response_reads_as_written(const struct response *response) {
    return response->read_from == response->n_read && response->n_read == response->n_tokens;
}
