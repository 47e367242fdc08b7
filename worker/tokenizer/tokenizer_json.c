// Reads tokenizer.json, the format of the Hugging Face tokenizers library: the model and the added
// tokens. The stages around the model are read by json_steps.c.
#include "worker/tokenizer/tokenizer_json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/tokenizer/model_file.h"
#include "worker/tokenizer/tokenizer_class.h"
#include "worker/tokenizer/tokenizer_source.h"

const char tokenizer_json_file[] = "tokenizer.json";
static const char *const file = tokenizer_json_file;

enum status json_unsupported_type(json_t *node, const char *path, struct error *err) {
    const char *type = json_string_value(json_object_get(node, "type"));
    return model_file_error(err, STATUS_UNSUPPORTED, file, path, "unsupported type \"%s\"",
                            type != NULL ? type : "(none)");
}

bool json_has_type(json_t *node, const char *type) {
    const char *own = json_string_value(json_object_get(node, "type"));
    return own != NULL && strcmp(own, type) == 0;
}

enum status json_read_flag(json_t *node, const char *path, const char *key, bool fallback,
                           bool *out, struct error *err) {
    json_t *value = json_object_get(node, key);
    *out = json_is_boolean(value) ? json_is_true(value) : fallback;
    if (value != NULL && !json_is_boolean(value)) {
        return model_file_error(err, STATUS_MALFORMED, file, path, "%s is not a boolean", key);
    }
    return STATUS_OK;
}

enum status json_read_string(json_t *value, const char *path, size_t bytes_min,
                             struct normalize_string *out, struct error *err) {
    size_t bytes = json_string_length(value);
    if (!json_is_string(value) || bytes < bytes_min) {
        return model_file_error(err, STATUS_MALFORMED, file, path, "a string is missing");
    }
    if (bytes > sizeof out->bytes) {
        return model_file_error(err, STATUS_LIMIT, file, path, "%zu bytes are above the limit %zu",
                                bytes, sizeof out->bytes);
    }
    memcpy(out->bytes, json_string_value(value), bytes);
    out->count = bytes;
    return STATUS_OK;
}

static enum status read_added_token(json_t *node, size_t index, struct tokenizer *tokenizer,
                                    struct error *err) {
    char path[JSON_PATH_BYTES];
    snprintf(path, sizeof path, "added_tokens[%zu]", index);
    json_t *content = json_object_get(node, "content");
    json_t *id = json_object_get(node, "id");
    size_t bytes = json_string_length(content);
    if (!json_is_string(content) || !json_is_integer(id) || bytes == 0 ||
        json_integer_value(id) < 0) {
        return model_file_error(err, STATUS_MALFORMED, file, path,
                                "needs a content and an id that is not negative");
    }
    if (bytes > ADDED_TOKEN_BYTES_MAX || json_integer_value(id) >= TOKENIZER_VOCAB_MAX) {
        return model_file_error(err, STATUS_LIMIT, file, path,
                                "an id is below %d and a content has at most %d bytes",
                                TOKENIZER_VOCAB_MAX, ADDED_TOKEN_BYTES_MAX);
    }
    struct added_token token = {.content = json_string_value(content),
                                .bytes = (uint16_t)bytes,
                                .id = (int32_t)json_integer_value(id)};
    const struct {
        const char *key;
        bool *out;
    } flags[] = {{"special", &token.special},
                 {"lstrip", &token.lstrip},
                 {"rstrip", &token.rstrip},
                 {"single_word", &token.single_word},
                 {"normalized", &token.normalized}};
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
        enum status status = json_read_flag(node, path, flags[i].key, false, flags[i].out, err);
        if (status != STATUS_OK) {
            return status;
        }
    }
    int32_t expected = tokenizer_next_id(tokenizer, token.content, token.bytes);
    if (token.id != expected) {
        return model_file_error(err, STATUS_MALFORMED, file, path,
                                "id %d: the tokenizers library would give it %d", token.id,
                                expected);
    }
    enum status status = tokenizer_add_token(tokenizer, &token);
    if (status == STATUS_ALREADY_EXISTS) {
        return model_file_error(err, STATUS_MALFORMED, file, path,
                                "id %d already means something else", token.id);
    }
    return status == STATUS_OK
               ? status
               : model_file_error(err, status, file, path, "%s", status_text(status));
}

static enum status read_added_tokens(json_t *root, struct tokenizer *tokenizer, struct error *err) {
    json_t *list = json_object_get(root, "added_tokens");
    if (list != NULL && !json_is_array(list)) {
        return model_file_error(err, STATUS_MALFORMED, file, "added_tokens", "not an array");
    }
    enum status status = STATUS_OK;
    for (size_t i = 0; i < json_array_size(list) && status == STATUS_OK; i++) {
        status = read_added_token(json_array_get(list, i), i, tokenizer, err);
    }
    return status;
}

// A merge is "left right" or ["left", "right"].
static enum status read_merge(json_t *node, uint32_t rank, struct tokenizer *tokenizer) {
    if (json_is_array(node) && json_array_size(node) == 2) {
        json_t *left = json_array_get(node, 0);
        json_t *right = json_array_get(node, 1);
        if (!json_is_string(left) || !json_is_string(right)) {
            return STATUS_MALFORMED;
        }
        return tokenizer_read_merge(json_string_value(left), json_string_length(left),
                                    json_string_value(right), json_string_length(right), rank,
                                    tokenizer);
    }
    const char *text = json_string_value(node);
    const char *space = text != NULL ? strchr(text, ' ') : NULL;
    if (space == NULL || strchr(space + 1, ' ') != NULL) {
        return STATUS_MALFORMED;
    }
    return tokenizer_read_merge(text, (size_t)(space - text), space + 1, strlen(space + 1), rank,
                                tokenizer);
}

static enum status read_merges(json_t *model, struct tokenizer *tokenizer, struct error *err) {
    json_t *merges = json_object_get(model, "merges");
    if (!json_is_array(merges)) {
        return model_file_error(err, STATUS_MALFORMED, file, "model.merges", "not an array");
    }
    enum status status = bpe_reserve(&tokenizer->bpe, json_array_size(merges));
    if (status != STATUS_OK) {
        return model_file_error(err, status, file, "model.merges", "%zu merges, the limit is %d",
                                json_array_size(merges), BPE_MERGES_MAX);
    }
    for (size_t i = 0; i < json_array_size(merges) && status == STATUS_OK; i++) {
        status = read_merge(json_array_get(merges, i), (uint32_t)i, tokenizer);
        if (status != STATUS_OK) {
            char path[JSON_PATH_BYTES];
            snprintf(path, sizeof path, "model.merges[%zu]", i);
            return model_file_error(err, status, file, path,
                                    "not two pieces whose join is a piece of the vocabulary");
        }
    }
    return STATUS_OK;
}

// Options that would change every id and that no supported model sets.
static enum status refuse_options(json_t *model, struct error *err) {
    static const char *const strings[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    for (size_t i = 0; i < 2; i++) {
        json_t *value = json_object_get(model, strings[i]);
        char path[JSON_PATH_BYTES];
        snprintf(path, sizeof path, "model.%s", strings[i]);
        if (value != NULL && !json_is_null(value) && !json_is_string(value)) {
            return model_file_error(err, STATUS_MALFORMED, file, path, "not a string");
        }
        if (json_string_length(value) > 0) {
            return model_file_error(err, STATUS_UNSUPPORTED, file, path, "is not supported");
        }
    }
    json_t *dropout = json_object_get(model, "dropout");
    if (dropout != NULL && !json_is_null(dropout) && !json_is_number(dropout)) {
        return model_file_error(err, STATUS_MALFORMED, file, "model.dropout", "not a number");
    }
    if (json_number_value(dropout) != 0.0) {
        return model_file_error(err, STATUS_UNSUPPORTED, file, "model.dropout", "is not supported");
    }
    return STATUS_OK;
}

static enum status read_unk(json_t *model, struct tokenizer *tokenizer, struct error *err) {
    json_t *unk = json_object_get(model, "unk_token");
    if (unk == NULL || json_is_null(unk)) {
        return STATUS_OK;
    }
    tokenizer->bpe.unk_id = json_is_string(unk)
                                ? vocabulary_find(&tokenizer->vocabulary, json_string_value(unk),
                                                  json_string_length(unk))
                                : -1;
    if (tokenizer->bpe.unk_id < 0) {
        return model_file_error(err, STATUS_MALFORMED, file, "model.unk_token", "is not a token");
    }
    return STATUS_OK;
}

// Those of a model may be null.
static enum status read_model_flag(json_t *model, const char *key, bool *out, struct error *err) {
    *out = false;
    return json_is_null(json_object_get(model, key))
               ? STATUS_OK
               : json_read_flag(model, "model", key, false, out, err);
}

static enum status read_bpe(json_t *model, struct tokenizer *tokenizer, struct error *err) {
    struct bpe *bpe = &tokenizer->bpe;
    const struct {
        const char *key;
        bool *out;
    } flags[] = {{"byte_fallback", &bpe->byte_fallback},
                 {"fuse_unk", &bpe->fuse_unk},
                 {"ignore_merges", &bpe->ignore_merges}};
    enum status status = refuse_options(model, err);
    for (size_t i = 0; i < sizeof flags / sizeof *flags && status == STATUS_OK; i++) {
        status = read_model_flag(model, flags[i].key, flags[i].out, err);
    }
    if (status == STATUS_OK) {
        status = tokenizer_read_vocabulary(json_object_get(model, "vocab"), file, "model.vocab",
                                           tokenizer, err);
    }
    if (status == STATUS_OK) {
        status = read_merges(model, tokenizer, err);
    }
    return status == STATUS_OK ? read_unk(model, tokenizer, err) : status;
}

// A piece of a unigram model is ["piece", score]; its place is its id.
static enum status read_scored_piece(json_t *node, size_t id, struct tokenizer *tokenizer) {
    json_t *piece = json_array_get(node, 0);
    json_t *score = json_array_get(node, 1);
    if (json_array_size(node) != 2 || !json_is_string(piece) || !json_is_number(score) ||
        !isfinite(json_number_value(score))) {
        return STATUS_MALFORMED;
    }
    tokenizer->unigram.scores[id] = json_number_value(score);
    enum status status = vocabulary_add(&tokenizer->vocabulary, (int64_t)id,
                                        json_string_value(piece), json_string_length(piece));
    return status == STATUS_ALREADY_EXISTS ? STATUS_MALFORMED : status;
}

static enum status read_unigram_unk(json_t *model, struct tokenizer *tokenizer, struct error *err) {
    json_t *unk = json_object_get(model, "unk_id");
    tokenizer->unigram.unk_id = -1;
    if (unk == NULL || json_is_null(unk)) {
        return STATUS_OK;
    }
    if (!json_is_integer(unk) || json_integer_value(unk) < 0 ||
        json_integer_value(unk) >= tokenizer->model_size) {
        return model_file_error(err, STATUS_MALFORMED, file, "model.unk_id",
                                "not an id below the %d pieces", tokenizer->model_size);
    }
    tokenizer->unigram.unk_id = (int32_t)json_integer_value(unk);
    return STATUS_OK;
}

static enum status read_unigram(json_t *model, struct tokenizer *tokenizer, struct error *err) {
    struct unigram *unigram = &tokenizer->unigram;
    json_t *vocab = json_object_get(model, "vocab");
    size_t n = json_array_size(vocab);
    if (n == 0 || n > TOKENIZER_VOCAB_MAX) {
        return model_file_error(err, n == 0 ? STATUS_MALFORMED : STATUS_LIMIT, file, "model.vocab",
                                "not an array of 1 to %d pieces", TOKENIZER_VOCAB_MAX);
    }
    tokenizer->kind = MODEL_UNIGRAM;
    tokenizer->model_size = (int32_t)n;
    unigram->n_scores = n;
    unigram->scores = malloc(n * sizeof *unigram->scores);
    if (unigram->scores == NULL) {
        return model_file_error(err, STATUS_NO_MEMORY, file, "model.vocab", "no memory");
    }
    for (size_t i = 0; i < n; i++) {
        enum status status = read_scored_piece(json_array_get(vocab, i), i, tokenizer);
        if (status != STATUS_OK) {
            char path[JSON_PATH_BYTES];
            snprintf(path, sizeof path, "model.vocab[%zu]", i);
            return model_file_error(err, status, file, path,
                                    "not a new piece of at most %d bytes with a score",
                                    TOKENIZER_PIECE_BYTES_MAX);
        }
    }
    enum status status = read_model_flag(model, "byte_fallback", &unigram->byte_fallback, err);
    return status == STATUS_OK ? read_unigram_unk(model, tokenizer, err) : status;
}

static enum status read_model(json_t *root, struct tokenizer *tokenizer, struct error *err) {
    json_t *model = json_object_get(root, "model");
    if (!json_is_object(model)) {
        return model_file_error(err, STATUS_MALFORMED, file, "model", "not an object");
    }
    // The oldest files name no type; what has merges is BPE, what has scores is Unigram.
    bool typed = json_object_get(model, "type") != NULL;
    if (typed ? json_has_type(model, "BPE") : json_object_get(model, "merges") != NULL) {
        return read_bpe(model, tokenizer, err);
    }
    if (typed ? json_has_type(model, "Unigram") : json_is_array(json_object_get(model, "vocab"))) {
        return read_unigram(model, tokenizer, err);
    }
    return json_unsupported_type(model, "model.type", err);
}

// Whether the file says "ByteLevel" anywhere, which is how transformers asks
// (_tokenizer_json_has_byte_level): a post-processor counts, too.
static bool says_byte_level(json_t *node) {
    static const char name[] = "ByteLevel";
    size_t i;
    const char *key;
    json_t *value;
    json_array_foreach(node, i, value) {
        if (says_byte_level(value)) {
            return true;
        }
    }
    json_object_foreach(node, key, value) {
        if (strcmp(key, name) == 0 || says_byte_level(value)) {
            return true;
        }
    }
    return json_is_string(node) && strcmp(json_string_value(node), name) == 0;
}

// A pipeline of the class (tokenizer_class.h) replaces those of the file.
static enum status read_stages(json_t *root, const struct tokenizer_class *class,
                               struct tokenizer *tokenizer, struct error *err) {
    enum status status;
    if (class->pipeline != PIPELINE_OF_FILE) {
        status = tokenizer_class_apply(class, tokenizer, err);
    } else {
        status = json_read_normalizer(root, &tokenizer->normalizer, err);
        if (status == STATUS_OK) {
            status = json_read_pretokenizer(root, &tokenizer->pretokenizer, err);
        }
        if (status == STATUS_OK) {
            status = json_read_decoder(root, tokenizer->pretokenizer.byte_level,
                                       &tokenizer->decoder, err);
        }
    }
    if (status == STATUS_OK && tokenizer->pretokenizer.byte_level &&
        tokenizer->kind == MODEL_UNIGRAM) {
        return model_file_error(err, STATUS_UNSUPPORTED, file, "pre_tokenizer",
                                "ByteLevel before a Unigram model is not supported");
    }
    return status;
}

static enum status check_version(json_t *root, struct error *err) {
    json_t *version = json_object_get(root, "version");
    const char *text = json_string_value(version);
    if (version == NULL || (text != NULL && strcmp(text, "1.0") == 0)) {
        return STATUS_OK;
    }
    return model_file_error(err, text != NULL ? STATUS_UNSUPPORTED : STATUS_MALFORMED, file,
                            "version", "not \"1.0\"");
}

enum status tokenizer_source_json(const char *directory, const struct special_sources *sources,
                                  struct tokenizer *tokenizer, struct error *err) {
    json_t *root = NULL;
    struct tokenizer_class class;
    enum status status = model_file_read_json(directory, file, &root, err);
    if (status != STATUS_OK) {
        return status;
    }
    status = check_version(root, err);
    if (status == STATUS_OK) {
        status = json_check_lengths(root, err);
    }
    // The normaliser comes before the added tokens, which it may apply to.
    if (status == STATUS_OK) {
        status = read_model(root, tokenizer, err);
    }
    if (status == STATUS_OK) {
        status = tokenizer_class_find(sources, says_byte_level(root), &class, err);
    }
    if (status == STATUS_OK) {
        status = read_stages(root, &class, tokenizer, err);
    }
    if (status == STATUS_OK && class.keeps_post_processor) {
        status = json_read_postprocessor(root, tokenizer, err);
    }
    // Beside this file transformers takes no notice of add_bos_token, also where it has no frame.
    tokenizer->whole_file = true;
    tokenizer->padding =
        json_incref(json_object_get(json_object_get(root, "padding"), "pad_token"));
    tokenizer->class_tokens = class.tokens;
    tokenizer->class_adds_anew = class.adds_anew;
    // A class that builds its own pipeline takes the added tokens of the configuration instead.
    if (status == STATUS_OK &&
        (class.pipeline == PIPELINE_OF_FILE ||
         json_object_get(sources->tokenizer_config, "added_tokens_decoder") == NULL)) {
        status = read_added_tokens(root, tokenizer, err);
    }
    json_decref(root);
    return status;
}
