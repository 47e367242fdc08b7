// Reads files of ranks: a line each with the bytes of a piece in base64 and its rank, its id.
// What they leave to the program that reads them (normaliser, expression, special tokens) stands
// here for the families whose configuration says that a file is theirs; others are refused.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base64.h"
#include "worker/tokenizer/model_file.h"
#include "worker/tokenizer/tokenizer_source.h"
#include "worker/tokenizer/utf8.h"

// meta-llama/llama-models, models/llama3/api/tokenizer.py.
const char tokenizer_llama3_pattern[] =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}"
    "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

enum {
    RANK_PIECE_BYTES_MAX = 256,
    LLAMA3_SPECIAL_COUNT = 256,
    QWEN_RANK_COUNT = 151643,
    QWEN_EXTRA_COUNT = 205
};

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

enum status tokenizer_derive_merges(struct tokenizer *tokenizer, const char *file,
                                    struct error *err) {
    enum status status = bpe_reserve(&tokenizer->bpe, derive_merges(tokenizer, false));
    if (status != STATUS_OK) {
        return error_set(err, status, file, "more than %d merges", BPE_MERGES_MAX);
    }
    derive_merges(tokenizer, true);
    return STATUS_OK;
}

static enum status read_ranks(const char *file, const char *text, const char *end,
                              struct tokenizer *tokenizer, struct error *err) {
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

// Adds a special token with the next id.
static enum status add_special(struct tokenizer *tokenizer, const char *content) {
    const struct added_token token = {.content = content,
                                      .bytes = (uint16_t)strlen(content),
                                      .id = tokenizer->vocabulary.size,
                                      .special = true};
    return tokenizer_add_token(tokenizer, &token);
}

static enum status add_numbered(struct tokenizer *tokenizer, const char *stem, int number) {
    char content[48];
    snprintf(content, sizeof content, "<|%s_%d|>", stem, number);
    return add_special(tokenizer, content);
}

// 3.1 renames some reserved ones, which tokenizer_config.json then tells.
static enum status add_llama3_specials(struct tokenizer *tokenizer) {
    static const char *const named[] = {[0] = "<|begin_of_text|>",
                                        [1] = "<|end_of_text|>",
                                        [6] = "<|start_header_id|>",
                                        [7] = "<|end_header_id|>",
                                        [9] = "<|eot_id|>"};
    int reserved = 0;
    enum status status = STATUS_OK;
    for (int i = 0; i < LLAMA3_SPECIAL_COUNT && status == STATUS_OK; i++) {
        status = i < 10 && named[i] != NULL
                     ? add_special(tokenizer, named[i])
                     : add_numbered(tokenizer, "reserved_special_token", reserved++);
    }
    return status;
}

static enum status add_qwen_specials(struct tokenizer *tokenizer) {
    static const char *const named[] = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"};
    enum status status = STATUS_OK;
    for (size_t i = 0; i < sizeof named / sizeof *named && status == STATUS_OK; i++) {
        status = add_special(tokenizer, named[i]);
    }
    for (int i = 0; i < QWEN_EXTRA_COUNT && status == STATUS_OK; i++) {
        status = add_numbered(tokenizer, "extra", i);
    }
    return status;
}

// A family whose files of ranks are known.
struct rank_family {
    const char *name;
    const char *file;
    const char *const *classes;     // tokenizer_class, "Fast" cut off; NULL ends
    const char *const *model_types; // NULL ends
    bool may_be_silent;             // also where the configuration says nothing of either
    int32_t count;                  // of ranks, 0: any; special tokens follow
    const char *pattern;
    bool nfc;
    bool adds_bos;
    enum status (*add_specials)(struct tokenizer *tokenizer);
};

static const char *const llama3_classes[] = {"LlamaTokenizer", "PreTrainedTokenizer",
                                             "TokenizersBackend", NULL};
static const char *const llama3_types[] = {"llama", NULL};
static const char *const qwen_classes[] = {"QWenTokenizer", NULL};
static const char *const qwen_types[] = {"qwen", NULL};

enum { FAMILY_LLAMA3, FAMILY_QWEN };

static const struct rank_family families[] = {
    [FAMILY_LLAMA3] = {.name = "Llama 3",
                       .file = "tokenizer.model",
                       .classes = llama3_classes,
                       .model_types = llama3_types,
                       .may_be_silent = true, // Meta's own directories have no configuration
                       .pattern = tokenizer_llama3_pattern,
                       .adds_bos = true,
                       .add_specials = add_llama3_specials},
    // Qwen/Qwen-7B, tokenization_qwen.py; the expression is the one that Qwen2 kept.
    [FAMILY_QWEN] = {.name = "Qwen",
                     .file = "qwen.tiktoken",
                     .classes = qwen_classes,
                     .model_types = qwen_types,
                     .count = QWEN_RANK_COUNT,
                     .pattern = tokenizer_qwen2_pattern,
                     .nfc = true,
                     .add_specials = add_qwen_specials},
};

static bool is_listed(const char *const *list, const char *name, size_t bytes) {
    for (; *list != NULL; list++) {
        if (strlen(*list) == bytes && memcmp(*list, name, bytes) == 0) {
            return true;
        }
    }
    return false;
}

// Whether the configuration says, by the class or else the type of the model, that the file is of
// this family.
static enum status check_family(const struct rank_family *family,
                                const struct special_sources *sources, struct error *err) {
    const char *class =
        json_string_value(json_object_get(sources->tokenizer_config, "tokenizer_class"));
    const char *type = json_string_value(json_object_get(sources->config, "model_type"));
    size_t bytes = class != NULL ? strlen(class) : 0;
    bytes -= bytes > 4 && strcmp(class + bytes - 4, "Fast") == 0 ? 4 : 0;
    bool class_fits = class == NULL || is_listed(family->classes, class, bytes);
    bool type_fits = type == NULL || is_listed(family->model_types, type, strlen(type));
    bool is_told = class != NULL || type != NULL || family->may_be_silent;
    if (class_fits && type_fits && is_told) {
        return STATUS_OK;
    }
    return error_set(
        err, STATUS_UNSUPPORTED, family->file,
        "ranks alone hold neither the expression that splits texts nor the special "
        "tokens, and tokenizer_class %.48s, model_type %.48s do not say that these are "
        "%s's",
        class != NULL ? class : "none", type != NULL ? type : "none", family->name);
}

static enum status read_family(const struct rank_family *family, const char *text, size_t bytes,
                               const struct special_sources *sources, struct tokenizer *tokenizer,
                               struct error *err) {
    enum status status = check_family(family, sources, err);
    if (status == STATUS_OK) {
        status = read_ranks(family->file, text, text + bytes, tokenizer, err);
    }
    if (status == STATUS_OK && family->count != 0 &&
        (tokenizer->model_size != family->count || tokenizer->vocabulary.size != family->count)) {
        return error_set(err, STATUS_MALFORMED, family->file, "%d ranks up to %d, %s has %d",
                         tokenizer->model_size, tokenizer->vocabulary.size - 1, family->name,
                         family->count);
    }
    if (status == STATUS_OK) {
        status = pretokenizer_add_split(&tokenizer->pretokenizer, family->pattern,
                                        strlen(family->pattern), SPLIT_ISOLATED, false, err);
    }
    if (status != STATUS_OK) {
        return status;
    }
    tokenizer->decoder.byte_level = tokenizer->pretokenizer.byte_level = true;
    tokenizer->bpe.ignore_merges = true;
    tokenizer->adds_bos_by_default = family->adds_bos;
    if (family->nfc) {
        tokenizer->normalizer.steps[tokenizer->normalizer.n_steps++] =
            (struct normalize_step){.kind = NORMALIZE_NFC};
    }
    if (json_object_get(sources->tokenizer_config, "added_tokens_decoder") != NULL) {
        return STATUS_OK; // which lists them
    }
    status = family->add_specials(tokenizer);
    return status == STATUS_OK
               ? status
               : error_set(err, status, family->file, "the special tokens of %s cannot be added",
                           family->name);
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
                     : read_family(&families[FAMILY_LLAMA3], text, bytes, sources, tokenizer, err);
    free(text);
    return status;
}

enum status tokenizer_source_qwen(const char *directory, const struct special_sources *sources,
                                  struct tokenizer *tokenizer, struct error *err) {
    char *text = NULL;
    size_t bytes = 0;
    enum status status = model_file_read(directory, families[FAMILY_QWEN].file, &text, &bytes, err);
    if (status == STATUS_OK) {
        status = read_family(&families[FAMILY_QWEN], text, bytes, sources, tokenizer, err);
    }
    free(text);
    return status;
}
