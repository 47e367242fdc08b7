// Reads vocab.json with merges.txt. What those files leave to the program that reads them
// (expression, normaliser) stands here.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/tokenizer/model_file.h"
#include "worker/tokenizer/tokenizer_class.h"
#include "worker/tokenizer/tokenizer_source.h"

// openai/gpt-2, src/encoder.py.
const char tokenizer_gpt2_pattern[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
// As Llama 3 (rank_file.c) but for how many digits make a word.
const char tokenizer_qwen2_pattern[] = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|"
                                       "\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*"
                                       "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

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

static size_t count_lines(const char *text, const char *end) {
    const char *line;
    size_t bytes, count = 0;
    while (model_file_next_line(&text, end, &line, &bytes)) {
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
    for (size_t number = 1; model_file_next_line(&text, end, &line, &bytes); number++) {
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
    tokenizer->class_tokens = class.tokens;
    tokenizer->class_adds_anew = class.adds_anew;
    status = read_vocab_and_merges(directory, tokenizer, err);
    return status == STATUS_OK ? tokenizer_class_apply(&class, tokenizer, err) : status;
}
