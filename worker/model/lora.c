#include "worker/model/lora.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "worker/model/element.h"
#include "worker/model/json_fields.h"
#include "worker/model/lora_targets.h"

static const char config_name[] = "adapter_config.json";
static const char weights_name[] = "adapter_model.safetensors";
static const char prefix[] = "base_model.model.";
static const char suffix_a[] = ".lora_A.weight";
static const char suffix_b[] = ".lora_B.weight";

enum { MODULE_BYTES = SAFETENSORS_NAME_BYTES_MAX + 16 };

struct lora {
    struct safetensors *files;
    json_t *config;              // adapter_config.json
    char *settings;              // its text, keys in order
    struct lora_update *updates; // [n_updates], by name; names are owned
    size_t n_updates;
    int32_t rank;
    float scale;
};

// Fields that say how the adapter was trained or saved, not what it does.
static bool is_harmless(const char *key) {
    static const char *const keys[] = {
        "peft_type",
        "task_type",
        "auto_mapping",
        "peft_version",
        "revision",
        "inference_mode",
        "r",
        "base_model_name_or_path",
        "target_modules",
        "exclude_modules",
        "lora_alpha",
        "lora_dropout",
        "fan_in_fan_out",
        "bias",
        "use_rslora",
        "modules_to_save",
        "megatron_core",
        "layers_to_transform",
        "layers_pattern",
        "init_lora_weights",
        "qalora_group_size",
        "ensure_weight_tying",
    };
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        if (strcmp(keys[i], key) == 0) {
            return true;
        }
    }
    return false;
}

static bool is_off(const json_t *value) {
    return json_is_null(value) || json_is_false(value) ||
           (json_is_object(value) && json_object_size(value) == 0) ||
           (json_is_array(value) && json_array_size(value) == 0);
}

static enum status check_fields(json_t *json, struct error *err) {
    const char *key;
    json_t *value;
    json_object_foreach(json, key, value) {
        if (!is_harmless(key) && !is_off(value)) {
            return error_set(err, STATUS_UNSUPPORTED, key, "%.64s is set, which is not supported",
                             key);
        }
    }
    return STATUS_OK;
}

// A string field that must be `wanted` where it stands.
static enum status check_name(const json_t *json, const char *key, const char *wanted,
                              struct error *err) {
    const json_t *value = json_value_find(json, key);
    if (value == NULL) {
        return STATUS_OK;
    }
    const char *text = json_string_value(value);
    return text != NULL && strcmp(text, wanted) == 0
               ? STATUS_OK
               : error_set(err, STATUS_UNSUPPORTED, key, "%s \"%.64s\" is not supported: %s is",
                           key, text != NULL ? text : "(not a string)", wanted);
}

// Other initialisations take a part of the base's weights away before training.
static enum status check_initialisation(const json_t *json, struct error *err) {
    const json_t *value = json_value_find(json, "init_lora_weights");
    const char *text = json_string_value(value);
    if (value == NULL || json_is_boolean(value) ||
        (text != NULL && strcmp(text, "gaussian") == 0)) {
        return STATUS_OK;
    }
    return error_set(err, STATUS_UNSUPPORTED, "init_lora_weights",
                     "init_lora_weights \"%.64s\" is not supported: it may change the base",
                     text != NULL ? text : "(not a name)");
}

static enum status read_scale(const json_t *json, struct lora *lora, struct error *err) {
    double alpha = 0;
    bool rslora = false, transposed = false;
    enum status status = json_int_get(json, "r", true, 1, LORA_RANK_MAX, &lora->rank, err);
    if (status == STATUS_OK) {
        status = json_number_get(json, "lora_alpha", true, -1e6, 1e6, &alpha, err);
    }
    if (status == STATUS_OK) {
        status = json_bool_get(json, "use_rslora", &rslora, err);
    }
    if (status == STATUS_OK) {
        status = json_bool_get(json, "fan_in_fan_out", &transposed, err);
    }
    if (status != STATUS_OK) {
        return status;
    }
    if (transposed) {
        log_warn("%s: fan_in_fan_out is true, but every matrix of these architectures is stored "
                 "as [out, in]: it counts as false, as in PEFT",
                 config_name);
    }
    lora->scale = (float)(alpha / (rslora ? sqrt((double)lora->rank) : (double)lora->rank));
    return STATUS_OK;
}

static enum status read_config(const json_t *json, struct lora *lora, struct error *err) {
    enum status status = json_value_find(json, "peft_type") != NULL
                             ? check_name(json, "peft_type", "LORA", err)
                             : error_set(err, STATUS_MALFORMED, "peft_type", "it is missing");
    if (status == STATUS_OK) {
        status = check_name(json, "bias", "none", err);
    }
    if (status == STATUS_OK) {
        status = check_initialisation(json, err);
    }
    if (status == STATUS_OK) {
        status = check_fields((json_t *)(uintptr_t)json, err);
    }
    if (status == STATUS_OK) {
        status = lora_targets_check(json, err);
    }
    return status == STATUS_OK ? read_scale(json, lora, err) : status;
}

static bool ends_with(const char *text, const char *end, size_t *length) {
    size_t n = strlen(text), m = strlen(end);
    *length = n - m;
    return n >= m && strcmp(text + n - m, end) == 0;
}

bool lora_is_head(const char *name) {
    static const char *const heads[] = {"score.", "lm_head.", "v_head.", "score_head.",
                                        "normalizer."};
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++) {
        if (strncmp(name, heads[i], strlen(heads[i])) == 0 && strstr(name, ".lora_") == NULL) {
            return true;
        }
    }
    return false;
}

// Cuts ".weight" off; false where a name has no such end.
static bool module_of(const char *name, char module[MODULE_BYTES]) {
    size_t length = 0;
    if (!ends_with(name, ".weight", &length) || length >= MODULE_BYTES) {
        return false;
    }
    snprintf(module, MODULE_BYTES, "%.*s", (int)length, name);
    return true;
}

bool lora_is_target(const struct lora *lora, const char *name) {
    char module[MODULE_BYTES];
    return module_of(name, module) && lora_targets_have(lora->config, module);
}

bool lora_is_saved(const struct lora *lora, const char *name) {
    char module[MODULE_BYTES];
    return module_of(name, module) && lora_targets_save(lora->config, module);
}

static struct lora_update *take_update(struct lora *lora, const char *name) {
    for (size_t i = 0; i < lora->n_updates; i++) {
        if (strcmp(lora->updates[i].name, name) == 0) {
            return &lora->updates[i];
        }
    }
    char *copy = strdup(name);
    if (copy == NULL) {
        return NULL;
    }
    lora->updates[lora->n_updates] = (struct lora_update){.name = copy};
    return &lora->updates[lora->n_updates++];
}

static enum status take_tensor(struct lora *lora, const struct safetensors_tensor *tensor,
                               struct error *err) {
    char name[SAFETENSORS_NAME_BYTES_MAX + 16];
    const char *rest = tensor->name + sizeof prefix - 1;
    size_t length = 0;
    if (strncmp(tensor->name, prefix, sizeof prefix - 1) != 0) {
        return error_set(err, STATUS_MALFORMED, tensor->name,
                         "the name of a tensor of an adapter begins with %s", prefix);
    }
    bool is_a = ends_with(rest, suffix_a, &length);
    bool is_b = !is_a && ends_with(rest, suffix_b, &length);
    if (!is_a && !is_b && !lora_is_head(rest)) {
        return error_set(err, STATUS_UNSUPPORTED, tensor->name,
                         "neither a lora_A, a lora_B nor a head that is known");
    }
    enum dtype dtype;
    if (!element_find_dtype(tensor->dtype, &dtype)) {
        return error_set(err, STATUS_UNSUPPORTED, tensor->name,
                         "dtype %s: F32, F16 and BF16 are supported", tensor->dtype);
    }
    if (is_a || is_b) {
        snprintf(name, sizeof name, "%.*s.weight", (int)length, rest);
    } else {
        snprintf(name, sizeof name, "%s", rest);
    }
    struct lora_update *update = take_update(lora, name);
    if (update == NULL) {
        return error_set(err, STATUS_NO_MEMORY, tensor->name, "no memory for its name");
    }
    *(is_a ? &update->a : is_b ? &update->b : &update->whole) = tensor;
    return STATUS_OK;
}

static enum status check_update(const struct lora *lora, const struct lora_update *update,
                                struct error *err) {
    const struct safetensors_tensor *a = update->a, *b = update->b;
    if (update->whole != NULL) {
        return a == NULL && b == NULL
                   ? STATUS_OK
                   : error_set(err, STATUS_MALFORMED, update->name, "stands whole and as a pair");
    }
    if (a == NULL || b == NULL) {
        return error_set(err, STATUS_MALFORMED, update->name, "its %s is missing",
                         a == NULL ? "lora_A" : "lora_B");
    }
    if (a->n_dims != 2 || b->n_dims != 2 || a->shape[0] != lora->rank ||
        b->shape[1] != lora->rank) {
        return error_set(err, STATUS_SHAPE, update->name,
                         "lora_A and lora_B are not matrices of rank %d, as r says", lora->rank);
    }
    if (!lora_is_target(lora, update->name)) {
        return error_set(err, STATUS_UNSUPPORTED, update->name,
                         "%s does not target it: PEFT would leave the pair out", config_name);
    }
    return STATUS_OK;
}

static int compare_updates(const void *a, const void *b) {
    return strcmp(((const struct lora_update *)a)->name, ((const struct lora_update *)b)->name);
}

static enum status read_tensors(struct lora *lora, struct error *err) {
    size_t n = safetensors_count(lora->files);
    lora->updates = calloc(n + 1, sizeof lora->updates[0]);
    if (lora->updates == NULL) {
        return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for %zu tensors", n);
    }
    enum status status = STATUS_OK;
    for (size_t i = 0; i < n && status == STATUS_OK; i++) {
        status = take_tensor(lora, safetensors_at(lora->files, i), err);
    }
    for (size_t i = 0; i < lora->n_updates && status == STATUS_OK; i++) {
        status = check_update(lora, &lora->updates[i], err);
    }
    if (status == STATUS_OK && lora->n_updates == 0) {
        status = error_set(err, STATUS_MALFORMED, NULL, "the adapter holds no tensor");
    }
    qsort(lora->updates, lora->n_updates, sizeof lora->updates[0], compare_updates);
    return status;
}

static enum status read_settings(const char *directory, struct lora *lora, struct error *err) {
    enum status status = json_object_read(directory, config_name, &lora->config, err);
    if (status == STATUS_OK) {
        status = read_config(lora->config, lora, err);
    }
    if (status == STATUS_OK) {
        lora->settings = json_dumps(lora->config, JSON_SORT_KEYS | JSON_COMPACT);
        if (lora->settings == NULL) {
            status = error_set(err, STATUS_NO_MEMORY, NULL, "no memory for its text");
        }
    }
    if (status != STATUS_OK) {
        error_prefix_field(err, config_name);
    }
    return status;
}

enum status lora_open(const char *directory, struct lora **out, struct error *err) {
    struct lora *lora = calloc(1, sizeof *lora);
    if (lora == NULL) {
        return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for an adapter");
    }
    enum status status = read_settings(directory, lora, err);
    if (status == STATUS_OK) {
        status = safetensors_open_file(directory, weights_name, &lora->files, err);
    }
    if (status == STATUS_OK) {
        status = read_tensors(lora, err);
        if (status != STATUS_OK) {
            error_prefix_field(err, weights_name);
        }
    }
    if (status != STATUS_OK) {
        lora_close(lora);
        return status;
    }
    *out = lora;
    return STATUS_OK;
}

void lora_close(struct lora *lora) {
    if (lora == NULL) {
        return;
    }
    for (size_t i = 0; i < lora->n_updates; i++) {
        free((char *)(uintptr_t)lora->updates[i].name);
    }
    free(lora->updates);
    free(lora->settings);
    json_decref(lora->config);
    safetensors_close(lora->files);
    free(lora);
}

size_t lora_count(const struct lora *lora) {
    return lora->n_updates;
}

const struct lora_update *lora_at(const struct lora *lora, size_t index) {
    return &lora->updates[index];
}

const struct lora_update *lora_find(const struct lora *lora, const char *name) {
    const struct lora_update wanted = {.name = name};
    return bsearch(&wanted, lora->updates, lora->n_updates, sizeof lora->updates[0],
                   compare_updates);
}

static float *widen(const struct safetensors_tensor *tensor) {
    enum dtype dtype = DTYPE_F32;
    ASSERT(element_find_dtype(tensor->dtype, &dtype));
    size_t n = (size_t)(tensor->shape[0] * tensor->shape[1]);
    float *values = malloc((n + 1) * sizeof *values);
    for (size_t i = 0; values != NULL && i < n; i++) {
        values[i] = element_to_f32(tensor->data, dtype, i);
    }
    return values;
}

enum status lora_add(const struct lora *lora, const struct lora_update *update, float *values,
                     int32_t rows, int32_t cols) {
    float *a = widen(update->a), *b = widen(update->b);
    float *sum = malloc(((size_t)cols + 1) * sizeof *sum);
    enum status status = STATUS_NO_MEMORY;
    if (a == NULL || b == NULL || sum == NULL) {
        goto out;
    }
    for (int32_t row = 0; row < rows; row++) {
        memset(sum, 0, (size_t)cols * sizeof *sum);
        for (int32_t k = 0; k < lora->rank; k++) {
            float factor = b[(size_t)row * (size_t)lora->rank + (size_t)k];
            const float *from = a + (size_t)k * (size_t)cols;
            for (int32_t col = 0; col < cols; col++) {
                sum[col] += factor * from[col];
            }
        }
        float *to = values + (size_t)row * (size_t)cols;
        for (int32_t col = 0; col < cols; col++) {
            to[col] += sum[col] * lora->scale;
        }
    }
    status = STATUS_OK;
out:
    free(a);
    free(b);
    free(sum);
    return status;
}

const struct safetensors *lora_files(const struct lora *lora) {
    return lora->files;
}

const char *lora_settings(const struct lora *lora) {
    return lora->settings;
}
