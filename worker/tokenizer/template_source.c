// In the way of transformers 5 (tokenization_utils_base.py: _from_pretrained, get_chat_template,
// special_tokens_map).
#include "worker/tokenizer/template_source.h"

#include <dirent.h>
#include <stdio.h>
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

// Of several templates the one called "default", the last of that name; NULL when there is none.
static const json_t *find_default(const json_t *templates) {
    for (size_t i = json_array_size(templates); i > 0; i--) {
        const json_t *entry = json_array_get(templates, i - 1);
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

static bool has_templates(const char *directory, const char *folder) {
    char path[MODEL_PATH_BYTES];
    int length = snprintf(path, sizeof path, "%s/%s", directory, folder);
    DIR *listing = length < (int)sizeof path ? opendir(path) : NULL;
    bool found = false;
    for (const struct dirent *entry; listing != NULL && !found && (entry = readdir(listing));) {
        const char *dot = strrchr(entry->d_name, '.');
        found = dot != NULL && strcmp(dot, ".jinja") == 0;
    }
    if (listing != NULL) {
        closedir(listing);
    }
    return found;
}

// Files before entries of the configuration. The further ones have names, of which "default" is as
// good as chat_template.jinja; without either the model has templates and none to take.
static enum status read_file(const char *directory, struct template_source *out,
                             struct error *err) {
    static const char folder[] = "additional_chat_templates";
    static const char *const files[] = {"additional_chat_templates/default.jinja",
                                        "chat_template.jinja"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        if (model_path_has(directory, files[i])) {
            return model_file_read(directory, files[i], &out->text, &out->bytes, err);
        }
    }
    return has_templates(directory, folder)
               ? error_set(err, STATUS_UNSUPPORTED, folder,
                           "several templates, and none is called \"default\"")
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

// Gives names that nobody gave a token, null included, to the tokenizer's own.
static enum status add_own(const struct tokenizer *tokenizer, json_t *tokens, struct error *err) {
    const struct {
        const char *name;
        int32_t id;
    } own[] = {{"bos_token", tokenizer_bos_id(tokenizer)},
               {"eos_token", tokenizer_eos_id(tokenizer)},
               {"unk_token", tokenizer_unk_id(tokenizer)},
               {"pad_token", tokenizer_pad_id(tokenizer)}};
    for (size_t i = 0; i < sizeof own / sizeof *own; i++) {
        json_t *token =
            json_object_get(tokens, own[i].name) == NULL ? spelled(tokenizer, own[i].id) : NULL;
        if (token != NULL && json_object_set_new(tokens, own[i].name, token) != 0) {
            return error_set(err, STATUS_NO_MEMORY, "chat_template", "no memory for the tokens");
        }
    }
    return STATUS_OK;
}

// A null is no variable of a template.
static void drop_nulls(json_t *tokens) {
    const char *name;
    json_t *value;
    void *next;
    json_object_foreach_safe(tokens, next, name, value) {
        if (json_is_null(value)) {
            json_object_del(tokens, name);
        }
    }
}

// A template of the model's reads the tokens that files and class name, as in transformers; where
// the tokenizer's source says them itself, and in the formats of template.h, also the tokenizer's.
static enum status read_tokens(const struct tokenizer *tokenizer, struct template_source *out,
                               struct error *err) {
    out->tokens = json_copy((json_t *)(uintptr_t)tokenizer_names(tokenizer));
    out->format_tokens = json_copy(out->tokens);
    if (out->tokens == NULL || out->format_tokens == NULL) {
        return error_set(err, STATUS_NO_MEMORY, "chat_template", "no memory for the tokens");
    }
    enum status status = add_own(tokenizer, out->format_tokens, err);
    if (status == STATUS_OK && !tokenizer_names_all(tokenizer)) {
        status = add_own(tokenizer, out->tokens, err);
    }
    drop_nulls(out->tokens);
    drop_nulls(out->format_tokens);
    return status;
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
        status = read_tokens(tokenizer, out, err);
    }
    special_sources_finish(&sources);
    return status;
}

void template_source_finish(struct template_source *source) {
    free(source->text);
    json_decref(source->tokens);
    json_decref(source->format_tokens);
    *source = (struct template_source){0};
}
