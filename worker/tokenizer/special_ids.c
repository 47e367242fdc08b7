#include "worker/tokenizer/special_ids.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/tokenizer/model_file.h"

static enum status read_optional(const char *directory, const char *name, json_t **out,
                                 struct error *err) {
    // A file that is absent is no failure, so its error is not the caller's to see.
    struct error own = {0};
    enum status status = model_file_read_json(directory, name, out, &own);
    if (status == STATUS_NOT_FOUND) {
        return STATUS_OK;
    }
    if (status != STATUS_OK) {
        return error_set(err, status, own.field, "%s", own.message);
    }
    return STATUS_OK;
}

enum status special_sources_read(const char *directory, struct special_sources *sources,
                                 struct error *err) {
    *sources = (struct special_sources){0};
    enum status status =
        read_optional(directory, "tokenizer_config.json", &sources->tokenizer_config, err);
    if (status == STATUS_OK) {
        status =
            read_optional(directory, "special_tokens_map.json", &sources->special_tokens_map, err);
    }
    if (status == STATUS_OK) {
        status =
            read_optional(directory, "generation_config.json", &sources->generation_config, err);
    }
    if (status == STATUS_OK) {
        status = read_optional(directory, "config.json", &sources->config, err);
    }
    return status;
}

void special_sources_finish(struct special_sources *sources) {
    json_decref(sources->tokenizer_config);
    json_decref(sources->special_tokens_map);
    json_decref(sources->generation_config);
    json_decref(sources->config);
    *sources = (struct special_sources){0};
}

enum status special_ids_add_tokens(const struct special_sources *sources,
                                   struct tokenizer *tokenizer, struct error *err) {
    json_t *list = json_object_get(sources->tokenizer_config, "added_tokens_decoder");
    const char *key;
    json_t *entry;
    json_object_foreach(list, key, entry) {
        char *end;
        long id = strtol(key, &end, 10);
        json_t *content = json_object_get(entry, "content");
        if (*key == '\0' || *end != '\0' || id < 0 || id >= TOKENIZER_VOCAB_MAX ||
            !json_is_string(content) || json_string_length(content) > ADDED_TOKEN_BYTES_MAX) {
            return model_file_error(err, STATUS_MALFORMED, "tokenizer_config.json",
                                    "added_tokens_decoder", "not a token: entry \"%s\"", key);
        }
        bool special = json_is_true(json_object_get(entry, "special"));
        json_t *normalized = json_object_get(entry, "normalized");
        enum status status = tokenizer_add_token(
            tokenizer, &(struct added_token){
                           .content = json_string_value(content),
                           .bytes = (uint16_t)json_string_length(content),
                           .id = (int32_t)id,
                           .special = special,
                           .lstrip = json_is_true(json_object_get(entry, "lstrip")),
                           .rstrip = json_is_true(json_object_get(entry, "rstrip")),
                           .single_word = json_is_true(json_object_get(entry, "single_word")),
                           .normalized = normalized != NULL ? json_is_true(normalized) : !special,
                       });
        if (status != STATUS_OK) {
            return model_file_error(err,
                                    status == STATUS_ALREADY_EXISTS ? STATUS_MALFORMED : status,
                                    "tokenizer_config.json", "added_tokens_decoder",
                                    "token %ld cannot be added: %s", id, status_text(status));
        }
    }
    return STATUS_OK;
}

// Makes a token of the vocabulary a special one.
static enum status mark_special(struct tokenizer *tokenizer, int32_t id) {
    size_t bytes;
    const char *content = vocabulary_content(&tokenizer->vocabulary, id, &bytes);
    return tokenizer_add_token(
        tokenizer, &(struct added_token){
                       .content = content, .bytes = (uint16_t)bytes, .id = id, .special = true});
}

static bool is_token(const struct tokenizer *tokenizer, json_int_t id) {
    return id >= 0 && id < tokenizer->vocabulary.size && tokenizer->vocabulary.tokens[id].present;
}

// Looks for a token by name. *known tells whether the file speaks of it, null included.
static enum status find_named(const struct tokenizer *tokenizer, json_t *file, const char *name,
                              const char *key, bool *known, int32_t *id, struct error *err) {
    json_t *value = json_object_get(file, key);
    *known = value != NULL;
    *id = -1;
    if (json_is_object(value)) {
        value = json_object_get(value, "content");
    }
    if (!*known || json_is_null(value)) {
        return STATUS_OK;
    }
    if (!json_is_string(value)) {
        return model_file_error(err, STATUS_MALFORMED, name, key, "neither a string nor a token");
    }
    *id = vocabulary_find(&tokenizer->vocabulary, json_string_value(value),
                          json_string_length(value));
    if (*id < 0) {
        return model_file_error(err, STATUS_MALFORMED, name, key, "not a token: \"%s\"",
                                json_string_value(value));
    }
    return STATUS_OK;
}

// Looks for a token by number, the first when there are several.
static enum status find_numbered(const struct tokenizer *tokenizer, json_t *file, const char *name,
                                 const char *key, bool *known, int32_t *id, struct error *err) {
    json_t *value = json_object_get(file, key);
    if (json_is_array(value)) {
        value = json_array_get(value, 0);
    }
    *known = json_is_integer(value);
    *id = -1;
    if (!*known) {
        return STATUS_OK;
    }
    if (!is_token(tokenizer, json_integer_value(value))) {
        return model_file_error(err, STATUS_MALFORMED, name, key,
                                "%lld is not a token of the tokenizer",
                                (long long)json_integer_value(value));
    }
    *id = (int32_t)json_integer_value(value);
    return STATUS_OK;
}

struct role {
    const char *token_key;
    const char *id_key;
    const char *spellings[3]; // tried in order when no file names the role
};

static enum status find_role(const struct special_sources *sources, struct tokenizer *tokenizer,
                             const struct role *role, int32_t *id, struct error *err) {
    bool known;
    enum status status = find_named(tokenizer, sources->tokenizer_config, "tokenizer_config.json",
                                    role->token_key, &known, id, err);
    if (status == STATUS_OK && !known) {
        status = find_named(tokenizer, sources->special_tokens_map, "special_tokens_map.json",
                            role->token_key, &known, id, err);
    }
    if (status == STATUS_OK && !known) {
        status = find_numbered(tokenizer, sources->generation_config, "generation_config.json",
                               role->id_key, &known, id, err);
    }
    if (status == STATUS_OK && !known) {
        status =
            find_numbered(tokenizer, sources->config, "config.json", role->id_key, &known, id, err);
    }
    for (size_t i = 0; i < 3 && status == STATUS_OK && !known && role->spellings[i] != NULL; i++) {
        *id = tokenizer_find(tokenizer, role->spellings[i]);
        known = *id >= 0;
    }
    if (status == STATUS_OK && *id >= 0) {
        status = mark_special(tokenizer, *id);
    }
    return status;
}

static enum status set_end_ids(const struct special_sources *sources, struct tokenizer *tokenizer,
                               struct error *err) {
    json_t *value = json_object_get(sources->generation_config, "eos_token_id");
    if (tokenizer->eos_id >= 0) {
        tokenizer->end_ids[tokenizer->n_end_ids++] = tokenizer->eos_id;
    }
    size_t n = json_is_array(value) ? json_array_size(value) : json_is_integer(value) ? 1 : 0;
    for (size_t i = 0; i < n; i++) {
        json_t *id = json_is_array(value) ? json_array_get(value, i) : value;
        if (!json_is_integer(id) || !is_token(tokenizer, json_integer_value(id))) {
            return model_file_error(err, STATUS_MALFORMED, "generation_config.json", "eos_token_id",
                                    "entry %zu is not a token of the tokenizer", i);
        }
        if (tokenizer->n_end_ids == TOKENIZER_END_IDS_MAX) {
            return model_file_error(err, STATUS_LIMIT, "generation_config.json", "eos_token_id",
                                    "more than %d ids", TOKENIZER_END_IDS_MAX - 1);
        }
        tokenizer->end_ids[tokenizer->n_end_ids++] = (int32_t)json_integer_value(id);
    }
    return STATUS_OK;
}

enum status special_ids_set(const struct special_sources *sources, struct tokenizer *tokenizer,
                            struct error *err) {
    static const struct role bos = {
        "bos_token", "bos_token_id", {"<s>", "<|begin_of_text|>", "<|endoftext|>"}};
    static const struct role eos = {
        "eos_token", "eos_token_id", {"</s>", "<|end_of_text|>", "<|endoftext|>"}};
    static const struct role pad = {"pad_token", "pad_token_id", {"<pad>"}};
    enum status status = find_role(sources, tokenizer, &bos, &tokenizer->bos_id, err);
    if (status == STATUS_OK) {
        status = find_role(sources, tokenizer, &eos, &tokenizer->eos_id, err);
    }
    if (status == STATUS_OK) {
        status = find_role(sources, tokenizer, &pad, &tokenizer->pad_id, err);
    }
    if (status == STATUS_OK) {
        status = set_end_ids(sources, tokenizer, err);
    }
    json_t *adds_bos = json_object_get(sources->tokenizer_config, "add_bos_token");
    if (status == STATUS_OK && json_is_boolean(adds_bos)) {
        tokenizer->adds_bos = json_is_true(adds_bos);
    }
    return status;
}
