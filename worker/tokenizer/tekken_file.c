// Reads tekken.json, Mistral's form of byte-level BPE: special tokens take the first ids, the
// pieces follow in the order of their ranks, and any two pieces whose join is a piece may merge, as
// transformers 5 reads it (integrations/mistral/tokenizer.py).
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base64.h"
#include "worker/tokenizer/model_file.h"
#include "worker/tokenizer/tokenizer_source.h"

static const char file[] = "tekken.json";

enum { TEKKEN_PIECE_BYTES_MAX = TOKENIZER_PIECE_BYTES_MAX / 2, PATH_BYTES = 64 };

// Of files that do not list theirs (mistral-common, tekken.py, DEPRECATED_SPECIAL_TOKENS).
static const char *const first_specials[] = {"<unk>",
                                             "<s>",
                                             "</s>",
                                             "[INST]",
                                             "[/INST]",
                                             "[AVAILABLE_TOOLS]",
                                             "[/AVAILABLE_TOOLS]",
                                             "[TOOL_RESULTS]",
                                             "[/TOOL_RESULTS]",
                                             "[TOOL_CALLS]",
                                             "[IMG]",
                                             "<pad>",
                                             "[IMG_BREAK]",
                                             "[IMG_END]",
                                             "[PREFIX]",
                                             "[MIDDLE]",
                                             "[SUFFIX]",
                                             "[SYSTEM_PROMPT]",
                                             "[/SYSTEM_PROMPT]",
                                             "[TOOL_CONTENT]"};

static enum status read_count(json_t *config, const char *key, size_t fallback, size_t *out,
                              struct error *err) {
    json_t *value = json_object_get(config, key);
    json_int_t count = json_integer_value(value);
    if (value == NULL || json_is_null(value)) {
        *out = fallback;
        return STATUS_OK;
    }
    if (!json_is_integer(value) || count < 0 || count > TOKENIZER_VOCAB_MAX) {
        char path[PATH_BYTES];
        snprintf(path, sizeof path, "config.%s", key);
        return model_file_error(err, STATUS_MALFORMED, file, path, "not 0 to %d",
                                TOKENIZER_VOCAB_MAX);
    }
    *out = (size_t)count;
    return STATUS_OK;
}

// The name of special token `rank`: listed, of the first files, or a filler.
static const char *special_name(json_t *list, size_t rank, char filler[PATH_BYTES]) {
    size_t first = sizeof first_specials / sizeof *first_specials;
    if (list == NULL && rank < first) {
        return first_specials[rank];
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        json_t *entry = json_array_get(list, i);
        json_t *own = json_object_get(entry, "rank");
        if (json_is_integer(own) && json_integer_value(own) == (json_int_t)rank) {
            json_t *name = json_object_get(entry, "token_str");
            const char *text = json_string_value(name);
            return text != NULL && strlen(text) == json_string_length(name) ? text : NULL;
        }
    }
    snprintf(filler, PATH_BYTES, "<SPECIAL_%zu>", rank);
    return rank < json_array_size(list) ? NULL : filler;
}

static enum status add_specials(json_t *list, size_t n, struct tokenizer *tokenizer,
                                struct error *err) {
    if (n > ADDED_TOKENS_MAX || json_array_size(list) > n) {
        return model_file_error(err, STATUS_LIMIT, file, "special_tokens",
                                "%zu of at most %zu and %d", json_array_size(list), n,
                                ADDED_TOKENS_MAX);
    }
    for (size_t rank = 0; rank < n; rank++) {
        char filler[PATH_BYTES];
        const char *name = special_name(list, rank, filler);
        if (name == NULL || *name == '\0' || strlen(name) > ADDED_TOKEN_BYTES_MAX) {
            return model_file_error(err, STATUS_MALFORMED, file, "special_tokens",
                                    "no token of rank %zu", rank);
        }
        enum status status =
            tokenizer_add_token(tokenizer, &(struct added_token){.content = name,
                                                                 .bytes = (uint16_t)strlen(name),
                                                                 .id = (int32_t)rank,
                                                                 .special = true});
        if (status != STATUS_OK) {
            return model_file_error(
                err, status == STATUS_ALREADY_EXISTS ? STATUS_MALFORMED : status, file,
                "special_tokens", "token %zu occurs twice or is too many", rank);
        }
    }
    return STATUS_OK;
}

static enum status add_piece(json_t *node, int64_t id, struct tokenizer *tokenizer) {
    json_t *text = json_object_get(node, "token_bytes");
    char raw[TEKKEN_PIECE_BYTES_MAX];
    char spelling[2 * TEKKEN_PIECE_BYTES_MAX];
    size_t count;
    if (!json_is_string(text) || !base64_decode(json_string_value(text), json_string_length(text),
                                                raw, sizeof raw, &count)) {
        return STATUS_MALFORMED;
    }
    enum status status = vocabulary_add(&tokenizer->vocabulary, id, spelling,
                                        byte_level_spell(raw, count, spelling));
    return status == STATUS_ALREADY_EXISTS ? STATUS_MALFORMED : status;
}

static enum status add_pieces(json_t *vocab, size_t n_specials, size_t n_pieces,
                              struct tokenizer *tokenizer, struct error *err) {
    for (size_t rank = 0; rank < n_pieces; rank++) {
        json_t *node = json_array_get(vocab, rank);
        json_t *own = json_object_get(node, "rank");
        bool in_order =
            own == NULL || (json_is_integer(own) && json_integer_value(own) == (json_int_t)rank);
        enum status status =
            in_order ? add_piece(node, (int64_t)(n_specials + rank), tokenizer) : STATUS_MALFORMED;
        if (status != STATUS_OK) {
            char path[PATH_BYTES];
            snprintf(path, sizeof path, "vocab[%zu]", rank);
            return model_file_error(err, status, file, path,
                                    "not a new piece of 1 to %d bytes with this rank",
                                    TEKKEN_PIECE_BYTES_MAX);
        }
    }
    tokenizer->model_size = tokenizer->vocabulary.size;
    return STATUS_OK;
}

static enum status read_pieces(json_t *root, struct tokenizer *tokenizer, struct error *err) {
    json_t *config = json_object_get(root, "config");
    json_t *vocab = json_object_get(root, "vocab");
    json_t *list = json_object_get(root, "special_tokens");
    list = json_is_null(list) ? NULL : list;
    size_t named =
        list != NULL ? json_array_size(list) : sizeof first_specials / sizeof *first_specials;
    size_t n_specials = 0;
    size_t size = 0;
    enum status status = read_count(config, "default_num_special_tokens", named, &n_specials, err);
    if (status == STATUS_OK) {
        status = read_count(config, "default_vocab_size", n_specials + json_array_size(vocab),
                            &size, err);
    }
    if (status != STATUS_OK) {
        return status;
    }
    // Pieces above the size are padding.
    if (size <= n_specials || size - n_specials > json_array_size(vocab)) {
        return model_file_error(err, STATUS_MALFORMED, file, "vocab",
                                "%zu pieces do not make %zu tokens with %zu special ones",
                                json_array_size(vocab), size, n_specials);
    }
    status = add_specials(list, n_specials, tokenizer, err);
    return status == STATUS_OK ? add_pieces(vocab, n_specials, size - n_specials, tokenizer, err)
                               : status;
}

static enum status set_pattern(json_t *root, struct tokenizer *tokenizer, struct error *err) {
    json_t *pattern = json_object_get(json_object_get(root, "config"), "pattern");
    struct error own = {0};
    if (!json_is_string(pattern)) {
        return model_file_error(err, STATUS_MALFORMED, file, "config.pattern", "not a string");
    }
    enum status status =
        pretokenizer_add_split(&tokenizer->pretokenizer, json_string_value(pattern),
                               json_string_length(pattern), SPLIT_ISOLATED, false, &own);
    return status == STATUS_OK
               ? status
               : model_file_error(err, status, file, "config.pattern", "%s", own.message);
}

// The texts beside the bytes may hold NUL; nothing here reads them.
static enum status read_root(const char *directory, json_t **out, struct error *err) {
    char *text = NULL;
    size_t bytes = 0;
    enum status status = model_file_read(directory, file, &text, &bytes, err);
    if (status != STATUS_OK) {
        return status;
    }
    json_error_t reason;
    *out = json_loadb(text, bytes, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &reason);
    free(text);
    return *out != NULL
               ? STATUS_OK
               : error_set(err, STATUS_MALFORMED, file, "line %d: %s", reason.line, reason.text);
}

enum status tokenizer_source_tekken(const char *directory, const struct special_sources *sources,
                                    struct tokenizer *tokenizer, struct error *err) {
    (void)sources; // the file says all
    json_t *root = NULL;
    enum status status = read_root(directory, &root, err);
    if (status == STATUS_OK) {
        status = read_pieces(root, tokenizer, err);
    }
    if (status == STATUS_OK) {
        status = tokenizer_derive_merges(tokenizer, file, err);
    }
    if (status == STATUS_OK) {
        status = set_pattern(root, tokenizer, err);
    }
    tokenizer->decoder.byte_level = tokenizer->pretokenizer.byte_level = true;
    tokenizer->bpe.ignore_merges = true;
    json_decref(root);
    return status;
}
