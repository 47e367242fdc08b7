// Opening a model directory: weights are mapped, looked up by their Hugging Face names, checked
// against the configuration, and handed to the backend. Matrices are packed for its products, after
// which their mapped pages are given back; the embedding is looked up where it is mapped; vectors
// become f32 copies.
#include "worker/model/model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "worker/model/element.h"
#include "worker/model/gguf.h"
#include "worker/model/model_path.h"
#include "worker/model/model_private.h"

static const char embedding_name[] = "model.embed_tokens.weight";
static const char lm_head_name[] = "lm_head.weight";

// A tied pair may be stored under either name.
static enum status load_embedding(struct model *model, struct error *err) {
    struct tensor *table = &model->weights.embedding;
    bool under_other_name = model->config.tied_embeddings && model->config.head == MODEL_HEAD_LM &&
                            !weight_files_find(model->files, embedding_name, NULL) &&
                            weight_files_find(model->files, lm_head_name, NULL);
    const char *name = under_other_name ? lm_head_name : embedding_name;
    enum status status = weight_load_matrix(model, name, model->config.vocab_size,
                                            model->config.hidden_dim, table, err);
    if (status != STATUS_OK) {
        return status;
    }
    weight_files_keep(model->files, table);
    size_t size = (size_t)table->rows * (size_t)table->cols * dtype_bytes(table->dtype);
    table->data = model->backend->ops->import_table(model->backend, table->data, size);
    if (table->data == NULL) {
        return error_set(err, STATUS_NO_MEMORY, name, "no backend memory for %zu bytes", size);
    }
    model->weight_bytes += size;
    return STATUS_OK;
}

// The weights of a score head stay exact: they are few, and what they give is a verdict.
// Of the labels only those rows are taken that count.
static enum status load_score(struct model *model, const char *name, struct error *err) {
    const struct model_config *config = &model->config;
    int32_t hidden = config->hidden_dim, rows = model_config_score_rows(config);
    size_t n = (size_t)rows * (size_t)hidden;
    size_t first = rows == 1 ? (size_t)config->label * (size_t)hidden : 0;
    struct tensor stored;
    enum status status = weight_load_matrix(model, name, config->n_labels, hidden, &stored, err);
    float *values = status == STATUS_OK ? malloc(n * sizeof *values) : NULL;
    if (status != STATUS_OK || values == NULL) {
        return status != STATUS_OK
                   ? status
                   : error_set(err, STATUS_NO_MEMORY, name, "no memory for %zu floats", n);
    }
    for (size_t i = 0; i < n; i++) {
        values[i] = element_to_f32(stored.data, stored.dtype, first + i);
    }
    const struct weight_source source = {
        .parts = {{.data = values, .dtype = DTYPE_F32, .rows = rows, .cols = hidden}},
        .n_parts = 1};
    status = weight_load_pack(model, &source, PRECISION_STORED, name, &model->weights.score, err);
    free(values);
    return status;
}

// As transformers, whose classes have no bias there and would leave a stored one out, silently.
static enum status load_class_head(struct model *model, struct error *err) {
    static const char bias[] = "score.bias";
    if (weight_files_find(model->files, bias, NULL)) {
        return error_set(err, STATUS_UNSUPPORTED, bias,
                         "score.bias is stored, but the class in transformers has none and would "
                         "pass it over: store the model without it if that is meant");
    }
    return load_score(model, "score.weight", err);
}

static bool tables_equal(const struct tensor *a, const struct tensor *b) {
    size_t n = (size_t)a->rows * (size_t)a->cols;
    if (a->dtype == b->dtype) {
        return memcmp(a->data, b->data, n * dtype_bytes(a->dtype)) == 0;
    }
    for (size_t i = 0; i < n; i++) {
        if (element_to_f32(a->data, a->dtype, i) != element_to_f32(b->data, b->dtype, i)) {
            return false;
        }
    }
    return true;
}

// As transformers loads it: a head that is stored and differs from the embedding is the head,
// whatever tie_word_embeddings says; an equal one stays tied.
static enum status load_lm_head(struct model *model, struct error *err) {
    const struct model_config *config = &model->config;
    const struct tensor *embedding = &model->weights.embedding;
    struct weight_source source = {.n_parts = 1};
    int64_t n_parameters = model->n_parameters;
    enum status status = STATUS_OK;
    bool stored = weight_files_find(model->files, lm_head_name, NULL);
    bool tied = config->tied_embeddings;
    if (stored || !tied) {
        status = weight_load_matrix(model, lm_head_name, config->vocab_size, config->hidden_dim,
                                    &source.parts[0], err);
        if (status != STATUS_OK) {
            return status;
        }
    }
    if (tied && stored && !tables_equal(&source.parts[0], embedding)) {
        log_warn(
            "%s: tie_word_embeddings is true, but %s is stored and differs from %s: the stored "
            "head is used",
            model->directory, lm_head_name, embedding_name);
        tied = false;
    }
    if (tied) {
        source.parts[0] = *embedding;
        model->n_parameters = n_parameters; // counted with the embedding
    }
    return weight_load_pack(model, &source, model->precision, lm_head_name, &model->weights.lm_head,
                            err);
}

// One number, or *out as it was when the tensor is absent.
static enum status load_scalar(struct model *model, const char *name, float *out,
                               struct error *err) {
    if (!weight_files_find(model->files, name, NULL)) {
        return STATUS_OK;
    }
    struct tensor tensor;
    enum status status = weight_files_get(model->files, name, 1, 1, &tensor, err);
    if (status != STATUS_OK) {
        return status;
    }
    *out = element_to_f32(tensor.data, tensor.dtype, 0);
    return STATUS_OK;
}

// The normaliser of the Beaver form divides by sqrt(var) + 1e-8 (its reference code's epsilon).
static enum status load_score_head(struct model *model, struct error *err) {
    struct model_weights *weights = &model->weights;
    float mean = model->config.score_mean;
    float var = model->config.score_var;
    bool value = model->config.value_head;
    const char *bias = value ? "v_head.summary.bias" : "score_head.bias";
    enum status status =
        load_score(model, value ? "v_head.summary.weight" : "score_head.weight", err);
    if (status == STATUS_OK && model->config.score_bias) {
        status = load_scalar(model, bias, &weights->score_bias, err);
    } else if (status == STATUS_OK && weight_files_find(model->files, "score_head.bias", NULL)) {
        log_warn("%s: score_head.bias is stored and not used: config.json says that there is none",
                 model->directory);
    }
    if (status == STATUS_OK) {
        status = load_scalar(model, "normalizer.mean", &mean, err);
    }
    if (status == STATUS_OK) {
        status = load_scalar(model, "normalizer.var", &var, err);
    }
    if (status == STATUS_OK && var < 0) {
        status = error_set(err, STATUS_LIMIT, "normalizer.var",
                           "normalizer.var is %g, at least 0 is needed", (double)var);
    }
    weights->score_mean = mean;
    weights->score_std = (float)(sqrt((double)var) + 1e-8);
    return status;
}

static enum status load_head(struct model *model, struct error *err) {
    switch (model->config.head) {
    case MODEL_HEAD_LM:
        return load_lm_head(model, err);
    case MODEL_HEAD_CLASS:
        return load_class_head(model, err);
    case MODEL_HEAD_SCORE:
        return load_score_head(model, err);
    }
    return STATUS_INTERNAL;
}

static enum status load_frequencies(struct model *model, bool is_long, float **out,
                                    struct error *err) {
    float frequencies[ROPE_PAIRS_MAX];
    const struct rope *rope = &model->config.rope;
    int32_t n = rope->rotary_dim / 2;
    rope_frequencies(rope, is_long, frequencies);
    *out = weight_load_upload(model->backend, frequencies, (size_t)n);
    return *out != NULL
               ? STATUS_OK
               : error_set(err, STATUS_NO_MEMORY, NULL, "no backend memory for %d floats", n);
}

static enum status load_weights(struct model *model, struct error *err) {
    const struct model_config *config = &model->config;
    struct model_weights *weights = &model->weights;
    weights->score_std = 1;
    weights->layers = calloc((size_t)config->n_layers, sizeof *weights->layers);
    if (weights->layers == NULL) {
        return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for %d layers", config->n_layers);
    }
    enum status status = load_embedding(model, err);
    for (int32_t i = 0; i < config->n_layers && status == STATUS_OK; i++) {
        status = layer_load(model, i, err);
    }
    if (status == STATUS_OK) {
        status = weight_load_vector(model, "model.norm.weight", config->hidden_dim,
                                    &weights->final_norm, err);
    }
    if (status == STATUS_OK) {
        status = load_head(model, err);
    }
    weight_files_drop(model->files);
    if (status == STATUS_OK) {
        status = load_frequencies(model, false, &weights->inv_freq, err);
    }
    if (status == STATUS_OK && config->rope.kind == ROPE_LONGROPE) {
        status = load_frequencies(model, true, &weights->long_inv_freq, err);
    }
    return status;
}

static enum status hash_file(const char *directory, const char *name, struct sha256 *sha,
                             struct error *err) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        return error_set(err, STATUS_IO, name, "cannot read %s", path);
    }
    char buffer[4096];
    size_t n;
    while ((n = fread(buffer, 1, sizeof buffer, file)) > 0) {
        sha256_update(sha, buffer, n);
    }
    bool failed = ferror(file) != 0;
    fclose(file);
    return failed ? error_set(err, STATUS_IO, name, "cannot read %s", path) : STATUS_OK;
}

// The weight files, then config.json: the bytes of the file, or over a base what they come to. A
// GGUF file holds it itself.
static enum status hash_config(const struct model *model, struct sha256 *sha, struct error *err) {
    struct model_path path;
    enum status status = model_path_find(model->directory, &path, err);
    if (status != STATUS_OK || gguf_is_path(path.own)) {
        return status;
    }
    if (path.base[0] == '\0') {
        return hash_file(model->directory, "config.json", sha, err);
    }
    json_t *json = NULL;
    status = model_document_read(model->directory, "config.json", &json, err);
    char *text = status == STATUS_OK ? json_dumps(json, JSON_SORT_KEYS | JSON_COMPACT) : NULL;
    json_decref(json);
    if (status == STATUS_OK && text == NULL) {
        status = error_set(err, STATUS_NO_MEMORY, "config.json", "no memory for its text");
    }
    if (status == STATUS_OK) {
        sha256_update(sha, text, strlen(text));
    }
    free(text);
    return status;
}

static enum status hash_files(struct model *model, struct error *err) {
    struct sha256 sha;
    sha256_init(&sha);
    weight_files_hash(model->files, &sha);
    enum status status = hash_config(model, &sha, err);
    if (status == STATUS_OK) {
        sha256_finish_hex(&sha, model->hash);
    }
    return status;
}

enum status model_open(const char *directory, struct backend *backend, enum precision precision,
                       struct model **out, struct error *err) {
    struct model *model = calloc(1, sizeof *model);
    enum status status;
    if (model == NULL) {
        return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for the model");
    }
    model->backend = backend;
    model->precision = precision;
    model->directory = strdup(directory);
    if (model->directory == NULL) {
        status = error_set(err, STATUS_NO_MEMORY, NULL, "no memory for the model");
        goto fail;
    }
    status = model_config_read(directory, &model->config, err);
    if (status != STATUS_OK) {
        goto fail;
    }
    status = model_profile_read(directory, &model->profile, err);
    if (status != STATUS_OK) {
        goto fail;
    }
    status = weight_files_open(directory, &model->files, err);
    if (status != STATUS_OK) {
        goto fail;
    }
    status = hash_files(model, err); // first, so that its pages are dropped with the others
    if (status != STATUS_OK) {
        goto fail;
    }
    status = load_weights(model, err);
    if (status != STATUS_OK) {
        goto fail;
    }
    if (precision == PRECISION_Q4 && model->n_q4 == 0) {
        status = error_set(err, STATUS_UNSUPPORTED, "precision",
                           "%s has no weights in four bits (Q4_0 or Q4_1 of a GGUF file): "
                           "precision q4 rounds none, int8 does",
                           directory);
        goto fail;
    }
    *out = model;
    return STATUS_OK;
fail:
    model_close(model);
    return status;
}

static void release_floats(struct model *model, void *floats) {
    if (floats != NULL) {
        model->backend->ops->release(model->backend, floats);
    }
}

static void release_layer(struct model *model, struct layer_weights *layer) {
    struct weight *matrices[] = {&layer->qkv, &layer->o, &layer->gate_up, &layer->down};
    for (size_t i = 0; i < sizeof matrices / sizeof matrices[0]; i++) {
        model->backend->ops->weight_release(model->backend, matrices[i]);
    }
    const struct tensor *vectors[] = {&layer->attention_norm, &layer->ffn_norm, &layer->query_norm,
                                      &layer->key_norm};
    for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++) {
        release_floats(model, vectors[i]->data);
    }
}

void model_close(struct model *model) {
    if (model == NULL) {
        return;
    }
    struct model_weights *weights = &model->weights;
    const struct backend_ops *ops = model->backend->ops;
    if (weights->embedding.data != NULL) {
        ops->release_table(model->backend, weights->embedding.data);
    }
    for (int32_t i = 0; weights->layers != NULL && i < model->config.n_layers; i++) {
        release_layer(model, &weights->layers[i]);
    }
    ops->weight_release(model->backend, &weights->lm_head);
    ops->weight_release(model->backend, &weights->score);
    release_floats(model, weights->final_norm.data);
    release_floats(model, weights->inv_freq);
    release_floats(model, weights->long_inv_freq);
    free(weights->layers);
    weight_files_close(model->files);
    free(model->directory);
    free(model);
}

const struct model_config *model_get_config(const struct model *model) {
    return &model->config;
}

const struct model_profile *model_get_profile(const struct model *model) {
    return &model->profile;
}

const struct model_weights *model_get_weights(const struct model *model) {
    return &model->weights;
}

struct backend *model_get_backend(const struct model *model) {
    return model->backend;
}

const char *model_get_directory(const struct model *model) {
    return model->directory;
}

const char *model_get_hash(const struct model *model) {
    return model->hash;
}

int64_t model_parameter_count(const struct model *model) {
    return model->n_parameters;
}

size_t model_weight_bytes(const struct model *model) {
    return model->weight_bytes;
}
