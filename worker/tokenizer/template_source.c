// In the way of transformers 5 (tokenization_utils_base.py: _from_pretrained, get_chat_template,
// special_tokens_map).
#include "worker/tokenizer/template_source.h"

#include <stdlib.h>
#include <string.h>

#include "worker/tokenizer/model_file.h"
#include "worker/tokenizer/special_ids.h"
#include "worker/tokenizer/tokenizer_source.h"

// Takes the text of a JSON string.
static enum status take_text(const json_t *text, struct template_source *out, struct error *err) {
    out->bytes = json_string_length(text);
    out->text = malloc(out->bytes + 1);
    if (out->text == NULL) {
        return error_set(err, STATUS_NO_MEMORY, "chat_template", "no memory for the template");
    }
    memcpy(out->text, json_string_value(text), out->bytes + 1);
    return STATUS_OK;
}

// Of several templates the one called "default"; NULL when there is none.
static const json_t *find_default(const json_t *templates) {
    for (size_t i = 0; i < json_array_size(templates); i++) {
        const json_t *entry = json_array_get(templates, i);
        const char *name = json_string_value(json_object_get(entry, "name"));
        if (name != NULL && strcmp(name, "default") == 0) {
            return json_object_get(entry, "template");
        }
    }
    return json_object_get(templates, "default");
}

static enum status read_member(const json_t *config, const char *file, struct template_source *out,
                               struct error *err) {
    const json_t *template = json_object_get(config, "chat_template");
    if (template == NULL || json_is_null(template)) {
        return STATUS_OK;
    }
    if (json_is_array(template) || json_is_object(template)) {
        template = find_default(template);
        if (template == NULL) {
            return model_file_error(err, STATUS_UNSUPPORTED, file, "chat_template",
                                    "several templates, and none is called \"default\"");
        }
    }
    if (!json_is_string(template)) {
        return model_file_error(err, STATUS_MALFORMED, file, "chat_template", "not a text");
    }
    return take_text(template, out, err);
}

static enum status read_file(const char *directory, struct template_source *out,
                             struct error *err) {
    static const char file[] = "chat_template.jinja";
    return model_path_has(directory, file)
               ? model_file_read(directory, file, &out->text, &out->bytes, err)
               : STATUS_OK;
}

static enum status read_json_file(const char *directory, struct template_source *out,
                                  struct error *err) {
    static const char file[] = "chat_template.json";
    json_t *config = NULL;
    if (!model_path_has(directory, file)) {
        return STATUS_OK;
    }
    enum status status = model_file_read_json(directory, file, &config, err);
    if (status != STATUS_OK) {
        return status;
    }
    status = read_member(config, file, out, err);
    json_decref(config);
    return status;
}

static json_t *spelled(const struct tokenizer *tokenizer, int32_t id) {
    const char *bytes;
    size_t count;
    if (id < 0 ||
        tokenizer_token_bytes(tokenizer, id, TOKENIZER_KEEP_SPECIAL, &bytes, &count) != STATUS_OK) {
        return NULL;
    }
    return json_stringn(bytes, count);
}

// A token as a configuration writes it: a string, or an object with its content.
static json_t *content_of(json_t *value) {
    json_t *content = json_is_object(value) ? json_object_get(value, "content") : value;
    return json_is_string(content) ? content : NULL;
}

// Tokens of the tokenizer for the names that it knows by itself.
static json_t *own_token(const struct tokenizer *tokenizer, const char *name) {
    if (strcmp(name, "bos_token") == 0) {
        return spelled(tokenizer, tokenizer_bos_id(tokenizer));
    }
    if (strcmp(name, "eos_token") == 0) {
        return spelled(tokenizer, tokenizer_eos_id(tokenizer));
    }
    if (strcmp(name, "pad_token") == 0) {
        return spelled(tokenizer, tokenizer_pad_id(tokenizer));
    }
    return strcmp(name, "unk_token") == 0 ? spelled(tokenizer, tokenizer_unk_id(tokenizer)) : NULL;
}

// Classes that know no token but those that the files name. Others have tokens of their own, which
// the tokenizer has found.
static bool has_no_own_tokens(const json_t *config) {
    const char *name = json_string_value(json_object_get(config, "tokenizer_class"));
    return name != NULL &&
           (strcmp(name, "PreTrainedTokenizerFast") == 0 || strcmp(name, "TokenizersBackend") == 0);
}

static json_t *find_token(const struct special_sources *sources, const struct tokenizer *tokenizer,
                          const char *name) {
    json_t *value = json_object_get(sources->tokenizer_config, name);
    if (value == NULL) {
        value = json_object_get(sources->special_tokens_map, name);
    }
    if (value != NULL) {
        return json_incref(content_of(value)); // null: there is none
    }
    return has_no_own_tokens(sources->tokenizer_config) ? NULL : own_token(tokenizer, name);
}

static enum status read_tokens(const struct special_sources *sources,
                               const struct tokenizer *tokenizer, json_t **out, struct error *err) {
    static const char *const names[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                        "pad_token", "cls_token", "mask_token"};
    json_t *tokens = json_object();
    if (tokens == NULL) {
        return error_set(err, STATUS_NO_MEMORY, "chat_template", "no memory for the tokens");
    }
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        json_t *token = find_token(sources, tokenizer, names[i]);
        if (token != NULL && json_object_set_new(tokens, names[i], token) != 0) {
            json_decref(tokens);
            return error_set(err, STATUS_NO_MEMORY, "chat_template", "no memory for the tokens");
        }
    }
    *out = tokens;
    return STATUS_OK;
}

enum status template_source_read(const char *path, const struct tokenizer *tokenizer,
                                 struct template_source *out, struct error *err) {
    struct model_path found;
    struct special_sources sources;
    *out = (struct template_source){0};
    enum status status = model_path_find(path, &found, err);
    if (status != STATUS_OK) {
        return status;
    }
    const char *directory = tokenizer_find_directory(&found);
    status = special_sources_read(path, directory, &sources, err);
    if (status == STATUS_OK) {
        status = read_file(directory, out, err);
    }
    if (status == STATUS_OK && out->text == NULL) {
        status = read_member(sources.tokenizer_config, "tokenizer_config.json", out, err);
    }
    if (status == STATUS_OK && out->text == NULL) {
        status = read_json_file(directory, out, err);
    }
    if (status == STATUS_OK) {
        status = read_tokens(&sources, tokenizer, &out->tokens, err);
    }
    special_sources_finish(&sources);
    return status;
}

void template_source_finish(struct template_source *source) {
    free(source->text);
    json_decref(source->tokens);
    *source = (struct template_source){0};
}
