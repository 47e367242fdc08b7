#include "worker/tokenizer/special_ids.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/model/gguf.h"
#include "worker/model/model_path.h"
#include "worker/tokenizer/model_file.h"
#include "worker/tokenizer/tokenizer_class.h"

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

// config.json and generation_config.json belong to the model: over a base they are what both say.
static enum status read_model_document(const char *path, const char *name, json_t **out,
                                       struct error *err) {
    struct model_path found;
    struct error own = {0};
    enum status status = model_path_find(path, &found, &own);
    if (status == STATUS_OK && found.base[0] == '\0' && !gguf_is_path(path)) {
        return read_optional(path, name, out, err);
    }
    if (status == STATUS_OK) {
        status = model_document_read(path, name, out, &own);
    }
    if (status == STATUS_OK || status == STATUS_NOT_FOUND) {
        return STATUS_OK;
    }
    error_prefix_field(&own, model_document_label(path, name));
    return error_set(err, status, own.field, "%s", own.message);
}

enum status special_sources_read(const char *path, const char *directory,
                                 struct special_sources *sources, struct error *err) {
    *sources = (struct special_sources){0};
    enum status status =
        read_optional(directory, "tokenizer_config.json", &sources->tokenizer_config, err);
    if (status == STATUS_OK) {
        status =
            read_optional(directory, "special_tokens_map.json", &sources->special_tokens_map, err);
    }
    if (status == STATUS_OK) {
        status =
            read_model_document(path, "generation_config.json", &sources->generation_config, err);
    }
    // A GGUF file names every role in what stands for tokenizer_config.json.
    if (status == STATUS_OK && !gguf_is_path(directory)) {
        status = read_model_document(path, "config.json", &sources->config, err);
    }
    if (status == STATUS_OK) {
        status = read_optional(directory, "added_tokens.json", &sources->added_tokens, err);
    }
    return status;
}

void special_sources_finish(struct special_sources *sources) {
    json_decref(sources->tokenizer_config);
    json_decref(sources->special_tokens_map);
    json_decref(sources->generation_config);
    json_decref(sources->config);
    json_decref(sources->added_tokens);
    *sources = (struct special_sources){0};
}

// A token as the configuration writes it: a string, or an object of the content and flags. Returns
// false for anything else.
static bool read_token(json_t *value, struct added_token *token) {
    json_t *content = json_is_object(value) ? json_object_get(value, "content") : value;
    size_t bytes = json_string_length(content);
    if (!json_is_string(content) || bytes == 0 || bytes > ADDED_TOKEN_BYTES_MAX) {
        return false;
    }
    static const char *const flags[] = {"special", "lstrip", "rstrip", "single_word", "normalized"};
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
        json_t *flag = json_object_get(value, flags[i]);
        if (flag != NULL && !json_is_boolean(flag)) {
            return false;
        }
    }
    bool special = json_is_true(json_object_get(value, "special"));
    json_t *normalized = json_object_get(value, "normalized");
    *token = (struct added_token){
        .content = json_string_value(content),
        .bytes = (uint16_t)bytes,
        .special = special,
        .lstrip = json_is_true(json_object_get(value, "lstrip")),
        .rstrip = json_is_true(json_object_get(value, "rstrip")),
        .single_word = json_is_true(json_object_get(value, "single_word")),
        .normalized = normalized != NULL ? json_is_true(normalized) : !special,
    };
    return true;
}

static enum status add_token(struct tokenizer *tokenizer, struct added_token token,
                             const char *file, const char *path, struct error *err) {
    token.id = tokenizer_next_id(tokenizer, token.content, token.bytes);
    enum status status = tokenizer_add_token(tokenizer, &token);
    if (status == STATUS_OK) {
        return status;
    }
    return model_file_error(
        err, status == STATUS_ALREADY_EXISTS ? STATUS_MALFORMED : status, file, path,
        "token \"%s\" cannot be added as id %d: %s", token.content, token.id,
        status == STATUS_ALREADY_EXISTS ? "another token has it" : status_text(status));
}

// A token that a file lists with its id.
struct listed_token {
    struct added_token token;
    json_int_t id;
};

static int compare_listed(const void *a, const void *b) {
    const struct listed_token *x = a;
    const struct listed_token *y = b;
    return x->id < y->id ? -1 : x->id > y->id;
}

// Adds listed tokens in the order of their ids. transformers takes no id from such a list but gives
// the next free ones; a list that would not get its own is refused. keeps_added: what was added
// before keeps its flags.
static enum status add_listed(struct listed_token *list, size_t n, bool keeps_added,
                              const char *file, const char *path, struct tokenizer *tokenizer,
                              struct error *err) {
    if (n > 0) {
        qsort(list, n, sizeof *list, compare_listed);
    }
    for (size_t i = 0; i < n; i++) {
        const struct added_token *token = &list[i].token;
        int32_t id = tokenizer_next_id(tokenizer, token->content, token->bytes);
        if (id != list[i].id) {
            return model_file_error(err, STATUS_MALFORMED, file, path,
                                    "token \"%s\" of id %lld would get id %d", token->content,
                                    (long long)list[i].id, id);
        }
        bool passed_over = keeps_added && tokenizer_added(tokenizer, id) != NULL;
        enum status status =
            passed_over ? STATUS_OK : add_token(tokenizer, *token, file, path, err);
        if (status != STATUS_OK) {
            return status;
        }
    }
    return STATUS_OK;
}

// The object added_tokens_decoder: id to token.
static enum status read_decoder_entry(const char *key, json_t *entry, struct listed_token *out) {
    char *end;
    out->id = strtol(key, &end, 10);
    bool good = *key != '\0' && *end == '\0' && out->id >= 0 && out->id < TOKENIZER_VOCAB_MAX &&
                json_is_object(entry) && read_token(entry, &out->token);
    return good ? STATUS_OK : STATUS_MALFORMED;
}

// The object of added_tokens.json: content to id. A token that the map names is special.
static enum status read_added_entry(const char *key, json_t *entry, json_t *specials,
                                    struct listed_token *out) {
    size_t bytes = strlen(key);
    out->id = json_integer_value(entry);
    if (!json_is_integer(entry) || out->id < 0 || out->id >= TOKENIZER_VOCAB_MAX || bytes == 0 ||
        bytes > ADDED_TOKEN_BYTES_MAX) {
        return STATUS_MALFORMED;
    }
    bool special = json_object_get(specials, key) != NULL;
    out->token = (struct added_token){
        .content = key, .bytes = (uint16_t)bytes, .special = special, .normalized = !special};
    return STATUS_OK;
}

// Reads and adds every entry of an object; `specials` belongs to added_tokens.json.
static enum status add_object(json_t *object, const char *file, const char *path, json_t *specials,
                              struct tokenizer *tokenizer, struct error *err) {
    struct listed_token *list = malloc((json_object_size(object) + 1) * sizeof *list);
    if (list == NULL) {
        return model_file_error(err, STATUS_NO_MEMORY, file, path, "no memory for the tokens");
    }
    size_t n = 0;
    enum status status = STATUS_OK;
    const char *key;
    json_t *entry;
    json_object_foreach(object, key, entry) {
        status = specials != NULL ? read_added_entry(key, entry, specials, &list[n])
                                  : read_decoder_entry(key, entry, &list[n]);
        if (status != STATUS_OK) {
            model_file_error(err, status, file, path, "not a token: entry \"%s\"", key);
            break;
        }
        n++;
    }
    if (status == STATUS_OK) {
        // What tokenizer.json lists counts before added_tokens.json.
        bool keeps_added = specials != NULL && tokenizer->whole_file;
        status = add_listed(list, n, keeps_added, file, path, tokenizer, err);
    }
    free(list);
    return status;
}

// Standard names in the order in which transformers adds their tokens.
static const char *const standard_names[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                             "pad_token", "cls_token", "mask_token"};

static bool is_standard(const char *key) {
    for (size_t i = 0; i < sizeof standard_names / sizeof *standard_names; i++) {
        if (strcmp(key, standard_names[i]) == 0) {
            return true;
        }
    }
    return false;
}

// special_tokens_map.json counts unless tokenizer_config.json lists its added tokens, which is how
// it is known to be the newer one.
static bool map_counts(const struct special_sources *sources) {
    return json_object_get(sources->tokenizer_config, "added_tokens_decoder") == NULL;
}

// The value that the files give a name: that of special_tokens_map.json, else the other's.
static json_t *named_value(const struct special_sources *sources, const char *key,
                           const char **file) {
    json_t *mapped = map_counts(sources) ? json_object_get(sources->special_tokens_map, key) : NULL;
    *file = mapped != NULL ? "special_tokens_map.json" : "tokenizer_config.json";
    return mapped != NULL ? mapped : json_object_get(sources->tokenizer_config, key);
}

// Adds a named token as a special one. A file that lists it among its added tokens has the say
// about it, unless the class adds all of them anew.
static enum status add_named(json_t *value, const char *file, const char *key,
                             struct tokenizer *tokenizer, struct error *err) {
    struct added_token token;
    if (!read_token(value, &token)) {
        return model_file_error(err, STATUS_MALFORMED, file, key, "neither a string nor a token");
    }
    int32_t known = vocabulary_find(&tokenizer->vocabulary, token.content, token.bytes);
    bool added = known >= 0 && tokenizer_added(tokenizer, known) != NULL;
    if (added && !tokenizer->class_adds_anew) {
        return STATUS_OK;
    }
    if (tokenizer->class_adds_anew) {
        token = (struct added_token){.content = token.content, .bytes = token.bytes};
    } else if (json_is_string(value)) {
        token.normalized = false;
    }
    token.special = true;
    return add_token(tokenizer, token, file, key, err);
}

// Notes what a template reads by the name: nothing where the value is null.
static enum status set_name(struct tokenizer *tokenizer, const char *name, json_t *value,
                            struct error *err) {
    json_t *content = json_is_object(value) ? json_object_get(value, "content") : value;
    if (json_object_set(tokenizer->names, name, content) != 0) {
        return error_set(err, STATUS_NO_MEMORY, "tokenizer", "no memory for the names of tokens");
    }
    return STATUS_OK;
}

static enum status name_and_add(const char *name, json_t *value, const char *file,
                                struct tokenizer *tokenizer, struct error *err) {
    enum status status =
        json_is_null(value) ? STATUS_OK : add_named(value, file, name, tokenizer, err);
    return status == STATUS_OK ? set_name(tokenizer, name, value, err) : status;
}

static enum status add_standard(const struct special_sources *sources, const char *name,
                                struct tokenizer *tokenizer, struct error *err) {
    const char *file;
    json_t *value = named_value(sources, name, &file);
    if (value != NULL) {
        return name_and_add(name, value, file, tokenizer, err);
    }
    const struct class_token *token = tokenizer->class_tokens;
    while (token != NULL && token->name != NULL && strcmp(token->name, name) != 0) {
        token++;
    }
    if (token == NULL || token->name == NULL) {
        bool is_padding = tokenizer->padding != NULL && strcmp(name, "pad_token") == 0;
        return is_padding ? name_and_add(name, tokenizer->padding, "tokenizer.json", tokenizer, err)
                          : STATUS_OK;
    }
    value = token->content != NULL ? json_string(token->content) : json_null();
    enum status status = value == NULL
                             ? error_set(err, STATUS_NO_MEMORY, name, "no memory for a token")
                             : name_and_add(name, value, file, tokenizer, err);
    json_decref(value);
    return status;
}

// Tokens under other names that end in "_token".
static enum status add_other_names(json_t *config, const char *file, struct tokenizer *tokenizer,
                                   struct error *err) {
    const char *key;
    json_t *value;
    enum status status = STATUS_OK;
    json_object_foreach(config, key, value) {
        size_t bytes = strlen(key);
        bool named = bytes > 6 && strcmp(key + bytes - 6, "_token") == 0 && !is_standard(key);
        bool is_token = json_is_string(value) || json_object_get(value, "__type") != NULL;
        if (status == STATUS_OK && named && is_token) {
            status = name_and_add(key, value, file, tokenizer, err);
        }
    }
    // Older files write them as an object.
    json_object_foreach(json_object_get(config, "extra_special_tokens"), key, value) {
        if (status == STATUS_OK) {
            status = name_and_add(key, value, file, tokenizer, err);
        }
    }
    return status;
}

// The list of special tokens without a name: extra_special_tokens, once additional_special_tokens.
// Those of special_tokens_map.json go behind the former and stand in where there is neither. A new
// reference; NULL without memory.
static json_t *unnamed_tokens(const struct special_sources *sources) {
    json_t *map = map_counts(sources) ? sources->special_tokens_map : NULL;
    json_t *extra = json_object_get(sources->tokenizer_config, "extra_special_tokens");
    json_t *additional = json_object_get(sources->tokenizer_config, "additional_special_tokens");
    json_t *mapped = json_object_get(map, "additional_special_tokens");
    bool names = json_is_object(extra) && json_object_size(extra) > 0;
    json_t *list = json_array();
    json_t *first = names || json_array_size(extra) > 0 || additional == NULL ? extra : additional;
    if (json_is_array(first)) {
        json_array_extend(list, first);
    }
    size_t i;
    json_t *value;
    json_array_foreach(json_object_get(map, "extra_special_tokens"), i, value) {
        json_array_append(list, value);
    }
    bool speaks =
        json_is_array(first) || json_is_array(json_object_get(map, "extra_special_tokens"));
    if (!speaks) {
        json_array_extend(list, mapped != NULL ? mapped : additional);
    }
    return list;
}

static enum status add_unnamed(const struct special_sources *sources, struct tokenizer *tokenizer,
                               struct error *err) {
    json_t *list = unnamed_tokens(sources);
    enum status status = STATUS_OK;
    size_t i;
    json_t *value;
    json_array_foreach(list, i, value) {
        if (status == STATUS_OK) {
            status =
                add_named(value, "tokenizer_config.json", "extra_special_tokens", tokenizer, err);
        }
    }
    json_decref(list);
    return status;
}

// Contents that special_tokens_map.json and tokenizer_config.json name, as keys.
static json_t *named_contents(const struct special_sources *sources) {
    json_t *set = json_object();
    for (size_t i = 0; i < sizeof standard_names / sizeof *standard_names; i++) {
        const char *file;
        struct added_token token;
        json_t *value = named_value(sources, standard_names[i], &file);
        if (value != NULL && read_token(value, &token)) {
            (void)json_object_set_new(set, token.content, json_true());
        }
    }
    json_t *maps[] = {sources->tokenizer_config, sources->special_tokens_map};
    for (size_t i = 0; i < 2; i++) {
        size_t j;
        json_t *value;
        json_array_foreach(json_object_get(maps[i], "additional_special_tokens"), j, value) {
            struct added_token token;
            if (read_token(value, &token)) {
                (void)json_object_set_new(set, token.content, json_true());
            }
        }
    }
    return set;
}

enum status special_ids_add_tokens(const struct special_sources *sources,
                                   struct tokenizer *tokenizer, struct error *err) {
    json_t *decoder = json_object_get(sources->tokenizer_config, "added_tokens_decoder");
    enum status status = STATUS_OK;
    tokenizer->names = json_object();
    if (decoder != NULL) {
        status = add_object(decoder, "tokenizer_config.json", "added_tokens_decoder", NULL,
                            tokenizer, err);
    } else if (sources->added_tokens != NULL) {
        json_t *specials = named_contents(sources);
        status =
            add_object(sources->added_tokens, "added_tokens.json", "", specials, tokenizer, err);
        json_decref(specials);
    }
    for (size_t i = 0; i < sizeof standard_names / sizeof *standard_names; i++) {
        if (status == STATUS_OK) {
            status = add_standard(sources, standard_names[i], tokenizer, err);
        }
    }
    if (status == STATUS_OK && map_counts(sources)) {
        status =
            add_other_names(sources->special_tokens_map, "special_tokens_map.json", tokenizer, err);
    }
    if (status == STATUS_OK) {
        status =
            add_other_names(sources->tokenizer_config, "tokenizer_config.json", tokenizer, err);
    }
    return status == STATUS_OK ? add_unnamed(sources, tokenizer, err) : status;
}

// Makes the token of a role a special one: hidden in a decoded text, and nothing that ordinary text
// becomes. Where a file lists its added tokens, that it is found in a text is the file's to say.
static enum status mark_special(struct tokenizer *tokenizer, int32_t id) {
    struct token *entry = &tokenizer->vocabulary.tokens[id];
    entry->special = true;
    if (entry->added || tokenizer->whole_file) {
        return STATUS_OK;
    }
    size_t bytes;
    const char *content = vocabulary_content(&tokenizer->vocabulary, id, &bytes);
    struct added_token token = {
        .content = content, .bytes = (uint16_t)bytes, .id = id, .special = true};
    return tokenizer_add_token(tokenizer, &token);
}

static bool is_token(const struct tokenizer *tokenizer, json_int_t id) {
    return id >= 0 && id < tokenizer->vocabulary.size && tokenizer->vocabulary.tokens[id].present;
}

// Looks for a token by name. *known tells whether a file or the class speaks of it, null included.
static void find_named(const struct tokenizer *tokenizer, const char *key, bool *known,
                       int32_t *id) {
    const json_t *text = json_object_get(tokenizer->names, key);
    *known = text != NULL;
    *id = json_is_string(text) ? vocabulary_find(&tokenizer->vocabulary, json_string_value(text),
                                                 json_string_length(text))
                               : -1;
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

// A token by its usual spelling, which may be an ordinary piece of a vocabulary: text that somebody
// writes. GPT-2's vocab.json holds its only token among the pieces.
static int32_t find_usual(const struct tokenizer *tokenizer, const char *spelling) {
    int32_t id = tokenizer_find(tokenizer, spelling);
    bool counts = tokenizer_is_special(tokenizer, id) || strcmp(spelling, "<|endoftext|>") == 0;
    return counts ? id : -1;
}

static enum status find_role(const struct special_sources *sources, struct tokenizer *tokenizer,
                             const struct role *role, int32_t *id, struct error *err) {
    bool known;
    int32_t own = *id; // what the source of the tokenizer says
    enum status status = STATUS_OK;
    find_named(tokenizer, role->token_key, &known, id);
    if (!known) {
        status = find_numbered(tokenizer, sources->generation_config, "generation_config.json",
                               role->id_key, &known, id, err);
    }
    if (status == STATUS_OK && !known) {
        status =
            find_numbered(tokenizer, sources->config, "config.json", role->id_key, &known, id, err);
    }
    if (status == STATUS_OK && !known && own >= 0) {
        *id = own;
        known = true;
    }
    for (size_t i = 0; i < 3 && status == STATUS_OK && !known && role->spellings[i] != NULL; i++) {
        *id = find_usual(tokenizer, role->spellings[i]);
        known = *id >= 0;
    }
    if (status == STATUS_OK && *id >= 0) {
        status = mark_special(tokenizer, *id);
    }
    return status;
}

// The ids that end a generation: EOS, and those of generation_config.json, or of config.json where
// that file is absent.
static enum status set_end_ids(const struct special_sources *sources, struct tokenizer *tokenizer,
                               struct error *err) {
    bool generation = sources->generation_config != NULL;
    const char *file = generation ? "generation_config.json" : "config.json";
    json_t *value =
        json_object_get(generation ? sources->generation_config : sources->config, "eos_token_id");
    if (tokenizer->eos_id >= 0) {
        tokenizer->end_ids[tokenizer->n_end_ids++] = tokenizer->eos_id;
    }
    size_t n = json_is_array(value) ? json_array_size(value) : json_is_integer(value) ? 1 : 0;
    for (size_t i = 0; i < n; i++) {
        json_t *id = json_is_array(value) ? json_array_get(value, i) : value;
        if (!json_is_integer(id) || !is_token(tokenizer, json_integer_value(id))) {
            return model_file_error(err, STATUS_MALFORMED, file, "eos_token_id",
                                    "entry %zu is not a token of the tokenizer", i);
        }
        if (tokenizer->n_end_ids == TOKENIZER_END_IDS_MAX) {
            return model_file_error(err, STATUS_LIMIT, file, "eos_token_id", "more than %d ids",
                                    TOKENIZER_END_IDS_MAX - 1);
        }
        tokenizer->end_ids[tokenizer->n_end_ids++] = (int32_t)json_integer_value(id);
    }
    return STATUS_OK;
}

// add_bos_token and add_eos_token, for files without a post-processor.
static void set_frame(const struct special_sources *sources, struct tokenizer *tokenizer) {
    struct frame *frame = &tokenizer->frame;
    json_t *bos = json_object_get(sources->tokenizer_config, "add_bos_token");
    json_t *eos = json_object_get(sources->tokenizer_config, "add_eos_token");
    bool adds_bos = json_is_boolean(bos) ? json_is_true(bos) : tokenizer->adds_bos_by_default;
    frame->n_before = adds_bos && tokenizer->bos_id >= 0 ? 1 : 0;
    frame->n_after = json_is_true(eos) && tokenizer->eos_id >= 0 ? 1 : 0;
    frame->before[0] = tokenizer->bos_id;
    frame->after[0] = tokenizer->eos_id;
}

// A template of the file may name any id.
static enum status check_frame(const struct tokenizer *tokenizer, struct error *err) {
    const struct frame *frame = &tokenizer->frame;
    for (size_t i = 0; i < frame->n_before + frame->n_after; i++) {
        int32_t id = i < frame->n_before ? frame->before[i] : frame->after[i - frame->n_before];
        if (!is_token(tokenizer, id)) {
            return model_file_error(err, STATUS_MALFORMED, "tokenizer.json", "post_processor",
                                    "%d is not a token of the tokenizer", id);
        }
    }
    return STATUS_OK;
}

// What the configuration asks of a decoded text and only unigram models are given there.
static enum status refuse_tidying(const struct special_sources *sources,
                                  const struct tokenizer *tokenizer, struct error *err) {
    static const char key[] = "clean_up_tokenization_spaces";
    bool asked = json_is_true(json_object_get(sources->tokenizer_config, key));
    return asked && tokenizer->kind == MODEL_UNIGRAM
               ? model_file_error(err, STATUS_UNSUPPORTED, "tokenizer_config.json", key,
                                  "true is not supported for a unigram model")
               : STATUS_OK;
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
    if (status == STATUS_OK && !tokenizer->whole_file) {
        set_frame(sources, tokenizer);
    }
    if (status == STATUS_OK) {
        status = refuse_tidying(sources, tokenizer, err);
    }
    return status == STATUS_OK ? check_frame(tokenizer, err) : status;
}
