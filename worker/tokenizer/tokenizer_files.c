// Reads the older forms of a tokenizer: vocab.json with merges.txt, and the rank file of Llama 3.
// What those files leave to the program that reads them (expression, normaliser, special tokens)
// stands here.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/tokenizer/base64.h"
#include "worker/tokenizer/model_file.h"
#include "worker/tokenizer/tokenizer_class.h"
#include "worker/tokenizer/tokenizer_source.h"
#include "worker/tokenizer/utf8.h"

// openai/gpt-2, src/encoder.py.
const char tokenizer_gpt2_pattern[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
// Qwen2 and Llama 3 differ in how many digits make a word.
const char tokenizer_qwen2_pattern[] = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|"
                                       "\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*"
                                       "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
// meta-llama/llama-models, models/llama3/api/tokenizer.py.
const char tokenizer_llama3_pattern[] =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}"
    "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

enum { RANK_PIECE_BYTES_MAX = 256, LLAMA3_SPECIAL_COUNT = 256 };

enum status tokenizer_read_vocabulary(json_t *vocab, const char *file, const char *path,
                                      struct tokenizer *tokenizer, struct error *err) {
    if (!json_is_object(vocab) || json_object_size(vocab) == 0) {
        return model_file_error(err, STATUS_MALFORMED, file, path, "not an object of pieces");
    }
    const char *piece;
    json_t *id;
    json_object_foreach(vocab, piece, id) {
        if (!json_is_integer(id)) {
            return model_file_error(err, STATUS_MALFORMED, file, path,
                                    "not an integer: the id of \"%s\"", piece);
        }
        enum status status =
            vocabulary_add(&tokenizer->vocabulary, json_integer_value(id), piece, strlen(piece));
        if (status != STATUS_OK) {
            const char *reason = status == STATUS_ALREADY_EXISTS ? "occurs twice"
                                 : status == STATUS_LIMIT        ? "or its piece is above the limit"
                                                          : "is negative or its piece is empty";
            return model_file_error(err,
                                    status == STATUS_ALREADY_EXISTS ? STATUS_MALFORMED : status,
                                    file, path, "id %lld %s", (long long)json_integer_value(id),
                                    status == STATUS_NO_MEMORY ? status_text(status) : reason);
        }
    }
    tokenizer->model_size = (int32_t)tokenizer->vocabulary.count;
    return STATUS_OK;
}

enum status tokenizer_read_merge(const char *left, size_t left_bytes, const char *right,
                                 size_t right_bytes, uint32_t rank, struct tokenizer *tokenizer) {
    char joined[2 * TOKENIZER_PIECE_BYTES_MAX];
    if (left_bytes > TOKENIZER_PIECE_BYTES_MAX || right_bytes > TOKENIZER_PIECE_BYTES_MAX) {
        return STATUS_MALFORMED;
    }
    memcpy(joined, left, left_bytes);
    memcpy(joined + left_bytes, right, right_bytes);
    const struct vocabulary *vocabulary = &tokenizer->vocabulary;
    int32_t left_id = vocabulary_find(vocabulary, left, left_bytes);
    int32_t right_id = vocabulary_find(vocabulary, right, right_bytes);
    int32_t id = vocabulary_find(vocabulary, joined, left_bytes + right_bytes);
    if (left_id < 0 || right_id < 0 || id < 0) {
        return STATUS_MALFORMED;
    }
    bpe_add_merge(&tokenizer->bpe, left_id, right_id, rank, id);
    return STATUS_OK;
}

// Takes the next line without its end; false at the end of the text.
static bool next_line(const char **at, const char *end, const char **line, size_t *bytes) {
    if (*at == end) {
        return false;
    }
    const char *stop = memchr(*at, '\n', (size_t)(end - *at));
    *line = *at;
    *bytes = (size_t)((stop != NULL ? stop : end) - *at);
    *at = stop != NULL ? stop + 1 : end;
    if (*bytes > 0 && (*line)[*bytes - 1] == '\r') {
        --*bytes;
    }
    return true;
}

static size_t count_lines(const char *text, const char *end) {
    const char *line;
    size_t bytes, count = 0;
    while (next_line(&text, end, &line, &bytes)) {
        count++;
    }
    return count;
}

static enum status read_merge_lines(const char *text, const char *end, struct tokenizer *tokenizer,
                                    struct error *err) {
    const char *file = "merges.txt";
    enum status status = bpe_reserve(&tokenizer->bpe, count_lines(text, end));
    if (status != STATUS_OK) {
        return error_set(err, status, file, "cannot hold the merges, the limit is %d",
                         BPE_MERGES_MAX);
    }
    const char *line;
    size_t bytes;
    uint32_t rank = 0;
    for (size_t number = 1; next_line(&text, end, &line, &bytes); number++) {
        bool is_version = number == 1 && bytes >= 8 && memcmp(line, "#version", 8) == 0;
        if (bytes == 0 || is_version) {
            continue;
        }
        const char *space = memchr(line, ' ', bytes);
        status = space == NULL
                     ? STATUS_MALFORMED
                     : tokenizer_read_merge(line, (size_t)(space - line), space + 1,
                                            bytes - (size_t)(space + 1 - line), rank++, tokenizer);
        if (status != STATUS_OK) {
            return error_set(err, status, file,
                             "line %zu: not two pieces whose join is a piece of the vocabulary",
                             number);
        }
    }
    return STATUS_OK;
}

static enum status read_vocab_and_merges(const char *directory, struct tokenizer *tokenizer,
                                         struct error *err) {
    json_t *vocab = NULL;
    char *merges = NULL;
    size_t bytes = 0;
    enum status status = model_file_read_json(directory, "vocab.json", &vocab, err);
    if (status == STATUS_OK) {
        status = tokenizer_read_vocabulary(vocab, "vocab.json", "", tokenizer, err);
    }
    if (status == STATUS_OK) {
        status = model_file_read(directory, "merges.txt", &merges, &bytes, err);
    }
    if (status == STATUS_OK) {
        status = read_merge_lines(merges, merges + bytes, tokenizer, err);
    }
    json_decref(vocab);
    free(merges);
    return status;
}

enum status tokenizer_source_vocab_merges(const char *directory,
                                          const struct special_sources *sources,
                                          struct tokenizer *tokenizer, struct error *err) {
    struct tokenizer_class class;
    enum status status = tokenizer_class_find(sources, true, &class, err);
    if (status != STATUS_OK) {
        return status;
    }
    if (class.pipeline == PIPELINE_LLAMA || class.pipeline == PIPELINE_GEMMA) {
        return model_file_error(err, STATUS_UNSUPPORTED, "tokenizer_config.json", "tokenizer_class",
                                "not supported over vocab.json");
    }
    if (class.pipeline == PIPELINE_OF_FILE) {
        class.pipeline = PIPELINE_GPT2; // whose files these are, when nobody says otherwise
    }
    status = read_vocab_and_merges(directory, tokenizer, err);
    return status == STATUS_OK ? tokenizer_class_apply(&class, tokenizer, err) : status;
}

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
    for (size_t number = 1; next_line(&text, end, &line, &bytes); number++) {
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
