#include "worker/model/model_path.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "worker/model/gguf.h"
#include "worker/model/gguf_config.h"
#include "worker/model/json_fields.h"

static const char profile_name[] = "surefoot.json";
static const char adapter_name[] = "adapter_config.json";
static const char config_name[] = "config.json";

enum { SHOWN_BYTES = 160, HINT_BYTES = 120 }; // of a path, of a hint: both fit into a message

bool model_path_has(const char *directory, const char *name) {
    char path[MODEL_PATH_BYTES];
    int length = snprintf(path, sizeof path, "%s/%s", directory, name);
    return length > 0 && length < (int)sizeof path && access(path, F_OK) == 0;
}

static const char *last_component(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

const char *model_document_label(const char *path, const char *name) {
    return gguf_is_path(path) ? last_component(path) : name;
}

void model_profile_label_error(const char *path, struct error *err) {
    if (err == NULL || !gguf_is_path(path) ||
        strncmp(err->field, profile_name, strlen(profile_name)) != 0) {
        return;
    }
    char label[sizeof err->field];
    const char *file = last_component(path);
    size_t bytes = strlen(file);
    size_t used = strlen(err->field) + 16; // with a point, the NUL, and a model's name before it
    size_t room = used + 8 < sizeof label ? sizeof label - used : 8;
    if (bytes > room) {
        snprintf(label, sizeof label, "..%s", file + bytes - (room - 2));
    } else {
        snprintf(label, sizeof label, "%s", file);
    }
    error_prefix_field(err, label);
}

enum status model_profile_document_read(const char *path, json_t **out, struct error *err) {
    struct stat info;
    if (!gguf_is_path(path) && stat(path, &info) == 0 && !S_ISDIR(info.st_mode)) {
        return error_set(err, STATUS_INVALID_ARGUMENT, NULL,
                         "%.*s is neither a directory nor a file whose name ends in .gguf",
                         SHOWN_BYTES, path);
    }
    if (!gguf_is_path(path)) {
        return json_object_read(path, profile_name, out, err);
    }
    char directory[MODEL_PATH_BYTES], name[MODEL_PATH_BYTES];
    const char *last = last_component(path);
    snprintf(directory, sizeof directory, "%.*s", (int)(last - path), path);
    snprintf(name, sizeof name, "%s.%s", last, profile_name);
    return json_object_read(directory[0] != '\0' ? directory : ".", name, out, err);
}

// A string of the document, NULL when absent.
static enum status read_string(const json_t *json, const char *key, const char **out,
                               struct error *err) {
    const json_t *value = json_value_find(json, key);
    *out = json_string_value(value);
    if (value != NULL && (*out == NULL || (*out)[0] == '\0')) {
        return error_set(err, STATUS_MALFORMED, key, "%s is not the path of a model", key);
    }
    return STATUS_OK;
}

// What a profile says about how its base is got: shown where the base is absent, so it must be text
// that a terminal can take.
static enum status read_hint(const json_t *json, const char **out, struct error *err) {
    const json_t *value = json_value_find(json, "base_hint");
    *out = json_string_value(value);
    size_t length = *out != NULL ? strlen(*out) : 0;
    bool good = length > 0 && length <= HINT_BYTES && json_value_find(json, "base") != NULL;
    for (size_t i = 0; i < length; i++) {
        good = good && (*out)[i] >= ' ' && (*out)[i] <= '~';
    }
    if (value != NULL && !good) {
        return error_set(err, STATUS_MALFORMED, "base_hint",
                         "base_hint is not 1 to %d characters of ASCII beside a \"base\"",
                         HINT_BYTES);
    }
    return STATUS_OK;
}

// `hint` or NULL.
static enum status set_base(struct model_path *path, const char *document, const char *key,
                            const char *base, const char *hint, struct error *err) {
    int length = base[0] == '/' ? snprintf(path->base, sizeof path->base, "%s", base)
                                : snprintf(path->base, sizeof path->base, "%s/%s", path->own, base);
    struct stat info;
    char field[64];
    snprintf(field, sizeof field, "%s.%s", document, key);
    if (length >= (int)sizeof path->base) {
        return error_set(err, STATUS_LIMIT, field, "the path is longer than %d bytes",
                         MODEL_PATH_BYTES - 1);
    }
    if (stat(path->base, &info) != 0) {
        const char *end = path->base + (length > SHOWN_BYTES ? length - SHOWN_BYTES : 0);
        if (hint != NULL) {
            return error_set(err, STATUS_NOT_FOUND, field, "the base %s is not there: %s", end,
                             hint);
        }
        return error_set(err, STATUS_NOT_FOUND, field,
                         "the base %s is not there; \"base\" in %s names it, from the directory "
                         "or absolute",
                         end, profile_name);
    }
    return STATUS_OK;
}

// Takes the base that the document names, when it does.
static enum status find_base(struct model_path *path, const char *document, const char *key,
                             struct error *err) {
    json_t *json = NULL;
    const char *base = NULL, *hint = NULL;
    struct error own = {0};
    enum status status = json_object_read(path->own, document, &json, &own);
    if (status == STATUS_NOT_FOUND) {
        return STATUS_OK;
    }
    if (status == STATUS_OK) {
        status = read_string(json, key, &base, &own);
    }
    if (status == STATUS_OK && strcmp(document, profile_name) == 0) {
        status = read_hint(json, &hint, &own);
    }
    if (status != STATUS_OK) {
        error_prefix_field(&own, document);
        status = error_set(err, status, own.field, "%s", own.message);
    } else if (base != NULL) {
        status = set_base(path, document, key, base, hint, err);
    }
    json_decref(json);
    return status;
}

static enum status find_any_base(struct model_path *path, struct error *err) {
    enum status status = find_base(path, profile_name, "base", err);
    if (status == STATUS_OK && path->base[0] == '\0' && path->is_adapter) {
        status = find_base(path, adapter_name, "base_model_name_or_path", err);
    }
    if (status == STATUS_OK && path->base[0] == '\0' && path->is_adapter) {
        status = error_set(err, STATUS_MALFORMED, adapter_name,
                           "an adapter without a base: \"base\" in %s names it", profile_name);
    }
    return status;
}

enum status model_path_find(const char *path, struct model_path *out, struct error *err) {
    *out = (struct model_path){.own = path};
    if (gguf_is_path(path)) {
        return STATUS_OK;
    }
    out->is_adapter = model_path_has(path, adapter_name);
    enum status status = find_any_base(out, err);
    if (status != STATUS_OK || out->base[0] == '\0' || gguf_is_path(out->base)) {
        return status;
    }
    struct model_path below = {.own = out->base,
                               .is_adapter = model_path_has(out->base, adapter_name)};
    status = find_any_base(&below, err);
    if (status == STATUS_OK && below.base[0] != '\0') {
        status = error_set(err, STATUS_UNSUPPORTED, "base", "the base %.160s has a base itself",
                           out->base);
    }
    return status;
}

static enum status read_gguf_document(const char *path, const char *name, json_t **out,
                                      struct error *err) {
    struct gguf *gguf = NULL;
    enum status status = gguf_open(path, &gguf, err);
    if (status == STATUS_OK) {
        status = strcmp(name, config_name) == 0 ? gguf_config(gguf, out, err)
                                                : gguf_generation_config(gguf, out, err);
    }
    gguf_close(gguf);
    return status;
}

static enum status read_plain(const char *path, const char *name, json_t **out, struct error *err) {
    return gguf_is_path(path) ? read_gguf_document(path, name, out, err)
                              : json_object_read(path, name, out, err);
}

// A classifier that PEFT trained is a causal model's class in the base's config.json and this one
// in the adapter's.
static enum status apply_task(const char *directory, json_t *config, struct error *err) {
    json_t *adapter = NULL;
    enum status status = json_object_read(directory, adapter_name, &adapter, err);
    if (status != STATUS_OK) {
        return status;
    }
    const char *task = json_string_value(json_object_get(adapter, "task_type"));
    json_t *classes = json_object_get(config, "architectures");
    const char *class_name = json_string_value(json_array_get(classes, 0));
    static const char causal[] = "ForCausalLM";
    size_t length = class_name != NULL ? strlen(class_name) : 0;
    if (task != NULL && strcmp(task, "SEQ_CLS") == 0 && length >= sizeof causal - 1 &&
        strcmp(class_name + length - (sizeof causal - 1), causal) == 0) {
        char changed[128];
        snprintf(changed, sizeof changed, "%.*sForSequenceClassification",
                 (int)(length - (sizeof causal - 1)), class_name);
        json_object_set_new(config, "architectures", json_pack("[s]", changed));
    }
    json_decref(adapter);
    return STATUS_OK;
}

static enum status read_config_over(const struct model_path *path, json_t **out,
                                    struct error *err) {
    json_t *config = NULL, *own = NULL;
    enum status status = read_plain(path->base, config_name, &config, err);
    if (status == STATUS_OK && path->is_adapter) {
        status = apply_task(path->own, config, err);
    }
    if (status == STATUS_OK && model_path_has(path->own, config_name)) {
        status = json_object_read(path->own, config_name, &own, err);
    }
    if (status == STATUS_OK && own != NULL && json_object_update(config, own) != 0) {
        status = error_set(err, STATUS_NO_MEMORY, NULL, "no memory for %s", config_name);
    }
    json_decref(own);
    if (status != STATUS_OK) {
        json_decref(config);
        return status;
    }
    *out = config;
    return STATUS_OK;
}

enum status model_document_read(const char *path, const char *name, json_t **out,
                                struct error *err) {
    struct model_path found;
    enum status status = model_path_find(path, &found, err);
    if (status != STATUS_OK) {
        return status;
    }
    if (found.base[0] == '\0') {
        return read_plain(path, name, out, err);
    }
    if (strcmp(name, config_name) == 0) {
        return read_config_over(&found, out, err);
    }
    return read_plain(model_path_has(path, name) ? path : found.base, name, out, err);
}
