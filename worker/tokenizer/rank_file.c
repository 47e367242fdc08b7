// Reads files of ranks: a line each with the bytes of a piece in base64 and its rank, its id.
// What they leave to the program that reads them (expression, special tokens) stands here.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/tokenizer/base64.h"
#include "worker/tokenizer/model_file.h"
#include "worker/tokenizer/tokenizer_source.h"
#include "worker/tokenizer/utf8.h"

// meta-llama/llama-models, models/llama3/api/tokenizer.py.
const char tokenizer_llama3_pattern[] =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}"
    "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

enum { RANK_PIECE_BYTES_MAX = 256, LLAMA3_SPECIAL_COUNT = 256 };

static enum status read_rank_line(const char *line, size_t bytes, struct tokenizer *tokenizer) {
    char raw[RANK_PIECE_BYTES_MAX];
    char spelling[2 * RANK_PIECE_BYTES_MAX];
    size_t count;
    const char *space = memchr(line, ' ', bytes);
    if (space == NULL ||
        !base64_decode(line, (size_t)(space - line), raw, RANK_PIECE_BYTES_MAX, &count)) {
        return STATUS_MALFORMED;
    }
    size_t digits = bytes - (size_t)(space + 1 - line);
    int64_t rank = 0;
    for (size_t i = 0; i < digits; i++) {
        if (space[1 + i] < '0' || space[1 + i] > '9') {
            return STATUS_MALFORMED;
        }
        rank = rank < TOKENIZER_VOCAB_MAX ? 10 * rank + (space[1 + i] - '0') : rank;
    }
    if (digits == 0) {
        return STATUS_MALFORMED;
    }
    return vocabulary_add(&tokenizer->vocabulary, rank, spelling,
                          byte_level_spell(raw, count, spelling));
}

// A part of a piece that may be merged: special tokens may not. -1 for none.
static int32_t find_part(const struct vocabulary *v, const char *content, size_t bytes) {
    int32_t id = vocabulary_find(v, content, bytes);
    return id >= 0 && v->tokens[id].special ? -1 : id;
}

// Any two pieces whose join is a piece may merge, at the rank of the join. Only counts when `add`
// is false.
static size_t derive_merges(struct tokenizer *tokenizer, bool add) {
    const struct vocabulary *v = &tokenizer->vocabulary;
    size_t n = 0;
    for (int32_t id = 0; id < v->size; id++) {
        size_t bytes;
        const char *content = vocabulary_content(v, id, &bytes);
        bytes = v->tokens[id].special ? 0 : bytes;
        for (size_t at = 0; at < bytes; at += utf8_length(content[at])) {
            int32_t left = at > 0 ? find_part(v, content, at) : -1;
            int32_t right = left >= 0 ? find_part(v, content + at, bytes - at) : -1;
            if (right >= 0) {
                n++;
                if (add) {
                    bpe_add_merge(&tokenizer->bpe, left, right, (uint32_t)id, id);
                }
            }
        }
    }
    return n;
}

// The list of Llama 3; 3.1 renames some reserved ones, which tokenizer_config.json then tells.
static enum status add_llama3_specials(struct tokenizer *tokenizer) {
    static const char *const named[] = {[0] = "<|begin_of_text|>",
                                        [1] = "<|end_of_text|>",
                                        [6] = "<|start_header_id|>",
                                        [7] = "<|end_header_id|>",
                                        [9] = "<|eot_id|>"};
    int32_t base = tokenizer->vocabulary.size;
    int reserved = 0;
    enum status status = STATUS_OK;
    for (int i = 0; i < LLAMA3_SPECIAL_COUNT && status == STATUS_OK; i++) {
        char content[48];
        if (i < 10 && named[i] != NULL) {
            snprintf(content, sizeof content, "%s", named[i]);
        } else {
            snprintf(content, sizeof content, "<|reserved_special_token_%d|>", reserved++);
        }
        status = tokenizer_add_token(tokenizer, &(struct added_token){
                                                    .content = content,
                                                    .bytes = (uint16_t)strlen(content),
                                                    .id = base + i,
                                                    .special = true,
                                                });
    }
    return status;
}

enum status tokenizer_derive_merges(struct tokenizer *tokenizer, const char *file,
                                    struct error *err) {
    enum status status = bpe_reserve(&tokenizer->bpe, derive_merges(tokenizer, false));
    if (status != STATUS_OK) {
        return error_set(err, status, file, "more than %d merges", BPE_MERGES_MAX);
    }
    derive_merges(tokenizer, true);
    return STATUS_OK;
}

static enum status read_ranks(const char *text, const char *end, struct tokenizer *tokenizer,
                              struct error *err) {
    const char *file = "tokenizer.model";
    const char *line;
    size_t bytes;
    for (size_t number = 1; model_file_next_line(&text, end, &line, &bytes); number++) {
        enum status status = read_rank_line(line, bytes, tokenizer);
        if (status != STATUS_OK) {
            return error_set(err, status == STATUS_ALREADY_EXISTS ? STATUS_MALFORMED : status, file,
                             "line %zu: %s", number,
                             status == STATUS_ALREADY_EXISTS ? "piece or rank occurs twice"
                                                             : "not base64 bytes and a rank");
        }
    }
    tokenizer->model_size = (int32_t)tokenizer->vocabulary.count;
    return tokenizer_derive_merges(tokenizer, file, err);
}

// The file's own bytes; the rank form of Llama 3 otherwise.
static enum status read_rank_source(const char *text, size_t bytes,
                                    const struct special_sources *sources,
                                    struct tokenizer *tokenizer, struct error *err) {
    enum status status = read_ranks(text, text + bytes, tokenizer, err);
    if (status == STATUS_OK) {
        status =
            pretokenizer_add_split(&tokenizer->pretokenizer, tokenizer_llama3_pattern,
                                   strlen(tokenizer_llama3_pattern), SPLIT_ISOLATED, false, err);
    }
    if (status != STATUS_OK) {
        return status;
    }
    tokenizer->decoder.byte_level = tokenizer->pretokenizer.byte_level = true;
    tokenizer->bpe.ignore_merges = true;
    tokenizer->adds_bos_by_default = true;
    if (json_object_get(sources->tokenizer_config, "added_tokens_decoder") != NULL) {
        return STATUS_OK; // which lists them
    }
    status = add_llama3_specials(tokenizer);
    return status == STATUS_OK ? status
                               : error_set(err, status, "tokenizer.model",
                                           "the special tokens of Llama 3 cannot be added");
}

enum status tokenizer_source_model(const char *directory, const struct special_sources *sources,
                                   struct tokenizer *tokenizer, struct error *err) {
    char *text = NULL;
    size_t bytes = 0;
    enum status status = model_file_read(directory, "tokenizer.model", &text, &bytes, err);
    if (status != STATUS_OK) {
        return status;
    }
    // The tag of the message's first field; no line of ranks begins with a line feed.
    bool message = bytes > 0 && text[0] == '\n';
    status = message ? tokenizer_source_sentencepiece(text, bytes, sources, tokenizer, err)
                     : read_rank_source(text, bytes, sources, tokenizer, err);
    free(text);
    return status;
}
